"""Colour photographs against the truth -> the metrics of each photograph and method -> a table.

No metric stands alone: plain grey scores well in PSNR, and random vivid colours score well in
colourfulness. So every table holds the grey photograph and the best single colour as well.
"""

import functools
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap
from skimage.color import deltaE_ciede2000
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from tqdm.auto import tqdm

from koala_utils import film, lab
from koala_utils.backend import tf
from koala_utils.colorizer import load_network, predict, render
from koala_utils.downloads import registry
from koala_utils.embedding import DEFAULT, EXTRACTORS, class_names, logits_of
from koala_utils.files import DamagedError, read_rows, write_rows
from koala_utils.photos import PhotoError, read_for_training, read_photo

MIN_SIDE = 11  # pixels: the window of SSIM
JUDGE = "mobilenet_v2"  # the extractor that judges colourings by naming what it sees


@dataclass
class Score:
    """What one method made of one photograph: the columns of a file of scores."""

    photo: str
    method: str
    ab_error: float
    grey_ab_error: float
    psnr: float
    ssim: float
    ciede2000: float
    colorfulness: float
    true_colorfulness: float
    top1: int | None  # 1 if the classifier names the photograph rightly; None without a label
    top5: int | None  # 1 if the right name is among its five likeliest
    true_top1: int | None  # top1 of the true colour photograph


# ---------------------------------------------------------------- metrics of one photograph
# `output`, `truth` and `rgb` are uint8 (H, W, 3).


def ab_error(output, truth):
    """Mean squared distance in a*b*, 0 at best; the L2 loss of the network is proportional to it.

    Trap: it rewards caution (Zhang et al. 2016, Section 1). Brown, the average of colours, beats a
    bold guess that is right half the time.
    """
    return float(np.mean(np.sum((_lab(output)[..., 1:] - _lab(truth)[..., 1:]) ** 2, axis=-1)))


def psnr(output, truth):
    """Peak signal-to-noise ratio on RGB in dB; infinite for two equal photographs.

    Trap: most of it is the lightness, which is given.
    """
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(truth, output))


def ssim(output, truth):
    """Structural similarity on RGB, 1 at best (Wang et al. 2004, equation 13).

    It uses their Gaussian window. Trap: structure is in the lightness, so plain grey scores high.
    """
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(output, truth, channel_axis=-1, **window))


def ciede2000(output, truth):
    """Mean colour difference CIEDE2000, 0 at best; about 1 is just noticeable (Sharma et al. 2005).

    Trap: it is made for small differences. A red car that should be blue is outside of its range.
    """
    return float(np.mean(deltaE_ciede2000(_lab(output), _lab(truth))))


def colorfulness(rgb):
    """Colourfulness of Hasler and Süsstrunk, "Measuring Colourfulness" (2003), equation 8.

    Their scale: 15 "slightly", 33 "moderately", 45 "averagely", 59 "quite", 82 "highly colourful".
    Trap: random tints are colourful, too.
    """
    r, g, b = np.moveaxis(rgb.astype(np.float64), -1, 0)
    rg, yb = r - g, (r + g) / 2 - b
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


def top_classes_of(rgb, k=5):
    """Indices of the k ImageNet classes that MobileNetV2 finds likeliest, in order.

    How often the right class is among them shows whether colours help a network that learned from
    real ones (Zhang, Isola and Efros, arXiv 1603.08511, 2016, Section 3.1). The models may suit the
    classifier that they were trained with, so this is another one.
    """
    size = EXTRACTORS[JUDGE].size
    square = tf.image.resize(tf.cast(rgb, tf.float32) / 127.5 - 1, (size, size), antialias=True)
    return np.argsort(logits_of(square[None], JUDGE)[0])[::-1][:k].tolist()


def _lab(rgb):
    return lab.to_lab(rgb.astype(np.float32) / 255).numpy()


# ---------------------------------------------------------------- methods: photograph -> photograph


def grey_baseline(photo):
    """The photograph's own grey, uint8 (H, W, 3)."""
    return film.grey_photo(photo)


def mean_color_baseline(photos):
    """A method that gives every photograph the mean chroma of `photos`, the best single colour.

    It is an oracle, because it knows the truth that it is compared with. A model that does not
    beat it has learned nothing about what a photograph shows.
    """
    chromas = (lab.chroma(photo.astype(np.float32) / 255).numpy() for photo in photos)
    mean = np.mean([chroma.mean((0, 1)) for chroma in chromas], axis=0, dtype=np.float32)

    def method(photo):
        rgb = lab.to_rgb(
            lab.lightness(film.grey_of(photo)), np.broadcast_to(mean, (*photo.shape[:2], 2))
        )
        return np.round(rgb * 255).astype(np.uint8)

    return method


