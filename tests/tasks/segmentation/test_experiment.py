"""A run of segmentation, small: what it leaves behind is complete, agrees with itself and can be used."""

import dataclasses
import functools
import json
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import confusion_matrix, roc_auc_score

import cplus1_keras
from cplus1_keras import losses
from cplus1_keras.configs import segmentation as parts
from cplus1_keras.data.segmentation import augment, pipeline, protocols, sources
from cplus1_keras.data.segmentation.splits import split
from cplus1_keras.layers import ScaleWithin
from cplus1_keras.models import scaled
from cplus1_keras.optimizers import SGDWithL2, poly
from cplus1_keras.tasks import segmentation
from cplus1_keras.tasks.segmentation import evaluation
from cplus1_keras.tasks.segmentation import experiment as task
from cplus1_keras.tasks.segmentation.gradients import TermGradients

FILES = {
    "model.keras",
    "config.json",
    "metrics.json",
    "calibration.json",
    "classes.md",
    "oscr.png",
    "pictures",
    "logs",
    "saved_model",
}


@pytest.fixture(scope="module")
def folder(layouts, tmp_path_factory):
    """CamVid's layout with 6 + 4 + 3 images of 32 x 40 pixels."""
    return layouts.camvid(tmp_path_factory.mktemp("sets"), train=6, val=4, test=3)


def tiny(num_classes, centers=parts.moving_average):
    """One convolution of stride 4 and the classifier of the configs."""
    images = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(images)
    x = keras.layers.Conv2D(8, 5, 4, padding="same", activation="relu")(x)
    return segmentation.segmentation_model(images, x, parts.classifier(num_classes, centers))


def data(seed, folder, protocol=None):
    train, calibration, test = (sources.camvid(folder, part) for part in ("train", "val", "test"))
    return split(protocol or protocols.camvid_open(), train, test, calibration=calibration, seed=seed)


def small(folder, **changes):
    experiment = task.Experiment(
        name="small",
        data=functools.partial(data, folder=folder),
        model=tiny,
        loss=parts.pixel_loss(0.1, 1e-4),
        optimizer=parts.sgd(),
        steps=6,
        interval=3,
        batch_size=2,
        crop_size=32,
        base=(48, 40),
        flip_test=True,
        fpr=0.6,
        confidence=0.6,
        edge_width=1,
        largest=100,
    )
    return dataclasses.replace(experiment, **changes)


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    keras.utils.disable_interactive_logging()
    experiment = small(folder)
    yield experiment, task.run(experiment, tmp_path_factory.mktemp("runs"))
    keras.utils.enable_interactive_logging()


def test_the_directory_is_complete(run):
    _, directory = run
    assert {path.name for path in directory.iterdir()} == FILES
    assert {path.name for path in (directory / "pictures").iterdir()} >= {"00000.png", "features.png"}
    assert list((directory / "logs").rglob("events*"))
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    assert "BackgroundMarginLoss" in json.dumps(config["loss"])
    assert "background" in (directory / "classes.md").read_text(encoding="utf-8")


def test_a_run_never_overwrites_another(run, folder):
    _, directory = run
    assert task.new_directory(directory.parent, "small").name == "small-2"


def answers(directory, experiment):
    """Labels and the answers of the segmenter that the directory holds, image by image."""
    segmenter = cplus1_keras.load(directory)
    assert segmenter.class_names == [*experiment.data(0).class_names]
    for image, labels in pipeline.evaluation(experiment.data(0).test):
        yield image, labels.numpy(), segmenter.predict(image)


