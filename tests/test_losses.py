"""The losses: their values where these are known."""

import numpy as np
import pytest

from koala_utils.losses import ab_error, agreement, cross_entropy, distillation, loss_for
from koala_utils.network import chroma_of

RNG = np.random.default_rng(0)
TRUTH = RNG.uniform(-0.5, 0.5, (2, 16, 24, 2)).astype(np.float32)
LOGITS = (2 * RNG.normal(size=(2, 4, 6, 261))).astype(np.float32)


def test_squared_error_adds_to_koala_plus_s_cross_entropy_with_its_weight():
    without, with_it = (
        float(loss_for({"model": "koala-plus", "mean_error": weight})(TRUTH, LOGITS))
        for weight in (0.0, 100.0)
    )
    error = np.mean((chroma_of(LOGITS) - TRUTH) ** 2)
    assert without == pytest.approx(float(cross_entropy(TRUTH, LOGITS)))
    assert float(ab_error(TRUTH, LOGITS)) == pytest.approx(error, rel=1e-5)
    assert with_it == pytest.approx(without + 100 * error, rel=1e-5)


def test_koala_s_loss_is_the_squared_error_of_chroma():
    loss = loss_for({"model": "koala", "mean_error": 0.0})
    assert float(loss(TRUTH, TRUTH)) == 0
    assert float(loss(TRUTH, TRUTH + np.float32(0.1))) == pytest.approx(0.01, rel=1e-3)


def test_distillation_is_least_for_the_teacher_itself():
    teacher = np.random.default_rng(1).normal(size=(4, 2280)).astype(np.float32)
    assert float(distillation(teacher, teacher)) == pytest.approx(0, abs=1e-5)
    assert np.allclose(agreement(teacher, teacher), 1, atol=1e-4)
    worse = [
        teacher + np.float32(scale) * np.random.default_rng(2).normal(size=teacher.shape)
        for scale in (0.5, 1)
    ]
    near, far = (float(distillation(teacher, each.astype(np.float32))) for each in worse)
    assert 0.1 < near < far
    assert np.all(np.array(agreement(teacher, worse[1].astype(np.float32))) < 0.9)
    features = teacher.copy()
    features[:, 1000:] *= -1  # the features alone: their cosine distance is 2
    assert float(distillation(teacher, features)) == pytest.approx(2, abs=1e-3)
