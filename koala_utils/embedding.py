"""The grey photograph -> the semantic prior: 1,000 standardized ImageNet logits of a classifier.

The classifier (the *extractor*) was trained on colour photographs and is shown a grey one three
times over, as red, green and blue (Section 3.1 of arXiv 1712.03400). Its output before the softmax
is the embedding. The bundled one is EfficientNet-Lite2, which Keras Applications does not have.
"""

import csv
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from koala_utils.backend import compiled, keras
from koala_utils.weights import RELEASED, load_weights

EMBEDDING_SIZE = 1000
BUNDLED = "efficientnet_lite2"  # trained on colour photographs
DEFAULT = "efficientnet_lite2_grey"  # what the released models were trained with


LITE_STAGES = [  # kernel, stride, expansion, filters, blocks: Tan and Le 2019, Table 1
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
]


def efficientnet_lite(width, depth, input_shape=(None, None, 3), name="efficientnet_lite"):
    """EfficientNet-Lite with random weights: no squeeze-and-excitation, ReLU6 for an activation.

    Tan and Le, "EfficientNet", arXiv 1905.11946 (2019), Section 4; the Lite variant is Google's.
    Stem and head keep their width at every scale. Batch normalization is folded into the
    convolutions: each has a bias instead, and gives the same numbers.

    Args:
        width, depth: factors for the filters and for the blocks per stage. 1.0 and 1.0 make Lite0,
            1.1 and 1.2 make Lite2.
        input_shape: of one photograph; sides that are None may be any.

    Returns:
        A `keras.Model` from RGB (N, H, W, 3) in [-1, 1] to logits (N, 1000). The output of stage i
        is the layer "stage_i", and the last feature map is "head".
    """
    layers = keras.layers

    def conv(x, filters, kernel, stride, name, activation=True):
        x = layers.Conv2D(filters, kernel, stride, padding="same", name=name)(x)
        return layers.ReLU(6, name=f"{name}_relu")(x) if activation else x

    rgb = keras.Input(input_shape, name="rgb")
    # In its training it saw (x - 127) / 128, where x goes from 0 to 255.
    x = layers.Rescaling(127.5 / 128, 0.5 / 128, name="rescaling")(rgb)
    x = conv(x, 32, 3, 2, "stem")
    for stage, (kernel, stride, expansion, filters, blocks) in enumerate(LITE_STAGES, 1):
        filters = int(filters * width + 4) // 8 * 8
        for block in range(1, 1 + (blocks if stage in (1, 7) else math.ceil(blocks * depth))):
            before, here = x, f"stage_{stage}_block_{block}"
            if expansion > 1:
                x = conv(x, x.shape[-1] * expansion, 1, 1, f"{here}_expand")
            step = stride if block == 1 else 1
            x = layers.DepthwiseConv2D(kernel, step, padding="same", name=f"{here}_depthwise")(x)
            x = layers.ReLU(6, name=f"{here}_depthwise_relu")(x)
            x = conv(x, filters, 1, 1, f"{here}_project", activation=False)
            if step == 1 and before.shape[-1] == filters:
                x = layers.Add(name=f"{here}_add")([before, x])
        x = layers.Identity(name=f"stage_{stage}")(x)
    x = conv(x, 1280, 1, 1, "head")
    x = layers.GlobalAveragePooling2D(name="pooling")(x)
    return keras.Model(rgb, layers.Dense(1000, name="logits")(x), name=name)


@dataclass(frozen=True)
class Extractor:
    """A classifier with the 1,000 ImageNet classes that takes RGB in [-1, 1]."""

    build: Callable  # takes input_shape and, where Keras downloads them, weights
    size: int  # pixels, the side of the square it was trained on
    bundled: bool  # whether its weights come with koala_utils


def _from_keras(application):
    # classifier_activation=None is what makes the output logits: Keras's default is softmax.
    return functools.partial(application, classifier_activation=None)


_LITE2 = functools.partial(efficientnet_lite, 1.1, 1.2)
_MOBILENET = functools.partial(_from_keras(keras.applications.MobileNetV2), weights=None)
EXTRACTORS = {
    "efficientnet_lite2": Extractor(_LITE2, 260, bundled=True),
    # The same, taught to read grey, old and damaged photographs: see koala_utils.training.adapt.
    "efficientnet_lite2_grey": Extractor(_LITE2, 260, bundled=True),
    # Neither released model needs it: it shows how well another extractor can take the place.
    "mobilenet_v2": Extractor(_MOBILENET, 224, bundled=True),
    "inception_resnet_v2": Extractor(
        _from_keras(keras.applications.InceptionResNetV2), 299, bundled=False
    ),
}


class ExtractorError(ValueError):
    """An extractor that does not exist, or whose weights are not available."""


def find_extractor(name):
    """The extractor of that name.

    Raises:
        ExtractorError: there is none.
    """
    if name not in EXTRACTORS:
        raise ExtractorError(f"no extractor is called {name!r}; there are {', '.join(EXTRACTORS)}.")
    return EXTRACTORS[name]


