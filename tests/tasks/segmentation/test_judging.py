"""The figures of a split against those of all its pixels at once, by scikit-learn."""

import json

import keras
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score

from cplus1_keras import heads, metrics, scores
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.layers import Reject
from cplus1_keras.metrics.pixels import edge_of
from cplus1_keras.models import segmentation_model
from cplus1_keras.serving import Predictor
from cplus1_keras.tasks.segmentation.calibration import threshold_at_pixel_fpr
from cplus1_keras.tasks.segmentation.judging import judge, scored


def built(kernel_size):
    keras.utils.set_random_seed(0)
    images = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 64, -2)(images)
    x = keras.layers.Conv2D(5, kernel_size, padding="same", activation="tanh")(x)
    return segmentation_model(images, x, heads.LinearHead(3, use_bias=True, background=True))


def accepting(threshold=-np.inf):
    return Reject(3, threshold, scores.log_odds)


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (*shape, 3)).astype("float32")


def split(count=12, seed=0):
    generator, result = np.random.default_rng(seed), []
    for number in range(count):
        size = tuple(generator.integers(9, 20, 2))
        labels = generator.choice([0, 1, 2, NEGATIVE, UNKNOWN, IGNORE], (1, *size)).astype("int32")
        result.append((pictures(1, *size, seed=number), labels))
    return result


def test_judge_equals_figures_of_all_pixels():
    model, images = built(3), split()
    found = Predictor(model, accepting(threshold=0.1))
    figures, pixels = judge(found, images, fprs=(0.1,), edge_width=0)
    json.dumps(figures, allow_nan=False)
    answers = [found.predict(image) for image, _ in images]
    flat = {name: np.concatenate([a[name].ravel() for a in answers]) for name in answers[0]}
    labels = np.concatenate([y.ravel() for _, y in images])
    truth = np.where(labels == NEGATIVE, 3, labels)
    matrix = confusion_matrix(truth[truth >= 0], flat["argmax"][truth >= 0])
    assert figures["segmentation"]["aacc"] == pytest.approx(np.trace(matrix) / matrix.sum())
    assert figures["segmentation"]["classes"]["background"]["pixels"] == matrix[3].sum()
    for group, label in (("negative", NEGATIVE), ("unknown", UNKNOWN)):
        both = (labels >= 0) | (labels == label)
        exact = roc_auc_score(labels[both] >= 0, flat["score"][both])
        assert figures["open_set"][group]["auroc"] == pytest.approx(exact, abs=1e-3)
    assert figures["open_set"] == figures["open_set_without_edges"]
    accepted = flat["class_id"] >= 0
    assert figures["at_threshold"]["fpr_unknown"] == pytest.approx(np.mean(accepted[labels == UNKNOWN]))
    right = (flat["class_id"] == labels)[labels >= 0]
    assert figures["at_threshold"]["ccr"] == pytest.approx(np.mean(right))
    assert figures["images"] == 12
    assert pixels.summary(fprs=(0.1,))["unknown"] == figures["open_set"]["unknown"]
    assert "at_threshold" not in judge(Predictor(model, accepting()), images[:1])[0]
    narrow, _ = judge(found, images, fprs=(0.1,), edge_width=1)
    assert narrow["open_set"] == figures["open_set"]
    assert narrow["open_set_without_edges"] != figures["open_set"]


def test_threshold_of_a_split():
    """From model to calibrated threshold, which `judge` then finds again on the same images."""
    model, images = built(3), split(60)
    found = threshold_at_pixel_fpr(scored(Predictor(model, accepting()), images), 0.2, score="log_odds")
    assert found.samples == 60
    assert 0 < found.rate < found.bound <= 0.2
    figures, _ = judge(Predictor(model, accepting(threshold=found.threshold)), images)
    assert figures["at_threshold"]["fpr_negative"] == pytest.approx(found.accepted / found.pixels)
    assert found.threshold == edge_of(metrics.pixels.bins_of(found.threshold))


def test_labels_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"Labels must have the size.*\(1, 4, 5\).*\(1, 4, 4, 3\)"):
        judge(Predictor(built(1), accepting()), [(pictures(1, 4, 4), np.zeros((1, 4, 5), int))])


def test_nan_never_becomes_a_figure():
    image = pictures(1, 4, 4)
    image[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="16 of 16 pixels in batch 1 have no score"):
        judge(
            Predictor(built(1), accepting()),
            [(pictures(1, 4, 4), np.zeros((1, 4, 4), int)), (image, np.zeros((1, 4, 4), int))],
        )
