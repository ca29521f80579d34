"""`koala check`: what is installed, what is missing, and where things are, for a bug report."""

import importlib.metadata
import platform
import shutil
import sys
from pathlib import Path

from packaging.requirements import Requirement

from koala_utils import downloads

WANTED = "koala_utils"


def requirements():
    """What koala_utils requires without its extras: a list of `packaging` requirements."""
    found = map(Requirement, importlib.metadata.requires(WANTED) or [])
    return [each for each in found if not each.marker or each.marker.evaluate({"extra": ""})]


def check():
    """Lines that describe the environment, and a list of problems, empty if all is well."""
    lines, problems = [], []
    lines.append(f"koala_utils  {importlib.metadata.version(WANTED)}")
    lines.append(f"Python       {platform.python_version()} ({sys.executable})")
    lines.append(f"system       {platform.platform()}")
    for wanted in requirements():
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"{wanted.name} is missing; run: make setup")
            continue
        lines.append(f"  {wanted.name:<18} {version}")
        if not wanted.specifier.contains(version, prereleases=True):
            problems.append(
                f"{wanted.name} {version} does not fit {wanted.specifier}; run: make setup"
            )
    lines += _hardware(problems)
    folder = downloads.data_dir()
    state = "exists" if folder.is_dir() else "not there yet"
    lines.append(f"cache folder {folder} ({state}; set KOALA_DATA_DIR to change it)")
    return lines + _weights(problems), problems


def _hardware(problems):
    try:  # after the versions, which help most if this import fails
        from koala_utils.backend import tf
        from koala_utils.training import best_dtype, machine
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        problems.append(f"TensorFlow cannot be imported ({reason}); run: make setup")
        return []
    return [
        f"hardware     {machine()}",
        f"GPUs         {len(tf.config.list_physical_devices('GPU'))}",
        f"trains in    {best_dtype()}",
        f"free disk    {shutil.disk_usage(Path.cwd()).free / 1e9:.0f} GB",
    ]


def _weights(problems):
    from koala_utils.weights import RELEASED, WeightsError, check_hash

    lines = []
    for line in (RELEASED / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        path = RELEASED / line.split()[1]
        try:
            check_hash(path)
            lines.append(f"weights      {path.name}: as released")
        except (WeightsError, OSError) as error:
            problems.append(str(error))
    return lines
