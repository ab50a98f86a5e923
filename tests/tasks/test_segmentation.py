"""A run of segmentation by what it leaves: recomputed from the stored model and the splits, every setting another."""

import dataclasses
import functools
import json
import types
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import confusion_matrix, roc_auc_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import cplus1_keras
from cplus1_keras import data, heads, layers, losses, metrics, models, optimizers, scores, serving
from cplus1_keras.experiment import Experiment
from cplus1_keras.labels import NEGATIVE, UNKNOWN
from cplus1_keras.run import build, fit
from cplus1_keras.tasks import Segmentation
from cplus1_keras.tasks import segmentation as module


@pytest.fixture(scope="module")
def folder(layouts, tmp_path_factory):
    """CamVid's layout with 6 + 4 + 3 images of 32 x 40 pixels."""
    return layouts.camvid(tmp_path_factory.mktemp("sets"), train=8, val=4, test=3)


def tiny(num_classes):
    """One convolution of stride 4, a classifier with background, and centres."""
    images = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(images)
    x = keras.layers.Conv2D(8, 5, 4, padding="same", activation="relu")(x)
    head = heads.LinearHead(num_classes, use_bias=True, background=True)
    centers = layers.MovingAverageCenters(num_classes)
    return models.segmentation_model(images, x, lambda features: centers(head(features)))


def splits(seed, folder, protocol=None):
    train, calibration, test = (data.sources.camvid(folder, part) for part in ("train", "val", "test"))
    protocol = protocol or data.protocols.camvid_open()
    return data.split(protocol, train, test, calibration=calibration, validation_fraction=0.25, seed=seed)


def pixel_loss(compactness=0.1, background=1e-4):
    loss = losses.BackgroundCrossEntropyLoss() + compactness * losses.CompactnessLoss()
    return loss + background * losses.BackgroundMarginLoss(1.0)


@pytest.fixture(scope="module")
def experiment(folder):
    return Experiment(
        name="small",
        task=Segmentation(
            crop_size=(32, 48),
            base=(48, 40),
            scales=(0.75, 1.5),
            class_weights=data.class_weights,
            flip_test=True,
            edge_width=1,
            largest=100,
        ),
        data=functools.partial(splits, folder=folder),
        model=tiny,
        loss=pixel_loss(),
        optimizer=functools.partial(optimizers.SGDWithL2, momentum=0.8, l2=1e-3),
        learning_rate=0.02,
        schedule=optimizers.poly,
        steps=6,
        interval=3,
        batch_size=2,
        score=scores.max_logit,
        fpr=0.6,
        coverage=0.9,
        confidence=0.6,
        seed=5,
    )


@pytest.fixture(scope="module")
def run(experiment, tmp_path_factory):
    return experiment.run(tmp_path_factory.mktemp("runs"))


