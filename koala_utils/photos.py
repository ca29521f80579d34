"""A file -> an upright photograph in sRGB, uint8 (H, W, 3), and back to a file with its metadata.

Every photograph of the project enters here, so rotation, colour spaces, bit depths and bad files
are handled once. Nothing in this module needs TensorFlow.
"""

import contextlib
import importlib
import io
import logging
import os
import re
import stat
import struct
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

import imagecodecs
import numpy as np
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from koala_utils.files import replacing

with contextlib.suppress(ImportError):  # an extra of the package
    importlib.import_module("pillow_heif").register_heif_opener()

MAX_PIXELS = 200_000_000  # a larger file is a decompression bomb or a stitched panorama
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is lower; every file is checked here
STRIP_PIXELS = 4_000_000  # converted at a time, which limits the memory for large photographs
MIN_SIDE = 32  # pixels; the encoder divides both sides by 8
MIN_CHROMA = 3.0  # mean distance from grey in RGB units of 255; see `is_nearly_grey`

Image.init()
FORMATS = sorted(Image.OPEN.keys() - {"EPS", "TIFF"})  # an EPS is a program; tifffile reads TIFF
EXTENSIONS = frozenset(
    ext for ext, kind in Image.registered_extensions().items() if kind in {*FORMATS, "TIFF"}
) | {".heic", ".heif", ".avif"}  # they are named where they cannot be read
WITH_ALPHA = ("PNG", "TIFF", "WEBP", "AVIF", "HEIF", "JPEG2000")
logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # errors that matter are raised
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")

