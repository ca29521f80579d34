"""Colour photographs against the truth -> a figure for every photograph and method -> a table.

No figure stands alone: plain grey scores well in PSNR, and vivid nonsense well in colourfulness. So
every table holds the grey photograph and the best single colour beside the models, and several figures.
"""

import csv
import functools
import io
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from skimage.color import deltaE_ciede2000
from skimage.metrics import structural_similarity
from tqdm.auto import tqdm

from koala_utils import film, lab
from koala_utils.backend import tf
from koala_utils.colorizer import load_network, predict, render
from koala_utils.downloads import registry
from koala_utils.embedding import DEFAULT, EXTRACTORS, class_names, logits_of
from koala_utils.files import replacing
from koala_utils.photos import read_photo


@dataclass
class Score:
    """What one method made of one photograph."""

    photo: str
    method: str
    ab_error: float
    grey_ab_error: float
    psnr: float
    ssim: float
    ciede2000: float
    colorfulness: float
    true_colorfulness: float
    top1: (
        int | None
    )  # whether the classifier names the photograph rightly; None where no label is known
    top5: int | None  # whether the right name is among its five likeliest
    true_top1: int | None  # top1 of the true colour photograph


# ---------------------------------------------------------------- figures of one photograph


def ab_error(output, truth):
    """Mean squared distance in a*b*, over pixels: what the L2 loss of the network is a scaled version of.

    Args:
        output, truth: uint8 (H, W, 3), RGB.

    Returns:
        A float in squared units of a*b*, 0 at best. Trap: it rewards caution, and colours averaged to
        brown beat a bold guess that is right half the time (Zhang et al. 2016, Section 1).
    """
    return float(np.mean(np.sum((_lab(output)[..., 1:] - _lab(truth)[..., 1:]) ** 2, axis=-1)))


