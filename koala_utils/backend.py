"""Keras and TensorFlow, imported without the notices that TensorFlow writes at every start, and a trained model compiled.

The notices (no GPU found, oneDNN is on) are written to the process's standard error before any setting can
silence them, and would stand above every first cell and every command's own messages. If an import fails,
they are shown after all.
"""

import contextlib
import functools
import gc
import os
import sys
import tempfile


@contextlib.contextmanager
def _without_notices():
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


@contextlib.contextmanager
def _without_collections():
    """The imports make a million objects that stay: looking for garbage among them costs half a second a start."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


with _without_notices(), _without_collections():
    import keras

    if (
        keras.backend.backend() == "tensorflow"
    ):  # the networks run on any backend, the data only on this one
        import tensorflow as tf

        tf.config.list_physical_devices()  # the search for a GPU, which has its notices too

__all__ = ["compiled", "keras", "tf"]

LARGE = 20_000_000  # weights of a model, beyond which copies of them cost too much memory


@functools.lru_cache(4)
def compiled(model):
    """A model that is trained no further as a compiled function of its inputs, for batches of any size.

    The weights become constants, which TensorFlow lays out for the processor once; unless the model is `LARGE`, as
    Inception-ResNet-v2 is. Compiling takes as long as some photographs do layer by layer.

    Returns:
        A function to be called as the model is, with one array or a list of them, float32, that returns a tensor; and with
        the model's name.
    """
    weights = model.trainable_variables, model.non_trainable_variables
    if model.count_params() < LARGE:
        weights = [[variable.numpy() for variable in group] for group in weights]

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None, *each.shape[1:]], tf.float32) for each in model.inputs
        ],
    )
    def call(*inputs):
        values = [[tf.convert_to_tensor(value) for value in group] for group in weights]
        return model.stateless_call(
            *values, inputs if len(inputs) > 1 else inputs[0], training=False
        )[0]

    def function(inputs, training=False):
        return call(*inputs) if isinstance(inputs, list) else call(inputs)

    function.name = model.name
    return function
