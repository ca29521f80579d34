"""Photographs <-> TFRecord shards <-> batches of ((lightness, embedding), chroma) for the training.

A record holds the photograph as JPEG and its embedding in half precision: about 30 kB at 224 px, where
raw float32 arrays of the same take 600 kB. Lightness and chroma are computed when a batch is read, so
that a photograph can be another film's on every reading.
"""

import concurrent.futures
import contextlib
import functools
import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from koala_utils import film, lab
from koala_utils.backend import tf
from koala_utils.downloads import find_photos
from koala_utils.embedding import (
    DEFAULT,
    EMBEDDING_SIZE,
    embed_inputs,
    extractor_inputs,
    load_extractor,
)
from koala_utils.files import alone, read_json, replacing, sweep
from koala_utils.photos import PhotoError, read_for_training, resize_short_side

VERSION = 1  # of the record format, in every preparation's manifest
PHOTOS_PER_SHARD = 512
VALIDATION_SHARE = 0.1  # the paper's 10 %
JPEG_QUALITY = 95

_FEATURES = {
    "photo": tf.io.FixedLenFeature([], tf.string),
    "embedding": tf.io.FixedLenFeature([], tf.string),
    "name": tf.io.FixedLenFeature([], tf.string),
}


class RecordsError(ValueError):
    """Records that are missing, damaged or of another preparation."""


# ---------------------------------------------------------------- writing


