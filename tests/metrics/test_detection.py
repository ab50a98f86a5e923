"""Figures of detection: COCO's by the field's own code, open-set ones by hand."""

import contextlib
import io
import json

import numpy as np
import pytest

from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.metrics import DetectionScores, coco_figures, detection
from cplus1_keras.metrics.coco import FIGURES, class_table
from cplus1_keras.metrics.matching import hit, match, mistakes, overlaps

NAMES = ["red", "white", "blue"]
KINDS, SHARES = [0, 1, 2, NEGATIVE, UNKNOWN, IGNORE], [0.3, 0.25, 0.15, 0.1, 0.1, 0.1]


def scene(rng, classes=3):
    """A random image: detections around its objects and elsewhere, in three sizes; two rows of padding."""
    count = rng.integers(0, 12)
    low, size = (
        rng.uniform(0, 300, (count, 2)),
        rng.choice([14, 60, 140], (count, 1)) * rng.uniform(0.7, 1.3, (count, 2)),
    )
    objects = np.concatenate([low, low + size], axis=1)
    labels = rng.choice(KINDS, count, p=SHARES)
    near = np.repeat(objects, 3, axis=0) + rng.normal(size=(3 * count, 4)) * np.tile(np.repeat(size, 3, axis=0), 2) / 8
    low, size = rng.uniform(0, 300, (8, 2)), rng.uniform(5, 90, (8, 2))
    boxes = np.concatenate([near, np.concatenate([low, low + size], axis=1)])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    predictions = np.where(rng.random(len(boxes)) < 0.7, np.append(np.repeat(labels, 3), [0] * 8), -1)
    predictions = np.where(predictions < 0, rng.integers(0, classes, len(boxes)), predictions)
    confidences = rng.uniform(0.05, 0.95, len(boxes)).astype("float32")
    areas = np.prod(objects[:, 2:] - objects[:, :2], axis=1) * rng.uniform(0.5, 1, count)
    truth = np.concatenate([objects, np.zeros((2, 4))]), np.append(labels, [IGNORE] * 2), np.append(areas, [0, 0])
    return boxes.astype("float32"), predictions, confidences, *truth


def scenes(number, seed=0):
    rng = np.random.default_rng(seed)
    return [scene(rng) for _ in range(number)]


