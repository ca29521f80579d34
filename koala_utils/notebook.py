"""Arrays -> the figures of the notebooks and the report; and the check of an exercise."""

import base64
import hashlib
import html
import io
import itertools
from pathlib import Path

import IPython.display
import matplotlib.pyplot as plt
import numpy as np
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image

from koala_utils.files import replacing

ALT = "Description"  # the field of a PNG file that holds what it shows
DPI = 160
PER_ROW = 4  # photographs; in a figure of 9 inches each gets 360 pixels


# ---------------------------------------------------------------- figures


def display(data, **options):
    """IPython's `display`, only in a notebook: in a script it would print the bytes."""
    if InteractiveShell.initialized():
        IPython.display.display(data, **options)


def show(figure, alt=None, path=None, photographic=False):
    """Displays a Matplotlib figure in a notebook, and closes it.

    Args:
        figure: a `matplotlib.figure.Figure`.
        alt: what the figure shows, for those who do not see it. Without it, the text is the "alt"
            of the cell's metadata, which `notebooks/run.py` adds when it writes the outputs.
        path: also write the figure there, with its alt text inside.
        photographic: use JPEG, which keeps notebooks of photographs small; else PNG.

    Raises:
        ValueError: a path without an alt text.
    """
    if path and not alt:
        raise ValueError(f"{path}: a figure that is written to a file needs its alt text here.")
    kind, text = "jpeg" if photographic else "png", alt or ""
    options = (
        {"pil_kwargs": {"quality": 80, "optimize": True, "comment": text.encode()}}
        if photographic
        else {"metadata": {ALT: text, "Software": None}}
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DPI, bbox_inches="tight", **options)
    plt.close(figure)
    if path:
        with replacing(path) as temporary:
            temporary.write_bytes(buffer.getvalue())
    data = {f"image/{kind}": buffer.getvalue(), "text/plain": alt or repr(figure)}
    display(data, metadata={f"image/{kind}": {"alt": alt}} if alt else {}, raw=True)


def alt_of(path):
    """The alt text of a figure that :func:`show` wrote.

    Raises:
        ValueError: it has none.
    """
    with Image.open(path) as image:
        alt = image.info.get(ALT) or image.info.get("comment", b"").decode()
    if not alt:
        raise ValueError(
            f"{path}: a figure without alt text; koala_utils.notebook did not write it."
        )
    return alt


