"""The widgets without a browser: what is shown is downloaded, bad files get a sentence, nobody sees
another's photograph.
"""

import io
import subprocess
import sys
import tempfile
import zlib

import ipywidgets
import numpy as np
import pytest
from helpers import assert_one_sentence, differ_by_rounding_at_most, make_noise, make_photo
from PIL import Image, ImageCms

from koala_utils import colorize, colorizer, evaluation, film, hints
from koala_utils.app import demo, study
from koala_utils.downloads import find_photos
from koala_utils.photos import PhotoError, read_photo

DUST_BOWL = 3  # in the gallery


def encoded(array, kind="JPEG", **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture
def page():
    return demo.Demo()


@pytest.fixture
def opened(page):
    """A page that shows a bundled photograph."""
    page.gallery.selected = DUST_BOWL
    assert page.uploads.messages == []
    return page


def send(page, name, data, part=None, number=0, **changes):
    """What a browser sends of a file, in parts."""
    part = part or max(1, len(data))
    for start in range(0, max(1, len(data)), part):
        message = {
            "kind": "file",
            "name": name,
            "size": len(data),
            "start": start,
            "last": start + part >= len(data),
        }
        page._received(
            None,
            message | {"number": number, "count": 1} | changes,
            [memoryview(data[start : start + part])],
        )


# ---------------------------------------------------------------- what is shown


def test_page_opens_without_tensorflow():
    code = (
        "import sys; from koala_utils.app import demo; demo.Demo();"
        " sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_gallery_offers_every_bundled_photograph(page):
    assert (
        len(page.gallery.tiles)
        == len(find_photos("bundled") + find_photos("bundled-historical"))
        == 14
    )
    assert [tile["label"] for tile in page.gallery.tiles] == [entry.title for entry in page.entries]
    assert all(evaluation.colorfulness(decoded(tile["picture"])) < 1 for tile in page.gallery.tiles)


def test_chosen_photograph_is_shown_grey_and_in_color(opened):
    before, after = decoded(opened.wipe.before), decoded(opened.wipe.after)
    assert (
        before.shape == after.shape and before.shape[0] * before.shape[1] <= 1.01 * demo.PREVIEW**2
    )
    assert evaluation.colorfulness(before) < 1 < 4 < evaluation.colorfulness(after)
    assert np.abs(film.grey_of(before) - film.grey_of(after)).mean() < 0.02
    assert opened.wipe.alt == "dust bowl home" and "koala-empty" not in opened._dom_classes


def test_sliders_show_what_colorize_would_do(opened):
    preview = opened.current.predictions["koala-plus"]
    for vividness, strength in ((0.0, 1.0), (1.0, 0.5), (0.3, 0.0)):
        opened.vividness.value, opened.strength.value = vividness, strength
        expected = colorizer.render(preview, vividness, strength)
        assert (
            np.abs(decoded(opened.wipe.after).astype(int) - expected).mean() < 3
        )  # what JPEG leaves


def test_moving_slider_shows_the_same_colors_in_fewer_pixels(opened):
    opened.vividness.moving = True
    opened.vividness.value = 1.0
    rough = decoded(opened.wipe.after)
    opened.vividness.moving = False
    sharp = decoded(opened.wipe.after)
    assert rough.size < 0.4 * sharp.size
    smaller = np.asarray(Image.fromarray(sharp).resize(rough.shape[1::-1], Image.LANCZOS))
    assert (
        np.abs(rough.astype(int) - smaller).mean() < 6 and evaluation.ab_error(rough, smaller) < 20
    )


def test_download_is_what_is_shown_at_full_size(opened):
    photo = read_photo(opened.current.source)
    for look, (model, vividness) in demo.LOOKS.items():
        opened.take_look(look)
        opened.strength.value = 0.7
        name, data = opened.png()
        assert name == "dust_bowl_home-color.png"
        assert differ_by_rounding_at_most(
            decoded(data), colorize(photo, model, vividness=vividness, strength=0.7)
        )


def test_several_colorings_are_offered_and_one_is_marked(opened):
    assert [tile["label"] for tile in opened.looks.tiles] == list(demo.LOOKS)
    assert len({tile["picture"] for tile in opened.looks.tiles}) == len(demo.LOOKS)
    assert list(demo.LOOKS)[opened.looks.selected] == "balanced"
    opened.looks.selected = list(demo.LOOKS).index("the paper's koala")
    assert opened.model == "koala"
    opened.vividness.value = 1.0  # koala has no such thing, so this is koala-plus again
    assert opened.model == "koala-plus" and list(demo.LOOKS)[opened.looks.selected] == "vivid"
    opened.vividness.value = 0.9
    assert opened.looks.selected == -1


def test_lent_meaning_changes_the_colors_and_goes_back(opened):
    own, seen = opened.wipe.after, opened.seen.value
    opened.lender.value = next(entry for entry in opened.entries if entry.title == "flower")
    assert evaluation.ab_error(decoded(opened.wipe.after), decoded(own)) > 1
    assert "flower" in opened.seen.value != seen
    photo, vector = (
        read_photo(opened.current.source),
        opened.lender.value.predictions["koala-plus"].embedding,
    )
    expected = colorizer.render(colorizer.predict(photo, embedding=vector), 0.5)
    assert np.abs(decoded(opened.png()[1]).astype(int) - expected).mean() < 1
    opened.lender.value = demo.OWN
    assert (opened.wipe.after, opened.seen.value) == (own, seen)


def test_another_photograph_begins_with_its_own_meaning(opened):
    opened.lender.value = opened.entries[0]
    opened.gallery.selected = 1
    assert (
        opened.lender.value == demo.OWN
        and opened.lent == {}
        and opened.wipe.alt == opened.entries[1].title
    )


def test_five_classes_are_shown_with_their_bars(opened):
    assert opened.seen.value.count("<li>") == opened.seen.value.count("width:") == 5


def test_every_control_has_a_name(page):
    def controls(widget):
        children = getattr(widget, "children", ())
        return [found for child in children for found in controls(child)] if children else [widget]

    named = [control for control in controls(page) if not isinstance(control, ipywidgets.HTML)]
    assert len(named) == 8
    assert all(getattr(control, "label", "") or control.description for control in named)


# ---------------------------------------------------------------- hints


def near(rgb, x, y, radius=5):
    """The mean color around a place."""
    return rgb[y - radius : y + radius, x - radius : x + radius].reshape(-1, 3).mean(0)


def hint(page, hints):
    """What the page sends when hints were added, moved or removed."""
    page._hint_asked(None, {"kind": "hints", "hints": hints, "number": 1}, [])


def test_hint_colors_its_place_and_the_download_has_it(opened):
    photo, plain = read_photo(opened.current.source), decoded(opened.wipe.after)
    height, width = photo.shape[:2]
    red = [width // 4, height // 4, "#c02020"]
    hint(opened, [red])
    assert opened.wipe.messages == [] and opened.current.hints == [red]
    shown = decoded(opened.wipe.after)
    rows, columns = plain.shape[:2]
    change = [
        np.abs(near(shown, x, y) - near(plain, x, y)).max()
        for x, y in ((columns // 4, rows // 4), (columns - 10, rows - 10))
    ]
    assert change[0] > 15 and change[1] < 0.3 * change[0]
    expected = colorize(photo, hints=[red])
    assert differ_by_rounding_at_most(decoded(opened.png()[1]), expected)


def test_hints_belong_to_their_photograph_and_stay_with_every_look(opened):
    given = [[30, 40, "#c02020"], [80, 20, "#808080"]]
    hint(opened, given)
    colored = opened.wipe.after
    opened.gallery.selected = 1
    assert opened.wipe.hints == [] and not opened.wipe.undoable
    opened.gallery.selected = DUST_BOWL
    assert (opened.wipe.hints, opened.wipe.after) == (given, colored)
    assert opened.wipe.undoable and opened.wipe.size == list(opened.current.shape[::-1])
    for look, (model, vividness) in demo.LOOKS.items():
        opened.take_look(look)
        prediction = opened.current.predictions[model]
        scale = prediction.photo.shape[1] / opened.current.shape[1]
        scaled = [(scale * x, scale * y, color) for x, y, color in given]
        expected = colorizer.render(prediction, vividness, hints=scaled)
        assert np.abs(decoded(opened.wipe.after).astype(int) - expected).mean() < 3
        assert opened.wipe.hints == given


def test_every_change_of_the_hints_is_undone(opened):
    states = [[], [[30, 40, "#c02020"]], [[90, 40, "#c02020"]], []]
    seen = [opened.wipe.after]
    for state in states[1:]:
        hint(opened, state)
        seen.append(opened.wipe.after)
    assert seen[0] == seen[3] and len(set(seen)) == 3
    for state, after in zip(states[-2::-1], seen[-2::-1], strict=True):
        assert opened.wipe.undoable
        opened._hint_asked(None, {"kind": "undo"}, [])
        assert (opened.wipe.hints, opened.wipe.after) == (state, after)
    opened._hint_asked(None, {"kind": "undo"}, [])
    assert not opened.wipe.undoable and opened.wipe.messages == []


def test_offered_colors_are_the_modes_of_the_network_there(opened):
    opened._hint_asked(None, {"kind": "offer", "x": 200, "y": 100}, [])
    offers, plus = opened.wipe.offers, opened.current.predictions["koala-plus"]
    assert (offers["x"], offers["y"], len(offers["colors"])) == (200, 100, 5)
    row, column = (
        side * place // whole
        for side, place, whole in zip(
            plus.lightness.shape, (100, 200), opened.current.shape, strict=False
        )
    )
    modes = hints.swatches(plus.output[0, row // 4, column // 4])
    assert [share for _, share in offers["colors"]] == [share for _, share in modes]
    for (color, _), (chroma, _) in zip(offers["colors"], modes, strict=True):
        offered = hints.parse_color(color)
        if np.linalg.norm(chroma) > 0.1:  # it may be duller, as sRGB ends, but not another hue
            assert offered @ chroma > 0.95 * np.linalg.norm(offered) * np.linalg.norm(chroma)
    opened.take_look("the paper's koala")  # which has a single answer
    opened._hint_asked(None, {"kind": "offer", "x": 200, "y": 100}, [])
    assert opened.wipe.offers["colors"] == [] and opened.wipe.messages == []


@pytest.mark.parametrize(
    "given, reasons",
    [
        ([[-1, 5, "#c02020"]], ["-1, 5", "outside"]),
        ([[5, 10**9, "#c02020"]], ["outside"]),
        ([[float("nan"), 5, "#c02020"]], ["outside"]),
        ([[5, 5, "#c0202"]], ["#c0202", "colour"]),
        ([[5, 5, "no colour"]], ["no colour"]),
        ([[5, 5, None]], ["None", "colour"]),
        ([[5, 5]], ["hint"]),
        ([None], ["None", "hint"]),
        (5, ["list"]),
        ("text", ["list"]),
        ([[5, 5, "#c02020"]] * 101, ["100"]),
    ],
)
def test_bad_hints_get_a_sentence_and_the_page_goes_on(opened, given, reasons):
    good = [[30, 40, "#c02020"]]
    hint(opened, good)
    colored = opened.wipe.after
    hint(opened, given)
    [message] = opened.wipe.messages
    assert_one_sentence(message, *reasons)
    assert opened.wipe.hints == opened.current.hints == good
    assert opened.wipe.after == colored and opened.uploads.messages == []
    hint(opened, [])
    assert opened.wipe.messages == [] and opened.current.hints == []


@pytest.mark.parametrize("place", [(-1, 5), (5, 10**9), (None, 5), ("left", 5), ([], {})])
def test_colors_of_no_place_are_refused(opened, place):
    opened._hint_asked(None, {"kind": "offer", "x": place[0], "y": place[1]}, [])
    assert_one_sentence(opened.wipe.messages[0], "hint")
    assert opened.wipe.offers == {}


def test_hint_on_the_edge_of_a_film_is_refused(page):
    photo = np.full((300, 400, 3), 255, np.uint8)
    photo[30:270, 40:360] = np.clip(make_photo(1, 240, 320), 20, 200)
    page.upload("framed.png", encoded(photo, "PNG"))
    assert page.current.picture != (0, 300, 0, 400)
    hint(page, [[5, 5, "#c02020"]])
    assert_one_sentence(page.wipe.messages[0], "edge")
    hint(page, [[200, 150, "#c02020"]])
    assert page.wipe.messages == [] and len(page.wipe.hints) == 1


def test_page_without_a_photograph_ignores_hints(page):
    hint(page, [[5, 5, "#c02020"]])
    page._hint_asked(None, {"kind": "offer", "x": 5, "y": 5}, [])
    assert page.wipe.messages == [] and page.wipe.offers == {}


def test_hints_are_factorized_once_for_each_photograph_and_model(opened, monkeypatch):
    monkeypatch.setattr(colorizer, "Spreader", lambda *_: pytest.fail("again"))
    hint(opened, [[30, 40, "#c02020"]])
    opened.strength.moving = True
    opened.strength.value = 0.7
    opened.take_look("the paper's koala")
    assert opened.png()[1]


# ---------------------------------------------------------------- uploads


def test_uploaded_photograph_comes_first_and_is_shown(page):
    data = encoded(make_photo(1, 300, 400), quality=95)
    send(page, "aunt.jpg", data, part=1000)
    assert page.uploads.messages == [] and page.uploads.busy == ""
    assert page.entries[0].title == page.gallery.tiles[0]["label"] == page.wipe.alt == "aunt.jpg"
    assert (page.gallery.selected, page.entries[0].source) == (0, data)
    assert "400 × 300" in page.download.label
    assert "aunt.jpg" in [title for title, _ in page.lender.options]
    assert decoded(page.png()[1]).shape == (300, 400, 3)


def test_turned_photograph_comes_back_upright_with_its_exif_and_profile(page):
    photo, exif = make_photo(2, 120, 200), Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Leica"  # to be turned by 90 degrees; the camera's maker
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    send(page, "turned.jpg", encoded(photo, quality=95, exif=exif, icc_profile=profile))
    result = Image.open(io.BytesIO(page.png()[1]))
    assert result.size == (120, 200)
    assert result.getexif().get(0x0112, 1) == 1 and result.getexif()[0x010F] == "Leica"
    assert "icc_profile" in result.info
    upright = np.rot90(evaluation.grey_baseline(photo), -1)
    assert np.abs(film.grey_of(np.asarray(result)) - film.grey_of(upright)).mean() < 0.02


def test_progress_of_several_files_is_that_of_all(page):
    said, shares = [], []
    page.uploads.observe(lambda change: said.append(change.new), "busy")
    page.uploads.observe(lambda change: shares.append(change.new), "progress")
    for number, name in enumerate(("one.png", "two.png")):
        send(page, name, encoded(make_photo(number), "PNG"), number=number, count=2)
    assert (
        "Colouring one.png … (1 of 2)" in said
        and "Colouring two.png … (2 of 2)" in said
        and said[-1] == ""
    )
    working = [share for share in shares if share]
    assert working == sorted(working) and 0 < working[0] < 0.5 < working[-1] <= 1
    assert [entry.title for entry in page.entries[:2]] == ["two.png", "one.png"]


def bomb(width=60_000, height=60_000):
    """A PNG of a few hundred bytes that claims to be enormous."""

    def chunk(kind, data):
        return (
            len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        )

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


BAD = {
    "note.txt": (b"Dear aunt,", "not a photograph"),
    "empty.jpg": (b"", "empty"),
    "bomb.png": (bomb(), "60000 x 60000"),
    "half.jpg": (encoded(make_noise(1, 200, 200))[:9000], "damaged"),
    "drawing.eps": (encoded(make_photo(), "EPS"), "not a photograph"),
    "page.html": (b"<html><script>alert(1)</script></html>", "not a photograph"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file_gets_a_sentence_and_the_page_goes_on(page, name):
    data, reason = BAD[name]
    send(page, f"../../etc/{name}", data)
    [message] = page.uploads.messages
    assert_one_sentence(message, name, reason)
    assert "/" not in message
    assert len(page.entries) == 14 and page.uploads.busy == ""
    send(page, "good.png", encoded(make_photo(), "PNG"))
    assert page.uploads.messages == [] and page.wipe.alt == "good.png"


@pytest.mark.parametrize("claimed", [None, 10])
def test_too_many_bytes_are_refused_whatever_the_page_claims(page, monkeypatch, claimed):
    monkeypatch.setattr(demo, "MAX_BYTES", 5_000)
    data = encoded(make_noise(3, 200, 200), "PNG")
    kept = []
    monkeypatch.setattr(demo.Demo, "upload", lambda *_: pytest.fail("it was taken"))
    for start in range(0, len(data), 1000):
        changes = {"start": start, "last": start + 1000 >= len(data)} | (
            {} if claimed is None else {"size": claimed}
        )
        send(page, "large.png", data[start : start + 1000], **changes)
        kept.append(len(page._arriving))
    assert max(kept) <= 6_000 < len(data)
    assert_one_sentence(page.uploads.messages[0], "large.png", "MB")


def test_file_that_the_page_did_not_send_is_refused_as_too_large(page):
    send(page, "film.tiff", b"", size=demo.MAX_BYTES + 1)
    assert_one_sentence(page.uploads.messages[0], "film.tiff", "40")


def test_more_photographs_than_are_kept_are_refused(page, monkeypatch):
    monkeypatch.setattr(demo, "MAX_UPLOADS", 1)
    data = encoded(make_photo())
    page.upload("one.jpg", data)
    with pytest.raises(PhotoError) as error:
        page.upload("two.jpg", data)
    assert_one_sentence(error, "two.jpg", "1")
    assert len(page.entries) == 15


def test_what_nobody_foresaw_names_no_path(page, monkeypatch):
    def fail(*_):
        raise OSError(5, "Input/output error", "/srv/secret/photo.jpg")

    monkeypatch.setattr(demo.Entry, "read", fail)
    page.gallery.selected = 2
    assert_one_sentence(page.uploads.messages[0], "OSError")
    assert "secret" not in page.uploads.messages[0] and page.gallery.selected == -1
    monkeypatch.undo()
    page.gallery.selected = 2
    assert page.uploads.messages == [] and page.wipe.after


@pytest.mark.parametrize(
    "name, expected",
    [
        ("C:\\photos\\me.jpg", "me.jpg"),
        ("a\nb\u202e.png", "ab.png"),
        ("", "photograph"),
        ("x" * 300 + ".jpg", "x" * 80 + ".jpg"),
        (".hidden", "hidden"),
        ("no suffix", "no suffix"),
    ],
)
def test_file_name_is_made_plain(name, expected):
    assert demo._plain(name) == expected


def test_file_name_is_text_and_not_markup(page):
    send(page, "<img src=x onerror=alert(1)>.png", encoded(make_photo(4), "PNG"))
    lender = page.entries[0]
    page.gallery.selected = 5
    page.lender.value = lender
    assert "&lt;img" in page.seen.value and "<img" not in page.seen.value


def test_two_pages_do_not_see_each_other_s_photographs(page):
    other = demo.Demo()
    page.upload("mine.jpg", encoded(make_photo()))
    assert len(page.entries) == 15 and len(other.entries) == 14
    assert "mine.jpg" not in [tile["label"] for tile in other.gallery.tiles]
    assert page._arriving is not other._arriving


def test_nothing_is_left_on_the_disk(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    opened.upload("aunt.jpg", encoded(make_photo()))
    assert opened.png()[1]
    assert list(tmp_path.rglob("*")) == []


# ---------------------------------------------------------------- the colour Turing test


@pytest.fixture
def study_page(tmp_path):
    return demo.Study(answers=tmp_path / "answers.csv", seed=1)


def test_study_falls_back_on_the_bundled_photographs():
    assert demo.study_photographs() == find_photos("bundled")


def test_study_takes_the_test_collection_where_it_is(published):
    assert len(demo.Study().shown) == study.PHOTOGRAPHS


def test_study_keeps_every_answer_and_ends_with_what_they_say(study_page):
    study_page.start(2.0)
    assert study_page.question.seconds == 2 and study_page.question.count == 8
    for number in range(1, 9):
        assert study_page.question.number == number
        answer = {"kind": "answer", "number": number, "real": number % 2 == 0, "seconds": 0.5}
        study_page._received(None, answer, [])
        study_page._received(None, answer, [])  # a second press does not answer the next photograph
    kept = study.read_answers(study_page.answers)
    assert [(a.photo, a.recolored) for a in kept] == [
        (path.stem, recolored) for path, recolored in study_page.shown
    ]
    assert [a.taken_for_real for a in kept] == [False, True] * 4
    assert all(line.replace("'", "&#x27;") in study_page.note.value for line in study.report(kept))
    right = sum(a.recolored != a.taken_for_real for a in kept)
    assert f"right about {right} of 8" in study_page.note.value


def test_study_without_answers_writes_nothing(study_page):
    study_page.start(0.0)
    assert not study_page.answers.exists()


def test_real_and_recolored_photographs_differ_in_nothing_but_color():
    path = find_photos("bundled")[3]
    real, recolored = (decoded(demo.study_picture(path, kind)) for kind in (False, True))
    assert real.shape == recolored.shape and max(real.shape) <= 640
    assert np.abs(film.grey_of(real) - film.grey_of(recolored)).mean() < 0.02
    truth = read_photo(path)  # small enough to be shown as it is
    assert evaluation.ab_error(real, truth) < 0.1 * evaluation.ab_error(recolored, truth)


def test_answer_that_cannot_be_kept_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    page = demo.Study(answers=tmp_path / "file" / "answers.csv", seed=1)
    page.start(0.0)
    page._received(None, {"kind": "answer", "number": 1, "real": True, "seconds": 1}, [])
    assert "could not be kept" in page.note.value and str(tmp_path) not in page.note.value
    assert page.question.number == 1


# ---------------------------------------------------------------- before and after


def test_comparison_holds_both_photographs():
    one, other = make_photo(1), make_photo(2)
    widget = demo.compare(one, other, "two")
    assert np.abs(decoded(widget.before).astype(int) - one).mean() < 4
    assert np.abs(decoded(widget.after).astype(int) - other).mean() < 4
    assert len(repr(widget)) < 200  # a notebook is saved with it
