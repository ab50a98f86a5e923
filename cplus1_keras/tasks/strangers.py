"""What a threshold does to the classes that are not known, one by one."""

import collections

import numpy as np

from cplus1_keras.calibration import clopper_pearson_upper, mean_upper_bound
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
            shares = accepted / total
            if (total == 1).all():
                refused = clopper_pearson_upper(len(total) - accepted.sum(), len(total), level)
            else:
                refused = mean_upper_bound(1 - shares, level)
            figures = {"accepted": float(shares.mean()), "at_least": float(1 - refused)}
            rows[name] = {"role": role, "images": len(total), **figures}
        return dict(sorted(rows.items(), key=lambda row: -row[1]["accepted"]))


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
