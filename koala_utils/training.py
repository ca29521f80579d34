"""network + records -> checkpoints, history, weights.

The algorithm is `train`, read from top to bottom: data, network, Adam on the mean squared error of
chroma (Section 3.3 of arXiv 1712.03400; koala-plus: on the cross-entropy of its bins), and what happens after
every epoch. A run is a folder:

    config.json                   what was asked for; another request for the same folder is refused
    history.csv                   a line an epoch
    checkpoint-0007.weights.h5    weights and optimizer after 7 epochs: the run goes on from the newest
    samples/epoch-0007.jpg        validation photographs: grey, output, truth
    tensorboard/                  tensorboard --logdir RUN
    koala.safetensors             (or koala-plus.) the trained weights in half precision, when all epochs are done
"""

import contextlib
import csv
import errno
import io
import json
import os
import platform
import time
from pathlib import Path

import numpy as np
from PIL import Image

from koala_utils import cluster, film, lab, records
from koala_utils.backend import keras, tf
from koala_utils.embedding import classifier_for, load_extractor, standardized
from koala_utils.files import DamagedError, alone, make_room, read_json, replacing, sweep
from koala_utils.losses import ab_error, loss_for
from koala_utils.network import BUILDERS, STRIDES, chroma_of, freeze_encoder, load_encoder
from koala_utils.weights import load_weights, save_weights

ENCODER = "mobilenet_v2_grey"  # the classifier whose feature maps koala-plus begins with

DEFAULTS = {
    "model": "koala",  # or "koala-plus"
    "crop": 64,  # pixels; start small, finish larger: the network is fully convolutional
    "batch": 32,
    "passes": 1,  # over the photographs in an epoch; more where they are few, for every epoch ends in a checkpoint
    "learning_rate": 1e-3,  # the paper's
    "schedule": "constant",  # the paper's; or "cosine", down to a hundredth with a short warm-up
    "average": 0.0,  # momentum of an exponential average of the weights; 0 turns it off
    "mean_error": 0.0,  # weight of the squared error of koala-plus's cautious colors, beside its cross-entropy
    "perceptual": 0.0,  # weight of koala_utils.losses's distance, at vividness 0.5, in the loss
    "freeze": False,  # True: koala-plus's encoder stays as its classifier left it, and only the decoder learns
    "fusion": True,  # False: the ablation without the embedding
    "seed": 0,
}


class TrainingError(ValueError):
    """A training that cannot begin or go on; the message says why."""