def read(run, name):
    return json.loads((run / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pixels(run, experiment):
    """By split: labels, logits and features of the stored model, image by image, by Keras alone."""
    model = keras.saving.load_model(run / "model.keras", compile=False)
    parts = experiment.data(experiment.seed)

    def predict(split):
        for example in split.dataset():
            outputs = model(tf.cast(example["image"][None], tf.float32), training=False)
            yield example["labels"].numpy(), outputs["logits"][0].numpy()

    return {name: list(predict(getattr(parts, name))) for name in ("validation", "calibration", "test")}, parts


def flat(pairs):
    return (
        np.concatenate([value.reshape(-1, *value.shape[2:]) for value in values]) for values in zip(*pairs, strict=True)
    )


def miou(labels, logits):
    truth = np.where(labels == -1, logits.shape[-1] - 1, labels)
    matrix = confusion_matrix(truth[truth >= 0], logits.argmax(-1)[truth >= 0], labels=range(logits.shape[-1]))
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    return np.mean(np.diag(matrix)[union > 0] / union[union > 0])


def test_the_directory_is_complete(run):
    wanted = "model.keras config.json metrics.json calibration.json oscr.png classes.md pictures logs saved_model"
    wanted += " evidence.json report.html"
    assert {path.name for path in run.iterdir()} == set(wanted.split())
    assert {path.name for path in (run / "pictures").iterdir()} >= {"00000.png", "features.png"}
    config = read(run, "config.json")
    assert "BackgroundMarginLoss" in json.dumps(config["loss"])
    assert config["task"]["base"] == [48, 40]


def test_the_threshold_is_that_of_the_calibration_images(run, pixels):
    by_split, parts = pixels
    found = read(run, "metrics.json")["calibration"]
    assert (found["rule"], found["target"], found["confidence"], found["score"]) == ("fpr", 0.6, 0.6, "max_logit")
    assert found["samples"] == len(parts.calibration) == 4
    shares = []
    for labels, logits in by_split["calibration"]:
        score = logits[..., :8].max(-1)
        shares.append(np.mean(score[labels == NEGATIVE] >= np.float32(found["threshold"])))
    assert found["rate"] == pytest.approx(np.mean(shares), abs=1e-3)
    assert read(run, "calibration.json")["calibration"] == found


def test_figures_are_those_of_the_test_split(run, pixels):
    report = read(run, "metrics.json")
    labels, logits = flat(pixels[0]["test"])
    score, known = logits[:, :8].max(-1), labels >= 0
    assert report["segmentation"]["miou"] == pytest.approx(miou(labels, logits))
    for group, label in (("negative", NEGATIVE), ("unknown", UNKNOWN)):
        inside, figures = known | (labels == label), report["open_set"][group]
        exact = roc_auc_score(labels[inside] >= 0, score[inside])
        assert figures["auroc"] == pytest.approx(exact, abs=figures["errors"]["auroc"] + 1e-6)
    accepted = score >= np.float32(report["calibration"]["threshold"])
    at = report["at_threshold"]
    assert at["fpr_unknown"] == pytest.approx(accepted[labels == UNKNOWN].mean(), abs=1e-3)
    assert at["ccr"] == pytest.approx((accepted & (logits[:, :8].argmax(-1) == labels))[known].mean(), abs=1e-3)
    assert report["images"] == 3
    threshold, shares = np.float32(report["calibration"]["threshold"]), {}
    source, strangers = pixels[1].test.source, {*data.protocols.camvid_open().unknown}
    for example, (_, logits) in zip(source.examples(), pixels[0]["test"], strict=True):
        mask, score = np.squeeze(example["mask"]), logits[..., :8].max(-1)
        for value in np.unique(mask):
            shares.setdefault(source.names[value], []).append((score >= threshold)[mask == value].mean())
    assert {name for name, row in report["by_class"].items() if row["role"] == "unknown"} == strangers & {*shares}
    for name, row in report["by_class"].items():
        assert (row["images"], row["accepted"]) == (len(shares[name]), pytest.approx(np.mean(shares[name]), abs=1e-3))


def test_edges_and_flips_are_judged_as_asked(run, pixels, experiment):
    report, (by_split, parts) = read(run, "metrics.json"), pixels
    inner = [(metrics.ignore_edges(labels, 1), logits) for labels, logits in by_split["test"]]
    labels, logits = flat(inner)
    figures = report["open_set_without_edges"]["unknown"]
    assert report["open_set_without_edges"]["edge_width"] == 1
    assert figures["members"] == (labels == UNKNOWN).sum()
    inside = (labels >= 0) | (labels == UNKNOWN)
    assert figures["auroc"] == pytest.approx(roc_auc_score(labels[inside] >= 0, logits[inside, :8].max(-1)), abs=1e-3)
    model = keras.saving.load_model(run / "model.keras", compile=False)
    pairs = []
    for example in parts.test.dataset():
        image = tf.cast(example["image"][None], tf.float32)
        both = [model(image, training=False)["logits"], model(image[:, :, ::-1], training=False)["logits"][:, :, ::-1]]
        mean = np.mean([tf.nn.softmax(logits) for logits in both], axis=0)
        pairs.append((example["labels"].numpy(), mean[0]))
    assert report["segmentation_averaged"]["miou"] == pytest.approx(miou(*flat(pairs)), abs=1e-6)
    assert report["segmentation_averaged"]["miou"] != report["segmentation"]["miou"]


def test_the_saved_model_answers_as_the_run_does(run, experiment):
    predictor = cplus1_keras.load(run)
    served = tf.saved_model.load(str(run / "saved_model" / "1")).signatures
    for example in experiment.data(0).test.dataset():
        image = tf.cast(tf.round(example["image"][None]), tf.uint8)
        answer = predictor.predict(image.numpy())
        np.testing.assert_array_equal(served["serving_default"](images=image)["class_id"], answer["class_id"])
        assert served["palette"](images=image)["image"].shape == (*answer["class_id"].shape, 3)
    with pytest.raises(tf.errors.InvalidArgumentError):
        served["serving_default"](images=tf.zeros((1, 101, 40, 3), "uint8"))


def test_what_fit_gets_and_logs(experiment, tmp_path):
    parts = experiment.data(5)
    keras.utils.set_random_seed(5)
    model = build(experiment, parts)
    batches = experiment.task.training(model, parts.train, experiment)
    change = data.augment.standard((32, 48), (0.75, 1.5), mirror=tuple(range(8)), base=(48, 40))
    weights = data.class_weights(data.pixel_counts(parts.train))
    settings = {"channels": 3, "augment": change, "class_weights": weights, "seed": 5}
    for got, wanted, _ in zip(batches, data.training(parts.train, 2, **settings), range(3), strict=False):
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(one, other)
    later = next(iter(experiment.task.training(model, parts.train, experiment, first_step=2)))
    np.testing.assert_array_equal(later[0], got[0])
    history = fit(model, experiment, parts, tmp_path).history
    assert int(model.optimizer.iterations) == 6
    assert (model.optimizer.momentum, model.optimizer.l2) == (0.8, 1e-3)
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-4)
    names = {"background_cross_entropy", "compactness", "background_margin"}
    assert names <= set(history)
    assert len(history["loss"]) == 2
    every = experiment.task.predictor(model, experiment.score, parts)
    figures, _ = experiment.task.judge(every, parts.validation, experiment)
    assert history["val_mean_iou"][-1] == pytest.approx(figures["segmentation"]["miou"])
    assert history["val_auroc_negative"][-1] == pytest.approx(figures["open_set"]["negative"]["auroc"])
    events = EventAccumulator(str(tmp_path / "logs" / "monitor"), size_guidance={"tensors": 0}).Reload()
    told = [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors("validation/mean_iou")]
    assert told == pytest.approx(history["val_mean_iou"])


def test_masks_that_judge_are_read_before_training(experiment, folder, tmp_path):
    names = ("sky", "building", "pole", "road", "pavement", "sign", "fence", "car", "pedestrian", "bicyclist")
    protocol = data.Protocol(known=("sky",), negative=names[1:5], ignored=("unlabelled",), others="error")
    broken = dataclasses.replace(experiment, data=functools.partial(splits, folder=folder, protocol=protocol))
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="outside the protocol"):
        broken.run(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_protocol_without_background_calibrates_on_knowns(experiment, folder, tmp_path):
    knowns = dataclasses.replace(
        experiment, data=functools.partial(splits, folder=folder, protocol=data.protocols.camvid()), coverage=0.4
    )
    with pytest.raises(ValueError, match="'camvid'"):
        knowns.run(tmp_path)
    assert not list(tmp_path.iterdir())  # told before anything is written
    parts = knowns.data(0)
    every = knowns.task.predictor(tiny(11), knowns.score, parts)
    assert knowns.task.calibrate(every, parts.calibration, knowns).rule == "coverage"


def test_too_few_calibration_images_are_told_before_training(experiment, tmp_path):
    strict = dataclasses.replace(experiment, fpr=0.1, confidence=0.95)
    with pytest.raises(ValueError, match="at least 38 calibration images with negative pixels; the split has 4"):
        strict.run(tmp_path)


def test_pictures_show_the_unknown():
    masks = np.zeros((40, 4, 4), "uint8")
    masks[[7, 23]], masks[31, :2] = 1, 1
    source = data.sources.arrays(np.zeros((40, 4, 4, 3), "uint8"), masks=masks, class_names=("road", "fence"))
    test = data.split(
        data.Protocol(known=("road",), unknown=("fence",)), source.subset([0]), source.subset(range(1, 40))
    ).test
    assert set(module.telling(test, 6)) >= {6, 22, 30, 0, 38}
    assert len(module.telling(test, 6)) == 6
    assert module.telling(test.subset([0, 5]), 8).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"crop_size": (64, 16)}, "at least 32 pixels a side"),
        ({"crop_size": 31}, "Received: crop_size=31"),
        ({"keep_ratio": False}, "stretches images to `base`"),
    ],
)
def test_mistakes_in_the_settings_are_told(changes, told):
    with pytest.raises(ValueError, match=told):
        Segmentation(**changes)


