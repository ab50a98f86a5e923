"""One pass over what `fit` would validate on: Keras's own figures of it, and a record of each image."""

import itertools

import keras
import numpy as np
import tensorflow as tf

from cplus1_keras import replicas
from cplus1_keras.labels import IGNORE, NEGATIVE
from cplus1_keras.layers.hooks import complete, name_for, named
from cplus1_keras.tasks.records import Record

BATCH = 256
"""Images in a batch of arrays."""


class Batches:
    """Records of batches (images, y) or (images, y, weights), by one pass of a compiled model, on all its replicas.

    Args:
        model: A compiled `OpenSetModel`.
        data: `tf.data.Dataset` of batches, or arrays, as for `fit`.
        num_classes: C, the number of known classes.
        score: A score of `cplus1_keras.scores`; label sets have their logits.

    >>> images = keras.Input((4,))
    >>> model = OpenSetModel(images, heads.LinearHead(3)(images))
    >>> model.compile(loss=losses.CrossEntropyLoss())
    >>> batches = Batches(model, (np.ones((5, 4), "float32"), np.array([0, 1, 2, -1, 0])), 3, scores.max_logit)
    >>> [int(record.labels) for record in batches()]
    [0, 1, 2, -1, 0]
    >>> sorted(batches.figures)
    ['loss']
    """

    def __init__(self, model, data, num_classes, score):
        if not isinstance(data, tf.data.Dataset):
            data = tf.data.Dataset.from_tensor_slices(tuple(data)).batch(BATCH)
        self.model, self.data, self.num_classes, self.score = model, data, num_classes, score
        self.figures = {}
        self._run = tf.function(self._on_replicas, autograph=False, reduce_retracing=True)

    def __call__(self):
        """Records with all that a picture needs in `more`; the `figures` are those of the last whole pass."""
        self.model.reset_metrics()
        strategy, numbers = self.model.distribute_strategy, itertools.count()
        for batch in strategy.experimental_distribute_dataset(self.data):
            parts = {name: strategy.experimental_local_results(own) for name, own in self._run(batch).items()}
            arrays = {name: np.concatenate([part.numpy() for part in own]) for name, own in parts.items()}
            labels, predictions, scores = (arrays.pop(name) for name in ("labels", "predictions", "scores"))
            for i, told in enumerate(zip(labels, predictions, scores, strict=True)):
                yield Record(*told, str(next(numbers)), {name: values[i] for name, values in arrays.items()})
        figures = {name: float(value) for name, value in self.model.get_metrics_result().items()}
        self.figures = figures

    def _on_replicas(self, batch):
        return self.model.distribute_strategy.run(self._step, args=(batch,))

    def _step(self, batch):
        images, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
        outputs = self.model(images, training=False)
        loss = self.model.compute_loss(images, y, outputs, weights, training=False)
        tracker = next(metric for metric in self.model.metrics if metric.name == "loss")
        tracker.update_state(loss * replicas.count(), sample_weight=tf.shape(images)[0])
        tensors = complete(self.model.layers, {**outputs, **named(y)}, training=False)
        kept = {name: tensors[name] for name in ("features", "cams") if name in outputs}
        kept |= {"image": images} if len(images.shape) == 4 else {}
        return kept | self._decide(tensors)

    def _decide(self, tensors):
        logits, name = tensors["logits"], name_for(tensors, "logits", ("labels", "multi_hot"))
        if name.endswith("multi_hot"):
            truth, classes = tensors[name], tf.range(self.num_classes)
            labels = tf.where(truth == 1, classes, tf.where(truth == 0, NEGATIVE, IGNORE))
            return {"labels": labels, "predictions": tf.broadcast_to(classes, tf.shape(truth)), "scores": logits}
        known = tf.argmax(logits[..., : self.num_classes], axis=-1, output_type=tf.int32)
        answer = {"labels": tensors[name], "predictions": known, "scores": self.score(tensors, self.num_classes)}
        if len(logits.shape) == 4:
            answer |= {"argmax": tf.argmax(logits, axis=-1, output_type=tf.int32)}
        return answer
