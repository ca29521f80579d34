"""What the trainings minimize: squared error, cross-entropy over bins of chroma, and a perceptual distance."""

from koala_utils import lab
from koala_utils.backend import keras
from koala_utils.embedding import classifier_for, standardized
from koala_utils.network import chroma_of
from koala_utils.quantization import soft_encode

ops = keras.ops

CLASSIFIER = "mobilenet_v2"
LAYERS = (
    "block_3_expand_relu",
    "block_6_expand_relu",
    "block_13_expand_relu",
)  # at 1/4, 1/8 and 1/16 of the side


def squared_error(chroma, output):
    """koala's loss: equation 1 of arXiv 1712.03400, up to a constant."""
    return ops.mean(ops.square(output - chroma))


def ab_error(truth, output):
    """The mean squared error of chroma in [-1, 1], the same for both networks; koala-plus at its most cautious."""
    return ops.mean(ops.square(chroma_of(output) - truth[..., :2]))


def cross_entropy(chroma, logits):
    """The loss: cross-entropy between the encoded true chroma and the prediction, in nats a place.

    Args:
        chroma: the truth (N, H, W, 2) in [-1, 1].
        logits: (N, H / 4, W / 4, 261); the truth is averaged down to these.
    """
    logits = ops.cast(logits, "float32")
    truth = soft_encode(ops.average_pool(chroma, chroma.shape[1] // logits.shape[1]))
    return ops.mean(ops.logsumexp(logits, -1) - ops.sum(truth * logits, -1))


def perceptual_distance(size):
    """The distance for squares of `size` px: a function of (lightness, chroma, other chroma) -> a number, 0 at best.

    The squared distance of the features, scaled to unit length at every place, averaged over places and photographs and
    summed over `LAYERS`; and the mean squared difference of the standardized logits. The classifier is the bundled one that
    learned in colour, and it is not trained.
    """
    classifier = classifier_for(size, CLASSIFIER)
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
    """The model's own loss and, where asked for, the cautious colors' error and how differently a classifier sees output and truth."""
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
