"""What every threshold would do: to all decisions of a split, to each class, and to what is promised."""

import collections

import numpy as np

from cplus1_keras.metrics.bins import BINS, lower_edge, to_bins
from cplus1_keras.tasks.records import ROLES, split_by_class

STOPS = 300
"""How many thresholds are told, about."""

COARSE = 3
"""Of pixels eight neighbouring bins are one: scores 1.6 % apart, so that all images together stay small."""


class Sweep:
    """Counts decisions by bins of their scores, so that about 300 thresholds can be judged, each exactly.

    Where a task has a threshold for each class, what is swept is a shift of all of them.

    Args:
        found: The calibration; its own threshold is one of them.
        class_names: Names of the known classes.
        names: Dict from the values of a source to class names.

    >>> from cplus1_keras.tasks import Record
    >>> sweep = Sweep(calibration.threshold_at_fpr(np.arange(60.0), 0.1), ("cat",), {7: "dog"})
    >>> for number in range(8):
    ...     sweep.update(Record(np.array(-number % 2 * -2), np.array(0), np.float32(8 * number), str(number)), 7)
    >>> told = sweep.result()
    >>> told["thresholds"][told["chosen"]], told["known"]["accepted"][told["chosen"]]
    (58.000003814697266, 0)
    """

    def __init__(self, found, class_names, names):
        self.found, self.class_names, self.names = found, class_names, names
        self.shifts = hasattr(found, "thresholds")
        self.base = found.thresholds if self.shifts else np.float32(0)
        self.threshold = np.float32(0 if self.shifts else found.threshold)
        self.pooled = {kind: np.zeros(2 * BINS, "int64") for kind in (*ROLES, "right")}
        self.parts, self.merged = collections.defaultdict(list), 0

    def update(self, record, values=None):
        """Count the decisions of one image; `values` as for `split_by_class`."""
        self.merged = COARSE if np.ndim(record.labels) == 2 else 0
        labels, keys = np.ravel(record.labels), np.ravel(self.to_keys(record))
        right = labels == np.ravel(record.predictions)
        kinds = {role: labels >= 0 if label is None else labels == label for role, label in ROLES.items()}
        for kind, inside in {**kinds, "right": right & (labels >= 0)}.items():
            np.add.at(self.pooled[kind], keys[inside], 1)
        for role, name, inside in split_by_class(record, values, self.names, self.class_names):
            if name is not None:
                inside = inside.ravel()
                own, counts = _count(keys[inside])
                good = np.zeros_like(counts)
                if role == "known":
                    found, numbers = _count(keys[inside & right])
                    good[np.searchsorted(own, found)] = numbers
                self.parts[role, name].append((record.group, own, counts, good))

    def to_keys(self, record):
        """Bin of each score, doubled, and one more where the calibrated threshold accepts: keys ascend with scores."""
        scores = np.asarray(record.scores, "float32") - self.base
        return 2 * self.to_bins(scores) + (scores >= self.threshold)

    def to_bins(self, scores):
        """The bin of each score, the lowest of those that are one."""
        return to_bins(scores) >> self.merged << self.merged

    def result(self):
        """What each threshold does, ready for JSON.

        Returns:
            Dict of `thresholds` (or `shifts` of all of them: `relative` tells) ascending, the index `chosen` of the
            calibrated one, `promise` of the calibration split (`accepted`, `rate`, `bound`; None where its samples are
            not at hand); of each role `decisions` and the numbers `accepted` and, of knowns, `right`; and `classes`,
            each with `name`, `role`, `images` and the shares `accepted` and `right`, means over its images.
        """
        keys = self._stops()
        edges = np.where(keys % 2 == 1, self.threshold, lower_edge(keys // 2)).astype("float32")
        edges, first = np.unique(edges, return_index=True)  # the threshold may be the edge of its bin
        keys = keys[first]
        told = {"relative": self.shifts, "thresholds": edges.tolist()}
        told |= {"chosen": int(np.searchsorted(edges, self.threshold)), "promise": self._promise(edges)}
        for role in ROLES:
            counts = self.pooled[role]
            told[role] = {"decisions": int(counts.sum()), "accepted": _above(counts)[keys].tolist()}
        told["known"]["right"] = _above(self.pooled["right"])[keys].tolist()
        told["classes"] = [self._of_class(role, name, keys) for role, name in self.parts]
        return told

    def _stops(self):
        """Keys of the thresholds: half by the scores of knowns, half by strangers', the last few of these densely."""
        lowest, highest = int(to_bins(-np.inf)) + 1, int(to_bins(np.inf)) - 1  # of finite scores
        strangers, chosen = self.pooled["negative"] + self.pooled["unknown"], []
        for counts in (self.pooled["known"], strangers):
            there = np.flatnonzero(counts)
            if len(there) > STOPS // 2:
                left = _above(counts)[there] / counts.sum()  # what each accepts, from 1 down
                asked = np.concatenate([np.linspace(left[-1], 1, STOPS // 4), np.geomspace(left[-1], 1, STOPS // 4)])
                there = there[np.unique(np.searchsorted(-left, -asked).clip(max=len(there) - 1))]
            chosen += [*there // 2]
        above = [max(chosen, default=0) + (1 << self.merged)]  # accepts nothing
        bins = np.clip([*chosen, *above], lowest, highest)
        return np.unique([*2 * bins, 2 * int(self.to_bins(self.threshold)) + 1])

    def _promise(self, edges):
        if any(own.at is None for own in getattr(self.found, "classes", (self.found,))):
            return None  # it was read from a file
        told = {"accepted": [], "rate": [], "bound": []}
        for edge in edges:
            found = self.found.at(edge)
            each = getattr(found, "classes", (found,))
            told["accepted"].append(sum(own.accepted for own in each))
            for name in ("rate", "bound"):
                told[name].append(max(getattr(own, name) for own in each))
        return told

    def _of_class(self, role, name, keys):
        groups, own, counts, good = zip(*self.parts[role, name], strict=True)
        _, places = np.unique(groups, return_inverse=True)
        places = np.repeat(places, [len(part) for part in own])
        own, counts, good = (np.concatenate(part) for part in (own, counts, good))
        totals = np.bincount(places, counts)
        told = {"name": name, "role": role, "images": len(totals)}
        for kind, numbers in {"accepted": counts, "right": good}.items():
            if role == "known" or kind == "accepted":
                shares = np.bincount(np.searchsorted(keys, own, "right"), numbers / totals[places], len(keys) + 1)
                told[kind] = (_above(shares)[1:] / len(totals)).round(6).tolist()
        return told


def _count(keys):
    """The distinct keys, ascending, and how many there are of each; of many pixels without sorting them."""
    if len(keys) < 5000:
        return np.unique(keys, return_counts=True)
    counts = np.bincount(keys - keys.min())
    there = np.flatnonzero(counts)
    return there + keys.min(), counts[there]


def _above(counts):
    """How many there are from each place on."""
    return counts[::-1].cumsum()[::-1]
