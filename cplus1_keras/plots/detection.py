"""Pictures of detections: truth beside prediction, the surest mistakes by kind, precision against recall."""

import itertools

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.plots.segmentation import coloured
from cplus1_keras.plots.style import COLOURS, INK, PALE, as_text, canvas, grid, to_pixels

ROW, COLUMN = 1.35, 1.1
"""Between the tiles of a contact sheet, whose sides are 1."""

NAMES = {NEGATIVE: "background", UNKNOWN: "unknown", IGNORE: "ignored"}


def detections(image, objects, labels, answer, class_names, least=0.3, title=None):
    """An image with its objects and beside it with what was found: boxes, names, scores.

    Rejected detections are dashed and magenta, as are unknown objects; of those only the ones with a confidence of
    `least` or more are drawn.

    Args:
        image: (H, W, 1 or 3), pixels 0..255.
        objects: Boxes (m, 4) of the objects, x1, y1, x2, y2; those without an area are padding.
        labels: Integers (m,) in the package's convention.
        answer: Dict of arrays (n, ...), `boxes`, `class_id`, `score` and `confidence`, as `Predictor.predict` gives for
            an image; `masks` (n, H, W) are drawn where they are there.
        class_names: Names of the known classes.
        least: In [0, 1].
        title: Text above the pictures.

    >>> box = np.array([[1.0, 1.0, 9.0, 9.0]])
    >>> answer = {"boxes": box, "class_id": np.array([0]), "score": np.array([2.0]), "confidence": np.array([0.9])}
    >>> figure = detections(np.zeros((12, 12, 3)), box, np.array([-2]), answer, ["cat"])
    >>> [axes.texts[0].get_text() for axes in figure.axes]
    ['unknown', 'cat 2.0']
    """
    image, objects, labels = to_pixels(np.asarray(image)), np.asarray(objects), np.asarray(labels)
    if objects.shape != (len(labels), 4):
        raise ValueError(f"Each object has a box and a label. Received: {objects.shape} and {labels.shape}")
    height = 4.5 * image.shape[0] / image.shape[1] + 0.7
    figure, [[left, right]] = grid(9.0, max(height, 2.0), 1, 2)
    names = dict(enumerate(class_names)) | NAMES
    for axes, name in ((left, "truth"), (right, "prediction")):
        axes.imshow(image)
        axes.set_title(name, fontsize=10, color=INK)
        axes.set_axis_off()
    for box, label in zip(objects, labels.tolist(), strict=True):
        if box[2] > box[0] and box[3] > box[1]:
            _draw(left, box, label, names[label], len(class_names), dashed=label < 0)
    rows = zip(*(np.asarray(answer[key]) for key in ("boxes", "class_id", "score", "confidence")), strict=True)
    for row, (box, class_id, score, confidence) in enumerate(rows):
        if confidence > 0 and (class_id >= 0 or confidence >= least):
            if "masks" in answer:
                _draw_mask(right, np.asarray(answer["masks"][row]), class_id, len(class_names))
            text = f"{class_names[class_id]} {score:.1f}" if class_id >= 0 else f"{score:.1f}"
            _draw(right, box, class_id if class_id >= 0 else UNKNOWN, text, len(class_names), dashed=class_id < 0)
    figure.suptitle(title, fontsize=11, color=INK)
    return as_text(figure)


