"""Configs of detectors of two stages: what each method trains, and the long tail that is cut into BCCD."""

import re

import keras
import numpy as np
import pytest

from cplus1_keras import configs, losses
from cplus1_keras.configs import two_stage
from cplus1_keras.configs.families import TAILS
from cplus1_keras.configs.lvis_rows import LVIS_ROWS


@pytest.fixture(scope="module")
def splits(shared):
    return configs.resolve("bccd_tail", [f"root={shared / 'data/bccd_det/bccd_voc.zip'}"]).data(0)


def shown(split):
    return [len(np.unique(split.source.boxes.images[split.box_labels == k])) for k in range(3)]


def test_rare_cells_count_in_a_few_training_images_only(splits):
    whole = configs.resolve("bccd", [f"root={splits.train.source.files[0].split('/BCCD')[0]}"]).data(0)
    assert shown(splits.train) == [197, 40, 8]
    assert shown(splits.test) == shown(whole.test) == [69, 68, 39]
    # The other objects are neither to be found nor background.
    assert [len(part.box_labels) for part in (splits.train, whole.train)] == [len(whole.train.box_labels)] * 2
    changed = splits.train.box_labels != whole.train.box_labels
    assert set(splits.train.box_labels[changed]) == {-100}
    assert set(whole.train.box_labels[changed]) == {1, 2}


@pytest.mark.parametrize("method", ["c2am", "balanced_softmax", "seesaw", "equalization"])
def test_a_step_of_each_kind_of_method_moves_all_weights(splits, method):
    experiment = configs.resolve("bccd_tail", [f"method={method}", "width=96"])
    keras.utils.set_random_seed(0)
    model = experiment.model(3)
    loss = experiment.with_loss(splits).loss
    names = [term.name for _, term in loss.terms()]
    assert names == ["rpn_objectness", "rpn_box_delta", "roi1_background_cross_entropy", "roi1_box_delta"]
    margin = loss.terms()[2][1].margin
    expected = TAILS[method].margin([10, 5, 1])
    assert type(margin) is type(expected)
    if method == "balanced_softmax":
        assert margin.counts[:3] == [int((splits.train.box_labels == k).sum()) for k in range(3)]
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
    y = {"boxes": np.array([[[10, 10, 40, 40], [0, 0, 0, 0]]], "float32"), "box_labels": np.array([[1, -100]])}
    before = [weight.numpy() for weight in model.trainable_weights]
    model.train_on_batch(np.random.default_rng(0).uniform(0, 255, (1, 72, 96, 3)).astype("float32"), y)
    moved = [np.any(weight.numpy() != old) for weight, old in zip(model.trainable_weights, before, strict=True)]
    assert np.mean(moved) > 0.9


def test_a_cascade_weighs_its_stages(splits):
    loss = two_stage.region_loss(splits, "softmax", stages=3, beta=0.9)
    weights = {term.name: weight for weight, term in loss.terms()}
    assert weights["roi1_box_delta"] == 1
    assert weights["roi2_background_cross_entropy"] == weights["roi2_box_delta"] == 0.5
    assert weights["roi3_background_cross_entropy"] == 0.25
    betas = {term.name: term.beta for _, term in loss.terms() if hasattr(term, "beta")}
    assert betas["rpn_box_delta"] == pytest.approx(0.1)
    assert betas["roi3_box_delta"] == 0.9


def test_settings_reach_the_task():
    small = configs.resolve("bccd_tail", ["width=160", "stages=2", "iou=0.4", "scale=20.0"])
    assert (small.task.base, small.task.spec().iou) == ((120, 160), 0.4)
    model = small.model(3)
    assert model.output["roi_boxes"].shape[1:] == (200, 4)
    with pytest.raises(ValueError, match="c2bm"):
        configs.resolve("bccd_tail", ["method=c2bm"])


