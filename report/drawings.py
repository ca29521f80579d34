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
        1, 1 + len(values), figsize=(3.3 * (1 + len(values)), 3.2), sharey=True
    )
    axes[0].scatter(a, b, c=colors, marker="s", s=45)
    axes[0].set(title="colour at L* 65", xlabel="a*", ylabel="b*", aspect="equal")
    for ax, (title, numbers) in zip(axes[1:], values.items(), strict=True):
        drawn = ax.scatter(a, b, c=numbers, marker="s", s=45, cmap="viridis")
        ax.set(title=title, xlabel="a*", aspect="equal")
        figure.colorbar(drawn, ax=ax, shrink=0.8)
    show(figure, alt, path)


def architecture(layers, alt=None, path=None):
    """A network as a row of boxes: height for size, width for channels.

    Args:
        layers: (name, output shape) of each layer. Vectors, of shape (n,), are drawn below the
            row, where they join it.
    """
    figure, ax = plt.subplots(figsize=(11, 3.2))
    x, vectors, unit = 0.0, 0, 224 / max(shape[0] for _, shape in layers if len(shape) == 3)
    for name, shape in layers:
        part = next(
            (p for p in ("encoder", "fusion", "decoder") if name.startswith(p)),
            "chroma" if len(shape) == 3 else "",
        )
        color = {
            "encoder": "#8fb4cc",
            "fusion": "#d9a66b",
            "decoder": "#9cc29a",
            "chroma": "#c58fb7",
        }.get(part, "#cccccc")
        if len(shape) == 3 and shape[0] > 1:
            width, height = 4 + shape[2] / 12, shape[0] * unit
            ax.add_patch(
                plt.Rectangle(
                    (x, -height / 2), width, height, facecolor=color, edgecolor="0.3", linewidth=0.6
                )
            )
            ax.text(
                x + width / 2,
                height / 2 + 5,
                f"{shape[0]}x{shape[1]}\n{shape[2]}",
                ha="center",
                fontsize=6,
            )
            x += max(width + 9, 32)
        elif len(shape) == 1:
            y = -70 if vectors else -55
            ax.add_patch(
                plt.Rectangle(
                    (x, y), 8 + shape[0] / 20, 8, facecolor=color, edgecolor="0.3", linewidth=0.6
                )
            )
            ax.text(x - 4, y + 4, f"{name} {shape[0]}", va="center", ha="right", fontsize=7)
            vectors += 1
    ax.set(xlim=(-14, x + 5), ylim=(-118, 150))
    ax.set_axis_off()
    show(figure, alt, path)


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
