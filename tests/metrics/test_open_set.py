"""The open-set figures against counting by hand, published code and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from cplus1_keras import metrics
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN

MEMBERS = {"negative": [NEGATIVE], "unknown": [UNKNOWN], "both": [NEGATIVE, UNKNOWN]}


def sample(seed, n=120, levels=12):
    """Labels, predictions and scores with many ties."""
    generator = np.random.default_rng(seed)
    labels = generator.choice([0, 1, 2, NEGATIVE, UNKNOWN, IGNORE], n, p=[0.2, 0.2, 0.1, 0.2, 0.2, 0.1])
    scores = np.round(generator.normal(size=n) + (labels >= 0), 1 if levels else 8).astype("float32")
    return labels, generator.integers(0, 3, n), scores


def by_counting(labels, predictions, scores, group):
    """Every pair and every threshold looked at one by one."""
    known = [i for i, y in enumerate(labels) if y >= 0]
    inside = [i for i, y in enumerate(labels) if y in MEMBERS[group]]
    thresholds = sorted({scores[i] for i in inside})
    fpr = [sum(scores[i] >= t for i in inside) / len(inside) for t in thresholds]
    ccr = [sum(scores[i] >= t and predictions[i] == labels[i] for i in known) / len(known) for t in thresholds]
    beats = {(i, j): (scores[i] > scores[j]) + (scores[i] == scores[j]) / 2 for i in known for j in inside}
    pairs = len(known) * len(inside)
    area = sum(value for (i, _), value in beats.items() if predictions[i] == labels[i]) / pairs
    enough = max(t for t in scores[known] if sum(scores[i] >= t for i in known) >= 0.95 * len(known))
    return {
        "oscr": (thresholds, fpr, ccr),
        "auroc": sum(beats.values()) / pairs,
        "open_auc": area,
        "fpr95": sum(scores[i] >= enough for i in inside) / len(inside),
    }


@pytest.mark.parametrize("group", ["negative", "unknown", "both"])
@pytest.mark.parametrize("levels", [0, 12])
@pytest.mark.parametrize("seed", range(3))
def test_figures_equal_counting_by_hand(seed, levels, group):
    labels, predictions, scores = sample(seed, levels=levels)
    expected = by_counting(labels, predictions, scores, group)
    curve = metrics.oscr(labels, predictions, scores, group)
    for got, wanted in zip(curve, expected["oscr"], strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert metrics.auroc(labels, scores, group) == pytest.approx(expected["auroc"], abs=1e-14)
    assert metrics.open_auc(labels, predictions, scores, group) == pytest.approx(expected["open_auc"], abs=1e-14)
    assert metrics.fpr_at_tpr(labels, scores, group) == expected["fpr95"]
    for fpr in (0.0, 0.02, 0.1, 0.5, 1.0):
        reached = [i for i, rate in enumerate(curve.fpr) if rate <= fpr]
        wanted = curve.ccr[min(reached)] if reached else np.nan
        np.testing.assert_equal(metrics.ccr_at_fpr(labels, predictions, scores, fpr, group), wanted)


@pytest.mark.parametrize("group", ["negative", "unknown", "both"])
@pytest.mark.parametrize("levels", [0, 12])
def test_areas_equal_scikit_learn(levels, group):
    labels, _, scores = sample(5, 500, levels)
    kept = (labels >= 0) | np.isin(labels, MEMBERS[group])
    known = labels[kept] >= 0
    assert metrics.auroc(labels, scores, group) == pytest.approx(roc_auc_score(known, scores[kept]), abs=1e-12)
    precision = average_precision_score(known, scores[kept])
    assert metrics.aupr(labels, scores, group) == pytest.approx(precision, abs=1e-12)
    precision = average_precision_score(~known, -scores[kept])
    assert metrics.aupr(labels, scores, group, positive="group") == pytest.approx(precision, abs=1e-12)


@pytest.mark.parametrize("case", ["oscr_thesis_tiny", "oscr_thesis_ties2"])
@pytest.mark.parametrize(("prefix", "group"), [("neg", "negative"), ("unk", "unknown")])
def test_oscr_equals_the_code_of_the_thesis(golden, case, prefix, group):
    arrays = golden(case)
    labels, scores = arrays["labels"], arrays["scores"].max(axis=1)
    predictions = arrays["scores"].argmax(axis=1)
    for name, got in zip(("tau", "fpr", "ccr"), metrics.oscr(labels, predictions, scores, group), strict=True):
        np.testing.assert_allclose(got, arrays[f"{prefix}_{name}"], rtol=1e-12)
    got = metrics.ccr_at_fpr(labels, predictions, scores, arrays["fpr_values"], group)
    np.testing.assert_allclose(got, arrays[f"{prefix}_ccr_at_fpr_leq"], rtol=1e-12)
    assert metrics.closed_set_accuracy(labels, predictions) == pytest.approx(float(arrays["accuracy"]), rel=1e-12)


@pytest.mark.parametrize("case", ["auc_metrics_tiny", "auc_metrics_ties2"])
def test_areas_equal_published_code(golden, case):
    arrays = golden(case)
    labels, scores, predictions = arrays["labels"], arrays["conf"], arrays["scores"].argmax(axis=1)
    assert metrics.auroc(labels, scores, "negative") == pytest.approx(float(arrays["openood_auroc"]), rel=1e-6)
    area = metrics.open_auc(labels, predictions, scores, "negative")
    assert area == pytest.approx(float(arrays["exact_openauc"]), rel=1e-12)
    assert area == pytest.approx(float(arrays["pytorchood_auoscr"]), rel=1e-12)
    # The file holds the reverse: the share of knowns accepted where 95 % of the group are refused, OOD positive.
    reverse = np.where(labels >= 0, NEGATIVE, 0)
    assert metrics.fpr_at_tpr(reverse, -scores, "negative") == pytest.approx(float(arrays["openood_fpr95"]), rel=1e-6)


def test_accuracy_equals_golden(golden):
    arrays = golden("derived_balanced_accuracy")
    assert metrics.closed_set_accuracy(arrays["y_true"], arrays["y_pred"]) == pytest.approx(float(arrays["accuracy"]))


def test_open_auc_is_the_area_under_the_staircase():
    labels, predictions, scores = sample(1, 2000, levels=0)
    curve = metrics.oscr(labels, predictions, scores, "unknown")
    area = np.sum(-np.diff(np.append(curve.fpr, 0)) * curve.ccr)  # no ties: the height at each step's right end
    assert metrics.open_auc(labels, predictions, scores, "unknown") == pytest.approx(area, abs=1e-12)


def test_tpr_of_rounded_products():
    # 0.55 * 100 is 55.000000000000007 in floating point; 55 of 100 knowns are enough.
    labels = np.concatenate([np.zeros(100, int), [NEGATIVE]])
    scores = np.concatenate([np.arange(100.0), [44.5]])
    assert metrics.fpr_at_tpr(labels, scores, "negative", 0.55) == 0.0
    assert metrics.fpr_at_tpr(labels, scores, "negative", 0.56) == 1.0


def test_rates_of_one_leave_out_knowns_below_the_group():
    """At FPR 1 the threshold is the group's lowest score, so the CCR may be less than the accuracy."""
    given = [0, 0, NEGATIVE], [0, 0, 0], [0.1, 0.9, 0.5]
    assert metrics.ccr_at_fpr(*given, 1.0, "negative") == 0.5
    assert metrics.closed_set_accuracy(*given[:2]) == 1.0


