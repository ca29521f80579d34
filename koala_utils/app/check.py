"""`koala check`: what is installed, what is missing, and where things are; to be pasted into a bug report."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys

from koala_utils import downloads

WANTED = "koala_utils"


def requirements():
    """What koala_utils requires: a list of (name, lower bound), from the installed package's metadata."""
    lines = importlib.metadata.requires(WANTED) or []
    plain = [line for line in lines if "extra ==" not in line]
    return [re.match(r"([\w.-]+)\s*(?:>=\s*([\w.]+))?", line).groups() for line in plain]


def check():
    """Lines that describe the environment, and a list of problems, empty where all is well."""
    lines, problems = [], []
    lines.append(f"koala_utils  {importlib.metadata.version(WANTED)}")
    lines.append(f"Python       {platform.python_version()} ({sys.executable})")
    lines.append(f"system       {platform.platform()}")
    for name, bound in requirements():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"{name} is missing; run: make setup")
            continue
        lines.append(f"  {name:<18} {version}")
        if bound and _numbers(version) < _numbers(bound):
            problems.append(f"{name} {version} is older than {bound}; run: make setup")
    lines.extend(_hardware(problems))
    folder = downloads.data_dir()
    state = "exists" if folder.is_dir() else "not there yet"
    lines.append(f"cache folder {folder} ({state}; set KOALA_DATA_DIR to change it)")
    lines.extend(_weights(problems))
    return lines, problems


def _numbers(version):
    return [int(part) for part in re.findall(r"\d+", version)[:3]]


def _hardware(problems):
    try:
        # After the table of versions, which is needed most when this import fails.
        from koala_utils.backend import tf
        from koala_utils.training import best_dtype, machine
    except Exception as error:
        problems.append(
            f"TensorFlow cannot be imported ({type(error).__name__}: {error}); run: make setup"
        )
        return []
    gpus = len(tf.config.list_physical_devices("GPU"))
    free = shutil.disk_usage(os.getcwd()).free / 1e9
    return [
        f"hardware     {machine()}",
        f"GPUs         {gpus}",
        f"trains in    {best_dtype()}",
        f"free disk    {free:.0f} GB",
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
