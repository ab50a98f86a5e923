"""Splits, labels and batches: nothing unknown in training, whole images, repeatable steps, named errors."""

import numpy as np
import pytest
import tensorflow as tf
from cplus1_keras.data.segmentation import augment, pipeline, protocols, sources, splits, weights

from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN


@pytest.fixture(scope="module")
def camvid(layouts, tmp_path_factory):
    return sources.camvid(layouts.camvid(tmp_path_factory.mktemp("data"), train=8))


def labels_of(dataset):
    return set().union(*(np.unique(labels) for _, labels in dataset.as_numpy_iterator()))


@pytest.mark.parametrize("choice", ["ignore", "background"])
def test_unknown_pixels_reach_the_test_split_alone(camvid, choice):
    protocol = protocols.camvid().with_unknown("car", "sky", in_training=choice)
    parts = splits.split(protocol, camvid, validation_fraction=0.2, calibration_fraction=0.2, test_fraction=0.2)
    assert UNKNOWN in labels_of(parts.test.dataset())
    assert UNKNOWN in labels_of(pipeline.evaluation(parts.test))
    batches = pipeline.training(parts.train, 2, 16).take(6)
    assert UNKNOWN not in labels_of(batches)
    assert (NEGATIVE in labels_of(parts.train.dataset())) == (choice == "background")
    for part in (parts.validation, parts.calibration):
        found = labels_of(part.dataset())
        assert not found & {UNKNOWN, NEGATIVE}
        assert IGNORE in found
    with pytest.raises(ValueError, match=r"labels of unknown classes \(car, sky\).*`splits.train`"):
        pipeline.training(parts.test, 2, 16)


def test_real_masks_become_labels(camvid_files):
    protocol = protocols.camvid_open()
    split = splits.split(protocol, sources.camvid(camvid_files), sources.camvid(camvid_files, "test")).test
    for index, (_, labels) in enumerate(split.dataset().as_numpy_iterator()):
        mask = split.source.load(index)[1]
        expected = np.full(mask.shape, IGNORE)
        for value, label in {
            0: 0,
            1: 1,
            2: 2,
            3: 3,
            4: 4,
            5: NEGATIVE,
            6: 5,
            7: UNKNOWN,
            8: 6,
            9: 7,
            10: UNKNOWN,
        }.items():
            expected[mask == value] = label
        np.testing.assert_array_equal(labels, expected)


def test_value_outside_the_protocol_is_named(camvid):
    protocol = protocols.SegmentationProtocol({"sky": 0, "road": 3}, ignored=range(4, 12), name="two")
    split = splits.split(protocol, camvid).train
    mask = split.source.load(0)[1]
    ones, twos = (mask == 1).sum(), (mask == 2).sum()
    message = (
        rf"outside the protocol 'two' in .*{split.source.names[0]}\.png: 1 \({ones} pixels\), 2 \({twos} pixels\), "
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=message + f"{ones + twos} of 1,280 pixels"):
        next(iter(split.dataset()))
    with pytest.raises(ValueError, match=r"-3 \(1 pixels\), 70000 \(2 pixels\), 3 of 4"):
        splits.to_labels(np.array([[-3, 70000], [0, 70000]]), {0: 1}, "x")


def test_splits_are_whole_images_and_seeded(camvid):
    def names(**options):
        parts = splits.split(protocols.camvid(), camvid, validation_fraction=0.25, calibration_fraction=0.25, **options)
        return [part.source.names for part in (parts.train, parts.validation, parts.calibration, parts.test)]

    found = names(test_fraction=0.25, seed=1)
    assert sorted(sum(found, ())) == sorted(camvid.names)
    assert [len(part) for part in found] == [2, 2, 2, 2]
    assert found == names(test_fraction=0.25, seed=1)
    assert found != names(test_fraction=0.25, seed=2)
    with pytest.raises(ValueError, match="leave something to train on"):
        names(test_fraction=0.5)
    with pytest.raises(ValueError, match=r"`test_fraction` must lie in \[0, 1\)"):
        names(test_fraction=-0.1)
    with pytest.raises(ValueError, match=r"8 files, such as .* in both `train` and `test`"):
        splits.split(protocols.camvid(), camvid, camvid.subset(range(8)))
    for files in ({"image_files": camvid.image_files}, {"files": camvid.files}):  # either is enough to give them away
        one, other = (sources.MaskSource(camvid.names, camvid._load, name=name, **files) for name in "ab")
        with pytest.raises(ValueError, match=r"8 files, such as .* in both `train` and `test`"):
            splits.split(protocols.camvid(), one, other)


def test_crops_of_one_image_are_in_one_split(layouts, tmp_path):
    root = layouts.coco(tmp_path, images=10)
    source = sources.coco_objects(root / "instances.json", root / "images", min_side=1)
    protocol = protocols.SegmentationProtocol({"person": 1, "dog": 2}, background=(0,), ignored=(255,))
    parts = splits.split(protocol, source, calibration_fraction=0.3, test_fraction=0.3)
    groups = [set(part.source.groups) for part in (parts.train, parts.calibration, parts.test)]
    assert [len(group) for group in groups] == [4, 3, 3]
    assert len(set.union(*groups)) == 10
    assert len(parts.train) == 8


