"""What is killed, filled up, taken away or damaged while it runs: nothing is lost, and one sentence
says what to do.

Every fault is really caused, in processes and on disks of their own. The long tests are run by
`make test-faults`.
"""

import errno
import json
import os
import random
import shutil
import signal
import time

import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    TINY,
    assert_one_sentence,
    enlarge,
    files_in,
    finish,
    make_noise,
    make_photo,
    read_only,
    save,
    small_disk,
    start,
)
from hostile import PAGES, SEVERAL_PAGES, make_hostile
from skimage.color import rgb2lab

from koala_utils import records, training
from koala_utils.app.cli import main
from koala_utils.backend import WorkerError, explained, keras
from koala_utils.downloads import find_photos
from koala_utils.files import BusyError, alone, replacing, sweep
from koala_utils.film import grey_photo
from koala_utils.network import BUILDERS
from koala_utils.photos import read_photo
from koala_utils.records import RecordsError, prepare
from koala_utils.training import TrainingError, train

SMALL = TINY | {"batch": 2}
TRAIN = ["--crop", "32", "--batch", "2", "--passes", "3", "--epochs", "4"]
AVERAGED = [*TRAIN, "--average", "0.9"]
KILLS = 8  # at random moments; each costs half a run

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="this system has no signals that kill"
)


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Forty photographs, of which four are unfit."""
    folder = tmp_path_factory.mktemp("album")
    for seed in range(36):
        save(make_photo(seed), folder / f"{seed:02d}.png")
    for seed in range(4):
        (folder / f"text-{seed}.jpg").write_text("not a photograph")
    return folder


def read_all(folder):
    """The records of a folder, split by split, as sorted (name, JPEG bytes)."""
    return {
        split: sorted(
            (record["name"], record["photo"])
            for record in tf.data.TFRecordDataset(records.find_shards(folder, split))
            .map(records.parse_record)
            .as_numpy_iterator()
        )
        for split in ("train", "validation")
    }


@pytest.fixture(scope="module")
def never_stopped(bundled_records, tmp_path_factory):
    """The history of a run of two epochs that nothing disturbs."""
    return train(bundled_records, tmp_path_factory.mktemp("whole"), epochs=2, **SMALL)[1]


@pytest.fixture(scope="module")
def finished_run(bundled_records, tmp_path_factory):
    """A run of one tiny epoch, to be copied."""
    run = tmp_path_factory.mktemp("finished")
    train(bundled_records, run, epochs=1, **SMALL)
    return run


def losses(history):
    return [[row[key] for key in ("epoch", "loss", "val_loss", "val_ratio")] for row in history]


def assert_same_losses(history, expected):
    """Equal but for rounding: the sums of oneDNN have no fixed order."""
    np.testing.assert_allclose(losses(history), losses(expected), rtol=1e-4)


def assert_no_leftovers(folder):
    assert not [name for name in files_in(folder) if name.split("/")[-1].startswith(".")]


def kill_again_and_again(arguments, longest, is_done, folder, log, **options):
    """Kills runs at random moments, `KILLS` times; where one has ended before, all is checked and
    begun again.
    """
    dice, kills = random.Random(0), 0
    while kills < KILLS:
        process = start(*arguments, log=log, **options)
        process.join(dice.uniform(0, longest))
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
        else:
            assert process.exitcode == 0, log.read_text()
            is_done()
            shutil.rmtree(folder)
    assert finish(*arguments, log=log, **options) == 0, log.read_text()
    is_done()


# ---------------------------------------------------------------- killed


@pytest.mark.faults
def test_preparation_that_is_killed_again_and_again_ends_with_the_same_records(album, tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "records"
    arguments = ["prepare", album, "--size", "40", "--validation-share", "0.3"]
    began = time.monotonic()
    assert finish(*arguments, "-o", whole, per_shard=5) == 0
    longest = time.monotonic() - began
    expected = read_all(whole)
    assert sum(map(len, expected.values())) == 36

    def check():
        assert read_all(folder) == expected
        assert files_in(folder) == files_in(whole)

    kill_again_and_again(
        [*arguments, "-o", folder], longest, check, folder, tmp_path / "log", per_shard=5
    )


@pytest.mark.faults
def test_training_that_is_killed_again_and_again_has_the_losses_of_one_that_never_stopped(
    bundled_records, tmp_path
):
    whole, run = tmp_path / "whole", tmp_path / "run"
    began = time.monotonic()
    assert finish("train", bundled_records, "-o", whole, *AVERAGED) == 0
    longest = time.monotonic() - began
    expected = training.read_history(whole)

    def check():
        assert_same_losses(training.read_history(run), expected)
        assert_no_leftovers(run)

    assert len(expected) == 4
    kill_again_and_again(
        ["train", bundled_records, "-o", run, *AVERAGED], longest, check, run, tmp_path / "log"
    )


@pytest.mark.faults
def test_training_that_is_killed_in_the_middle_of_an_epoch_goes_on_from_the_one_before(
    bundled_records, never_stopped, tmp_path
):
    run = tmp_path / "run"
    arguments = ["train", bundled_records, "-o", run, *TRAIN[:4], "--epochs", "2"]
    assert finish(*arguments, before=kill_in_the_second_epoch) == -signal.SIGKILL
    assert [row["epoch"] for row in training.read_history(run)] == [1]
    (run / ".abc.tmp-checkpoint-0002.weights.h5").write_bytes(b"half a checkpoint")
    _, history = train(bundled_records, run, epochs=2, **SMALL)
    assert_same_losses(history, never_stopped)
    assert_no_leftovers(run)


def kill_in_the_second_epoch():
    class Kill(training.keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1 and self.model.optimizer.iterations > 3:  # three make an epoch
                os.kill(os.getpid(), signal.SIGKILL)

    plain = training.train
    training.train = lambda *arguments, **options: plain(*arguments, callbacks=[Kill()], **options)


def test_temporary_files_of_killed_runs_are_swept_and_others_are_not(tmp_path):
    with (
        replacing(tmp_path / "train-00001.tfrecord") as mine,
        replacing(tmp_path / "train-00002.tfrecord") as other,
    ):
        (tmp_path / "train-00001.tfrecord").write_text("old")
        sweep(tmp_path, "-00001.*")
        assert not mine.exists() and other.exists()
        mine.touch()
    sweep(tmp_path)
    assert files_in(tmp_path) == ["train-00001.tfrecord", "train-00002.tfrecord"]


# ---------------------------------------------------------------- two at once


@pytest.fixture
def long_run(album, tmp_path):
    """A preparation in another process which has begun and is far from its end."""
    folder = tmp_path / "busy"
    process = start(
        "prepare", album, "-o", folder, "--size", "40", before=sleep_at_every_photograph
    )
    wait_for(folder / ".busy-part-1", process)
    yield folder, process
    process.kill()
    process.join()


def sleep_at_every_photograph():
    plain = records.read_for_training
    records.read_for_training = lambda path, **options: time.sleep(5) or plain(path, **options)


def wait_for(path, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.is_alive() and time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.02)


def test_second_preparation_in_a_folder_says_so_and_stops(album, long_run, capsys):
    folder, process = long_run
    before = files_in(folder)
    assert main(["prepare", str(album), "-o", str(folder), "--size", "40"]) == 1
    [error] = capsys.readouterr().err.splitlines()
    assert_one_sentence(error, folder, "another run")
    assert files_in(folder) == before and process.is_alive()
    process.kill()  # and leaves its mark, which holds nobody off
    process.join()
    assert (folder / ".busy-part-1").exists()
    assert prepare(album, folder, size=40, progress=False)["train"]
    assert_no_leftovers(folder)


def test_second_training_in_a_folder_says_so_and_stops(bundled_records, tmp_path):
    with alone(tmp_path / "run"), pytest.raises(BusyError) as error:
        train(bundled_records, tmp_path / "run", epochs=1, **SMALL)
    assert_one_sentence(error, tmp_path / "run", "another run")
    assert files_in(tmp_path / "run") == []


def test_parts_of_a_preparation_are_that_of_the_whole_and_do_not_exclude_each_other(
    album, tmp_path
):
    whole = prepare(album, tmp_path / "whole", size=40, validation_share=0.3, progress=False)
    arguments = [
        "prepare",
        album,
        "-o",
        tmp_path / "parts",
        "--size",
        "40",
        "--validation-share",
        "0.3",
    ]
    parts = [start(*arguments, "--part", f"{i}/3", log=tmp_path / f"{i}.log") for i in (1, 2)]
    for part in parts:
        part.join()
        assert part.exitcode == 0
    with pytest.raises(RecordsError) as error:  # a training on two thirds would be one by mistake
        records.find_shards(tmp_path / "parts", "train")
    assert_one_sentence(error, tmp_path / "parts", "2 of 3")
    report = prepare(
        album, tmp_path / "parts", size=40, validation_share=0.3, progress=False, part=(3, 3)
    )
    assert {key: report[key] for key in ("train", "validation", "skipped")} == {
        key: whole[key] for key in ("train", "validation", "skipped")
    }
    assert read_all(tmp_path / "parts") == read_all(tmp_path / "whole")
    assert_no_leftovers(tmp_path / "parts")
    with pytest.raises(RecordsError) as error:
        prepare(
            album, tmp_path / "parts", size=40, validation_share=0.3, progress=False, part=(1, 4)
        )
    assert "parts" in str(error.value)


def test_there_may_be_more_parts_than_photographs(album, tmp_path):
    few = find_photos(album)[:2]
    for i in (1, 2, 3):
        report = prepare(few, tmp_path, size=40, validation_share=0.0, progress=False, part=(i, 3))
    assert report["train"] == len(read_all_of(tmp_path, "train")) == 2


def read_all_of(folder, split):
    return list(tf.data.TFRecordDataset(records.find_shards(folder, split)).as_numpy_iterator())


# ---------------------------------------------------------------- full and read-only disks


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Twelve photographs that no format compresses well."""
    folder = tmp_path_factory.mktemp("noisy")
    for seed in range(12):
        save(make_noise(seed, 120, 160), folder / f"{seed:02d}.png")
    return folder


