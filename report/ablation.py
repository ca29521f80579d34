"""What each part of koala-plus buys: every variant trained for the same few minutes, compared on
validation photographs.

    python report/training/second_generation.py store STORE --photographs … --slides …
    python report/ablation.py STORE --slides … -o report/tables/ablation.csv [--only NAME ...]

Each variant sees the same number of pixels: 200 steps of 32 windows of 96 px, or of fewer and
larger ones. All but koala start with a random decoder and the released encoder. Called again, the
script adds the variants that the table does not hold yet. The losers live here and not in the
package.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from koala_utils import film, lab, losses, network, quantization, records, training
from koala_utils.backend import keras, tf
from koala_utils.embedding import classifier_for, load_extractor, standardized
from koala_utils.files import read_rows, write_rows

sys.path.append(str(Path(__file__).parent / "training"))
import second_generation as recipe  # noqa: E402

ops, layers = keras.ops, keras.layers
STEPS, BATCH, CROP, RATE = 200, 32, 96, 1e-3
EVERY = 3  # of the stored photographs; 200 steps do not see more than a third of them
PARTS = ("val-imagenette", "val-flickr8k", "kodachrome")  # of the validation
HINTS = 10  # per photograph


# ---------------------------------------------------------------- losses
# Functions of lightness (N, H, W, 1), the true chroma (N, H, W, 2) and the output; a number each.


def cross_entropy(_, chroma, output):
    return losses.cross_entropy(chroma, output)


def squared(_, chroma, output):
    """100 times, to bring the gradients near the cross-entropy's; at the output's size."""
    return 100 * ops.mean((output - _pooled(chroma, output)) ** 2)


def both(_, chroma, output):
    """The released koala-plus's: cross-entropy, and the squared error of the mean."""
    return recipe.decoder_loss(chroma, output)


def rebalanced(_, chroma, output):
    """Equation 2 of Zhang et al.: each place weighs what its true colour's rarity says."""
    encoded = quantization.soft_encode(_pooled(chroma, output))
    weights = ops.matmul(encoded, quantization.rebalancing_weights()[:, None])[..., 0]
    return ops.mean(weights * (ops.logsumexp(output, -1) - ops.sum(encoded * output, -1)))


def huber(_, chroma, output, delta=0.1):
    distance = ops.norm(output - _pooled(chroma, output) + 1e-6, axis=-1) / delta
    return ops.mean(ops.where(distance < 1, distance**2 / 2, distance - 0.5))


