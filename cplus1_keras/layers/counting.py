"""Layers whose state losses for long tails read: how often each class was seen, and random numbers."""

import keras
from keras import ops

from cplus1_keras import replicas
from cplus1_keras.labels import NEGATIVE, check_count, check_labels, is_seen
from cplus1_keras.layers.hooks import OpenSetLayer


@keras.saving.register_keras_serializable("cplus1_keras")
class ClassCounts(OpenSetLayer):
    """Passes a head's outputs on and provides `class_counts` (C + 1,): training samples so far, the negatives' last.

    A loss whose margin is a `losses.Seesaw` reads them. They count labels of all replicas before the loss reads them,
    and are a weight: they survive save and load.

    Args:
        num_classes: C >= 1.
        **kwargs: The `prefix` of the head; Keras's `name`.

    >>> outputs = {"logits": np.zeros((3, 2), "float32")}
    >>> counts = layers.ClassCounts(2)
    >>> counts.update(np.array([1, 1, -1]), counts(outputs))
    >>> np.array(counts.provide(outputs)["class_counts"]).tolist()
    [0, 2, 1]
    """

    def __init__(self, num_classes, **kwargs):
        kwargs.pop("dtype", None)  # it computes nothing with the outputs, so it must not cast them either
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.num_classes = check_count(num_classes)
        fixed = {"initializer": "zeros", "trainable": False, "aggregation": "only_first_replica"}
        self.counts = self.add_weight(name="counts", shape=(self.num_classes + 1,), dtype="int32", **fixed)

    def call(self, outputs):
        return dict(outputs)

    def update(self, labels, tensors):
        labels = ops.reshape(check_labels(labels, tensors["logits"], self.name), (-1,))
        inside = is_seen(labels) & (labels < self.num_classes)
        # Negatives follow the classes; the last segment, of what is neither, is thrown away.
        segment = ops.where(inside, ops.where(labels == NEGATIVE, self.num_classes, labels), self.num_classes + 1)
        own = ops.segment_sum(ops.ones_like(segment), segment, num_segments=self.num_classes + 2)[:-1]
        self.counts.assign(self.counts + replicas.total(own))

    def provide(self, tensors):
        return {"class_counts": ops.convert_to_tensor(self.counts)}

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}


@keras.saving.register_keras_serializable("cplus1_keras")
class UniformDraws(OpenSetLayer):
    """Passes a head's outputs on and provides `draws`, random numbers in [0, 1) in the shape of `logits`.

    A loss whose margin is a `losses.Equalization` reads them. The generator's state is part of checkpoints: a run that
    was stopped goes on with the same numbers.

    Args:
        seed: int >= 0.
        **kwargs: The `prefix` of the head; Keras's `name`.

    >>> outputs = {"logits": np.zeros((3, 2), "float32")}
    >>> tuple(layers.UniformDraws(seed=0).provide(outputs)["draws"].shape)
    (3, 2)
    """

    def __init__(self, seed=0, **kwargs):
        kwargs.pop("dtype", None)
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.seed = int(seed)
        self.generator = keras.random.SeedGenerator(self.seed)

    def call(self, outputs):
        return dict(outputs)

    def provide(self, tensors):
        return {"draws": keras.random.uniform(ops.shape(tensors["logits"]), seed=self.generator)}

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}
