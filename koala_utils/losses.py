"""What the trainings minimize: squared error, cross-entropy and a perceptual distance."""

from koala_utils import lab
from koala_utils.backend import keras
from koala_utils.embedding import classifier_for, standardized
from koala_utils.network import chroma_of
from koala_utils.quantization import soft_encode

ops = keras.ops

# Feature maps of the classifier at 1/4, 1/8 and 1/16 of the side.
LAYERS = ("block_3_expand_relu", "block_6_expand_relu", "block_13_expand_relu")


def squared_error(chroma, output):
    """koala's loss: equation 1 of arXiv 1712.03400, up to a constant."""
    return ops.mean(ops.square(output - chroma))


def ab_error(truth, output):
    """The mean squared error of chroma in [-1, 1]; of koala-plus at vividness 0."""
    return ops.mean(ops.square(chroma_of(output) - truth[..., :2]))


def cross_entropy(chroma, logits):
    """Cross-entropy between the encoded true chroma and the prediction, in nats per place.

    Args:
        chroma: the truth (N, H, W, 2) in [-1, 1].
        logits: (N, H / 4, W / 4, 261); the truth is averaged down to these.
    """
    logits = ops.cast(logits, "float32")
    truth = soft_encode(ops.average_pool(chroma, chroma.shape[1] // logits.shape[1]))
    return ops.mean(ops.logsumexp(logits, -1) - ops.sum(truth * logits, -1))


def perceptual_distance(size):
    """How differently the bundled classifier, which learned in colour, sees two colourings.

    In the manner of LPIPS (Zhang, Isola, Efros, Shechtman and Wang, arXiv 1801.03924, 2018,
    equation 1), without its learned weights, and with the classifier's logits added: the squared
    distance of the features, scaled to unit length at every place, averaged over places and
    photographs and summed over `LAYERS`; and the mean squared difference of the standardized
    logits.

    Args:
        size: side of the square photographs in pixels.

    Returns:
        A function of (lightness, chroma, other chroma) that returns a number, 0 at best.
    """
    classifier = classifier_for(size)
    sees = keras.Model(
        classifier.input,
        [classifier.get_layer(name).output for name in LAYERS] + [classifier.output],
    )
    sees.trainable = False

    def look(lightness, chroma):
        rgb = lab.from_lab(
            ops.concatenate([(lightness + 1) * 50, chroma * lab.CHROMA_SCALE], axis=-1)
        )
        *features, logits = sees(ops.clip(rgb, 0, 1) * 2 - 1, training=False)
        return [ops.normalize(feature, axis=-1) for feature in features], standardized(logits)

    def distance(lightness, chroma, other):
        (features, opinion), (features_2, opinion_2) = (
            look(lightness, chroma),
            look(lightness, other),
        )
        seen = sum(
            ops.mean(ops.sum((one - two) ** 2, axis=-1)) for one, two in zip(features, features_2)
        )
        return seen + ops.mean((opinion - opinion_2) ** 2)

    return distance


LOSSES = {"koala": squared_error, "koala-plus": cross_entropy}


def loss_for(options):
    """A training's loss: the model's own, plus the terms that `options` give a weight.

    Args:
        options: a dict with "model", "crop", "mean_error" and "perceptual".

    Returns:
        A function of (truth, output); truth is chroma and lightness, (N, H, W, 3).
    """
    own, mean_error, perceptual = (
        LOSSES[options["model"]],
        options["mean_error"],
        options["perceptual"],
    )
    distance = perceptual_distance(options["crop"]) if perceptual else None

    def loss(truth, output):
        chroma, lightness = truth[..., :2], truth[..., 2:]
        total = own(chroma, output)
        if mean_error:
            total += mean_error * ab_error(truth, output)
        if perceptual:
            total += perceptual * distance(lightness, chroma_of(output, 0.5), chroma)
        return total

    return loss
