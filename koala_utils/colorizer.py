"""A photograph -> the same photograph in colour, at its full resolution, with released weights.

Chroma is a low-resolution thing: it is predicted on a small copy of the photograph and enlarged along the
photograph's own edges. The lightness is the photograph's own, untouched, at full resolution.
"""

import concurrent.futures
import functools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter

from koala_utils import film, lab
from koala_utils.backend import compiled
from koala_utils.embedding import DEFAULT, EXTRACTORS, embed, find_extractor
from koala_utils.hints import Spreader, on_copy
from koala_utils.network import BUILDERS, chroma_of
from koala_utils.network import predict as predict_output
from koala_utils.photos import PhotoError, read_photo_and_metadata, save_photo
from koala_utils.weights import RELEASED, WeightsError, load_weights, read_metadata

# Pixels, side of a square of the area at which chroma is predicted; chosen on validation photographs.
SIZES = {"koala": 128, "koala-plus": 240}
VIVIDNESS = 0.5  # koala-plus's, where none is asked for
STRIP_PIXELS = 400_000  # recombined at a time, which bounds the memory for large photographs and stays nearer the caches
BATCH = 8  # photographs of a folder that are looked at together
BATCH_BYTES = 20_000_000  # of their files; what is larger comes alone, which bounds the memory


def load_network(model="koala-plus"):
    """A trained network: a released model by name, or a safetensors file of `koala train`.

    Raises:
        WeightsError: no such model, or weights that do not fit.
    """
    path = Path(model) if str(model).endswith(".safetensors") else RELEASED / f"{model}.safetensors"
    if path.parent == RELEASED and not path.exists():
        names = sorted(p.stem for p in RELEASED.glob("*.safetensors") if p.stem not in EXTRACTORS)
        raise WeightsError(
            f"no model is called {model!r}; there are {', '.join(names)}, or give a .safetensors file."
        )
    return _load_network(path, path.stat().st_mtime_ns if path.exists() else None)


@functools.lru_cache(4)
def _load_network(path, changed):
    """Kept in memory until the file changes."""
    metadata = read_metadata(path)
    kind = metadata.get("model", "koala")
    if kind not in BUILDERS:
        raise WeightsError(
            f"{path}: weights of {kind!r}, which this version does not know; get a newer koala_utils."
        )
    network = BUILDERS[kind](fusion=metadata.get("fusion") != "False")
    load_weights(network, path)
    return network


@dataclass(frozen=True)
class Prediction:
    """What a network made of a photograph, before it is turned into colour: the slow half of :func:`colorize`."""

    photo: np.ndarray  # uint8 (H, W, 3) or (H, W), as it was read
    picture: tuple  # (top, bottom, left, right) of what is not a film's edge
    lightness: np.ndarray  # (h, w, 1), of the small copy of the picture
    network: str  # "koala" or "koala-plus"
    embedding: np.ndarray  # float (1000,), standardized, that the network was given
    output: np.ndarray  # of the network, (1, ...)

    @functools.cached_property
    def spreader(self):
        """Spreads hints over this photograph; made when the first hint comes."""
        return Spreader(self.lightness)


def colorize(
    photo,
    model="koala-plus",
    extractor=DEFAULT,
    vividness=None,
    strength=1.0,
    size=None,
    hints=(),
):
    """Colours a photograph; what colour it has is ignored.

    Args:
        photo: uint8 array (H, W, 3) or (H, W), of any size.
        model: a released model, or a safetensors file of `koala train`.
        extractor: the classifier behind the embedding; any of `koala_utils.embedding.EXTRACTORS`, or several with "+".
        vividness: 0, cautious, to 1, vivid; None is `VIVIDNESS`. Only for koala-plus: koala has a single answer.
        strength: the predicted chroma is multiplied with this; 0 is grey.
        size: chroma is predicted on a copy of about size x size pixels; None is the model's own of `SIZES`.
        hints: known colours, (x, y, "#7a1f1f") each, at pixels of the photograph. Only their chroma
            counts; a grey one means: no colour here. See :mod:`koala_utils.hints`.

    Returns:
        uint8 array (H, W, 3), RGB, with the photograph's own lightness. The edge of a film stays grey.

    Raises:
        PhotoError: not a uint8 photograph.
        ExtractorError, WeightsError: no such extractor or model, or vividness asked of koala.
        HintError: a hint lies outside of the photograph, or names no colour.
    """
    return render(predict(photo, model, extractor, size), vividness, strength, hints)


