"""What every threshold would do, against counting at each."""

import io
import json
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from cplus1_keras import calibration
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.metrics import BinnedScores
from cplus1_keras.tasks import Record
from cplus1_keras.tasks.evidence import Evidence
from cplus1_keras.tasks.examples import draw
from cplus1_keras.tasks.strangers import Strangers
from cplus1_keras.tasks.sweep import STOPS, Sweep

NAMES = {0: "cat", 1: "dog", 4: "owl", 9: "newt"}
KNOWN = ("cat", "dog")


def images(number=500, seed=0, decimals=7):
    rng = np.random.default_rng(seed)
    values = rng.choice([*NAMES], number)
    labels = np.select([values == 4, values == 9], [NEGATIVE, UNKNOWN], values)
    scores = (rng.normal(size=number) + 2 * (labels >= 0)).round(decimals).astype("float32")
    rows = zip(labels, rng.integers(0, 2, number), scores, rng.integers(0, number // 2, number), strict=True)
    return [Record(np.array(y), np.array(k), s, str(g)) for y, k, s, g in rows], values


def pixels(number=30):
    rng, records, masks = np.random.default_rng(3), [], []
    for image in range(number):
        values = rng.choice([*NAMES], (9, 7))
        labels = np.select([values == 4, values == 9], [NEGATIVE, UNKNOWN], values)
        labels[0] = IGNORE
        scores = (rng.normal(size=labels.shape) + 2 * (labels >= 0)).astype("float32")
        records.append(Record(labels, rng.integers(0, 2, labels.shape), scores, f"video {image // 3}"))
        masks.append(values)
    return records, masks


def large():
    """An image of so many pixels that they are not sorted."""
    rng = np.random.default_rng(8)
    values = np.tile([0, 1, 4, 9], (200, 40))
    labels = np.select([values == 4, values == 9], [NEGATIVE, UNKNOWN], values)
    scores = (rng.normal(size=labels.shape) + (labels >= 0)).astype("float32")
    return [Record(labels, rng.integers(0, 2, labels.shape), scores, "a")], [values]


def swept(records, values, found):
    sweep = Sweep(found, KNOWN, NAMES)
    for record, value in zip(records, values, strict=True):
        sweep.update(record, value)
    return sweep.result()


@pytest.mark.parametrize(
    "given",
    [images(), images(60, 1), images(decimals=1), pixels(), large()],
    ids=["many", "few", "ties", "pixels", "large"],
)
def test_all_numbers_are_those_that_the_package_counts_at_each_threshold(given):
    records, values = given
    negatives = np.concatenate([np.ravel(r.scores)[np.ravel(r.labels) == NEGATIVE] for r in images(200, 7)[0]])
    found = calibration.threshold_at_fpr(negatives, 0.2)
    told = json.loads(json.dumps(swept(records, values, found), allow_nan=False))
    stops = told["thresholds"]
    assert stops == sorted(set(stops))
    assert stops[told["chosen"]] == found.threshold
    assert 5 < len(stops) <= STOPS + 60
    assert (told["known"]["accepted"][0], told["unknown"]["accepted"][-1]) == (told["known"]["decisions"], 0)
    for i in [*range(0, len(stops), len(stops) // 4), told["chosen"]]:
        scores, strangers = BinnedScores(stops[i]), Strangers(NAMES, stops[i])
        for record, value in zip(records, values, strict=True):
            scores.update(record.labels, record.predictions, record.scores)
            strangers.update(record, value)
        for role in ("known", "negative", "unknown"):
            assert told[role]["decisions"] == scores.totals[role]
            assert told[role]["accepted"][i] == scores.accepted[role]
        assert told["known"]["right"][i] == scores.accepted["right"]
        by_class = strangers.result()
        for own in told["classes"]:
            if own["role"] != "known":
                row = by_class[own["name"]]
                assert (own["role"], own["images"]) == (row["role"], row["images"])
                assert own["accepted"][i] == pytest.approx(row["accepted"], abs=1e-6)
        promise = found.at(stops[i])
        assert [told["promise"][name][i] for name in ("accepted", "rate", "bound")] == [
            promise.accepted,
            promise.rate,
            promise.bound,
        ]


def test_knowns_are_told_by_class():
    records, values = images(400)
    told = swept(records, values, calibration.threshold_at_fpr(np.arange(60.0) / 60, 0.1))
    stop = told["thresholds"][told["chosen"]]
    (own,) = (own for own in told["classes"] if own["name"] == "dog")
    shares = {}
    for record in records:
        if record.labels == 1:
            shares.setdefault(record.group, []).append(
                [record.scores >= stop, record.scores >= stop and record.predictions == 1]
            )
    means = np.mean([np.mean(rows, axis=0) for rows in shares.values()], axis=0)
    assert (own["role"], own["images"]) == ("known", len(shares))
    assert [own["accepted"][told["chosen"]], own["right"][told["chosen"]]] == pytest.approx(means.tolist(), abs=1e-6)


def test_label_sets_move_all_thresholds():
    rng = np.random.default_rng(5)
    labels = np.where(rng.random((300, 2)) < 0.5, [0, 1], NEGATIVE)
    scores = (rng.normal(size=(300, 2)) * [1, 3] + (labels >= 0)).astype("float32")
    records = [Record(y, np.arange(2), s, str(i)) for i, (y, s) in enumerate(zip(labels, scores, strict=True))]
    found = calibration.calibrate_classes(records, 0.1)
    told = swept(records, [np.zeros((0, 2))] * 300, found)
    assert told["relative"]
    assert told["thresholds"][told["chosen"]] == 0
    for i in range(0, len(told["thresholds"]), 20):
        moved = found.at(told["thresholds"][i])
        accepted = scores - found.thresholds >= np.float32(told["thresholds"][i])
        assert told["negative"]["accepted"][i] == (accepted & (labels < 0)).sum()
        assert told["known"]["right"][i] == told["known"]["accepted"][i] == (accepted & (labels >= 0)).sum()
        assert told["promise"]["bound"][i] == max(own.bound for own in moved.classes)
    assert told["promise"]["bound"][told["chosen"]] <= 0.1


def test_infinite_scores_and_a_promise_that_is_not_at_hand():
    found = calibration.threshold_at_fpr(np.arange(60.0), 0.1)
    records = [Record(np.array(0), np.array(0), np.float32(s), str(s)) for s in (-np.inf, 3.0, np.inf)]
    told = swept(records, [0] * 3, calibration.Calibration.from_dict(found.to_dict()))
    json.dumps(told, allow_nan=False)
    assert told["promise"] is None
    assert told["known"]["accepted"][-1] == 1  # no finite threshold refuses it
    assert told["known"]["accepted"][told["chosen"]] == 1


def test_examples_are_the_worst_of_each_kind_and_class():
    found = calibration.threshold_at_fpr(np.arange(60.0), 0.1)
    evidence, (records, values) = Evidence(found, KNOWN, NAMES), images(3000)
    for record, value in zip(records, values, strict=True):
        evidence.update(record, value)
    chosen = evidence.examples.chosen()
    scores, labels = np.array([r.scores for r in records]), np.array([r.labels for r in records])
    right = labels == np.array([r.predictions for r in records])
    newts = [own["index"] for own in chosen if own["true"] == "newt"]
    assert newts == np.flatnonzero(values == 9)[np.argsort(-scores[values == 9], kind="stable")][:40].tolist()
    refused = [own for own in chosen if own["kind"] == "refused" and own["true"] == "cat"]
    cats = (values == 0) & right
    assert [own["index"] for own in refused] == np.flatnonzero(cats)[np.argsort(scores[cats], kind="stable")][
        :40
    ].tolist()
    assert {own["answer"] for own in refused} == {"cat"}
    wrong = [own for own in chosen if own["kind"] == "wrong" and own["true"] == "dog"]
    assert {own["answer"] for own in wrong} == {"cat"}
    assert wrong[0]["score"] == scores[(values == 1) & ~right].max()


def test_examples_of_pixels_are_parts_of_images_and_of_boxes_each_box():
    found = calibration.threshold_at_fpr(np.arange(60.0), 0.1)
    evidence = Evidence(found, KNOWN, NAMES)
    labels = np.array([[0, 0, 0], [UNKNOWN, UNKNOWN, IGNORE]])
    record = Record(labels, np.array([[0, 1, 1], [0, 0, 1]]), np.array([[1, 2, 9], [4, 6, 0]], "float32"), "a")
    evidence.update(record, np.array([[0, 0, 0], [9, 9, 9]]))
    boxes = np.array([[0, 0, 4, 4], [1.25, 2, 3, 4]])
    evidence.update(Record(np.array([1, -1]), np.array([1, 0]), np.array([3, 5], "float32"), "b", {"boxes": boxes}))
    more = {"boxes": boxes, "which": np.array([-1, 0])}
    hits = Record(np.array([NEGATIVE, UNKNOWN]), np.array([1, 0]), np.array([7, 8], "float32"), "c", more)
    evidence.update(hits, np.array([9]))
    told = [tuple(own.values()) for own in evidence.examples.chosen()]
    assert ("stranger", 2, "negative", "negative", "dog", 7.0, [0.0, 0.0, 4.0, 4.0]) in told  # it hits nothing
    assert ("stranger", 2, "newt", "unknown", "cat", 8.0, [1.2, 2.0, 3.0, 4.0]) in told
    assert ("stranger", 0, "newt", "unknown", "cat", 5.0, [0.0, 1.0, 2.0, 2.0]) in told
    assert ("wrong", 0, "cat", "known", "dog", 2.0, [0.0, 0.0, 3.0, 1.0]) in told
    assert ("stranger", 1, "negative", "negative", "cat", 5.0, [1.2, 2.0, 3.0, 4.0]) in told
    assert ("refused", 1, "dog", "known", "dog", 3.0, [0.0, 0.0, 4.0, 4.0]) in told


def a_split(images):
    """Images by their indices, as a split gives them."""

    def subset(indices):
        examples = [{"image": images[index]} for index in indices.tolist()]
        return mock.Mock(dataset=lambda: mock.Mock(as_numpy_iterator=lambda: iter(examples)))

    return mock.Mock(subset=subset)


def test_thumbnails_show_their_images_and_what_is_around_a_box():
    rng = np.random.default_rng(0)
    grey, colour = (rng.integers(0, 256, size).astype("uint8") for size in ((5, 7, 1), (9, 4, 3)))
    content, columns, side = draw([{"index": 5}, {"index": 2}], a_split({2: grey, 5: colour}))
    sheet = np.asarray(Image.open(io.BytesIO(content)))
    assert (sheet.shape, columns, side) == ((9, 18, 3), 2, 9)
    assert sheet[:, 2:6].tolist() == colour.tolist()
    assert sheet[2:7, 10:17].tolist() == np.repeat(grey, 3, axis=-1).tolist()
    large = np.full((200, 300, 3), 10, "uint8")
    large[100:140, 200:240] = 250
    content, _, side = draw([{"index": 6, "box": [200, 100, 240, 140]}], a_split({6: large}))
    sheet = np.asarray(Image.open(io.BytesIO(content)).convert("L")).astype(int)
    assert sheet.shape == (side, side) == (96, 96)  # 52 pixels around 40
    assert (sheet[14:82, 14:82] > 240).all()
    assert (sheet[:8] < 20).all()
    assert (sheet[:, -8:] < 20).all()
