"""Hints are followed and fade; what cannot be used is refused in one sentence."""

import numpy as np
import pytest
import scipy.sparse as sparse
from helpers import assert_one_sentence, make_photo, save
from PIL import Image
from scipy.sparse.linalg import spsolve

from koala_utils import colorizer, film, hints, lab, quantization
from koala_utils.app import cli
from koala_utils.hints import HintError, Spreader

RED, BLUE = (0.5, 0.4), (0.1, -0.5)


def make_halves(height=24, width=32):
    """Lightness (height, width, 1): dark on the left, bright on the right."""
    halves = np.full((height, width, 1), -0.5, np.float32)
    halves[:, width // 2 :] = 0.5
    return halves


# ---------------------------------------------------------------- spreading


def test_spreader_solves_levins_system():
    rng = np.random.default_rng(0)
    lightness = rng.uniform(-1, 1, (9, 13, 1)).astype(np.float32) * 0.1
    chroma = rng.uniform(-0.2, 0.2, (9, 13, 2)).astype(np.float32)
    known = [(2, 3, RED, 1.0), (7, 11, BLUE, 2.0)]

    alike = hints.likeness(lightness[..., 0])
    mean = sparse.diags(1 / np.asarray(alike.sum(1)).ravel()) @ alike
    system = (1 + hints.fading((9, 13))) * sparse.eye(117) - mean
    quadratic = (system.T @ system).tocsc()
    inverse, cost, wanted = np.linalg.inv(quadratic.toarray()), np.zeros(117), np.zeros((117, 2))
    for row, column, color, weight in known:
        place = row * 13 + column
        cost[place] = weight / (hints.TOLERANCE * inverse[place, place])
        wanted[place] = cost[place] * (np.array(color) - chroma[row, column])
    expected = chroma + spsolve((quadratic + sparse.diags(cost)).tocsc(), wanted).reshape(9, 13, 2)
    np.testing.assert_allclose(Spreader(lightness).spread(chroma, known), expected, atol=1e-4)


def test_likeness_is_symmetric_and_joins_eight_neighbours():
    alike = hints.likeness(make_halves(5, 6)[..., 0]).toarray()
    np.testing.assert_array_equal(alike, alike.T)
    counts = (alike > 0).sum(1).reshape(5, 6)
    assert counts[2, 2] == 8 and counts[0, 2] == 5 and counts[0, 0] == 3
    across = alike.reshape(5, 6, 5, 6)[2, 2, 2]
    assert across[1] > 100 * across[3]  # the edge between dark and bright lies after column 2


def test_hint_is_followed_at_its_place_and_stops_at_an_edge():
    zeros = np.zeros((24, 32, 2), np.float32)
    result = Spreader(make_halves()).spread(zeros, [(12, 8, RED, 1.0)])
    assert result.dtype == np.float32 and result.shape == (24, 32, 2)
    np.testing.assert_allclose(result[12, 8], RED, rtol=2 * hints.TOLERANCE)
    assert result[12, 14, 0] > 0.15  # six places away, on the same side
    assert abs(result[12, 18, 0]) < 0.1 * result[12, 14, 0]  # as far, behind the edge


def test_hint_fades_with_distance():
    zeros = np.zeros((20, 100, 2), np.float32)
    along = Spreader(np.zeros((20, 100, 1))).spread(zeros, [(10, 2, RED, 1.0)])[10, :, 0]
    assert np.all(np.diff(along[2:]) < 0) and along[95] < 0.1 * along[2]


def test_only_the_difference_is_spread():
    answer = np.random.default_rng(1).uniform(-0.3, 0.3, (24, 32, 2)).astype(np.float32)
    spreader = Spreader(make_halves())
    agreeing = spreader.spread(answer, [(12, 8, answer[12, 8], 1.0)])
    np.testing.assert_allclose(agreeing, answer, atol=1e-5)
    np.testing.assert_array_equal(spreader.spread(answer, []), answer)


def test_grey_hint_takes_the_colour_away():
    answer = np.broadcast_to(np.float32(RED), (24, 32, 2))
    result = Spreader(make_halves()).spread(answer, [(12, 8, (0, 0), 1.0)])
    assert np.abs(result[12, 8]).max() < 2 * hints.TOLERANCE
    assert np.abs(result[12, 28] - RED).max() < 0.05


def test_more_weight_is_followed_more_closely():
    spreader, zeros = Spreader(make_halves()), np.zeros((24, 32, 2), np.float32)
    errors = [
        abs(spreader.spread(zeros, [(12, 8, RED, weight)])[12, 8, 0] - RED[0])
        for weight in (0.1, 1.0, 10.0)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_two_hints_at_one_place_meet_in_the_middle():
    zeros = np.zeros((24, 32, 2), np.float32)
    both = [(12, 8, RED, 1.0), (12, 8, BLUE, 1.0)]
    result = Spreader(make_halves()).spread(zeros, both)
    np.testing.assert_allclose(result[12, 8], np.mean([RED, BLUE], axis=0), atol=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 500), (300, 260)])