def predict(photo, model="koala-plus", extractor=DEFAULT, size=None, embedding=None):
    """The slow half of :func:`colorize`, with its arguments: a `Prediction`, from which :func:`render` makes colour.

    Args:
        embedding: float (1000,), standardized, in place of the photograph's own.
    """
    return _predict([photo], model, extractor, size, None if embedding is None else [embedding])[0]


def _predict(photos, model, extractor, size=None, embeddings=None, few=False):
    """:func:`predict` of several photographs at once; where few are to come, nothing is compiled for them."""
    photos = [np.asarray(photo) for photo in photos]
    for photo in photos:
        if (
            photo.dtype != np.uint8
            or photo.ndim not in (2, 3)
            or (photo.ndim == 3 and photo.shape[-1] != 3)
            or not photo.size
        ):
            raise PhotoError(
                f"a photograph is uint8 (H, W, 3) or (H, W), not {photo.dtype} {photo.shape}."
            )
    network = load_network(model)
    if (
        not few and network.name != "koala"
    ):  # whose few layers gain nothing, and whose last cannot be compiled for any size
        network = compiled(network)
    pictures = [_picture_of(photo) for photo in photos]
    inner = [
        photo[top:bottom, left:right] for photo, (top, bottom, left, right) in zip(photos, pictures)
    ]
    lightness = [
        lab.lightness(film.grey_of(shrink(photo, size or SIZES[network.name]))).numpy()
        for photo in inner
    ]
    if embeddings is None:
        largest = 2 * max(find_extractor(name).size for name in extractor.split("+"))
        embeddings = embed(
            [film.grey_of(shrink(photo, largest)) for photo in inner], extractor, few=few
        )
    outputs = [None] * len(photos)
    for shape in {each.shape for each in lightness}:
        alike = [i for i, each in enumerate(lightness) if each.shape == shape]
        batch = predict_output(
            network,
            np.stack([lightness[i] for i in alike]),
            np.stack([embeddings[i] for i in alike]),
        )
        for i, output in zip(alike, np.asarray(batch)):
            outputs[i] = output[None]
    embeddings = [np.asarray(embedding) for embedding in embeddings]
    return [
        Prediction(*parts, network.name, embedding, output)
        for *parts, embedding, output in zip(photos, pictures, lightness, embeddings, outputs)
    ]


def render(prediction, vividness=None, strength=1.0, hints=()):
    """The fast half of :func:`colorize`: the same arguments and result."""
    if vividness is not None and prediction.network != "koala-plus":
        raise WeightsError(
            f"{prediction.network} has a single answer, so vividness does nothing; use strength (--strength), or koala-plus."
        )
    height, width = prediction.lightness.shape[:2]
    chroma = chroma_of(prediction.output, VIVIDNESS if vividness is None else vividness).numpy()[
        0, :height, :width
    ]
    top, bottom, left, right = prediction.picture
    chroma = chroma * strength
    known = on_copy(hints, prediction.photo.shape, prediction.picture, chroma.shape)
    if known:
        chroma = prediction.spreader.spread(chroma, known)
    inner = recombine(prediction.photo[top:bottom, left:right], prediction.lightness, chroma)
    if inner.shape[:2] == prediction.photo.shape[:2]:
        return inner
    result = film.grey_photo(prediction.photo)
    result[top:bottom, left:right] = inner
    return result


def colorize_files(
    paths,
    targets,
    model="koala-plus",
    extractor=DEFAULT,
    vividness=None,
    strength=1.0,
    find_hints=None,
):
    """Colours files: while a few photographs are looked at together, the next are decoded and the last ones encoded.

    Args:
        paths, targets: from which file, and into which (see :func:`koala_utils.photos.save_photo`).
        find_hints: a function from a photograph to its hints.
        others: see :func:`colorize`.

    Yields:
        In the order of the paths None, or the PhotoError that says why that photograph is left out.

    Raises:
        ExtractorError, HintError, WeightsError: as :func:`colorize`.
    """

    def read(path):
        try:
            return read_photo_and_metadata(path)
        except PhotoError as error:
            return error

    def write(prediction, metadata, target):
        hints = find_hints(prediction.photo) if find_hints else ()
        try:
            save_photo(render(prediction, vividness, strength, hints), target, metadata)
        except PhotoError as error:
            return error

    def look(loaded, targets):
        """The jobs that write what has been loaded, or why there is nothing to write."""
        good = [each for each in loaded if not isinstance(each, PhotoError)]
        predictions = iter(
            _predict([photo for photo, _ in good], model, extractor, few=len(paths) <= BATCH)
            if good
            else ()
        )
        return [
            each
            if isinstance(each, PhotoError)
            else pool.submit(write, next(predictions), each[1], target)
            for each, target in zip(loaded, targets)
        ]

    batches = _batches(list(zip(paths, targets)))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        reading, writing = [], []
        for batch, following in zip([*batches, []], [[], *batches]):
            loaded = [job.result() for job in reading]
            reading = [pool.submit(read, path) for path, _ in batch]
            written, writing = writing, look(loaded, [target for _, target in following])
            yield from (each if isinstance(each, PhotoError) else each.result() for each in written)
        yield from (each if isinstance(each, PhotoError) else each.result() for each in writing)