SRGB = imagecodecs.cms_profile("srgb")
SRGB = SRGB[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + SRGB[36:]  # made at a fixed time
PROFILE_SPACES = {b"GRAY": 1, b"RGB ": 3, b"CMYK": 4}  # name in an ICC header -> channels

ORIENTATION, EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x0112, 0x8769, 0x8825, 0xA005
TEXTS = {0x010D, 0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298}  # of TIFF and EXIF
KEPT = TEXTS | set(range(0x9C9B, 0x9CA0)) | {0x4746, 0x4749}  # and Windows' titles and ratings
CHANGED = {0xA001, 0xA002, 0xA003, INTEROP_IFD}  # colour space and size are the result's own

UPRIGHT = {  # orientation -> what turns the stored pixels upright
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


class PhotoError(ValueError):
    """A photograph or a source of photographs that cannot be used; the message says why."""


@dataclass(frozen=True)
class Photo:
    """One photograph, upright and in sRGB.

    Attributes:
        rgb: uint8 (H, W, 3), not mixed with a background; fully transparent places are white.
        metadata: for :func:`save_photo`; a dict with those of "exif", "xmp", "iptc" (bytes) and
            "dpi" (two floats) that the file has, without the orientation.
        alpha: uint8 (H, W), 255 where the photograph is opaque; None if all of it is opaque.
        deep: uint16 (H, W, 3), the same picture if the file has more than 8 bits; else None.
    """

    rgb: np.ndarray
    metadata: dict = field(default_factory=dict)
    alpha: np.ndarray | None = None
    deep: np.ndarray | None = None


# ---------------------------------------------------------------- reading


def load_photo(path, page=0, max_pixels=MAX_PIXELS, short_side=None):
    """Reads all of a photograph that a result should keep.

    Its orientation is applied, and its colours are converted from its ICC profile to sRGB. White is
    the largest integer of the file's bits, or 1.0 in floating point. An animation gives its first
    frame.

    Args:
        path: a file, or an open binary file.
        page: number of the page in a TIFF with several pages, from 0; see :func:`count_pixels`.
        max_pixels: a larger photograph is refused before it is decoded.
        short_side: this many pixels of the short side are enough. A large JPEG is then decoded at a
            half, a quarter or an eighth of its size, which saves most of the time.

    Returns:
        A :class:`Photo`.

    Raises:
        PhotoError: missing, no photograph, damaged, too large or not understood; in one sentence.
    """
    with _opened(path) as file:
        read = _read_tiff if _is_tiff(file) else _read_other
        values, alpha, profile, orientation, metadata = read(file, page, max_pixels, short_side)
        turn = UPRIGHT.get(orientation, np.asarray)
        values = np.ascontiguousarray(turn(_to_srgb(values, profile)))
        if alpha is not None:
            alpha = np.ascontiguousarray(turn(_to_8_bits(alpha)))
            values[alpha == 0] = np.iinfo(values.dtype).max
            alpha = None if alpha.min() == 255 else alpha
        deep = values if values.dtype == np.uint16 else None
        return Photo(_to_8_bits(values), metadata, alpha, deep)


def read_photo(path, max_pixels=MAX_PIXELS, short_side=None):
    """Reads one photograph as it is meant to be seen: transparent places become white.

    Args, raises: see :func:`load_photo`.

    Returns:
        uint8 (H, W, 3), in sRGB.
    """
    photo = load_photo(path, 0, max_pixels, short_side)
    return on_white(photo.rgb, photo.alpha)


def read_photo_and_metadata(path, max_pixels=MAX_PIXELS, short_side=None):
    """Like :func:`read_photo`; also the metadata for :func:`save_photo`."""
    photo = load_photo(path, 0, max_pixels, short_side)
    return on_white(photo.rgb, photo.alpha), photo.metadata


def count_pixels(path):
    """Width times height of each photograph in a file, from its header; nothing is decoded.

    Returns:
        A list with one number per page of a TIFF, without thumbnails; otherwise with one number.

    Raises:
        PhotoError: as :func:`load_photo`.
    """
    with _opened(path) as file:
        if _is_tiff(file):
            with tifffile.TiffFile(file) as tiff:
                return [page.imagewidth * page.imagelength for page in _pages_of(tiff)]
        with _open_image(file) as image:
            return [image.width * image.height]


@contextlib.contextmanager
def _opened(path):
    """An open binary file. Every failure in the block becomes a PhotoError that names the file."""
    is_path = isinstance(path, (str, os.PathLike))
    name = path if is_path else getattr(path, "name", "the photograph")
    try:
        if not is_path:
            path.seek(0)
            yield path
            return
        if not stat.S_ISREG(mode := Path(path).stat().st_mode) and not stat.S_ISDIR(mode):
            raise PhotoError("is a pipe or a device, not a photograph")  # it may never end
        with Path(path).open("rb") as file:
            yield file
    except PhotoError as error:
        raise PhotoError(f"{name}: {error}.") from None
    except FileNotFoundError:
        note = missing_note(name)
        why = note.read_text(encoding="utf-8") if note.is_file() else f"{name}: no such file"
        raise PhotoError(f"{why}.") from None
    except IsADirectoryError:
        raise PhotoError(f"{name}: is a folder, not a photograph.") from None
    except PermissionError:
        raise PhotoError(f"{name}: may not be read (permission denied).") from None
    except Exception as error:  # decoders raise almost anything on damaged files
        if getattr(error, "errno", None):  # the system's error, not a decoder's
            raise PhotoError(f"{name}: could not be read ({error.strerror}).") from error
        why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise PhotoError(f"{name}: damaged or cut short ({why}).") from error


def missing_note(path):
    """The path of the note on why a download has no file at `path`; it becomes the error's text."""
    return Path(f"{path}.missing")


def _check_pixels(width, height, max_pixels):
    if width * height > max_pixels:
        raise PhotoError(
            f"{width} x {height} pixels are more than the {max_pixels:,} that are read;"
            " make it smaller first"
        )


# ---------------------------------------------------------------- every format but TIFF

RAW_FILE = "a camera's raw file; develop it first, and save it as TIFF or JPEG"
DNG_VERSION = 50706
# The first bytes of files that this module does not take for photographs -> what to do.
HINTS = {
    rb"....ftyp(heic|heix|hevc|heim|heis|mif1|msf1)": "a HEIC photograph; install the package"
    " pillow-heif, or save the photograph as JPEG",
    rb"....ftypavi[fs]": "an AVIF photograph, which this Pillow does not read; save it as JPEG",
    rb"....ftypcrx|FUJIFILMCCD|FOVb|\0MRM|II(RO|RS|U\0)|MMOR": RAW_FILE,
}


def _open_image(file):
    start = file.read(16)
    file.seek(0)
    try:
        return Image.open(file, formats=FORMATS)
    except Image.UnidentifiedImageError:
        hints = (text for head, text in HINTS.items() if re.match(head, start, re.DOTALL))
        raise PhotoError(next(hints, "not a photograph in a format that is read")) from None


def _read_other(file, page, max_pixels, short_side):
    """The values, alpha, ICC profile, orientation and metadata of what Pillow reads."""
    with _open_image(file) as image:
        if page:
            raise PhotoError(f"has one page, so there is no page {page + 1}")
        _check_pixels(image.width, image.height, max_pixels)
        if short_side:
            image.draft(None, (short_side, short_side))
        try:
            image.load()
        except OSError:
            if image.format != "JPEG":
                raise
            file.seek(0)
            image = _with_end(file.read(), short_side)
        rest = _metadata_of(image)
        file.seek(0)
        data = file.read(25)
        if image.format != "PNG" or data[24] <= 8 or "transparency" in image.info:
            return *_values_of(image), *rest
        values = imagecodecs.png_decode(data + file.read())  # Pillow keeps only 8 of the 16 bits
        values = values[..., None] if values.ndim == 2 else values
        colors = 1 if values.shape[-1] < 3 else 3
        alpha = values[..., colors] if values.shape[-1] > colors else None
        return values[..., :colors], alpha, *rest


def _values_of(image):
    """A decoded Pillow image of any mode -> (H, W, 1, 3 or 4) for grey, RGB or CMYK, and alpha."""
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        values = np.asarray(image)
        return _unsigned(values, values.dtype.itemsize * 8)[..., None], None
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        values = np.array(image.convert("RGBA"))
        return values[..., : 1 if mode in ("L", "LA", "La", "1") else 3], values[..., 3]
    if mode in ("1", "L"):
        return np.asarray(image.convert("L"))[..., None], None
    return np.array(image if mode in ("RGB", "CMYK") else image.convert("RGB")), None


def _with_end(data, short_side):
    """The image of a JPEG that lacks nothing but its last two bytes, the marker of its end.

    Further bytes after complete data change nothing. If data is missing, they change the picture,
    and the photograph is refused.
    """
    data = data.rstrip(b"\xff")
    if re.findall(rb"\xff([^\x00\xd0-\xd7\xff])", data)[-1:] != [b"\xda"]:  # a scan comes last
        raise ValueError("the file ends before the picture does")

    def decode(filling):
        image = Image.open(io.BytesIO(data + filling + b"\xff\xd9"), formats=["JPEG"])
        if short_side:
            image.draft(None, (short_side, short_side))
        image.load()
        return image

    image = decode(b"")
    if not np.array_equal(image, decode(b"\x5a\xc3" * 99)):
        raise ValueError("the file ends before the picture does")
    return image


# ---------------------------------------------------------------- TIFF

COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}  # PhotometricInterpretation -> channels of colour
WHITE_IS_ZERO, RGB, PALETTE, YCBCR = 0, 2, 3, 6
PLAIN = (1, 5, 8, 32773, 32946)  # compressions that do not depend on the colour space
RAW = (32803, 34892)  # PhotometricInterpretation of a sensor's values


def _is_tiff(file):
    start = file.read(4)
    file.seek(0)
    return start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _pages_of(tiff):
    """The pages of an open TIFF, without thumbnails and masks."""
    every = [tiff.pages.get(i, aspage=True) for i in range(len(tiff.pages))]
    inner = []
    with contextlib.suppress(Exception):  # the pointers to them may be damaged
        inner = [part for page in every for part in page.pages or ()]
    head = tiff.filehandle
    head.seek(8)
    if (
        head.read(4) in (b"CR\2\0", b"IIII", b"MMMM")
        or any(each.photometric in RAW for each in every + inner)
        or any(DNG_VERSION in page.tags for page in every)
    ):
        raise PhotoError(RAW_FILE)
    return [page for page in every if not page.subfiletype & 0b101] or every


def _read_tiff(file, number, max_pixels, short_side):
    """Like :func:`_read_other`, for what tifffile reads."""
    with tifffile.TiffFile(file) as tiff:
        pages = _pages_of(tiff)
        if not 0 <= number < len(pages):
            raise PhotoError(f"has {len(pages)} pages, so there is no page {number + 1}")
        page = pages[number]
        _check_pixels(page.imagewidth, page.imagelength, max_pixels)
        values, alpha = _values_of_page(page, file)

        dpi, more = None, {}
        with contextlib.suppress(Exception):
            unit = {2: 1, 3: 2.54}[int(page.tags.valueof(0x0128, 2))]
            dpi = [unit * n / d for n, d in (page.tags[0x011A].value, page.tags[0x011B].value)]
        for key, tag in (("profile", 34675), ("xmp", 700), ("iptc", 33723)):
            with contextlib.suppress(Exception):
                more[key] = bytes(page.tags[tag].value)
        exif = Image.Exif()
        with contextlib.suppress(Exception):
            exif.endian = tiff.byteorder
            exif.load_from_fp(file, page.offset)
        return values, alpha, *_sort_out(exif, dpi=dpi, **more)


def _values_of_page(page, file):
    """A page of a TIFF -> the same as :func:`_values_of`; every tag is believed."""
    kind = int(page.photometric) if 262 in page.tags else RGB if page.samplesperpixel > 2 else 1
    if page.compression == 6 or (kind == YCBCR and page.compression in PLAIN):
        image = Image.open(file, formats=["TIFF"])  # old JPEG, chroma at half the resolution
        image.seek(page.index)
        return _values_of(image)
    colors = COLORS.get(kind)
    if not colors or page.samplesperpixel < colors or page.imagedepth > 1:
        raise PhotoError("a TIFF of a kind that is not understood; save it as RGB or grey")
    ends = [a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or not all(page.databytecounts) or max(ends) > page.parent.filehandle.size:
        raise ValueError("the file ends before the picture does")
    # (samples in planes, depth, H, W, samples side by side)
    values = page.asarray(squeeze=False)[:, 0].transpose(1, 2, 0, 3)
    values = values.reshape(*values.shape[:2], -1)
    bits = page.bitspersample if isinstance(page.bitspersample, int) else values.itemsize * 8
    extra = [int(each) for each in page.extrasamples] or [2] * (values.shape[-1] - colors)
    alpha = None
    for i, what in enumerate(extra):
        if what in (1, 2) and alpha is None:
            alpha = _unsigned(values[..., colors + i], bits)
    values = values[..., :colors]
    if kind == PALETTE:
        table = np.asarray(page.colormap)
        values = (table if table.max() < 256 else table >> 8).T.astype(np.uint8)[
            values[..., 0].astype(int)
        ]
    else:
        values = _unsigned(values, bits)
    if kind == WHITE_IS_ZERO:
        values = np.iinfo(values.dtype).max - values
    if alpha is not None and 1 in extra:  # colours that are multiplied by it
        values = _in_strips(_divide, values, alpha, channels=values.shape[-1], dtype=values.dtype)
    return values, alpha


# ---------------------------------------------------------------- numbers


def _in_strips(convert, *arrays, channels, dtype):
    """`convert` of each strip of rows, because intermediate arrays are several times as large."""
    height, width = arrays[0].shape[:2]
    result = np.empty((height, width, channels)[: arrays[0].ndim], dtype)
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        result[top : top + rows] = convert(*(each[top : top + rows] for each in arrays))
    return result


def _unsigned(values, bits):
    """Numbers of any type -> uint8, or uint16 for more than 8 bits.

    White is 1.0 in floating point, else the largest number of that many bits. Values beyond black
    or white are clipped. A picture of 32-bit integers that would be all black is taken for 16 bits.

    Raises:
        PhotoError: most numbers lie beyond black or white, or some are no numbers at all.
    """
    kind, low, high = values.dtype.kind, values.min(), values.max()
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if kind == "u" and bits in (8, 16):
        return values.astype(np.uint8 if bits == 8 else np.uint16, copy=False)
    if kind not in "uif":
        raise PhotoError(
            "holds numbers of a type that is not understood; save it with 8 or 16 bits"
        )
    if not np.isfinite([low, high]).all():
        raise PhotoError("holds values that are not numbers; save it with 8 or 16 bits")
    white = 1 if kind == "f" else 2 ** (bits - (kind == "i")) - 1
    if kind != "f" and bits > 16 and high < white / 510:
        white = 65535
    if (low < 0 or high > white) and np.mean((values < 0) | (values > white)) > 0.5:
        raise PhotoError(
            f"holds numbers from {low:.6g} to {high:.6g}, where black is 0 and white is {white};"
            " save it with 8 or 16 bits"
        )
    top, dtype = (255, np.uint8) if kind != "f" and bits <= 8 else (65535, np.uint16)

    def scale(strip):
        return np.rint(np.clip(strip.astype(np.float64) / white, 0, 1) * top)

    return _in_strips(scale, values, channels=values.shape[-1], dtype=dtype)


def _divide(values, alpha):
    top = np.iinfo(values.dtype).max
    return np.rint(np.minimum(values * (top / np.maximum(alpha, 1.0))[..., None], top))


def _to_8_bits(values):
    if values.dtype == np.uint8:
        return values
    return _in_strips(
        lambda strip: strip // 257 + (strip % 257 > 128),
        values,
        channels=values.shape[-1],
        dtype=np.uint8,
    )


def on_white(rgb, alpha):
    """Puts a photograph, uint8 or uint16 (H, W, 3), on white by its alpha, uint8 (H, W) or None."""
    if alpha is None:
        return rgb
    white = np.iinfo(rgb.dtype).max

    def lay(rgb, alpha):
        return np.rint(white + (alpha / 255)[..., None] * (rgb.astype(np.float32) - white))

    return _in_strips(lay, rgb, alpha, channels=3, dtype=rgb.dtype)


def _to_srgb(values, profile):
    """Grey, RGB or CMYK, with or without an ICC profile -> sRGB, (H, W, 3) of the same dtype.

    Relative colorimetric with black point compensation. A profile that is broken, or that has
    another number of channels, is ignored.
    """
    size = values.shape[-1]
    space = PROFILE_SPACES.get(profile[16:20]) if profile else None

    def by_profile(values):
        return imagecodecs.cms_transform(
            values[..., 0] if space == 1 else values,
            profile,
            SRGB,
            colorspace={1: "gray", 3: "rgb", 4: "cmyk"}[space],
            outcolorspace="rgb",
            intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
            flags=imagecodecs.CMS.FLAGS.BLACKPOINTCOMPENSATION,
        )

    if space == 3 and size == 1:  # a grey scan with the profile of a scanner for colours
        values, size = np.repeat(values, 3, -1), 3
    with contextlib.suppress(imagecodecs.CmsError):
        if space == size:
            steps = np.arange(0, 256, 51, dtype=np.uint8)
            colors = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
            if space != 3 or np.abs(by_profile(colors) - colors.astype(int)).max() > 1:
                return _in_strips(by_profile, values, channels=3, dtype=values.dtype)
    if size == 4:
        return np.array(Image.fromarray(_to_8_bits(values), "CMYK").convert("RGB"))
    return np.repeat(values, 3, -1) if size == 1 else values


# ---------------------------------------------------------------- metadata


def _sort_out(exif, profile=None, dpi=None, xmp=None, iptc=None):
    """The ICC profile (EXIF can say Adobe RGB instead), the orientation and the rest as metadata.

    Tags of wrong types are common, so each is tried. A tag that cannot be written is dropped.
    """

    def writable(group=None):
        kept = {}
        with contextlib.suppress(Exception):
            ifd = exif.get_ifd(group) if group else exif
            for tag in set(ifd) - CHANGED if group else set(ifd) & KEPT:
                with contextlib.suppress(Exception):
                    trial = ImageFileDirectory_v2(group=group)
                    trial[tag] = ifd[tag]
                    trial.tobytes(8)
                    kept[tag] = ifd[tag]
        return kept

    new, metadata, orientation = Image.Exif(), {}, 1
    with contextlib.suppress(Exception):
        value = exif.get(ORIENTATION, 1)
        orientation = int((value[0] if isinstance(value, (bytes, tuple)) else value) or 1)
    with contextlib.suppress(Exception):
        if not profile and exif.get_ifd(INTEROP_IFD).get(1) == "R03":
            profile = imagecodecs.cms_profile("adobergb")
    new.update(writable())
    for group in (EXIF_IFD, GPS_IFD):
        if tags := writable(group):
            new[group] = tags | ({0xA001: 1} if group == EXIF_IFD else {})  # 1 is sRGB
    with contextlib.suppress(Exception):
        x, y = map(float, dpi)
        if 1 <= min(x, y) and max(x, y) < 1e5:
            metadata["dpi"] = x, y
            new.update({0x011A: x, 0x011B: y, 0x0128: 2})
    with contextlib.suppress(Exception):
        metadata["exif"] = new.tobytes() if len(new) else b""
    metadata |= {"xmp": xmp.encode() if isinstance(xmp, str) else xmp, "iptc": iptc}
    return profile, orientation, {key: value for key, value in metadata.items() if value}


def _metadata_of(image):
    """:func:`_sort_out` of a Pillow image."""
    exif = Image.Exif()
    with contextlib.suppress(Exception):
        exif = image.getexif()
    iptc = image.info.get("photoshop") or {}
    return _sort_out(
        exif,
        image.info.get("icc_profile"),
        image.info.get("dpi"),
        image.info.get("xmp") or image.info.get("XML:com.adobe.xmp"),
        iptc.get(0x0404) if isinstance(iptc, dict) else None,
    )


# What differs between a result's XMP and its photograph's.
STALE = (
    rb"(tiff:Orientation|exif:ColorSpace|photoshop:ICCProfile|Iptc4xmpExt:DigitalSourceType|"
    rb"Iptc4xmpExt:AISystemUsed|koala:Origin)"
)
ORIGIN = b'<koala:Origin xmlns:koala="urn:koala">%s</koala:Origin>'
MADE_BY = (
    b'<rdf:Description rdf:about=%s xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
    b"<Iptc4xmpExt:DigitalSourceType>http://cv.iptc.org/newscodes/digitalsourcetype/"
    b"compositeWithTrainedAlgorithmicMedia</Iptc4xmpExt:DigitalSourceType>"
    b"<Iptc4xmpExt:AISystemUsed>%s</Iptc4xmpExt:AISystemUsed>%s</rdf:Description>"
)
EMPTY_XMP = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF'
    b' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF></x:xmpmeta>'
    b'<?xpacket end="w"?>'
)


def _xmp_of(metadata):
    """The XMP of a result: the photograph's, and what made it if "colored_by" names a model.

    The lightness was taken by a camera, and the colours were made by a trained model. IPTC calls
    that compositeWithTrainedAlgorithmicMedia. Its algorithmicallyEnhanced is for corrections of
    what the camera recorded.
    """
    xmp, model = metadata.get("xmp"), metadata.get("colored_by")
    if xmp:
        xmp = re.sub(rb"\s" + STALE + rb"\s*=\s*(\"[^\"]*\"|'[^']*')", b"", xmp)
        xmp = re.sub(rb"<" + STALE + rb"\b[^>]*(?:/>|>.*?</\1>)", b"", xmp, flags=re.DOTALL)
    if not model:
        return xmp
    about = re.search(rb"rdf:about\s*=\s*(\"[^\"]*\"|'[^']*')", xmp or b"")
    origin = ORIGIN % metadata["origin"].encode() if "origin" in metadata else b""
    description = MADE_BY % (about[1] if about else b'""', escape(model).encode(), origin)
    place = (xmp or b"").rfind(b"</rdf:RDF>")
    if place < 0:
        xmp, place = EMPTY_XMP, EMPTY_XMP.rfind(b"</rdf:RDF>")
    return xmp[:place] + description + xmp[place:]


def origin_of(path, searched=2**20):
    """The "origin" in the metadata that a file was saved with; None without one.

    In a file of any format the XMP stands as plain bytes near the start or the end.
    """
    with contextlib.suppress(OSError):
        if Path(path).is_file():  # reading a pipe would wait
            with Path(path).open("rb") as file:
                ends = file.read(searched)
                file.seek(max(len(ends), file.seek(0, 2) - searched))
                found = re.search(ORIGIN % b"([0-9a-f]+)", ends + file.read())
                return found and found[1].decode()
    return None


# ---------------------------------------------------------------- writing


def save_photo(rgb, path, metadata=None, alpha=None, quality=95):
    """Writes a photograph in the format that the file's extension names. No half file is ever left.

    The file gets an sRGB profile and all metadata that its format can hold.

    Args:
        rgb: uint8 or uint16 (H, W, 3). PNG and TIFF keep 16 bits; other formats get 8.
        metadata: of :class:`Photo`. With "colored_by", a model's name, the XMP says that the
            colours are a trained model's; with "origin" as well, whose result it is: see
            :func:`origin_of`.
        alpha: uint8 (H, W). In a format without transparency the photograph is put on white.
        quality: 1 to 100, of JPEG, WebP, AVIF and HEIC.

    Raises:
        PhotoError: a shape or dtype that is no photograph, an unknown extension or a full disk.
    """
    rgb, path, metadata = np.asarray(rgb), Path(path), metadata or {}
    if str(rgb.dtype) not in ("uint8", "uint16") or rgb.shape[2:] != (3,) or not rgb.size:
        raise PhotoError(
            f"a photograph to save is uint8 or uint16 (H, W, 3), not {rgb.dtype} {rgb.shape}."
        )
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        raise PhotoError(
            f"{path}: the extension {path.suffix!r} names no format that can be written;"
            " use .png, .jpg or .tif."
        )
    if kind not in WITH_ALPHA:
        rgb, alpha = on_white(rgb, alpha), None
    if kind not in ("PNG", "TIFF"):
        rgb = _to_8_bits(rgb)
    if alpha is not None:
        scale = np.iinfo(rgb.dtype).max // 255
        rgb = np.dstack([rgb, alpha.astype(rgb.dtype) * scale])
    options = {**metadata, "xmp": _xmp_of(metadata)}
    options = {k: options[k] for k in ("exif", "dpi", "xmp", "iptc") if options.get(k)}
    try:
        with replacing(path) as temporary:
            if kind == "TIFF":
                _write_tiff(rgb, temporary, **options)
            else:
                _write_other(rgb, temporary, kind, quality, **options)
    except Exception as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split()).rstrip(".")
        raise PhotoError(
            f"{path}: could not be written ({why or type(error).__name__})."
        ) from error


