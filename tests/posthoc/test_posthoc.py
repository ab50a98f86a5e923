"""Fitted scores: their limit laws, their streams against NumPy at once, rows that are broken, what is refused."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import logsumexp

from cplus1_keras import posthoc, scores
from cplus1_keras.layers import Reject
from cplus1_keras.posthoc.openmax import fit_weibull
from cplus1_keras.posthoc.streams import Moments, Reservoir, whitening

CLASSES, SIZE = 3, 6
ALL = {
    "temperature": posthoc.Temperature,
    "gen": lambda: posthoc.GEN(top=2),
    "class_means": posthoc.ClassMeans,
    "mahalanobis": posthoc.Mahalanobis,
    "relative_mahalanobis": posthoc.RelativeMahalanobis,
    "nearest_neighbors": lambda: posthoc.NearestNeighbors(neighbors=3, kept=40, seed=5),
    "openmax": lambda: posthoc.OpenMax(tail=8, alpha=2),
    "vim": lambda: posthoc.ViM(dim=2),
    "react": lambda: posthoc.ReAct(quantile=0.7, score=scores.max_logit),
    "ash_p": lambda: posthoc.ASHPrune(pruned=0.4, score=scores.max_logit),
    "ash_b": lambda: posthoc.ASHBinarize(pruned=0.4),
    "ash_s": lambda: posthoc.ASHScale(pruned=0.4, score="max_probability"),
}


def draw(count=120, seed=0, spread=1.0, background=0):
    """Outputs of knowns, their labels, and the classifier."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    centers = np.random.default_rng(9).normal(size=(CLASSES, SIZE)) * 3
    features = np.maximum(centers[labels] + spread * generator.normal(size=(count, SIZE)) + 2, 0).astype("float32")
    means = np.concatenate([np.maximum(centers + 2, 0), np.zeros((background, SIZE))])
    kernel, bias = (means.T / 4).astype("float32"), (-(means**2).sum(-1) / 8).astype("float32")  # the nearest mean's
    return {"features": features, "logits": features @ kernel + bias}, labels, (kernel, bias)


def fitted(score, count=120, **settings):
    outputs, labels, classifier = draw(count, **settings)
    halves = [({n: x[part] for n, x in outputs.items()}, labels[part]) for part in (slice(0, 50), slice(50, None))]
    score.fit(iter(halves), CLASSES, classifier)
    return score


def of(score, outputs):
    return ops.convert_to_numpy(score(outputs))


@pytest.mark.parametrize("name", ALL)
def test_it_is_a_layer_that_keeps_its_numbers(name, tmp_path):
    score = fitted(ALL[name]())
    assert score.score_name == score.name == name
    inputs = {n: keras.Input((size,), name=n) for n, size in (("features", SIZE), ("logits", CLASSES))}
    model = keras.Model(inputs, {**inputs, name: score(inputs)})
    model.save(tmp_path / "model.keras")
    loaded, (outputs, *_) = keras.saving.load_model(tmp_path / "model.keras"), draw(20, seed=1)
    again = loaded.get_layer(name)
    assert again.get_config() == score.get_config()
    wanted = of(score, outputs)
    assert wanted.shape == (20,)
    assert wanted.dtype == "float32"
    assert np.ptp(wanted) > 0
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(outputs)[name]), wanted)
    assert not score.trainable_weights


@pytest.mark.parametrize("name", ALL)
def test_broken_rows_are_nan_and_half_precision_is_computed_in_float32(name):
    score = fitted(ALL[name]())
    outputs = draw(20, seed=1)[0]
    wanted = of(score, outputs)
    for key, value in (("logits", np.nan), ("logits", np.inf), ("features", np.nan), ("features", -np.inf)):
        broken = {n: x.copy() for n, x in outputs.items()}
        broken[key][::2, 1] = value
        got = of(score, broken)
        expected = np.arange(20) % 2 == 0 if key == "logits" or score.reads_features else np.zeros(20, bool)
        np.testing.assert_array_equal(np.isnan(got), expected)
        np.testing.assert_allclose(got[1::2], wanted[1::2], rtol=1e-5, atol=1e-5)
        answer = Reject(CLASSES, -np.inf, lambda named, _, got=got: ops.convert_to_tensor(got))(broken)
        assert not ops.convert_to_numpy(answer["known"])[expected].any()
    half = of(score, {n: x.astype("float16") for n, x in outputs.items()})
    rounded = of(score, {n: x.astype("float16").astype("float32") for n, x in outputs.items()})
    np.testing.assert_array_equal(half, rounded)


