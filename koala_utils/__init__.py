"""Colour for grey photographs: the helper package of the koala course.

from koala_utils import colorize, read_photo, save_photo

save_photo(colorize(read_photo("grandparents.jpg")), "grandparents-color.png")
"""

import importlib
import os
import platform
from pathlib import Path

# TensorFlow announces on every start, at error level, that it found no GPU. Problems still raise exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# It takes oneDNN's convolutions of its own accord only where the processor has AVX-512 VNNI; others gain from them as well.
if platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

ROOT = Path(__file__).parents[1]  # the checkout, with notebooks/ and report/
WORK = Path(
    os.environ.get("KOALA_WORK_DIR") or ROOT / "work"
)  # what the course writes when it is run
REPORT = Path(
    os.environ.get("KOALA_REPORT_DIR") or WORK / "report"
)  # figures and tables; `make report` sets it

_HOMES = {
    "colorize": "colorizer",
    "read_photo": "photos",
    "save_photo": "photos",
    "find_photos": "photos",
}


def __getattr__(name):
    """The public functions, imported on first use: `koala --help` need not wait for TensorFlow."""
    if name not in _HOMES:
        raise AttributeError(f"module 'koala_utils' has no attribute {name!r}")
    return getattr(importlib.import_module(f"koala_utils.{_HOMES[name]}"), name)
