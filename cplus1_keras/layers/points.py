"""Points of a detector: the cells of a pyramid's maps, which box each belongs to, and which box each predicts."""

import keras
from keras import ops

from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN, is_known
from cplus1_keras.layers.hooks import OpenSetLayer, no_half
from cplus1_keras.layers.matching import truth
from cplus1_keras.numerics import at_least_float32, divide, root
from cplus1_keras.numerics.boxes import area, encode

LARGEST_EXPONENT = 10.0
"""A side of e^10 strides is longer than any image; beyond it areas would overflow."""


def assign_points(points, boxes, box_labels, ranges, center_radius):
    """Which box each point belongs to, see `FCOSPoints`: the labels (B, L), and the boxes (B, L, 4) of the known ones.

    `points` are (L, 3), `boxes` and `box_labels` (B, M, 4) and (B, M) with M >= 1, and the longest distance to a side
    must lie in `ranges` (L, 2). Boxes of points whose label is not known are any.
    """
    left, top, right, bottom = _sides(points, boxes)
    # A box without area has nothing inside, so that padding never counts.
    inside = ops.minimum(ops.minimum(left, top), ops.minimum(right, bottom)) > 0
    longest = ops.maximum(ops.maximum(left, top), ops.maximum(right, bottom))
    fits = inside & (longest >= ranges[:, :1]) & (longest <= ranges[:, 1:])
    if center_radius is not None:
        # left - right is twice the distance from the centre.
        off = ops.maximum(ops.abs(left - right), ops.abs(top - bottom)) / 2
        fits = fits & (off < center_radius * points[:, 2:3])
    labels = ops.expand_dims(box_labels, 1)
    areas = ops.where(fits & is_known(labels), ops.expand_dims(area(boxes), 1), float("inf"))
    smallest = ops.argmin(areas, axis=-1)
    assigned = ops.take_along_axis(boxes, ops.expand_dims(smallest, -1), axis=1)
    own = ops.take_along_axis(box_labels, smallest, axis=1)
    result = ops.where(ops.any(inside & (labels == UNKNOWN), axis=-1), UNKNOWN, NEGATIVE)
    result = ops.where(ops.any(inside & (labels == IGNORE), axis=-1), IGNORE, result)
    return ops.where(ops.any(areas < float("inf"), axis=-1), own, result), assigned


def _sides(points, boxes):
    """Distances from each point to the four sides of each box, (B, L, M) each: stacked they would be one large copy."""
    x, y = points[:, 0:1], points[:, 1:2]
    x1, y1, x2, y2 = (ops.expand_dims(boxes[..., side], 1) for side in range(4))
    return x - x1, y - y1, x2 - x, y2 - y


def centerness(distances):
    """How central a point is in its box, (...), in [0, 1], by its distances (..., 4: left, top, right, bottom).

        sqrt(min(l, r) / max(l, r) · min(t, b) / max(t, b))

    Reference: Tian et al. (2019), Eq 3.

    >>> float(centerness(np.array([1.0, 2.0, 4.0, 2.0])))
    0.5
    """
    left, top, right, bottom = (distances[..., side] for side in range(4))
    across = divide(ops.minimum(left, right), ops.maximum(left, right))
    return root(across * divide(ops.minimum(top, bottom), ops.maximum(top, bottom)))


