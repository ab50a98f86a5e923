"""Laws that every classification loss obeys, with every margin, under hard and soft feature normalisation."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import heads, losses
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN

CLASSES, FEATURES = 4, 5
LABELS = np.array([0, 3, NEGATIVE, 1, UNKNOWN, 2, IGNORE, NEGATIVE, 1, 0, 3, 2])

MARGINS = {
    "none": None,
    "sm_softmax": losses.SMSoftmax(0.3),
    "sphereface": losses.SphereFace(1.5),
    "sphereface_detached": losses.SphereFace(1.7, detach=True),
    "cosface": losses.CosFace(0.35),
    "arcface": losses.ArcFace(0.5),
    "arcface_detached": losses.ArcFace(0.5, detach=True),
    "c2am": losses.C2AM(0.5),
    "c2am_unclamped": losses.C2AM(0.5, clamp=False),
    "growing": losses.GrowingMargin(losses.ArcFace(0.5)),
}
GIVEN = {"margin_fraction": tf.constant(0.7), "class_counts": tf.constant([500, 20, 4, 0, 80])}
"""What layers provide that are not here."""
NO_MARGINS = [losses.SMSoftmax(0.0), losses.SphereFace(1.0), losses.CosFace(0.0), losses.ArcFace(0.0), losses.C2AM(0.0)]
OTHERS = {
    "eos_weighted": losses.EntropicOpenSetLoss(negative_weight=0.3),
    "magnitude": losses.MagnitudeLoss(3.0),
    "symmetric_magnitude": losses.SymmetricMagnitudeLoss(3.0),
    "ring": losses.RingLoss(3.0),
    "hinge": losses.HingeLoss(),
    "focal": losses.FocalLoss(2.0),
    "focal_root": losses.FocalLoss(0.5),
    "class_balanced_focal": losses.ClassBalancedFocalLoss([500, 50, 5, 1], beta=0.99),
    "l_softmax": losses.EntropicOpenSetLoss(losses.LSoftmax(3, annealing=0.7)),
    "l_softmax_detached": losses.CrossEntropyLoss(losses.LSoftmax(2, detach=True)),
    "lgm": losses.lgm(0.5, 0.2),
    "smoothed": losses.EntropicOpenSetLoss(losses.ArcFace(0.3), smoothing=0.2),
    "mixed": losses.mix(losses.CrossEntropyLoss() + losses.MagnitudeLoss(2.0)),
    "balanced_softmax": losses.BackgroundCrossEntropyLoss(losses.BalancedSoftmax([500, 50, 5, 1])),
    "ldam": losses.EntropicOpenSetLoss(losses.LDAM([500, 50, 5, 1], margin=0.4)),
    "equalization": losses.CrossEntropyLoss(
        losses.GrowingMargin(losses.Equalization([0.9, 0.05, 0.03, 0.02], 0.04, probability=1.0))
    ),
    "seesaw": losses.BackgroundCrossEntropyLoss(losses.Seesaw(p=0.8, q=2.0)),
    "sigmoid_equalization": losses.SigmoidEqualizationLoss([0.9, 0.08, 0.01, 0.01], 0.05),
    "anchor": losses.AnchorLoss(gamma=0.7, slack=0.1),
    "guided_complement_entropy": losses.GuidedComplementEntropyLoss(0.6),
    "objectosphere": losses.objectosphere(3.0),
    "arc_os": losses.arc_os(0.5, 3.0),
}
CROSS_ENTROPIES = [losses.CrossEntropyLoss, losses.BackgroundCrossEntropyLoss, losses.EntropicOpenSetLoss]
EVERY = {
    f"{kind.__name__}-{name}": kind(margin) for kind in CROSS_ENTROPIES for name, margin in MARGINS.items()
} | OTHERS
every = pytest.mark.parametrize("name", list(EVERY))
soft_and_hard = pytest.mark.parametrize("scale", [None, 20.0], ids=["soft", "hard"])


def batch(dtype="float64", shape=(12,), seed=0):
    return np.random.default_rng(seed).normal(size=(*shape, FEATURES)).astype(dtype)


@functools.cache
def usual_head(scale, kind="cosine", dtype="float64"):
    columns = CLASSES + (kind == "background")
    lengths = np.geomspace(1, 6, columns)  # norms that differ, for C2AM
    kernel = np.random.default_rng(1).normal(size=(FEATURES, columns)) * lengths
    return make_head(scale, kind, kernel, dtype)


def make_head(scale, kind, kernel, dtype="float64"):
    """The head that a loss needs, a key of `HEADS`, with this kernel (K, C)."""
    head = HEADS[kind](kernel.shape[1] - (kind == "background"), scale, dtype=dtype)
    head.build((None, FEATURES))
    head.weights[0].assign(kernel.T if kind == "gaussian" else kernel)
    return head


HEADS = {
    "cosine": heads.CosineHead,
    "background": functools.partial(heads.CosineHead, background=True),
    "linear": lambda classes, scale, **settings: heads.LinearHead(classes, **settings),
    "gaussian": lambda classes, scale, **settings: heads.GaussianHead(classes, **settings),
}


def kind_for(loss):
    reads = {name for _, term in loss.terms() for name in term.reads}
    if "weight_norms" in reads or "squared_distances" in reads:
        return "linear" if "weight_norms" in reads else "gaussian"
    return "background" if isinstance(loss, losses.BackgroundCrossEntropyLoss) else "cosine"


def evaluate(loss, labels, features, scale, sample_weight=None, kernel=None, dtype="float64"):
    """Value, and gradients for features and kernel, through the cosine head and the loss."""
    kind = kind_for(loss)
    head = usual_head(scale, kind, dtype) if kernel is None else make_head(scale, kind, kernel, dtype)
    features = tf.constant(features)
    with tf.GradientTape() as tape:
        tape.watch(features)
        outputs = head(features)
        outputs.update(head.provide(outputs), **GIVEN)
        value = loss(labels, outputs, sample_weight)
    return [value, *tape.gradient(value, [features, head.weights[0].value], unconnected_gradients="zero")]


def assert_close(first, second, atol=1e-12):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=atol)


@every
def test_config_round_trip(name):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(EVERY[name]))
    assert again.get_config() == EVERY[name].get_config()
    for before, after in zip(
        evaluate(EVERY[name], LABELS, batch(), 20.0), evaluate(again, LABELS, batch(), 20.0), strict=True
    ):
        np.testing.assert_array_equal(before, after)


def test_a_name_and_a_prefix_are_saved():
    some = losses.MagnitudeLoss(3.0, name="own").of("roi1_") + 0.5 * losses.MagnitudeLoss(3.0, name="other")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(some))
    assert [(weight, term.name, term.prefix) for weight, term in again.terms()] == [
        (1.0, "roi1_own", "roi1_"),
        (0.5, "other", ""),
    ]


def all_together(features, scale, tested):
    """The values of all losses, and the gradients of one sum of them with weights that differ."""
    features = tf.convert_to_tensor(features)
    built = {kind: usual_head(scale, kind) for kind in HEADS}
    with tf.GradientTape() as tape:
        tape.watch(features)
        outputs = {kind: head(features) for kind, head in built.items()}
        for kind, given in outputs.items():
            given.update(built[kind].provide(given), **GIVEN)
        values = tf.stack([loss(tf.constant(LABELS), outputs[kind_for(loss)]) for loss in tested])
        value = tf.tensordot(values, tf.constant(np.sqrt(1.0 + np.arange(len(tested)))), 1)
    return [values, *tape.gradient(value, [features, *(head.weights[0].value for head in built.values())])]


@pytest.mark.parametrize(("scale", "jit"), [(None, False), (20.0, True)], ids=["graph", "jit"])
def test_graph_is_eager(scale, jit):
    """Labels below 0 are NaN in stock cross-entropy under XLA."""
    compiled = tf.function(all_together, jit_compile=jit)(tf.constant(batch()), scale, list(EVERY.values()))
    assert_close(compiled, all_together(batch(), scale, list(EVERY.values())), atol=1e-11)


@every
@soft_and_hard
def test_dense_is_flattened(name, scale):
    dense = batch(shape=(2, 3, 2))
    value, of_features, of_kernel = evaluate(EVERY[name], LABELS.reshape(2, 3, 2), dense, scale)
    flat = evaluate(EVERY[name], LABELS, dense.reshape(-1, FEATURES), scale)
    assert_close([value, tf.reshape(of_features, (-1, FEATURES)), of_kernel], flat)


@every
def test_masked_is_absent(name):
    seen = np.isin(LABELS, [UNKNOWN, IGNORE], invert=True)
    value, of_features, of_kernel = evaluate(EVERY[name], LABELS, batch(), None)
    assert_close(
        [value, of_features.numpy()[seen], of_kernel], evaluate(EVERY[name], LABELS[seen], batch()[seen], None)
    )
    np.testing.assert_array_equal(of_features.numpy()[~seen], 0)


@every
def test_nothing_counted_is_exactly_zero(name):
    for result in evaluate(EVERY[name], np.full(len(LABELS), IGNORE), batch(), 20.0):
        np.testing.assert_array_equal(result, 0)


@pytest.mark.parametrize("margin", MARGINS)
@soft_and_hard
def test_negatives_alone_are_exactly_zero_for_cross_entropy(margin, scale):
    loss = losses.CrossEntropyLoss(MARGINS[margin])
    for result in evaluate(loss, np.full(len(LABELS), NEGATIVE), batch(), scale):
        np.testing.assert_array_equal(result, 0)


@every
def test_sample_weight_scales_the_numerator_only(name):
    loss = EVERY[name]
    whole = evaluate(loss, LABELS, batch(), None)
    weight = np.arange(12) % 3
    parts = [evaluate(loss, LABELS, batch(), None, sample_weight=w) for w in (weight, 2.0 - weight[:, None])]
    assert_close([2 * w for w in whole], [a + b for a, b in zip(*parts, strict=True)])
    assert_close([0.5 * w for w in whole], evaluate(loss, LABELS, batch(), None, sample_weight=np.full(12, 0.5)))


def test_sample_weight_by_hand():
    logits = {"logits": np.log([[0.5, 0.5], [0.25, 0.75], [0.5, 0.5]])}
    value = losses.CrossEntropyLoss()(np.array([0, 0, NEGATIVE]), logits, np.array([1.0, 3.0, 7.0]))
    assert float(value) == pytest.approx((np.log(2) + 3 * np.log(4)) / 2)


@pytest.mark.parametrize("margin", NO_MARGINS, ids=lambda margin: type(margin).__name__)
@pytest.mark.parametrize("kind", CROSS_ENTROPIES)
@soft_and_hard
def test_margin_zero_is_cross_entropy(margin, kind, scale):
    features = batch()
    features[0] = 0
    kernel = np.random.default_rng(2).normal(size=(FEATURES, CLASSES + (kind is losses.BackgroundCrossEntropyLoss)))
    kernel[:, 3] = -features[1]  # cos θ_y = -1 for the second sample
    assert_close(
        evaluate(kind(margin), LABELS, features, scale, kernel=kernel),
        evaluate(kind(), LABELS, features, scale, kernel=kernel),
        atol=1e-7 if isinstance(margin, losses.SphereFace) else 1e-12,  # through an angle: 1 ulp of a cosine is 1e-8
    )


@pytest.mark.parametrize("kind", CROSS_ENTROPIES)
@soft_and_hard
def test_c2am_of_equal_norms_is_the_cosine_softmax(kind, scale):
    kernel = np.random.default_rng(2).normal(size=(FEATURES, CLASSES + (kind is losses.BackgroundCrossEntropyLoss)))
    kernel /= np.linalg.norm(kernel, axis=0)
    equal = evaluate(kind(losses.C2AM(0.5)), LABELS, batch(), scale, kernel=kernel)
    assert_close(equal, evaluate(kind(), LABELS, batch(), scale, kernel=kernel), atol=1e-12)


@every
@soft_and_hard
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_finite_at_the_edges(name, scale, dtype):
    """cos θ = ±1 for a true class, φ = 0, a weight of 0, and features of length 1e4."""
    loss = EVERY[name]
    columns = CLASSES + (kind_for(loss) == "background")
    kernel = np.random.default_rng(3).normal(size=(FEATURES, columns))
    kernel[:, 2] = 0
    rows = [kernel[:, 0], -kernel[:, 0], 0 * kernel[:, 0], 1e4 * kernel[:, 1], -1e4 * kernel[:, 1], kernel[:, 3]]
    features = np.repeat(np.stack(rows), 3, axis=0).astype(dtype)
    labels = np.array([0, 2, NEGATIVE] * 2 + [1, 2, NEGATIVE] * 3 + [3, 2, NEGATIVE])
    value, of_features, of_kernel = evaluate(loss, labels, features, scale, kernel=kernel, dtype=dtype)
    assert value.dtype == of_features.dtype == of_kernel.dtype == dtype
    for result in (value, of_features, of_kernel):
        assert np.isfinite(result).all()
    # Two floored sines in a row give at most 1/3.5e-4 per unit, so nothing may be larger than lengths explain.
    assert np.abs(of_features).max() < 1e8


@every
@soft_and_hard
def test_one_class(name, scale):
    if name.endswith(("class_balanced_focal", "guided_complement_entropy", "balanced_softmax", "ldam", "equalization")):
        pytest.skip("its counts fix the number of classes, or it needs three")
    loss = EVERY[name]
    kind = kind_for(loss)
    head = HEADS["cosine" if kind == "background" else kind](1, scale, dtype="float64")
    features = tf.constant(batch())
    with tf.GradientTape() as tape:
        tape.watch(features)
        outputs = head(features)
        outputs.update(head.provide(outputs), **GIVEN)
        value = loss(np.minimum(LABELS, 0), outputs) if kind != "background" else loss(np.full(12, -1), outputs)
    assert np.isfinite(value)
    assert np.isfinite(tape.gradient(value, features, unconnected_gradients="zero")).all()


@every
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(name, dtype):
    loss = EVERY[name]
    features = tf.cast(batch("float32") * 40, dtype)
    half = evaluate(loss, LABELS, features, None, dtype=f"mixed_{dtype}")
    full = evaluate(loss, LABELS, tf.cast(features, "float32"), None, dtype="float32")
    assert half[0].dtype == half[2].dtype == "float32"
    np.testing.assert_allclose(half[0], full[0], rtol=1e-6)
    np.testing.assert_allclose(half[2], full[2], rtol=1e-4, atol=1e-6)
    of_half = loss(LABELS, {k: tf.cast(v, dtype) for k, v in outputs_of(loss).items()})
    assert of_half.dtype == "float32"
    assert np.isfinite(of_half)


def outputs_of(loss):
    head = usual_head(None, kind_for(loss), "float32")
    outputs = head(batch("float32"))
    return {**outputs, **head.provide(outputs), **GIVEN}


@pytest.mark.parametrize("kind", CROSS_ENTROPIES)
@pytest.mark.parametrize("margin", MARGINS)
def test_zero_features_have_the_gradient_of_no_margin(kind, margin):
    """Under soft normalisation the direction of zero features is undefined; the gradient is Ŵ (p - t), as without."""
    features, labels = np.zeros((3, FEATURES)), np.array([0, 1, NEGATIVE])
    plain = evaluate(kind(), labels, features, None)[1]
    of_features = evaluate(kind(MARGINS[margin]), labels, features, None)[1]
    assert np.abs(plain[0]).max() > 0.1
    if margin in ("sm_softmax",):
        return  # its margin does not vanish with the scale, so p differs
    np.testing.assert_allclose(of_features, plain, atol=1e-12)


@every
def test_a_label_beyond_the_classes_gives_nan(name):
    if name in ("magnitude", "symmetric_magnitude", "ring"):
        pytest.skip("it asks only whether a label is known")
    assert np.isnan(evaluate(EVERY[name], np.array([0, CLASSES]), batch()[:2], 20.0)[0])


@every
def test_soft_targets_are_refused(name):
    with pytest.raises(ValueError, match="one integer label per position"):
        evaluate(EVERY[name], np.full((12, CLASSES), 0.25), batch(), 20.0)
    with pytest.raises(ValueError, match="one integer label per position"):
        evaluate(EVERY[name], LABELS.astype("float32"), batch(), 20.0)


@every
def test_a_missing_output_is_named(name):
    with pytest.raises(ValueError, match=r"reads \[.*which the model does not give"):
        EVERY[name](LABELS, {"elsewhere": batch()})
    with pytest.raises(ValueError, match="reads named outputs"):
        EVERY[name](LABELS, batch())


def test_second_derivatives_are_right():
    """Of the plain forms, against central differences of the first ones."""
    step, direction = 1e-5, batch(seed=5)
    features = tf.constant(batch())
    tested = [losses.CrossEntropyLoss(margin) for margin in MARGINS.values() if not getattr(margin, "detach", False)]
    tested += [loss for name, loss in OTHERS.items() if name not in ("l_softmax_detached", "anchor", "seesaw")]
    first = tf.function(lambda features: all_together(features, None, tested)[1])
    with tf.GradientTape() as tape:
        tape.watch(features)
        along = tf.reduce_sum(first(features) * direction)
    second = tape.gradient(along, features)
    difference = (first(features + step * direction) - first(features - step * direction)) / (2 * step)
    np.testing.assert_allclose(second, difference, rtol=1e-5, atol=1e-5)
