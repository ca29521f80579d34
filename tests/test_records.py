"""Records: what was written comes back, a killed run is taken up, and batches are drawn
reproducibly.
"""

import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_one_sentence, files_in, make_photo, save
from PIL import Image

from koala_utils import downloads, embedding, film, lab, photos, records
from koala_utils.records import RecordsError, prepare, training_batches, validation_batches


def read_all(folder, split):
    """All records of a split as (name, JPEG bytes, embedding), sorted."""
    data = tf.data.TFRecordDataset(records.find_shards(folder, split)).map(records.parse_record)
    return sorted(
        (r["name"].decode(), r["photo"], r["embedding"].tobytes()) for r in data.as_numpy_iterator()
    )


@pytest.fixture(scope="module")
def folder_of_photos(tmp_path_factory):
    """Twelve photographs and four files that are unfit."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(12):
        save(make_photo(seed), folder / f"{seed:02d}.png")
    save(np.full((50, 50, 3), 100, np.uint8), folder / "fog.png")
    save(make_photo(1, 20, 20), folder / "small.png")
    (folder / "half.jpg").write_bytes((folder / "00.png").read_bytes()[:500])
    (folder / "text.jpg").write_text("not a photograph")
    return folder


@pytest.fixture(scope="module")
def prepared(folder_of_photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    return folder, prepare(folder_of_photos, folder, size=40, validation_share=0.4, progress=False)


# ---------------------------------------------------------------- writing


def test_photograph_and_embedding_come_back():
    rgb = make_photo(1, 40, 56)
    vector = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    record = records.parse_record(
        records.encode_record(records.encode_jpeg(rgb), vector, "koala.png")
    )
    back = np.asarray(Image.open(io.BytesIO(record["photo"].numpy())))
    assert back.shape == rgb.shape and np.abs(back.astype(int) - rgb).mean() < 2
    assert np.array_equal(record["embedding"].numpy(), vector.astype(np.float16).astype(np.float32))
    assert record["name"].numpy() == b"koala.png"


def test_color_is_not_subsampled_in_the_stored_photograph():
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2], stripes[:, 1::2] = (200, 60, 60), (60, 60, 200)
    back = np.asarray(Image.open(io.BytesIO(records.encode_jpeg(stripes))))
    assert np.abs(back.astype(int) - stripes).mean() < 6


def test_every_photograph_is_recorded_or_named_with_the_reason(prepared, folder_of_photos):
    folder, report = prepared
    assert report["train"] + report["validation"] == 12 and report["train"] and report["validation"]
    assert len(read_all(folder, "train")) == report["train"]
    assert len(read_all(folder, "validation")) == report["validation"]
    reasons = {
        "fog.png": "nearly grey",
        "small.png": "too small",
        "half.jpg": "damaged",
        "text.jpg": "not a photograph",
    }
    assert report["skipped"].keys() == {str(folder_of_photos / name) for name in reasons}
    for name, reason in reasons.items():
        assert reason in report["skipped"][str(folder_of_photos / name)]
    assert report["bytes"] == sum(path.stat().st_size for path in folder.glob("*.tfrecord"))


def test_records_hold_the_photograph_at_its_size_with_its_own_embedding(prepared, folder_of_photos):
    name, jpeg, vector = read_all(prepared[0], "train")[0]
    rgb = photos.resize_short_side(photos.read_photo(folder_of_photos / name), 40)
    assert jpeg == records.encode_jpeg(rgb)
    expected = embedding.embed([film.grey_of(rgb)])[0]
    assert np.abs(np.frombuffer(vector, np.float32) - expected).max() < 0.01


def test_records_are_ten_times_smaller_than_the_original_s_600_kilobytes(tmp_path):
    report = prepare("bundled", tmp_path, size=224, progress=False)
    assert report["train"] + report["validation"] == 8
    assert report["bytes"] / 8 < 60_000


def test_copy_under_another_name_falls_on_the_same_side(tmp_path):
    for seed in range(10):
        path = save(make_photo(seed), tmp_path / "photos" / f"{seed}.png")
        shutil.copy(path, path.with_name(f"copy-{9 - seed}.png"))
    report = prepare(
        tmp_path / "photos", tmp_path / "records", size=40, validation_share=0.5, progress=False
    )
    sides = [
        {jpeg for _, jpeg, _ in read_all(tmp_path / "records", split)}
        for split in ("train", "validation")
    ]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    assert len(sides[0]) + len(sides[1]) == 10 and report["train"] + report["validation"] == 20


def test_split_has_the_share_that_was_asked_for():
    digests = [hashlib.sha256(bytes([i // 256, i % 256])).digest() for i in range(4000)]
    for share in (0.1, 0.5):
        mean = np.mean([records.split_of(digest, share) == "validation" for digest in digests])
        assert mean == pytest.approx(share, abs=0.03)
    assert {records.split_of(digest, 0) for digest in digests} == {"train"}


# ---------------------------------------------------------------- going on, and refusing to


KILLED = """
import os, signal, sys
from koala_utils import records
records.PHOTOS_PER_SHARD = 4
embed, calls = records.embed_inputs, []
def once(*arguments):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return embed(*arguments)
records.embed_inputs = once
records.prepare(sys.argv[1], sys.argv[2], size=40, validation_share=0.4, batch=4, progress=False)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_run_is_taken_up_and_ends_with_the_same_records(
    monkeypatch, folder_of_photos, prepared, tmp_path
):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, folder_of_photos, tmp_path], capture_output=True
    )
    assert done.returncode == -signal.SIGKILL
    notes = list(tmp_path.glob("done-*.json"))
    assert [note.name for note in notes] == ["done-00000.json"]
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*-00000.*")}
    assert len(kept) == 3

    monkeypatch.setattr(records, "PHOTOS_PER_SHARD", 4)
    report = prepare(
        folder_of_photos, tmp_path, size=40, validation_share=0.4, batch=4, progress=False
    )
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert {key: report[key] for key in ("train", "validation", "skipped")} == {
        key: prepared[1][key] for key in ("train", "validation", "skipped")
    }
    for split in ("train", "validation"):
        mine, whole = read_all(tmp_path, split), read_all(prepared[0], split)
        assert [record[:2] for record in mine] == [record[:2] for record in whole]
        assert all(".tmp" not in shard for shard in records.find_shards(tmp_path, split))


