"""Margins: values by hand, edges, and what their constructors refuse."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import heads, losses, numerics
from cplus1_keras.labels import NEGATIVE
from cplus1_keras.losses import adaptive_margins, margins


def through(function, cosine, margin):
    cosine = tf.constant(cosine)
    with tf.GradientTape() as tape:
        tape.watch(cosine)
        value = function(cosine, margin)
    return value.numpy(), tape.gradient(value, cosine).numpy()


def test_arcface_stops_at_pi():
    """θ + m beyond π is π: no reward for a larger angle, and no gradient."""
    theta = np.array([0.0, 1.0, math.pi - 0.5 - 1e-6, math.pi - 0.5 + 1e-6, 2.9, math.pi])
    value, gradient = through(margins.arcface, np.cos(theta), 0.5)
    np.testing.assert_allclose(value, np.cos(np.minimum(theta + 0.5, math.pi)), atol=1e-12)
    np.testing.assert_array_equal(gradient[3:], 0)
    np.testing.assert_allclose(gradient[1], math.sin(1.5) / math.sin(1.0), rtol=1e-12)


def test_arcface_is_exact_at_angle_zero():
    """Clamping the cosine, as published code does, lowers the logit there by 0.138 at s = 64."""
    value, gradient = through(margins.arcface, np.array([1.0], "float32"), 0.5)
    np.testing.assert_allclose(64 * value, 64 * math.cos(0.5), rtol=1e-7)
    # d cos(θ + m)/d cos θ = sin(θ + m)/sin θ, with sin θ floored.
    np.testing.assert_allclose(gradient, math.cos(0.5) + math.sin(0.5) / 3.5e-4, rtol=1e-5)


def test_arcface_of_margin_zero_is_the_cosine_even_at_pi():
    value, gradient = through(margins.arcface, np.array([-1.0, 0.3, 1.0]), 0.0)
    np.testing.assert_array_equal(value, [-1.0, 0.3, 1.0])
    np.testing.assert_array_equal(gradient, 1)


def test_sphereface_by_hand():
    """m = 1.5: k = 0 up to 2π/3, then 1."""
    theta = np.array([0.5, 2.0, 2.2, 3.0, math.pi])
    value, gradient = through(margins.sphereface, np.cos(theta), 1.5)
    by_hand = [math.cos(0.75), math.cos(3.0), -math.cos(3.3) - 2, -math.cos(4.5) - 2, -2.0]
    np.testing.assert_allclose(value, by_hand, atol=1e-9)
    np.testing.assert_allclose(gradient[0], 1.5 * math.sin(0.75) / math.sin(0.5), rtol=1e-9)
    np.testing.assert_allclose(gradient[2], -1.5 * math.sin(3.3) / math.sin(2.2), rtol=1e-9)
    assert (gradient[:4] > 0).all()


def outputs_of(cosines, scale=10.0, **more):
    cosines = tf.cast(cosines, "float64")
    return {
        "logits": scale * cosines,
        "cosines": cosines,
        "scale": tf.fill((len(cosines), 1), tf.cast(scale, "float64")),
    } | more


def test_a_margin_touches_the_true_class_of_knowns_only():
    labels = tf.constant([1, NEGATIVE, -2, -100])
    outputs = outputs_of(np.tile([0.5, 0.6, 0.7], (4, 1)))
    for margin, target in [
        (losses.SMSoftmax(0.3), 6.0 - 0.3),
        (losses.CosFace(0.35), 10 * (0.6 - 0.35)),
        (losses.ArcFace(0.5), 10 * math.cos(math.acos(0.6) + 0.5)),
        (losses.SphereFace(1.5), 10 * math.cos(1.5 * math.acos(0.6))),
    ]:
        logits = margin.training_logits(labels, outputs).numpy()
        np.testing.assert_allclose(logits[0], [5.0, target, 7.0], rtol=1e-12)
        np.testing.assert_allclose(logits[1:], outputs["logits"][1:], rtol=1e-12)


def test_sm_softmax_reads_a_linear_head():
    outputs = heads.LinearHead(3)(np.ones((2, 5), "float32"))
    value = losses.CrossEntropyLoss(losses.SMSoftmax(0.3))(np.array([0, 2]), outputs)
    logits = outputs["logits"].numpy() - 0.3 * np.eye(3)[[0, 2]]
    expected = np.log(np.exp(logits).sum(-1)) - logits[[0, 1], [0, 2]]
    np.testing.assert_allclose(value, expected.mean(), rtol=1e-6)


def test_c2am_margins_by_hand():
    """From angles of 0.1, a weight of norm 0 included."""
    outputs = outputs_of(np.full((3, 4), math.cos(0.1)), kernel_norms=tf.constant([4.0, 2.0, 1.0, 0.0], "float64"))
    logits = losses.C2AM(0.1).training_logits(tf.constant([0, 2, 3]), outputs).numpy()
    angles = np.arccos(logits / 10) - 0.1
    unit = 0.1 / math.pi * math.log(2)
    huge = 0.1 / math.pi * (math.log(4) - math.log(adaptive_margins.LEAST_NORM))
    np.testing.assert_allclose(angles[0], [0, unit, 2 * unit, huge], atol=1e-12)
    np.testing.assert_allclose(angles[1, :3], 0, atol=1e-12)
    np.testing.assert_allclose(angles[2], 0, atol=1e-12)  # the shortest weight moves nobody


def test_c2am_clamps_margins_above_pi():
    """A ratio of norms of e^4 at α = π is a margin of 4 > π, at which the cosine alone would have come back up."""
    for cosine in (0.8, -0.8):
        outputs = outputs_of([[0.5, cosine]], kernel_norms=tf.constant([math.exp(4.0), 1.0], "float64"))
        clamped = losses.C2AM(alpha=math.pi).training_logits(tf.constant([0]), outputs).numpy()
        assert clamped[0, 1] == pytest.approx(-10)
        free = losses.C2AM(alpha=math.pi, clamp=False).training_logits(tf.constant([0]), outputs).numpy()
        assert free[0, 1] == pytest.approx(10 * math.cos(math.acos(cosine) + 4))


@pytest.mark.parametrize("cosine", [1.0, 1 - 1e-9, -1.0])
def test_c2ams_derivative_has_a_floor(cosine):
    """d cos(θ + m)/d cos θ = cos m + sin m cos θ / sin θ, with sin θ at least 3.5e-4."""
    cosines = tf.constant([[0.5, cosine]], "float64")
    with tf.GradientTape() as tape:
        tape.watch(cosines)
        given = outputs_of(cosines, 1.0, kernel_norms=tf.constant([math.e, 1.0], "float64"))
        value = losses.C2AM(alpha=math.pi / 2, clamp=False).training_logits(tf.constant([0]), given)[0, 1]
    expected = math.cos(0.5) + math.sin(0.5) * cosine / numerics.MIN_SINE
    np.testing.assert_allclose(tape.gradient(value, cosines), [[0, expected]], rtol=1e-9)


@pytest.mark.parametrize("margin", [losses.ArcFace, losses.SphereFace, losses.CosFace, losses.SMSoftmax, losses.C2AM])
def test_detach_is_the_offset_without_a_gradient_by_the_angle(margin):
    """The same argument on all, the same value; the logits' derivative is 1 and the scale's the factor's."""
    setting = 1.5 if margin is losses.SphereFace else 0.5
    labels, norms = tf.constant([1, 0, NEGATIVE]), tf.constant([3.0, 9.0, 1.0], "float64")
    cosines = tf.constant(np.random.default_rng(0).uniform(-0.9, 0.9, (3, 3)))
    scale = tf.constant([[9.0], [10.0], [11.0]], "float64")
    logits, values = scale * cosines, []
    for detach in (False, True):
        with tf.GradientTape() as tape:
            tape.watch([logits, scale])
            outputs = {"logits": logits, "scale": scale, "kernel_norms": norms}
            value = margin(setting, detach=detach).training_logits(labels, outputs)
            total = tf.reduce_sum(value)
        values.append(value.numpy())
        gradients = tape.gradient(total, [logits, scale], unconnected_gradients="zero")
    np.testing.assert_allclose(values[0], values[1], rtol=1e-12)
    np.testing.assert_allclose(gradients[0], np.ones((3, 3)), atol=1e-9)
    if margin is losses.SMSoftmax:
        np.testing.assert_array_equal(gradients[1], np.zeros((3, 1)))
    elif margin is losses.C2AM:
        factor = np.sum((values[1] - logits) / scale, axis=-1, keepdims=True)
        np.testing.assert_allclose(gradients[1], factor, rtol=1e-9, atol=1e-12)


