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
