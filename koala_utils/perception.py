"""How differently a classifier sees two colourings of the same photograph: a loss that asks for recognizable colours.

In the manner of LPIPS (Zhang, Isola, Efros, Shechtman and Wang, "The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric", arXiv 1801.03924, 2018, equation 1), without its learned weights, and with the classifier's opinion added.
"""

from koala_utils import lab
from koala_utils.backend import keras
from koala_utils.embedding import classifier_for, standardized

ops = keras.ops

CLASSIFIER = "mobilenet_v2"
LAYERS = ("block_3_expand_relu", "block_6_expand_relu", "block_13_expand_relu")  # at 1/4, 1/8 and 1/16 of the side


def perceptual_distance(size):
    """The distance for squares of `size` px: a function of (lightness, chroma, other chroma) -> a number, 0 at best.

    The squared distance of the features, scaled to unit length at every place, averaged over places and photographs and
    summed over `LAYERS`; and the mean squared difference of the standardized logits. The classifier is the bundled one that
    learned in colour, and it is not trained.
    """
    classifier = classifier_for(size, CLASSIFIER)
    sees = keras.Model(classifier.input, [classifier.get_layer(name).output for name in LAYERS] + [classifier.output])
    sees.trainable = False

    def look(lightness, chroma):
        rgb = lab.from_lab(ops.concatenate([(lightness + 1) * 50, chroma * lab.CHROMA_SCALE], axis=-1))
        *features, logits = sees(ops.clip(rgb, 0, 1) * 2 - 1, training=False)
        return [ops.normalize(feature, axis=-1) for feature in features], standardized(logits)

    def distance(lightness, chroma, other):
        (features, opinion), (features_2, opinion_2) = look(lightness, chroma), look(lightness, other)
        seen = sum(ops.mean(ops.sum((one - two) ** 2, axis=-1)) for one, two in zip(features, features_2))
        return seen + ops.mean((opinion - opinion_2) ** 2)

    return distance
