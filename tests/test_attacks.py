"""Attacks against those of a well-known library, and by hand."""

import importlib.util
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import attacks, layers, scores, serving

GOLDEN = pathlib.Path(__file__).parent / "golden_attacks"
SPEC = importlib.util.spec_from_file_location("make_attacks", GOLDEN / "make.py")
make = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(make)

IMAGES = 255 * make.IMAGES


def predictor_for(kind, score=scores.log_odds):
    return serving.Predictor(make.build(kind), layers.Reject(3, 0.5, score))


@pytest.mark.parametrize("kind", make.HEADS)
def test_the_library_makes_the_same(kind):
    """The gradient of cross-entropy is that of the log-odds m times -sigmoid(-m), so that the images are equal."""
    with np.load(GOLDEN / "attacks.npz") as stored:
        golden = {name.removeprefix(f"{kind}_"): stored[name] for name in stored if name.startswith(kind)}
    objective = attacks.mistake(predictor_for(kind))
    odds = objective(IMAGES, make.LABELS).numpy()[:, None, None, None]
    slope = attacks.gradient(objective, IMAGES, make.LABELS).numpy()
    np.testing.assert_allclose(-255 * slope / (1 + np.exp(odds)), golden["gradient"], rtol=1e-4, atol=1e-6)
    assert np.abs(golden["gradient"]).max() > 0.01
    radius = 255 * make.EPSILON
    np.testing.assert_allclose(attacks.fgsm(objective, IMAGES, make.LABELS, radius) / 255, golden["fgsm"], atol=1e-6)
    walked = attacks.pgd(objective, IMAGES, make.LABELS, radius, steps=10, restarts=1)
    np.testing.assert_allclose(walked / 255, golden["pgd"], atol=1e-6)
    assert np.abs(golden["pgd"] - golden["fgsm"]).max() > 0.01


def test_each_aim_lowers_or_raises_the_runs_own_score():
    """Through the predictor, with a score that is not the log-odds."""
    predictor = predictor_for("linear", scores.energy)
    plain = predictor.predict(IMAGES)
    for make_objective, sign in ((attacks.refuse, -1), (attacks.accept, 1)):
        moved = attacks.fgsm(make_objective(predictor), IMAGES, make.LABELS, 5.0)
        np.testing.assert_array_less(0, sign * (predictor.predict(moved)["score"] - plain["score"]))
    value = attacks.refuse(predictor)(IMAGES, make.LABELS)
    np.testing.assert_allclose(value, plain["score"], rtol=1e-5)


def test_a_probability_of_one_hides_nothing():
    """Where cross-entropy is 0 in float32, and so is its gradient, the log-odds still fall."""
    predictor = predictor_for("linear")
    kernel = predictor.model.layers[-1].kernel
    kernel.assign(1e4 * kernel)
    labels = predictor.predict(IMAGES)["probabilities"].argmax(-1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    flat = attacks.gradient(lambda x, y: loss(y, predictor.model(x)["logits"]), IMAGES, labels).numpy()
    assert (flat == 0).all(axis=(1, 2, 3)).any()
    assert attacks.gradient(attacks.mistake(predictor), IMAGES, labels).numpy().any(axis=(1, 2, 3)).all()


def hill(images, labels):
    """Highest at 100, where the gradient is 0."""
    return -tf.reduce_sum(tf.square(images - 100), axis=(1, 2, 3))


def test_restarts_find_what_the_gradient_at_the_image_hides():
    images = np.full((2, 1, 2, 1), 100.0, "float32")
    labels = np.zeros(2, "int32")
    np.testing.assert_array_equal(attacks.fgsm(hill, images, labels, 8.0), images)
    np.testing.assert_array_equal(attacks.pgd(hill, images, labels, 8.0, restarts=1), images)
    moved = attacks.pgd(hill, images, labels, 8.0, steps=9, restarts=2, seed=3)
    np.testing.assert_array_equal(np.abs(moved - images), 8.0)
    few = attacks.pgd(hill, images, labels, 8.0, steps=2, restarts=2, seed=3)
    assert (np.abs(few - images) < 8.0).any()
    other = attacks.pgd(hill, images, labels, 8.0, steps=2, restarts=2, seed=4)
    assert (few != other).any()


def test_the_best_start_is_kept_for_each_image():
    """From 250 downhill leads to the end of the range; the ball and the range bound all."""
    images = np.array([250.0, 3.0, 100.0], "float32").reshape(3, 1, 1, 1)
    moved = attacks.pgd(hill, images, np.zeros(3, "int32"), 20.0, steps=9, restarts=4).ravel()
    np.testing.assert_array_equal(moved[:2], [255.0, 0.0])
    assert abs(moved[2] - 100) == 20.0


def test_what_has_no_gradient_is_told():
    with pytest.raises(ValueError, match="No gradient leads"):
        attacks.fgsm(lambda x, y: tf.round(tf.constant([1.0])), IMAGES[:1], [0], 1.0)
    for arguments in ({"radius": -1.0}, {"radius": 300.0}, {"radius": 1.0, "steps": 0}, {"radius": 1.0, "restarts": 0}):
        with pytest.raises(ValueError, match="Received"):
            attacks.pgd(hill, IMAGES, np.zeros(4), **arguments)


def test_a_gradient_that_is_no_number_moves_nothing():
    images = np.array([0.0, 4.0], "float32").reshape(2, 1, 1, 1)
    root = lambda images, labels: tf.reduce_sum(tf.sqrt(images), axis=(1, 2, 3))  # noqa: E731
    np.testing.assert_array_equal(attacks.gradient(root, images, [0, 0]).numpy().ravel(), [0.0, 0.25])
