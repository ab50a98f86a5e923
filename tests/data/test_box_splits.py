"""Boxes in splits and batches: roles of classes in each part, groups, padding, sizes, order, and what is refused."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import data
from cplus1_keras.data import Protocol, Source, Split, augment, protocols, sources, split
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN

PROTOCOL = Protocol({"pet": ["cat", "dog"], "cup": ["cup"]}, ["tree"], ["owl"], ["fog"])
NAMES = ("cat", "owl", "tree", "fog", "cup", "dog")


def scenes(count=12, sizes=((20, 30),), name="scenes", names=NAMES, **fields):
    """Images with two boxes each, of classes in turn, the last with none."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*sizes[k % len(sizes)], 3), "uint8") for k in range(count)]
    items = [
        [(k % 7, 1, 9 + k, 12, names[k % len(names)]), (2, 3, 8, 9, names[(k + 1) % len(names)])] for k in range(count)
    ]
    return sources.boxes(images, [*items[:-1], []], names, name, **fields)


@pytest.mark.parametrize(("training", "seen"), [("ignored", IGNORE), ("negative", NEGATIVE)])
def test_an_unknown_object_is_another_thing_in_each_split(training, seen):
    protocol = PROTOCOL.hold_out(unknown_in_training=training)
    for part, unknown in {"train": seen, "validation": IGNORE, "calibration": IGNORE, "test": UNKNOWN}.items():
        own = Split(part, scenes(), protocol)
        table = {"cat": 0, "dog": 0, "cup": 1, "tree": NEGATIVE, "owl": unknown, "fog": IGNORE}
        expected = [table[NAMES[value]] for value in own.source.boxes.values]
        assert own.box_labels.tolist() == expected
        for index, example in enumerate(own.dataset()):
            np.testing.assert_array_equal(example["boxes"], own.source.boxes[[index]].corners)
            assert example["box_labels"].numpy().tolist() == expected[2 * index : 2 * index + len(example["boxes"])]
        assert own.has_unknown == (unknown == UNKNOWN)
        shown = [expected[2 * k : 2 * k + 2] for k in range(12)]
        assert own.shows_unknown.tolist() == [UNKNOWN in pair for pair in shown]
        assert own.shows_known.tolist() == [max(pair, default=-1) >= 0 for pair in shown]
        assert (own.has_negatives, own.labels, own.multi_hot, own.max_boxes) == (True, None, None, 2)
    assert data.pixel_counts(own).tolist() == [expected.count(0), expected.count(1), expected.count(NEGATIVE)]


def test_known_classes_that_were_not_looked_for_in_full():
    """ "pet" is two classes of the source: in the first image only cats were looked for."""
    values = {name: value for value, name in enumerate(NAMES)}
    source = scenes(3)  # cat and owl, owl and tree, none
    absent = tuple(tuple(values[name] for name in own) for own in (["cup"], ["cat", "dog", "cup"], ["fog", "cat"]))
    assert Split("test", source, PROTOCOL).unjudged(0).tolist() == []
    source.boxes = dataclasses.replace(source.boxes, neg_categories=absent)
    part = Split("test", source, PROTOCOL)
    assert [part.unjudged(index).tolist() for index in range(3)] == [[0], [], [0, 1]]
    assert part.subset([1, 2]).unjudged(1).tolist() == [0, 1]
    source.boxes = dataclasses.replace(source.boxes, not_exhaustive=((values["cup"],), (), ()))
    assert Split("test", source, PROTOCOL).unjudged(0).tolist() == [0, 1]


def test_crowds_count_for_nothing(coco_files):
    source = sources.coco_mini(coco_files, "val", kind="boxes")
    part = Split("test", source, protocols.coco_mini(masks=False))
    assert (part.box_labels[source.boxes.crowd] == IGNORE).all()
    assert (part.box_labels[~source.boxes.crowd] != IGNORE).all()
    person = source.boxes.values == source.class_names.index("person")
    assert (part.box_labels[person & ~source.boxes.crowd] == 0).all()


