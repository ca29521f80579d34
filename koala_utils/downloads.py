"""Collections by name, folders, globs and lists of urls -> paths of photographs, downloaded and checked where needed."""

import concurrent.futures
import csv
import glob
import hashlib
import http.client
import os
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pooch

from koala_utils.files import alone, replacing, sweep
from koala_utils.photos import EXTENSIONS, PhotoError, read_photo

PACKAGE = Path(__file__).parent
BUNDLED = PACKAGE / "photographs"
REGISTRIES = PACKAGE / "registries"

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
            raise PhotoError(
                f"{name}: none of its {len(skipped)} urls gave a photograph"
                f" ({'; '.join(f'{url} {why}' for url, why in list(skipped.items())[:3])})."
            )
    elif path.is_dir():
        found = [p for p in path.rglob("*") if is_photo_name(p) and p.is_file()]
    elif glob.has_magic(name):
        found = [
            Path(p)
            for p in glob.glob(str(path), recursive=True)
            if is_photo_name(Path(p)) and Path(p).is_file()
        ]
    else:
        raise PhotoError(
            f"{name}: no such file or folder, and none of the collections {', '.join(COLLECTIONS)}."
        )
    if not found:
        raise PhotoError(
            f"{name}: holds no photograph (looked for {len(EXTENSIONS)} extensions, .jpg to .webp,"
            " in all subfolders)."
        )
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
            " holds it."
        ) from error


def _fetch(row, path):
    """The path of a photograph of a registry, downloaded where it is not there or not what the registry says."""
    return Path(
        pooch.retrieve(
            row["url"], row["sha256"], fname=path.name, path=path.parent, downloader=_pooch_stream
        )
    )


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
            archive = pooch.retrieve(
                IMAGENETTE_URL,
                IMAGENETTE_SHA256,
                fname="imagenette2-320.tgz",
                path=data_dir(),
                downloader=_pooch_stream,
            )
            # Unpacked beside its place and renamed, so that a killed run does not leave half a collection.
            with tempfile.TemporaryDirectory(dir=data_dir()) as half, tarfile.open(archive) as tar:
                tar.extractall(half, filter="data")
                os.replace(Path(half) / folder.name, folder)
        except Exception as error:
            raise PhotoError(
                f"Imagenette is not in {data_dir()} and could not be downloaded ({type(error).__name__});"
                " connect to the network once, or use the bundled photographs."
            ) from error
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
        return folder / (
            hashlib.sha256(url.encode()).hexdigest()[:16]
            + (suffix if suffix in EXTENSIONS else ".jpg")
        )

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
            for url, job in [
                (url, pool.submit(fetch, url)) for url in urls if not target_of(url).exists()
            ]:
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
                if (
                    received - before < SLOWEST * timeout
                ):  # a socket's own timeout is begun again with every byte
                    raise ValueError(f"slower than {SLOWEST:,} bytes a second")
                since, before = time.monotonic(), received
        if answer.length:  # what is still to come of what was announced
            raise http.client.IncompleteRead(b"", answer.length)


def _pooch_stream(url, output, _):
    """:func:`stream` as a downloader of pooch's."""
    with open(output, "wb") as file:
        stream(url, file)
