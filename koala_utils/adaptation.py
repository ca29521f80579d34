"""A classifier that learned in colour -> the same classifier for grey, old and damaged photographs.

Distillation with no labels (Hinton, Vinyals and Dean, arXiv 1503.02531, 2015): the *teacher* is the pretrained
classifier, shown the colour photograph; the *student* begins as a copy of it, is shown the grey photograph that
a random film made, and learns to have the teacher's opinion.
"""

from pathlib import Path

from koala_utils import film, records
from koala_utils.backend import keras, tf
from koala_utils.embedding import classifier_for, standardized
from koala_utils.files import alone, sweep
from koala_utils.training import Checkpoint, claim, full_batches, resume
from koala_utils.weights import load_weights, save_weights

TEACHER = "mobilenet_v2"


def adapt(records_folder, run, epochs=2, size=224, batch=32, learning_rate=1e-4, seed=0, start_from=None, verbose="auto"):
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
        claim(run, {"epochs": epochs, "size": size, "batch": batch, "learning_rate": learning_rate, "seed": seed,
                    "start_from": str(start_from)})
        first_epoch, history = resume(learner, run)
        if first_epoch < epochs:
            squares = records.training_squares(records_folder, size, batch, seed, first_epoch, epochs - first_epoch)
            learner.fit(squares.map(training_example).prefetch(2), steps_per_epoch=steps, initial_epoch=first_epoch, epochs=epochs,
                        validation_data=records.validation_squares(records_folder, size, batch).map(validation_example),
                        verbose=verbose, shuffle=False, callbacks=[Checkpoint(run, history)])
        save_weights(student, run / f"{TEACHER}_grey.safetensors", {"teacher": TEACHER, "epochs": epochs, "size": size})
    return student, history
