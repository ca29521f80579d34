"""The metrics of the evaluation, against independent implementations and by hand."""

import csv

import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_one_sentence, differ_by_rounding_at_most, make_noise, make_photo, save
from skimage.color import deltaE_ciede2000, rgb2lab

from koala_utils import ROOT, evaluation
from koala_utils.app import cli
from koala_utils.colorizer import colorize, predict
from koala_utils.downloads import BUNDLED, find_photos
from koala_utils.embedding import class_names
from koala_utils.evaluation import (
    Score,
    ab_error,
    colorfulness,
    grey_baseline,
    mean_color_baseline,
    psnr,
    summarize,
)
from koala_utils.files import DamagedError
from koala_utils.network import build_network
from koala_utils.photos import read_photo, resize_short_side
from koala_utils.weights import save_weights


@pytest.fixture(scope="module")
def small_photos(tmp_path_factory):
    """Small copies of the bundled photographs, as files."""
    folder = tmp_path_factory.mktemp("small")
    return [
        save(resize_short_side(read_photo(path), 64), folder / f"{path.stem}.png")
        for path in find_photos("bundled")
    ]


@pytest.fixture(scope="module")
def scores(small_photos):
    """The scores of grey, of the mean colour and of the truth itself."""
    methods = {
        "grey": grey_baseline,
        "mean color": mean_color_baseline(map(read_photo, small_photos)),
        "truth": lambda photo: photo,
    }
    return evaluation.evaluate(small_photos, methods, progress=False)


def make_score(
    photo,
    ab_error=1.0,
    grey_ab_error=2.0,
    psnr=20.0,
    colorfulness=5.0,
    true_colorfulness=10.0,
    top1=None,
    method="model",
):
    return Score(
        photo,
        method,
        ab_error,
        grey_ab_error,
        psnr,
        0.9,
        5.0,
        colorfulness,
        true_colorfulness,
        top1,
        top1,
        top1,
    )


# ---------------------------------------------------------------- metrics of one photograph


def test_ab_error_is_scikit_image_s_distance():
    one, other = make_photo(1), make_noise(2)
    expected = ((rgb2lab(one)[..., 1:] - rgb2lab(other)[..., 1:]) ** 2).sum(-1).mean()
    assert ab_error(one, other) == pytest.approx(expected, rel=1e-4)
    assert ab_error(one, one) == 0
    assert ab_error(one, other) == pytest.approx(ab_error(other, one))


def test_psnr_is_tensorflow_s():
    one, other = make_photo(1), make_noise(2)
    expected = float(tf.image.psnr(tf.constant(one), tf.constant(other), 255))
    assert psnr(one, other) == pytest.approx(expected, abs=1e-4)
    assert psnr(one, one) == float("inf")


def test_ssim_is_tensorflow_s():
    for truth in (read_photo(BUNDLED / "color" / "coffee.png")[:120, :150], make_photo(1, 60, 70)):
        output = np.clip(truth * 0.8 + make_noise(2, *truth.shape[:2]) * 0.1, 0, 255).astype(
            np.uint8
        )
        expected = float(tf.image.ssim(tf.constant(output), tf.constant(truth), 255))
        assert evaluation.ssim(output, truth) == pytest.approx(expected, abs=0.01)
        assert (
            evaluation.ssim(output, truth)
            < 0.99
            < evaluation.ssim(truth, truth)
            == pytest.approx(1)
        )


