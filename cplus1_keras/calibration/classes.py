"""A threshold for each class of a label set, so that all promises hold together."""

import dataclasses

import numpy as np

from cplus1_keras.calibration.evidence import Calibration, check_fields, percent
from cplus1_keras.calibration.thresholds import threshold_at_fpr
from cplus1_keras.labels import is_negative
from cplus1_keras.metrics.tables import align


@dataclasses.dataclass(frozen=True)
class ClassCalibration:
    """A threshold for each class with its evidence, as `calibrate_classes` returns it.

    Args:
        target: The false positive rate asked for, of each class.
        confidence: That all classes keep it, in (0, 1).
        classes: A `Calibration` for each of the C classes, each at the confidence 1 - (1 - confidence) / C.
        score: Name of the score that the thresholds belong to, if it was given.
        class_names: Names of the classes, if they were given.

    >>> ClassCalibration(0.1, 0.9, (threshold_at_fpr(np.arange(100.0), 0.1, 0.95),) * 2).thresholds.round(3)
    array([95., 95.], dtype=float32)
    """

    target: float
    confidence: float
    classes: tuple
    score: str | None = None
    class_names: tuple | None = None

    @property
    def thresholds(self):
        """Float32 (C,): class c is present where its score >= thresholds[c]."""
        return np.array([found.threshold for found in self.classes], "float32")

    def at(self, shift):
        """What the same samples say of all thresholds moved by a shift, a `ClassCalibration`."""
        moved = zip(self.classes, self.thresholds + np.float32(shift), strict=True)
        return dataclasses.replace(self, classes=tuple(found.at(threshold) for found, threshold in moved))

    def table(self, class_names=None):
        """Each class with its threshold and evidence, as Markdown; classes are numbered where they have no names."""
        names = class_names or self.class_names or [str(c) for c in range(len(self.classes))]
        rows = [["class", "threshold", "images without it", "accepted", "at most"]]
        for name, found in zip(names, self.classes, strict=True):
            figures = f"{found.threshold:.4g}", f"{found.decisions:,}", percent(found.rate), percent(found.bound)
            rows.append([name, *figures])
        return align(rows)

    def __str__(self):
        return (
            f"Of images that lack a class at most {percent(self.target)} are said to show it, for all "
            f"{len(self.classes)} classes at once at {percent(self.confidence)} confidence:\n{self.table()}"
        )

    def to_dict(self):
        """Plain Python values by field name, ready for JSON."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "classes": [found.to_dict() for found in self.classes]}

    @classmethod
    def from_dict(cls, values):
        """The inverse of `to_dict`; a ValueError names fields that are missing or unheard of."""
        values, names = check_fields(cls, values), values.get("class_names")
        classes = tuple(map(Calibration.from_dict, values["classes"]))
        return cls(**{**values, "classes": classes, "class_names": names and tuple(names)})


def calibrate_classes(records, fpr, confidence=0.95, score=None, class_names=None):
    """Thresholds of a label set: of images that lack a class at most the share `fpr` is said to show it.

    That holds for all C classes at once with probability at least `confidence`: each is calibrated by
    `threshold_at_fpr`, at the confidence 1 - (1 - confidence) / C (Bonferroni). Errors name the class.

    Args:
        records: Iterable of `tasks.Record`s with labels (C,); `NEGATIVE` says that an image lacks a class.
        fpr, confidence, score: As for `threshold_at_fpr`.
        class_names: Names of the C classes, kept as evidence as well; None numbers them.

    Returns:
        A `ClassCalibration`.

    >>> from cplus1_keras.tasks.records import Record
    >>> labels = np.array([[0, -1], [-1, 1]] * 99)
    >>> scores = np.linspace(-1, 1, 198)[:, None] + 2 * (labels >= 0)
    >>> images = [Record(y, np.arange(2), s, str(i)) for i, (y, s) in enumerate(zip(labels, scores, strict=True))]
    >>> calibrate_classes(images, fpr=0.1).thresholds.round(3)
    array([0.939, 0.929], dtype=float32)
    """
    rows = zip(*((record.labels, record.scores, record.group) for record in records), strict=True)
    labels, scores, groups = map(np.array, rows)
    each, found = 1 - (1 - confidence) / labels.shape[1], []
    for c in range(labels.shape[1]):
        lacking = is_negative(labels[:, c])
        try:
            found.append(threshold_at_fpr(scores[lacking, c], fpr, each, score, groups[lacking]))
        except ValueError as error:
            name = c if class_names is None else repr(class_names[c])
            raise ValueError(f"Class {name}: {error}") from error
    names = None if class_names is None else tuple(class_names)
    return ClassCalibration(float(fpr), confidence, tuple(found), score, names)


def read_calibration(values):
    """The `Calibration` or `ClassCalibration` that `to_dict` gave; None of None.

    >>> read_calibration(threshold_at_fpr(np.arange(100.0), 0.1).to_dict()).accepted
    4
    """
    if values is None:
        return None
    return (ClassCalibration if "classes" in values else Calibration).from_dict(values)
