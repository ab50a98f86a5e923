"""What is answered for raw pixels, in TensorFlow operations: the one definition for Python and for the SavedModel."""

import warnings

import keras
import numpy as np
import tensorflow as tf

from cplus1_keras.labels import REJECTED, REJECTED_NAME

ANSWERS = ("class_id", "class_name", "known", "probabilities", "score")
"""Outputs of the signature `serving_default`."""

FEATURES = ("features", "valid")
"""Outputs of the signature `features`."""


class Signatures:
    """A classifier's two functions of raw images: its answers, and its features.

    Both run the model in inference mode, whatever its layers default to. A row with a NaN or infinite pixel, or for
    which the model itself overflows, is rejected and gives finite numbers; the other rows keep their answers. An empty
    batch gives empty answers.

    Args:
        model: a `keras.Model`, images (N, H, W, channels), 0..255 -> dict with at least `features` and `logits`.
        reject: a `cplus1_keras.layers.Reject`.
        class_names: the C names of the known classes, in the order of the logits; strings, none of them "unknown".

    Raises:
        RuntimeError: Keras runs on another backend than TensorFlow.
        ValueError: the model's input or outputs, or the class names, don't fit.

    Example:
        >>> images = keras.Input((8, 8, 1))
        >>> model = keras.Model(images, heads.LinearHead(2)(keras.layers.Flatten()(images)))
        >>> signatures = Signatures(model, layers.Reject(2, threshold=0.5), ["cat", "dog"])
        >>> signatures.answers(tf.zeros((1, 8, 8, 1)))["class_name"].numpy()
        array([b'unknown'], dtype=object)
    """

    def __init__(self, model, reject, class_names):
        if keras.backend.backend() != "tensorflow":
            raise RuntimeError(
                "Serving needs Keras's TensorFlow backend: set KERAS_BACKEND=tensorflow before Keras is imported. "
                f"It is {keras.backend.backend()!r}."
            )
        self.model = model
        self.reject = reject
        self.class_names = checked_names(class_names, reject.num_classes)
        self.image_shape = _checked_image_shape(model, reject.num_classes)
        # A gather from a constant instead of a hash table: it needs no asset and no initialisation, and TFLite runs it.
        self._names = tf.constant([*self.class_names, REJECTED_NAME])

    @property
    def inputs(self):
        """The TensorSpec of `images`, float32 (N, H, W, channels), raw pixels 0..255."""
        return [tf.TensorSpec((None, *self.image_shape), tf.float32, name="images")]

    def answers(self, images):
        """The signature `serving_default`.

        Args:
            images: float32 tensor (N, H, W, channels), raw pixels 0..255.

        Returns:
            A dict of tensors: `class_id` int32 (N,), -1 where rejected; `class_name` string (N,), "unknown" there;
            `score` float32 (N,), higher = more known; `known` bool (N,); `probabilities` float32 (N, C), all 0 in a row
            that is no image.
        """
        finite, outputs = self._run(images)
        answer = self.reject(outputs)
        probabilities, score = answer["probabilities"], answer["score"]
        valid = finite & tf.reduce_all(tf.math.is_finite(probabilities), axis=-1) & ~tf.math.is_nan(score)
        class_id = tf.where(valid, answer["class_id"], REJECTED)
        # Replies travel as JSON too, which knows neither NaN nor infinity.
        score = tf.where(valid, tf.clip_by_value(score, score.dtype.min, score.dtype.max), score.dtype.min)
        return {
            "class_id": class_id,
            "class_name": tf.gather(self._names, tf.where(class_id < 0, len(self.class_names), class_id)),
            "score": score,
            "known": answer["known"] & valid,
            "probabilities": tf.where(valid[:, None], probabilities, 0.0),
        }

    def features(self, images):
        """The signature `features`.

        Args:
            images: as for `answers`.

        Returns:
            A dict of tensors: `features` float32 (N, K), all 0 in a row that is no image, and `valid` bool (N,).
        """
        finite, outputs = self._run(images)
        features = outputs["features"]
        axes = range(1, features.shape.rank)
        valid = finite & tf.reduce_all(tf.math.is_finite(features), axis=axes)
        rows = tf.reshape(valid, [-1] + [1] * len(axes))
        return {"features": tf.where(rows, features, 0.0), "valid": valid}

    def _run(self, images):
        """Which rows are finite, and the model's outputs, in float32 where they are floating."""
        # The static shape of a signature is not enforced when it is called: a fully convolutional model takes any size.
        images = tf.ensure_shape(images, (None, *self.image_shape))
        finite = tf.reduce_all(tf.math.is_finite(images), axis=(1, 2, 3))
        images = tf.where(finite[:, None, None, None], images, 0.0)
        # oneDNN's convolutions fail on an empty batch, so one black image rides along.
        images = tf.concat([images, tf.zeros((1, *self.image_shape))], axis=0)
        outputs = {name: tensor[:-1] for name, tensor in self.model(images, training=False).items()}
        return finite, {
            name: tf.cast(tensor, tf.float32) if tensor.dtype.is_floating else tensor
            for name, tensor in outputs.items()
        }


def checked_names(class_names, num_classes):
    """The names as a list of strings, if there is one for each class, no two alike and none "unknown"."""
    names = [str(name) for name in class_names]
    if len(names) != num_classes:
        raise ValueError(f"There must be one class name for each of {num_classes} known classes. Received: {names}")
    if len(set(names)) < len(names) or REJECTED_NAME in names:
        raise ValueError(
            f"Class names must differ from each other and from {REJECTED_NAME!r}, the name of what is rejected. "
            f"Received: {names}"
        )
    return names


def warn_if_scaled(images, stacklevel=2):
    """Warns of floats that are no brighter than 1."""
    images = np.asarray(images)
    if images.dtype.kind == "f" and 0 < np.max(images, initial=0, where=np.isfinite(images)) <= 1:
        warnings.warn("The pixels look scaled to 0..1; the model takes raw pixels, 0..255.", stacklevel=stacklevel)


def _checked_image_shape(model, num_classes):
    shape = getattr(model, "input_shape", None)  # a model that was never built has none
    if not isinstance(shape, tuple) or len(shape) != 4 or None in shape[1:]:
        raise ValueError(
            "Serving needs a functional Keras model with one input of shape (None, height, width, channels), sizes "
            f"known. Received: {model!r} with input shape {shape}"
        )
    outputs = model.output if isinstance(model.output, dict) else {}
    if not {"features", "logits"} <= set(outputs):
        raise ValueError(
            "Serving needs a model that gives a dict with `features` and `logits`, as the heads of cplus1_keras.heads "
            f"do. Received: {sorted(outputs) or type(model.output).__name__}"
        )
    width = tuple(outputs["logits"].shape)[1:]
    if width not in ((num_classes,), (num_classes + 1,)):
        raise ValueError(
            f"Serving classifies images: {num_classes} known classes need logits of shape (N, {num_classes}), or "
            f"(N, {num_classes + 1}) with a background logit. Received: (N, {', '.join(map(str, width))})"
        )
    return tuple(shape[1:])
