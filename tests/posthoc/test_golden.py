"""The scores against what pytorch-ood and OpenOOD make of the same features; see golden_scores/README.md."""

import pathlib

import numpy as np
import pytest
from keras import ops
from scipy.special import expit
from scipy.stats import weibull_min

from cplus1_keras import posthoc, scores
from cplus1_keras.posthoc.openmax import fit_weibull

FOLDER = pathlib.Path(__file__).parents[1] / "golden_scores"
CLASSES = 4


@pytest.fixture(scope="module", params=["case1", "case2"])
def case(request):
    with np.load(FOLDER / f"{request.param}.npz") as arrays:
        return dict(arrays)


def outputs(case, name):
    return {"features": case[name], "logits": case[name] @ case["kernel"] + case["bias"]}


def of(score, case):
    """The score of the test features, fitted on the training features in two batches."""
    train = outputs(case, "train")
    order = np.random.default_rng(0).permutation(300)
    batches = [({n: x[rows] for n, x in train.items()}, case["labels"][rows]) for rows in np.split(order, [110])]
    score.fit(batches, CLASSES, (case["kernel"], case["bias"]))
    return ops.convert_to_numpy(score(outputs(case, "test")))


def near(got, want, tolerance):
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * np.abs(want).mean())


@pytest.mark.parametrize("name", ["max_probability", "max_logit", "energy", "energy_of_pytorch_ood"])
def test_functions(case, name):
    got = scores.get(name.removesuffix("_of_pytorch_ood"))(outputs(case, "test"), CLASSES)
    near(ops.convert_to_numpy(got), case[f"expected_{name}"], 2e-6)


@pytest.mark.parametrize(
    ("score", "name", "factor", "tolerance"),
    [
        (lambda: posthoc.GEN(gamma=0.3, top=3), "gen", 1, 1e-5),
        (lambda: posthoc.GEN(gamma=0.3, top=3), "gen_of_pytorch_ood", 3, 1e-2),  # it holds p in [1e-7, 1 - 1e-7]
        (posthoc.Mahalanobis, "mahalanobis", 1, 1e-4),
        (posthoc.Mahalanobis, "mahalanobis_of_pytorch_ood", 2 * 300, 1e-4),
        (posthoc.RelativeMahalanobis, "relative_mahalanobis", 1, 1e-4),
        (posthoc.RelativeMahalanobis, "relative_mahalanobis_of_pytorch_ood", 300, 1e-4),
        (lambda: posthoc.NearestNeighbors(neighbors=7), "nearest_neighbors", 1, 1e-5),
        (lambda: posthoc.ViM(dim=5), "vim", 1, 1e-4),
        (lambda: posthoc.ReAct(quantile=0.8), "react", 1, 1e-5),
        (lambda: posthoc.ASHPrune(pruned=0.7), "ash_p", 1, 1e-5),
        (lambda: posthoc.ASHBinarize(pruned=0.7), "ash_b", 1, 1e-5),
        (lambda: posthoc.ASHScale(pruned=0.7), "ash_s", 1, 1e-5),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_layers(case, score, name, factor, tolerance):
    near(of(score(), case), factor * case[f"expected_{name}"], tolerance)


def test_neighbors_of_pytorch_ood(case):
    near(
        of(posthoc.NearestNeighbors(neighbors=7), case), -(case["expected_nearest_neighbors_of_pytorch_ood"] ** 2), 1e-5
    )


def test_temperature(case):
    score = posthoc.Temperature(scores.max_probability)
    near(of(score, case), case["expected_temperature"], 1e-3)
    near(ops.convert_to_numpy(score.temperature), case["expected_temperature_itself"], 1e-3)


def test_openmax(case):
    score = posthoc.OpenMax(tail=10, alpha=3)
    near(expit(-of(score, case)), -case["expected_openmax"], 1e-2)


def test_weibulls(case):
    """Ours is at least as likely as SciPy's, and as pytorch-ood's, which stop short of the maximum."""
    train = outputs(case, "train")["logits"].astype("float64")
    right = train.argmax(-1) == case["labels"]
    for c in range(CLASSES):
        own = train[right & (case["labels"] == c)]
        tail = np.sort(np.linalg.norm(own - own.mean(0), axis=-1))[-10:]
        start, scale, shape = fit_weibull(tail)
        least, theirs_scale, theirs_shape = case["expected_openmax_weibulls"][c]
        np.testing.assert_allclose(least, tail[0], rtol=1e-6)
        shifted = tail - tail[0] + 10_000
        ours = weibull_min.logpdf(shifted, shape, scale=scale).sum()
        assert ours >= weibull_min.logpdf(shifted, theirs_shape, scale=theirs_scale).sum() - 1e-9
        np.testing.assert_allclose((tail - start) / scale, shifted / scale - 1, atol=1e-9)
        np.testing.assert_allclose([scale, shape], [theirs_scale, theirs_shape], rtol=5e-2)