def mistakes(kinds, columns=8, title=None):
    """Contact sheet of what was answered wrongly, a row for each kind of mistake.

    Args:
        kinds: `{kind: [(image, box, text), ...]}`: pixels (H, W, 1 or 3), 0..255, with a box x1, y1, x2, y2 in them, or
            None for the whole image.
        columns: Of each kind so many at most.
        title: Text above the sheet.

    >>> figure = mistakes({"background": [(np.zeros((20, 30, 3)), (5, 5, 15, 12), "cat 0.9")]})
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['background', 'cat 0.9']
    """
    columns = min(columns, max(map(len, kinds.values()), default=0))
    if not columns:
        figure, axes = canvas(6.4, 1.6)
        axes.axis("off")
        axes.text(0.5, 0.5, title or "There is no mistake.", ha="center", va="center", fontsize=12, color=INK)
        return as_text(figure)
    # One axes for all: with many of them the layout takes most of the time.
    figure, [[axes]] = grid(max(1.3 * columns, 5.0), 1.7 * len(kinds) + 0.5)
    for row, (kind, shown) in enumerate(kinds.items()):
        top = ROW * row
        axes.text(-0.15, top + 0.5, kind, rotation=90, ha="center", va="center", fontsize=8, color=INK)
        for column, (image, box, text) in enumerate(shown[:columns]):
            _draw_tile(axes, np.asarray(image), box, column * COLUMN, top)
            middle = column * COLUMN + 0.5
            axes.text(middle, top - 0.03, text, ha="center", va="bottom", fontsize=7, color=INK)
    axes.set_axis_off()
    axes.set(xlim=(-0.3, columns * COLUMN), ylim=(len(kinds) * ROW - ROW + 1.05, -0.3), aspect="equal")
    figure.suptitle(title, fontsize=10, color=INK)
    return as_text(figure)


def _draw_tile(axes, image, box, left, top):
    """An image, or what is around a box in it, in the middle of a square of side 1."""
    if box is not None:
        image, box = _around(image, np.asarray(box, "float64"))
    height, width = image.shape[:2]
    unit = 1 / max(height, width)
    left, top = left + (1 - width * unit) / 2, top + (1 - height * unit) / 2
    axes.imshow(to_pixels(image), extent=(left, left + width * unit, top + height * unit, top))
    if box is not None:
        _draw(axes, (box + 0.5) * unit + (left, top, left, top), UNKNOWN, "", 1)


def precision_recall(curves, title=None):
    """Precision against recall of each class, a staircase from the surest detection to the last.

    Args:
        curves: `{name: (recall, precision)}`, arrays.
        title: Text above the axes.

    >>> figure = precision_recall({"cat": (np.array([0.5, 1.0]), np.array([1.0, 0.7]))})
    >>> figure.axes[0].get_legend().get_texts()[0].get_text()
    'cat'
    """
    figure, axes = canvas(6.4, 4.4)
    for (name, (recall, precision)), colour in zip(curves.items(), itertools.cycle(COLOURS), strict=False):
        recall, precision = np.append(0, recall), np.append(precision, 0)
        axes.plot(recall, precision, color=colour, linewidth=1.8, drawstyle="steps-post", label=name)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title=title)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(True, color=PALE)
    if 0 < len(curves) <= 20:
        axes.legend(loc="lower left", framealpha=0.9, edgecolor=PALE)
    return as_text(figure)


def _draw(axes, box, label, text, num_classes, dashed=False):
    colour = coloured(label, num_classes) / 255
    place = tuple(box[:2]), box[2] - box[0], box[3] - box[1]
    axes.add_patch(Rectangle(*place, fill=False, edgecolor=colour, linewidth=1.2, linestyle="--" if dashed else "-"))
    if text:
        ground = {"facecolor": colour, "edgecolor": "none", "pad": 0.8, "alpha": 0.8}
        ink = "white" if colour.mean() < 0.6 else INK
        where = {"ha": "left", "va": "bottom", "clip_on": True}
        axes.text(*box[:2], text, fontsize=5.5, color=ink, bbox=ground, **where)


def _draw_mask(axes, mask, class_id, num_classes):
    """The pixels of an object, half transparent, in the colour of its box."""
    pixels = np.zeros((*mask.shape, 4))
    pixels[mask > 0] = [*coloured(class_id if class_id >= 0 else UNKNOWN, num_classes) / 255, 0.45]
    axes.imshow(pixels)


def _around(image, box, share=0.4):
    """The part of an image around a box, and the box in it."""
    room = share * (box[2:] - box[:2]).max() + 4
    low = np.maximum(np.floor(box[:2] - room), 0).astype(int)
    high = np.minimum(np.ceil(box[2:] + room), image.shape[1::-1]).astype(int)
    return image[low[1] : high[1], low[0] : high[0]], box - np.tile(low, 2) - 0.5
