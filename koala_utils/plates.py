"""Prokudin-Gorskii's glass plates -> aligned colour photographs: the truth of 1910.

From 1905 to 1915 Sergei Prokudin-Gorskii photographed Russia three times over, through a blue, a green and a red filter, one
exposure below the other on one glass plate. Aligned, the three are the channels of a colour photograph that is as old as
the grey ones of its time. The exposures were made one after the other through a shaking camera, so they differ by a shift, and
a little by rotation and scale.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, optimize
from skimage.registration import phase_cross_correlation

from koala_utils.photos import PhotoError

MARGIN = 0.06  # of the sides of an exposure: the plate's edge and the gaps between exposures
DEEPEST_SHIFT = 0.08  # of an exposure's side; larger ones are not believed
LEAST_QUALITY = (
    0.25  # correlation of the edges below which a plate counts as damaged or not aligned
)


@dataclass(frozen=True)
class Alignment:
    """Where an exposure shows what the green one shows: turned about the center, scaled, and then shifted."""

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
            f"an image of {grey.shape[1]} x {len(grey)} pixels is no plate of three exposures, one below the other."
        )
    return tuple(grey[i * height : (i + 1) * height] for i in range(3))


def align(reference, moving):
    """Finds how `moving` lies on `reference`: first the shift from coarse to fine, then rotation and scale.

    What is compared is the strength of edges, for a red dress is bright in one exposure and black in another,
    but its border is in both. Coarse to fine by phase correlation (Kuglin and Hines 1975; sub-pixel after Guizar-Sicairos, Thurman
    and Fienup 2008), then by maximizing the correlation over shift, angle and scale (Nelder and Mead 1965).

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
            f"the exposures of the plate do not fit on each other (correlation of their edges {quality:.2f},"
            f" at least {LEAST_QUALITY}); it may be damaged."
        )
    return Plate(overlay(exposures, *alignments, crop_for=alignments), exposures, *alignments)


def overlay(exposures, blue, red, crop_for):
    """The three exposures laid on each other: uint8 (H, W, 3).

    Args:
        exposures: blue, green and red, float32 (h, w) in [0, 1].
        blue, red: the `Alignment` with which each is laid on the green one.
        crop_for: the alignments for which the edges are cropped, so that pictures of several can be compared.
    """
    rgb = np.stack([move(exposures[2], red), exposures[1], move(exposures[0], blue)], axis=-1)
    return _finish(rgb, crop_for)


def move(exposure, alignment):
    """The exposure as it lies on the green one, float32 (h, w); what comes from outside repeats the edge."""
    x = (*alignment.shift, alignment.angle, 100 * (alignment.scale - 1))
    return np.clip(_moved(exposure, x, order=3), 0, 1).astype(np.float32)


def _finish(rgb, alignments):
    """Crops what not all exposures cover and the plate's edges, and sets black and white: float -> uint8."""
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