def test_failed_run_leaves_no_shard(monkeypatch, folder_of_photos, tmp_path):
    def fail(*_):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(records, "embed_inputs", fail)
        prepare(folder_of_photos, tmp_path, size=40, progress=False)
    assert files_in(tmp_path) in ([], ["manifest.json"])
    with pytest.raises(RecordsError):
        records.find_shards(tmp_path, "train")


def test_second_run_does_nothing_and_reports_the_same(prepared, folder_of_photos):
    folder, report = prepared
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert (
        prepare(folder_of_photos, folder, size=40, validation_share=0.4, progress=False) == report
    )
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "other",
    [
        {"size": 48},
        {"validation_share": 0.3},
        {"source": "bundled"},
        {"extractor": "inception_resnet_v2"},
    ],
)
def test_other_preparation_in_the_same_folder_is_refused(prepared, folder_of_photos, other):
    folder, _ = prepared
    options = {"source": folder_of_photos, "size": 40, "validation_share": 0.4, **other}
    with pytest.raises(RecordsError) as error:
        prepare(folder=folder, progress=False, **options)
    assert str(folder) in str(error.value)
    name = "photographs" if "source" in other else next(iter(other)).replace("_", " ")
    assert_one_sentence(error, folder, name, "instead of", "delete this one")


def test_extractor_that_cannot_be_had_does_not_claim_the_folder(folder_of_photos, tmp_path):
    with pytest.raises(embedding.ExtractorError):
        prepare(folder_of_photos, tmp_path, size=40, extractor="vgg16", progress=False)
    report = prepare(folder_of_photos, tmp_path, size=40, extractor="mobilenet_v2", progress=False)
    assert report["train"] + report["validation"] == 12


