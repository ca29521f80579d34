"""Runs the notebooks of the course in order: `make course`, once installed.

    python notebooks/run.py [--refresh] [NUMBER ...]

Two notebooks run at a time, and each gets one line when it is done. The
executed copies, with all their figures, go to work/notebooks; the notebooks
themselves stay as they are. With --refresh, which is `make refresh`, notebooks
and solutions run one after the other, so that the times in them are true. They
are written back with their new outputs, and with nothing else changed.
"""

import argparse
import base64
import functools
import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

from koala_utils import REPORT, WORK
from koala_utils.files import replacing

HERE = Path(__file__).parent
AT_ONCE = 2  # notebooks; one alone does not keep two cores busy
# What takes longest begins early, so that no core is idle at the end. Notebook
# 1 makes the records that 4 and 8 read, so it comes before them.
EARLY = ["00", "01", "02", "04", "08", "10"]
LARGEST = 2_400_000  # bytes of a notebook that is written back
# Quality and width in pixels that are tried until it fits: four tiles of 300,
# and of 240 at the very last.
SMALLER = [(80, 1200), (70, 1200), (60, 1200), (50, 1200), (45, 960)]


def execute(notebook, folder):
    """Executes a notebook in a folder; only outputs and numbers change."""
    before = dict(notebook.metadata)  # the kernel adds this computer's Python
    try:
        NotebookClient(
            notebook,
            timeout=1800,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            record_timing=False,
            store_widget_state=False,
            coalesce_streams=True,
            extra_arguments=["--log-level=40"],  # errors alone
        ).execute()
    finally:
        notebook.metadata = nbformat.from_dict(before)
        add_alt_texts(notebook)


def add_alt_texts(notebook):
    """Copies the "alt" of a cell's metadata to its pictures without alt text.

    It is a string, or a list with one string per picture. So a long text stays
    out of the code: `notebook.show(figure)` needs none then.

    Args:
        notebook: an executed `nbformat.NotebookNode`, which is changed.
    """
    for cell in notebook.cells:
        texts = cell.metadata.get("alt", [])
        texts = [texts] if isinstance(texts, str) else texts
        pictures = [
            (output, mime)
            for output in cell.get("outputs", [])
            for mime in output.get("data", {})
            if mime.startswith("image/")
            and not output.metadata.get(mime, {}).get("alt")
        ]
        for (output, mime), text in zip(pictures, texts, strict=False):
            output.metadata.setdefault(mime, {})["alt"] = text
            output.data["text/plain"] = text


def shrink_pictures(notebook):
    """Encodes photographs again, ever smaller, until a notebook fits `LARGEST`.

    Args:
        notebook: an executed `nbformat.NotebookNode`, which is changed.
    """
    photographs = [
        (output.data, Image.open(io.BytesIO(base64.b64decode(data))))
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if (data := output.get("data", {}).get("image/jpeg"))
    ]
    for quality, width in SMALLER:
        if len(nbformat.writes(notebook)) <= LARGEST:
            return
        for data, picture in photographs:
            height = round(picture.height * width / picture.width)
            smaller = picture
            if picture.width > width:
                smaller = picture.resize((width, height), Image.LANCZOS)
            buffer = io.BytesIO()
            smaller.save(buffer, "JPEG", quality=quality, optimize=True)
            data["image/jpeg"] = base64.b64encode(buffer.getvalue()).decode()


def run(path):
    """Executes one notebook and writes the copy, also of one that failed."""
    notebook = nbformat.read(path, as_version=4)
    try:
        execute(notebook, path.parent)
    finally:
        target = WORK / "notebooks" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)


def refresh(path):
    """Executes one notebook and writes it back unless it fails."""
    notebook = nbformat.read(path, as_version=4)
    execute(notebook, path.parent)
    shrink_pictures(notebook)
    with replacing(path) as temporary:
        nbformat.write(notebook, temporary)


def timed(execute, path):
    """The seconds that a notebook takes."""
    began = time.monotonic()
    execute(path)
    return time.monotonic() - began


def started(pool, paths):
    """Starts notebooks, `EARLY` first; yields their seconds in listed order."""

    def place(path):
        number = path.name[:2]
        return EARLY.index(number) if number in EARLY else len(EARLY)

    order = sorted(paths, key=place)
    futures = {path: pool.submit(timed, run, path) for path in order}
    return (futures[path].result() for path in paths)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "numbers",
        nargs="*",
        metavar="NUMBER",
        help="of a notebook, such as 5; none takes all",
    )
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="write notebooks and solutions back with their outputs",
    )
    options = parser.parse_args()
    numbers = [number.zfill(2) for number in options.numbers]
    numbered = "[0-9][0-9]_*.ipynb"
    found = sorted(HERE.glob(numbered)) + (
        sorted((HERE / "solutions").glob(numbered)) if options.refresh else []
    )
    paths = [path for path in found if not numbers or path.name[:2] in numbers]
    pool = ThreadPoolExecutor(AT_ONCE)
    if options.refresh:
        times = map(functools.partial(timed, refresh), paths)
    else:
        times = started(pool, paths)
    for number, path in enumerate(paths, 1):
        name = path.relative_to(HERE).with_suffix("").as_posix()
        print(f"{number}/{len(paths)}  {name:<26}", end="", flush=True)
        try:
            print(f"{next(times):6.0f} s")
        except CellExecutionError as error:
            pool.shutdown(wait=False, cancel_futures=True)
            print("failed\n", error, sep="")
            executed = WORK / "notebooks" / path.name
            left = "it was left as it is."
            if not options.refresh:
                left = (
                    f"its cells are in {executed}. Paste it with the output of"
                    " `koala check` into a bug report."
                )
            parser.exit(1, f"{path.name} stopped at an error; {left}\n")
        except KeyboardInterrupt:
            print("interrupted")
            os._exit(130)  # threads would run on; kernels end with this process
    if not options.refresh:
        print(
            f"\ncolour photographs:  {REPORT / 'figures'}",
            f"executed notebooks:  {WORK / 'notebooks'}",
            "to read and change them:  make lab",
            "your own photographs:  make demo, or",
            "                       .venv/bin/koala colorize PHOTO",
            sep="\n",
        )


if __name__ == "__main__":
    main()