def test_preparation_on_a_full_disk_goes_on_when_there_is_room(noisy, tmp_path, capsys):
    folder = tmp_path / "disk"
    with small_disk(folder, "200k"):
        arguments = [
            "prepare",
            str(noisy),
            "-o",
            str(folder),
            "--size",
            "120",
            "--validation-share",
            "0.3",
        ]
        assert main(arguments) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert_one_sentence(error, folder, "disk is full", "make room")
        assert files_in(folder) == ["manifest.json"]
        enlarge(folder, "20m")
        assert main(arguments) == 0
        assert sum(map(len, read_all(folder).values())) == 12
        assert_no_leftovers(folder)


@pytest.mark.faults
@pytest.mark.parametrize("size", ["4k", "30m"], ids=["at once", "at the checkpoint"])
def test_training_on_a_full_disk_goes_on_when_there_is_room(bundled_records, tmp_path, size):
    run, log = tmp_path / "disk", tmp_path / "log"
    with small_disk(run, size):
        assert (
            finish("train", bundled_records, "-o", run, *TRAIN[:4], "--epochs", "1", log=log) == 1
        )
        assert "Traceback" not in log.read_text()
        error = log.read_text().splitlines()[-1]
        assert_one_sentence(error, run, "disk is full", "make room")
        assert not list(run.glob("checkpoint-*")) and not list(run.glob(".*"))
        enlarge(run, "300m")
        assert (
            finish("train", bundled_records, "-o", run, *TRAIN[:4], "--epochs", "1", log=log) == 0
        )
        assert (run / "koala.safetensors").exists()


