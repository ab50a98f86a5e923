"""A run's directory, and the classifier of images or of pixels in it."""

import importlib
import json
import pathlib

import keras
import numpy as np
import tensorflow as tf

from cplus1_keras.calibration import Calibration
from cplus1_keras.layers import Reject
from cplus1_keras.serving.exporting import export
from cplus1_keras.serving.segmenter import Segmenter
from cplus1_keras.serving.signatures import Signatures, warn_if_scaled

MODEL_FILE = "model.keras"
"""The model, in a run's directory."""

CALIBRATION_FILE = "calibration.json"
"""The threshold with its evidence, the score it belongs to, names of the classes, shape of an image, and sizes that
`Segmenter` takes."""

LAYERS = ("heads", "layers", "models")
"""Modules that register the classes which a model of this package is made of, when they are imported."""

SAVED_MODEL_FOLDER = "saved_model"
"""Holds one SavedModel for each version number, as TF Serving wants it."""


class Classifier:
    """Answers for images in Python, with the same numbers as the SavedModel that it exports.

    Args:
        model: a functional `keras.Model`, images (N, H, W, channels), 0..255 -> dict with `features` and `logits`.
        reject: a `cplus1_keras.layers.Reject`.
        class_names: names of the known classes, in the order of the logits.
        calibration: the `Calibration` of the threshold, kept as evidence; None if there is none.

    Raises:
        RuntimeError: Keras runs on another backend than TensorFlow.
        ValueError: model, threshold and names don't fit together.

    Example:
        >>> images = keras.Input((8, 8, 1))
        >>> model = keras.Model(images, heads.LinearHead(3)(keras.layers.Flatten()(images)))
        >>> classifier = Classifier(model, layers.Reject(3, threshold=0.5), ["cat", "dog", "eel"])
        >>> classifier.predict(np.zeros((2, 8, 8, 1), "uint8"))["probabilities"].shape
        (2, 3)
    """

    def __init__(self, model, reject, class_names, calibration=None):
        self._signatures = Signatures(model, reject, class_names)
        self.model = model
        self.reject = reject
        self.class_names = self._signatures.class_names
        self.image_shape = self._signatures.image_shape
        self.calibration = calibration
        specification = {"input_signature": self._signatures.inputs, "autograph": False}
        self._answers = tf.function(self._signatures.answers, **specification)
        self._features = tf.function(self._signatures.features, **specification)

    def predict(self, images, batch_size=256):
        """Says for each image which known class it shows, or that it shows none of them.

        Args:
            images: array (N, H, W, channels), pixels 0..255, integers or floats; N may be 0.
            batch_size: how many go through the model at once.

        Returns:
            A dict of arrays: `class_id` int32 (N,), -1 where rejected; `class_name` str (N,), "unknown" there; `score`
            float32 (N,), higher = more known; `known` bool (N,); `probabilities` float32 (N, C). A row with a NaN or
            infinite pixel is rejected, with probabilities 0.

        Raises:
            TypeError: the images are no numbers.
            ValueError: they are not of the shape that the model was trained for.
        """
        answers = self._in_batches(self._answers, images, batch_size)
        return {**answers, "class_name": np.char.decode(answers["class_name"].astype("S"), "utf-8")}

    def features(self, images, batch_size=256):
        """The features of images, for pictures, retrieval or another score.

        Args:
            images, batch_size: as for `predict`.

        Returns:
            A dict of arrays: `features` float32 (N, K), 0 in a row that is no image, and `valid` bool (N,).

        Raises:
            TypeError, ValueError: as for `predict`.
        """
        return self._in_batches(self._features, images, batch_size)

    def export(self, path, samples=None):
        """Writes the SavedModel of this classifier; see `cplus1_keras.serving.export`."""
        export(self.model, path, self.reject, self.class_names, samples)

    def _in_batches(self, function, images, batch_size):
        images = self._checked(images)
        starts = range(0, max(len(images), 1), batch_size)
        parts = [function(tf.constant(images[i : i + batch_size], tf.float32)) for i in starts]
        return {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}

    def _checked(self, images):
        images = np.asarray(images)
        if images.dtype.kind not in "uif":
            raise TypeError(f"`images` must be integers or floats, pixels 0..255. Received: dtype={images.dtype}")
        if images.shape[1:] != self.image_shape:
            wanted = f"(N, {', '.join(map(str, self.image_shape))})"
            hint = " Add a batch axis: images[None]." if images.shape == self.image_shape else ""
            raise ValueError(f"`images` must have the shape {wanted}. Received: {images.shape}.{hint}")
        warn_if_scaled(images, stacklevel=5)
        return images.astype("float32", copy=False)


