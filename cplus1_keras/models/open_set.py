"""The model class: stock Keras, plus what an open-set loss needs between the forward pass and the loss."""

import contextlib
import types

import keras
import numpy as np
from keras import ops

from cplus1_keras import replicas
from cplus1_keras.losses.base import OpenSetLoss


@keras.saving.register_keras_serializable("cplus1_keras")
class OpenSetModel(keras.Model):
    """A functional Keras model whose outputs are a dict of named tensors, trained by one loss on labels and outputs.

    Stock `compile`, `fit`, `evaluate`, `predict`, callbacks and `.keras` files. What differs:
    - `loss` is one loss of `cplus1_keras.losses`; the terms of a sum are logged by name, unweighted, over all replicas.
    - `metrics` is a dict from the name of an output to its metrics; each gets the labels and that output.
    - Layers with `update(labels, outputs)` are called in training, those with `handed(outputs)` always, between forward
      pass and loss: class centres and other state live there.
    - `class_weight` may have the key -1, for negatives. It weighs the loss, not the metrics.

    Args:
        *args, **kwargs: Those of `keras.Model`: `inputs`, `outputs` (a dict), `name`.

    Raises:
        ValueError: When trained with a loss that is none of this package, metrics that are no dict, or labels that are
            not one tensor.

    >>> images = keras.Input((28, 28, 1))
    >>> features = keras.layers.Dense(2)(keras.layers.Flatten()(images))
    >>> model = OpenSetModel(images, heads.LinearHead(10)(features))
    >>> model.compile("sgd", losses.EntropicOpenSetLoss(), metrics={"logits": [metrics.KnownAccuracy(10)]})
    """

    _class_weight = None
    _trackers = types.SimpleNamespace(loss=None, means={})

    def fit(self, *args, class_weight=None, **kwargs):
        """Train; see `keras.Model.fit`. The keys of `class_weight` are known classes and -1 for negatives."""
        if class_weight is None:
            return super().fit(*args, **kwargs)
        # Stock Keras looks weights up by the label, which fails on -1, so the loss looks them up in a table instead.
        self.__dict__["_class_weight"] = _weight_table(class_weight)
        self.train_function = None
        try:
            return super().fit(*args, **kwargs)
        finally:
            self.__dict__["_class_weight"] = None
            self.train_function = None

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss, after the layers with state have seen the batch; see `keras.Model.compute_loss`."""
        self._check(y, y_pred)
        outputs = dict(y_pred)
        for layer in self._flatten_layers(include_self=False):
            if training and hasattr(layer, "update"):
                layer.update(y, outputs)
            if hasattr(layer, "handed"):
                outputs.update(layer.handed(outputs))
        if training and self._class_weight is not None:
            index = ops.clip(ops.cast(y, "int32"), -1, len(self._class_weight) - 2) + 1
            weight = ops.take(self._class_weight, index)
            sample_weight = weight if sample_weight is None else weight * ops.cast(sample_weight, weight.dtype)
        means = self._term_means()
        loss = 0.0
        for weight, term in self.loss.terms():
            value = term(y, outputs, sample_weight)
            loss = loss + weight * value
            if means:
                means[term.name].update_state(value * replicas.count(), sample_weight=ops.shape(y)[0])
        for additional in self.losses:
            loss = loss + ops.cast(self._aggregate_additional_loss(additional), loss.dtype)
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The metrics, each on the labels and its output; see `keras.Model.compute_metrics`."""
        return super().compute_metrics(x, dict.fromkeys(y_pred, y), y_pred, sample_weight)

    def _symbolic_build(self, iterator=None, data_batch=None):
        if data_batch is not None:
            # Under a strategy Keras first takes the mean of the batch over the replicas, and labels become floats.
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data_batch)
            data_batch = (x, ops.cast(y, "int32") if ops.is_tensor(y) else y, sample_weight)
        super()._symbolic_build(iterator, data_batch)

    @property
    def metrics(self):
        return [*super().metrics, *self._term_means().values()]

    def _term_means(self):
        """A running mean for each term of the compiled loss, if it has several."""
        loss = getattr(self, "loss", None)
        if not isinstance(loss, OpenSetLoss):
            return {}
        if self._trackers.loss is not loss:
            terms = loss.terms()
            strategy = getattr(self, "distribute_strategy", None)
            with strategy.scope() if strategy else contextlib.nullcontext():
                means = {term.name: keras.metrics.Mean(name=term.name) for _, term in terms} if len(terms) > 1 else {}
            # A plain namespace: a tracked attribute would end up in the model's file.
            self.__dict__["_trackers"] = types.SimpleNamespace(loss=loss, means=means)
        return self._trackers.means

    def _check(self, labels, outputs):
        if not isinstance(self.loss, OpenSetLoss):
            raise ValueError(
                "OpenSetModel trains with one loss of cplus1_keras.losses, for example "
                f"`compile(optimizer, CrossEntropyLoss())`. Received: loss={self.loss!r}"
            )
        if labels is None or isinstance(labels, dict | list | tuple):
            raise ValueError(
                "OpenSetModel needs the labels as one tensor of integers: `fit(images, labels)`. "
                f"Received: {type(labels).__name__}"
            )
        if not isinstance(outputs, dict):
            raise ValueError(
                "OpenSetModel needs a dict of named outputs, as the heads of cplus1_keras.heads give. "
                f"Received: {type(outputs).__name__}"
            )
        compiled = self._compile_config.config  # not `get_compile_config()`, which reads weights, impossible in a graph
        for argument in ("metrics", "weighted_metrics"):
            given = compiled.get(argument)
            if given is not None and (not isinstance(given, dict) or set(given) - set(outputs)):
                raise ValueError(
                    f"`{argument}` must be a dict from outputs to lists of metrics, like "
                    f"{{'logits': [KnownAccuracy({outputs['logits'].shape[-1]})]}}; this model gives "
                    f"{sorted(outputs)}. Received: {list(given) if isinstance(given, dict) else given}"
                )


def _weight_table(class_weight):
    """Weights by label + 1: the negatives, each known, and a last 1 for the classes above."""
    wrong = [key for key in class_weight if not isinstance(key, int | np.integer) or key < -1]
    if wrong:
        raise ValueError(
            f"The keys of `class_weight` must be known classes >= 0, or -1 for negatives. Received: {wrong}"
        )
    table = np.ones(max(class_weight, default=-1) + 3, "float32")
    for key, weight in class_weight.items():
        table[key + 1] = weight
    return table
