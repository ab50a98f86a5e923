"""A run of classification by what it leaves: recomputed from the stored model and the splits, every setting another."""

import csv
import dataclasses
import functools
import json
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

import cplus1_keras
from cplus1_keras import calibration, configs, data, heads, losses, models, scores
from cplus1_keras.experiment import Experiment
from cplus1_keras.labels import UNKNOWN
from cplus1_keras.monitoring import OpenSetMonitor, make_monitor
from cplus1_keras.run import build, fit
from cplus1_keras.tasks import Classification
from cplus1_keras.tasks import classification as module

NAMES = ("0", "3", "5")


def splits(seed):
    roles = {"known": NAMES, "negative": ("6", "7"), "unknown": ("8", "9"), "far": ("9",)}
    protocol = data.Protocol(**roles, others="ignored", name="some")
    return data.split(
        protocol,
        data.sources.digits(),
        validation_fraction=0.15,
        calibration_classes=("7",),
        test_fraction=0.3,
        seed=seed,
    )


def net():
    images = keras.Input((8, 8, 1))
    return keras.Model(images, keras.layers.Dense(24, "relu")(keras.layers.Flatten()(images / 16)))


@pytest.fixture(scope="module")
def experiment():
    """Every field has a value that is not its default."""
    return Experiment(
        name="wired",
        task=Classification(augment=data.augment.random_crop(padding=1), negative_fraction=0.25, symmetric_noise=0.15),
        data=splits,
        model=functools.partial(models.classifier, backbone=net, head=heads.LinearHead),
        loss=losses.EntropicOpenSetLoss() + 0.02 * losses.MagnitudeLoss(radius=8.0),
        optimizer=functools.partial(keras.optimizers.SGD, momentum=0.9),
        learning_rate=0.02,
        schedule=lambda rate, steps: keras.optimizers.schedules.PolynomialDecay(rate, steps, 1e-3),
        epochs=5,
        batch_size=24,
        score=scores.max_logit,
        fpr=0.13,
        coverage=0.9,
        confidence=0.8,
        sampling="repeat_factor",
        repeat_threshold=0.15,
        seed=7,
        note="Of the held-out class alone.",
    )


@pytest.fixture(scope="module")
def run(experiment, tmp_path_factory):
    return experiment.run(tmp_path_factory.mktemp("runs"), command={"config": "nowhere", "set": []})


@pytest.fixture(scope="module")
def outputs(run, experiment):
    """Logits of the stored model, by split, by Keras alone."""
    model = keras.saving.load_model(run / "model.keras", compile=False)
    parts = splits(experiment.seed)

    def predict(split):
        images = np.stack([example["image"] for example in split.dataset().as_numpy_iterator()]).astype("float32")
        return model.predict(images, verbose=0)["logits"]

    return {name: predict(getattr(parts, name)) for name in ("calibration", "test")}, parts


def read(run, name):
    return json.loads((run / name).read_text(encoding="utf-8"))


