"""What every loss shares: labels are checked, values averaged over what they count, terms added and logged by name."""

import keras
from keras import ops

from cplus1_keras import replicas
from cplus1_keras.grids import nearest
from cplus1_keras.labels import is_known
from cplus1_keras.numerics import at_least_float32


def counted_mean(values, counted, sample_weight=None):
    """Mean of `values` over the entries that are counted, on all replicas together; exactly 0 where none is.

        mean = sum_i w_i values_i [counted_i] / sum_i [counted_i]

    The gradient is that of this replica's share of the mean, which is what optimizers sum over replicas.

    Args:
        values: Tensor of any shape.
        counted: Boolean tensor of the same shape.
        sample_weight: Tensor of the shape of `values`, or of its leading axes. It scales the numerator only.

    Returns:
        Scalar tensor: the mean divided by the number of replicas (their sum is the mean).

    >>> float(counted_mean(np.array([1.0, 3.0, 9.0]), np.array([True, True, False])))
    2.0
    """
    values = ops.where(counted, values, 0)
    if sample_weight is not None:
        weight = ops.cast(sample_weight, values.dtype)
        if len(weight.shape) == len(values.shape) + 1 and weight.shape[-1] == 1:
            weight = ops.squeeze(weight, -1)
        while len(weight.shape) < len(values.shape):
            weight = ops.expand_dims(weight, -1)
        values = values * weight
    number = replicas.total(ops.sum(ops.cast(counted, "int32")))
    share = ops.sum(values) / ops.cast(ops.maximum(number, 1), values.dtype)
    if replicas.count() == 1:
        return share
    return share + (replicas.total(share) / replicas.count() - ops.stop_gradient(share))