def _write_other(pixels, path, kind, quality, iptc=b"", **options):
    options |= {"quality": quality, "icc_profile": SRGB}
    if kind == "PNG":
        # Files of level 3 are no larger than those of level 6, the default, in a third of the time.
        options |= {"compress_level": 3, "pnginfo": PngInfo()}
        if xmp := options.pop("xmp", None):
            options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode(errors="replace"))
    if kind == "JPEG":
        # A segment holds 65,533 bytes; longer data is left out.
        options = {k: v for k, v in options.items() if not isinstance(v, bytes) or len(v) < 65_000}
        options["subsampling"] = 0
        if iptc and len(iptc) < 65_000:
            block = b"Photoshop 3.0\x008BIM\4\4\0\0" + struct.pack(">I", len(iptc)) + iptc
            block += b"\0" * (len(iptc) % 2)
            options["extra"] = b"\xff\xed" + struct.pack(">H", len(block) + 2) + block
    if pixels.dtype == np.uint8:
        Image.fromarray(pixels).save(path, format=kind, **options)
        return
    # Pillow writes 16 bits only in grey, so its metadata go into the file of another encoder.
    small = io.BytesIO()
    Image.new("RGB", (1, 1)).save(small, format=kind, **options)
    ours, theirs = small.getvalue(), imagecodecs.png_encode(pixels, level=3)
    path.write_bytes(theirs[:33] + ours[33 : ours.rindex(b"IDAT") - 4] + theirs[33:])


