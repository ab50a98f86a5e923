"""mIoU, mAcc and aAcc against golden numbers and scikit-learn; the metric for `fit` against the matrix of counts."""

import json

import keras
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, jaccard_score, recall_score

from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.metrics import ConfusionMatrix, KnownMeanIoU, ignore_edges
from cplus1_keras.metrics.segmentation import class_table, iou_table


def masks(seed=0, shape=(3, 13, 17), num_classes=4):
    generator = np.random.default_rng(seed)
    labels = generator.choice([*range(num_classes), NEGATIVE, UNKNOWN, IGNORE], shape)
    guess = generator.integers(0, num_classes + 1, shape)
    truth = np.where(labels == NEGATIVE, num_classes, labels)
    return labels, np.where(generator.random(shape) < 0.5, np.where(truth < 0, 0, truth), guess)


def test_golden(golden):
    case = golden("derived_segmentation_metrics")
    labels = np.where(case["gt"] == 255, IGNORE, np.where(case["gt"] == 4, NEGATIVE, case["gt"]))
    confusion = ConfusionMatrix(4)
    for image, prediction in zip(labels, case["pred"], strict=True):
        confusion.update(image, prediction)
    np.testing.assert_array_equal(confusion.matrix, case["confusion"])
    summary = confusion.summary(["a", "b", "c", "d"])
    rows = summary["classes"].values()
    np.testing.assert_allclose([row["iou"] for row in rows], case["IoU"], rtol=1e-12)
    np.testing.assert_allclose([row["acc"] for row in rows], case["Acc"], rtol=1e-12)
    assert (summary["miou"], summary["macc"]) == pytest.approx((float(case["mIoU"]), float(case["mAcc"])), rel=1e-12)
    assert summary["aacc"] == pytest.approx(float(case["aAcc"]), rel=1e-12)
    assert summary["classes"]["background"]["iou"] == pytest.approx(case["IoU"][4], rel=1e-12)


@pytest.mark.parametrize("background", [True, False])
def test_equals_scikit_learn(background):
    """One pass over images of different sizes, counted as one long list of pixels."""
    confusion, pixels = ConfusionMatrix(4, background), []
    for seed, size in enumerate([(9, 4), (1, 31), (20, 20)]):
        labels, predictions = masks(seed, size)
        predictions = predictions if background else np.minimum(predictions, 3)
        confusion.update(labels, predictions)
        pixels.append((labels.ravel(), predictions.ravel()))
    labels, predictions = (np.concatenate(part) for part in zip(*pixels, strict=True))
    truth = np.where(labels == NEGATIVE, 4 if background else IGNORE, labels)
    counted = truth >= 0
    truth, predictions = truth[counted], predictions[counted]
    np.testing.assert_array_equal(confusion.matrix, confusion_matrix(truth, predictions))
    summary = confusion.summary()
    assert summary["miou"] == pytest.approx(jaccard_score(truth, predictions, average="macro"))
    assert summary["macc"] == pytest.approx(recall_score(truth, predictions, average="macro"))
    assert summary["aacc"] == pytest.approx(np.mean(truth == predictions))
    left_out = {"unknown": np.sum(labels == UNKNOWN), "ignored": np.sum(labels == IGNORE)}
    assert summary["left_out"] == {**left_out, "negative": 0 if background else np.sum(labels == NEGATIVE)}
    assert summary["pixels"] + sum(summary["left_out"].values()) == labels.size
    json.dumps(summary, allow_nan=False)


def test_classes_that_do_not_occur():
    """In neither mask: no IoU. Predicted only: IoU 0, no Acc. So mmsegmentation's nanmean counts them."""
    confusion = ConfusionMatrix(3)
    confusion.update([0, 0, -1, -1], [0, 1, 3, 3])
    summary = confusion.summary()
    ious = [row["iou"] for row in summary["classes"].values()]
    assert ious == [0.5, 0.0, None, 1.0]
    assert [row["acc"] for row in summary["classes"].values()] == [0.5, None, None, 1.0]
    assert (summary["miou"], summary["macc"]) == (0.5, 0.75)
    empty = ConfusionMatrix(1).summary()
    assert (empty["miou"], empty["macc"], empty["aacc"], empty["pixels"]) == (None, None, None, 0)
    assert iou_table({"none": empty}).splitlines()[-1] == "| none   |      |      |      |"


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_metric_of_fit_counts_the_same(background, weighted):
    labels, _ = masks(5)
    logits = np.random.default_rng(1).normal(size=(*labels.shape, 5)).astype("float32")
    confusion, metric = ConfusionMatrix(4, background), KnownMeanIoU(4, background)
    assert float(metric.result()) == 0
    for image, logit in zip(labels, logits, strict=True):
        confusion.update(image, (logit if background else logit[..., :4]).argmax(-1))
        metric.update_state(image[None], logit[None], np.full(labels[0][None].shape, 2.0) if weighted else None)
    assert float(metric.result()) == pytest.approx(confusion.summary()["miou"], rel=1e-6)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert (again.get_config(), again.name) == (metric.get_config(), "mean_iou")
    again.update_state(labels, logits)
    assert float(again.result()) == pytest.approx(float(metric.result()), rel=1e-6)