def test_coloring_onto_a_full_disk_names_every_photograph(model_file, noisy, tmp_path, capsys):
    with small_disk(tmp_path / "disk", "100k"):
        assert (
            main(["colorize", str(noisy), "-o", str(tmp_path / "disk"), "--model", str(model_file)])
            == 1
        )
        lines = capsys.readouterr().err.splitlines()
        done = files_in(tmp_path / "disk")
        assert len(lines) + len(done) == 12 and len(done) < 12
        assert all("No space left" in line for line in lines)


def test_read_only_folders_are_one_sentence(bundled_records, model_file, noisy, tmp_path, capsys):
    for name in ("records", "run", "colored"):
        (tmp_path / name).mkdir()
    photo = str(find_photos(noisy)[0])
    with (
        read_only(tmp_path / "records"),
        read_only(tmp_path / "run"),
        read_only(tmp_path / "colored"),
    ):
        for arguments in (
            ["prepare", str(noisy), "-o", str(tmp_path / "records")],
            ["train", str(bundled_records), "-o", str(tmp_path / "run"), *TRAIN],
            ["colorize", photo, "-o", str(tmp_path / "colored"), "--model", str(model_file)],
        ):
            assert main(arguments) == 1
            [error] = capsys.readouterr().err.splitlines()
            assert_one_sentence(error, arguments[3])


