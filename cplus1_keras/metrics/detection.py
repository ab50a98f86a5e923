"""Figures of detection with objects of unknown classes, each with an interval by bootstrap over images."""

import numpy as np

from cplus1_keras.labels import IGNORE, UNKNOWN
from cplus1_keras.metrics.accumulators import to_json
from cplus1_keras.metrics.average_precision import GROUPS, AveragePrecision
from cplus1_keras.metrics.coco import FIGURES
from cplus1_keras.metrics.intervals import bootstrap
from cplus1_keras.metrics.matching import Image, hit, match
from cplus1_keras.metrics.tables import align, cell, percent

RECALLS = np.linspace(0, 1, 101)
WILD_RECALL = 0.8
COUNTS = ("a_ose", "unknown_objects")
ALWAYS = ("ap50", "recall", "precision", "false_per_image")
"""Figures that do not need unknown objects."""


class DetectionScores:
    """COCO's figures of the known classes, and what unknown objects do to them, at an IoU of 0.5.

        wilderness impact = P_known / P_all - 1 = F_unknown / (T + F_known)

    at the confidence where the recall of a class reaches 0.8, sums over the classes that do; T finds an object, F_known
    errs, F_unknown hits an unknown object. A-OSE is the number of unknown objects that are taken for a known class. An
    unknown's AP ranks all detections by falling doubt, the lowest score first.

    Args:
        class_names: Names of the C known classes.
        threshold: A threshold on the scores whose effect is counted too, or None.
        max_detections: As for `coco_figures`.
        samples: Replications of the bootstrap over images; 0 gives no intervals.
        seed: Seed of the bootstrap.
        image_counts: How many training images show each class, for the AP of LVIS's groups where there is more than one
            of them; None for no groups.

    >>> scores, box = DetectionScores(["cat"], samples=0), np.array([[0.0, 0.0, 9.0, 9.0]])
    >>> scores.update(box, np.array([0]), np.array([0.9]), np.array([2.0]), box, np.array([UNKNOWN]))
    >>> scores.result()["open"]["a_ose"]
    1.0

    Reference: Dhamija et al., "The Overlooked Elephant of Object Detection: Open Set", WACV 2020; Miller et al.,
    "Dropout Sampling for Robust Object Detection in Open-Set Conditions", ICRA 2018; Joseph et al., "Towards Open World
    Object Detection", CVPR 2021, for images that show known and unknown objects.
    """

    def __init__(self, class_names, threshold=None, max_detections=100, samples=300, seed=0, image_counts=None):
        self.names, self.threshold = list(class_names), threshold
        self.samples, self.seed, self.images = samples, seed, []
        self.precision = AveragePrecision(class_names, max_detections, image_counts=image_counts)

    def update(self, boxes, predictions, confidences, scores, objects, labels, areas=None, classes=None, unjudged=()):
        """Count an image: its detections, as for `match`, with the scores (n,) that decide, and its objects.

        Args:
            boxes, predictions, confidences, objects, labels, classes: As for `match`.
            scores: (n,).
            areas: (m,), which objects are small, medium or large; None takes those of the boxes.
            unjudged: Known classes of which not every object has a box (LVIS: neither looked for in the image, or not
                exhaustively); a detection of one that finds no object of it counts for nothing.
        """
        objects, labels = np.asarray(objects, "float32").reshape(-1, 4), np.asarray(labels, "int32")
        sides = np.prod(objects[:, 2:] - objects[:, :2], axis=1)
        columns = objects, labels, sides if areas is None else areas, labels if classes is None else classes
        objects, labels, areas, classes = (np.asarray(column)[sides > 0] for column in columns)
        pair = np.asarray(boxes).reshape(-1, 4), objects
        self.precision.update(
            predictions, confidences, labels, areas, boxes=pair, classes=classes, unjudged=[*unjudged]
        )
        which, hits = hit(boxes, objects, labels, predictions=predictions, unjudged=unjudged)
        strange = np.intersect1d(predictions, unjudged).astype("int32")
        if strange.size:  # as if a crowd of each such class covered the image
            around = np.concatenate([np.min(boxes, axis=0)[:2], np.max(boxes, axis=0)[2:]])
            objects = np.concatenate([objects, np.tile(around, (len(strange), 1))])
            labels, areas = np.append(labels, np.full(len(strange), IGNORE)), np.append(areas, strange * 0)
            classes = np.append(classes, strange)
        right, ignored = match(boxes, predictions, confidences, objects, labels, classes=classes)
        hits = np.where(right, predictions, hits)
        unknown = np.flatnonzero(labels == UNKNOWN)
        own = (which == unknown[:, None]) & (hits == UNKNOWN)
        lowest = np.where(own, scores, np.inf).min(axis=1, initial=np.inf)
        highest = np.where(own, scores, -np.inf).max(axis=1, initial=-np.inf)
        surest = np.zeros(len(right), bool)
        surest[np.where(own, scores, np.inf).argmin(axis=1)[own.any(axis=1)] if right.size else []] = True
        detections = boxes, predictions, confidences, scores, right, ignored & ~right, hits, surest
        self.images.append(Image(*map(np.asarray, (*detections, objects, labels, areas, classes, lowest, highest))))

    def result(self):
        """The figures, ready for JSON; what no image tells is None.

        Returns:
            Dict of `images`, `detections`; `coco`, as `AveragePrecision` tells it, of groups with intervals; `open`:
            `ap50` of the knowns with the unknown objects and `ap50_without_unknowns`, where detections of those count
            for nothing, `wilderness_impact`, `a_ose`, `unknown_objects`, `unknown_recall`, the share of them that is
            found at all, `unknown_ap50`; with a threshold `at_threshold`: `recall` and `precision` of accepted
            detections, `false_per_image`, how many of them find no object of their class, `a_ose`, and
            `unknown_recall`, the share of unknown objects that a rejected detection finds. Both have `intervals`, at
            95 % confidence.
        """
        rows, coco = self._rows(), self.precision.result()
        if sum(own.size > 0 for own in self.precision.groups.values()) > 1:
            coco |= self._with_intervals(rows, lambda _, weights: self.precision.by_group(weights))
        result = {
            "images": len(self.images),
            "detections": len(rows["image"]),
            "coco": coco,
            "open": self._with_intervals(rows, _open_figures),
        }
        if self.threshold is not None:
            result["at_threshold"] = self._with_intervals(rows, _figures_at_threshold)
        return result

    def curves(self):
        """Recall and interpolated precision at IoU 0.5 of each known class that has objects, by name."""
        rows, found = self._rows(), {}
        for name, (own, objects) in zip(self.names, rows["classes"], strict=True):
            if objects.sum():
                true, false = _accumulate(rows, own, np.ones(len(self.images)))
                found[name] = true / objects.sum(), _precision(true, false)
        return found

    def _rows(self):
        """Columns of all detections, those of each class by falling confidence, and the numbers of objects."""
        names = ("predictions", "confidences", "scores", "right", "ignored", "labels", "surest", "lowest", "highest")
        rows = {name: np.concatenate([getattr(image, name) for image in self.images]) for name in names}
        numbers = np.arange(len(self.images))
        rows["image"] = np.repeat(numbers, [len(image.scores) for image in self.images])
        rows["image_of_unknown"] = np.repeat(numbers, [len(image.lowest) for image in self.images])
        rows["threshold"], rows["classes"] = self.threshold, []
        order = np.argsort(-rows["confidences"], kind="stable")
        for k in range(len(self.names)):
            objects = np.array([np.count_nonzero(image.object_labels == k) for image in self.images])
            rows["classes"].append((order[rows["predictions"][order] == k], objects))
        return rows

    def _with_intervals(self, rows, figures):
        count = len(self.images)
        values = figures(rows, np.ones(count))
        result = {name: to_json(value) for name, value in values.items()}
        if not self.samples:
            return result

        def drawn(_, images):
            return np.array([*figures(rows, np.bincount(images, minlength=count)).values()])

        _, low, high = bootstrap(drawn, np.zeros(count, int), np.arange(count), samples=self.samples, seed=self.seed)
        ends = zip(values, low, high, strict=True)
        return {**result, "intervals": {name: [to_json(low), to_json(high)] for name, low, high in ends}}


