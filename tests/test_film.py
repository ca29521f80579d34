"""The grey photographs of films."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import make_photo
from skimage.color import rgb2lab

from koala_utils import film, lab

PHOTO = make_photo(1, 16, 24) / np.float32(255)


@pytest.mark.parametrize("response", [film.PANCHROMATIC, film.ORTHOCHROMATIC, film.BLUE_SENSITIVE])
def test_primaries_are_weighed_in_linear_light_and_greys_stay(response):
    greys = film.to_grey(np.eye(3, dtype=np.float32), response)
    assert np.allclose(lab.to_linear(greys).numpy()[:, 0], response, atol=1e-6)
    for level in (0.0, 0.2, 0.5, 1.0):
        assert float(film.to_grey([level] * 3, response)[0]) == pytest.approx(level, abs=1e-5)


def test_panchromatic_film_keeps_the_lightness_that_the_eye_sees():
    kept = rgb2lab(np.repeat(film.to_grey(PHOTO).numpy(), 3, axis=-1))[..., 0]
    assert np.abs(kept - rgb2lab(PHOTO)[..., 0]).max() < 0.1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_of_a_photograph_is_the_panchromatic_film_s(dtype):
    photo = (PHOTO * np.iinfo(dtype).max).astype(dtype)
    expected = film.to_grey(photo / np.float32(np.iinfo(dtype).max)).numpy()
    assert np.abs(film.grey_of(photo) - expected).max() < 1 / 2000
    flat = photo[..., 0]
    assert np.abs(film.grey_of(flat)[..., 0] - flat / np.iinfo(dtype).max).max() < 1e-6


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


def test_two_in_five_stay_plain_and_the_others_differ_from_each_other():
    batch = np.stack([PHOTO] * 400)
    grey = film.random_film(batch, (5, 6)).numpy()
    plain = np.abs(grey - film.to_grey(PHOTO).numpy()).max(axis=(1, 2, 3)) < 1e-6
    assert 0.33 < plain.mean() < 0.47
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


def test_some_films_see_only_blue_and_none_sees_infrared():
    red, blue = (
        np.broadcast_to(color, (300, 4, 4, 3)) for color in np.eye(3, dtype=np.float32)[[0, 2]]
    )
    reds, blues = (film.random_film(each, (9, 9)).numpy().mean((1, 2, 3)) for each in (red, blue))
    assert reds.min() < 0.25 < blues.max() and blues.max() > 0.85


def test_films_are_drawn_inside_a_data_pipeline():
    data = tf.data.Dataset.from_tensors(np.stack([PHOTO] * 4)).map(
        lambda rgb: film.random_film(rgb, (3, 1))
    )
    assert np.allclose(
        next(data.as_numpy_iterator()), film.random_film(np.stack([PHOTO] * 4), (3, 1)), atol=1e-6
    )