def test_edges_are_left_out_of_records():
    labels = np.array([[0, 0, 0, UNKNOWN, UNKNOWN, UNKNOWN]])
    figures = module.WithoutEdges(1)
    figures.update(module.Record(labels, np.zeros((1, 6), int), np.arange(6.0)[None], "a"))
    found = figures.result()
    assert (found["unknown"]["knowns"], found["unknown"]["members"], found["edge_width"]) == (2, 2, 1)


def test_what_the_settings_allow():
    Segmentation(crop_size=32)
    Segmentation(keep_ratio=False, base=(9, 8))


def test_all_that_judges_is_read_before_a_sample_of_all(monkeypatch):
    made = []
    monkeypatch.setattr(Segmentation, "check_files", lambda task, *given: made.append(("files", *given)))
    monkeypatch.setattr(module.Task, "check", lambda task, *given: made.append(("all", *given)))
    parts = types.SimpleNamespace(train="train", validation="validation", calibration="calibration", test="test")
    Segmentation().check("experiment", parts)
    assert made == [("files", ("calibration", "validation", "test")), ("all", "experiment", parts)]


@pytest.mark.parametrize(("base", "tile"), [(None, (70, 70)), ((9, 8), None)])
def test_large_images_are_cut_unless_they_are_scaled(base, tile, monkeypatch):
    task, scaled = (
        Segmentation(base=base, largest=70, keep_ratio=base is None),
        mock.Mock(side_effect=lambda *given: given[0]),
    )
    monkeypatch.setattr(module.models, "scale", scaled)
    parts = mock.Mock(num_classes=8, class_names=[str(k) for k in range(8)])
    model = tiny(8)
    predictor = task.predictor(model, scores.max_logit, parts)
    assert (predictor.spec.max_size, predictor.spec.tile) == ((70, 70), tile)
    assert predictor.reject.score is scores.max_logit
    scaled.assert_called_once_with(model, base, base is None)
    given = np.zeros((1, 80, 90, 3))
    monkeypatch.setattr(module.Task, "samples", lambda *arguments: given)
    assert task.samples(predictor, "test", None).shape == (1, 70, 70, 3)