def by_pycocotools(images, most):
    """The twelve figures and AP50 by class; an ignored object is a crowd of each class, or of its own."""
    coco, evaluator = (pytest.importorskip(f"pycocotools.{name}") for name in ("coco", "cocoeval"))
    annotations, found = [], []
    for number, (boxes, predictions, confidences, objects, labels, areas, *classes) in enumerate(images):
        rows = zip(objects.tolist(), labels.tolist(), areas.tolist(), *(classes or [labels]), strict=True)
        for (x1, y1, x2, y2), label, area, own in rows:
            for k in range(3) if own == IGNORE else [own]:
                if k >= 0 and x2 > x1:
                    box = {"id": len(annotations) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": area}
                    annotations.append({**box, "image_id": number, "category_id": k, "iscrowd": int(label == IGNORE)})
        for (x1, y1, x2, y2), k, confidence in zip(boxes.tolist(), predictions, confidences.tolist(), strict=True):
            row = {"image_id": number, "category_id": int(k), "bbox": [x1, y1, x2 - x1, y2 - y1]}
            found.append({**row, "score": confidence})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {"images": [{"id": i} for i in range(len(images))], "annotations": annotations}
        truth.dataset["categories"] = [{"id": k} for k in range(3)]
        truth.createIndex()
        evaluation = evaluator.COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.params.maxDets = [1, 10, most]
        evaluation.evaluate()
        evaluation.accumulate()
        if most == 100:
            evaluation.summarize()
    return evaluation


def test_cocos_figures_are_those_of_pycocotools():
    images = scenes(60)
    oracle = by_pycocotools(images, 100)
    got = coco_figures(images, NAMES)
    assert [got[name] for name in FIGURES] == pytest.approx(oracle.stats.tolist(), abs=1e-9)
    assert 0.1 < got["ap"] < got["ap50"] < 0.9
    assert len({round(got[name], 3) for name in FIGURES}) == 12
    for k, name in enumerate(NAMES):
        own = got["classes"][name]
        precision = oracle.eval["precision"][:, :, k, 0, 2]
        wanted = precision.mean(), precision[0].mean(), precision[5].mean()
        assert [own[key] for key in ("ap", "ap50", "ap75")] == pytest.approx(wanted, abs=1e-9)
        assert own["objects"] == sum(np.sum(image[4] == k) for image in images)
    few = coco_figures(images, NAMES, max_detections=2)
    # It sorts 1, 10 and 2.
    assert few["ap"] == pytest.approx(by_pycocotools(images, 2).eval["precision"][:, :, :, 0, 1].mean(), abs=1e-9)
    assert few["ap"] < got["ap"]


def test_a_crowd_is_of_its_class():
    rng = np.random.default_rng(4)
    plain, own = scenes(60), []
    for image in plain:
        labels = np.where(rng.random(len(image[4])) < 0.3, IGNORE, image[4])
        classes = np.where(labels == IGNORE, rng.choice([0, 1, 2, IGNORE, NEGATIVE], len(labels)), labels)
        own.append((*image[:4], labels, image[5], classes))
    oracle = by_pycocotools(own, 100)
    scores = DetectionScores(NAMES, samples=0)
    for boxes, predictions, confidences, *truth in own:
        scores.update(boxes, predictions, confidences, confidences, *truth)
    result = scores.result()
    assert [result["coco"][name] for name in FIGURES] == pytest.approx(oracle.stats.tolist(), abs=1e-9)
    assert result["open"]["ap50"] == pytest.approx(result["coco"]["ap50"], abs=1e-12)
    for_all = coco_figures([image[:6] for image in own], NAMES)
    assert result["coco"]["ap"] != for_all["ap"] == pytest.approx(by_pycocotools([i[:6] for i in own], 100).stats[0])


def test_a_crowd_by_hand():
    crowd, box = [[0, 0, 100, 100]], np.array([[10.0, 10, 20, 20]] * 2)
    for classes, wanted in (([1], [False, True]), ([IGNORE], [True, True]), ([NEGATIVE], [False, False])):
        found = match(box, np.array([0, 1]), np.array([0.9, 0.8]), crowd, [IGNORE], classes=classes)
        assert [part.tolist() for part in found] == [[False, False], wanted]


def federated(number=60):
    """Images with what was looked for in each: absent classes, and classes of which some objects have no box."""
    rng, found = np.random.default_rng(8), []
    for image in scenes(number, seed=6):
        there = set(image[4][image[4] >= 0].tolist())
        absent = {k for k in range(3) if rng.random() < 0.4} - there
        partly = {k for k in range(3) if rng.random() < 0.3} - absent
        found.append((image, there, absent, partly))
    return found


def test_classes_that_were_not_looked_for_count_for_nothing_as_in_lvis():
    from faster_coco_eval import COCO, COCOeval_faster

    scores, annotations, found, records = DetectionScores(NAMES, samples=0), [], [], []
    for number, (image, there, absent, partly) in enumerate(federated()):
        boxes, predictions, confidences, objects, labels, areas = image
        kept = labels >= 0
        unjudged = sorted({*range(3)} - (there | absent) | partly)
        scores.update(
            boxes, predictions, confidences, confidences, objects[kept], labels[kept], areas[kept], None, unjudged
        )
        records.append({"id": number, "neg_category_ids": [*absent], "not_exhaustive_category_ids": [*partly]})
        for (x1, y1, x2, y2), k, area in zip(objects[kept].tolist(), labels[kept], areas[kept], strict=True):
            own = {"id": len(annotations) + 1, "image_id": number, "category_id": int(k), "area": float(area)}
            annotations.append({**own, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0})
        for (x1, y1, x2, y2), k, confidence in zip(boxes.tolist(), predictions, confidences.tolist(), strict=True):
            own = {"image_id": number, "category_id": int(k), "bbox": [x1, y1, x2 - x1, y2 - y1]}
            found.append({**own, "score": confidence, "segmentation": None})
    categories = [{"id": k, "name": str(k), "frequency": "f"} for k in range(3)]
    truth = COCO({"images": records, "annotations": annotations, "categories": categories})
    oracle = COCOeval_faster(truth, truth.loadRes(found), "bbox", lvis_style=True)
    oracle.params.maxDets = [1, 10, 100]
    oracle.run()
    result = scores.result()
    assert [result["coco"][name] for name in FIGURES[:6]] == pytest.approx(oracle.stats[:6].tolist(), abs=1e-9)
    assert result["open"]["ap50"] == pytest.approx(result["coco"]["ap50"], abs=1e-12)
    assert result["coco"]["ap"] > coco_figures([image for image, *_ in federated()], NAMES)["ap"] + 0.02


def test_classes_that_were_not_looked_for_by_hand():
    """A cat is found; a second cat, a dog and a cow are not there: of dogs it is known, of cats and cows not."""
    cat = [0, 0, 10, 10]
    boxes = np.array([cat, [50, 50, 60, 60], [50, 50, 60, 60], [0, 0, 10, 9], [0, 0, 10, 9]], "float32")
    predictions, confidences = np.array([0, 0, 1, 2, 1]), np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    assert hit(boxes, [cat], [0], predictions=predictions, unjudged=[0, 2])[1].tolist() == [
        0,
        IGNORE,
        NEGATIVE,
        IGNORE,
        0,
    ]
    scores = DetectionScores(["cat", "dog", "cow"], 0.1, samples=0)
    scores.update(boxes, predictions, confidences, confidences, [cat], [0], unjudged=[0, 2])
    result = scores.result()
    assert (result["coco"]["ap"], result["at_threshold"]["false_per_image"]) == (1, 2)
    assert result["coco"]["classes"]["cow"] == {"objects": 0, "ap": None, "ap50": None, "ap75": None}
    assert scores.images[0].labels.tolist() == [0, IGNORE, NEGATIVE, IGNORE, 0]
    assert mistakes(scores.images[0]).tolist() == ["", "", "background", "", "wrong class"]


def test_what_no_object_tells_is_none():
    box = np.array([[0.0, 0.0, 9.0, 9.0]])
    image = box, np.array([1]), np.array([0.9]), box, np.array([1]), np.array([81.0])
    got = coco_figures([image], ["cat", "dog"])
    assert got["ap"] == got["ap_small"] == 1
    assert got["ap_large"] is None
    assert got["classes"]["cat"] == {"objects": 0, "ap": None, "ap50": None, "ap75": None}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in class_table(got).splitlines()]
    assert rows[2:] == [["cat", "0", "", "", ""], ["dog", "1", "100.00", "100.00", "100.00"]]
    nothing = np.zeros((0, 4)), np.zeros(0, int), np.zeros(0), box, np.array([1]), np.array([81.0])
    assert coco_figures([nothing], ["cat", "dog"])["ap"] == 0


