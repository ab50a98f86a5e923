"""Bounds on the scale and largest margins: the papers' table, the softmax itself, and FORMULAS' figures."""

import math

import numpy as np
import pytest

from cplus1_keras import losses, scale


def test_table_5_2(golden):
    """The ceilings that the thesis prints for its protocols."""
    arrays = golden("derived_scale_lower_bound")
    printed = {10: 13, 30: 16, 116: 17, 151: 18}
    for classes, bound, ceiling, orthogonal in zip(
        arrays["C"], arrays["bound"], arrays["ceil"], arrays["scale_needed_by_eq310"], strict=True
    ):
        probability = float(arrays["p"])
        assert scale.simplex_bound(int(classes), probability) == pytest.approx(bound, rel=1e-10)
        assert math.ceil(scale.simplex_bound(int(classes))) == ceiling
        assert scale.orthogonal_bound(int(classes), probability) == pytest.approx(orthogonal, rel=1e-10)
        assert printed.get(int(classes), ceiling) == ceiling
    for probability, bound in zip(arrays["p_list"], arrays["bound_C10"], strict=True):
        assert scale.simplex_bound(10, float(probability)) == pytest.approx(bound, rel=1e-10)


@pytest.mark.parametrize(
    ("margin", "simplex", "orthogonal"),
    [(losses.CosFace(0.35), 18.9, 22.2), (losses.ArcFace(0.5), 14.6, 16.4), (None, 13.0, 14.4)],
)
def test_with_a_margin(margin, simplex, orthogonal):
    assert round(scale.simplex_bound(10, margin=margin), 1) == simplex
    assert round(scale.orthogonal_bound(10, margin=margin), 1) == orthogonal


@pytest.mark.parametrize("margin", [None, losses.CosFace(0.35), losses.ArcFace(0.5), losses.SphereFace(1.5)])
@pytest.mark.parametrize("classes", [2, 10, 151])
def test_the_softmax_reaches_the_probability_there(margin, classes):
    for bound, others in ((scale.simplex_bound, -1 / (classes - 1)), (scale.orthogonal_bound, 0.0)):
        s = bound(classes, 0.99, margin)
        own = {losses.CosFace: 0.65, losses.ArcFace: math.cos(0.5)}.get(type(margin), 1.0)
        logits = s * np.array([own] + [others] * (classes - 1))
        assert np.exp(logits[0]) / np.exp(logits).sum() == pytest.approx(0.99, rel=1e-9)


def test_largest_margin():
    assert scale.largest_margin(10, 2, "angular") == pytest.approx(2 * math.pi / 10)
    assert scale.largest_margin(10, 2, "cosine") == pytest.approx(1 - math.cos(2 * math.pi / 10))
    assert scale.largest_margin(10, 9, "cosine") == pytest.approx(10 / 9)
    assert scale.largest_margin(10, 512, "angular") == pytest.approx(math.acos(-1 / 9))
    for kind in ("cosine", "angular"):  # three points on a circle are a simplex
        assert scale.largest_margin(3, 2, kind) == pytest.approx(scale.largest_margin(3, 5, kind))
    assert scale.largest_margin(2, 1, "angular") == pytest.approx(math.pi)


def test_no_scale_is_enough_for_a_margin_beyond_the_largest():
    largest = scale.largest_margin(10, 9, "cosine")
    assert scale.simplex_bound(10, margin=losses.CosFace(largest - 1e-6)) > 1e5
    with pytest.raises(ValueError, match="No scale is enough"):
        scale.simplex_bound(10, margin=losses.CosFace(largest + 1e-6))
    with pytest.raises(ValueError, match="No scale is enough"):
        scale.orthogonal_bound(10, margin=losses.CosFace(1.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scale.simplex_bound(1), "`num_classes` >= 2"),
        (lambda: scale.orthogonal_bound(10, 1.0), r"in \(0, 1\)"),
        (lambda: scale.simplex_bound(10, margin=losses.SMSoftmax(0.3)), "act on the true class's cosine"),
        (lambda: scale.simplex_bound(10, margin=0.3), "act on the true class's cosine"),
        (lambda: scale.largest_margin(10, 5, "cosine"), "known for `dim` = 2"),
        (lambda: scale.largest_margin(1, 5, "cosine"), "`num_classes` >= 2"),
        (lambda: scale.largest_margin(10, 2, "degrees"), "`kind` must be"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
