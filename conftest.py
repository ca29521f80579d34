"""How tests and notebooks are run: in their own work folder, file by file, long files first."""

import atexit
import os
import re
import shutil
import tempfile
from pathlib import Path

from xdist.scheduler import LoadFileScheduling

# Under test these notebooks do less work than for a reader. Each value here replaces that of the
# notebook's cell with the tag "parameters".
LESS = {
    "notebooks/02_embedding_extraction.ipynb": {"EVERY": 6, "SMALL": 64, "STEPS": 20},
    "notebooks/04_training.ipynb": {
        "CROP": 16,
        "EPOCHS": 2,
        "STOP_AFTER": 1,
        "PLUS_CROP": 32,
        "PLUS_EPOCHS": 1,
        "HAND_STEPS": 8,
        "MEMORY_STEPS": 16,
    },
    "notebooks/08_three_ways_to_colour.ipynb": {"CROP": 32, "BATCH": 4, "STEPS": 10},
    "notebooks/10_inside_the_network.ipynb": {"EVERY": 8},
    "notebooks/solutions/04_training.ipynb": {"EPOCHS": 1, "EVERY": 40},
}

# What takes longest begins first, so that no worker is left with it at the end.
FIRST = [
    "test_training",
    "test_faults",
    "test_cluster",
    "04_training",
    "02_embedding_extraction",
    "08_three_ways_to_colour",
    "test_demo_browser",
]

# One worker runs all files of a name, so that it makes once what they share.
TOGETHER = {
    "notebooks/01_data_preparation.ipynb": "records of the slides",
    "notebooks/04_training.ipynb": "records of the slides",
    "notebooks/08_three_ways_to_colour.ipynb": "records of the slides",
    "tests/test_training.py": "a finished run",
    "tests/test_faults.py": "a finished run",
}

WORK = tempfile.mkdtemp(prefix="koala-tests-")
atexit.register(shutil.rmtree, WORK, ignore_errors=True)
os.environ["KOALA_WORK_DIR"] = WORK
os.environ["PYTHONPATH"] = os.pathsep.join(  # notebooks import this checkout, whatever is installed
    filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])
)
if "PYTEST_XDIST_WORKER" in os.environ:  # one core for each worker
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")


class LoadFileTogether(LoadFileScheduling):
    """xdist's `loadfile`, which takes the files that are `TOGETHER` for one."""

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        return TOGETHER.get(file, file)


def pytest_xdist_make_scheduler(config, log):
    return LoadFileTogether(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items):
    """Puts the long files first, and gives the notebooks their parameters for the tests."""
    stems = [item.path.stem for item in items]
    rank = {stem: FIRST.index(stem) if stem in FIRST else len(FIRST) for stem in set(stems)}
    items.sort(key=lambda item: rank[item.path.stem])
    for item in items:
        file = item.nodeid.split("::")[0]
        cell = getattr(item, "cell", None)
        if cell and "parameters" in cell.metadata.get("tags", []):
            for name, value in LESS.get(file, {}).items():
                assert re.search(rf"\b{name}\b.* = ", cell.source), f"{item.path.name}: no {name}"
                cell.source += f"\n{name} = {value!r}"
