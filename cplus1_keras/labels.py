"""The label convention: one integer says what is known of a sample.

A label `>= 0` names one of the `num_classes` classes of interest. The other values are below.
"""

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
    """True where a label (array or tensor of any shape) names a class of interest.

    >>> is_known(np.array([3, 0, NEGATIVE, UNKNOWN, IGNORE]))
    array([ True,  True, False, False, False])
    """
    return labels >= 0


def is_negative(labels):
    """True where a label (array or tensor of any shape) is `NEGATIVE`.

    >>> is_negative(np.array([3, 0, NEGATIVE, UNKNOWN, IGNORE]))
    array([False, False,  True, False, False])
    """
    return labels == NEGATIVE


def is_seen(labels):
    """True where a label (array or tensor of any shape) is one that training sees: a known or `NEGATIVE`.

    >>> is_seen(np.array([3, 0, NEGATIVE, UNKNOWN, IGNORE]))
    array([ True,  True,  True, False, False])
    """
    return labels >= NEGATIVE


def check_names(names, num_classes=None):
    """Class names as a list of strings.

    Args:
        names: One for each known class, in the order of the labels; any Unicode.
        num_classes: C, or None where the names say how many there are.

    Returns:
        List of str.

    Raises:
        ValueError: For another number of names, an empty one, two alike, or one that is `REJECTED_NAME`.

    >>> check_names(["cat", "dog"], 2)
    ['cat', 'dog']
    """
    names = [str(name) for name in names]
    if num_classes is not None and len(names) != num_classes:
        raise ValueError(f"There must be one class name for each of {num_classes} known classes. Received: {names}")
    if len(set(names)) < len(names) or REJECTED_NAME in names or "" in names:
        raise ValueError(
            f"Class names must not be empty and must differ from each other and from {REJECTED_NAME!r}, the name of "
            f"what is rejected. Received: {names}"
        )
    return names
