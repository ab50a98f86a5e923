"""The plain classifier: logits are products of features and weights."""

import keras
from keras import ops

from cplus1_keras.heads.base import Head


@keras.saving.register_keras_serializable("cplus1_keras")
class LinearHead(Head):
    """Linear classifier: z = φ W (+ b).

    Gives `features` φ (..., K) and `logits` z (..., C), or (..., C + 1) with the background last. Its weight is
    `kernel`, shape (K, C) or (K, C + 1).

    Args:
        num_classes: C, the number of known classes.
        use_bias: Whether to add a bias. The losses of the thesis assume none.
        background: Whether there is a logit for the background, the last one.

    Reference: Open-set losses thesis (2023), Eq 3.2.

    >>> outputs = heads.LinearHead(3, background=True)(np.ones((2, 5), "float32"))
    >>> {name: tuple(tensor.shape) for name, tensor in outputs.items()}
    {'features': (2, 5), 'logits': (2, 4)}
    """

    def __init__(self, num_classes, use_bias=False, background=False, **kwargs):
        super().__init__(num_classes, **kwargs)
        self.use_bias = bool(use_bias)
        self.background = bool(background)

    def build(self, input_shape):
        columns = self.num_classes + self.background
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], columns), initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=(columns,), initializer="zeros") if self.use_bias else None

    def outputs(self, features):
        logits = ops.matmul(features, self.kernel)
        return {"features": features, "logits": logits + self.bias if self.use_bias else logits}

    def get_config(self):
        return {**super().get_config(), "use_bias": self.use_bias, "background": self.background}
