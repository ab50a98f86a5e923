"""Configs of detectors of two stages: what each method trains, and the long tail that is cut into BCCD."""

import keras
import numpy as np
import pytest

from cplus1_keras import configs
from cplus1_keras.configs import two_stage
from cplus1_keras.configs.families import TAILS


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
