"""Prokudin-Gorskii's glass plates -> aligned colour photographs: the truth of 1910.

From 1905 to 1915 Sergei Prokudin-Gorskii made three exposures of each motif on one glass plate,
one below the other, through a blue, a green and a red filter. Aligned, the three are the channels
of a colour photograph that is as old as the grey ones of its time. The exposures were made one
after the other through a shaking camera. So they differ by a shift, and a little by rotation and
scale.
"""

from dataclasses import dataclass, replace

import ipywidgets
import numpy as np
from PIL import Image
from scipy import ndimage, optimize
from skimage.registration import phase_cross_correlation

from koala_utils.app.demo import Panel, Slider, box, figure, jpeg
from koala_utils.photos import PhotoError

MARGIN = 0.06  # of the sides of an exposure: the plate's edge and the gaps between exposures
DEEPEST_SHIFT = 0.08  # of an exposure's side; larger ones are not believed
LEAST_QUALITY = 0.25  # correlation of the edges; below it a plate counts as damaged


@dataclass(frozen=True)
class Alignment:
    """Where an exposure shows what the green one shows: turned about its center, scaled, moved."""

    shift: tuple  # (down, right) in pixels
    angle: float  # degrees
    scale: float
    quality: float  # correlation of the edges after the alignment, 1 at best


@dataclass(frozen=True)
class Plate:
    """A plate as a colour photograph."""

    rgb: np.ndarray  # uint8 (H, W, 3)
    exposures: tuple  # blue, green and red as they lie on the plate, float32 (h, w) in [0, 1]
    blue: Alignment
    red: Alignment

    @property
    def quality(self):
        """The worse of the two alignments'."""
        return min(self.blue.quality, self.red.quality)


def split_plate(grey):
    """The three exposures of a plate, from top to bottom: blue, green, red.

    Args:
        grey: (H, W), or (H, W, 3) of three equal channels; uint8 or float in [0, 1].

    Returns:
        Three float32 arrays (H // 3, W) in [0, 1].

    Raises:
        PhotoError: not higher than wide, as a plate is.
    """
    grey = np.asarray(grey)
    grey = (
        (grey / np.float32(255) if grey.dtype == np.uint8 else grey.astype(np.float32))
        .reshape(*grey.shape[:2], -1)
        .mean(-1)
    )
    height = len(grey) // 3
    if height < 32 or not 0.5 < grey.shape[1] / height < 2:
        raise PhotoError(
            f"an image of {grey.shape[1]} x {len(grey)} pixels is no plate"
            " of three exposures, one below the other."
        )
    return tuple(grey[i * height : (i + 1) * height] for i in range(3))


def align(reference, moving):
    """Finds how `moving` lies on `reference`: the shift from coarse to fine, then turn and scale.

    The strength of edges is compared, because a red dress is bright in one exposure and black in
    another, but its border is in both. Coarse to fine by phase correlation (Kuglin and Hines 1975;
    sub-pixel after Guizar-Sicairos, Thurman and Fienup 2008), then by maximizing the correlation
    over shift, angle and scale (Nelder and Mead 1965).

    Args:
        reference, moving: float (h, w) of one shape.
    """
    fixed, floating = _edges(reference), _edges(moving)
    inner = tuple(slice(round(MARGIN * side), side - round(MARGIN * side)) for side in fixed.shape)
    shift = np.zeros(2)  # that would bring `moving` back onto `reference`
    for blur in (4, 2, 1):  # coarse to fine
        one, two = (
            ndimage.gaussian_filter(edges, blur)
            for edges in (fixed, ndimage.shift(floating, shift, order=1))
        )
        window = np.outer(np.hanning(one[inner].shape[0]), np.hanning(one[inner].shape[1]))
        step = phase_cross_correlation(
            (one[inner] - one[inner].mean()) * window,
            (two[inner] - two[inner].mean()) * window,
            upsample_factor=20,
            normalization=None,
        )[0]
        if np.abs((shift + step) / fixed.shape).max() < DEEPEST_SHIFT:
            shift = shift + step

    smooth = ndimage.gaussian_filter(fixed, 1), ndimage.gaussian_filter(floating, 1)

    def badness(x):
        return -_correlation(smooth[0][inner], _moved(smooth[1], x)[inner])

    start = np.array([*-shift, 0.0, 0.0])
    simplex = np.vstack([start, start + np.diag([0.7, 0.7, 0.2, 0.2])])  # pixels, degrees, percent
    found = optimize.minimize(
        badness,
        start,
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 0.01, "fatol": 1e-5, "maxfev": 150},
    )
    down, right, angle, percent = found.x
    return Alignment(
        (float(down), float(right)), float(angle), 1 + float(percent) / 100, float(-found.fun)
    )


def assemble(grey):
    """A plate -> a `Plate`: its exposures aligned on the green one, and its edges cropped.

    Raises:
        PhotoError: no plate, or a damaged one whose exposures do not fit on each other.
    """
    exposures = split_plate(grey)
    blue, green, red = exposures
    alignments = [align(green, other) for other in (blue, red)]
    quality = min(alignment.quality for alignment in alignments)
    if quality < LEAST_QUALITY:
        raise PhotoError(
            "the exposures of the plate do not fit on each other (correlation of their edges"
            f" {quality:.2f}, at least {LEAST_QUALITY}); it may be damaged."
        )
    return Plate(overlay(exposures, *alignments, crop_for=alignments), exposures, *alignments)


