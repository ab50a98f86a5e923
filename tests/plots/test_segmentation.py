"""Pictures: the right colours at the right pixels, principal directions against scikit-learn, files that open."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.palettes import palette
from cplus1_keras.plots import panels, pixel_features
from cplus1_keras.plots.segmentation import plane

NAMES = ["road", "car", "tree"]


def shown(figure):
    return {axes.get_title(): axes.images[0].get_array() for axes in figure.axes if axes.images}


def test_panels_show_what_is_asked():
    image = np.random.default_rng(0).uniform(0, 255, (2, 4, 3))
    labels = np.array([[0, 1, 2, NEGATIVE], [UNKNOWN, IGNORE, 0, 0]])
    answer = {
        "argmax": np.array([[0, 1, 2, 3], [0, 1, 2, 3]]),
        "known_argmax": np.array([[0, 1, 2, 0], [0, 1, 2, 0]]),
        "score": np.array([[3.0, 3, 3, 3], [0, 0, 3, 0]]),
    }
    parts = shown(panels(image, labels, answer, NAMES, threshold=1.0))
    np.testing.assert_array_equal(parts["input"], np.round(image))
    road, car, tree = palette(3)[1:].tolist()
    black, magenta, grey = [0, 0, 0], [255, 0, 255], [224, 224, 224]
    assert parts["truth"].tolist() == [[road, car, tree, black], [magenta, grey, road, road]]
    # At the end of the first line the background leads, and the best known class is accepted all the same.
    assert parts["prediction"].tolist() == [[road, car, tree, road], [magenta, magenta, tree, black]]
    np.testing.assert_array_equal(parts["unknown (low log_odds)"], answer["score"])
    never = shown(panels(image[..., :1], None, answer, NAMES, score_name="energy"))
    assert [*never] == ["input", "prediction", "unknown (low energy)"]
    assert never["prediction"].tolist() == [[road, car, tree, black]] * 2


def test_the_map_is_bright_where_the_score_is_low():
    classes = np.zeros((2, 2), int)
    answer = {"argmax": classes, "known_argmax": classes, "score": np.array([[-5.0, 5.0], [np.nan, np.inf]])}
    drawn = panels(np.zeros((2, 2, 3)), None, answer, NAMES).axes[2].images[0]
    low, high = (drawn.cmap(drawn.norm(value))[:3] for value in (-5.0, 5.0))
    assert sum(low) > sum(high) + 1


def test_principal_directions():
    features = np.random.default_rng(0).normal(size=(50, 6)) * [1, 5, 1, 3, 1, 1] + 7
    points, names = plane(features)
    reference = PCA(2).fit(features)
    np.testing.assert_allclose(np.abs(points), np.abs(reference.transform(features)), atol=1e-9)
    share = reference.explained_variance_ratio_[0]
    assert names[0] == f"principal direction 1 ({100 * share:.0f} % of the variance)"
    np.testing.assert_array_equal(plane(features[:, :2])[0], features[:, :2])
    assert plane(features[:1])[0].tolist() == [[0, 0]]


def test_features_take_the_labels_of_their_cells():
    labels = np.zeros((1, 8, 8), int)
    labels[:, :, 4:] = NEGATIVE
    features = np.zeros((1, 2, 2, 2))
    features[:, :, 1] = 5.0
    axes = pixel_features(features, labels, NAMES).axes[0]
    road, background = axes.collections
    assert (road.get_label(), road.get_offsets().tolist()) == ("road", [[0, 0], [0, 0]])
    assert (background.get_label(), background.get_offsets().tolist()) == ("background", [[5, 5], [5, 5]])
    many = pixel_features(np.random.default_rng(0).normal(size=(500, 7)), np.repeat([0, UNKNOWN], 250), NAMES, limit=20)
    assert [len(part.get_offsets()) for part in many.axes[0].collections] == [20, 20]


def test_errors():
    answer = dict.fromkeys(("argmax", "known_argmax", "score"), np.zeros((2, 2), int))
    with pytest.raises(ValueError, match=r"image's size, \(2, 3\).*labels \(2, 3\), argmax \(2, 2\)"):
        panels(np.zeros((2, 3, 3)), np.zeros((2, 3), int), answer, NAMES)
    with pytest.raises(ValueError, match=r"K at least 2. Received: \(5, 1\)"):
        pixel_features(np.zeros((5, 1)), np.zeros(5, int), NAMES)
    with pytest.raises(ValueError, match="no pixel with a label"):
        pixel_features(np.zeros((5, 2)), np.full(5, IGNORE), NAMES)
