"""The label convention: one integer says what is known of a sample, or of a class in a sample.

A label `>= 0` names one of the `num_classes` classes of interest. The other values are below. Where an image may show
several classes, a label set `multi_hot` (..., C) holds for each class 1 (present), 0 (absent) or `IGNORE`.
"""

import collections

import keras
from keras import ops

NEGATIVE = -1
"""Background: seen in training, of no class of interest."""

UNKNOWN = -2
"""Of a class that training never saw. Only in evaluation."""

IGNORE = -100
"""Not annotated: counts for nothing anywhere."""

REJECTED = -1
"""The predicted `class_id` of an input whose score lies below the threshold."""

REJECTED_NAME = "unknown"
"""The predicted `class_name` of a rejected input."""


def is_known(labels):
    """True where a label (array or tensor of any shape) names a class of interest."""
    return labels >= 0


def is_negative(labels):
    """True where a label is `NEGATIVE`."""
    return labels == NEGATIVE


def is_label(labels):
    """True where a label is one of the convention: below -2 there is `IGNORE` alone.

    >>> is_label(np.array([3, NEGATIVE, UNKNOWN, IGNORE, -3, -7]))
    array([ True,  True,  True,  True, False, False])
    """
    return (labels >= UNKNOWN) | (labels == IGNORE)


def is_seen(labels):
    """True where a label is one that training sees: a known or `NEGATIVE`.

    >>> is_seen(np.array([3, 0, NEGATIVE, UNKNOWN, IGNORE]))
    array([ True,  True,  True, False, False])
    """
    return labels >= NEGATIVE


def is_present(multi_hot):
    """True where an entry of a label set says that the image shows the class."""
    return multi_hot == 1


def is_absent(multi_hot):
    """True where an entry of a label set says that the image lacks the class."""
    return multi_hot == 0


def is_annotated(multi_hot):
    """True where an entry of a label set says whether the image shows the class."""
    return (multi_hot == 0) | (multi_hot == 1)


def is_entry(multi_hot):
    """True where an entry of a label set is one of the convention."""
    return is_annotated(multi_hot) | (multi_hot == IGNORE)


def to_multi_hot(labels, num_classes):
    """Class labels (...) as label sets (..., C): of a known its class alone is present, a negative lacks every class.

    Unknowns and ignored ones become entries that are not annotated.

    >>> np.array(to_multi_hot(np.array([1, NEGATIVE, UNKNOWN]), 3)).tolist()
    [[0, 1, 0], [0, 0, 0], [-100, -100, -100]]
    """
    labels = ops.expand_dims(ops.cast(labels, "int32"), -1)
    present = ops.cast(labels == ops.arange(num_classes, dtype="int32"), "int32")
    return ops.where(is_seen(labels), present, IGNORE)


def nearest(values, output):
    """Values on a fine grid at the centres of a coarser output's cells, by nearest neighbour.

        taken_i = values_j,   j = floor((i + 1/2) n / m)        along each axis, n values to m cells

    Cell i covers the pixels [i n/m, (i + 1) n/m), as in bilinear resizing with half-pixel centres
    (`align_corners=False`), so that a feature map which is resized to the image lies over its own labels. Labels
    (batch,) or (batch, boxes) belong to their rows and stay.

    Args:
        values: Tensor of shape (batch, H, W) or (batch, H, W, 1).
        output: Tensor of shape (batch, h, w, channels) with h <= H and w <= W, else there is a ValueError.

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
                f"Labels on a grid need at least the positions of the output that they are for, {output.shape[1:-1]}. "
                f"Received: {tuple(values.shape[1 : axes + 1])}. Give labels of the images' own size."
            )
        have, want = ops.shape(values)[axis], ops.shape(output)[axis]
        index = (2 * ops.arange(want, dtype="int32") + 1) * have // (2 * want)
        values = ops.take(values, index, axis=axis)
    return values


def check_labels(labels, output, name):
    """Class labels as int32, one for each position of an output (..., channels); a ValueError where they do not fit.

    They may have a last axis of 1, or be on a finer grid, see `nearest`. `name` is who asks.

    >>> np.array(check_labels(np.array([[2], [-1]]), np.zeros((2, 3)), "loss")).tolist()
    [2, -1]
    """
    labels = ops.convert_to_tensor(labels)
    dtype = keras.backend.standardize_dtype(labels.dtype)
    if len(labels.shape) == len(output.shape) and labels.shape[-1] == 1 and "int" in dtype:
        labels = ops.squeeze(labels, -1)
    if "int" not in dtype or len(labels.shape) != len(output.shape) - 1:
        raise ValueError(
            f"`{name}` needs one integer label per position: shape {tuple(output.shape[:-1])} for outputs of shape "
            f"{tuple(output.shape)}. Received labels of shape {tuple(labels.shape)} and dtype {dtype}. Targets are "
            'neither soft nor one-hot; sets of labels go by a name, `fit(images, {"multi_hot": sets})`.'
        )
    labels = nearest(ops.cast(labels, "int32"), output)
    if not _fits(labels.shape, output.shape[:-1]):
        raise ValueError(
            f"`{name}` needs one integer label per position: shape {tuple(output.shape[:-1])}. "
            f"Received labels of shape {tuple(labels.shape)}."
        )
    return labels


def check_multi_hot(multi_hot, shape, name):
    """Label sets as int32, if they are integers or booleans of the shape (batch, C); `name` is who asks."""
    multi_hot = ops.convert_to_tensor(multi_hot)
    dtype = keras.backend.standardize_dtype(multi_hot.dtype)
    if not ("int" in dtype or dtype == "bool") or not _fits(multi_hot.shape, shape):
        raise ValueError(
            f"`{name}` needs `multi_hot` of shape {tuple(shape)}: 1 where a class is present, 0 where it is "
            "absent, -100 where that is not annotated. "
            f"Received labels of shape {tuple(multi_hot.shape)} and dtype {dtype}."
        )
    return ops.cast(multi_hot, "int32")


def check_count(number, name="num_classes"):
    """The argument of that name as an integer >= 1, or an error."""
    if isinstance(number, bool) or int(number) != number or number < 1:
        raise ValueError(f"`{name}` must be an integer >= 1. Received: {name}={number}")
    return int(number)


def _fits(shape, wanted):
    """Whether two shapes agree wherever both are known."""
    pairs = zip(shape, wanted, strict=True) if len(shape) == len(wanted) else [(0, 1)]
    return all(have is None or want is None or have == want for have, want in pairs)


def check_names(names, num_classes=None):
    """Class names as a list of strings, one for each of `num_classes` known classes if that is given.

    Raises ValueError for another number of names, two alike, or one that is blank, has a line end or another character
    that cannot be printed, or is `REJECTED_NAME`.

    >>> check_names(["cat", "dog"], 2)
    ['cat', 'dog']
    """
    names = [str(name) for name in names]
    if num_classes is not None and len(names) != num_classes:
        raise ValueError(f"There must be one class name for each of {num_classes} known classes. Received: {names}")
    counts = collections.Counter([*names, REJECTED_NAME])
    wrong = [name for name in names if counts[name] > 1 or not is_name(name)]
    if wrong:
        raise ValueError(
            "Class names must not be empty, have no line ends or tabs, and differ from each other and from "
            f"{REJECTED_NAME!r}, the name of what is rejected. Received: {wrong[:5]} among {len(names)} names"
        )
    return names


def is_name(text):
    """True for a text that can be printed in a line and is not blank.

    >>> is_name("$ <b> é"), is_name(" "), is_name("a\\tb")
    (True, False, False)
    """
    return text.isprintable() and bool(text.strip())
