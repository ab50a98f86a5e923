"""What every loss shares: labels are checked, values averaged over what they count, terms added and logged by name."""

import copy
import re

import keras
from keras import ops

from cplus1_keras import replicas
from cplus1_keras.labels import check_labels, is_entry, is_known, is_label, nearest
from cplus1_keras.layers.hooks import check_prefix, dtype_of, name_for
from cplus1_keras.numerics import at_least_float32, divide

CENTERS = "a layer of centres: `layers.MovingAverageCenters(C)(head(features))`"
GIVERS = {
    "logits": "a head of cplus1_keras.heads",
    "features": "a head of cplus1_keras.heads",
    "cosines": "a `heads.CosineHead`",
    "scale": "a `heads.CosineHead`",
    "kernel_norms": "a `heads.CosineHead`",
    "weight_norms": "a `heads.LinearHead` without bias",
    "squared_distances": "a `heads.GaussianHead`",
    "cams": "a `heads.CAMHead`",
    "mirrored_cams": "`layers.Views` of a model with a `heads.CAMHead`",
    "smaller_cams": "`layers.Views(model, smaller=...)` of a model with a `heads.CAMHead`",
    "embeddings": CENTERS,
    "centers": CENTERS,
    "margin_fraction": "a `layers.MarginWarmup` on the head's outputs",
    **dict.fromkeys(("box_deltas", "box_delta_targets", "mask_targets"), "`models.rcnn`"),
    "class_counts": "a `layers.ClassCounts` on the head's outputs",
    "draws": "a `layers.UniformDraws` on the head's outputs",
    **dict.fromkeys(("points", "box_offsets", "box_targets", "centerness", "centerness_targets"), "`models.fcos`"),
}
"""Who gives what losses read."""


def expand_like(weight, values):
    """Weights with the axes of what they weigh: a last one of 1 may be too many, others missing."""
    weight = ops.cast(weight, values.dtype)
    if len(weight.shape) == len(values.shape) + 1 and weight.shape[-1] == 1:
        return ops.squeeze(weight, -1)
    while len(weight.shape) < len(values.shape):
        weight = ops.expand_dims(weight, -1)
    return weight


def counted_mean(values, counted, sample_weight=None, per=None):
    """sum_i w_i values_i [counted_i] / sum_i per_i, exactly 0 where nothing is counted; over all replicas.

    `per` is `counted` unless given: booleans, of which at least 1 is taken to be true, or weights. w may lack the last
    axes of `values`. The gradient is that of this replica's share of the mean, which is what optimizers sum over
    replicas.
    """
    values = ops.where(counted, values, 0)
    if sample_weight is not None:
        values = values * expand_like(sample_weight, values)
    per = counted if per is None else per
    if dtype_of(per) == "bool":  # counted by integers: float32 counts to 16 million
        number = ops.maximum(replicas.total(ops.sum(ops.cast(per, "int32"))), 1)
    else:
        number = replicas.total(ops.sum(per))
    share = divide(ops.sum(values), ops.cast(number, values.dtype))
    if replicas.count() == 1:
        return share
    return share + (replicas.total(share) / replicas.count() - ops.stop_gradient(share))


