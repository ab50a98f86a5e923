"""Anchors, proposals and sampled regions against loops that follow the papers."""

import keras
import numpy as np
import pytest

from cplus1_keras import heads, layers, losses
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.layers.matching import match_boxes, sample_labels
from cplus1_keras.models.two_stage import mask_head
from cplus1_keras.numerics.boxes import from_deltas, sample_masks, to_deltas

RANDOM = np.random.default_rng(0)
STRIDES = (4, 8)


def boxes(*shape, side=64):
    low = RANDOM.uniform(0, 0.7 * side, (*shape, 2))
    return np.concatenate([low, low + RANDOM.uniform(4, 0.3 * side, (*shape, 2))], axis=-1).astype("float32")


def iou(a, b):
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(wide, 0) * max(high, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def covered(a, b):
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(wide, 0) * max(high, 0) / max((a[2] - a[0]) * (a[3] - a[1]), 1e-9) >= 0.5


def matched(own, objects, labels, positive, negative, force):
    """Labels and rows of one image, by loops: section 3.1.2 of Faster R-CNN."""
    overlaps = np.array([[iou(a, b) if k >= 0 else 0 for b, k in zip(objects, labels, strict=True)] for a in own])
    found = []
    for i, a in enumerate(own):
        strange = any(covered(a, b) for b, k in zip(objects, labels, strict=True) if k in (IGNORE, UNKNOWN))
        j = overlaps[i].argmax()
        forced = [o for o in overlaps.T if force and o.max() >= max(negative, 1e-6) and o[i] == o.max()]
        if overlaps[i, j] >= positive or forced:
            found.append((labels[j], j))
        else:
            found.append((NEGATIVE if overlaps[i, j] < negative and not strange else IGNORE, j))
    return found


@pytest.mark.parametrize(("positive", "negative", "force"), [(0.5, 0.2, True), (0.3, 0.3, False), (0.4, 0.1, False)])
def test_boxes_are_matched_as_in_the_paper(positive, negative, force):
    own, objects = boxes(2, 60), boxes(2, 7)
    labels = np.array([[4, 0, IGNORE, NEGATIVE, 2, UNKNOWN, 0], [IGNORE, NEGATIVE, 1, 1, 3, 0, 0]])
    objects[1, 5:], labels[1, 5:] = 0, IGNORE  # padding
    own[1, 3] = 0
    found, rows = (np.array(x) for x in match_boxes(own, objects, labels, positive, negative, force))
    seen = set()
    for image, number in ((0, 7), (1, 5)):
        expected = matched(own[image], objects[image, :number], labels[image, :number], positive, negative, force)
        for i, (label, row) in enumerate(expected):
            if (image, i) == (1, 3):
                label = IGNORE
            assert found[image, i] == label, (image, i)
            if label >= 0:
                assert rows[image, i] == row
            seen.add(label)
    assert {NEGATIVE, IGNORE} < seen


def test_an_image_without_objects_is_background():
    labels, _ = match_boxes(boxes(1, 5), np.zeros((1, 1, 4)), np.array([[IGNORE]]), 0.7, 0.3, force=True)
    assert np.array(labels).tolist() == [[NEGATIVE] * 5]


@pytest.mark.parametrize(("known", "negative"), [(3, 40), (40, 3), (0, 40), (30, 0), (2, 3)])
def test_a_choice_has_its_share_of_objects_and_is_filled_by_background(known, negative):
    labels = np.full((2, 50), IGNORE)
    labels[:, :known], labels[:, 50 - negative :] = 5, NEGATIVE
    draws = [np.array(sample_labels(labels, 16, 0.25, RANDOM.permutation(50))) for _ in range(30)]
    for found in draws:
        assert ((found == labels) | (found == IGNORE)).all()
        np.testing.assert_array_equal((found == 5).sum(axis=1), min(known, 4))
        np.testing.assert_array_equal((found == NEGATIVE).sum(axis=1), min(negative, 16 - min(known, 4)))
    chosen = np.mean([found[0] != IGNORE for found in draws], axis=0)
    own = chosen[labels[0] != IGNORE]
    assert own.max() <= 1
    assert known < 16 or np.ptp(chosen[:known]) < 0.5


def test_deltas_move_anchors_onto_boxes():
    anchors, goal, stds = boxes(50), boxes(50), (0.1, 0.2, 0.3, 0.4)
    deltas = np.array(to_deltas(anchors, goal, stds))
    x, y = anchors[0, :2], anchors[0, 2:]
    assert deltas[0, 1] == pytest.approx((goal[0, 1] + goal[0, 3] - x[1] - y[1]) / 2 / (y[1] - x[1]) / 0.2, rel=1e-4)
    assert deltas[0, 2] == pytest.approx(np.log((goal[0, 2] - goal[0, 0]) / (y[0] - x[0])) / 0.3, rel=1e-4)
    np.testing.assert_allclose(from_deltas(anchors, deltas, stds), goal, atol=1e-4)
    grown = np.array(from_deltas(np.array([[0.0, 0, 2, 2]]), np.array([[0, 0, 99.0, 0]])))[0]
    assert grown[2] - grown[0] == pytest.approx(2 * 1000 / 16)
    assert np.isfinite(np.array(to_deltas(np.zeros((1, 4)), np.zeros((1, 4))))).all()


def maps(batch=2, height=10, width=7):
    return [np.zeros((batch, -(-height * 4 // s), -(-width * 4 // s), 3), "float32") for s in STRIDES]


def test_anchors_lie_around_the_middles_of_cells():
    found = np.array(layers.Anchors(STRIDES, scale=4, ratios=(0.5, 2.0))(maps()))
    expected = []
    for stride, (height, width) in zip(STRIDES, ((10, 7), (5, 4)), strict=True):
        for row in range(height):
            for column in range(width):
                for ratio in (0.5, 2.0):
                    wide, high = 4 * stride / ratio**0.5 / 2, 4 * stride * ratio**0.5 / 2
                    x, y = (column + 0.5) * stride, (row + 0.5) * stride
                    expected.append([x - wide, y - high, x + wide, y + high])
    np.testing.assert_allclose(found[1], expected, atol=1e-5)


def test_anchors_that_train():
    layer = layers.Anchors(STRIDES, scale=3, samples=20, share=0.4, positive=0.6, negative=0.2)
    anchors = layer(maps())
    given = {"boxes": boxes(2, 3, side=36), "box_labels": np.array([[7, 3, IGNORE], [2, IGNORE, IGNORE]])}
    given["boxes"][1, 1:] = 0
    draws = [layer.targets({"anchors": anchors, **given}, True) for _ in range(3)]
    for found in draws:
        labels, deltas = (np.array(found[f"rpn_{name}"]) for name in ("labels", "box_delta_targets"))
        assert set(np.unique(labels)) == {0, NEGATIVE, IGNORE}
        assert ((labels == 0).sum(axis=1) <= 8).all()
        assert ((labels != IGNORE).sum(axis=1) == 20).all()
        full, rows = match_boxes(anchors, given["boxes"], given["box_labels"], 0.6, 0.2, force=True)
        assert (np.array(full)[labels == 0] >= 0).all()
        assert (np.array(full)[labels == NEGATIVE] == NEGATIVE).all()
        for image, i in zip(*np.nonzero(labels == 0), strict=True):
            goal = given["boxes"][image, np.array(rows)[image, i]]
            np.testing.assert_allclose(from_deltas(np.array(anchors)[image, i], deltas[image, i]), goal, atol=1e-3)
        assert (deltas[labels != 0] == 0).all()
    labels = [np.array(found["rpn_labels"]) for found in draws]
    assert (labels[0] != labels[1]).any()
    still = [np.array(layer.targets({"anchors": anchors, **given}, False)["rpn_labels"]) for _ in range(2)]
    np.testing.assert_array_equal(*still)


def suppressed(own, likely, keep, iou_most):
    kept = []
    for i in np.argsort(-likely, kind="stable"):
        if all(iou(own[i], own[j]) <= iou_most for j in kept) and len(kept) < keep:
            kept.append(i)
    return kept


@pytest.mark.parametrize("training", [True, False])
def test_proposals_are_the_most_likely_of_each_level_without_overlaps(training):
    given = maps()
    anchors = np.array(layers.Anchors(STRIDES, scale=3)(given))
    count = anchors.shape[1]
    logits = RANDOM.normal(size=(2, count, 1)).astype("float32")
    deltas = RANDOM.normal(scale=0.3, size=(2, count, 4)).astype("float32")
    images = np.zeros((2, 38, 27, 3), "float32")
    layer = layers.Proposals(keep=30, per_level=(40, 25), iou=0.4)
    found = np.array(layer([images, anchors, logits, deltas, *given], training=training))
    assert found.shape == (2, 30, 4)
    for image in range(2):
        moved = np.clip(np.array(from_deltas(anchors[image], deltas[image])), 0, [27, 38, 27, 38])
        rows, start = [], 0
        for cells in (70, 20):
            own = start + np.argsort(-logits[image, start : start + 3 * cells, 0])[: 40 if training else 25]
            own = own[np.prod(moved[own, 2:] - moved[own, :2], axis=1) > 0]
            rows += [own[i] for i in suppressed(moved[own], logits[image, own, 0], 30, 0.4)]
            start += 3 * cells
        rows = sorted(rows, key=lambda i: -logits[image, i, 0])[:30]
        np.testing.assert_allclose(found[image, : len(rows)], moved[rows], atol=1e-3)
        assert (found[image, len(rows) :] == 0).all()


def test_what_overflows_proposes_nothing():
    given, images = maps(1), np.zeros((1, 40, 28, 3), "float32")
    anchors = np.array(layers.Anchors(STRIDES, scale=3)(given))
    logits, deltas = np.full((1, anchors.shape[1], 1), np.nan, "float32"), np.zeros(anchors.shape, "float32")
    deltas[0, :50] = np.nan
    logits[0, 40:60] = np.linspace(5, 4, 20)[:, None]
    found = np.array(layers.Proposals(keep=30)([images, anchors, logits, deltas, *given]))
    assert np.isfinite(found).all()
    assert (found[0, 0] == np.clip(anchors[0, 50], 0, [28, 40, 28, 40])).all()


def box_model(agnostic, number=5):
    cells = keras.Input((None, 12))
    outputs = heads.CosineHead(3, 16.0, background=True)(cells)
    deltas = keras.layers.Dense(4 if agnostic else 12, name=f"box{number}")(cells)
    return keras.Model(cells, {**outputs, "box_deltas": deltas})


def regions_layer(agnostic=True, stages=1):
    stds = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1))[:stages]
    made = [box_model(agnostic, k) for k in range(stages)]
    align = layers.RoIAlign(2, STRIDES)
    return layers.RoIHeads(made, align, (0.4, 0.5)[:stages], stds, samples=16, share=0.25)


def scene():
    given = [RANDOM.normal(size=x.shape).astype("float32") for x in maps(height=16, width=16)]
    regions = boxes(2, 40)
    regions[1, 30:] = 0
    objects = {"boxes": boxes(2, 4), "box_labels": np.array([[2, 0, 1, IGNORE], [1, 2, IGNORE, IGNORE]])}
    objects["boxes"][1, 2:] = 0
    regions[:, :2] = objects["boxes"][:, :2] + RANDOM.uniform(-1, 1, (2, 2, 4))
    tensors = {"regions": regions, "map2": given[0], "map3": given[1], **objects}
    return np.zeros((2, 64, 64, 3), "float32"), tensors


@pytest.mark.parametrize("agnostic", [True, False])
def test_regions_are_sampled_and_run_through_the_head(agnostic):
    _, tensors = scene()
    layer = regions_layer(agnostic)
    found = {name: np.array(x) for name, x in layer.targets(tensors, training=True).items()}
    assert {"roi1_logits", "roi1_cosines", "roi1_scale", "roi1_kernel_norms"} < set(found)
    labels, goals = found["roi1_labels"], found["roi1_box_delta_targets"]
    assert labels.shape == (2, 16)
    assert ((labels >= 0).sum(axis=1) >= 2).all()
    assert ((labels >= 0).sum(axis=1) <= 4).all()
    assert (labels == NEGATIVE).sum() >= 16
    assert (goals[labels < 0] == 0).all()
    assert (np.abs(goals[labels >= 0]).max(axis=1) > 0).any()
    # An object as a region needs no move.
    assert (np.abs(goals[labels >= 0]).max(axis=1) < 1e-5).any()
    assert found["roi1_box_deltas"].shape == (2, 16, 4)


def test_a_region_has_the_label_and_the_deltas_of_its_class():
    _, tensors = scene()
    layer = regions_layer(agnostic=False)
    regions = tensors["boxes"][:, :3] + 1.0
    labels, rows = np.array([[2, NEGATIVE, 1], [1, 2, IGNORE]]), np.array([[0, 1, 2], [0, 1, 2]])
    raw = RANDOM.normal(size=(2, 3, 12)).astype("float32")
    own, goal = layer._deltas(0, {"box_deltas": raw}, regions, labels, tensors["boxes"], rows)
    np.testing.assert_allclose(np.array(own)[0, [0, 2]], [raw[0, 0, 8:], raw[0, 2, 4:8]])
    np.testing.assert_allclose(np.array(own)[1, 0], raw[1, 0, 4:8])
    back = from_deltas(regions, goal, (0.1, 0.1, 0.2, 0.2))
    np.testing.assert_allclose(np.array(back)[labels >= 0], tensors["boxes"][:, :3][labels >= 0], atol=1e-3)


def test_a_cascade_trains_on_the_boxes_of_the_stage_before_and_answers_by_the_mean():
    images, tensors = scene()
    layer = regions_layer(stages=2)
    given = [tensors["map2"], tensors["map3"]]
    answer = layer([images, tensors["regions"], *given])
    moved, logits = tensors["regions"], 0
    for k, stds in enumerate(layer.stds):
        raw = layer.heads[k](np.array(layer.align([moved, *given])).reshape(2, 40, -1))
        moved = np.clip(np.array(from_deltas(moved, raw["box_deltas"], stds)), 0, 64)
        logits = logits + np.array(raw["logits"]) / 2
    np.testing.assert_allclose(answer["logits"], logits, atol=1e-4)
    np.testing.assert_allclose(answer["roi_boxes"], moved, atol=1e-3)
    assert (np.array(answer["roi_boxes"])[1, 30:] == 0).all()
    found = layer.targets(tensors, training=True)
    assert {"roi1_labels", "roi2_labels", "roi2_kernel_norms"} < set(found)
    assert (np.array(found["roi2_labels"]) >= 0).any(axis=1).all()


def test_in_training_the_answer_is_empty():
    images, tensors = scene()
    layer = regions_layer(agnostic=False)
    answer = layer([images, tensors["regions"], tensors["map2"], tensors["map3"]], training=True)
    shapes = {name: tuple(x.shape) for name, x in answer.items()}
    assert shapes["logits"] == (2, 0, 4)
    assert shapes["roi_boxes"] == (2, 0, 3, 4)


def test_errors_say_what_is_needed():
    with pytest.raises(ValueError, match="an IoU and four"):
        layers.RoIHeads([box_model(True)], layers.RoIAlign(2, STRIDES), ious=(0.5, 0.6))
    with pytest.raises(ValueError, match="share"):
        layers.Anchors(STRIDES, share=1.5)
    with pytest.raises(ValueError, match="box_labels"):
        layers.Anchors(STRIDES).targets({"anchors": np.zeros((1, 2, 4)), "boxes": 0}, True)


def sampled(mask, frame, region, size):
    """Bilinear between the middles of cells, by loops; the outer cells go on to the frame's sides."""
    side, found = len(mask), np.zeros(size)
    for i in range(size[0]):
        for j in range(size[1]):
            y = region[1] + (i + 0.5) / size[0] * (region[3] - region[1])
            x = region[0] + (j + 0.5) / size[1] * (region[2] - region[0])
            if not (frame[1] <= y <= frame[3] and frame[0] <= x <= frame[2]):
                continue
            v = np.clip((y - frame[1]) / (frame[3] - frame[1]) * side - 0.5, 0, side - 1)
            u = np.clip((x - frame[0]) / (frame[2] - frame[0]) * side - 0.5, 0, side - 1)
            for row in {int(v), min(int(v) + 1, side - 1)}:
                for column in {int(u), min(int(u) + 1, side - 1)}:
                    found[i, j] += mask[row, column] * max(0, 1 - abs(v - row)) * max(0, 1 - abs(u - column))
    return found


def test_masks_are_sampled_where_they_lie():
    masks = RANDOM.uniform(size=(3, 5, 5)).astype("float32")
    frames = np.array([[2, 3, 22, 13], [0, 0, 7, 30], [5, 5, 5, 9]], "float32")
    regions = np.array([[0, 0, 30, 20], [1, 4, 6, 8], [0, 0, 9, 9]], "float32")
    found = np.array(sample_masks(masks, frames, regions, (8, 11)))
    for row in range(2):
        expected = sampled(masks[row], frames[row], regions[row], (8, 11))
        np.testing.assert_allclose(found[row], expected, atol=1e-5)
    assert (found[2] == 0).all()  # a frame without an area


def layer_with_masks(number):
    align = layers.RoIAlign(4, STRIDES)
    cells = keras.Input((4, 4, 3))
    head = keras.Model(cells, keras.layers.Conv2DTranspose(number, 2, 2)(cells))
    return layers.RoIHeads(
        [box_model(True)],
        layers.RoIAlign(2, STRIDES),
        (0.4,),
        samples=16,
        share=0.25,
        mask_heads=[head],
        mask_align=align,
    )


@pytest.mark.parametrize("number", [1, 3])
def test_masks_that_train_are_those_of_objects(number):
    images, tensors = scene()
    tensors |= {"masks": RANDOM.integers(0, 2, (2, 4, 6, 6)), "mask_boxes": tensors["boxes"] + 1.5}
    layer = layer_with_masks(number)
    found = {name: np.array(x) for name, x in layer.targets(tensors, training=False).items()}
    labels, goals = found["mask1_labels"], found["mask1_mask_targets"]
    assert labels.shape == (2, 4)
    assert found["mask1_logits"].shape == goals.shape == (2, 4, 64)
    for image in range(2):  # all sampled objects, and no background
        known = found["roi1_labels"][image]
        assert sorted(labels[image][labels[image] >= 0]) == sorted(known[known >= 0])
        assert set(labels[image][labels[image] < 0]) <= {-100}
    assert set(np.unique(goals)) == {0, 1}
    # The first region of image 0 is an object, or close to one: its mask is that object's.
    maps = [tensors["map2"], tensors["map3"]]
    regions = tensors["boxes"][:, :2]
    logits = np.array(layer._masks(0, maps, regions, np.array([[2, 0], [1, 2]])))
    raw = np.array(layer.mask_heads[0](np.array(layer.mask_align([regions, *maps])).reshape(4, 4, 4, 3)))
    own = [0, 0, 0, 0] if number == 1 else [2, 0, 1, 2]
    np.testing.assert_allclose(logits.reshape(4, 8, 8), [raw[k, :, :, own[k]] for k in range(4)], atol=1e-5)
    likely = np.array(layer.masks(maps, regions, np.array([[2, 0], [1, 2]])))
    np.testing.assert_allclose(likely, 1 / (1 + np.exp(-logits)), atol=1e-5)
    answer = layer([images, tensors["regions"], *maps])
    assert np.array(answer["image_size"]).tolist() == [[64, 64]] * 2


def test_the_loss_of_masks_is_the_mean_over_cells_of_knowns():
    logits, goals = RANDOM.normal(size=(2, 3, 5)), RANDOM.integers(0, 2, (2, 3, 5))
    p = 1 / (1 + np.exp(-logits))
    values = -(goals * np.log(p) + (1 - goals) * np.log(1 - p)).mean(axis=-1)
    labels = np.array([[0, -100, 2], [-100, -100, 1]])
    given = {"mask1_logits": logits, "mask1_mask_targets": goals.astype("float64"), "mask1_labels": labels}
    assert float(losses.MaskLoss().of("mask1_")(given, given)) == pytest.approx(values[labels >= 0].mean(), rel=1e-5)


def test_losses_of_regions():
    logits = np.array([[2.0], [-1.0], [0.5], [9.0]])
    labels = np.array([0, -1, 3, -100])
    expected = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0)) + np.log1p(np.exp(-0.5))) / 3
    assert float(losses.ObjectnessLoss()(labels, {"logits": logits})) == pytest.approx(expected, rel=1e-5)
    off = {"box_deltas": np.array([[0.5, -3, 0, 0]] * 4), "box_delta_targets": np.zeros((4, 4))}
    for beta, value in ((1.0, 0.125 + 2.5), (2.0, 0.0625 + 2), (0.0, 3.5)):
        assert float(losses.BoxDeltaLoss(beta)(labels, off)) == pytest.approx(2 * value / 3)
        assert float(losses.BoxDeltaLoss(beta).per_known()(labels, off)) == pytest.approx(value)
    with pytest.raises(ValueError, match="beta"):
        losses.BoxDeltaLoss(-1.0)


def test_a_mask_head_has_the_published_size():
    assert mask_head(256, 91, "mask").count_params() == 4 * 590_080 + 262_400 + 23_387
    # torchvision's Mask R-CNN less its Faster R-CNN.
    assert mask_head(256, 91, "mask").count_params() == 44_401_393 - 41_755_286