def photo_grid(
    rows,
    alt=None,
    column_titles=(),
    row_titles=(),
    row_notes=(),
    path=None,
    width=9.0,
    title="",
):
    """Photographs side by side, at most `PER_ROW` in a line.

    Longer rows continue below all rows, so that photographs that belong together stay in one
    column.

    Args:
        rows: lists of photographs of one shape, uint8 or float in [0, 1]; those of two dimensions
            or one channel are shown in grey, and None leaves a place empty.
        column_titles, row_titles, row_notes: above, to the left, and to the right.
        width: in inches.
        title: above everything: what to see.
        alt, path: see :func:`show`.
    """
    longest = max(map(len, rows))
    columns = -(-longest // -(-longest // PER_ROW))  # blocks of equal width
    lines = []  # (photographs, their titles, title and note of the row)
    for start in range(0, longest, columns):
        here = slice(start, start + columns)
        titles = column_titles[here]
        for row, row_title, note in itertools.zip_longest(
            rows, row_titles, row_notes, fillvalue=""
        ):
            if row[here]:
                lines.append((row[here], titles, row_title, note))
                titles = []
    aspects = [next(p.shape[0] / p.shape[1] for p in line[0] if p is not None) for line in lines]
    figure, axes = plt.subplots(
        len(lines),
        columns,
        squeeze=False,
        figsize=(width, width / columns * sum(aspects)),
        gridspec_kw={"height_ratios": aspects, "wspace": 0.03, "hspace": 0.03},
        layout="compressed",
    )
    figure.suptitle(title, fontsize=11)
    for places, (photos, titles_here, row_title, note) in zip(axes, lines, strict=True):
        for ax in places:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        for ax, photo in zip(places, photos, strict=False):
            if photo is not None:
                white = 255 if photo.dtype == np.uint8 else 1
                # Hanning: by default Matplotlib shows the pixels of a small photograph as squares.
                ax.imshow(
                    np.squeeze(photo), cmap="gray", vmin=0, vmax=white, interpolation="hanning"
                )
        for ax, text in zip(places, titles_here, strict=False):
            ax.set_title(text, fontsize=9)
        places[0].set_ylabel(row_title, fontsize=8)
        at = {"transform": places[-1].transAxes, "va": "center", "fontsize": 8, "linespacing": 1.4}
        places[-1].text(1.04, 0.5, note, **at)
    show(figure, alt, path, photographic=True)


# What a slider does when it is moved: it shows one photograph, and that one's text.
MOVE = (
    "const all = this.closest('figure').querySelectorAll('img');"
    "all.forEach((img, i) => img.style.display = i == this.value ? 'block' : 'none');"
    "this.nextElementSibling.textContent = all[this.value].dataset.text"
)


def slider(photos, alt, texts, start=0, width=360):
    """One of several photographs, and a slider that chooses which.

    The photographs are stored in the output. So the slider needs no kernel, and moves in the book,
    too. Where scripts are removed, all photographs stand below each other.

    Args:
        photos: RGB arrays (H, W, 3), uint8 or float in [0, 1], one for each step of the slider.
        alt: what all of them show, for those who do not see them.
        texts: what is special about each of them, such as "vividness 0.5".
        start: the step at which the slider stands at first.
        width: in pixels of the page; a narrow page shows them smaller.

    Raises:
        ValueError: not one text for each photograph.
    """
    images = []
    for i, (photo, text) in enumerate(zip(photos, texts, strict=True)):
        photo = np.asarray(photo)
        if photo.dtype != np.uint8:
            photo = np.round(np.clip(photo, 0, 1) * 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(photo).save(buffer, "JPEG", quality=85, optimize=True)
        data = base64.b64encode(buffer.getvalue()).decode()
        shown = "block" if i == start else "none"
        images.append(
            f'<img src="data:image/jpeg;base64,{data}" alt="{html.escape(f"{alt}: {text}")}"'
            f' data-text="{html.escape(text)}"'
            f' style="display:{shown};width:{width}px;max-width:100%"/>'
        )
    knob = (
        f'<input type="range" min="0" max="{len(images) - 1}" value="{start}"'
        f' aria-label="step" style="width:240px" oninput="{MOVE}"/>'
    )
    label = f"<label>{knob} <span>{html.escape(texts[start])}</span></label>"
    page = f'<figure style="margin:0">{"".join(images)}{label}</figure>'
    display({"text/html": page, "text/plain": f"{alt}: {'; '.join(texts)}"}, metadata={}, raw=True)


def curves(
    series, alt=None, x_label="", y_label="", path=None, reference=None, log=False, log_x=False
):
    """Lines with markers.

    Args:
        series: a dict from label to (x, y).
        reference: a (label, y) that is drawn as a dashed line.
        log, log_x: whether the axes are logarithmic.
        alt, path: see :func:`show`.
    """
    figure, ax = plt.subplots(figsize=(6.5, 3.4))
    for label, (x, y) in series.items():
        ax.plot(x, y, marker="o", markersize=4, label=label)
    if reference:
        ax.axhline(reference[1], color="0.5", linestyle="--", label=reference[0])
    ax.set(xlabel=x_label, ylabel=y_label)
    ax.set(xscale="log" if log_x else "linear", yscale="log" if log else "linear")
    ax.grid(alpha=0.3, which="both")
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))  # not on the data
    show(figure, alt, path)


def top_class_bars(names_and_logits, titles, alt=None, path=None):
    """Bars of the top classes of photographs, as `koala_utils.embedding.top_classes` gives them."""
    figure, axes = plt.subplots(1, len(names_and_logits), figsize=(9, 2), squeeze=False)
    for ax, classes, title in zip(axes[0], names_and_logits, titles, strict=True):
        ax.barh(*zip(*classes[::-1], strict=True), color="#5b7f95")
        ax.set_title(title, fontsize=9)
        ax.tick_params(labelsize=8)
    figure.tight_layout()
    show(figure, alt, path)


