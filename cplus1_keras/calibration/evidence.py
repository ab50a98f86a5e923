"""The record of a calibrated threshold."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class NewClasses:
    """What is known about negative classes never seen, as `judge_new_classes` returns it.

    Args:
        classes: Number of negative classes that calibrate and never trained.
        needed: How many it takes to promise the rate.
        target: The false positive rate asked for.
        confidence: Of the promise, in (0, 1).
        threshold: The lowest that keeps the promise for a class never seen; None with fewer classes than needed.
        kept: Whether the threshold in use is as high; None where there is no promise.
        left_out: Mean over classes of the share of one accepted where the others calibrate; None for too few images.
        worst: The class of which most is accepted then.
        worst_rate: That share.

    >>> NewClasses(3, 38, 0.1, 0.95, left_out=0.2, worst="fly", worst_rate=0.5).kept
    """

    classes: int
    needed: int
    target: float
    confidence: float
    threshold: float | None = None
    kept: bool | None = None
    left_out: float | None = None
    worst: str | None = None
    worst_rate: float | None = None

    def __str__(self):
        target, level = percent(self.target), percent(self.confidence)
        if self.threshold is None:
            text = f"a promise of {target} at {level} confidence takes {self.needed:,} negative classes that do not "
            text += f"train; there are {self.classes:,}."
        elif self.kept:
            text = f"at {level} confidence at most {target} of one are accepted on average ({self.classes:,} classes)."
        else:
            text = f"no promise at this threshold; {self.threshold:.4g} would keep {target} at {level} confidence "
            text += f"({self.classes:,} classes)."
        if self.left_out is not None:
            text += (
                f" Where each is left out of the calibration in turn, {percent(self.left_out)} of it are accepted on "
                f"average, {percent(self.worst_rate)} of {self.worst!r}, the worst."
            )
        return f"Classes never seen: {text}"


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A threshold and its evidence, as `calibrate`, `threshold_at_fpr` and `threshold_at_coverage` return it.

    Args:
        threshold: Accept where score >= threshold; a float32 number.
        rule: `"fpr"`, chosen on negatives, or `"coverage"`, chosen on knowns.
        target: The rate asked for.
        confidence: Of the bound, in (0, 1).
        samples: Number of independent groups that have such decisions, such as images of many pixels.
        accepted: How many decisions the threshold accepts.
        rate: Mean over groups of the share of decisions accepted.
        bound: One-sided bound on that mean: the FPR is at most, or the coverage at least, this.
        score: Name of the score that the threshold belongs to, if it was given.
        unit: What a decision is: `"image"`, `"pixel"` ...
        decisions: Number of decisions in all groups; by default one in each.
        event: What is accepted, where that is not told by the rule, like "images with a false detection"; or None.
        sample: Scores of the split, with which later ones are compared, as `keep_scores` returns them; or None.
        at: Function from another threshold to what the same samples say of it, a `Calibration`; None where this one was
            read from a file, which keeps no samples.
        new_classes: What is known about classes never seen, where several negative classes calibrate; or None.

    >>> print(calibration.threshold_at_fpr(np.linspace(0, 1, 101), 0.05, score="log_odds"))
    Accept log_odds >= 0.99: 1 of 101 negatives accepted (0.99 %); at 95 % confidence at most 4.61 %; asked: 5 %.
    """

    threshold: float
    rule: str
    target: float
    confidence: float
    samples: int
    accepted: int
    rate: float
    bound: float
    score: str | None = None
    unit: str = "image"
    decisions: int | None = None
    event: str | None = None
    sample: dict | None = dataclasses.field(default=None, repr=False, hash=False)
    at: Callable | None = dataclasses.field(default=None, repr=False, compare=False)
    new_classes: NewClasses | None = None

    def __post_init__(self):
        if self.rule not in ("fpr", "coverage"):
            raise ValueError(f'`rule` must be "fpr" or "coverage". Received: rule={self.rule!r}')
        if self.decisions is None:
            object.__setattr__(self, "decisions", self.samples)

    def __str__(self):
        kind, side = ("negatives accepted", "at most") if self.rule == "fpr" else ("knowns accepted", "at least")
        kind = self.event or kind
        share, level, bound, target = map(percent, (self.rate, self.confidence, self.bound, self.target))
        found = f"{self.accepted:,} of {self.samples:,} {kind} ({share})"
        if self.decisions != self.samples:
            article, group = group_name(self.unit)
            found = f"{share} of {article} {group}'s {kind}, the mean of {self.samples:,} {group}s "
            found += f"({self.accepted:,} of {self.decisions:,} {self.unit}s)"
        start = f"Accept {self.score or 'score'} >= {self.threshold:.4g}: {found}"
        more = "" if self.new_classes is None else f"\n{self.new_classes}"
        return f"{start}; at {level} confidence {side} {bound}; asked: {target}.{more}"

    def to_dict(self):
        """Plain Python values by field name, ready for JSON."""
        told = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.compare}
        return told | {"new_classes": None if self.new_classes is None else dataclasses.asdict(self.new_classes)}

    @classmethod
    def from_dict(cls, values):
        """The inverse of `to_dict`; a ValueError names fields that are missing or unheard of."""
        found = cls(**check_fields(cls, values))
        if found.new_classes is None:
            return found
        return dataclasses.replace(found, new_classes=NewClasses(**check_fields(NewClasses, found.new_classes)))


def percent(share):
    """A share in percent, with three digits."""
    return f"{100 * share:.3g} %"


def group_name(unit):
    """Article and name of what holds several decisions and is independent of others."""
    return ("a", "group") if unit == "image" else ("an", "image")


def check_fields(cls, values):
    """The values, where they are all the fields of a dataclass."""
    fields = [field for field in dataclasses.fields(cls) if field.compare]
    names = {field.name for field in fields}
    needed = {field.name for field in fields if field.default is dataclasses.MISSING}
    odd = sorted((needed - set(values)) | (set(values) - names))
    if odd:
        raise ValueError(f"A {cls.__name__} has the fields {', '.join(sorted(names))}. Missing or unknown: {odd}")
    return values
