"""Configs of detection: what each method trains, on which images, and the paper's table as it is printed."""

import pathlib
import re
import resource
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import configs, losses, scores
from cplus1_keras.configs import detection
from cplus1_keras.configs.rows import BOX_ROWS
from cplus1_keras.layers import complete

SOFTMAX = {"background_cross_entropy": 1}
TERMS = {
    "sigmoid": {"sigmoid_focal": 1},
    "softmax": SOFTMAX,
    "focal_softmax": SOFTMAX,
    "compactness": {**SOFTMAX, "compactness": 0.2},
    "cplus1": {**SOFTMAX, "compactness": 0.2, "background_margin": 0.01},
    **dict.fromkeys(("cosine", *detection.MARGINS), SOFTMAX),
    "entropic": {"entropic_open_set": 1},
}


@pytest.mark.parametrize("method", detection.METHODS)
def test_head_and_loss_of_a_method_belong_together(method):
    experiment = configs.resolve("bccd", [f"method={method}", "compactness=0.2", "background=0.01"])
    weights = {term.name: weight for weight, term in experiment.loss.terms()}
    assert weights == {**TERMS[method], "giou": 1, "centerness": 1}
    keras.utils.set_random_seed(0)
    head = detection.point_head(3, method)
    images = keras.Input((5, 8))
    model = keras.Model(images, head(images))
    outputs = model(np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32"))
    assert outputs["logits"].shape[-1] == (3 if method in ("sigmoid", "entropic") else 4)
    labels = np.array([[0, 1, -1, -1, -1], [-1, -1, 2, -100, -1]], "int32")
    tensors = complete(model.layers, {**outputs, "labels": labels}, training=True)
    first = experiment.loss.terms()[0][1]
    values = np.array(first.values(labels, {name: tensors[name] for name in tensors if name != "labels"}))
    # Divided by the three knowns, whatever counts.
    assert float(first(labels, tensors)) == pytest.approx(values[labels >= -1].sum() / 3, rel=1e-5)
    assert (experiment.task.sigmoid, experiment.score is scores.max_logit) == ((method == "sigmoid",) * 2)
    gamma = getattr(first, "gamma", None)
    assert gamma == {"sigmoid": 2, "focal_softmax": 2, "entropic": None}.get(method, 0)
    margin = getattr(first, "margin", None)
    assert isinstance(margin, type(detection.MARGINS[method])) if method in detection.MARGINS else True


def test_centres_are_there_where_a_term_reads_them():
    for centers in ("moving_average", "learnable", "shared"):
        features = keras.Input((5, 8))
        outputs = detection.point_head(3, "cplus1", centers)(features)
        made = keras.Model(features, outputs)
        assert any("centers" in layer.name for layer in made.layers), centers
    plain = keras.Model(features, detection.point_head(3, "softmax", "learnable")(features))
    assert not any("centers" in layer.name for layer in plain.layers)


def test_bccd_trains_on_its_own_lists(shared):
    root = f"root={shared / 'data/bccd_det/bccd_voc.zip'}"
    splits = configs.resolve("bccd", [root]).data(0)
    assert [len(part) for part in splits] == [205, 0, 87, 72]
    assert splits.class_names == ("RBC", "WBC", "Platelets")
    held = configs.resolve("bccd", [root, "hold_out=WBC", "unknown_in_training=negative"]).data(0)
    assert held.class_names == ("RBC", "Platelets")
    assert [np.unique(part.box_labels).tolist() for part in held if len(part)] == [[-1, 0, 1], [-100, 0, 1], [-2, 0, 1]]


def test_coco_mini_has_unknown_furniture(shared):
    splits = configs.resolve("coco_mini_boxes", [f"root={shared / 'data/coco_mini/coco_mini.zip'}"]).data(0)
    assert splits.class_names == ("person", "vehicle", "animal", "tableware")
    assert {-1, -2, 0, 3} <= set(splits.test.box_labels.tolist())
    assert -2 not in splits.train.box_labels


def test_settings_reach_the_task():
    small = configs.resolve("bccd", ["width=160", "iou=0.5", "false_allowed=2", "score_threshold=0.1"])
    assert (small.task.base, small.task.spec().iou, small.task.false_allowed) == ((120, 160), 0.5, 2)
    assert small.task.spec().score_threshold == 0.1
    with pytest.raises(ValueError, match="cosphace"):
        configs.resolve("bccd", ["method=cosphace"])


def test_the_figures_of_table_10_are_the_papers(shared):
    text = (shared / "papers/cplus1_loss_iclr2022.txt").read_text(encoding="utf-8")
    start = text.index("Table 10: Experiment results on COCO")
    lines = [re.findall(r"\d\d\.\d", line) for line in text[start : start + 600].splitlines()]
    printed = [line for line in lines if len(line) == 6]
    assert [re.findall(r"\d\d\.\d", row.paper) for row in BOX_ROWS.values()] == printed
    guide = (pathlib.Path(__file__).parent.parent / "docs/detection.md").read_text(encoding="utf-8")
    rows = [line for line in guide.splitlines() if line.startswith("| `coco_table10")]
    assert [re.findall(r"\d\d\.\d", row) for row in rows] == printed
    assert [row.split("`")[1] for row in rows] == [*BOX_ROWS]


@pytest.mark.parametrize("name", BOX_ROWS)
def test_rows_of_table_10_have_the_settings_of_the_framework(name, monkeypatch):
    experiment, asked = configs.resolve(name, ["weights=None"]), {}
    assert (experiment.epochs, experiment.batch_size, experiment.learning_rate) == (24, 16, 0.01)
    optimizer = experiment.optimizer(0.01)
    assert (optimizer.momentum, optimizer.l2, optimizer.global_clipnorm) == (0.9, 1e-4, 35.0)
    task, method = experiment.task, BOX_ROWS[name].method
    assert (task.base, task.iou, task.score_threshold, task.max_detections) == ((1333, 800), 0.5, 0.05, 100)
    assert (task.per_level, task.sigmoid) == (1000, method == "sigmoid")
    names = [term.name for _, term in experiment.loss.terms()]
    separate = (
        ["sigmoid_focal"] if method == "sigmoid" else ["background_cross_entropy", "compactness", "background_margin"]
    )
    assert names == [*separate, "iou", "centerness"]

    def build(num_classes, backbone, head, **settings):
        asked.update(settings, backbone=backbone(), classes=num_classes)

    monkeypatch.setattr(detection.models, "fcos", build)
    monkeypatch.setattr(detection.backbones, "resnext", lambda: "resnext")
    monkeypatch.setattr(detection.backbones, "dilated_resnet", lambda *given, weights: (*given, weights))
    experiment.model(80)
    wanted = {"classes": 80, "center_radius": None, "centerness": "classification"}
    assert asked == {**wanted, "backbone": "resnext" if "x101" in name else (50, 32, None)}


@pytest.mark.parametrize(("size", "longer"), [((480, 640), 1), ((640, 427), 0), ((200, 900), 1)])
def test_training_images_of_table_10_keep_their_shape(size, longer):
    """Short sides from 640 to 800 unless the longer one would pass 1333, in one canvas either way up, no colours."""
    augment = configs.resolve("coco_table10_r50", ["weights=None"]).task.augment
    grey = {"image": np.full((*size, 3), 200.0, "float32"), "box_labels": np.array([3])}
    sides = []
    for seed in range(6):
        example = grey | {"boxes": np.array([[10, 20, 110, 120]], "float32")}
        found = augment({name: tf.constant(value) for name, value in example.items()}, [0, seed])
        assert found["image"].shape == (1344, 1344, 3)
        inside = np.all(np.abs(found["image"].numpy() - 200) < 1e-3, axis=-1)
        shape = inside.any(axis=1).sum(), inside.any(axis=0).sum()
        assert shape[longer] / shape[1 - longer] == pytest.approx(max(size) / min(size), rel=2e-3)
        left, top, right, bottom = found["boxes"].numpy()[0]
        assert (right - left, bottom - top) == pytest.approx([100 * shape[0] / size[0]] * 2, rel=2e-3)
        sides.append(min(shape))
        assert max(shape) <= 1333
    assert 640 <= min(sides) < max(sides) <= 800 if max(size) < 900 else {*sides} == {296}


def test_the_first_layers_of_a_pretrained_backbone_stay_as_they_are():
    row = BOX_ROWS["coco_table10_r50_cplus1"]
    count = lambda weights: sum(int(np.prod(weight.shape)) for weight in weights)  # noqa: E731
    whole, model = (detection.published_fcos(80, row, frozen=frozen) for frozen in (None, True))
    assert count(whole.trainable_weights) == 32_131_739
    assert count(model.trainable_weights) == 32_131_739 - 275_520
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection.backbones, "dilated_resnet", lambda *_, weights: asked.append(weights) or whole)
        patch.setattr(detection.models, "fcos", lambda _, backbone, *__, **___: backbone())
        detection.published_fcos(80, row, "resnet50_imagenet")
    assert asked == ["resnet50_imagenet"]
    assert not any(layer.trainable for layer in whole.layers if layer.name.startswith(("stem", "stage1_")))


