"""A photograph in colour: its own size, its own lightness, and colours that keep to its edges."""

import numpy as np
import pytest
from helpers import (
    assert_one_sentence,
    differ_by_rounding_at_most,
    make_noise,
    make_photo,
)
from PIL import Image
from skimage.color import rgb2lab

from koala_utils import border, colorizer, evaluation, film
from koala_utils.colorizer import colorize, recombine, shrink
from koala_utils.downloads import BUNDLED, find_photos
from koala_utils.embedding import ExtractorError, embed
from koala_utils.network import build_network
from koala_utils.photos import PhotoError, read_photo, resize_short_side
from koala_utils.weights import WeightsError, save_weights


def lightness_of(rgb):
    return rgb2lab(rgb)[..., 0]


# ---------------------------------------------------------------- size and lightness


@pytest.mark.parametrize(
    "size", [(64, 48), (1, 37), (90, 1), (1, 1), (5, 300), (201, 133), (333, 400)]
)
def test_colored_photograph_keeps_its_size_and_its_lightness(model_file, size):
    photo = make_photo(1, *size)
    result = colorize(photo, model_file)
    assert result.shape == photo.shape and result.dtype == np.uint8
    difference = np.abs(lightness_of(result) - lightness_of(evaluation.grey_baseline(photo)))
    assert difference.mean() < 1 and np.percentile(difference, 99) < 3


def test_fine_detail_stays_at_full_resolution(model_file):
    grey = make_noise(2, 300, 280)[..., 0]
    assert (
        np.abs(
            lightness_of(colorize(grey, model_file))
            - lightness_of(np.repeat(grey[..., None], 3, -1))
        ).mean()
        < 1
    )


def test_two_dimensional_grey_is_colored_as_its_rgb():
    grey = resize_short_side(read_photo(BUNDLED / "color" / "coffee.png"), 128)[..., 0]
    result, other = (colorize(each, "koala").astype(int) for each in (grey, np.dstack([grey] * 3)))
    assert evaluation.colorfulness(result.astype(np.uint8)) > 5
    assert np.abs(result - other).max() <= 1


def test_colors_of_the_input_are_ignored():
    photo = resize_short_side(read_photo(BUNDLED / "color" / "coffee.png"), 128)
    one, other = colorize(photo), colorize(evaluation.grey_baseline(photo))
    assert np.abs(one.astype(int) - other).mean() < 1  # what rounding the grey to 8 bits leaves
    assert (
        evaluation.ab_error(one, other)
        < 1
        < 20
        < evaluation.ab_error(one, evaluation.grey_baseline(one))
    )


def test_strength_scales_the_colors(model_file):
    photo = make_photo(5)
    none, half, full = (colorize(photo, model_file, strength=s) for s in (0, 0.5, 1))
    assert np.abs(none.astype(int) - evaluation.grey_baseline(photo)).max() <= 1
    assert (
        evaluation.colorfulness(none)
        < 2
        < evaluation.colorfulness(half)
        < evaluation.colorfulness(full)
    )


@pytest.mark.parametrize(
    "photo",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros(8, np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 8), np.int32),
        [[1, 2], [3, 4]],
    ],
)
def test_what_is_no_photograph_is_refused(photo):
    with pytest.raises(PhotoError) as error:
        colorize(photo)
    assert_one_sentence(error, "uint8")


def test_small_copy_has_the_area_and_the_aspect_and_is_never_enlarged():
    assert shrink(make_photo(0, 400, 100), 100).shape == (200, 50, 3)
    assert shrink(make_photo(0, 20, 30), 100).shape == (20, 30, 3)
    assert shrink(make_photo(0, 400, 300)[..., 0], 100).shape == (115, 87)


def test_photograph_of_16_bits_comes_back_with_16_bits():
    model_file = "koala"  # one with random weights would multiply what rounding leaves
    deep = make_photo(4, 70, 90).astype(np.uint16) * 257
    deep[:35] = np.linspace(20_000, 21_000, 90, dtype=np.uint16)[:, None]  # four steps of 8 bits
    result = colorize(deep, model_file)
    assert result.dtype == np.uint16 and result.shape == deep.shape
    assert len(np.unique(colorize(deep, model_file, strength=0)[0])) > 80
    eight = colorize((deep // 257).astype(np.uint8), model_file)
    assert np.abs(result / 257 - eight).max() < 2
    grey = colorize(deep[..., 0], model_file, strength=0)
    assert np.abs(grey.astype(int) - deep[..., :1]).max() < 30  # of 65,535


def test_grey_is_made_once_and_the_photograph_made_smaller_once(model_file, monkeypatch):
    pixels, shrunk = [], []
    grey_of, resize = film.grey_of, Image.Image.resize

    def counted_grey(photo):
        pixels.append(photo.shape[0] * photo.shape[1])
        return grey_of(photo)

    def counted_resize(image, *arguments, **options):
        shrunk.append(image.size == (900, 800))
        return resize(image, *arguments, **options)

    monkeypatch.setattr(film, "grey_of", counted_grey)
    monkeypatch.setattr(Image.Image, "resize", counted_resize)
    picture = resize_short_side(read_photo(BUNDLED / "color" / "coffee.png"), 300)
    picture = np.asarray(Image.fromarray(picture).resize((840, 740)))
    shrunk.clear()
    colorize(np.pad(picture, ((30, 30), (30, 30), (0, 0)), constant_values=8), model_file)
    assert sum(pixels) <= 900 * 800 + 530**2
    assert sum(shrunk) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"strength": float("nan")},
        {"strength": -1},
        {"strength": float("inf")},
        {"vividness": 1.5},
        {"vividness": float("nan")},
    ],
)
def test_numbers_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError) as error:
        colorize(make_photo(), **options)
    assert_one_sentence(error, *options, "number")


