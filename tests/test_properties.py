"""What holds for any photograph: hypothesis looks for one for which it does not."""

import numpy as np
from helpers import make_noise, make_photo
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2lab

from koala_utils import film, lab
from koala_utils.colorizer import colorize
from koala_utils.embedding import embed

SIDES = st.integers(1, 120) | st.integers(1, 900)
PHOTOS = st.builds(
    lambda make, seed, height, width, grey: (
        make(seed, height, width)[..., 0] if grey else make(seed, height, width)
    ),
    st.sampled_from([make_photo, make_noise]),
    st.integers(0, 10**6),
    SIDES,
    SIDES,
    st.booleans(),
)


@settings(max_examples=40)
@given(PHOTOS, st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_any_photograph_keeps_its_size_and_its_lightness(model_file, photo, strength):
    result = colorize(photo, model_file, strength=strength)
    assert result.shape == photo.shape[:2] + (3,) and result.dtype == np.uint8
    wanted = rgb2lab(film.grey_photo(photo))[..., 0]
    # 8 bits hold the lightness to about one unit of 100, and the darkest colours to three.
    assert np.abs(rgb2lab(result)[..., 0] - wanted).max() < 3


@given(PHOTOS)
def test_any_photograph_comes_back_from_lightness_and_chroma(photo):
    rgb = np.repeat(photo[..., None], 3, -1) if photo.ndim == 2 else photo
    halves = lab.to_lab(rgb / np.float32(255))[..., :1] / 50 - 1, lab.chroma(rgb / np.float32(255))
    assert np.array_equal(np.round(lab.to_rgb(*halves) * 255), rgb)


@given(st.lists(PHOTOS, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_embedding_of_a_photograph_does_not_depend_on_its_batch(photos, dice):
    greys = [film.grey_of(photo) for photo in photos]
    order = list(range(len(greys)))
    dice.shuffle(order)
    together, shuffled = embed(greys), embed([greys[i] for i in order])
    assert np.abs(together[order] - shuffled).max() < 1e-3
    assert np.abs(together[0] - embed(greys[:1])[0]).max() < 1e-3
