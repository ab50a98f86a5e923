"""Answers for each pixel: tiles for large images, the flip test, pictures of the answers."""

import dataclasses
import functools
import itertools
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from cplus1_keras.labels import REJECTED
from cplus1_keras.layers.resizing import size_pair
from cplus1_keras.palettes import palette
from cplus1_keras.serving import guards
from cplus1_keras.serving.signatures import Signature
from cplus1_keras.serving.spec import Spec


@dataclasses.dataclass(frozen=True)
class PixelSpec(Spec):
    """One class of each pixel, or none. Answers, each (N, H, W):

    `class_id` int32, -1 where rejected, which is what a pixel of the background should be; `score` float32, higher =
    more known; `known_argmax` int32, the known class with the largest logit, before any rejection; `argmax` int32, the
    class with the largest logit, C for the background, as mIoU counts it; `valid` bool, False where there is no score,
    which then is the lowest number: in images with a NaN or a pixel far outside 0..255, and where the model gives NaN.

    A SavedModel gives `class_id`, `score` and `valid`, and by the signature `palette` a picture of them. It answers as
    `predict` does, flip test included, but in one piece: it cuts no tiles and refuses images above `max_size`.

    Args:
        max_size: int or (height, width): the largest image that a SavedModel takes.
        tile: None, or int or (height, width): in Python larger images are cut into tiles of this size. The logits of
            pixels in several tiles are averaged.
        overlap: Share of a tile that the next one covers again, at least, in [0, 1).
        mirror: None, or the class of each known class in a mirrored image: then the softmax of image and mirrored image
            are averaged (the flip test). Scores read the logarithms of these probabilities as logits.
        scales: Factors of the image's sides: the softmax of all scaled images is averaged in the same way, each resized
            to the image's size.
        dtype: Of the pixels of a request, "uint8" or "float32"; 0..255 in any case.
        colours: Red, green and blue, 0 to 255, of what is rejected and of each class; `palettes.palette` where None.

    Reference: the flip test, the scales and the sliding window of mmsegmentation; C+1 paper, Table 9.

    >>> PixelSpec(tile=512).to_dict()["tile"]
    (512, 512)
    """

    max_size: int | tuple = 2048
    tile: int | tuple | None = None
    overlap: float = 0.25
    mirror: tuple | None = None
    scales: tuple = (1.0,)
    dtype: str = "uint8"
    colours: tuple | None = None

    output: ClassVar[str] = "pixel"
    reads: ClassVar[tuple] = ("logits",)
    axes: ClassVar[str] = "N, H, W"
    batch_size: ClassVar[int] = 8
    columns: ClassVar[tuple] = ("rejected", "classes")
    answers: ClassVar[tuple] = ("class_id", "score", "valid")

    def __post_init__(self):
        if not 0 <= self.overlap < 1:
            raise ValueError(f"`overlap` is a share of a tile, in [0, 1). Received: {self.overlap!r}")
        if self.dtype not in ("uint8", "float32"):
            raise ValueError(f'`dtype` of the pixels must be "uint8" or "float32". Received: {self.dtype!r}')
        scales = tuple(float(scale) for scale in self.scales)
        if not scales or not all(0 < scale < float("inf") for scale in scales):
            raise ValueError(f"`scales` are factors > 0, one at least. Received: {self.scales!r}")
        plain = {
            "scales": scales,
            "max_size": size_pair(self.max_size),
            "tile": None if self.tile is None else size_pair(self.tile),
        }
        if self.mirror is not None:
            plain["mirror"] = tuple(int(k) for k in self.mirror)
        if self.colours is not None:
            plain["colours"] = tuple(tuple(int(level) for level in colour) for colour in self.colours)
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def check(self, model, num_classes):
        super().check(model, num_classes)
        if self.mirror is not None and sorted(self.mirror) != [*range(num_classes)]:
            needs = f"`mirror` names the class of each of {num_classes} classes in a mirrored image"
            raise ValueError(f"{needs}. Received: {self.mirror}")
        levels = np.array(self.colours or np.zeros((num_classes + 1, 3)))
        if levels.shape != (num_classes + 1, 3) or levels.min() < 0 or levels.max() > 255:
            needs = f"`colours` must be {num_classes + 1} times red, green and blue, 0 to 255, the first for rejections"
            raise ValueError(f"{needs}. Received: {self.colours}")

    def narrow(self, model):
        """Only the logits: what else the model gives is never computed, and its weights are not in a SavedModel."""
        return keras.Model(model.input, {"logits": model.output["logits"]})

    def outputs(self, run, images, num_classes):
        views = [view for scale in self.scales for view in self._views(run, images, scale)]
        if len(views) == 1:
            return {"logits": views[0]}
        mean = tf.reduce_logsumexp(tf.stack([tf.nn.log_softmax(logits) for logits in views]), axis=0)
        return {"logits": mean - tf.math.log(float(len(views)))}

    def _views(self, run, images, scale):
        """The logits of the images and, where that is asked for, of the mirrored ones, at a scale."""
        size = tf.shape(images)[1:3]
        if scale != 1:
            scaled = tf.cast(tf.round(scale * tf.cast(size, tf.float32)), tf.int32)
            images = tf.image.resize(images, tf.maximum(scaled, 1), antialias=True)
        views = [run(images)["logits"]]
        if self.mirror is not None:
            swap = [*self.mirror, *range(len(self.mirror), views[0].shape[-1])]
            mirrored = run(tf.reverse(images, [2]))["logits"]
            views.append(tf.gather(tf.reverse(mirrored, [2]), swap, axis=-1))
        return views if scale == 1 else [tf.image.resize(logits, size) for logits in views]

    def decide(self, predictor, outputs, valid, threshold=None):
        logits = outputs["logits"]
        answer = predictor.reject(outputs, threshold=guards.spread(threshold, logits))
        valid = valid[:, None, None] & ~tf.math.is_nan(answer["score"])
        return {
            "class_id": tf.where(valid, answer["class_id"], REJECTED),
            "score": guards.finite(answer["score"], valid),
            "known_argmax": tf.argmax(logits[..., : predictor.num_classes], axis=-1, output_type=tf.int32),
            "argmax": tf.argmax(logits, axis=-1, output_type=tf.int32),
            "valid": valid,
        }

    def predict(self, predictor, images):
        if self._in_one_piece(images):
            answers = predictor.answer_graph(images)
            _check_size(images, answers["class_id"])
            return answers
        images, valid = guards.only_valid(images)
        return self.decide(predictor, self.merge(predictor, images), valid)

    def merge(self, predictor, images):
        """The outputs that `predict` reads: averaged over tiles, and over mirrored images if that is asked for."""
        run = functools.partial(self._tiled, predictor.run_graph)
        return self.outputs(lambda part: {"logits": run(part)}, images, predictor.num_classes)

    def signatures(self, predictor):
        found = super().signatures(predictor)
        answer, images = found["serving_default"], found["serving_default"].inputs
        colours = tf.constant(np.array(self._colours(predictor.num_classes), "uint8"))

        def picture(images):
            return {"image": tf.gather(colours, answer(images)["class_id"] - REJECTED)}

        return {**found, "palette": Signature(picture, images, ("image",))}

    def pad(self, answer, size):
        more = [[0, 0], *([0, have] for have in tf.unstack(size - tf.shape(answer["class_id"])[1:]))]
        fill = {"class_id": REJECTED, "score": tf.float32.min, "valid": False}
        return {name: tf.pad(value, more, constant_values=fill[name]) for name, value in answer.items()}

    def tell(self, predictor, answer):
        shown = np.unique(answer["class_id"])
        names = [predictor.class_names[k] for k in shown[shown >= 0]]
        return [{"rejected": float(np.mean(answer["class_id"] == REJECTED)), "classes": "; ".join(names)}]

    def picture(self, predictor, answer):
        return np.array(self._colours(predictor.num_classes), "uint8")[answer["class_id"] - REJECTED]

    def describe(self, predictor):
        first, *colours = self._colours(predictor.num_classes)
        rejected = {"class_id": REJECTED, "colour": first}
        return {**super().describe(predictor), "colours": colours, "rejected": rejected}

    def _colours(self, num_classes):
        return palette(num_classes).tolist() if self.colours is None else [list(colour) for colour in self.colours]

    def _in_one_piece(self, images):
        return self.tile is None or all(have <= most for have, most in zip(images.shape[1:3], self.tile, strict=True))

    def _tiled(self, run, images):
        if self._in_one_piece(images):
            return run(images)["logits"]
        size = images.shape[1:3]
        rows, columns = (_starts(have, most, self.overlap) for have, most in zip(size, self.tile, strict=True))
        total, times = None, np.zeros((*size, 1), "float32")
        for top, left in itertools.product(rows, columns):
            place = slice(top, top + self.tile[0]), slice(left, left + self.tile[1])
            logits = run(images[:, *place])["logits"].numpy()
            _check_size(images[:, *place], logits)
            if total is None:
                total = np.zeros((len(logits), *size, logits.shape[-1]), "float32")
            total[:, *place] += logits
            times[place] += 1
        return tf.constant(total / times)


def _check_size(images, logits):
    if logits.shape[1:3] != images.shape[1:3]:
        raise ValueError(
            f"The model must give logits of its images' size, {tuple(images.shape[1:3])}, as those of "
            f"`models.segmentation_model` do. Received: {tuple(logits.shape[1:3])}"
        )


def _starts(size, tile, overlap):
    """Where tiles begin along an axis: as few as overlap enough, spread evenly from the first pixel to the last."""
    if size <= tile:
        return [0]
    step = max(1, int(tile * (1 - overlap)))
    number = -(-(size - tile) // step) + 1
    return [i * (size - tile) // (number - 1) for i in range(number)]
