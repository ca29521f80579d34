"""Small photographs and measures that several test modules use."""

import contextlib
import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TINY = {"crop": 32, "batch": 4, "dtype": "float32", "verbose": 0}  # of a training


def make_photo(seed=0, height=48, width=64):
    """A smooth photograph of vivid random colours, uint8 (height, width, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.BICUBIC))


def make_noise(seed=0, height=48, width=64):
    """Random pixels, which no format compresses well, uint8 (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def differ_by_rounding_at_most(one, other):
    """Whether two colourings are equal but for the last bit: oneDNN's sums have no fixed order."""
    return np.abs(one.astype(int) - other).max() <= 1


def save(array, path, **options):
    """Writes an array with Pillow: the package's reader is tested against another writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def assert_one_sentence(error, *parts):
    """The message is one readable sentence that holds all parts, and no traceback."""
    message = str(error.value if hasattr(error, "value") else error)
    for part in parts:
        assert str(part) in message
    assert message.endswith(".")
    assert "\n" not in message and "Traceback" not in message
    assert not re.search(r"\. [A-Z]", message)
    assert len(message.split()) >= 4


def files_in(folder):
    """The names of all files in a folder and below, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@contextlib.contextmanager
def full_disk(bytes_left):
    """Within the block no file grows beyond `bytes_left`: writing fails as on a full disk."""
    resource = pytest.importorskip("resource", reason="this system cannot limit the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# ---------------------------------------------------------------- other processes, to be killed


def command(arguments, environment, log=os.devnull, per_shard=512, before=None):
    """In a process of its own: `koala …` with float32 training and `per_shard` photographs a shard.

    What it prints goes to the file `log`; its peak of memory, in bytes, goes to `log`.memory.
    """
    from koala_utils import records, training
    from koala_utils.app import cli

    os.environ.update(environment)
    with Path(log).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    records.PHOTOS_PER_SHARD, training.best_dtype = per_shard, lambda: "float32"
    if before:
        before()
    status = cli.main([str(argument) for argument in arguments])
    sys.stdout.flush()
    if log != os.devnull:
        import resource

        Path(f"{log}.memory").write_text(
            str(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        )
    os._exit(status)


def start(*arguments, **options):
    """Starts :func:`command` in a process forked off one that has TensorFlow loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["koala_utils.training", "koala_utils.colorizer"])
    process = context.Process(target=command, args=(arguments, dict(os.environ)), kwargs=options)
    process.start()
    return process


def finish(*arguments, **options):
    """Runs :func:`command` to its end: the exit status."""
    process = start(*arguments, **options)
    process.join()
    return process.exitcode


@contextlib.contextmanager
def small_disk(folder, size):
    """Within the block the folder is a disk of `size` bytes; skips where none may be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def enlarge(folder, size):
    _mount("-o", f"remount,size={size}", folder)


@contextlib.contextmanager
def read_only(folder):
    """Within the block nobody may write into the folder; for the superuser it is mounted so."""
    if os.geteuid():
        folder.chmod(0o555)
        yield
        folder.chmod(0o755)
        return
    _mount("--bind", folder, folder)
    try:
        _mount("-o", "remount,bind,ro", folder)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _mount(*arguments):
    try:
        done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("this system has no mount")
    if done.returncode:
        pytest.skip(f"no disk may be mounted here ({done.stderr.strip()})")