def overlay(exposures, blue, red, crop_for):
    """The three exposures laid on each other: uint8 (H, W, 3).

    Args:
        exposures: blue, green and red, float32 (h, w) in [0, 1].
        blue, red: the `Alignment` with which each is laid on the green one.
        crop_for: the alignments for which the edges are cropped. Pictures with the same ones have
            the same size.
    """
    rgb = np.stack([move(exposures[2], red), exposures[1], move(exposures[0], blue)], axis=-1)
    return _finish(rgb, crop_for)


def move(exposure, alignment):
    """The exposure as it lies on the green one, float32 (h, w); the edge is repeated outside."""
    x = (*alignment.shift, alignment.angle, 100 * (alignment.scale - 1))
    return np.clip(_moved(exposure, x, order=3), 0, 1).astype(np.float32)


def _finish(rgb, alignments):
    """Crops the edges and what not all exposures cover, and sets black and white: -> uint8."""
    height, width = rgb.shape[:2]
    down, right = (max(abs(a.shift[i]) for a in alignments) for i in range(2))
    top, left = (
        int(np.ceil(MARGIN * side + shift)) for side, shift in ((height, down), (width, right))
    )
    rgb = rgb[top : height - top, left : width - left]
    low, high = np.percentile(rgb, 0.5), np.percentile(rgb, 99.5)
    return np.round(np.clip((rgb - low) / max(high - low, 1e-3), 0, 1) * 255).astype(np.uint8)


def _edges(exposure):
    """The strength of edges, compressed so that a crack does not outweigh the picture."""
    return np.sqrt(ndimage.gaussian_gradient_magnitude(exposure.astype(np.float64), 1))


def _moved(image, x, order=1):
    down, right, angle, percent = x
    radians = np.deg2rad(angle)
    matrix = np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]]) * (
        1 + percent / 100
    )
    center = (np.array(image.shape) - 1) / 2
    return ndimage.affine_transform(
        image, matrix, center + (down, right) - matrix @ center, order=order, mode="nearest"
    )


def _correlation(one, two):
    return float(np.corrcoef(one.ravel(), two.ravel())[0, 1])


# ---------------------------------------------------------------- the widget


def plate_assembly(plate, size=420):
    """A plate coming together: its exposures, sliders that move blue and red, and the colours.

    At 0 an exposure lies on the green one as it does on the plate, at 1 as it was aligned. The fine
    shifts, in pixels of the plate, are added to that.

    Args:
        plate: a `Plate`.
        size: pixels; a larger plate is shown as a smaller copy, with smaller shifts.

    Returns:
        A `demo.Panel` with the attributes `together`, a dict from "blue" and "red" to sliders;
        `fine`, from ("blue", "down") and so on to sliders; and `picture`, the `ipywidgets.HTML`
        with the colour picture.
    """
    share = min(1, size / max(plate.exposures[0].shape))
    exposures = [_scaled(exposure, share) for exposure in plate.exposures]
    aligned = {
        color: replace(found, shift=tuple(share * pixels for pixels in found.shift))
        for color, found in (("blue", plate.blue), ("red", plate.red))
    }
    together = {
        color: Slider(label=f"{color}, moved into place", low="as it lies", high="as aligned")
        for color in aligned
    }
    fine = {
        (color, way): Slider(label=f"{color}, {way} by", min=-10, max=10, step=0.5, unit="px")
        for color in aligned
        for way in ("down", "right")
    }
    picture = ipywidgets.HTML().add_class("koala-assembled")

    def placed(color):
        end, t = aligned[color], together[color].value
        offsets = (share * fine[color, way].value for way in ("down", "right"))
        shift = tuple(
            t * pixels + offset for pixels, offset in zip(end.shift, offsets, strict=True)
        )
        return Alignment(shift, t * end.angle, 1 + t * (end.scale - 1), end.quality)

    def show(_=None):
        rgb = overlay(exposures, placed("blue"), placed("red"), crop_for=aligned.values())
        picture.value = figure(jpeg(rgb), "the colour picture of the three exposures")

    for control in (*together.values(), *fine.values()):
        control.observe(show, "value")
    show()
    row = "".join(
        figure(jpeg(np.round(exposure * 255).astype(np.uint8)), f"through the {name} filter")
        for exposure, name in zip(exposures, ("blue", "green", "red"), strict=True)
    )
    sliders = [
        box(together[color], fine[color, "down"], fine[color, "right"], name="sliders")
        for color in aligned
    ]
    row = ipywidgets.HTML(row).add_class("koala-exposures")
    widget = Panel([row, box(*sliders, name="columns"), picture])
    widget.together, widget.fine, widget.picture = together, fine, picture
    return widget.add_class("koala-plate")


def _scaled(exposure, share):
    shape = round(exposure.shape[1] * share), round(exposure.shape[0] * share)
    return np.clip(np.asarray(Image.fromarray(exposure).resize(shape, Image.LANCZOS)), 0, 1)
