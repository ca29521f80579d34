"""Many photographs: finding them, naming the results, and colouring them in parallel.

Only :func:`colorize_jobs` needs TensorFlow.
"""

import collections
import concurrent.futures
import contextlib
import glob
import hashlib
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from koala_utils import downloads, photos
from koala_utils.photos import PhotoError

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "tiff": ".tif"}
DEEP = {".png", ".tif", ".tiff"}  # names of the formats that hold 16 bits
LOOKS = {  # of --looks: the model and its vividness
    "cautious": ("koala-plus", 0.0),
    "default": ("koala-plus", None),
    "vivid": ("koala-plus", 1.0),
    "paper": ("koala", None),
}
HELD_PIXELS = 48_000_000  # of all photographs in memory together; a larger one is alone there
FEW = 8  # photographs; for so few, compiling the networks does not pay
CLOCK = 2  # seconds: file systems round the time of a file to this
TILE = 320  # pixels, the height of a contact sheet's photographs


@dataclass(frozen=True)
class Job:
    """One photograph to be coloured, and the files that it becomes."""

    path: Path
    targets: tuple  # one file for each look, and their contact sheet where there are several
    page: int = 0  # of a file with several, counted from 0
    pages: int = 1
    pixels: int = 0  # of the photograph; 0 where its header cannot be read
    done: bool = False  # all targets are there, and none is older than the photograph

    def __str__(self):
        return f"{self.path}, page {self.page + 1}" if self.pages > 1 else str(self.path)


# ---------------------------------------------------------------- which photographs


def find(sources, output):
    """The photographs that the sources of a command line stand for.

    All files of a folder are taken, so that those that cannot be coloured are named. Hidden files
    and the output folder are left out. A text file is a list of urls only if it is the only source.

    Returns:
        A list of (path, place): the file, which need not exist or be a photograph, and its place
        below the output folder. A list of `PhotoError`: sources that stand for nothing. The number
        of earlier results that are left out; they are coloured only if they are named themselves.

    Raises:
        PhotoError: the only source stands for nothing.
    """
    folders = [s for s in sources if s not in downloads.COLLECTIONS and Path(s).is_dir()]
    found, problems = {}, []
    for source in sources:
        try:
            for path, place in _find(source, output, len(sources) == 1, len(folders) > 1):
                found.setdefault(path.absolute(), (path, place))
        except PhotoError as error:
            problems.append(error)
    if not found and len(sources) == 1:
        raise problems[0] if problems else PhotoError(f"{sources[0]}: holds no file.")
    originals = [
        each for each in found.values() if len(found) == 1 or not photos.origin_of(each[0])
    ]
    return originals, problems, len(found) - len(originals)


def _find(source, output, alone, several_folders):
    path = Path(source).expanduser()
    if source == "-":
        raise PhotoError("-: a photograph is read from a file; write it into one and colour that.")
    if source.startswith(("http://", "https://")):
        raise PhotoError(
            f"{source}: addresses are read from a text file; write them into addresses.txt, one"
            " per line, and give that file."
        )
    if source in downloads.COLLECTIONS:
        return [(p, Path(p.name)) for p in downloads.find_photos(source)]
    if path.is_dir():
        # Several folders may hold files of the same name, so each gets a folder of its own.
        root = Path(path.resolve().name) if several_folders else Path()
        return [(p, root / p.relative_to(path)) for p in _files_in(path, output)]
    if glob.has_magic(source) and not path.exists():
        fixed = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        return [(p, p.relative_to(fixed)) for p in downloads.find_photos(source)]
    is_list = path.suffix.lower() in downloads.URL_LISTS and path.is_file()
    if not alone or (os.path.lexists(path) and not is_list):
        return [(path, Path(path.name))]
    return [(p, Path(p.name)) for p in downloads.find_photos(source)]


def _files_in(folder, output):
    """All files of a folder and its subfolders, without hidden ones and the output folder."""
    results = None if _real(output) == _real(folder) else Path(_real(output))
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and not path.is_dir() and results not in Path(_real(path)).parents:
            yield path


def _real(path):
    """One path for all names of a file; `Path.resolve` fails if links form a circle."""
    return os.path.realpath(path).lower()


# ---------------------------------------------------------------- where the results go


