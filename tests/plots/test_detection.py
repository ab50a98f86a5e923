"""Pictures of detections: the right boxes with the right names, the right part of the image."""

import numpy as np
import pytest

from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.palettes import palette
from cplus1_keras.plots import detections, mistakes, precision_recall

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype("uint8")


def drawn(axes):
    """Boxes (x1, y1, x2, y2), colour, whether dashed, and the texts of an axes."""
    boxes = [((*p.get_xy(), p.get_x() + p.get_width(), p.get_y() + p.get_height()), p) for p in axes.patches]
    styles = [(box, tuple(round(255 * c) for c in p.get_edgecolor()[:3]), p.get_linestyle()) for box, p in boxes]
    return styles, [text.get_text() for text in axes.texts]


def test_truth_and_prediction_side_by_side():
    objects = np.array([[1, 2, 10, 12], [20, 5, 30, 15], [5, 20, 15, 30], [30, 20, 45, 35], [0, 0, 0, 0]], "float32")
    labels = np.array([1, UNKNOWN, NEGATIVE, IGNORE, IGNORE])
    answer = {
        "boxes": np.array([[1, 2, 11, 12], [20, 5, 31, 15], [7, 7, 9, 9], [0, 0, 0, 0]], "float32"),
        "class_id": np.array([0, -1, -1, -1]),
        "score": np.array([2.34, -0.5, -3.0, -3e38]),
        "confidence": np.array([0.9, 0.4, 0.2, 0.0]),
    }
    left, right = detections(IMAGE, objects, labels, answer, ["cat", "dog"], title="two cells").axes
    np.testing.assert_array_equal(left.images[0].get_array(), IMAGE)
    colours = [tuple(colour) for colour in palette(2).tolist()]
    magenta, grey, black = (255, 0, 255), (224, 224, 224), (0, 0, 0)
    boxes = [tuple(box) for box in objects.tolist()]
    assert drawn(left) == (
        [(boxes[0], colours[2], "-"), (boxes[1], magenta, "--"), (boxes[2], black, "--"), (boxes[3], grey, "--")],
        ["dog", "unknown", "background", "ignored"],
    )
    assert drawn(right) == ([((1, 2, 11, 12), colours[1], "-"), ((20, 5, 31, 15), magenta, "--")], ["cat 2.3", "-0.5"])
    every = detections(IMAGE, objects, labels, answer, ["cat", "dog"], least=0.0).axes[1]
    assert len(every.patches) == 3
    with pytest.raises(ValueError, match=r"\(5, 4\) and \(2,\)"):
        detections(IMAGE, objects, labels[:2], answer, ["cat", "dog"])


def test_mistakes_are_cut_out_in_rows_by_kind():
    box = np.array([20.0, 10, 40, 22])
    kinds = {"wrong class": [(IMAGE, box, "cat $2")], "background": [(IMAGE, (0, 0, 5, 5), "dog 1")] * 3}
    axes = mistakes(kinds, columns=2).axes[0]
    assert [text.get_text() for text in axes.texts] == ["wrong class", "cat $2", "background", "dog 1", "dog 1"]
    # 0.4 of the longer side and 4 pixels around, as far as there is image: 34 x 44 pixels, in a square of side 1.
    first, *_, last = axes.images
    np.testing.assert_array_equal(first.get_array(), IMAGE[:34, 8:52])
    np.testing.assert_allclose(first.get_extent(), (0, 1, 39 / 44, 5 / 44))
    np.testing.assert_allclose(drawn(axes)[0][0][0], (12 / 44, 15 / 44, 32 / 44, 27 / 44))
    np.testing.assert_array_equal(last.get_array(), IMAGE[:11, :11])
    assert len(axes.images) == 3
    whole = mistakes({"none": [(IMAGE[:20], None, "")]}).axes[0]
    np.testing.assert_array_equal(whole.images[0].get_array(), IMAGE[:20])
    np.testing.assert_allclose(whole.images[0].get_extent(), (0, 1, 2 / 3, 1 / 3))
    assert not whole.patches
    assert mistakes({}, title="none").axes[0].texts[0].get_text() == "none"
    assert mistakes({}).axes[0].texts[0].get_text() == "There is no mistake."


def test_curves_are_staircases():
    recall, precision = np.array([0.25, 0.25, 0.5]), np.array([1.0, 0.75, 0.75])
    axes = precision_recall({"cat": (recall, precision), "dog": (recall, precision)}, title="all").axes[0]
    line = axes.lines[0]
    np.testing.assert_allclose(line.get_xdata(), [0, 0.25, 0.25, 0.5])
    np.testing.assert_allclose(line.get_ydata(), [1, 0.75, 0.75, 0])
    assert line.get_drawstyle() == "steps-post"
    assert len({line.get_color() for line in axes.lines}) == 2
