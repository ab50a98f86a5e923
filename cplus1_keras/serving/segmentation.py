"""A SavedModel that answers for each pixel of images of any size up to a maximum."""

import json
import pathlib

import keras
import numpy as np
import tensorflow as tf

from cplus1_keras.data.preprocessing import size_pair
from cplus1_keras.labels import REJECTED
from cplus1_keras.palettes import palette
from cplus1_keras.serving import exporting
from cplus1_keras.serving.signatures import checked_names

SIGNATURES = {"serving_default": {"class_id", "score"}, "palette": {"image"}}
"""Outputs by signature. Each takes `images`."""

CLASSES_FILE = pathlib.PurePath("assets.extra", "classes.json")
"""Names and colours of the classes, in the folder of the SavedModel."""


def export(model, path, reject, class_names, max_size, dtype="uint8", colours=None, samples=None):
    """Writes a SavedModel that takes raw images of any size up to a maximum, then checks it.

    Its signatures are `serving_default` (images -> class_id, score) and `palette` (images -> image, a picture of the
    answers); see `PixelSignatures`. It needs neither Keras nor this package. Names and colours of the classes are in
    `assets.extra/classes.json`. The threshold is the one variable of the collection `threshold`.

    It is written beside `path` and renamed when every check has passed, so that `path` is complete or absent.

    Args:
        model: `keras.Model`, images (N, H, W, channels) of any size, 0..255 -> dict with `logits` (N, H, W, C or C+1).
        path: folder to write, which must not exist yet. TF Serving wants its last part to be a version number.
        reject: a `cplus1_keras.layers.Reject` with the calibrated threshold and a score that reads the logits alone.
        class_names: names of the C known classes, in the order of the logits.
        max_size: int or (height, width): larger images are an error.
        dtype: of the pixels of a request, "uint8" or "float32"; 0..255 in any case.
        colours: (C + 1, 3) uint8, the first for what is rejected; `palettes.palette(C)` where None.
        samples: images (N, H, W, channels) on which the SavedModel must agree with `model.predict`. None takes noise.

    Raises:
        FileExistsError: something is at `path`.
        ValueError: model, names, colours or samples don't fit, or a check failed; `path` is then absent.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> images = keras.Input((None, None, 3))
        >>> model = keras.Model(images, heads.LinearHead(2)(images))
        >>> export(model, folder / "1", layers.Reject(2, threshold=0.0), ["cat", "dog"], max_size=(600, 800))
        >>> served = tf.saved_model.load(str(folder / "1")).signatures["serving_default"]
        >>> served(images=tf.zeros((1, 33, 50, 3), "uint8"))["class_id"].shape.as_list()
        [1, 33, 50]
    """
    signatures = PixelSignatures(model, reject, class_names, max_size, dtype, colours)
    if samples is None:
        # Odd sizes, so that no stride divides them.
        size = [min(most, usual) for most, usual in zip(signatures.max_size, (65, 97), strict=True)]
        samples = np.random.default_rng(0).uniform(0, 255, (2, *size, signatures.channels))
    samples = np.asarray(samples).astype(dtype)

    def write(folder):
        signatures.answers(tf.constant(samples[:1]))
        endpoints = {"serving_default": signatures.answers, "palette": signatures.picture}
        exporting.archive(folder, signatures, endpoints)
        (folder / CLASSES_FILE).parent.mkdir(exist_ok=True)
        (folder / CLASSES_FILE).write_text(json.dumps(signatures.classes(), indent=1) + "\n", encoding="utf-8")

    def verify(folder):
        check(folder)
        served = tf.saved_model.load(str(folder)).signatures["serving_default"](images=tf.constant(samples))
        logits = keras.Model(model.input, {"logits": model.output["logits"]}).predict(samples, verbose=0)
        exporting.compare(served, reject(logits), ["score"], signatures)

    exporting.publish(path, write, verify)


def check(path):
    """Raises ValueError if a SavedModel lacks a signature of `export` or would execute what a server must not.

    Args:
        path: folder of the SavedModel.

    Raises:
        FileNotFoundError, ValueError: as `serving.check`.

    Example:
        >>> check("runs/voc/saved_model/1")  # doctest: +SKIP
    """
    exporting.check(path, SIGNATURES)


