"""Class centres: layers on the outputs of a head that give `embeddings` and provide `centers` for the losses."""

import keras
from keras import ops

from cplus1_keras import replicas
from cplus1_keras.labels import check_count, check_labels, is_known
from cplus1_keras.layers.hooks import OpenSetLayer, no_half
from cplus1_keras.numerics import at_least_float32, divide
from cplus1_keras.numerics.derivatives import as_rows, unit
from cplus1_keras.numerics.distances import class_sums, squared_distances, unit_squared_distances


class Centers(OpenSetLayer):
    """What the three kinds of centres share: `centers(outputs)` gives the outputs of a head and `embeddings` (..., K).

    For the losses it provides `centers` (C, K), which `current()` gives, and the `squared_distances` (..., C) of the
    embeddings to them. Embeddings are the features, divided by their norms with `normalize`; logits stay as they are.
    """

    def __init__(self, normalize=True, **kwargs):
        super().__init__(dtype=no_half(kwargs.pop("dtype", None)), autocast=False, **kwargs)
        self.normalize = bool(normalize)

    def call(self, outputs):
        self._check_outputs(outputs)
        features = at_least_float32(outputs[self.prefix + "features"])
        return {**outputs, self.prefix + "embeddings": unit(features) if self.normalize else features}

    def provide(self, tensors):
        centers, features = self.current(), at_least_float32(tensors["features"])
        square = unit_squared_distances if self.normalize else squared_distances
        return {"centers": centers, "squared_distances": square(features, centers)}

    def _check_outputs(self, outputs):
        name = self.prefix + "features"
        if not isinstance(outputs, dict) or name not in outputs:
            raise ValueError(
                f"Centres are a layer on the outputs of a head, a dict with {name!r}: `centers(head(features))`. "
                f"Received: {sorted(outputs) if isinstance(outputs, dict) else type(outputs).__name__}"
            )

    def get_config(self):
        return {**super().get_config(), "normalize": self.normalize}