def _batches(pairs):
    """Neighbours, at most `BATCH` and `BATCH_BYTES` of them together; a larger file alone."""
    batches, total = [], BATCH_BYTES
    for path, target in pairs:
        size = Path(path).stat().st_size if Path(path).is_file() else 0
        if total + size > BATCH_BYTES or len(batches[-1]) == BATCH:
            batches.append([])
            total = 0
        batches[-1].append((path, target))
        total += size
    return batches


def _picture_of(photo):
    """:func:`koala_utils.film.find_picture` in the pixels of the photograph, found on a small copy."""
    small = shrink(photo, 512)
    down, across = photo.shape[0] / small.shape[0], photo.shape[1] / small.shape[1]
    top, bottom, left, right = film.find_picture(film.grey_of(small))
    return round(top * down), round(bottom * down), round(left * across), round(right * across)


def shrink(photo, size):
    """A smaller copy of about size x size pixels in area and of the same aspect; never an enlarged one."""
    height, width = photo.shape[:2]
    scale = size / np.sqrt(height * width)
    if scale >= 1:
        return photo
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(photo).resize(shape, Image.LANCZOS, reducing_gap=3))


def recombine(photo, lightness, chroma, edge_aware=True):
    """Puts low-resolution chroma on a full-resolution photograph.

    Args:
        photo: uint8 (H, W, 3) or (H, W).
        lightness: (h, w, 1) in [-1, 1], of the small copy that the chroma was predicted on.
        chroma: (h, w, 2) in [-1, 1].
        edge_aware: False enlarges the chroma bilinearly, which bleeds over edges.

    Returns:
        uint8 (H, W, 3).
    """
    slope = guided_slope(lightness[..., 0], chroma) if edge_aware else np.zeros_like(chroma)
    height, width = photo.shape[:2]
    result = np.empty((height, width, 3), np.uint8)
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = lab.lightness(film.grey_of(photo[top : top + rows])).numpy()
        where = top, len(strip), height, width
        detail = strip - _enlarge_strip(lightness, *where)
        full = _enlarge_strip(chroma, *where) + _enlarge_strip(slope, *where) * detail
        result[top : top + rows] = np.rint(lab.to_rgb(strip, full) * 255)
    return result


def guided_slope(guide, target, radius=2, epsilon=1e-2):
    """How chroma goes with lightness around each place of the small copy: the slope of the guided filter.

    The filter of He and Sun, "Fast Guided Filter", arXiv 1505.00996 (2015), Algorithm 2, fits in every window a
    line, target ~ slope * guide + offset, on the small copy and applies it to the large guide. We take its
    slope, and add slope * (lightness that the small copy lost) to the enlarged chroma: edges come from the
    guide, and where there are none the network's answer stays as it is, while the filter itself would blur it.

    Args:
        guide: (h, w); target: (h, w, c).
        radius: of the windows, in pixels of the small copy.
        epsilon: edges of the guide below its square root, in units of the guide, count for little.

    Returns:
        float32 (h, w, c).
    """

    def mean(x):
        return uniform_filter(x, (2 * radius + 1, 2 * radius + 1, 0)[: x.ndim], mode="nearest")

    guide, target = guide.astype(np.float64), target.astype(np.float64)
    mean_guide, mean_target = mean(guide), mean(target)
    variance = mean(guide**2) - mean_guide**2
    covariance = mean(guide[..., None] * target) - mean_guide[..., None] * mean_target
    return mean(covariance / (variance + epsilon)[..., None]).astype(np.float32)


def _enlarge_strip(small, top, rows, height, width):
    """Rows top to top + rows of `small` (h, w, c), enlarged bilinearly to (height, width)."""
    scale = small.shape[0] / height
    box = (0, top * scale, small.shape[1], min((top + rows) * scale, small.shape[0]))
    channels = [
        Image.fromarray(np.ascontiguousarray(small[..., i])).resize(
            (width, rows), Image.BILINEAR, box=box
        )
        for i in range(small.shape[-1])
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)
