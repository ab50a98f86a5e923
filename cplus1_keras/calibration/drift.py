"""Whether answers still look like those of the calibration, and since when not: tests that are valid at any time."""

import dataclasses

import numpy as np

POWERS = np.array([0.5, 0.75, 0.9])  # small ones win fast where a drift is large, large ones where it is small
BLOCK = 1024


@dataclasses.dataclass(frozen=True)
class Drift:
    """What `find_drift` says.

    Args:
        log_evidence: (n,) natural logarithm of the evidence against "no drift" after each value.
        limit: The drift is certain, at the level `alpha`, where `log_evidence` reaches this.
        alarm: Index of the value at which it does; None where it never does.
        start: Index of the first value that drifted, as the values up to the strongest evidence tell; None as above.
        earliest, latest: Ends of a stretch around `start` with 95 % of the evidence, where all starts weigh the same.
        kind: "lower", "higher", "narrower" or "wider": what the values have become; None as above.

    >>> find_drift([1.0, 2.0], [1.5]).alarm is None
    True
    """

    log_evidence: np.ndarray
    limit: float
    alarm: int | None = None
    start: int | None = None
    earliest: int | None = None
    latest: int | None = None
    kind: str | None = None


def find_drift(reference, values, alpha=0.01, kinds=("lower", "higher", "narrower", "wider"), seed=0):
    """A test of "the values come from where the reference came from", valid however often one looks.

    Each value has a rank among the reference and all values before it: p_t, the share of them below it, where ties are
    broken at random. Without a drift the p_t are independent and uniform on [0, 1], exactly, for any distribution and
    any size of the reference. Against that one bets, from each value on: the capital that begins with value j grows by
    the factor e q_t^(e - 1), where q_t is p_t (the values are lower), 1 - p_t, 1 - |2 p_t - 1| (wider) or |2 p_t - 1|,
    and e one of 1/2, 3/4, 9/10. The evidence is the mean of all these capitals, in which the start j = 0, 1, ... has
    the weight 1 / log2(j + 2) - 1 / log2(j + 3). It begins with 1 and without a drift is a martingale, so it ever
    reaches 1 / alpha with a probability of at most alpha (Ville).

    Args:
        reference: Numbers (m,), m >= 1: scores of the calibration, or answers from a time that is trusted.
        values: Numbers (n,) in the order of time. Infinite ones count; NaN must not be among them.
        alpha: Probability of a false alarm in all time to come, in (0, 1).
        kinds: What to look for, of the four.
        seed: Of the order of equal values.

    Returns:
        A `Drift`.

    Raises:
        ValueError: For other numbers than these.

    >>> generator = np.random.default_rng(0)
    >>> values = np.concatenate([generator.normal(size=500), generator.normal(-1, size=200)])
    >>> drift = find_drift(generator.normal(size=300), values)
    >>> drift.kind, 490 < drift.start < 510, 500 < drift.alarm < 560
    ('lower', True, True)

    Reference: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2nd ed., 2022, chapter 8; for the
    sum over starts Shin, Ramdas and Rinaldo, "E-detectors", New England Journal of Statistics in Data Science, 2023.
    """
    reference, values = (np.asarray(given, "float64") for given in (reference, values))
    if reference.ndim != 1 or values.ndim != 1 or not len(reference) or np.isnan([*reference, *values]).any():
        raise ValueError(
            "Needs numbers (m,) of a reference, m >= 1, and values (n,), none of them NaN. Received: "
            f"{reference.shape} and {values.shape}, {np.isnan(reference).sum()} and {np.isnan(values).sum()} NaN"
        )
    if not 0 < alpha < 1:
        raise ValueError(f"`alpha` is a probability in (0, 1). Received: {alpha}")
    p = uniform_ranks(reference, values, seed)
    n, log_evidence = len(values), np.log(1 / np.log2(np.arange(len(values)) + 3.0))  # of starts that are to come
    for _, total in _bets(p, kinds):
        weights = np.diff(-1 / np.log2(np.arange(n + 1) + 2.0)) / (len(kinds) * len(POWERS))
        begun = total[1:] + np.logaddexp.accumulate(np.log(weights) - total[:-1])
        log_evidence = np.logaddexp(log_evidence, begun)
    limit = -np.log(alpha)
    if not n or log_evidence.max() < limit:
        return Drift(log_evidence, limit)
    alarm, end = int((log_evidence >= limit).argmax()), int(log_evidence.argmax()) + 1
    # The weights above favour early starts, which a false alarm at any time costs; where it began is the data's word.
    own = [(total[end] - total[:end], kind) for kind, total in _bets(p[:end], kinds)]
    best, kind = max(own, key=lambda each: each[0].max())
    start = int(best.argmax())
    held = np.exp(np.logaddexp.reduce([each for each, _ in own]) - best.max())
    return Drift(log_evidence, limit, alarm, start, *_shortest(held, start), kind)


def _bets(p, kinds):
    """Pairs of a kind and the sums (n + 1,) of the logarithms of its gains, for each power."""
    for kind in kinds:
        q = {"lower": p, "higher": 1 - p, "narrower": np.abs(2 * p - 1), "wider": 1 - np.abs(2 * p - 1)}[kind]
        logs = np.log(np.maximum(q, 1e-300))
        for power in POWERS:
            yield kind, np.concatenate([[0.0], np.cumsum(np.log(power) + (power - 1) * logs)])


def uniform_ranks(reference, values, seed=0):
    """Ranks (n,) of values (n,) among a reference (m,) and the values before each, as numbers in (0, 1].

    The rank of v is (number below v + u (1 + number equal to v)) / (1 + number of all), u uniform on (0, 1].

    >>> uniform_ranks([1.0, 2.0, 4.0], [3.0, 5.0]).round(2)
    array([0.59, 0.95])

    Reference: Vovk, Gammerman and Shafer, section 2.2.6: smoothed conformal predictors.
    """
    before, values = np.sort(np.asarray(reference, "float64")), np.asarray(values, "float64")
    ranks, u = np.empty(len(values)), 1 - np.random.default_rng(seed).random(len(values))
    for begin in range(0, len(values), BLOCK):
        block = values[begin : begin + BLOCK]
        place = np.arange(len(block))
        earlier = place[:, None] > place  # in the block
        below = np.searchsorted(before, block, "left") + ((block < block[:, None]) & earlier).sum(axis=1)
        upto = np.searchsorted(before, block, "right") + ((block <= block[:, None]) & earlier).sum(axis=1)
        own = slice(begin, begin + len(block))
        ranks[own] = (below + u[own] * (1 + upto - below)) / (1 + len(before) + place)
        before = np.sort(np.concatenate([before, block]), kind="stable")
    return ranks


def _shortest(weights, start, share=0.95):
    """First and last index of the stretch around `start`, grown to its heavier side, that holds a share of weights."""
    low = high = start
    held, wanted = weights[start], share * weights.sum()
    while held < wanted:
        left = weights[low - 1] if low else -1.0
        right = weights[high + 1] if high + 1 < len(weights) else -1.0
        low, high, held = (low - 1, high, held + left) if left >= right else (low, high + 1, held + right)
    return low, high