def test_copies_of_any_shape(shape):
    zeros = np.zeros((*shape, 2), np.float32)
    result = Spreader(np.zeros((*shape, 1))).spread(zeros, [(0, shape[1] - 1, RED, 1.0)])
    assert result.shape == (*shape, 2) and np.isfinite(result).all()
    np.testing.assert_allclose(result[0, -1], RED, rtol=0.1)


@pytest.mark.parametrize("place", [(-1, 0), (0, -0.5), (24, 0), (0, 32), (np.nan, 0)])
def test_hint_outside_of_the_copy_is_refused(place):
    with pytest.raises(HintError) as error:
        Spreader(make_halves()).spread(np.zeros((24, 32, 2)), [(*place, RED, 1.0)])
    assert_one_sentence(error, "outside")


# ---------------------------------------------------------------- colours, places and strokes


@pytest.mark.parametrize("text", ["#7a1f1f", " #7A1F1F", "rgb(122, 31, 31)"])
def test_color_is_read_as_its_chroma(text):
    expected = lab.chroma(np.float32([122, 31, 31]) / 255)
    np.testing.assert_allclose(hints.parse_color(text), expected, atol=1e-6)


def test_grey_and_named_colors_and_chroma():
    assert np.abs(hints.parse_color("#808080")).max() < 1e-3
    assert hints.parse_color("darkred")[0] > 0.3
    np.testing.assert_allclose(hints.parse_color(RED), RED)


@pytest.mark.parametrize("color", ["", "#12345", "reddish", (1, 2, 3), (2.0, 0.0), (np.nan, 0), 7])
def test_color_that_is_none_is_refused(color):
    with pytest.raises(HintError) as error:
        hints.parse_color(color)
    assert_one_sentence(error, "no colour", "#7a1f1f")


def test_place_on_the_photograph_becomes_one_on_the_copy_of_its_inner_picture():
    found = hints.on_copy([(60, 30, RED)], (100, 200, 3), (10, 90, 20, 180), (40, 80))
    (row, column, chroma, weight) = found[0]
    assert (row, column, weight) == (10, 20, 1)
    np.testing.assert_allclose(chroma, RED)


def test_hint_on_a_films_edge_does_nothing():
    assert hints.on_copy([(5, 50, RED)], (100, 200, 3), (10, 90, 20, 180), (40, 80)) == []


@pytest.mark.parametrize("place", [(200, 0), (0, 100), (-1, 5), (float("nan"), 5)])
def test_hint_outside_of_the_photograph_is_refused(place):
    with pytest.raises(HintError) as error:
        hints.on_copy([(*place, "#7a1f1f")], (100, 200), (0, 100, 0, 200), (40, 80))
    assert_one_sentence(error, "outside of the photograph", "200 x 100")


@pytest.mark.parametrize("hint", [(1, 2), ("a", 2, "red"), None, (1, 2, "red", 4)])
def test_hint_of_another_form_is_refused(hint):
    with pytest.raises(HintError) as error:
        hints.on_copy([hint], (100, 200), (0, 100, 0, 200), (40, 80))
    assert_one_sentence(error, "no hint")


def make_strokes(height=50, width=100):
    """A red line across the upper part and a grey dot below, on nothing."""
    rgba = np.zeros((height, width, 4), np.uint8)
    rgba[10:12, 5:95] = (200, 30, 30, 255)
    rgba[40, 50] = (128, 128, 128, 255)
    return rgba


def test_strokes_become_hints_along_them():
    found = hints.from_strokes(make_strokes(), (100, 200, 3))
    reds = [(x, y) for x, y, color in found if color == "#c81e1e"]
    greys = [(x, y) for x, y, color in found if color == "#808080"]
    assert len(reds) + len(greys) == len(found) and greys == [(101, 81)]
    assert 20 < len(reds) < 60 and all(20 <= y < 24 and 10 <= x < 190 for x, y in reds)


def test_soft_rim_of_a_stroke_is_left_out():
    rgba = make_strokes()
    rgba[9, 5:95] = (0, 0, 0, 90)
    assert hints.from_strokes(rgba, (50, 100)) == hints.from_strokes(make_strokes(), (50, 100))


@pytest.mark.parametrize(
    "rgba, word",
    [
        (make_strokes()[..., :3], "transparent"),
        (np.full((50, 100, 4), 255, np.uint8), "transparent"),
        (np.zeros((50, 100, 4), np.uint8), "transparent everywhere"),
        (make_strokes(60, 100), "60"),
    ],
)
def test_strokes_that_cannot_be_used_are_refused(rgba, word):
    with pytest.raises(HintError) as error:
        hints.from_strokes(rgba, (100, 200, 3))
    assert_one_sentence(error, word)