def test_rows_of_tables_2_to_6_are_the_papers(shared):
    text = (shared / "papers/c2am_cvpr2022.txt").read_text(encoding="utf-8")
    for name, row in LVIS_ROWS.items():
        figures = re.findall(r"[\d.]+", row.paper.rpartition(":")[2])
        assert len(figures) == 5, name
        if "table2" in name:  # two rows in one line of the text
            pattern = r"\s".join(rf"(?:{re.escape(own)}\s[\d.]+|[\d.]+\s{re.escape(own)})" for own in figures)
        else:
            pattern = r"\s".join(map(re.escape, figures))
        assert re.search(rf"(?<![\d.]){pattern}(?![\d.])", text), name


@pytest.mark.parametrize("name", ["lvis_table2_cascade_r101_c2am", "lvis_table3_scale10", "lvis_table5_fixed"])
def test_rows_have_the_settings_of_section_4_2(name, splits):
    experiment, row = configs.resolve(name, ["weights=None", "margin=0.3"]), LVIS_ROWS[name]
    assert (experiment.epochs, experiment.batch_size, experiment.learning_rate) == (24, 16, 0.02)
    optimizer, task = experiment.optimizer(0.02), experiment.task
    assert (optimizer.momentum, optimizer.l2) == (0.9, 1e-4)
    assert (task.base, task.iou, task.score_threshold, task.max_detections) == ((1333, 800), 0.5, 1e-4, 300)
    rates = [float(experiment.schedule(0.02, 2400)(step)) for step in (0, 1599, 1601, 2201)]
    assert rates == pytest.approx([0.02, 0.02, 0.002, 0.0002])
    terms = {term.name: term for _, term in experiment.with_loss(splits).loss.terms()}
    assert len(terms) == 2 + 3 * row.stages
    margin = terms["roi1_background_cross_entropy"].margin
    expected = losses.ArcFace(0.3) if row.method == "fixed" else losses.C2AM(0.5)
    assert (type(margin), margin.get_config()) == (type(expected), expected.get_config())
    assert terms["roi1_box_delta"].beta == float(row.stages > 1)


def test_rows_differ_as_the_tables_say():
    assert LVIS_ROWS["lvis_table3_scale40"].scale == 40
    assert LVIS_ROWS["lvis_table4_alpha7"].alpha == 0.7
    assert LVIS_ROWS["lvis_table6_v05_c2am"][-2:] == ("repeat_factor", "v0.5")
    assert LVIS_ROWS["lvis_table6_r101_seesaw"][:1] + LVIS_ROWS["lvis_table6_r101_seesaw"][2:3] == ("seesaw", 101)
    assert len(LVIS_ROWS) == 8 + 5 + 5 + 3 + 5 + 3 + 3


def test_coco_mini_has_masks_and_a_tail(shared):
    splits = configs.resolve("coco_mini_masks", [f"root={shared / 'data/coco_mini/coco_mini.zip'}"]).data(0)
    counts = [len(np.unique(splits.train.source.boxes.images[splits.train.box_labels == k])) for k in range(4)]
    assert counts[1] == 15
    assert counts[3] == 6
    example = next(iter(splits.test.dataset().take(1)))
    assert example["masks"].shape == (len(example["boxes"]), 56, 56)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lvis_table2_r50_c2am", "lvis_table2_cascade_r50_softmax", "lvis_table6_r101_seesaw"])
def test_a_step_of_a_table_at_its_size(name, splits):
    """One image on a canvas, with 1,203 classes."""
    experiment = configs.resolve(name, ["weights=None"])
    model = two_stage.published_rcnn(1203, LVIS_ROWS[name], frozen=True)
    model.compile(experiment.optimizer(0.02), experiment.with_loss(splits).loss)
    side = 800
    boxes = np.array([[[100, 100, 400, 300], [700, 60, 790, 200]]], "float32")
    y = {"boxes": boxes, "box_labels": np.array([[1, 1202]]), "mask_boxes": boxes}
    y["masks"] = np.ones((1, 2, 56, 56), "int32")
    images = np.random.default_rng(0).uniform(0, 255, (1, side, side, 3)).astype("float32")
    assert np.all(np.isfinite(model.train_on_batch(images, y)))
