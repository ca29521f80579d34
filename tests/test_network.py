"""The network: the paper's layers, any size, and a fusion that is the paper's for less work."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_utils import lab, quantization
from koala_utils.embedding import DEFAULT, load_extractor, standardize
from koala_utils.network import (
    build_network,
    build_plus,
    chroma_of,
    fuse_by_broadcasting,
    fuse_by_stacking,
    load_encoder,
    predict,
    predict_chroma,
    trained_part,
    with_own_embedding,
)
from koala_utils.weights import load_weights, save_weights

RNG = np.random.default_rng(0)
VECTOR = RNG.normal(size=(1, 1000)).astype(np.float32)


def lightness(height, width, count=1):
    return (
        np.random.default_rng(height * 100 + width)
        .uniform(-1, 1, (count, height, width, 1))
        .astype(np.float32)
    )


# ---------------------------------------------------------------- layers


def convolutions(network):
    return [
        (
            layer.name,
            layer.filters,
            layer.strides[0],
            layer.kernel_size[0],
            layer.activation.__name__,
        )
        for layer in network.layers
        if isinstance(layer, keras.layers.Conv2D)
    ]


def test_encoder_is_the_paper_s():
    encoder = [rest for name, *rest in convolutions(build_network()) if name.startswith("encoder")]
    assert encoder == [
        [filters, stride, 3, "relu"]
        for filters, stride in (
            (64, 2),
            (128, 1),
            (128, 2),
            (256, 1),
            (256, 2),
            (512, 1),
            (512, 1),
            (256, 1),
        )
    ]


def test_decoder_is_the_paper_s():
    network = build_network()
    start = network.layers.index(network.get_layer("fusion"))
    steps = [
        ("up", layer.size[0], layer.interpolation)
        if isinstance(layer, keras.layers.UpSampling2D)
        else (layer.filters, layer.strides[0], layer.kernel_size[0], layer.activation.__name__)
        for layer in network.layers[start + 1 :]
    ]
    assert steps == [
        (128, 1, 3, "relu"),
        ("up", 2, "nearest"),
        (64, 1, 3, "relu"),
        (64, 1, 3, "relu"),
        ("up", 2, "nearest"),
        (32, 1, 3, "relu"),
        (2, 1, 3, "tanh"),
        ("up", 2, "bilinear"),
    ]


def test_parameters_are_those_of_the_paper_s_layers():
    channels = [1, 64, 128, 128, 256, 256, 512, 512, 256]
    decoder = [256, 128, 64, 64, 32, 2]
    expected = sum(9 * a * b + b for chain in (channels, decoder) for a, b in zip(chain, chain[1:]))
    expected += (256 + 1000) * 256 + 256
    assert build_network().count_params() == expected


# ---------------------------------------------------------------- sizes


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(1, 40))
def test_any_size_gives_chroma_of_that_size(network, height, width):
    chroma = predict_chroma(network, lightness(height, width), VECTOR)
    assert chroma.shape == (1, height, width, 2) and chroma.dtype == np.float32
    assert np.abs(chroma).max() <= 1


@pytest.mark.parametrize("size", [(8, 8), (1, 64), (64, 1), (7, 9), (33, 100), (104, 57)])
def test_several_photographs_of_any_one_size(network, size):
    chroma = predict_chroma(network, lightness(*size, count=2), np.repeat(VECTOR, 2, axis=0))
    assert chroma.shape == (2, *size, 2)
    assert np.abs(chroma).max() <= 1 and chroma.std() > 0.01


def test_padding_changes_nothing_far_from_it(network):
    light = lightness(24, 120)
    whole, cut = (predict_chroma(network, light[:, :, :width], VECTOR) for width in (120, 117))
    assert np.abs(whole[:, :, :8] - cut[:, :, :8]).max() < 1e-5


def test_sizes_in_between_are_reflected(network):
    light = lightness(12, 19)
    reflected = np.concatenate([light, light[:, -2:-6:-1]], axis=1)
    reflected = np.concatenate([reflected, reflected[:, :, -2:-7:-1]], axis=2)
    assert reflected.shape == (1, 16, 24, 1)
    expected = predict_chroma(network, reflected, VECTOR)[:, :12, :19]
    assert np.abs(predict_chroma(network, light, VECTOR) - expected).max() < 1e-5


def test_left_and_right_do_not_matter(network):
    light = lightness(16, 24)
    one, mirrored = (predict_chroma(network, x, VECTOR) for x in (light, light[:, :, ::-1]))
    assert np.abs(one - mirrored[:, :, ::-1]).max() < 1e-5
    alone = keras.ops.convert_to_numpy(network([light, VECTOR]))
    assert np.abs(one - alone).max() > 1e-4  # the network itself is not symmetric


def test_photographs_of_a_batch_do_not_mix(network):
    light, vectors = lightness(16, 24, count=2), RNG.normal(size=(2, 1000))
    together = predict_chroma(network, light, vectors)
    alone = predict_chroma(network, light[1:], vectors[1:])
    assert np.abs(together[1] - alone[0]).max() < 1e-4
    assert np.abs(together[0] - together[1]).max() > 1e-3


# ---------------------------------------------------------------- fusion


def test_stacking_and_broadcasting_are_the_same_numbers():
    keras.utils.set_random_seed(3)
    features, embedding = (
        keras.Input(batch_shape=(2, 3, 5, 256)),
        keras.Input(batch_shape=(2, 1000)),
    )
    stacking = keras.Model([features, embedding], fuse_by_stacking(features, embedding))
    broadcasting = keras.Model([features, embedding], fuse_by_broadcasting(features, embedding))
    local, everywhere = (
        broadcasting.get_layer(name) for name in ("fusion_features", "fusion_embedding")
    )
    bias = RNG.normal(size=256)
    everywhere.bias.assign(bias)
    kernel = np.concatenate(
        [
            keras.ops.convert_to_numpy(local.kernel)[0, 0],
            keras.ops.convert_to_numpy(everywhere.kernel),
        ]
    )
    stacking.get_layer("fusion").set_weights([kernel[None, None], bias])

    inputs = [
        RNG.normal(size=(2, 3, 5, 256)).astype(np.float32),
        RNG.normal(size=(2, 1000)).astype(np.float32),
    ]
    one, other = (keras.ops.convert_to_numpy(model(inputs)) for model in (stacking, broadcasting))
    assert one.shape == other.shape == (2, 3, 5, 256)
    assert np.abs(one - other).max() < 1e-4
    assert one.min() == 0 and one.max() > 1  # a ReLU, and something behind it


def test_embedding_changes_the_colors(network):
    one, other = (
        predict_chroma(network, lightness(16, 16), vector) for vector in (VECTOR, -VECTOR)
    )
    assert np.abs(one - other).max() > 1e-3


def test_ablation_takes_the_embedding_and_ignores_it():
    network = build_network(fusion=False)
    one, other = (
        predict_chroma(network, lightness(16, 16), vector) for vector in (VECTOR, -VECTOR)
    )
    assert np.abs(one - other).max() < 1e-6 < one.std()
    assert network.count_params() == build_network().count_params() - 1000 * 256


# ---------------------------------------------------------------- koala-plus


@pytest.fixture(scope="module")
def plus():
    keras.utils.set_random_seed(5)
    return build_plus()


@pytest.mark.parametrize("size", [(32, 32), (1, 70), (33, 100)])
def test_koala_plus_takes_any_size(plus, size):
    light, vectors = lightness(*size, count=2), np.repeat(VECTOR, 2, axis=0)
    logits, embedding = predict(plus, light, vectors)
    assert logits.shape == (2, *(-(-side // 32) * 8 for side in size), 261)
    assert np.array_equal(embedding, vectors)
    cautious, vivid = (predict_chroma(plus, light, vectors, vividness) for vividness in (0.0, 1.0))
    assert cautious.shape == vivid.shape == (2, *size, 2) and cautious.dtype == np.float32
    assert np.abs(vivid - cautious).max() > 1e-3 and cautious.std() > 0


def test_own_embedding_is_the_encoder_s_standardized_logits(plus):
    light = lightness(32, 64)
    output, embedding = predict(with_own_embedding(plus), light)
    both = np.concatenate([light, light[:, :, ::-1]])
    logits = keras.ops.convert_to_numpy(plus.get_layer("encoder")(both)[-1])
    assert np.abs(embedding - standardize(logits).mean(0)).max() < 1e-4
    expected = plus([both, standardize(logits)], training=False)
    assert np.abs(output[0] - (expected[0] + expected[1][:, ::-1]) / 2).max() < 1e-4
    given, _ = predict(plus, light, embedding)
    another, _ = predict(plus, light, -embedding)
    assert np.abs(given - output).max() < np.abs(another - output).max()


def test_encoder_reads_the_grey_that_the_lightness_came_from(plus):
    load_encoder(plus)
    grey = np.repeat(RNG.random((1, 8, 8, 1)), 260 // 8 + 1, 1).repeat(260 // 8 + 1, 2)
    grey = grey[:, :260, :260].astype(np.float32)
    logits = plus.get_layer("encoder")(lab.lightness(grey).numpy())[-1]
    expected = load_extractor(DEFAULT)(np.repeat(grey, 3, -1) * 2 - 1)
    assert np.abs(logits - expected).max() < 1e-3 < np.std(expected)


def test_decoder_alone_is_stored(plus, tmp_path):
    decoder = trained_part(plus)
    assert decoder.name == "decoder" and 2 * decoder.count_params() < 4e6
    save_weights(decoder, tmp_path / "plus.safetensors")
    keras.utils.set_random_seed(9)
    other = build_plus()
    load_encoder(other), load_encoder(plus)
    load_weights(trained_part(other), tmp_path / "plus.safetensors")
    one, same = (predict_chroma(each, lightness(32, 32), VECTOR) for each in (plus, other))
    assert np.abs(one - same).max() < 0.02 < np.abs(one).max()
    assert trained_part(build_network()).name == "koala"


def test_chroma_of_koala_plus_is_decoded_and_enlarged():
    logits = np.full((1, 4, 6, 261), -100, np.float32)
    logits[..., 77] = 100
    chroma = keras.ops.convert_to_numpy(chroma_of(logits))
    assert chroma.shape == (1, 16, 24, 2)
    assert np.abs(chroma - quantization.bins()[0][77]).max() < 1e-6


def test_every_scale_of_the_encoder_reaches_the_output(plus):
    names = [layer.name for layer in plus.get_layer("decoder").layers]
    skips = [f"decoder_{i}_skip" for i in (1, 2, 3)]
    assert [name for name in names if name.endswith("_skip")] == skips
    without = build_plus(skips=False)
    assert without.count_params() == plus.count_params() - 9 * (120 * 192 + 48 * 128 + 24 * 64)


# ---------------------------------------------------------------- precision


def test_mixed_precision_is_close_and_ends_in_float32(network):
    mixed = build_network(dtype="mixed_bfloat16")
    mixed.set_weights(network.get_weights())
    assert mixed.output.dtype == "float32"
    assert {str(variable.dtype) for variable in mixed.variables} == {"float32"}
    exact, rounded = (predict_chroma(one, lightness(32, 32), VECTOR) for one in (network, mixed))
    assert rounded.dtype == np.float32
    assert 0 < np.abs(rounded - exact).max() < 0.1
    assert np.abs(rounded - exact).mean() < 0.02
