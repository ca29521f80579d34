"""network + records -> checkpoints, history, weights.

The algorithm is `train`, read from top to bottom: data, network, Adam on the loss (the paper's is
the mean squared error of chroma, Section 3.3 of arXiv 1712.03400), and what happens after every
epoch. `adapt` teaches a classifier to read grey photographs in the same way. A run is a folder:

    config.json                   the options of the run; other options are refused
    history.csv                   one line per epoch
    checkpoint-0007.weights.h5    weights and optimizer after 7 epochs; the run resumes the newest
    samples/epoch-0007.jpg        validation photographs: grey, output, truth
    tensorboard/                  tensorboard --logdir RUN
    koala.safetensors             the trained weights in half precision, when all epochs are done
"""

import contextlib
import csv
import io
import json
import math
import os
import platform
import time
from pathlib import Path

import numpy as np
from PIL import Image

from koala_utils import cluster, film, lab, records
from koala_utils.backend import explained, keras, tf
from koala_utils.embedding import BUNDLED, classifier_for
from koala_utils.files import DamagedError, alone, make_room, read_json, replacing, sweep
from koala_utils.losses import agreement, distillation, loss_for
from koala_utils.network import (
    BUILDERS,
    STRIDES,
    chroma_of,
    kind_of,
    load_encoder,
    trained_part,
)
from koala_utils.weights import find_weights, load_weights, read_metadata, save_weights

DEFAULTS = {
    "model": "koala",  # or "koala-plus", whose decoder is trained: its encoder is frozen
    "crop": 64,  # pixels; the network is fully convolutional, so you can go on with larger crops
    "batch": 32,
    "passes": 1,  # over the photographs per epoch; take more if they are few
    "learning_rate": 1e-3,  # the paper's
    "schedule": "constant",  # the paper's; or "cosine", down to a hundredth with a short warm-up
    "average": 0.0,  # momentum of an exponential average of the weights; 0 turns it off
    "mean_error": 0.0,  # weight of the squared error of koala-plus's cautious colours in the loss
    "fusion": True,  # False: the ablation without the embedding
    "seed": 0,
}
# The defaults if the training starts from a released model, which has learned already.
FINE_TUNING = {"crop": 96, "learning_rate": 1e-4}
FEW_STEPS = 20  # per epoch; a smaller batch gives more of them


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
    """Trains the colorization network. Called again on the same run, it goes on where it stopped.

    Several processes train together if `TF_CONFIG` says so: see :mod:`koala_utils.cluster`.

    Args:
        records_folder: of :func:`koala_utils.records.prepare`.
        run: the folder of this run.
        epochs: of the whole run, with those that are done. If more are done, they stay.
        start_from: a released model ("koala-plus") or a .safetensors file of another run, which
            decides the kind of the model. A released model is fine-tuned: its defaults are
            `FINE_TUNING` and its own weight of `mean_error`.
        dtype: "float32" or "mixed_bfloat16"; None takes what :func:`best_dtype` says.
        callbacks: more Keras callbacks.
        verbose: as in `keras.Model.fit`: 1 a progress bar, 2 one line per epoch, 0 nothing.
        **options: see `DEFAULTS`.

    Returns:
        The trained network, and the history as a list of dicts, one per epoch: loss, val_loss,
        ab_error, val_ab_error, and val_ratio, the validation's ab error as a share of plain grey's.

    Raises:
        TrainingError: options that cannot be used, or that differ from those of the run.
        RecordsError: the records are missing, damaged or fewer than a batch.
        WeightsError: `start_from` does not fit.
        BusyError: another process is training in the run's folder.
        OSError: the disk is full, or the folder cannot be written to.
    """
    options = complete(options, start_from)
    _check_numbers({"epochs": epochs})
    run, passes, batch = Path(run), options["passes"], options["batch"]
    prepared = records.manifest_of(records_folder)
    steps = passes * full_batches(records_folder, batch)
    workers = cluster.join()
    if batch % workers.count:
        raise TrainingError(
            f"a batch of {batch} cannot be shared out evenly to {workers.count} workers."
        )
    validation = records.validation_batches(records_folder, options["crop"], batch)
    keras.utils.set_random_seed(options["seed"])

    network = BUILDERS[options["model"]](fusion=options["fusion"], dtype=dtype or best_dtype())
    if options["model"] == "koala-plus":
        load_encoder(network)
        network.get_layer("encoder").trainable = False
    if start_from:
        load_weights(trained_part(network), find_weights(start_from))
    rate, average = options["learning_rate"], options["average"]
    network.compile(
        optimizer=cluster.Adam(
            cosine(rate, steps * epochs) if options["schedule"] == "cosine" else rate,
            use_ema=bool(average),
            ema_momentum=average or 0.99,
            workers=workers,
        ),
        loss=loss_for(options),
        metrics=[keras.metrics.MeanMetricWrapper(ab_errors, name="ab_error")],
    )

    def batches(first_epoch, count):
        share = workers.index, workers.count
        first, count = first_epoch * passes, count * passes
        return records.training_batches(
            records_folder, options["crop"], batch, options["seed"], first, count, share
        )

    each_epoch = [keras.callbacks.SwapEMAWeights()] if average else []
    each_epoch += [cluster.MeanLogs(workers), RatioToGrey(validation)]
    if workers.index == 0:
        each_epoch += [
            Samples(validation, run / "samples"),
            keras.callbacks.TensorBoard(run / "tensorboard"),
        ]
    asked = options | {"extractor": prepared["extractor"], "start_from": str(start_from)}
    # A cosine ends at the last epoch, so another number of epochs is another schedule.
    ends = {"epochs": epochs} if options["schedule"] == "cosine" else {}
    history = _fit(
        network,
        run,
        asked | ends,
        epochs,
        steps,
        records_folder,
        batches,
        validation,
        trained_part(network),
        options["model"],
        [*each_epoch, *callbacks],
        verbose,
        workers,
    )
    return network, history