@pytest.mark.parametrize(
    "one, other, expected",
    [  # from Table 1 of Sharma, Wu and Dalal 2005
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_ciede2000_of_the_authors_pairs(monkeypatch, one, other, expected):
    monkeypatch.setattr(evaluation, "_lab", lambda lab: np.array(lab, np.float64))
    assert evaluation.ciede2000(np.array([[one]]), np.array([[other]])) == pytest.approx(
        expected, abs=1e-4
    )


def test_ciede2000_is_taken_between_the_lab_colors_and_averaged():
    one, other = make_photo(1), make_noise(2)
    assert evaluation.ciede2000(one, other) == pytest.approx(
        deltaE_ciede2000(rgb2lab(one), rgb2lab(other)).mean(), rel=1e-3
    )
    assert evaluation.ciede2000(one, one) == 0


def test_colorfulness_of_two_pixels_by_hand():
    # red: rg = 255, yb = 127.5; blue: rg = 0, yb = -255
    photo = np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)
    expected = np.sqrt(127.5**2 + 191.25**2) + 0.3 * np.sqrt(127.5**2 + 63.75**2)
    assert colorfulness(photo) == pytest.approx(expected)


def test_grey_has_no_colorfulness_and_one_color_only_its_mean():
    assert colorfulness(np.full((4, 4, 3), 80, np.uint8)) == 0
    assert colorfulness(np.full((4, 4, 3), (255, 0, 0), np.uint8)) == pytest.approx(
        0.3 * np.hypot(255, 127.5)
    )


def test_classifier_names_color_photographs():
    names, _ = class_names()
    for name, expected in (("coffee.png", "espresso"), ("chelsea.png", "egyptian cat")):
        assert (
            names[evaluation.top_classes_of(read_photo(BUNDLED / "color" / name))[0]].lower()
            == expected
        )


# ---------------------------------------------------------------- baselines


def test_grey_baseline_is_grey_and_has_ratio_one(scores):
    assert colorfulness(grey_baseline(make_photo(1))) == 0
    metrics = summarize(scores)["grey"]
    assert metrics["ratio"] == pytest.approx((1, 1, 1))
    assert metrics["colorfulness"] == pytest.approx((0, 0, 0))


def test_mean_color_beats_grey_and_truth_beats_all(scores):
    table = summarize(scores)
    assert table["truth"]["ratio"][0] == 0 < table["mean color"]["ratio"][0] < 1
    assert table["truth"]["colorfulness"][0] == pytest.approx(1)


def test_mean_color_is_the_mean_chroma_of_the_photographs():
    photos = [np.full((6, 8, 3), color, np.uint8) for color in ((150, 100, 90), (90, 110, 140))]
    mean = np.mean([rgb2lab(photo)[0, 0, 1:] for photo in photos], axis=0)
    result = mean_color_baseline(photos)(np.full((5, 5, 3), 120, np.uint8))
    assert np.abs(rgb2lab(result)[..., 1:] - mean).max() < 1.5
    assert (
        np.abs(rgb2lab(result)[..., 0] - rgb2lab(np.full((1, 1, 3), 120, np.uint8))[0, 0, 0]).max()
        < 1
    )


# ---------------------------------------------------------------- many photographs


def test_every_photograph_is_scored_by_every_method(scores, small_photos):
    assert [(score.photo, score.method) for score in scores] == [
        (path.name, method) for path in small_photos for method in ("grey", "mean color", "truth")
    ]
    for score in scores:
        assert score.top1 is None and score.true_colorfulness > 0
        assert score.grey_ab_error == next(
            s.ab_error for s in scores if (s.photo, s.method) == (score.photo, "grey")
        )


def test_outputs_are_handed_over_with_the_truth(small_photos):
    seen = []
    evaluation.evaluate(
        small_photos[:2],
        {"grey": grey_baseline},
        progress=False,
        on_photo=lambda path, truth, outputs: seen.append(
            (path, truth.shape, outputs["grey"].shape)
        ),
    )
    assert seen == [
        (path, read_photo(path).shape, read_photo(path).shape) for path in small_photos[:2]
    ]


def test_what_cannot_be_measured_is_named_and_the_rest_goes_on(small_photos, tmp_path, capsys):
    bad = {
        "damaged.jpg": "damaged",
        "grey.png": "nearly grey",
        "tiny.png": "10 x 8",
        "gone.png": "no such file",
    }
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more of it")
    save(grey_baseline(make_photo(1)), tmp_path / "grey.png")
    save(make_photo(2, 8, 10), tmp_path / "tiny.png")
    paths = [small_photos[0], *(tmp_path / name for name in bad), small_photos[1]]
    scores = evaluation.evaluate(paths, {"grey": grey_baseline}, progress=False)
    assert [score.photo for score in scores] == [small_photos[0].name, small_photos[1].name]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(bad)
    for line, (name, reason) in zip(lines, bad.items(), strict=True):
        assert line.startswith("left out ")
        assert_one_sentence(line, name, reason)
    assert np.isfinite([value for row in summarize(scores)["grey"].values() for value in row]).all()
    left_out = []
    read = evaluation.read_each(paths, left_out, evaluation.read_truth)
    assert [path for path, _ in read] == [small_photos[0], small_photos[1]]
    assert len(left_out) == len(bad)


def test_command_leaves_out_what_it_cannot_measure(small_photos, model_file, tmp_path, capsys):
    folder, sheets = tmp_path / "photos", tmp_path / "sheets"
    for path in small_photos[:2]:
        save(read_photo(path), folder / path.name)
    save(grey_baseline(make_photo(1)), folder / "grey.png")
    save(make_photo(2, 8, 10), folder / "tiny.png")
    (folder / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more of it")
    arguments = ["evaluate", folder, "--model", model_file, "-o", tmp_path, "--sheets", sheets]
    assert cli.main([str(argument) for argument in arguments]) == 0
    said = capsys.readouterr()
    assert "2 of 5 photographs" in said.out
    table = (tmp_path / "table.md").read_text()
    assert "| mean color |" in table and "nan" not in table and "inf" not in table
    left_out = [line for line in said.err.splitlines() if line.startswith("left out")]
    assert len(left_out) == 3
    assert read_photo(sheets / "sheet-00.jpg").shape[0] == 2 * 200


def test_command_without_a_true_colour_says_why(tmp_path, capsys):
    save(grey_baseline(make_photo(1)), tmp_path / "grey.png")
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more of it")
    assert cli.main(["evaluate", str(tmp_path)]) == 1
    assert_one_sentence(capsys.readouterr().err.strip(), "1 nearly grey", "1 damaged", "--sheets")


def test_mean_color_is_that_of_the_photographs_that_are_measured(small_photos, tmp_path):
    grey = save(grey_baseline(make_photo(1)), tmp_path / "grey.png")
    photo = read_photo(small_photos[0])
    expected = mean_color_baseline(map(read_photo, small_photos[:2]))(photo)
    methods = evaluation.all_methods([*small_photos[:2], grey, tmp_path / "gone.png"], ())
    assert list(methods) == ["grey", "mean color"]
    assert np.array_equal(methods["mean color"](photo), expected)


def test_label_is_known_from_the_synset_folder_and_the_published_registry(tmp_path):
    assert evaluation.label_of(tmp_path / "n01882714" / "a.jpg") == 105
    assert evaluation.label_of(tmp_path / "photos" / "a.jpg") is None
    assert evaluation.label_of(tmp_path / "nips2017" / "1d4133f5bc7af193.png") == 140


def test_labelled_photographs_are_classified(tmp_path):
    photo = read_photo(BUNDLED / "color" / "chelsea.png")
    right, wrong = (
        save(photo, tmp_path / synset / "a.png") for synset in ("n02124075", "n01882714")
    )
    scores = evaluation.evaluate([right, wrong], {"truth": lambda photo: photo}, progress=False)
    assert [score.top1 for score in scores] == [score.true_top1 for score in scores] == [1, 0]
    assert evaluation.truth_line(scores[:1]).startswith("The classifier names 100.0%")
    assert evaluation.truth_line([]) == ""


def test_intervals_hold_their_value_and_narrow_with_more_photographs():
    rng = np.random.default_rng(0)
    many = [
        make_score(str(i), *rng.uniform(100, 200, 2), *rng.uniform(20, 30, 3), int(i % 3 == 0))
        for i in range(90)
    ]
    table, few = summarize(many)["model"], summarize(many[:9])["model"]
    assert table.keys() == set(evaluation.METRICS)
    for name in ("ratio", "psnr", "colorfulness", "top1"):
        value, low, high = table[name]
        assert low < value < high
        assert high - low < few[name][2] - few[name][1]
    assert table["ratio"][0] == pytest.approx(
        sum(s.ab_error for s in many) / sum(s.grey_ab_error for s in many)
    )
    assert table["top1"][0] == pytest.approx(1 / 3)


def test_paired_difference_is_sharper_than_two_intervals():
    rng = np.random.default_rng(1)
    easy = rng.uniform(15, 30, 60)  # what is common to both
    pair = [
        make_score(str(i), psnr=value + gain + rng.normal(0, 0.5), method=method)
        for method, gain in (("one", 1.0), ("other", 0.0))
        for i, value in enumerate(easy)
    ]
    difference, low, high = evaluation.compare(pair, "one", "other", "psnr")
    table = summarize(pair)
    assert difference == pytest.approx(table["one"]["psnr"][0] - table["other"]["psnr"][0])
    assert 0 < low < 1 < high
    assert high - low < 0.3 * (table["one"]["psnr"][2] - table["one"]["psnr"][1])
    assert evaluation.compare(pair, "one", "one") == (0, 0, 0)
    with pytest.raises(ValueError, match="same photographs"):
        evaluation.compare(pair[:-1], "one", "other")


def test_difference_is_taken_over_the_labelled_photographs():
    pair = [
        make_score(str(i), method=method, top1=top1)
        for method, hits in (("one", (1, 1, None, 1)), ("other", (0, 1, None, 0)))
        for i, top1 in enumerate(hits)
    ]
    difference, low, high = evaluation.compare(pair, "one", "other", "top1")
    assert difference == pytest.approx(2 / 3) and 0 <= low <= difference <= high <= 1


def test_one_photograph_has_a_value_and_no_interval():
    assert summarize([make_score("a")])["model"]["ratio"] == (0.5, 0.5, 0.5)


def test_few_labels_still_give_an_interval():
    mixed = [make_score(str(i), top1=1 if i == 0 else None) for i in range(6)]
    assert summarize(mixed)["model"]["top1"] == (1, 1, 1)


def test_table_has_a_line_a_method_and_the_metrics_that_all_have(scores):
    lines = evaluation.format_table(summarize(scores)).splitlines()
    assert len(lines) == 2 + 3
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|") == 7
    assert lines[2].startswith("| grey | 1.000 (1.000 to 1.000) |")
    assert "top-1" not in lines[0]


def test_table_shows_the_share_of_named_photographs():
    labelled = [make_score(str(i), top1=i % 2) for i in range(10)]
    lines = evaluation.format_table(summarize(labelled)).splitlines()
    assert (
        lines[0].endswith("| top-1 | top-5 |")
        and "| 0.500 (" in lines[2]
        and "| 50.0% (" in lines[2]
    )


def test_scores_are_written_with_their_columns(scores, tmp_path):
    evaluation.write_scores(scores, tmp_path / "new" / "scores.csv")
    with (tmp_path / "new" / "scores.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == [
        "photo",
        "method",
        "ab_error",
        "grey_ab_error",
        "psnr",
        "ssim",
        "ciede2000",
        "colorfulness",
        "true_colorfulness",
        "top1",
        "top5",
        "true_top1",
    ]
    assert len(rows) == len(scores)
    for row, score in zip(rows, scores, strict=True):
        assert (row["photo"], row["method"], row["top1"]) == (score.photo, score.method, "")
        assert float(row["ab_error"]) == pytest.approx(score.ab_error, abs=1e-4)


def test_scores_are_read_back_as_they_were_written(tmp_path):
    written = [make_score("a, b.png", top1=1), make_score("c.png", method="other")]
    evaluation.write_scores(written, tmp_path / "scores.csv")
    assert evaluation.read_scores(tmp_path / "scores.csv") == written
    evaluation.write_scores([], tmp_path / "none.csv")
    assert evaluation.read_scores(tmp_path / "none.csv") == []


@pytest.mark.parametrize("data", [b"photo,method\na,b\n", b"a photo", b"\xff\xfe\x00"])
def test_another_file_than_one_of_scores_is_refused(tmp_path, data):
    (tmp_path / "other.csv").write_bytes(data + b"\n1\n")
    with pytest.raises(DamagedError) as error:
        evaluation.read_scores(tmp_path / "other.csv")
    assert_one_sentence(error, "other.csv")


# ---------------------------------------------------------------- the released model


@pytest.mark.parametrize("method, at_most", [("koala", 0.78), ("koala-plus 0", 0.75)])
def test_released_model_s_share_of_grey_s_error_on_the_test_photographs(method, at_most):
    # tests/test_report.py measures some photographs of this table anew.
    scores = evaluation.read_scores(ROOT / "report" / "tables" / "test" / "scores.csv")
    assert len({score.photo for score in scores}) == 150
    assert summarize(scores)[method]["ratio"][0] <= at_most


def test_models_of_two_runs_are_two_methods(tmp_path):
    files = [tmp_path / run / "koala.safetensors" for run in ("one", "two")]
    for file in files:
        file.parent.mkdir()
        save_weights(build_network(), file, {"model": "koala"})
    assert list(evaluation.model_methods(files)) == ["one/koala", "two/koala"]


def test_koala_plus_is_asked_once_for_all_vividness(small_photos, monkeypatch):
    asked = []
    monkeypatch.setattr(
        evaluation,
        "predict",
        lambda photo, model, extractor: asked.append(model) or predict(photo, model, extractor),
    )
    photos = [read_photo(path) for path in small_photos[:2]]
    methods = evaluation.model_methods()
    outputs = [{name: method(photo) for name, method in methods.items()} for photo in photos]
    assert asked == ["koala", "koala-plus"] * 2
    for photo, output in zip(photos, outputs, strict=True):
        assert differ_by_rounding_at_most(
            output["koala-plus 1"], colorize(photo, "koala-plus", vividness=1.0)
        )
    assert not np.array_equal(outputs[0]["koala-plus 0"], outputs[0]["koala-plus 1"])
