"""Boxes through augmentation: each is painted into its image, and lies where its pixels lie, whatever happens to it."""

import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras.data import augment
from cplus1_keras.data.geometry import crop, enlarge
from cplus1_keras.labels import IGNORE, NEGATIVE

BOXES = np.array([[3, 5, 20, 17], [30, 2, 41, 30], [10, 12, 52, 40]], "float32")
MIRROR = (1, 0, 2)


def painted(boxes=BOXES, size=(44, 60)):
    """An image whose channel k shows box k in white, and the boxes, labelled 0, 1, 2."""
    image = np.zeros([*size, 3], "float32")
    for channel, (left, top, right, bottom) in enumerate(boxes.astype(int)):
        image[top:bottom, left:right, channel] = 255
    labels = tf.range(len(boxes), dtype=tf.int32)
    return {"image": tf.constant(image), "boxes": tf.constant(boxes), "box_labels": labels}


def raster(box, size, slack=0.0):
    """Pixels (H, W) whose centre lies in a box, larger by so much on each side."""
    rows, columns = np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5
    inside = (columns > box[0] - slack) & (columns < box[2] + slack)
    return ((rows > box[1] - slack) & (rows < box[3] + slack))[:, None] & inside[None]


def differ(box, white):
    """Pixels (n, 2), x and y, that are white outside a box (0 or 1, 4) or not white in it, save at its corners.

    An edge through a pixel's centre leaves it grey. Where two edges blend, half the white is not half the way.
    """
    own = [raster(box[0], white.shape, slack) if len(box) else np.zeros_like(white) for slack in (-0.01, 0.01)]
    wrong = np.argwhere((own[0] & ~white) | (white & ~own[1]))[:, ::-1] + 0.5
    corners = box.reshape(-1)[[[0, 1], [2, 1], [0, 3], [2, 3]]] if len(box) else np.zeros([0, 2])
    near = np.abs(wrong[:, None] - corners).max(2) < 1.5
    return wrong[~near.any(1)]


GEOMETRIC = {
    "scale": augment.random_scale(0.5, 2.0),
    "scale to base": augment.random_scale(0.5, 2.0, base=(100, 50)),
    "stretch": augment.random_scale(0.9, 1.1, base=(37, 81), keep_ratio=False),
    "short side": augment.random_short_side(30, 70, longest=80),
    "crop": augment.random_crop((20, 25), min_share=0),
    "shift": augment.random_crop(padding=9, min_share=0),
    "flip": augment.random_flip(),
    "pad": augment.pad((50, 70), 0.0),
    "more on each side": lambda example, seed: enlarge(example, [[3, 1], [5, 2]], 0.0),
    "all": augment.chain(
        augment.random_short_side(30, 60, longest=90),
        augment.random_crop((32, 40), min_share=0),
        augment.random_flip(),
        augment.pad((32, 40), 0.0),
    ),
}


@pytest.mark.parametrize("name", GEOMETRIC)
def test_pixels_are_where_the_boxes_say(name):
    function, shown = tf.function(GEOMETRIC[name]), []
    for number in range(12):
        found = {key: value.numpy() for key, value in function(painted(), tf.constant([5, number])).items()}
        white = found["image"] > 127.5
        for label in range(3):
            box = found["boxes"][found["box_labels"] == label]
            shown.append(tuple(box.round(1).ravel()))
            assert len(differ(box, white[..., label])) == 0
        assert len(found["boxes"]) == len(found["box_labels"])
        limit = np.tile(white.shape[1::-1], 2)
        assert ((found["boxes"] >= 0) & (found["boxes"] <= limit + 1e-4)).all()
    assert len(set(shown)) > 3 or name in ("pad", "more on each side")


def test_a_mirrored_image_has_mirrored_classes():
    seen = set()
    for number in range(8):
        plain, found = (augment.random_flip(mirror)(painted(), [0, number]) for mirror in (None, MIRROR))
        np.testing.assert_array_equal(found["boxes"], plain["boxes"])
        turned = not np.array_equal(found["boxes"], BOXES)
        assert found["box_labels"].numpy().tolist() == ([1, 0, 2] if turned else [0, 1, 2])
        seen.add(turned)
    assert seen == {True, False}
    flipped = augment.flip(painted(), MIRROR)
    assert flipped["box_labels"].numpy().tolist() == [1, 0, 2]
    np.testing.assert_array_equal(flipped["boxes"][0], [40, 5, 57, 17])
    again = augment.flip(flipped, MIRROR)
    np.testing.assert_array_equal(again["boxes"], BOXES)
    assert again["box_labels"].numpy().tolist() == [0, 1, 2]
    odd = augment.flip(painted() | {"box_labels": tf.constant([-1, -2, IGNORE])}, MIRROR)
    assert odd["box_labels"].numpy().tolist() == [-1, -2, IGNORE]


