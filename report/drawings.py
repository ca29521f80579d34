"""Drawings of the networks and of numbers that the report and notebooks show.

Each is shown by `koala_utils.notebook.show`, with its arguments `alt` and `path`.
"""

import matplotlib.pyplot as plt
import numpy as np

from koala_utils import lab
from koala_utils.notebook import show


def gamut(bins, values, alt=None, path=None):
    """Bins of the ab plane, in the colours they stand for and then by each of several values.

    Args:
        bins: chroma of the centers in [-1, 1], (n, 2).
        values: a dict from title to n numbers.
    """
    a, b = np.asarray(bins).T * lab.CHROMA_SCALE
    colors = lab.to_rgb(np.full((len(bins), 1), 0.3, np.float32), np.asarray(bins, np.float32))
    figure, axes = plt.subplots(
        1,
        1 + len(values),
        figsize=(3.4 * (1 + len(values)), 3.4),
        sharey=True,
        layout="compressed",
    )
    axes[0].scatter(a, b, c=colors, marker="s", s=45)
    axes[0].set(title="colour at L* 65", xlabel="a*", ylabel="b*", aspect="equal")
    for ax, (title, numbers) in zip(axes[1:], values.items(), strict=True):
        drawn = ax.scatter(a, b, c=numbers, marker="s", s=45, cmap="viridis")
        ax.set(title=title, xlabel="a*", aspect="equal")
        figure.colorbar(drawn, ax=ax, shrink=0.8)
    show(figure, alt, path)


COLORS = {  # by how the name of a layer begins
    ("encoder", "stage", "head"): "#8fb4cc",
    ("fusion",): "#d9a66b",
    ("decoder",): "#9cc29a",
    ("chroma", "bins", "logits"): "#c58fb7",
}
BOX = 0.8  # the widest and the tallest box, as a share of the distance between two


def architecture(layers, alt=None, path=None, skips=()):
    """A network as boxes and arrows: height for size and width for channels, by their roots.

    The encoder and the fusion run to the right; the decoder runs back to the left below them, so
    that skips are short. Each box has its name below and its output shape above.

    Args:
        layers: (name, output shape) of each layer. The decoder's names begin with "decoder".
            Vectors, of shape (n,), are drawn beside the fusion, which they enter.
        skips: pairs of names, (from, to), that are joined by dashed arrows.
    """
    images = [(name, shape) for name, shape in layers if len(shape) == 3 and shape[0] > 1]
    vectors = [(name, shape[0]) for name, shape in layers if len(shape) == 1]
    split = next((i for i, (name, _) in enumerate(images) if name.startswith("decoder")), None)
    split = len(images) if split is None else split
    rows = max(split, 1 + len(images) - split)
    tallest = max(shape[0] for _, shape in images)
    deepest = max(shape[2] for _, shape in images)
    boxes = {}
    for i, (name, shape) in enumerate(images):
        x, y = (rows - split + i, 0.0) if i < split else (rows - 2 - i + split, -1.9)
        boxes[name] = x, y, *(BOX * np.sqrt([shape[2] / deepest, shape[0] / tallest]))
    figure, ax = plt.subplots(figsize=(10, 3.9 if split < len(images) else 2.2))
    for name, shape in images:
        _box(ax, *boxes[name], name, f"{shape[0]} × {shape[1]}\n× {shape[2]:,}")
    for (one, _), (two, _) in zip(images, images[1:], strict=False):
        _arrow_between(ax, boxes[one], boxes[two])
    for one, two in skips:
        (x, y, _, _), (x2, y2, _, high) = boxes[one], boxes[two]
        _arrow(ax, (x, y - 0.66), (x2, y2 + high / 2 + 0.36), "#2f5d7c", linestyle="--")
    for i, (name, length) in enumerate(vectors):
        target = next((b for n, b in boxes.items() if n.startswith("fusion")), None)
        x, y = (target[0], 1.1 + 0.5 * i) if target else (0.0, -1.2 - 0.5 * i)
        _box(ax, x, y, BOX, 0.09, "", f"{name}, {length:,}")
        if target:
            _arrow(ax, (x, y - 0.08), (x, target[1] + target[3] / 2 + 0.36), "0.3")
    ax.set(xlim=(-0.5, rows - 0.4), ylim=(-2.65 if split < len(images) else -1.8, 1.4))
    ax.set_axis_off()
    show(figure, alt, path)


def _box(ax, x, y, wide, high, name, text):
    color = next((c for starts, c in COLORS.items() if name.startswith(starts)), "#cccccc")
    corner = x - wide / 2, y - high / 2
    ax.add_patch(plt.Rectangle(corner, wide, high, facecolor=color, edgecolor="0.3", linewidth=0.8))
    ax.text(x, y + high / 2 + 0.04, text, ha="center", va="bottom", fontsize=7)
    ax.text(x, y - 0.5, name, ha="center", va="top", fontsize=7, weight="bold")


