"""What a threshold says about a negative class that nobody has seen: classes count, as images count in a threshold."""

import numpy as np

from cplus1_keras.calibration.bounds import images_needed
from cplus1_keras.calibration.evidence import NewClasses
from cplus1_keras.calibration.thresholds import threshold_at_fpr


def judge_new_classes(scores, classes, threshold, fpr, confidence=0.95):
    """What the negatives of several classes, none of which was trained on, say about the next class.

    A threshold calibrated on images promises nothing about images of another class, for those of one class are alike.
    Where the classes are a draw from those that may come, each counts once: at the lowest threshold at which the bound
    over classes (`threshold_at_fpr` with the classes as groups) keeps the rate, and at each above it, at most the share
    `fpr` of a class never seen is accepted on average, at a confidence. That takes many classes. With few, each is left
    out in turn: the share of it that is accepted where the others calibrate is an estimate without a promise.

    Args:
        scores: Scores (n,) of negatives, higher = more known.
        classes: The class of each (n,), none of which trained.
        threshold: Where inputs begin to be accepted.
        fpr, confidence: As for `threshold_at_fpr`.

    Returns:
        A `NewClasses`.

    Raises:
        ValueError: For fewer than two classes, or what `threshold_at_fpr` refuses.

    >>> scores, classes = np.tile(np.linspace(0, 1, 50), 3), np.repeat(["ant", "bee", "fly"], 50)
    >>> print(judge_new_classes(scores + (classes == "fly"), classes, threshold=1.9, fpr=0.1))
    Classes never seen: a promise of 10 % at 95 % confidence takes 38 negative classes that do not train; there are 3. \
Where each is left out of the calibration in turn, 33.3 % of it are accepted on average, 100 % of 'fly', the worst.

    Reference: Bates et al., "Distribution-Free, Risk-Controlling Prediction Sets", JACM 2021, with classes as samples.
    """
    scores, classes = np.asarray(scores, "float32"), np.asarray(classes)
    names = np.unique(classes)
    if len(names) < 2:
        raise ValueError(f"A word about other classes needs at least two. Received: {names.tolist()}")
    needed, least = images_needed(fpr, confidence, single=False), None
    if len(names) >= needed:
        least = threshold_at_fpr(scores, fpr, confidence, groups=classes).threshold
    shares = {}
    for name in names:
        own = classes == name
        try:
            found = threshold_at_fpr(scores[~own], fpr, confidence).threshold
        except ValueError:  # too few images without it
            shares = {}
            break
        shares[str(name)] = float(np.mean(scores[own] >= np.float32(found)))
    worst = max(shares, key=shares.get, default=None)
    return NewClasses(
        classes=len(names),
        needed=needed,
        target=float(fpr),
        confidence=confidence,
        threshold=least,
        kept=None if least is None else bool(np.float32(threshold) >= np.float32(least)),
        left_out=float(np.mean([*shares.values()])) if shares else None,
        worst=worst,
        worst_rate=shares.get(worst),
    )
