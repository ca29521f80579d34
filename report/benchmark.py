"""How fast the package is: ratios measured side by side in one run. Writes report/tables/speed.csv
and speed.txt, its caption.

    python report/benchmark.py --sizes 1000 5000 30000    as in the report, about 25 minutes
    python report/benchmark.py                            about 15 minutes, on fewer photographs
    python report/benchmark.py --quick                    about five; writes nothing, nor --only

What is compared takes turns, so that what else the machine does falls on both sides, and of every
figure the median of all turns is taken. Only the bundled photographs are needed.
"""

import argparse
import contextlib
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image

from koala_utils import (
    colorizer,
    downloads,
    embedding,
    film,
    lab,
    network,
    photos,
    records,
    training,
)
from koala_utils.app import batch
from koala_utils.backend import keras, tf

REPORT = Path(__file__).parent
COLUMNS = ["what", "figure", "unit", "beside", "its figure", "ratio", "asked"]


def side_by_side(ways, turns):
    """The median seconds of each of several functions, which take turns; the first turn is for
    warming up and not counted.
    """
    seconds = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


KOALA = """
import sys
from pathlib import Path
from koala_utils.app.cli import main
status = main(sys.argv[2:])
with Path(sys.argv[1]).open("w") as file, Path("/proc/self/status").open() as lines:
    file.write(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
sys.exit(status)
"""


