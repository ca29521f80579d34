"""Training on several machines: each takes its share of every batch, and all make the same step.

The machines find each other by TensorFlow's `TF_CONFIG`. Keras 3 does not train under
`MultiWorkerMirroredStrategy` (its issue 20585), so that strategy only carries the numbers: every
worker trains a network of its own. The networks are equal at the start and stay equal, because
each worker's optimizer applies the mean of all workers' gradients.
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
        """The mean over all workers of each of the tensors; all workers must call it."""
        return tensors if self.count == 1 else self._compiled(list(tensors))

    def agree(self, number):
        """Whether all workers have the same whole number; all get the same answer."""
        [mean] = self.mean([tf.constant(float(number))])
        [difference] = self.mean([tf.abs(number - mean)])
        return float(difference) < 1e-4  # a sum of many floats may be off by rounding

    def _mean(self, tensors):
        def reduce(*tensors):
            with tf.device(self.strategy.extended.worker_devices[0]):  # the destination
                here = [tf.identity(tensor) for tensor in tensors]
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, here)

        return self.strategy.run(reduce, args=tuple(tensors))


@functools.cache
def join():
    """Waits for the other workers that `TF_CONFIG` names; without it, this process is the only one.

    Call it before TensorFlow computes anything. A worker is one process with one device: with
    several GPUs, give one to each worker (CUDA_VISIBLE_DEVICES).
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
    """Gives the other callbacks the means of the epoch's metrics over all workers: put it first."""

    def __init__(self, workers):
        super().__init__()
        self.workers = workers

    def on_epoch_end(self, epoch, logs=None):
        names = sorted(logs)
        [values] = self.workers.mean([tf.constant([float(logs[name]) for name in names])])
        logs.update(zip(names, values.numpy().tolist(), strict=True))