def train(
    records_folder,
    run,
    epochs=10,
    start_from=None,
    dtype=None,
    callbacks=(),
    verbose="auto",
    **options,
):
    """Trains the colorization network; called again on the same run, it goes on where that stopped.

    Several processes train together where `TF_CONFIG` says so: see :mod:`koala_utils.cluster`.

    Args:
        records_folder: of :func:`koala_utils.records.prepare`.
        run: the folder of this run.
        epochs: in all, the earlier ones of a continued run included.
        start_from: weights (safetensors) of another run to begin with, to train on at a larger size.
        dtype: "float32" or "mixed_bfloat16"; None takes the latter where the machine computes in it.
        callbacks: more Keras callbacks.
        verbose: as in `keras.Model.fit`: 1 a progress bar, 2 a line an epoch, 0 nothing.
        **options: see `DEFAULTS`.

    Returns:
        The trained network, and the history as a list of dicts, one an epoch: loss and val_loss, ab_error and
        val_ab_error, and val_ratio, the validation's squared ab error as a share of plain grey's.

    Raises:
        TrainingError: the run was begun with other options, or the photographs do not fill a batch.
        RecordsError: no records, or damaged ones.
        BusyError: another process is training in the run's folder.
    """
    unknown = options.keys() - DEFAULTS.keys()
    if unknown:
        raise TrainingError(
            f"no such training option: {', '.join(unknown)}; there are {', '.join(DEFAULTS)}."
        )
    options = DEFAULTS | options
    if options["model"] not in BUILDERS:
        raise TrainingError(
            f"no model is called {options['model']!r}; there are {', '.join(BUILDERS)}."
        )
    if options["freeze"] and options["model"] != "koala-plus":
        raise TrainingError(
            f"freeze keeps koala-plus's pretrained encoder as it is; {options['model']} has none."
        )
    if options["mean_error"] and options["model"] != "koala-plus":
        raise TrainingError(
            f"mean_error adds to koala-plus's cross-entropy; {options['model']}'s loss is that error already."
        )
    stride = STRIDES[options["model"]]
    if options["crop"] % stride:
        raise TrainingError(
            f"a crop of {options['crop']} px is not a multiple of {stride}, which the network needs."
        )
    run = Path(run)
    prepared = records.manifest_of(records_folder)
    passes, batch = options["passes"], options["batch"]
    steps = passes * full_batches(records_folder, batch)
    workers = cluster.join()
    if batch % workers.count:
        raise TrainingError(
            f"a batch of {batch} cannot be shared out evenly to {workers.count} workers."
        )
    validation = records.validation_batches(records_folder, options["crop"], batch)
    keras.utils.set_random_seed(options["seed"])

    network = BUILDERS[options["model"]](fusion=options["fusion"], dtype=dtype or best_dtype())
    if start_from:
        load_weights(network, start_from)
    elif options["model"] == "koala-plus":
        load_encoder(network, load_extractor(ENCODER))
    if options["freeze"]:
        freeze_encoder(network)
    optimizer = _optimizer(options, steps * epochs, workers)
    network.compile(optimizer=optimizer, loss=loss_for(options), metrics=[ab_error])
    # A cosine ends at the last epoch: with another number of epochs it would be another schedule.
    ends = {"epochs": epochs} if options["schedule"] == "cosine" else {}
    with (
        alone(run) if workers.index == 0 else contextlib.nullcontext()
    ):  # of several workers, the first one writes
        if workers.index == 0:
            sweep(run)
            sweep(run / "samples")
            claim(
                run,
                options
                | ends
                | {"extractor": prepared["extractor"], "start_from": str(start_from)},
            )
        first_epoch, history = resume(network, run)
        if float(workers.mean([tf.constant(float(first_epoch))])[0]) != first_epoch:
            raise TrainingError(
                f"{run}: the workers found different checkpoints there; give all of them the same shared folder."
            )
        if (
            first_epoch >= epochs
        ):  # nothing left to train; the checkpoint holds the weights before averaging
            optimizer.finalize_variable_values(network.trainable_variables)
        else:
            training = records.training_batches(
                records_folder,
                options["crop"],
                batch,
                options["seed"],
                first_epoch * passes,
                (epochs - first_epoch) * passes,
                (workers.index, workers.count),
            )
            with _explained(records_folder, run, workers):
                network.fit(
                    training.map(_with_lightness),
                    steps_per_epoch=steps,
                    initial_epoch=first_epoch,
                    epochs=epochs,
                    validation_data=validation.map(_with_lightness),
                    verbose=verbose if workers.index == 0 else 0,
                    shuffle=False,  # the records are shuffled already
                    callbacks=[
                        *([keras.callbacks.SwapEMAWeights()] if options["average"] else []),
                        cluster.MeanLogs(workers),
                        RatioToGrey(validation),
                        *(
                            [
                                Samples(validation, run / "samples"),
                                keras.callbacks.TensorBoard(run / "tensorboard"),
                            ]
                            if workers.index == 0
                            else []
                        ),
                        *callbacks,
                        Checkpoint(
                            run, history, writes=workers.index == 0
                        ),  # last: a checkpoint means the whole epoch is done
                    ],
                )
        if workers.index == 0:
            save_weights(
                network,
                run / f"{options['model']}.safetensors",
                {"extractor": prepared["extractor"], "epochs": epochs, **options},
            )
    return network, history


def full_batches(records_folder, batch):
    """How many whole batches the photographs for training fill.

    Raises:
        TrainingError: not one.
    """
    count = records.count_records(records_folder, "train") // batch
    if not count:
        raise TrainingError(
            f"{records_folder}: fewer photographs for training than one batch of {batch};"
            " prepare more, or choose a smaller batch."
        )
    return count


@contextlib.contextmanager
def _explained(records_folder, run, workers):
    """TensorFlow's errors in a training that have a reason which we can name."""
    try:
        yield
    except (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
    ) as error:
        if workers.count == 1:
            raise
        raise TrainingError(
            "another worker is gone; start all of them again, and they go on from the last checkpoint."
        ) from error
    except tf.errors.OpError as error:
        if "No space left" in str(error):  # TensorBoard's writer
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(run)) from error
        records.check_shards(records_folder)
        raise


def _with_lightness(inputs, chroma):
    """The truth as the losses take it, (N, H, W, 3): chroma and, for those that look at whole colours, lightness."""
    return inputs, tf.concat([chroma, inputs[0]], axis=-1)


