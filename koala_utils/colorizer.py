"""A photograph -> the same photograph in colour, at its full resolution, with released weights.

The eye sees colour less sharply than lightness. Chroma is therefore predicted on a small copy of
the photograph and enlarged along the photograph's own edges. The lightness is the photograph's
own, at full resolution.
"""

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter

from koala_utils import border, film, lab
from koala_utils.backend import compiled
from koala_utils.embedding import DEFAULT, embed, find_extractor
from koala_utils.hints import Spreader, on_copy
from koala_utils.network import (
    BUILDERS,
    chroma_of,
    kind_of,
    load_encoder,
    trained_part,
    with_own_embedding,
)
from koala_utils.network import predict as predict_output
from koala_utils.photos import PhotoError, resize, scaled
from koala_utils.weights import WeightsError, find_weights, load_weights, read_metadata

# Chroma is predicted on a copy with the area of a square of this side in pixels. The sides were
# chosen on validation photographs.
SIZES = {"koala": 128, "koala-plus": 240}
SMALL = 512  # pixels, as above: all other copies are made from one of at least this size
VIVIDNESS = 0.5  # koala-plus's default
STRIP_PIXELS = 400_000  # recombined at a time, which limits the memory for large photographs


def load_network(model="koala-plus"):
    """A trained network: a released model by name, or a safetensors file of `koala train`.

    Raises:
        WeightsError: no such model, or weights that do not fit.
    """
    path = find_weights(model)
    return _load_network(path, path.stat().st_mtime_ns if path.exists() else None)


@functools.lru_cache(4)
def _load_network(path, changed):
    """Keeps the network in memory until the file changes."""
    metadata = read_metadata(path)
    network = BUILDERS[kind_of(metadata, path)](fusion=metadata.get("fusion") != "False")
    if network.name == "koala-plus":
        load_encoder(network)
    load_weights(trained_part(network), path)
    return network


_with_own_embedding = functools.lru_cache(4)(with_own_embedding)


@dataclass(frozen=True)
class Prediction:
    """A network's answer for a photograph: the result of the slow half of :func:`colorize`."""

    photo: np.ndarray  # uint8 or uint16, (H, W, 3) or (H, W), as it was read
    picture: tuple  # (top, bottom, left, right) of the photograph inside a film's edge, in pixels
    lightness: np.ndarray  # (h, w, 1) in [-1, 1], of the picture's small copy
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
    """Colours a photograph. Its own colours are ignored.

    Args:
        photo: uint8 or uint16 array, (H, W, 3) in sRGB or (H, W), of any size.
        model: a released model, or a safetensors file of `koala train`.
        extractor: the classifier behind the embedding: one of `koala_utils.embedding.EXTRACTORS`,
            or several joined by "+".
        vividness: from 0, cautious, to 1, vivid; None is `VIVIDNESS`. Only for koala-plus: koala
            has a single answer.
        strength: the predicted chroma is multiplied with this; 0 is grey.
        size: chroma is predicted on a copy of about size x size pixels; None takes the model's
            own from `SIZES`.
        hints: known colours, (x, y, "#7a1f1f") each, at pixels of the photograph. Only their chroma
            counts; a grey hint means: no colour here. See :mod:`koala_utils.hints`.

    Returns:
        RGB array (H, W, 3) of the photograph's dtype, with its own lightness. The edge of a film
        stays grey.

    Raises:
        PhotoError: not a photograph.
        ExtractorError, WeightsError: no such extractor or model, or a vividness for koala.
        HintError: a hint lies outside of the photograph, or names no colour.
        ValueError: a vividness or strength that makes no sense.
    """
    return render(predict(photo, model, extractor, size), vividness, strength, hints)


def predict(photo, model="koala-plus", extractor=DEFAULT, size=None, embedding=None, few=False):
    """The slow half of :func:`colorize`: a `Prediction`, which :func:`render` turns into colour.

    Args:
        photo, model, extractor, size: as for :func:`colorize`.
        embedding: float (1000,), standardized, in place of the photograph's own.
        few: only a few photographs follow, so compiling the networks does not pay.
    """
    photo = np.asarray(photo)
    right_shape = photo.ndim == 2 or (photo.ndim == 3 and photo.shape[-1] == 3)
    if photo.dtype not in (np.uint8, np.uint16) or not right_shape or not photo.size:
        raise PhotoError(
            "a photograph is uint8 or uint16, (H, W, 3) or (H, W), not"
            f" {photo.dtype} {photo.shape}."
        )
    network = load_network(model)
    size = size or SIZES[network.name]
    if network.name == "koala-plus" and embedding is None and extractor == DEFAULT:
        network = _with_own_embedding(network)  # its encoder is that extractor
    # The whole photograph is made smaller once. All that the networks see comes from this copy.
    for_embedding = 2 * max(find_extractor(name).size for name in extractor.split("+"))
    grey = film.grey_of(shrink(photo, max(SMALL, size, for_embedding)))
    top, bottom, left, right = border.find_picture(grey)
    down, across = photo.shape[0] / grey.shape[0], photo.shape[1] / grey.shape[1]
    picture = round(top * down), round(bottom * down), round(left * across), round(right * across)
    grey = grey[top:bottom, left:right]
    # A smaller photograph is enlarged: the networks recognize things at the size at which they
    # learned them.
    copy = resize(grey[..., 0], scaled(grey.shape, _scale_to(grey, size)))
    lightness = lab.lightness(np.clip(copy, 0, 1)[..., None]).numpy()
    if embedding is None and len(network.inputs) == 2:
        embedding = embed([grey], extractor, few=few)[0]
    # koala's few layers gain nothing from compiling, and the last one cannot be compiled for any
    # size.
    callable_network = network if few or network.name == "koala" else compiled(network)
    output, embeddings = predict_output(
        callable_network, lightness[None], None if embedding is None else embedding[None]
    )
    return Prediction(
        photo, picture, lightness, network.name, np.asarray(embeddings[0]), np.asarray(output)
    )