def _pooled(chroma, output):
    return ops.average_pool(chroma, chroma.shape[1] // output.shape[1])


def perceptual():
    """:func:`both`, and how differently the bundled classifier sees two colourings.

    In the manner of LPIPS (Zhang, Isola, Efros, Shechtman and Wang, arXiv 1801.03924, 2018,
    equation 1), without its learned weights, and with the classifier's logits added: the squared
    distance of the features at 1/4, 1/8 and 1/16 of the side, scaled to unit length at every place,
    averaged over places and photographs, and the mean squared difference of the standardized
    logits.
    """
    classifier = classifier_for(CROP)
    names = ("stage_2", "stage_3", "stage_5")
    sees = keras.Model(
        classifier.input,
        [classifier.get_layer(name).output for name in names] + [classifier.output],
    )

    def look(lightness, chroma):
        rgb = lab.from_lab(
            ops.concatenate([(lightness + 1) * 50, chroma * lab.CHROMA_SCALE], axis=-1)
        )
        *features, logits = sees(ops.clip(rgb, 0, 1) * 2 - 1, training=False)
        return [ops.normalize(feature, axis=-1) for feature in features], standardized(logits)

    def loss(lightness, chroma, output):
        seen, opinion = look(lightness, network.chroma_of(output, 0.5))
        wanted, opinion_2 = look(lightness, chroma)
        distance = sum(ops.mean(ops.sum((a - b) ** 2, -1)) for a, b in zip(seen, wanted))
        return both(lightness, chroma, output) + distance + ops.mean((opinion - opinion_2) ** 2)

    return loss


# ---------------------------------------------------------------- networks
# Each returns a function of (lightness, embedding, hints, training), which gives the output; the
# variables that are trained; and those that are trained at a tenth of the rate.


def plus(change=None, slow=False, **options):
    """koala-plus; `change` makes another decoder of encoder and decoder."""
    model = network.build_plus(dtype=training.best_dtype(), **options)
    network.load_encoder(model)
    encoder, decoder = model.get_layer("encoder"), model.get_layer("decoder")
    if change:
        decoder = change(encoder, decoder)

    def answer(lightness, embedding, hints, training):
        *features, _ = encoder(lightness, training=False)  # the batch statistics stay as they are
        if change is with_hints:
            features = [_beside(feature, hints) for feature in features]
        return decoder([*features, embedding], training=training)

    return answer, decoder.trainable_variables, encoder.trainable_variables if slow else []


def koala():
    model = network.build_network(dtype=training.best_dtype())
    return (
        lambda lightness, embedding, _, training: model([lightness, embedding], training=training),
        model.trainable_variables,
        [],
    )


def regression(_, decoder):
    """Two numbers in place of the bins."""
    last = decoder.get_layer("decoder_4").output
    chroma = layers.Conv2D(2, 1, activation="tanh", name="chroma", dtype="float32")(last)
    return keras.Model(decoder.inputs, chroma)


def with_hints(encoder, _):
    """Beside each feature map three more: the hints' chroma, and where there is one."""
    wider = [ops.concatenate([each, each[..., :3]], axis=-1) for each in encoder.outputs[:-1]]
    shaped = keras.Model(encoder.input, [*wider, encoder.outputs[-1]])
    return network.build_plus_decoder(shaped, dtype=training.best_dtype())


def _beside(feature, hints):
    """Hints (N, H / 4, W / 4, 3), summed to the feature map's size and stacked on it."""
    size = hints.shape[1] // feature.shape[1]
    summed = ops.average_pool(hints, size, padding="valid") * size**2
    return ops.concatenate([feature, summed], axis=-1)


def with_color_queries(_, decoder, count=20, width=128):
    """A color decoder after DDColor (Kang et al., arXiv 2212.11613, 2023, Section 3.3).

    Learned queries attend to the decoder's maps at 1/16, 1/8 and 1/4 of the side, once each, and to
    each other. (DDColor goes around three times.) The similarity of each place to each query goes
    into the last convolution beside the place's own features.
    """
    x = ColorQueries(count, width, name="queries")(decoder.inputs[-1])
    for i in (1, 2, 3):
        scale = decoder.get_layer(f"decoder_{i}").output
        keys = layers.Reshape((-1, scale.shape[-1]))(scale)
        attended = layers.MultiHeadAttention(4, width // 4, name=f"cross_{i}")(x, keys)
        x = layers.LayerNormalization()(x + attended)
        attended = layers.MultiHeadAttention(4, width // 4, name=f"self_{i}")(x, x)
        x = layers.LayerNormalization()(x + attended)
        x = layers.LayerNormalization()(x + layers.Dense(width)(layers.Dense(width, "relu")(x)))
    places = decoder.get_layer("decoder_4").output
    similar = ops.einsum("nhwc,nqc->nhwq", layers.Dense(width)(places), x) / width**0.5
    stacked = ops.concatenate([places, similar], axis=-1)
    logits = layers.Conv2D(len(quantization.bins()[0]), 1, name="bins", dtype="float32")(stacked)
    return keras.Model(decoder.inputs, logits)


class ColorQueries(layers.Layer):
    """The same learned vectors (count, width) for every photograph of a batch."""

    def __init__(self, count, width, **options):
        super().__init__(**options)
        self.queries = self.add_weight(shape=(1, count, width), initializer="glorot_uniform")

    def call(self, batch):
        return ops.repeat(self.queries, ops.shape(batch)[0], axis=0)

    def compute_output_shape(self, shape):
        return shape[0], *self.queries.shape[1:]


# Network, loss, and side and number of a batch's windows.
PLAIN = (plus, lambda: both, CROP, BATCH)
VARIANTS = {
    "koala-plus": PLAIN,
    "encoder trained at a tenth of the rate": (lambda: plus(slow=True), *PLAIN[1:]),
    "20 colour queries (DDColor)": (lambda: plus(with_color_queries), *PLAIN[1:]),
    "windows of 160 px": (*PLAIN[:2], 160, 12),
    "windows of 224 px": (*PLAIN[:2], 224, 6),
    "hint channels, empty": (lambda: plus(with_hints), *PLAIN[1:]),
    "the embedding of a second network (MobileNetV2)": PLAIN,
    "without the embedding": (lambda: plus(fusion=False), *PLAIN[1:]),
    "without skips": (lambda: plus(skips=False), *PLAIN[1:]),
    "cross-entropy alone": (plus, lambda: cross_entropy, CROP, BATCH),
    "cross-entropy, rebalanced in the loss": (plus, lambda: rebalanced, CROP, BATCH),
    "squared error (L2)": (lambda: plus(regression), lambda: squared, CROP, BATCH),
    "Huber loss": (lambda: plus(regression), lambda: huber, CROP, BATCH),
    "with a perceptual distance": (plus, perceptual, CROP, BATCH),
    "koala (the paper's network)": (koala, lambda: squared, CROP, BATCH),
}


# ---------------------------------------------------------------- the comparison


def second_embedding():
    """Lightness -> MobileNetV2's embedding, of the grey photograph at 224 px."""
    classifier, grey = load_extractor("mobilenet_v2"), network.GreyOfLightness()

    def embed(lightness):
        rgb = ops.repeat(grey(ops.image.resize(lightness, (224, 224))), 3, axis=-1)
        return standardized(classifier(rgb, training=False))

    return embed


def own_embedding():
    """Lightness -> the embedding of koala-plus's encoder."""
    logits_of = recipe.own_logits()
    return lambda lightness: standardized(logits_of(lightness))


def draw_hints(chroma, seed, count, empty):
    """Random places with their true chroma, at a quarter of the size: (N, H / 4, W / 4, 3).

    Args:
        count: of hints per photograph, on average.
        empty: share of the photographs without hints.
    """
    truth = ops.average_pool(chroma, 4)
    shape, places = tf.shape(truth)[:3], truth.shape[1] * truth.shape[2]
    given = tf.random.stateless_uniform(shape, seed) < count / places
    photos = tf.random.stateless_uniform((shape[0], 1, 1), seed + 1) >= empty
    mask = tf.cast(given & photos, tf.float32)[..., None]
    return tf.concat([truth * mask, mask], axis=-1)


def train(name, squares, collections, vectors):
    """Trains a variant; returns its function of (lightness, embedding, hints, training)."""
    build, loss, crop, batch = VARIANTS[name]
    answer, variables, slow = build()
    loss = loss()

    def loss_of(windows_and_embeddings, number):
        window, vector = windows_and_embeddings
        rgb, seed = tf.cast(window, tf.float32) / 255, recipe.seed_of(number, 1)
        lightness, chroma = lab.lightness(film.random_film(rgb, seed)), lab.chroma(rgb)
        vector = records.blur_embedding(tf.cast(vector, tf.float32), seed + 7)
        hints = draw_hints(chroma, seed + 11, HINTS, empty=0.5)
        return loss(lightness, chroma, answer(lightness, vector, hints, True))

    windows = recipe.windows(squares, collections, vectors, crop, crop / 224, 0, batch)
    recipe.minimize(variables, loss_of, windows, STEPS, RATE, 0.98, lambda: None, slow)
    return answer


def measure(answer, embed, parts, hinted=False):
    """A row of the table: errors of each part at vividness 0, and the means of three vividnesses.

    `hinted` gives it hints, which are taken from the truth.
    """

    def output_of(lightness, chroma):
        hints = draw_hints(chroma, recipe.seed_of(0, 5), HINTS if hinted else 0, empty=0)
        output = answer(lightness, embed(lightness), hints, False)
        if output.shape[-1] == 2 and output.shape[1] < lightness.shape[1]:
            return ops.image.resize(output, lightness.shape[1:3])
        return output

    found = {name: recipe.measured(tf.function(output_of), parts[name]) for name in PARTS}
    cautious, half, vivid, _, colorful = np.mean(list(found.values()), axis=0)
    return {
        **{name: f"{values[0]:.4f}" for name, values in found.items()},
        "ratio": f"{cautious:.4f}",
        "half_ratio": f"{half:.4f}",
        "vivid_ratio": f"{vivid:.4f}",
        "vivid_colorfulness": f"{colorful:.4f}",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--slides", type=Path, help="kodachrome.csv", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args()
    rows = read_rows(options.output) if options.output.exists() else []
    del recipe.SHARES["tiny_imagenet"]
    squares, collections = recipe.load(options.store, options.slides)
    squares, collections = squares[::EVERY], collections[::EVERY]
    parts = recipe.load_validation(options.store, options.slides, PARTS)
    for name in options.only:
        if name in [row["variant"] for row in rows]:
            continue
        keras.utils.set_random_seed(0)
        second = "second network" in name
        embed = (second_embedding if second else own_embedding)()
        of_grey = lambda rgb: embed(lab.lightness(film.to_grey(rgb)))  # noqa: B023, E731
        file = options.store / f"ablation-{'second' if second else 'own'}.npy"
        vectors = recipe.kept_in(file, of_grey, squares)
        answer = train(name, squares, collections, vectors)
        rows.append({"variant": name, **measure(answer, embed, parts)})
        if "hint" in name:
            hinted = name.replace("empty", f"{HINTS} hints")
            rows.append({"variant": hinted, **measure(answer, embed, parts, hinted=True)})
        print(rows[-1], flush=True)
        write_rows(rows, options.output)


if __name__ == "__main__":
    main()