class PixelSignatures:
    """A segmentation model's two functions of raw images: its answers, and a picture of them.

    Both run the model in inference mode, and both fail with InvalidArgumentError for images above the maximum. The
    background never is an answer: its logit takes a share of the softmax, so its pixels have low scores and answer -1.
    A pixel whose score is NaN is rejected, and so are all pixels of an image with a NaN or infinite pixel; the other
    images keep their answers. An empty batch gives empty answers.

    Args:
        model, reject, class_names, max_size, dtype, colours: as for `export`.

    Raises:
        RuntimeError: Keras runs on another backend than TensorFlow.
        ValueError: they don't fit together.

    Example:
        >>> images = keras.Input((None, None, 3))
        >>> model = keras.Model(images, heads.LinearHead(2)(images))
        >>> signatures = PixelSignatures(model, layers.Reject(2, threshold=0.0), ["cat", "dog"], max_size=64)
        >>> signatures.answers(tf.zeros((1, 5, 7, 3), "uint8"))["score"].shape.as_list()
        [1, 5, 7]
    """

    def __init__(self, model, reject, class_names, max_size, dtype="uint8", colours=None):
        self.class_names = checked_names(class_names, reject.num_classes)
        self.channels = _checked_channels(model, reject.num_classes)
        self.max_size = size_pair(max_size)
        if dtype not in ("uint8", "float32"):
            raise ValueError(f'`dtype` of the pixels must be "uint8" or "float32". Received: {dtype!r}')
        colours = palette(reject.num_classes) if colours is None else np.asarray(colours)
        if colours.shape != (reject.num_classes + 1, 3) or colours.dtype != np.uint8:
            raise ValueError(
                f"`colours` must be ({reject.num_classes + 1}, 3) uint8, the first for what is rejected. "
                f"Received: {colours.shape}, {colours.dtype}"
            )
        # Only the logits: what else the model gives, and its weights, are no part of the SavedModel then.
        self.model = keras.Model(model.input, model.output["logits"])
        self.reject = reject
        self._colours = tf.constant(colours)
        self.inputs = [tf.TensorSpec((None, None, None, self.channels), dtype, name="images")]

    def answers(self, images):
        """The signature `serving_default`.

        Args:
            images: tensor (N, H, W, channels), raw pixels 0..255.

        Returns:
            A dict of tensors: `class_id` int32 (N, H, W), -1 where rejected; `score` float32 (N, H, W), higher = more
            known, and the lowest float32 where there is none.
        """
        images = tf.cast(self._limited(images), tf.float32)
        number = tf.shape(images)[0]
        images, finite = without_invalid(images)
        # oneDNN's convolutions fail on an empty batch, so a black image stands in for none.
        images = tf.pad(images, [[0, tf.cast(tf.equal(number, 0), tf.int32)], [0, 0], [0, 0], [0, 0]])
        answer = answered(self.reject, self.model(images, training=False)[:number], finite)
        return {name: answer[name] for name in SIGNATURES["serving_default"]}

    def picture(self, images):
        """The signature `palette`.

        Args:
            images: as for `answers`.

        Returns:
            A dict of one tensor: `image` uint8 (N, H, W, 3), the colour of each pixel's answer.
        """
        return {"image": tf.gather(self._colours, self.answers(images)["class_id"] - REJECTED)}

    def classes(self):
        """Names and colours of the classes, plain values ready for JSON."""
        colours = self._colours.numpy().tolist()
        return {
            "class_names": self.class_names,
            "colours": colours[1:],
            "rejected": {"class_id": REJECTED, "colour": colours[0]},
            "max_size": self.max_size,
        }

    def _limited(self, images):
        images = tf.ensure_shape(images, self.inputs[0].shape)
        shape, (height, width) = tf.shape(images), self.max_size
        text = (
            f"This model takes images of 1 to {height} x {width} pixels (height x width). Resize larger ones or cut "
            "them into tiles. Received images of shape:"
        )
        fits = tf.reduce_all((shape[1:3] >= 1) & (shape[1:3] <= self.max_size))
        with tf.control_dependencies([tf.debugging.Assert(fits, [text, shape])]):
            return tf.identity(images)


def without_invalid(images):
    """Images (N, H, W, channels), those with a NaN or infinite pixel replaced by black ones, and which are not, (N,).

    >>> without_invalid(tf.constant([1.0, np.nan], shape=(2, 1, 1, 1)))[1].numpy()
    array([ True, False])
    """
    finite = tf.reduce_all(tf.math.is_finite(images), axis=(1, 2, 3))
    return tf.where(finite[:, None, None, None], images, 0.0), finite


def answered(reject, logits, finite):
    """What a threshold makes of the logits of pixels; where there is no score, they are rejected.

    Args:
        reject: a `cplus1_keras.layers.Reject`.
        logits: tensor (N, H, W, C or C+1).
        finite: bool tensor (N,), which images are valid.

    Returns:
        A dict of tensors (N, H, W): `class_id` int32; `score` float32, the lowest where it is no number; `valid` bool,
        where there is one.

    >>> logits = tf.constant([[[[3.0, 0.0], [np.nan, 0.0]]]])
    >>> answered(layers.Reject(2, threshold=0.0), logits, tf.constant([True]))["class_id"].numpy()
    array([[[ 0, -1]]], dtype=int32)
    """
    answer = reject({"logits": tf.cast(logits, tf.float32)})
    score = answer["score"]
    valid = finite[:, None, None] & ~tf.math.is_nan(score)
    # Replies travel as JSON too, which knows neither NaN nor infinity.
    score = tf.where(valid, tf.clip_by_value(score, score.dtype.min, score.dtype.max), score.dtype.min)
    return {"class_id": tf.where(valid, answer["class_id"], REJECTED), "score": score, "valid": valid}


def checked_entries(model, num_classes):
    """The number of a model's logits for each pixel, if it fits."""
    outputs = model.output if isinstance(getattr(model, "output", None), dict) else {}
    logits = tuple(outputs["logits"].shape) if "logits" in outputs else sorted(outputs)
    if len(logits) != 4 or logits[-1] not in (num_classes, num_classes + 1):
        raise ValueError(
            f"{num_classes} known classes need a model that gives a dict with `logits` (N, H, W, {num_classes}), or "
            f"one more for the background. Received: {logits}"
        )
    return logits[-1]


def _checked_channels(model, num_classes):
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(f"Serving needs Keras's TensorFlow backend. It is {keras.backend.backend()!r}.")
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[1:3] != (None, None) or shape[3] is None:
        raise ValueError(
            "Needs a functional Keras model for images of any size, of input shape (None, None, None, channels). "
            f"Received: {model!r} with input shape {shape}"
        )
    checked_entries(model, num_classes)
    return shape[3]
