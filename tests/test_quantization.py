"""Quantized chroma: bins that hold the gamut, encoding, and decoding from cautious to vivid."""

import keras
import numpy as np
import pytest
from scipy.special import softmax

from koala_utils import lab, losses, quantization

RNG = np.random.default_rng(0)
CENTERS, SHARES = quantization.bins()


def in_gamut(count):
    return lab.chroma(RNG.random((count, 3)).astype(np.float32)).numpy()


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def test_released_bins_are_those_of_the_gamut():
    assert np.abs(CENTERS * lab.CHROMA_SCALE - quantization.gamut_bins()).max() < 1e-4
    assert SHARES.sum() == pytest.approx(1, abs=1e-5) and (SHARES > 0).all()
    assert (
        np.abs(CENTERS[SHARES.argmax()]).max() <= 10 / lab.CHROMA_SCALE
    )  # photographs are greyish


def test_every_color_is_near_a_bin():
    distance = np.abs(in_gamut(2000)[:, None] - CENTERS).max(-1).min(1)
    assert distance.max() < 5.5 / lab.CHROMA_SCALE


def test_soft_encoding_is_a_gaussian_of_the_distance():
    chroma = in_gamut(50)
    squared = ((chroma[:, None] - CENTERS) ** 2).sum(-1) * lab.CHROMA_SCALE**2
    expected = np.exp(-squared / 50) / np.exp(-squared / 50).sum(-1, keepdims=True)
    got = numpy(quantization.soft_encode(chroma))
    assert got.shape == (50, 261)
    assert np.abs(got - expected).max() < 1e-4
    # Zhang et al. keep five bins; in the inner gamut they hold nearly everything.
    inner = np.abs(chroma).max(-1) < 0.3
    assert np.sort(got[inner])[:, -5:].sum(-1).min() > 0.75


def test_encoded_and_decoded_chroma_comes_back():
    chroma = in_gamut(500)
    back = numpy(quantization.decode(np.log(numpy(quantization.soft_encode(chroma)) + 1e-12)))
    inner = np.abs(chroma).max(-1) < 0.35
    assert inner.sum() > 50
    assert np.abs(back - chroma)[inner].max() * lab.CHROMA_SCALE < 3  # less than a third of a bin
    assert np.abs(back - chroma).mean() * lab.CHROMA_SCALE < 2


def test_shares_are_measured_as_the_mean_encoding():
    batches = [in_gamut(2 * 4 * 4).reshape(2, 4, 4, 2) for _ in range(3)]
    expected = np.mean(
        [numpy(quantization.soft_encode(batch)) for batch in batches], axis=(0, 1, 2, 3)
    )
    assert np.abs(quantization.measure_shares(batches) - expected).max() < 1e-6


def test_rebalancing_is_equation_4_and_one_on_average():
    weights = quantization.rebalancing_weights()
    expected = 1 / (0.5 * SHARES + 0.5 / 261)
    assert np.allclose(weights / weights[0], expected / expected[0], rtol=1e-4)
    assert (weights * SHARES).sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("vividness", [0.0, 0.4, 1.0])
def test_decoding_is_the_strengthened_annealed_mean(vividness):
    logits = RNG.normal(size=(3, 4, 261)).astype(np.float32)
    temperature, strength = 1 - 0.4 * vividness, 1 + 0.6 * vividness
    expected = strength * softmax(logits / temperature, -1) @ CENTERS
    assert np.abs(numpy(quantization.decode(logits, vividness)) - expected).max() < 1e-5


def test_a_rare_colour_that_wins_by_a_hair_leaves_no_stain():
    """Nearly all says grey; the rest is spread over all colours, violet a little ahead."""
    violet = np.abs(CENTERS - np.array([60, -60]) / lab.CHROMA_SCALE).sum(-1).argmin()
    belief = 0.9 * numpy(quantization.soft_encode(np.zeros((1, 2)))) + 0.1 / 261
    belief[0, violet] += 0.01
    for vividness in (0.5, 1.0):
        chroma = numpy(quantization.decode(np.log(belief), vividness)) * lab.CHROMA_SCALE
        assert np.linalg.norm(chroma) < 2


def test_loss_is_least_at_the_truth_s_own_distribution():
    chroma = in_gamut(2 * 8 * 8).reshape(2, 8, 8, 2) * 0.5
    pooled = chroma.reshape(2, 2, 4, 2, 4, 2).mean((2, 4))
    truth = numpy(quantization.soft_encode(pooled))
    entropy = -np.mean(np.sum(truth * np.log(truth + 1e-30), -1))
    best = float(losses.cross_entropy(chroma, np.log(truth + 1e-30)))
    assert best == pytest.approx(entropy, abs=1e-4)
    for _ in range(5):
        worse = np.log(truth + 1e-30) + RNG.normal(0, 0.5, truth.shape)
        assert float(losses.cross_entropy(chroma, worse)) > best
    assert float(losses.cross_entropy(chroma, np.zeros_like(truth))) == pytest.approx(
        np.log(261), abs=1e-4
    )
