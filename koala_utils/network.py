"""(lightness, embedding) -> chroma: the network of Deep Koalarization, and nothing else.

Encoder, fusion and decoder follow Section 3.2 and Table 1 of Baldassarre, Gonzalez Morín and
Rodés-Guirao, "Deep Koalarization: Image Colorization using CNNs and Inception-ResNet-v2",
arXiv 1712.03400 (2017). Only Keras layers are used, so any Keras backend runs it.
"""

import numpy as np

from koala_utils.backend import keras

layers = keras.layers

STRIDE = 8  # the encoder halves height and width three times

ENCODER = [(64, 2), (128, 1), (128, 2), (256, 1), (256, 2), (512, 1), (512, 1), (256, 1)]  # filters, stride
DECODER = [128, "up", 64, 64, "up", 32]  # then 2 filters with tanh, and the last up-sampling
FUSION_FILTERS = 256


def _conv(x, filters, stride=1, activation="relu", kernel=3, **options):
    return layers.Conv2D(filters, kernel, stride, padding="same", activation=activation, **options)(x)


def fuse_by_stacking(features, embedding, dtype=None):
    """The fusion as the paper draws it (Section 3.2, Figure 3): replicate, stack, convolve with 1x1.

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
    local = _conv(features, FUSION_FILTERS, kernel=1, activation=None, use_bias=False,
                  name="fusion_features", dtype=dtype)
    everywhere = layers.Dense(FUSION_FILTERS, name="fusion_embedding", dtype=dtype)(embedding)
    everywhere = layers.Reshape((1, 1, FUSION_FILTERS), name="fusion_broadcast", dtype=dtype)(everywhere)
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
            x = layers.UpSampling2D(2, interpolation="nearest", name=f"decoder_{i}_up", dtype=dtype)(x)
        else:
            x = _conv(x, step, name=f"decoder_{i}", dtype=dtype)
    x = _conv(x, 2, activation="tanh", name="chroma_half", dtype=dtype)
    # The loss and the last, smooth enlargement are computed in full precision.
    chroma = layers.UpSampling2D(2, interpolation="bilinear", name="chroma", dtype="float32")(x)
    return keras.Model([lightness, embedding], chroma, name="koala")


def predict_chroma(network, lightness, embedding):
    """Chroma for photographs of any one size: reflects them to a multiple of 8 and crops back.

    Args:
        network: a model from :func:`build_network`.
        lightness: (N, H, W, 1) in [-1, 1].
        embedding: (N, embedding_size), standardized.

    Returns:
        float32 array (N, H, W, 2) in [-1, 1].
    """
    height, width = lightness.shape[1:3]
    pad = [(0, 0), (0, -height % STRIDE), (0, -width % STRIDE), (0, 0)]
    padded = np.pad(np.asarray(lightness, np.float32), pad, mode="reflect")
    chroma = network([padded, np.asarray(embedding, np.float32)], training=False)
    return keras.ops.convert_to_numpy(chroma)[:, :height, :width]