def plan(found, output, kind=None, looks=("",), overwrite=False):
    """Decides which files the photographs become.

    A result has its photograph's place below the output folder. It gets another name if the file
    there is a photograph to be coloured, another photograph's result, or anything else.

    Args:
        found: of :func:`find`.
        output: a folder; or a file, if its name has the ending of an image.
        kind: one of `SUFFIXES`; None takes that of the file `output`, or "png".
        looks: endings of the results' names; if there are several, there is a contact sheet, too.
        overwrite: do again what is done.

    Returns:
        A list of `Job`.

    Raises:
        PhotoError: `output` is a file, and there are several photographs, or its format is not
            `kind`, or it exists and is not a result of this photograph.
    """
    counted = [(path, place, _pixels_of(path)) for path, place in found]
    named_kind = Image.registered_extensions().get(output.suffix.lower())
    single = named_kind in Image.SAVE and not output.is_dir()
    if single and sum(len(pixels) for *_, pixels in counted) > 1:
        raise PhotoError(
            f"{output}: is one file, and there are several photographs or pages; give a folder."
        )
    if single and kind and kind.upper() != named_kind:
        raise PhotoError(f"{output}: does not end as {kind} files do; leave out --format.")
    suffix = output.suffix if single else SUFFIXES[kind or "png"]
    taken, jobs = {_real(path) for path, *_ in counted}, []
    for path, place, pixels in counted:
        pages = len(pixels)
        stem = output.with_suffix("") if single else output / place.parent / place.stem
        for page in range(pages):
            number = f"-{page + 1:0{len(str(pages))}d}" if pages > 1 else ""
            for name in _names(stem.name + number):
                targets = [stem.with_name(f"{name}{look and f'-{look}'}{suffix}") for look in looks]
                if len(looks) > 1:
                    targets.append(stem.with_name(f"{name}-looks.jpg"))
                states = {_state(target, path, page, taken) for target in targets}
                if single and ("taken" in states or "foreign" in states and not overwrite):
                    raise PhotoError(
                        f"{output}: is there already, and no result of {path}; choose another name"
                        + ("." if "taken" in states else ", or replace it with --overwrite.")
                    )
                if single or not states & {"taken", "foreign"}:
                    break
            taken |= {_real(target) for target in targets}
            done = states == {"done"} and not overwrite
            jobs.append(Job(path, tuple(targets), page, pages, pixels[page], done))
    return jobs


def _names(stem):
    """The stem, and then names to use in its place."""
    yield stem
    yield f"{stem}-color"
    yield from (f"{stem}-color-{i}" for i in itertools.count(2))


def _state(target, path, page, taken):
    """What is at a result's place: "taken" in this run, "nothing", "foreign", "old" or "done"."""
    if _real(target) in taken:
        return "taken"
    if not os.path.lexists(target):
        return "nothing"
    if photos.origin_of(target) != _origin(path, page, target):
        return "foreign"
    try:
        newer = target.stat().st_mtime + CLOCK >= path.stat().st_mtime
    except OSError:
        return "old"
    return "done" if newer else "old"


def _origin(path, page, target):
    """Identifies a photograph by its path from the result, as a hash that reveals no names."""
    try:
        where = os.path.relpath(os.path.realpath(path), os.path.realpath(target.parent))
    except ValueError:  # on another drive
        where = os.path.realpath(path)
    return hashlib.sha256(os.fsencode(f"{Path(where).as_posix()}#{page}")).hexdigest()[:32]


def _pixels_of(path):
    """The pixels of each page of a file; [0] if the header cannot be read: reading says why."""
    try:
        return photos.count_pixels(path)
    except PhotoError:
        return [0]


# ---------------------------------------------------------------- colouring


def check_jobs(jobs):
    """What :func:`colorize_jobs` would yield, as far as the headers of the files show."""
    for job in jobs:
        yield job, None if job.pixels else PhotoError(f"{job.path}: not a photograph.")