class Numbers:
    """A split that keeps which of its images were taken."""

    def __init__(self, numbers, name):
        self.numbers, self.name = [*numbers], name

    def __len__(self):
        return len(self.numbers)

    def subset(self, indices):
        return Numbers([self.numbers[index] for index in indices], self.name)


def test_mirrored_and_scaled_images_are_judged_as_asked(monkeypatch):
    task, made = Segmentation(flip_test=True, test_scales=(0.5, 1.0)), mock.Mock()
    split, spec = mock.Mock(mirror=(1, 0)), serving.PixelSpec(99)
    predictor = types.SimpleNamespace(model="model", reject="reject", spec=spec, class_names=["left", "right"])
    monkeypatch.setattr(module.Task, "judge", lambda task, *given: ({"given": given}, "scores"))
    monkeypatch.setattr(module.serving, "Predictor", made.Predictor)
    monkeypatch.setattr(module, "MeanIoU", made.MeanIoU)
    monkeypatch.setattr(Segmentation, "records", lambda task, *given: [("record", *given)])
    figures, judged = task.judge(predictor, split, "experiment", "found", "watch")
    assert figures == {
        "given": (predictor, split, "experiment", "found", "watch"),
        "segmentation_averaged": made.MeanIoU.return_value.result.return_value,
    }
    both = made.Predictor.return_value
    mirrored = dataclasses.replace(spec, mirror=(1, 0), scales=(0.5, 1.0))
    made.Predictor.assert_called_once_with(predictor.model, predictor.reject, ["left", "right"], mirrored)
    made.MeanIoU.assert_called_once_with(both)
    made.MeanIoU().update.assert_called_once_with(("record", both, split, "experiment"))
    assert judged == "scores"
    assert "segmentation_averaged" not in Segmentation().judge(predictor, split, "experiment")[0]


