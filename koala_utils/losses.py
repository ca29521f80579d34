"""What the trainings minimize: squared error, cross-entropy, and the distillation's distance."""

from koala_utils.backend import keras
from koala_utils.embedding import EMBEDDING_SIZE, standardized
from koala_utils.network import chroma_of
from koala_utils.quantization import soft_encode

ops = keras.ops


def squared_error(chroma, output):
    """koala's loss: equation 1 of arXiv 1712.03400, up to a constant."""
    return ops.mean(ops.square(output - chroma))


def ab_error(chroma, output):
    """The mean squared error of chroma in [-1, 1]; of koala-plus at vividness 0."""
    return ops.mean(ops.square(chroma_of(output) - chroma))


def cross_entropy(chroma, logits):
    """Cross-entropy between the encoded true chroma and the prediction, in nats per place.

    Args:
        chroma: the truth (N, H, W, 2) in [-1, 1].
        logits: (N, H / 4, W / 4, 261); the truth is averaged down to these.
    """
    logits = ops.cast(logits, "float32")
    truth = soft_encode(ops.average_pool(chroma, chroma.shape[1] // logits.shape[1]))
    return ops.mean(ops.logsumexp(logits, -1) - ops.sum(truth * logits, -1))


def distillation(teacher, student):
    """How far a student is from its teacher: squared error, divergence and cosine distance.

    Args:
        teacher, student: logits and pooled features, (N, 1000 + 1280).

    Returns:
        The mean squared difference of the standardized logits, half the Kullback-Leibler divergence
        of the probabilities, and the cosine distance of the features, added up.
    """
    (logits, features), (logits_2, features_2) = (
        (both[:, :EMBEDDING_SIZE], both[:, EMBEDDING_SIZE:]) for both in (teacher, student)
    )
    difference = ops.mean((standardized(logits) - standardized(logits_2)) ** 2)
    log_ratio = ops.log_softmax(logits) - ops.log_softmax(logits_2)
    divergence = ops.mean(ops.sum(ops.softmax(logits) * log_ratio, axis=-1))
    cosine = ops.sum(ops.normalize(features) * ops.normalize(features_2), axis=-1)
    return difference + 0.5 * divergence + ops.mean(1 - cosine)


def agreement(teacher, student):
    """The cosine similarity of the standardized logits in :func:`distillation`'s arguments: (N,)"""
    one, two = (standardized(both[:, :EMBEDDING_SIZE]) for both in (teacher, student))
    return ops.mean(one * two, axis=-1)


LOSSES = {"koala": squared_error, "koala-plus": cross_entropy}


def loss_for(options):
    """A training's loss: the model's own, plus the squared error times its weight.

    Args:
        options: a dict with "model" and "mean_error".

    Returns:
        A function of (chroma, output).
    """
    own, mean_error = LOSSES[options["model"]], options["mean_error"]

    def loss(chroma, output):
        total = own(chroma, output)
        return total + mean_error * ab_error(chroma, output) if mean_error else total

    return loss
