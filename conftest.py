"""How tests and notebooks are run: in their own work folder, long files first."""

import atexit
import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

# Under test these notebooks do less work than for a reader. Each value here replaces that of the
# notebook's cell with the tag "parameters".
LESS = {
    "notebooks/04_training.ipynb": {"PASSES": 4, "EPOCHS": 4, "FIRST_EPOCHS": 8},
    "notebooks/08_three_ways_to_colour.ipynb": {"STEPS": 12},
    "notebooks/solutions/04_training.ipynb": {"PASSES": 6},
    "notebooks/solutions/05_historical_photos.ipynb": {"PHOTOS": slice(2, 4)},
}

# What takes longest begins first, so that no worker is left with it at the end.
FIRST = ["07_report_figures", "test_training", "test_faults", "test_cluster", "04_training"]

# These files look at what a notebook left, so the same worker runs them after it.
LOOKS_AT = {"tests/test_report.py": "notebooks/07_report_figures.ipynb"}

WORK = tempfile.mkdtemp(prefix="koala-tests-")
atexit.register(shutil.rmtree, WORK, ignore_errors=True)
os.environ["KOALA_WORK_DIR"] = WORK
os.environ["PYTHONPATH"] = os.pathsep.join(  # notebooks import this checkout, whatever is installed
    filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])
)
if "PYTEST_XDIST_WORKER" in os.environ:  # one core for each worker
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")


def scope_of(nodeid):
    """What one worker runs in order: the tests of a file, and those that look at what it left."""
    file = nodeid.split("::")[0]
    return LOOKS_AT.get(file, file)


def pytest_collection_modifyitems(items):
    """Puts the long files first, and gives the notebooks their parameters for the tests."""
    stems = [item.path.stem for item in items]
    rank = {stem: FIRST.index(stem) if stem in FIRST else len(FIRST) for stem in set(stems)}
    items.sort(key=lambda item: rank[item.path.stem])
    for item in items:
        cell = getattr(item, "cell", None)
        if cell and "parameters" in cell.metadata.get("tags", []):
            for name, value in LESS.get(item.nodeid.split("::")[0], {}).items():
                assert re.search(rf"\b{name}\b.* = ", cell.source), f"{item.path.name}: no {name}"
                cell.source += f"\n{name} = {value!r}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    scheduler = LoadFileScheduling(config, log)
    scheduler._split_scope = scope_of
    return scheduler
