"""The main job, small: what a run leaves behind is complete, agrees with itself and can be used."""

import csv
import dataclasses
import functools
import json
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

import cplus1_keras
from cplus1_keras import configs, data, heads, losses
from cplus1_keras.tasks import classification


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    keras.utils.disable_interactive_logging()
    experiment = dataclasses.replace(configs.resolve("digits"), epochs=4)
    yield experiment, classification.run(experiment, tmp_path_factory.mktemp("runs"))
    keras.utils.enable_interactive_logging()


def predictions(directory):
    with open(directory / "predictions.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def test_the_directory_is_complete(run):
    _, directory = run
    names = {path.name for path in directory.iterdir()}
    wanted = "model.keras config.json metrics.json calibration.json predictions.csv oscr.png scores.png"
    assert names == {*wanted.split(), "accepted_unknowns.png", "logs", "saved_model"}
    assert list((directory / "logs").rglob("events*"))


def test_figures_agree_with_the_predictions_that_were_written(run):
    _, directory = run
    table = predictions(directory)
    labels, scores = table["label"].astype(int), table["score"].astype("float32")
    report = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    for group, label in (("negative", -1), ("unknown", -2)):
        part = (labels >= 0) | (labels == label)
        assert report["groups"][group]["auroc"] == pytest.approx(roc_auc_score(labels[part] >= 0, scores[part]))
    accepted = scores >= np.float32(report["at_threshold"]["threshold"])
    assert report["at_threshold"]["fpr_unknown"] == pytest.approx(accepted[labels == -2].mean())
    right = table["answer"][labels >= 0] == table["true_class"][labels >= 0]
    assert report["at_threshold"]["ccr"] == pytest.approx(right.mean())
    assert set(table["answer"][~accepted]) == {"unknown"}


def test_the_classifier_answers_as_the_run_said_and_as_the_saved_model_does(run):
    experiment, directory = run
    test = experiment.data(experiment.seed).test
    images = np.stack(list(test.source.images().as_numpy_iterator()))
    classifier = cplus1_keras.load(directory)
    answer = classifier.predict(images)
    table = predictions(directory)
    np.testing.assert_array_equal(answer["class_name"], table["answer"])
    np.testing.assert_allclose(answer["score"], table["score"].astype("float32"), rtol=1e-4, atol=1e-4)
    served = tf.saved_model.load(str(directory / "saved_model" / "1")).signatures["serving_default"]
    np.testing.assert_array_equal(served(images=tf.constant(images))["class_id"], answer["class_id"])


def test_the_config_is_written_as_text_that_tells_the_loss(run):
    _, directory = run
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    assert config["epochs"] == 4
    assert "EntropicOpenSetLoss" in json.dumps(config["loss"])


def test_a_batch_is_shared_equally_or_not_at_all():
    two = types.SimpleNamespace(num_replicas_in_sync=2)
    assert classification.per_replica(6, two) == 3
    for batch_size in (5, 1):
        with pytest.raises(ValueError, match=rf"multiple of the 2 replicas .*Received: batch_size={batch_size}"):
            classification.per_replica(batch_size, two)


def test_a_training_is_kept_when_its_judging_fails(tmp_path, monkeypatch):
    def broken(*arguments):
        raise ValueError("no figures")

    monkeypatch.setattr(classification, "evaluate", broken)
    with pytest.raises(ValueError, match="no figures"):
        classification.run(dataclasses.replace(configs.resolve("digits"), epochs=1), tmp_path)
    assert keras.saving.load_model(tmp_path / "digits" / "last_good.keras", compile=False).count_params() > 0


def test_a_loss_without_negatives_trains_without_them_and_calibrates_on_knowns_where_there_are_none(tmp_path):
    def knowns_only(seed):
        protocol = data.Protocol(known=("0", "1", "2"), unknown=("8",))
        return data.split(protocol, data.sources.digits(), seed=seed)

    experiment = dataclasses.replace(
        configs.resolve("digits"), data=knowns_only, loss=losses.CrossEntropyLoss(), epochs=2, name="knowns"
    )
    keras.utils.disable_interactive_logging()
    directory = classification.run(experiment, tmp_path)
    record = json.loads((directory / "calibration.json").read_text(encoding="utf-8"))
    assert record["calibration"]["rule"] == "coverage"
    with pytest.raises(ValueError, match="learns from negatives"):
        classification.run(dataclasses.replace(experiment, loss=losses.EntropicOpenSetLoss()), tmp_path)


def test_too_few_negatives_for_the_rate_are_refused_with_the_number_needed(run):
    experiment, _ = run
    strict = dataclasses.replace(experiment, fpr=0.001)
    with pytest.raises(ValueError, match="needs at least 2,995 negatives"):
        classification.calibrate(strict, np.full(50, -1), np.arange(50, dtype="float32"))


def test_a_head_without_what_the_loss_reads_is_told(run):
    experiment, _ = run
    model = classification.build(dataclasses.replace(experiment, loss=losses.CrossEntropyLoss(losses.ArcFace())), 6)
    with pytest.raises(ValueError, match="'cosines'"):
        model.evaluate(np.zeros((2, 8, 8, 1)), np.array([0, 1]), verbose=0)


def test_a_run_with_a_cosine_head_and_margin_reaches_a_good_classifier():
    """A margin trains from scratch with few classes; the figure is what a nearest-mean classifier reaches."""
    experiment = dataclasses.replace(
        configs.resolve("digits"),
        head=functools.partial(heads.CosineHead, scale=13.0),
        loss=losses.CrossEntropyLoss(losses.CosFace(0.2)),
        epochs=12,
    )
    keras.utils.set_random_seed(0)
    splits = experiment.data(0)
    model = classification.build(experiment, splits.num_classes)
    images = classification.training_images(model, experiment, splits)
    model.fit(images, epochs=experiment.epochs, verbose=0, shuffle=False)
    found, _ = classification.judge(model, experiment, splits.test, 6)
    known = splits.test.labels >= 0

    def flat(split):
        images = np.stack(list(split.source.images().as_numpy_iterator()))
        return images.reshape(len(images), -1)

    train, test = flat(splits.train), flat(splits.test)
    means = np.stack([train[splits.train.labels == c].mean(0) for c in range(6)])
    nearest = ((test[:, None] - means) ** 2).sum(-1).argmin(-1)
    reference = np.mean(nearest[known] == splits.test.labels[known])
    assert np.mean(found[known] == splits.test.labels[known]) > reference