def model_methods(models=("koala", "koala-plus"), extractor=DEFAULT, vividness=(0.0, 0.5, 1.0)):
    """Each model as a method, and koala-plus once per vividness, as "koala-plus 0.5".

    The name of a weights file of your own starts with its folder, as in "run/koala-plus 0.5". A
    network runs once per photograph, whatever the number of vividness settings.
    """
    methods = {}
    for model in models:
        ask = _keep_last(functools.partial(predict, model=model, extractor=extractor))
        for setting in vividness if load_network(model).name == "koala-plus" else [None]:
            name = str(Path(model).with_suffix("").relative_to(Path(model).parent.parent))
            name += "" if setting is None else f" {setting:g}"
            methods[name] = lambda photo, ask=ask, setting=setting: render(ask(photo), setting)
    return methods


def all_methods(paths, *arguments):
    """Grey, the mean colour of the photographs, and the :func:`model_methods` of the arguments."""
    truths = (photo for _, photo in read_each(paths, [], read_truth))
    baselines = {"grey": grey_baseline, "mean color": mean_color_baseline(truths)}
    return baselines | model_methods(*arguments)


def _keep_last(function):
    """The same function, which remembers its answer for the last photograph."""
    last = [None, None]

    def remembered(photo):
        if last[0] is not photo:
            last[:] = photo, function(photo)
        return last[1]

    return remembered


# ---------------------------------------------------------------- many photographs


# Reads a true colour photograph; a PhotoError if it is too small or nearly grey.
read_truth = functools.partial(read_for_training, min_side=MIN_SIDE)


def read_each(paths, left_out, read=read_photo):
    """Yields (path, photograph). The `PhotoError` of what `read` refuses goes to `left_out`."""
    for path in map(Path, paths):
        try:
            photo = read(path)
        except PhotoError as error:
            left_out.append(error)
        else:
            yield path, photo


def label_of(path):
    """The ImageNet class of a photograph, from its folder's name or the test set; else None."""
    synsets = class_names()[1]
    if path.parent.name in synsets:
        return synsets.index(path.parent.name)
    labels = {Path(row["path"]).name: row["label"] for row in registry("test")}
    return int(labels[path.name]) if path.name in labels else None


def evaluate(paths, methods=None, progress=True, on_photo=None):
    """Colours photographs by several methods and compares them with the truth.

    Photographs that cannot be measured (see :func:`read_truth`) are left out, and named on standard
    error.

    Args:
        paths: of colour photographs.
        methods: a dict from name to a function of a uint8 photograph to a uint8 photograph, by
            default :func:`all_methods`. It gets the true photograph, and must use only its grey.
        progress: show a progress bar.
        on_photo: called with the path, the truth and a dict from method to output.

    Returns:
        A list of `Score`, one per photograph and method.
    """
    paths, scores, left_out = list(paths), [], []
    methods = all_methods(paths) if methods is None else methods
    bar = tqdm(paths, unit="photo", disable=not progress, desc="evaluating")
    for path, truth in read_each(bar, left_out, read_truth):
        outputs = {name: method(truth) for name, method in methods.items()}
        scores += score(path.name, truth, outputs, label_of(path))
        if on_photo:
            on_photo(path, truth, outputs)
    for error in left_out:
        print(f"left out {error}", file=sys.stderr)
    return scores


def score(photo, truth, outputs, label=None):
    """The scores of one photograph: a list of `Score`, one per method.

    Args:
        photo: its name.
        truth, outputs: uint8 (H, W, 3), and a dict from method to the same.
        label: the index of its ImageNet class, where it is known.
    """
    of_truth = {
        "grey_ab_error": ab_error(grey_baseline(truth), truth),
        "true_colorfulness": colorfulness(truth),
        "true_top1": None if label is None else int(top_classes_of(truth)[0] == label),
    }
    scores = []
    for method, output in outputs.items():
        seen = None if label is None else top_classes_of(output)
        metrics = {
            "ab_error": ab_error(output, truth),
            "psnr": psnr(output, truth),
            "ssim": ssim(output, truth),
            "ciede2000": ciede2000(output, truth),
            "colorfulness": colorfulness(output),
            "top1": seen and int(label == seen[0]),
            "top5": seen and int(label in seen),
        }
        scores.append(Score(photo, method, **metrics, **of_truth))
    return scores


# ---------------------------------------------------------------- the table

