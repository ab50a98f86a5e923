"""Figures of label sets against scikit-learn, and by hand where published code differs."""

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from cplus1_keras.labels import IGNORE
from cplus1_keras.metrics import MultiLabelScores
from cplus1_keras.metrics.multilabel import table

SCORES = {"p": precision_score, "r": recall_score, "f1": f1_score}


def sample(seed=0, n=300, classes=7, ignored=0.0):
    generator = np.random.default_rng(seed)
    truth = (generator.random((n, classes)) < generator.uniform(0.05, 0.6, classes)).astype("int32")
    scores = (generator.normal(size=(n, classes)) + 2 * truth - 1).round(2).astype("float32")
    return np.where(generator.random(truth.shape) < ignored, IGNORE, truth), scores


def result(truth, scores, parts=3, **settings):
    made = MultiLabelScores(**settings)
    for part in np.array_split(np.arange(len(truth)), parts):
        made.update(truth[part], scores[part])
    return made.result()


def check(got, truth, chosen):
    """Against scikit-learn, for the classes that occur; ignored entries are in neither."""
    counted = truth != IGNORE
    truth, chosen = (truth == 1) & counted, chosen & counted
    occurring = truth.any(axis=0)
    for name, score in SCORES.items():
        macro = score(truth[:, occurring], chosen[:, occurring], average="macro", zero_division=0)
        micro = score(truth[counted], chosen[counted])
        assert got[f"c{name}"] == pytest.approx(macro, abs=1e-12)
        assert got[f"o{name}"] == pytest.approx(micro, abs=1e-12)


@pytest.mark.parametrize("ignored", [0.0, 0.3])
@pytest.mark.parametrize("thresholds", [0.0, 1.5, "each"])
def test_equals_scikit_learn(thresholds, ignored):
    truth, scores = sample(ignored=ignored)
    if thresholds == "each":
        thresholds = np.linspace(-1, 1, 7)
    thresholds = np.float32(thresholds)
    got = result(truth, scores, thresholds=thresholds)
    json.dumps(got, allow_nan=False)
    check(got, truth, scores >= thresholds)
    ap = [average_precision_score(t[t != IGNORE], s[t != IGNORE]) for t, s in zip(truth.T, scores.T, strict=True)]
    assert got["map"] == pytest.approx(np.mean(ap), abs=1e-12)
    assert [row["ap"] for row in got["classes"].values()] == pytest.approx(ap, abs=1e-12)
    for c, row in enumerate(got["classes"].values()):
        kept = truth[:, c] != IGNORE
        pair = truth[kept, c], (scores >= thresholds)[kept, c]
        assert row["images"] == pair[0].sum()
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx([f(*pair) for f in SCORES.values()])


@pytest.mark.parametrize("ignored", [0.0, 0.3])
@pytest.mark.parametrize(("top_k", "thresholds"), [(3, 0.0), (2, -np.inf), (3, -np.inf)])
def test_the_highest_scores(top_k, thresholds, ignored):
    truth, scores = sample(3, ignored=ignored)
    got = result(truth, scores, thresholds=thresholds, top_k=top_k)[f"top_{top_k}"]
    chosen = np.zeros(truth.shape, bool)
    for image in range(len(truth)):
        annotated = [c for c in range(7) if truth[image, c] != IGNORE]
        highest = sorted(annotated, key=lambda c: (-scores[image, c], c))[:top_k]
        chosen[image, [c for c in highest if scores[image, c] >= thresholds]] = True
    check(got, truth, chosen)
    assert "map" not in got
    if thresholds == -np.inf and not ignored:
        assert chosen.sum() == top_k * len(truth)


def test_class_f1_is_the_mean_of_f1s():
    """Not the harmonic mean of CP and CR: in Table 4 of the HNC paper P 80.8 and R 63.4 go with an F1 of 69.5."""
    got = result(np.array([[1, 1], [1, 0], [0, 0]]), np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0]]), parts=1)
    assert (got["cp"], got["cr"]) == pytest.approx((2 / 3, 3 / 4))
    assert got["cf1"] == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_classes_that_do_not_occur():
    """No image shows class 1, nothing predicts class 2: the one is left out, the other's precision is 0."""
    truth = np.array([[1, 0, 1], [1, IGNORE, 0]])
    got = result(truth, np.array([[1.0, 1.0, -1.0], [1.0, 1.0, -2.0]]), parts=1)
    assert got["classes"]["1"] == {"images": 0, "ap": None, "precision": None, "recall": None, "f1": None}
    assert (got["cp"], got["cr"], got["map"]) == (0.5, 0.5, 1.0)
    assert (got["op"], got["or"], got["images"]) == (2 / 3, 2 / 3, 2)
    empty = result(np.zeros((2, 3), int), np.zeros((2, 3)), parts=1)
    assert {empty[name] for name in ("map", "cp", "cr", "cf1", "op", "or", "of1")} == {None}
    assert table({"none": empty}).splitlines()[-1].replace(" ", "") == "|none||||||||"


def test_tables():
    got = result(*sample())
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table({"a": got, "b": got}).splitlines()]
    assert rows[0] == ["method", "mAP", "CF1", "CP", "CR", "OF1", "OP", "OR"]
    assert rows[3] == ["b", *(f"{100 * got[n]:.2f}" for n in ("map", "cf1", "cp", "cr", "of1", "op", "or"))]
    top = table({"a": got}, top_k=3).splitlines()
    assert top[0].split() == ["|", "method", "|", "CF1", "|", "CP", "|", "CR", "|", "OF1", "|", "OP", "|", "OR", "|"]
    assert f"{100 * got['top_3']['of1']:.2f}" in top[2]


def test_one_image_at_a_time():
    truth, scores = sample(1, 20)
    made = MultiLabelScores()
    for image in zip(truth, scores, strict=True):
        made.update(*image)
    assert made.result() == result(truth, scores)


def test_errors():
    made = MultiLabelScores()
    with pytest.raises(ValueError, match="Nothing was counted"):
        made.result()
    with pytest.raises(ValueError, match=r"shapes \(2, 3\) and \(2, 2\)"):
        made.update(np.zeros((2, 3), int), np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"must be 0, 1 or -100. Received: \[0, 2\]"):
        made.update([[0, 2]], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="must not be NaN, and 1 of 2"):
        made.update([[0, 1]], [[1.0, np.nan]])
    made.update([[0, 1]], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="same C each time"):
        made.update([[0, 1, 1]], [[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="2 class names"):
        made.result(["a"])