def _optimizer(options, steps, workers):
    rate = options["learning_rate"]
    if options["schedule"] == "cosine":
        rate = cosine(rate, steps)
    elif options["schedule"] != "constant":
        raise TrainingError(
            f"no schedule is called {options['schedule']!r}; there are constant and cosine."
        )
    average = options["average"]
    return cluster.Adam(rate, use_ema=bool(average), ema_momentum=average or 0.99, workers=workers)


def cosine(rate, steps):
    """A learning rate that rises from a tenth of `rate` to it over the first steps, and falls along a cosine to a hundredth."""
    warmup = min(500, steps // 10)
    return keras.optimizers.schedules.CosineDecay(
        rate / 10, steps - warmup, alpha=0.01, warmup_target=rate, warmup_steps=warmup
    )


def best_dtype():
    """ "mixed_bfloat16" where the GPU or CPU multiplies in it, else "float32" (elsewhere it is emulated, slowly)."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get(
            "compute_capability", (0, 0)
        )
        return "mixed_bfloat16" if capability >= (8, 0) else "float32"
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "float32"
    return "mixed_bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def machine():
    """One line that describes the hardware and versions, for logs and model cards."""
    gpus = [
        tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    hardware = ", ".join(gpus) or f"{os.cpu_count()} CPU cores ({_processor()})"
    return f"{hardware}; Python {platform.python_version()}, TensorFlow {tf.__version__}, Keras {keras.__version__}"


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


# ---------------------------------------------------------------- the run's folder


def claim(run, config):
    """Writes the run's config.json, or compares with the one that is there."""
    path = run / "config.json"
    if path.exists():
        before = read_json(path, "choose another folder for this run")
        differs = [
            f"{key} {before.get(key)} instead of {config[key]}"
            for key in config
            if before.get(key) != config[key]
        ]
        if differs:
            raise TrainingError(
                f"{run}: was begun with {', '.join(differs)}; choose another folder or delete this one."
            )
        return
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(config, indent=1), encoding="utf-8")


def resume(network, run):
    """Loads the newest checkpoint of a run: the number of epochs that are done, and their history."""
    checkpoints = sorted(run.glob("checkpoint-*.weights.h5"))
    if not checkpoints:
        return 0, []
    network.optimizer.build(network.trainable_variables)
    try:
        network.load_weights(checkpoints[-1])
    except Exception as error:
        raise TrainingError(
            f"{checkpoints[-1]}: damaged or of another architecture; delete it to go on from the"
            " checkpoint before."
        ) from error
    done = int(checkpoints[-1].name.split("-")[1].split(".")[0])
    history = read_history(run)[:done]
    if len(history) < done:
        raise DamagedError(f"{run / 'history.csv'}: damaged; choose another folder for this run.")
    return done, history


def read_history(run):
    """The history of a run's folder, or of a csv file: a list of dicts of floats, one an epoch."""
    path = Path(run)
    path = path / "history.csv" if path.is_dir() else path
    try:
        with open(path, newline="", encoding="utf-8") as lines:
            return [
                {key: float(value) for key, value in row.items()} for row in csv.DictReader(lines)
            ]
    except (ValueError, TypeError, csv.Error):
        raise DamagedError(f"{path}: damaged; choose another folder for this run.") from None


class Checkpoint(keras.callbacks.Callback):
    """After every epoch: the history, then the checkpoint; each file is whole or not there, and the last two are kept."""

    def __init__(self, run, history, writes=True):
        super().__init__()
        self.run, self.history, self.writes = Path(run), history, writes

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        row = {
            "epoch": epoch + 1,
            **{key: float(value) for key, value in logs.items()},
            "seconds": round(time.monotonic() - self.began, 1),
        }
        self.history.append(row)
        if not self.writes:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, row, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        with replacing(self.run / "history.csv") as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")
        with replacing(self.run / f"checkpoint-{epoch + 1:04d}.weights.h5") as temporary:
            values = sum(
                np.prod(variable.shape)
                for variable in self.model.variables + self.model.optimizer.variables
            )
            make_room(
                temporary, 4 * int(values) + 2**20
            )  # h5py does not get over a disk that is full
            self.model.save_weights(temporary)
        for old in sorted(self.run.glob("checkpoint-*.weights.h5"))[:-2]:
            old.unlink()