def _write_tiff(pixels, path, exif=b"", dpi=None, xmp=b"", iptc=b""):
    old = Image.Exif()
    old.load(exif)
    tags = [
        (tag, "s", 0, value.encode(), True)
        for tag, value in old.items()
        if tag in TEXTS and isinstance(value, str)
    ]
    tags += [(tag, "B", len(data), data, True) for tag, data in ((700, xmp), (33723, iptc)) if data]
    inner = {group: found for group in (EXIF_IFD, GPS_IFD) if (found := old.get_ifd(group))}
    tags += [(group - 1, "I", 1, 0, True) for group in inner]  # tifffile itself writes no EXIF
    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb",
        extrasamples=["unassalpha"] * (pixels.shape[-1] - 3),
        compression="zlib",
        predictor=True,
        iccprofile=SRGB,
        resolution=dpi,
        resolutionunit="inch" if dpi else None,
        software=False,
        metadata=None,
        byteorder="<",
        extratags=tags,
    )
    with tifffile.TiffFile(path) as tiff:
        places = {group: tiff.pages[0].tags[group - 1].offset for group in inner}
    with path.open("r+b") as file:
        for group, values in inner.items():
            directory = ImageFileDirectory_v2(group=group)
            directory.update(values)
            end = file.seek(0, 2)
            file.write(b"\0" * (end % 2) + directory.tobytes(end + end % 2))
            file.seek(places[group])
            file.write(struct.pack("<HHII", group, 4, 1, end + end % 2))


