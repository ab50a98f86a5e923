"""A loss on mixed images: each label counts by its share."""

import keras

from cplus1_keras.losses.base import OpenSetLoss, WeightedSum


@keras.saving.register_keras_serializable("cplus1_keras")
class MixedLoss(OpenSetLoss):
    """A loss of images that `data.mixing.mixup` mixed, λ L(labels) + (1 - λ) L(mixed_labels); without, the loss itself.

    Each of the two divides by the number of labels that it counts. Layers that follow the batch, like centres, see the
    label of the larger share.

    Args:
        loss: The loss; of a sum each term is mixed, see `mix`.

    Reference: Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018.

    >>> y = {"labels": np.array([0]), "mixed_labels": np.array([1]), "mixed_share": np.array([0.75], "float32")}
    >>> loss = losses.MixedLoss(losses.CrossEntropyLoss())
    >>> round(float(loss(y, {"logits": np.log([[0.5, 0.25]])})), 4)  # 0.75 log 1.5 + 0.25 log 3
    0.5788
    """

    def __init__(self, loss, name=None):
        if isinstance(loss, dict):
            loss = keras.saving.deserialize_keras_object(loss)
        if not isinstance(loss, OpenSetLoss) or isinstance(loss, WeightedSum):
            raise ValueError(f"`loss` is one loss, no sum: `mix(loss)` mixes each term of one. Received: {loss!r}")
        self.loss = loss
        self.reads, self.may_read, self.truth = loss.reads, loss.may_read, loss.truth
        self.needs_negatives, self.smooths, self.prefix = loss.needs_negatives, loss.smooths, loss.prefix
        super().__init__(name or loss.name)

    def __call__(self, labels, outputs, sample_weight=None):
        if not isinstance(labels, dict) or "mixed_share" not in labels:
            return self.loss(labels, outputs, sample_weight)
        share = labels["mixed_share"]
        own, other = (part if sample_weight is None else part * sample_weight for part in (share, 1 - share))
        second = {**labels, "labels": labels["mixed_labels"]}
        return self.loss(labels, outputs, own) + self.loss(second, outputs, other)

    def of(self, prefix, name=None):
        return MixedLoss(self.loss.of(prefix, name))

    def per_known(self):
        return MixedLoss(self.loss.per_known())

    def smooth(self, rate):
        return MixedLoss(self.loss.smooth(rate))

    def get_config(self):
        return {"name": self.name, "loss": keras.saving.serialize_keras_object(self.loss)}


def mix(loss):
    """The same loss on mixed images, of a sum each term.

    >>> [(weight, term.name) for weight, term in mix(losses.objectosphere(7.0)).terms()]
    [(1.0, 'entropic_open_set'), (0.01, 'magnitude')]
    """
    if not isinstance(loss, WeightedSum):
        return loss if isinstance(loss, MixedLoss) else MixedLoss(loss)
    return WeightedSum([(weight, mix(term)) for weight, term in loss.terms()], loss.name)