def prepare(
    source,
    folder,
    size=224,
    extractor=DEFAULT,
    validation_share=VALIDATION_SHARE,
    batch=32,
    progress=True,
    part=(1, 1),
):
    """Writes the photographs of a source as TFRecord shards with their embeddings.

    Shard by shard, each complete or absent: a run that was killed is taken up by the same call. A
    file's content decides whether it is for training or validation, so an identical file under another name cannot
    be in both (a resized copy can), and the split is the same on every machine.

    Args:
        source: see :func:`koala_utils.downloads.find_photos`; or a list of paths.
        folder: where the shards go.
        size: the short side in pixels; smaller photographs keep theirs.
        extractor: whose embedding is stored.
        validation_share: the share of photographs for validation, on average.
        batch: photographs embedded at once.
        part: (i, n): only the i-th of n parts, counted from 1, each of which may be another machine's. The folder is the same for all.

    Returns:
        A dict with the numbers of "train" and "validation" photographs, "bytes" of all shards, and
        "skipped", from path to reason: of all parts that are done so far.

    Raises:
        PhotoError: no photograph in the source, or none that is fit.
        RecordsError: the folder holds records that were prepared otherwise, the photographs vanish, or the disk is full.
        BusyError: another run is writing the same part.
    """
    paths = (
        sorted(Path(p) for p in source)
        if isinstance(source, (list, tuple))
        else find_photos(source)
    )
    folder = Path(folder)
    index, parts = part
    per_shard = min(
        PHOTOS_PER_SHARD, -(-len(paths) // parts)
    )  # where photographs are few, there is something to do for every part
    listing = hashlib.sha256(b"\n".join(map(os.fsencode, paths))).hexdigest()
    _check_manifest(
        folder,
        {
            "version": VERSION,
            "size": size,
            "extractor": extractor,
            "validation_share": validation_share,
            "photographs": len(paths),
            "listing": listing,
            "photos_per_shard": per_shard,
            "parts": parts,
        },
    )
    chunks = [paths[i : i + per_shard] for i in range(0, len(paths), per_shard)]
    mine = range(index - 1, len(chunks), parts)
    if not all(_is_whole(folder, number) for number in mine):
        with (
            alone(folder, part=f"-part-{index}"),
            tqdm(
                total=sum(len(chunks[number]) for number in mine),
                unit="photo",
                disable=not progress,
                desc="preparing",
            ) as bar,
        ):
            for number in mine:
                sweep(folder, f"-{number:05d}.*")
                if not _is_whole(folder, number):
                    _prepare_chunk(
                        chunks[number],
                        number,
                        folder,
                        size,
                        extractor,
                        validation_share,
                        batch,
                        bar,
                    )
                else:
                    bar.update(len(chunks[number]))
    report = {"train": 0, "validation": 0, "bytes": 0, "skipped": {}}
    notes = sorted(folder.glob("done-*.json"))
    for entry in map(_read_note, notes):
        report = {
            key: report[key] + entry[key] if key != "skipped" else report[key] | entry[key]
            for key in report
        }
    if not report["train"] + report["validation"] and len(notes) == len(chunks):
        raise PhotoError(
            f"{source}: none of {len(paths)} photographs is fit for training,"
            f" the first because {next(iter(report['skipped'].values()))}"
        )
    return report


def _check_manifest(folder, manifest):
    path = folder / "manifest.json"
    if not path.exists():
        for name in manifest["extractor"].split("+"):
            load_extractor(name)  # before anything is written: its weights may not be at hand
        with alone(folder, wait=True, part="-manifest"):
            sweep(folder, path.name)
            if not path.exists():
                with replacing(path) as temporary:
                    temporary.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    before = _read_manifest(path)
    differs = [key for key in manifest if before.get(key) != manifest[key]]
    if differs:
        raise RecordsError(
            f"{folder}: holds records of another preparation (other {', '.join(differs)});"
            " choose another folder or delete this one."
        )


def _prepare_chunk(paths, number, folder, size, extractor, validation_share, batch, bar):
    """One chunk of photographs -> a shard for training, one for validation, and a note that both are done."""
    shards, skipped, waiting = {"train": [], "validation": []}, {}, []

    def load(path):
        try:
            content = path.read_bytes()
            rgb = resize_short_side(read_for_training(path, short_side=2 * size), size)
            return (
                path,
                hashlib.sha256(content).digest(),
                encode_jpeg(rgb),
                extractor_inputs(film.grey_of(rgb), extractor),
            )
        except (PhotoError, OSError) as error:
            if not path.exists():  # it was there when the run began: a disk that is gone, not a photograph that is unfit
                raise RecordsError(
                    f"{path}: was there when the run began and is gone; bring it back and run the same"
                    " command again, what is done is kept."
                ) from None
            return path, None, None, str(error)

    def flush():
        for (path, digest, jpeg, _), vector in zip(
            waiting, embed_inputs([w[3] for w in waiting], extractor)
        ):
            shards[split_of(digest, validation_share)].append(
                encode_record(jpeg, vector, path.name)
            )
        waiting.clear()

    with (
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
        contextlib.closing(pool.map(load, paths)) as loads,
    ):  # closed: what has not begun when the run is stopped, never begins
        for loaded in loads:
            if loaded[1] is None:
                skipped[str(loaded[0])] = loaded[3]
            else:
                waiting.append(loaded)
            if len(waiting) == batch:
                flush()
            bar.update()
        if waiting:
            flush()
    try:
        for split, serialized in shards.items():
            with (
                replacing(folder / f"{split}-{number:05d}.tfrecord") as temporary,
                tf.io.TFRecordWriter(str(temporary)) as writer,
            ):
                for record in serialized:
                    writer.write(record)
        entry = {split: len(serialized) for split, serialized in shards.items()}
        with replacing(_note(folder, number)) as temporary:
            temporary.write_text(
                json.dumps(
                    entry | {"bytes": _bytes_of(folder, number), "skipped": skipped}, indent=1
                ),
                "utf-8",
            )
    except (tf.errors.OpError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error).split("; ")[-1]
        raise RecordsError(
            f"{folder}: could not be written ({reason}); make room there, or choose another folder, and run the same"
            " command again, what is done is kept."
        ) from error


def _note(folder, number):
    """The note that a chunk is done: what its shards hold."""
    return folder / f"done-{number:05d}.json"


def _read_note(path):
    return read_json(path, "delete it, and run the same koala prepare again")


def _is_whole(folder, number):
    """Whether a chunk is done and its shards are there at their size."""
    note = _note(folder, number)
    return note.exists() and _read_note(note)["bytes"] == _bytes_of(folder, number)


def _bytes_of(folder, number):
    return sum(shard.stat().st_size for shard in folder.glob(f"*-{number:05d}.tfrecord"))


def split_of(digest, share=VALIDATION_SHARE):
    """ "train" or "validation", decided by the SHA-256 digest of the photograph's file."""
    return "validation" if int.from_bytes(digest[:8], "big") / 2**64 < share else "train"


def encode_jpeg(rgb):
    """A uint8 RGB array -> JPEG bytes without chroma subsampling: chroma is what is learned."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def encode_record(jpeg, embedding, name):
    """One serialized `tf.train.Example`."""
    values = {
        "photo": jpeg,
        "embedding": np.asarray(embedding, np.float16).tobytes(),
        "name": os.fsencode(name),
    }
    features = {
        key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for key, value in values.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


# ---------------------------------------------------------------- reading


def parse_record(serialized):
    """A record -> {"photo": JPEG bytes, "embedding": float32 (1000,), "name": bytes}."""
    record = tf.io.parse_single_example(serialized, _FEATURES)
    embedding = tf.io.decode_raw(record["embedding"], tf.float16)
    record["embedding"] = tf.cast(tf.ensure_shape(embedding, [EMBEDDING_SIZE]), tf.float32)
    return record


def find_shards(folder, split):
    """The shards of a split, sorted.

    Raises:
        RecordsError: none there, some of them are not prepared yet, or damaged.
    """
    _check_whole(Path(folder))
    shards = sorted(
        str(path) for path in Path(folder).glob(f"{split}-*.tfrecord") if path.stat().st_size
    )
    if not shards:
        if split == "validation" and list(Path(folder).glob("train-*.tfrecord")):
            raise RecordsError(
                f"{folder}: no photograph fell to validation; prepare more, or another folder with a larger"
                " --validation-share."
            )
        raise RecordsError(
            f"{folder}: no {split} records there; make them with: koala prepare PHOTOS -o {folder}"
        )
    return shards


def _check_whole(folder):
    """That every shard of a preparation is there and has its size, which says nothing about its content."""
    prepared = manifest_of(folder)
    shards = -(-prepared["photographs"] // prepared["photos_per_shard"])
    done = [number for number in range(shards) if _note(folder, number).exists()]
    if len(done) < shards:
        raise RecordsError(
            f"{folder}: {len(done)} of {shards} pieces are prepared; run the same koala prepare again, which"
            " goes on, or all of its parts."
        )
    for number in done:
        if not _is_whole(folder, number):
            raise RecordsError(
                f"{folder}: *-{number:05d}.tfrecord are not as they were written; run the same koala prepare"
                " again, which writes them anew."
            )


def check_shards(folder):
    """Reads all records of a folder, after a training failed on one.

    Raises:
        RecordsError: a damaged shard, by name.
    """
    for shard in sorted(Path(folder).glob("*.tfrecord")):
        try:
            for serialized in tf.data.TFRecordDataset(str(shard)):  # which compares checksums
                tf.io.decode_jpeg(parse_record(serialized)["photo"], channels=3)
        except tf.errors.OpError as error:
            raise RecordsError(
                f"{shard}: damaged; delete it and run the same koala prepare again, which writes it anew."
            ) from error


def count_records(folder, split):
    """The number of records of a split, from the notes beside the shards."""
    return sum(_read_note(note)[split] for note in Path(folder).glob("done-*.json"))


def manifest_of(folder):
    """How the records of a folder were prepared: a dict with size, extractor and photographs."""
    try:
        return _read_manifest(Path(folder) / "manifest.json")
    except FileNotFoundError:
        raise RecordsError(
            f"{folder}: no records there; make them with: koala prepare PHOTOS -o {folder}"
        ) from None


def _read_manifest(path):
    manifest = read_json(path, "delete its folder, and prepare the photographs again")
    if manifest.get("version") != VERSION:
        raise RecordsError(
            f"{path}: records of version {manifest.get('version')}, and this koala_utils reads version {VERSION};"
            " prepare the photographs again in another folder, or get a newer koala_utils."
        )
    return {
        "photos_per_shard": min(512, manifest["photographs"]),
        "parts": 1,
    } | manifest  # which the first manifests do not name


def training_batches(folder, crop, batch=32, seed=0, first_epoch=0, epochs=1, share=(0, 1)):
    """Batches for training: shuffled, cropped, mirrored and filmed anew in every epoch.

    Everything random is drawn from the seed and the photograph's number in the course of the training, so
    an epoch is the same whether the training came to it in one run or was taken up there, on one machine or on several.

    Args:
        folder: of :func:`prepare`.
        crop: the side of the squares in pixels, a multiple of 8.
        share: (i, n): of each batch only the photographs i, i + n, i + 2n, …

    Returns:
        A `tf.data.Dataset` of ((lightness, embedding), chroma): float32 (batch, crop, crop, 1) in [-1, 1],
        (batch, 1000), (batch, crop, crop, 2) in [-1, 1]; `epochs` x (records // batch) batches.
    """

    def to_example(rgb, embedding, draw):
        grey = film.random_film(rgb[None], draw + (1, 0))[0]
        return (lab.lightness(grey), blur_embedding(embedding[None], draw + (2, 0))[0]), lab.chroma(
            rgb
        )

    squares, batches = _squares(folder, crop, batch, seed, first_epoch, epochs, share)
    examples = squares.map(to_example, num_parallel_calls=tf.data.AUTOTUNE).batch(batch // share[1])
    return examples.apply(tf.data.experimental.assert_cardinality(batches)).prefetch(4)


def training_squares(folder, crop, batch=32, seed=0, first_epoch=0, epochs=1):
    """Random colour squares, shuffled, cropped and mirrored anew in every epoch, as :func:`training_batches`.

    Returns:
        A `tf.data.Dataset` of (rgb, embedding, draws): float32 (batch, crop, crop, 3) in [0, 1], (batch, 1000),
        and int64 (batch, 2), the seed of everything random that is done with each square.
    """
    squares, batches = _squares(folder, crop, batch, seed, first_epoch, epochs)
    return squares.batch(batch).apply(tf.data.experimental.assert_cardinality(batches))


def _squares(folder, crop, batch, seed, first_epoch, epochs, share=(0, 1)):
    """The squares of :func:`training_squares` one by one, and the number of their batches."""
    shards = find_shards(folder, "train")
    photos = (
        count_records(folder, "train") // batch * batch
    )  # of an epoch: its last photographs fill no batch

    def epoch(number):
        order = tf.data.Dataset.from_tensor_slices(shards).shuffle(len(shards), seed=seed + number)
        serialized = order.interleave(
            tf.data.TFRecordDataset, cycle_length=16, num_parallel_calls=1
        )
        return serialized.shuffle(8192, seed=seed + number).take(photos)

    def to_square(serialized, number):
        record, draw = parse_record(serialized), tf.stack([tf.cast(seed, tf.int64), number])
        return random_square(record["photo"], crop, draw), record["embedding"], draw

    numbers = range(first_epoch, first_epoch + epochs)
    serialized = functools.reduce(tf.data.Dataset.concatenate, map(epoch, numbers))
    counted = tf.data.Dataset.zip(serialized, tf.data.Dataset.counter(first_epoch * photos)).shard(
        share[1], share[0]
    )
    return counted.map(to_square, num_parallel_calls=tf.data.AUTOTUNE), epochs * photos // batch


def blur_embedding(embedding, seed, most=0.8):
    """Embeddings (N, 1000) as if another classifier had made them, which saw other things and was more or less sure.

    Each photograph's gets noise of a random strength up to `most` of its spread, loses up to three in ten of its
    classes, and is made up to a quarter larger or smaller. Without it the network learns photographs by heart from their 1,000 exact
    numbers, and depends on the habits of one extractor.
    """
    seeds = tf.unstack(tf.random.split(seed, 5))

    def draw(i, low, high):
        return tf.random.stateless_uniform((tf.shape(embedding)[0], 1), seeds[i], low, high)

    strength, dropped, size = draw(0, 0.0, most), draw(1, 0.0, 0.3), draw(2, 0.8, 1.25)
    noisy = embedding + strength * tf.random.stateless_normal(tf.shape(embedding), seeds[3])
    kept = tf.random.stateless_uniform(tf.shape(embedding), seeds[4]) >= dropped
    return (
        tf.where(kept, noisy, 0.0) * size / tf.sqrt((1 + strength**2) * (1 - dropped))
    )  # about unit spread again


def random_square(jpeg, crop, seed):
    """A random square of a photograph, mirrored or not -> float32 (crop, crop, 3) in [0, 1].

    The square's side is drawn between half of the short side and all of it, so that things
    are seen at many scales.
    """
    seeds = tf.unstack(tf.random.split(seed, 4))
    height, width = tf.unstack(tf.io.extract_jpeg_shape(jpeg)[:2])
    short = tf.minimum(height, width)
    side = tf.cast(
        tf.cast(short, tf.float32) * tf.random.stateless_uniform([], seeds[0], 0.5, 1.0), tf.int32
    )
    top = tf.random.stateless_uniform([], seeds[1], 0, height - side + 1, tf.int32)
    left = tf.random.stateless_uniform([], seeds[2], 0, width - side + 1, tf.int32)
    square = tf.image.decode_and_crop_jpeg(jpeg, tf.stack([top, left, side, side]), channels=3)
    square = tf.image.resize(tf.cast(square, tf.float32) / 255, (crop, crop), antialias=True)
    mirrored = tf.random.stateless_uniform([], seeds[3]) < 0.5
    return tf.clip_by_value(tf.cond(mirrored, lambda: square[:, ::-1], lambda: square), 0, 1)


def validation_batches(folder, crop, batch=32):
    """Batches of central squares on panchromatic film, in a fixed order; shapes as :func:`training_batches`."""

    def to_example(rgb, embedding):
        return (lab.lightness(film.to_grey(rgb)), embedding), lab.chroma(rgb)

    return (
        validation_squares(folder, crop, batch)
        .map(to_example, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(2)
    )


def validation_squares(folder, crop, batch=32):
    """The central colour squares of the validation photographs in a fixed order: batches of (rgb, embedding)."""

    def to_square(record):
        rgb = tf.cast(tf.io.decode_jpeg(record["photo"], channels=3), tf.float32) / 255
        side = tf.reduce_min(tf.shape(rgb)[:2])
        rgb = tf.image.resize_with_crop_or_pad(rgb, side, side)  # only ever crops
        return tf.clip_by_value(tf.image.resize(rgb, (crop, crop), antialias=True), 0, 1), record[
            "embedding"
        ]

    records = tf.data.TFRecordDataset(find_shards(folder, "validation"))
    batches = (
        records.map(parse_record).map(to_square, num_parallel_calls=tf.data.AUTOTUNE).batch(batch)
    )
    return batches.apply(
        tf.data.experimental.assert_cardinality(-(-count_records(folder, "validation") // batch))
    )
