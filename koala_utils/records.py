"""Photographs <-> TFRecord shards <-> batches of ((lightness, embedding), chroma) for the training.

A record holds the photograph as JPEG and its embedding in half precision: about 30 kB at 224 px,
while raw float32 arrays take 600 kB. Lightness and chroma are computed when a batch is read, so
that each time the same photograph can be on another film.
"""

import collections
import concurrent.futures
import contextlib
import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from koala_utils import WORK, film, lab
from koala_utils.backend import explained, tf
from koala_utils.downloads import COLLECTIONS, find_photos
from koala_utils.embedding import (
    DEFAULT,
    EMBEDDING_SIZE,
    embed_inputs,
    extractor_inputs,
    load_extractor,
)
from koala_utils.files import DamagedError, alone, read_json, read_rows, replacing, sweep
from koala_utils.photos import PhotoError, read_for_training, resize_short_side

VERSION = 1  # of the record format
PHOTOS_PER_SHARD = 512
VALIDATION_SHARE = 0.1  # the paper's 10 %
JPEG_QUALITY = 95

_FEATURES = {key: tf.io.FixedLenFeature([], tf.string) for key in ("photo", "embedding", "name")}


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
    groups=None,
    held_out=(),
):
    """Writes the photographs of a source as TFRecord shards with their embeddings.

    Each shard is complete or absent: if a run was killed, the same call goes on. The content of a
    file decides whether it is for training or validation. So the split is the same on every
    machine, and a copy under another name is on the same side. A resized copy may not be.

    Args:
        source: see :func:`koala_utils.downloads.find_photos`; or a list of paths.
        folder: where the shards go.
        size: the short side in pixels; smaller photographs keep their size.
        extractor: whose embedding is stored.
        validation_share: the share of photographs for validation, 0 or more and less than 1.
        batch: photographs that are embedded at once.
        part: (i, n): only the i-th of n parts, counted from 1; other machines may prepare the
            others.
        groups: "TABLE.csv:COLUMN" keeps similar photographs on one side of the split, such as
            neighbouring slides: those with the same value in the column are a group, and whole
            groups fall to validation until its share is reached. The column `file` of the table
            names each photograph, relative to the table.
        held_out: groups that are for validation, whatever the share. With them, two trainings can
            be kept from the same photographs.

    Returns:
        A dict with the numbers of "train" and "validation" photographs, the "bytes" of all shards,
        and "skipped", from path to reason. It covers all parts that are done so far.

    Raises:
        PhotoError: no photograph in the source, or none that can be used.
        RecordsError: a share or groups that cannot be used, records of another preparation in the
            folder, or photographs that vanish.
        BusyError: another run is writing the same part.
        OSError: the disk is full, or the folder cannot be written to.
    """
    if not 0 <= validation_share < 1:
        raise RecordsError(
            f"a validation share of {validation_share} leaves nothing to train on;"
            f" give a number from 0 to less than 1, such as {VALIDATION_SHARE}."
        )
    paths = _paths_of(source)
    if not paths:
        raise PhotoError("no photographs are given, so there is nothing to prepare.")
    folder, (index, parts) = Path(folder), part
    group_of = read_groups(groups, paths) if groups else {}
    if held_out and not groups:
        raise RecordsError(
            "groups are to be held out, but no table says which photograph is in which;"
            " give groups as TABLE.csv:COLUMN."
        )
    if unknown := set(held_out) - set(group_of.values()):
        raise RecordsError(
            f"no photograph is in the groups to be held out: {', '.join(sorted(unknown))}."
        )
    per_shard = min(PHOTOS_PER_SHARD, -(-len(paths) // parts))  # so that every part has some
    chunks = [paths[i : i + per_shard] for i in range(0, len(paths), per_shard)]
    manifest = {
        "version": VERSION,
        "size": size,
        "extractor": extractor,
        "validation_share": validation_share,
        "groups": groups and groups.rpartition(":")[2],
        "held_out": sorted(held_out),
        "photographs": len(paths),
        "listing": _digest([*map(os.fsencode, paths), *(g.encode() for g in group_of.values())]),
        "photos_per_shard": per_shard,
        "parts": parts,
    }
    _check_manifest(folder, manifest)
    mine = range(index - 1, len(chunks), parts)
    todo = [number for number in mine if not _is_whole(folder, number)]
    if todo:
        split = _splitter(group_of, validation_share, held_out)
        total = sum(len(chunks[number]) for number in todo)
        with (
            alone(folder, part=f"-part-{index}"),
            tqdm(total=total, unit="photo", disable=not progress, desc="preparing") as bar,
        ):
            for number in todo:
                sweep(folder, f"-{number:05d}.*")
                _prepare_chunk(chunks[number], number, folder, size, extractor, split, batch, bar)
    done = [_read_note(path) for path in sorted(folder.glob("done-*.json"))]
    report = {key: sum(note[key] for note in done) for key in ("train", "validation", "bytes")}
    report["skipped"] = {path: why for note in done for path, why in note["skipped"].items()}
    if not report["train"] + report["validation"] and len(done) == len(chunks):
        for written in ("done-*.json", "*-?????.tfrecord", "manifest.json"):
            for path in folder.glob(written):  # other photographs may be written here
                path.unlink(missing_ok=True)
        raise PhotoError(
            f"{source}: none of {len(paths)} photographs is fit for training,"
            f" the first because {next(iter(report['skipped'].values()))}"
        )
    return report


def folder_for(source, parent=WORK):
    """A folder for the records of a source, such as `records-bundled` or `records-holiday-1f3a5c`.

    The second is for photographs of your own. It ends in a digest of their paths: one photograph
    more or less gives another folder.
    """
    if source in COLLECTIONS:
        return Path(parent) / f"records-{source}"
    paths = _paths_of(source)
    name = "photographs" if isinstance(source, (list, tuple)) else Path(source).resolve().stem
    return Path(parent) / f"records-{name}-{_digest(map(os.fsencode, paths))[:6]}"


def _paths_of(source):
    if isinstance(source, (list, tuple)):
        return sorted(Path(path) for path in source)
    return find_photos(source)


def _digest(lines):
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def read_groups(groups, paths):
    """The group of each photograph: a dict from path to text. `groups` is as in :func:`prepare`.

    Raises:
        RecordsError: no such table or column, or a photograph that the table does not name.
    """
    name, _, column = str(groups).rpartition(":")
    try:
        rows = {
            os.path.realpath(Path(name).parent / row["file"]): row[column]
            for row in read_rows(name)
        }
    except (OSError, KeyError, DamagedError):
        raise RecordsError(
            f"{groups}: no table of groups; give TABLE.csv:COLUMN, a csv file with this column and"
            " a column called file."
        ) from None
    found = {path: rows.get(os.path.realpath(path)) for path in paths}
    missing = [path for path, group in found.items() if not group]
    if missing:
        raise RecordsError(
            f"{name}: gives no group for {len(missing)} photographs, such as {missing[0]};"
            " add a line for each, with its path relative to the table."
        )
    return found


def _splitter(group_of, share, held_out=()):
    """A function of a photograph's path and its file's digest -> "train" or "validation"."""
    if not group_of:
        return lambda _, digest: split_of(digest, share)
    if not held_out:
        held_out = _groups_for(share, group_of)
    return lambda path, _: "validation" if group_of[path] in held_out else "train"


def _groups_for(share, group_of):
    """Whole groups that hold a share of the photographs or a little more, and never all groups."""
    sizes = collections.Counter(group_of.values())
    chosen, photographs = set(), 0
    for group in sorted(sizes, key=lambda group: hashlib.sha256(group.encode()).digest()):
        if photographs < share * len(group_of) and len(chosen) < len(sizes) - 1:
            chosen.add(group)
            photographs += sizes[group]
    return chosen


def _check_manifest(folder, manifest):
    path = folder / "manifest.json"
    if not path.exists():
        for name in manifest["extractor"].split("+"):
            load_extractor(name)  # before anything is written: its weights may be missing
        with alone(folder, wait=True, part="-manifest"):
            sweep(folder, path.name)
            if not path.exists():
                with replacing(path) as temporary:
                    temporary.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    before = _read_manifest(path)
    differs = [key for key in manifest if before.get(key) != manifest[key]]
    if differs:
        named = [
            f"{key.replace('_', ' ')} {before.get(key)} instead of {manifest[key]}"
            for key in differs
            if key not in ("listing", "photos_per_shard")
        ]
        raise RecordsError(
            f"{folder}: holds records of another preparation"
            f" ({', '.join(named) or 'of other photographs'}); choose another folder, or delete"
            " this one and prepare again."
        )


def _prepare_chunk(paths, number, folder, size, extractor, split, batch, bar):
    """Writes one chunk of photographs: a shard for each split, and a note that they are done."""
    shards, skipped, waiting = {"train": [], "validation": []}, {}, []

    def load(path):
        try:
            digest = hashlib.sha256(path.read_bytes()).digest()
            rgb = resize_short_side(read_for_training(path, short_side=2 * size), size)
            return path, digest, encode_jpeg(rgb), extractor_inputs(film.grey_of(rgb), extractor)
        except (PhotoError, OSError) as error:
            if not path.exists():  # the disk may be gone; nothing is wrong with the photograph
                raise RecordsError(
                    f"{path}: was there when the run began and is gone; bring it back and run the"
                    " same command again, what is done is kept."
                ) from None
            return path, None, None, str(error)

    def flush():
        vectors = embed_inputs([inputs for *_, inputs in waiting], extractor)
        for (path, digest, jpeg, _), vector in zip(waiting, vectors, strict=True):
            shards[split(path, digest)].append(encode_record(jpeg, vector, path.name))
        waiting.clear()

    with (
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
        contextlib.closing(pool.map(load, paths)) as loads,  # closed: an interrupt ends the others
    ):
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
    with explained(folder):
        for name, serialized in shards.items():
            with (
                replacing(folder / f"{name}-{number:05d}.tfrecord") as temporary,
                tf.io.TFRecordWriter(str(temporary)) as writer,
            ):
                for record in serialized:
                    writer.write(record)
        note = {name: len(serialized) for name, serialized in shards.items()}
        note |= {"bytes": _bytes_of(folder, number), "skipped": skipped}
        with replacing(_note(folder, number)) as temporary:
            temporary.write_text(json.dumps(note, indent=1), encoding="utf-8")


def _note(folder, number):
    return folder / f"done-{number:05d}.json"


def _read_note(path):
    return read_json(path, "delete it, and run the same koala prepare again")


def _is_whole(folder, number):
    """Whether a chunk is done and its shards have the size that was written."""
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
    vector = np.asarray(embedding, np.float16).tobytes()
    features = {
        key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for key, value in zip(_FEATURES, (jpeg, vector, os.fsencode(name)), strict=True)
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
        RecordsError: there are none, some are not prepared yet, or one has not the size that was
            written.
    """
    folder, prepared = Path(folder), manifest_of(folder)
    numbers = range(-(-prepared["photographs"] // prepared["photos_per_shard"]))
    done = [number for number in numbers if _note(folder, number).exists()]
    if len(done) < len(numbers):
        raise RecordsError(
            f"{folder}: {len(done)} of {len(numbers)} pieces are prepared; run the same koala"
            " prepare again, which goes on, or all of its parts."
        )
    for number in done:
        if not _is_whole(folder, number):
            raise RecordsError(
                f"{folder}: *-{number:05d}.tfrecord are not as they were written; run the same"
                " koala prepare again, which writes them anew."
            )
    shards = sorted(folder.glob(f"{split}-*.tfrecord"))
    shards = [str(path) for path in shards if path.stat().st_size]
    if not shards:
        raise RecordsError(
            f"{folder}: no photograph fell to {'training' if split == 'train' else split}; prepare"
            f" more, or another folder with a {'smaller' if split == 'train' else 'larger'}"
            " --validation-share."
        )
    return shards


def check_shards(folder):
    """Reads all records of a folder; :func:`koala_utils.backend.explained` calls it.

    Raises:
        RecordsError: a damaged shard, by name.
    """
    for shard in sorted(Path(folder).glob("*.tfrecord")):
        try:
            for serialized in tf.data.TFRecordDataset(str(shard)):  # this compares checksums
                tf.io.decode_jpeg(parse_record(serialized)["photo"], channels=3)
        except tf.errors.OpError as error:
            raise RecordsError(
                f"{shard}: damaged; delete it and run the same koala prepare again, which writes it"
                " anew."
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
            f"{path}: records of version {manifest.get('version')}, and this koala_utils reads"
            f" version {VERSION}; prepare the photographs again in another folder, or get a newer"
            " koala_utils."
        )
    earlier = {"photos_per_shard": min(512, manifest["photographs"]), "parts": 1, "groups": None}
    earlier["held_out"] = []
    return earlier | manifest  # older manifests do not have these


def training_batches(folder, crop, batch=32, seed=0, first_epoch=0, epochs=1, share=(0, 1)):
    """Batches for training: shuffled, cropped, mirrored and filmed anew in every epoch.

    All random numbers come from the seed and the photograph's number in the training. So an epoch
    is the same in one run and in a continued one, on one machine and on several.

    Args:
        folder: of :func:`prepare`.
        crop: the side of the squares in pixels, a multiple of 8.
        share: (i, n): only the photographs i, i + n, i + 2n, … of each batch.

    Returns:
        A `tf.data.Dataset` of ((lightness, embedding), chroma): float32 (batch, crop, crop, 1) in
        [-1, 1], (batch, 1000), (batch, crop, crop, 2) in [-1, 1]; `epochs` x (records // batch) of
        them.
    """

    def to_example(rgb, embedding, draw):
        lightness = lab.lightness(film.random_film(rgb[None], draw + (1, 0))[0])
        return (lightness, blur_embedding(embedding[None], draw + (2, 0))[0]), lab.chroma(rgb)

    squares, batches = _squares(folder, crop, batch, seed, first_epoch, epochs, share)
    examples = squares.map(to_example, num_parallel_calls=tf.data.AUTOTUNE).batch(batch // share[1])
    return examples.apply(tf.data.experimental.assert_cardinality(batches)).prefetch(4)


def training_squares(folder, crop, batch=32, seed=0, first_epoch=0, epochs=1):
    """Random colour squares, shuffled, cropped and mirrored anew in every epoch.

    Returns:
        A `tf.data.Dataset` of (rgb, embedding, draws): float32 (batch, crop, crop, 3) in [0, 1],
        (batch, 1000), and int64 (batch, 2), a seed for what is random about each square.
    """
    squares, batches = _squares(folder, crop, batch, seed, first_epoch, epochs)
    return squares.batch(batch).apply(tf.data.experimental.assert_cardinality(batches))


def _squares(folder, crop, batch, seed, first_epoch, epochs, share=(0, 1)):
    """The squares of :func:`training_squares` one by one, and the number of their batches."""
    shards = find_shards(folder, "train")
    photos = count_records(folder, "train") // batch * batch  # per epoch: full batches only
    # Neighbouring seeds would overlap, because the numbers of epochs and draws are added to them.
    seed = int(hashlib.sha256(str(seed).encode()).hexdigest()[:14], 16)

    def epoch(number):
        tf.random.set_seed(
            1
        )  # only of this function: the order depends on `seed` and on nothing else
        order = tf.data.Dataset.from_tensor_slices(shards).shuffle(len(shards), seed + number)
        read = order.interleave(tf.data.TFRecordDataset, cycle_length=16, num_parallel_calls=1)
        return read.shuffle(8192, seed + number).take(photos)

    def to_square(serialized, number):
        record, draw = parse_record(serialized), tf.stack([tf.constant(seed, tf.int64), number])
        return random_square(record["photo"], crop, draw), record["embedding"], draw

    serialized = tf.data.Dataset.range(first_epoch, first_epoch + epochs).flat_map(epoch)
    counted = tf.data.Dataset.zip(serialized, tf.data.Dataset.counter(first_epoch * photos))
    mine = counted.shard(share[1], share[0])
    return mine.map(to_square, num_parallel_calls=tf.data.AUTOTUNE), epochs * photos // batch


def blur_embedding(embedding, seed, most=0.8):
    """Embeddings (N, 1000) as another classifier might have made them.

    Each gets noise of a random strength up to `most` of its spread, loses up to three in ten of its
    classes, and is scaled by 0.8 to 1.25. Without this the network learns to recognize photographs
    by their 1,000 exact numbers, and works only with one extractor.
    """
    seeds = tf.unstack(tf.random.split(seed, 5))

    def draw(i, low, high):
        return tf.random.stateless_uniform((tf.shape(embedding)[0], 1), seeds[i], low, high)

    strength, dropped, size = draw(0, 0.0, most), draw(1, 0.0, 0.3), draw(2, 0.8, 1.25)
    noisy = embedding + strength * tf.random.stateless_normal(tf.shape(embedding), seeds[3])
    kept = tf.random.stateless_uniform(tf.shape(embedding), seeds[4]) >= dropped
    spread = tf.sqrt((1 + strength**2) * (1 - dropped))
    return tf.where(kept, noisy, 0.0) * size / spread


def random_square(jpeg, crop, seed):
    """A random square of a photograph, mirrored or not -> float32 (crop, crop, 3) in [0, 1].

    Its side is between half of the short side and all of it, so things appear at many scales.
    """
    seeds = tf.unstack(tf.random.split(seed, 4))
    height, width = tf.unstack(tf.io.extract_jpeg_shape(jpeg)[:2])
    short = tf.minimum(height, width)
    share = tf.random.stateless_uniform([], seeds[0], 0.5, 1.0)
    side = tf.cast(share * tf.cast(short, tf.float32), tf.int32)
    top = tf.random.stateless_uniform([], seeds[1], 0, height - side + 1, tf.int32)
    left = tf.random.stateless_uniform([], seeds[2], 0, width - side + 1, tf.int32)
    square = tf.image.decode_and_crop_jpeg(jpeg, tf.stack([top, left, side, side]), channels=3)
    square = tf.image.resize(tf.cast(square, tf.float32) / 255, (crop, crop), antialias=True)
    mirrored = tf.random.stateless_uniform([], seeds[3]) < 0.5
    return tf.clip_by_value(tf.cond(mirrored, lambda: square[:, ::-1], lambda: square), 0, 1)


def validation_batches(folder, crop, batch=32):
    """Like :func:`training_batches`: central squares on panchromatic film, in a fixed order."""

    def to_example(rgb, embedding):
        return (lab.lightness(film.to_grey(rgb)), embedding), lab.chroma(rgb)

    squares = validation_squares(folder, crop, batch)
    return squares.map(to_example, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def validation_squares(folder, crop, batch=32):
    """The central colour squares for validation in a fixed order: batches of (rgb, embedding)."""

    def to_square(serialized):
        record = parse_record(serialized)
        rgb = tf.cast(tf.io.decode_jpeg(record["photo"], channels=3), tf.float32) / 255
        side = tf.reduce_min(tf.shape(rgb)[:2])
        rgb = tf.image.resize_with_crop_or_pad(rgb, side, side)  # this only crops
        square = tf.clip_by_value(tf.image.resize(rgb, (crop, crop), antialias=True), 0, 1)
        return square, record["embedding"]

    records = tf.data.TFRecordDataset(find_shards(folder, "validation"))
    squares = records.map(to_square, num_parallel_calls=tf.data.AUTOTUNE).batch(batch)
    batches = -(-count_records(folder, "validation") // batch)
    return squares.apply(tf.data.experimental.assert_cardinality(batches))