def test_margins_show_their_settings():
    assert repr(losses.ArcFace(0.4, detach=True)) == "ArcFace(margin=0.4, detach=True)"
    assert repr(losses.GrowingMargin(losses.C2AM(0.2))) == "GrowingMargin(C2AM(alpha=0.2, clamp=True, detach=False))"


def test_a_growing_margin_tells_its_margin_of_the_background():
    norms = tf.constant([1.0, 4.0, 9.0], "float64")
    outputs = outputs_of([[0.5, 0.6, 0.1]], kernel_norms=norms, margin_fraction=tf.constant(1.0))
    whole = losses.C2AM(0.5).training_logits(tf.constant([NEGATIVE]), outputs, background=2).numpy()
    assert np.abs(whole - outputs["logits"]).max() > 0.1
    growing = losses.GrowingMargin(losses.C2AM(0.5))
    np.testing.assert_allclose(growing.training_logits(tf.constant([NEGATIVE]), outputs, background=2), whole)


def test_c2am_moves_the_others_and_the_background_is_a_class():
    outputs = outputs_of(
        np.tile([0.5, 0.6, -0.999], (3, 1)), kernel_norms=tf.constant([1.0, math.e, math.e**2], "float64")
    )
    labels = tf.constant([1, NEGATIVE, -2])
    margin = losses.C2AM(alpha=math.pi / 2)  # half the logarithm of the ratio
    shifted = 10 * np.cos(np.arccos([0.5, 0.6]) + [1.0, 0.5])
    plain = margin.training_logits(labels, outputs).numpy()
    np.testing.assert_allclose(plain[0], [10 * math.cos(math.acos(0.5) + 0.5), 6.0, -9.99], rtol=1e-12)
    np.testing.assert_allclose(plain[1:], outputs["logits"][1:], rtol=1e-12)
    with_background = margin.training_logits(labels, outputs, background=2).numpy()
    np.testing.assert_allclose(with_background[1], [*shifted, -9.99], rtol=1e-12)
    np.testing.assert_allclose(with_background[[0, 2]], plain[[0, 2]], rtol=1e-12)
    through_loss = losses.BackgroundCrossEntropyLoss(margin).values(labels, outputs).numpy()
    expected = [np.log(np.exp(row).sum()) - row[c] for row, c in zip(with_background, [1, 2, 0], strict=True)]
    np.testing.assert_allclose(through_loss, [*expected[:2], 0], rtol=1e-9)


