"""Runs the notebooks of the course in order, a line each: what `make course` does after the installation.

    python notebooks/run.py [NUMBER ...]

The executed copies, with all their figures, go to work/notebooks; the notebooks themselves stay as they are.
"""

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from koala_utils import REPORT, WORK


def run(path):
    """Executes one notebook and writes the executed copy, also of one that failed."""
    notebook = nbformat.read(path, as_version=4)
    try:
        NotebookClient(notebook, timeout=1800, kernel_name="python3", resources={"metadata": {"path": path.parent}},
                       extra_arguments=["--log-level=40"]).execute()  # errors only: warnings would break the lines
    finally:
        target = WORK / "notebooks" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)


def main():
    numbers = [number.zfill(2) for number in sys.argv[1:]]
    paths = [path for path in sorted(Path(__file__).parent.glob("0*.ipynb")) if not numbers or path.name[:2] in numbers]
    for number, path in enumerate(paths, 1):
        print(f"{number}/{len(paths)}  {path.stem:<26}", end="", flush=True)
        began = time.monotonic()
        try:
            run(path)
        except CellExecutionError as error:
            print("failed\n", error, sep="")
            sys.exit(f"{path.name} stopped at an error; its cells are in {WORK / 'notebooks' / path.name}."
                     " Paste it with the output of `koala check` into a bug report.")
        print(f"{time.monotonic() - began:6.0f} s")
    print(f"\ncolour photographs:  {REPORT / 'figures'}\nexecuted notebooks:  {WORK / 'notebooks'}"
          "\nto read and change them:  make lab\nyour own photographs:  make demo, or .venv/bin/koala colorize PHOTO")


if __name__ == "__main__":
    main()