class OpenSetLoss(keras.losses.Loss):
    """A loss on labels and named outputs: `loss(labels, outputs, sample_weight=None)` is a scalar tensor.

    Labels are integers: `>= 0` known, `NEGATIVE`, `UNKNOWN` or `IGNORE`. Their shape is that of the outputs without the
    last axis, so one loss serves images (batch,), pixels (batch, height, width) and boxes (batch, boxes). Labels on a
    finer grid than the output are taken at its cells by nearest neighbour, as are their weights. The values are
    averaged over the labels that the loss counts, over all replicas; a batch with none gives 0 and no gradient.
    `loss * weight` and `loss + loss` give weighted sums whose terms are logged by name.

    A subclass names the outputs that it reads in `reads` (in `may_read` those that may be missing), implements `values`
    and says in `counted`, a function of the labels, which of them the mean divides by: `labels.is_known` unless it says
    otherwise.

    Args:
        name: The name in logs.
        rename: Dict from an output's name in `reads` to the name that the model gives it, for example
            `{"logits": "auxiliary_logits"}`.

    Raises:
        ValueError: When called with labels that are no integers (soft targets), labels whose shape does not fit, or
            outputs without one that it reads.

    >>> class Brier(losses.OpenSetLoss):
    ...     def values(self, labels, outputs):
    ...         logits = outputs["logits"]
    ...         return ops.sum(ops.square(ops.softmax(logits) - ops.one_hot(labels, logits.shape[-1])), axis=-1)
    >>> float(Brier("brier")(np.array([0, -1]), {"logits": np.zeros((2, 2), "float32")}))
    0.5
    """

    reads = ("logits",)
    may_read = ()
    counted = staticmethod(is_known)
    needs_negatives = False

    def __init__(self, name, rename=None):
        super().__init__(name=name, reduction="sum_over_batch_size")
        self.rename = dict(rename or {})
        unread = sorted(set(self.rename) - {*self.reads, *self.may_read})
        if unread:
            raise ValueError(
                f"`rename` must have keys that {type(self).__name__} reads: {list(self.reads)}. Received: {unread}"
            )

    def values(self, labels, outputs):
        """One value per label, not reduced; what it gives for labels that are not counted is left out.

        Args:
            labels: int32 tensor, shape (...).
            outputs: Dict of the tensors named in `reads`, at least float32, shape (..., C or K).

        Returns:
            Tensor of shape (...).
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `values(labels, outputs)`.")

    def checked(self, labels, outputs):
        """The labels as int32 tensor, if they fit the outputs. A loss on labels of another kind implements its own."""
        return integer_labels(labels, next(iter(outputs.values())), self.name)

    def terms(self):
        """The pairs (weight, loss) of which this loss is the sum; a plain loss is its own only term."""
        return [(1.0, self)]

    def __call__(self, labels, outputs, sample_weight=None):
        read = self._read(outputs)
        labels = self.checked(labels, read)
        if sample_weight is not None:
            sample_weight = nearest(ops.convert_to_tensor(sample_weight), next(iter(read.values())))
        return counted_mean(self.values(labels, read), self.counted(labels), sample_weight)

    def call(self, labels, outputs):
        return self(labels, outputs)

    def _read(self, outputs):
        if not isinstance(outputs, dict):
            raise ValueError(
                f"`{self.name}` reads named outputs: a dict with {list(self.reads)}. "
                f"Received: {type(outputs).__name__}. Use a head of cplus1_keras.heads, which gives such a dict."
            )
        names = {name: self.rename.get(name, name) for name in (*self.reads, *self.may_read)}
        missing = [names[name] for name in self.reads if names[name] not in outputs]
        if missing:
            raise ValueError(
                f"`{self.name}` reads {missing}, which the model does not give. It gives {sorted(outputs)}. "
                "Choose a head that gives it (CosineHead gives 'cosines' and 'scale', its `handed` 'kernel_norms', "
                "that of MarginWarmup 'margin_fraction'), or `rename` what the loss reads."
            )
        return {name: at_least_float32(outputs[given]) for name, given in names.items() if given in outputs}

    def __add__(self, other):
        return WeightedSum(self.terms() + _terms(other))

    def __mul__(self, weight):
        return WeightedSum([(weight * own, loss) for own, loss in self.terms()])

    __rmul__ = __mul__

    def get_config(self):
        return {"name": self.name, "rename": self.rename}


@keras.saving.register_keras_serializable("cplus1_keras")
class WeightedSum(OpenSetLoss):
    """A weighted sum of losses, made by `+` and `*`; `model.fit` logs each term under its name, unweighted.

    Args:
        terms: List of pairs (weight, loss) with weights >= 0.

    Raises:
        ValueError: If two terms have one name, or a weight is negative or not a number.

    >>> loss = losses.EntropicOpenSetLoss() + 0.01 * losses.MagnitudeLoss(xi=50.0)
    >>> [(weight, term.name) for weight, term in loss.terms()]
    [(1.0, 'entropic_open_set'), (0.01, 'magnitude')]
    """

    reads = ()

    def __init__(self, terms, name="sum"):
        self._terms = []
        for weight, loss in terms:
            if isinstance(loss, dict):
                loss = keras.saving.deserialize_keras_object(loss)
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight >= 0:
                raise ValueError(f"The weight of a loss must be a number >= 0. Received: {weight!r} for `{loss.name}`")
            self._terms.append((float(weight), loss))
        names = [loss.name for _, loss in self._terms]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"Each term of a loss is logged by its name, so the names must differ. Received twice: {twice}. "
                "Pass `name=` to one of them."
            )
        super().__init__(name=name)

    @property
    def needs_negatives(self):
        return any(loss.needs_negatives for _, loss in self._terms)

    def terms(self):
        """The pairs (weight, loss) of which this loss is the sum."""
        return list(self._terms)

    def __call__(self, labels, outputs, sample_weight=None):
        return sum(weight * loss(labels, outputs, sample_weight) for weight, loss in self._terms)

    def get_config(self):
        terms = [(weight, keras.saving.serialize_keras_object(loss)) for weight, loss in self._terms]
        return {"terms": terms, "name": self.name}


def _terms(other):
    if not isinstance(other, OpenSetLoss):
        raise TypeError(
            f"Only losses of cplus1_keras.losses add up. Received: {other!r}. Subclass `OpenSetLoss` to add your own."
        )
    return other.terms()


def integer_labels(labels, output, name):
    """The labels as int32, without a last axis of 1 that data pipelines add; `name` is of who asks, for the error.

    Labels on a finer grid than the output are taken at its cells; see `grids.nearest`.
    """
    labels = ops.convert_to_tensor(labels)
    dtype = keras.backend.standardize_dtype(labels.dtype)
    if len(labels.shape) == len(output.shape) and labels.shape[-1] == 1 and "int" in dtype:
        labels = ops.squeeze(labels, -1)
    if "int" not in dtype or len(labels.shape) != len(output.shape) - 1:
        raise ValueError(
            f"`{name}` needs one integer label per position: shape {tuple(output.shape[:-1])} for outputs of shape "
            f"{tuple(output.shape)}. Received labels of shape {tuple(labels.shape)} and dtype {dtype}. Soft or one-hot "
            "targets are not supported: pass class indices, -1 for negatives."
        )
    return nearest(ops.cast(labels, "int32"), output)