@pytest.mark.parametrize(("left", "expected"), [(12, 1), (13, 1), (14, IGNORE), (19, IGNORE), (20, None), (25, None)])
def test_of_a_box_that_is_mostly_cut_off_the_rest_is_ignored(left, expected):
    given = painted(BOXES[:1]) | {"box_labels": tf.constant([1])}  # 17 wide, from 3 to 20
    found = crop(given, 0, left, 44, 30, min_share=0.4)  # 0.4 of 17 is 6.8: from 13 on 7 are left, from 14 on 6
    assert found["box_labels"].numpy().tolist() == ([] if expected is None else [expected])
    if expected is not None:
        np.testing.assert_array_equal(found["boxes"], [[0, 5, 20 - left, 17]])
    assert found["image"].shape == (44, min(30, 60 - left), 3)
    both = crop(painted(), 0, 15, 44, 30, min_share=0.4)
    assert both["box_labels"].numpy().tolist() == [IGNORE, 1, 2]
    background = crop(given | {"box_labels": tf.constant([NEGATIVE])}, 0, left, 44, 30, min_share=0.4)
    assert background["box_labels"].numpy().tolist() == ([] if expected is None else [NEGATIVE])


def test_the_share_is_that_of_the_drawn_window():
    change = tf.function(augment.random_crop((10, 10), min_share=0.5))
    for number in range(30):
        window, seen = change(painted(), tf.constant([0, number])), []
        whole = [(17 * 12), (11 * 28), (42 * 28)]
        for box, label in zip(window["boxes"].numpy(), window["box_labels"].numpy(), strict=True):
            area = (box[2] - box[0]) * (box[3] - box[1])
            seen.append(label == IGNORE or area >= 0.5 * whole[label])
        assert all(seen)


def test_colour_leaves_boxes_alone_and_none_is_fine():
    given = painted()
    for change in (augment.photometric(), augment.tone()):
        found = change(given, [0, 1])
        assert found["boxes"] is given["boxes"]
        assert found["box_labels"] is given["box_labels"]
    nothing = given | {"boxes": tf.zeros([0, 4]), "box_labels": tf.zeros([0], tf.int32)}
    found = augment.detection((30, 40), mirror=MIRROR)(nothing, tf.constant([0, 1]))
    assert (found["boxes"].shape, found["image"].shape) == ((0, 4), (30, 40, 3))


def test_the_recipe_brings_all_to_one_size_and_sees_other_scales():
    change, widths = tf.function(augment.detection((48, 64), min_share=0.0)), []
    for number in range(20):
        found = change(painted(), tf.constant([1, number]))
        assert found["image"].shape == (48, 64, 3)
        box = found["boxes"][found["box_labels"] == 1]
        widths += (box[:, 2] - box[:, 0]).numpy().tolist()
    low, high = (11 * factor * 64 / 60 for factor in (0.8, 1.2))
    assert low <= max(widths) <= high + 0.5
    assert np.ptp(widths) > 1
    same = augment.random_short_side(44, 44, longest=60)
    for share, kept in ((0.0, set()), (1.0, {204, 308, 1176})):
        window, seen = tf.function(augment.detection((20, 40), same, min_share=share)), set()
        for number in range(20):
            found = window(painted(), tf.constant([2, number]))
            box, label = found["boxes"].numpy(), found["box_labels"].numpy()
            seen |= {IGNORE for _ in label[label == IGNORE]}
            seen |= {int(area) for area in np.prod(box[:, 2:] - box[:, :2], 1)[label >= 0]} if share else set()
        assert seen - {IGNORE} <= kept
        assert (IGNORE in seen) == (share == 1)
    sides = [augment.random_short_side(20, 30, 1000)(painted(), [0, n])["image"].shape for n in range(30)]
    assert all(20 <= high <= 30 and abs(wide / high - 60 / 44) < 0.04 for high, wide, _ in sides)
    assert len(set(sides)) > 5
    limited = augment.random_short_side(40, 40, longest=41)(painted(), [0, 1])
    assert limited["image"].shape == (30, 41, 3)
    kept = augment.detection(40, augment.random_short_side(20, 20, 100))(painted(), tf.constant([0, 3]))
    assert kept["image"].shape == (40, 40, 3)
    assert (kept["image"][25:].numpy() == np.array(augment.MEAN_COLOUR, "float32")).all()


def test_arguments_of_box_augments_are_checked():
    for call in (
        lambda: augment.random_short_side(800, 640),
        lambda: augment.random_short_side(640, 800, 700),
        lambda: augment.random_crop(4, min_share=1.5),
        lambda: augment.detection(0),
    ):
        with pytest.raises(ValueError, match="Received"):
            call()
