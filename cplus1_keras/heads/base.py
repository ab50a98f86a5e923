"""What every head shares: it names its outputs, knows no label, and computes in at least float32."""

from keras import ops

from cplus1_keras.labels import check_count
from cplus1_keras.layers.hooks import OpenSetLayer, dtype_of, no_half
from cplus1_keras.numerics import at_least_float32
from cplus1_keras.numerics.derivatives import with_gradient

LARGEST_HALF = 65504.0


class Head(OpenSetLayer):
    """A layer from features (..., K) to a dict of named tensors. Under a half-precision policy it computes in float32.

    Args:
        num_classes: C >= 1, the number of known classes; never counts the background.
        **kwargs: `prefix` of its outputs' names, see `layers.OpenSetLayer`; Keras's `name`, `dtype`, `trainable`.

    Raises:
        ValueError: If an argument lies outside its range, or features do not have the shape that the head needs.

    >>> class FirstFeatures(heads.Head):
    ...     def outputs(self, features):
    ...         return {"features": features, "logits": features[..., : self.num_classes]}
    >>> tuple(FirstFeatures(3)(np.ones((2, 5), "float32"))["logits"].shape)
    (2, 3)
    """

    def __init__(self, num_classes, **kwargs):
        # The cast to the layer's dtype would round the features of a float64 or mixed model before the head sees them.
        super().__init__(dtype=no_half(kwargs.pop("dtype", None)), autocast=False, **kwargs)
        self.num_classes = check_count(num_classes)

    def call(self, features):
        features = ops.convert_to_tensor(features)
        half = dtype_of(features) == "float16"
        outputs = self.outputs(_from_half(features) if half else at_least_float32(features))
        return {self.prefix + name: output for name, output in outputs.items()}

    def outputs(self, features):
        """Dict of named tensors for features of shape (..., K), at least float32."""
        raise NotImplementedError(f"{type(self).__name__} must implement `outputs(features)`.")

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}


def _from_half(features):
    """float16 as float32, with a finite gradient: that of a short vector's direction is beyond float16's largest."""

    def backward(upstream, tensors, kept):
        held = ops.clip(upstream, -LARGEST_HALF, LARGEST_HALF)
        # What overflowed in float32 already stays so, for loss scaling to see.
        return (ops.cast(ops.where(ops.isfinite(upstream), held, upstream), "float16"),)

    return with_gradient(lambda x: (ops.cast(x, "float32"),), backward, features)
