"""COCO's and LVIS's average precision of boxes or masks, streamed: of an image a few numbers a detection stay."""

import numpy as np

from cplus1_keras.labels import IGNORE, is_known
from cplus1_keras.metrics.matching import overlaps
from cplus1_keras.metrics.tables import check_names

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
SIZES = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
GROUPS = {"rare": (1, 10), "common": (11, 100), "frequent": (101, np.inf)}
"""LVIS's groups of classes, by how many training images show one."""

_CELLS = len(SIZES) * len(THRESHOLDS)
_BITS = np.left_shift(np.uint64(1), np.arange(_CELLS, dtype="uint64")).reshape(len(SIZES), -1)


def frequency_groups(image_counts):
    """Class indices of each of `GROUPS`, by how many training images show each class; one in none belongs to no group.

    >>> {name: own.tolist() for name, own in frequency_groups([10, 11, 500, 0]).items()}
    {'rare': [0], 'common': [1], 'frequent': [2]}
    """
    counts = np.asarray(image_counts)
    return {name: np.flatnonzero((counts >= low) & (counts <= high)) for name, (low, high) in GROUPS.items()}


def encode_masks(masks):
    """Masks (n, H, W) of booleans as a list of run-length codes, in COCO's format.

    Raises:
        ImportError: `faster-coco-eval` is not installed.

    >>> encode_masks(np.ones((1, 2, 3), bool))[0]["size"]
    [2, 3]
    """
    return _masks().encode(np.asfortranarray(np.moveaxis(np.asarray(masks, "uint8"), 0, -1)))


def decode_masks(runs):
    """The masks (n, H, W), uint8 of 0 and 1, of a list of run-length codes.

    >>> decode_masks(encode_masks(np.eye(3)[None])).tolist()
    [[[1, 0, 0], [0, 1, 0], [0, 0, 1]]]
    """
    return np.moveaxis(_masks().decode(runs), -1, 0) if runs else np.zeros((0, 0, 0), "uint8")