def test_bccd_holds_a_class_out(bccd_files):
    parts = [sources.bccd(bccd_files, part) for part in ("train", "test", "val")]
    splits = split(protocols.bccd(hold_out=["Platelets"]), *parts, seed=3)
    assert splits.summary() == "\n".join([
        "boxes           known  negative  unknown  ignored   images",
        *(f"{p.name:12}{(p.box_labels >= 0).sum():9,}{0:10}{69 if p.name == 'test' else 0:9}"
          f"{0 if p.name == 'test' else (p.box_labels == IGNORE).sum():9}{len(p):9}" for p in splits),
        "2 known classes",
    ])  # fmt: skip
    assert [len(part) for part in splits] == [164, 87, 41, 72]
    change = augment.detection((60, 80), mirror=splits.train.mirror)
    images, y = next(iter(data.training(splits.train, 3, augment=change, memory=0)))
    assert (images.shape, y["boxes"].shape) == ((3, 60, 80, 3), (3, splits.train.max_boxes, 4))
    assert data.check(splits, sample=4) == []
    with pytest.raises(ValueError, match="did you mean"):
        protocols.bccd(hold_out="Platelets")


def test_images_of_one_video_stay_together():
    fractions = {"test_fraction": 0.4, "calibration_fraction": 0.2, "validation_fraction": 0.0}
    source = scenes(20, groups=[f"video {k // 4}" for k in range(20)], names=("cat", "cup"))
    parts = split(PROTOCOL.hold_out(), concatenated(source), **fractions)
    homes = [set(part.groups) for part in parts]
    assert [len(home) for home in homes] == [2, 0, 1, 2]
    assert len(set.union(*homes)) == 5
    assert [len(part) for part in parts] == [8, 0, 4, 8]


def concatenated(source):
    """The source with the classes that the protocol names and it lacks."""
    return data.combine(source, scenes(2, name="rest", names=("owl", "tree", "fog", "dog"))).subset(range(len(source)))


def test_joined_sources_keep_each_image_with_its_boxes():
    first, second = scenes(5), scenes(6, ((14, 20),), "others", ("rat", "bus", "cup 2"))
    both = data.combine(first, second)
    assert both.class_names == (*NAMES, "rat", "bus", "cup 2")
    for index, example in enumerate(both.examples()):
        origin, place = (first, index) if index < 5 else (second, index - 5)
        np.testing.assert_array_equal(example["image"], origin.read(tf.constant(place, tf.int64))["image"])
        own, rows = origin.boxes[[place]], both.boxes[[index]]
        np.testing.assert_array_equal(rows.corners, own.corners)
        assert [both.class_names[value] for value in rows.values] == [origin.class_names[v] for v in own.values]
    assert both.boxes.sizes[5].tolist() == [14, 20]
    some = both.subset([4, 6]).subset([1])
    assert (some.boxes.values.tolist(), some.boxes.counts.tolist()) == (both.boxes[[6]].values.tolist(), [2])
    grey = scenes(3).converted(channels=1)
    assert (grey.shape, grey.boxes.counts.tolist()) == ((20, 30, 1), [2, 2, 0])
    with pytest.raises(ValueError, match="resizes images with boxes"):
        grey.converted(size=8)
    with pytest.raises(ValueError, match="must be of one kind"):
        data.combine(grey, scenes(2, name="b", names=("rat", "bat")))


@pytest.mark.parametrize("memory", [0, 2**30])
@pytest.mark.parametrize("sizes", [((20, 30),), ((20, 30), (12, 40))])
def test_batches_are_padded_and_resized(memory, sizes):
    part = Split("train", scenes(7, sizes), PROTOCOL)
    batches = list(data.evaluation(part, 3, image_size=(40, 90), memory=memory))
    assert [batch[0].shape for batch in batches] == [(3, 40, 90, 3), (3, 40, 90, 3), (1, 40, 90, 3)]
    boxes, labels = (np.concatenate([batch[1][key] for batch in batches]) for key in ("boxes", "box_labels"))
    for index, (high, wide) in enumerate(part.source.boxes.sizes):
        own = part.source.boxes[[index]]
        count = len(own.values)
        scale = np.array([90 / wide, 40 / high, 90 / wide, 40 / high])
        np.testing.assert_allclose(boxes[index, :count], own.corners * scale, rtol=1e-6)
        assert (boxes[index, count:] == 0).all()
        assert (labels[index, count:] == IGNORE).all()
    assert (boxes.dtype, labels.dtype, boxes.shape, count) == (np.float32, np.int32, (7, 2, 4), 0)
    for (images, y), own in zip(data.evaluation(part, 1, memory=memory), part.dataset(), strict=True):
        np.testing.assert_array_equal(images[0], own["image"])
        assert (y["boxes"].shape, y["box_labels"].shape) == ((1, 2, 4), (1, 2))