@pytest.mark.parametrize("name", ALL)
def test_leading_axes_are_free_and_background_logits_are_read(name):
    score = fitted(ALL[name](), background=1)
    outputs = draw(24, seed=1, background=1)[0]
    grid = of(score, {n: x.reshape(2, 3, 4, -1) for n, x in outputs.items()})
    np.testing.assert_allclose(grid.reshape(-1), of(score, outputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_only_knowns_count(name):
    """Rows of strangers and of what nobody annotated change nothing, however far away."""
    (outputs, labels, classifier), score, other = draw(), ALL[name](), ALL[name]()
    far = np.concatenate([outputs["features"], 50 + outputs["features"][:30]])
    more = {"features": far, "logits": far @ classifier[0] + classifier[1]}
    score.fit([(more, np.concatenate([labels, np.repeat([-1, -2, -100], 10)]))], CLASSES, classifier)
    other.fit([(outputs, labels)], CLASSES, classifier)
    test = draw(20, seed=1)[0]
    np.testing.assert_allclose(of(score, test), of(other, test), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["mahalanobis", "vim", "nearest_neighbors", "openmax", "react"])
def test_fit_again_is_from_the_beginning(name):
    score, other, outputs = ALL[name](), fitted(ALL[name](), seed=3), draw(20, seed=1)[0]
    fitted(fitted(score, seed=2), seed=3)
    np.testing.assert_array_equal(of(score, outputs), of(other, outputs))


def test_temperature_1_is_the_score_itself():
    score = fitted(posthoc.Temperature(scores.energy))
    score.temperature.assign(1.0)
    outputs = draw(20, seed=1)[0]
    np.testing.assert_array_equal(of(score, outputs), ops.convert_to_numpy(scores.energy(outputs, CLASSES)))


@pytest.mark.parametrize(("factor", "expected"), [(1.0, 1.0), (5.0, 5.0), (1e-7, 0.01)])
def test_temperature_undoes_a_scale(factor, expected):
    """Labels drawn from the softmax itself want T = 1, of logits times 5 want 5."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(40_000, 3))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    labels = (generator.random((40_000, 1)) > p.cumsum(-1)).sum(-1)
    score = posthoc.Temperature()
    score.fit([({"logits": factor * logits, "features": logits}, labels)], 3)
    assert float(ops.convert_to_numpy(score.temperature)) == pytest.approx(expected, rel=0.03)


def test_temperature_of_perfect_answers_and_of_chance():
    for logits, expected in ((np.eye(3), 0.01), (1 - np.eye(3), 100.0)):
        score = posthoc.Temperature()
        score.fit([({"logits": logits, "features": logits}, np.arange(3))], 3)
        assert float(ops.convert_to_numpy(score.temperature)) == pytest.approx(expected)


def test_gen_does_not_round_to_ties_and_gamma_1_is_the_gini_index():
    logits = np.zeros((100, 3), "float32")
    logits[:, 0] = np.linspace(17, 60, 100)
    score = fitted(posthoc.GEN(gamma=0.1))
    got = of(score, {"logits": logits})
    expected = -((2 * np.exp(-logits[:, 0].astype("float64"))) ** 0.1) - 2 * np.exp(-0.1 * logits[:, 0])
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    outputs = draw(20, seed=1, background=1)[0]
    logits = outputs["logits"].astype("float64")
    p = np.exp(logits - logsumexp(logits, axis=-1, keepdims=True))
    np.testing.assert_allclose(of(fitted(posthoc.GEN(gamma=1, top=4)), outputs), (p**2).sum(-1) - 1, atol=1e-6)


def test_mahalanobis_with_identity_covariance_is_the_distance_to_class_means():
    near, means, outputs = fitted(posthoc.Mahalanobis()), fitted(posthoc.ClassMeans()), draw(20, seed=1)[0]
    origin = ops.convert_to_numpy(near.origin)
    near.whitening.assign(np.eye(SIZE))
    near.means.assign(ops.convert_to_numpy(means.means) - origin)
    np.testing.assert_allclose(of(near, outputs), of(means, outputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("far", [0.0, 1000.0])
def test_distances_are_those_of_numpy(far):
    """A thousand away from 0, where plain sums of squares would lose the variance."""
    outputs, labels, _ = draw(300)
    outputs["features"] += np.float32(far)
    features, test = outputs["features"].astype("float64"), draw(20, seed=1)[0]
    test["features"] += np.float32(far)
    means = np.stack([features[labels == c].mean(0) for c in range(CLASSES)])
    inside = np.cov((features - means[labels]).T, bias=True)
    whole = np.cov(features.T, bias=True)

    def squares(x, centers, covariance):
        differences = x[:, None].astype("float64") - centers[None]
        return np.einsum("ncj,jk,nck->nc", differences, np.linalg.pinv(covariance, rcond=1e-9), differences)

    expected = {
        posthoc.ClassMeans: -squares(test["features"], means, np.eye(SIZE)).min(-1),
        posthoc.Mahalanobis: -squares(test["features"], means, inside).min(-1),
    }
    own, of_all = (squares(test["features"], *args) for args in ((means, inside), (features.mean(0)[None], whole)))
    expected[posthoc.RelativeMahalanobis] = -(own - of_all).min(-1)
    for kind, want in expected.items():
        score = kind()
        parts = np.array_split(np.random.default_rng(1).permutation(300), 7)
        score.fit([({n: x[rows] for n, x in outputs.items()}, labels[rows]) for rows in parts], CLASSES)
        np.testing.assert_allclose(of(score, test), want, rtol=2e-3 if far else 1e-4, atol=1e-3)


def test_directions_without_variance_do_not_count():
    outputs, labels, _ = draw()
    outputs["features"][:, 2] = 7.0
    score = posthoc.Mahalanobis()
    score.fit([(outputs, labels)], CLASSES)
    moved = {**outputs, "features": outputs["features"] + np.eye(SIZE, dtype="float32")[2] * 50}
    np.testing.assert_allclose(of(score, moved), of(score, outputs), rtol=1e-4)
    assert np.isfinite(of(score, moved)).all()


@pytest.mark.parametrize("k", [1, 4])
def test_neighbors_of_all_samples_are_brute_force(k):
    score, (train, *_), test = fitted(posthoc.NearestNeighbors(neighbors=k)), draw(), draw(20, seed=1)[0]
    assert score.kept == 120
    x, z = (y / np.linalg.norm(y, axis=-1, keepdims=True) for y in (test["features"], train["features"]))
    squares = np.sort(((x[:, None] - z[None]) ** 2).sum(-1), axis=-1)
    np.testing.assert_allclose(of(score, test), -squares[:, k - 1], rtol=1e-4, atol=1e-6)
    if k == 1:
        assert (of(score, train) == 0).all()  # itself


def test_kept_samples_are_some_of_the_training_set_chosen_by_the_seed():
    kept = [fitted(posthoc.NearestNeighbors(neighbors=2, kept=30, seed=seed)) for seed in (0, 0, 1)]
    assert [tuple(score.samples.shape) for score in kept] == [(30, SIZE)] * 3
    rows = [ops.convert_to_numpy(score.samples) for score in kept]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert (rows[0] != rows[2]).any()
    train = draw()[0]["features"]
    train = train / np.linalg.norm(train, axis=-1, keepdims=True)
    assert (np.abs(rows[0][:, None] - train[None]).max(-1).min(-1) < 1e-6).all()


def test_react_without_a_limit_is_energy():
    score, outputs = fitted(posthoc.ReAct()), draw(20, seed=1)[0]
    score.limit.assign(np.inf)
    np.testing.assert_allclose(of(score, outputs), ops.convert_to_numpy(scores.energy(outputs, CLASSES)), rtol=1e-5)
    assert float(ops.convert_to_numpy(fitted(posthoc.ReAct(0.7)).limit)) == pytest.approx(
        np.quantile(draw()[0]["features"], 0.7)
    )


def test_ash_prune_that_prunes_nothing_is_energy_and_equal_features_stay_in_number():
    score, outputs = fitted(posthoc.ASHPrune(pruned=0.01)), draw(20, seed=1)[0]
    np.testing.assert_allclose(of(score, outputs), ops.convert_to_numpy(scores.energy(outputs, CLASSES)), rtol=1e-5)
    for kind in (posthoc.ASHPrune, posthoc.ASHBinarize, posthoc.ASHScale):
        shaped = ops.convert_to_numpy(kind(pruned=0.4).shape(np.ones((2, 5), "float32")))
        assert ((shaped > 0).sum(-1) == 3).all()
        assert (ops.convert_to_numpy(kind(pruned=0.99).shape(np.zeros((1, 5), "float32"))) == 0).all()


def test_vim_without_a_residual_is_energy():
    score, outputs = fitted(posthoc.ViM(dim=2)), draw(20, seed=1)[0]
    score.alpha.assign(0.0)
    np.testing.assert_allclose(of(score, outputs), ops.convert_to_numpy(scores.energy(outputs, CLASSES)), rtol=1e-5)
    train = draw()[0]
    matched = (of(fitted(score), train) - logsumexp(train["logits"], axis=-1)).mean()
    assert -matched == pytest.approx(train["logits"].max(-1).mean(), rel=1e-4)  # the virtual logit is as large


def test_openmax_far_from_every_tail_is_softmax_with_an_unknown_of_0():
    """Where no distance is large, nothing is moved: the unknown keeps the logit 0."""
    score, outputs = fitted(posthoc.OpenMax()), draw(20, seed=1)[0]
    score.start.assign(np.full(CLASSES, 1e5))
    np.testing.assert_allclose(of(score, outputs), logsumexp(outputs["logits"], axis=-1), rtol=1e-4)


def test_openmax_streams_as_if_at_once():
    """Many batches, of which only a few samples of each class are held, against the distances of all of them."""
    outputs, labels, _ = draw(6_000, seed=4)
    score = posthoc.OpenMax(tail=8)
    score.fit(
        [({n: x[i : i + 37] for n, x in outputs.items()}, labels[i : i + 37]) for i in range(0, 6_000, 37)], CLASSES
    )
    right = outputs["logits"].argmax(-1) == labels
    for c in range(CLASSES):
        own = outputs["logits"][right & (labels == c)].astype("float64")
        expected = fit_weibull(np.sort(np.linalg.norm(own - own.mean(0), axis=-1))[-8:])
        got = [ops.convert_to_numpy(weight)[c] for weight in (score.start, score.scale, score.shape)]
        np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_a_weibull_of_equal_distances_is_a_step():
    start, _, shape = fit_weibull(np.full(5, 2.0))
    assert start == pytest.approx(2.0)
    assert shape == 1e8


def test_moments_and_whitening_and_reservoir():
    generator = np.random.default_rng(0)
    rows, labels = generator.normal(size=(500, 4)) @ generator.normal(size=(4, 4)) + 5, generator.integers(0, 3, 500)
    moments = Moments(3)
    for part in np.array_split(np.arange(500), 9):
        moments.update(rows[part], labels[part])
    np.testing.assert_allclose(moments.whole, np.cov(rows.T, bias=True), rtol=1e-9)
    matrix = whitening(moments.whole)
    np.testing.assert_allclose(matrix.T @ moments.whole @ matrix, np.eye(4), atol=1e-9)
    # Each of 40 rows is among the 10 kept in a quarter of the draws: 5 standard deviations are 0.068.
    counts = np.zeros(40)
    for seed in range(1000):
        sample = Reservoir(10, seed)
        for part in np.array_split(np.arange(40), 6):
            sample.update(part)
        assert len(set(sample.rows)) == 10
        counts[sample.rows] += 1
    assert np.abs(counts / 1000 - 0.25).max() < 0.07


def test_what_is_refused():
    outputs, labels, classifier = draw()
    near = posthoc.Mahalanobis()
    with pytest.raises(ValueError, match="not fitted: call `fit`"):
        near(outputs)
    with pytest.raises(ValueError, match="is fitted on training samples"):
        near.fit(None, CLASSES)
    with pytest.raises(ValueError, match=r"classes 0\.\.1, .* Received also: \[2\]"):
        near.fit([(outputs, labels)], 2)
    with pytest.raises(ValueError, match=r"one integer for each of 120.*shape \(120, 3\).*argmax"):
        near.fit([(outputs, np.eye(3)[labels])], CLASSES)
    with pytest.raises(ValueError, match=r"at least 1 training samples; these have fewer: \[1\]"):
        near.fit([(outputs, np.where(labels == 1, -1, labels))], CLASSES)
    with pytest.raises(ValueError, match="there is none among 120"):
        near.fit([(outputs, labels * 0 - 1)], CLASSES)
    broken = {**outputs, "features": np.where(np.arange(120)[:, None] == 7, np.nan, outputs["features"])}
    with pytest.raises(ValueError, match="training sample 7 are not finite"):
        near.fit([(broken, labels)], CLASSES)
    with pytest.raises(ValueError, match="answered right"):
        posthoc.OpenMax().fit([({**outputs, "logits": -outputs["logits"]}, labels)], CLASSES)
    with pytest.raises(ValueError, match="needs logits that a Dense layer makes"):
        posthoc.ReAct().fit([(outputs, labels)], CLASSES)
    near.fit([({**outputs, "logits": outputs["logits"] ** 2}, labels)], CLASSES, classifier)  # which it does not read
    with pytest.raises(ValueError, match="do not give the logits by the kernel"):
        posthoc.ViM().fit([({**outputs, "logits": outputs["logits"] ** 2}, labels)], CLASSES, classifier)
    with pytest.raises(ValueError, match=r"30-th nearest neighbour needs as many training samples\. Received: 20"):
        fitted(posthoc.NearestNeighbors(neighbors=30), count=20)
    with pytest.raises(ValueError, match="`dim` must be less than the 6 features"):
        fitted(posthoc.ViM(dim=6))
    for wrong, needs in (
        (lambda: posthoc.GEN(gamma=0), "`gamma` must be > 0"),
        (lambda: posthoc.ReAct(quantile=90), r"`quantile` .* \(0, 1\)"),
        (lambda: posthoc.ASHScale(pruned=1), r"`pruned` .* \(0, 1\)"),
        (lambda: posthoc.NearestNeighbors(neighbors=5, kept=4), "`kept` must be at least `neighbors`"),
        (lambda: posthoc.OpenMax(tail=1), "`tail` must be at least 2"),
    ):
        with pytest.raises(ValueError, match=needs):
            wrong()
