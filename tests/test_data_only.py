"""Weights and records are data: nothing in them runs, whoever made them."""

import ast
import io
import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_one_sentence, make_photo, save
from safetensors.numpy import load_file

from koala_utils import colorize, records, training
from koala_utils.weights import WeightsError, load_weights

PACKAGE = Path(training.__file__).parent
FORBIDDEN = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "torch",
    "eval",
    "exec",
    "compile_command",
    "load_model",
    "model_from_json",
    "enable_unsafe_deserialization",
    "Lambda",
}


class Hostile:
    """Unpickled, it writes a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def test_hostile_pickle_does_what_these_tests_look_for(tmp_path):
    pickle.loads(pickle.dumps(Hostile(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


def hostile_files(mark):
    """Files of every kind that some loader of weights runs."""
    pickled = pickle.dumps(Hostile(mark))
    array, archive, keras_file = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(array, np.array([Hostile(mark)], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(archive, "w") as file:  # as PyTorch's
        file.writestr("archive/data.pkl", pickled)
    layer = {
        "class_name": "Lambda",
        "config": {"function": {"class_name": "__lambda__", "config": {"code": "4wAAAAAAAAAA"}}},
    }
    with zipfile.ZipFile(keras_file, "w") as file:
        file.writestr(
            "config.json", json.dumps({"class_name": "Sequential", "config": {"layers": [layer]}})
        )
        file.writestr("metadata.json", "{}")
    header = json.dumps({"__metadata__": {"model": "__import__('os').system('x')"}}).encode()
    return {
        "pickle": pickled,
        "npy": array.getvalue(),
        "torch": archive.getvalue(),
        "keras": keras_file.getvalue(),
        "safetensors": len(header).to_bytes(8, "little") + header,
    }


@pytest.mark.parametrize("kind", ["pickle", "npy", "torch", "keras", "safetensors"])
def test_hostile_weights_are_refused_and_nothing_in_them_runs(tmp_path, bundled_records, kind):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(hostile_files(tmp_path / "mark")[kind])
    dense = training.keras.Sequential([training.keras.Input((2,)), training.keras.layers.Dense(1)])
    for use in (
        lambda: colorize(make_photo(), path),
        lambda: load_weights(dense, path),
        lambda: training.train(
            bundled_records, tmp_path / "run", start_from=path, crop=32, batch=2, verbose=0
        ),
    ):
        with pytest.raises(WeightsError) as error:
            use()
        assert str(path) in str(error.value)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["weights.keras", "weights.h5", "weights.npy", "weights.pkl"])
def test_only_safetensors_are_taken_for_weights(tmp_path, name):
    (tmp_path / name).write_bytes(hostile_files(tmp_path / "mark")["keras"])
    with pytest.raises(WeightsError) as error:
        colorize(make_photo(), tmp_path / name)
    assert_one_sentence(error, name, ".safetensors")
    assert not (tmp_path / "mark").exists()


def test_hostile_checkpoint_and_hostile_records_are_refused(tmp_path, bundled_records, watched):
    run = shutil.copytree(watched[0] / "run", tmp_path / "run")
    (run / "checkpoint-0002.weights.h5").write_bytes(hostile_files(tmp_path / "mark")["pickle"])
    with pytest.raises(training.TrainingError) as error:
        training.train(bundled_records, run, 3, crop=32, batch=2, dtype="float32", verbose=0)
    assert "checkpoint-0002.weights.h5" in str(error.value)
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "manifest.json").write_bytes(hostile_files(tmp_path / "mark")["pickle"])
    with pytest.raises(ValueError) as error:
        records.manifest_of(tmp_path / "records")
    assert "manifest.json" in str(error.value)
    assert not (tmp_path / "mark").exists()


WATCHED = """
import pickle, sys
from pathlib import Path
seen = []
from koala_utils import colorizer, downloads, photos, records, training
from koala_utils.embedding import embed

sys.addaudithook(lambda event, arguments: seen.append((event, arguments)) if event in (
    "pickle.find_class", "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn") else None)
folder, source = Path(sys.argv[1]), sys.argv[2]
records.prepare(source, folder / "records", size=40, validation_share=0.4, progress=False)
options = {"crop": 32, "batch": 2, "dtype": "float32", "verbose": 0}
training.train(folder / "records", folder / "run", epochs=1, **options)
# resumed from the checkpoint
training.train(folder / "records", folder / "run", epochs=2, **options)
for model in ("koala-plus", folder / "run" / "koala.safetensors"):
    photo = photos.read_photo(downloads.find_photos(source)[0])
    photos.save_photo(colorizer.colorize(photo, model), folder / "colored.png")
print("seen", seen)
pickle.loads(pickle.dumps(Path("a")))
print("awake", bool(seen))
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A folder with all that `WATCHED` made, and what it printed."""
    folder = tmp_path_factory.mktemp("watched")
    for seed in range(8):
        save(make_photo(seed), folder / "photos" / f"{seed}.png")
    command = [sys.executable, "-c", WATCHED, folder, folder / "photos"]
    return folder, subprocess.run(command, capture_output=True, text=True)


def test_nothing_is_unpickled_and_no_program_started_from_the_photograph_to_the_color(watched):
    folder, done = watched
    assert done.stdout.splitlines()[-2:] == ["seen []", "awake True"], done.stdout + done.stderr
    assert load_file(folder / "run" / "koala.safetensors")


def test_package_names_nothing_that_runs_data():
    for path in PACKAGE.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        names |= {
            alias.name.split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in node.names
        }
        keywords = {
            keyword.arg
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            for keyword in node.keywords
        }
        assert not (names & FORBIDDEN) and not (
            keywords & {"allow_pickle", "safe_mode", "custom_objects"}
        ), path
