"""Figures carry their text and stay large enough to see, and checks know right answers."""

import base64
import io
import re

import drawings
import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import make_photo
from PIL import Image

from koala_utils import notebook

ALT = "Größe: a photograph twice"


def draw(kind, path):
    photo = make_photo(0)
    if kind == "photographs":
        notebook.photo_grid([[photo, photo[..., 0]]], ALT, row_notes=["cat\ndog"], path=path)
    elif kind == "fusion":
        drawings.fusion((28, 28, 256), 1000, (28, 28, 256), ALT, path)
    elif kind == "intervals":
        groups = {"all": {"grey": (1.0, 0.9, 1.1)}}
        drawings.intervals(groups, ALT, "ratio", path, reference=1)
    elif kind == "gamut":
        drawings.gamut(np.array([[0.0, 0.0], [0.5, -0.2]]), {"share": [0.9, 0.1]}, ALT, path)
    elif kind == "curves":
        notebook.curves({"loss": ([1, 2], [3, 4])}, ALT, reference=("grey", 3), path=path)
    elif kind == "bars":
        notebook.top_class_bars([[("cat", 3.0), ("dog", 1.0)]], ["a photograph"], ALT, path)
    else:
        drawings.architecture([("encoder_1", (8, 8, 4)), ("embedding", (1000,))], ALT, path)


@pytest.fixture
def displayed(monkeypatch):
    """What a notebook would get: a list of (data, metadata)."""
    shown = []
    monkeypatch.setattr(
        notebook, "display", lambda data, metadata, raw: shown.append((data, metadata))
    )
    return shown


@pytest.mark.parametrize(
    "kind", ["photographs", "fusion", "intervals", "gamut", "curves", "bars", "architecture"]
)
def test_figure_and_its_file_carry_the_alt_text(tmp_path, displayed, kind):
    path = tmp_path / ("a.jpg" if kind == "photographs" else "a.png")
    draw(kind, path)
    assert notebook.alt_of(path) == ALT
    assert np.asarray(Image.open(path).convert("L")).std() > 5  # something is drawn
    [(data, metadata)] = displayed
    mime = "image/jpeg" if kind == "photographs" else "image/png"
    assert data == {mime: path.read_bytes(), "text/plain": ALT}
    assert metadata == {mime: {"alt": ALT}}


def test_figure_without_alt_text_leaves_it_to_the_cell_s_metadata(displayed):
    notebook.curves({"loss": ([1, 2], [3, 4])})
    [(data, metadata)] = displayed
    assert list(data) == ["image/png", "text/plain"] and metadata == {}


