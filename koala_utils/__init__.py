"""Colour for grey photographs: the helper package of the koala course.

from koala_utils import colorize, read_photo, save_photo

save_photo(colorize(read_photo("grandparents.jpg")), "grandparents-color.png")
"""

import os
import platform
from pathlib import Path

import lazy_loader

# TensorFlow reports a missing GPU as an error at every start. Real problems still raise exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# By default TensorFlow uses oneDNN only on processors with AVX-512 VNNI. Others gain from it, too.
if platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

ROOT = Path(__file__).parents[1]  # the checkout, with notebooks/ and report/
_HOME = ROOT if (ROOT / "pyproject.toml").is_file() else Path.cwd()  # installed without a checkout
WORK = Path(os.environ.get("KOALA_WORK_DIR") or _HOME / "work")  # what the course writes
REPORT = WORK / "report"  # figures of the notebooks

# The public functions are imported on first use: `koala --help` does not wait for TensorFlow.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "colorizer": ["colorize"],
        "downloads": ["find_photos"],
        "photos": ["read_photo", "save_photo"],
    },
)
