"""(lightness, embedding) -> chroma: Deep Koalarization's network, and one that goes beyond it.

`koala`: encoder, fusion and decoder follow Section 3.2 and Table 1 of Baldassarre, Gonzalez Morín
and Rodés-Guirao, "Deep Koalarization: Image Colorization using CNNs and Inception-ResNet-v2",
arXiv 1712.03400 (2017). `koala-plus` keeps the fusion. Its encoder is a pretrained classifier that
reads grey, so that its embedding comes from the same forward pass; its decoder takes in the
encoder's feature maps at every scale (U-Net: Ronneberger, Fischer and Brox, arXiv 1505.04597,
2015) and answers with a choice among bins of chroma. Only Keras operations are used, so any Keras
backend runs both.
"""

import numpy as np

from koala_utils import quantization
from koala_utils.backend import keras
from koala_utils.embedding import DEFAULT, EMBEDDING_SIZE, EXTRACTORS, standardized
from koala_utils.weights import RELEASED, WeightsError, load_weights

layers = keras.layers

ENCODER = [
    (64, 2),
    (128, 1),
    (128, 2),
    (256, 1),
    (256, 2),
    (512, 1),
    (512, 1),
    (256, 1),
]  # filters, stride
DECODER = [128, "up", 64, 64, "up", 32]  # then 2 filters with tanh, and the last up-sampling
FUSION_FILTERS = 256

# koala-plus takes the encoder's feature maps at 1/32, 1/16, 1/8 and 1/4 of the photograph's sides.
# The first is fused with the embedding. Each of the others is stacked on the decoder's map of the
# same size, and a convolution with this number of filters follows.
PLUS_BOTTOM = "head"
PLUS_SKIPS = [("stage_5", 192), ("stage_3", 128), ("stage_2", 64)]


def _conv(
    x, filters, stride=1, activation="relu", kernel=3, initializer="glorot_uniform", **options
):
    return layers.Conv2D(
        filters,
        kernel,
        stride,
        padding="same",
        activation=activation,
        kernel_initializer=initializer,
        **options,
    )(x)


def fuse_by_stacking(features, embedding, dtype=None):
    """The fusion as the paper draws it (Section 3.2, Figure 3): replicate, stack, convolve.

    `features` is (N, h, w, 256), `embedding` (N, 1000); the result is (N, h, w, 256) after a ReLU.
    """
    everywhere = keras.ops.ones_like(features[..., :1])
    replicated = everywhere * keras.ops.cast(embedding[:, None, None, :], features.dtype)
    stacked = keras.ops.concatenate([features, replicated], axis=-1)
    return _conv(stacked, FUSION_FILTERS, kernel=1, name="fusion", dtype=dtype)


def fuse_by_broadcasting(features, embedding, dtype=None):
    """The same numbers as :func:`fuse_by_stacking` for far less work.

    A 1x1 convolution is linear in its input channels, so it splits into one over the features and
    one over the replicated embedding; the second has the same value everywhere and is therefore a
    dense layer, computed once per photograph and broadcast over height and width.
    """
    local = _conv(
        features,
        FUSION_FILTERS,
        kernel=1,
        activation=None,
        use_bias=False,
        name="fusion_features",
        dtype=dtype,
    )
    everywhere = layers.Dense(FUSION_FILTERS, name="fusion_embedding", dtype=dtype)(embedding)
    everywhere = layers.Reshape((1, 1, FUSION_FILTERS), name="fusion_broadcast", dtype=dtype)(
        everywhere
    )
    total = layers.Add(name="fusion_sum", dtype=dtype)([local, everywhere])
    return layers.Activation("relu", name="fusion", dtype=dtype)(total)


def build_network(embedding_size=1000, fusion=True, dtype="float32"):
    """The colorization network, for photographs of any size that is a multiple of 8.

    Args:
        embedding_size: length of the embedding, 1,000 for ImageNet logits.
        fusion: False leaves the embedding out (the ablation of notebook 4). The network still takes
            it as an input, and ignores it.
        dtype: Keras dtype policy, "float32" or "mixed_bfloat16" (weights stay float32).

    Returns:
        A `keras.Model` from `[lightness, embedding]`, float32 (N, H, W, 1) in [-1, 1] and
        (N, embedding_size), to chroma, float32 (N, H, W, 2) in [-1, 1].
    """
    lightness = keras.Input((None, None, 1), name="lightness")
    embedding = keras.Input((embedding_size,), name="embedding")

    x = lightness
    for i, (filters, stride) in enumerate(ENCODER, 1):
        x = _conv(x, filters, stride, name=f"encoder_{i}", dtype=dtype)

    if fusion:
        x = fuse_by_broadcasting(x, embedding, dtype)
    else:
        x = _conv(x, FUSION_FILTERS, kernel=1, name="fusion_features", dtype=dtype)

    for i, step in enumerate(DECODER, 1):
        if step == "up":
            x = layers.UpSampling2D(
                2, interpolation="nearest", name=f"decoder_{i}_up", dtype=dtype
            )(x)
        else:
            x = _conv(x, step, name=f"decoder_{i}", dtype=dtype)
    x = _conv(x, 2, activation="tanh", name="chroma_half", dtype=dtype)
    # The loss and the last, smooth enlargement are computed in full precision.
    chroma = layers.UpSampling2D(2, interpolation="bilinear", name="chroma", dtype="float32")(x)
    return keras.Model([lightness, embedding], chroma, name="koala")