def test_c2am_stops_at_pi():
    outputs = outputs_of([[0.5, -0.9]], kernel_norms=tf.constant([math.e, 1.0], "float64"))
    assert losses.C2AM(alpha=math.pi).training_logits(tf.constant([0]), outputs).numpy()[0, 1] == pytest.approx(-10)
    beyond = losses.C2AM(alpha=math.pi, clamp=False).training_logits(tf.constant([0]), outputs).numpy()[0, 1]
    assert beyond == pytest.approx(10 * math.cos(math.acos(-0.9) + 1))
    assert beyond > -10  # without the clamp passing π is a reward


def test_no_gradient_through_the_norms():
    norms = tf.constant([3.0, 1.0, 2.0], "float64")
    with tf.GradientTape() as tape:
        tape.watch(norms)
        value = losses.CrossEntropyLoss(losses.C2AM(0.5))(
            np.array([0]), outputs_of([[0.5, 0.1, 0.2]], kernel_norms=norms)
        )
    assert tape.gradient(value, norms) is None


@pytest.mark.parametrize("margin", [losses.CosFace(0.35), losses.SMSoftmax(0.3), losses.SphereFace(1.5)])
def test_a_growing_margin_blends(margin):
    outputs = outputs_of(np.tile([0.5, -0.6, 0.7], (2, 1)))
    labels = tf.constant([1, NEGATIVE])
    full, growing = margin.training_logits(labels, outputs).numpy(), losses.GrowingMargin(margin)
    for fraction in (0.0, 0.25, 1.0):
        given = {**outputs, "margin_fraction": tf.constant(fraction)}
        expected = outputs["logits"].numpy() * (1 - fraction) + full * fraction
        np.testing.assert_allclose(growing.training_logits(labels, given), expected, rtol=1e-12)
    quarter = losses.CosFace(0.35 / 4).training_logits(labels, outputs)
    if isinstance(margin, losses.CosFace):
        given = {**outputs, "margin_fraction": tf.constant(0.25)}
        np.testing.assert_allclose(growing.training_logits(labels, given), quarter, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.ArcFace(28.6), r"angle in radians.*Received: margin=28.6 \(degrees\?\)"),
        (lambda: losses.ArcFace(-0.1), r"\[0, pi/2\)"),
        (lambda: losses.ArcFace(float("nan")), r"\[0, pi/2\)"),
        (lambda: losses.CosFace(2.0), "difference of cosines"),
        (lambda: losses.SMSoftmax(-1.0), "difference of logits"),
        (lambda: losses.SphereFace(0.5), "factor of the angle"),
        (lambda: losses.LSoftmax(0), "factor of the angle"),
        (lambda: losses.LSoftmax(2, annealing=-1.0), "weight of the plain logit"),
        (lambda: losses.GaussianMargin(-0.3), "share of a squared distance"),
        (lambda: losses.C2AM(-0.5), "`alpha` must be >= 0"),
        (lambda: losses.GrowingMargin(0.5), "must be a margin"),
        (lambda: losses.CrossEntropyLoss(margin=0.5), "must be a margin"),
        (lambda: losses.CrossEntropyLoss(margin=losses.MagnitudeLoss(1.0)), "must be a margin"),
    ],
)
def test_what_constructors_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_margin_of_ones_own():
    """A subclass with one method, registered, is a margin like any other."""

    @keras.saving.register_keras_serializable("test_margins")
    class Halved(losses.Margin):
        def target(self, cosine):
            return cosine - self.margin / 2

    loss = losses.CrossEntropyLoss(Halved(0.7))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    outputs = outputs_of([[0.5, 0.1, 0.2]])
    expected = losses.CrossEntropyLoss(losses.CosFace(0.35))(np.array([0]), outputs)
    np.testing.assert_allclose(again(np.array([0]), outputs), expected, rtol=1e-12)


