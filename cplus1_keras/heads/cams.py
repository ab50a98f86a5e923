"""The classifier on feature maps that shows where it sees each class."""

import keras
from keras import ops

from cplus1_keras.heads.base import Head


@keras.saving.register_keras_serializable("cplus1_keras")
class CAMHead(Head):
    """Linear classifier on maps F: class activation maps M_o = sum_k W_ko F_k (+ b_o), whose spatial mean is the logit.

    Takes the maps of a backbone before pooling, shape (batch, h, w, K). Gives `cams` M (batch, h, w, C), `logits`
    (batch, C) and `features` (batch, K), the spatial mean of F. Its weight is `kernel`, shape (K, C).

    Args:
        num_classes: C, the number of known classes.
        use_bias: Whether to add a bias; it is part of the maps.

    Reference: Homogeneous negative CAM (2020), Eq 1; Zhou et al. (2016), Eq 2.

    >>> outputs = heads.CAMHead(3)(np.ones((2, 4, 4, 5), "float32"))
    >>> {name: tuple(tensor.shape) for name, tensor in outputs.items()}
    {'features': (2, 5), 'cams': (2, 4, 4, 3), 'logits': (2, 3)}
    """

    takes_maps = True

    def __init__(self, num_classes, use_bias=True, **kwargs):
        super().__init__(num_classes, **kwargs)
        self.use_bias = bool(use_bias)

    def build(self, input_shape):
        if len(input_shape) != 4:
            raise ValueError(
                f"`{self.name}` needs feature maps of shape (batch, height, width, features), before pooling. "
                f"Received: {tuple(input_shape)}"
            )
        shape = (input_shape[-1], self.num_classes)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=shape[1:], initializer="zeros") if self.use_bias else None

    def outputs(self, features):
        cams = ops.matmul(features, self.kernel)
        if self.use_bias:
            cams = cams + self.bias
        pooled = ops.mean(features, axis=(1, 2))
        return {"features": pooled, "cams": cams, "logits": ops.mean(cams, axis=(1, 2))}

    def get_config(self):
        return {**super().get_config(), "use_bias": self.use_bias}
