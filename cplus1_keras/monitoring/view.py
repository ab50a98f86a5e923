"""One pass over records: figures of it always, and where it is asked for what pictures show."""

import numpy as np

from cplus1_keras.metrics import BinnedScores, ExactScores
from cplus1_keras.monitoring.sample import Sample

FPRS = (1e-3, 1e-2, 1e-1)
SHOWN = ("auroc", "open_auc", *(f"ccr_at_fpr_{fpr:g}" for fpr in FPRS))
CLASSES = 20
"""Thresholds of so many classes are told at most."""


class View:
    """What a monitor sees of one data set.

    Args:
        records: Function of no argument that gives `tasks.Record`s; may have `figures`, floats by name, of a pass.
        names: Names of the known classes.
        figures: Function that gives an accumulator of a task's own figures, or None.
        calibrate: Function from records to a calibration, or None.

    >>> from cplus1_keras.tasks import Record
    >>> records = [Record(np.array(label), np.array(0), np.array(label + 2.0), "") for label in (0, 0, -1, -1)]
    >>> view = View(lambda: iter(records), ["cat"])
    >>> view.look()
    >>> view.common["accuracy"], view.common["auroc_negative"]
    (1.0, 1.0)
    """

    def __init__(self, records, names, figures=None, calibrate=None):
        self.records, self.names, self.figures, self.calibrate = records, names, figures, calibrate
        self.common, self.own, self.sample, self.found, self.lost = {}, {}, None, None, None
        self._scores, self._sets, self._failed = None, True, None

    def look(self, whole=False):
        """Make one pass; `whole` also keeps a sample for pictures and calibrates.

        An error of the sample is kept as `lost`, and the pass goes on without one.

        Raises:
            FloatingPointError: Scores are NaN.
        """
        self._scores, self._sets, self.found, self.lost = None, True, None, None
        self.sample = Sample(self.names) if whole else None
        accumulator = self.figures() if self.figures else None
        records = self._watch(accumulator)
        if whole and self.calibrate is not None:
            try:
                self.found = self.calibrate(records)
            except ValueError:  # too few images promise nothing; an error of the records is raised below
                self.found = None
        for _ in records:  # what the calibration left
            pass
        if self._failed is not None:
            raise self._failed
        self.own = dict(getattr(self.records, "figures", {}))
        if accumulator is not None:
            self.own |= {name: value for name, value in accumulator.result().items() if value is not None}
        self.common = self._figures()

    def _watch(self, accumulator):
        self._failed = None
        try:
            for record in self.records():
                if self._scores is None:
                    self._scores = BinnedScores() if np.ndim(record.labels) else ExactScores(samples=0)
                self._sets &= _is_set(record)
                if np.isnan(record.scores).any():
                    raise FloatingPointError(
                        "The model gives NaN for images that do not train. Usual causes: a learning rate that is too "
                        "high, or NaN or infinite pixels."
                    )
                self._scores.update(record.labels, record.predictions, record.scores)
                if accumulator is not None:
                    accumulator.update(record)
                self._keep(record)
                yield record
        except Exception as error:
            self._failed = error
            raise

    def _keep(self, record):
        if self.sample is None or self.lost is not None:
            return
        try:
            self.sample.update(record)
        except Exception as error:
            self.sample, self.lost = Sample(self.names), error

    def _figures(self):
        if self._scores is None:
            return {}
        knowns, right = (self._scores.totals[kind] for kind in ("known", "right"))
        figures = {"accuracy": right / knowns} if knowns and not self._sets else {}
        for group, told in self._scores.summary(FPRS).items():
            figures |= {f"{name}_{group}": told[name] for name in SHOWN if told[name] is not None}
        return figures

    @property
    def curves(self):
        """OSCR curves by group, those of groups that have members."""
        scores = self._scores
        return {} if scores is None or not scores.totals["known"] else {g: scores.curve(g) for g in scores.groups}

    def members(self, group):
        """Numbers of knowns and of members of a group."""
        return self._scores.totals["known"], self._scores.totals[group]

    @property
    def thresholds(self):
        """What a calibration would choose now, floats by name."""
        if self.found is None:
            return {}
        if hasattr(self.found, "threshold"):
            return {"threshold": self.found.threshold}
        named = zip(self.names, self.found.thresholds, strict=True)
        return {f"threshold/{name}": float(value) for name, value in list(named)[:CLASSES]}

    @property
    def threshold(self):
        """The one threshold, or None where there is none or one for each class."""
        return self.thresholds.get("threshold")


def _is_set(record):
    """Whether a record is of a set of labels, each of which "predicts" its own class: it has no accuracy."""
    predictions = np.asarray(record.predictions)
    return predictions.ndim == 1 and np.array_equal(predictions, np.arange(predictions.size))
