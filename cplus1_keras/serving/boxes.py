"""Detections: boxes from points, of which overlapping ones are suppressed, in the graph."""

import dataclasses
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from cplus1_keras.labels import REJECTED, REJECTED_NAME
from cplus1_keras.layers.regions import RoIHeads
from cplus1_keras.layers.resizing import size_pair
from cplus1_keras.layers.suppression import suppress
from cplus1_keras.numerics.boxes import area, clip, decode, sample_masks
from cplus1_keras.serving import guards
from cplus1_keras.serving.spec import Spec

POINTS, REGIONS = ("box_offsets", "centerness", "points"), ("roi_boxes",)
"""What tells of boxes beside `logits`: outputs of a detector of one stage, and of two."""

MAPS = ("map", "image_size")
"""What the names of outputs begin with that masks are made of."""


@dataclasses.dataclass(frozen=True)
class BoxSpec(Spec):
    """Objects in an image: box, class or none, by rows. Answers:

    `boxes` float32 (N, M, 4), x1, y1, x2, y2 in pixels of the image, M = `max_detections`; `class_id` int32 (N, M), -1
    where rejected; `class_name` string (N, M), "unknown" there; `score` float32 (N, M), higher = more known;
    `confidence` float32 (N, M), by which rows fall: the probability of the class, of points times the centerness;
    `num_detections` int32 (N,): the rows after them have boxes of zeros, the class -1, no name and the lowest score;
    `masks` uint8 (N, M, H, W), where asked for, 1 where the image shows the object; `valid` bool (N,), False where the
    image has a NaN or a pixel far outside 0..255 or the model overflows: then it has no detections. `predict`
    also gives `known_argmax` int32 (N, M), the class before any rejection.

    Each pair of a point, or of a region, and a class whose probability is above `score_threshold` is a candidate, the
    `per_level` most confident ones of each level; regions are of one. By falling confidence a candidate is kept unless
    its IoU with a kept one of its class is above `iou`. The score is the point's own, the same for all of its classes.

    Args:
        max_detections: M >= 1.
        per_level: Candidates of each level of the pyramid, at most.
        score_threshold: Probability that a candidate must exceed, in [0, 1); centerness plays no part in it.
        iou: In (0, 1].
        class_agnostic: Whether a kept candidate suppresses those of other classes, too.
        sigmoid: Whether each class has a probability of its own, the logistic function of its logit, as
            `losses.SigmoidFocalLoss` trains it. Otherwise the logits' softmax gives them.
        masks: Whether the masks of `models.rcnn(masks=True)` are answered too, at the size of the image.
        max_size: int or (height, width): the largest image that a SavedModel takes.
        dtype: Of the pixels of a request, "uint8" or "float32"; 0..255 in any case.

    Raises:
        ValueError: For a setting outside its range.

    Reference: Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019, and its code.

    >>> BoxSpec(max_size=512).to_dict()["max_size"]
    (512, 512)
    """

    max_detections: int = 100
    per_level: int = 1000
    score_threshold: float = 0.05
    iou: float = 0.6
    class_agnostic: bool = False
    sigmoid: bool = False
    masks: bool = False
    max_size: int | tuple = 2048
    dtype: str = "uint8"

    output: ClassVar[str] = "boxes"
    reads: ClassVar[tuple] = ("logits",)
    axes: ClassVar[str] = "N, L"
    batch_size: ClassVar[int] = 8
    columns: ClassVar[tuple] = ("x1", "y1", "x2", "y2", "class_name", "score", "confidence")
    compared: ClassVar[tuple] = ("score", "confidence", "boxes")

    def __post_init__(self):
        ranges = {
            "max_detections": self.max_detections >= 1,
            "per_level": self.per_level >= 1,
            "score_threshold": 0 <= self.score_threshold < 1,
            "iou": 0 < self.iou <= 1,
            "dtype": self.dtype in ("uint8", "float32"),
        }
        wrong = [f"{name}={getattr(self, name)!r}" for name, fits in ranges.items() if not fits]
        if wrong:
            raise ValueError(
                "`max_detections` and `per_level` are at least 1, `score_threshold` lies in [0, 1), `iou` in (0, 1], "
                f'`dtype` is "uint8" or "float32". Received: {", ".join(wrong)}'
            )
        object.__setattr__(self, "max_size", size_pair(self.max_size))

    @property
    def answers(self):
        names = "boxes", "class_id", "class_name", "confidence", "num_detections", "score", "valid"
        return (*names, "masks") if self.masks else names

    def check(self, model, num_classes):
        super().check(model, num_classes)
        if not any(set(names) <= set(model.output) for names in (POINTS, REGIONS)):
            needs = f"Detections need a model that gives {', '.join(POINTS)}, as `models.fcos`, or {', '.join(REGIONS)}"
            raise ValueError(f"{needs}, as `models.rcnn`. Received: {sorted(model.output)}")
        if self.masks and "image_size" not in model.output:
            raise ValueError(f"Masks need `models.rcnn(masks=True)`. Received: a model with {sorted(model.output)}")

    def outputs(self, run, images, num_classes):
        found = {name: tf.cast(value, tf.float32) for name, value in run(images).items()}
        boxes, weights, levels = _boxes(found)
        p = tf.sigmoid(found["logits"]) if self.sigmoid else tf.nn.softmax(found["logits"])[..., :num_classes]
        confidence = tf.where(p > self.score_threshold, p * weights, 0.0)
        places, confidence = strongest(confidence, levels, self.per_level)
        point, k = places // num_classes, places % num_classes
        every = p, boxes, *(found[name] for name in POINTS if name in found)
        size = tf.cast(tf.shape(images)[1:3], tf.float32)
        finite = [tf.reduce_all(tf.math.is_finite(x), axis=range(1, x.shape.rank)) for x in every]
        boxes = _rows(boxes, point) if boxes.shape.rank == 3 else tf.gather_nd(boxes, tf.stack([point, k], -1), 1)
        boxes = clip(boxes, size)
        groups, count = (tf.zeros_like(k), 1) if self.class_agnostic else (k, num_classes)
        rows, number = suppress(boxes, confidence, groups, self.iou, self.max_detections, count, size)
        kept = tf.range(self.max_detections) < number[:, None]
        point = _rows(point, rows)
        read = {name: _rows(found[name], point) for name in ("logits", "features") if name in found}
        read |= {name: x for name, x in found.items() if self.masks and name.startswith(MAPS)}
        return {
            **read,
            "size": size,
            "boxes": tf.where(kept[..., None], _rows(boxes, rows), 0.0),
            "classes": _rows(k, rows),
            "confidence": tf.where(kept, _rows(confidence, rows), 0.0),
            "kept": kept,
            "finite": tf.reduce_all(finite, axis=0),
        }

    def decide(self, predictor, outputs, valid, threshold=None):
        answer = predictor.reject(outputs, threshold=guards.spread(threshold, outputs["logits"]))
        valid &= outputs["finite"]
        kept = outputs["kept"] & valid[:, None]
        class_id = tf.where(kept & answer["known"], outputs["classes"], REJECTED)
        names = tf.constant([REJECTED_NAME, *predictor.class_names])
        masks = {"masks": self._masks(predictor, outputs, kept)} if self.masks else {}
        return masks | {
            "boxes": tf.where(kept[..., None], outputs["boxes"], 0.0),
            "class_id": class_id,
            "class_name": tf.where(kept, tf.gather(names, class_id - REJECTED), ""),
            "confidence": tf.where(kept, outputs["confidence"], 0.0),
            "known_argmax": tf.where(kept, outputs["classes"], 0),
            "num_detections": tf.reduce_sum(tf.cast(kept, tf.int32), axis=1),
            "score": guards.finite(answer["score"], kept),
            "valid": valid,
        }

    def _masks(self, predictor, outputs, kept):
        """Where each kept detection is, uint8 (N, M, H, W)."""
        (heads,) = [layer for layer in predictor.network._flatten_layers() if isinstance(layer, RoIHeads)]
        size, maps = outputs["size"], [outputs[name] for name in sorted(outputs) if name.startswith("map")]
        # The maps are of images that may be scaled.
        scale = tf.tile((outputs["image_size"] / size)[:, ::-1], [1, 2])[:, None]
        inside = heads.masks(maps, outputs["boxes"] * scale, outputs["classes"])
        whole = tf.tile(tf.concat([[0.0, 0.0], size[::-1]], 0)[None, None], [*tf.unstack(tf.shape(kept)), 1])
        pasted = sample_masks(inside, outputs["boxes"], whole, tf.unstack(tf.cast(size, tf.int32)))
        return tf.cast((pasted >= 0.5) & kept[..., None, None], tf.uint8)

    def pad(self, answer, size):
        if self.masks:
            more = [[0, have] for have in tf.unstack(size - tf.shape(answer["masks"])[2:])]
            answer = {**answer, "masks": tf.pad(answer["masks"], [[0, 0], [0, 0], *more])}
        return answer

    def align(self, served, expected):
        expected = {**expected, "class_id": np.where(expected["known"], expected["classes"], REJECTED)}
        kept = expected["kept"]
        image = np.nonzero(kept)[0]
        there = np.concatenate([expected["boxes"][kept], 100 * expected["confidence"][kept][:, None]], axis=-1)
        here = np.concatenate([served["boxes"], 100 * served["confidence"][..., None]], axis=-1)
        gaps = np.abs(here[image] - there[:, None]).max(axis=-1)
        alike = gaps.min(axis=1, initial=np.inf) < 1  # pixel, or hundredth of confidence
        lost = max(np.sum(~alike), np.sum(served["num_detections"]) - np.sum(alike))
        if lost > max(1, len(image) // 50):  # where overlaps or confidences nearly tie, rounding may keep another one
            found = f"{lost} of {len(image)}"
            raise ValueError(f"The SavedModel finds other objects than `predict` on the samples: {found}.")
        place = image[alike], gaps[alike].argmin(axis=1)
        served = {name: value[place] for name, value in served.items() if value.ndim > 1}
        rows = {name: value for name, value in expected.items() if value.shape[:2] == kept.shape}
        return served, {name: value[kept][alike] for name, value in rows.items()}

    def tell(self, predictor, answer):
        values = zip(answer["boxes"], *(answer[name] for name in self.columns[4:]), strict=True)
        told = [(*map(float, box), str(name), float(score), float(sure)) for box, name, score, sure in values]
        return [dict(zip(self.columns, row, strict=True)) for row in told[: int(answer["num_detections"])]]

    def narrow(self, model):
        # Scores may read the features; the rest is for training.
        kept = [name for name in (*POINTS, *REGIONS, *self.reads, "features") if name in model.output]
        kept += [name for name in model.output if self.masks and name.startswith(MAPS)]
        return keras.Model(model.input, {name: model.output[name] for name in kept})


def strongest(confidence, levels, most):
    """The most confident pairs of a point and a class of each level, `most` at most.

    Args:
        confidence: (N, L, C) float32, 0 for pairs that are no candidates.
        levels: (L,), equal for the points of one level, which follow each other.
        most: int.

    Returns:
        Pair (N, levels * most): places in the flat (L * C,), and confidences, 0 where a level has fewer pairs.

    >>> places, values = strongest(tf.constant([[[0.1, 0.3], [0.2, 0.0], [0.5, 0.4]]]), [8.0, 8.0, 16.0], 2)
    >>> places.numpy().tolist(), (10 * values.numpy()).round().tolist()
    ([[1, 2, 4, 5]], [[3.0, 2.0, 5.0, 4.0]])
    """
    batch, classes = tf.shape(confidence)[0], tf.shape(confidence)[2]
    flat = tf.reshape(confidence, [batch, -1])
    counts = tf.unique_with_counts(levels).count * classes
    starts = tf.cumsum(counts, exclusive=True)

    def one(level):
        start, count = level
        values, places = tf.math.top_k(flat[:, start : start + count], tf.minimum(most, count))
        missing = [[0, 0], [0, most - tf.minimum(most, count)]]
        return tf.pad(places + start, missing), tf.pad(values, missing)

    places, values = tf.map_fn(one, (starts, counts), fn_output_signature=(tf.int32, tf.float32))
    return tuple(tf.reshape(tf.transpose(each, [1, 0, 2]), [batch, -1]) for each in (places, values))


def _boxes(found):
    """Boxes (N, L, 4), or (N, L, C, 4) of each class, by how much a probability counts there, and levels (L,)."""
    if "roi_boxes" in found:
        boxes = found["roi_boxes"]
        there = tf.cast(area(boxes) > 0, tf.float32)
        levels = tf.zeros_like(found["logits"][0, :, 0])
        return boxes, there if boxes.shape.rank == 4 else there[..., None], levels
    boxes = decode(found["points"], found["box_offsets"])
    return boxes, tf.sigmoid(found["centerness"])[..., None], tf.reduce_max(found["points"][..., 2], axis=0)


def _rows(values, places):
    return tf.gather(values, places, batch_dims=1)
