"""A file -> an RGB photograph, uint8 (H, W, 3) in sRGB, and back to a file.

Every photograph of the project enters here, so that rotation, colour mode and bad files are dealt
with once. Nothing in this module needs TensorFlow.
"""

import os
import re
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from koala_utils.files import replacing

MAX_PIXELS = 200_000_000  # beyond this a file is a decompression bomb or a stitched panorama
Image.MAX_IMAGE_PIXELS = (
    None  # Pillow's own limit, lower and less well explained; every file is checked here
)
STRIP_PIXELS = 4_000_000  # converted at a time, which bounds the memory for large photographs
MIN_SIDE = 32  # pixels; the encoder divides both sides by 8
MIN_CHROMA = 3.0  # mean distance from grey in RGB units of 255; see `is_nearly_grey`

Image.init()
FORMATS = sorted(
    Image.OPEN.keys() - {"EPS"}
)  # an EPS is a program, which Pillow would have Ghostscript run
EXTENSIONS = frozenset(
    ext for ext, kind in Image.registered_extensions().items() if kind in FORMATS
)


class PhotoError(ValueError):
    """A photograph or a source of photographs that cannot be used; the message says why."""


@dataclass(frozen=True)
class Photo:
    """One photograph, upright and in sRGB.

    Attributes:
        rgb: uint8 (H, W, 3).
        metadata: a dict for :func:`save_photo`; the orientation is taken out.
        alpha: uint8 (H, W), 255 where the photograph is opaque; None where all of it is.
        deep: uint16 (H, W, 3), the same picture where the file has more than 8 bits; else None.
    """

    rgb: np.ndarray
    metadata: dict = field(default_factory=dict)
    alpha: np.ndarray | None = None
    deep: np.ndarray | None = None


# ---------------------------------------------------------------- reading and writing one file


def load_photo(path, page=0, max_pixels=MAX_PIXELS):
    """Reads everything of a photograph that a result should keep, as a :class:`Photo`."""
    return Photo(*read_photo_and_metadata(path, max_pixels))


def count_pages(path):
    """The number of photographs in a file: the pages of a TIFF, else 1; raises PhotoError."""
    return 1


def count_pixels(path):
    """Width times height of a photograph, from the header of its file; raises PhotoError."""
    with Image.open(path, formats=FORMATS) as image:
        return image.width * image.height


def read_photo(path, max_pixels=MAX_PIXELS, short_side=None):
    """Reads one photograph as it is meant to be seen.

    EXIF rotation is applied; CMYK, palette, grey, 16-bit and floating point images become 8-bit RGB; what is
    transparent is laid on white; of an animation the first frame is taken.

    Args:
        path: a file, or an open binary file.
        max_pixels: larger images are refused before they are decoded.
        short_side: so many pixels of it will do: a JPEG with twice, four or eight times as many is decoded at that part of its
            size, which saves most of the time.

    Returns:
        uint8 array (H, W, 3), RGB.

    Raises:
        PhotoError: missing, not an image, truncated or too large, in one sentence.
    """
    return read_photo_and_metadata(path, max_pixels, short_side)[0]


def read_photo_and_metadata(path, max_pixels=MAX_PIXELS, short_side=None):
    """Like :func:`read_photo`; also the bytes of EXIF and ICC profile, to be saved with the result.

    Returns:
        uint8 (H, W, 3), and a dict for :func:`save_photo` with those of "exif" and "icc_profile"
        that still hold (the rotation is taken out of the EXIF; a CMYK or grey profile is dropped).
    """
    name = path if isinstance(path, (str, os.PathLike)) else getattr(path, "name", "the photograph")
    try:
        if (
            isinstance(path, (str, os.PathLike))
            and not stat.S_ISREG(mode := os.stat(path).st_mode)
            and not stat.S_ISDIR(mode)
        ):
            raise PhotoError(
                f"{name}: is a pipe or a device, not a photograph."
            )  # which might be read for ever
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise PhotoError(
                    f"{name}: {image.width} x {image.height} pixels are more than the"
                    f" {max_pixels:,} that are read; make it smaller first."
                )
            image.seek(0)
            if short_side:
                image.draft(None, (short_side, short_side))
            metadata = (
                {"icc_profile": image.info["icc_profile"]}
                if (image.info.get("icc_profile") and image.mode in ("RGB", "RGBA", "P"))
                else {}
            )
            turned = ImageOps.exif_transpose(image)
            exif = turned.getexif()
            if exif:
                metadata["exif"] = exif.tobytes()
        return _to_rgb(turned), metadata
    except PhotoError:
        raise
    except FileNotFoundError:
        raise PhotoError(f"{name}: no such file.") from None
    except IsADirectoryError:
        raise PhotoError(f"{name}: is a folder, not a photograph.") from None
    except PermissionError:
        raise PhotoError(f"{name}: may not be read (permission denied).") from None
    except Image.UnidentifiedImageError:
        if _is_heic(path):
            raise PhotoError(
                f"{name}: a HEIC photograph, which Pillow does not read; save it as JPEG first."
            ) from None
        raise PhotoError(f"{name}: not a photograph in a format that Pillow reads.") from None
    except Exception as error:  # decoders raise almost anything on damaged files
        if getattr(error, "errno", None):  # the system's, not a decoder's
            raise PhotoError(f"{name}: could not be read ({error.strerror}).") from error
        raise PhotoError(
            f"{name}: damaged or cut short ({str(error).rstrip('.') or type(error).__name__})."
        ) from error