def test_errors():
    with pytest.raises(ValueError, match=r"labels` must be 0..1.*Received: \[2\] in 3 pixels"):
        ConfusionMatrix(2).update([2, 2, 2], [0, 0, 0])
    with pytest.raises(ValueError, match=r"predictions` must be 0..1.*argmax over the knowns"):
        ConfusionMatrix(2, background=False).update([0], [2])
    with pytest.raises(ValueError, match=r"one shape. Received: labels of shape \(2,\)"):
        ConfusionMatrix(2).update([0, 1], [0])
    with pytest.raises(ValueError, match="of one shape"):
        ConfusionMatrix(2).update([0, 1], [0.0, 1.0])
    with pytest.raises(ValueError, match="2 class names"):
        ConfusionMatrix(2).summary(["a"])
    with pytest.raises(ValueError, match=r"needs 3 logits, the background's last. Received: 2"):
        KnownMeanIoU(2, background=True).update_state(np.zeros((1, 2, 2), int), np.zeros((1, 2, 2, 2)))
    with pytest.raises(ValueError, match="same classes"):
        class_table({"a": ConfusionMatrix(2).summary(), "b": ConfusionMatrix(3).summary()})


@pytest.mark.parametrize("jit", [False, True])
def test_the_metric_in_evaluate(jit):
    """Whole batches of images, with a weight for each image."""
    labels, _ = masks(7, (6, 5, 4))
    logits, weights = np.random.default_rng(2).normal(size=(*labels.shape, 5)).astype("float32"), np.arange(6) % 3
    model = keras.Sequential([keras.Input((5, 4, 5)), keras.layers.Identity()])
    loss = lambda labels, logits: keras.ops.mean(logits, axis=(1, 2, 3))  # noqa: E731
    model.compile(loss=loss, weighted_metrics=[KnownMeanIoU(4, True)], jit_compile=jit)
    got = model.evaluate(logits, labels, sample_weight=weights, batch_size=2, verbose=0, return_dict=True)["mean_iou"]
    confusion = ConfusionMatrix(4)
    for image, logit in zip(np.repeat(labels, weights, 0), np.repeat(logits, weights, 0), strict=True):
        confusion.update(image, logit.argmax(-1))
    assert got == pytest.approx(confusion.summary()["miou"], rel=1e-6)


@pytest.mark.parametrize("width", [0, 1, 3])
def test_ignore_edges(width):
    labels = np.random.default_rng(0).choice([0, NEGATIVE, IGNORE], (2, 9, 11), p=[0.85, 0.05, 0.1])
    expected = labels.copy()
    for n, i, j in np.ndindex(labels.shape):
        window = labels[n, max(i - width, 0) : i + width + 1, max(j - width, 0) : j + width + 1]
        if len({*window.ravel().tolist()} - {IGNORE}) > 1:
            expected[n, i, j] = IGNORE
    np.testing.assert_array_equal(ignore_edges(labels, width), expected)
    np.testing.assert_array_equal(ignore_edges(labels[0], width), expected[0])


def test_width_is_a_number_of_pixels():
    with pytest.raises(ValueError, match="an int >= 0"):
        ignore_edges(np.zeros((2, 2), int), 1.5)


def test_tables_of_segmentation():
    confusion = ConfusionMatrix(1)
    confusion.update([0, 0, 0, -1], [0, 0, 1, 1])
    assert iou_table({"softmax": confusion.summary()}).splitlines() == [
        "| method  | mIoU  | mAcc  | aAcc  |",
        "|---------|-------|-------|-------|",
        "| softmax | 58.33 | 83.33 | 75.00 |",
    ]
    assert class_table({"softmax": confusion.summary(["cat"])}).splitlines() == [
        "| category   | softmax IoU | softmax Acc |",
        "|------------|-------------|-------------|",
        "| cat        | 66.67       | 66.67       |",
        "| background | 50.00       | 100.00      |",
        "| mean       | 58.33       | 83.33       |",
    ]
