"""Any file, list of urls or named collection -> RGB photographs, uint8 (H, W, 3).

Every photograph of the project enters here, so that rotation, colour mode and bad files are dealt
with once. Nothing in this module needs TensorFlow.
"""

import concurrent.futures
import csv
import glob
import hashlib
import http.client
import io
import os
import stat
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path

import numpy as np
import pooch
from PIL import Image, ImageOps

from koala_utils.files import alone, replacing, sweep

PACKAGE = Path(__file__).parent
BUNDLED = PACKAGE / "photographs"
REGISTRIES = PACKAGE / "registries"

MAX_PIXELS = 200_000_000  # beyond this a file is a decompression bomb or a stitched panorama
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit, lower and less well explained; every file is checked here
STRIP_PIXELS = 4_000_000  # converted at a time, which bounds the memory for large photographs
MIN_SIDE = 32  # pixels; the encoder divides both sides by 8
MIN_CHROMA = 3.0  # mean distance from grey in RGB units of 255; see `is_nearly_grey`

Image.init()
FORMATS = sorted(Image.OPEN.keys() - {"EPS"})  # an EPS is a program, which Pillow would have Ghostscript run
EXTENSIONS = frozenset(ext for ext, kind in Image.registered_extensions().items() if kind in FORMATS)

IMAGENETTE_URL = "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz"
IMAGENETTE_SHA256 = "569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c"

# name -> (registry, folder inside the data directory, only files whose path starts with)
PUBLISHED = {
    "test": ("test.csv", "test", "nips2017/"),
    "historical": ("historical.csv", "historical", "fsa_owi/"),
    "plates": ("historical.csv", "historical", "prokudin_gorskii/"),
}
MAX_BYTES = 2_000_000_000  # of a download
SLOWEST = 1_000  # bytes a second, below which a download counts as dead
URL_LISTS = (".txt", ".urls")
COLLECTIONS = ("bundled", "bundled-historical", *PUBLISHED, "imagenette")


class PhotoError(ValueError):
    """A photograph or a source of photographs that cannot be used; the message says why."""


# ---------------------------------------------------------------- reading and writing one file


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
        if isinstance(path, (str, os.PathLike)) and not stat.S_ISREG(mode := os.stat(path).st_mode) and not stat.S_ISDIR(mode):
            raise PhotoError(f"{name}: is a pipe or a device, not a photograph.")  # which might be read for ever
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise PhotoError(f"{name}: {image.width} x {image.height} pixels are more than the"
                                 f" {max_pixels:,} that are read; make it smaller first.")
            image.seek(0)
            if short_side:
                image.draft(None, (short_side, short_side))
            metadata = {"icc_profile": image.info["icc_profile"]} if (
                image.info.get("icc_profile") and image.mode in ("RGB", "RGBA", "P")) else {}
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
            raise PhotoError(f"{name}: a HEIC photograph, which Pillow does not read; save it as JPEG first.") from None
        raise PhotoError(f"{name}: not a photograph in a format that Pillow reads.") from None
    except Exception as error:  # decoders raise almost anything on damaged files
        if getattr(error, "errno", None):  # the system's, not a decoder's
            raise PhotoError(f"{name}: could not be read ({error.strerror}).") from error
        raise PhotoError(f"{name}: damaged or cut short ({str(error).rstrip('.') or type(error).__name__}).") from error


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
    for y in range(0, image.height, rows):  # in strips, for what stands between is several times as large
        strip = image.crop((0, y, image.width, min(y + rows, image.height)))
        result[y:y + rows] = _strip_to_rgb(strip, top)
    return result


def _strip_to_rgb(image, top):
    """A piece of an image -> what numpy lays into a uint8 RGB array; `top` is white in 16-bit and 32-bit grey."""
    if top:  # Pillow's own conversion clips at 255
        return np.round(np.clip(np.asarray(image, np.float64) / top, 0, 1) * 255)[..., None]
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def save_photo(rgb, path, metadata=None):
    """Writes a uint8 RGB array in the format that the file's extension names; never a half file.

    Raises:
        PhotoError: a shape or dtype that is no photograph, an unknown extension or a full disk.
    """
    rgb, path = np.asarray(rgb), Path(path)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[-1] != 3:
        raise PhotoError(f"a photograph to save is uint8 (H, W, 3), not {rgb.dtype} {rgb.shape}.")
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        raise PhotoError(f"{path}: the extension {path.suffix!r} names no format that can be written; use .png or .jpg.")
    options = dict(metadata or {})
    if kind == "JPEG":
        options |= {"quality": 95, "subsampling": 0}
    if kind == "PNG":
        options |= {"compress_level": 3}  # of photographs no larger than at 6, the default, and three times as fast
    try:
        with replacing(path) as temporary:
            Image.fromarray(rgb).save(temporary, format=kind, **options)
    except OSError as error:
        raise PhotoError(f"{path}: could not be written ({error.strerror or error}).") from error