def test_file_without_alt_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a.png"):
        notebook.show(plt.figure(), path=tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("count, lines, columns", [(1, 1, 1), (4, 1, 4), (5, 2, 3), (8, 2, 4)])
def test_photographs_stand_at_most_four_in_a_line_and_large(
    tmp_path, displayed, count, lines, columns
):
    red = np.full((60, 60, 3), (255, 0, 0), np.uint8)
    notebook.photo_grid([[red] * count], "red squares", path=tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    is_red = (picture[..., 0] > 200) & (picture[..., 1] < 80)
    row, column = is_red[is_red.any(1).argmax() + 20], is_red[:, is_red.any(0).argmax() + 20]
    assert np.sum(np.diff(row.astype(int)) == -1) + row[-1] == columns
    assert np.sum(np.diff(column.astype(int)) == -1) + column[-1] == lines
    assert row.sum() / columns >= 300


def test_long_rows_go_on_below_all_rows_with_their_titles(monkeypatch, displayed):
    figures = []
    monkeypatch.setattr(notebook, "show", lambda figure, *_, **__: figures.append(figure))
    rows = [[make_photo(i) for i in range(5)], [make_photo(0), None]]
    notebook.photo_grid(rows, "seven", list("abcde"), ["one", "two"], ["x", "y"])
    axes = np.array(figures[0].axes).reshape(3, 3)
    assert [ax.get_title() for ax in axes[0]] == list("abc")
    assert [ax.get_title() for ax in axes[2]] == ["d", "e", ""]
    assert [line[0].get_ylabel() for line in axes] == ["one", "two", "one"]
    assert [line[-1].texts[0].get_text() for line in axes] == ["x", "y", "x"]
    assert [[len(ax.images) for ax in line] for line in axes] == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    plt.close(figures[0])


def test_contact_sheet_carries_its_alt_text(tmp_path):
    photos = [make_photo(0), make_photo(1)]
    notebook.contact_sheet([photos], tmp_path / "sheet.jpg", side=40, alt="two photographs")
    assert notebook.alt_of(tmp_path / "sheet.jpg") == "two photographs"


def test_contact_sheets_are_written_when_they_are_full_and_hold_small_copies(tmp_path):
    with notebook.ContactSheets(tmp_path / "new", rows_per_sheet=2, side=40) as sheets:
        for i in range(5):
            sheets.add([make_photo(i, 80, 120), make_photo(i + 1, 80, 60)])
            assert len(sheets.rows) < 2
            assert all(photo.shape[0] == 40 for row in sheets.rows for photo in row)
    written = sorted((tmp_path / "new").iterdir())
    assert [path.name for path in written] == ["sheet-00.jpg", "sheet-01.jpg", "sheet-02.jpg"]
    assert [Image.open(path).size for path in written] == [(90, 80), (90, 80), (90, 40)]


@pytest.mark.parametrize("name", ["plain.jpg", "plain.png"])
def test_picture_without_alt_text_is_named(tmp_path, name):
    Image.fromarray(make_photo(0)).save(tmp_path / name)
    with pytest.raises(ValueError, match=name):
        notebook.alt_of(tmp_path / name)


def test_same_figure_is_the_same_file(tmp_path):
    for name in ("one.png", "two.png"):
        draw("fusion", tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_architecture_s_tallest_box_has_one_height_for_every_size(tmp_path):
    for side in (7, 56):
        path = tmp_path / f"{side}.png"
        drawings.architecture([("encoder_1", (side, side, 64))], "one box", path)
    small, large = (
        np.asarray(Image.open(tmp_path / f"{side}.png").convert("L")) for side in (7, 56)
    )
    assert abs(int((small < 200).any(1).sum()) - int((large < 200).any(1).sum())) <= 6


# ---------------------------------------------------------------- exercises


@pytest.mark.parametrize(
    "right, same, others",
    [
        (0.7346, [0.7349, np.float32(0.7344)], [0, 0.0, 0.72, 0.7446, -0.7346, None, "0.7346"]),
        (9.997, [10.0, 9.998], [9.9, 10.3, 99.97]),
        (-12345, [np.int64(-12349)], [12345, -12500]),
        ([0.0, 2.5], [(0, 2.5), np.array([0.0, 2.501])], [[0, 0], [2.5, 0], [0, 2.5, 0], 2.5]),
        ("Egyptian cat", ["egyptian  cat ", "EGYPTIAN CAT"], ["tabby", "", "0", 0, None]),
        (["a", 2], [("A", 2.0)], [["b", 2], ["a", 3], {"a": 2}]),
    ],
)
def test_digest_knows_the_right_answer_and_no_other(capsys, right, same, others):
    digest = notebook.digest_of(right)
    assert str(right) not in digest
    for answer in [right, *same]:
        notebook.check(answer, "look again.", digest)
        assert capsys.readouterr().out == "right\n", answer
    for answer in others:
        notebook.check(answer, "look again.", digest)
        assert capsys.readouterr().out == "not yet: look again.\n", answer


def test_digest_has_as_many_digits_as_asked(capsys):
    notebook.check(123.4, "look again.", notebook.digest_of(123.0, digits=2))
    notebook.check(123.4, "look again.", notebook.digest_of(123.0, digits=4))
    assert capsys.readouterr().out == "right\nnot yet: look again.\n"


@pytest.mark.parametrize("answer", [0, [0, 0.0], "", [], np.zeros((2, 2))])
def test_answer_of_somebody_who_solved_nothing_has_no_digest(answer):
    with pytest.raises(ValueError, match="no answer"):
        notebook.digest_of(answer)


def test_check_without_a_digest_takes_a_condition(capsys):
    notebook.check(np.bool_(True), "look again.")
    notebook.check(False, "look again.")
    assert capsys.readouterr().out == "right\nnot yet: look again.\n"


def test_slider_holds_every_photograph_and_shows_the_one_at_which_it_starts(displayed):
    photos = [np.full((8, 8, 3), grey, np.uint8) for grey in (0, 128, 255)]
    white = np.ones((8, 8, 3), np.float32)
    notebook.slider([*photos[:2], white], "a square", ["a", "b", "<c>"], start=1)
    [(data, _)] = displayed
    page = data["text/html"]
    found = re.findall(
        r'base64,([^"]+)" alt="([^"]+)" data-text="([^"]+)" style="display:(\w+)', page
    )
    assert [found[1:] for found in found] == [
        ("a square: a", "a", "none"),
        ("a square: b", "b", "block"),
        ("a square: &lt;c&gt;", "&lt;c&gt;", "none"),
    ]
    for (code, *_), photo in zip(found, photos, strict=True):
        stored = Image.open(io.BytesIO(base64.b64decode(code)))
        np.testing.assert_allclose(np.asarray(stored), photo, atol=2)
    assert 'max="2" value="1"' in page and "<span>b</span>" in page
    with pytest.raises(ValueError):
        notebook.slider(photos, "a square", ["a", "b"])
