"""Collections, folders, globs and lists of urls -> paths of photographs, downloaded if needed."""

import concurrent.futures
import contextlib
import glob
import hashlib
import http.client
import os
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pooch

from koala_utils.files import alone, read_rows, replacing, sweep
from koala_utils.photos import EXTENSIONS, PhotoError, missing_note, read_photo

PACKAGE = Path(__file__).parent
BUNDLED = PACKAGE / "photographs"
REGISTRIES = PACKAGE / "registries"

IMAGENETTE_URL = "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz"
IMAGENETTE_SHA256 = "569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c"
IMAGENETTE_PHOTOS = 9_469  # for training; a folder with fewer is not complete

# name -> (registry, folder inside the data directory, only files whose path starts with)
PUBLISHED = {
    "test": ("test.csv", "test", "nips2017/"),
    "historical": ("historical.csv", "historical", "fsa_owi/"),
    "plates": ("historical.csv", "historical", "prokudin_gorskii/"),
}
MAX_BYTES = 2_000_000_000  # of a download
SLOWEST = 1_000  # bytes per second; a slower download counts as dead
URL_LISTS = (".txt", ".urls")
# name -> folder of the package
IN_PACKAGE = {
    "bundled": "color",
    "bundled-historical": "historical",
    "kodachrome": "kodachrome/train",  # colour slides of 1939 to 1944, listed in kodachrome.csv
    "kodachrome-test": "kodachrome/test",
}
COLLECTIONS = (*IN_PACKAGE, *PUBLISHED, "imagenette")

# ---------------------------------------------------------------- finding files


def data_dir():
    """The folder of downloaded photographs: `KOALA_DATA_DIR`, or the user's cache folder."""
    return Path(os.environ.get("KOALA_DATA_DIR") or pooch.os_cache("koala")).expanduser()


def find_photos(source="bundled"):
    """Paths of all photographs of a source, sorted.

    Args:
        source: one of `COLLECTIONS`; a photograph; a folder, searched with its subfolders; a glob;
            or a text file of urls, which are downloaded.

    Returns:
        A list of `Path`, never empty. For a list of urls it is the same every time: dead links have
        a path, too, and reading it raises a PhotoError with the reason.

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
        folder = data_dir() / "urls" / path.stem
        found, skipped = download(path, folder)
        if not found:
            reasons = "; ".join(f"{url} {why}" for url, why in list(skipped.items())[:3])
            raise PhotoError(
                f"{name}: none of its {len(skipped)} urls gave a photograph ({reasons})."
            )
        return sorted([*found, *(_place(url, folder) for url in skipped)])
    if name and path.is_dir():
        found = path.rglob("*")
    elif glob.has_magic(name):
        found = map(Path, glob.glob(str(path), recursive=True))  # noqa: PTH207, absolute ones too
    else:
        raise PhotoError(
            f"{name or 'an empty name'}: no such file or folder, and none of the collections"
            f" {', '.join(COLLECTIONS)}."
        )
    found = sorted(
        each
        for each in found  # in upper or lower case
        if each.suffix.lower() in EXTENSIONS and each.name[0] != "." and each.is_file()
    )
    if not found:
        raise PhotoError(
            f"{name}: holds no photograph (looked for {len(EXTENSIONS)} extensions, .jpg to .webp,"
            " in all subfolders)."
        )
    return found


# ---------------------------------------------------------------- collections


def is_at_hand(name):
    """Whether all photographs of a collection are on this machine, so that no network is needed."""
    if name == "imagenette":
        return len(_imagenette_photos()) >= IMAGENETTE_PHOTOS
    return name not in PUBLISHED or all(path.is_file() for path, _ in _published(name))


def collection(name):
    """Paths of a named collection, downloaded on first use and checked by SHA-256."""
    if name in IN_PACKAGE:
        return sorted((BUNDLED / IN_PACKAGE[name]).iterdir())
    pooch.get_logger().setLevel("WARNING")
    try:
        if name == "imagenette":
            return _imagenette()
        rows = _published(name)
        if not all(p.is_file() and pooch.file_hash(p) == row["sha256"] for p, row in rows):
            with alone(data_dir(), wait=True, part="-downloads"):
                for path, row in rows:
                    _fetch(row["url"], row["sha256"], path)
        return sorted(path for path, _ in rows)
    except Exception as error:
        raise PhotoError(
            f"the collection {name!r} is not complete in {data_dir()} and could not be downloaded"
            f" ({type(error).__name__}); connect to the network once, set KOALA_DATA_DIR to a"
            " folder that holds it, or use the bundled photographs."
        ) from error


def registry(name):
    """The registry of a collection: a list of dicts with path, url, sha256 and credits."""
    return read_rows(REGISTRIES / PUBLISHED[name][0])


def _published(name):
    """Pairs of a photograph's path and its row of the registry."""
    _, folder, prefix = PUBLISHED[name]
    rows = (row for row in registry(name) if row["path"].startswith(prefix))
    return [(data_dir() / folder / row["path"], row) for row in rows]


def _fetch(url, sha256, path, **options):
    """Downloads a file where it is missing or does not match its SHA-256."""

    def downloader(url, output, _):
        with Path(output).open("wb") as file:
            stream(url, file)

    pooch.retrieve(url, sha256, path.name, path.parent, downloader=downloader, **options)


