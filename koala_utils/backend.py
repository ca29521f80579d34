"""Keras and TensorFlow, imported without the notices that TensorFlow writes at every start.

The notices (no GPU found, oneDNN is on) are written to the process's standard error before any setting can
silence them, and would stand above every first cell and every command's own messages. If an import fails,
they are shown after all.
"""

import contextlib
import os
import sys
import tempfile


@contextlib.contextmanager
def _without_notices():
    sys.stderr.flush()
    with tempfile.TemporaryFile() as notices:
        terminal = os.dup(2)
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
    import keras

    if keras.backend.backend() == "tensorflow":  # the networks run on any backend, the data only on this one
        import tensorflow as tf

        tf.config.list_physical_devices()  # the search for a GPU, which has its notices too

__all__ = ["keras", "tf"]
