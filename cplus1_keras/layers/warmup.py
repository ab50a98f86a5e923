"""A layer that counts training steps for a margin that grows."""

import keras
from keras import ops

from cplus1_keras.labels import check_count
from cplus1_keras.layers.hooks import OpenSetLayer


@keras.saving.register_keras_serializable("cplus1_keras")
class MarginWarmup(OpenSetLayer):
    """Passes a head's outputs on and provides `margin_fraction`, which grows with the training steps from 0 to 1.

        f = min(1, step / steps)

    A loss whose margin is a `losses.GrowingMargin` reads it. The step is a weight: it survives save and load.

    Args:
        steps: The number of training steps after which the margin is full, >= 1.

    >>> features = keras.Input((8,))
    >>> outputs = layers.MarginWarmup(steps=1000)(heads.CosineHead(10, scale=16.0)(features))
    """

    reads = None

    def __init__(self, steps, **kwargs):
        kwargs.pop("dtype", None)  # it computes nothing with the outputs, so it must not cast them either
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.steps = check_count(steps, "steps")
        self.step = self.add_weight(
            name="step",
            shape=(),
            initializer="zeros",
            dtype="int32",
            trainable=False,
            aggregation="only_first_replica",  # every replica counts the same steps
        )

    def call(self, outputs):
        return dict(outputs)

    def update(self, labels, tensors):
        self.step.assign(ops.minimum(self.step + 1, self.steps))

    def provide(self, tensors):
        return {"margin_fraction": ops.cast(self.step, "float32") / self.steps}

    def get_config(self):
        return {**super().get_config(), "steps": self.steps}