# ---------------------------------------------------------------- what is fit for training


def is_nearly_grey(rgb):
    """Whether a photograph has too little colour to learn from: scanned black and white, fog, snow.

    The largest minus the smallest of R, G and B is below `MIN_CHROMA` in the mean over pixels.
    """
    small = rgb[:: max(1, rgb.shape[0] // 64), :: max(1, rgb.shape[1] // 64)].astype(np.int16)
    return float((small.max(-1) - small.min(-1)).mean()) < MIN_CHROMA


def read_for_training(path, min_side=MIN_SIDE, short_side=None):
    """Reads a photograph like :func:`read_photo` and checks that it shows true colours.

    Raises:
        PhotoError: also if it is too small or nearly grey.
    """
    rgb = read_photo(path, short_side=short_side and max(short_side, min_side))
    if min(rgb.shape[:2]) < min_side:
        raise PhotoError(
            f"{path}: too small ({rgb.shape[1]} x {rgb.shape[0]}; at least {min_side} px are"
            " needed)."
        )
    if is_nearly_grey(rgb):
        raise PhotoError(f"{path}: nearly grey, no colour to learn from.")
    return rgb


def resize(photo, shape):
    """A copy of a photograph in another size, by Lanczos's filter.

    Args:
        photo: uint8 (H, W, 3) or (H, W), or float32 (H, W), whose values may overshoot.
        shape: (height, width) in pixels.
    """
    if photo.shape[:2] == tuple(shape):
        return photo
    return np.asarray(Image.fromarray(photo).resize(shape[::-1], Image.LANCZOS, reducing_gap=3))


def scaled(shape, scale):
    """(height, width) of a photograph of `shape` with sides `scale` times as long."""
    return tuple(max(1, round(side * scale)) for side in shape[:2])


def resize_short_side(rgb, size):
    """Shrinks a photograph until its short side is `size` pixels; smaller ones stay as they are."""
    return resize(rgb, scaled(rgb.shape, min(1, size / min(rgb.shape[:2]))))


def crop_square(rgb):
    """The central square of a photograph, cut and never padded: no network learns white bars."""
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
