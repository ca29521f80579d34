"""Figures: each carries what it shows in words, and shows the numbers it was given."""

import numpy as np
import pytest
from helpers import make_photo
from PIL import Image

from koala_utils import notebook


def drawn(kind, path):
    photo = make_photo(0)
    if kind == "photographs":
        notebook.photo_grid(
            [[photo, photo[..., 0]]], "Größe: a photograph twice", row_notes=["cat\ndog"], path=path
        )
    elif kind == "fusion":
        notebook.fusion((28, 28, 256), 1000, (28, 28, 256), "Größe: a photograph twice", path)
    elif kind == "intervals":
        notebook.intervals(
            {"all": {"grey": (1.0, 0.9, 1.1)}},
            "Größe: a photograph twice",
            "ratio",
            path,
            reference=1,
        )
    else:
        notebook.architecture(
            [("encoder_1", (8, 8, 4)), ("embedding", (1000,))], "Größe: a photograph twice", path
        )


@pytest.mark.parametrize(
    "kind, name",
    [
        ("photographs", "a.jpg"),
        ("fusion", "a.png"),
        ("intervals", "a.png"),
        ("architecture", "a.png"),
    ],
)
def test_figure_s_file_carries_its_alt_text(tmp_path, kind, name):
    drawn(kind, tmp_path / name)
    assert notebook.alt_of(tmp_path / name) == "Größe: a photograph twice"
    assert np.asarray(Image.open(tmp_path / name).convert("L")).std() > 5  # something is drawn


def test_contact_sheet_carries_its_alt_text(tmp_path):
    notebook.contact_sheet(
        [[make_photo(0), make_photo(1)]], tmp_path / "sheet.jpg", side=40, alt="two photographs"
    )
    assert notebook.alt_of(tmp_path / "sheet.jpg") == "two photographs"


@pytest.mark.parametrize("name", ["plain.jpg", "plain.png"])
def test_picture_without_alt_text_is_named(tmp_path, name):
    Image.fromarray(make_photo(0)).save(tmp_path / name)
    with pytest.raises(ValueError, match=name):
        notebook.alt_of(tmp_path / name)


def test_same_figure_is_the_same_file(tmp_path):
    for name in ("one.png", "two.png"):
        drawn("fusion", tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_architecture_s_tallest_box_has_one_height_for_every_size(tmp_path):
    for side in (7, 56):
        notebook.architecture(
            [("encoder_1", (side, side, 64))], "one box", tmp_path / f"{side}.png"
        )
    small, large = (
        np.asarray(Image.open(tmp_path / f"{side}.png").convert("L")) for side in (7, 56)
    )
    assert abs(int((small < 200).any(1).sum()) - int((large < 200).any(1).sum())) <= 3
