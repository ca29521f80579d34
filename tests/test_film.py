"""The grey photographs of films."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import make_photo

from koala_utils import film

PHOTO = make_photo(1, 16, 24) / np.float32(255)


@pytest.mark.parametrize("response", [film.PANCHROMATIC, film.ORTHOCHROMATIC, film.BLUE_SENSITIVE])
def test_primaries_show_the_response_and_white_stays_white(response):
    assert np.allclose(film.to_grey(np.eye(3, dtype=np.float32), response).numpy()[:, 0], response)
    assert float(film.to_grey([1.0, 1.0, 1.0], response)[0]) == pytest.approx(1, abs=1e-6)


def test_panchromatic_film_is_the_luma_of_bt_601():
    expected = 0.299 * PHOTO[..., :1] + 0.587 * PHOTO[..., 1:2] + 0.114 * PHOTO[..., 2:]
    assert np.abs(film.to_grey(PHOTO).numpy() - expected).max() < 1e-6


def test_red_is_darker_and_blue_lighter_on_older_film():
    red, _, blue = np.eye(3, dtype=np.float32)
    responses = film.PANCHROMATIC, film.ORTHOCHROMATIC, film.BLUE_SENSITIVE
    reds, blues = ([float(film.to_grey(color, r)[0]) for r in responses] for color in (red, blue))
    assert reds == sorted(reds, reverse=True) and blues == sorted(blues)


def test_same_seed_is_the_same_film_and_another_seed_another():
    batch = np.stack([PHOTO] * 8)
    first, again, other = (
        film.random_film(batch, seed).numpy() for seed in ((3, 1), (3, 1), (3, 2))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    "rgb", [np.zeros((64, 8, 8, 3)), np.ones((64, 8, 8, 3)), np.stack([PHOTO] * 64)]
)
def test_films_stay_in_range_and_shape(rgb):
    grey = film.random_film(rgb.astype(np.float32), (1, 2)).numpy()
    assert grey.shape == (*rgb.shape[:-1], 1) and grey.dtype == np.float32
    assert grey.min() >= 0 and grey.max() <= 1


def test_half_stay_plain_and_the_others_differ_from_each_other():
    batch = np.stack([PHOTO] * 400)
    grey = film.random_film(batch, (5, 6)).numpy()
    plain = np.abs(grey - film.to_grey(PHOTO).numpy()).max(axis=(1, 2, 3)) < 1e-6
    assert 0.4 < plain.mean() < 0.6
    assert len({one.tobytes() for one in grey[~plain]}) == np.count_nonzero(~plain)


def test_films_differ_in_contrast_in_fading_and_in_grain():
    flat = np.linspace(0, 1, 64, dtype=np.float32)[None, :, None, None] * np.ones(
        (200, 64, 64, 3), np.float32
    )
    grey = film.random_film(flat, (7, 8)).numpy()[..., 0]
    black, middle, white = (grey[:, row].mean(-1) for row in (0, 32, 63))
    grain = grey[:, 32].std(-1)
    assert black.max() > 0.1 and white.min() < 0.9
    assert middle.max() - middle.min() > 0.15
    assert grain.max() > 0.03 and np.median(grain) < 0.03


def test_films_are_drawn_inside_a_data_pipeline():
    data = tf.data.Dataset.from_tensors(np.stack([PHOTO] * 4)).map(
        lambda rgb: film.random_film(rgb, (3, 1))
    )
    assert np.allclose(
        next(data.as_numpy_iterator()), film.random_film(np.stack([PHOTO] * 4), (3, 1)), atol=1e-6
    )
