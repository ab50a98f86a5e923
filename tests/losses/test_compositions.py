"""Each named composition is the sum that the thesis writes, evaluated here in numpy from its equation."""

import numpy as np
import pytest

from cplus1_keras import heads, losses
from cplus1_keras.labels import IGNORE, NEGATIVE

LABELS = np.array([0, 1, 2, NEGATIVE, NEGATIVE, IGNORE])
KNOWN, NEGATIVES = slice(0, 3), slice(3, 5)
FEATURES = np.random.default_rng(0).normal(size=(6, 4)) * np.array([1, 2, 3, 1, 2, 1])[:, None]
KERNEL = np.random.default_rng(1).normal(size=(4, 3))
LENGTH = np.linalg.norm(FEATURES, axis=1)
COSINE = FEATURES @ KERNEL / LENGTH[:, None] / np.linalg.norm(KERNEL, axis=0)
SCALE, TARGET, WEIGHT = 12.0, 2.5, 0.01


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def with_margin(scale, kind, margin):
    cosine = COSINE.copy()
    own = np.arange(3), LABELS[KNOWN]
    angle = np.arccos(cosine[own])
    cosine[own] = np.cos(np.minimum(angle + margin, np.pi)) if kind == "arc" else cosine[own] - margin
    return cosine * scale


def cross_entropy(logits):
    return -log_softmax(logits)[np.arange(3), LABELS[KNOWN]].mean()


def entropic(logits):
    log_p = log_softmax(logits)
    return -(log_p[np.arange(3), LABELS[KNOWN]].sum() + log_p[NEGATIVES].mean(-1).sum()) / 5


RING = WEIGHT * ((TARGET - LENGTH[:5]) ** 2).mean()
OBJECTOSPHERE = WEIGHT * ((np.maximum(TARGET - LENGTH[KNOWN], 0) ** 2).sum() + (LENGTH[NEGATIVES] ** 2).sum()) / 5
SYMMETRIC = WEIGHT * (((TARGET - LENGTH[KNOWN]) ** 2).sum() + (LENGTH[NEGATIVES] ** 2).sum()) / 5
SOFT = LENGTH[:, None]

CASES = {
    "objectosphere": (losses.objectosphere(TARGET), "linear", entropic(FEATURES @ KERNEL) + OBJECTOSPHERE),
    "sfn_norm": (losses.sfn_norm(TARGET), None, cross_entropy(SOFT * COSINE) + RING),
    "sfn_cosface": (losses.sfn_cosface(0.3, TARGET), None, cross_entropy(with_margin(SOFT, "cos", 0.3)) + RING),
    "sfn_arcface": (losses.sfn_arcface(0.4, TARGET), None, cross_entropy(with_margin(SOFT, "arc", 0.4)) + RING),
    "norm_os": (losses.norm_os(TARGET), None, cross_entropy(SOFT * COSINE) + SYMMETRIC),
    "cos_os": (losses.cos_os(0.3, TARGET), None, cross_entropy(with_margin(SOFT, "cos", 0.3)) + SYMMETRIC),
    "arc_os": (losses.arc_os(0.4, TARGET), None, cross_entropy(with_margin(SOFT, "arc", 0.4)) + SYMMETRIC),
    "norm_eos": (losses.EntropicOpenSetLoss(), SCALE, entropic(SCALE * COSINE)),
    "cos_eos": (losses.cos_eos(0.3), SCALE, entropic(with_margin(SCALE, "cos", 0.3))),
    "arc_eos": (losses.arc_eos(0.4), SCALE, entropic(with_margin(SCALE, "arc", 0.4))),
}


@pytest.mark.parametrize("name", CASES)
def test_composition(name):
    loss, scale, expected = CASES[name]
    settings = {"dtype": "float64"}
    head = heads.LinearHead(3, **settings) if scale == "linear" else heads.CosineHead(3, scale, **settings)
    head.build(FEATURES.shape)
    head.kernel.assign(KERNEL)
    np.testing.assert_allclose(loss(LABELS, head(FEATURES)), expected, rtol=1e-12)


def test_the_weight_is_the_callers():
    terms = losses.cos_os(0.35, 13.0, weight=0.5).terms()
    assert [(weight, term.name) for weight, term in terms] == [(1.0, "cross_entropy"), (0.5, "symmetric_magnitude")]
    assert losses.arc_os(0.5, 13.0).terms()[0][1].margin.get_config() == losses.ArcFace(0.5).get_config()
