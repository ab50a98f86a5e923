"""Bins of float32 scores: a score rounded down to 18 bits, which split each power of two in 512."""

import numpy as np

BINS = 2**18
TINY = np.finfo(np.float32).tiny
_SIGN, _SHIFT = np.uint32(1 << 31), np.uint32(14)


def flush(scores):
    """Scores as float32, with 0 for subnormal numbers: accelerators compare those as 0."""
    with np.errstate(over="ignore"):
        scores = np.asarray(scores).astype("float32")
    return np.where(np.abs(scores) < TINY, np.float32(0), scores)


def to_bins(scores):
    """The bin of each score, in ascending order of the scores; NaN has none and must not be among them."""
    bits = flush(scores).view("uint32")
    return (np.where(bits & _SIGN, ~bits, bits | _SIGN) >> _SHIFT).astype("int64")


def lower_edge(bins):
    """The smallest float32 number in each bin: a score is at least this if and only if its bin is at least this one."""
    ordered = np.asarray(bins).astype("uint32") << _SHIFT
    edges = np.where(ordered & _SIGN, ordered ^ _SIGN, ~ordered).view("float32")
    edges = np.where(np.isnan(edges), np.float32(-np.inf), edges)
    small = np.where(edges <= 0, np.float32(0), TINY)
    return np.where(np.abs(edges) >= TINY, edges, small)