# ---------------------------------------------------------------- swatches


def test_swatches_are_the_colours_that_were_put_in():
    red = quantization.soft_encode(np.float32([RED])).numpy()[0]
    blue = quantization.soft_encode(np.float32([BLUE])).numpy()[0]
    found = hints.swatches(np.log(0.7 * blue + 0.3 * red + 1e-12))
    assert len(found) == 5
    (first, share), (second, other) = found[:2]
    np.testing.assert_allclose(first, BLUE, atol=0.03)
    np.testing.assert_allclose(second, RED, atol=0.03)
    assert share == pytest.approx(0.7, abs=0.02) and other == pytest.approx(0.3, abs=0.02)


def test_swatches_differ_and_their_shares_fall():
    logits = np.random.default_rng(0).normal(size=261)
    found = hints.swatches(logits, count=4)
    shares = [share for _, share in found]
    assert len(found) == 4 and shares == sorted(shares, reverse=True) and sum(shares) <= 1
    colors = np.array([chroma for chroma, _ in found]) * lab.CHROMA_SCALE
    gaps = np.linalg.norm(colors[:, None] - colors, axis=-1) + 100 * np.eye(4)
    assert gaps.min() > quantization.GRID


# ---------------------------------------------------------------- whole photographs


def test_colorize_follows_hints_of_the_whole_photograph(model_file):
    photo = np.zeros((120, 160, 3), np.uint8)  # a film with a black edge of 12 pixels
    photo[12:-12, 12:-12] = make_photo(5, 96, 136) // 2 + 60
    grey = film.grey_photo(photo)
    plain = colorizer.colorize(grey, model_file)
    result = colorizer.colorize(grey, model_file, hints=[(40, 60, "#c02020"), (2, 2, "#c02020")])
    wanted = hints.parse_color("#c02020")
    found, before = (lab.chroma(each[60, 40] / 255).numpy() for each in (result, plain))
    assert np.abs(found - wanted).max() < 0.08 < np.abs(before - wanted).max()
    np.testing.assert_array_equal(result[:10], grey[:10])  # the edge stays grey
    assert colorizer.colorize(grey, model_file, hints=[]).tolist() == plain.tolist()


def test_hints_alone_with_no_strength(model_file):
    grey = film.grey_photo(make_photo(6) // 2 + 60)
    prediction = colorizer.predict(grey, model_file)
    assert prediction.spreader is prediction.spreader
    result = colorizer.render(prediction, strength=0, hints=[(10, 10, "#2040c0")])
    assert np.ptp(result[10, 10].astype(int)) > 40
    with pytest.raises(HintError) as error:
        colorizer.colorize(grey, model_file, hints=[(999, 0, "red")])
    assert_one_sentence(error, "outside of the photograph")


# ---------------------------------------------------------------- koala colorize


def run_cli(model_file, folder, *arguments):
    """`koala colorize` of a grey photograph, 64 x 48: the exit status and the result."""
    save(film.grey_photo(make_photo(7) // 2 + 60), folder / "photo.png")
    arguments = [folder / "photo.png", "-o", folder / "out", "--model", model_file, *arguments]
    status = cli.main(["colorize", *map(str, arguments)])
    target = folder / "out" / "photo.png"
    return status, np.asarray(Image.open(target)).astype(int) if target.exists() else None


def test_command_line_takes_hints_and_strokes(model_file, tmp_path):
    strokes = np.zeros((24, 32, 4), np.uint8)  # half the size of the photograph
    strokes[18:20, 4:8] = (30, 60, 220, 255)
    save(strokes, tmp_path / "strokes.png")
    status, result = run_cli(
        model_file,
        tmp_path,
        *(
            "--hint",
            "50,10,#c02020",
            "--hint",
            "20,10,#20a020",
            "--hints",
            tmp_path / "strokes.png",
        ),
    )
    red, green, blue = result[10, 50], result[10, 20], result[38, 12]
    assert status == 0
    assert red.argmax() == 0 and green.argmax() == 1 and blue.argmax() == 2


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (["--hint", "500,10,#c02020"], ["500, 10", "64 x 48"]),
        (["--hint", "5,10,reddish"], ["'reddish'", "no colour"]),
        (["--hints", "none.png"], ["none.png"]),
    ],
)
def test_command_line_says_what_is_wrong_with_a_hint(
    model_file, tmp_path, capsys, arguments, parts
):
    status, result = run_cli(model_file, tmp_path, *arguments)
    said = capsys.readouterr().err
    assert status == 1 and result is None and said.count("\n") == 1
    assert all(part in said for part in parts)