def test_finished_records_are_read_from_a_read_only_disk(noisy, tmp_path):
    report = prepare(noisy, tmp_path / "records", size=120, validation_share=0.3, progress=False)
    with read_only(tmp_path / "records"):
        assert (
            prepare(noisy, tmp_path / "records", size=120, validation_share=0.3, progress=False)
            == report
        )
        for batches in (records.training_batches, records.validation_batches):
            assert len(list(batches(tmp_path / "records", 32, 2))) > 0


# ---------------------------------------------------------------- photographs that vanish


def test_source_that_vanishes_stops_the_run_and_is_not_taken_for_unfit(album, tmp_path):
    source, folder, log = tmp_path / "source", tmp_path / "records", tmp_path / "log"
    shutil.copytree(album, source)
    arguments = ["prepare", source, "-o", folder, "--size", "40", "--validation-share", "0.3"]
    process = start(*arguments, per_shard=5, log=log, before=sleep_at_every_batch)
    wait_for(folder / "done-00000.json", process)
    source.rename(tmp_path / "gone")
    process.join()
    assert process.exitcode == 1
    assert_one_sentence(log.read_text().splitlines()[-1], source, "gone", "bring it back")
    (tmp_path / "gone").rename(source)
    assert finish(*arguments, per_shard=5, log=log) == 0
    prepare(album, tmp_path / "whole", size=40, validation_share=0.3, progress=False)
    assert read_all(folder) == read_all(tmp_path / "whole")


def sleep_at_every_batch():
    plain = records.embed_inputs
    records.embed_inputs = lambda *arguments: time.sleep(0.3) or plain(*arguments)


# ---------------------------------------------------------------- clocks that jump


def jump():
    """The clock of this process jumps by years, forwards and backwards, whenever it is asked."""
    plain, dice = time.time, random.Random(0)
    time.time = lambda: plain() + dice.uniform(-10, 10) * 365 * 24 * 3600


@pytest.mark.faults
def test_clock_that_jumps_changes_nothing(
    bundled_records, never_stopped, finished_run, album, tmp_path
):
    shutil.copytree(finished_run, tmp_path / "run")
    for path, years in zip((tmp_path / "run").rglob("*"), (-40, 70, -20, 30) * 5):
        os.utime(
            path, times=(0, 0) if years < -30 else (time.time() + years * 365 * 24 * 3600,) * 2
        )
    assert (
        finish(
            "train",
            bundled_records,
            "-o",
            tmp_path / "run",
            *TRAIN[:4],
            "--epochs",
            "2",
            before=jump,
        )
        == 0
    )
    history = training.read_history(tmp_path / "run")
    assert_same_losses(history, never_stopped)
    assert all(0 <= row["seconds"] < 600 for row in history)
    assert finish("prepare", album, "-o", tmp_path / "records", "--size", "40", before=jump) == 0
    assert sum(map(len, read_all(tmp_path / "records").values())) == 36


# ---------------------------------------------------------------- damaged shards and checkpoints


@pytest.fixture
def copied(bundled_records, tmp_path):
    """Records of our own to be damaged."""
    return shutil.copytree(bundled_records, tmp_path / "records")


