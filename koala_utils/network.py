"""(lightness, embedding) -> chroma: Deep Koalarization's network, and one that goes beyond it.

`koala`: encoder, fusion and decoder follow Section 3.2 and Table 1 of Baldassarre, Gonzalez Morín
and Rodés-Guirao, "Deep Koalarization: Image Colorization using CNNs and Inception-ResNet-v2",
arXiv 1712.03400 (2017). `koala-plus` keeps the fusion. Its encoder is a pretrained classifier, its
decoder takes in the encoder's feature maps at every scale (U-Net: Ronneberger, Fischer and Brox,
arXiv 1505.04597, 2015), and its answer is a choice among bins of chroma. Only Keras operations are
used, so any Keras backend runs both.
"""

import numpy as np

from koala_utils import quantization
from koala_utils.backend import keras
from koala_utils.weights import WeightsError

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

# koala-plus: MobileNetV2's feature maps at 1/32, 1/16, 1/8 and 1/4 of the photograph's sides. The
# first is fused with the embedding; each of the others is stacked on the decoder when it has come
# to its size, before a convolution to so many filters.
PLUS_BOTTOM = "out_relu"
PLUS_SKIPS = [
    ("block_13_expand_relu", 256),
    ("block_6_expand_relu", 128),
    ("block_3_expand_relu", 96),
]


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
    dense layer, computed once a photo and broadcast over height and width.
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
        fusion: False leaves the embedding out (the ablation of notebook 04); the network then
            still takes it as an input, and ignores it.
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


def build_plus(embedding_size=1000, fusion=True, skips=True, dtype="float32"):
    """`koala-plus`, for photographs of any size that is a multiple of 32.

    Args:
        embedding_size, fusion: as :func:`build_network`.
        skips: False leaves the finer feature maps out of the decoder (an ablation).
        dtype: of the decoder. The encoder's depthwise convolutions are slower in bfloat16.

    Returns:
        A `keras.Model` from `[lightness, embedding]`, as :func:`build_network`'s, to the logits of
        the bins of chroma, float32 (N, H / 4, W / 4, 261): see :mod:`koala_utils.quantization`. The
        encoder's weights are random; batch normalization always uses its stored statistics.
    """
    lightness = keras.Input((None, None, 1), name="lightness")
    embedding = keras.Input((embedding_size,), name="embedding")
    encoder = keras.applications.MobileNetV2(
        input_tensor=layers.Concatenate(name="rgb")([lightness] * 3),
        include_top=False,
        weights=None,
    )
    for layer in encoder.layers:
        layer.trainable = not isinstance(layer, layers.BatchNormalization)

    x = encoder.get_layer(PLUS_BOTTOM).output
    if fusion:
        x = fuse_by_broadcasting(x, embedding, dtype)
    else:
        x = _conv(x, FUSION_FILTERS, kernel=1, name="fusion_features", dtype=dtype)
    for i, (skip, filters) in enumerate(PLUS_SKIPS, 1):
        x = layers.UpSampling2D(2, interpolation="nearest", name=f"decoder_{i}_up", dtype=dtype)(x)
        if skips:
            x = layers.Concatenate(name=f"decoder_{i}_skip", dtype=dtype)(
                [x, encoder.get_layer(skip).output]
            )
        # Glorot's initialization halves a signal's variance in every ReLU layer; He's keeps it.
        x = _conv(x, filters, initializer="he_normal", name=f"decoder_{i}", dtype=dtype)
    x = _conv(x, PLUS_SKIPS[-1][1], initializer="he_normal", name="decoder_4", dtype=dtype)
    x = _conv(x, len(quantization.bins()[0]), activation=None, kernel=1, name="bins", dtype=dtype)
    logits = layers.Activation("linear", name="logits", dtype="float32")(x)
    return keras.Model([lightness, embedding], logits, name="koala-plus")


def load_encoder(network, classifier):
    """Gives the encoder of a :func:`build_plus` network the weights of a MobileNetV2."""
    names = {layer.name for layer in network.layers}
    for layer in classifier.layers:
        if layer.weights and layer.name in names:
            network.get_layer(layer.name).set_weights(layer.get_weights())


def freeze_encoder(network):
    """Keeps the encoder of a :func:`build_plus` network from being trained."""
    for layer in network.layers[: network.layers.index(network.get_layer(PLUS_BOTTOM))]:
        layer.trainable = False


BUILDERS = {"koala": build_network, "koala-plus": build_plus}
STRIDES = {
    "koala": 8,
    "koala-plus": 32,
}  # the inputs' sides must be multiples


def kind_of(metadata, path):
    """Which of `BUILDERS` the weights at `path` are for, from their metadata.

    Raises:
        WeightsError: none of them.
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
        vividness: see :func:`koala_utils.quantization.decode`; koala has only the one answer.

    Returns:
        A float32 tensor (N, H, W, 2) in [-1, 1].
    """
    if output.shape[-1] == 2:
        return keras.ops.cast(output, "float32")
    chroma = quantization.decode(output, vividness)
    return keras.ops.image.resize(
        chroma, (4 * output.shape[1], 4 * output.shape[2]), interpolation="bilinear"
    )


def predict(network, lightness, embedding):
    """The network's output for photographs of one size, padded by reflection to its stride.

    The photograph and its mirror image are both looked at and the two outputs are averaged: a
    colorizer should not care about left and right, and the mean of two guesses is better than one.

    Args:
        network: a model from `BUILDERS`.
        lightness: (N, H, W, 1) in [-1, 1].
        embedding: (N, embedding_size), standardized.

    Returns:
        A tensor: of koala (N, H', W', 2), of koala-plus (N, H' / 4, W' / 4, 261), where H' and W'
        are the next multiples of the stride.
    """
    height, width = lightness.shape[1:3]
    stride = STRIDES[network.name]
    pad = [(0, 0), (0, -height % stride), (0, -width % stride), (0, 0)]
    padded = np.pad(np.asarray(lightness, np.float32), pad, mode="reflect")
    both = np.concatenate([padded, padded[:, :, ::-1]])
    output = network([both, np.tile(np.asarray(embedding, np.float32), (2, 1))], training=False)
    return (output[: len(padded)] + output[len(padded) :, :, ::-1]) / 2


def predict_chroma(network, lightness, embedding, vividness=0.0):
    """Chroma for photographs of any one size: :func:`predict`, :func:`chroma_of`, and cropped back.

    Returns:
        float32 array (N, H, W, 2) in [-1, 1].
    """
    chroma = chroma_of(predict(network, lightness, embedding), vividness)
    return keras.ops.convert_to_numpy(chroma)[:, : lightness.shape[1], : lightness.shape[2]]