@keras.saving.register_keras_serializable("cplus1_keras")
class FCOSPoints(OpenSetLayer):
    """The points of FCOS: one in the middle of each cell of a list of maps; `targets` gives each its label and box.

    Called on maps (B, h, w, channels), fine to coarse, it gives the points (B, L, 3), x, y and stride in pixels: all of
    the first map row by row, then those of the next. The data set gives `boxes` (B, M, 4), (x1, y1, x2, y2) in pixels,
    and `box_labels` (B, M); rows of zeros are padding. The model names its outputs `points`, and gets:
    - `labels` (B, L): the class of the smallest box among those that have a known label and the point inside, near
      enough to the centre, and whose longest distance to a side lies within the range of the point's map. Else `IGNORE`
      inside a box with that label, `UNKNOWN` inside one with that, and `NEGATIVE` everywhere else, also inside boxes of
      negatives.
    - `box_targets` (B, L, 4): left, top, right and bottom, the distances to the sides of that box in pixels.
    - `centerness_targets` (B, L): see `centerness`. Both are 0 where the label is not known.

    Args:
        strides: Pixels to a cell of each map, rising.
        regress_ranges: A pair (least, largest) for each map, pixels, both included. None takes 4 to 8 strides, the
            published ones, from -1 on the first map and without end on the last.
        center_radius: The point must lie within so many strides of the box's centre along both axes; None for no limit.

    Raises:
        ValueError: Strides that do not rise, as many ranges as there are not maps, or a radius that is not positive.

    Reference: Tian et al., "FCOS: fully convolutional one-stage object detection", ICCV 2019, section 3; the radius is
    that of its authors' later code and of "FCOS: a simple and strong anchor-free object detector", TPAMI 2020.

    >>> points = layers.FCOSPoints(strides=(8, 16))
    >>> given = {"points": points([np.zeros((1, 4, 4, 2)), np.zeros((1, 2, 2, 2))])}
    >>> boxes = {"boxes": np.array([[[0, 0, 24, 24]]], "float32"), "box_labels": np.array([[5]])}
    >>> np.array(layers.complete([points], given | boxes, training=True)["labels"])[0, :16].reshape(4, 4).tolist()
    [[5, 5, 5, -1], [5, 5, 5, -1], [5, 5, 5, -1], [-1, -1, -1, -1]]
    """

    def __init__(self, strides, regress_ranges=None, center_radius=1.5, **kwargs):
        super().__init__(dtype=no_half(kwargs.pop("dtype", None)), autocast=False, **kwargs)
        self.strides = _check_strides(strides)
        if regress_ranges is None:
            regress_ranges = [(4 * stride, 8 * stride) for stride in self.strides]
            regress_ranges[0] = (-1, regress_ranges[0][1])
            regress_ranges[-1] = (regress_ranges[-1][0], float("inf"))
        self.regress_ranges = tuple((float(low), float(high)) for low, high in regress_ranges)
        if len(self.regress_ranges) != len(self.strides):
            raise ValueError(
                f"`regress_ranges` must be one (least, largest) for each of the {len(self.strides)} strides. "
                f"Received: {regress_ranges}"
            )
        if center_radius is not None and not center_radius > 0:
            raise ValueError(f"`center_radius` is a number of strides > 0, or None. Received: {center_radius}")
        self.center_radius = center_radius

    def call(self, maps):
        if len(maps) != len(self.strides):
            raise ValueError(
                f"`{self.name}` has {len(self.strides)} strides, so it needs as many maps, not {len(maps)}."
            )
        points = ops.concatenate([_grid(x, stride) for x, stride in zip(maps, self.strides, strict=True)], axis=0)
        return ops.broadcast_to(points, (ops.shape(maps[0])[0], *ops.shape(points)))

    def compute_output_spec(self, maps):
        return keras.KerasTensor((maps[0].shape[0], _cells(maps), 3), dtype="float32")

    def targets(self, tensors, training):
        points = tensors["points"][0]
        level = ops.sum(ops.cast(points[:, 2:] > ops.convert_to_tensor(self.strides, points.dtype), "int32"), axis=-1)
        ranges = ops.take(ops.convert_to_tensor(self.regress_ranges, points.dtype), level, axis=0)
        boxes, box_labels = truth(self, tensors)
        labels, assigned = assign_points(points, boxes, box_labels, ranges, self.center_radius)
        distances = ops.where(ops.expand_dims(is_known(labels), -1), encode(points, assigned), 0)
        made = {"labels": labels, "box_targets": distances, "centerness_targets": centerness(distances)}
        return {name: ops.stop_gradient(tensor) for name, tensor in made.items()}

    def get_config(self):
        config = {"strides": self.strides, "regress_ranges": self.regress_ranges, "center_radius": self.center_radius}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("cplus1_keras")
class BoxOffsets(keras.layers.Layer):
    """Maps (B, h, w, 4) as the distances (B, L, 4) from each point to the sides of its box, in pixels, in float32.

        stride · exp(s x)    or    stride · max(0, s x)

    with a scale s for each map, which is learnt and starts at 1.

    Args:
        strides: Pixels to a cell of each map.
        activation: "exponential" or "relu".

    Reference: Tian et al. (2019), section 3.2; the relu is that of their later code.

    >>> np.array(layers.BoxOffsets((8,))([np.zeros((1, 1, 1, 4), "float32")])).tolist()
    [[[8.0, 8.0, 8.0, 8.0]]]
    """

    def __init__(self, strides, activation="exponential", **kwargs):
        super().__init__(dtype=no_half(kwargs.pop("dtype", None)), autocast=False, **kwargs)
        self.strides = _check_strides(strides)
        if activation not in ("exponential", "relu"):
            raise ValueError(f"`activation` must be 'exponential' or 'relu'. Received: activation={activation!r}")
        self.activation = activation

    def build(self, input_shape):
        self.scales = self.add_weight(name="scales", shape=(len(self.strides),), initializer="ones")

    def call(self, maps):
        scales = ops.convert_to_tensor(self.scales)
        distances = []
        for level, (x, stride) in enumerate(zip(maps, self.strides, strict=True)):
            x = scales[level] * ops.reshape(at_least_float32(x), (-1, ops.shape(x)[1] * ops.shape(x)[2], 4))
            distances.append(stride * (ops.relu(x) if self.activation == "relu" else _exponential(x)))
        return ops.concatenate(distances, axis=1)

    def compute_output_spec(self, maps):
        return keras.KerasTensor((maps[0].shape[0], _cells(maps), 4), dtype="float32")

    def get_config(self):
        return {**super().get_config(), "strides": self.strides, "activation": self.activation}


def _exponential(x):
    return ops.exp(ops.minimum(x, LARGEST_EXPONENT))


def _grid(x, stride):
    """The points (h w, 3) of a map."""
    height, width = ops.shape(x)[1], ops.shape(x)[2]
    row, column = (ops.cast(ops.arange(side, dtype="int32"), "float32") for side in (height, width))
    x, y = ops.meshgrid((column + 0.5) * stride, (row + 0.5) * stride)
    return ops.reshape(ops.stack([x, y, ops.full_like(x, stride)], axis=-1), (-1, 3))


def _cells(maps):
    """The number of cells of all maps, None where a side is unknown."""
    sides = [x.shape[1:3] for x in maps]
    return None if any(None in pair for pair in sides) else sum(height * width for height, width in sides)


def _check_strides(strides):
    strides = tuple(int(stride) for stride in strides)
    if not strides or min(strides) < 1 or list(strides) != sorted({*strides}):
        raise ValueError(
            f"`strides` are pixels to a cell of each map, fine to coarse, like (8, 16, 32). Got: {strides}"
        )
    return strides
