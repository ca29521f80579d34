"""The grey photograph -> the semantic prior: 1,000 standardized ImageNet logits of a pretrained classifier.

The classifier (the *extractor*) was trained on colour photographs and is shown a grey one three times
over, as red, green and blue (Section 3.1 of arXiv 1712.03400). Its output before the softmax is the embedding.
"""

import csv
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from koala_utils.backend import compiled, keras
from koala_utils.weights import RELEASED, load_weights

EMBEDDING_SIZE = 1000
DEFAULT = "mobilenet_v2_grey"  # the extractor that the released models were trained with


@dataclass(frozen=True)
class Extractor:
    """A classifier of Keras Applications with the 1,000 ImageNet classes, taking RGB scaled to [-1, 1]."""

    build: Callable
    size: int  # pixels, the side of the square it was trained on
    bundled: bool  # whether its weights come with koala_utils


EXTRACTORS = {
    "mobilenet_v2": Extractor(keras.applications.MobileNetV2, 224, bundled=True),
    # The same, adapted to grey, old and damaged photographs: see koala_utils.training.
    "mobilenet_v2_grey": Extractor(keras.applications.MobileNetV2, 224, bundled=True),
    "inception_resnet_v2": Extractor(keras.applications.InceptionResNetV2, 299, bundled=False),
}


class ExtractorError(ValueError):
    """An extractor that does not exist or whose weights cannot be had."""


def find_extractor(name):
    """The extractor of that name.

    Raises:
        ExtractorError: there is none.
    """
    if name not in EXTRACTORS:
        raise ExtractorError(f"no extractor is called {name!r}; there are {', '.join(EXTRACTORS)}.")
    return EXTRACTORS[name]


@functools.cache
def load_extractor(name="mobilenet_v2", pretrained=True):
    """A Keras model from RGB, float32 (N, size, size, 3) in [-1, 1], to logits (N, 1000), before any softmax.

    Args:
        name: one of `EXTRACTORS`. "inception_resnet_v2" is the paper's; Keras downloads its 215 MB
            on first use. "mobilenet_v2" is bundled.
        pretrained: False gives random weights, for tests.

    Raises:
        ExtractorError: an unknown name, or weights that could not be downloaded.
    """
    extractor = find_extractor(name)
    download = pretrained and not extractor.bundled
    try:
        # classifier_activation=None is what makes the output logits: Keras's default is softmax.
        model = extractor.build(
            weights="imagenet" if download else None,
            classifier_activation=None,
            input_shape=(extractor.size, extractor.size, 3),
        )
    except Exception as error:
        if not download:
            raise
        raise ExtractorError(
            f"the weights of {name!r} could not be downloaded ({type(error).__name__}); connect to"
            " the network once, or use the bundled 'mobilenet_v2'."
        ) from error
    if pretrained and extractor.bundled:
        load_weights(model, RELEASED / f"{name}.safetensors")
    model.trainable = False
    return model


def classifier_for(size, name="mobilenet_v2"):
    """A classifier like :func:`load_extractor`'s for squares of another size, of its own: it may be trained or taken apart."""
    model = EXTRACTORS[name].build(
        weights=None, classifier_activation=None, input_shape=(size, size, 3)
    )
    model.set_weights(load_extractor(name).get_weights())
    return model


def extractor_input(grey, name="mobilenet_v2"):
    """What the extractor is shown: the whole grey photograph, squeezed to its square, three times over.

    Args:
        grey: float (H, W, 1) in [0, 1], any size.

    Returns:
        float32 array (size, size, 3) in [-1, 1], not to be written to.
    """
    size = find_extractor(name).size
    square = Image.fromarray(np.asarray(grey, np.float32)[..., 0]).resize(
        (size, size), Image.BILINEAR
    )  # averages where it shrinks
    return np.broadcast_to(
        np.asarray(square)[..., None] * 2 - 1, (size, size, 3)
    )  # three times the same memory


def standardize(logits):
    """Zero mean and unit spread over the classes of each photograph, so that extractors can be exchanged.

    Extractors differ in the scale and offset of their logits, and a network that is trained with one's
    would break with another's. Every embedding of the project has gone through here.

    Args:
        logits: (..., 1000).

    Returns:
        float32 array of the same shape.
    """
    logits = np.asarray(logits, np.float32)
    return (logits - logits.mean(-1, keepdims=True)) / (logits.std(-1, keepdims=True) + 1e-6)


def standardized(logits):
    """As :func:`standardize`, on tensors, so that gradients flow through it."""
    centered = logits - keras.ops.mean(logits, axis=-1, keepdims=True)
    return centered / (keras.ops.std(logits, axis=-1, keepdims=True) + 1e-6)


def embed(greys, name=DEFAULT, pretrained=True, few=False):
    """The embeddings of grey photographs.

    Args:
        greys: a sequence of float (H, W, 1) arrays in [0, 1], of any sizes.
        name: the extractor; or several, joined by "+", whose standardized logits are added and standardized again.
        few: so few photographs are to come that compiling the extractor does not pay.

    Returns:
        float32 (N, 1000), standardized.
    """
    return embed_inputs([extractor_inputs(grey, name) for grey in greys], name, pretrained, few)


def extractor_inputs(grey, name=DEFAULT):
    """:func:`extractor_input` of each of the extractors that are joined in `name`: the part of :func:`embed` that is a photograph's own."""
    return [extractor_input(grey, part) for part in name.split("+")]


def embed_inputs(inputs, name=DEFAULT, pretrained=True, few=False):
    """The rest of :func:`embed`, from a list of :func:`extractor_inputs`."""
    return standardize(
        sum(
            standardize(logits_of(np.stack(batch), part, pretrained, few))
            for part, batch in zip(name.split("+"), zip(*inputs))
        )
    )


def logits_of(batch, name="mobilenet_v2", pretrained=True, few=False):
    """The raw logits (N, 1000) of prepared inputs, float (N, size, size, 3) in [-1, 1]; grey or colour."""
    model = load_extractor(name, pretrained)
    return (model if few else compiled(model))(
        np.asarray(batch, np.float32), training=False
    ).numpy()


@functools.cache
def class_names():
    """The 1,000 names of the ImageNet classes in the order of the logits, and their synsets.

    Keras's classifiers have 1,000 classes; lists of 1,001 names start with "background" and label
    everything one off, as happened in the paper's figures.
    """
    with open(RELEASED / "imagenet_classes.csv", newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    return [row["name"] for row in rows], [row["synset"] for row in rows]


def top_classes(logits, k=5):
    """The k most likely classes: for each photograph a list of (name, logit), the most likely first."""
    names, _ = class_names()
    logits = np.atleast_2d(logits)
    return [[(names[i], float(row[i])) for i in np.argsort(row)[::-1][:k]] for row in logits]
