"""Weights on disk: half-precision safetensors, loaded strictly and checked by hash.

The format holds named arrays and nothing that can run, so weights from strangers are only data.
"""

import contextlib
import functools
import hashlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from koala_utils.files import replacing

RELEASED = Path(__file__).parent / "released"


class WeightsError(ValueError):
    """Weights that are missing, damaged or another model's."""


def save_weights(model, path, metadata=None):
    """Writes all weights of a Keras model in half precision, with metadata. No half file is left.

    Raises:
        WeightsError: a weight that half precision cannot hold.
    """
    arrays = {}
    for variable in model.variables:
        values = variable.numpy().astype(np.float32)
        half = values.astype(np.float16)
        if not np.isfinite(half).all():
            raise WeightsError(
                f"{variable.path} does not fit into half precision"
                f" (largest magnitude {np.abs(values).max():.3g}, at most 65504)."
            )
        arrays[variable.path] = half
    with replacing(path) as temporary:
        temporary.write_bytes(save(arrays, {k: str(v) for k, v in (metadata or {}).items()}))


def load_weights(model, path):
    """Loads a file of :func:`save_weights`, which must hold exactly the model's tensors.

    Raises:
        WeightsError: no such file, damaged, wrong hash, or of another architecture.
    """
    with _opened(path) as file:
        wanted = {variable.path: variable for variable in model.variables}
        missing, extra = wanted.keys() - file.keys(), file.keys() - wanted.keys()
        if missing or extra:
            some = sorted(missing or extra)[:3]
            raise WeightsError(
                f"{path}: weights of another architecture than {model.name!r}"
                f" ({len(missing)} tensors missing, {len(extra)} too many: {', '.join(some)}, …)."
            )
        for name, variable in wanted.items():
            values = file.get_tensor(name)
            if values.shape != tuple(variable.shape):
                raise WeightsError(
                    f"{path}: {name} has shape {values.shape}, the model's {tuple(variable.shape)}."
                )
            variable.assign(values.astype(np.float32))


def read_metadata(path):
    """The metadata of weights, a dict of strings; raises the errors of :func:`load_weights`."""
    with _opened(path) as file:
        return file.metadata() or {}


def find_weights(model):
    """The file of a released model ("koala-plus"), or of a path that ends in .safetensors.

    Raises:
        WeightsError: neither.
    """
    if str(model).endswith(".safetensors"):
        return Path(model)
    models = {path.stem: path for path in RELEASED.glob("koala*.safetensors")}
    if str(model) not in models:
        raise WeightsError(
            f"no model is called {str(model)!r}; there are {', '.join(sorted(models))},"
            " or give a .safetensors file."
        )
    return models[str(model)]


@contextlib.contextmanager
def _opened(path):
    """The open file; a released one is checked against SHA256SUMS first."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights.")
    if path.parent == RELEASED:
        check_hash(path)
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except SafetensorError as error:
        raise WeightsError(
            f"{path}: damaged or no weights file ({error}); get it again."
        ) from error


def check_hash(path):
    """Compares a released file with SHA256SUMS, and again only when the file has changed.

    Raises:
        WeightsError: another hash, or a file that is not listed.
    """
    status = path.stat()
    _check_hash(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache
def _check_hash(path, *_):
    sums = dict(line.split()[::-1] for line in (RELEASED / "SHA256SUMS").read_text().splitlines())
    if sums.get(path.name) != hashlib.sha256(path.read_bytes()).hexdigest():
        raise WeightsError(
            f"{path}: not the released file (its SHA-256 differs); install koala_utils again."
        )