def table(run):
    with open(run / "predictions.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def test_the_directory_is_complete(run):
    names = {path.name for path in run.iterdir()}
    wanted = "model.keras config.json metrics.json calibration.json predictions.csv oscr.png scores.png "
    wanted += "evidence.json report.html"
    assert names == {*wanted.split(), "accepted_unknowns.png", "logs", "saved_model"}
    assert list((run / "logs").rglob("events*"))


def test_the_threshold_is_that_of_the_held_out_class_at_the_rates_of_the_experiment(run, outputs):
    logits, parts = outputs
    labels = parts.calibration.labels
    assert {parts.calibration.class_name(i) for i in np.flatnonzero(labels == -1)} == {"7"}
    expected = calibration.threshold_at_fpr(logits["calibration"].max(-1)[labels == -1], 0.13, 0.8, score="max_logit")
    found = read(run, "metrics.json")["calibration"]
    assert found["threshold"] == pytest.approx(expected.threshold, rel=1e-5)
    assert (found["samples"], found["accepted"], found["rule"]) == (expected.samples, expected.accepted, "fpr")
    assert (found["target"], found["confidence"], found["score"]) == (0.13, 0.8, "max_logit")
    assert read(run, "calibration.json")["calibration"] == found


def test_figures_are_those_of_the_test_split(run, outputs):
    logits, parts = outputs
    labels, score = parts.test.labels, logits["test"].max(-1)
    report, known = read(run, "metrics.json"), parts.test.labels >= 0
    right = logits["test"].argmax(-1) == labels
    for group, label in (("negative", -1), ("unknown", -2)):
        inside = known | (labels == label)
        figures = report["open_set"][group]
        assert figures["auroc"] == pytest.approx(roc_auc_score(labels[inside] >= 0, score[inside]))
        assert figures["accuracy"] == pytest.approx(right[known].mean())
        assert figures["members"] == (labels == label).sum()
    accepted = score >= np.float32(report["calibration"]["threshold"])
    at = report["at_threshold"]
    assert at["ccr"] == pytest.approx((right & accepted)[known].mean())
    assert at["coverage"] == pytest.approx(accepted[known].mean())
    assert at["fpr_unknown"] == pytest.approx(accepted[labels == -2].mean())
    assert at["fpr_negative"] == pytest.approx(accepted[labels == -1].mean())
    assert report["images"] == len(labels)
    names = np.array([parts.test.class_name(i) for i in range(len(labels))])
    assert set(report["by_class"]) == set(names[labels < 0])
    for name, row in report["by_class"].items():
        assert (row["images"], row["accepted"]) == (
            (names == name).sum(),
            pytest.approx(accepted[names == name].mean()),
        )
    assert set(report["open_set"]) == {"negative", "unknown", "near", "far"}
    for kind, name in (("near", "8"), ("far", "9")):
        inside = known | (names == name)
        assert report["open_set"][kind]["auroc"] == pytest.approx(roc_auc_score(labels[inside] >= 0, score[inside]))
        own, count, there = report["by_distance"][kind], int(accepted[names == name].sum()), int((names == name).sum())
        ends = binomtest(count, there).proportion_ci(0.95)
        assert (own["images"], own["accepted"]) == (there, pytest.approx(count / there))
        assert own["interval"] == pytest.approx([ends.low, ends.high])


def test_predictions_are_told_image_by_image(run, outputs):
    logits, parts = outputs
    rows, threshold = table(run), np.float32(read(run, "metrics.json")["calibration"]["threshold"])
    np.testing.assert_array_equal(rows["label"].astype(int), parts.test.labels)
    np.testing.assert_allclose(rows["score"].astype("float32"), logits["test"].max(-1), rtol=1e-5)
    np.testing.assert_array_equal(rows["prediction"].astype(int), logits["test"].argmax(-1))
    accepted = rows["score"].astype("float32") >= threshold
    names = np.array(NAMES)[logits["test"].argmax(-1)]
    np.testing.assert_array_equal(rows["answer"], np.where(accepted, names, "unknown"))
    assert [parts.test.class_name(i) for i in range(len(parts.test))] == rows["true_class"].tolist()
    assert rows["example"][3] == parts.test.describe(3)


def test_the_run_answers_as_its_predictions_say_and_as_the_saved_model_does(run, outputs):
    _, parts = outputs
    images = np.stack([example["image"] for example in parts.test.dataset().as_numpy_iterator()])
    predictor = cplus1_keras.load(run)
    answer = predictor.predict(images)
    assert tuple(predictor.class_names) == NAMES
    np.testing.assert_array_equal(answer["class_name"], table(run)["answer"])
    served = tf.saved_model.load(str(run / "saved_model" / "1")).signatures["serving_default"]
    np.testing.assert_array_equal(served(images=tf.constant(images, tf.float32))["class_id"], answer["class_id"])


def test_the_config_tells_the_settings_and_how_to_run_again(run):
    config = read(run, "config.json")
    assert config["command"] == {"config": "nowhere", "set": []}
    assert (config["epochs"], config["batch_size"], config["seed"], config["learning_rate"]) == (5, 24, 7, 0.02)
    assert config["task"]["negative_fraction"] == 0.25
    assert "MagnitudeLoss" in json.dumps(config["loss"])
    assert "random_crop" in json.dumps(config["task"])
    assert read(run, "metrics.json")["note"] == config["note"] == "Of the held-out class alone."


def test_what_fit_gets(experiment, tmp_path, monkeypatch):
    given = {}

    def spy(model, batches, **settings):
        given.update(settings, batches=batches, model=model)
        return keras.callbacks.History()

    parts = splits(7)
    model = build(experiment, parts)
    monkeypatch.setattr(type(model), "fit", spy)
    fit(model, experiment, parts, tmp_path)
    steps = data.steps_per_epoch(parts.train, 24, 0.25)
    assert steps == round((parts.train.labels >= 0).sum() / 0.75) // 24
    assert (given["epochs"], given["steps_per_epoch"], given["initial_epoch"], given["shuffle"]) == (5, steps, 0, False)
    expected = data.training(
        parts.train, 24, image_size=(8, 8), channels=1, augment=experiment.task.augment, negative_fraction=0.25, seed=7
    )
    for (images, labels), (others, more), _ in zip(given["batches"], expected, range(4), strict=False):
        np.testing.assert_array_equal(images, others)
        np.testing.assert_array_equal(labels, more)
        assert (labels.numpy() == -1).sum() == 6
    (watch,) = (own for own in given["callbacks"] if isinstance(own, OpenSetMonitor))
    validation = np.concatenate([labels for _, labels in watch.sources["validation"]])
    np.testing.assert_array_equal(validation, parts.validation.labels)
    names = [type(callback).__name__ for callback in given["callbacks"]]
    assert names.index("StopOnNaN") < names.index("Checkpoint")
    assert names.index("OpenSetMonitor") < names.index("TensorBoard")
    optimizer = model.optimizer
    assert isinstance(optimizer, keras.optimizers.SGD)
    assert float(optimizer._learning_rate(5 * steps)) == pytest.approx(1e-3)
    assert float(optimizer._learning_rate(0)) == pytest.approx(0.02)


def test_seeds_make_runs_equal_and_different(experiment, run, tmp_path):
    again = dataclasses.replace(experiment, name="again").run(tmp_path)
    assert (again / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()
    other = dataclasses.replace(experiment, name="other", seed=8).run(tmp_path)
    assert (
        read(other, "metrics.json")["calibration"]["threshold"] != read(run, "metrics.json")["calibration"]["threshold"]
    )


def test_a_stopped_run_goes_on_exactly(experiment, run, tmp_path, monkeypatch):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr("cplus1_keras.run.StopOnNaN", lambda *arguments: Stop())
        with pytest.raises(KeyboardInterrupt):
            experiment.run(tmp_path)
    directory = tmp_path / "wired"
    assert {path.name for path in (directory / "checkpoints").iterdir()} == {"epoch-000001", "epoch-000002"}
    experiment.run(resume=directory)
    assert (directory / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()
    assert read(directory, "metrics.json")["calibration"] == read(run, "metrics.json")["calibration"]
    assert not (directory / "checkpoints").exists()


def test_a_training_is_kept_when_its_judging_fails_and_finished_without_training(
    experiment, run, tmp_path, monkeypatch
):
    def broken(*arguments):
        raise ValueError("no figures")

    with monkeypatch.context() as context:
        context.setattr(Classification, "judge", broken)
        with pytest.raises(ValueError, match="no figures"):
            experiment.run(tmp_path)
    directory = tmp_path / "wired"
    assert (directory / "model.keras").is_file()
    monkeypatch.setattr(
        data, "training", lambda *arguments, **settings: iter([(np.zeros((24, 8, 8, 1)), np.zeros(24))])
    )
    experiment.run(resume=directory)
    assert read(directory, "metrics.json")["open_set"] == read(run, "metrics.json")["open_set"]


def test_a_loss_without_negatives_trains_without_them_and_calibrates_on_knowns_where_there_are_none(
    experiment, tmp_path
):
    def knowns_only(seed):
        protocol = data.Protocol(known=("0", "1", "2"), unknown=("8",), others="ignored")
        return data.split(protocol, data.sources.digits(), seed=seed)

    plain = dataclasses.replace(experiment, loss=losses.CrossEntropyLoss())
    batch = next(iter(plain.task.training(build(plain, splits(7)), splits(7).train, plain)))
    assert (batch[1].numpy() >= 0).all()
    knowns = dataclasses.replace(plain, data=knowns_only, epochs=2, name="knowns")
    record = read(knowns.run(tmp_path), "calibration.json")["calibration"]
    assert (record["rule"], record["target"]) == ("coverage", 0.9)
    with pytest.raises(ValueError, match="learns from negatives"):
        dataclasses.replace(knowns, loss=losses.EntropicOpenSetLoss()).run(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1  # told before anything is written


def test_the_sheet_shows_accepted_unknowns_the_surest_first(run, outputs, monkeypatch):
    logits, parts = outputs
    drawn = {}

    def spy(images, predicted, true, scores_, threshold, title):
        drawn.update(images=images, predicted=predicted, true=true, scores=scores_, title=title)

    from cplus1_keras.tasks import classification

    monkeypatch.setattr(classification.plots, "accepted_unknowns", spy)
    score, labels = logits["test"].max(-1), parts.test.labels
    threshold = float(np.quantile(score[labels == -2], 0.6))
    classification.accepted_unknowns(parts.test, logits["test"].argmax(-1), score, threshold, NAMES, limit=5)
    accepted = np.flatnonzero((labels == -2) & (score >= threshold))
    surest = accepted[np.argsort(-score[accepted], kind="stable")][:5]
    np.testing.assert_array_equal(drawn["scores"], score[surest])
    assert drawn["true"] == [parts.test.class_name(i) for i in surest]
    examples = list(parts.test.dataset().as_numpy_iterator())
    np.testing.assert_array_equal(drawn["images"], [examples[i]["image"] for i in surest])
    assert f"{len(accepted):,} of {(labels == -2).sum():,} unknowns accepted, the 5 surest" in drawn["title"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"epochs": 0}, "`epochs` must be above 0"),
        ({"epochs": None}, "give one of them"),
        ({"steps": 10}, "give one of them"),
        ({"learning_rate": -1.0}, "`learning_rate` must be above 0"),
        ({"fpr": 10}, r"`fpr` is a rate in \(0, 1\)"),
        ({"confidence": 95}, r"`confidence` is a rate in \(0, 1\)"),
        ({"epochs": None, "steps": 20_011, "interval": 1000}, "multiple of a number near `interval`, 1000.*Take 20000"),
    ],
)
def test_mistakes_in_an_experiment_are_told(experiment, changes, told):
    with pytest.raises(ValueError, match=told):
        dataclasses.replace(experiment, **changes)


def some_split(labels):
    """A test split of 2 x 2 images whose pixels are their number."""
    numbers = np.arange(len(labels))
    images = np.broadcast_to(numbers[:, None, None, None], (len(labels), 2, 2, 1)).astype("uint8")
    names = ("a", "b", "c")
    classes = np.where(np.array(labels) == UNKNOWN, 2, labels)
    source = data.sources.arrays(images, labels=classes, class_names=names)
    return data.splits.Split("test", source, data.Protocol(known=names[:2], unknown=names[2:]))


def sheet(split, scores, threshold, monkeypatch, **limit):
    drawn = mock.Mock()
    monkeypatch.setattr(module.plots, "accepted_unknowns", drawn)
    figure = module.accepted_unknowns(split, np.zeros(len(split), int), scores, threshold, ["a", "b"], **limit)
    assert figure is drawn.return_value
    (images, predicted, true, shown, passed), more = drawn.call_args
    assert (predicted, true, passed) == (["a"] * len(images), ["c"] * len(images), threshold)
    return [int(image[0, 0, 0]) for image in images], shown.tolist(), more["title"]


def test_the_sheet_by_hand(monkeypatch):
    split = some_split([0, UNKNOWN, UNKNOWN, 1, UNKNOWN])
    scores = np.array([9, 0.5, 0.25, 9, 0.75])
    assert sheet(split, scores, 0.5, monkeypatch)[:2] == ([4, 1], [0.75, 0.5])  # one lies at the threshold
    title = "2 of 3 unknowns accepted{}\ntrue class → taken for, score"
    assert sheet(split, scores, 0.5, monkeypatch)[2] == title.format("")
    assert sheet(split, scores, 0.5, monkeypatch, limit=1)[2] == title.format(", the 1 surest of them")
    assert sheet(split, scores, 0.8, monkeypatch) == ([], [], "None of 3 unknowns was accepted")
    assert sheet(some_split([0, 1]), scores[:2], 0.1, monkeypatch) == ([], [], "The test set has no unknowns")
    many = some_split([UNKNOWN] * 60)
    alike = np.arange(60) % 2.0
    assert sheet(many, alike, 0.0, monkeypatch)[0] == [*range(1, 60, 2), *range(0, 20, 2)]  # 40, in order where alike


def test_a_line_for_each_image(tmp_path):
    file = tmp_path / "predictions.csv"
    scores = np.array([0.1, 0.2, 0.1], "float32")
    module.write_predictions(
        file, some_split([1, 0, UNKNOWN]), np.array([0, 1, 1]), scores, np.float32(0.1), ["ä", "b"]
    )
    assert file.read_text(encoding="utf-8").splitlines() == [
        "example,true_class,label,prediction,score,answer",
        "arrays[0],b,1,0,0.10000000149011612,ä",
        "arrays[1],a,0,1,0.20000000298023224,b",
        "arrays[2],c,-2,1,0.10000000149011612,b",
    ]
    module.write_predictions(file, some_split([1]), np.array([0]), scores[:1], 0.11, ["ä", "b"])
    assert file.read_text(encoding="utf-8").splitlines()[1].endswith("0.10000000149011612,unknown")


def test_pictures_are_of_the_judged_split(monkeypatch, tmp_path):
    drawn = mock.Mock()
    for name in ("oscr", "histogram"):
        monkeypatch.setattr(module.plots, name, getattr(drawn, name))
    for name in ("accepted_unknowns", "write_predictions"):
        monkeypatch.setattr(module, name, getattr(drawn, name))
    found = mock.Mock(threshold=0.5, score="energy")
    predictor = mock.Mock(calibration=found, class_names=["a"])
    judged = mock.Mock(groups=["unknown"], arrays=("labels", "predictions", "scores"))
    files = Classification().write(tmp_path, predictor, "split", mock.Mock(), {}, judged)
    assert files == ["oscr.png", "scores.png", "accepted_unknowns.png", "predictions.csv"]
    drawn.histogram.assert_called_once_with("labels", "scores", 0.5, score_name="energy")
    drawn.histogram().savefig.assert_called_once_with(tmp_path / "scores.png")
    drawn.accepted_unknowns.assert_called_once_with("split", "predictions", "scores", 0.5, ["a"])
    drawn.accepted_unknowns().savefig.assert_called_once_with(tmp_path / "accepted_unknowns.png")
    told = tmp_path / "predictions.csv", "split", "predictions", "scores", 0.5, ["a"]
    drawn.write_predictions.assert_called_once_with(*told)


def test_no_setting_of_the_run_is_a_default(experiment, defaults):
    """But those that `test_segmentation` sets, and `patience`, which `test_run` spies on."""
    assert defaults(experiment) == {"steps", "interval", "patience"}
    # There is one kind of noise at most; `by_class` takes more classes than there are.
    assert defaults(experiment.task) == {"circular_noise", "crop", "mixup", "by_class"}


def test_label_noise_trains_and_is_told(experiment, run, outputs):
    """The training labels are those of the noise at the run's seed; no other split was touched, see `outputs`."""
    spoilt = data.noise.spoil(splits(7), data.noise.symmetric, 0.15, seed=7)
    seen = experiment.splits()
    np.testing.assert_array_equal(seen.train.labels, spoilt.train.labels)
    assert (
        read(run, "metrics.json")["noisy_labels"]
        == spoilt.noisy
        == (outputs[1].train.labels != seen.train.labels).sum()
    )
    for name in ("config.json", "metrics.json"):
        assert read(run, name)["task"]["symmetric_noise"] == 0.15
    circular = dataclasses.replace(experiment, task=Classification(circular_noise=0.3)).splits()
    expected = data.noise.spoil(splits(7), data.noise.circular, 0.3, seed=7)
    np.testing.assert_array_equal(circular.train.labels, expected.train.labels)
    assert configs.resolve("digits", ["circular_noise=0.3"]).task.circular_noise == 0.3
    for rates in ((1.2, 0.0), (0.0, -0.1), (0.1, 0.1)):
        with pytest.raises(ValueError, match="Label noise is"):
            Classification(symmetric_noise=rates[0], circular_noise=rates[1])


def test_noise_is_what_fit_gets(experiment, tmp_path, monkeypatch):
    asked = []

    def spy(split, *given, **more):
        asked.append(split)
        raise RuntimeError("enough")

    monkeypatch.setattr(data, "training", spy)
    with pytest.raises(RuntimeError, match="enough"):
        experiment.run(tmp_path)
    assert (asked[0].labels != splits(7).train.labels).any()


def several(seed):
    """Two digits known, seven negative, of which the last four only calibrate."""
    protocol = data.Protocol(known=("0", "1"), negative=tuple("2345678"), others="ignored")
    return data.split(protocol, data.sources.digits(), calibration_classes=tuple("5678"), seed=seed)


def by_classes(by_class=False, **more):
    """An experiment on these classes."""
    settings = {"data": several, "fpr": 0.45, "confidence": 0.6, "score": scores.max_logit}
    return dataclasses.replace(configs.resolve("digits"), task=Classification(by_class=by_class), **settings | more)


@pytest.fixture(scope="module")
def judged():
    """Splits, a predictor without training, and scores and class names of the negatives that calibrate."""
    parts = several(0)
    keras.utils.set_random_seed(2)
    predictor = Classification().predictor(models.classifier(2, net, heads.LinearHead), scores.max_logit, parts)
    split = parts.calibration
    images = np.stack([example["image"] for example in split.dataset().as_numpy_iterator()])
    chosen = np.flatnonzero(split.labels == -1)
    return parts, predictor, predictor.predict(images)["score"][chosen], [split.class_name(i) for i in chosen]


def test_what_is_said_of_classes_never_seen(judged):
    parts, predictor, values, classes = judged
    assert set(classes) == set("5678")
    experiment = by_classes()
    found = experiment.task.find_threshold(predictor, parts, experiment)
    plain = calibration.threshold_at_fpr(values, 0.45, 0.6, score="max_logit")
    assert dataclasses.replace(found, new_classes=None, sample=None) == dataclasses.replace(plain, sample=None)
    assert found.new_classes == calibration.judge_new_classes(values, classes, plain.threshold, 0.45, 0.6)
    assert (found.new_classes.classes, found.new_classes.worst in set("5678")) == (4, True)


def test_classes_that_train_say_nothing(judged):
    """Where the 5s train, three classes are left; where one alone does not train, nothing is said."""
    parts, predictor, _, _ = judged
    held = dataclasses.replace(parts.train, source=parts.calibration.source)
    names = np.array([held.class_name(index) for index in range(len(held))])
    experiment, free = by_classes(), by_classes(loss=losses.CrossEntropyLoss())
    for own, count in (("5", 3), ("567", None)):
        train = held.subset(np.flatnonzero(np.isin(names, ["0", "1", *own])))
        spoilt = dataclasses.replace(parts, train=train)
        found = experiment.task.find_threshold(predictor, spoilt, experiment).new_classes
        assert getattr(found, "classes", None) == count
        # A loss without a use for negatives trains on none of them.
        assert free.task.find_threshold(predictor, spoilt, free).new_classes.classes == 4


def test_a_threshold_by_class(judged):
    parts, predictor, values, classes = judged
    assert calibration.images_needed(0.45, 0.6, single=False) <= 4
    experiment = by_classes(by_class=True)
    experiment.task.check(experiment, parts)
    found = experiment.task.find_threshold(predictor, parts, experiment)
    expected = calibration.threshold_at_fpr(values, 0.45, 0.6, "max_logit", groups=classes)
    assert dataclasses.replace(found, new_classes=None) == expected
    assert found.new_classes.kept
    assert found.samples == 4
    watched = dataclasses.replace(parts, validation=dataclasses.replace(parts.calibration, name="validation"))
    watch = make_monitor(predictor.model, experiment, watched, "logs", None)
    records = (own._replace(group="") for own in experiment.task.records(predictor, parts.calibration, experiment))
    assert watch.calibrate(records) == expected
    with pytest.raises(ValueError, match=r"`by_class`.*takes 38 negative classes.*there are 4"):
        experiment.task.check(by_classes(by_class=True, fpr=0.1, confidence=0.95), parts)
    assert "by_class" in experiment.task.promises
