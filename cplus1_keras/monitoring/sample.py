"""What is kept of a pass for pictures: some samples with their features, some images, the worst mistakes."""

import bisect

import numpy as np
from PIL import Image

from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.plots.style import to_pixels

SIDE = 32
"""Pixels of a thumbnail's side."""

WORST = 8
"""How many mistakes of each kind are kept."""


class Spaced:
    """Some items of a stream, evenly spaced: at least `limit` of one that is long enough, and fewer than twice as many.

    >>> some = Spaced(2)
    >>> for number in range(9):
    ...     some.offer(lambda number=number: number)
    >>> some.items
    [0, 4, 8]
    """

    def __init__(self, limit):
        self.limit, self.items, self.stride, self.seen = limit, [], 1, 0

    def offer(self, make):
        """Take the next item, which `make()` gives, or leave it."""
        if self.seen % self.stride == 0:
            self.items.append(make())
        self.seen += 1
        if len(self.items) >= 2 * self.limit:
            self.items, self.stride = self.items[::2], 2 * self.stride


class Sample:
    """Samples, images and mistakes of the records of one pass, in memory that does not grow with their number.

    A sample is an image, a pixel, a box or a set of labels: `rows` has pairs of a dict of its `label`, `prediction`,
    `score` and `features` (K,), or None, and a thumbnail (32, 32, 3), or None. The `images` are records; `mistakes` are
    lists of (image, box, text) by kind.

    Args:
        class_names: Names of the known classes.
        limit: Number of samples, about.
        each: Samples of one image at most.

    >>> from cplus1_keras.tasks import Record
    >>> sample = Sample(["cat", "dog"])
    >>> sample.update(Record(np.array(-1), np.array(1), np.array(2.5), "0", {"image": np.zeros((4, 4, 3))}))
    >>> [(kind, [text for *_, text in own]) for kind, own in sample.mistakes.items()]
    [('negative accepted', ['negative → dog\\n2.50'])]
    """

    def __init__(self, class_names, limit=400, each=24):
        self.names, self.each = [*class_names], each
        self._rows, self._images, self._worst = Spaced(limit), Spaced(2), {}

    @property
    def rows(self):
        return self._rows.items

    @property
    def images(self):
        return self._images.items

    @property
    def mistakes(self):
        return {kind: [shown for _, _, shown in own] for kind, own in self._worst.items()}

    def arrays(self):
        """Dict of the arrays `label`, `prediction` and `score` (n,), `features` (n, K) where there are any."""
        rows = [row for row, _ in self.rows]
        names = ("label", "prediction", "score", "features")
        # Of images that were cut into tiles there are none, of others in the same pass there may be.
        there = [name for name in names if rows and all(row[name] is not None for row in rows)]
        return {name: np.stack([row[name] for row in rows]) for name in there}

    def update(self, record):
        """Look at one image's record; `more` may have its `image`, `features` and `boxes`."""
        places, features = pick(record, self.each)
        flat = [np.ravel(part) for part in record[:3]]
        for number, place in enumerate(places):
            row = dict(zip(("label", "prediction", "score"), (part[place] for part in flat), strict=True))
            row["features"] = None if features is None else features[number]
            self._rows.offer(lambda row=row, place=place: (row, thumbnail(record, place)))
        if "image" in record.more:
            self._images.offer(lambda: record)
            self._find_mistakes(record, *flat)

    def _find_mistakes(self, record, labels, predictions, scores):
        wrong = predictions != labels
        kinds = {
            "wrong class": (labels >= 0) & wrong,
            "negative accepted": labels == NEGATIVE,
            "unknown accepted": labels == UNKNOWN,
            "known refused": (labels >= 0) & ~wrong,
        }
        for kind, inside in kinds.items():
            places = np.flatnonzero(inside)
            if places.size:  # the surest, or of what is refused the least sure: one of each image
                rank = scores[places] if kind == "known refused" else -scores[places]
                best = np.argmin(rank)
                self._keep(kind, float(rank[best]), record, places[best])

    def _keep(self, kind, rank, record, place):
        worst = self._worst.setdefault(kind, [])
        if len(worst) == WORST and rank >= worst[-1][0]:
            return
        label, prediction, score = (np.ravel(part)[place] for part in record[:3])
        true = self.names[label] if label >= 0 else {NEGATIVE: "negative", UNKNOWN: "unknown"}[int(label)]
        text = f"{true} → {self.names[prediction]}\n{score:.2f}" if label != prediction else f"{true}\n{score:.2f}"
        image = np.clip(np.asarray(record.more["image"]), 0, 255).astype("uint8")
        bisect.insort(worst, (rank, record.group, (image, box_of(record, place), text)), key=lambda own: own[0])
        del worst[WORST:]


def pick(record, most):
    """Places of some samples in a record's flat labels, of each group alike, and their features (n, K) or None."""
    labels, features = np.asarray(record.labels), record.more.get("features")
    cells = np.arange(labels.size)
    if features is not None and labels.ndim == 2 == features.ndim - 1:  # pixels: where the features' cells have centres
        rows, columns = (
            ((np.arange(have) + 0.5) * size / have).astype(int)
            for have, size in zip(features.shape[:2], labels.shape, strict=True)
        )
        cells = (rows[:, None] * labels.shape[1] + columns).ravel()
        features = features.reshape(-1, features.shape[-1])
    elif features is not None and labels.ndim == features.ndim == 1:  # a set of labels: the surest of those there
        inside = labels >= 0 if (labels >= 0).any() else labels != IGNORE
        surest = np.argmax(np.where(inside, record.scores, -np.inf))
        return (cells[surest : surest + 1], features[None]) if inside.any() else (cells[:0], None)
    elif features is not None and features.ndim == 1:
        features = features[None]
    elif features is not None and len(features) != labels.size:
        features = None
    own = labels.ravel()[cells]
    groups = [np.flatnonzero(kind) for kind in (own >= 0, own == NEGATIVE, own == UNKNOWN)]
    chosen = np.concatenate([group[:: max(1, -(-len(group) * 3 // most))] for group in groups])
    return cells[chosen], None if features is None else np.asarray(features)[chosen]


def box_of(record, place):
    """The part of the image that a sample is of, x1, y1, x2, y2; None for all of it."""
    if "boxes" in record.more:
        return np.asarray(record.more["boxes"])[place]
    if np.ndim(record.labels) != 2:
        return None
    y, x = np.unravel_index(place, np.shape(record.labels))
    room = max(min(np.shape(record.labels)) // 8, 1)
    return np.array([x - room, y - room, x + room, y + room], "float64")


def thumbnail(record, place):
    """What a sample shows, (32, 32, 3) uint8; None without an image."""
    if "image" not in record.more:
        return None
    pixels, box = np.asarray(record.more["image"]), box_of(record, place)
    if box is not None:
        x1, y1, x2, y2 = np.round(box).astype(int)
        part = pixels[max(y1, 0) : max(y2, 1), max(x1, 0) : max(x2, 1)]
        pixels = part if part.size else pixels
    return np.asarray(Image.fromarray(to_pixels(pixels)).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