# ---------------------------------------------------------------- finding files


def data_dir():
    """The folder of downloaded photographs: `KOALA_DATA_DIR`, or the user's cache folder."""
    return Path(os.environ.get("KOALA_DATA_DIR") or pooch.os_cache("koala")).expanduser()


def find_photos(source="bundled"):
    """Paths of all photographs of a source, sorted.

    Args:
        source: one of `COLLECTIONS`; a photograph; a folder, searched through with its subfolders
            (ImageNet's layout too); a glob; or a text file of urls, which are downloaded.

    Returns:
        A list of `Path`, never empty.

    Raises:
        PhotoError: no such source, or no photograph in it.
    """
    name = os.fspath(source)
    if name in COLLECTIONS:
        return collection(name)
    path = Path(name).expanduser()
    if path.is_file():
        if path.suffix.lower() not in URL_LISTS:
            return [path]
        found, skipped = download(path, data_dir() / "urls" / path.stem)
        if not found:
            raise PhotoError(f"{name}: none of its {len(skipped)} urls gave a photograph"
                             f" ({'; '.join(f'{url} {why}' for url, why in list(skipped.items())[:3])}).")
    elif path.is_dir():
        found = [p for p in path.rglob("*") if is_photo_name(p) and p.is_file()]
    elif glob.has_magic(name):
        found = [Path(p) for p in glob.glob(str(path), recursive=True) if is_photo_name(Path(p)) and Path(p).is_file()]
    else:
        raise PhotoError(f"{name}: no such file or folder, and none of the collections {', '.join(COLLECTIONS)}.")
    if not found:
        raise PhotoError(f"{name}: holds no photograph (looked for {len(EXTENSIONS)} extensions, .jpg to .webp,"
                         " in all subfolders).")
    return sorted(found)


