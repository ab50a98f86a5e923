"""Scores against float64 by hand, at the magnitudes where the plain formulas fail."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import log_softmax, logsumexp, softmax

from cplus1_keras import scores

FUNCTIONS = [scores.get(name) for name in scores.NAMES]


def given(background, seed=0, shape=(50,), classes=4, spread=5.0):
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(*shape, classes + background)) * spread
    return {"logits": logits, "features": generator.normal(size=(*shape, 6))}


def reference(name, outputs, classes):
    logits = np.asarray(outputs["logits"], "float64")
    p, known = softmax(logits, -1), logits[..., :classes]
    best = known.argmax(-1)
    others = np.where(np.arange(logits.shape[-1]) == best[..., None], -np.inf, logits)
    return {
        "max_probability": lambda: p[..., :classes].max(-1),
        "log_odds": lambda: known.max(-1) - logsumexp(others, -1),
        "max_logit": lambda: known.max(-1),
        "probability_times_magnitude": lambda: p[..., :classes].max(-1) * np.linalg.norm(outputs["features"], axis=-1),
        "one_minus_background": lambda: 1 - np.exp(log_softmax(logits, -1))[..., classes],
        "energy": lambda: logsumexp(known, -1),
    }[name]()


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("score", FUNCTIONS, ids=scores.NAMES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_equals_the_formula(score, background, dtype, tolerance):
    if score is scores.one_minus_background and not background:
        pytest.skip("there is no background logit to read")
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX computes in float32 unless it is told otherwise")
    outputs = given(background, shape=(5, 3, 2))
    got = score({k: ops.convert_to_tensor(v, dtype) for k, v in outputs.items()}, 4)
    assert keras.backend.standardize_dtype(got.dtype) == dtype
    got = ops.convert_to_numpy(got)
    np.testing.assert_allclose(got, reference(score.__name__, outputs, 4), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("score", FUNCTIONS, ids=scores.NAMES)
def test_half_precision_is_computed_in_float32(score, dtype):
    outputs = {k: ops.cast(v, dtype) for k, v in given(True).items()}
    got = score(outputs, 4)
    assert keras.backend.standardize_dtype(got.dtype) == "float32"
    wide = {k: ops.convert_to_numpy(ops.cast(v, "float32")) for k, v in outputs.items()}
    np.testing.assert_allclose(got, reference(score.__name__, wide, 4), rtol=1e-5, atol=1e-6)


def test_log_odds_do_not_tie_where_probabilities_do():
    logits = np.zeros((200, 3), "float32")
    logits[:, 0] = np.linspace(17, 1e4, 200)
    assert len(np.unique(scores.max_probability({"logits": logits}, 3))) < 5
    got = ops.convert_to_numpy(scores.log_odds({"logits": logits}, 3))
    np.testing.assert_allclose(got, logits[:, 0] - np.log(2), rtol=1e-6)
    assert (np.diff(got) > 0).all()


def test_log_odds_at_large_offsets_ties_and_one_logit():
    logits = np.array([[1e4, 1e4 - 3, 1e4 - 4]], "float32")
    np.testing.assert_allclose(scores.log_odds({"logits": logits}, 3), 3 - np.log1p(np.exp(-1)), rtol=1e-6)
    np.testing.assert_allclose(scores.log_odds({"logits": np.full((1, 5), 7.0)}, 5), -np.log(4), rtol=1e-6)
    np.testing.assert_allclose(scores.log_odds({"logits": np.array([[2.5]])}, 1), 2.5)
    np.testing.assert_allclose(scores.log_odds({"logits": np.array([[2.5, 4.0]])}, 1), -1.5)
    # The background is the largest: still the odds of the best known class, against all others.
    logits = np.array([[0.0, 1.0, 9.0]])
    np.testing.assert_allclose(scores.log_odds({"logits": logits}, 2), 1 - np.logaddexp(0, 9), rtol=1e-6)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("position", [0, 2, 4])
@pytest.mark.parametrize("score", FUNCTIONS, ids=scores.NAMES)
def test_broken_logits_give_nan(score, position, broken):
    outputs = given(True)
    outputs["logits"][::2, position] = broken
    for run in (score, lambda o, c: compiled(score)(o, c)):
        found = np.isnan(ops.convert_to_numpy(run({k: v.astype("float32") for k, v in outputs.items()}, 4)))
        np.testing.assert_array_equal(found, np.arange(50) % 2 == 0)


def compiled(score):
    """The score under XLA, whose maximum skips a NaN."""
    if keras.backend.backend() != "tensorflow":
        return score
    import tensorflow as tf

    def run(outputs, num_classes):
        tensors = {k: tf.constant(v) for k, v in outputs.items()}
        return tf.function(lambda **named: score(named, num_classes), jit_compile=True, autograph=False)(**tensors)

    return run


def test_a_class_that_is_ruled_out():
    logits = np.array([[1.0, 3.0, -np.inf]])
    assert float(scores.log_odds({"logits": logits}, 3)[0]) == pytest.approx(2.0)
    assert float(scores.energy({"logits": logits}, 3)[0]) == pytest.approx(np.logaddexp(1, 3))


def test_magnitude_at_zero():
    outputs = {"logits": np.zeros((1, 2), "float32"), "features": np.zeros((1, 3), "float32")}
    assert float(scores.probability_times_magnitude(outputs, 2)[0]) == 0.0


def test_get():
    for name, score in zip(scores.NAMES, FUNCTIONS, strict=True):
        assert scores.get(name) is score
        assert score.__name__ == name
        assert scores.get(score) is score
    with pytest.raises(ValueError, match=r"no score 'softmax'. Scores: max_probability, log_odds, .*energy"):
        scores.get("softmax")


def test_errors():
    with pytest.raises(ValueError, match=r"reads the output 'features'\. The outputs are: logits"):
        scores.probability_times_magnitude({"logits": np.zeros((1, 2))}, 2)
    with pytest.raises(ValueError, match=r"needs 3 logits, or 4 .* shape \(1, 2\)"):
        scores.log_odds({"logits": np.zeros((1, 2))}, 3)
    with pytest.raises(ValueError, match="background=True"):
        scores.one_minus_background({"logits": np.zeros((1, 2))}, 2)
    with pytest.raises(ValueError, match="Received: ndarray"):
        scores.log_odds(np.zeros((1, 2)), 2)
