"""How long a training waits for its input."""

import tensorflow as tf


class InputClock:
    """Counts the seconds between the request for a batch and its arrival.

    >>> clock = InputClock()
    >>> [int(value) for value in clock.watch(tf.data.Dataset.range(3))]
    [0, 1, 2]
    >>> 0 <= clock.seconds() < 60
    True
    """

    def __init__(self):
        self._waited = None

    def seconds(self):
        """Seconds waited so far; None where nothing is watched."""
        return None if self._waited is None else float(self._waited)

    def watch(self, batches):
        """The same batches, by the clock; unwatched if they are no `tf.data.Dataset`, or operations deterministic."""
        if not isinstance(batches, tf.data.Dataset) or not _has_time():
            return batches
        with tf.device("CPU"):
            waited = self._waited = tf.Variable(0.0, trainable=False, dtype=tf.float64)

        def note(start, batch):
            with tf.control_dependencies(tf.nest.flatten(batch)):
                now = tf.timestamp()
            with tf.control_dependencies([waited.assign_add(now - start, read_value=False)]):
                return tf.nest.map_structure(tf.identity, batch)

        # A pair is made when it is asked for, the time before the batch: no buffer may come after it.
        asked = tf.data.Dataset.counter().map(lambda _: tf.timestamp())
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        return tf.data.Dataset.zip((asked, batches)).map(note).with_options(options)


def _has_time():
    try:
        tf.timestamp()
    except tf.errors.OpError:  # it would differ from run to run
        return False
    return True
