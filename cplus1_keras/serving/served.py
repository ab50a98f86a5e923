"""A SavedModel that `export` wrote, in Python: the arrays of a `Predictor`, by the very graph that a server runs."""

import json
import pathlib

import numpy as np
import tensorflow as tf

from cplus1_keras.calibration import read_calibration
from cplus1_keras.serving.boxes import BoxSpec
from cplus1_keras.serving.exporting import CLASSES_FILE, EVIDENCE_FILE, read_spec
from cplus1_keras.serving.pixels import PixelSpec
from cplus1_keras.serving.requests import answer_in_batches, check_images
from cplus1_keras.serving.retuning import load_saved_model
from cplus1_keras.serving.spec import ImageSpec, LabelSetSpec


class SavedModel:
    """Answers of a SavedModel, without the run or the Keras model that it came from.

    It has `spec`, `class_names`, `calibration` (None without evidence), `threshold` (a number or (C,) float32),
    `image_shape` and `version` (the number that its folder is called, else None).

    Args:
        path: Folder of a SavedModel that `export` or `retune` wrote. It is a program: load only what you trust.

    Raises:
        ValueError: There is none, it was not written by `export`, or a file of it is damaged.

    >>> import tempfile
    >>> folder, images = pathlib.Path(tempfile.mkdtemp()), keras.Input((8, 8, 1))
    >>> model = keras.Model(images, heads.LinearHead(2)(keras.layers.Flatten()(images)))
    >>> serving.Predictor(model, layers.Reject(2, threshold=0.5), ["cat", "dog"]).export(folder / "3")
    >>> served = SavedModel(folder / "3")
    >>> served.version, float(served.threshold), served.predict(np.zeros((1, 8, 8, 1)))["class_name"].tolist()
    (3, 0.5, ['unknown'])
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.loaded = load_saved_model(path)
        try:
            record = json.loads((self.path / CLASSES_FILE).read_text(encoding="utf-8"))
            evidence = self.path / EVIDENCE_FILE  # exports of long ago have none
            found = json.loads(evidence.read_text(encoding="utf-8")) if evidence.is_file() else None
            self.class_names, self.calibration = list(record["class_names"]), read_calibration(found)
            serve = self.loaded.signatures["serving_default"]
            taken = serve.structured_input_signature[1]["images"]
            self.image_shape, self.dtype = tuple(taken.shape[1:]), taken.dtype
            self.spec = _read_spec(record, self.dtype.name, serve.structured_outputs)
        except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
            folder = (self.path / CLASSES_FILE).parent
            raise ValueError(f"{folder} is damaged or incomplete: {type(error).__name__}: {error}") from error
        self.num_classes = len(self.class_names)
        self.threshold = self.loaded.threshold[0].numpy()
        self.version = int(self.path.resolve().name) if self.path.resolve().name.isdecimal() else None

    def predict(self, images, batch_size=None):
        """The answers for images, arguments as for `Predictor.predict`.

        A SavedModel that takes uint8 gets floats rounded. Large images are not cut into tiles, but refused.

        Returns:
            Dict of arrays (N, ...), the outputs of the signature `serving_default`.

        Raises:
            TypeError, ValueError: The images are none that the model takes.
        """
        images = check_images(images, self.image_shape)
        if self.dtype == tf.uint8 and images.dtype != np.uint8:
            whole = np.rint(images)
            if not ((whole >= 0) & (whole <= 255)).all():  # neither is NaN
                raise ValueError(f"{self.path} takes pixels as uint8: give finite numbers from 0 to 255.")
            images = whole
        return self._answer("serving_default", images.astype(self.dtype.name, copy=False), batch_size)

    def predict_bytes(self, contents, batch_size=None):
        """The answers for encoded images, bytes (N,): decoded and resized by the SavedModel as in training.

        Returns:
            Dict of arrays (N, ...), as for `predict`; `valid` is False where there is no image. Where images may have
            any size, also `sizes` int32 (N, 2), height and width: answers for pixels are padded to the largest.

        Raises:
            ValueError: The SavedModel has no signature `predict_bytes`: export the run again.
        """
        if "predict_bytes" not in self.loaded.signatures:
            raise ValueError(f"{self.path} has no signature `predict_bytes`. Export its run again.")
        pad = self._pad if isinstance(self.spec, PixelSpec) else None
        return self._answer("predict_bytes", np.array(contents, object), batch_size, pad)

    def _pad(self, parts):
        largest = tf.reduce_max([tf.shape(part["class_id"])[1:] for part in parts], axis=0)
        padded = (self.spec.pad({name: part[name] for name in self.spec.answers}, largest) for part in parts)
        return [{**answers, "sizes": part["sizes"]} for answers, part in zip(padded, parts, strict=True)]

    def _answer(self, signature, rows, batch_size, pad=None):
        function = self.loaded.signatures[signature]
        size = self.spec.batch_size if batch_size is None else batch_size
        return answer_in_batches(lambda part: function(**{_INPUTS[signature]: part}), rows, size, pad)


_INPUTS = {"serving_default": "images", "predict_bytes": "image_bytes"}


def _read_spec(record, dtype, outputs):
    """The spec of a SavedModel, by what its file of classes and its signature say."""
    if "spec" in record:
        return read_spec(record["spec"])
    kind = record["output"]  # exports of earlier versions say less
    if kind == ImageSpec.output:
        return ImageSpec(outputs["score"].shape.rank - 1)
    if kind == LabelSetSpec.output:
        return LabelSetSpec()
    if kind == BoxSpec.output:
        return BoxSpec(outputs["score"].shape[1], max_size=tuple(record["max_size"]), dtype=dtype)
    if kind != PixelSpec.output:
        raise ValueError(f"There is no output {kind!r}.")
    colours = (record["rejected"]["colour"], *record["colours"])
    return PixelSpec(tuple(record["max_size"]), dtype=dtype, colours=colours)