LABELS = np.array([2, 0, NEGATIVE, 1])
FEATURES = np.array([[1.0, 2.0], [-3.0, 0.5], [1.0, 1.0], [0.2, -0.4]])


def linear(kernel, **settings):
    head = heads.LinearHead(3, dtype="float64", **settings)
    head.build((None, 2))
    head.kernel.assign(kernel)
    outputs = head(FEATURES)
    return {**outputs, **head.provide(outputs)}


def psi(theta, m):
    """The steps of Liu et al. (2016), Eq 5: k such that kπ/m <= θ <= (k + 1)π/m."""
    k = next(k for k in range(m) if k * math.pi / m <= theta <= (k + 1) * math.pi / m)
    return (-1) ** k * math.cos(m * theta) - 2 * k


@pytest.mark.parametrize(("m", "annealing"), [(2, 0.0), (3, 5.0), (4, 0.3)])
def test_l_softmax_by_a_loop(m, annealing):
    kernel = np.random.default_rng(0).normal(size=(2, 3)) * [1, 2, 4]
    expected = FEATURES @ kernel
    for row, label in enumerate(LABELS):
        if label >= 0:
            length = np.linalg.norm(FEATURES[row]) * np.linalg.norm(kernel[:, label])
            theta = math.acos(expected[row, label] / length)
            target = length * psi(theta, m)
            expected[row, label] = (annealing * expected[row, label] + target) / (1 + annealing)
    outputs = linear(kernel)
    np.testing.assert_allclose(losses.LSoftmax(m, annealing).training_logits(LABELS, outputs), expected, rtol=1e-9)