def test_source_without_one_fit_photograph_is_an_error_and_leaves_room_for_another(tmp_path):
    save(np.full((50, 50, 3), 100, np.uint8), tmp_path / "photos" / "fog.png")
    with pytest.raises(photos.PhotoError) as error:
        prepare(tmp_path / "photos", tmp_path / "records", progress=False)
    assert_one_sentence(error, tmp_path / "photos", "nearly grey")
    assert files_in(tmp_path / "records") == []


def test_nothing_to_prepare_is_one_sentence_and_leaves_no_folder(tmp_path):
    with pytest.raises(photos.PhotoError) as error:
        prepare([], tmp_path / "records", progress=False)
    assert_one_sentence(error, "no photographs")
    assert not (tmp_path / "records").exists()


@pytest.mark.parametrize("share", [10, 1, -0.1, float("nan")])
def test_share_that_leaves_nothing_to_train_on_is_refused(folder_of_photos, tmp_path, share):
    with pytest.raises(RecordsError) as error:
        prepare(folder_of_photos, tmp_path / "records", validation_share=share, progress=False)
    assert_one_sentence(error, share, "0.1")
    assert not (tmp_path / "records").exists()


def test_folder_is_named_after_its_source_and_another_photograph_makes_another(
    folder_of_photos, tmp_path
):
    assert records.folder_for("bundled", tmp_path) == tmp_path / "records-bundled"
    own = shutil.copytree(folder_of_photos, tmp_path / "holiday")
    before = records.folder_for(own, tmp_path)
    assert before.name.startswith("records-holiday-")
    assert records.folder_for(own, tmp_path) == before
    save(make_photo(99), own / "99.png")
    assert records.folder_for(own, tmp_path) != before


# ---------------------------------------------------------------- groups


@pytest.fixture
def table(folder_of_photos, tmp_path):
    """A table that puts neighbours of twelve photographs into four groups: its path and the
    rows.
    """
    source = shutil.copytree(folder_of_photos, tmp_path / "slides" / "train")
    rows = {f"train/{i:02d}.png": f"run {i // 3}" for i in range(12)}
    rows |= {f"train/{name}": "rest" for name in ("fog.png", "small.png", "half.jpg", "text.jpg")}
    path = source.parent / "slides.csv"
    path.write_text("file,run\n" + "".join(f"{file},{run}\n" for file, run in rows.items()))
    return path, rows


def test_groups_fall_to_one_side_whole(table, tmp_path):
    path, rows = table
    report = prepare(
        path.parent / "train",
        tmp_path / "records",
        size=40,
        validation_share=0.3,
        progress=False,
        groups=f"{path}:run",
    )
    sides = [
        {rows[f"train/{name}"] for name, _, _ in read_all(tmp_path / "records", split)}
        for split in ("train", "validation")
    ]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    assert report["train"] + report["validation"] == 12
    with pytest.raises(RecordsError) as error:  # another split of the same photographs
        prepare(path.parent / "train", tmp_path / "records", size=40, validation_share=0.3)
    assert_one_sentence(error, "groups run instead of None")


def test_groups_that_are_named_are_held_out(table, tmp_path):
    path, rows = table
    options = {"size": 40, "progress": False, "groups": f"{path}:run"}
    prepare(path.parent / "train", tmp_path / "records", held_out=["run 1", "run 3"], **options)
    sides = [
        {rows[f"train/{name}"] for name, _, _ in read_all(tmp_path / "records", split)}
        for split in ("train", "validation")
    ]
    assert sides[1] == {"run 1", "run 3"} and not sides[0] & sides[1]
    for held_out, part in ((["run 1"], "held out ['run 1', 'run 3']"), (["run 9"], "run 9")):
        with pytest.raises(RecordsError) as error:
            prepare(path.parent / "train", tmp_path / "records", held_out=held_out, **options)
        assert_one_sentence(error, part)
    with pytest.raises(RecordsError) as error:
        prepare(path.parent / "train", tmp_path / "other", held_out=["run 1"])
    assert_one_sentence(error, "TABLE.csv:COLUMN")