def adapt(
    records_folder,
    run,
    epochs=2,
    size=240,
    batch=32,
    learning_rate=1e-4,
    seed=0,
    start_from=None,
    verbose="auto",
):
    """Adapts the bundled classifier to grey photographs. Called again on the same run, it goes on.

    The teacher sees the colour photograph, the student the grey one of a random film. The loss
    compares the standardized logits (squared difference), the probabilities (Kullback-Leibler
    divergence; Hinton, Vinyals and Dean, arXiv 1503.02531, 2015, equation 1) and the pooled
    features before the head (cosine distance).

    Args:
        records_folder: of :func:`koala_utils.records.prepare`; the stored embeddings are not used.
        run: the folder of this run, as in :func:`train`.
        size: side of the squares in pixels; the student answers best near that size.
        start_from: a .safetensors file of another run.

    Returns:
        The student, a Keras model like :func:`koala_utils.embedding.load_extractor`'s, and the
        history. Its agreement is the cosine similarity of the standardized logits; val_agreement
        is measured on validation photographs of plain panchromatic film.

    Raises:
        As :func:`train`.
    """
    _check_numbers({"epochs": epochs, "batch": batch, "learning_rate": learning_rate})
    steps = full_batches(records_folder, batch)
    validation = records.validation_squares(records_folder, size, batch)
    keras.utils.set_random_seed(seed)
    teacher, student = classifier_for(size), classifier_for(size)
    if start_from:
        load_weights(student, start_from)
    teacher, learner = logits_and_features(teacher), logits_and_features(student)

    def example(grey, rgb):
        return tf.repeat(grey, 3, axis=-1) * 2 - 1, teacher(rgb * 2 - 1, training=False)

    def batches(first_epoch, count):
        data = records.training_squares(records_folder, size, batch, seed, first_epoch, count)
        return data.map(
            lambda rgb, _, draws: example(film.random_film(rgb, draws[0] + (1, 0)), rgb)
        ).prefetch(2)

    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps * epochs, alpha=0.01)
    metric = keras.metrics.MeanMetricWrapper(agreement, name="agreement")
    learner.compile(keras.optimizers.Adam(rate), loss=distillation, metrics=[metric])
    asked = {"teacher": BUNDLED, "epochs": epochs, "size": size, "batch": batch, "seed": seed}
    asked |= {"learning_rate": learning_rate, "start_from": str(start_from)}
    history = _fit(
        learner,
        Path(run),
        asked,
        epochs,
        steps,
        records_folder,
        batches,
        validation.map(lambda rgb, _: example(film.to_grey(rgb), rgb)),
        student,
        f"{BUNDLED}_grey",
        verbose=verbose,
    )
    return student, history


def logits_and_features(classifier):
    """The classifier as a model of its logits and pooled features together: (N, 1000 + 1280)."""
    features = classifier.get_layer("pooling").output
    both = keras.ops.concatenate([classifier.output, features], axis=-1)
    return keras.Model(classifier.input, both)


