"""What is accepted of each class that is not known, counted by hand."""

import numpy as np
import pytest
from scipy.stats import binomtest

from cplus1_keras import calibration, metrics
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.tasks import Record
from cplus1_keras.tasks.strangers import SHOWN, NearAndFar, Strangers, tell, tell_kinds

NAMES = {0: "cat", 4: "owl", 9: "newt"}


def images(labels, scores, groups=None):
    groups = range(len(labels)) if groups is None else groups
    arrays = zip(labels, scores, groups, strict=True)
    return [Record(np.array(y), np.array(0), np.float32(s), str(g)) for y, s, g in arrays]


def test_single_images_get_the_clopper_pearson_bound_for_all_classes_at_once():
    rng = np.random.default_rng(0)
    values = rng.choice([0, 4, 9], 300)
    labels = np.select([values == 0, values == 4], [0, NEGATIVE], UNKNOWN)
    scores = rng.normal(size=300)
    scores[7] = 0.25  # at the threshold is accepted
    strangers = Strangers(NAMES, 0.25)
    for record, value in zip(images(labels, scores), values, strict=True):
        strangers.update(record, value)
    result = strangers.result(confidence=0.9)
    assert sorted(result) == ["newt", "owl"]  # knowns are no strangers
    for value, name, role in ((4, "owl", "negative"), (9, "newt", "unknown")):
        there, accepted = (values == value).sum(), (scores[values == value] >= 0.25).sum()
        assert (result[name]["role"], result[name]["images"]) == (role, there)
        assert result[name]["accepted"] == pytest.approx(accepted / there)
        low = binomtest(int(accepted), int(there), alternative="greater").proportion_ci(0.95).low
        assert result[name]["at_least"] == pytest.approx(low)
    assert [*result] == sorted(result, key=lambda name: -result[name]["accepted"])


def test_detections_are_of_the_classes_that_they_hit():
    """Two detections of an owl and one of nothing in each image; one of the owl's is accepted in every second."""
    strangers = Strangers(NAMES, 0.0)
    for number in range(10):
        labels, scores = np.array([UNKNOWN, NEGATIVE, UNKNOWN, 0]), np.float32([-1 + 2 * (number % 2), 9, -1, 9])
        more = {"which": np.array([1, -1, 1, 0])}
        strangers.update(Record(labels, np.zeros(4), scores, str(number), more), np.array([0, 4]))
    ((name, row),) = strangers.result().items()
    assert (name, row["role"], row["images"], row["accepted"]) == ("owl", "unknown", 10, 0.25)


def test_pixels_count_images_by_their_shares():
    rng, strangers, shares = np.random.default_rng(1), Strangers(NAMES, 0.0), []
    for number in range(30):
        values = rng.choice([0, 4], (5, 6))
        labels = np.where(values == 4, UNKNOWN, 0)
        labels[0] = IGNORE
        scores = rng.normal(size=(5, 6)) + 1
        strangers.update(Record(labels, labels, scores, str(number)), values)
        shares.append((scores[labels == UNKNOWN] >= 0).mean())
    (row,) = strangers.result().values()
    assert (row["images"], row["role"]) == (30, "unknown")
    assert row["accepted"] == pytest.approx(np.mean(shares))
    assert row["at_least"] == pytest.approx(1 - calibration.mean_upper_bound(1 - np.array(shares), 0.95))


def test_near_and_far_by_hand():
    """Two knowns, 10 and 11; near strangers 11, 12 and 1, far ones 9 and 12; a negative counts for neither."""
    apart = NearAndFar(Strangers(NAMES, 11.5), ["newt"], metrics.ExactScores)
    labels = [0, 0, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, NEGATIVE]
    values, scores = [0, 0, 4, 4, 4, 9, 9, 4], [10, 11, 11, 12, 1, 9, 12, 99]
    for record, value in zip(images(labels, scores), values, strict=True):
        apart.update(record, value)
    told, shares = apart.summary(), apart.result(confidence=0.9)
    assert {kind: (own["knowns"], own["members"]) for kind, own in told.items()} == {"near": (2, 3), "far": (2, 2)}
    assert told["near"]["auroc"] == pytest.approx((1 + 1.5) / 6)
    assert told["far"]["auroc"] == pytest.approx(2 / 4)
    for kind, accepted, there in (("near", 1, 3), ("far", 1, 2)):
        ends = binomtest(accepted, there).proportion_ci(0.9)
        assert (shares[kind]["images"], shares[kind]["accepted"]) == (there, accepted / there)
        assert shares[kind]["interval"] == pytest.approx([ends.low, ends.high])
    assert tell_kinds({"near": shares["near"]}).startswith("Accepted of the near unknowns: 33.33 % (")


