"""Scores of a calibration split, kept to be compared with those of later answers."""

import numpy as np

from cplus1_keras.labels import is_known, is_negative

KEPT = 500
"""Scores of each role that a record keeps at most, drawn at random."""


def keep_scores(labels, scores, kept=KEPT):
    """A bounded sample of scores for each role, plain values ready for JSON.

    Args:
        labels: Integers (n,) in the package's convention; knowns and negatives are kept.
        scores: Scores (n,) of independent images, not NaN; taken as float32.
        kept: How many of each role at most, an int >= 1.

    Returns:
        Dict of `known` and `negative`, lists of scores in ascending order, and `known_total` and `negative_total`, of
        how many they were drawn.

    >>> keep_scores([0, -1, 2, -2], [3.5, -1, 2, 9])
    {'known': [2.0, 3.5], 'known_total': 2, 'negative': [-1.0], 'negative_total': 1}
    """
    labels, scores = np.asarray(labels), np.asarray(scores, "float32")
    generator, sample = np.random.default_rng(0), {}
    for role, own in (("known", scores[is_known(labels)]), ("negative", scores[is_negative(labels)])):
        drawn = generator.choice(own, min(kept, len(own)), replace=False)
        sample |= {role: np.sort(drawn).tolist(), f"{role}_total": len(own)}
    return sample


def mix_scores(sample, strangers=None, seed=0):
    """Scores as images would have of which a given share are strangers, drawn from a sample.

    How many of them are strangers is random, too, as it is in the world: then the scores are independent draws.

    Args:
        sample: What `keep_scores` returned.
        strangers: Share of negatives, in [0, 1]; None takes that of the calibration split.
        seed: Of the draw.

    Returns:
        Pair of the scores (m,) and the share.

    Raises:
        ValueError: For a share outside [0, 1], or one that needs a role of which there are no scores.

    >>> scores, share = mix_scores(keep_scores([0] * 30 + [-1] * 10, [1.0] * 30 + [-1.0] * 10))
    >>> share, set(scores.tolist()) == {1.0, -1.0}
    (0.25, True)
    """
    totals = sample["known_total"], sample["negative_total"]
    share = totals[1] / max(sum(totals), 1) if strangers is None else strangers
    if not 0 <= share <= 1:
        raise ValueError(f"`strangers` is a share of the images, in [0, 1]. Received: {strangers}")
    roles = (("known", 1 - share), ("negative", share))
    missing = [role for role, part in roles if part and not sample[role]]
    if missing:
        raise ValueError(f"The calibration kept no scores of {missing[0]} images: choose another share of strangers.")
    number = max(1, min(_most(len(sample[role]), part) for role, part in roles if part))
    count = min(np.random.default_rng(seed).binomial(number, share), len(sample["negative"]))
    counts, generator = (min(number - count, len(sample["known"])), count), np.random.default_rng([seed, 1])
    drawn = [generator.choice(sample[role], many, replace=False) for (role, _), many in zip(roles, counts, strict=True)]
    return np.concatenate(drawn), share


def _most(kept, part):
    """The number n of draws of which a binomial share `part`, four standard deviations included, is at most `kept`."""
    spread = 4 * np.sqrt(part * (1 - part))
    return int(((np.sqrt(spread**2 + 4 * part * kept) - spread) / (2 * part)) ** 2 + 1e-9)
