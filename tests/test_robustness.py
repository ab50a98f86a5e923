"""A finished run under attack: who is attacked, what is counted, what is written."""

import json

import keras
import numpy as np
import pytest
from scipy.stats import binomtest

import cplus1_keras
from cplus1_keras import attacks, calibration, configs, data, serving
from cplus1_keras import robustness as module
from cplus1_keras.robustness import main, robustness

EPSILON = [0.2, 0.05]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the digits with two steps of training, and a threshold among its scores."""
    path = tmp_path_factory.mktemp("finished") / "digits"
    experiment = configs.resolve("digits")
    keras.utils.set_random_seed(0)
    splits, model = experiment.data(0), experiment.model(6)
    model.compile(keras.optimizers.Adam(1e-2), experiment.loss)
    model.fit(data.training(splits.train, 256), steps_per_epoch=12, shuffle=False, verbose=0)
    every = experiment.task.predictor(model, experiment.score, splits)
    images = np.stack([example["image"] for example in splits.calibration.dataset().as_numpy_iterator()])
    strangers = every.predict(images)["score"][splits.calibration.labels < 0]
    found = calibration.threshold_at_fpr(strangers, 0.2, score="log_odds")
    serving.save(path, experiment.task.with_calibration(every, found))
    (path / "config.json").write_text(json.dumps({"command": {"config": "digits", "set": []}}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def rows(run):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SAMPLES", 40)
        return robustness(run, EPSILON, steps=4, restarts=2, images=300, seed=5)


def row(rows, aim, method, epsilon):
    return next(own for own in rows if (own["aim"], own["method"], own["epsilon"]) == (aim, method, epsilon))


def drawn(run):
    """The images and labels that the rows are about."""
    split = configs.resolve("digits").data(0).test
    split = split.subset(np.sort(np.random.default_rng(5).permutation(len(split))[:300]))
    images = np.stack([example["image"] for example in split.dataset().as_numpy_iterator()]).astype("float32")
    return images, split.labels


def test_the_rows_without_attack_are_the_runs(run, rows):
    images, labels = drawn(run)
    answer, plain = cplus1_keras.load(run).predict(images), rows[0]
    known = labels >= 0
    assert (plain["method"], plain["aim"], plain["epsilon"]) == ("none", "none", 0.0)
    assert plain["accuracy"] == np.mean(answer["probabilities"].argmax(-1)[known] == labels[known])
    assert plain["ccr"] == np.mean(answer["class_id"][known] == labels[known])
    assert plain["coverage"] == np.mean(answer["known"][known])
    assert plain["fpr_negative"] == np.mean(answer["known"][labels == -1])
    assert plain["fpr_unknown"] == np.mean(answer["known"][labels == -2])
    assert 0.5 < plain["accuracy"] < 1
    assert 0 < plain["fpr_unknown"] < 0.6


@pytest.mark.parametrize("aim", ["mistake", "refuse", "accept"])
def test_a_row_by_hand(run, rows, aim):
    """FGSM at 0.05 on the images of an aim alone, all others as they were."""
    images, labels = drawn(run)
    predictor, chosen = cplus1_keras.load(run), labels < 0 if aim == "accept" else labels >= 0
    moved = images.copy()
    objective = getattr(attacks, aim)(predictor)
    moved[chosen] = attacks.fgsm(objective, images[chosen], labels[chosen], 255 * 0.05)
    answer, found = predictor.predict(moved), row(rows, aim, "fgsm", 0.05)
    known = labels >= 0
    for name, value in {
        "accuracy": answer["probabilities"].argmax(-1)[known] == labels[known],
        "ccr": answer["class_id"][known] == labels[known],
        "coverage": answer["known"][known],
        "fpr_negative": answer["known"][labels == -1],
        "fpr_unknown": answer["known"][labels == -2],
    }.items():
        assert found[name] == pytest.approx(np.mean(value)), name
    expected = cplus1_keras.metrics.auroc(labels, answer["score"], "unknown")
    assert found["open_set"]["unknown"]["auroc"] == pytest.approx(expected, abs=1e-6)


def test_each_aim_reaches_what_it_is_about(rows):
    plain = rows[0]
    assert len(rows) == 1 + 3 * 2 * len(EPSILON)
    for aim, name, sign in (("mistake", "accuracy", -1), ("refuse", "coverage", -1), ("accept", "fpr_unknown", 1)):
        fast, slow = (row(rows, aim, method, 0.2)[name] for method in ("fgsm", "pgd"))
        weak = row(rows, aim, "fgsm", 0.05)[name]
        assert sign * (weak - plain[name]) > 0.05
        assert sign * (fast - weak) > 0
        assert sign * (slow - fast) >= -0.02  # more steps, more starts
        others = {"fpr_negative", "fpr_unknown"} if aim != "accept" else {"accuracy", "ccr", "coverage"}
        assert all(row(rows, aim, "pgd", 0.2)[other] == plain[other] for other in others)


def test_intervals_are_exact(run, rows):
    _, labels = drawn(run)
    own, number = row(rows, "accept", "pgd", 0.05), int((labels == -2).sum())
    interval = binomtest(round(own["fpr_unknown"] * number), number).proportion_ci(0.95, "exact")
    np.testing.assert_allclose(own["intervals"]["fpr_unknown"], [interval.low, interval.high], rtol=1e-6)
    low, high = own["open_set"]["unknown"]["intervals"]["auroc"]
    assert low <= own["open_set"]["unknown"]["auroc"] <= high


def test_what_is_written_is_what_is_returned(run, rows):
    told = json.loads((run / "robustness.json").read_text(encoding="utf-8"))
    assert told["rows"] == rows
    assert (told["images"], told["steps"], told["restarts"], told["seed"]) == (300, 4, 2, 5)
    assert told["threshold"] == cplus1_keras.load(run).calibration.threshold
    assert (run / "robustness.png").stat().st_size > 10_000
    assert {own["without_gradient"] for own in rows[1:]} == {0.0}


def test_nothing_is_written_where_it_fails(run, tmp_path, monkeypatch, capsys):
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    monkeypatch.setattr(module.plots, "robustness", lambda *given, **more: 1 / 0)
    monkeypatch.setattr(module, "_rows", lambda *given: [])
    with pytest.raises(ZeroDivisionError):
        robustness(run, [0.1])
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    assert not [path for path in run.iterdir() if path.name.startswith(".")]
    for arguments, message in (
        ([str(tmp_path)], "no finished run"),
        ([str(run), "--epsilon", "0.1,26"], "share of the range of pixels"),
        ([str(run), "--epsilon", "much"], "could not convert"),
    ):
        with pytest.raises(SystemExit, match=message):
            main(arguments)


def test_the_command_line_reaches_all(monkeypatch):
    asked = {}
    monkeypatch.setattr(module, "robustness", lambda run, epsilon, **more: asked.update(more, run=run, epsilon=epsilon))
    main(["a_run", "--epsilon", "0.1,0.2", "--steps", "7", "--restarts", "2", "--images", "9", "--seed", "3"])
    assert asked == {
        "run": "a_run",
        "epsilon": [0.1, 0.2],
        "steps": 7,
        "restarts": 2,
        "images": 9,
        "seed": 3,
        "data": None,
        "config": None,
    }


def test_other_answers_are_refused_in_a_sentence(run, monkeypatch):
    predictor, experiment, splits = module.open_run(run)
    predictor.spec = serving.PixelSpec()
    monkeypatch.setattr(module, "open_run", lambda run, **more: (predictor, experiment, splits))
    with pytest.raises(ValueError, match=r"one class for each image.*answers with 'pixel'"):
        robustness(run, [0.1])