@keras.saving.register_keras_serializable("cplus1_keras")
class MovingAverageCenters(Centers):
    """Centres that are running means of the embeddings of each class; the best of the three in the paper.

        c <- μ c + (1 - μ) · mean of the class in the batch

    Known samples update them in training before the loss reads them, over all replicas; the first batch of a class sets
    its centre. They are constants for the gradient and not normalised again. It also provides `centers_seen` (C,),
    False for a class without a centre yet.

    Args:
        num_classes: C >= 1.
        momentum: μ in [0, 1).
        normalize: Whether the embeddings are the features divided by their norms, or the features as they are.
        **kwargs: The `prefix` of the head; Keras's `name`, `dtype`, `trainable`.

    Raises:
        ValueError: If an argument lies outside its range; when called on anything but a dict with `features`.

    Reference: C+1 loss (2022), section 3.2; the paper gives no momentum.

    >>> outputs = heads.LinearHead(3, background=True)(np.ones((2, 5), "float32"))
    >>> centers = layers.MovingAverageCenters(3)
    >>> outputs = centers(outputs)
    >>> centers.update(np.array([0, -1]), outputs)
    >>> np.array(centers.provide(outputs)["centers_seen"]).tolist()
    [True, False, False]
    """

    reads = "embeddings"

    def __init__(self, num_classes, momentum=0.9, normalize=True, **kwargs):
        super().__init__(normalize, **kwargs)
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` is the share of the old centre, in [0, 1). Received: momentum={momentum}")
        self.num_classes = check_count(num_classes)
        self.momentum = float(momentum)

    def build(self, input_shape):
        self._check_outputs(input_shape)
        fixed = {"initializer": "zeros", "trainable": False, "aggregation": "only_first_replica"}
        shape = (self.num_classes, input_shape[self.prefix + "features"][-1])
        self.centers = self.add_weight(name="centers", shape=shape, **fixed)
        self.seen = self.add_weight(name="seen", shape=(self.num_classes,), **fixed)

    def update(self, labels, tensors):
        if not self.built:
            raise ValueError(f"`{self.name}` has no centres yet: call it on the outputs of a head first.")
        embeddings = ops.stop_gradient(ops.cast(tensors["embeddings"], self.centers.dtype))
        labels = check_labels(labels, embeddings, self.name)
        inside = is_known(labels) & (labels < self.num_classes)
        segment = ops.reshape(ops.where(inside, labels, self.num_classes), (-1,))  # the last one is thrown away
        sums = class_sums(as_rows(embeddings), segment, self.num_classes + 1)
        counts = ops.segment_sum(ops.ones_like(segment, self.centers.dtype), segment, num_segments=self.num_classes + 1)
        both = replicas.total(ops.concatenate([sums, ops.expand_dims(counts, -1)], axis=-1))[:-1]
        counts = both[:, -1:]
        mean = divide(both[:, :-1], counts)
        old = ops.convert_to_tensor(self.centers)
        seen = ops.expand_dims(ops.convert_to_tensor(self.seen), -1)
        moved = ops.where(seen > 0, self.momentum * old + (1 - self.momentum) * mean, mean)
        self.centers.assign(ops.where(counts > 0, moved, old))
        self.seen.assign(ops.maximum(seen, ops.cast(counts > 0, seen.dtype))[:, 0])

    def current(self):
        return ops.stop_gradient(ops.convert_to_tensor(self.centers))

    def provide(self, tensors):
        return {**super().provide(tensors), "centers_seen": ops.convert_to_tensor(self.seen) > 0}

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes, "momentum": self.momentum}


@keras.saving.register_keras_serializable("cplus1_keras")
class LearnableCenters(Centers):
    """Centres that are a trainable weight, `centers` of shape (C, K).

    They usually want a larger learning rate than the network, from an optimizer of their own by the name of the layer:

        rates = keras.optimizers.OptimizerMap(keras.optimizers.Adam(1e-3), {"centers/.*": keras.optimizers.Adam(0.1)})
        model.compile(keras.optimizers.MultiOptimizer(rates), losses.cplus1())

    with `LearnableCenters(num_classes, name="centers")`. A `MultiOptimizer` takes no clipping and no moving average.

    Args:
        num_classes: C >= 1.
        normalize, **kwargs: As `MovingAverageCenters`. The centres themselves are never normalised.

    Reference: C+1 loss (2022), section 3.2.

    >>> outputs = layers.LearnableCenters(3)(heads.LinearHead(3, background=True)(np.ones((2, 5), "float32")))
    >>> {name: tuple(tensor.shape) for name, tensor in outputs.items()}
    {'features': (2, 5), 'logits': (2, 4), 'embeddings': (2, 5)}
    """

    def __init__(self, num_classes, normalize=True, **kwargs):
        super().__init__(normalize, **kwargs)
        self.num_classes = check_count(num_classes)

    def build(self, input_shape):
        self._check_outputs(input_shape)
        # About unit length: the length of normalised embeddings.
        length = keras.initializers.VarianceScaling(1.0, mode="fan_out", distribution="untruncated_normal")
        shape = (self.num_classes, input_shape[self.prefix + "features"][-1])
        self.centers = self.add_weight(name="centers", shape=shape, initializer=length)

    def current(self):
        return ops.convert_to_tensor(self.centers)

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}


@keras.saving.register_keras_serializable("cplus1_keras")
class SharedCenters(Centers):
    """Centres that are the weight columns of the classifier for the C known classes; the background's is none.

    The gradient of the losses on the centres flows into the classifier.

    Args:
        head: The head whose outputs it is called on, with a `kernel` of shape (K, C) or (K, C + 1).
        normalize, **kwargs: As `MovingAverageCenters`; the centres are normalised when the embeddings are.

    Reference: C+1 loss (2022), section 3.2.

    >>> head = heads.LinearHead(3, background=True)
    >>> centers = layers.SharedCenters(head)
    >>> outputs = centers(head(np.ones((2, 5), "float32")))
    >>> tuple(centers.provide(outputs)["centers"].shape)
    (3, 5)
    """

    def __init__(self, head, normalize=True, **kwargs):
        super().__init__(normalize, **kwargs)
        if isinstance(head, dict):
            head = keras.saving.deserialize_keras_object(head)
        if not isinstance(head, OpenSetLayer) or not hasattr(head, "num_classes"):
            raise ValueError(f"`head` must be the head that gives the outputs, like `LinearHead`. Received: {head!r}")
        self.head = head

    def build(self, input_shape):
        if getattr(self.head, "kernel", None) is None:
            raise ValueError(
                "`head` must have a `kernel` and be the one that gives the outputs, as in "
                f"`SharedCenters(head)(head(features))`. Received: {self.head!r}"
            )

    def current(self):
        centers = ops.transpose(ops.convert_to_tensor(self.head.kernel))[: self.head.num_classes]
        return unit(centers) if self.normalize else centers

    def get_config(self):
        return {**super().get_config(), "head": keras.saving.serialize_keras_object(self.head)}
