"""Label sets through the one run: what it leaves is recomputed from the stored model and the splits by hand."""

import csv
import functools
import json
import types
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from sklearn import metrics as sklearn

import cplus1_keras
from cplus1_keras import backbones, data, heads, layers, losses, models
from cplus1_keras.experiment import Experiment
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.tasks import MultiLabel
from cplus1_keras.tasks import multilabel as module

NAMES = ["red", "green", "blue", "white", "dust"]
COLOURS = np.array([[60, 0, 0], [0, 60, 0], [0, 0, 60], [60, 0, 60], [20, 20, 20]])


def source(count, seed, name):
    """Noise with faint coloured squares in some of its 16 cells; in some images nobody looked for green."""
    rng = np.random.default_rng(seed)
    shown = rng.random((count, 5)) < [0.5, 0.3, 0.3, 0.15, 0.3]
    annotated = np.ones_like(shown)
    annotated[:, 1] = rng.random(count) < 0.8
    images = rng.integers(50, 150, (count, 16, 16, 3)).astype("uint8")
    for image, row in zip(images, shown, strict=True):
        cells = rng.permutation(16)
        for cell, c in zip(cells, np.flatnonzero(row), strict=False):
            y, x = 4 * (cell // 4), 4 * (cell % 4)
            image[y : y + 4, x : x + 4] += COLOURS[c].astype("uint8")
    groups = [f"{name}{i // 2}" for i in range(count)]
    fields = {"kind": "classes", "name": name, "arrays": {"image": images}, "groups": groups}
    return data.Source(NAMES, shown & annotated, annotated=annotated, **fields)


def splits(seed):
    protocol = data.Protocol(["red", "green", "blue"], unknown=["white"], others="ignored", name="squares")
    train, test = source(400, 1, "train"), source(160, 2, "test")
    return data.split(protocol, train, test, calibration_fraction=0.4, validation_fraction=0.1, seed=seed)


def build(num_classes):
    backbone = functools.partial(backbones.small_cnn, (16, 16, 3), filters=(16, 16), strides=(2, 1), pool=False)
    inner = models.classifier(num_classes, backbone, heads.CAMHead)
    images = keras.Input((16, 16, 3))
    return models.OpenSetModel(images, layers.Views(inner)(images))


def experiment(**changes):
    loss = losses.WeightedSigmoidLoss([0.4, 0.3, 0.3]) + 0.001 * losses.HNCMSELoss(top_k=2)
    loss += 0.01 * losses.AttentionConsistencyLoss()
    settings = {
        "name": "squares",
        "task": MultiLabel(augment=data.augment.random_flip(), top_k=2, pictures=3),
        "data": splits,
        "model": build,
        "loss": loss,
        "optimizer": keras.optimizers.Adam,
        "learning_rate": 1e-2,
        "epochs": 8,
        "batch_size": 16,
        "fpr": 0.15,
        "confidence": 0.8,
        "seed": 3,
    }
    return Experiment(**{**settings, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    keras.utils.disable_interactive_logging()
    yield experiment(), experiment().run(tmp_path_factory.mktemp("runs"))
    keras.utils.enable_interactive_logging()


def logits(directory, split):
    images = split.source.array.astype("float32")
    return keras.saving.load_model(directory / "model.keras", compile=False).predict(images, verbose=0)["logits"]


def report(directory):
    return json.loads((directory / "metrics.json").read_text(encoding="utf-8"))


def bound(accepted, n, confidence):
    return stats.beta.ppf(confidence, accepted + 1, n - accepted) if accepted < n else 1.0


def test_the_directory_is_complete(run):
    _, directory = run
    wanted = "model.keras config.json metrics.json calibration.json predictions.csv oscr.png maps.png logs saved_model"
    wanted += " evidence.json report.html"
    assert {path.name for path in directory.iterdir()} == set(wanted.split())


def test_thresholds_are_of_the_calibration_split_and_hold_together(run):
    trained, directory = run
    split = trained.data(trained.seed).calibration
    scores, found = logits(directory, split), cplus1_keras.load(directory).calibration
    assert (found.target, found.confidence, found.score) == (0.15, 0.8, "log_odds")
    groups = np.array(split.groups)
    for c, own in enumerate(found.classes):
        lacks = split.multi_hot[:, c] == 0
        assert own.samples == len(set(groups[lacks]))
        assert own.confidence == pytest.approx(1 - 0.2 / 3)
        assert own.accepted == np.sum(scores[lacks, c] >= found.thresholds[c])
        assert own.bound <= 0.15


def test_figures_are_those_of_the_test_split(run):
    trained, directory = run
    split, told = trained.data(trained.seed).test, report(directory)
    scores, truth = logits(directory, split), split.multi_hot
    seen = truth != IGNORE
    own = told["multi_label"]
    ap = [sklearn.average_precision_score(truth[k, c] == 1, scores[k, c]) for c, k in enumerate(seen.T)]
    assert own["map"] == pytest.approx(np.mean(ap))
    assert own["map"] > 0.7
    found = scores >= 0
    f1 = [sklearn.f1_score(truth[k, c] == 1, found[k, c]) for c, k in enumerate(seen.T)]
    assert own["cf1"] == pytest.approx(np.mean(f1))
    assert own["of1"] == pytest.approx(sklearn.f1_score(truth[seen] == 1, found[seen]))
    assert set(own) >= {"top_2", "calibrated"}
    strange = split.shows_unknown & ~(truth == 1).any(axis=1)
    assert 0 < strange.sum() < len(split)
    present, odd = scores[truth == 1], scores[(truth == 0) & strange[:, None]]
    labels = np.repeat([1, 0], [len(present), len(odd)])
    auroc = sklearn.roc_auc_score(labels, np.concatenate([present, odd]))
    assert told["open_set"]["unknown"]["auroc"] == pytest.approx(auroc, abs=1e-3)
    assert told["open_set"]["negative"]["members"] == ((truth == 0) & ~strange[:, None]).sum()


def test_thresholds_are_judged_on_the_test_split(run):
    trained, directory = run
    split, told = trained.data(trained.seed).test, report(directory)
    truth, thresholds = split.multi_hot, cplus1_keras.load(directory).calibration.thresholds
    found = logits(directory, split) >= thresholds
    shows = (truth == 1).any(axis=1)
    strange = split.shows_unknown & ~shows
    assert told["at_threshold"]["threshold"] == pytest.approx(thresholds)
    assert told["at_threshold"]["ccr"] == pytest.approx(found[truth == 1].mean())
    absent = truth == 0
    assert told["at_threshold"]["fpr_negative"] == pytest.approx(found[absent & ~strange[:, None]].mean())
    assert told["at_threshold"]["fpr_unknown"] == pytest.approx(found[absent & strange[:, None]].mean())
    ((name, row),) = told["by_class"].items()
    groups, odd = np.array(split.groups), absent & strange[:, None]
    shares = [found[groups == group][odd[groups == group]].mean() for group in np.unique(groups[strange])]
    assert (name, row["images"]) == ("white", len(shares))
    assert row["accepted"] == pytest.approx(np.mean(shares))
    recall = [found[truth[:, c] == 1, c].mean() for c in range(3)]
    assert told["multi_label"]["calibrated"]["cr"] == pytest.approx(np.mean(recall))
    none, all_absent = told["multi_label"]["none_of_these"], absent.all(axis=1)
    for kind, where in (("shows_known", shows), ("shows_unknown", strange), ("shows_none", all_absent & ~strange)):
        where = where & (all_absent | shows)
        assert none[kind]["images"] == where.sum()
        assert none[kind]["none_of_these"] == pytest.approx((~found[where].any(axis=1)).mean())


def test_the_predictor_the_table_and_the_saved_model_say_the_same(run):
    trained, directory = run
    split = trained.data(trained.seed).test
    images = split.source.array
    answer = cplus1_keras.load(directory).predict(images)
    with open(directory / "predictions.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = np.array(["red", "green", "blue"])
    for i, row in enumerate(rows):
        assert row["example"] == split.describe(i)
        assert row["shows"] == "; ".join(names[split.multi_hot[i] == 1])
        assert row["found"] == ("; ".join(names[answer["present"][i]]) or "none of these")
        assert row["shows_unknown"] == str(split.shows_unknown[i])
    scores = np.array([[row[f"score {name}"] for name in names] for row in rows], "float32")
    np.testing.assert_allclose(scores, answer["score"], rtol=1e-4, atol=1e-4)
    served = tf.saved_model.load(str(directory / "saved_model" / "1")).signatures["serving_default"]
    given = served(images=tf.constant(images.astype("float32")))
    np.testing.assert_array_equal(given["present"], answer["present"])
    np.testing.assert_array_equal(given["none"], answer["none"])


def test_pictures_show_as_many_images_as_asked_with_what_was_found(run):
    trained, directory = run
    split, predictor = trained.data(trained.seed).test, cplus1_keras.load(directory)
    figure = trained.task.draw(predictor, split, trained)
    rows = np.array(figure.axes).reshape(3, -1)
    images = split.source.array[[0, (len(split) - 1) // 2, len(split) - 1]]
    present = predictor.predict(images)["present"]
    for row, image, found in zip(rows, images, present, strict=True):
        np.testing.assert_array_equal(row[0].images[0].get_array(), image)
        titles = {axes.get_title().split(" ")[0] for axes in row[1:]} - {""}
        assert titles == set(np.array(["red", "green", "blue"])[found])


def test_labels_of_records():
    trained, parts = experiment(), splits(0)
    model = build(3)
    predictor = trained.task.predictor(model, trained.score, parts)
    records = list(trained.task.records(predictor, parts.test, trained))
    kinds = set()
    for i, record in enumerate(records):
        truth = parts.test.multi_hot[i]
        for c in range(3):
            if truth[c] == 1:
                wanted = c
            elif truth[c] == IGNORE:
                wanted = IGNORE
            else:
                wanted = UNKNOWN if parts.test.shows_unknown[i] and 1 not in truth else NEGATIVE
            assert record.labels[c] == wanted
            kinds.add(min(wanted, 0))
        assert record.predictions.tolist() == [0, 1, 2]
        assert record.group == parts.test.groups[i]
    assert kinds == {0, NEGATIVE, UNKNOWN, IGNORE}
    assert len(records) == len(parts.test)


def test_training_is_augmented_in_an_order_that_the_seed_decides():
    model, train = build(3), splits(0).train
    calls = []

    def darken(example, seed):
        calls.append(seed.shape)
        return {**example, "image": tf.zeros_like(example["image"])}

    first, again, other, plain = (
        next(iter(experiment(task=task, seed=seed).task.training(model, train, experiment(task=task, seed=seed))))
        for task, seed in (
            (MultiLabel(), 3),
            (MultiLabel(), 3),
            (MultiLabel(), 4),
            (MultiLabel(augment=darken), 3),
        )
    )
    assert first[0].shape == (16, 16, 16, 3)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1]["multi_hot"], again[1]["multi_hot"])
    assert np.any(first[0] != other[0])
    assert calls
    assert not np.any(plain[0])
    trained = experiment(task=MultiLabel())
    from_start = list(trained.task.training(model, train, trained).take(3))
    later = next(iter(trained.task.training(model, train, trained, first_step=2)))
    np.testing.assert_array_equal(later[0], from_start[2][0])
    assert np.any(later[0] != from_start[0][0])


def test_too_few_images_without_a_class_are_told_before_training(tmp_path):
    parts = splits(3)
    sets, groups = parts.calibration.multi_hot, np.array(parts.calibration.groups)
    lacks = [len({*groups[sets[:, c] == 0]}) for c in range(3)]
    assert lacks[0] < (sets[:, 0] == 0).sum()
    with pytest.raises(ValueError, match=rf"for 3 classes at a rate of 0.01.*red: {lacks[0]} of 514"):
        experiment(fpr=0.01, confidence=0.95).run(tmp_path)
    assert not list(tmp_path.iterdir())
    experiment().task.check(experiment(), parts)
    # Groups of two images are proved by their means, which takes more than as many single images.
    assert 53 <= min(lacks) < 71
    with pytest.raises(ValueError, match=r"at a rate of 0\.05"):
        experiment(fpr=0.05).task.check(experiment(fpr=0.05), parts)
    every = experiment(fpr=0.05).task
    predictor = every.predictor(build(3), experiment().score, parts)
    with pytest.raises(ValueError, match=r"Class 'red'.*at least 71"):
        every.calibrate(predictor, parts.calibration, experiment(fpr=0.05))


def test_a_model_without_maps_draws_none(tmp_path):
    parts = splits(0)

    def plain(num_classes):
        backbone = functools.partial(backbones.small_cnn, (16, 16, 3), features=8)
        return models.classifier(num_classes, backbone, heads.LinearHead)

    trained = experiment(model=plain, loss=losses.MultiLabelCrossEntropyLoss())
    every = trained.task.predictor(plain(3), trained.score, parts)
    found = trained.task.calibrate(every, parts.calibration, trained)
    figures, judged = trained.task.judge(every, parts.test, trained, found)
    calibrated = trained.task.with_calibration(every, found)
    files = trained.task.write(tmp_path, calibrated, parts.test, trained, figures, judged)
    assert "maps.png" not in files
    assert {path.name for path in tmp_path.iterdir()} == set(files)


def test_images_that_lack_a_class_are_counted():
    """At 20 % and 1 - 0.2/2 = 90 % single images need ln 0.1 / ln 0.8 = 10.3, groups of two 14; IGNORE is no lack."""

    def of(there, groups=None, hidden=0):
        shows = np.array([[0, 1]] * there + [[1, 0]] * 30 + [[IGNORE, 1]] * hidden)
        names = [str(i) for i in range(len(shows))] if groups is None else groups
        protocol = types.SimpleNamespace(class_names=["red", "green"])
        return types.SimpleNamespace(multi_hot=shows, groups=names, protocol=protocol)

    settings, check = types.SimpleNamespace(fpr=0.2, confidence=0.8), MultiLabel().check_rate
    check(settings, of(11))
    check(settings, of(11, hidden=3))
    with pytest.raises(ValueError, match=r"without a class: red: 10 of 11\. Raise"):
        check(settings, of(10, hidden=3))
    pairs = [*np.repeat(np.arange(14), 2), *range(100, 130)]
    check(settings, of(28, pairs))
    with pytest.raises(ValueError, match=r"without a class: red: 13 of 14\. Raise"):
        check(settings, of(26, pairs[2:]))
    with pytest.raises(ValueError, match=r"at a rate of 0\.001.*80% confidence.*red: 11 of 2,302, green: 30 of 2,302"):
        check(types.SimpleNamespace(fpr=0.001, confidence=0.8), of(11))


class Fixed:
    """A predictor's names and calibration, and one that is judged with other thresholds."""

    class_names, num_classes = ["ä", "b"], 2

    def __init__(self, thresholds=None):
        self.calibration = None if thresholds is None else types.SimpleNamespace(thresholds=np.float32(thresholds))


def record(truth, scores, none, strange=False):
    truth = np.array(truth)
    labels = np.where(truth == 1, [0, 1], np.where(truth == 0, UNKNOWN if strange else NEGATIVE, IGNORE))
    more = {"multi_hot": truth, "none": none, "present": np.array(scores) >= 0}
    return module.Record(labels, np.arange(2), np.float32(scores), "", more)


RECORDS = [
    record([1, 0], [2.0, -1.0], False),
    record([1, 1], [-2.0, -1.0], True),
    record([0, 0], [-2.0, 0.5], False),
    record([0, 0], [-2.0, -0.5], True, strange=True),
    record([0, 0], [0.5, -0.5], False, strange=True),
    record([0, IGNORE], [-2.0, -0.5], True),  # nobody knows whether it shows none
]


def test_own_figures_by_hand():
    accumulator = MultiLabel(top_k=1).figures(Fixed([1.0, -0.75]), None)["multi_label"]
    for own in RECORDS:
        accumulator.update(own)
    found = accumulator.result()
    assert (found["images"], [*found["classes"]]) == (6, ["ä", "b"])
    assert found["classes"]["ä"]["recall"] == 0.5
    assert "top_1" in found
    assert (found["or"], found["calibrated"]["or"]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert (found["op"], found["calibrated"]["op"]) == (pytest.approx(1 / 3), pytest.approx(1 / 4))
    assert not [name for name in found["calibrated"] if name.startswith("top")]
    assert found["none_of_these"] == {
        "shows_known": {"images": 2, "none_of_these": 0.5},
        "shows_none": {"images": 1, "none_of_these": 0.0},
        "shows_unknown": {"images": 2, "none_of_these": 0.5},
    }
    alone = MultiLabel().figures(Fixed(), None)["multi_label"]
    alone.update(RECORDS[0])
    assert {"top_3", "map"} < set(alone.result())
    assert {"calibrated", "none_of_these"}.isdisjoint(alone.result())
    other = MultiLabel().figures(Fixed([0, 0]), None)["multi_label"]
    other.update(RECORDS[0])
    assert other.result()["none_of_these"]["shows_unknown"] == {"images": 0, "none_of_these": None}


def test_tables_have_a_row_for_the_calibrated_thresholds(monkeypatch):
    monkeypatch.setattr(module.metrics.multilabel, "table", lambda rows: rows)
    both = {"map": 1, "calibrated": {"map": 2}}
    assert MultiLabel().tables({"multi_label": both}) == [{"p >= 1/2": both, "calibrated": {"map": 2}}]
    assert MultiLabel().tables({"multi_label": {"map": 1}}) == [{"p >= 1/2": {"map": 1}}]


WITH = {"cams": 1}


@pytest.mark.parametrize(("outputs", "pictures", "maps"), [(WITH, 2, True), (WITH, 0, False), ({}, 2, False)])
def test_a_line_for_each_image_and_a_row_of_maps(tmp_path, monkeypatch, outputs, pictures, maps):
    task, drawn = MultiLabel(pictures=pictures), mock.Mock()
    monkeypatch.setattr(module.Task, "write", lambda *given: ["oscr.png"])
    monkeypatch.setattr(MultiLabel, "records", lambda *given: iter(RECORDS))
    monkeypatch.setattr(MultiLabel, "draw", drawn)
    split = types.SimpleNamespace(describe=lambda i: f"image {i}", shows_unknown=np.arange(6) % 3 == 0)
    predictor = Fixed([0, 0])
    predictor.model = types.SimpleNamespace(output=outputs)
    files = task.write(tmp_path, predictor, split, "experiment", {}, None)
    assert files == ["oscr.png", "predictions.csv", *["maps.png"] * maps]
    assert drawn.called == maps
    if maps:
        drawn.assert_called_once_with(predictor, split, "experiment")
        drawn.return_value.savefig.assert_called_once_with(tmp_path / "maps.png")
    lines = (tmp_path / "predictions.csv").read_text(encoding="utf-8").splitlines()
    assert lines[:4] == [
        "example,shows,shows_unknown,found,score ä,score b",
        "image 0,ä,True,ä,2.0,-1.0",
        "image 1,ä; b,False,none of these,-2.0,-1.0",
        "image 2,,False,b,-2.0,0.5",
    ]
    assert len(lines) == 7


def test_thresholds_are_one_for_each_class(monkeypatch):
    task, given = MultiLabel(), []
    monkeypatch.setattr(module.Task, "judge", lambda task, *arguments: given.append(arguments))
    monkeypatch.setattr(MultiLabel, "with_calibration", lambda task, predictor, found: ("calibrated", predictor, found))
    found = types.SimpleNamespace(thresholds=[1, 2])
    task.judge("every", "split", "experiment", found, "watch")
    task.judge("every", "split", "experiment")
    (one, *_, threshold, watch), (other, *_, none, _) = given
    assert (one, threshold.threshold, watch) == (("calibrated", "every", found), [1, 2], "watch")
    assert (other, none) == (("calibrated", "every", None), None)


def test_maps_are_drawn_in_inference_mode_with_the_truth(monkeypatch):
    drawn, split = mock.Mock(), mock.MagicMock(__len__=lambda self: 9)
    monkeypatch.setattr(module.plots, "activation_maps", drawn)
    inputs = keras.Input((2, 2, 1))
    brighter = keras.layers.RandomBrightness([0.5, 0.5])  # by default it is in training mode
    predictor = mock.Mock(model=keras.Model(inputs, {"cams": brighter(inputs) + 1.0}), class_names=["a"])
    predictor.predict = lambda images: {"present": images[:, 0, 0] > 3, "score": images[:, 0, 0]}
    pixels = np.arange(5.0, dtype="float32")[:, None, None, None] * np.ones((1, 2, 2, 1), "float32")
    batches = [(tf.constant(part), {"multi_hot": part[:, 0, 0]}) for part in (pixels[:3], pixels[3:])]
    monkeypatch.setattr(MultiLabel, "images", lambda task, *given: batches if given[1] is split.subset() else None)
    experiment = mock.Mock()
    experiment.name = "some"
    figure = MultiLabel(pictures=3).draw(predictor, split, experiment)
    assert figure is drawn.return_value
    assert split.subset.mock_calls[0].args[0].tolist() == [0, 4, 8]
    (images, cams, present, scores, names, truth), more = drawn.call_args
    np.testing.assert_array_equal(images, pixels)
    np.testing.assert_array_equal(cams, pixels + 1)
    assert (scores.ravel().tolist(), truth.ravel().tolist()) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
    assert present.ravel().tolist() == [False] * 4 + [True]
    assert (names, more) == (["a"], {"title": "some"})


def test_no_setting_of_the_run_is_a_default(defaults):
    """But those of which label sets make nothing, and what the other runs set."""
    others = {"schedule", "steps", "interval", "patience", "note", "sampling", "repeat_threshold"}
    assert defaults(experiment()) == {"score", "coverage"} | others
    assert defaults(experiment().task) == set()
