"""What a threshold does to the classes that are not known, one by one, and to those near the knowns and those far."""

import collections

import numpy as np

from cplus1_keras.calibration import clopper_pearson_upper, mean_upper_bound
from cplus1_keras.labels import IGNORE, UNKNOWN
from cplus1_keras.metrics.tables import align, percent
from cplus1_keras.tasks.records import split_by_class

SHOWN = 12
"""How many classes the last screen lists."""


class Strangers:
    """How many negatives and unknowns of each class are accepted.

    Args:
        names: Dict from the values of a source to class names.
        threshold: Accept where score >= threshold; of label sets (C,).

    >>> from cplus1_keras.tasks import Record
    >>> strangers = Strangers({7: "seven"}, threshold=0.5)
    >>> for number in range(20):
    ...     strangers.update(Record(np.array(-2), np.array(0), np.array(number % 4), str(number)), 7)
    >>> strangers.result()["seven"]["accepted"]
    0.75
    """

    def __init__(self, names, threshold):
        self.names, self.threshold = names, np.asarray(threshold, "float32")
        self.counts = collections.defaultdict(lambda: np.zeros(2, "int64"))

    def update(self, record, values):
        """Count the decisions of one image; `values`, in the shape of its labels, tell the class of each in the source.

        Otherwise as for `split_by_class`.
        """
        accepted = np.asarray(record.scores) >= self.threshold
        for role, name, here in split_by_class(record, values, self.names, None):
            if name is not None:
                self.counts[role, name, record.group] += np.count_nonzero(accepted & here), np.count_nonzero(here)

    def result(self, confidence=0.95):
        """What is accepted of each class, the most accepted first.

        Returns:
            Dict by class name of `role`, `images` (groups of them, where images belong together), `accepted`, the mean
            over these of the share of decisions accepted, and `at_least`, a lower bound on it: all bounds hold together
            at the confidence (Bonferroni).
        """
        groups = collections.defaultdict(list)
        for (role, name, _), counts in self.counts.items():
            groups[role, name].append(counts)
        level, rows = 1 - (1 - confidence) / max(len(groups), 1), {}
        for (role, name), counts in groups.items():
            accepted, total = np.array(counts).T
            figures = {"accepted": float((accepted / total).mean()), "at_least": _at_least(accepted, total, level)}
            rows[name] = {"role": role, "images": len(total), **figures}
        return dict(sorted(rows.items(), key=lambda row: -row[1]["accepted"]))


class NearAndFar:
    """Figures of the unknowns near the known classes, and of those far from them.

    Args:
        strangers: `Strangers` with the names of the classes and the threshold.
        far: Names of the unknown classes that are far. What is a stranger by several is far where all of them are.
        scores: Class of an accumulator, such as `metrics.ExactScores`.

    >>> from cplus1_keras.tasks import Record
    >>> apart = NearAndFar(Strangers({7: "seven", 8: "sofa"}, 0.5), ["sofa"], metrics.ExactScores)
    >>> for number, (label, score, value) in enumerate([(0, 0.9, 1), (-2, 0.6, 7), (-2, 0.1, 8), (-2, 0.95, 7)]):
    ...     apart.update(Record(np.array(label), np.array(0), np.float32(score), str(number)), value)
    >>> {kind: own["auroc"] for kind, own in apart.summary().items()}
    {'near': 0.5, 'far': 1.0}
    >>> {kind: own["accepted"] for kind, own in apart.result().items()}
    {'near': 1.0, 'far': 0.0}
    """

    def __init__(self, strangers, far, scores):
        self.names, self.threshold, self.far = strangers.names, strangers.threshold, frozenset(far)
        self.scores = {kind: scores() for kind in ("near", "far")}
        self.counts = {kind: collections.defaultdict(lambda: np.zeros(2, "int64")) for kind in self.scores}

    def update(self, record, values):
        """Count the decisions of one image; `values` as for `split_by_class`."""
        labels = np.asarray(record.labels)
        inside = {kind: np.zeros(labels.shape, bool) for kind in self.scores}
        for role, name, here in split_by_class(record, values, self.names, None):
            if role == "unknown" and name is not None:
                inside["far" if name in self.far else "near"] |= here
        inside["far"] &= ~inside["near"]
        accepted = np.asarray(record.scores) >= self.threshold
        for kind, here in inside.items():
            others = np.where((labels == UNKNOWN) & ~here, IGNORE, labels)
            self.scores[kind].update(others, record.predictions, record.scores)
            if here.any():
                self.counts[kind][record.group] += np.count_nonzero(accepted & here), np.count_nonzero(here)

    def summary(self):
        """Dict of `near` and `far`, those that there are, of open-set figures, as the accumulators give them."""
        there = [kind for kind, counts in self.counts.items() if counts]
        return {kind: self.scores[kind].summary(groups=["unknown"])["unknown"] for kind in there}

    def result(self, confidence=0.95):
        """What is accepted of each kind.

        Returns:
            Dict of `near` and `far`, those that there are, of `images` and `accepted` as `Strangers.result` has them,
            and `interval`, the ends of a two-sided interval of the latter at the confidence.
        """
        rows, level = {}, (1 + confidence) / 2
        for kind, counts in self.counts.items():
            if counts:
                accepted, total = np.array([*counts.values()]).T
                ends = [_at_least(accepted, total, level), 1 - _at_least(total - accepted, total, level)]
                rows[kind] = {"images": len(total), "accepted": float((accepted / total).mean()), "interval": ends}
        return rows