class RatioToGrey(keras.callbacks.Callback):
    """Adds val_ratio to the history: the validation's squared ab error as a share of plain grey's.

    A loss alone says little: photographs differ in how colourful they are. 1 is as bad as no colour at all.
    """

    def __init__(self, validation):
        super().__init__()
        self.grey = float(
            np.mean(
                np.concatenate(
                    [
                        np.mean(np.square(chroma), axis=(1, 2, 3))
                        for _, chroma in validation.as_numpy_iterator()
                    ]
                )
            )
        )

    def on_epoch_end(self, epoch, logs=None):
        logs["val_ratio"] = logs["val_ab_error"] / self.grey


class Samples(keras.callbacks.Callback):
    """After every epoch: a sheet of validation photographs as grey, output and truth, one below the other."""

    def __init__(self, validation, folder, photographs=8):
        super().__init__()
        (self.lightness, self.embedding), self.truth = next(
            validation.unbatch().batch(photographs).as_numpy_iterator()
        )
        self.folder = Path(folder)

    def on_epoch_end(self, epoch, logs=None):
        output = chroma_of(self.model([self.lightness, self.embedding], training=False))
        rows = [
            lab.to_rgb(self.lightness, chroma)
            for chroma in (np.zeros_like(self.truth), output, self.truth)
        ]
        sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
        with replacing(self.folder / f"epoch-{epoch + 1:04d}.jpg") as temporary:
            Image.fromarray(np.round(sheet * 255).astype(np.uint8)).save(
                temporary, "JPEG", quality=92
            )


# ---------------------------------------------------------------- distillation of the classifier

TEACHER = "mobilenet_v2"


def adapt(
    records_folder,
    run,
    epochs=2,
    size=224,
    batch=32,
    learning_rate=1e-4,
    seed=0,
    start_from=None,
    verbose="auto",
):
    """Adapts the bundled MobileNetV2 to grey photographs; called again on the same run, it goes on.

    The loss is the mean squared difference of the standardized logits, which is 2 (1 - agreement), where agreement
    is their cosine similarity. Batch normalization keeps the teacher's statistics.

    Args:
        records_folder: of :func:`koala_utils.records.prepare`; the stored embeddings are not used.
        run: the folder of this run, as in :func:`koala_utils.training.train`.
        size: side of the squares in pixels; 160 is three times as fast as the classifier's own 224.
        start_from: weights of another run to begin with.

    Returns:
        The student, a Keras model like :func:`koala_utils.embedding.load_extractor`'s, and the history; its
        val_loss is measured on validation photographs of plain panchromatic film.

    Raises:
        TrainingError, RecordsError, BusyError: as :func:`koala_utils.training.train`.
    """
    run = Path(run)
    steps = full_batches(records_folder, batch)
    keras.utils.set_random_seed(seed)
    teacher, student = classifier_for(size, TEACHER), classifier_for(size, TEACHER)
    if start_from:
        load_weights(student, start_from)
    for layer in student.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)

    def opinion(rgb):
        return standardized(teacher(rgb * 2 - 1, training=False))

    def training_example(rgb, _, draws):
        return tf.repeat(film.random_film(rgb, draws[0] + (1, 0)), 3, axis=-1) * 2 - 1, opinion(rgb)

    def validation_example(rgb, _):
        return tf.repeat(film.to_grey(rgb), 3, axis=-1) * 2 - 1, opinion(rgb)

    learner = keras.Model(student.input, standardized(student.output))
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps * epochs, alpha=0.01)
    learner.compile(optimizer=keras.optimizers.Adam(rate), loss="mse")
    with alone(run):
        sweep(run)
        claim(
            run,
            {
                "epochs": epochs,
                "size": size,
                "batch": batch,
                "learning_rate": learning_rate,
                "seed": seed,
                "start_from": str(start_from),
            },
        )
        first_epoch, history = resume(learner, run)
        if first_epoch < epochs:
            squares = records.training_squares(
                records_folder, size, batch, seed, first_epoch, epochs - first_epoch
            )
            learner.fit(
                squares.map(training_example).prefetch(2),
                steps_per_epoch=steps,
                initial_epoch=first_epoch,
                epochs=epochs,
                validation_data=records.validation_squares(records_folder, size, batch).map(
                    validation_example
                ),
                verbose=verbose,
                shuffle=False,
                callbacks=[Checkpoint(run, history)],
            )
        save_weights(
            student,
            run / f"{TEACHER}_grey.safetensors",
            {"teacher": TEACHER, "epochs": epochs, "size": size},
        )
    return student, history