# ---------------------------------------------------------------- contact sheets


def contact_sheet(rows, path, side=200, alt=""):
    """Writes many photographs as one JPEG.

    Args:
        rows: lists of uint8 photographs (H, W, 3), which are scaled to `side` pixels in height.
        path: of the file.
        alt: what the sheet shows.
    """
    strips = [np.concatenate([_of_height(photo, side) for photo in row], axis=1) for row in rows]
    width = max(strip.shape[1] for strip in strips)
    missing = [((0, 0), (0, width - strip.shape[1]), (0, 0)) for strip in strips]
    padded = [np.pad(*each, constant_values=255) for each in zip(strips, missing, strict=True)]
    with replacing(Path(path)) as temporary:
        sheet = Image.fromarray(np.concatenate(padded))
        sheet.save(temporary, "JPEG", quality=90, comment=alt.encode())


class ContactSheets:
    """Context that writes rows of photographs as `sheet-00.jpg` and so on in a folder.

    A row is made small when it is added, so only the small pictures of one sheet are in memory.
    """

    def __init__(self, folder, rows_per_sheet=8, side=200):
        self.folder, self.rows_per_sheet, self.side = folder, rows_per_sheet, side
        self.rows, self.count = [], 0

    def add(self, photos):
        """Adds a row, a list of uint8 photographs (H, W, 3)."""
        self.rows.append([_of_height(photo, self.side) for photo in photos])
        if len(self.rows) == self.rows_per_sheet:
            self._write()

    def _write(self):
        path = Path(self.folder) / f"sheet-{self.count:02d}.jpg"
        contact_sheet(self.rows, path, self.side)
        self.rows, self.count = [], self.count + 1

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.rows:
            self._write()


def _of_height(photo, height):
    width = max(1, round(photo.shape[1] * height / photo.shape[0]))
    return np.asarray(Image.fromarray(photo).resize((width, height), Image.LANCZOS))


# ---------------------------------------------------------------- exercises


def check(answer, hint, digest=None):
    """Prints "right", or "not yet" with a hint.

    Args:
        answer: whether the exercise is solved; or, with a digest, the answer itself.
        hint: one sentence for an answer that is not right.
        digest: of the right answer, see :func:`digest_of`. It does not give the answer away.
    """
    print("right" if (_fits(answer, digest) if digest else answer) else f"not yet: {hint}")


def digest_of(answer, digits=3):
    """The digest by which :func:`check` recognizes a right answer; the author prints it once.

    Args:
        answer: a text or a number, or a list or array of a few of them.
        digits: numbers that differ by less than half a unit of so many digits count as equal.

    Raises:
        ValueError: the answer is empty or holds only zeros, as in an unsolved exercise.
    """
    values = _values(answer)
    if not any(values):
        raise ValueError("an answer of zeros, or an empty one, cannot be told from no answer.")
    return f"{digits}-" + "-".join(_hash(i, value, digits) for i, value in enumerate(values))


def _fits(answer, digest):
    """Whether an answer has a digest, up to half a unit of the last digit of its numbers."""
    digits, *wanted = digest.split("-")
    try:
        values = _values(answer)
    except (TypeError, ValueError):  # None, or something else that is not an answer
        return False
    return len(values) == len(wanted) and all(
        any(_hash(i, value, int(digits), shift) == wanted[i] for shift in (0, 0.5, -0.5))
        for i, value in enumerate(values)
    )


def _values(answer):
    """Texts in lower case with single spaces, and numbers as floats."""
    return [
        " ".join(value.casefold().split()) if isinstance(value, str) else float(value)
        for value in np.ravel(np.asarray(answer, dtype=object))
    ]


def _hash(place, value, digits, shift=0):
    """A hash of a text or number; a number is moved by `shift` units of its last digit first."""
    if not isinstance(value, str):
        unit = 10 ** (np.floor(np.log10(abs(value))) - digits + 1) if value else 1
        value = f"{value + shift * unit:.{digits - 1}e}"
    return hashlib.sha256(f"{place} {value}".encode()).hexdigest()[:8]
