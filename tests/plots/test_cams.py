"""Pictures of class activation maps: what they show, where, in which colour."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from cplus1_keras import plots
from cplus1_keras.labels import IGNORE

NAMES = ["cat", "dog", "$20 bill", "hen"]
IMAGES = np.random.default_rng(0).uniform(0, 255, (3, 8, 12, 3)).astype("float32")
CAMS = np.zeros((3, 2, 3, 4), "float32")
CAMS[0, 0, 2, 0], CAMS[0, 1, 0, 2], CAMS[0, 1, 1, 2] = 4.0, 2.0, -9.0
PRESENT = np.array([[True, False, True, True], [False] * 4, [False, True, False, False]])
SCORES = np.array([[1.5, -1, 2.5, 0.5], [-1, -2, -3, -4], [0, 1, 0, 0]])
TRUTH = np.array([[1, 0, 0, IGNORE], [0, 1, 0, 1], [0, 1, 0, 0]])


def draw(**more):
    figure = plots.activation_maps(IMAGES, CAMS, PRESENT, SCORES, NAMES, TRUTH, **more)
    figure.canvas.draw()
    return np.array(figure.axes).reshape(3, -1)


def test_each_row_has_the_found_classes_the_surest_first():
    axes = draw()
    titles = [[a.get_title() for a in row] for row in axes]
    assert titles[0] == ["", "$20 bill 2.5", "cat 1.5", "hen 0.5"]
    assert titles[1] == ["none of these\nmissed: dog, hen", "", "", ""]
    assert titles[2] == ["", "dog 1.0", "", ""]
    assert [to_hex(a.title.get_color()) for a in axes[0, 1:]] == ["#d55e00", "#009e73", "#333333"]
    assert [len(a.images) for a in axes[1]] == [1, 0, 0, 0]


def test_maps_lie_over_their_image_in_one_range_of_colours():
    shown = draw()[0]
    np.testing.assert_array_equal(shown[0].images[0].get_array(), np.round(IMAGES[0]).astype("uint8"))
    bill, cat = (np.array(axes.images[1].get_array()) for axes in shown[1:3])
    np.testing.assert_allclose(bill, [[0, 0, 0], [0.5, 0, 0]])
    np.testing.assert_allclose(cat, [[0, 0, 1], [0, 0, 0]])
    assert tuple(shown[1].images[1].get_extent()) == (-0.5, 11.5, 7.5, -0.5)


def test_columns_limit_the_maps():
    assert [a.get_title() for a in draw(columns=1)[0]] == ["", "$20 bill 2.5"]


def test_without_truth_nothing_is_right_or_false():
    figure = plots.activation_maps(IMAGES[..., :1], CAMS, PRESENT, SCORES, NAMES, title="digits")
    assert {to_hex(a.title.get_color()) for a in figure.axes if a.get_title()} == {"#333333"}
    assert figure._suptitle.get_text() == "digits"


def test_wrong_input_is_refused():
    for wrong in ({"images": IMAGES[:0]}, {"cams": CAMS[:2]}, {"present": PRESENT[:, :3]}, {"scores": SCORES[:2]}):
        given = {"images": IMAGES, "cams": CAMS, "present": PRESENT, "scores": SCORES, "class_names": NAMES} | wrong
        with pytest.raises(ValueError, match="4 classes"):
            plots.activation_maps(**given)