def render(prediction, vividness=None, strength=1.0, hints=()):
    """The fast half of :func:`colorize`, with the same arguments and result."""
    if vividness is not None and prediction.network != "koala-plus":
        raise WeightsError(
            f"{prediction.network} has a single answer, so vividness does nothing; use strength"
            " (--strength), or koala-plus."
        )
    vividness = VIVIDNESS if vividness is None else vividness
    if not 0 <= vividness <= 1:
        raise ValueError(f"vividness is {vividness}, and must be a number from 0 to 1.")
    if not 0 <= strength < np.inf:
        raise ValueError(f"strength is {strength}, and must be a number from 0 up.")
    photo, lightness = prediction.photo, prediction.lightness
    chroma = chroma_of(prediction.output, vividness).numpy()[0]
    chroma = strength * chroma[: lightness.shape[0], : lightness.shape[1]]
    known = on_copy(hints, photo.shape, prediction.picture, chroma.shape)
    if known:
        chroma = prediction.spreader.spread(chroma, known)
    top, bottom, left, right = prediction.picture
    inner = recombine(photo[top:bottom, left:right], lightness, chroma)
    if inner.shape[:2] == photo.shape[:2]:
        return inner
    result = np.empty((*photo.shape[:2], 3), photo.dtype)
    result[top:bottom, left:right] = inner
    sides = np.s_[:top], np.s_[bottom:], np.s_[top:bottom, :left], np.s_[top:bottom, right:]
    for side in sides:
        result[side] = np.rint(film.grey_of(photo[side]) * np.iinfo(photo.dtype).max)
    return result


def shrink(photo, size):
    """A smaller copy of about size x size pixels in area and of the same aspect.

    Args:
        photo: uint8 or uint16 (H, W, 3) or (H, W).
        size: pixels; a photograph that is smaller is returned as it is.

    Returns:
        An array of the same kind; uint8 for uint16.
    """
    if photo.dtype == np.uint16:
        photo = (photo >> 8).astype(np.uint8)
    return resize(photo, scaled(photo.shape, min(1, _scale_to(photo, size))))


def _scale_to(photo, size):
    """The factor that brings a photograph to the area of size x size pixels."""
    height, width = photo.shape[:2]
    return size / np.sqrt(height * width)


def recombine(photo, lightness, chroma, edge_aware=True):
    """Puts low-resolution chroma on a full-resolution photograph.

    Args:
        photo: uint8 or uint16, (H, W, 3) or (H, W).
        lightness: (h, w, 1) in [-1, 1], of the small copy that the chroma was predicted on.
        chroma: (h, w, 2) in [-1, 1].
        edge_aware: False enlarges the chroma bilinearly, which bleeds over edges.

    Returns:
        (H, W, 3) of the photograph's dtype.
    """
    slope = guided_slope(lightness[..., 0], chroma) if edge_aware else np.zeros_like(chroma)
    height, width = photo.shape[:2]
    result = np.empty((height, width, 3), photo.dtype)
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = lab.lightness(film.grey_of(photo[top : top + rows])).numpy()
        where = top, len(strip), height, width
        detail = strip - _enlarge_strip(lightness, *where)
        full = _enlarge_strip(chroma, *where) + _enlarge_strip(slope, *where) * detail
        result[top : top + rows] = np.rint(lab.to_rgb(strip, full) * np.iinfo(photo.dtype).max)
    return result


def guided_slope(guide, target, radius=2, epsilon=1e-2):
    """How chroma changes with lightness around each place of the small copy.

    The guided filter (He and Sun, "Fast Guided Filter", arXiv 1505.00996, 2015, Algorithm 2) fits a
    line in every window of the small copy, target ~ slope * guide + offset, and applies it to the
    large guide. We take only its slope, and add slope * (lightness that the small copy lost) to
    the enlarged chroma. Edges come from the guide. Where there are none, the network's answer stays
    as it is, while the filter itself would blur it.

    Args:
        guide: (h, w); target: (h, w, c).
        radius: of the windows, in pixels of the small copy.
        epsilon: edges of the guide that are weaker than its square root, in units of the guide,
            count little.

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