def save(run, model, calibration, score, class_names, tile=None, max_size=None):
    """Writes what `load` reads, the model and its threshold, into a run's directory.

    Args:
        run: the directory; made if absent. Files of these names in it are replaced.
        model: a functional `keras.Model`, images (N, H, W, channels), 0..255 -> dict with `features` and `logits`, of
            each image, (N, C), or of each pixel, (N, H, W, C).
        calibration: a `Calibration`.
        score: the score that was calibrated: a function of `cplus1_keras.scores`, its name, or a registered function.
        class_names: names of the known classes, in the order of the logits.
        tile, max_size: as `Segmenter` takes them, for a model of pixels; None takes what it takes by itself.

    Raises:
        ValueError: the calibration names another score, or the parts don't fit together.

    Example:
        >>> import tempfile
        >>> images, folder = keras.Input((8, 8, 1)), tempfile.mkdtemp()
        >>> model = keras.Model(images, heads.LinearHead(3)(keras.layers.Flatten()(images)))
        >>> threshold = calibration.threshold_at_fpr(np.arange(100.0), 0.1)
        >>> save(folder, model, threshold, "log_odds", ["cat", "dog", "eel"])
        >>> load(folder).class_names
        ['cat', 'dog', 'eel']
    """
    reject = Reject(len(class_names), calibration.threshold, score)
    name = getattr(reject.score, "__name__", None)
    if calibration.score not in (None, name):
        raise ValueError(f"The threshold was calibrated for the score {calibration.score!r}, not for {name!r}.")
    classifier = _answering(model, reject, class_names, calibration, tile, max_size)
    run = pathlib.Path(run)
    run.mkdir(parents=True, exist_ok=True)
    record = {
        "calibration": calibration.to_dict(),
        "score": reject.get_config()["score"],
        "class_names": classifier.class_names,
        "image_shape": classifier.image_shape,
        "tile": tile,
        "max_size": max_size,
    }
    model.save(run / MODEL_FILE)
    (run / CALIBRATION_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def load(run):
    """The classifier of a finished run, which answers as the run was judged.

    Args:
        run: a run's directory, as `save` and `train.py` write it. Models are programs: load only what you trust. If
            the model has classes of your own, import the module that registers them first.

    Returns:
        A `Classifier`, or for a model of pixels a `Segmenter`.

    Raises:
        FileNotFoundError: there is no such directory, or it holds no finished run.
        ValueError: a file is damaged, or the files don't fit together.

    Example:
        >>> load("runs/digits").predict(images)["class_name"]  # doctest: +SKIP
    """
    run = pathlib.Path(run)
    missing = [name for name in (MODEL_FILE, CALIBRATION_FILE) if not (run / name).is_file()]
    if missing:
        lacks = f"it lacks {' and '.join(missing)}" if run.is_dir() else "there is no such directory"
        raise FileNotFoundError(f"{run} is no finished run: {lacks}. `python train.py` writes one, and says where.")
    try:
        record = json.loads((run / CALIBRATION_FILE).read_text(encoding="utf-8"))
        calibration = Calibration.from_dict(record["calibration"])
        config = {"num_classes": len(record["class_names"]), "threshold": calibration.threshold}
        reject = Reject.from_config({**config, "score": record["score"]})
        names, image_shape = record["class_names"], tuple(record["image_shape"])
        sizes = record.get("tile"), record.get("max_size")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{run / CALIBRATION_FILE} is damaged: {type(error).__name__}: {error}") from error
    classifier = _answering(_load_model(run / MODEL_FILE), reject, names, calibration, *sizes)
    if classifier.image_shape != image_shape:
        raise ValueError(
            f"{run} mixes two runs: {CALIBRATION_FILE} is for images {image_shape}, {MODEL_FILE} for "
            f"{classifier.image_shape}."
        )
    return classifier


def next_version(run):
    """The path for a run's next SavedModel: `saved_model/1`, `saved_model/2`, ... in its directory.

    Example:
        >>> next_version("runs/none").name
        '1'
    """
    folder = pathlib.Path(run) / SAVED_MODEL_FOLDER
    versions = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
    return folder / str(max(versions, default=0) + 1)


def _answering(model, reject, class_names, calibration, tile, max_size):
    outputs = getattr(model, "output", None)
    sizes = {name: size for name, size in (("tile", tile), ("max_size", max_size)) if size is not None}
    if isinstance(outputs, dict) and "logits" in outputs and len(outputs["logits"].shape) == 4:
        return Segmenter(model, reject, class_names, calibration, **sizes)
    if sizes:
        raise ValueError(f"Sizes are for models that answer for each pixel; this one does not. Received: {sizes}")
    return Classifier(model, reject, class_names, calibration)


def _load_model(file):
    for module in LAYERS:
        importlib.import_module(f"cplus1_keras.{module}")
    try:
        return keras.saving.load_model(file, compile=False)
    except Exception as error:  # whatever Keras raises on a damaged file or a class that it does not know
        raise ValueError(
            f"Keras cannot read {file}. If the model has classes of your own, import the module that registers them "
            f"before. Keras said: {error}"
        ) from error