@pytest.mark.parametrize("memory", [0, 2**30])
def test_a_step_depends_on_its_number_alone(memory):
    part = Split("train", scenes(7, ((20, 30), (12, 40))), PROTOCOL)
    change = augment.detection((16, 24), augment.random_short_side(14, 22, 40))

    def batches(first, count):
        steps = data.training(part, 2, augment=change, seed=4, first_step=first, memory=memory)
        return [(x.numpy(), y["boxes"].numpy(), y["box_labels"].numpy()) for x, y in steps.take(count)]

    whole, rest = batches(0, 6), batches(4, 2)
    for first, again in zip(whole[4:], rest, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(whole[0][1], whole[4][1])
    assert whole[0][0].shape == (2, 16, 24, 3)


def test_images_without_any_box_make_batches_too():
    images = np.zeros([4, 6, 6, 3], "uint8")
    part = Split("test", sources.boxes(images, [[], [], [], []], ["cat"]), Protocol(["cat"]))
    ((_, y),) = data.evaluation(part, 4)
    assert y["boxes"].shape == (4, 1, 4)
    assert (y["box_labels"].numpy() == IGNORE).all()


def test_a_resized_image_is_told_by_its_size(tmp_path):
    from PIL import Image

    Image.fromarray(np.zeros([8, 10, 3], "uint8")).save(tmp_path / "a.png")
    source = sources.boxes([tmp_path / "a.png"], [[(0, 0, 9, 7, "cat")]])
    part = Split("test", source, Protocol(["cat"]))
    assert data.check([part]) == []
    Image.fromarray(np.zeros([4, 5, 3], "uint8")).save(tmp_path / "a.png")
    sentence = (
        f"{tmp_path}/a.png is 5 x 4 (width x height), its boxes are of an image of 10 x 8. Was the image resized "
    )
    assert data.check([part]) == [sentence + "without its annotations?"]


def test_what_splits_of_boxes_refuse():
    with pytest.raises(ValueError, match="gives no role to classes that occur: dog, owl"):
        split(Protocol(["cat", "tree", "cup", "fog"]), scenes())
    assert len(split(Protocol(["cat"], others="negative"), scenes()).train) == 6
    with pytest.raises(ValueError, match="No training image of known classes: rat"):
        split(
            Protocol(["cat", "rat"], others="ignored"),
            data.combine(scenes(), scenes(1, name="b", names=("rat", "bat"))),
        )
    splits = split(PROTOCOL, scenes(12), test_fraction=0.0)
    with pytest.raises(ValueError, match="`class_weights` are for images and pixels"):
        data.training(splits.train, 2, class_weights=[1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="has unknown classes"):
        data.training(Split("test", scenes(), PROTOCOL), 2)
    with pytest.raises(ValueError, match="negative_fraction` is for images with one class"):
        data.training(splits.train, 2, negative_fraction=0.5)
    boxes = scenes().boxes
    for given in ({"kind": "boxes"}, {"labels": [0], "boxes": boxes[[0]]}):
        with pytest.raises(ValueError, match="`boxes` belong to a source of the kind boxes"):
            Source(NAMES, name="own", arrays={"image": np.zeros([1, 20, 30, 3], "uint8")}, **given)
    with pytest.raises(
        ValueError, match=r"own: values of boxes lie in 0 to 1, by the names\. Received: \[2, 3, 4, 5\]"
    ):
        Source(NAMES[:2], name="own", kind="boxes", boxes=boxes, arrays={"image": np.zeros([12, 20, 30, 3], "uint8")})


def test_bad_boxes_are_counted_in_the_summary():
    items = [[(0, 0, 4, 4, "cat"), (7, 7, 30, 9, "cat"), (30, 30, 31, 31, "cat")]] * 10
    source = sources.boxes(np.zeros([10, 8, 10, 3], "uint8"), items, on_bad="drop")
    last = split(Protocol(["cat"]), source).summary().split("\n")[-1]
    assert last == "1 known classes; 10 boxes clipped to their image; 10 boxes dropped, being bad"