# ---------------------------------------------------------------- cautious to vivid


def test_vividness_gives_more_color_and_keeps_the_lightness():
    photo = resize_short_side(read_photo(BUNDLED / "color" / "coffee.png"), 128)
    outputs = [colorize(photo, "koala-plus", vividness=vividness) for vividness in (0.0, 0.5, 1.0)]
    colors = [evaluation.colorfulness(output) for output in outputs]
    assert 1.1 * colors[0] < colors[1] < colors[2]
    for output in outputs:
        assert (
            np.abs(lightness_of(output) - lightness_of(evaluation.grey_baseline(photo))).mean() < 1
        )
    assert differ_by_rounding_at_most(outputs[1], colorize(photo))  # the default


def test_koala_has_a_single_answer():
    with pytest.raises(WeightsError) as error:
        colorize(make_photo(), "koala", vividness=0.5)
    assert_one_sentence(error, "koala", "strength")


def test_prediction_is_rendered_as_colorize_does():
    photo = make_photo(8, 90, 130)
    prediction = colorizer.predict(photo)
    for vividness, strength in ((0.0, 1.0), (1.0, 0.5)):
        expected = colorize(photo, vividness=vividness, strength=strength)
        assert differ_by_rounding_at_most(
            colorizer.render(prediction, vividness, strength), expected
        )


def test_another_photograph_s_embedding_changes_the_colors():
    photo, other = (resize_short_side(read_photo(path), 128) for path in find_photos("bundled")[:2])
    lent = embed([film.grey_of(other)])[0]
    own, swapped = (
        colorizer.render(colorizer.predict(photo, embedding=vector)) for vector in (None, lent)
    )
    assert evaluation.ab_error(own, swapped) > 1


# ---------------------------------------------------------------- old photographs


