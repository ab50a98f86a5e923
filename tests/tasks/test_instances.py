"""Mask R-CNN through the one run: its figures by masks are those of discs drawn here; stopped, it goes on exactly."""

import dataclasses
import functools
import json

import keras
import numpy as np
import pytest

import cplus1_keras
from cplus1_keras import data, heads, losses, models
from cplus1_keras.data import outlines
from cplus1_keras.experiment import Experiment
from cplus1_keras.labels import UNKNOWN
from cplus1_keras.metrics import AveragePrecision, encode_masks
from cplus1_keras.tasks import Detection

COLOURS = {"red": (220, 0, 0), "green": (0, 190, 0), "white": (230, 0, 230)}
COUNTS = (7, 300)
"""In how many images red and green are said to be: one is rare, one frequent."""


def discs(count, seed):
    """Images of noise with one to three discs each, and of each disc its mask, box and colour."""
    rng, images, objects = np.random.default_rng(seed), [], []
    rows, columns = np.indices((48, 64)) + 0.5
    for _ in range(count):
        image, own = rng.integers(90, 140, (48, 64, 3)).astype("uint8"), []
        for place in rng.permutation(3)[: rng.integers(1, 4)]:
            kind, side = str(rng.choice([*COLOURS], p=[0.4, 0.4, 0.2])), int(rng.integers(14, 20))
            x, y = int(21 * place), int(rng.integers(0, 28))
            inside = np.hypot(rows - y - side / 2, columns - x - side / 2) < side / 2
            image[inside] = COLOURS[kind]
            own.append((inside, (x, y, x + side, y + side), kind))
        images.append(image)
        objects.append(own)
    return images, objects


def source(count, seed, name):
    images, objects = discs(count, seed)
    boxes = [[(*box, kind) for _, box, kind in own] for own in objects]
    plain = data.sources.boxes(images, boxes, [*COLOURS], name)
    drawn = [
        outlines.Outline(encode_masks(inside[None])[0]["counts"], outlines.pack(outlines.cut(inside, box)))
        for own in objects
        for inside, box, _ in own
    ]
    drawn = np.array([None, *drawn], object)[1:]
    return plain.with_boxes(dataclasses.replace(plain.boxes, outlines=drawn))


@functools.cache
def splits(seed):
    protocol = data.Protocol(["red", "green"], [], ["white"], [], name="discs")
    return data.split(protocol, source(60, 1, "train"), source(12, 2, "test"), calibration_fraction=0.2, seed=seed)


def build(num_classes):
    def backbone():
        images = keras.Input((None, None, 3))
        x = keras.layers.Rescaling(1 / 127.5, -1)(images)
        x = keras.layers.Conv2D(16, 5, 4, "same", activation="relu")(x)
        return keras.Model(images, keras.layers.Conv2D(16, 3, 1, "same", activation="relu")(x))

    head = functools.partial(heads.CosineHead, scale=16.0, background=True)
    sizes = {"levels": (2,), "channels": 16, "width": 32, "scale": 4, "proposals": 12, "per_level": (60, 60)}
    return models.rcnn(num_classes, backbone, head, samples=16, masks="agnostic", **sizes)


def experiment():
    rpn = losses.ObjectnessLoss() + losses.BoxDeltaLoss(1 / 9)
    roi = losses.BackgroundCrossEntropyLoss(losses.C2AM(0.5)) + losses.BoxDeltaLoss()
    task = Detection(
        augment=data.augment.random_flip(), masks=True, image_counts=COUNTS, false_allowed=9, pictures=1, iou=0.5
    )
    return Experiment(
        name="discs",
        task=task,
        data=splits,
        model=build,
        loss=rpn.of("rpn_") + roi.of("roi1_") + losses.MaskLoss().of("mask1_"),
        optimizer=keras.optimizers.Adam,
        learning_rate=5e-3,
        steps=60,
        interval=20,
        batch_size=6,
        fpr=0.5,
        confidence=0.5,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    keras.utils.disable_interactive_logging()
    yield experiment().run(tmp_path_factory.mktemp("runs"))
    keras.utils.enable_interactive_logging()


@pytest.mark.slow
def test_figures_by_masks_are_those_of_what_was_drawn(run):
    told = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    predictor, labels = cplus1_keras.load(run), {"red": 0, "green": 1, "white": UNKNOWN}
    masks, boxes = (AveragePrecision(["red", "green"], image_counts=COUNTS) for _ in range(2))
    for image, objects in zip(*discs(12, 2), strict=True):
        answer = {name: value[0] for name, value in predictor.predict(image[None]).items()}
        found = {name: answer[name][: answer["num_detections"]] for name in ("known_argmax", "confidence", "boxes")}
        drawn, corners, kinds = zip(*objects, strict=True)
        corners = np.array(corners, "float32")
        common = found["known_argmax"], found["confidence"], [labels[kind] for kind in kinds]
        common = (*common, np.prod(corners[:, 2:] - corners[:, :2], axis=1))
        own = answer["masks"][: answer["num_detections"]]
        masks.update(*common, masks=(encode_masks(own), encode_masks(np.array(drawn))))
        boxes.update(*common, boxes=(found["boxes"], corners))
    wanted = masks.result()
    for name, value in wanted.items():
        assert told["masks"][name] == (value if name == "classes" else pytest.approx(value, abs=1e-6)), name
    assert wanted["ap50"] > 0.3
    assert told["detection"]["coco"]["ap"] == pytest.approx(boxes.result()["ap"], abs=1e-3) != wanted["ap"]
    for group, name in (("rare", "red"), ("frequent", "green")):
        assert told["masks"][f"ap_{group}"] == told["masks"]["classes"][name]["ap"]
    assert told["masks"]["ap_common"] is None


@pytest.mark.slow
def test_a_stopped_run_goes_on_exactly(run, tmp_path, monkeypatch):
    """Also the draws of anchors and regions: their generators' states are in the checkpoint."""

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr("cplus1_keras.run.StopOnNaN", lambda *arguments: Stop())
        with pytest.raises(KeyboardInterrupt):
            experiment().run(tmp_path)
    directory = tmp_path / "discs"
    assert {path.name for path in (directory / "checkpoints").iterdir()} == {"epoch-000001"}
    experiment().run(resume=directory)
    assert (directory / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()
    pairs = zip(
        *(keras.saving.load_model(path / "model.keras").get_weights() for path in (run, directory)), strict=True
    )
    assert all(np.array_equal(a, b) for a, b in pairs)