def tables(figures):
    """COCO's figures, and those of unknown objects with their intervals, as Markdown."""
    coco = {name: figures["coco"][name] for name in FIGURES[:6]}
    found = [align([["", *(name.replace("_", " ") for name in coco)], ["known", *map(percent, coco.values())]])]
    groups = {name: f"ap_{name}" for name in GROUPS if figures["coco"].get(f"ap_{name}") is not None}
    if intervals := figures["coco"].get("intervals", {}):
        rows = [[name, cell(figures["coco"][key], intervals[key])] for name, key in groups.items()]
        found.append(align([["classes by training images", "AP [95 % interval]"], *rows]))
    rows, strange = [["IoU 0.5", "[95 % interval]"]], figures["open"]["unknown_objects"]
    for part, title in (("open", ""), ("at_threshold", " at the threshold")):
        own = figures.get(part, {})
        for name in own:
            if name != "intervals" and own[name] is not None and (strange or name in ALWAYS):
                rows.append(
                    [name.replace("_", " ") + title, _cell(name, own[name], own.get("intervals", {}).get(name))]
                )
    return [*found, align(rows)]


def _cell(name, value, interval):
    if name not in COUNTS:
        return cell(value, interval)
    return f"{value:.0f}" + (f" [{interval[0]:.0f}, {interval[1]:.0f}]" if interval and None not in interval else "")


