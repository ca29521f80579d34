"""The report can be made again: figures and tables from photographs, its text from the tables."""

import csv
import importlib.util
import re
import shutil
from pathlib import Path

import figures
import numpy as np
import plates
import pytest
from PIL import Image
from pypdf import PdfReader

from koala_utils import ROOT, downloads, evaluation, notebook, photos
from koala_utils.files import read_rows

REPORT = ROOT / "report"
NOT_IN_THE_REPORT = ("heroes", "hints", "looks", "historical", "demo")  # the README shows these
SHOWN = [
    path.name
    for path in sorted((REPORT / "figures").iterdir())
    if path.suffix in (".png", ".jpg") and not path.stem.startswith(NOT_IN_THE_REPORT)
]
TABLES = [
    path.relative_to(REPORT).as_posix()
    for path in sorted((REPORT / "tables").rglob("*.*"))
    if path.name != "answers.csv"
]
TOLERANCE = {"image": 2.0, "psnr": 0.05, "relative": 0.01}  # as the report's last section says


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"), np.float64)


def assert_same_table(one, other):
    """Equal words, and numbers within the tolerance."""
    for row, again in zip(
        csv.reader(one.open(encoding="utf-8")),
        csv.reader(other.open(encoding="utf-8")),
        strict=True,
    ):
        for cell, cell_again in zip(row, again, strict=True):
            try:
                assert float(cell_again) == pytest.approx(
                    float(cell), rel=TOLERANCE["relative"], abs=0.02
                ), (one.name, row, again)
            except ValueError:
                assert cell == cell_again


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("build", REPORT / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------- figures and tables


@pytest.fixture
def cheap(monkeypatch):
    """The figures' photographs without their colours: which are shown, and not how they look."""

    def methods(models=("koala", "koala-plus"), vividness=(0.0, 0.5, 1.0)):
        return {str(i): evaluation.grey_baseline for i in range(1 + len(vividness))}

    monkeypatch.setattr(figures, "colorize", lambda photo, *_: evaluation.grey_baseline(photo))
    monkeypatch.setattr(evaluation, "model_methods", methods)
    monkeypatch.setattr(evaluation, "mean_color_baseline", lambda _: evaluation.grey_baseline)


def test_without_photographs_and_network_the_rest_is_made_and_named(cheap, tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    missing = figures.make(tmp_path, measure=False)
    assert set(missing) == {"test", "historical", "plates"}
    for path in (REPORT / "figures").glob("*.*"):
        if not path.stem.startswith("demo"):
            assert notebook.alt_of(tmp_path / "figures" / path.name) == notebook.alt_of(path)
    for name in TABLES:
        if name.endswith(".csv"):
            assert_same_table(REPORT / name, tmp_path / name)
        else:
            assert (tmp_path / name).read_text() == (REPORT / name).read_text()
    for name in ("architecture.png", "fusion.png", "training.png", "intervals.png"):
        difference = pixels(tmp_path / "figures" / name) - pixels(REPORT / "figures" / name)
        assert np.abs(difference).mean() < TOLERANCE["image"], name
    kept = Path("figures") / "methods.jpg"
    assert (tmp_path / kept).read_bytes() == (REPORT / kept).read_bytes()


@pytest.mark.parametrize("name", ["held_out", "methods", "failures", "fsa", "heroes"])
def test_figure_shows_the_photographs_of_its_rule(published, cheap, tmp_path, name):
    figures.keep("tables/test/scores.csv", tmp_path)
    found, missing = figures.find_collections()
    assert not missing
    collection = "historical" if name in ("fsa", "heroes") else "test"
    credits = getattr(figures, f"draw_{name}")(found[collection], tmp_path)
    wanted = [row for row in read_rows(REPORT / "tables" / "credits.csv")]
    assert credits and credits == [row for row in wanted if row["figure"] == f"{name}.jpg"]
    made, old = (Image.open(f / "figures" / f"{name}.jpg") for f in (tmp_path, REPORT))
    assert np.abs(np.subtract(made.size, old.size)).max() < 60  # as many rows and columns


def test_plates_come_out_again(published, cheap, tmp_path):
    paths = [path for path in downloads.find_photos("plates") if path.stem in ("01043v", "00600v")]
    credits = figures.make_plates(paths, tmp_path, measure=False)
    table = Path("tables") / "plates" / "alignment.csv"
    wanted = {row["plate"]: row for row in read_rows(REPORT / table)}
    made = read_rows(tmp_path / table)
    assert [row["plate"] for row in made] == [path.name for path in paths]
    for row in made:
        for key, value in row.items():
            if key != "plate":
                assert float(value) == pytest.approx(float(wanted[row["plate"]][key]), abs=0.1)
    assert {row["figure"] for row in credits} == {"plate.jpg", "plates.jpg"}
    assert not pixels(tmp_path / "figures" / "plate.jpg").std() < 20


def committed(table, photo, method):
    scores = evaluation.read_scores(REPORT / "tables" / table / "scores.csv")
    return next(score for score in scores if (score.photo, score.method) == (photo, method))


def assert_same_score(new, old):
    assert new.psnr == pytest.approx(old.psnr, abs=TOLERANCE["psnr"])
    for name in (
        "ab_error",
        "grey_ab_error",
        "ciede2000",
        "colorfulness",
        "true_colorfulness",
        "ssim",
    ):
        assert getattr(new, name) == pytest.approx(
            getattr(old, name), rel=TOLERANCE["relative"], abs=0.02
        ), (name, new)


def measured(name, paths, folder):
    """The scores of a table measured anew, without the mean colour, which all photographs give."""
    figures.measure_all(name, paths, folder, measure=True)
    scores = evaluation.read_scores(folder / "tables" / name / "scores.csv")
    assert scores
    return [score for score in scores if score.method != "mean color"]


def test_scores_of_the_slides_are_what_the_released_weights_reach(tmp_path):
    for score in measured("kodachrome", downloads.find_photos("kodachrome-test")[::100], tmp_path):
        assert_same_score(score, committed("kodachrome", score.photo, score.method))


def test_scores_of_the_test_photographs_are_what_the_released_weights_reach(published, tmp_path):
    for score in measured("test", downloads.find_photos("test")[::80], tmp_path):
        assert_same_score(score, committed("test", score.photo, score.method))


def test_scores_of_the_plates_are_what_the_released_weights_reach(published):
    path = downloads.find_photos("plates")[7]
    plate = plates.assemble(photos.read_photo(path))
    scores = figures.score_plates({path.name: plate})
    assert {score.method for score in scores} >= {"koala", "blue exposure: koala-plus 1"}
    for score in scores:
        if score.method != "mean color":
            assert_same_score(score, committed("plates", path.name, score.method))


# ---------------------------------------------------------------- the text


def without_machine(text):
    return re.sub(
        r"`make report`; weights of commit `\w+`; seed 0; [^;]*; figures", "figures", text
    )


def test_text_is_what_the_template_makes_of_the_tables(build):
    assert without_machine(build.text(REPORT)) == without_machine(
        (REPORT / "report.md").read_text(encoding="utf-8")
    )


def test_changed_table_changes_the_text(build, tmp_path):
    shutil.copytree(REPORT / "tables", tmp_path / "tables")
    shutil.copytree(REPORT / "figures", tmp_path / "figures")
    path = tmp_path / "tables" / "paired.csv"
    path.write_text(path.read_text().replace("with fusion", "with something else", 1))
    assert "with something else" in build.text(tmp_path)


def test_every_figure_of_the_report_has_alt_text_and_a_caption():
    text = (REPORT / "report.md").read_text(encoding="utf-8")
    found = re.findall(r"!\[([^\]]*)\]\(figures/([^)]+)\)\n\n\*(.+)", text)
    assert {name for _, name, _ in found} == set(SHOWN)
    for number, (alt, name, caption) in enumerate(found, 1):
        assert alt == notebook.alt_of(REPORT / "figures" / name) and len(alt.split()) >= 8
        assert caption.startswith(f"Figure {number}. ") and caption.endswith(".*")
    assert re.search(r"weights of commit `\w+`; seed 0; .+; figures by `report/figures.py`", text)
    assert text.count("](https://www.flickr.com/") > 5 or "CC BY" in text


def test_map_names_figures_functions_and_notebooks_that_exist():
    text = (REPORT / "report.md").read_text(encoding="utf-8")
    mapped = text.split("## From the paper's figures to ours")[1].split("\n## ")[0]
    assert max(map(int, re.findall(r"Figures? (\d+)", mapped))) <= text.count("](figures/")
    names = re.findall(r"`(?:figures\.)?((?:draw|measure|make|write)_\w+)`", mapped)
    assert names and all(callable(getattr(figures, name)) for name in names)
    links = re.findall(r"\]\(([^)]+)\)", mapped)
    assert links and all((REPORT / link).is_file() for link in links)


def test_pages_are_self_contained(build, tmp_path):
    shutil.copy(REPORT / "report.md", tmp_path)
    shutil.copytree(REPORT / "figures", tmp_path / "figures")
    build.render(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r'<img[^>]*\bsrc="([^"]{0,30})', page)
    assert len(sources) == len(SHOWN) and all(
        source.startswith("data:image/") for source in sources
    )
    assert not re.findall(r'<(?:script|link)[^>]*(?:src|href)="(?!data:)', page)
    pages = PdfReader(tmp_path / "report.pdf").pages
    assert 4 <= len(pages) <= 14  # figures have at most four photographs a row
    words = "".join(page.extract_text() for page in pages)
    assert "Prokudin-Gorskii" in words and "What fails" in words