def test_what_is_a_stranger_by_several_is_near_if_one_is():
    """Labels of sets: the first image shows an owl and a newt, the second a newt; thresholds by class."""
    apart = NearAndFar(Strangers(NAMES, np.array([0.0, 2.0])), ["newt"], metrics.BinnedScores)
    for number, shown in enumerate(([4, 9], [9])):
        record = Record(np.full(2, UNKNOWN), np.arange(2), np.float32([1, 1]), str(number))
        apart.update(record, np.repeat(np.array(shown)[:, None], 2, axis=1))
    shares = apart.result()
    assert {kind: own["images"] for kind, own in shares.items()} == {"near": 1, "far": 1}
    assert shares["near"]["accepted"] == 0.5
    bound = calibration.mean_upper_bound([0.5], 0.975)
    assert shares["near"]["interval"] == pytest.approx([1 - bound, bound])


def test_only_the_kinds_that_occur_are_told():
    apart = NearAndFar(Strangers(NAMES, 0.0), ["newt"], metrics.ExactScores)
    for record, value in zip(images([0, UNKNOWN], [1, 2]), (0, 9), strict=True):
        apart.update(record, value)
    assert [*apart.summary()] == [*apart.result()] == ["far"]


def test_images_of_one_group_count_once():
    strangers = Strangers(NAMES, 0.0)
    for record in images([UNKNOWN] * 4, [1, 1, -1, -1], groups=["a", "a", "a", "b"]):
        strangers.update(record, 9)
    assert strangers.result()["newt"]["images"] == 2
    assert strangers.result()["newt"]["accepted"] == pytest.approx((2 / 3 + 0) / 2)


def test_an_image_may_be_a_stranger_by_several_classes_and_thresholds_may_be_of_classes():
    strangers = Strangers(NAMES, np.array([0.0, 2.0]))
    labels = np.array([UNKNOWN, UNKNOWN])
    strangers.update(Record(labels, np.arange(2), np.array([1.0, 1.0]), "a"), np.array([[4, 4], [9, 9]]))
    assert {name: row["accepted"] for name, row in strangers.result().items()} == {"owl": 0.5, "newt": 0.5}


def rows(number, at_least):
    figures = {"role": "unknown", "images": 50, "accepted": at_least + 0.1, "at_least": at_least}
    return {f"class {i}": figures for i in range(number)}


def test_a_broken_promise_is_told_and_a_kept_one_is_not():
    scores = np.linspace(0, 1, 200)
    promise = calibration.threshold_at_fpr(scores, 0.1)
    text = tell(rows(1, 0.2), promise)
    assert "WARNING: clearly more than the 10 % asked for are accepted of class 0 (30 %)." in text
    assert "calibration_classes" in text
    assert "WARNING" not in tell(rows(1, 0.05), promise)
    assert "WARNING" not in tell(rows(1, 0.9), calibration.threshold_at_coverage(scores, 0.9))  # promises nothing
    several = calibration.ClassCalibration(0.1, 0.9, (promise,))
    assert "WARNING" in tell(rows(1, 0.2), several)


def test_many_classes_are_cut_short():
    text = tell(rows(SHOWN + 3, 0.2), calibration.threshold_at_fpr(np.linspace(0, 1, 200), 0.1))
    assert f"class {SHOWN - 1} " in text
    assert f"class {SHOWN} " not in text
    assert "3 more classes" in text
    assert "and 3 more." in text


def test_the_most_accepted_come_first():
    strangers = Strangers(NAMES, 0.0)
    for value, score in ((9, -1.0), (4, 1.0), (0, -1.0), (0, 1.0)):
        (record,) = images([UNKNOWN], [score])
        strangers.update(record._replace(group=f"{value} {score}"), value)
    assert {name: row["accepted"] for name, row in strangers.result().items()} == {"owl": 1, "cat": 0.5, "newt": 0}
    assert [*strangers.result()] == ["owl", "cat", "newt"]


def test_as_many_classes_as_fit_leave_none_out():
    def told(number):
        row = {"role": "unknown", "images": 90, "accepted": 0.5, "at_least": 0.4}
        found = calibration.threshold_at_fpr(np.arange(100.0), 0.1)
        return tell({f"class {i}": row for i in range(number)}, found)

    assert "more" not in told(SHOWN).replace("clearly more than", "")
    assert told(SHOWN + 1).count("1 more") == 2
