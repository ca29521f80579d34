"""The Lab conversion, against scikit-image's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.color import lab2rgb, rgb2lab

from koala_utils import lab
from koala_utils.downloads import find_photos
from koala_utils.photos import read_photo, resize_short_side

EDGES = np.array(
    [(r, g, b) for r in (0, 0.5, 1) for g in (0, 0.5, 1) for b in (0, 0.5, 1)], np.float32
)
GREYS = np.repeat(np.arange(256, dtype=np.float32)[:, None] / 255, 3, axis=1)
RANDOM = np.random.default_rng(0).random((40, 50, 3), dtype=np.float32)
DARK = RANDOM * np.float32(0.08)  # around the straight piece of sRGB's curve


@pytest.mark.parametrize(
    "rgb", [EDGES, GREYS, RANDOM, DARK], ids=["edges", "greys", "random", "dark"]
)
def test_equals_scikit_image(rgb):
    assert np.abs(lab.to_lab(rgb).numpy() - rgb2lab(rgb)).max() < 1e-3


@pytest.mark.parametrize("path", find_photos("bundled"), ids=lambda path: path.stem)
def test_equals_scikit_image_on_photographs_and_comes_back_exactly(path):
    photo = resize_short_side(read_photo(path), 120)
    ours = lab.to_lab(photo / np.float32(255)).numpy()
    assert np.abs(ours - rgb2lab(photo)).max() < 1e-3
    assert np.array_equal(np.round(lab.from_lab(ours).numpy() * 255), photo)


@given(arrays(np.uint8, (3, 3)))
def test_every_color_comes_back(rgb):
    rgb = rgb / np.float32(255)
    assert np.abs(lab.from_lab(lab.to_lab(rgb)).numpy() - rgb).max() < 5e-4


@given(arrays(np.uint8, (4, 3)))
def test_every_color_is_held_in_range_and_comes_back_from_its_halves(rgb):
    rgb = rgb / np.float32(255)
    lightness, chroma = lab.to_lab(rgb)[..., :1] / 50 - 1, lab.chroma(rgb)
    assert np.abs(lightness).max() <= 1 + 1e-5 and np.abs(chroma).max() < 1
    assert np.abs(lab.to_rgb(lightness, chroma) - rgb).max() < 2e-3


@given(st.floats(0, 1, width=32))
def test_lightness_of_a_grey_is_that_of_its_rgb(grey):
    expected = rgb2lab(np.full((1, 3), grey, np.float32))[0, 0]
    assert float((lab.lightness([grey])[0] + 1) * 50) == pytest.approx(expected, abs=1e-3)


def test_lightness_runs_from_minus_one_to_one():
    values = lab.lightness(GREYS[:, :1]).numpy()[:, 0]
    assert values[0] == pytest.approx(-1, abs=1e-6) and values[-1] == pytest.approx(1, abs=1e-5)
    assert (np.diff(values) > 0).all()


def test_any_leading_shape_is_converted():
    for shape in [(3,), (1, 3), (2, 4, 3), (2, 3, 4, 3)]:
        rgb = np.random.default_rng(1).random(shape, dtype=np.float32)
        assert np.abs(lab.to_lab(rgb).numpy() - rgb2lab(rgb)).max() < 1e-3


# ---------------------------------------------------------------- colours that sRGB cannot show


@pytest.fixture(scope="module")
def vivid():
    """Lightness and chroma far outside sRGB, uniformly spread."""
    rng = np.random.default_rng(2)
    return (
        rng.uniform(-0.9, 0.9, (2000, 1)).astype(np.float32),
        rng.uniform(-1, 1, (2000, 2)).astype(np.float32),
    )


def deviations(rgb, lightness, chroma):
    """Mean deviation from the wanted lightness (L* units) and hue (radians, where there is any
    colour).
    """
    got = rgb2lab(rgb)
    wanted = chroma.astype(np.float64)
    turn = np.arctan2(got[:, 2], got[:, 1]) - np.arctan2(wanted[:, 1], wanted[:, 0])
    turn = np.abs((turn + np.pi) % (2 * np.pi) - np.pi)
    colored = np.hypot(got[:, 1], got[:, 2]) > 5
    assert colored.mean() > 0.8  # colours are toned down, not taken away
    return np.abs(got[:, 0] - (lightness[:, 0] + 1) * 50).mean(), turn[colored].mean()


def test_impossible_colors_keep_lightness_and_hue_better_than_clipping(vivid):
    ours = lab.to_rgb(*vivid)
    wanted = np.concatenate([(vivid[0] + 1) * 50, vivid[1] * lab.CHROMA_SCALE], axis=-1)
    clipped = np.clip(lab.from_lab(wanted).numpy(), 0, 1)
    assert ours.min() >= 0 and ours.max() <= 1
    (light, hue), (light_clipped, hue_clipped) = (
        deviations(rgb, *vivid) for rgb in (ours, clipped)
    )
    assert light < 0.5 < 3 < light_clipped
    assert hue < 0.05 and hue < hue_clipped / 3


def test_possible_colors_are_left_alone():
    rgb = RANDOM.reshape(-1, 3)
    halves = lab.to_lab(rgb)[:, :1] / 50 - 1, lab.chroma(rgb)
    assert np.abs(lab.to_rgb(*halves) - lab2rgb(rgb2lab(rgb))).max() < 1e-3


@pytest.mark.parametrize("lightness, value", [(-1, 0), (1, 1)])
def test_black_and_white_stay_what_they_are(lightness, value):
    chroma = np.random.default_rng(3).uniform(-1, 1, (50, 2)).astype(np.float32)
    rgb = lab.to_rgb(np.full((50, 1), lightness, np.float32), chroma)
    assert np.abs(rgb - value).max() < 0.02
