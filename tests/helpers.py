"""Small photographs and measures that several test modules use."""

import contextlib
import re

import numpy as np
import pytest
from PIL import Image


def make_photo(seed=0, height=48, width=64):
    """A smooth photograph of vivid random colours, uint8 (height, width, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.BICUBIC))


def make_noise(seed=0, height=48, width=64):
    """Random pixels, which no format compresses well, uint8 (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(array, path, **options):
    """Writes an array with Pillow itself, so that the package's reader is tested against another writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def assert_one_sentence(error, *parts):
    """The message is one readable sentence that holds all parts, not a traceback or a decoder's dump."""
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
    """Within the block no file grows beyond `bytes_left`: the write fails as it does on a full disk."""
    resource = pytest.importorskip("resource", reason="this system cannot limit the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
