"""Average precision of boxes and masks against stored figures of lvis and pycocotools, and by hand."""

import json
import pathlib

import numpy as np
import pytest

from cplus1_keras.labels import IGNORE, NEGATIVE
from cplus1_keras.metrics import AveragePrecision, encode_masks, frequency_groups
from cplus1_keras.metrics.coco import FIGURES

STORED = pathlib.Path(__file__).parent.parent / "golden_lvis"
LVIS = {"AP": "ap", "AP50": "ap50", "AP75": "ap75", "APs": "ap_small", "APm": "ap_medium", "APl": "ap_large"}
LVIS |= {"APr": "ap_rare", "APc": "ap_common", "APf": "ap_frequent"}
LVIS |= {"AR@": "ar_100", "ARs@": "ar_small", "ARm@": "ar_medium", "ARl@": "ar_large"}


@pytest.fixture(scope="module")
def stored():
    return json.loads((STORED / "figures.json").read_text())


@pytest.fixture(scope="module")
def scenes():
    return json.loads((STORED / "scenes.json").read_text())


def corners(rows):
    boxes = np.array([own["box"] for own in rows], "float64").reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def judge(scores, images, kind, places, crowds=(), federated=False):
    """Give the images to an `AveragePrecision`, class k as `places[k]`."""
    number = 0
    for image in images:
        objects, found = image["objects"], image["detections"]
        classes = np.array([places[own["class"]] for own in objects], int)
        crowd = np.isin(number + np.arange(len(objects)), crowds)
        number += len(objects)
        unjudged = ()
        if federated:
            complete = {*classes.tolist(), *(places[k] for k in image["negative"])}
            unjudged = sorted({*range(len(scores.names))} - complete | {places[k] for k in image["not_exhaustive"]})
        pair = corners(found), corners(objects)
        if kind == "segm":
            pair = [own["mask"] for own in found], [own["mask"] for own in objects]
        scores.update(
            np.array([places[own["class"]] for own in found]),
            np.array([own["score"] for own in found]),
            np.where(crowd, IGNORE, classes),
            np.array([own["area"] for own in objects]),
            **{"boxes" if kind == "bbox" else "masks": pair},
            classes=classes,
            unjudged=unjudged,
        )
    return scores


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize(("version", "images"), [("v0.5", slice(0, 40)), ("v1.0", slice(20, 60))])
@pytest.mark.parametrize("most", [300, 4])
def test_federated_figures_are_those_of_lvis(stored, scenes, version, images, kind, most):
    own = stored[version]
    names = [str(k) for k in range(own["classes"])]
    assert len(names) == {"v0.5": 1230, "v1.0": 1203}[version]
    scores = AveragePrecision(names, 300, per_image=most, image_counts=own["image_counts"])
    result = judge(scores, scenes[images], kind, own["places"], federated=True).result()
    for name, wanted in own[kind][str(most)].items():
        got = result[LVIS[name.replace(str(most), "") if "@" in name else name]]
        assert (-1 if got is None else got) == pytest.approx(wanted, abs=1e-9), name
    assert len({round(result[name], 4) for name in ("ap", "ap_rare", "ap_common", "ap_frequent")}) == 4


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_figures_with_crowds_are_those_of_pycocotools(stored, scenes, kind):
    names, own = [str(k) for k in range(9)], stored["coco"]
    result = judge(AveragePrecision(names), scenes, kind, range(9), own["crowds"]).result()
    got = [-1 if result[name] is None else result[name] for name in FIGURES]
    assert got == pytest.approx(own[kind], abs=1e-9)


def test_weights_are_images_that_come_so_often(scenes):
    names, weights = [str(k) for k in range(9)], np.arange(12) % 3
    counted = judge(AveragePrecision(names, image_counts=[5, 50, 500] * 3), scenes[:12], "bbox", range(9))
    repeated = [image for image, weight in zip(scenes[:12], weights, strict=True) for _ in range(weight)]
    wanted = judge(AveragePrecision(names, image_counts=[5, 50, 500] * 3), repeated, "bbox", range(9)).result()
    got = counted.result(weights)
    for name in (*FIGURES, "ap_rare", "ap_common", "ap_frequent"):
        assert got[name] == pytest.approx(wanted[name], abs=1e-9), name
    assert got["ap"] != pytest.approx(counted.result()["ap"], abs=1e-3)


def test_groups_by_training_images():
    groups = frequency_groups([0, 1, 10, 11, 100, 101, 9999])
    assert {name: own.tolist() for name, own in groups.items()} == {
        "rare": [1, 2],
        "common": [3, 4],
        "frequent": [5, 6],
    }


def test_the_surest_of_an_image_count():
    """Two cats and a dog, each found; the dog's detection is the least sure."""
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], "float64")
    given = np.array([0, 0, 1]), np.array([0.7, 0.9, 0.5]), np.array([0, 0, 1]), np.full(3, 100.0)
    told = []
    for most, each in ((None, 100), (2, 100), (None, 1)):
        scores = AveragePrecision(["cat", "dog"], each, most)
        scores.update(*given, boxes=(boxes, boxes))
        told.append([own["ap"] for own in scores.result()["classes"].values()])
    assert told == [[1, 1], [1, 0], [pytest.approx(51 / 101), 1]]  # half of the cats: 51 of 101 recalls


def test_a_mask_by_hand():
    """A detection that covers three of four columns has an IoU of 0.75: right up to that threshold, six of ten."""
    mask, truth = np.zeros((2, 4, 4), bool), np.ones((1, 4, 4), bool)
    mask[0, :, :3] = True
    scores = AveragePrecision(["cat"])
    pair = encode_masks(mask[:1]), encode_masks(truth)
    scores.update(np.array([0]), np.array([0.9]), np.array([0]), np.array([16.0]), masks=pair)
    assert scores.result()["ap"] == pytest.approx(0.6)


def test_negative_and_unknown_objects_are_none_and_nothing_is_none():
    box = np.array([[0.0, 0, 9, 9]])
    scores = AveragePrecision(["cat"])
    assert scores.result()["ap"] is None
    scores.update(np.array([0]), np.array([0.9]), np.array([NEGATIVE]), np.array([81.0]), boxes=(box, box))
    assert scores.result()["ap"] is None
    scores.update(np.array([]), np.array([]), np.array([0]), np.array([81.0]), boxes=(np.zeros((0, 4)), box))
    assert (scores.result()["ap"], scores.result()["ar_100"]) == (0, 0)
