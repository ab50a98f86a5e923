"""Anchors: unit vectors, assigned to classes by seed, as far apart as geometry allows."""

import numpy as np
import pytest

from cplus1_keras import anchors

# Smallest angles of the best known arrangements on the sphere (Tammes' problem), in degrees.
TAMMES = {7: 77.8695, 8: 74.8585, 9: 70.5288, 10: 66.1468, 12: 63.4349, 24: 43.6908}
CASES = [
    (anchors.orthonormal, 10, 256, 90.0),
    (anchors.orthonormal, 4, 4, 90.0),
    (anchors.circle, 10, 2, 36.0),
    (anchors.circle, 2, 2, 180.0),
    (anchors.simplex, 2, 1, 180.0),
    (anchors.simplex, 4, 3, np.degrees(np.arccos(-1 / 3))),
    (anchors.simplex, 10, 64, np.degrees(np.arccos(-1 / 9))),
    (anchors.spread, 10, 64, np.degrees(np.arccos(-1 / 9))),
    (anchors.spread, 10, 2, 36.0),
    (anchors.spread, 10, 5, 90.0),
    (anchors.spread, 10, 6, 90.0),
]


@pytest.mark.parametrize(("arrange", "classes", "dim", "degrees"), CASES)
def test_unit_vectors_at_the_known_angle(arrange, classes, dim, degrees):
    points = arrange(classes, dim)
    assert points.shape == (classes, dim)
    assert points.dtype == "float64"
    np.testing.assert_allclose(np.linalg.norm(points, axis=-1), 1, rtol=1e-14)
    assert np.degrees(anchors.smallest_angle(points)) == pytest.approx(degrees, abs=1e-9)


@pytest.mark.parametrize("classes", TAMMES)
def test_spread_is_close_to_the_best_known(classes):
    points = anchors.spread(classes, 3, seed=1)
    np.testing.assert_allclose(np.linalg.norm(points, axis=-1), 1, rtol=1e-14)
    angle = np.degrees(anchors.smallest_angle(points))
    assert 0.99 * TAMMES[classes] <= angle <= TAMMES[classes] + 1e-3


def test_a_simplex_is_regular_and_centred():
    points = anchors.simplex(7, 9)
    gram = points @ points.T
    np.testing.assert_allclose(gram[~np.eye(7, dtype=bool)], -1 / 6, atol=1e-14)
    np.testing.assert_allclose(points.sum(axis=0), 0, atol=1e-14)


@pytest.mark.parametrize("arrange", [anchors.orthonormal, anchors.simplex, anchors.spread])
def test_classes_are_assigned_by_seed(arrange):
    first, again, other = arrange(12, 12), arrange(12, 12), arrange(12, 12, seed=1)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_allclose(np.unique(first, axis=0), np.unique(other, axis=0), atol=1e-15)


def test_a_spread_depends_on_its_seed_only():
    np.testing.assert_array_equal(anchors.spread(9, 3, seed=5), anchors.spread(9, 3, seed=5))
    assert not np.array_equal(anchors.spread(9, 3, seed=5), anchors.spread(9, 3, seed=6))


def test_golden_geometry(golden):
    case = golden("derived_anchor_geometry")
    ours = anchors.circle(10)
    np.testing.assert_allclose(np.cos(anchors.smallest_angle(ours)), case["max_offdiag_cos_circle10"], rtol=1e-12)
    np.testing.assert_allclose(np.cos(anchors.smallest_angle(case["circle10"])), np.cos(np.pi / 5), rtol=1e-12)
    distances = np.linalg.norm(ours[:, None] - case["circle10"], axis=-1)  # the same points, in another order
    np.testing.assert_allclose(np.sort(distances, axis=1)[:, 0], 0, atol=1e-12)
    assert sorted(np.argmin(distances, axis=1)) == list(range(10))
    cosine = np.cos(anchors.smallest_angle(anchors.orthonormal(10, 256)))
    np.testing.assert_allclose(cosine, case["max_offdiag_cos_ortho"], atol=1e-12)


@pytest.mark.parametrize("angle", [1e-9, 1e-3, 1.0, np.pi - 1e-9])
def test_smallest_angle_keeps_its_digits(angle):
    points = np.array([[2.0, 0.0], [3 * np.cos(angle), 3 * np.sin(angle)]])
    assert anchors.smallest_angle(points) == pytest.approx(angle, rel=1e-6)


def test_one_class():
    for arrange, dim in ((anchors.orthonormal, 1), (anchors.circle, 2), (anchors.simplex, 1), (anchors.spread, 3)):
        np.testing.assert_allclose(np.linalg.norm(arrange(1, dim), axis=-1), [1.0])


@pytest.mark.parametrize(
    ("arrange", "classes", "dim", "least"),
    [
        (anchors.orthonormal, 10, 9, "`dim` >= 10"),
        (anchors.simplex, 10, 8, "`dim` >= 9"),
        (anchors.circle, 10, 1, "`dim` >= 2"),
        (anchors.circle, 10, 3, "`dim` = 2"),
        (anchors.spread, 3, 1, "`dim` >= 2"),
        (anchors.spread, 0, 3, "`num_classes` >= 1"),
    ],
)
def test_impossible_sizes_are_refused(arrange, classes, dim, least):
    with pytest.raises(ValueError, match=least):
        arrange(classes, dim)


@pytest.mark.parametrize("points", [np.ones((1, 3)), np.zeros((2, 3)), np.ones(3)])
def test_smallest_angle_needs_two_directions(points):
    with pytest.raises(ValueError, match="at least two non-zero anchors"):
        anchors.smallest_angle(points)
