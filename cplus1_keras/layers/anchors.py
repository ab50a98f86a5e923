"""Anchors of a region proposal network: the boxes that it moves, which of them train, what proposals they make."""

import keras
from keras import ops

from cplus1_keras.labels import check_count, is_known
from cplus1_keras.layers.hooks import OpenSetLayer, no_half
from cplus1_keras.layers.matching import match_boxes, sample_labels, truth
from cplus1_keras.layers.suppression import suppress
from cplus1_keras.numerics.boxes import area, clip, from_deltas, to_deltas


@keras.saving.register_keras_serializable("cplus1_keras")
class Anchors(OpenSetLayer):
    """Boxes of a few shapes around the middle of each cell of a list of maps; `targets` says which of them train.

    Called on maps (B, h, w, channels), fine to coarse, it gives the anchors (B, A, 4), (x1, y1, x2, y2) in pixels: of
    each map row by row, of each cell one for each of the ratios. The data set gives `boxes` and `box_labels`, as for
    `FCOSPoints`. The model names its outputs `anchors`, and gets, with the prefix:
    - `labels` (B, A): 0 for objects, whatever their known class, `NEGATIVE` for background, `IGNORE` for what does not
      train. An anchor is one of an object that it overlaps with an IoU of `positive`, or more than others do.
    - `box_delta_targets` (B, A, 4): see `numerics.boxes.to_deltas`; 0 where the label is not known.

    Args:
        strides: Pixels to a cell of each map, rising.
        scale: Strides to the side of an anchor, the root of its area.
        ratios: Heights to widths.
        samples, share: Of an image so many anchors train, of objects this share at most.
        positive, negative: IoUs from which on an anchor is an object's, and below which it is background.

    Reference: Ren et al., "Faster R-CNN", NIPS 2015, section 3.1; one scale a level as in T.-Y. Lin et al., "Feature
    pyramid networks for object detection", CVPR 2017, section 4.1.

    >>> anchors = layers.Anchors((4, 8), scale=2, ratios=(1,))([np.zeros((1, 2, 2, 1)), np.zeros((1, 1, 1, 1))])
    >>> np.array(anchors)[0, [0, 3, 4]].tolist()
    [[-2.0, -2.0, 6.0, 6.0], [2.0, 2.0, 10.0, 10.0], [-4.0, -4.0, 12.0, 12.0]]
    """

    def __init__(
        self,
        strides,
        scale=8,
        ratios=(0.5, 1.0, 2.0),
        samples=256,
        share=0.5,
        positive=0.7,
        negative=0.3,
        prefix="rpn_",
        **kwargs,
    ):
        super().__init__(prefix, dtype=no_half(kwargs.pop("dtype", None)), autocast=False, **kwargs)
        self.strides, self.ratios = tuple(map(int, strides)), tuple(map(float, ratios))
        self.scale, self.samples = float(scale), check_count(samples, "samples")
        self.share, self.positive, self.negative = check_sampling(share, positive, negative)
        self.noise = keras.random.SeedGenerator()

    def call(self, maps):
        anchors = ops.concatenate([self._around(x, s) for x, s in zip(maps, self.strides, strict=True)], axis=0)
        return ops.broadcast_to(anchors, (ops.shape(maps[0])[0], *ops.shape(anchors)))

    def _around(self, x, stride):
        """The anchors (h w ratios, 4) of a map."""
        height, width = ops.shape(x)[1], ops.shape(x)[2]
        row, column = (ops.cast(ops.arange(side, dtype="int32"), "float32") for side in (height, width))
        x, y = ops.meshgrid((column + 0.5) * stride, (row + 0.5) * stride)
        center = ops.reshape(ops.stack([x, y], axis=-1), (-1, 1, 2))
        sides = [(ratio**-0.5, ratio**0.5) for ratio in self.ratios]
        half = ops.convert_to_tensor(sides, "float32") * (self.scale * stride / 2)
        return ops.reshape(ops.concatenate([center - half, center + half], axis=-1), (-1, 4))

    def compute_output_spec(self, maps):
        sides = [x.shape[1:3] for x in maps]
        cells = None if any(None in pair for pair in sides) else sum(height * width for height, width in sides)
        return keras.KerasTensor((maps[0].shape[0], cells and cells * len(self.ratios), 4), dtype="float32")

    def targets(self, tensors, training):
        boxes, box_labels = truth(self, tensors)
        anchors = tensors["anchors"]
        labels, which = match_boxes(anchors, boxes, box_labels, self.positive, self.negative, force=True)
        labels = ops.where(is_known(labels), 0, labels)
        labels = sample_labels(labels, self.samples, self.share, permutation(labels, self.noise if training else 0))
        assigned = ops.take_along_axis(boxes, ops.expand_dims(which, -1), axis=1)
        deltas = ops.where(ops.expand_dims(is_known(labels), -1), to_deltas(anchors, assigned), 0.0)
        made = {"labels": labels, "box_delta_targets": deltas}
        return {self.prefix + name: ops.stop_gradient(tensor) for name, tensor in made.items()}

    def get_config(self):
        names = ("strides", "scale", "ratios", "samples", "share", "positive", "negative")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def permutation(labels, seed):
    """A permutation (R,) for labels (B, R), one for all images, so that replicas draw as one device does."""
    return keras.random.shuffle(ops.arange(ops.shape(labels)[1], dtype="int32"), seed=seed)