def build_plus_encoder(extractor=DEFAULT):
    """The classifier behind koala-plus, which reads grey photographs of any size.

    Returns:
        A `keras.Model` with random weights from lightness (N, H, W, 1) in [-1, 1] to its feature
        maps at 1/32, 1/16, 1/8 and 1/4 of the sides and its logits (N, 1000).
    """
    lightness = keras.Input((None, None, 1), name="lightness")
    classifier = EXTRACTORS[extractor].build(input_shape=(None, None, 3))
    names = [f"{PLUS_BOTTOM}_relu", *(name for name, _ in PLUS_SKIPS)]
    taken = keras.Model(
        classifier.input, [classifier.get_layer(name).output for name in names] + classifier.outputs
    )
    # The classifier reads grey values; L* is close to them, but not the same.
    rgb = layers.Concatenate(name="rgb")([GreyOfLightness(name="grey")(lightness)] * 3)
    return keras.Model(lightness, taken(rgb), name="encoder")


class GreyOfLightness(layers.Layer):
    """Lightness in [-1, 1] -> the sRGB value of that grey, in [-1, 1], which classifiers read."""

    def call(self, lightness):
        ops = keras.ops
        y = (lightness * 50 + 66) / 116
        light = ops.where(y > 6 / 29, y**3, 3 * (6 / 29) ** 2 * (y - 4 / 29))
        curve = 1.055 * ops.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055
        return ops.where(light > 0.0031308, curve, 12.92 * light) * 2 - 1

    def compute_output_shape(self, shape):
        return shape


def build_plus_decoder(encoder, embedding_size=EMBEDDING_SIZE, fusion=True, skips=True, dtype=None):
    """koala-plus's decoder: an encoder's feature maps and an embedding -> logits of the bins."""
    features = [
        keras.Input(each.shape[1:], name=f"features_{i}")
        for i, each in enumerate(encoder.outputs[:-1])
    ]
    embedding = keras.Input((embedding_size,), name="embedding")
    x = features[0]
    if fusion:
        x = fuse_by_broadcasting(x, embedding, dtype)
    else:
        x = _conv(x, FUSION_FILTERS, kernel=1, name="fusion_features", dtype=dtype)
    for i, (skip, (_, filters)) in enumerate(zip(features[1:], PLUS_SKIPS, strict=True), 1):
        x = layers.UpSampling2D(2, interpolation="nearest", name=f"decoder_{i}_up", dtype=dtype)(x)
        if skips:
            x = layers.Concatenate(name=f"decoder_{i}_skip", dtype=dtype)([x, skip])
        # Glorot's initialization halves a signal's variance in every ReLU layer; He's keeps it.
        x = _conv(x, filters, initializer="he_normal", name=f"decoder_{i}", dtype=dtype)
    x = _conv(x, PLUS_SKIPS[-1][1], initializer="he_normal", name="decoder_4", dtype=dtype)
    x = _conv(x, len(quantization.bins()[0]), activation=None, kernel=1, name="bins", dtype=dtype)
    logits = layers.Activation("linear", name="logits", dtype="float32")(x)
    return keras.Model([*features, embedding], logits, name="decoder")


def build_plus(embedding_size=EMBEDDING_SIZE, fusion=True, skips=True, dtype=None):
    """`koala-plus`, for photographs of any size that is a multiple of 32.

    Args:
        embedding_size, fusion: as :func:`build_network`.
        skips: False leaves the finer feature maps out of the decoder (an ablation).
        dtype: of the decoder.

    Returns:
        A `keras.Model` from `[lightness, embedding]`, as :func:`build_network`'s, to the logits of
        the bins of chroma, float32 (N, H / 4, W / 4, 261): see :mod:`koala_utils.quantization`. It
        is made of two models, its layers "encoder" and "decoder", with random weights.
    """
    encoder = build_plus_encoder()
    decoder = build_plus_decoder(encoder, embedding_size, fusion, skips, dtype)
    lightness = keras.Input((None, None, 1), name="lightness")
    embedding = keras.Input((embedding_size,), name="embedding")
    *features, _ = encoder(lightness)
    return keras.Model([lightness, embedding], decoder([*features, embedding]), name="koala-plus")