def test_share_of_groups_is_reached_and_something_is_left_for_training():
    group_of = {number: str(number // 10) for number in range(400)}
    for share, expected in ((0.0, 0), (0.1, 40), (0.25, 100), (0.999, 390)):
        split = records._splitter(group_of, share)
        sides = [split(number, None) for number in group_of]
        assert sides.count("validation") == expected


def test_table_that_does_not_name_every_photograph_is_refused(table, tmp_path):
    path, _ = table
    save(make_photo(99), path.parent / "train" / "99.png")
    for groups, part in (
        (f"{path}:run", "99.png"),
        (f"{path}:year", "year"),
        ("none.csv:run", "none.csv"),
    ):
        with pytest.raises(RecordsError) as error:
            prepare(path.parent / "train", tmp_path / "records", groups=groups, progress=False)
        assert_one_sentence(error, part)
    assert not (tmp_path / "records").exists()


def test_folder_without_records_is_an_error(tmp_path):
    for use in (
        records.manifest_of,
        lambda folder: training_batches(folder, 32),
        lambda folder: validation_batches(folder, 32),
    ):
        with pytest.raises(RecordsError) as error:
            use(tmp_path)
        assert str(tmp_path) in str(error.value) and "koala prepare" in str(error.value)


def test_manifest_tells_how_the_records_were_prepared(prepared):
    manifest = records.manifest_of(prepared[0])
    assert (manifest["size"], manifest["extractor"], manifest["photographs"]) == (
        40,
        "efficientnet_lite2_grey",
        16,
    )
    assert json.loads((prepared[0] / "manifest.json").read_text()) == manifest


# ---------------------------------------------------------------- batches


def batches(folder, **options):
    """All training batches as flat lists of three arrays."""
    return [
        [lightness, vector, chroma]
        for (lightness, vector), chroma in training_batches(
            folder, crop=32, batch=3, **options
        ).as_numpy_iterator()
    ]


def same(one, other):
    return len(one) == len(other) and all(
        np.array_equal(a, b) for x, y in zip(one, other) for a, b in zip(x, y)
    )


def test_batches_have_their_shapes_and_ranges(bundled_records):
    got = batches(bundled_records, epochs=2)
    assert len(got) == len(training_batches(bundled_records, crop=32, batch=3, epochs=2)) == 4
    for lightness, vector, chroma in got:
        assert (lightness.shape, vector.shape, chroma.shape) == (
            (3, 32, 32, 1),
            (3, 1000),
            (3, 32, 32, 2),
        )
        assert lightness.dtype == vector.dtype == chroma.dtype == np.float32
        assert lightness.min() >= -1 and lightness.max() <= 1 + 1e-5 and np.abs(chroma).max() <= 1
        assert (
            np.abs(vector.mean(-1)).max() < 0.1
            and 0.6 < vector.std(-1).min()
            and vector.std(-1).max() < 1.5
        )


def test_same_seed_gives_the_same_batches_and_another_others(bundled_records):
    first = batches(bundled_records, seed=1, epochs=2)
    assert same(first, batches(bundled_records, seed=1, epochs=2))
    assert not same(first, batches(bundled_records, seed=2, epochs=2))


def test_epoch_is_the_same_whether_reached_or_taken_up_there(bundled_records):
    whole = batches(bundled_records, seed=1, epochs=3)
    assert same(whole[2:], batches(bundled_records, seed=1, first_epoch=1, epochs=2))
    assert not same(whole[:2], whole[2:4])


def test_epoch_holds_every_photograph_once_in_another_order(bundled_records):
    stored = np.stack(
        [np.frombuffer(vector, np.float32) for _, _, vector in read_all(bundled_records, "train")]
    )
    whole = batches(bundled_records, seed=1, epochs=6)
    vectors = [
        np.concatenate([vector for _, vector, _ in whole[i : i + 2]]) for i in range(0, 12, 2)
    ]
    orders = [(vector @ stored.T).argmax(axis=1).tolist() for vector in vectors]
    assert all(sorted(order) == list(range(6)) for order in orders)
    assert len(set(map(tuple, orders))) > 1


def test_blurred_embeddings_keep_their_spread_and_their_likeness():
    vectors = embedding.standardize(np.random.default_rng(0).normal(size=(200, 1000)))
    blurred, again, other = (
        records.blur_embedding(vectors, (seed, 1)).numpy() for seed in (3, 3, 4)
    )
    assert np.array_equal(blurred, again) and not np.array_equal(blurred, other)
    spread = blurred.std(-1)
    assert (
        0.7 < spread.min() < 0.9 and 1.1 < spread.max() < 1.4
    )  # the classifier's assurance: 0.8 to 1.25
    likeness = (blurred * vectors).mean(-1) / spread
    assert (
        0.6 < likeness.min() < 0.8 and likeness.max() > 0.95
    )  # of strengths between none and the most
    dropped = (blurred == 0).mean(-1)
    assert dropped.min() < 0.02 and 0.25 < dropped.max() < 0.36


def test_draws_of_one_seed_are_not_another_s(bundled_records):
    def draws(seed):
        data = records.training_squares(bundled_records, 32, 6, seed, epochs=3)
        return np.concatenate([draw for _, _, draw in data.as_numpy_iterator()])

    first, second = draws(0), draws(1)
    assert (first[:, 1] == np.arange(18)).all()
    assert abs(first[0, 0] - second[0, 0]) > 1000  # the film and the embedding add 1 and 2


def test_pipeline_for_many_epochs_is_made_at_once(bundled_records):
    began = time.monotonic()
    data = training_batches(bundled_records, crop=32, batch=6, epochs=3000)
    next(iter(data))
    assert len(data) == 3000 and time.monotonic() - began < 30


def test_embedding_stays_with_its_photograph(bundled_records):
    small = {
        path.name: photos.crop_square(photos.resize_short_side(photos.read_photo(path), 64)) / 255
        for path in downloads.find_photos("bundled")
    }
    name_of = {vector: name for name, _, vector in read_all(bundled_records, "validation")}
    (lightness, vectors), chroma = next(validation_batches(bundled_records, 64).as_numpy_iterator())
    shown = lab.to_rgb(lightness, chroma)
    for vector, rgb in zip(vectors, shown):
        nearest = min(small, key=lambda name: np.abs(small[name] - rgb).mean())
        assert nearest == name_of[vector.tobytes()]


def test_validation_is_the_same_on_every_reading(bundled_records):
    data = validation_batches(bundled_records, 32, batch=2)
    assert len(data) == 1
    first, again = (list(data.as_numpy_iterator()) for _ in range(2))
    assert same([[*x, y] for x, y in first], [[*x, y] for x, y in again])
    (lightness, vector), chroma = first[0]
    assert (lightness.shape, vector.shape, chroma.shape) == (
        (2, 32, 32, 1),
        (2, 1000),
        (2, 32, 32, 2),
    )


def test_random_square_is_cut_and_never_padded():
    jpeg = records.encode_jpeg(np.full((40, 90, 3), (200, 100, 50), np.uint8))
    for seed in range(5):
        square = records.random_square(jpeg, 24, (seed, 1)).numpy()
        assert square.shape == (24, 24, 3)
        assert np.abs(square * 255 - (200, 100, 50)).max() < 4


def test_random_squares_are_mirrored_half_the_time():
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 64, 0).repeat(3, -1)
    jpeg = records.encode_jpeg(ramp)
    squares = [records.random_square(jpeg, 16, (seed, 7)).numpy() for seed in range(60)]
    mirrored = np.mean([square[:, 0].mean() > square[:, -1].mean() for square in squares])
    assert 0.25 < mirrored < 0.75