def _arrow(ax, start, end, color, linestyle="-"):
    style = {"arrowstyle": "-|>", "color": color, "linestyle": linestyle, "linewidth": 1.1}
    ax.annotate("", end, start, arrowprops={**style, "shrinkA": 0, "shrinkB": 0})


def _arrow_between(ax, one, two):
    """From the side of one box to the facing side of the next, or from the fusion downwards."""
    (x, y, wide, _), (x2, y2, wide2, _) = one, two
    if y == y2:
        sign = np.sign(x2 - x)
        _arrow(ax, (x + sign * wide / 2, y), (x2 - sign * wide2 / 2, y), "0.3")
    else:
        ax.plot([x, x], [y - 0.66, y2], color="0.3", linewidth=1.1)
        _arrow(ax, (x, y2), (x2 + wide2 / 2, y2), "0.3")


def fusion(features, embedding, fused, alt=None, path=None):
    """How the embedding joins the features: replicated, stacked, and mixed by a 1x1 convolution.

    Args:
        features, fused: shapes (height, width, channels) before and after the fusion.
        embedding: its length.
    """
    height, width, channels = features
    figure, ax = plt.subplots(figsize=(10, 2.4))
    blocks = [
        (0, channels, "#8fb4cc", f"features\n{height} x {width} x {channels}"),
        (62, embedding, "#d9a66b", f"embedding, replicated\n{height} x {width} x {embedding:,}"),
    ]
    for x, depth, color, label in blocks:
        _cuboid(ax, x, 26, depth / 40, color, label)
    _cuboid(ax, 148, 26, channels / 40, "#8fb4cc", "")
    _cuboid(
        ax,
        148 + channels / 40,
        26,
        embedding / 40,
        "#d9a66b",
        f"stacked\n{height} x {width} x {channels + embedding:,}",
    )
    _cuboid(
        ax,
        240,
        26,
        fused[2] / 40,
        "#9cc29a",
        f"after 1 x 1 convolution, ReLU\n{' x '.join(map(str, fused))}",
    )
    for x, sign in ((48, "+"), (130, "="), (222, "\u2192")):
        ax.text(x, 17, sign, fontsize=20, ha="center", va="center")
    ax.set(xlim=(-4, 290), ylim=(-16, 46), aspect="equal")
    ax.set_axis_off()
    show(figure, alt, path)


def _cuboid(ax, x, side, depth, color, label):
    """A block of feature maps from the front and the right, `side` high and `depth` long."""
    slant = 0.3 * side
    top = [
        (x, side),
        (x + slant, side + slant),
        (x + slant + depth, side + slant),
        (x + depth, side),
    ]
    front = [(x, 0), (x, side), (x + depth, side), (x + depth, 0)]
    right = [
        (x + depth, 0),
        (x + depth, side),
        (x + depth + slant, side + slant),
        (x + depth + slant, slant),
    ]
    for corners, shade in ((top, 0.75), (right, 0.55), (front, 1.0)):
        ax.add_patch(
            plt.Polygon(corners, facecolor=color, edgecolor="0.3", linewidth=0.6, alpha=shade)
        )
    ax.text(x + (depth + slant) / 2, -4, label, ha="center", va="top", fontsize=8)


def intervals(groups, alt=None, x_label="", path=None, reference=None):
    """Numbers with their intervals as points with bars: one row per method, one color per group.

    Args:
        groups: a dict from group to a dict from method to (value, low, high).
        reference: a number drawn as a dashed line.
    """
    methods = list(dict.fromkeys(method for group in groups.values() for method in group))
    figure, ax = plt.subplots(figsize=(7, 0.45 * len(methods) + 1))
    for i, (group, rows) in enumerate(groups.items()):
        offset = (i - (len(groups) - 1) / 2) * 0.2
        y = [methods.index(method) + offset for method in rows]
        value, low, high = np.array(list(rows.values())).T
        ax.errorbar(
            value,
            y,
            xerr=[value - low, high - value],
            fmt="o",
            markersize=4,
            capsize=2,
            label=group,
        )
    if reference is not None:
        ax.axvline(reference, color="0.5", linestyle="--")
    ax.set_yticks(range(len(methods)), methods)
    ax.invert_yaxis()
    ax.set(xlabel=x_label)
    ax.grid(alpha=0.3, axis="x")
    ax.legend(
        frameon=False, fontsize=8, ncols=len(groups), loc="lower center", bbox_to_anchor=(0.4, 1)
    )
    show(figure, alt, path)