def _imagenette_photos():
    return sorted((data_dir() / "imagenette2-320" / "train").rglob("*.JPEG"))


def _imagenette():
    """Training photographs of the official Imagenette archive, 10 classes, short side 320 px."""
    if is_at_hand("imagenette"):
        return _imagenette_photos()
    with alone(data_dir(), wait=True, part="-downloads"):
        # It is unpacked beside its place and then moved, so that a killed run leaves no half of it.
        with tempfile.TemporaryDirectory(dir=data_dir()) as half:
            if not is_at_hand("imagenette"):  # no other process was faster
                archive = data_dir() / "imagenette2-320.tgz"
                unpack = pooch.Untar(extract_dir=half)
                _fetch(IMAGENETTE_URL, IMAGENETTE_SHA256, archive, processor=unpack)
                folder = data_dir() / "imagenette2-320"
                with contextlib.suppress(FileNotFoundError):
                    folder.replace(Path(half) / "incomplete")
                (Path(half) / folder.name).replace(folder)
    return _imagenette_photos()


# ---------------------------------------------------------------- lists of urls


def read_urls(path):
    """The urls of a text file, one per line, without blank lines and lines that start with #.

    Raises:
        PhotoError: the file is not text in UTF-8 or UTF-16, or holds no url.
    """
    data = Path(path).read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    if b"\0" in data and encoding != "utf-16":  # no mark of its byte order
        encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    try:
        lines = [line.strip() for line in data.decode(encoding).splitlines()]
    except UnicodeDecodeError:
        raise PhotoError(f"{path}: not a photograph, and no text in UTF-8 or UTF-16.") from None
    urls = list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not any("://" in url for url in urls):
        raise PhotoError(
            f"{path}: a text file without a url; a list of urls has one url per line, with http://"
            " or https://."
        )
    return urls


def _place(url, folder):
    """Where the photograph of a url goes: its name is the SHA-256 of the url, which is unique."""
    suffix = Path(urllib.parse.urlparse(url).path).suffix.lower()
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    return Path(folder) / (name + (suffix if suffix in EXTENSIONS else ".jpg"))


def download(urls, folder, workers=16, timeout=20):
    """Downloads a list of urls in parallel. Existing files are kept, and dead links are skipped.

    A note beside the place of a dead link holds the reason. The next call tries the link again.

    Args:
        urls: a text file (see :func:`read_urls`) or a list of urls.
        folder: where the photographs go.
        workers: number of downloads at the same time.
        timeout: seconds without an answer, or with hardly any bytes, after which a link is dead.

    Returns:
        The paths that are there now, and a dict from each skipped url to the reason.
    """
    if isinstance(urls, (str, os.PathLike)):
        urls = read_urls(urls)
    stop = threading.Event()

    def fetch(url):
        if urllib.parse.urlparse(url).scheme not in ("http", "https"):
            raise ValueError("not an http or https address")
        with replacing(_place(url, folder)) as temporary:
            with temporary.open("wb") as file:
                stream(url, file, timeout, stop)
            read_photo(temporary)  # a page that says "not found" is not kept

    def missing():
        return [url for url in urls if not _place(url, folder).exists()]

    skipped = {}
    if missing():
        with alone(folder, wait=True), concurrent.futures.ThreadPoolExecutor(workers) as pool:
            sweep(folder)
            jobs = {url: pool.submit(fetch, url) for url in missing()}
            try:
                for url, job in jobs.items():
                    note = missing_note(_place(url, folder))
                    if error := job.exception():
                        skipped[url] = _reason(error)
                        note.write_text(f"{url}: gave no photograph ({skipped[url]})", "utf-8")
                    else:
                        note.unlink(missing_ok=True)
            except BaseException:  # Ctrl-C: all queued and running downloads end at once
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
    return [_place(url, folder) for url in urls if url not in skipped], skipped


def _reason(error):
    if isinstance(error, urllib.error.HTTPError):
        return f"answered {error.code}"
    if isinstance(error, http.client.IncompleteRead):
        return "the download was cut short"
    if isinstance(error, PhotoError):
        return "is no photograph"
    # refused, timed out, unknown host, malformed address
    return str(getattr(error, "reason", error)) or type(error).__name__


def stream(url, file, timeout=20, stop=None):
    """Writes the answer of a url to an open binary file, piece by piece.

    Raises:
        OSError, http.client.HTTPException: no answer, a status other than 200, or too few bytes.
        ValueError: no address, a body larger than `MAX_BYTES` or slower than `SLOWEST`, or the
            event `stop` is set.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "koala-course"})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        received, since, before = 0, time.monotonic(), 0
        while piece := answer.read1(2**16):
            file.write(piece)
            received += len(piece)
            if stop and stop.is_set():
                raise ValueError("stopped")
            if received > MAX_BYTES:
                raise ValueError(f"larger than {MAX_BYTES // 10**6:,} MB")
            if time.monotonic() - since > timeout:  # a socket's own starts again with every byte
                if received - before < SLOWEST * timeout:
                    raise ValueError(f"slower than {SLOWEST:,} bytes a second")
                since, before = time.monotonic(), received
        if answer.length:  # announced bytes that have not come
            raise http.client.IncompleteRead(b"", answer.length)