def colorize_jobs(
    jobs, looks, extractor, strength=1.0, keep_grey=False, quality=95, hints_of=lambda photo: ()
):
    """Colours photographs. While one is coloured, the next are read and the previous are written.

    Args:
        jobs: of :func:`plan`.
        looks: for each look the (model, vividness) that makes it, as in `LOOKS`.
        extractor, strength: as for :func:`koala_utils.colorize`.
        keep_grey: results show the grey photograph beside the coloured one, and are twice as wide.
        quality: of JPEGs, 1 to 100.
        hints_of: a function from a photograph's pixels to its hints.

    Yields:
        (job, problem) in the order of the jobs; the problem is None, or the `PhotoError` for which
        the photograph was left out.

    Raises:
        ExtractorError, WeightsError: as :func:`koala_utils.colorize`.
    """
    from koala_utils import colorizer
    from koala_utils.hints import HintError

    few = len(jobs) <= FEW
    models = dict.fromkeys(model for model, _ in looks.values())

    def read(job):
        photo = photos.load_photo(job.path, page=job.page)
        deep = photo.deep is not None and job.targets[0].suffix.lower() in DEEP
        return photo, photo.deep if deep else photo.rgb

    def predict(pixels):
        return {model: colorizer.predict(pixels, model, extractor, few=few) for model in models}

    def write(job, photo, predictions):
        tiles = {"photograph": photo.rgb}
        for (look, (model, vividness)), target in zip(looks.items(), job.targets, strict=False):
            known = hints_of(predictions[model].photo)
            result = colorizer.render(predictions[model], vividness, strength, known)
            alpha = photo.alpha
            if len(looks) > 1:
                tiles[look] = colorizer.shrink(result, 2 * TILE)
            if keep_grey:
                grey = colorizer.render(predictions[model], strength=0.0)
                result = np.hstack([grey, result])
                alpha = None if alpha is None else np.hstack([alpha, alpha])
            _save(job, result, target, model, photo.metadata, alpha, quality)
        if len(looks) > 1:
            _save(job, contact_sheet(tiles), job.targets[-1], next(iter(models)))

    def attempt(job, step, *arguments):
        try:
            return step(*arguments)
        except PhotoError as error:
            return error
        except HintError as error:
            return PhotoError(f"{job}: {error}")
        except MemoryError:
            return PhotoError(f"{job}: too large for the memory of this machine.")

    workers = os.cpu_count() or 1
    waiting, reading, writing = collections.deque(jobs), collections.deque(), collections.deque()
    held = 0  # pixels of what is being read, coloured and written
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    try:
        while waiting or reading or writing:
            fits = waiting and (not held or held + waiting[0].pixels <= HELD_PIXELS)
            if writing and writing[0][1].done():
                job, written = writing.popleft()
                held -= job.pixels
                yield job, written.result()
            elif fits and len(reading) < workers:
                job = waiting.popleft()
                held += job.pixels
                reading.append((job, pool.submit(attempt, job, read, job)))
            elif reading:
                job, loaded = reading.popleft()
                loaded = loaded.result()
                if not isinstance(loaded, PhotoError):
                    photo, pixels = loaded
                    loaded = attempt(job, predict, pixels)
                if isinstance(loaded, PhotoError):
                    writing.append((job, pool.submit(lambda error: error, loaded)))
                else:
                    writing.append((job, pool.submit(attempt, job, write, job, photo, loaded)))
            else:
                concurrent.futures.wait([writing[0][1]])
    finally:
        pool.shutdown(cancel_futures=True)


def contact_sheet(tiles):
    """Small photographs in a row with their names below: uint8 (H, W, 3).

    Args:
        tiles: a dict from name to uint8 (h, w, 3), all of one aspect.
    """
    height, width = next(iter(tiles.values())).shape[:2]
    size = max(1, round(TILE * width / height)), TILE
    sheet = Image.new("RGB", (len(tiles) * (size[0] + 8) - 8, TILE + 28), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (name, tile) in enumerate(tiles.items()):
        left = i * (size[0] + 8)
        sheet.paste(Image.fromarray(tile).resize(size, Image.LANCZOS), (left, 0))
        draw.text((left + 4, TILE + 4), name, "black", ImageFont.load_default(16))
    return np.asarray(sheet)


def _save(job, rgb, target, model, metadata=None, alpha=None, quality=95):
    """Writes a result, with its origin for :func:`plan`, and gives it the photograph's time."""
    metadata = {**(metadata or {}), "colored_by": Path(model).stem}
    metadata["origin"] = _origin(job.path, job.page, target)
    photos.save_photo(rgb, target, metadata, alpha=alpha, quality=quality)
    with contextlib.suppress(OSError):
        time = job.path.stat()
        os.utime(target, ns=(time.st_atime_ns, time.st_mtime_ns))