def test_figures_agree_with_what_the_saved_run_answers(run):
    experiment, directory = run
    report = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    triples = list(answers(directory, experiment))
    labels = np.concatenate([labels.ravel() for _, labels, _ in triples])
    argmax, score, accepted = (
        np.concatenate([answer[name].ravel() for *_, answer in triples]) for name in ("argmax", "score", "class_id")
    )
    truth = np.where(labels == -1, 8, labels)
    counted = truth >= 0
    matrix = confusion_matrix(truth[counted], argmax[counted], labels=range(9))
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    assert report["segmentation"]["miou"] == pytest.approx(np.mean(np.diag(matrix)[union > 0] / union[union > 0]))
    inside = (labels >= 0) | (labels == -2)
    figures = report["open_set"]["unknown"]
    exact = roc_auc_score(labels[inside] >= 0, score[inside])
    assert figures["auroc"] == pytest.approx(exact, abs=figures["errors"]["auroc"] + 1e-6)
    assert report["at_threshold"]["fpr_unknown"] == pytest.approx(np.mean(accepted[labels == -2] >= 0))
    assert report["at_threshold"]["threshold"] == report["calibration"]["threshold"]
    assert report["edge_width"] == 1
    assert report["open_set_without_edges"]["unknown"]["members"] < figures["members"]
    assert report["segmentation_with_flip"]["miou"] != report["segmentation"]["miou"]


def test_the_saved_model_answers_as_the_segmenter_does(run):
    experiment, directory = run
    served = tf.saved_model.load(str(directory / "saved_model" / "1")).signatures
    for image, _, answer in answers(directory, experiment):
        pixels = tf.cast(tf.round(image), tf.uint8)
        np.testing.assert_array_equal(served["serving_default"](images=pixels)["class_id"], answer["class_id"])
        assert served["palette"](images=pixels)["image"].shape == (*answer["class_id"].shape, 3)


def test_calibration_is_that_of_the_images_that_did_not_train(run):
    _, directory = run
    found = json.loads((directory / "calibration.json").read_text(encoding="utf-8"))["calibration"]
    assert (found["rule"], found["samples"], found["target"]) == ("fpr", 4, 0.6)