def check_sampling(share, positive, negative):
    """Share and IoUs of a choice of boxes; ValueError where they are none."""
    if not (0 < share <= 1 and 0 < negative <= positive <= 1):
        raise ValueError(
            "`share` lies in (0, 1], and 0 < `negative` <= `positive` <= 1. Received: "
            f"share={share}, positive={positive}, negative={negative}"
        )
    return float(share), float(positive), float(negative)


@keras.saving.register_keras_serializable("cplus1_keras")
class Proposals(keras.layers.Layer):
    """Regions (B, keep, 4) that are likely objects: of each level the most likely anchors, moved, without overlaps.

    Called on `[images, anchors, logits, deltas, *maps]`, logits (B, A, 1), deltas (B, A, 4), anchors those of the maps.
    They fall by likelihood; rows of zeros follow where there are fewer. No gradient flows through them. On the
    TensorFlow backend.

    Args:
        keep: Regions of an image.
        per_level: Anchors of a level before overlapping ones are dropped, in training and else.
        iou: Largest IoU of two regions of a level.

    Reference: Ren et al., "Faster R-CNN", NIPS 2015, section 3.3; the numbers are those of mmdetection's FPN models.

    >>> images, maps = np.zeros((1, 16, 16, 3)), [np.zeros((1, 1, 1, 8))]
    >>> anchors = np.array([[[0, 0, 8, 8], [1, 0, 8, 8], [8, 0, 16, 16]]], "float32")
    >>> given = [images, anchors, np.array([[[2.0], [3.0], [1.0]]]), np.zeros((1, 3, 4)), *maps]
    >>> np.array(layers.Proposals(keep=3)(given))[0].tolist()
    [[1.0, 0.0, 8.0, 8.0], [8.0, 0.0, 16.0, 16.0], [0.0, 0.0, 0.0, 0.0]]
    """

    def __init__(self, keep=1000, per_level=(2000, 1000), iou=0.7, **kwargs):
        super().__init__(dtype=no_half(kwargs.pop("dtype", None)), autocast=False, **kwargs)
        self.keep, self.iou = check_count(keep, "keep"), float(iou)
        self.per_level = tuple(check_count(number, "per_level") for number in per_level)

    def call(self, inputs, training=False):
        images, anchors, logits, deltas, *maps = (ops.stop_gradient(x) for x in inputs)
        logits, deltas = ops.cast(logits[..., 0], "float32"), ops.cast(deltas, "float32")
        logits = ops.where(ops.isnan(logits), -1e9, logits)  # sorting NaN is undefined and may end the process
        cells = [ops.shape(x)[1] * ops.shape(x)[2] for x in maps]
        per_cell = ops.shape(anchors)[1] // sum(cells)
        most, start, found, levels = self.per_level[0 if training else 1], 0, [], []
        for level, count in enumerate(cells):
            count = count * per_cell
            number = min(most, count) if isinstance(count, int) else ops.minimum(most, count)
            values, places = ops.top_k(logits[:, start : start + count], number)
            found.append((values, places + start))
            levels.append(ops.full_like(places, level))
            start = start + count
        values, places = (ops.concatenate(each, axis=1) for each in zip(*found, strict=True))
        pick = ops.expand_dims(places, -1)
        chosen = (ops.take_along_axis(each, pick, axis=1) for each in (anchors, deltas))
        size = ops.cast(ops.stack(ops.shape(images)[1:3]), "float32")
        regions = clip(from_deltas(*chosen), size)
        likely = ops.where(area(regions) > 0, ops.sigmoid(values), 0.0)
        rows, number = suppress(regions, likely, ops.concatenate(levels, axis=1), self.iou, self.keep, len(cells), size)
        kept = ops.expand_dims(ops.arange(self.keep, dtype="int32") < ops.expand_dims(number, -1), -1)
        return ops.where(kept, ops.take_along_axis(regions, ops.expand_dims(rows, -1), axis=1), 0.0)

    def compute_output_spec(self, inputs, training=False):
        return keras.KerasTensor((inputs[0].shape[0], self.keep, 4), dtype="float32")

    def get_config(self):
        return {**super().get_config(), "keep": self.keep, "per_level": self.per_level, "iou": self.iou}
