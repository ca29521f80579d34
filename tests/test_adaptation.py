"""The classifier learns to see in grey what it sees in colour."""

import numpy as np
import pytest
from helpers import assert_one_sentence

from koala_utils import embedding, training
from koala_utils.backend import keras
from koala_utils.files import BusyError, alone
from koala_utils.training import TrainingError
from koala_utils.weights import load_weights

TINY = {"size": 96, "batch": 4, "verbose": 0}
EPOCHS = 6  # of a single batch each


@pytest.fixture(scope="module")
def adapted(bundled_records, tmp_path_factory):
    run = tmp_path_factory.mktemp("grey")
    return run, *training.adapt(bundled_records, run, epochs=EPOCHS, **TINY)


def test_student_comes_nearer_to_the_teacher(adapted):
    _, _, history = adapted
    losses = [row["loss"] for row in history]
    assert len(losses) == EPOCHS and all(row["val_loss"] > 0 for row in history)
    assert sum(losses[-2:]) / 2 < sum(losses[:2]) / 2


def test_student_keeps_the_statistics_of_the_teacher_and_learns_the_rest(adapted):
    _, student, _ = adapted
    teacher = embedding.load_extractor("mobilenet_v2")
    changed = {
        variable.path.split("/")[-1]
        for variable, old in zip(student.variables, teacher.variables)
        if not np.allclose(variable.numpy(), old.numpy(), atol=1e-7)
    }
    assert "kernel" in changed
    assert not changed & {"moving_mean", "moving_variance", "gamma", "beta"}


def test_weights_fit_the_extractor_of_any_size(adapted):
    run, student, _ = adapted
    full = keras.applications.MobileNetV2(weights=None, classifier_activation=None)
    load_weights(full, run / "mobilenet_v2_grey.safetensors")
    assert np.allclose(full.get_weights()[0], student.get_weights()[0], atol=1e-2)


def test_finished_run_is_found_and_another_request_is_refused(adapted, bundled_records):
    run, _, history = adapted
    _, again = training.adapt(bundled_records, run, epochs=EPOCHS, **TINY)
    assert [row["loss"] for row in again] == pytest.approx([row["loss"] for row in history])
    with pytest.raises(TrainingError):
        training.adapt(bundled_records, run, epochs=EPOCHS, **TINY | {"size": 128})


def test_two_runs_on_one_folder_are_refused_and_so_is_a_batch_that_is_never_full(
    adapted, bundled_records, tmp_path
):
    run, _, _ = adapted
    with alone(run), pytest.raises(BusyError) as error:
        training.adapt(bundled_records, run, epochs=EPOCHS, **TINY)
    assert_one_sentence(error, run.name, "another run")
    with pytest.raises(TrainingError) as error:
        training.adapt(bundled_records, tmp_path / "run", **TINY | {"batch": 1000})
    assert_one_sentence(error, "1000", "smaller batch")
    assert not (tmp_path / "run").exists()


def test_standardized_tensors_equal_standardized_arrays():
    logits = np.random.default_rng(0).normal(3, 2, (4, 1000)).astype(np.float32)
    assert np.allclose(training.standardized(logits), embedding.standardize(logits), atol=1e-4)
