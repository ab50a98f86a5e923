"""Answers in Python, with the same numbers as the SavedModel."""

import functools

import keras
import tensorflow as tf

from cplus1_keras.labels import check_names
from cplus1_keras.serving import guards
from cplus1_keras.serving.boxes import BoxSpec
from cplus1_keras.serving.exporting import export
from cplus1_keras.serving.pixels import PixelSpec
from cplus1_keras.serving.requests import answer_in_batches, check_images
from cplus1_keras.serving.spec import ImageSpec


class Predictor:
    """Answers for raw images: which known class an image, or each of its pixels, shows, or none; or which classes.

    A row with a NaN or a pixel far outside 0..255, or for which the model overflows, is rejected, is not `valid` and
    gives finite numbers; the other rows keep their answers.

    Args:
        model: A functional `keras.Model`, images (N, H, W, channels), 0..255 -> dict with `logits` and, of images,
            `features`.
        reject: What decides: `layers.Reject`, or `layers.Presence` for label sets.
        class_names: Names of the C known classes, in the order of the logits; "0", "1", ... where None.
        spec: What the outputs mean; None takes an `ImageSpec`, of pixels a `PixelSpec`, of boxes a `BoxSpec`.
        calibration: The evidence for the threshold, kept with it; None if there is none.

    Raises:
        RuntimeError: Keras runs on another backend than TensorFlow.
        ValueError: Model, threshold, names and spec don't fit together.

    >>> images = keras.Input((8, 8, 1))
    >>> model = keras.Model(images, heads.LinearHead(3)(keras.layers.Flatten()(images)))
    >>> predictor = Predictor(model, layers.Reject(3, threshold=0.5), ["cat", "dog", "eel"])
    >>> predictor.predict(np.zeros((2, 8, 8, 1), "uint8"))["class_name"].tolist()
    ['unknown', 'unknown']
    """

    def __init__(self, model, reject, class_names=None, spec=None, calibration=None):
        if keras.backend.backend() != "tensorflow":
            needs = "Serving needs Keras's TensorFlow backend: set KERAS_BACKEND=tensorflow before Keras is imported"
            raise RuntimeError(f"{needs}. It is {keras.backend.backend()!r}.")
        self.spec = spec or _default_spec(getattr(model, "output", None))
        if not isinstance(reject, self.spec.layer):
            raise ValueError(f"{type(self.spec).__name__} needs a `{self.spec.layer.__name__}`. Received: {reject!r}")
        self.model, self.reject, self.calibration = model, reject, calibration
        self.num_classes = reject.num_classes
        names = range(self.num_classes) if class_names is None else class_names
        self.class_names = check_names(names, self.num_classes)
        self.spec.check(model, self.num_classes)
        self.image_shape = tuple(model.input_shape[1:])
        self.background = model.output["logits"].shape[-1] > self.num_classes
        self.network = self.spec.narrow(model)
        given = {"input_signature": [tf.TensorSpec((None, *self.image_shape), tf.float32)], "autograph": False}
        # Each is traced once, whoever calls it, and stands once in a SavedModel.
        self.run_graph = tf.function(functools.partial(guards.infer, self.network), **given)
        self.read_graph = tf.function(self._read, **given)
        self.answer_graph = tf.function(self.answer, **given)
        self.features_graph = tf.function(self._features, **given)
        self.outputs_graph = tf.function(self._outputs, **given)

    def predict(self, images, batch_size=None):
        """The answers for images.

        Args:
            images: (N, H, W, channels), pixels 0..255, integers or floats; N may be 0.
            batch_size: How many go through the model at once; None takes what the spec says.

        Returns:
            Dict of arrays (N, ...), as the class of `spec` lists them.

        Raises:
            TypeError: The images are no numbers.
            ValueError: They are not of the shape that the model takes.
        """
        return self._in_batches(lambda batch: self.spec.predict(self, batch), images, batch_size)

    def features(self, images, batch_size=None):
        """The features of images, arguments as for `predict`; ValueError for a model that gives none.

        Returns:
            Dict of arrays: `features` float32 (N, ...), 0 in a row that is not valid, and `valid` bool (N,).
        """
        if "features" not in self.model.output:
            raise ValueError(f"This model gives no `features`. Its outputs are: {', '.join(sorted(self.model.output))}")
        return self._in_batches(self.features_graph, images, batch_size)

    def outputs(self, images, batch_size=None):
        """All that the model gives for images, arguments as for `predict`: dict of arrays, and `valid` bool (N,)."""
        return self._in_batches(self.outputs_graph, images, batch_size)

    def export(self, path, samples=None):
        """Writes the SavedModel of these answers; see `serving.export`."""
        export(self, path, samples)

    def answer(self, images, threshold=None):
        """The answers for a float32 tensor of images, by this threshold, one for each image, where it is given."""
        outputs, valid = self.read_graph(images)
        return self.spec.decide(self, outputs, valid, threshold)

    def _read(self, images):
        images, valid = guards.only_valid(images)
        return self.spec.outputs(self.run_graph, images, self.num_classes), valid

    def _outputs(self, images):
        images, valid = guards.only_valid(images)
        return {**guards.infer(self.model, images), "valid": valid}

    def _features(self, images):
        images, valid = guards.only_valid(images)
        run = self.run_graph if "features" in self.network.output else functools.partial(guards.infer, self.model)
        features = run(images)["features"]
        axes = range(1, features.shape.rank)
        valid &= tf.reduce_all(tf.math.is_finite(features), axis=axes)
        rows = tf.reshape(valid, [-1] + [1] * len(axes))
        return {"features": tf.where(rows, features, 0.0), "valid": valid}

    def _in_batches(self, function, images, batch_size):
        images = check_images(images, self.image_shape)
        size = self.spec.batch_size if batch_size is None else batch_size
        return answer_in_batches(lambda rows: function(tf.cast(rows, tf.float32)), images, size)


def _default_spec(outputs):
    outputs = outputs if isinstance(outputs, dict) else {}
    if {"box_offsets", "roi_boxes"} & set(outputs):
        return BoxSpec()
    return PixelSpec() if "logits" in outputs and len(outputs["logits"].shape) == 4 else ImageSpec()