def test_own_figures():
    predictor = mock.Mock(class_names=["a", "b"])
    for logits, background in ((2, False), (3, True)):
        predictor.model.output = {"logits": np.zeros((1, logits))}
        figures = Segmentation(edge_width=4).figures(predictor, None)
        assert [*figures] == ["segmentation", "open_set_without_edges"]
        assert figures["open_set_without_edges"].width == 4
        record = module.Record(np.array([[0, 1, -1]]), 0, 0, "", {"argmax": np.array([[0, 0, logits - 1]])})
        figures["segmentation"].update(record)
        classes = figures["segmentation"].result()["classes"]
        assert len(classes) == 2 + background
    assert [*Segmentation(edge_width=None).figures(predictor, None)] == ["segmentation"]


def test_pictures_are_of_the_judged_split(monkeypatch, tmp_path):
    drawn, split = mock.Mock(), Numbers(range(30), "test")
    monkeypatch.setattr(module.Task, "write", lambda *given: ["oscr.png"])
    monkeypatch.setattr(module, "telling", drawn.telling)
    drawn.telling.return_value = [2, 11]
    figures = {"segmentation/0": mock.Mock(), "segmentation/1": mock.Mock()}
    monkeypatch.setattr(Segmentation, "draw", lambda task, *given: drawn.draw(*given) and figures)
    monkeypatch.setattr(Segmentation, "draw_features", drawn.draw_features)
    monkeypatch.setattr(module.metrics.segmentation, "class_table", lambda rows: f"{rows}")
    experiment = types.SimpleNamespace(name="söme")
    given = tmp_path / "new" / "run", "predictor", split, experiment
    for _ in range(2):  # into a folder that is there as well
        files = Segmentation().write(*given, {"segmentation": 3}, None)
    assert files == ["oscr.png", "pictures", "classes.md"]
    drawn.telling.assert_called_with(split, 8)
    (_, chosen, _), _ = drawn.draw.call_args
    assert (chosen.numbers, drawn.draw.call_args) == ([2, 11], mock.call("predictor", chosen, experiment))
    pictures = tmp_path / "new" / "run" / "pictures"
    figures["segmentation/0"].savefig.assert_called_with(pictures / "00002.png")
    figures["segmentation/1"].savefig.assert_called_with(pictures / "00011.png")
    (_, cells, _), _ = drawn.draw_features.call_args
    assert (cells.numbers, drawn.draw_features.call_args) == ([2, 11], mock.call("predictor", cells, experiment))
    drawn.draw_features.return_value.savefig.assert_called_with(pictures / "features.png")
    assert (tmp_path / "new" / "run" / "classes.md").read_text(encoding="utf-8") == "{'söme': 3}\n"


