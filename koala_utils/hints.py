"""Known colours at some places -> chroma everywhere: a person in the loop.

After Levin, Lischinski and Weiss, "Colorization using Optimization" (2004): neighbouring places of
similar lightness have similar chroma. This is a sparse linear system. Here the difference between
the hints and the network's answer is spread. It fades with distance, so that a hint corrects one
thing and leaves the others as they are.
"""

import numpy as np
import scipy.sparse as sparse
from PIL import Image, ImageColor
from scipy.sparse.linalg import splu

from koala_utils import lab, quantization

# All chosen on validation photographs (report/hints_curve.py measures the result on others).
GRID = 60  # side of a square of the area at which differences are spread: koala-plus's output
LIKENESS = 0.03  # difference in lightness, in [-1, 1], that means a likeness of exp(-1/2)
LEAST = 1e-3  # least likeness of neighbours, so that no place is cut off
FADE = 1 / 3  # distance over which a difference fades, as a share of the photograph's side
TOLERANCE = 0.05  # share of the difference that a single hint of weight 1 leaves at its own place
CELLS = (
    32  # a stroke gives at most one hint per cell of a grid with this many cells on the longer side
)
MERGED = 21  # units of a*b*: bins up to two steps apart are one swatch
NEIGHBOURS = [(0, 1), (1, 0), (1, 1), (1, -1)]  # the other four are their mirror images


class HintError(ValueError):
    """A hint that cannot be used; the message is one sentence that says why."""


def likeness(lightness):
    """How alike each place and its eight neighbours are: a sparse symmetric matrix (h * w, h * w).

    Args:
        lightness: (h, w) in [-1, 1].
    """
    height, width = lightness.shape
    number = np.arange(height * width).reshape(height, width)
    matrix = sparse.csr_matrix((height * width, height * width))
    for down, right in NEIGHBOURS:
        here = np.s_[: height - down, max(0, -right) : width - max(0, right)]
        there = np.s_[down:, max(0, right) : width + min(0, right)]
        alike = LEAST + np.exp(-((lightness[here] - lightness[there]) ** 2) / (2 * LIKENESS**2))
        pairs = number[here].ravel(), number[there].ravel()
        half = sparse.coo_matrix((alike.ravel(), pairs), shape=matrix.shape)
        matrix = matrix + half + half.T
    return matrix


def fading(shape):
    """The addition to a place's own weight that makes a difference fade over `FADE` of the side."""
    return 0.375 / (FADE**2 * shape[0] * shape[1])  # 0.375: half a step's variance, 6/8, per axis


class Spreader:
    """Spreads hints over one photograph. What depends only on the photograph is computed once.

    Levin's cost is the squared length of (I - W) u, where W takes the mean of the neighbours,
    weighted by likeness. With M = (1 + fading) I - W, we look for the differences u that minimize
    |M u|^2 + sum of c_i (u_i - d_i)^2, where d_i is the difference at hint i. M is factorized once.
    A hint then costs two triangular solutions, for its column of the inverse of M'M, and one small
    dense system.
    """

    def __init__(self, lightness):
        """Takes the lightness (h, w, 1) in [-1, 1] of the copy that chroma was predicted on."""
        self.shape = lightness.shape[:2]
        scale = min(1, GRID / np.sqrt(self.shape[0] * self.shape[1]))
        self.grid = tuple(max(1, round(side * scale)) for side in self.shape)
        self.alike = likeness(_resize(lightness, self.grid)[..., 0])
        self.total = np.maximum(np.asarray(self.alike.sum(1)).ravel(), LEAST)
        # M is one over the totals times this symmetric matrix, which is factorized faster.
        system = sparse.diags((1 + fading(self.grid)) * self.total) - self.alike
        self.factors = splu(
            system.tocsc(),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0,
            options={"SymmetricMode": True},
        )
        self.columns = {}

    def spread(self, chroma, hints):
        """Chroma that agrees with the hints.

        Args:
            chroma: (h, w, 2) in [-1, 1], the network's answer; zeros spread the hints alone.
            hints: (row, column, chroma, weight) each, from the upper left corner of the small copy.
                A single hint of weight 1 is followed to 95 %, one of more weight more closely.
                Chroma (0, 0) is grey: no colour here.

        Returns:
            float32 (h, w, 2).

        Raises:
            HintError: a hint lies outside of the small copy.
        """
        if not len(hints):
            return np.asarray(chroma, np.float32)
        places = [self._place(row, column) for row, column, *_ in hints]
        answer = _resize(chroma, self.grid).reshape(-1, 2)[places]
        difference = np.array([color for _, _, color, _ in hints]) - answer
        halves, columns = (np.stack(each) for each in zip(*map(self._column, places), strict=True))
        between = halves @ halves.T
        own = np.diag(between) * TOLERANCE / np.array([weight for *_, weight in hints])
        share = np.linalg.solve(between + np.diag(own), difference)
        moved = (columns.T @ share).reshape(*self.grid, 2).astype(np.float32)
        return np.asarray(chroma, np.float32) + _resize(moved, self.shape)

    def _place(self, row, column):
        inside = 0 <= row < self.shape[0] and 0 <= column < self.shape[1]
        if not inside:
            raise HintError(f"a hint at row {row:g}, column {column:g} is outside of {self.shape}.")
        down = int(row * self.grid[0] / self.shape[0])
        return down * self.grid[1] + int(column * self.grid[1] / self.shape[1])

    def _column(self, place):
        """Of the inverse of M', and of the inverse of M' M: (h * w,) each, on the grid."""
        if place not in self.columns:
            one = np.zeros(len(self.total))
            one[place] = 1
            half = self.total * self.factors.solve(one)
            self.columns[place] = half, self.factors.solve(self.total * half)
        return self.columns[place]


