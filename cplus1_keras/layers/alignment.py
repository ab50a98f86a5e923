"""RoIAlign: maps of one size from boxes of any size, by bilinear samples of the level that fits each box."""

import math

import keras
from keras import ops

from cplus1_keras.labels import check_count
from cplus1_keras.numerics import at_least_float32
from cplus1_keras.numerics.boxes import area

CANONICAL_SIDE, CANONICAL_STRIDE = 224, 16
"""A box of this side, as images of ImageNet have, is read from the map of this stride."""


@keras.saving.register_keras_serializable("cplus1_keras")
class RoIAlign(keras.layers.Layer):
    """Maps (B, R, size, size, channels) of regions (B, R, 4) of images, from a pyramid's maps (B, h, w, channels).

    A region is a box (x1, y1, x2, y2) in pixels. It is read from the level

        stride = 16 · 2^floor(log2(sqrt(area) / 224)),   or the nearest that there is,

    cut into size x size bins, each the mean of sampling x sampling points that lie evenly in it. A point is bilinear
    between the four cells around it, whose centres are at (i + 1/2) stride; beyond the outer centres the map goes on as
    it ends there, and is 0 from half a cell outside of it. No gradient flows to the regions. Called on a list:
    `[regions, *maps]`.

    Args:
        size: Bins along each side.
        strides: Pixels to a cell of each map, rising twofold.
        sampling: Points of a bin along each axis.

    Reference: He et al., "Mask R-CNN", ICCV 2017, section 3; the level is Eq 1 of T.-Y. Lin et al., "Feature pyramid
    networks for object detection", CVPR 2017; half a cell less, as `aligned=True` of torchvision and Detectron2.

    >>> maps = np.arange(16.0, dtype="float32").reshape(1, 4, 4, 1)
    >>> regions = np.array([[[0, 0, 16, 16]]], "float32")
    >>> np.array(layers.RoIAlign(2, strides=(4,))([regions, maps]))[0, 0, :, :, 0].tolist()  # means of 2 x 2 cells
    [[2.5, 4.5], [10.5, 12.5]]
    """

    def __init__(self, size, strides, sampling=2, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.size, self.sampling = check_count(size, "size"), check_count(sampling, "sampling")
        self.strides = tuple(int(stride) for stride in strides)
        if not self.strides or any(b != 2 * a for a, b in zip(self.strides, self.strides[1:], strict=False)):
            raise ValueError(f"`strides` rise twofold from map to map, like (4, 8, 16, 32). Received: {strides}")

    def call(self, inputs):
        regions, *maps = inputs
        if len(maps) != len(self.strides):
            raise ValueError(
                f"`{self.name}` has {len(self.strides)} strides, so it needs as many maps, not {len(maps)}."
            )
        regions = ops.stop_gradient(at_least_float32(regions))
        channels, dtype = maps[0].shape[-1], maps[0].dtype
        cells = ops.reshape(ops.concatenate([_flat(x) for x in maps], axis=1), (-1, channels))
        starts, (rows, row_weights), (columns, column_weights) = self._taps(regions, maps)
        batch, count = ops.shape(regions)[:2]
        column_weights = ops.reshape(
            ops.cast(column_weights, dtype), (batch, count, 1, self.size, 1, 2 * self.sampling)
        )
        found = 0.0
        # A row of taps at a time, so that memory holds a few maps for each region, not all of their samples.
        for k in range(2 * self.sampling):
            places = ops.expand_dims(starts + rows[..., k], (3, 4)) + ops.expand_dims(columns, 2)
            weights = ops.reshape(ops.cast(row_weights[..., k], dtype), (batch, count, self.size, 1, 1, 1))
            found = found + ops.matmul(weights * column_weights, ops.take(cells, places, axis=0))
        return ops.reshape(found, (batch, count, self.size, self.size, channels))

    def _taps(self, regions, maps):
        """Where each region's cells start, (B, R, 1), and along each axis which of them a bin reads, and how much."""
        side = ops.sqrt(ops.maximum(area(regions), 1e-12))
        level = ops.floor(ops.log(side / CANONICAL_SIDE) / math.log(2) + 1e-6) + math.log2(CANONICAL_STRIDE)
        level = ops.clip(level - math.log2(self.strides[0]), 0, len(maps) - 1)
        level = ops.expand_dims(ops.cast(level, "int32"), -1)
        sizes = [ops.shape(x)[1:3] for x in maps]
        heights, widths = (ops.stack([ops.cast(pair[axis], "int32") for pair in sizes]) for axis in (0, 1))
        cells = heights * widths
        own = ops.take(ops.cumsum(cells) - cells, level)
        image = ops.reshape(ops.arange(ops.shape(regions)[0], dtype="int32"), (-1, 1, 1))
        scaled = regions / ops.take(ops.convert_to_tensor(self.strides, regions.dtype), level) - 0.5
        height, width = ops.take(heights, level), ops.take(widths, level)
        rows, row_weights = self._along(scaled[..., 1:2], scaled[..., 3:4], height)
        columns = self._along(scaled[..., 0:1], scaled[..., 2:3], width)
        return own + image * ops.sum(cells), (rows * ops.expand_dims(width, -1), row_weights), columns

    def _along(self, low, high, cells):
        """Of each bin (B, R, size) along an axis the 2 · sampling cells that it reads, and their weights."""
        count = self.size * self.sampling
        steps = (ops.cast(ops.arange(count, dtype="int32"), low.dtype) + 0.5) / count
        at, end = low + (high - low) * steps, ops.cast(cells, low.dtype)
        inside = ops.cast((at >= -1) & (at <= end), low.dtype) / self.sampling
        at = ops.clip(at, 0.0, end - 1)
        before = ops.floor(at)
        after = ops.minimum(before + 1, end - 1)
        share = at - before
        pair = ops.stack([before, after], axis=-1), ops.stack([(1 - share) * inside, share * inside], axis=-1)
        shape = (*ops.shape(low)[:2], self.size, 2 * self.sampling)
        return ops.cast(ops.reshape(pair[0], shape), "int32"), ops.reshape(pair[1], shape)

    def compute_output_spec(self, inputs):
        regions, *maps = inputs
        shape = (*regions.shape[:2], self.size, self.size, maps[0].shape[-1])
        return keras.KerasTensor(shape, dtype=maps[0].dtype)

    def get_config(self):
        return {**super().get_config(), "size": self.size, "strides": self.strides, "sampling": self.sampling}


def _flat(x):
    return ops.reshape(x, (ops.shape(x)[0], -1, x.shape[-1]))
