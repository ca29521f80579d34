"""The extractors and what they make of grey photographs."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_one_sentence, make_photo
from PIL import Image
from skimage import data

from koala_utils import backend, embedding
from koala_utils.downloads import BUNDLED, find_photos, registry
from koala_utils.embedding import BUNDLED as BASE
from koala_utils.embedding import (
    DEFAULT,
    EXTRACTORS,
    ExtractorError,
    efficientnet_lite,
    embed,
    extractor_input,
    load_extractor,
    standardize,
)
from koala_utils.film import grey_of
from koala_utils.photos import read_photo


def grey(name):
    return grey_of(read_photo(next((BUNDLED / "color").glob(f"{name}.*"))))


@pytest.fixture(scope="module")
def bundled_logits():
    """Raw logits of three grey photographs, from the bundled extractor."""
    batch = np.stack(
        [extractor_input(grey(name)) for name in ("coffee", "chelsea", "grace_hopper")]
    )
    return load_extractor(BASE)(batch, training=False).numpy()


def test_bundled_extractor_names_known_photographs(bundled_logits):
    best = [classes[0][0] for classes in embedding.top_classes(bundled_logits)]
    assert [name.lower() for name in best] == ["espresso", "egyptian cat", "military uniform"]


def test_output_is_logits_and_not_probabilities(bundled_logits):
    assert bundled_logits.shape == (3, 1000)
    assert (bundled_logits < 0).any(axis=1).all()
    assert (np.abs(bundled_logits.sum(axis=1) - 1) > 1).all()


def test_top_classes_are_sorted_and_decoded(bundled_logits):
    for row, classes in zip(bundled_logits, embedding.top_classes(bundled_logits, k=5)):
        assert [logit for _, logit in classes] == pytest.approx(sorted(row, reverse=True)[:5])
    assert len(embedding.top_classes(bundled_logits[0], k=3)) == 1


def test_extractors_are_not_trained_further():
    assert load_extractor(BASE).trainable_variables == []


# ---------------------------------------------------------------- EfficientNet-Lite2


def test_logits_are_those_of_the_reference_implementation():
    """Recorded by report/convert_lite.py; half precision costs up to 0.03 of a logit."""
    pictures = [Image.fromarray(each) for each in (data.coffee(), data.chelsea())]
    batch = [np.asarray(each.resize((260, 260), Image.BILINEAR)) / 127.5 - 1 for each in pictures]
    logits = load_extractor("efficientnet_lite2")(
        np.stack(batch).astype(np.float32), training=False
    ).numpy()
    recorded = np.load(Path(__file__).parent / "data" / "efficientnet_lite2_logits.npy")
    assert recorded.std() > 0.5 and np.abs(logits - recorded).max() < 0.03


def test_lite_has_the_filters_and_blocks_of_its_scale():
    model = efficientnet_lite(1.1, 1.2)
    stages = {
        i: [
            layer
            for layer in model.layers
            if re.fullmatch(rf"stage_{i}_block_\d_project", layer.name)
        ]
        for i in range(1, 8)
    }
    assert [len(blocks) for blocks in stages.values()] == [1, 3, 3, 4, 4, 5, 1]
    assert [blocks[0].filters for blocks in stages.values()] == [16, 24, 48, 88, 120, 208, 352]
    sides = [model.get_layer(name).output.shape[1:3] for name in ("stage_2", "head")]
    assert sides == [(None, None)] * 2  # any size
    assert model(np.zeros((2, 64, 96, 3), np.float32)).shape == (2, 1000)


# ---------------------------------------------------------------- standardization


def test_standardized_logits_have_zero_mean_and_unit_spread(bundled_logits):
    standard = standardize(bundled_logits)
    assert standard.dtype == np.float32
    assert np.abs(standard.mean(-1)).max() < 1e-5 and np.abs(standard.std(-1) - 1).max() < 1e-4
    assert (standard.argmax(-1) == bundled_logits.argmax(-1)).all()


@pytest.mark.parametrize("scale, shift", [(3.0, 0.0), (0.2, 0.0), (1.0, -7.0), (5.0, 100.0)])
def test_scale_and_shift_of_an_extractor_do_not_matter(bundled_logits, scale, shift):
    assert (
        np.abs(standardize(bundled_logits * scale + shift) - standardize(bundled_logits)).max()
        < 1e-3
    )


def test_embedding_is_the_standardized_logits(bundled_logits):
    got = embed([grey("coffee")], BASE)
    assert got.shape == (1, 1000) and got.dtype == np.float32
    assert np.abs(got[0] - standardize(bundled_logits[0])).max() < 1e-3


def test_several_extractors_are_added_and_standardized_again():
    greys = [grey("coffee"), grey("chelsea")]
    one, other = (embed(greys, name) for name in (BASE, DEFAULT))
    together = embed(greys, f"{BASE}+{DEFAULT}")
    assert np.abs(together - standardize(one + other)).max() < 1e-5
    assert np.abs(one - other).max() > 0.1


@pytest.mark.parametrize("large", [0, backend.LARGE], ids=["with variables", "with constants"])
def test_compiled_extractor_has_the_logits_of_its_layers(bundled_logits, large, monkeypatch):
    monkeypatch.setattr(backend, "LARGE", large)
    batch = np.stack(
        [extractor_input(grey(name)) for name in ("coffee", "chelsea", "grace_hopper")]
    )
    model = load_extractor(BASE)
    compiled = backend.compiled.__wrapped__(model)  # and not one that is kept
    assert compiled.name == model.name
    for some in (batch, batch[:1]):
        assert np.abs(compiled(some).numpy() - bundled_logits[: len(some)]).max() < 1e-3
    assert np.abs(embedding.logits_of(batch, few=True) - bundled_logits).max() < 1e-3


def test_embedding_of_the_inputs_is_that_of_the_photographs():
    greys, both = [grey("coffee"), grey("chelsea")], f"{BASE}+{DEFAULT}"
    inputs = [embedding.extractor_inputs(one, both) for one in greys]
    assert np.abs(embedding.embed_inputs(inputs, both) - embed(greys, both)).max() < 1e-3
    assert np.abs(embed(greys, both, few=True) - embed(greys, both)).max() < 1e-3


def test_embedding_does_not_depend_on_the_rest_of_the_batch():
    greys = [grey_of(make_photo(seed, 40 + seed, 70 - seed)) for seed in range(3)]
    together = embed(greys)
    alone = np.concatenate([embed([one]) for one in greys])
    assert np.abs(together - alone).max() < 1e-4
    assert np.abs(together[0] - together[1]).max() > 0.1


# ---------------------------------------------------------------- the input


@pytest.mark.parametrize(
    "name, size", [(BASE, 260), ("mobilenet_v2", 224), ("inception_resnet_v2", 299)]
)
def test_input_is_three_equal_channels_in_range(name, size):
    square = extractor_input(grey_of(make_photo(1, 33, 71)), name)
    assert square.shape == (size, size, 3) and square.dtype == np.float32
    assert np.array_equal(square[..., 0], square[..., 1]) and np.array_equal(
        square[..., 0], square[..., 2]
    )
    assert square.min() >= -1 and square.max() <= 1


@pytest.mark.parametrize("value, scaled", [(0, -1), (0.5, 0), (1, 1)])
def test_input_is_scaled_to_plus_minus_one(value, scaled):
    assert np.allclose(extractor_input(np.full((40, 30, 1), value, np.float32)), scaled, atol=1e-6)


@pytest.mark.parametrize("shape", [(500, 300), (50, 70), (260, 900)])
def test_input_is_tensorflow_s_antialiased_resizing(shape):
    photo = np.random.default_rng(0).random((*shape, 1), np.float32)
    expected = backend.tf.image.resize(photo, (260, 260), antialias=True) * 2 - 1
    assert np.abs(extractor_input(photo)[..., :1] - expected).max() < 1e-4


# ---------------------------------------------------------------- Inception-ResNet-v2


def test_inception_resnet_has_logits_and_the_paper_s_size():
    model = load_extractor("inception_resnet_v2", pretrained=False)
    assert model.input_shape[1:] == (299, 299, 3)
    logits = model(
        extractor_input(grey("chelsea"), "inception_resnet_v2")[None], training=False
    ).numpy()
    assert logits.shape == (1, 1000) and np.isfinite(logits).all()
    assert logits.min() < 0 and abs(logits.sum() - 1) > 1e-3
    assert model.layers[-1].activation.__name__ == "linear"
    load_extractor.cache_clear()  # 220 MB that no other test needs


@pytest.mark.network
def test_inception_resnet_names_known_photographs():
    for name, expected in (
        ("coffee", "espresso"),
        ("chelsea", "Egyptian cat"),
        ("grace_hopper", "military uniform"),
    ):
        square = extractor_input(grey(name), "inception_resnet_v2")
        logits = load_extractor("inception_resnet_v2")(square[None], training=False).numpy()
        assert expected.lower() in [found.lower() for found, _ in embedding.top_classes(logits)[0]]


def test_weights_that_cannot_be_downloaded_name_the_other_extractor(monkeypatch):
    def build(**_):
        raise OSError("URL fetch failure: name or service not known")

    load_extractor.cache_clear()
    monkeypatch.setitem(
        EXTRACTORS, "inception_resnet_v2", replace(EXTRACTORS["inception_resnet_v2"], build=build)
    )
    with pytest.raises(ExtractorError) as error:
        load_extractor("inception_resnet_v2")
    assert_one_sentence(error, "inception_resnet_v2", BASE)


@pytest.mark.parametrize(
    "use",
    [load_extractor, lambda name: embed([np.zeros((8, 8, 1), np.float32)], name)],
    ids=["load_extractor", "embed"],
)
def test_unknown_extractor_is_named_with_the_known_ones(use):
    with pytest.raises(ExtractorError) as error:
        use("vgg16")
    assert_one_sentence(error, "vgg16", BASE, "inception_resnet_v2")


# ---------------------------------------------------------------- class names


def test_class_list_is_imagenet_s_thousand_in_order():
    names, synsets = embedding.class_names()
    assert len(names) == len(synsets) == 1000
    assert len(set(names)) == len(set(synsets)) == 1000
    assert synsets == sorted(synsets)
    assert all(len(synset) == 9 and synset[0] == "n" and synset[1:].isdigit() for synset in synsets)


@pytest.mark.parametrize(
    "index, name, synset",
    [
        (0, "tench", "n01440764"),
        (105, "koala", "n01882714"),
        (285, "egyptian cat", "n02124075"),
        (985, "daisy", "n11939491"),
        (999, "toilet tissue", "n15075141"),
    ],
)
def test_class_list_is_not_one_off(index, name, synset):
    names, synsets = embedding.class_names()
    assert synsets[index] == synset
    assert names[index].lower() == name


def test_labels_of_the_published_photographs_fit_the_class_list(published):
    labels = {row["path"].split("/")[-1]: int(row["label"]) for row in registry("test")}
    paths = find_photos("test")[:24]
    batch = np.stack([extractor_input(grey_of(read_photo(path))) for path in paths])
    guesses = load_extractor(BASE)(batch, training=False).numpy().argmax(-1)
    truth = np.array([labels[path.name] for path in paths])
    assert (guesses == truth).mean() > 0.4
    assert (np.abs(guesses - truth) == 1).mean() < 0.2