def psnr(output, truth):
    """Peak signal-to-noise ratio on RGB in decibels. Trap: most of it is the lightness, which is given."""
    error = np.mean((output.astype(np.float64) - truth) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def ssim(output, truth):
    """Structural similarity on RGB, 1 at best: Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment" (2004), equation 13.

    With their Gaussian window of 11 pixels (sigma 1.5), averaged over the three channels. Trap: structure is in the lightness,
    so plain grey has nearly everything there is to have.
    """
    return float(
        structural_similarity(
            output,
            truth,
            channel_axis=-1,
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def ciede2000(output, truth):
    """Mean colour difference CIEDE2000 over pixels: Sharma, Wu and Dalal, "The CIEDE2000 Color-Difference Formula" (2005).

    0 at best; about 1 is just noticeable side by side. It is made for small differences: trap, a red car that
    should be blue is beyond the range in which its figures mean something.
    """
    return float(np.mean(deltaE_ciede2000(_lab(output), _lab(truth))))


def colorfulness(rgb, absolute=False):
    """Colourfulness of Hasler and Süsstrunk, "Measuring Colourfulness in Natural Images" (2003), equation 8.

    Opponent colours rg = R - G and yb = (R + G) / 2 - B; the root of the summed variances plus 0.3 of the
    root of the summed squared means. Their scale: 15 "slightly", 33 "moderately", 45
    "averagely", 59 "quite", 82 "highly colourful".

    Args:
        rgb: uint8 (H, W, 3).
        absolute: take the opponent colours' magnitudes, as the code of DDColor does (Kang et al., arXiv 2212.11613, 2022). That is
            another figure under the same name: red beside green counts for less.

    Trap: random tints are colourful, too.
    """
    r, g, b = np.moveaxis(rgb.astype(np.float64), -1, 0)
    rg, yb = r - g, (r + g) / 2 - b
    if absolute:
        rg, yb = np.abs(rg), np.abs(yb)
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


def top_classes_of(rgb, k=5):
    """Indices, 0 to 999, of the k ImageNet classes that the bundled classifier finds likeliest, the likeliest first.

    How often the right one is the first, or among five, measures what Zhang, Isola and Efros (arXiv 1603.08511, 2016, Section 3.1)
    call semantic interpretability: whether colours help a network that learned from real ones. Trap: a model that was trained
    through this classifier (`koala_utils.losses`) may please it more than others.

    Args:
        rgb: uint8 (H, W, 3).
    """
    size = EXTRACTORS["mobilenet_v2"].size
    square = tf.image.resize(tf.cast(rgb, tf.float32) / 127.5 - 1, (size, size), antialias=True)
    return np.argsort(logits_of(square[None])[0])[::-1][:k].tolist()


def _lab(rgb):
    return lab.to_lab(rgb.astype(np.float32) / 255).numpy()


# ---------------------------------------------------------------- the baselines


def grey_baseline(photo):
    """The photograph's own grey, uint8 (H, W, 3): the zero of every figure of colour."""
    return film.grey_photo(photo)


def mean_color_baseline(photos):
    """A method that gives every photograph the same chroma: the mean over `photos`, the best one colour there is.

    It is an oracle, for it knows the truth that it is compared with; a model that does not beat it has
    learned nothing about what is in a photograph.
    """
    mean = np.mean(
        [lab.chroma(photo.astype(np.float32) / 255).numpy().mean((0, 1)) for photo in photos],
        axis=0,
    )

    def method(photo):
        lightness = lab.lightness(film.grey_of(photo))
        rgb = lab.to_rgb(lightness, np.broadcast_to(mean.astype(np.float32), (*photo.shape[:2], 2)))
        return np.round(rgb * 255).astype(np.uint8)

    return method


def model_methods(models=("koala", "koala-plus"), extractor=DEFAULT, vividness=(0.0, 0.5, 1.0)):
    """Methods of :func:`evaluate`: each model, and koala-plus once for each vividness, as "koala-plus 0.5"."""
    methods = {}
    for model in models:
        settings = vividness if load_network(model).name == "koala-plus" else [None]
        look = _remembering(functools.partial(predict, model=model, extractor=extractor))
        for setting in settings:
            name = Path(model).stem + ("" if setting is None else f" {setting:g}")
            methods[name] = functools.partial(_render_seen, look, setting)
    return methods


def _render_seen(look, vividness, photo):
    return render(look(photo), vividness)


def _remembering(look):
    """The same function, which keeps its last answer: the network is asked once a photograph, and not for every vividness."""
    last = [None, None]

    def remembered(photo):
        if last[0] is not photo:
            last[:] = photo, look(photo)
        return last[1]

    return remembered


# ---------------------------------------------------------------- many photographs


def label_of(path):
    """The ImageNet class index of a photograph, from its synset folder or the test set's registry; else None."""
    synsets = class_names()[1]
    if path.parent.name in synsets:
        return synsets.index(path.parent.name)
    labels = {Path(row["path"]).name: row["label"] for row in registry("test")}
    return int(labels[path.name]) if path.name in labels else None


def evaluate(paths, methods: dict[str, Callable] | None = None, progress=True, on_photo=None):
    """Colours photographs by several methods and compares them with the truth.

    Args:
        paths: colour photographs.
        methods: from name to a function of a uint8 photograph to a uint8 photograph; by default grey,
            mean color and the released models. A method never sees the truth's chroma if it takes its grey.
        on_photo: called with the path, the truth and a dict of all outputs, to keep sheets or files.

    Returns:
        A list of `Score`, one a photograph and method.
    """
    paths = [Path(p) for p in paths]
    if methods is None:
        methods = {
            "grey": grey_baseline,
            "mean color": mean_color_baseline(map(read_photo, paths)),
            **model_methods(),
        }
    scores = []
    for path in tqdm(paths, unit="photo", disable=not progress, desc="evaluating"):
        truth = read_photo(path)
        outputs = {name: method(truth) for name, method in methods.items()}
        scores += score(path.name, truth, outputs, label_of(path))
        if on_photo:
            on_photo(path, truth, outputs)
    return scores


def score(photo, truth, outputs, label=None):
    """What several methods made of one photograph.

    Args:
        photo: its name.
        truth: uint8 (H, W, 3).
        outputs: a dict from method to uint8 (H, W, 3).
        label: index of its ImageNet class, where it is known.

    Returns:
        A list of `Score`, one a method.
    """
    grey = ab_error(grey_baseline(truth), truth)
    true_top1 = None if label is None else int(top_classes_of(truth)[0] == label)
    scores = []
    for name, output in outputs.items():
        seen = top_classes_of(output) if label is not None else []
        scores.append(
            Score(
                photo,
                name,
                ab_error(output, truth),
                grey,
                psnr(output, truth),
                ssim(output, truth),
                ciede2000(output, truth),
                colorfulness(output),
                colorfulness(truth),
                int(label == seen[0]) if seen else None,
                int(label in seen) if seen else None,
                true_top1,
            )
        )
    return scores


FIGURES = {  # of the columns of many scores: arrays by name
    "ratio": lambda c: c["ab_error"].sum() / c["grey_ab_error"].sum(),
    "psnr": lambda c: c["psnr"].mean(),
    "ssim": lambda c: c["ssim"].mean(),
    "ciede2000": lambda c: c["ciede2000"].mean(),
    "colorfulness": lambda c: c["colorfulness"].sum() / c["true_colorfulness"].sum(),
    "top1": lambda c: np.nanmean(c["top1"]),
    "top5": lambda c: np.nanmean(c["top5"]),
}


def summarize(scores, seed=0, resamples=2000):
    """The table: for each method the figures over all photographs, each with a 95 % bootstrap interval.

    Returns:
        A dict from method to a dict from figure to (value, low, high): "ratio", the summed squared ab error
        over that of grey; "psnr", the mean in dB; "ssim" and "ciede2000", means; "colorfulness", the mean over the truth's mean;
        "top1" and "top5", the shares of labelled photographs that the bundled classifier names rightly (absent without labels).
    """
    table = {}
    for method in dict.fromkeys(score.method for score in scores):
        columns = _columns(scores, method)
        # The same photographs are drawn for every method.
        draws = np.random.default_rng(seed).integers(
            len(columns["psnr"]), size=(resamples, len(columns["psnr"]))
        )
        figures = {
            name: figure
            for name, figure in FIGURES.items()
            if name == "ratio" or not np.isnan(columns[name]).all()
        }
        table[method] = {}
        for name, figure in figures.items():
            resampled = [
                figure({key: column[draw] for key, column in columns.items()}) for draw in draws
            ]
            table[method][name] = (figure(columns), *np.nanpercentile(resampled, [2.5, 97.5]))
    return table


def compare(scores, method, other, figure="ratio", seed=0, resamples=2000):
    """How much `method` is above `other` in a figure, paired: both are drawn on the same photographs.

    Much of the spread between photographs is common to two methods, so the interval of their difference is narrower than
    the two intervals of :func:`summarize` suggest.

    Returns:
        (difference, low, high) with a 95 % bootstrap interval; without 0 in it, the difference is more than chance.

    Raises:
        ValueError: the two methods were not measured on the same photographs.
    """
    of, photographs = FIGURES[figure], {}
    for name in (method, other):
        photographs[name] = [score.photo for score in scores if score.method == name]
    if photographs[method] != photographs[other] or not photographs[method]:
        raise ValueError(
            f"{method} and {other} were not measured on the same photographs, in the same order."
        )
    one, two = (_columns(scores, name) for name in (method, other))
    draws = np.random.default_rng(seed).integers(
        len(one["psnr"]), size=(resamples, len(one["psnr"]))
    )
    differences = [
        of({key: one[key][draw] for key in one}) - of({key: two[key][draw] for key in two})
        for draw in draws
    ]
    return (of(one) - of(two), *np.nanpercentile(differences, [2.5, 97.5]))


def _columns(scores, method):
    """The numbers of one method's scores as arrays by name; None becomes NaN."""
    mine = [asdict(score) for score in scores if score.method == method]
    return {
        key: np.array([np.nan if score[key] is None else score[key] for score in mine], np.float64)
        for key in mine[0]
        if key not in ("photo", "method")
    }


def format_table(table):
    """The table of :func:`summarize` as Markdown."""
    titles = {
        "ratio": ("squared ab error, ratio to grey", "{:.3f}"),
        "psnr": ("PSNR, dB", "{:.2f}"),
        "ssim": ("SSIM", "{:.3f}"),
        "ciede2000": ("CIEDE2000", "{:.2f}"),
        "colorfulness": ("colourfulness, share of the truth's", "{:.2f}"),
        "top1": ("top-1", "{:.1%}"),
        "top5": ("top-5", "{:.1%}"),
    }
    shown = [key for key in titles if all(key in figures for figures in table.values())]
    lines = [
        "| method | " + " | ".join(titles[key][0] for key in shown) + " |",
        "|---" * (len(shown) + 1) + "|",
    ]
    for method, figures in table.items():
        cells = [
            "{} ({} to {})".format(*(titles[key][1].format(value) for value in figures[key]))
            for key in shown
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def truth_line(scores):
    """How often the classifier names the true colour photographs rightly, as a sentence; "" without labels."""
    named = {score.photo: score.true_top1 for score in scores if score.true_top1 is not None}
    return (
        f"The classifier names {np.mean(list(named.values())):.1%} of the true colour photographs rightly."
        if named
        else ""
    )


def write_scores(scores, path):
    """Writes scores as CSV, one line a photograph and method."""
    text = io.StringIO()
    rows = [
        {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in asdict(s).items()
        }
        for s in scores
    ]
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def read_scores(path):
    """The scores that :func:`write_scores` wrote."""
    with open(path, newline="", encoding="utf-8") as lines:
        return [
            Score(
                row["photo"],
                row["method"],
                *(float(row[key]) for key in list(row)[2:-3]),
                *(int(row[key]) if row[key] else None for key in ("top1", "top5", "true_top1")),
            )
            for row in csv.DictReader(lines)
        ]