@pytest.mark.parametrize("found", [None, types.SimpleNamespace(threshold=0.5)])
def test_panels_show_the_threshold_and_features_their_cells(monkeypatch, found):
    drawn = mock.Mock()
    monkeypatch.setattr(module.plots, "panels", drawn.panels)
    monkeypatch.setattr(module.plots, "pixel_features", drawn.features)
    rng = np.random.default_rng(0)
    pixels, masks = rng.uniform(0, 255, (2, 1, 8, 12, 3)).astype("float32"), rng.integers(0, 3, (2, 1, 8, 12))
    monkeypatch.setattr(
        Segmentation, "images", lambda *given: zip(map(tf.constant, pixels), map(tf.constant, masks), strict=True)
    )
    inputs = keras.Input((None, None, 3))
    brighter = keras.layers.RandomBrightness([0.5, 0.5])  # by default it is in training mode
    features = keras.layers.AveragePooling2D(4)(brighter(inputs))
    model = keras.Model(inputs, {"features": features, "logits": inputs})
    predictor = mock.Mock(calibration=found, class_names=["a"], model=model)
    predictor.predict = lambda images: {"score": images[..., 0] + 1}
    split, experiment = mock.Mock(describe=lambda number: f"image {number}"), mock.Mock(score=scores.max_logit)
    experiment.name = "some"
    figures = Segmentation().draw(predictor, split, experiment)
    assert [*figures] == ["segmentation/0", "segmentation/1"]
    for number, call in enumerate(drawn.panels.call_args_list):
        image, labels, answer, *rest = call.args
        np.testing.assert_array_equal(image, pixels[number, 0])
        np.testing.assert_array_equal(labels, masks[number, 0])
        np.testing.assert_array_equal(answer["score"], pixels[number, 0, ..., 0] + 1)
        assert rest == [["a"], found and 0.5, "max_logit", f"some: image {number}"]
    Segmentation().draw_features(predictor, split, experiment)
    (cells, labels, names), more = drawn.features.call_args
    assert (names, more) == (["a"], {"title": "some: pixels"})
    np.testing.assert_allclose(cells, pixels.reshape(2, 2, 4, 3, 4, 3).mean((2, 4)).reshape(-1, 3), rtol=1e-5)
    np.testing.assert_array_equal(labels, masks[:, 0, 2::4, 2::4].ravel())


def test_images_to_look_at_are_of_64_and_in_order_where_alike():
    masks = np.zeros((130, 1, 2), "uint8")
    masks[::2] = 1
    source = data.sources.arrays(np.zeros((130, 1, 2, 3), "uint8"), masks=masks, class_names=("road", "fence"))
    split = data.splits.Split("test", source, data.Protocol(known=("road",), unknown=("fence",)))
    some = np.linspace(0, 129, 64).astype(int)
    even = [index for index in some if index % 2 == 0]
    assert set(module.telling(split, 7)) == {*even[-3:], 0, 43, 86, 129}
    assert module.spaced(5, 1).tolist() == [0]
    assert module.spaced(3, 9).tolist() == [0, 1, 2]


def test_tables_have_a_row_of_what_is_averaged(monkeypatch):
    monkeypatch.setattr(module.metrics.segmentation, "iou_table", lambda rows: rows)
    assert Segmentation().tables({"segmentation": 1}) == [{"as it is": 1}]
    both = {"segmentation": 1, "segmentation_averaged": 2}
    assert Segmentation().tables(both) == [{"as it is": 1, "averaged": 2}]


def test_no_setting_of_the_run_is_a_default(experiment, defaults):
    """But `keep_ratio`, which `test_task` spies on, `test_scales`, which `base` rules out, and what others set."""
    assert defaults(experiment) == {"epochs", "patience", "note", "sampling", "repeat_threshold"}
    assert defaults(experiment.task) == {"keep_ratio", "test_scales"}