def test_training_takes_the_stated_steps_with_poly_rate_and_logs_the_terms(folder, tmp_path):
    experiment = small(folder, class_weights=lambda counts: np.ones(len(counts)))
    keras.utils.set_random_seed(0)
    splits = experiment.data(0)
    model = task.build(experiment, splits.num_classes)
    history = task.fit(model, experiment, splits, tmp_path, verbose=0).history
    assert int(model.optimizer.iterations) == 6
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-4)
    names = {"background_cross_entropy", "compactness", "background_margin"}
    assert names | {"gradient_ratio/compactness", "gradient_ratio/background_margin"} <= set(history)
    assert len(history["loss"]) == 2
    assert 0 < history["gradient_ratio/background_margin"][-1] < 1e-3
    kept = keras.saving.load_model(tmp_path / "last_good.keras", compile=False)
    for one, other in zip(kept.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_batch_that_replicas_cannot_share_is_told_before_training(folder, tmp_path, monkeypatch):
    experiment = small(folder, batch_size=3)
    splits = experiment.data(0)
    model = task.build(experiment, splits.num_classes)
    two = types.SimpleNamespace(num_replicas_in_sync=2)
    monkeypatch.setattr(type(model), "distribute_strategy", two, raising=False)
    with pytest.raises(ValueError, match="multiple of the 2 replicas"):
        task.fit(model, experiment, splits, tmp_path)


def test_a_training_is_kept_when_its_judging_fails(folder, tmp_path, monkeypatch):
    def broken(*arguments):
        raise ValueError("no figures")

    monkeypatch.setattr(task, "evaluate", broken)
    with pytest.raises(ValueError, match="no figures"):
        small(folder).run(tmp_path)
    assert keras.saving.load_model(next(tmp_path.glob("*/last_good.keras")), compile=False).count_params() > 0


def test_masks_that_judge_are_read_before_training(folder, tmp_path):
    protocol = protocols.SegmentationProtocol({"sky": 0}, background=(*range(1, 5), 6, 7, 8, 9, 10), ignored=(11,))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Mask values outside the protocol"):
        small(folder, data=functools.partial(data, folder=folder, protocol=protocol)).run(tmp_path)
    assert not list(tmp_path.iterdir())


def test_validation_is_judged_as_the_test_is(folder, tmp_path):
    experiment = small(folder)
    splits = data(0, folder)
    splits = dataclasses.replace(splits, validation=dataclasses.replace(splits.calibration, name="validation"))
    model = task.build(experiment, splits.num_classes)
    logs = task.fit(model, experiment, splits, tmp_path, verbose=0).history
    figures, _ = evaluation.judge_split(model, experiment, splits.validation)
    assert len(logs["val_logits_mean_iou"]) == 2
    assert logs["val_logits_mean_iou"][-1] == pytest.approx(figures["segmentation"]["miou"])
    assert logs["val_logits_auroc_negative"][-1] == pytest.approx(figures["open_set"]["negative"]["auroc"])


def test_epochs_divide_the_steps():
    assert [task._epochs(*pair) for pair in ((20_000, 1000), (110_000, 1000), (50, 1000), (7, 2))] == [20, 110, 1, 7]
    assert task._epochs(19_840, 1000) == 20
    with pytest.raises(ValueError, match=r"multiple of a number near `interval`, 1000.*steps=20011. Take 20000"):
        task._epochs(20_011, 1000)


def test_poly_is_the_formula_of_the_framework():
    rate = poly(0.01, 20_000)
    for step in (0, 1, 5000, 19_999, 20_000):
        expected = (0.01 - 1e-4) * (1 - step / 20_000) ** 0.9 + 1e-4
        assert float(rate(step)) == pytest.approx(expected, rel=1e-5)
    assert float(poly(1e-5, 10)(10)) == pytest.approx(1e-5)  # never rises


def test_weight_decay_is_pytorchs():
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    x, weight = generator.normal(size=(5, 3)).astype("float32"), generator.normal(size=(3, 2)).astype("float32")
    theirs = torch.nn.Parameter(torch.tensor(weight))
    optimizer = torch.optim.SGD([theirs], lr=0.1, momentum=0.9, weight_decay=0.05)
    layer = keras.layers.Dense(2, use_bias=False)
    model = keras.Sequential([keras.Input((3,)), layer])
    layer.set_weights([weight])
    model.compile(SGDWithL2(0.1, momentum=0.9, l2=0.05), "mse")
    for _ in range(4):
        optimizer.zero_grad()
        (torch.tensor(x) @ theirs).square().mean().backward()
        optimizer.step()
        model.train_on_batch(x, np.zeros((5, 2), "float32"))
    np.testing.assert_allclose(layer.get_weights()[0], theirs.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert SGDWithL2.from_config(model.optimizer.get_config()).l2 == 0.05
    with pytest.raises(ValueError, match="in place of `weight_decay`"):
        SGDWithL2(weight_decay=0.1)


def test_gradient_ratios_of_terms_that_are_known():
    """The same term at weight 0.3 has 0.3 of the gradient; without background the margin has none."""
    again = losses.BackgroundCrossEntropyLoss(name="again")
    loss = losses.BackgroundCrossEntropyLoss() + 0.3 * again + 1.0 * losses.BackgroundMarginLoss(1.0)
    model = tiny(3)
    model.compile("sgd", loss)
    images = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
    callback = TermGradients(images, np.zeros((2, 16, 16), "int32"))
    callback.set_model(model)
    callback.on_train_begin()
    logs = {}
    callback.on_epoch_end(0, logs)
    assert logs["gradient_ratio/again"] == pytest.approx(0.3, rel=1e-5)
    assert logs["gradient_ratio/background_margin"] == 0


def test_a_batch_without_background_trains_and_gives_0():
    model = tiny(3)
    model.compile("sgd", parts.pixel_loss(0.1, 1.0))
    images = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
    logs = model.train_on_batch(images, np.ones((2, 16, 16), "int32"), return_dict=True)
    assert logs["background_margin"] == 0
    assert np.isfinite(logs["loss"])


@pytest.mark.parametrize("size", [(30, 41), (41, 30), (7, 300), (64, 64)])
def test_images_are_scaled_as_in_training(size):
    image = np.random.default_rng(0).uniform(0, 255, (*size, 3)).astype("float32")
    expected, _ = augment.random_scale(1.0, 1.0, (96, 48))(image, tf.zeros(size, tf.int32), seed=[0, 1])
    np.testing.assert_allclose(ScaleWithin((96, 48))(image[None])[0], expected, atol=1e-3)
    expected, labels = augment.random_scale(1.0, 1.0, (96, 48), keep_ratio=False)(
        image, tf.zeros(size, tf.int32), [0, 1]
    )
    assert labels.shape == (96, 48)
    stretch = ScaleWithin((96, 48), keep_ratio=False)
    np.testing.assert_allclose(stretch(image[None])[0], expected, atol=1e-3)
    assert ScaleWithin.from_config(stretch.get_config()).keep_ratio is False


def test_a_scaled_model_answers_at_the_images_size_and_is_saved(tmp_path):
    model = scaled(tiny(3), (48, 40))
    images = np.random.default_rng(0).uniform(0, 255, (1, 33, 21, 3)).astype("float32")
    logits = model(images)["logits"]
    assert logits.shape == (1, 33, 21, 4)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(again(images)["logits"], logits, atol=1e-5)
    assert scaled(model, None) is model


def test_crops_of_one_image_count_as_one(folder):
    experiment, calibration = small(folder), data(0, folder).calibration
    source = calibration.source
    grouped = sources.MaskSource(source.names, source._load, name="crops", files=source.files, groups="aabc")
    found = evaluation.calibrate(
        tiny(8), dataclasses.replace(experiment, fpr=0.7), dataclasses.replace(calibration, source=grouped)
    )
    assert found.samples == 3
    apart = sources.MaskSource(source.names, source._load, name="crops", files=source.files, groups="abac")
    with pytest.raises(ValueError, match="those of 'a' do not"):
        evaluation.calibrate(tiny(8), experiment, dataclasses.replace(calibration, source=apart))


def test_pictures_show_the_unknown():
    masks = np.zeros((40, 4, 4), "uint8")
    masks[[7, 23]], masks[31, :2] = 7, 7  # fences
    source = sources.arrays(np.zeros((40, 4, 4, 3), "uint8"), masks)
    test = split(protocols.camvid_open(), source, source.subset([*range(40)])).test
    assert set(evaluation._telling(test, 6)) >= {7, 23, 31, 0, 39}
    assert len(evaluation._telling(test, 6)) == 6
    assert evaluation._telling(dataclasses.replace(test, source=source.subset([0, 5])), 8).tolist() == [0, 1]


def test_a_protocol_without_background_calibrates_on_knowns(folder, tmp_path):
    def knowns_only(seed):
        return data(seed, folder, protocols.camvid())

    with pytest.raises(ValueError, match="'camvid' has none"):
        small(folder, data=knowns_only).run(tmp_path)
    assert not list(tmp_path.iterdir())  # told before anything is written
    experiment = small(folder, data=knowns_only, coverage=0.4)
    found = evaluation.calibrate(tiny(11, None), experiment, knowns_only(0).calibration)
    assert found.rule == "coverage"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"steps": 0}, "`steps` must be above 0"),
        ({"learning_rate": -1.0}, "`learning_rate` must be above 0"),
        ({"crop_size": (64, 16)}, "at least 32 pixels a side"),
        ({"base": None, "keep_ratio": False}, "stretches images to `base`"),
    ],
)
def test_mistakes_in_an_experiment_are_told(folder, changes, told):
    with pytest.raises(ValueError, match=told):
        small(folder, **changes)


def test_too_few_calibration_images_are_told_before_training(folder, tmp_path):
    with pytest.raises(
        ValueError, match="needs at least 38 calibration images with background pixels; the split has 4"
    ):
        small(folder, fpr=0.1, confidence=0.95).run(tmp_path)
