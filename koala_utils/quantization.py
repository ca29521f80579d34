"""Chroma as a choice among bins of the ab plane, and back: colorization as classification.

After Zhang, Isola and Efros, "Colorful Image Colorization", arXiv 1603.08511 (2016), Sections 2.1
to 2.3. A network that predicts one chroma learns the mean of all colours that a thing may have, and
that mean is dull. A network that predicts how likely each colour is leaves the choice for later.
"""

import csv
import functools

import numpy as np

from koala_utils.backend import keras
from koala_utils.lab import CHROMA_SCALE, to_lab
from koala_utils.weights import RELEASED

ops = keras.ops

GRID = 10.0  # side of a bin in units of a*b*
SIGMA = 5.0  # of the soft encoding, in units of a*b*
# At vividness 1; chosen by the look, error and colourfulness of validation photographs.
COLDEST = 0.6  # temperature
STRONGEST = 1.6  # factor on the chroma
UNIFORM_SHARE = 0.5  # of a uniform distribution in the smoothed prior: lambda of equation 4


def gamut_bins():
    """The centers of all bins that hold a colour of sRGB, in units of a*b*: float (261, 2).

    A bin is a square of 10 x 10 units of a*b* around a multiple of 10. We find 261 by trying every
    third value of red, green and blue; Zhang et al. list 313, with a margin around these.
    """
    levels = np.arange(0, 256, 3, dtype=np.float32) / 255
    rgb = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    return np.unique(np.round(to_lab(rgb).numpy()[:, 1:] / GRID), axis=0) * GRID


def measure_shares(chromas):
    """How common each bin is in batches of chroma (N, H, W, 2): float (261,), which sums to 1."""
    shares = [ops.convert_to_numpy(ops.mean(soft_encode(chroma), (0, 1, 2))) for chroma in chromas]
    return np.mean(shares, axis=0)


@functools.cache
def bins():
    """The bins of :func:`gamut_bins`, and their shares of the training photographs, as released.

    Returns:
        Chroma of the centers in [-1, 1], float32 (261, 2), and their shares, float32 (261,), which
        sum to 1.
    """
    with (RELEASED / "ab_bins.csv").open(newline="", encoding="utf-8") as lines:
        table = np.array(
            [[float(row[key]) for key in ("a", "b", "share")] for row in csv.DictReader(lines)]
        )
    return (table[:, :2] / CHROMA_SCALE).astype(np.float32), (
        table[:, 2] / table[:, 2].sum()
    ).astype(np.float32)


def soft_encode(chroma):
    """Chroma as a distribution over the bins: each in proportion to a Gaussian of its distance.

    Zhang et al. keep the five nearest bins. The Gaussian is half a bin wide, so the others hardly
    count.

    Args:
        chroma: (..., 2) in [-1, 1].

    Returns:
        float32 (..., 261), which sums to 1 over the last axis.
    """
    centers, _ = bins()
    chroma = ops.cast(chroma, "float32")
    squared = (
        ops.sum(chroma**2, -1, keepdims=True)
        - 2 * ops.matmul(chroma, centers.T)
        + np.sum(centers**2, -1)
    )
    return ops.softmax(-squared * CHROMA_SCALE**2 / (2 * SIGMA**2))


def rebalancing_weights():
    """Larger weights for rarer bins, 1 on average over pixels: equation 4 of Zhang et al., (261,).

    Their loss uses them; notebook 8 shows what they do.
    """
    _, shares = bins()
    weights = 1 / ((1 - UNIFORM_SHARE) * shares + UNIFORM_SHARE / len(shares))
    return (weights / np.sum(shares * weights)).astype(np.float32)


def decode(logits, vividness=0.0):
    """The chroma that a distribution over the bins stands for.

    Vividness 0 is the mean of the distribution, the answer of least squared error. It is pale,
    because the mean of several colours is near grey. More vividness does two things: a temperature
    below 1 favours the likely bins (the annealed mean, equation 5 of Zhang et al.), and a factor
    strengthens the result. Zhang et al. make colours vivid by larger weights for rare colours. Such
    weights raise every rare colour, also an unlikely one, and leave violet stains on dark and
    neutral things. Here only a likely hue becomes strong.

    Args:
        logits: (..., 261).
        vividness: from 0, cautious, to 1, a temperature of 0.6 and 1.6 times the chroma.

    Returns:
        float32 (..., 2); rare values lie outside of [-1, 1].
    """
    temperature = 1 - (1 - COLDEST) * vividness
    strength = 1 + (STRONGEST - 1) * vividness
    likely = ops.softmax(ops.cast(logits, "float32") / temperature)
    return strength * ops.matmul(likely, bins()[0])
