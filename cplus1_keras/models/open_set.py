"""The model class: stock Keras, plus what an open-set loss needs between the forward pass and the loss."""

import contextlib
import types

import keras
import numpy as np
from keras import ops

from cplus1_keras import replicas
from cplus1_keras.heads import Head
from cplus1_keras.labels import is_entry, is_label
from cplus1_keras.layers.hooks import OpenSetLayer, complete, find_hooks, labels_for, named
from cplus1_keras.losses.base import OpenSetLoss, expand_like
from cplus1_keras.losses.classification import BackgroundCrossEntropyLoss


@keras.saving.register_keras_serializable("cplus1_keras")
class OpenSetModel(keras.Model):
    """A functional Keras model whose outputs are a dict of named tensors, trained by one loss on labels and outputs.

    Stock `compile`, `fit`, `evaluate`, `predict`, callbacks and `.keras` files. What differs:
    - `y` is one tensor, which goes by the name `labels`, or a dict of named tensors, like `{"multi_hot": sets}`. Losses
      and metrics read these, the outputs, and what layers make of both (`layers.OpenSetLayer`), by name.
    - `loss` is one loss of `cplus1_keras.losses`; the terms of a sum are logged by name, unweighted, over all replicas.
    - `metrics` is a dict from the name of an output to its metrics; each gets the labels of that output (`multi_hot`
      where there are no `labels`) and the output.
    - `class_weight` may have the key -1, for negatives. It weighs each term of the loss by the labels that it reads, in
      training only, and no metric.
    - Labels that are no class of the head, or none of the convention, make the loss NaN in a graph; `fit` names them
      if they are an array.

    Args:
        *args, **kwargs: Those of `keras.Model`: `inputs`, `outputs` (a dict), `name`.

    Raises:
        ValueError: When trained with a loss that is none of this package, metrics that are no dict, or without labels.

    >>> images = keras.Input((28, 28, 1))
    >>> features = keras.layers.Dense(2)(keras.layers.Flatten()(images))
    >>> model = OpenSetModel(images, heads.LinearHead(10)(features))
    >>> model.compile("sgd", losses.EntropicOpenSetLoss(), metrics={"logits": [metrics.KnownAccuracy(10)]})
    """

    _class_weight = None
    _trackers = types.SimpleNamespace(loss=None, means={})

    def fit(self, x=None, y=None, *args, class_weight=None, **kwargs):
        """Train; see `keras.Model.fit`. The keys of `class_weight` are known classes and -1 for negatives."""
        self._check_label_values(y)
        if class_weight is None:
            return super().fit(x, y, *args, **kwargs)
        # Stock Keras looks weights up by the label, which fails on -1, so the loss looks them up in a table instead.
        self.__dict__["_class_weight"] = _weight_table(class_weight, self._num_classes())
        self.train_function = None
        try:
            return super().fit(x, y, *args, **kwargs)
        finally:
            self.__dict__["_class_weight"] = None
            self.train_function = None

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss, after the hooks of the layers have seen the batch; see `keras.Model.compute_loss`."""
        self._check(y, y_pred)
        given = named(y)
        tensors = complete(self.layers, {**y_pred, **given}, training)
        means, loss = self._term_means(), 0.0
        batch = ops.shape(next(iter(given.values())))[0]
        for weight, term in self.loss.terms():
            name = term.name_of_labels(tensors)
            weights = _weights_for(name, sample_weight)
            if training and self._class_weight is not None:
                weights = self._weigh_classes(name, tensors[name], weights)
            value = term(tensors, tensors, weights)
            loss = loss + weight * value
            if means:
                means[term.name].update_state(value * replicas.count(), sample_weight=batch)
        for additional in self.losses:
            loss = loss + ops.cast(self._aggregate_additional_loss(additional), loss.dtype)
        self._update_metrics(y_pred, tensors, sample_weight)
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The metrics, which `compute_loss` has updated: some labels that they read exist only there."""
        unbuilt = self._compile_metrics is not None and not self._compile_metrics.built
        return {} if unbuilt else self.get_metrics_result()  # Keras's symbolic build comes here before the loss

    def _update_metrics(self, y_pred, tensors, sample_weight):
        compiled = self._compile_metrics
        if compiled is None:
            return
        # Keras has no public way to ask; `compile` without metrics leaves the old ones in place.
        asked = {"metrics": compiled._user_metrics, "weighted_metrics": compiled._user_weighted_metrics}
        # The model's own outputs, not what a layer provides in their place, like AdaCos the logits of this step.
        tensors = {**tensors, **y_pred}
        for argument, given in asked.items():
            if given is not None and (not isinstance(given, dict) or set(given) - set(tensors)):
                raise ValueError(
                    f"`{argument}` must be a dict like {{'logits': [KnownAccuracy(10)]}}, of {sorted(tensors)}. "
                    f"Received: {list(given) if isinstance(given, dict) else given}"
                )
        self._check_metrics([pair for metrics in asked.values() for pair in (metrics or {}).items()])
        asked = {name for metrics in asked.values() for name in metrics or ()}
        # All outputs, since Keras names the metrics of an only one otherwise.
        read = {name: value for name, value in y_pred.items() if not isinstance(value, dict | list | tuple)}
        read |= {name: ops.stop_gradient(tensors[name]) for name in asked}
        labels = read | {name: labels_for(tensors, name, ("labels", "multi_hot")) for name in asked}
        compiled.update_state(labels, read, _weights_for("labels", sample_weight))

    def _check_metrics(self, asked):
        """Refuse a metric that would take a head's last class for the background."""
        known = {hook.prefix + "logits": hook.num_classes for hook in find_hooks(self.layers) if isinstance(hook, Head)}
        for name, metrics in asked:
            for metric in keras.tree.flatten(metrics):
                if name in known and getattr(metric, "num_classes", None) == known[name] - 1:
                    raise ValueError(
                        f"`{metric.name}` of `{name}` is for {known[name] - 1} known classes, and the head has "
                        f"{known[name]}: the last one would count as background. Give both the same number."
                    )

    def _weigh_classes(self, name, labels, sample_weight):
        if name.endswith("multi_hot"):
            raise ValueError(
                "`class_weight` weighs labels that name one class each, and this loss reads `multi_hot`. Give the "
                "weights to the loss, like `WeightedSigmoidLoss(positive_rates)`."
            )
        index = ops.clip(ops.cast(labels, "int32"), -1, len(self._class_weight) - 2) + 1
        weight = ops.take(self._class_weight, index)
        return weight if sample_weight is None else weight * expand_like(sample_weight, weight)

    def _symbolic_build(self, iterator=None, data_batch=None):
        if data_batch is not None:
            # Under a strategy Keras first takes the mean of the batch over the replicas, and labels become floats.
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data_batch)
            if isinstance(y, dict):
                whole = [name for name in y if name.endswith(("labels", "multi_hot"))]
                y = {**y, **{name: ops.cast(y[name], "int32") for name in whole}}
            elif ops.is_tensor(y):
                y = ops.cast(y, "int32")
            data_batch = (x, y, sample_weight)
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
        wrong, given = None, labels if isinstance(labels, dict) else ("labels",)
        if not isinstance(self.loss, OpenSetLoss):
            wrong = (
                f"trains with one loss of cplus1_keras.losses, like `CrossEntropyLoss()`. Received: loss={self.loss!r}"
            )
        elif labels is None or isinstance(labels, list | tuple):
            wrong = (
                "needs labels: one tensor of integers, or a dict of named tensors, as in "
                f'`fit(images, {{"multi_hot": sets}})`. Received: {type(labels).__name__}'
            )
        elif not isinstance(outputs, dict):
            wrong = f"needs a dict of named outputs, as the package's heads give. Received: {type(outputs).__name__}"
        elif twice := sorted(set(outputs) & set(given)):
            wrong = f"and the data set both give {twice}: name the labels or the outputs otherwise."
        if wrong:
            raise ValueError(f"OpenSetModel {wrong}")

    def _num_classes(self):
        """The number of known classes that labels may name, as far as the outputs tell."""
        outputs = self.output if isinstance(getattr(self, "output", None), dict) else {}
        if "logits" not in outputs or not isinstance(getattr(self, "loss", None), OpenSetLoss):
            return None
        reading = [term for _, term in self.loss.terms() if not term.prefix]
        return outputs["logits"].shape[-1] - any(isinstance(term, BackgroundCrossEntropyLoss) for term in reading)

    def _check_label_values(self, y):
        """Refuse arrays of labels outside the convention or the classes, which in a graph would make the loss NaN."""
        if any(type(layer).targets is not OpenSetLayer.targets for layer in find_hooks(self.layers)):
            return  # it makes other labels of these
        given = y if isinstance(y, dict) else {"labels": y}
        for name in [name for name in ("labels", "multi_hot") if isinstance(given.get(name), np.ndarray)]:
            values, number = given[name], self._num_classes() if name == "labels" else None
            if values.dtype.kind not in "biuf":
                raise ValueError(f"Labels are integers. Received `{name}` of dtype {values.dtype}")
            fits = is_label(values) if name == "labels" else is_entry(values)
            beyond = np.unique(values[~fits if number is None else ~(fits & (values < number))])
            if beyond.size and values.dtype.kind != "f":  # of floats the loss tells more
                known = "classes" if number is None else f"classes 0..{number - 1}"
                needs = f"Labels name the known {known}, or are -1 (negative), -2 (unknown), -100 (ignored)"
                advice = "Give the head as many classes, or relabel them"
                if name == "multi_hot":
                    needs, advice = "`multi_hot` holds 1 (present), 0 (absent), -100 (not annotated)", "Relabel them"
                raise ValueError(f"{needs}. Received also: {beyond[:5].tolist()}. {advice}.")


def _weights_for(name, sample_weight):
    """The weights of the samples for labels of a name; Keras repeats those of arrays beside a dict of labels."""
    if isinstance(sample_weight, dict):
        return sample_weight.get(name, next(iter(sample_weight.values()), None))
    return sample_weight


def _weight_table(class_weight, num_classes):
    """Weights by label + 1: the negatives, each known, and a last 1 for the classes above."""
    most = np.inf if num_classes is None else num_classes - 1
    wrong = [key for key in class_weight if not isinstance(key, int | np.integer) or not -1 <= key <= most]
    if wrong:
        raise ValueError(
            "The keys of `class_weight` must be known classes >= 0, or -1 for negatives"
            f"{'' if num_classes is None else f'; this model has the classes 0..{most}'}. Received: {wrong}"
        )
    table = np.ones(max(class_weight, default=-1) + 3, "float32")
    for key, weight in class_weight.items():
        if not 0 <= weight < np.inf:
            raise ValueError(f"The weights of `class_weight` must be numbers >= 0. Received: {{{key}: {weight}}}")
        table[key + 1] = weight
    return table
