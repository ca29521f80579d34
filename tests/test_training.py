"""Training: a run begins, goes on as if never stopped, and refuses what it cannot do."""

import json
import shutil
import types

import keras
import numpy as np
import pytest
from helpers import TINY, assert_one_sentence, files_in, make_photo, save
from PIL import Image
from safetensors.numpy import load_file

from koala_utils import embedding, records, training
from koala_utils.embedding import load_extractor
from koala_utils.files import BusyError, alone
from koala_utils.network import build_network, chroma_of
from koala_utils.training import TrainingError, train
from koala_utils.weights import WeightsError, load_weights, read_metadata


class Stop(keras.callbacks.Callback):
    """Interrupts a run at the end of an epoch, before its checkpoint."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.epoch:
            raise KeyboardInterrupt


def test_run_leaves_all_its_files(finished):
    run, _, _ = finished
    names = files_in(run)
    for name in (
        "config.json",
        "history.csv",
        "checkpoint-0001.weights.h5",
        "checkpoint-0002.weights.h5",
        "samples/epoch-0001.jpg",
        "samples/epoch-0002.jpg",
        "koala.safetensors",
    ):
        assert name in names
    assert any(name.startswith("tensorboard/") for name in names)
    assert not any("tmp" in name for name in names)


def test_history_has_one_line_per_epoch_with_the_ratio_to_grey(finished, bundled_records):
    run, network, history = finished
    assert [row["epoch"] for row in history] == [1, 2]
    assert training.read_history(run) == training.read_history(run / "history.csv")
    for row, read in zip(history, training.read_history(run)):
        assert {"epoch", "loss", "val_loss", "val_ratio", "seconds"} <= row.keys()
        assert read == pytest.approx(row)
    (light, vector), truth = next(
        records.validation_batches(bundled_records, 32).as_numpy_iterator()
    )
    error = np.mean((chroma_of(network([light, vector], training=False)) - truth) ** 2)
    assert history[-1]["val_ratio"] == pytest.approx(error / np.mean(truth**2), rel=1e-3)


def test_trained_weights_are_loaded_with_how_they_were_made(finished):
    run, trained, _ = finished
    network = build_network()
    load_weights(network, run / "koala.safetensors")
    metadata = read_metadata(run / "koala.safetensors")
    assert (metadata["extractor"], metadata["epochs"], metadata["crop"]) == (
        embedding.DEFAULT,
        "2",
        "32",
    )
    for one, other in zip(network.get_weights(), trained.get_weights()):
        assert np.abs(one - other).max() < 1e-3


def test_fewer_epochs_than_are_done_change_nothing(finished, bundled_records, tmp_path):
    run = shutil.copytree(finished[0], tmp_path / "run")
    _, history = train(bundled_records, run, epochs=1, **TINY)
    assert len(history) == 2
    assert read_metadata(run / "koala.safetensors")["epochs"] == "2"


def test_checkpoints_are_counted_as_numbers(tmp_path):
    for epochs in (10_000, 9_999, 2):
        (tmp_path / f"checkpoint-{epochs:04d}.weights.h5").touch()
    assert list(training.checkpoints_of(tmp_path)) == [2, 9_999, 10_000]


def test_error_is_of_each_photograph_where_the_last_batch_is_not_full(finished):
    _, network, _ = finished
    dice = np.random.default_rng(0)
    light, vector = dice.uniform(-1, 1, (6, 32, 32, 1)), dice.normal(size=(6, 1000))
    truth = dice.uniform(-1, 1, (6, 32, 32, 2)) * np.linspace(0, 1, 6)[:, None, None, None]
    arrays = [array.astype(np.float32) for array in (light, vector, truth)]
    measured = network.evaluate(arrays[:2], arrays[2], batch_size=4, verbose=0, return_dict=True)
    output = chroma_of(network(arrays[:2], training=False))
    error = np.mean((output - arrays[2]) ** 2)
    assert measured["ab_error"] == pytest.approx(error, rel=1e-4)


def test_summary_says_what_is_worse_than_no_colour(tmp_path):
    network = types.SimpleNamespace(
        name="koala", optimizer=types.SimpleNamespace(iterations=np.array(4))
    )
    good = training.summary(network, [{"val_ratio": 0.8}], tmp_path)
    assert "0.800 of grey's" in good and "koala.safetensors" in good and "worse" not in good
    for ratio in (4.732, float("nan")):
        bad = training.summary(network, [{"val_ratio": ratio}, {"val_ratio": ratio}], tmp_path)
        assert "worse than no colour" in bad and "more epochs" in bad and "only 2 steps" in bad
    network.optimizer.iterations = np.array(1000)
    assert "steps" not in training.summary(network, [{"val_ratio": 1.2}], tmp_path)


def test_released_model_is_fine_tuned_unless_asked_otherwise(finished):
    options = training.complete({}, "koala-plus")
    assert (options["model"], options["crop"]) == ("koala-plus", 96)
    assert options["learning_rate"] == 1e-4
    options = training.complete({"learning_rate": 1e-3}, "koala-plus")
    assert options["learning_rate"] == 1e-3
    own = training.complete({}, finished[0] / "koala.safetensors")
    assert own == training.DEFAULTS  # another run's: trained on as usual


def test_samples_show_grey_output_and_truth(finished):
    sheet = np.asarray(Image.open(finished[0] / "samples" / "epoch-0002.jpg")).astype(int)
    assert sheet.shape == (3 * 32, 2 * 32, 3)
    spread = (sheet.max(-1) - sheet.min(-1)).reshape(3, 32, 64).mean((1, 2))
    assert spread[0] < 3 < 10 < spread[2]


def test_interrupted_run_goes_on_as_if_never_stopped(finished, bundled_records, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(bundled_records, tmp_path, epochs=2, callbacks=[Stop(2)], **TINY)
    assert [row["epoch"] for row in training.read_history(tmp_path)] == [1]
    assert not (tmp_path / "koala.safetensors").exists()
    network, history = train(bundled_records, tmp_path, epochs=2, **TINY)
    _, whole, expected = finished
    assert len(history) == 2
    for row, other in zip(history, expected):
        for key in ("epoch", "loss", "val_loss", "val_ratio"):
            assert row[key] == pytest.approx(other[key], abs=1e-6)
    for one, other in zip(network.get_weights(), whole.get_weights()):
        assert np.abs(one - other).max() < 1e-4


def test_damaged_checkpoint_is_named(bundled_records, finished, tmp_path):
    run, _, _ = finished
    for name in ("config.json", "history.csv"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    (tmp_path / "checkpoint-0001.weights.h5").write_bytes(
        (run / "checkpoint-0001.weights.h5").read_bytes()[:10_000]
    )
    with pytest.raises(TrainingError) as error:
        train(bundled_records, tmp_path, epochs=2, **TINY)
    assert str(tmp_path / "checkpoint-0001.weights.h5") in str(error.value)


def test_finished_run_keeps_its_averaged_weights(bundled_records, tmp_path):
    options = TINY | {"average": 0.9, "epochs": 2, "learning_rate": 1e-2}
    train(bundled_records, tmp_path, **options)
    averaged = load_file(tmp_path / "koala.safetensors")
    train(bundled_records, tmp_path, **options)  # nothing is left to do
    again = load_file(tmp_path / "koala.safetensors")
    assert all(np.array_equal(averaged[name], again[name]) for name in averaged)


def test_loss_falls_and_other_weights_can_be_started_from(finished, bundled_records, tmp_path):
    start = finished[0] / "koala.safetensors"
    options = TINY | {"batch": 6, "passes": 4, "schedule": "cosine", "start_from": start}
    network, history = train(bundled_records, tmp_path, epochs=4, **options)
    assert int(network.optimizer.iterations) == 4 * 4
    losses = [row["loss"] for row in history]
    assert losses[-1] < 0.95 * losses[0]
    assert history[-1]["val_ratio"] < 1.1
    assert [path.name for path in sorted(tmp_path.glob("checkpoint-*"))] == [
        "checkpoint-0003.weights.h5",
        "checkpoint-0004.weights.h5",
    ]


# ---------------------------------------------------------------- koala-plus


@pytest.fixture(scope="module")
def plus(bundled_records, tmp_path_factory):
    """A run of koala-plus: its folder, network and history."""
    run = tmp_path_factory.mktemp("plus")
    options = TINY | {"model": "koala-plus", "batch": 6, "passes": 4, "mean_error": 10.0}
    return run, *train(bundled_records, run, epochs=2, **options)


def test_koala_plus_s_decoder_learns_behind_the_classifier(plus):
    run, network, history = plus
    assert history[-1]["loss"] < history[0]["loss"]
    assert all(0 < row["val_ab_error"] < 1 and row["val_ratio"] > 0 for row in history)
    saved = run / "koala-plus.safetensors"
    assert read_metadata(saved)["model"] == "koala-plus"
    assert saved.stat().st_size < 4e6  # the decoder alone
    encoder, classifier = network.get_layer("encoder"), load_extractor(embedding.DEFAULT)
    for one, other in zip(encoder.get_weights(), classifier.get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_koala_plus_s_validation_is_its_cautious_chroma_s(plus, bundled_records):
    _, network, history = plus
    batches = records.validation_batches(bundled_records, 32).as_numpy_iterator()
    (light, vector), truth = next(batches)
    error = np.mean((chroma_of(network([light, vector], training=False)) - truth) ** 2)
    assert history[-1]["val_ratio"] == pytest.approx(error / np.mean(truth**2), rel=1e-3)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "other", [{"crop": 40}, {"batch": 3}, {"fusion": False}, {"seed": 1}, {"learning_rate": 1e-4}]
)
def test_other_options_on_the_same_run_are_refused(finished, bundled_records, other):
    with pytest.raises(TrainingError) as error:
        train(bundled_records, finished[0], epochs=3, **TINY | other)
    assert_one_sentence(error, finished[0], next(iter(other)))


def test_fewer_photographs_than_a_batch_are_refused(bundled_records, tmp_path):
    with pytest.raises(TrainingError) as error:
        train(bundled_records, tmp_path, epochs=1, **TINY | {"batch": 7})
    assert_one_sentence(error, bundled_records, "7")
    assert files_in(tmp_path) == []


def test_records_without_validation_are_refused_with_the_way_out(tmp_path):
    for seed in range(4):
        save(make_photo(seed), tmp_path / "photos" / f"{seed}.png")
    records.prepare(
        tmp_path / "photos", tmp_path / "records", size=40, validation_share=0.0, progress=False
    )
    with pytest.raises(ValueError) as error:
        train(tmp_path / "records", tmp_path / "run", epochs=1, **TINY)
    assert str(tmp_path / "records") in str(error.value) and "validation" in str(error.value)


def test_unknown_option_is_refused_with_the_known_ones(bundled_records, tmp_path):
    with pytest.raises(TrainingError) as error:
        train(bundled_records, tmp_path, epochs=1, momentum=0.9, **TINY)
    assert_one_sentence(error, "momentum", "learning_rate")


@pytest.mark.parametrize(
    "wrong, kind",
    [
        ({"schedule": "linear"}, TrainingError),
        ({"crop": 30}, TrainingError),
        ({"model": "wombat"}, TrainingError),
        ({"model": "koala", "mean_error": 1.0}, TrainingError),
        ({"start_from": "nowhere.safetensors"}, WeightsError),
        ({"start_from": "wombat"}, WeightsError),
        ({"learning_rate": float("nan")}, TrainingError),
        ({"learning_rate": -1}, TrainingError),
        ({"learning_rate": float("inf")}, TrainingError),
        ({"mean_error": float("nan"), "model": "koala-plus"}, TrainingError),
        ({"mean_error": -2.0, "model": "koala-plus"}, TrainingError),
        ({"average": 1.0}, TrainingError),
        ({"passes": 0}, TrainingError),
    ],
)
def test_refused_request_is_one_sentence_and_does_not_claim_the_folder(
    bundled_records, tmp_path, wrong, kind
):
    with pytest.raises(kind) as error:
        train(bundled_records, tmp_path, epochs=1, **TINY | wrong)
    assert_one_sentence(error, next(iter(wrong.values())))
    assert not (tmp_path / "config.json").exists()


def test_folder_without_records_is_refused(tmp_path):
    with pytest.raises(records.RecordsError):
        train(tmp_path, tmp_path / "run", epochs=1, **TINY)


def test_config_tells_what_was_asked_for(finished):
    config = json.loads((finished[0] / "config.json").read_text())
    assert {key: config[key] for key in ("crop", "batch", "extractor", "fusion")} == {
        "crop": 32,
        "batch": 4,
        "extractor": embedding.DEFAULT,
        "fusion": True,
    }
    assert set(training.DEFAULTS) <= config.keys()


# ---------------------------------------------------------------- adaptation of the classifier

SMALL = {"size": 64, "batch": 4, "verbose": 0}
ADAPTED_EPOCHS = 4  # of a single batch each


@pytest.fixture(scope="module")
def adapted(bundled_records, tmp_path_factory):
    run = tmp_path_factory.mktemp("grey")
    return run, *training.adapt(bundled_records, run, epochs=ADAPTED_EPOCHS, **SMALL)


def test_student_comes_nearer_to_the_teacher(adapted):
    _, _, history = adapted
    losses = [row["loss"] for row in history]
    assert len(losses) == ADAPTED_EPOCHS and all(row["val_agreement"] < 1 for row in history)
    assert sum(losses[-2:]) / 2 < sum(losses[:2]) / 2


def test_weights_fit_the_extractor_of_any_size(adapted):
    run, student, _ = adapted
    full = embedding.classifier_for(260)
    before = full.get_weights()[0]
    load_weights(full, run / f"{embedding.DEFAULT}.safetensors")
    assert np.allclose(full.get_weights()[0], student.get_weights()[0], atol=1e-2)
    assert not np.array_equal(full.get_weights()[0], before)


def test_finished_run_is_found_and_another_request_is_refused(adapted, bundled_records):
    run, _, history = adapted
    assert "agreement" in training.summary(None, history, run)
    _, again = training.adapt(bundled_records, run, epochs=ADAPTED_EPOCHS, **SMALL)
    assert [row["loss"] for row in again] == pytest.approx([row["loss"] for row in history])
    with pytest.raises(TrainingError):
        training.adapt(bundled_records, run, epochs=ADAPTED_EPOCHS, **SMALL | {"size": 128})


def test_two_runs_on_one_folder_are_refused_and_so_is_a_batch_that_is_never_full(
    adapted, bundled_records, tmp_path
):
    run, _, _ = adapted
    with alone(run), pytest.raises(BusyError) as error:
        training.adapt(bundled_records, run, epochs=ADAPTED_EPOCHS, **SMALL)
    assert_one_sentence(error, run.name, "another run")
    with pytest.raises(TrainingError) as error:
        training.adapt(bundled_records, tmp_path / "run", **SMALL | {"batch": 1000})
    assert_one_sentence(error, "1000", "smaller batch")
    assert not (tmp_path / "run").exists()


def test_standardized_tensors_equal_standardized_arrays():
    logits = np.random.default_rng(0).normal(3, 2, (4, 1000)).astype(np.float32)
    assert np.allclose(embedding.standardized(logits), embedding.standardize(logits), atol=1e-4)


def test_adaptation_refuses_numbers_that_make_no_sense(bundled_records, tmp_path):
    for wrong in ({"learning_rate": float("nan")}, {"learning_rate": -1}, {"epochs": 0}):
        with pytest.raises(TrainingError) as error:
            training.adapt(bundled_records, tmp_path / "run", **SMALL | wrong)
        assert_one_sentence(error, next(iter(wrong.values())))
    assert not (tmp_path / "run").exists()