def _fit(
    model,
    run,
    asked,
    epochs,
    steps,
    records_folder,
    batches,
    validation,
    trained,
    name,
    callbacks=(),
    verbose="auto",
    workers=None,
):
    """What every training does in its folder: claim it, load the newest checkpoint, fit, save.

    Args:
        model: compiled; `trained` is what is saved of it, as `name`.safetensors.
        asked: the content of config.json.
        steps: per epoch.
        batches: a function of (first epoch, number of epochs) that returns a dataset.

    Returns:
        The history.
    """
    workers = workers or cluster.Workers()
    first = workers.index == 0  # only the first of several workers writes
    with alone(run) if first else contextlib.nullcontext():
        if first:
            sweep(run)
            sweep(run / "samples")
            claim(run, asked)
        # TensorFlow traces a step twice if the optimizer makes its variables in the first one.
        model.optimizer.build(model.trainable_variables)
        done, history = resume(model, run)
        if not workers.agree(done):
            raise TrainingError(
                f"{run}: the workers found different checkpoints there; give all of them the same"
                " shared folder."
            )
        if done >= epochs:  # the checkpoint holds the weights before averaging
            model.optimizer.finalize_variable_values(model.trainable_variables)
        else:
            with explained(run, lambda: records.check_shards(records_folder), workers.count):
                model.fit(
                    batches(done, epochs - done),
                    steps_per_epoch=steps,
                    initial_epoch=done,
                    epochs=epochs,
                    validation_data=validation,
                    verbose=verbose if first else 0,
                    shuffle=False,  # the records are shuffled already
                    # The checkpoint comes last: it means that the whole epoch is done.
                    callbacks=[*callbacks, Checkpoint(run, history, first)],
                )
        if first:
            about = {key: value for key, value in asked.items() if key != "start_from"}
            save_weights(trained, run / f"{name}.safetensors", about | {"epochs": len(history)})
    return history


def complete(options, start_from=None):
    """The options of a training, with defaults for those that are missing; see :func:`train`.

    Raises:
        TrainingError: an unknown option, or a value that cannot be used.
        WeightsError: `start_from` is not a weights file.
    """
    unknown = options.keys() - DEFAULTS.keys()
    if unknown:
        raise TrainingError(
            f"no such training option: {', '.join(unknown)}; there are {', '.join(DEFAULTS)}."
        )
    defaults = dict(DEFAULTS)
    if start_from:
        began = read_metadata(find_weights(start_from))
        defaults["model"] = kind_of(began, start_from)
        defaults["fusion"] = began.get("fusion") != "False"
        if not str(start_from).endswith(".safetensors"):
            defaults |= FINE_TUNING | {"mean_error": float(began.get("mean_error", 0))}
    options = defaults | options
    model, stride = options["model"], STRIDES.get(options["model"])
    if model not in BUILDERS:
        raise TrainingError(f"no model is called {model!r}; there are {', '.join(BUILDERS)}.")
    if options["mean_error"] and model != "koala-plus":
        raise TrainingError(
            f"mean_error adds to koala-plus's cross-entropy; {model}'s loss is that error already."
        )
    if options["schedule"] not in ("constant", "cosine"):
        raise TrainingError(
            f"no schedule is called {options['schedule']!r}; there are constant and cosine."
        )
    _check_numbers(options)
    if options["crop"] % stride:
        raise TrainingError(
            f"a crop of {options['crop']} px is not a multiple of {stride}, as the network needs."
        )
    return options


def _check_numbers(options):
    for key in ("epochs", "crop", "batch", "passes"):
        if options.get(key, 1) < 1:
            raise TrainingError(f"{key} is {options[key]}, and must be at least 1.")
    for key in ("learning_rate", "mean_error", "average"):
        value, most = options.get(key, 0), 1 if key == "average" else math.inf
        if not 0 <= value < most:  # nan is refused, too
            raise TrainingError(
                f"{key.replace('_', ' ')} is {value}, and must be a number from 0"
                f" {'to less than 1' if most == 1 else 'up'}."
            )


def summary(model, history, run):
    """The result of a training in words, from what :func:`train` or :func:`adapt` returned."""
    last = history[-1]
    if "val_ratio" not in last:
        return (
            f"{len(history)} epochs done; agreement with the colour photographs' logits on"
            f" validation photographs {last['val_agreement']:.3f}; weights in {run}"
        )
    text = (
        f"{len(history)} epochs done; squared ab error on validation photographs"
        f" {last['val_ratio']:.3f} of grey's; weights in {Path(run) / model.name}.safetensors"
    )
    if not last["val_ratio"] <= 1:
        steps = int(model.optimizer.iterations) // len(history)
        text += (
            "\nWarning: above 1 is worse than no colour at all. Train for more epochs"
            + (
                f", or with a smaller batch: an epoch has only {steps} step{'s' * (steps > 1)}"
                if steps < FEW_STEPS
                else ""
            )
            + "."
        )
    return text