def test_limits_of_l_softmax():
    """m = 1 is softmax, so is λ without end; with unit weights it is SphereFace under soft normalisation."""
    kernel = np.random.default_rng(0).normal(size=(2, 3))
    plain = losses.CrossEntropyLoss()(LABELS, linear(kernel))
    for margin in (losses.LSoftmax(1), losses.LSoftmax(3, annealing=1e12)):
        np.testing.assert_allclose(losses.CrossEntropyLoss(margin)(LABELS, linear(kernel)), plain, rtol=1e-9)
    kernel /= np.linalg.norm(kernel, axis=0)
    outputs = linear(kernel)
    lengths = {**outputs, "scale": np.linalg.norm(FEATURES, axis=-1, keepdims=True)}
    expected = losses.SphereFace(3).training_logits(LABELS, lengths)
    np.testing.assert_allclose(losses.LSoftmax(3).training_logits(LABELS, outputs), expected, rtol=1e-9)


def test_l_softmax_moves_the_norm_of_its_weight():
    """z_y = ‖W‖‖φ‖ψ(θ): along W its derivative is the logit over ‖W‖."""
    kernel = tf.Variable(np.random.default_rng(0).normal(size=(2, 3)))
    with tf.GradientTape() as tape:
        logits = tf.constant(FEATURES) @ kernel
        outputs = {"logits": logits, "features": tf.constant(FEATURES), "weight_norms": numerics.norm(kernel, axis=0)}
        moved = losses.LSoftmax(4).training_logits(LABELS, outputs)[0, 2]
    gradient = tape.gradient(moved, kernel).numpy()[:, 2]
    np.testing.assert_allclose(gradient @ kernel.numpy()[:, 2], moved, rtol=1e-9)


def test_l_softmax_needs_weights_without_a_bias():
    for outputs in (linear(np.ones((2, 3)), use_bias=True), heads.CosineHead(3, 20.0)(FEATURES)):
        with pytest.raises(ValueError, match=r"'weight_norms'.*LinearHead` without bias"):
            losses.CrossEntropyLoss(losses.LSoftmax(2))(LABELS, outputs)


def test_the_large_margin_gaussian_mixture_by_a_loop():
    """Wan et al. (2018), section 3, with identity covariances and equal priors, from the densities."""
    means = np.random.default_rng(0).normal(size=(3, 2))
    head = heads.GaussianHead(3, dtype="float64")
    head.build((None, 2))
    head.means.assign(means)
    outputs = head(FEATURES)
    outputs.update(head.provide(outputs))
    values = []
    for features, label in zip(FEATURES, LABELS, strict=True):
        if label >= 0:
            d = [0.5 * np.sum((features - mean) ** 2) for mean in means]
            density = [math.exp(-d[c] * (1 + 0.7 * (c == label))) for c in range(3)]
            values.append(-math.log(density[label] / sum(density)) + 0.2 * d[label])
    np.testing.assert_allclose(losses.lgm(0.7, 0.2)(LABELS, outputs), np.mean(values), rtol=1e-9)
    plain = losses.CrossEntropyLoss()(LABELS, outputs)
    np.testing.assert_allclose(losses.lgm(0.0, 0.0)(LABELS, outputs), plain, rtol=1e-12)


def test_a_detached_gaussian_margin_has_the_value_and_no_gradient():
    means, gradients, values = tf.constant(np.eye(3, 2)), [], []
    for margin in (losses.GaussianMargin(0.4), losses.GaussianMargin(0.4, detach=True), losses.GaussianMargin(0.0)):
        features = tf.constant(FEATURES)
        with tf.GradientTape() as tape:
            tape.watch(features)
            square = numerics.distances.squared_distances(features, means)
            logits = margin.training_logits(LABELS, {"logits": -0.5 * square, "squared_distances": square})
        values.append(logits.numpy())
        gradients.append(tape.gradient(logits, features).numpy())
    np.testing.assert_allclose(values[0], values[1], rtol=1e-12)
    assert np.abs(values[0] - values[2]).max() > 0.1
    np.testing.assert_allclose(gradients[1], gradients[2], rtol=1e-12)
    assert np.abs(gradients[0] - gradients[2]).max() > 0.1