METRICS = {  # the column that is averaged, or divided by a second one; title and format
    "ratio": (("ab_error", "grey_ab_error"), "squared ab error, ratio to grey", ".3f"),
    "psnr": (("psnr",), "PSNR, dB", ".2f"),
    "ssim": (("ssim",), "SSIM", ".3f"),
    "ciede2000": (("ciede2000",), "CIEDE2000", ".2f"),
    "colorfulness": (
        ("colorfulness", "true_colorfulness"),
        "colourfulness, share of the truth's",
        ".2f",
    ),
    "top1": (("top1",), "top-1", ".1%"),
    "top5": (("top5",), "top-5", ".1%"),
}


def summarize(scores, seed=0, resamples=2000):
    """The metrics of each method over all photographs, with 95 % bootstrap intervals.

    Returns:
        A dict from method to a dict from metric to (value, low, high): "ratio", the summed squared
        ab error over that of grey; "psnr" in dB, "ssim" and "ciede2000", means; "colorfulness", the
        mean over the truth's mean; "top1" and "top5", the shares of the labelled photographs that
        the classifier names rightly, where there are labels.
    """
    table = {}
    for method in dict.fromkeys(score.method for score in scores):
        columns = {metric: _columns(scores, method, metric) for metric in METRICS}
        table[method] = {
            metric: _with_interval(_mean_or_ratio, data, seed, resamples)
            for metric, data in columns.items()
            if data.size
        }
    return table


def compare(scores, method, other, metric="ratio", seed=0, resamples=2000):
    """How much `method` is above `other` in a metric, on the same photographs (paired).

    A hard photograph is hard for both methods. So the interval of their difference is narrower than
    the two intervals of :func:`summarize` suggest.

    Returns:
        (difference, low, high) with a 95 % bootstrap interval. If it leaves out 0, the difference
        is more than chance.

    Raises:
        ValueError: the two methods were not measured on the same photographs.
    """
    names = [[s.photo for s in scores if s.method == each] for each in (method, other)]
    if names[0] != names[1] or not names[0]:
        raise ValueError(
            f"{method} and {other} were not measured on the same photographs, in the same order."
        )
    one, two = (_columns(scores, each, metric) for each in (method, other))

    def difference(*data, axis=-1):
        first, second = data[: len(one)], data[len(one) :]
        return _mean_or_ratio(*first, axis=axis) - _mean_or_ratio(*second, axis=axis)

    return _with_interval(difference, np.concatenate([one, two]), seed, resamples)


def _columns(scores, method, metric):
    """The columns of a metric, float (1 or 2, n), of the photographs whose metric is known."""
    rows = [[getattr(s, key) for key in METRICS[metric][0]] for s in scores if s.method == method]
    return np.array([row for row in rows if None not in row], np.float64).T


def _mean_or_ratio(values, of=None, axis=-1):
    return values.mean(axis) if of is None else values.sum(axis) / of.sum(axis)


def _with_interval(statistic, data, seed, resamples):
    """(value, low, high) of a statistic over photographs; with one photograph all are equal."""
    value = float(statistic(*data))
    if data.shape[1] < 2:
        return value, value, value
    found = bootstrap(
        data,
        statistic,
        n_resamples=resamples,
        paired=True,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return value, round(float(found.low), 12), round(float(found.high), 12)


def format_table(table):
    """The table of :func:`summarize` as Markdown, with the metrics that all methods have."""
    shown = [key for key in METRICS if all(key in metrics for metrics in table.values())]
    rows = [["method", *(METRICS[key][1] for key in shown)], ["---"] * (len(shown) + 1)]
    for method, metrics in table.items():
        numbers = [[format(x, METRICS[key][2]) for x in metrics[key]] for key in shown]
        rows.append([method, *("{} ({} to {})".format(*cell) for cell in numbers)])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], lines[1].replace(" ", ""), *lines[2:]])


def truth_line(scores):
    """How often the classifier names the true photographs rightly; "" without labels."""
    first = [score for score in scores if score.method == scores[0].method]
    named = [score.true_top1 for score in first if score.true_top1 is not None]
    if not named:
        return ""
    return f"The classifier names {np.mean(named):.1%} of the true colour photographs rightly."


def write_scores(scores, path):
    """Writes scores as csv, one line per photograph and method."""
    rows = [
        {key: round(v, 4) if isinstance(v, float) else v for key, v in asdict(score).items()}
        for score in scores
    ]
    write_rows(rows, path, columns=[field.name for field in fields(Score)])


def read_scores(path):
    """The scores that :func:`write_scores` wrote.

    Raises:
        DamagedError: another file.
    """

    def value(key, text):
        if key in ("photo", "method"):
            return text
        return (int if "top" in key else float)(text) if text else None

    try:
        return [Score(**{k: value(k, text) for k, text in row.items()}) for row in read_rows(path)]
    except (TypeError, ValueError):
        raise DamagedError(f"{path}: not a file of scores; make it anew.") from None
