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
    coco, evaluator = _library()
    names = check_names(class_names, len(class_names))
    truth, found = _tables([*images], len(names))
    judged = coco(truth)
    evaluation = evaluator(judged, judged.loadRes(found), "bbox")
    evaluation.params.maxDets = [1, 10, max_detections]
    evaluation.run()
    values = [_share(value) for value in evaluation.stats[:12]]
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # by IoU, recall, class
    objects = np.bincount([a["category_id"] for a in truth["annotations"] if not a["iscrowd"]], minlength=len(names))
    classes = {}
    for k, name in enumerate(names):
        ap, ap50, ap75 = (_share(part.mean()) for part in (precision[..., k], precision[0, :, k], precision[5, :, k]))
        classes[name] = {"objects": int(objects[k]), "ap": ap, "ap50": ap50, "ap75": ap75}
    return {**dict(zip(FIGURES, values, strict=True)), "classes": classes}


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


def _tables(images, num_classes):
    """COCO's json of the truth, and its list of detections."""
    annotations, found = [], []
    for number, (boxes, predictions, confidences, *truth) in enumerate(images):
        detected = zip(_corner_and_size(boxes), predictions.tolist(), confidences.tolist(), strict=True)
        for box, k, confidence in detected:
            # Without a mask here, the library would draw one for each box.
            found.append({"image_id": number, "category_id": k, "bbox": box, "score": confidence, "segmentation": None})
        objects, labels, areas, *classes = (part.tolist() for part in truth)
        rows = zip(_corner_and_size(objects), labels, areas, *(classes or [labels]), strict=True)
        for box, label, area, k in rows:
            if is_known(label) or label == IGNORE:
                for own in range(num_classes) if k == IGNORE else [k] if k >= 0 else ():
                    place = {"id": len(annotations) + 1, "image_id": number, "category_id": own}
                    annotations.append({**place, "iscrowd": int(label < 0), "bbox": box, "area": area})
    categories = [{"id": k, "name": str(k)} for k in range(num_classes)]
    truth = {"images": [{"id": number} for number in range(len(images))], "categories": categories}
    return {**truth, "annotations": annotations}, found


def _corner_and_size(boxes):
    boxes = np.asarray(boxes, "float64").reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()


def _share(value):
    """A figure as a float, None for COCO's -1."""
    return None if value < 0 else float(value)
