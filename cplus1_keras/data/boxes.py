"""Objects of images, each with a box, in memory: where they are, what they are, checked against their image's size."""

import dataclasses
import functools

import numpy as np

ON_BAD = ("error", "drop")


@dataclasses.dataclass(frozen=True, eq=False)
class Boxes:
    """Objects of N images, those of one image after those of another; `boxes[indices]` are those of some images.

    `collect` makes one, by the rule for bad boxes that it states.

    Args:
        counts: (N,) ints, objects of each image.
        sizes: (N, 2) ints, height and width of each image.
        corners: (n, 4) float32, (x1, y1, x2, y2) in pixels: x in [0, W], y in [0, H], the left upper pixel being the
            unit square at 0, so that the area is (x2 - x1)(y2 - y1).
        values: (n,) ints, indices into the source's class names.
        crowd: (n,) bool: a crowd (COCO) or an object too difficult to be asked for (VOC); it counts for nothing.
        areas: (n,) float32 in pixels, what COCO's figures call small, medium and large: of the object's outline where
            that was annotated, else of its box.
        outlines: (n,) array of what `outlines.draw` made of each object's outline, or None: there are boxes only.
        clipped, dropped: (N,) ints, how many boxes of each image reached out of it, or were bad and left out.
        neg_categories, not_exhaustive: LVIS: N tuples of values, the classes that were looked for and are absent, and
            those of which not every object has a box. None: all classes were looked for, and all objects have boxes.

    >>> found = collect([[(0, 0, 2, 2)], [(1, 1, 3, 5)]], [[0], [1]], [(8, 6), (8, 6)], where="box {} {}".format)
    >>> found[[1]].corners, found.areas
    (array([[1., 1., 3., 5.]], dtype=float32), array([4., 8.], dtype=float32))
    """

    counts: np.ndarray
    sizes: np.ndarray
    corners: np.ndarray
    values: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    clipped: np.ndarray
    dropped: np.ndarray
    outlines: np.ndarray | None = None
    neg_categories: tuple | None = None
    not_exhaustive: tuple | None = None

    def __len__(self):
        return len(self.counts)

    def __getitem__(self, indices):
        indices = np.asarray(indices, "int64").reshape(-1)
        counts = self.counts[indices]
        # Row j of image i is starts[i] + j; the new rows of an image begin where those before it end.
        rows = np.repeat(self.starts[indices] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        return Boxes(
            **{key: getattr(self, key)[rows] for key in ("corners", "values", "crowd", "areas")},
            outlines=None if self.outlines is None else self.outlines[rows],
            **{key: getattr(self, key)[indices] for key in ("counts", "sizes", "clipped", "dropped")},
            **{key: _of_images(getattr(self, key), indices) for key in ("neg_categories", "not_exhaustive")},
        )

    @functools.cached_property
    def starts(self):
        """(N,) ints, the first row of each image."""
        return np.cumsum(self.counts) - self.counts

    @property
    def images(self):
        """(n,) ints, the image of each object."""
        return np.repeat(np.arange(len(self)), self.counts)

    def is_complete(self, index, number):
        """Of each of so many values, whether every object of it in image `index` has a box: bools (number,)."""
        start, complete = self.starts[index], np.full(number, self.neg_categories is None)
        if self.neg_categories is not None:
            complete[[*self.neg_categories[index], *self.values[start : start + self.counts[index]]]] = True
        if self.not_exhaustive is not None:
            complete[[*self.not_exhaustive[index]]] = False
        return complete

    def relabel(self, table):
        """The same objects with value `table[value]` for each value, `table` being an (n,) int array."""
        lists = {key: getattr(self, key) for key in ("neg_categories", "not_exhaustive")}
        lists = {key: rows and tuple(tuple(table[list(row)].tolist()) for row in rows) for key, rows in lists.items()}
        return dataclasses.replace(self, values=table[self.values], **lists)


def collect(corners, values, sizes, where, *, crowd=None, areas=None, outlines=None, on_bad="error", **lists):
    """`Boxes` of N images, from those of each.

    A box that reaches out of its image is clipped and counted in `clipped`. One that lies outside altogether, has no
    width or height, negative ones among them, or a corner that is no finite number, is an error that names file and
    box; with `on_bad="drop"` it is left out and counted in `dropped`.

    Args:
        corners: N sequences of (x1, y1, x2, y2).
        values: N sequences of ints, indices into the class names.
        sizes: N pairs of height and width.
        where: Function of the number of an image and that of a box in it, giving what a message calls the box.
        crowd, areas: N sequences of bool and of floats, or None: no crowds, the boxes' areas (as where one is NaN).
        outlines: Function of the number of an image, that of a box in it and its clipped corners (4,), giving what
            `Boxes.outlines` holds; None for boxes only.
        on_bad: "error" or "drop".
        lists: `neg_categories` and `not_exhaustive` of `Boxes`.

    Raises:
        ValueError: If a box is bad and not to be dropped, or has not four corners.

    >>> found = collect([[(-2, 1, 4, 3)], []], [[0], []], [(8, 6), (8, 6)], where="box {} {}".format)
    >>> found.corners, found.clipped
    (array([[0., 1., 4., 3.]], dtype=float32), array([1, 0]))
    """
    if on_bad not in ON_BAD:
        raise ValueError(f"`on_bad` is one of {', '.join(ON_BAD)}. Received: {on_bad!r}")
    counts, sizes = np.array([len(own) for own in values], "int64"), np.array(sizes, "int64").reshape(-1, 2)
    image = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    given = _corners(corners, image, number, where)
    limits = sizes[image][:, [1, 0, 1, 0]]
    inside = np.clip(given, 0, limits).astype("float32")
    flaw = _flaws(given, inside)
    bad = flaw != ""
    if bad.any() and on_bad == "error":
        raise ValueError(_sentence(given, limits, flaw, lambda row: where(image[row], number[row])))
    clipped = ~bad & ((given < 0) | (given > limits)).any(1)
    found = {"corners": inside, "values": _flat(values, "int64"), "areas": (inside[:, 2:] - inside[:, :2]).prod(1)}
    found["crowd"] = np.zeros(len(image), bool) if crowd is None else _flat(crowd, bool)
    if areas is not None:
        areas = _flat(areas, "float32")
        found["areas"] = np.where(np.isnan(areas), found["areas"], areas)
    if outlines is not None:
        found["outlines"] = np.array([None, *map(outlines, image, number, inside)], object)[1:]
    return Boxes(
        **{key: rows[~bad] for key, rows in found.items()},
        counts=np.bincount(image[~bad], minlength=len(counts)),
        sizes=sizes,
        clipped=np.bincount(image[clipped], minlength=len(counts)),
        dropped=np.bincount(image[bad], minlength=len(counts)),
        **lists,
    )


def concatenate(parts):
    """`Boxes` of all images of several; LVIS's lists stay only where all have them."""
    fields = [field.name for field in dataclasses.fields(Boxes)]
    lists = ("neg_categories", "not_exhaustive")
    rows = [key for key in fields if key not in lists and all(getattr(part, key) is not None for part in parts)]
    found = {key: np.concatenate([getattr(part, key) for part in parts]) for key in rows}
    for key in lists:
        rows = [getattr(part, key) for part in parts]
        found[key] = None if None in rows else tuple(item for own in rows for item in own)
    return Boxes(**found)


def _corners(corners, image, number, where):
    rows = [tuple(row) for own in corners for row in own]
    for place, row in enumerate(rows):
        if len(row) != 4 or not all(isinstance(item, (int, float, np.number)) for item in row):
            title = where(image[place], number[place])
            raise ValueError(f"{title}: a box is four numbers, x1, y1, x2, y2. Received: {list(row)}")
    return np.array(rows, "float64").reshape(-1, 4)


def _flaws(given, inside):
    flaw = np.full(len(given), "", "U64")
    flaw[((inside[:, 2:] - inside[:, :2]) <= 0).any(1)] = "lies outside its image"
    flaw[(given[:, 2:] <= given[:, :2]).any(1)] = "has no area: needs x1 < x2 and y1 < y2"
    flaw[~np.isfinite(given).all(1)] = "is not finite"
    return flaw


def _sentence(given, limits, flaw, where):
    rows = np.flatnonzero(flaw != "")
    box = ", ".join(f"{value:g}" for value in given[rows[0]])
    more = f" {len(rows) - 1} more boxes are bad." if len(rows) > 1 else ""
    wide, high = limits[rows[0], :2]
    return (
        f"{where(rows[0])}: the box ({box}) {flaw[rows[0]]}. The image is {wide} x {high} (width x height), a box "
        f'(x1, y1, x2, y2) in its pixels.{more} Correct the annotations, or leave bad boxes out with on_bad="drop".'
    )


def _flat(rows, dtype):
    return np.array([item for own in rows or () for item in own], dtype)


def _of_images(rows, indices):
    return None if rows is None else tuple(rows[index] for index in indices)