def framed(picture, edge, color, generator):
    """A picture inside an edge of that grey with some writing on it: the edge's depths are (top,
    bottom, left, right).
    """
    top, bottom, left, right = edge
    photo = np.pad(picture, ((top, bottom), (left, right), (0, 0)), constant_values=color)
    photo[top // 3 : top // 2, photo.shape[1] // 4 : photo.shape[1] // 3] = (
        255 - color
    )  # a number on the film
    return np.clip(photo + generator.integers(-6, 7, photo.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("color", [12, 252])
@pytest.mark.parametrize("edge", [(24, 20, 16, 22), (30, 0, 12, 0), (0, 0, 40, 8)])
def test_edge_of_a_film_stays_grey(color, edge):
    picture = resize_short_side(read_photo(BUNDLED / "color" / "coffee.png"), 256)
    photo = framed(picture, edge, color, np.random.default_rng(0))
    box = border.find_picture(film.grey_of(photo))
    wanted = edge[0], photo.shape[0] - edge[1], edge[2], photo.shape[1] - edge[3]
    assert np.abs(np.subtract(box, wanted)).max() <= 8
    result = colorize(photo).astype(int)
    spread = result.max(-1) - result.min(-1)
    top, bottom, left, right = wanted
    outside = np.ones(spread.shape, bool)
    outside[top:bottom, left:right] = False
    assert spread[outside].max() <= 3 < 10 < spread[~outside].mean()


def test_picture_without_an_edge_is_taken_whole():
    for path in find_photos("bundled"):
        grey = film.grey_of(resize_short_side(read_photo(path), 256))
        assert border.find_picture(grey) == (0, grey.shape[0], 0, grey.shape[1]), path


@pytest.mark.parametrize("cast", [(1.0, 0.86, 0.68), (0.9, 0.95, 1.0)])
def test_sepia_and_scans_with_a_cast_are_read_as_grey(cast):
    grey = evaluation.grey_baseline(
        resize_short_side(read_photo(BUNDLED / "color" / "coffee.png"), 128)
    )
    tinted = np.round(grey * np.array(cast)).astype(np.uint8)
    one, other = colorize(grey), colorize(tinted)
    # The cast darkens the photograph a little, and nothing else comes through.
    assert evaluation.ab_error(one, other) < 0.2 * evaluation.ab_error(
        one, evaluation.grey_baseline(one)
    )


def test_small_photograph_is_looked_at_enlarged():
    # koala-plus knows things by the size that they had when it learned them.
    slides = [read_photo(path) for path in find_photos("bundled")[:60:6]]
    small, native = [], []
    for slide in slides:
        truth = slide.astype(np.uint8)
        grey = evaluation.grey_baseline(truth)
        error = evaluation.ab_error(grey, truth)
        seen = colorizer.predict(slide)
        assert np.prod(seen.lightness.shape) == pytest.approx(
            colorizer.SIZES["koala-plus"] ** 2, rel=0.02
        )
        small.append(evaluation.ab_error(colorizer.render(seen, 0), truth) / error)
        own = int(np.sqrt(slide.shape[0] * slide.shape[1]))
        native.append(evaluation.ab_error(colorize(slide, size=own, vividness=0), truth) / error)
    assert np.mean(small) < np.mean(native) - 0.03


# ---------------------------------------------------------------- recombination


@pytest.fixture(scope="module")
def halves():
    """A photograph with the lightness and the random chroma of its small copy."""
    photo = make_photo(6, 97, 120)
    chroma = np.random.default_rng(0).uniform(-0.4, 0.4, (8, 10, 2)).astype(np.float32)
    small = resize_short_side(photo, 24)
    chroma = np.stack(
        [
            np.asarray(Image.fromarray(c).resize(small.shape[1::-1], Image.BILINEAR))
            for c in np.moveaxis(chroma, -1, 0)
        ],
        -1,
    )
    return photo, colorizer.lab.lightness(film.grey_of(small)).numpy(), chroma


@pytest.mark.parametrize("pixels", [1, 120 * 7, 120 * 50])
def test_strips_are_seamless(monkeypatch, halves, pixels):
    whole = recombine(*halves)
    monkeypatch.setattr(colorizer, "STRIP_PIXELS", pixels)
    strips = recombine(*halves)
    assert whole.std() > 10
    assert np.abs(strips.astype(int) - whole).max() <= 1


def test_colors_keep_to_the_photograph_s_edges():
    y, x = np.mgrid[:240, :240]
    left = (x + 0.4 * y < 170)[..., None]
    photo = np.where(left, np.array([180, 60, 50]), np.array([120, 160, 230])).astype(np.uint8)
    small = shrink(photo, 60)
    lightness = colorizer.lab.lightness(film.grey_of(small)).numpy()
    chroma = colorizer.lab.chroma(small / np.float32(255)).numpy()
    sharp, bleeding = (
        evaluation.ab_error(recombine(photo, lightness, chroma, edge_aware=aware), photo)
        for aware in (True, False)
    )
    assert sharp < bleeding / 3


def test_flat_photograph_keeps_its_chroma():
    photo = np.full((40, 60), 128, np.uint8)
    lightness = colorizer.lab.lightness(film.grey_of(photo)).numpy()
    result = recombine(photo, lightness, np.full((40, 60, 2), (0.3, -0.2), np.float32))
    assert np.abs(rgb2lab(result)[..., 1:] - (33, -22)).max() < 1.5


# ---------------------------------------------------------------- models and extractors


def test_unknown_model_is_named_with_the_released_ones():
    with pytest.raises(WeightsError) as error:
        colorize(make_photo(), model="wombat")
    assert_one_sentence(error, "wombat", "koala")
    assert "mobilenet" not in str(error.value)


def test_missing_and_foreign_weights_are_refused(tmp_path):
    with pytest.raises(WeightsError):
        colorize(make_photo(), model=tmp_path / "none.safetensors")
    save_weights(build_network(embedding_size=10), tmp_path / "other.safetensors")
    with pytest.raises(WeightsError) as error:
        colorize(make_photo(), model=tmp_path / "other.safetensors")
    assert "other.safetensors" in str(error.value)


@pytest.mark.parametrize("extractor", ["vgg16", "mobilenet_v2+vgg16"])
def test_unknown_extractor_is_named_with_the_known_ones(model_file, extractor):
    with pytest.raises(ExtractorError) as error:
        colorize(make_photo(), model_file, extractor=extractor)
    assert_one_sentence(error, "vgg16", "mobilenet_v2")


def test_weights_that_were_trained_further_are_read_again(network, tmp_path):
    path, photo = tmp_path / "run.safetensors", make_photo(7)
    save_weights(network, path)
    before = colorize(photo, path)
    greyer = build_network()
    greyer.set_weights([weight * 0 for weight in network.get_weights()])
    save_weights(greyer, path)
    assert evaluation.colorfulness(before) > 10
    assert evaluation.colorfulness(colorize(photo, path)) < 1


# ---------------------------------------------------------------- the released weights


@pytest.mark.parametrize("model", ["koala", "koala-plus"])
def test_released_model_beats_grey_on_the_bundled_photographs(model):
    error = grey = 0
    for path in find_photos("bundled"):
        truth = resize_short_side(read_photo(path), 256)
        error += evaluation.ab_error(colorize(truth, model), truth)
        grey += evaluation.ab_error(evaluation.grey_baseline(truth), truth)
    assert error / grey < 1


@pytest.mark.parametrize("model", ["koala", "koala-plus"])
def test_released_model_colors_historical_photographs(model):
    for path in find_photos("bundled-historical"):
        photo = resize_short_side(read_photo(path), 200)
        assert 2 < evaluation.colorfulness(colorize(photo, model)) < 100