def with_own_embedding(network):
    """koala-plus as a model of the lightness only: its own encoder makes the embedding, for free.

    Returns:
        A `keras.Model` that shares the layers of a :func:`build_plus` network, from lightness to
        `[logits of the bins, embedding]`.
    """
    *features, logits = network.get_layer("encoder")(network.inputs[0])
    embedding = Standardize(name="embedding")(logits)
    output = network.get_layer("decoder")([*features, embedding])
    return keras.Model(network.inputs[0], [output, embedding], name=network.name)


class Standardize(layers.Layer):
    """:func:`koala_utils.embedding.standardized` as a layer."""

    def call(self, logits):
        return standardized(logits)

    def compute_output_shape(self, shape):
        return shape


def load_encoder(network):
    """Gives a :func:`build_plus` network its encoder's weights: those of the bundled classifier."""
    load_weights(network.get_layer("encoder"), RELEASED / f"{DEFAULT}.safetensors")


def trained_part(network):
    """The part of a network that is trained and stored: all of koala, the decoder of koala-plus."""
    return network if network.name == "koala" else network.get_layer("decoder")


BUILDERS = {"koala": build_network, "koala-plus": build_plus}
# What the sides of the networks' inputs must be multiples of.
STRIDES = {"koala": 8, "koala-plus": 32}


def kind_of(metadata, path):
    """Which of `BUILDERS` the weights at `path` are for, from their metadata.

    Raises:
        WeightsError: they are for none of them.
    """
    kind = metadata.get("model", "koala")
    if kind not in BUILDERS:
        raise WeightsError(
            f"{path}: weights of {kind!r}, which this version does not know; get a newer"
            " koala_utils."
        )
    return kind


def chroma_of(output, vividness=0.0):
    """Chroma from the output of either network.

    koala's is chroma already; koala-plus's is decoded and enlarged bilinearly.

    Args:
        output: (N, H, W, 2), or (N, H / 4, W / 4, 261).
        vividness: see :func:`koala_utils.quantization.decode`; koala has only one answer.

    Returns:
        A float32 tensor (N, H, W, 2) in [-1, 1].
    """
    if output.shape[-1] == 2:
        return keras.ops.cast(output, "float32")
    chroma = quantization.decode(output, vividness)
    return keras.ops.image.resize(
        chroma, (4 * output.shape[1], 4 * output.shape[2]), interpolation="bilinear"
    )


def predict(network, lightness, embedding=None):
    """The network's output for photographs of one size, padded by reflection to its stride.

    The network sees the photograph and its mirror image, and the two outputs are averaged: colours
    do not depend on left and right, and the mean of two guesses is better than one.

    Args:
        network: a model from `BUILDERS`, or :func:`with_own_embedding`'s.
        lightness: (N, H, W, 1) in [-1, 1].
        embedding: (N, 1000), standardized; None for :func:`with_own_embedding`'s.

    Returns:
        The output, float32 (N, H', W', 2) of koala or (N, H' / 4, W' / 4, 261) of koala-plus, where
        H' and W' are the next multiples of the stride; and the embedding, float32 (N, 1000).
    """
    height, width = lightness.shape[1:3]
    stride = STRIDES[network.name]
    pad = [(0, 0), (0, -height % stride), (0, -width % stride), (0, 0)]
    padded = np.pad(np.asarray(lightness, np.float32), pad, mode="reflect")
    both = np.concatenate([padded, padded[:, :, ::-1]])
    if embedding is None:
        output, vectors = network(both, training=False)
        embedding = keras.ops.convert_to_numpy(vectors).reshape(2, len(padded), -1).mean(0)
    else:
        embedding = np.asarray(embedding, np.float32)
        output = network([both, np.tile(embedding, (2, 1))], training=False)
    return (output[: len(padded)] + output[len(padded) :, :, ::-1]) / 2, embedding


def predict_chroma(network, lightness, embedding=None, vividness=0.0):
    """Chroma for photographs of one size: :func:`predict`, :func:`chroma_of`, and cropped back.

    Returns:
        float32 array (N, H, W, 2) in [-1, 1].
    """
    chroma = chroma_of(predict(network, lightness, embedding)[0], vividness)
    return keras.ops.convert_to_numpy(chroma)[:, : lightness.shape[1], : lightness.shape[2]]