def full_batches(records_folder, batch):
    """How many full batches the photographs for training make.

    Raises:
        TrainingError: not even one.
    """
    count = records.count_records(records_folder, "train") // batch
    if not count:
        raise TrainingError(
            f"{records_folder}: fewer photographs for training than one batch of {batch};"
            " prepare more, or choose a smaller batch."
        )
    return count


def ab_errors(chroma, output):
    """The squared error of each photograph's chroma in [-1, 1]: (N,)."""
    return keras.ops.mean((chroma_of(output) - chroma) ** 2, axis=(1, 2, 3))


def cosine(rate, steps):
    """A learning rate that rises to `rate` and then falls along a cosine to a hundredth of it."""
    warmup = min(500, steps // 10)
    return keras.optimizers.schedules.CosineDecay(
        rate / 10, steps - warmup, alpha=0.01, warmup_target=rate, warmup_steps=warmup
    )


def best_dtype():
    """ "mixed_bfloat16" if the GPU or CPU computes in it, else "float32"."""
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
    python, tensorflow = platform.python_version(), tf.__version__
    return f"{hardware}; Python {python}, TensorFlow {tensorflow}, Keras {keras.__version__}"


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


# ---------------------------------------------------------------- the run's folder


def claim(run, config):
    """Writes the run's config.json, or compares the options with it if it is there."""
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
                f"{run}: was begun with {', '.join(differs)}; choose another folder, or delete this"
                " one."
            )
        return
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(config, indent=1), encoding="utf-8")


def resume(network, run):
    """Loads the newest checkpoint of a run; returns how many epochs are done, and their history."""
    if not (checkpoints := checkpoints_of(run)):
        return 0, []
    done, newest = max(checkpoints.items())
    try:
        network.load_weights(newest)
    except Exception as error:
        raise TrainingError(
            f"{newest}: damaged or of another architecture; delete it to go on from the"
            " checkpoint before."
        ) from error
    history = read_history(run)[:done]
    if len(history) < done:
        raise DamagedError(f"{run / 'history.csv'}: damaged; choose another folder for this run.")
    return done, history


def checkpoints_of(run):
    """The checkpoints of a run: a dict from epochs done to path, the newest last."""
    paths = Path(run).glob("checkpoint-*.weights.h5")
    return dict(
        sorted((int(path.name[len("checkpoint-") :].split(".")[0]), path) for path in paths)
    )


def read_history(run):
    """The history of a run's folder, or of a csv file: a list of dicts of floats, one per epoch."""
    path = Path(run)
    path = path / "history.csv" if path.is_dir() else path
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            return [
                {key: float(value) for key, value in row.items()} for row in csv.DictReader(lines)
            ]
    except (ValueError, TypeError, csv.Error):
        raise DamagedError(f"{path}: damaged; choose another folder for this run.") from None


class Checkpoint(keras.callbacks.Callback):
    """Writes the history and a checkpoint after every epoch, and keeps the last two checkpoints."""

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
            variables = self.model.variables + self.model.optimizer.variables
            values = sum(math.prod(variable.shape) for variable in variables)
            make_room(temporary, 4 * values + 2**20)  # h5py does not recover from a full disk
            self.model.save_weights(temporary)
        for old in list(checkpoints_of(self.run).values())[:-2]:
            old.unlink()


class RatioToGrey(keras.callbacks.Callback):
    """Adds val_ratio to the history: the validation's squared ab error as a share of plain grey's.

    Photographs differ in how colourful they are, so the error alone says little. A ratio of 1 is as
    bad as no colour at all.
    """

    def __init__(self, validation):
        super().__init__()
        errors = [(chroma**2).mean((1, 2, 3)) for _, chroma in validation.as_numpy_iterator()]
        self.grey = float(np.concatenate(errors).mean())

    def on_epoch_end(self, epoch, logs=None):
        logs["val_ratio"] = logs["val_ab_error"] / self.grey


class Samples(keras.callbacks.Callback):
    """After every epoch: a sheet of validation photographs in three rows: grey, output, truth."""

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