def koala(folder, *arguments):
    """`koala …` in a process of its own: its seconds, and the most memory that it took, in GB."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", KOALA, folder / "peak", *map(str, arguments)],
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - began, int((folder / "peak").read_text()) / 1e6


# ---------------------------------------------------------------- training


def transcription():
    """The paper's network as one writes it down: replicate and stack, float32, Keras's defaults."""
    lightness, vector = keras.Input((224, 224, 1)), keras.Input((1000,))
    layers, x = keras.layers, lightness
    for filters, stride in network.ENCODER:
        x = layers.Conv2D(filters, 3, stride, padding="same", activation="relu")(x)
    replicated = layers.Reshape((28, 28, 1000))(layers.RepeatVector(28 * 28)(vector))
    x = layers.Conv2D(256, 1, activation="relu")(layers.Concatenate()([x, replicated]))
    for step in network.DECODER:
        x = (
            layers.UpSampling2D(2)(x)
            if step == "up"
            else layers.Conv2D(step, 3, padding="same", activation="relu")(x)
        )
    x = layers.Conv2D(2, 3, padding="same", activation="tanh")(x)
    return keras.Model([lightness, vector], layers.UpSampling2D(2)(x))


def measure_training(quick):
    batch = 8 if quick else 32
    dice = np.random.default_rng(0)
    inputs = [
        tf.constant(dice.uniform(-1, 1, (batch, 224, 224, 1)), tf.float32),
        tf.constant(dice.normal(size=(batch, 1000)), tf.float32),
    ]
    chroma = tf.constant(dice.uniform(-1, 1, (batch, 224, 224, 2)), tf.float32)
    models = {
        "transcription": transcription(),
        "float32": network.build_network(),
        training.best_dtype(): network.build_network(dtype=training.best_dtype()),
    }
    for model in models.values():
        model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="mse")
    seconds = side_by_side(
        {
            name: lambda model=model: model.train_on_batch(inputs, chroma)
            for name, model in models.items()
        },
        2 if quick else 3,
    )
    plain = batch / seconds.pop("transcription")
    for name, value in seconds.items():
        yield (
            f"training step, 224 px, batch {batch}, {name}",
            batch / value,
            "photos/s",
            "plain transcription, float32",
            plain,
            batch / value / plain,
            "4" if name == training.best_dtype() else "",
        )


# ---------------------------------------------------------------- preparation


def links(folder, count):
    """A folder of so many photographs of 320 px, the bundled ones over and over."""
    folder.mkdir()
    for i, path in enumerate(downloads.find_photos("bundled")):
        target = folder.parent / f"small-{i}.jpg"
        if not target.exists():
            photos.save_photo(photos.resize_short_side(photos.read_photo(path), 320), target)
    sources = sorted(folder.parent.glob("small-*.jpg"))
    for i in range(count):
        (folder / f"{i:06d}.jpg").symlink_to(sources[i % len(sources)])
    return folder


@contextlib.contextmanager
def replaced(*changes):
    """Context in which attributes of modules are others: (module, name, value) each."""
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    for module, name, value in changes:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def measure_preparation(quick, sizes, folder):
    count, batch = (64, 32) if quick else (256, 32)
    source = links(folder / "source", count)
    for extractor in ("efficientnet_lite2_grey", "inception_resnet_v2"):
        if extractor == "inception_resnet_v2":
            if quick:
                continue
            count = 64
            source = links(folder / "source-2", count)
        pretrained = embedding.EXTRACTORS[extractor].bundled  # random weights are as fast
        squares = np.zeros((batch, *[embedding.EXTRACTORS[extractor].size] * 2, 3), np.float32)

        def bare():
            for _ in range(count // batch):
                embedding.logits_of(squares, extractor, pretrained)

        def plain():
            for _ in range(count // batch):
                embedding.load_extractor(extractor, pretrained).predict_on_batch(squares)

        def whole():
            with tempfile.TemporaryDirectory(dir=folder) as output:
                records.prepare(source, output, batch=batch, progress=False)

        with replaced(
            (
                records,
                "extractor_inputs",
                lambda grey, _: embedding.extractor_inputs(grey, extractor),
            ),
            (
                records,
                "embed_inputs",
                lambda inputs, _: embedding.embed_inputs(inputs, extractor, pretrained),
            ),
        ):
            seconds = side_by_side({"bare": bare, "plain": plain, "whole": whole}, 3)
        for name, beside in (
            ("plain", "the extractor alone, as Keras calls it"),
            ("bare", "the extractor alone, as it is called here"),
        ):
            yield (
                f"koala prepare, {extractor}",
                count / seconds["whole"],
                "photos/s",
                beside,
                count / seconds[name],
                seconds[name] / seconds["whole"],
                "0.9",
            )

    figures = []
    for size in sizes:
        source = links(folder / f"photos-{size}", size)
        figures.append(koala(folder, "prepare", source, "-o", folder / f"records-{size}"))
    (first, memory), (last, most) = figures[0], figures[-1]
    rate = (figures[1][0] - first) / (
        sizes[1] - sizes[0]
    )  # seconds a photograph, without the start
    yield (
        f"koala prepare, memory for {sizes[-1]:,} photographs",
        most,
        "GB",
        f"for {sizes[0]:,}",
        memory,
        most / memory,
        "1",
    )
    yield (
        f"koala prepare, {sizes[1]:,} to {sizes[-1]:,} photographs",
        (last - figures[1][0]) / (sizes[-1] - sizes[1]) * 1000,
        "ms/photo",
        f"{sizes[0]:,} to {sizes[1]:,}",
        rate * 1000,
        (last - figures[1][0]) / (sizes[-1] - sizes[1]) / rate,
        "1",
    )


# ---------------------------------------------------------------- colouring


def measure_coloring(quick, folder):
    paths = downloads.find_photos("bundled") + downloads.find_photos("bundled-historical")
    targets = [folder / f"colored-{i}.png" for i in range(len(paths))]
    jobs = [batch.Job(path, (target,)) for path, target in zip(paths, targets)]

    def loop():
        for path, target in zip(paths, targets):
            photos.save_photo(colorizer.colorize(photos.read_photo(path)), target)

    def layer_by_layer():
        with replaced(
            (colorizer, "compiled", lambda model: model),
            (embedding, "compiled", lambda model: model),
        ):
            loop()

    seconds = side_by_side(
        {
            "folder": lambda: list(
                batch.colorize_jobs(jobs, {"": ("koala-plus", None)}, embedding.DEFAULT)
            ),
            "loop": loop,
            "layer by layer": layer_by_layer,
        },
        2 if quick else 3,
    )
    for name, beside, asked in (
        ("layer by layer", "a loop over colorize, its networks called layer by layer", "3"),
        ("loop", "a loop over colorize as it is now", ""),
    ):
        yield (
            f"koala colorize, {len(paths)} photographs of a folder",
            len(paths) / seconds["folder"],
            "photos/s",
            beside,
            len(paths) / seconds[name],
            seconds[name] / seconds["folder"],
            asked,
        )

    photo = downloads.find_photos("bundled")[0]
    cold = side_by_side(
        {
            "koala": lambda: koala(folder, "colorize", photo, "-o", folder / "cold"),
            "tensorflow": lambda: subprocess.run(
                [sys.executable, "-c", "import tensorflow"], check=True, capture_output=True
            ),
        },
        3 if quick else 5,
    )
    yield (
        "koala colorize, one photograph, cold start",
        cold["koala"],
        "s",
        "import tensorflow",
        cold["tensorflow"],
        cold["koala"] / cold["tensorflow"],
        "at most 6 s",
    )
    large = folder / "large.jpg"
    Image.fromarray(photos.read_photo(photo)).resize((8000, 6000), Image.LANCZOS).save(
        large, quality=90
    )
    seconds, memory = koala(folder, "colorize", large, "-o", folder / "cold")
    yield "koala colorize, 48 megapixels, memory", memory, "GB", "", "", "", "under 3 GB"
    yield "koala colorize, 48 megapixels, time", seconds, "s", "", "", "", ""


# ---------------------------------------------------------------- records


def measure_records(quick, folder):
    size, batch = 224, 32
    source = links(folder / "to-read", 64 if quick else 256)
    prepared = folder / "to-read-records"
    report = records.prepare(source, prepared, validation_share=0, progress=False)
    count = report["train"]
    raw = folder / "raw.tfrecord"
    with tf.io.TFRecordWriter(str(raw)) as writer:
        for record in tf.data.TFRecordDataset(records.find_shards(prepared, "train")).map(
            records.parse_record
        ):
            rgb = photos.crop_square(
                np.asarray(tf.io.decode_jpeg(record["photo"], channels=3))
            ) / np.float32(255)
            values = [lab.lightness(film.to_grey(rgb)), lab.chroma(rgb), record["embedding"]]
            writer.write(
                tf.io.serialize_tensor(
                    tf.concat([tf.reshape(value, [-1]) for value in values], 0)
                ).numpy()
            )

    def from_records():
        (lightness, _), _ = next(
            iter(
                records.training_batches(prepared, size, batch)
                .take(count // batch)
                .batch(count // batch)
            )
        )
        assert lightness.shape == (count // batch, batch, size, size, 1)

    def from_raw():
        data = tf.data.TFRecordDataset(str(raw)).map(
            lambda one: tf.io.parse_tensor(one, tf.float32), tf.data.AUTOTUNE
        )
        for _ in data.batch(batch).prefetch(4):
            pass

    def from_jpegs():
        def load(path):
            rgb = tf.image.resize(
                tf.cast(tf.io.decode_jpeg(tf.io.read_file(path), channels=3), tf.float32) / 255,
                (size, size),
                antialias=True,
            )
            rgb = tf.clip_by_value(rgb, 0, 1)
            return lab.lightness(film.to_grey(rgb)), lab.chroma(rgb)

        for _ in (
            tf.data.Dataset.list_files(f"{source}/*.jpg")
            .map(load, tf.data.AUTOTUNE)
            .batch(batch)
            .prefetch(4)
        ):
            pass

    seconds = side_by_side(
        {"records": from_records, "raw": from_raw, "jpegs": from_jpegs}, 3 if quick else 5
    )
    ours, bytes_raw = report["bytes"] / count, raw.stat().st_size / count
    jpegs = np.mean([path.stat().st_size for path in source.iterdir()])
    yield (
        "records, 224 px, size",
        ours / 1000,
        "kB/photo",
        "raw float32 records",
        bytes_raw / 1000,
        ours / bytes_raw,
        "",
    )
    yield (
        "records, 224 px, size",
        ours / 1000,
        "kB/photo",
        "a folder of JPEGs of 320 px, no embedding",
        jpegs / 1000,
        ours / jpegs,
        "",
    )
    for name, beside in (
        ("raw", "raw float32 records, never another crop or film"),
        ("jpegs", "a folder of JPEGs of 320 px, no embedding"),
    ):
        yield (
            "records read as training batches",
            count / seconds["records"],
            "photos/s",
            beside,
            count / seconds[name],
            seconds[name] / seconds["records"],
            "",
        )


# ---------------------------------------------------------------- the table


def shown(value):
    return value if isinstance(value, str) else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def main():
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--quick", action="store_true")
    options.add_argument(
        "--sizes",
        type=int,
        nargs=3,
        metavar="N",
        help="numbers of photographs, for memory and linear time",
    )
    options.add_argument(
        "--only", choices=["training", "preparation", "coloring", "records"], nargs="+"
    )
    options = options.parse_args()
    sizes = options.sizes or ((100, 300, 900) if options.quick else (500, 1500, 4500))
    rows, load = [], os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        parts = {
            "training": lambda: measure_training(options.quick),
            "coloring": lambda: measure_coloring(options.quick, folder),
            "records": lambda: measure_records(options.quick, folder),
            "preparation": lambda: measure_preparation(options.quick, sizes, folder),
        }
        for name in options.only or parts:
            for row in parts[name]():
                rows.append([shown(value) for value in row])
                print(" | ".join(rows[-1]), flush=True)
    command = " ".join(["python report/benchmark.py", *sys.argv[1:]])
    caption = (
        f"`{command}`; {date.today()}; {training.machine()}; load {load:.1f} before and"
        f" {os.getloadavg()[0]:.1f} after, its own included"
    )
    print(caption)
    if options.quick or options.only:
        return
    with (REPORT / "tables" / "speed.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, *rows])
    (REPORT / "tables" / "speed.txt").write_text(caption + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
