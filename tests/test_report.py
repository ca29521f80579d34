"""The report can be made again: figures and tables from photographs, its text from the tables."""

import csv
import importlib.util
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import plates
import pytest
from nbclient import NotebookClient
from PIL import Image
from pypdf import PdfReader

from koala_utils import REPORT as MADE
from koala_utils import ROOT, downloads, evaluation, notebook, photos

REPORT = ROOT / "report"
MADE_BY_7 = [
    path.name
    for path in sorted((REPORT / "figures").iterdir())
    if path.suffix in (".png", ".jpg")
    and not path.stem.startswith(("before_after", "historical", "demo"))
]
TOLERANCE = {"image": 2.0, "psnr": 0.05, "relative": 0.01}  # as the report's last section says


@pytest.fixture(scope="module")
def printed(request):
    """What notebook 7 printed when these tests executed it; without it, this module does so."""
    path = ROOT / "notebooks" / "07_report_figures.ipynb"
    cells = [item for item in request.session.items if item.path == path]
    if cells:
        outputs = [cell.test_outputs for cell in cells]
        assert None not in outputs, "notebook 7 did not run to its end"
    else:
        executed = nbformat.read(path, as_version=4)
        resources = {"metadata": {"path": path.parent}}
        NotebookClient(executed, timeout=900, kernel_name="python3", resources=resources).execute()
        outputs = [cell.get("outputs", []) for cell in executed.cells]
    return "".join(
        output["text"] for cell in outputs for output in cell if output.get("name") == "stdout"
    )


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


def test_figures_and_tables_come_out_again(printed):
    if "all photographs were at hand" not in printed:
        pytest.skip("notebook 7 had no photographs to make them from")
    for name in MADE_BY_7:
        difference = pixels(MADE / "figures" / name) - pixels(REPORT / "figures" / name)
        assert np.abs(difference).mean() < TOLERANCE["image"], name
    for name in (
        "layers_koala.csv",
        "layers_koala_plus.csv",
        "paired.csv",
        "credits.csv",
        "plates/alignment.csv",
    ):
        assert_same_table(REPORT / "tables" / name, MADE / "tables" / name)
    for name in ("test/table.md", "plates/table.md"):
        assert (MADE / "tables" / name).read_text() == (REPORT / "tables" / name).read_text()


def test_without_photographs_and_network_the_rest_is_made_and_named(tmp_path, monkeypatch, capsys):
    """Notebook 7's other branch: its cells in this process, with an empty cache and no network."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr("koala_utils.REPORT", tmp_path)
    names = {}
    for cell in nbformat.read(ROOT / "notebooks" / "07_report_figures.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
    printed = capsys.readouterr().out
    for collection in ("test", "historical", "plates"):
        assert f"left as it was, {collection}:" in printed
    for name in MADE_BY_7:
        assert notebook.alt_of(tmp_path / "figures" / name) == notebook.alt_of(
            REPORT / "figures" / name
        )
    kept = Path("figures") / "methods.jpg"
    assert (tmp_path / kept).read_bytes() == (REPORT / kept).read_bytes()
    made = Path("figures") / "architecture.png"
    assert np.abs(pixels(tmp_path / made) - pixels(REPORT / made)).mean() < TOLERANCE["image"]
    table = Path("tables") / "test" / "table.md"
    assert (tmp_path / table).read_text() == (REPORT / table).read_text()


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


def test_scores_of_the_test_photographs_are_what_the_released_weights_reach(published):
    for score in evaluation.evaluate(
        downloads.find_photos("test")[::40],
        {"grey": evaluation.grey_baseline, **evaluation.model_methods()},
        False,
    ):
        assert_same_score(score, committed("test", score.photo, score.method))


def test_scores_of_the_plates_are_what_the_released_weights_reach(published):
    path = downloads.find_photos("plates")[7]
    rgb = plates.assemble(photos.read_photo(path)).rgb
    for name, method in evaluation.model_methods().items():
        outputs = {name: method(rgb), f"blue exposure: {name}": method(rgb[..., 2])}
        for score in evaluation.score(path.name, rgb, outputs):
            assert_same_score(score, committed("plates", path.name, score.method))


# ---------------------------------------------------------------- the text


def without_machine(text):
    return re.sub(
        r"`make report`; weights of commit `\w+`; seed 0; [^;]*; notebook", "notebook", text
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


def test_every_figure_of_the_report_has_alt_text_and_says_how_it_was_made():
    text = (REPORT / "report.md").read_text(encoding="utf-8")
    found = re.findall(r"!\[([^\]]*)\]\(figures/([^)]+)\)\n\n\*(.+)", text)
    assert {name for _, name, _ in found} == set(MADE_BY_7)
    for number, (alt, name, caption) in enumerate(found, 1):
        assert alt == notebook.alt_of(REPORT / "figures" / name) and len(alt.split()) >= 8
        assert caption.startswith(f"Figure {number}. ")
        assert re.search(
            r"`make report`; weights of commit `\w+`; seed 0; .+; notebook 07, section 7\.\d",
            caption,
        )
    assert text.count("](https://www.flickr.com/") > 5 or "CC BY" in text


def test_map_names_figures_and_sections_that_exist():
    text = (REPORT / "report.md").read_text(encoding="utf-8")
    mapped = text[
        text.index("## From the paper's figures to ours") : text.index(
            "## How to make this report again"
        )
    ]
    assert max(map(int, re.findall(r"Figures? (\d+)", mapped))) <= text.count("](figures/")
    headings = "".join(
        (ROOT / "notebooks" / name).read_text(encoding="utf-8")
        for name in (
            "03_building_the_model.ipynb",
            "05_historical_photos.ipynb",
            "07_report_figures.ipynb",
        )
    )
    for section in re.findall(r"\b([357]\.\d+)", mapped):
        assert f"## {section} " in headings, section


def test_pages_are_self_contained(build, tmp_path):
    shutil.copy(REPORT / "report.md", tmp_path)
    shutil.copytree(REPORT / "figures", tmp_path / "figures")
    build.render(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r'<img[^>]*\bsrc="([^"]{0,30})', page)
    assert len(sources) == len(MADE_BY_7) and all(
        source.startswith("data:image/") for source in sources
    )
    assert not re.findall(r'<(?:script|link)[^>]*(?:src|href)="(?!data:)', page)
    pages = PdfReader(tmp_path / "report.pdf").pages
    assert 4 <= len(pages) <= 14  # figures have at most four photographs a row
    words = "".join(page.extract_text() for page in pages)
    assert "Prokudin-Gorskii" in words and "What fails" in words


def test_readme_s_figures_of_speed_are_the_benchmark_s(build):
    claims = (
        (ROOT / "README.md").read_text(encoding="utf-8").split("**Speed.**")[1].split("\n- **")[0]
    )
    rows = {
        (row["what"], row["beside"]): row
        for row in build.read_rows(REPORT / "tables" / "speed.csv")
    }
    prepared = rows["koala prepare, mobilenet_v2_grey", "the extractor alone, as Keras calls it"]
    cold = rows["koala colorize, one photograph, cold start", "import tensorflow"]
    folder = rows["koala colorize, 14 photographs of a folder", "a loop over colorize as it is now"]
    memory = rows["koala colorize, 48 megapixels, memory", ""]
    for claim in (
        f"{prepared['figure']} photographs a second, {prepared['ratio']} times",
        f"{cold['figure']} s for one photograph",
        f"{cold['its figure']} s of them",
        f"{folder['figure']} photographs a second",
        f"{memory['figure']} GB",
    ):
        assert claim in " ".join(claims.split())