def test_training_is_passes_over_the_images_and_continues_at_any_step(camvid):
    pixels = [np.full([12, 14, 3], k, "uint8") for k in range(5)]
    source = sources.arrays(pixels, [np.full([12, 14], k) for k in range(5)])
    split = splits.split(protocols.camvid(), source, source_like(), calibration_fraction=0.0).train
    dataset = pipeline.training(split, 2, (8, 10), seed=4)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    steps = list(dataset.take(10).as_numpy_iterator())
    order = [int(label[label != IGNORE][0]) for _, labels in steps for label in labels]
    passes = [order[start : start + 5] for start in range(0, 20, 5)]
    assert all(sorted(one) == [0, 1, 2, 3, 4] for one in passes)
    assert len({tuple(one) for one in passes}) > 1
    rest = list(pipeline.training(split, 2, (8, 10), seed=4, first_step=6).take(4).as_numpy_iterator())
    for (image, labels), (later_image, later_labels) in zip(steps[6:], rest, strict=True):
        np.testing.assert_array_equal(image, later_image)
        np.testing.assert_array_equal(labels, later_labels)
    other = next(pipeline.training(split, 2, (8, 10), seed=5).as_numpy_iterator())
    assert not np.array_equal(steps[0][0], other[0])


def source_like():
    return sources.arrays(np.zeros([1, 4, 4, 3], "uint8"), np.zeros([1, 4, 4], "uint8"))


def test_shapes_weights_and_own_augmentation(camvid):
    split = splits.split(protocols.camvid(), camvid).train
    table = np.arange(1.0, 13.0)
    images, labels, pixel_weights = next(iter(pipeline.training(split, 3, (16, 24), class_weights=table)))
    assert images.shape == (3, 16, 24, 3)
    assert (images.dtype, labels.dtype, pixel_weights.dtype) == (tf.float32, tf.int32, tf.float32)
    np.testing.assert_array_equal(pixel_weights, np.where(labels == IGNORE, 0, labels + 1))
    plain = next(iter(pipeline.training(split, 1, (40, 40), augment=None)))
    assert (plain[1].numpy()[0, 32:] == IGNORE).all()
    cropped = pipeline.training(split, 1, 8, augment=augment.random_crop(8))
    assert next(iter(cropped))[0].shape == (1, 8, 8, 3)
    with pytest.raises(ValueError, match="`batch_size` is a number"):
        pipeline.training(split, 0, 8)


def test_evaluation_is_at_native_size_in_order():
    shapes = [(5, 7), (6, 4), (9, 9)]
    source = sources.arrays([np.zeros([*s, 3], "uint8") for s in shapes], [np.zeros(s, "uint8") for s in shapes])
    parts = splits.split(protocols.voc(), source_like(), source, calibration_fraction=0.0)
    found = [(image.shape, labels.shape) for image, labels in pipeline.evaluation(parts.test).as_numpy_iterator()]
    assert found == [((1, *s, 3), (1, *s)) for s in shapes]


def test_counts_and_weights(camvid):
    protocol = protocols.camvid().with_background("sky")
    split = splits.split(protocol, camvid).train
    masks = np.stack([split.source.load(index)[1] for index in range(len(split))])
    counts = weights.pixel_counts(split)
    assert counts.tolist() == [(masks == value).sum() for value in (*range(1, 11), 0)]
    found = weights.class_weights(counts)
    share = counts / counts.sum()
    np.testing.assert_allclose(found * np.log(1.02 + share), np.full(11, found[0] * np.log(1.02 + share[0])), rtol=1e-5)
    assert (share * found).sum() == pytest.approx(1)
    assert found[counts.argmin()] == found.max()
    with pytest.raises(ValueError, match="offset above 1"):
        weights.class_weights(counts, offset=1.0)


def test_fit_learns_pixels_from_batches_with_weights(camvid):
    import keras

    from cplus1_keras import heads, losses, models

    masks = [mask for _, mask in (camvid.load(index) for index in range(8))]
    colours = np.random.default_rng(0).integers(0, 256, (12, 3), "uint8")
    source = sources.arrays([colours[mask] for mask in masks], masks)
    split = splits.split(protocols.camvid_open(), source, test_fraction=0.1).train
    crop = augment.random_crop((32, 40))
    batches = pipeline.training(split, 2, (32, 40), crop, weights.class_weights(weights.pixel_counts(split)))
    keras.utils.set_random_seed(0)
    inputs = keras.Input([None, None, 3])
    features = keras.layers.Dense(32, "relu")(keras.layers.Rescaling(1 / 128, -1)(inputs))
    model = models.OpenSetModel(inputs, heads.LinearHead(8, background=True)(features))
    model.compile(keras.optimizers.Adam(0.03), losses.BackgroundCrossEntropyLoss())
    history = model.fit(batches, steps_per_epoch=20, epochs=3, verbose=0, shuffle=False).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