def test_a_hit_is_of_the_largest_overlap_and_ignored_objects_come_last():
    objects = np.array(
        [[0, 0, 10, 10], [1, 0, 10, 10], [20, 0, 60, 40], [20, 0, 40, 30], [70, 0, 80, 10], [0, 0, 0, 0]]
    )
    labels = np.array([1, UNKNOWN, IGNORE, 2, NEGATIVE, IGNORE])
    boxes = np.array(
        [
            [0, 0, 10, 10],  # the known one, though the unknown one is near
            [1, 0, 11, 10],  # 0.9 of the unknown, 0.82 of the known
            [20, 0, 40, 16],  # 0.53 of the one of class 2, and wholly inside the ignored one
            [40, 10, 60, 40],  # inside the ignored one
            [50, 10, 70, 20],  # half of it inside: just enough
            [51, 10, 71, 20],  # less than half
            [70, 0, 80, 9],  # a negative object
            [70, 0, 80, 4],  # 0.4 of it: nothing
        ]
    )
    which, found = hit(boxes, objects, labels)
    assert which.tolist() == [0, 1, 3, 2, 2, -1, 4, -1]
    assert found.tolist() == [1, UNKNOWN, 2, IGNORE, IGNORE, NEGATIVE, NEGATIVE, NEGATIVE]
    assert hit(boxes, objects, labels, iou=0.35)[1].tolist()[-1] == NEGATIVE
    assert hit(boxes, objects, labels, iou=0.35)[0].tolist()[-1] == 4
    assert hit(boxes, np.zeros((0, 4)), np.zeros(0, int))[1].tolist() == [NEGATIVE] * 8
    assert [len(part) for part in hit(np.zeros((0, 4)), objects, labels)] == [0, 0]