@functools.cache
def load_extractor(name=BUNDLED, pretrained=True):
    """A Keras model from RGB (N, size, size, 3) in [-1, 1] to logits (N, 1000), before any softmax.

    Args:
        name: one of `EXTRACTORS`. "inception_resnet_v2" is the paper's; Keras downloads its 215 MB
            on first use.
        pretrained: False gives random weights, for tests.

    Raises:
        ExtractorError: an unknown name, or weights that could not be downloaded.
    """
    extractor = find_extractor(name)
    shape = (extractor.size, extractor.size, 3)
    if extractor.bundled:
        model = extractor.build(input_shape=shape)
        if pretrained:
            load_weights(model, RELEASED / f"{name}.safetensors")
    else:
        try:
            model = extractor.build(input_shape=shape, weights="imagenet" if pretrained else None)
        except Exception as error:
            if not pretrained:
                raise
            raise ExtractorError(
                f"the weights of {name!r} could not be downloaded ({type(error).__name__}); connect"
                f" to the network once, or use the bundled {BUNDLED!r}."
            ) from error
    model.trainable = False
    return model


def classifier_for(size, name=BUNDLED):
    """A copy of a bundled classifier for squares of `size` pixels, to be trained or taken apart."""
    model = EXTRACTORS[name].build(input_shape=(size, size, 3))
    model.set_weights(load_extractor(name).get_weights())
    return model


def extractor_input(grey, name=BUNDLED):
    """What the extractor sees: the whole grey photograph as a square with three equal channels.

    Args:
        grey: float (H, W, 1) in [0, 1], any size.

    Returns:
        float32 array (size, size, 3) in [-1, 1]. Do not write to it.
    """
    size = find_extractor(name).size
    photo = Image.fromarray(np.asarray(grey, np.float32)[..., 0])
    square = np.asarray(photo.resize((size, size), Image.BILINEAR))  # averages where it shrinks
    return np.broadcast_to(square[..., None] * 2 - 1, (size, size, 3))  # in memory it is one plane


def standardized(logits):
    """Logits with zero mean and unit spread over the classes of each photograph.

    Extractors differ in the scale and offset of their logits. A network that is trained with the
    raw logits of one fails with those of another. Every embedding of the project is standardized
    here, so extractors can be exchanged.

    Args:
        logits: tensor (..., 1000).

    Returns:
        A tensor of the same shape, through which gradients flow.
    """
    centered = logits - keras.ops.mean(logits, axis=-1, keepdims=True)
    return centered / (keras.ops.std(logits, axis=-1, keepdims=True) + 1e-6)


def standardize(logits):
    """:func:`standardized` of an array: float32 (..., 1000) -> float32 array of the same shape."""
    return keras.ops.convert_to_numpy(standardized(np.asarray(logits, np.float32)))


def embed(greys, name=DEFAULT, pretrained=True, few=False):
    """The embeddings of grey photographs.

    Args:
        greys: a sequence of float (H, W, 1) arrays in [0, 1], of any sizes.
        name: the extractor; or several, joined by "+": their standardized logits are added and
            standardized again.
        few: so few photographs follow that compiling the extractor does not pay.

    Returns:
        float32 (N, 1000), standardized.
    """
    return embed_inputs([extractor_inputs(grey, name) for grey in greys], name, pretrained, few)


def extractor_inputs(grey, name=DEFAULT):
    """:func:`extractor_input` of each extractor in `name`: one photograph's part of the work."""
    return [extractor_input(grey, part) for part in name.split("+")]


def embed_inputs(inputs, name=DEFAULT, pretrained=True, few=False):
    """The second half of :func:`embed`, from a list of :func:`extractor_inputs`."""
    batches = map(np.stack, zip(*inputs))
    return standardize(
        sum(
            standardize(logits_of(batch, part, pretrained, few))
            for part, batch in zip(name.split("+"), batches)
        )
    )


def logits_of(batch, name=BUNDLED, pretrained=True, few=False):
    """The raw logits (N, 1000) of prepared inputs, float (N, size, size, 3) in [-1, 1]."""
    model = load_extractor(name, pretrained)
    call = model if few else compiled(model)
    return call(np.asarray(batch, np.float32), training=False).numpy()


@functools.cache
def class_names():
    """The names of the 1,000 ImageNet classes in the order of the logits, and their synsets.

    Keras's classifiers have 1,000 classes. Lists of 1,001 names start with "background", so all
    labels are off by one. This happened in the paper's figures.
    """
    with (RELEASED / "imagenet_classes.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    return [row["name"] for row in rows], [row["synset"] for row in rows]


def top_classes(logits, k=5):
    """The k most likely classes of each photograph: lists of (name, logit), most likely first."""
    names, _ = class_names()
    return [
        [(names[i], float(row[i])) for i in np.argsort(row)[::-1][:k]]
        for row in np.atleast_2d(logits)
    ]
