"""Keras and TensorFlow: imported without notices, errors explained, trained models compiled."""

import contextlib
import errno
import functools
import gc
import os
import sys
import tempfile


@contextlib.contextmanager
def _without_notices():
    """Holds back the notices of TensorFlow's start, unless the import fails."""
    try:
        sys.stderr.flush()
        terminal = os.dup(2)
    except (AttributeError, OSError, ValueError):  # standard error is closed: nothing is shown
        yield
        return
    with tempfile.TemporaryFile() as notices:
        os.dup2(notices.fileno(), 2)
        try:
            yield
        except BaseException:
            notices.seek(0)
            os.write(terminal, notices.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


with _without_notices():
    gc.disable()  # garbage collection takes a sixth of the time of these imports, and finds nothing
    import keras

    if keras.backend.backend() == "tensorflow":  # networks run on any backend, data only here
        import tensorflow as tf

        tf.config.list_physical_devices()  # the search for a GPU writes notices, too
    gc.enable()

__all__ = ["compiled", "explained", "keras", "tf"]

LARGE = 20_000_000  # weights of a model; copies of more take too much memory


class WorkerError(ValueError):
    """Another worker of a training is gone."""


@contextlib.contextmanager
def explained(folder, find_damage=lambda: None, workers=1):
    """Context that turns TensorFlow's errors into errors that say what to do.

    Other errors pass through.

    Args:
        folder: where files are written in the context.
        find_damage: a function that looks for a damaged input and raises an error with its name.
        workers: the number of processes that train together.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
        WorkerError: another worker is gone.
    """
    try:
        yield
    except tf.errors.OpError as error:
        errors = tf.errors
        gone = errors.UnavailableError, errors.AbortedError, errors.CancelledError
        if workers > 1 and isinstance(error, (*gone, errors.DeadlineExceededError)):
            raise WorkerError(
                "another worker is gone; start all of them again, and they go on from the last"
                " checkpoint."
            ) from error
        for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO):
            if os.strerror(code) in str(error):
                raise OSError(code, os.strerror(code), str(folder)) from error
        find_damage()
        raise


@functools.lru_cache(4)
def compiled(model):
    """A trained model as a compiled function of its inputs, for batches of any size.

    The weights become constants, which TensorFlow lays out once for the processor. A `LARGE` model
    such as Inception-ResNet-v2 keeps its variables. Compiling takes as long as a few uncompiled
    calls.

    Returns:
        A function that is called like the model, with one float32 array or a list of them, and
        returns a tensor. It has the model's `name`.
    """
    weights = model.trainable_variables, model.non_trainable_variables
    if model.count_params() < LARGE:
        weights = [[variable.numpy() for variable in group] for group in weights]
    signature = [tf.TensorSpec([None, *each.shape[1:]], tf.float32) for each in model.inputs]

    @tf.function(autograph=False, input_signature=signature)
    def call(*inputs):
        values = [[tf.convert_to_tensor(value) for value in group] for group in weights]
        inputs = inputs if len(inputs) > 1 else inputs[0]
        return model.stateless_call(*values, inputs, training=False)[0]

    def function(inputs, training=False):
        return call(*inputs) if isinstance(inputs, list) else call(inputs)

    function.name = model.name
    return function
