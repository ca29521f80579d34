"""Training on several machines: each sees its share of every batch, and all take the same step.

The machines find each other by TensorFlow's own `TF_CONFIG`, and `tf.distribute.MultiWorkerMirroredStrategy` carries the
gradients. Keras 3 does not train under that strategy (its issue 20585; seen with 3.15), so the strategy is used for the
communication alone: every worker trains a network of its own, which begins as the others' and remains it, for the optimizer
of each applies the mean of all gradients.
"""

import functools
import json
import os

from koala_utils.backend import keras, tf


class Workers:
    """The processes that train together; this one is number `index`, from 0, of `count`."""

    def __init__(self, index=0, count=1, strategy=None):
        self.index, self.count, self.strategy = index, count, strategy
        self._compiled = tf.function(self._mean)

    def mean(self, tensors):
        """The mean over all workers of each of a list of tensors; all workers must ask for it, in the same order."""
        return tensors if self.count == 1 else self._compiled(list(tensors))

    def _mean(self, tensors):
        def reduce(*tensors):
            with tf.device(
                self.strategy.extended.worker_devices[0]
            ):  # without a device the reduction has no destination
                here = [tf.identity(tensor) for tensor in tensors]
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, here)

        return self.strategy.run(reduce, args=tuple(tensors))


@functools.cache
def join():
    """Meets the other workers that `TF_CONFIG` names and waits for them; without it, this process is the only one.

    To be called before TensorFlow computes anything. A worker is one process with one device: of several GPUs, each is a
    worker's (CUDA_VISIBLE_DEVICES).
    """
    config = json.loads(os.environ.get("TF_CONFIG") or "{}")
    count = len(config.get("cluster", {}).get("worker", []))
    if count < 2:
        return Workers()
    return Workers(int(config["task"]["index"]), count, tf.distribute.MultiWorkerMirroredStrategy())


class Adam(keras.optimizers.Adam):
    """Adam on the mean of all workers' gradients."""

    def __init__(self, *arguments, workers, **options):
        super().__init__(*arguments, **options)
        self.workers = workers

    def apply(self, grads, trainable_variables=None):
        return super().apply(self.workers.mean(grads), trainable_variables)


class MeanLogs(keras.callbacks.Callback):
    """Before the other callbacks: the epoch's figures, averaged over all workers."""

    def __init__(self, workers):
        super().__init__()
        self.workers = workers

    def on_epoch_end(self, epoch, logs=None):
        names = sorted(logs)
        [values] = self.workers.mean([tf.constant([float(logs[name]) for name in names])])
        logs.update(zip(names, values.numpy().tolist()))