@pytest.mark.slow
@pytest.mark.parametrize("name", BOX_ROWS)
def test_a_step_of_table_10_at_its_size(name):
    """One image on the canvas: the frozen weights of a ResNet-50 stay, those of its second stage and the head move."""
    experiment = configs.resolve(name, ["weights=None"])
    frozen = "r50" in name
    model = detection.published_fcos(80, BOX_ROWS[name], frozen=frozen)
    model.compile(experiment.optimizer(0.01), experiment.loss)
    before = {weight.path: weight.numpy() for weight in model.weights}
    images = np.random.default_rng(0).uniform(0, 255, (1, detection.CANVAS, detection.CANVAS, 3)).astype("float32")
    y = {"boxes": np.array([[[100, 100, 400, 300], [700, 60, 790, 200]]], "float32"), "box_labels": np.array([[1, 79]])}
    start = time.perf_counter()
    assert np.all(np.isfinite(model.train_on_batch(images, y)))
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name}: {seconds:.0f} s with tracing, peak of the process {peak:.1f} GiB")
    for weight in model.weights:
        still = np.array_equal(weight.numpy(), before[weight.path])
        if weight.path.startswith(("stem", "stage1_")) or weight.path.split("/")[0].endswith("_norm"):
            assert still == frozen or "tower" in weight.path, weight.path
        elif weight.path.endswith("/kernel"):
            assert not still, weight.path


def test_one_step_of_the_small_net_moves_its_weights():
    experiment = configs.resolve("bccd", ["width=96"])
    model = experiment.model(2)
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) < 1e6
    model.compile(keras.optimizers.SGD(0.1), experiment.loss, run_eagerly=True)
    rng = np.random.default_rng(0)
    y = {"boxes": np.array([[[10, 10, 40, 40], [0, 0, 0, 0]]], "float32"), "box_labels": np.array([[1, -100]])}
    before = [weight.numpy() for weight in model.trainable_weights]
    model.train_on_batch(rng.uniform(0, 255, (1, 72, 96, 3)).astype("float32"), y)
    moved = [np.any(weight.numpy() != old) for weight, old in zip(model.trainable_weights, before, strict=True)]
    assert np.mean(moved) > 0.9


def test_losses_of_boxes_can_be_chosen():
    assert detection.point_loss("softmax", box=losses.SmoothL1BoxLoss()).terms()[1][1].name.startswith("smooth")