def _is_heic(path):
    """Whether a file is what an iPhone writes, whatever its name says."""
    if not isinstance(path, (str, os.PathLike)):
        return False
    with open(path, "rb") as file:
        start = file.read(12)
    return start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1")


def _to_rgb(image):
    """A decoded Pillow image of any mode -> uint8 RGB array."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.array(image)
    top = None
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        low, high = values.min(), values.max()
        if not np.isfinite([low, high]).all():
            raise ValueError("it holds values that are not numbers")
        top = 65535 if image.mode != "F" else (1 if high <= 1 else 255 if high <= 255 else 65535)
    result = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, STRIP_PIXELS // image.width)
    for y in range(
        0, image.height, rows
    ):  # in strips, for what stands between is several times as large
        strip = image.crop((0, y, image.width, min(y + rows, image.height)))
        result[y : y + rows] = _strip_to_rgb(strip, top)
    return result


def _strip_to_rgb(image, top):
    """A piece of an image -> what numpy lays into a uint8 RGB array; `top` is white in 16-bit and 32-bit grey."""
    if top:  # Pillow's own conversion clips at 255
        return np.round(np.clip(np.asarray(image, np.float64) / top, 0, 1) * 255)[..., None]
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def save_photo(rgb, path, metadata=None, alpha=None, quality=95):
    """Writes a uint8 RGB array in the format that the file's extension names; never a half file.

    Raises:
        PhotoError: a shape or dtype that is no photograph, an unknown extension or a full disk.
    """
    rgb, path = np.asarray(rgb), Path(path)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[-1] != 3:
        raise PhotoError(f"a photograph to save is uint8 (H, W, 3), not {rgb.dtype} {rgb.shape}.")
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        raise PhotoError(
            f"{path}: the extension {path.suffix!r} names no format that can be written; use .png or .jpg."
        )
    options = dict(metadata or {})
    note = [f'koala:{key}="{options.pop(key)}"' for key in ("colored_by", "origin") if key in options]
    if note:
        text = NOTE % " ".join(note)
        options["xmp"] = text.encode()
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", text)
        if path.suffix.lower() in (".tif", ".tiff"):
            options["tiffinfo"] = {700: text.encode()}
    if kind == "JPEG":
        options |= {"quality": quality, "subsampling": 0}
    if kind == "PNG":
        options |= {
            "compress_level": 3
        }  # of photographs no larger than at 6, the default, and three times as fast
    try:
        with replacing(path) as temporary:
            Image.fromarray(rgb).save(temporary, format=kind, **options)
    except OSError as error:
        raise PhotoError(f"{path}: could not be written ({error.strerror or error}).") from error


def origin_of(path):
    """The "origin" that :func:`save_photo` was given in the metadata of a file; None without one."""
    if not Path(path).is_file():  # a pipe would be waited for
        return None
    try:
        with Image.open(path, formats=FORMATS) as image:
            xmp = image.info.get("xmp") or b""
    except Exception:  # decoders raise almost anything on damaged files
        return None
    found = re.search(rb'koala:origin="([^"]*)"', xmp)
    return found and found[1].decode(errors="replace")


NOTE = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:koala="urn:koala" %s/></rdf:RDF></x:xmpmeta>'
)

# ---------------------------------------------------------------- what is fit for training


def is_nearly_grey(rgb):
    """Whether a photograph has too little colour to learn from: scanned black and white, fog, snow.

    Mean over pixels of the largest minus the smallest of R, G and B, below `MIN_CHROMA`.
    """
    small = rgb[:: max(1, rgb.shape[0] // 64), :: max(1, rgb.shape[1] // 64)].astype(np.int16)
    return float((small.max(-1) - small.min(-1)).mean()) < MIN_CHROMA


def read_for_training(path, min_side=MIN_SIDE, short_side=None):
    """Reads a photograph, as :func:`read_photo` does, and checks that colour can be learned from it.

    Raises:
        PhotoError: also for one that is too small or nearly grey.
    """
    rgb = read_photo(path, short_side=short_side and max(short_side, min_side))
    if min(rgb.shape[:2]) < min_side:
        raise PhotoError(
            f"{path}: too small ({rgb.shape[1]} x {rgb.shape[0]}; at least {min_side} px are needed)."
        )
    if is_nearly_grey(rgb):
        raise PhotoError(f"{path}: nearly grey, no colour to learn from.")
    return rgb


def resize_short_side(rgb, size):
    """Shrinks a photograph until its short side is `size` pixels; smaller ones stay as they are."""
    height, width = rgb.shape[:2]
    scale = size / min(height, width)
    if scale >= 1:
        return rgb
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(rgb).resize(shape, Image.LANCZOS, reducing_gap=3))


def crop_square(rgb):
    """The central square of a photograph: cut, never padded, so that no white bars are learned."""
    height, width = rgb.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return rgb[top : top + side, left : left + side]


def summarize(reasons):
    """'3 nearly grey, 1 damaged or cut short' from error messages of this module."""

    def kind(message):
        text = message.split(": ", 1)[-1]
        return text.split(" (")[0].split(",")[0].rstrip(".")

    return ", ".join(f"{count} {what}" for what, count in Counter(map(kind, reasons)).most_common())
