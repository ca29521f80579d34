"""What matters, in minutes: the paper's network at 32 px with one thing changed, each with three
seeds.

    python report/small_ablation.py RECORDS -o report/tables/small_ablation.csv [--only GROUP ...]

RECORDS are those of `koala prepare`; a few hundred photographs will do. Called again, it adds the
rows that the table does not hold yet. Every row of a group is trained for the same number of steps
and measured on the same validation photographs.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from koala_utils import film, lab, records
from koala_utils.backend import keras, tf
from koala_utils.embedding import EXTRACTORS, logits_of, standardize
from koala_utils.files import replacing
from koala_utils.network import build_network
from koala_utils.training import best_dtype, cosine

BATCH, STEPS, SEEDS, VALIDATION = 32, 150, 3, 928
PHOTOGRAPHS = STEPS * BATCH  # as many as the steps see once
CURVE = [300, 3000, None]  # photographs, for twice the steps; None is all


def load(folder, split, count, side=64):
    """Central squares, uint8 (n, side, side, 3), and the records' embeddings (n, 1000)."""

    def to_square(record):
        rgb = tf.cast(tf.io.decode_jpeg(record["photo"], channels=3), tf.float32)
        short = tf.reduce_min(tf.shape(rgb)[:2])
        square = tf.image.resize(
            tf.image.resize_with_crop_or_pad(rgb, short, short), (side, side), antialias=True
        )
        return tf.cast(tf.clip_by_value(tf.round(square), 0, 255), tf.uint8), record["embedding"]

    found = tf.data.Dataset.from_tensor_slices(records.find_shards(folder, split)).interleave(
        tf.data.TFRecordDataset, cycle_length=64
    )
    found = (
        found.take(-1 if count is None else count)
        .map(records.parse_record)
        .map(to_square, num_parallel_calls=tf.data.AUTOTUNE)
    )
    squares, embeddings = zip(*found.as_numpy_iterator())
    return np.stack(squares), np.stack(embeddings)


def embed_squares(squares, extractor, in_color):
    """Embeddings of the squares by the bundled classifier, in colour or in grey."""
    size, found = EXTRACTORS[extractor].size, []
    for i in range(0, len(squares), BATCH):
        rgb = tf.cast(squares[i : i + BATCH], tf.float32) / 255
        seen = rgb if in_color else tf.repeat(film.to_grey(rgb), 3, axis=-1)
        found.append(
            standardize(
                logits_of(tf.image.resize(seen, (size, size), antialias=True) * 2 - 1, extractor)
            )
        )
    return np.concatenate(found)


def arrays(squares, size):
    """Lightness and chroma of squares at another size."""
    rgb = tf.image.resize(tf.cast(squares, tf.float32) / 255, (size, size), antialias=True)
    return lab.lightness(film.to_grey(rgb)), lab.chroma(rgb)


def train(squares, embeddings, validation, seed, fusion=True, size=32, steps=STEPS):
    """Trains on the squares, again and again where they are fewer than the steps take; the
    validation's error over grey's.
    """
    keras.utils.set_random_seed(seed)
    network = build_network(fusion=fusion, dtype=best_dtype())
    network.compile(keras.optimizers.Adam(cosine(1e-3, steps)), "mse")
    data = (
        tf.data.Dataset.from_tensor_slices((squares, embeddings))
        .shuffle(len(squares), seed=seed)
        .repeat()
        .batch(BATCH)
        .take(steps)
    )
    data = data.map(
        lambda rgb, vector: ((arrays(rgb, size)[0], vector), arrays(rgb, size)[1]),
        num_parallel_calls=2,
    ).prefetch(4)
    network.fit(data, verbose=0, shuffle=False)
    lightness, truth = arrays(validation[0], size)
    output = network.predict([lightness.numpy(), validation[1]], batch_size=64, verbose=0)
    return float(np.mean((output - truth) ** 2) / np.mean(truth**2))


def variants(squares, embeddings, validation):
    """Group, name, and the arguments of :func:`train` that differ; lazily, for some of them take
    minutes.
    """
    some = squares[:PHOTOGRAPHS], embeddings[:PHOTOGRAPHS], validation

    def with_embeddings(find):
        return find(some[0]), (validation[0], find(validation[0]))

    yield "fusion", "with the embedding", lambda: some, {}
    yield "fusion", "without", lambda: some, {"fusion": False}
    yield (
        "fusion",
        "another photograph's",
        lambda: (some[0], np.roll(some[1], 1, 0), (validation[0], np.roll(validation[1], 1, 0))),
        {},
    )
    for group, name, extractor, in_color in (
        ("fusion", "the colour photograph's (an oracle)", "efficientnet_lite2", True),
        ("extractor", "efficientnet_lite2", "efficientnet_lite2", False),
        ("extractor", "efficientnet_lite2_grey", "efficientnet_lite2_grey", False),
    ):

        def made(extractor=extractor, in_color=in_color):
            vectors, held_out = with_embeddings(lambda x: embed_squares(x, extractor, in_color))
            return some[0], vectors, held_out

        yield group, name, made, {}
    for size in (16, 32):
        yield "size", f"{size} px", lambda: some, {"size": size}
    for count in CURVE:
        part = squares[:count], embeddings[:count], validation
        yield "photographs", f"{len(part[0]):,}", lambda part=part: part, {"steps": 2 * STEPS}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records")
    parser.add_argument("-o", "--output", type=Path, required=True)
    groups = ["fusion", "extractor", "size", "photographs"]
    parser.add_argument("--only", nargs="+", choices=groups, default=groups)
    options = parser.parse_args()
    rows = []
    if options.output.exists():
        with Path(options.output).open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    squares, embeddings = load(
        options.records, "train", None if "photographs" in options.only else PHOTOGRAPHS
    )
    validation = load(options.records, "validation", VALIDATION)
    for group, name, data, changes in variants(squares, embeddings, validation):
        if group not in options.only or (group, name) in [
            (row["group"], row["variant"]) for row in rows
        ]:
            continue
        found = data()
        ratios = [train(*found, seed, **changes) for seed in range(SEEDS)]
        rows.append(
            {
                "group": group,
                "variant": name,
                **{f"seed_{i}": round(ratio, 4) for i, ratio in enumerate(ratios)},
            }
        )
        print(rows[-1], flush=True)
        with replacing(options.output) as temporary:
            with temporary.open("w", newline="", encoding="utf-8") as lines:
                writer = csv.DictWriter(lines, rows[0], lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()