class OpenSetLoss(keras.losses.Loss):
    """A loss on labels and named outputs: `loss(labels, outputs, sample_weight=None)` is a scalar tensor.

    Labels are integers: `>= 0` known, `NEGATIVE`, `UNKNOWN` or `IGNORE`; one that is none of these, or no class of the
    head, gives NaN. Their shape is that of the outputs without the last axis: images (batch,), pixels (batch, height,
    width), boxes (batch, boxes). Labels and weights on a finer grid are taken at the output's cells by nearest
    neighbour. In place of labels there may be a dict of all that the data set gives.

    The values are averaged over the labels that the loss counts, over all replicas; a batch with none gives 0 and no
    gradient. `loss * weight` and `loss + loss` give weighted sums whose terms are logged by name. It trains in an
    `OpenSetModel`; plain Keras hands no dict to a loss.

    A subclass implements `values` and says by class attributes:
        reads: The names of the outputs that it reads; the first has the shape of the labels and one axis more.
        may_read: Those that may be missing.
        shared: Those that all heads of a model share, which have no prefix in `of`.
        truth: What it is told of the samples: `labels` or `multi_hot`, the best name first. A plain tensor given in
            their place goes by the last.
        counted: Function of the labels, True where their values add up: `labels.is_known` unless it says otherwise.
        per: Function of the labels, True for those that the sum is divided by; None for those that are counted.
        needs_negatives: Whether it trains on negatives.
        smooths: Whether it has a softmax cross-entropy, which `smooth` changes.

    Args:
        name: The name in logs; unless given that of the class, like `cross_entropy` of `CrossEntropyLoss`.

    Raises:
        ValueError: For an argument outside its range; when called, for labels that are no integers (soft targets) or do
            not fit the outputs, or outputs without one that it reads.

    >>> class Brier(losses.OpenSetLoss):
    ...     def values(self, labels, outputs):
    ...         logits = outputs["logits"]
    ...         return ops.sum(ops.square(ops.softmax(logits) - ops.one_hot(labels, logits.shape[-1])), axis=-1)
    >>> float(Brier("brier")(np.array([0, -1]), {"logits": np.zeros((2, 2), "float32")}))
    0.5
    """

    reads = ("logits",)
    may_read = ()
    shared = ("margin_fraction",)
    truth = ("labels",)
    counted = staticmethod(is_known)
    per = None
    needs_negatives = False
    smooths = False
    prefix = ""

    def __init__(self, name=None):
        own = re.sub("(?<=.)(?=[A-Z][a-z])", "_", type(self).__name__.removesuffix("Loss")).lower()
        super().__init__(name=name or own, reduction="sum_over_batch_size")

    def values(self, labels, outputs):
        """One value per label, not reduced; what it gives for labels that are not counted is left out.

        Args:
            labels: int32 tensor, shape (...).
            outputs: Dict of the tensors named in `reads`, at least float32, shape (..., C or K).
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `values(labels, outputs)`.")

    def checked(self, labels, outputs, kind):
        """The labels as `values` wants them, if they fit the outputs; `kind` is which of `truth` they are."""
        return check_labels(labels, next(iter(outputs.values())), self.name)

    def divisor(self, labels, outputs):
        """What the sum is divided by the sum of: booleans or weights (...), None for what is counted."""
        return None if self.per is None else self.per(labels)

    def per_known(self):
        """The same loss, of which each term's sum is divided by the number of knowns, whatever it counts.

        For the points of a detector, tens of which are known and thousands are background: a mean over all would leave
        next to nothing to the knowns.

        >>> loss = losses.cplus1().per_known() + losses.GIoULoss() + losses.CenternessLoss()
        """
        other = copy.copy(self)
        other.per = is_known
        return other

    def smooth(self, rate):
        """The same loss with label smoothing in its softmax cross-entropies; ValueError where it has none.

        >>> (losses.CrossEntropyLoss() + losses.RingLoss(3.0)).smooth(0.1).terms()[0][1].smoothing
        0.1
        """
        raise ValueError(f"Label smoothing is for losses with a softmax cross-entropy. Received: `{self.name}`")

    def terms(self):
        """The pairs (weight, loss) of which this loss is the sum; a plain loss is its own only term."""
        return [(1.0, self)]

    def of(self, prefix, name=None):
        """The same loss for another head: it reads `roi1_logits` for `logits` with the prefix `roi1_`.

        Its labels are `roi1_labels` where the data set or a layer's `targets` give them, else `labels`. What it reads
        must be there; only what `shared` names has no prefix. Its name in logs is the prefix and this loss's unless
        given.

        >>> losses.CrossEntropyLoss().of("roi1_").name
        'roi1_cross_entropy'
        """
        other = copy.copy(self)
        other.prefix, other.name = check_prefix(prefix) + self.prefix, prefix + self.name if name is None else name
        return other

    def name_of_labels(self, tensors):
        """The name among the tensors of the labels that it reads."""
        return name_for(tensors, self.prefix, self.truth)

    def __call__(self, labels, outputs, sample_weight=None):
        read = self._read(outputs)
        given = labels if isinstance(labels, dict) else {self.truth[-1]: labels}
        name = self.name_of_labels(given)
        labels = self.checked(given[name], read, next(kind for kind in self.truth if name.endswith(kind)))
        if sample_weight is not None:
            sample_weight = nearest(ops.convert_to_tensor(sample_weight), next(iter(read.values())))
        counted, values = self.counted(labels), self.values(labels, read)
        if len(values.shape) != len(counted.shape):
            raise ValueError(
                f"`{self.name}` must give one value per label, not reduced: shape {tuple(counted.shape)}. "
                f"Received from its `values`: shape {tuple(values.shape)}."
            )
        mean = counted_mean(values, counted, sample_weight, self.divisor(labels, read))
        fits = is_entry(labels) if name.endswith("multi_hot") else is_label(labels)
        return ops.where(ops.all(fits), mean, float("nan"))  # else they would count for nothing, silently

    def call(self, labels, outputs):
        return self(labels, outputs)

    def _read(self, outputs):
        if not isinstance(outputs, dict):
            raise ValueError(
                f"`{self.name}` reads named outputs: a dict with {list(self.reads)}, as heads give and "
                f"`OpenSetModel(inputs, head(features))` hands to its loss. Received: {type(outputs).__name__}."
            )
        names = {name: name if name in self.shared else self.prefix + name for name in (*self.reads, *self.may_read)}
        missing = [name for name in self.reads if names[name] not in outputs]
        if missing:
            givers = dict.fromkeys(GIVERS[name] for name in missing if name in GIVERS)
            raise ValueError(
                f"`{self.name}` reads {[names[name] for name in missing]}, which the model does not give. "
                f"It gives {sorted(outputs)}. "
                + (f"That needs {' and '.join(givers)}." if givers else "Give the model an output of that name.")
                + ("" if self.prefix else " To read another head's, point the loss there: `loss.of('roi1_')`.")
            )
        return {name: at_least_float32(outputs[given]) for name, given in names.items() if given in outputs}

    def __add__(self, other):
        if not isinstance(other, OpenSetLoss):
            raise TypeError(f"Only losses of cplus1_keras.losses and their subclasses add up. Received: {other!r}")
        return WeightedSum(self.terms() + other.terms())

    def __mul__(self, weight):
        return WeightedSum([(weight * own, loss) for own, loss in self.terms()])

    __rmul__ = __mul__

    def get_config(self):
        own = {"prefix": self.prefix} if self.prefix else {}
        return {"name": self.name, **own, **({"per_known": True} if "per" in vars(self) else {})}

    @classmethod
    def from_config(cls, config):
        loss = cls(**{key: value for key, value in config.items() if key not in ("prefix", "per_known")})
        loss.prefix = config.get("prefix", "")
        return loss.per_known() if config.get("per_known") else loss


@keras.saving.register_keras_serializable("cplus1_keras")
class WeightedSum(OpenSetLoss):
    """A weighted sum of losses, made by `+` and `*`; `model.fit` logs each term under its name, unweighted.

    Args:
        terms: List of pairs (weight, loss) with weights >= 0 and names that differ.

    >>> loss = losses.EntropicOpenSetLoss() + 0.01 * losses.MagnitudeLoss(radius=50.0)
    >>> [(weight, term.name) for weight, term in loss.terms()]
    [(1.0, 'entropic_open_set'), (0.01, 'magnitude')]
    """

    reads = ()

    def __init__(self, terms, name="sum"):
        self._terms = []
        for weight, loss in terms:
            if isinstance(loss, dict):
                loss = keras.saving.deserialize_keras_object(loss)
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
                raise ValueError(f"The weight of a loss must be a number >= 0. Received: {weight!r} for `{loss.name}`")
            self._terms.append((float(weight), loss))
        names = [loss.name for _, loss in self._terms]
        if len({*names}) < len(names):
            raise ValueError(
                "Each term of a loss is logged by its name, so pass `name=` to one of those that share it. "
                f"Received twice: {sorted({name for name in names if names.count(name) > 1})}."
            )
        super().__init__(name=name)

    @property
    def needs_negatives(self):
        return any(loss.needs_negatives for _, loss in self._terms)

    def terms(self):
        return list(self._terms)

    def of(self, prefix, name=None):
        return WeightedSum([(weight, loss.of(prefix)) for weight, loss in self._terms], name or prefix + self.name)

    def smooth(self, rate):
        if not any(loss.smooths for _, loss in self._terms):
            return super().smooth(rate)
        return WeightedSum([(w, loss.smooth(rate) if loss.smooths else loss) for w, loss in self._terms], self.name)

    def per_known(self):
        return WeightedSum([(weight, loss.per_known()) for weight, loss in self._terms], self.name)

    def __call__(self, labels, outputs, sample_weight=None):
        return sum(weight * loss(labels, outputs, sample_weight) for weight, loss in self._terms)

    def get_config(self):
        terms = [(weight, keras.saving.serialize_keras_object(loss)) for weight, loss in self._terms]
        return {"terms": terms, "name": self.name}
