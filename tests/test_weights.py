"""Weights on disk: what was saved comes back, and nothing else is taken for it."""

import hashlib
import json
import struct

import keras
import numpy as np
import pytest
from helpers import assert_one_sentence, files_in, full_disk
from safetensors.numpy import save_file

from koala_utils import weights
from koala_utils.weights import WeightsError, load_weights, read_metadata, save_weights


def tiny(units=3, seed=0, extra=False):
    """A model of a few weights, with some that are not trained."""
    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input((5,))
    x = keras.layers.BatchNormalization(name="norm")(keras.layers.Dense(units, name="first")(x))
    if extra:
        x = keras.layers.Dense(2, name="second")(x)
    return keras.Model(inputs, x, name="tiny")


def values(model):
    return {
        variable.path: keras.ops.convert_to_numpy(variable).copy() for variable in model.variables
    }


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_weights(tiny(seed=1), path, {"epochs": 3, "extractor": "mobilenet_v2"})
    return path


def test_weights_come_back_in_half_precision_with_their_metadata(saved):
    model = tiny(seed=2)
    load_weights(model, saved)
    assert read_metadata(saved) == {"epochs": "3", "extractor": "mobilenet_v2"}
    expected = {
        key: value.astype(np.float16).astype(np.float32)
        for key, value in values(tiny(seed=1)).items()
    }
    assert same(values(model), expected)
    assert saved.stat().st_size < 2 * sum(v.size for v in expected.values()) + 1000


@pytest.mark.parametrize(
    "model, reason", [(tiny(extra=True), "2 tensors missing"), (tiny(units=4), "shape")]
)
def test_weights_of_another_architecture_are_refused_and_change_nothing(saved, model, reason):
    before = values(model)
    with pytest.raises(WeightsError) as error:
        load_weights(model, saved)
    assert_one_sentence(error, saved, reason)
    assert same(values(model), before)


def test_too_many_weights_are_refused(tmp_path):
    save_weights(tiny(extra=True), tmp_path / "more.safetensors")
    with pytest.raises(WeightsError) as error:
        load_weights(tiny(), tmp_path / "more.safetensors")
    assert_one_sentence(error, "more.safetensors", "2 too many", "second/")


@pytest.mark.parametrize(
    "content",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: whole[:5],
        lambda whole: b"",
        lambda whole: b"this is not a weights file, but prose " * 10,
        lambda whole: whole + b"more",
        lambda whole: struct.pack("<Q", 2**40) + whole[8:],
    ],
    ids=["half", "last byte", "five bytes", "empty", "text", "too long", "header"],
)
def test_damaged_file_is_refused(saved, content):
    saved.write_bytes(content(saved.read_bytes()))
    with pytest.raises(WeightsError) as error:
        load_weights(tiny(), saved)
    assert str(saved) in str(error.value)


def test_missing_file_and_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(WeightsError) as error:
            load_weights(tiny(), path)
        assert_one_sentence(error, path)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("value", [1e5, -7e4, np.inf, np.nan])
def test_value_that_half_precision_cannot_hold_is_refused(tmp_path, value):
    model = tiny()
    model.get_layer("first").kernel.assign(np.full((5, 3), value))
    with pytest.raises(WeightsError) as error:
        save_weights(model, tmp_path / "a.safetensors")
    assert_one_sentence(error, "first/kernel")
    assert files_in(tmp_path) == []


def test_full_disk_leaves_the_old_weights_and_no_half_ones(saved):
    before = saved.read_bytes()
    with full_disk(bytes_left=200), pytest.raises(OSError):
        save_weights(tiny(seed=3), saved)
    assert saved.read_bytes() == before
    assert files_in(saved.parent) == [saved.name]


# ---------------------------------------------------------------- released weights


@pytest.fixture
def released(monkeypatch, tmp_path, saved):
    """A `released` folder of one file, listed in its SHA256SUMS."""
    monkeypatch.setattr(weights, "RELEASED", tmp_path)
    (tmp_path / "SHA256SUMS").write_text(
        f"{hashlib.sha256(saved.read_bytes()).hexdigest()}  {saved.name}\n"
    )
    return saved


def test_released_file_of_the_right_hash_is_loaded(released):
    load_weights(tiny(), released)
    assert read_metadata(released)["epochs"] == "3"


def test_released_file_of_another_hash_is_refused(released):
    save_weights(
        tiny(seed=4), released
    )  # whole, of the right architecture, and not the released one
    with pytest.raises(WeightsError) as error:
        load_weights(tiny(), released)
    assert "SHA-256" in str(error.value) and released.name in str(error.value)


def test_file_that_is_not_listed_is_refused(released):
    save_weights(tiny(), released.with_name("other.safetensors"))
    with pytest.raises(WeightsError):
        load_weights(tiny(), released.with_name("other.safetensors"))


def test_files_of_the_package_are_the_listed_ones():
    lines = (weights.RELEASED / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split() for line in lines)}
    assert listed.keys() == {path.name for path in weights.RELEASED.glob("*.safetensors")}
    assert {"koala.safetensors", "koala-plus.safetensors"} <= listed.keys()
    for name, digest in listed.items():
        assert hashlib.sha256((weights.RELEASED / name).read_bytes()).hexdigest() == digest
        weights.check_hash(weights.RELEASED / name)


def test_released_weights_are_small_and_in_half_precision():
    paths = list(weights.RELEASED.glob("*.safetensors"))
    assert sum(path.stat().st_size for path in paths) < 60e6
    for path in paths:
        with path.open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        assert {entry["dtype"] for key, entry in header.items() if key != "__metadata__"} == {"F16"}


def test_weights_are_found_by_a_released_model_s_name_or_a_path(tmp_path):
    assert weights.find_weights("koala-plus") == weights.RELEASED / "koala-plus.safetensors"
    path = tmp_path / "mine.safetensors"
    assert weights.find_weights(path) == weights.find_weights(str(path)) == path
    for other in ("wombat", tmp_path / "mine.h5"):
        with pytest.raises(WeightsError) as error:
            weights.find_weights(other)
        assert_one_sentence(error, other, "koala-plus")


def test_weights_of_full_precision_are_loaded_too(tmp_path):
    model = tiny(seed=5)
    save_file(values(model), tmp_path / "full.safetensors")
    other = tiny(seed=6)
    load_weights(other, tmp_path / "full.safetensors")
    assert same(values(other), values(model))