class AveragePrecision:
    """Average precision and recall of the known classes, over all images, exact as COCO's and LVIS's own code.

    A detection that finds no object counts for nothing where an ignored one holds it, a crowd of its class, or of all;
    and where its class was not looked for.

    Args:
        class_names: Names of the C known classes.
        max_detections: How many detections of a class in an image count.
        per_image: How many detections of an image count, the surest; None for all. LVIS: 300.
        image_counts: How many training images show each class (C,), for the groups of LVIS; None for no groups.

    >>> found, box = AveragePrecision(["cat"]), np.array([[0.0, 0.0, 9.0, 9.0]])
    >>> found.update(np.array([0]), np.array([0.9]), np.array([0]), np.array([81.0]), boxes=(box, box))
    >>> found.result()["ap"]
    1.0

    Reference: Lin et al., "Microsoft COCO", ECCV 2014; Gupta et al., "LVIS", CVPR 2019.
    """

    def __init__(self, class_names, max_detections=100, per_image=None, image_counts=None):
        self.names = check_names(class_names, len(class_names))
        self.max_detections, self.per_image = max_detections, per_image
        self.groups = {} if image_counts is None else frequency_groups(image_counts)
        self.images, self._found, self._objects = 0, [], []

    def update(self, predictions, confidences, labels, areas, *, boxes=None, masks=None, classes=None, unjudged=()):
        """Count an image.

        Args:
            predictions, confidences: Class indices (n,) and confidences (n,) of its detections.
            labels, areas: Labels (m,) and areas (m,) of its objects: knowns and ignored ones count.
            boxes: The boxes (n, 4) of the detections and (m, 4) of the objects, x1, y1, x2, y2, or None.
            masks: Their masks in place of boxes: two lists of run-length codes, as `encode_masks` makes them.
            classes: (m,), whose class an ignored object is a crowd of; of all if `IGNORE`. None: of all.
            unjudged: Classes of which not every object is marked (LVIS).
        """
        predictions, confidences = np.asarray(predictions), np.asarray(confidences)
        labels, areas = np.asarray(labels), np.asarray(areas, "float64")
        classes = np.where(is_known(labels), labels, IGNORE if classes is None else classes)
        order = np.argsort(-confidences, kind="stable")[: self.per_image]
        truth = np.flatnonzero(is_known(labels) | ((labels == IGNORE) & ((classes >= 0) | (classes == IGNORE))))
        predictions, labels, areas, classes = predictions[order], labels[truth], areas[truth], classes[truth]
        rank = _rank(predictions)
        kept = rank < self.max_detections
        order, predictions, rank = order[kept], predictions[kept], rank[kept]
        same = (classes == predictions[:, None]) | (classes == IGNORE)
        shares, sizes = _shares(boxes, masks, order, truth, labels, same)
        outside = _outside(areas) | ~is_known(labels)
        right, ignored = _match(np.where(same, shares, -1), ~is_known(labels), outside)
        lost = _outside(sizes)[:, :, None] | np.isin(predictions, unjudged)[None, :, None]
        ignored |= np.moveaxis(lost, 0, 1) & ~right
        bits = [np.where(own, _BITS, 0).sum(axis=(1, 2), dtype="uint64") for own in (right, ignored)]
        image = np.full(len(order), self.images, "int32")
        self._found.append((image, predictions.astype("int32"), confidences[order], rank.astype("int32"), *bits))
        known = is_known(labels)
        image = np.full(np.count_nonzero(known), self.images, "int32")
        self._objects.append((image, labels[known].astype("int32"), ~outside[:, known].T))
        self.images += 1

    def result(self, weights=None):
        """The figures in [0, 1]; None for what no object tells.

        Args:
            weights: How often each image counts; None for once.

        Returns:
            Dict of `ap`, `ap50`, `ap75`, `ap_small`, `ap_medium`, `ap_large`, `ar_1`, `ar_10`, `ar_100` at the largest
            number of detections, whatever that is, `ar_small`, `ar_medium`, `ar_large`, with groups `ap_rare` and so
            on; `classes`: `{name: {"objects", "ap", "ap50", "ap75"}}`.
        """
        precision, recall, numbers = self._curves(weights, len(SIZES))  # (C, A, T), (C, A + 2, T), (C,)
        average = precision[:, 0]
        figures = {"ap": average, "ap50": average[:, 0], "ap75": average[:, 5]}
        figures |= {f"ap_{name}": precision[:, size] for size, name in enumerate(SIZES) if size}
        figures |= {f"ar_{name}": recall[:, len(SIZES) + n] for n, name in enumerate((1, 10))}
        figures |= {f"ar_{'100' if not size else name}": recall[:, size] for size, name in enumerate(SIZES)}
        figures |= {f"ap_{name}": average[own] for name, own in self.groups.items()}
        classes = {}
        for name, number, own in zip(self.names, numbers, average, strict=True):
            told = {"ap": _mean(own), "ap50": _mean(own[0]), "ap75": _mean(own[5])}
            classes[name] = {"objects": int(number), **told}
        return {**{name: _mean(values) for name, values in figures.items()}, "classes": classes}

    def by_group(self, weights=None):
        """`ap` of each group alone, NaN for what no object tells; a few times as fast as `result`."""
        average = self._curves(weights, 1)[0][:, 0]
        found = {f"ap_{name}": _mean(average[own]) for name, own in self.groups.items()}
        return {name: np.nan if value is None else value for name, value in found.items()}

    def _curves(self, weights, most):
        """Average precision and recall of each class by size, of the first `most`, and IoU, -1 without an object; and
        the numbers of objects.
        """
        weights = np.ones(self.images) if weights is None else np.asarray(weights, "float64")
        names = ("image", "classes", "confidences", "rank", "right", "ignored")
        empty = [(np.zeros(0, "int32"),) * 3 + (np.zeros(0, "int32"),) + (np.zeros(0, "uint64"),) * 2]
        found = dict(zip(names, map(np.concatenate, zip(*(self._found or empty), strict=True)), strict=True))
        objects = [(np.zeros(0, "int32"), np.zeros(0, "int32"), np.zeros((0, len(SIZES)), bool)), *self._objects]
        image, labels, inside = map(np.concatenate, zip(*objects, strict=True))
        count, sizes, steps = len(self.names), len(SIZES), len(THRESHOLDS)
        numbers = np.zeros((count, sizes))
        np.add.at(numbers, labels, inside * weights[image][:, None])
        precision, recall = np.full((count, sizes, steps), -1.0), np.full((count, sizes + 2, steps), -1.0)
        order = np.lexsort((np.arange(len(found["image"])), -found["confidences"].astype("float64"), found["classes"]))
        starts = np.searchsorted(found["classes"][order], np.arange(count + 1))
        for k in np.flatnonzero(numbers[:, 0] > 0):
            rows = {name: values[order[starts[k] : starts[k + 1]]] for name, values in found.items()}
            own = weights[rows["image"]]
            for size in np.flatnonzero(numbers[k, :most] > 0):
                right, false = _told(rows, size)
                precision[k, size], recall[k, size] = _average(right * own, false * own, numbers[k, size])
            for place, most in enumerate((1, 10)):
                recall[k, sizes + place] = (_told(rows, 0)[0] @ (own * (rows["rank"] < most))) / numbers[k, 0]
        return precision, recall, np.bincount(labels, minlength=count)