def by_hand(threshold=None, **settings):
    """Two images: a cat, found twice and once for a dog, with an unknown owl; a dog with a crowd and an owl."""
    scores = DetectionScores(["cat", "dog"], threshold, **settings)
    cat, owl = [0, 0, 10, 10], [20, 20, 30, 30]
    boxes = np.array([cat, [0, 0, 10, 9], [0, 1, 10, 10], owl, [20, 20, 30, 29], [0, 6, 10, 16]], "float32")
    confidences = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    scores.update(
        boxes, np.array([0, 0, 1, 1, 0, 0]), confidences, np.array([3, 2, 1.5, 1, -2, 0]), [cat, owl], [0, UNKNOWN]
    )
    boxes = np.array([[0, 0, 9, 9], [52, 52, 58, 58], [80, 80, 90, 90], [20, 20, 29, 30]], "float32")
    objects = [[0, 0, 10, 10], [50, 50, 70, 70], [20, 20, 30, 30], [0, 0, 0, 0]]
    labels = [1, IGNORE, UNKNOWN, IGNORE]
    scores.update(
        boxes, np.array([1, 1, 1, 1]), np.array([0.65, 0.5, 0.55, 0.3]), np.array([2.5, 2, -1, 0.5]), objects, labels
    )
    return scores


def test_figures_with_unknown_objects_by_hand():
    result = by_hand(samples=0).result()
    got = result["open"]
    # Cats: right, then wrong twice over. Dogs by confidence: 0.7 hits a cat, 0.65 is right, 0.6 an owl, 0.55 nothing.
    assert got["ap50"] == pytest.approx((1 + 1 / 2) / 2)
    assert got["ap50"] == result["coco"]["ap50"]
    assert got["ap50_without_unknowns"] == pytest.approx((1 + 1 / 2) / 2)
    # Where recall reaches 0.8 for cats (0.9) and dogs (0.65) no owl was taken for one yet.
    assert got["wilderness_impact"] == 0
    assert (got["a_ose"], got["unknown_objects"], got["unknown_recall"]) == (2, 2, 1)
    # By rising score: -2 an owl, -1 nothing, 0 nothing, 0.5 the other owl.
    assert got["unknown_ap50"] == pytest.approx((51 * 1 + 50 * 0.5) / 101)
    assert "at_threshold" not in result
    json.dumps(result)


def test_ties_padding_and_boxes_below_a_pixel():
    """Of equal confidences the first comes first; a row without an area is no object, whatever its label."""
    small, number = [0.0, 0, 0.5, 0.5], 40
    assert overlaps([small], [small], [0]).tolist() == [[1]]
    scores, rng = DetectionScores(["cat"], samples=0), np.random.default_rng(0)
    right = rng.random(number) < 0.5
    for own in right:
        box = np.array([[0, 0, 9, 9]] if own else [[50, 50, 60, 60]], "float32")
        scores.update(box, [0], np.array([0.5]), np.array([1.0]), [[0, 0, 9, 9], [0, 0, 0, 0]], [0, 0])
    recall, precision = scores.curves()["cat"]
    np.testing.assert_allclose(recall, np.cumsum(right) / number)
    true = np.cumsum(right) / np.arange(1, number + 1)
    np.testing.assert_allclose(precision, [true[k:].max() for k in range(number)])
    assert scores.result()["coco"]["classes"]["cat"]["objects"] == number


def test_wilderness_impact_by_hand():
    scores = DetectionScores(["cat"], samples=0)
    cats = [[20 * i, 0, 20 * i + 10, 10] for i in range(5)]
    owls = [[20 * i, 50, 20 * i + 10, 60] for i in range(5)]
    confidences = np.array([0.9, 0.8, 0.7, 0.6, 0.2, 0.75, 0.65, 0.5, 0.1, 0.05, 0.85])
    boxes = np.array([*cats, *owls, [200, 0, 210, 10]], "float32")
    scores.update(boxes, np.zeros(11, int), confidences, confidences, cats + owls, [0] * 5 + [UNKNOWN] * 5)
    # The fourth of five cats comes at 0.6: four right, one wrong at 0.85, two owls.
    got = scores.result()["open"]
    assert got["wilderness_impact"] == pytest.approx(2 / (4 + 1))
    assert got["ap50_without_unknowns"] > got["ap50"]
    assert got["a_ose"] == 5