def test_shard_with_flipped_bytes_is_named(copied, tmp_path, capsys):
    shard = copied / "train-00000.tfrecord"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 255
    shard.write_bytes(data)
    assert main(["train", str(copied), "-o", str(tmp_path / "run"), *TRAIN]) == 1
    assert_one_sentence(
        capsys.readouterr().err.splitlines()[-1], shard, "delete it", "koala prepare"
    )
    shard.unlink()
    prepare("bundled", copied, size=64, validation_share=0.52, progress=False)
    assert len(read_all(copied)["train"]) == 6


@pytest.mark.parametrize(
    "damage",
    [
        lambda shard: shard.write_bytes(shard.read_bytes()[:-7]),
        os.remove,
        lambda shard: shard.write_bytes(b""),
    ],
    ids=["cut", "missing", "empty"],
)
def test_shard_of_another_size_is_noticed_before_the_training_and_made_anew(
    bundled_records, copied, tmp_path, damage
):
    damage(copied / "train-00000.tfrecord")
    with pytest.raises(RecordsError) as error:
        train(copied, tmp_path / "run", epochs=1, **SMALL)
    assert_one_sentence(error, copied, "00000.tfrecord", "koala prepare")
    assert not (tmp_path / "run" / "config.json").exists()
    prepare("bundled", copied, size=64, validation_share=0.52, progress=False)
    assert read_all(copied) == read_all(bundled_records)


def small_classifier(size):
    """A classifier that is built and compiled in a moment."""
    photo = keras.Input((size, size, 3))
    pooled = keras.layers.GlobalAveragePooling2D(name="pooling")(photo)
    return keras.Model(photo, keras.layers.Dense(1000)(pooled))


def test_adaptation_names_a_damaged_shard(copied, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "classifier_for", small_classifier)
    shard = copied / "train-00000.tfrecord"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 255
    shard.write_bytes(data)
    with pytest.raises(RecordsError) as error:
        training.adapt(copied, tmp_path / "run", epochs=1, size=32, batch=2, verbose=0)
    assert_one_sentence(error, shard, "delete it", "koala prepare")


def test_errors_of_tensorflow_are_explained(tmp_path):
    full = tf.errors.ResourceExhaustedError(None, None, "a.tfrecord; No space left on device")
    with pytest.raises(OSError) as error, explained(tmp_path):
        raise full
    assert error.value.errno == errno.ENOSPC and error.value.filename == str(tmp_path)
    gone = tf.errors.UnavailableError(None, None, "connection reset")
    with pytest.raises(WorkerError) as error, explained(tmp_path, workers=2):
        raise gone
    assert_one_sentence(error, "start all of them again")
    looked = []
    with pytest.raises(tf.errors.UnavailableError), explained(tmp_path, lambda: looked.append(1)):
        raise gone
    assert looked


def test_shard_of_other_contents_is_named(copied):
    shard = copied / "train-00000.tfrecord"
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for _ in range(6):
            writer.write(b"a record of something else")
    note = copied / "done-00000.json"
    entry = json.loads(note.read_text())
    note.write_text(
        json.dumps(
            entry | {"bytes": sum(path.stat().st_size for path in copied.glob("*.tfrecord"))}
        )
    )
    with pytest.raises(RecordsError) as error:
        records.check_shards(copied)
    assert_one_sentence(error, shard, "delete it")


def test_records_of_another_version_are_refused(copied, tmp_path):
    manifest = copied / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": 7}))
    for use in (
        lambda: train(copied, tmp_path / "run", epochs=1, **SMALL),
        lambda: prepare("bundled", copied, progress=False),
    ):
        with pytest.raises(RecordsError) as error:
            use()
        assert_one_sentence(error, manifest, "version 7", "version 1")


@pytest.mark.parametrize("name", ["manifest.json", "done-00000.json"])
@pytest.mark.parametrize("content", [b"", b'{"version": 1,', b"\xff\xfe\x00", b"[1, 2]"])
def test_damaged_notes_are_named(copied, tmp_path, name, content):
    (copied / name).write_bytes(content)
    with pytest.raises(ValueError) as error:
        train(copied, tmp_path / "run", epochs=1, **SMALL)
    assert_one_sentence(error, copied / name, "damaged")