def _open_figures(rows, weights):
    """The figures without a threshold, images counting as often as `weights` says."""
    ap, closed, wild, usual = [], [], 0.0, 0.0
    for own, objects in rows["classes"]:
        number = objects @ weights
        if not number:
            continue
        strange = (rows["labels"][own] == UNKNOWN) & ~rows["right"][own]
        true, false = _accumulate(rows, own, weights)
        _, false_known = _accumulate(rows, own, weights, ~strange)
        ap.append(_average(true / number, _precision(true, false)))
        closed.append(_average(true / number, _precision(true, false_known)))
        reached = np.flatnonzero(true / number >= WILD_RECALL)
        if reached.size:
            wild += false[reached[0]] - false_known[reached[0]]
            usual += true[reached[0]] + false_known[reached[0]]
    unknown, count = weights[rows["image_of_unknown"]], weights[rows["image_of_unknown"]].sum()
    taken = unknown @ (rows["highest"] > -np.inf)
    return {
        "ap50": np.mean(ap) if ap else np.nan,
        "ap50_without_unknowns": np.mean(closed) if closed else np.nan,
        "wilderness_impact": wild / usual if usual and count else np.nan,
        "a_ose": float(taken),
        "unknown_objects": float(count),
        "unknown_recall": taken / count if count else np.nan,
        "unknown_ap50": _unknown_ap(rows, weights, count) if count else np.nan,
    }


def _figures_at_threshold(rows, weights):
    accepted, own = rows["scores"] >= rows["threshold"], weights[rows["image"]]
    right = own @ (accepted & rows["right"])
    false = own @ (accepted & ~rows["right"] & ~rows["ignored"])
    objects = sum(number @ weights for _, number in rows["classes"])
    unknown, count = weights[rows["image_of_unknown"]], weights[rows["image_of_unknown"]].sum()
    return {
        "recall": right / objects if objects else np.nan,
        "precision": right / (right + false) if right + false else np.nan,
        "false_per_image": false / weights.sum(),
        "a_ose": float(unknown @ (rows["highest"] >= rows["threshold"])),
        "unknown_recall": unknown @ (rows["lowest"] < rows["threshold"]) / count if count else np.nan,
    }


def _unknown_ap(rows, weights, count):
    order = np.argsort(rows["scores"], kind="stable")
    own, right = weights[rows["image"][order]] * ~rows["ignored"][order], rows["surest"][order]
    true, false = np.cumsum(own * right), np.cumsum(own * ~right)
    return _average(true / count, _precision(true, false))


def _accumulate(rows, own, weights, kept=True):
    """Numbers of right and false detections down to each, of those in `own`."""
    weight, right = weights[rows["image"][own]], rows["right"][own]
    return np.cumsum(weight * right), np.cumsum(weight * (~right & ~rows["ignored"][own] & kept))


def _precision(true, false):
    """Precision at each recall, or at a larger one where that is better."""
    return np.maximum.accumulate((true / np.maximum(true + false, 1e-9))[::-1])[::-1]


def _average(recall, precision):
    """COCO's average precision: the mean over 101 recalls."""
    return np.append(precision, 0.0)[np.searchsorted(recall, RECALLS)].mean()
