"""A cosine classifier without a scale to choose: it follows the batch."""

import math

import keras
from keras import ops

from cplus1_keras import replicas
from cplus1_keras.heads.base import Head
from cplus1_keras.heads.cosine import cosine_outputs, kernel_norms
from cplus1_keras.labels import check_labels, is_known
from cplus1_keras.numerics import angle


def adacos_scale(labels, cosines, scale):
    """The scale at which the probability of the true class changes fastest at the batch's median angle.

        s' = log B / cos(min(π/4, θ_med)),   B = (1/N) sum_i sum_{c != y_i} exp(s cos θ_ic)

    N counts the known labels, θ_med is the median of their angles θ_iy to their true class, both over all replicas.
    Where no label is known, or s' would not be positive (all other cosines far below 0), the scale stays. No gradient
    flows through it.

    >>> cosines = np.array([[1.0, 0.0, 0.0]])  # at the centre of its class, orthogonal to two others
    >>> round(float(adacos_scale(np.array([0], "int32"), cosines, scale=5.0)), 4)  # log 2
    0.6931
    """
    classes = cosines.shape[-1]
    cosines = ops.reshape(ops.stop_gradient(cosines), (-1, classes))
    labels = ops.reshape(labels, (-1, 1))
    scale = ops.cast(scale, cosines.dtype)
    at_target = labels == ops.arange(classes, dtype="int32")
    # exp(s cos) divided by exp(s), so that it cannot overflow.
    others = ops.where(is_known(labels) & ~at_target, ops.exp(scale * (cosines - 1)), 0)
    number = replicas.total(ops.sum(ops.cast(is_known(labels), "int32")))
    mean = replicas.total(ops.sum(others)) / ops.cast(ops.maximum(number, 1), cosines.dtype)
    usable = mean > 0
    log_mean = scale + ops.log(ops.where(usable, mean, 1))

    own = angle(ops.sum(ops.where(at_target, cosines, 0), axis=-1))
    angles = ops.sort(replicas.gather(ops.where(is_known(labels)[:, 0], own, math.inf)))  # the knowns come first
    below, above = ops.maximum(number - 1, 0) // 2, number // 2
    median = (ops.take(angles, below) + ops.take(angles, above)) / 2
    new = log_mean / ops.cos(ops.minimum(median, math.pi / 4))
    return ops.stop_gradient(ops.where(usable & (number > 0) & (new > 0), new, scale))


@keras.saving.register_keras_serializable("cplus1_keras")
class AdaCosHead(Head):
    """Cosine classifier whose scale follows the training batches: z_c = s cos θ_c.

    Gives `features` φ (..., K), `cosines` and `logits` (..., C), and `scale` (..., 1). Its weights are `kernel` (K, C)
    and `scale`, which starts at the scale of the fixed AdaCos,

        s = sqrt(2) ln(C - 1),

    and in training is set by `adacos_scale` before the loss reads the logits. No gradient flows into it.

    Args:
        num_classes: C >= 3, the number of known classes; below, the first scale would be 0.

    Reference: Zhang et al. (2019), AdaCos, sections 4.1 and 4.2; Open-set losses thesis (2023), future work.

    >>> head = heads.AdaCosHead(10)
    >>> outputs = head(np.ones((2, 5), "float32"))
    >>> round(float(head.scale), 3)
    3.107
    """

    def __init__(self, num_classes, **kwargs):
        super().__init__(num_classes, **kwargs)
        if self.num_classes < 3:
            raise ValueError(
                "AdaCos starts at the scale sqrt(2) ln(num_classes - 1), which needs `num_classes` >= 3. "
                f"Received: num_classes={num_classes}. Use CosineHead with a scale of your choice."
            )

    def build(self, input_shape):
        shape = (input_shape[-1], self.num_classes)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="glorot_uniform")
        self.scale = self.add_weight(
            name="scale",
            shape=(),
            initializer=keras.initializers.Constant(math.sqrt(2) * math.log(self.num_classes - 1)),
            trainable=False,
            aggregation="only_first_replica",  # every replica computes the same value
        )

    def outputs(self, features):
        scale = ops.stop_gradient(ops.convert_to_tensor(self.scale))
        return cosine_outputs(features, ops.convert_to_tensor(self.kernel), scale)

    def update(self, labels, tensors):
        cosines = tensors["cosines"]
        self.scale.assign(adacos_scale(check_labels(labels, cosines, self.name), cosines, self.scale))

    def provide(self, tensors):
        scale = ops.full_like(tensors["scale"], ops.stop_gradient(ops.convert_to_tensor(self.scale)))
        return {"scale": scale, "logits": scale * tensors["cosines"], "kernel_norms": kernel_norms(self.kernel)}