def _at_least(accepted, total, level):
    """A lower bound on the mean over groups of the share accepted, from the numbers of each group."""
    if (total == 1).all():
        return float(1 - clopper_pearson_upper(len(total) - accepted.sum(), len(total), level))
    return float(1 - mean_upper_bound(1 - accepted / total, level))


def tell_kinds(kinds):
    """What is accepted of near and far unknowns, in a sentence.

    >>> print(tell_kinds({"far": {"images": 90, "accepted": 0.5, "interval": [0.39, 0.61]}}))
    Accepted of the far unknowns: 50.00 % (39.00 to 61.00 %, 90 images).
    """
    texts = []
    for kind, own in kinds.items():
        (low, high), share = map(percent, own["interval"]), percent(own["accepted"])
        texts.append(f"of the {kind} unknowns: {share} % ({low} to {high} %, {own['images']:,} images)")
    return f"Accepted {'; '.join(texts)}."


def tell(by_class, calibration):
    """The classes as a table, and a warning where a promise of the calibration is clearly broken on some.

    >>> print(tell({"8": {"role": "unknown", "images": 90, "accepted": 0.5, "at_least": 0.4}}, None))
    | class | role    | images | accepted % | at least % |
    |-------|---------|--------|------------|------------|
    | 8     | unknown | 90     | 50.00      | 40.00      |
    """
    rows = [["class", "role", "images", "accepted %", "at least %"]]
    for name, row in [*by_class.items()][:SHOWN]:
        rows.append([name, row["role"], f"{row['images']:,}", percent(row["accepted"]), percent(row["at_least"])])
    text = align(rows)
    if len(by_class) > SHOWN:
        text += f"\n{len(by_class) - SHOWN:,} more classes, less accepted, are in metrics.json."
    broken = [
        f"{name} ({100 * row['accepted']:.0f} %)"
        for name, row in by_class.items()
        if getattr(calibration, "rule", "fpr") == "fpr" and row["at_least"] > getattr(calibration, "target", 1)
    ]
    if broken:
        more = f" and {len(broken) - SHOWN:,} more" if len(broken) > SHOWN else ""
        text += (
            f"\nWARNING: clearly more than the {100 * calibration.target:g} % asked for are accepted of "
            f"{', '.join(broken[:SHOWN])}{more}. The threshold's promise is for images like those of the calibration "
            "split. Calibrate on classes that the training never saw; of images with one class each, by "
            "`calibration_classes` of `data.split`."
        )
    return text
