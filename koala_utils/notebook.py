"""Arrays -> the figures of the notebooks and the report. Every figure has an alt text that says what it shows."""

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from PIL import Image

from koala_utils import lab
from koala_utils.files import replacing

ALT = "Description"  # the field of a PNG file that holds what it shows


def show(figure, alt, path=None, photographic=False):
    """Displays a Matplotlib figure in a notebook with alt text, and closes it.

    Args:
        figure: a `matplotlib.figure.Figure`.
        alt: what the figure shows, for those who do not see it and where it does not load.
        path: also written there, where given.
        photographic: as JPEG, which keeps notebooks of photographs small; else PNG.
    """
    kind = "jpeg" if photographic else "png"
    # The file carries its alt text: the report's pages take it from there.
    options = (
        {"pil_kwargs": {"quality": 88, "comment": alt.encode()}}
        if photographic
        else {"metadata": {ALT: alt, "Software": None}}
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=80, bbox_inches="tight", **options)
    plt.close(figure)
    if path:
        with replacing(path) as temporary:
            temporary.write_bytes(buffer.getvalue())
    mime = f"image/{kind}"
    display({mime: buffer.getvalue(), "text/plain": alt}, metadata={mime: {"alt": alt}}, raw=True)


def alt_of(path):
    """The alt text of a figure that :func:`show` wrote.

    Raises:
        ValueError: it has none.
    """
    with Image.open(path) as image:
        alt = image.info.get(ALT) or image.info.get("comment", b"").decode()
    if not alt:
        raise ValueError(
            f"{path}: a figure without alt text; it was not written by koala_utils.notebook."
        )
    return alt


def photo_grid(rows, alt, column_titles=(), row_titles=(), row_notes=(), path=None, width=9.0):
    """Photographs side by side: each row a list of photographs of one shape, uint8 or float in [0, 1].

    Two-dimensional and one-channel arrays are shown in grey; None leaves a place empty. Titles stand above and
    to the left, notes, of several lines, to the right.
    """
    columns = max(len(row) for row in rows)
    aspects = [next(p.shape[0] / p.shape[1] for p in row if p is not None) for row in rows]
    height = width / columns * sum(aspects)
    figure, axes = plt.subplots(
        len(rows),
        columns,
        squeeze=False,
        figsize=(width, height),
        gridspec_kw={"height_ratios": aspects, "wspace": 0.03, "hspace": 0.03},
    )
    figure.subplots_adjust(0, 0, 1, 1)
    for y, row in enumerate(rows):
        for x, ax in enumerate(axes[y]):
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if x < len(row) and row[x] is not None:
                photo = np.squeeze(row[x])
                ax.imshow(photo, cmap="gray", vmin=0, vmax=255 if photo.dtype == np.uint8 else 1)
            if y == 0 and x < len(column_titles):
                ax.set_title(column_titles[x], fontsize=9)
            if x == 0 and y < len(row_titles):
                ax.set_ylabel(row_titles[y], fontsize=8)
            if x == columns - 1 and y < len(row_notes):
                ax.text(
                    1.04,
                    0.5,
                    row_notes[y],
                    transform=ax.transAxes,
                    va="center",
                    fontsize=8,
                    linespacing=1.4,
                )
    show(figure, alt, path, photographic=True)


def curves(series, alt, x_label, y_label, path=None, reference=None, log=False, log_x=False):
    """Lines with markers: `series` is a dict from label to (x, y); `reference` a (label, y) drawn as a dashed line."""
    figure, ax = plt.subplots(figsize=(6.5, 3.4))
    for label, (x, y) in series.items():
        ax.plot(x, y, marker="o", markersize=4, label=label)
    if reference:
        ax.axhline(reference[1], color="0.5", linestyle="--", label=reference[0])
    ax.set(
        xlabel=x_label,
        ylabel=y_label,
        xscale="log" if log_x else "linear",
        yscale="log" if log else "linear",
    )
    ax.grid(alpha=0.3, which="both")
    ax.legend(frameon=False)
    show(figure, alt, path)


def top_class_bars(names_and_logits, titles, alt, path=None):
    """Horizontal bars of the top classes of several photographs, from `koala_utils.embedding.top_classes`."""
    figure, axes = plt.subplots(1, len(names_and_logits), figsize=(9, 2), squeeze=False)
    for ax, classes, title in zip(axes[0], names_and_logits, titles):
        names, values = zip(*classes[::-1])
        ax.barh(names, values, color="#5b7f95")
        ax.set_title(title, fontsize=9)
        ax.tick_params(labelsize=8)
    figure.tight_layout()
    show(figure, alt, path)


def contact_sheet(rows, path, side=200, alt=""):
    """Writes many photographs as one JPEG: each row a list of uint8 photographs, scaled to `side` px in height."""

    def scaled(photo):
        width = max(1, round(photo.shape[1] * side / photo.shape[0]))
        return np.asarray(Image.fromarray(photo).resize((width, side), Image.LANCZOS))

    strips = [np.concatenate([scaled(photo) for photo in row], axis=1) for row in rows]
    sheet = np.full((side * len(strips), max(s.shape[1] for s in strips), 3), 255, np.uint8)
    for i, strip in enumerate(strips):
        sheet[i * side : (i + 1) * side, : strip.shape[1]] = strip
    with replacing(Path(path)) as temporary:
        Image.fromarray(sheet).save(temporary, "JPEG", quality=90, comment=alt.encode())


def matrix(values, rows, columns, alt, x_label="", y_label="", path=None):
    """A matrix of numbers as colours with the numbers written in."""
    figure, ax = plt.subplots(figsize=(6, 4.6))
    ax.imshow(values, cmap="Blues", vmin=0, vmax=1)
    ax.set_xticks(range(len(columns)), columns, rotation=40, ha="right", fontsize=8)
    ax.set_yticks(range(len(rows)), rows, fontsize=8)
    ax.set(xlabel=x_label, ylabel=y_label)
    for (y, x), value in np.ndenumerate(values):
        ax.text(
            x,
            y,
            f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if value > 0.6 else "black",
        )
    show(figure, alt, path)


def gamut(bins, values, alt, path=None):
    """Bins of the ab plane: first in the colours they stand for, then by each of several values.

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
    for ax, (title, numbers) in zip(axes[1:], values.items()):
        drawn = ax.scatter(a, b, c=numbers, marker="s", s=45, cmap="viridis")
        ax.set(title=title, xlabel="a*", aspect="equal")
        figure.colorbar(drawn, ax=ax, shrink=0.8)
    show(figure, alt, path)


def architecture(layers, alt, path=None):
    """A network as a row of boxes: height for size, width for channels.

    Args:
        layers: (name, output shape) of each layer, from the model itself; vectors, of shape (n,), are drawn
            below the row, where they join it.
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


def fusion(features, embedding, fused, alt, path=None):
    """How the embedding joins the features: replicated over space, stacked behind them, and mixed by a 1x1 convolution.

    Args:
        features, fused: shapes (height, width, channels) before and after; embedding: its length. From the model itself.
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
    """A block of feature maps seen from the front and the right: `side` high and wide, `depth` channels long."""
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


def intervals(groups, alt, x_label, path=None, reference=None):
    """Figures with their 95 % intervals as points with bars: a row a method, a color a group.

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


def check(right, hint):
    """Prints "right", or "not yet" with a hint of what to look at.

    Args:
        right: whether the exercise is solved.
        hint: one sentence, for those whose answer is another one.
    """
    print("right" if right else f"not yet: {hint}")