def parse_color(color):
    """The chroma (2,) in [-1, 1] of "#7a1f1f" or another colour that Pillow reads.

    A colour that is given as chroma is returned as it is.

    Raises:
        HintError: it is not a colour.
    """
    if not isinstance(color, str):
        chroma = np.asarray(color, np.float32)
        if chroma.shape != (2,) or not np.all(np.abs(chroma) <= 1):
            raise HintError(f"{color!r} is no colour; write one like '#7a1f1f'.")
        return chroma
    try:
        rgb = ImageColor.getrgb(color.strip())[:3]
    except ValueError:
        raise HintError(f"{color!r} is no colour; write one like '#7a1f1f'.") from None
    return lab.chroma(np.array(rgb, np.float32) / 255).numpy()


def from_strokes(rgba, photo_shape):
    """Hints from a picture that is transparent except for strokes of colour.

    Args:
        rgba: uint8 (h, w, 4), with the photograph's size or at least its aspect.
        photo_shape: (H, W, ...) of the photograph.

    Returns:
        A list of (x, y, colour) in pixels of the photograph, one for each cell with a stroke in it.

    Raises:
        HintError: no strokes, no transparency, or another aspect.
    """
    if rgba.ndim != 3 or rgba.shape[-1] != 4 or rgba[..., 3].min() > 127:
        raise HintError("the strokes have no transparent places; save them as a PNG with alpha.")
    (height, width), (full_height, full_width) = rgba.shape[:2], photo_shape[:2]
    if abs(width * full_height - height * full_width) > max(full_height, full_width):
        raise HintError(
            f"the strokes are {width} x {height}, the photograph {full_width} x {full_height};"
            " draw them on a copy of the photograph."
        )
    rows, columns = np.nonzero(rgba[..., 3] > 127)
    if not len(rows):
        raise HintError("the picture of the strokes is transparent everywhere.")
    cell = max(height, width) / CELLS
    cells = (rows // cell) * CELLS + columns // cell
    hints = []
    for each in np.unique(cells):
        y, x = rows[cells == each], columns[cells == each]
        middle = np.argmin(
            (y - y.mean()) ** 2 + (x - x.mean()) ** 2
        )  # a place of the stroke itself
        y, x = y[middle], x[middle]
        color = "#{:02x}{:02x}{:02x}".format(*rgba[y, x, :3])
        hints.append(((x + 0.5) * full_width / width, (y + 0.5) * full_height / height, color))
    return hints


def on_copy(hints, photo_shape, picture, copy_shape):
    """Hints on a photograph -> hints on the small copy of its picture, for :meth:`Spreader.spread`.

    Args:
        hints: (x, y, colour) each, in pixels of the photograph, from its upper left corner.
        photo_shape: (H, W, ...).
        picture: (top, bottom, left, right) of the photograph inside a film's edge. The edge stays
            grey, so a hint on it does nothing.
        copy_shape: (h, w, ...).

    Raises:
        HintError: a hint is not of this form, lies outside of the photograph or names no colour.
    """
    top, bottom, left, right = picture
    found = []
    for hint in hints:
        try:
            x, y, color = hint
            x, y = float(x), float(y)
        except (TypeError, ValueError):
            raise HintError(f"{hint!r} is no hint; write (120, 80, '#7a1f1f').") from None
        if not (0 <= x < photo_shape[1] and 0 <= y < photo_shape[0]):
            raise HintError(
                f"a hint at {x:g}, {y:g} is outside of the photograph, which is"
                f" {photo_shape[1]} x {photo_shape[0]}."
            )
        chroma = parse_color(color)
        if top <= y < bottom and left <= x < right:
            row = (y - top) * copy_shape[0] / (bottom - top)
            column = (x - left) * copy_shape[1] / (right - left)
            found.append((row, column, chroma, 1.0))
    return found


def swatches(logits, count=5):
    """The colours that the network holds likely at a place: the modes of its distribution.

    The first is the likeliest bin with its neighbours, up to `MERGED` away. The next are found in
    the same way among the remaining bins.

    Args:
        logits: (261,), of koala-plus at the place.

    Returns:
        A list of (chroma, share), the largest share first: the mean of the mode's bins, (2,) in
        [-1, 1], and the sum of their shares of the distribution.
    """
    bins, _ = quantization.bins()
    shares = np.exp(np.asarray(logits, np.float64) - np.max(logits))
    left, found = shares / shares.sum(), []
    for _ in range(count):
        distance = np.linalg.norm(bins - bins[np.argmax(left)], axis=-1) * lab.CHROMA_SCALE
        mode = np.where(distance < MERGED, left, 0)
        found.append((mode @ bins / mode.sum(), float(mode.sum())))
        left = left - mode
    return sorted(found, key=lambda mode: -mode[1])


def _resize(values, shape):
    """A float array (h, w, c) in another size: by means if it shrinks, bilinearly if it grows."""
    channels = [
        Image.fromarray(np.ascontiguousarray(channel, np.float32)).resize(
            shape[::-1], Image.BILINEAR
        )
        for channel in np.moveaxis(np.asarray(values), -1, 0)
    ]
    return np.stack(channels, axis=-1)
