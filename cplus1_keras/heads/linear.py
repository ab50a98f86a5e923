"""The plain classifier: logits are products of features and weights."""

import math

import keras
from keras import ops

from cplus1_keras.heads.base import Head
from cplus1_keras.numerics import norm


@keras.saving.register_keras_serializable("cplus1_keras")
class LinearHead(Head):
    """Linear classifier: z = φ W (+ b).

    Gives `features` φ (..., K) and `logits` z (..., C), or (..., C + 1) with the background last. Its weight is
    `kernel`, shape (K, C) or (K, C + 1). Without a bias it provides `weight_norms` for the margin `LSoftmax`.

    Args:
        num_classes: C, the number of known classes.
        use_bias: Whether to add a bias. The losses of the thesis assume none.
        background: Whether there is a logit for the background, the last one.
        prior: Probability in (0, 1) that the untrained head gives the knowns, where they are rare as among the points
            of a detector: all of them together with a background, each by its own sigmoid without. By the bias, with
            kernels that start small. None starts with a bias of 0.

    Raises:
        ValueError: Also for a prior without a bias.

    Reference: Open-set losses thesis (2023), Eq 3.2; the prior is that of Lin et al. (2017), section 4.1, carried over
    to the softmax.

    >>> outputs = heads.LinearHead(3, background=True)(np.ones((2, 5), "float32"))
    >>> {name: tuple(tensor.shape) for name, tensor in outputs.items()}
    {'features': (2, 5), 'logits': (2, 4)}
    """

    def __init__(self, num_classes, use_bias=False, background=False, prior=None, **kwargs):
        super().__init__(num_classes, **kwargs)
        self.use_bias = bool(use_bias)
        self.background = bool(background)
        if prior is not None and not (use_bias and 0 < prior < 1):
            raise ValueError(
                f"`prior` is a probability in (0, 1), with `use_bias=True`. Received: {prior=}, use_bias={use_bias}"
            )
        self.prior = prior

    def build(self, input_shape):
        columns = self.num_classes + self.background
        kernel = "glorot_uniform" if self.prior is None else keras.initializers.RandomNormal(stddev=0.01)
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], columns), initializer=kernel)
        start = self._first_bias
        self.bias = self.add_weight(name="bias", shape=(columns,), initializer=start) if self.use_bias else None

    def _first_bias(self, shape, dtype=None):
        odds = 0.0 if self.prior is None else math.log((1 - self.prior) / self.prior)
        if self.prior is None or not self.background:
            return ops.full(shape, -odds, dtype)
        last = odds + math.log(self.num_classes)  # of p = C / (C + e^b)
        return ops.concatenate([ops.zeros((shape[0] - 1,), dtype), ops.full((1,), last, dtype)])

    def outputs(self, features):
        logits = ops.matmul(features, self.kernel)
        return {"features": features, "logits": logits + self.bias if self.use_bias else logits}

    def provide(self, tensors):
        return {} if self.use_bias else {"weight_norms": norm(ops.convert_to_tensor(self.kernel), axis=0)}

    def get_config(self):
        config = {"use_bias": self.use_bias, "background": self.background}
        return {**super().get_config(), **config, **({} if self.prior is None else {"prior": self.prior})}
