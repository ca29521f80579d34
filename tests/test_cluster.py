"""Several workers train as one: two real processes on this machine, and what is left when one of
them is killed.
"""

import json
import socket
import time

import numpy as np
import pytest
from helpers import files_in, finish, start
from safetensors.numpy import load_file

from koala_utils import records, training
from koala_utils.cluster import Workers
from koala_utils.training import TrainingError

TRAIN = ["--crop", "32", "--batch", "6", "--passes", "3", "--epochs", "3", "--average", "0.9"]


@pytest.fixture
def workers(monkeypatch, bundled_records, tmp_path):
    """Starts `koala train` as two workers; their logs are worker-0.log and worker-1.log."""
    processes = []

    def launch(run, *arguments):
        addresses = []
        for _ in range(2):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                addresses.append(f"127.0.0.1:{free.getsockname()[1]}")
        pair = []
        for index in range(2):
            monkeypatch.setenv(
                "TF_CONFIG",
                json.dumps(
                    {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
                ),
            )
            pair.append(
                start(
                    "train",
                    bundled_records,
                    "-o",
                    run,
                    *arguments,
                    log=tmp_path / f"worker-{index}.log",
                )
            )
        monkeypatch.delenv("TF_CONFIG")
        processes.extend(pair)
        return pair

    yield launch
    for process in processes:
        process.kill()
        process.join()


EIGHT = [*TRAIN[:-4], "--epochs", "8", "--learning-rate", "1e-4"]


@pytest.fixture(scope="module")
def eight_epochs(bundled_records, tmp_path_factory):
    """The losses of one worker in eight epochs."""
    run = tmp_path_factory.mktemp("one")
    assert finish("train", bundled_records, "-o", run, *EIGHT) == 0
    assert len(losses(run)) == 8
    return losses(run)


def log(tmp_path, index):
    return (tmp_path / f"worker-{index}.log").read_text()


def losses(run):
    return [
        [row[key] for key in ("epoch", "loss", "val_loss")] for row in training.read_history(run)
    ]


@pytest.mark.faults
@pytest.mark.parametrize(
    "more", [[], ["--model", "koala-plus", "--schedule", "cosine"]], ids=["koala", "koala-plus"]
)
def test_two_workers_have_the_losses_of_one_with_the_whole_batch(
    workers, bundled_records, tmp_path, more
):
    assert finish("train", bundled_records, "-o", tmp_path / "one", *TRAIN, *more) == 0
    for index, process in enumerate(workers(tmp_path / "two", *TRAIN, *more)):
        process.join()
        assert process.exitcode == 0, log(tmp_path, index)
    assert np.abs(np.subtract(losses(tmp_path / "two"), losses(tmp_path / "one"))).max() < 1e-4
    one, two = (load_file(next((tmp_path / run).glob("*.safetensors"))) for run in ("one", "two"))
    assert max(np.abs(one[name].astype(np.float32) - two[name]).max() for name in one) < 2e-3
    assert [name for name in files_in(tmp_path / "two") if "events" not in name] == [
        name for name in files_in(tmp_path / "one") if "events" not in name
    ]


@pytest.mark.faults
@pytest.mark.parametrize("victim", [0, 1], ids=["the first", "another"])
def test_worker_that_is_killed_stops_all_and_all_go_on_from_the_checkpoint(
    workers, eight_epochs, tmp_path, victim
):
    pair = workers(tmp_path / "two", *EIGHT)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "two").glob("checkpoint-0002*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    pair[victim].kill()
    pair[1 - victim].join(300)
    assert not pair[1 - victim].is_alive(), "the other one waits for ever"
    assert pair[1 - victim].exitcode != 0
    for index, process in enumerate(workers(tmp_path / "two", *EIGHT)):
        process.join()
        assert process.exitcode == 0, log(tmp_path, index)
    assert np.abs(np.subtract(losses(tmp_path / "two"), eight_epochs)).max() < 1e-4


def test_shares_of_a_batch_are_the_batch(bundled_records):
    def batches(**options):
        return list(
            records.training_batches(
                bundled_records, 32, 6, epochs=2, **options
            ).as_numpy_iterator()
        )

    whole, shares = batches(), [batches(share=(i, 3)) for i in range(3)]
    assert len(whole) == len(shares[0]) == 2
    for number, ((lightness, embedding), chroma) in enumerate(whole):
        for i, share in enumerate(shares):
            (my_lightness, my_embedding), my_chroma = share[number]
            assert my_lightness.shape == (2, 32, 32, 1)
            for mine, all_of in (
                (my_lightness, lightness),
                (my_embedding, embedding),
                (my_chroma, chroma),
            ):
                assert np.array_equal(mine, all_of[i::3])
        assert not np.array_equal(lightness[0], lightness[1])


@pytest.mark.parametrize("numbers, agree", [([3, 3, 3], True), ([0, 2, 1], False), ([0], True)])
def test_workers_agree_only_where_all_have_the_same_number(numbers, agree):
    for index, number in enumerate(numbers):  # the third of 0, 2, 1 has their mean
        mean = np.mean(numbers)
        answers = iter([mean, np.mean(np.abs(numbers - mean))])
        workers = Workers(index, len(numbers))
        if workers.count > 1:
            workers.mean = lambda _, answers=answers: [next(answers)]
        assert workers.agree(number) == agree


def test_batch_that_cannot_be_shared_out_is_refused(monkeypatch, bundled_records, tmp_path):
    monkeypatch.setattr(training.cluster, "join", lambda: training.cluster.Workers(0, 4, None))
    with pytest.raises(TrainingError) as error:
        training.train(bundled_records, tmp_path, epochs=1, crop=32, batch=6)
    assert "batch of 6" in str(error.value) and "4 workers" in str(error.value)