def is_photo_name(path):
    """Whether the extension is one that Pillow reads, in capitals or not; hidden files are not photographs."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def collection(name):
    """Paths of a named collection, downloaded on first use and checked by SHA-256 where that is needed."""
    if name == "bundled":
        return sorted((BUNDLED / "color").iterdir())
    if name == "bundled-historical":
        return sorted((BUNDLED / "historical").iterdir())
    if name == "imagenette":
        return _imagenette()
    _, folder, prefix = PUBLISHED[name]
    rows = [row for row in registry(name) if row["path"].startswith(prefix)]
    pooch.get_logger().setLevel("WARNING")
    try:
        return sorted(_fetch(row, data_dir() / folder / row["path"]) for row in rows)
    except Exception as error:
        raise PhotoError(
            f"the collection {name!r} is not in {data_dir()} and could not be downloaded"
            f" ({type(error).__name__}); connect to the network once, or set KOALA_DATA_DIR to a folder that"
            " holds it.") from error


def _fetch(row, path):
    """The path of a photograph of a registry, downloaded where it is not there or not what the registry says."""
    return Path(pooch.retrieve(row["url"], row["sha256"], fname=path.name, path=path.parent, downloader=_pooch_stream))


def registry(name):
    """The registry of a published collection: a list of dicts with path, url, sha256 and credits."""
    file, _, _ = PUBLISHED[name]
    with open(REGISTRIES / file, newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _imagenette():
    """Training photographs of the official Imagenette archive (9,469 of 10 classes, short side 320 px)."""
    folder = data_dir() / "imagenette2-320"
    if not folder.is_dir():
        try:
            archive = pooch.retrieve(IMAGENETTE_URL, IMAGENETTE_SHA256, fname="imagenette2-320.tgz", path=data_dir(),
                                     downloader=_pooch_stream)
            # Unpacked beside its place and renamed, so that a killed run does not leave half a collection.
            with tempfile.TemporaryDirectory(dir=data_dir()) as half, tarfile.open(archive) as tar:
                tar.extractall(half, filter="data")
                os.replace(Path(half) / folder.name, folder)
        except Exception as error:
            raise PhotoError(f"Imagenette is not in {data_dir()} and could not be downloaded ({type(error).__name__});"
                             " connect to the network once, or use the bundled photographs.") from error
    return sorted((folder / "train").rglob("*.JPEG"))


# ---------------------------------------------------------------- lists of urls


def read_urls(path):
    """The urls of a text file, one a line; blank lines and lines that start with # are comments."""
    lines = (line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def download(urls, folder, workers=16, timeout=20):
    """Downloads a list of urls side by side; what is already there is kept, dead links are skipped.

    Args:
        urls: a text file (see :func:`read_urls`) or a list of urls.
        folder: where the photographs go; file names are the SHA-256 of their url, so that two
            photographs called `image.jpg` do not overwrite each other.
        workers: downloads at a time.
        timeout: seconds without an answer, or with hardly any bytes, after which a link counts as dead.

    Returns:
        The paths that are there now, and a dict from each skipped url to the reason.
    """
    if isinstance(urls, (str, os.PathLike)):
        urls = read_urls(urls)
    folder = Path(folder)

    def target_of(url):
        suffix = Path(urllib.parse.urlparse(url).path).suffix.lower()
        return folder / (hashlib.sha256(url.encode()).hexdigest()[:16] + (suffix if suffix in EXTENSIONS else ".jpg"))

    def fetch(url):
        if urllib.parse.urlparse(url).scheme not in ("http", "https"):
            raise ValueError("not an http or https address")
        with replacing(target_of(url)) as temporary:
            with open(temporary, "wb") as file:
                stream(url, file, timeout)
            read_photo(temporary)  # a page that says "not found" is no photograph, and is not kept

    skipped = {}
    if not all(target_of(url).exists() for url in urls):
        with alone(folder, wait=True), concurrent.futures.ThreadPoolExecutor(workers) as pool:
            sweep(folder)
            for url, job in [(url, pool.submit(fetch, url)) for url in urls if not target_of(url).exists()]:
                try:
                    job.result()
                except urllib.error.HTTPError as error:
                    skipped[url] = f"answered {error.code}"
                except http.client.IncompleteRead:
                    skipped[url] = "the download was cut short"
                except PhotoError:
                    skipped[url] = "is no photograph"
                except Exception as error:  # refused, timed out, unknown host, malformed address
                    skipped[url] = str(getattr(error, "reason", error)) or type(error).__name__
    return [target_of(url) for url in urls if url not in skipped], skipped


def stream(url, file, timeout=20):
    """Writes what a url answers with to an open binary file, piece by piece.

    Raises:
        OSError, http.client.HTTPException: no answer, another than 200, or fewer bytes than were announced.
        ValueError: no address, a body larger than `MAX_BYTES`, or one that hardly comes.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "koala-course"})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        received, since, before = 0, time.monotonic(), 0
        while piece := answer.read1(2**16):
            file.write(piece)
            received += len(piece)
            if received > MAX_BYTES:
                raise ValueError(f"larger than {MAX_BYTES // 10**6:,} MB")
            if time.monotonic() - since > timeout:
                if received - before < SLOWEST * timeout:  # a socket's own timeout is begun again with every byte
                    raise ValueError(f"slower than {SLOWEST:,} bytes a second")
                since, before = time.monotonic(), received
        if answer.length:  # what is still to come of what was announced
            raise http.client.IncompleteRead(b"", answer.length)


def _pooch_stream(url, output, _):
    """:func:`stream` as a downloader of pooch's."""
    with open(output, "wb") as file:
        stream(url, file)


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
        raise PhotoError(f"{path}: too small ({rgb.shape[1]} x {rgb.shape[0]}; at least {min_side} px are needed).")
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
    return rgb[top:top + side, left:left + side]


def summarize(reasons):
    """'3 nearly grey, 1 damaged or cut short' from error messages of this module."""
    def kind(message):
        text = message.split(": ", 1)[-1]
        return text.split(" (")[0].split(",")[0].rstrip(".")
    return ", ".join(f"{count} {what}" for what, count in Counter(map(kind, reasons)).most_common())
