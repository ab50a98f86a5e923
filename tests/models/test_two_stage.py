"""Detectors of two stages: their published sizes, that they learn where boxes are, saving, and what they refuse."""

import functools

import keras
import numpy as np
import pytest

from cplus1_keras import backbones, heads, losses, metrics, models

if keras.backend.backend() != "tensorflow":
    pytest.skip("proposals run on Keras's TensorFlow backend", allow_module_level=True)

SMALL = {"levels": (2, 3, 4), "channels": 16, "width": 32, "proposals": 40, "samples": 32, "scale": 4}


def tiny():
    """A few convolutions at strides 4 and 8."""
    images, maps = keras.Input((None, None, 3)), []
    x = keras.layers.Rescaling(1 / 127.5, -1)(images)
    for channels, stride in ((8, 4), (16, 2)):
        x = keras.layers.Conv2D(channels, 5, stride, "same", activation="relu")(x)
        maps.append(x)
    return keras.Model(images, maps)


def cosine(num_classes):
    return heads.CosineHead(num_classes, 16.0, background=True)


def linear(num_classes):
    return heads.LinearHead(num_classes, use_bias=True, background=True)


def squares(number, side=48, seed=0):
    """Images with a bright square each, red or green, on noise."""
    random = np.random.default_rng(seed)
    images = random.uniform(0, 60, (number, side, side, 3)).astype("float32")
    boxes, labels = np.zeros((number, 3, 4), "float32"), np.full((number, 3), -100)
    for i in range(number):
        size, label = random.integers(12, 24), random.integers(0, 2)
        x, y = random.integers(0, side - size, 2)
        images[i, y : y + size, x : x + size, label] += 180
        boxes[i, 0], labels[i, 0] = (x, y, x + size, y + size), label
    return images, {"boxes": boxes, "box_labels": labels}


def region_losses(stages=1, margin=None):
    loss = (losses.ObjectnessLoss() + losses.BoxDeltaLoss(1 / 9)).of("rpn_")
    for stage in range(1, stages + 1):
        loss = loss + (losses.BackgroundCrossEntropyLoss(margin) + losses.BoxDeltaLoss()).of(f"roi{stage}_")
    return loss


def count(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_variables)


@pytest.mark.slow
def test_the_published_sizes():
    """torchvision's `fasterrcnn_resnet50_fpn`, 41,755,286; mmdetection's 69.17 M of Cascade R-CNN, layer by layer."""
    resnet, ratios, width = 23_508_032, 3, 1024
    fpn = (256 + 512 + 1024 + 2048) * 256 + 4 * 256 + 4 * (9 * 256 * 256 + 256)
    rpn = 9 * 256 * 256 + 256 + 5 * ratios * (256 + 1)
    box = 49 * 256 * width + width + width * width + width
    build = functools.partial(models.rcnn, backbone=functools.partial(backbones.dilated_resnet, 50, 32), head=linear)
    assert count(build(80)) == resnet + fpn + rpn + box + (81 + 320) * (width + 1) == 41_753_056
    # torchvision's 90 classes; it has boxes of the background and no weights in batch normalisation.
    assert resnet + fpn + rpn + box + (91 + 360) * (width + 1) + 4 * (width + 1) - 53_120 == 41_755_286
    cascade = resnet + fpn + rpn + 3 * (box + (81 + 4) * (width + 1))
    assert count(build(80, stages=3)) == cascade == 69_394_766
    assert round((cascade - 225_344) / 1e6, 2) == 69.17  # it freezes the stem and the first stage


@pytest.mark.parametrize(
    ("stages", "head", "margin"),
    [(1, cosine, losses.C2AM(0.5)), pytest.param(3, linear, None, marks=pytest.mark.slow)],
)
def test_it_learns_where_boxes_are(stages, head, margin):
    keras.utils.set_random_seed(0)
    model = models.rcnn(2, tiny, head, stages=stages, **SMALL)
    measured = {"roi1_logits": [metrics.KnownAccuracy(2)]}
    model.compile(keras.optimizers.Adam(3e-3), region_losses(stages, margin), metrics=measured)
    images, y = squares(160)
    history = model.fit(images, y, batch_size=8, epochs=3 if stages == 3 else 5, verbose=0).history
    assert history["roi1_logits_known_accuracy"][-1] > 0.95
    assert history["rpn_objectness"][-1] < 0.1
    fresh, truth = squares(24, seed=1)
    found = model.predict(fresh, verbose=0)
    p = keras.ops.convert_to_numpy(keras.ops.softmax(found["logits"]))[..., :2]
    hits = []
    for i in range(24):
        row, label = np.unravel_index(p[i].argmax(), p[i].shape)
        box = found["roi_boxes"][i, row] if stages > 1 else found["roi_boxes"][i, row, label]
        goal = truth["boxes"][i, 0]
        sides = np.clip(np.minimum(box[2:], goal[2:]) - np.maximum(box[:2], goal[:2]), 0, None)
        union = np.prod(box[2:] - box[:2]) + np.prod(goal[2:] - goal[:2]) - np.prod(sides)
        hits.append(label == truth["box_labels"][i, 0] and np.prod(sides) / union > 0.5)
    assert np.mean(hits) > 0.8


def test_a_saved_model_answers_alike_and_any_size_fits(tmp_path):
    model = models.rcnn(2, tiny, cosine, stages=2, **SMALL)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for size in ((48, 64), (37, 90)):
        image = np.random.default_rng(0).uniform(0, 255, (2, *size, 3)).astype("float32")
        one, two = model(image), again(image)
        for name in one:
            np.testing.assert_array_equal(one[name], two[name], err_msg=name)
        boxes = np.array(one["roi_boxes"])
        assert boxes.min() >= 0
        assert (boxes.max(axis=(0, 1)) <= [size[1], size[0]] * 2).all()
    # Both box heads have weights of their own, and further training goes on from them.
    again.compile("sgd", region_losses(2))
    again.train_on_batch(*(squares(2)))


def test_every_treatment_of_negatives_trains_a_box_head():
    for head, loss in (
        (heads.LinearHead, losses.EntropicOpenSetLoss()),
        (heads.LinearHead, losses.CrossEntropyLoss()),
        (linear, losses.BackgroundCrossEntropyLoss(gamma=2.0).per_known()),
    ):
        model = models.rcnn(2, tiny, head, **SMALL)
        rpn = (losses.ObjectnessLoss() + losses.BoxDeltaLoss()).of("rpn_")
        model.compile("sgd", rpn + loss.of("roi1_") + losses.BoxDeltaLoss(0.0).of("roi1_"), run_eagerly=True)
        before = [np.array(weight) for weight in model.trainable_variables]
        assert np.all(np.isfinite(model.train_on_batch(*squares(2))))
        moved = [np.any(np.array(w) != b) for w, b in zip(model.trainable_variables, before, strict=True)]
        assert all(moved), [w.path for w, own in zip(model.trainable_variables, moved, strict=True) if not own]


def test_errors_say_what_is_needed():
    with pytest.raises(ValueError, match="all classes share"):
        models.rcnn(2, tiny, cosine, stages=2, agnostic=False, **SMALL)
    with pytest.raises(ValueError, match="up to 3 stages"):
        models.rcnn(2, tiny, cosine, stages=4, **SMALL)
    with pytest.raises(ValueError, match="one more with the background"):
        models.rcnn(2, tiny, lambda c: heads.LinearHead(c + 2), **SMALL)
