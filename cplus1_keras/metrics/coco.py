"""COCO's figures of detection."""

from cplus1_keras.metrics.average_precision import AveragePrecision
from cplus1_keras.metrics.tables import align, percent

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

    >>> box = np.array([[0.0, 0.0, 9.0, 9.0]])
    >>> coco_figures([(box, np.array([0]), np.array([0.9]), box, np.array([0]), np.array([81]))], ["cat"])["ap"]
    1.0

    Reference: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; https://cocodataset.org.
    """
    scores = AveragePrecision(class_names, max_detections)
    for boxes, predictions, confidences, objects, labels, areas, *classes in images:
        scores.update(predictions, confidences, labels, areas, boxes=(boxes, objects), classes=(*classes, None)[0])
    return scores.result()


def class_table(figures):
    """Objects, AP, AP50 and AP75 of every class in percent, from what `coco_figures` returns."""
    rows = [["class", "objects", "AP", "AP50", "AP75"]]
    for name, own in figures["classes"].items():
        rows.append([name, f"{own['objects']:,}", *(percent(own[key]) for key in ("ap", "ap50", "ap75"))])
    return align(rows)
