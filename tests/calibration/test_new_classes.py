"""A promise about classes never seen: by simulation, on real letters, and what is told where there are too few."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from scipy.stats import norm

from cplus1_keras.calibration import (
    Calibration,
    NewClasses,
    images_needed,
    judge_new_classes,
    threshold_at_fpr,
)

LETTERS = pathlib.Path(__file__).parents[3] / "shared" / "data" / "nist_letters"


def draw(generator, classes, images=30, within=0.6):
    """Scores of classes that differ: each has its own middle, drawn as the next class's will be."""
    middles = np.sqrt(1 - within**2) * generator.normal(size=(classes, 1))
    scores = middles + within * generator.normal(size=(classes, images))
    return scores.astype("float32").ravel(), np.repeat(np.arange(classes), images)


def test_the_promise_over_classes_holds_and_that_over_images_does_not():
    """Over draws of 80 classes the rate on new classes, 1 - Phi(t), exceeds 10 % at most 5 % of the time."""
    generator, by_class, by_image = np.random.default_rng(0), [], []
    for _ in range(300):
        scores, classes = draw(generator, 80)
        by_class.append(norm.sf(threshold_at_fpr(scores, 0.1, groups=classes).threshold))
        by_image.append(norm.sf(threshold_at_fpr(scores, 0.1).threshold))
    broken = np.mean(np.array(by_class) > 0.1)
    assert broken <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert np.mean(by_class) > 0.02  # and does not refuse everything
    assert np.mean(np.array(by_image) > 0.1) > 0.15


def test_what_is_told_with_many_classes():
    scores, classes = draw(np.random.default_rng(1), 50)
    expected = threshold_at_fpr(scores, 0.1, 0.9, groups=classes).threshold
    above, below = np.nextafter(np.float32(expected), [np.inf, -np.inf], dtype="float32")
    for threshold, kept in ((above, True), (expected, True), (below, False)):
        found = judge_new_classes(scores, classes, threshold, 0.1, 0.9)
        assert (found.classes, found.target, found.confidence) == (50, 0.1, 0.9)
        assert (found.threshold, found.kept) == (expected, kept)
    assert f"no promise at this threshold; {expected:.4g} would keep 10 % at 90 % confidence (50 classes)" in str(found)
    told = str(dataclasses.replace(found, kept=True))
    assert "at 90 % confidence at most 10 % of one are accepted on average (50 classes)" in told


def test_each_class_is_left_out_in_turn():
    scores, classes = draw(np.random.default_rng(2), 6, images=40)
    names = np.array(["ant", "bee", "cow", "dog", "eel", "fox"])[classes]
    shares = {}
    for name in np.unique(names):
        found = threshold_at_fpr(scores[names != name], 0.2, 0.8)
        shares[name] = np.mean(scores[names == name] >= found.threshold)
    found = judge_new_classes(scores, names, 0.0, 0.2, 0.8)
    assert found.left_out == pytest.approx(np.mean([*shares.values()]))
    assert (found.worst, found.worst_rate) == (max(shares, key=shares.get), max(shares.values()))
    assert (found.threshold, found.kept, found.needed) == (None, None, images_needed(0.2, 0.8, single=False))
    assert f"takes {found.needed} negative classes that do not train; there are 6." in str(found)
    assert str(found).endswith(f"{100 * found.worst_rate:.3g} % of '{found.worst}', the worst.")


def test_too_few_images_without_a_class_leave_no_estimate():
    scores, classes = draw(np.random.default_rng(2), 2, images=30)
    assert judge_new_classes(scores[:40], classes[:40], 0.0, 0.1).left_out is None
    with pytest.raises(ValueError, match="needs at least two"):
        judge_new_classes(scores, 0 * classes, 0.0, 0.1)


def test_the_record_keeps_it():
    new = NewClasses(3, 38, 0.1, 0.95, left_out=0.2, worst="fly", worst_rate=0.5)
    found = dataclasses.replace(threshold_at_fpr(np.arange(100.0), 0.1), new_classes=new)
    again = Calibration.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found
    assert str(found).endswith(f"\n{new}")
    values = found.to_dict()
    values["new_classes"]["more"] = 1
    with pytest.raises(ValueError, match="A NewClasses has the fields"):
        Calibration.from_dict(values)


@pytest.mark.skipif(not LETTERS.is_dir(), reason="needs ../shared/data/nist_letters")
def test_on_real_letters():
    """Digits' place is taken by four letters; of the 22 others some calibrate and the rest come as new classes.

    A linear map of the pixels classifies. Over draws of which letters calibrate, the promise over images is broken on
    the new ones most of the time, that over classes seldom; and leaving a letter out tells what the new ones do.
    """
    with np.load(next(LETTERS.glob("*.npz"))) as stored:
        images, labels = stored["x_train"] / 255.0, stored["y_train"]
    generator, known = np.random.default_rng(0), np.array([1, 9, 15, 24])
    rows = images.reshape(len(images), -1) - 0.5
    inside = np.isin(labels, known)
    target = (labels[inside, None] == known) * 1.0
    weights = np.linalg.solve(rows[inside].T @ rows[inside] + 30 * np.eye(rows.shape[1]), rows[inside].T @ target)
    scores = (rows @ weights).max(-1).astype("float32")
    others, rate, confidence = np.setdiff1d(np.unique(labels), known), 0.3, 0.8
    assert images_needed(rate, confidence, single=False) <= 14
    broken, left_out, seen = {"class": [], "image": []}, [], []
    for _ in range(60):
        calibrating = generator.permutation(others)[:14]
        held, new = np.isin(labels, calibrating), np.isin(labels, np.setdiff1d(others, calibrating))
        found = judge_new_classes(scores[held], labels[held], 0.0, rate, confidence)
        by_image = threshold_at_fpr(scores[held], rate, confidence).threshold
        for kind, threshold in (("class", found.threshold), ("image", by_image)):
            accepted = [np.mean(scores[labels == name] >= threshold) for name in np.unique(labels[new])]
            broken[kind].append(np.mean(accepted) > rate)
            if kind == "image":
                seen.append(np.mean(accepted))
        left_out.append(found.left_out)
    assert np.mean(broken["class"]) <= 1 - confidence
    assert np.mean(broken["image"]) > np.mean(broken["class"])
    assert np.mean(left_out) == pytest.approx(np.mean(seen), abs=0.03)
