"""Glass plates: exposures come together again, and what is no plate is refused."""

import base64
import io

import numpy as np
import plates
import pytest
from helpers import assert_one_sentence, make_noise
from PIL import Image
from scipy import ndimage

from koala_utils import evaluation
from koala_utils.downloads import BUNDLED, find_photos
from koala_utils.photos import PhotoError, read_photo, resize_short_side


def displaced(channel, shift, angle=0.0, scale=1.0):
    """The channel moved: what stands at p comes to scale * R(p - center) + center + shift."""
    radians = np.deg2rad(angle)
    forward = scale * np.array(
        [[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]]
    )
    back, center = np.linalg.inv(forward), (np.array(channel.shape) - 1) / 2
    return ndimage.affine_transform(
        channel, back, center - back @ (center + shift), order=3, mode="nearest"
    )


def make_plate(blue=(0.0, 0.0), red=(0.0, 0.0), angle=0.0, scale=1.0):
    """A plate of a real photograph, with black rims, and its blue and red exposures moved."""
    photo = (
        resize_short_side(read_photo(BUNDLED / "color" / "astronaut.png"), 300)[:280, :300] / 255
    )
    exposures = [
        displaced(photo[..., 2], blue, angle, scale),
        photo[..., 1],
        displaced(photo[..., 0], red),
    ]
    return np.concatenate([np.pad(exposure, 10) for exposure in exposures])


@pytest.mark.parametrize(
    "blue, red, angle, scale",
    [
        ((0.0, 0.0), (0.0, 0.0), 0.0, 1.0),
        ((-5.0, 2.0), (9.0, -3.0), 0.0, 1.0),
        ((3.4, -0.7), (-6.25, 1.5), 0.0, 1.0),
        ((4.0, 1.0), (2.0, 2.0), 0.6, 1.01),
    ],
)
def test_displacement_is_found_to_a_fraction_of_a_pixel(blue, red, angle, scale):
    plate = plates.assemble(make_plate(blue, red, angle, scale))
    assert np.abs(np.subtract(plate.blue.shift, blue)).max() < 0.3
    assert np.abs(np.subtract(plate.red.shift, red)).max() < 0.3
    assert plate.blue.angle == pytest.approx(angle, abs=0.1) and plate.blue.scale == pytest.approx(
        scale, abs=0.002
    )
    assert plate.red.angle == pytest.approx(0, abs=0.1) and plate.red.scale == pytest.approx(
        1, abs=0.002
    )


def test_assembled_plate_is_the_photograph():
    together, apart = (
        plates.assemble(make_plate(shift, tuple(-x for x in shift))).rgb
        for shift in ((0.0, 0.0), (6.0, -4.0))
    )
    assert together.dtype == apart.dtype == np.uint8
    down, right = (
        (a - b) // 2 for a, b in zip(together.shape[:2], apart.shape[:2], strict=True)
    )  # what the shift cost at the rims
    assert 4 <= down <= 8 and 2 <= right <= 6
    inner = together[down : down + apart.shape[0], right : right + apart.shape[1]]
    assert np.abs(inner.astype(int) - apart).mean() < 8
    assert plates.assemble(make_plate()).quality > 0.6


def test_exposures_lie_blue_green_red_from_top_to_bottom():
    plate = np.concatenate([np.full((50, 60), value, np.uint8) for value in (10, 20, 30)])
    assert [round(float(exposure.mean() * 255)) for exposure in plates.split_plate(plate)] == [
        10,
        20,
        30,
    ]
    colored = np.repeat(plate[..., None], 3, axis=-1)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(plates.split_plate(plate), plates.split_plate(colored), strict=True)
    )


def test_damaged_plate_is_refused_with_the_figure():
    plate = make_plate()
    plate[: len(plate) // 3] = make_noise(1, len(plate) // 3, plate.shape[1])[..., 0] / 255
    with pytest.raises(PhotoError) as error:
        plates.assemble(plate)
    assert_one_sentence(error, "damaged", plates.LEAST_QUALITY)


@pytest.mark.parametrize("shape", [(100, 300), (60, 20), (300, 20)])
def test_what_is_no_plate_is_refused(shape):
    with pytest.raises(PhotoError) as error:
        plates.split_plate(np.zeros(shape, np.uint8))
    assert_one_sentence(error, shape[0], shape[1])


def test_every_published_plate_comes_together(published):
    paths = find_photos("plates")
    assert len(paths) == 24
    for path in paths[::4]:
        plate = plates.assemble(read_photo(path))
        assert plate.quality > 0.7, path
        assert min(plate.rgb.shape[:2]) > 250


# ---------------------------------------------------------------- the widget


@pytest.fixture(scope="module")
def plate():
    return plates.assemble(make_plate((-5.0, 3.0), (7.0, -4.0)))


def shown(widget):
    data = base64.b64decode(widget.picture.value.split("base64,")[1].split('"')[0])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_plate_comes_together_with_its_sliders(plate):
    widget = plates.plate_assembly(plate)
    apart = shown(widget)
    for color in widget.together.values():
        color.value = 1.0
    together = shown(widget)
    assert apart.shape == together.shape == plate.rgb.shape
    assert (
        np.abs(together.astype(int) - plate.rgb).mean()
        < 3
        < 8
        < np.abs(apart.astype(int) - plate.rgb).mean()
    )
    widget.fine["red", "down"].value = -6
    moved = shown(widget)
    assert evaluation.ab_error(moved, together) > 20


def test_plate_shows_its_three_exposures(plate):
    row = plates.plate_assembly(plate).children[0].value
    assert row.count("<img") == 3 and all(
        f"through the {color} filter" in row for color in ("blue", "green", "red")
    )


def test_large_plate_is_shown_smaller_and_comes_together_as_well(plate):
    widget = plates.plate_assembly(plate, size=150)
    for color in widget.together.values():
        color.value = 1.0
    picture = shown(widget)
    assert max(picture.shape) < 150
    smaller = np.asarray(Image.fromarray(plate.rgb).resize(picture.shape[1::-1], Image.LANCZOS))
    assert np.abs(picture.astype(int) - smaller).mean() < 12
