"""Values on one grid of positions, taken at those of another: the labels of pixels for the cells of a feature map."""

from keras import ops


def nearest(values, output):
    """Values on a fine grid at the centres of a coarser output's cells, by nearest neighbour.

        taken_i = values_j,   j = floor((i + 1/2) n / m)        along each axis, n values to m cells

    Cell i covers the pixels [i n/m, (i + 1) n/m), as in bilinear resizing with half-pixel centres
    (`align_corners=False`), so that a feature map which is resized to the image lies over its own labels. Only grids of
    two or more axes change: a label (batch,) or (batch, boxes) belongs to its row.

    Args:
        values: Tensor of shape (batch, H, W) or (batch, H, W, 1), or of fewer axes, which is returned as it came.
        output: Tensor of shape (batch, h, w, channels) with h <= H and w <= W.

    Returns:
        Tensor of the type of `values`, shape (batch, h, w) or (batch, h, w, 1).

    Raises:
        ValueError: If the grid of `values` is known to be coarser than that of `output`.

    >>> np.array(nearest(np.arange(16).reshape(1, 4, 4), np.zeros((1, 2, 2, 3)))).tolist()
    [[[5, 7], [13, 15]]]
    """
    axes = len(output.shape) - 2
    if axes < 2 or len(values.shape) <= axes:
        return values
    for axis in range(1, axes + 1):
        have, want = values.shape[axis], output.shape[axis]
        if have is not None and have == want:
            continue
        if have is not None and want is not None and have < want:
            raise ValueError(
                "Labels on a grid need at least as many positions as the output that they are for: "
                f"{tuple(output.shape[1:-1])}. Received: {tuple(values.shape[1 : axes + 1])}. Give labels of the "
                "images' own size; they are taken at coarser outputs by nearest neighbour."
            )
        have, want = ops.shape(values)[axis], ops.shape(output)[axis]
        index = (2 * ops.arange(want, dtype="int32") + 1) * have // (2 * want)
        values = ops.take(values, index, axis=axis)
    return values
