"""The classifier's view of colours, as a loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from koala_utils import film, lab
from koala_utils.downloads import BUNDLED
from koala_utils.losses import perceptual_distance
from koala_utils.photos import crop_square, read_photo, resize_short_side

SIZE = 96


@pytest.fixture(scope="module")
def distance():
    return perceptual_distance(SIZE)


@pytest.fixture(scope="module")
def photo():
    """Lightness and true chroma of two photographs."""
    rgb = np.stack(
        [
            resize_short_side(crop_square(read_photo(BUNDLED / "color" / name)), SIZE)
            / np.float32(255)
            for name in ("coffee.png", "chelsea.png")
        ]
    )
    return lab.lightness(film.to_grey(rgb)), lab.chroma(rgb)


def test_the_same_colors_are_no_distance_apart(distance, photo):
    lightness, chroma = photo
    assert float(distance(lightness, chroma, chroma)) == pytest.approx(0, abs=1e-6)


def test_colors_further_from_the_truth_look_more_different(distance, photo):
    lightness, chroma = photo
    nearly, grey, swapped = (
        float(distance(lightness, other, chroma))
        for other in (chroma * 0.9, chroma * 0, chroma[..., ::-1])
    )
    assert 0 < nearly < min(grey, swapped)


def test_gradients_reach_the_colors_and_lead_towards_the_truth(distance, photo):
    lightness, chroma = photo
    guess = tf.Variable(chroma * 0.3)
    before = float(distance(lightness, guess, chroma))
    adam = keras.optimizers.Adam(0.01)
    for _ in range(5):
        with tf.GradientTape() as tape:
            loss = distance(lightness, guess, chroma)
        adam.apply_gradients([(tape.gradient(loss, guess), guess)])
    assert np.isfinite(guess.numpy()).all()
    assert float(distance(lightness, guess, chroma)) < 0.95 * before