@pytest.mark.parametrize(
    "other",
    [lambda: BUILDERS["koala-plus"](), lambda: BUILDERS["koala"](fusion=False)],
    ids=["koala-plus", "no fusion"],
)
def test_checkpoint_of_another_architecture_is_named(bundled_records, finished, tmp_path, other):
    run = shutil.copytree(finished[0], tmp_path / "run")
    checkpoint = run / "checkpoint-0002.weights.h5"
    network = other()
    network.compile(optimizer="adam")
    network.optimizer.build(network.trainable_variables)
    network.save_weights(checkpoint)
    with pytest.raises(TrainingError) as error:
        train(bundled_records, run, epochs=3, **TINY)
    assert_one_sentence(error, checkpoint, "delete it")


@pytest.mark.parametrize("name", ["config.json", "history.csv"])
def test_damaged_files_of_a_run_are_named(bundled_records, finished, tmp_path, name):
    run = shutil.copytree(finished[0], tmp_path / "run")
    (run / name).write_bytes(b"\xff\xfenothing of ours")
    with pytest.raises(ValueError) as error:
        train(bundled_records, run, epochs=3, **TINY)
    assert_one_sentence(error, run / name, "damaged")


# ---------------------------------------------------------------- hostile photographs


@pytest.mark.faults
def test_hostile_photographs_are_colored_or_named_and_none_stops_the_others(model_file, tmp_path):
    (tmp_path / "hostile").mkdir()
    expected = make_hostile(tmp_path / "hostile")
    assert len(expected) >= 200
    log = tmp_path / "log"
    assert (
        finish(
            "colorize",
            tmp_path / "hostile",
            "-o",
            tmp_path / "colored",
            "--model",
            model_file,
            log=log,
        )
        == 1
    )
    text = log.read_bytes().decode()  # read_text would change a name that holds a carriage return
    assert "Traceback" not in text
    outcomes = {"colored": [], "named": []}
    for path, fate in expected.items():
        shown = str(path).encode("utf-8", "backslashreplace").decode()
        first = f"{shown}, page 1" if path.name == SEVERAL_PAGES else shown
        [outcome] = [
            outcome
            for outcome, mark in (("colored", f"{first} -> "), ("named", f"left out {first}: "))
            if mark in text
        ]
        assert fate in (outcome, "either"), shown
        outcomes[outcome].append(path)
    more = PAGES - 1  # the other pages of one file
    colored = len(outcomes["colored"]) + more
    assert f"{colored} of {len(expected) + more} coloured" in text
    assert len(files_in(tmp_path / "colored")) == colored > 50
    stems = [path.stem for path in outcomes["colored"]]
    for path in outcomes["colored"]:  # where names are alike, some results have another one
        if stems.count(path.stem) == 1 and not path.name.startswith("48"):
            photo, result = read_photo(path), read_photo(tmp_path / "colored" / f"{path.stem}.png")
            assert photo.shape == result.shape
            assert np.abs(rgb2lab(grey_photo(photo)) - rgb2lab(result))[..., 0].mean() < 1, path
    assert int((tmp_path / "log.memory").read_text()) < 3e9


@pytest.mark.faults
def test_hostile_photographs_are_prepared_or_named(tmp_path):
    (tmp_path / "hostile").mkdir()
    expected = make_hostile(tmp_path / "hostile")
    log = tmp_path / "log"
    assert (
        finish("prepare", tmp_path / "hostile", "-o", tmp_path / "records", "--size", "40", log=log)
        == 0
    )
    report = prepare(tmp_path / "hostile", tmp_path / "records", size=40, progress=False)
    assert report["train"] + report["validation"] > 20
    assert not [
        path
        for path, fate in expected.items()
        if fate == "named"
        and path.is_file()
        and path.suffix in (".jpg", ".png")
        and str(path) not in report["skipped"]
    ]
    assert int((tmp_path / "log.memory").read_text()) < 3e9