def _rank(predictions):
    """How many detections of its class come before each, which are in order."""
    order = np.argsort(predictions, kind="stable")
    own = predictions[order]
    first = np.searchsorted(own, own)
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order)) - first
    return rank


def _shares(boxes, masks, order, truth, labels, same):
    """Overlaps (n, m) of the chosen detections and objects, and the detections' areas (n,); of masks only where a
    detection has an object of the `same` class.
    """
    if masks is None:
        found, objects = (np.asarray(own, "float64").reshape(-1, 4) for own in boxes)
        found = found[order]
        return overlaps(found, objects[truth], labels), np.prod(found[:, 2:] - found[:, :2], axis=1)
    library, (found, objects) = _masks(), masks
    found, objects = [found[i] for i in order], [objects[i] for i in truth]
    areas = np.asarray(library.area(found), "float64") if found else np.zeros(0)
    shares, rows = np.full(same.shape, -1.0), np.flatnonzero(same.any(axis=1))
    if rows.size:
        crowd = [int(label == IGNORE) for label in labels]
        shares[rows] = np.asarray(library.iou([found[i] for i in rows], objects, crowd)).reshape(len(rows), -1)
    return shares, areas


def _outside(areas):
    """Whether areas (n,) lie outside of each of `SIZES`, (A, n)."""
    low, high = np.array([*SIZES.values()]).T[..., None]
    return (areas < low) | (areas > high)


def _match(shares, crowd, outside):
    """Which detections (n, A, T) find an object that counts, and which one that does not, by falling confidence.

    Shares are (n, m), -1 where classes differ; `crowd` (m,) holds any number; `outside` (A, m) does not count. Each
    takes the free object that counts with the largest overlap, the last of equals, else one that does not count.
    """
    right = np.zeros((len(shares), len(SIZES), len(THRESHOLDS)), bool)
    ignored = np.zeros_like(right)
    free = np.ones((len(SIZES), len(THRESHOLDS), shares.shape[1]), bool)
    for i in np.flatnonzero((shares >= THRESHOLDS[0]).any(axis=1)):
        near = np.flatnonzero(shares[i] >= THRESHOLDS[0])
        near = near[np.argsort(shares[i, near], kind="stable")[::-1]]  # the best, and of equals the last, comes first
        open_to = free[:, :, near] & (shares[i, near] >= THRESHOLDS[:, None])
        counts = open_to & ~outside[:, None, near]
        right[i] = counts.any(axis=-1)
        others = open_to & outside[:, None, near] & ~right[i][..., None]
        ignored[i] = others.any(axis=-1)
        chosen = near[np.where(right[i][..., None], counts, others).argmax(axis=-1)]
        taken = (right[i] | ignored[i]) & ~crowd[chosen]
        sizes, steps = np.nonzero(taken)
        free[sizes, steps, chosen[sizes, steps]] = False
    return right, ignored


def _told(rows, size):
    """Which detections are right and which are false at one size, two (T, n) arrays."""
    right, ignored = (rows[name] & _BITS[size][:, None] != 0 for name in ("right", "ignored"))
    return right, ~right & ~ignored


def _average(right, false, number):
    """Average precision (T,) over 101 recalls, and the last recall (T,)."""
    true, false = np.cumsum(right, axis=1), np.cumsum(false, axis=1)
    recall, precision = true / number, true / np.maximum(true + false, 1e-9)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    precision = np.concatenate([precision, np.zeros((len(true), 1))], axis=1)
    places = [np.searchsorted(own, RECALLS) for own in recall]
    average = np.array([own[place].mean() for own, place in zip(precision, places, strict=True)])
    return average, recall[:, -1] if recall.shape[1] else np.zeros(len(true))


def _mean(values):
    """The mean of those that some object tells, as a float, or None."""
    told = values[values > -1]
    return float(told.mean()) if told.size else None


def _masks():
    try:
        from faster_coco_eval.core import mask
    except ImportError as error:
        needs = "Figures of masks need faster-coco-eval: python -m pip install 'cplus1-keras[detection]'"
        raise ImportError(needs) from error
    return mask