def test_figures_at_a_threshold_by_hand():
    got = by_hand(threshold=1.0, samples=0).result()["at_threshold"]
    # Accepted: cat right, cat twice, cat for dog, owl at 1.0; dog right, one inside the crowd, which does not count.
    assert got["recall"] == 1
    assert got["precision"] == pytest.approx(2 / 5)
    assert got["false_per_image"] == pytest.approx(3 / 2)
    assert got["a_ose"] == 1
    assert got["unknown_recall"] == 1  # at -2 and at 0.5
    assert by_hand(threshold=-1.5, samples=0).result()["at_threshold"]["unknown_recall"] == 0.5


def test_kinds_of_mistakes():
    first, second = by_hand(samples=0).images
    kinds = ["", "wrong place", "wrong class", "unknown taken for known", "unknown taken for known", "wrong place"]
    assert mistakes(first).tolist() == kinds
    assert mistakes(second).tolist() == ["", "", "background", "unknown taken for known"]


def test_matching_is_cocos_in_every_image():
    scores, images = DetectionScores(NAMES, samples=0), scenes(80, seed=3)
    for boxes, predictions, confidences, *truth in images:
        scores.update(boxes, predictions, confidences, confidences, *truth)
    result = scores.result()
    assert result["open"]["ap50"] == pytest.approx(result["coco"]["ap50"], abs=1e-12)
    assert [result["coco"][name] for name in FIGURES] == [coco_figures(images, NAMES)[name] for name in FIGURES]
    for name, (recall, precision) in scores.curves().items():
        levels = np.append(precision, 0)[np.searchsorted(recall, np.linspace(0, 1, 101))]
        assert levels.mean() == pytest.approx(result["coco"]["classes"][name]["ap50"], abs=1e-12)
    boxes, predictions, confidences, objects, labels, _ = images[0]
    right, ignored = match(boxes, predictions, confidences, objects, labels)
    assert not (right & ignored).any()


def test_intervals_are_over_images():
    scores, images = DetectionScores(NAMES, 0.4, samples=60, seed=5), scenes(40, seed=1)
    for boxes, predictions, confidences, *truth in images:
        scores.update(boxes, predictions, confidences, confidences, *truth)
    result = scores.result()
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(60):
        own = DetectionScores(NAMES, 0.4, samples=0)
        own.images = [scores.images[i] for i in rng.integers(40, size=40)]
        drawn.append(
            (own.result() if len(drawn) < 3 else {"open": detection._open_figures(own._rows(), np.ones(40))})["open"]
        )
    for name in ("ap50", "a_ose", "unknown_recall", "unknown_ap50"):
        values = [one[name] for one in drawn]
        wanted = np.quantile(values, 0.025, method="lower"), np.quantile(values, 0.975, method="higher")
        # Where a detection counts twice, its rows here have a place between them.
        assert result["open"]["intervals"][name] == pytest.approx(wanted, rel=2e-2 if "ap50" in name else 1e-9)
        assert wanted[0] <= result["open"][name] <= wanted[1]
    same = DetectionScores(NAMES, 0.4, samples=60)
    for _ in range(10):
        same.update(*images[1][:3], images[1][2], *images[1][3:])
    got = same.result()["at_threshold"]
    assert got["intervals"]["recall"] == [got["recall"]] * 2


def test_tables_show_what_there_is():
    result = by_hand(threshold=1.0, samples=40).result()
    coco, rows = detection.tables(result)
    assert coco.splitlines()[2].split("|")[3].strip() == f"{100 * result['coco']['ap50']:.2f}"
    low, high = result["at_threshold"]["intervals"]["precision"]
    cells = dict([cell.strip() for cell in line.split("|")[1:-1]] for line in rows.splitlines()[2:])
    assert cells["precision at the threshold"] == f"0.400 [{low:.3f}, {high:.3f}]"
    low, high = result["open"]["intervals"]["a_ose"]
    assert cells["a ose"] == f"2 [{low:.0f}, {high:.0f}]"
    assert cells["wilderness impact"] == "0.000 [0.000, 0.000]"
    assert cells["unknown recall at the threshold"] == cells["unknown recall"] == "1.000 [1.000, 1.000]"
    known = DetectionScores(NAMES, 0.4, samples=0)
    for boxes, predictions, confidences, objects, labels, _ in scenes(4):
        known.update(
            boxes, predictions, confidences, confidences, objects[labels != UNKNOWN], labels[labels != UNKNOWN]
        )
    lines = detection.tables(known.result())[1].splitlines()[2:]
    names = ["ap50", "recall at the threshold", "precision at the threshold", "false per image at the threshold"]
    assert [line.split("|")[1].strip() for line in lines] == names