def test_shapes_dtypes_and_infinities():
    labels, predictions, scores = sample(2)
    wanted = metrics.open_auc(labels, predictions, scores, "both")
    for map_scores in (lambda s: s.astype("float64"), lambda s: np.round(s * 10).astype("int64"), np.arctan):
        assert metrics.open_auc(labels, predictions, map_scores(scores), "both") == wanted
    folded = [a.reshape(4, 5, 6) for a in (labels, predictions, scores)]
    assert metrics.open_auc(*folded, "both") == wanted
    infinite = np.where(scores == scores.min(), -np.inf, scores)
    assert metrics.open_auc(labels, predictions, infinite, "both") == wanted


GOOD = {"labels": [0, 1, -1], "predictions": [0, 1, 0], "scores": [0.5, 0.6, 0.1], "group": "negative"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"group": "unkown"}, "Received: group='unkown'"),
        ({"group": "unknown"}, "2 labels >= 0, 1 of -1, 0 of -2"),
        ({"labels": [-1, -1, -1]}, "at least one known"),
        ({"labels": [0, 1, -3]}, r"Received: \[-3\]"),
        ({"labels": [0.0, 0.7, 0.3]}, "soft or one-hot labels"),
        ({"labels": [[1, 0], [0, 1], [0, 0]]}, "one entry for each label"),
        ({"scores": [0.5, np.nan, 0.1]}, "must not be NaN, and 1 of 3"),
        ({"scores": [0.5, 0.1]}, r"scores of shape \(2,\)"),
        ({"predictions": [[0], [1], [0]]}, r"predictions of shape \(3, 1\)"),
        ({"predictions": [0.1, 0.2, 0.3]}, "must be integers"),
        ({"predictions": [0, -1, 0]}, "before any rejection"),
    ],
)
def test_errors_say_what_came(wrong, message):
    with pytest.raises(ValueError, match=message):
        metrics.oscr(**{**GOOD, **wrong})


def test_errors_of_rates():
    with pytest.raises(ValueError, match="fpr=5"):
        metrics.ccr_at_fpr(**GOOD, fpr=5)
    with pytest.raises(ValueError, match="tpr=0"):
        metrics.fpr_at_tpr(GOOD["labels"], GOOD["scores"], "negative", 0)
    with pytest.raises(ValueError, match="positive='ood'"):
        metrics.aupr(GOOD["labels"], GOOD["scores"], "negative", "ood")
    with pytest.raises(ValueError, match="there is none among 1"):
        metrics.closed_set_accuracy([-1], [0])
