"""What each part of koala-plus buys: every variant trained for the same few minutes, compared on
validation photographs.

    python report/ablation.py RECORDS -o report/tables/ablation.csv [--only NAME ...]

RECORDS are those of `koala prepare`. Each variant sees 9,600 squares of 96 px (300 steps of 32) on
a cosine schedule and is measured on every fourth batch of the validation squares at 128 px. Called
again, it adds the variants that the table does not hold yet. The losers live here and not in the
package.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np

from koala_utils import lab, losses, quantization, records, training
from koala_utils.backend import keras, tf
from koala_utils.embedding import classifier_for, standardized
from koala_utils.network import build_network, build_plus, chroma_of, load_encoder

ops = keras.ops
STEPS, BATCH, CROP, RATE = 300, 32, 96, 1e-3


# ---------------------------------------------------------------- losses
# Functions of the truth (N, H, W, 3), chroma and lightness, and the output, that return a number.


def cross_entropy(truth, output):
    return losses.cross_entropy(truth[..., :2], output)


def rebalanced(truth, output):
    """Equation 2 of Zhang et al.: each place weighs what its true colour's rarity says."""
    encoded = quantization.soft_encode(ops.average_pool(truth[..., :2], 4))
    weights = ops.matmul(encoded, quantization.rebalancing_weights()[:, None])[..., 0]
    return ops.mean(weights * (ops.logsumexp(output, -1) - ops.sum(encoded * output, -1)))


def squared(truth, output):
    """100 times, to bring the gradients near the cross-entropy's."""
    return 100 * ops.mean((output - ops.average_pool(truth[..., :2], 4)) ** 2)


def huber(truth, output, delta=0.1):
    distance = (
        ops.sqrt(ops.sum((output - ops.average_pool(truth[..., :2], 4)) ** 2, -1) + 1e-8) / delta
    )
    return ops.mean(ops.where(distance < 1, distance**2 / 2, distance - 0.5))


def both(truth, output):
    """The cross-entropy, and the squared error of the distribution's mean."""
    return cross_entropy(truth, output) + 100 * ops.mean((chroma_of(output) - truth[..., :2]) ** 2)


# Feature maps of the classifier at 1/4, 1/8 and 1/16 of the side.
LAYERS = ("stage_2", "stage_3", "stage_5")


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


def perceptual():
    """The cross-entropy, and how differently the bundled classifier sees output and truth."""
    distance = perceptual_distance(CROP)

    def loss(truth, output):
        return cross_entropy(truth, output) + distance(
            truth[..., 2:], chroma_of(output, 0.5), truth[..., :2]
        )

    return loss


# ---------------------------------------------------------------- networks


def plus(frozen=True, regression=False, **options):
    network = build_plus(dtype=training.best_dtype(), **options)
    load_encoder(network)
    network.get_layer("encoder").trainable = not frozen
    if regression:  # two numbers in place of the bins
        encoder, decoder = network.get_layer("encoder"), network.get_layer("decoder")
        last = decoder.get_layer("decoder_4").output
        chroma = keras.layers.Conv2D(2, 1, activation="tanh", name="chroma", dtype="float32")(last)
        *features, _ = encoder(network.inputs[0])
        decoder = keras.Model(decoder.inputs, chroma)
        network = keras.Model(network.inputs, decoder([*features, network.inputs[1]]))
    return network


VARIANTS = {
    "koala-plus": (plus, lambda: cross_entropy),
    "koala-plus, encoder trained too": (lambda: plus(frozen=False), lambda: cross_entropy),
    "without skips": (lambda: plus(skips=False), lambda: cross_entropy),
    "without the embedding": (lambda: plus(fusion=False), lambda: cross_entropy),
    "squared error (L2)": (lambda: plus(regression=True), lambda: squared),
    "Huber loss": (lambda: plus(regression=True), lambda: huber),
    "cross-entropy, rebalanced in the loss": (plus, lambda: rebalanced),
    "cross-entropy and L2 of the mean": (plus, lambda: both),
    "cross-entropy and perceptual distance": (plus, perceptual),
    "koala (the paper's network)": (
        lambda: build_network(dtype=training.best_dtype()),
        lambda: None,
    ),
}


# ---------------------------------------------------------------- the comparison


def train(network, loss, folder):
    if loss is None:  # koala, which puts out chroma at full size

        def loss(truth, output):
            return ops.mean((output - truth[..., :2]) ** 2)

    network.compile(optimizer=keras.optimizers.Adam(training.cosine(RATE, STEPS)), loss=loss)
    batches = records.training_batches(folder, CROP, BATCH).take(STEPS)
    began = time.monotonic()
    network.fit(
        batches.map(lambda inputs, chroma: (inputs, tf.concat([chroma, inputs[0]], -1))),
        epochs=1,
        verbose=2,
        shuffle=False,
    )
    return time.monotonic() - began


def measure(network, folder):
    """Ratio of the squared ab error to grey's, and mean chroma as a share of the truth's, cautious
    and vivid.
    """
    sums = dict.fromkeys(
        ["grey", "chroma", "ratio", "chroma_share", "vivid_ratio", "vivid_chroma_share"], 0.0
    )
    for i, ((lightness, embedding), truth) in enumerate(
        records.validation_batches(folder, 128, BATCH).as_numpy_iterator()
    ):
        if i % 4:
            continue
        output = network.predict_on_batch([lightness, embedding])
        sums["grey"] += np.mean(truth**2)
        sums["chroma"] += np.linalg.norm(truth, axis=-1).mean()
        for name, vividness in (("", 0.0), ("vivid_", 1.0)):
            if output.shape[-1] == 2:
                chroma = tf.image.resize(output, truth.shape[1:3]).numpy()
            else:
                chroma = chroma_of(output, vividness).numpy()
            sums[f"{name}ratio"] += np.mean((chroma - truth) ** 2)
            sums[f"{name}chroma_share"] += np.linalg.norm(chroma, axis=-1).mean()
    return {
        key: round(float(value / sums["chroma" if "chroma" in key else "grey"]), 4)
        for key, value in sums.items()
        if key not in ("grey", "chroma")
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args()
    rows = []
    if options.output.exists():
        with Path(options.output).open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    for name in options.only:
        if name in [row["variant"] for row in rows]:
            continue
        keras.utils.set_random_seed(0)
        build, loss = VARIANTS[name]
        network = build()
        seconds = train(network, loss(), options.records)
        rows.append(
            {
                "variant": name,
                **measure(network, options.records),
                "parameters": network.count_params(),
                "photos_a_second": round(STEPS * BATCH / seconds, 1),
            }
        )
        print(rows[-1], flush=True)
        with Path(options.output).open("w", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
