"""COCO's figures of detection, by `faster-coco-eval`."""

import numpy as np

from cplus1_keras.labels import IGNORE, is_known
from cplus1_keras.metrics.tables import align, check_names, percent

FIGURES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
FIGURES += ("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large")
"""COCO's twelve, in its order. `ar_100` is at the largest number of detections, whatever that is."""


def coco_figures(images, class_names, max_detections=100):
    """COCO's average precision and recall of the known classes, overall, by size and by class.

    A detection that finds no object counts for nothing where an ignored one holds it: a crowd of its class, or of all.
    Negative and unknown objects are none: who detects them errs. "Small" is an area below 32 x 32,
    "large" one from 96 x 96; of detections that is the area of the box.

    Args:
        images: Tuples of arrays, one for each image: boxes (n, 4), class indices (n,) and confidences (n,) of the
            detections; boxes (m, 4), labels (m,) and areas (m,) of the objects, and, or else all ignore all classes,
            the `classes` (m,) of `match`. Boxes are x1, y1, x2, y2.
        class_names: Names of the C known classes.
        max_detections: How many detections of a class in an image count.

    Returns:
        Dict of `FIGURES` in [0, 1]; `classes`: `{name: {"objects", "ap", "ap50", "ap75"}}`. What no object tells is
        None.

    Raises:
        ImportError: `faster-coco-eval` is not installed.

    >>> box = np.array([[0.0, 0.0, 9.0, 9.0]])
    >>> coco_figures([(box, np.array([0]), np.array([0.9]), box, np.array([0]), np.array([81]))], ["cat"])["ap"]
    1.0

    Reference: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; https://cocodataset.org.
    """
    names, (found, truth) = check_names(class_names, len(class_names)), _columns([*images])
    evaluate, parts, counts = _library(), [], []
    for k in range(len(names)):  # one by one: what the library makes of a detection takes kilobytes
        own = {name: column[found["classes"] == k] for name, column in found.items()}
        of_class = {name: column[np.isin(truth["classes"], (k, IGNORE))] for name, column in truth.items()}
        counts.append(int(np.count_nonzero(is_known(of_class["labels"]))))
        parts.append(_evaluate(own, of_class, evaluate, max_detections) if counts[-1] else None)
    there = [part for part in parts if part is not None]
    if not there:
        none = {"ap": None, "ap50": None, "ap75": None}
        return {**dict.fromkeys(FIGURES), "classes": {name: {"objects": 0, **none} for name in names}}
    # By IoU, recall, class, size, number of detections; the second without recall.
    precision, recall = (np.concatenate(own, axis=-3) for own in zip(*there, strict=True))
    average = (precision[..., 0, -1], precision[0, ..., 0, -1], precision[5, ..., 0, -1])
    values = [*average, *(precision[..., size, -1] for size in (1, 2, 3))]
    values += [*(recall[..., 0, most] for most in (0, 1, 2)), *(recall[..., size, -1] for size in (1, 2, 3))]
    classes = {}
    for name, count, part in zip(names, counts, parts, strict=True):
        own = None if part is None else part[0][:, :, 0, 0, -1]  # by IoU and recall
        told = (None,) * 3 if own is None else (_mean(own), _mean(own[0]), _mean(own[5]))
        classes[name] = {"objects": count, **dict(zip(("ap", "ap50", "ap75"), told, strict=True))}
    return {**dict(zip(FIGURES, map(_mean, values), strict=True)), "classes": classes}


def class_table(figures):
    """Objects, AP, AP50 and AP75 of every class in percent, from what `coco_figures` returns."""
    rows = [["class", "objects", "AP", "AP50", "AP75"]]
    for name, own in figures["classes"].items():
        rows.append([name, f"{own['objects']:,}", *(percent(own[key]) for key in ("ap", "ap50", "ap75"))])
    return align(rows)


def _library():
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        needs = "COCO's figures need faster-coco-eval: python -m pip install 'cplus1-keras[detection]'"
        raise ImportError(needs) from error
    return COCO, COCOeval_faster


def _columns(images):
    """Columns of all detections and of all objects that count or are ignored, as dicts of arrays."""
    names = ("boxes", "classes", "confidences"), ("boxes", "labels", "areas", "classes")
    rows = [[(*own[:3],), (*own[3:], *(own[4:5] if len(own) == 6 else ()))] for own in images]
    columns = []
    for side, own_names in enumerate(names):
        parts = [[np.asarray(column) for column in row[side]] for row in rows]
        own = {name: np.concatenate(column) for name, column in zip(own_names, zip(*parts, strict=True), strict=True)}
        own["image"] = np.repeat(np.arange(len(rows)), [len(part[0]) for part in parts])
        boxes = own["boxes"].reshape(-1, 4).astype("float64")
        columns.append({**own, "boxes": np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)})
    found, truth = columns
    kept = is_known(truth["labels"]) | (truth["labels"] == IGNORE)
    return found, {name: column[kept] for name, column in truth.items()}


def _evaluate(found, truth, library, max_detections):
    """COCO's precision and recall of one class."""
    coco, evaluator = library
    images = np.union1d(found["image"], truth["image"]).tolist()
    rows = zip(*(truth[name].tolist() for name in ("image", "boxes", "labels", "areas")), strict=True)
    annotations = [
        {"id": n, "image_id": image, "category_id": 0, "iscrowd": int(label < 0), "bbox": box, "area": area}
        for n, (image, box, label, area) in enumerate(rows, 1)
    ]
    judged = coco({"images": [{"id": n} for n in images], "categories": [{"id": 0}], "annotations": annotations})
    rows = zip(*(found[name].tolist() for name in ("image", "boxes", "confidences")), strict=True)
    # Without a mask here, the library would draw one for each box.
    same = {"category_id": 0, "segmentation": None}
    detections = [{"image_id": image, "bbox": box, "score": score, **same} for image, box, score in rows]
    evaluation = evaluator(judged, judged.loadRes(detections), "bbox")
    evaluation.params.maxDets = [1, 10, max_detections]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


def _mean(values):
    """The mean of those that some object tells, as a float, or None; COCO has -1 for the others."""
    told = values[values > -1]
    return float(told.mean()) if told.size else None
