"""Batches for `fit`, `evaluate` and `predict`."""

import numpy as np
import tensorflow as tf

from cplus1_keras.data.geometry import resize_annotations
from cplus1_keras.data.masks import label_weights, require
from cplus1_keras.data.order import Order
from cplus1_keras.data.reading import constants, ragged, together
from cplus1_keras.images import preprocess
from cplus1_keras.labels import IGNORE
from cplus1_keras.layers.resizing import size_pair

MEMORY = 2 * 2**30
"""Examples of a split are held in memory if they need at most so many bytes (2 GiB)."""

_BUFFER = 10_000  # records, which for files of TensorFlow Datasets are still encoded


def training(
    split,
    batch_size,
    *,
    image_size=None,
    channels=None,
    augment=None,
    negative_fraction=None,
    class_weights=None,
    sampling=None,
    repeat_threshold=1e-3,
    seed=0,
    first_step=0,
    memory=MEMORY,
):
    """Shuffled, augmented training batches without end; `steps_per_epoch` says how many make an epoch.

    Step n depends on `seed` and n alone: a run that stopped continues exactly with `first_step`. Examples that fit into
    `memory` are held there before augmentation. What can only be read from the beginning is shuffled by a buffer of
    10,000.

    With `negative_fraction`, negatives lie evenly between the knowns: among any n consecutive images their number is
    n * negative_fraction to within 1, so each batch and each replica's part has its share. A pass takes each known
    once; a negative's n-th use comes after all have been used n - 1 times.

    With `sampling`, images, or with `negative_fraction` knowns, of rare classes come more often: by "repeat_factor" an
    image as often in a pass as `repeat_factors` says, rounded to the whole number below or above, by "class_aware" each
    class as often as any other, a pass having as many draws as there are images.

    Args:
        split: A `Split` without unknown labels.
        batch_size: Images in a batch, over all replicas.
        image_size: int or (height, width) that all examples are resized to, labels by nearest neighbour; or None.
        channels: None, 1 or 3.
        augment: `augment(example, seed)` of `cplus1_keras.data.augment`, or None. It must bring images of several sizes
            to one.
        negative_fraction: Part of negatives in [0, 1), of images with one class; None mixes the split as it is.
        class_weights: None, or (C + 1,) floats, the negatives' last, as `data.class_weights` gives them.
        sampling: None, "repeat_factor" or "class_aware".
        repeat_threshold: The share of images above which "repeat_factor" repeats no class, as for `repeat_factors`.
        seed: int >= 0.
        first_step: Number of the first batch.
        memory: Most bytes to hold in memory; 0 holds nothing.

    Returns:
        `tf.data.Dataset` of (images (batch_size, H, W, C) float32 in 0..255, y), and with `class_weights` a third item,
        float32 weights in the shape of the labels. y is the labels, or a dict where an example has more or others. Of
        boxes it is {"boxes": (batch_size, M, 4), "box_labels": (batch_size, M)}, M being the most of any image of the
        split; images with fewer have boxes of zeros with the label -100 at the end. Where objects have masks there are
        `masks` (batch_size, M, S, S) too, of 0 and 1, in `mask_boxes` (batch_size, M, 4).

    Raises:
        ValueError: If there are no images, unknown ones, no negatives to draw, or an argument is out of range. What
            reading raises, as tf.errors.OpError, comes when a batch is drawn or, if all is held, here.

    >>> from cplus1_keras import data
    >>> digits = data.split(data.protocols.digits(), data.sources.digits())
    >>> images, labels = next(iter(training(digits.train, batch_size=64, negative_fraction=0.25)))
    >>> images.shape, int(tf.reduce_sum(tf.cast(labels == -1, tf.int32)))
    (TensorShape([64, 8, 8, 1]), 16)
    """
    _check_batch_size(batch_size)
    order = Order(split, negative_fraction, seed, sampling, repeat_threshold)
    if class_weights is not None and split.source.kind in ("classes", "boxes"):
        raise ValueError("`class_weights` are for images and pixels with one label; sets and boxes weigh in the loss.")
    reader = _Reader(split, image_size, channels, memory, one_size=augment is None)

    def finish(example):
        y = _targets(reader.pad(example))
        return (example["image"], y, *([] if class_weights is None else [label_weights(y, class_weights)]))

    def one(number, place):
        example = reader.at(*place) if isinstance(place, tuple) else reader.at(place)
        key = tf.random.fold_in(tf.constant([seed, 0], tf.int32), number)
        return finish(augment(example, tf.cast(key, tf.int32)) if augment else example)

    first, end = first_step * batch_size, np.iinfo("int64").max
    if reader.random_access:
        starts = tf.data.Dataset.range(first, end, batch_size)
        numbers = starts.map(lambda start: start + tf.range(batch_size, dtype=tf.int64))
        places = numbers.map(lambda own: (own, order.indices(own)))
    else:
        places = tf.data.Dataset.zip(tf.data.Dataset.range(first, end), order.records(split, first, _BUFFER))
    if reader.rows is not None and augment is None:
        batches = places.map(lambda _, indices: finish(reader.at(indices)), num_parallel_calls=tf.data.AUTOTUNE)
    else:
        places = places.unbatch() if reader.random_access else places
        batches = places.map(one, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size, drop_remainder=True)
    batches = batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    return batches.prefetch(tf.data.AUTOTUNE)


def steps_per_epoch(split, batch_size, negative_fraction=None, sampling=None, repeat_threshold=1e-3):
    """How many full batches, int >= 1, one pass makes: over the knowns, or without `negative_fraction` over all images.

    Args:
        split, batch_size, negative_fraction, sampling, repeat_threshold: As for `training`; a pass of fewer images than
            a batch is a ValueError.

    >>> from cplus1_keras import data
    >>> digits = data.split(data.protocols.digits(), data.sources.digits())
    >>> steps_per_epoch(digits.train, 64), steps_per_epoch(digits.train, 64, negative_fraction=0.5)
    (11, 16)
    """
    _check_batch_size(batch_size)
    count = Order(split, negative_fraction, 0, sampling, repeat_threshold).per_pass
    if count < batch_size:
        raise ValueError(f"An epoch of {count} images has no batch of {batch_size}. Take one of at most {count}.")
    return count // batch_size


def evaluation(split, batch_size=1, *, image_size=None, channels=None, memory=MEMORY):
    """All examples of a split in order, the last batch being smaller where it must.

    Args:
        split: A `Split`.
        batch_size, image_size, channels, memory: As for `training`; in batches of 1, images may keep their own sizes.

    Returns:
        `tf.data.Dataset` of (images (N, H, W, C) float32 in 0..255, y), y as `training` gives it.

    >>> from cplus1_keras import data
    >>> digits = data.split(data.protocols.digits(), data.sources.digits())
    >>> labels = np.concatenate([labels for _, labels in evaluation(digits.test, batch_size=100)])
    >>> np.array_equal(labels, digits.test.labels)
    True
    """
    _check_batch_size(batch_size)
    reader = _Reader(split, image_size, channels, memory, one_size=batch_size > 1)
    indices = tf.data.Dataset.range(len(split))
    if reader.rows is not None:
        batches = indices.batch(batch_size).map(reader.at, num_parallel_calls=tf.data.AUTOTUNE)
    else:
        numbers = indices if reader.random_access else tf.data.Dataset.zip(indices, split.source.stream())
        examples = numbers.map(lambda *number: reader.pad(reader.at(*number)), num_parallel_calls=tf.data.AUTOTUNE)
        batches = examples.batch(batch_size)
    batches = batches.map(lambda example: (example["image"], _targets(example)))
    return batches.prefetch(tf.data.AUTOTUNE)


class _Reader:
    """Examples of a split at their final size, float32 images, from memory where they fit."""

    def __init__(self, split, image_size, channels, memory, one_size):
        self.split, self.channels = split, channels
        self.size = None if image_size is None else size_pair(image_size)
        shape = split.source.shape
        self.as_stored = self.size in (None, shape[:2]) and channels in (None, shape[2])
        self.shape = (*(self.size or shape[:2]), channels or shape[2])
        if one_size and None in self.shape and len(split):
            first = next(iter(split.dataset().take(1)))
            self.shape = tuple(self.convert(first)["image"].shape)
        self.rows, self.items = _held(self, memory)
        self.random_access = self.rows is not None or self.items is not None or split.source.random_access

    def convert(self, example):
        """An example of the split resized as wished; its image is as stored where nothing was wished."""
        if self.as_stored:
            return example
        image = preprocess(example["image"], self.size, self.channels)
        example = example if self.size is None else resize_annotations(example, self.size)
        return example | {"image": image}

    def checked(self, example, index):
        """The converted example, once its image has the one size that all must have."""
        example = self.convert(example)
        image = example["image"]
        if None not in self.shape and not image.shape.is_fully_defined():

            def sentence():
                text = f"Images of several sizes need `image_size`: the first is {self.shape}, this one differs: "
                return tf.strings.join([text, self.split.where(index), tf.strings.format(" {}", tf.shape(image))])

            image = require(tf.reduce_all(tf.shape(image) == self.shape), sentence, image)
        return example | {"image": tf.ensure_shape(image, self.shape)}

    def at(self, index, record=None):
        """Example `index`, from its record where that is given; from `rows` also the batch of several."""
        if self.rows is not None:
            example = {key: tf.gather(values, index) for key, values in self.rows.items()}
        elif self.items is not None:
            example = self.items(index)
        else:
            split = self.split
            example = split.example(index) if record is None else split.decode(record, index)
            example = self.checked(example, index)
        image = preprocess(example.pop("image"))
        return {"image": image} | {
            key: v if v.dtype.is_floating else tf.cast(v, tf.int32) for key, v in example.items()
        }

    def pad(self, example):
        """The example with so many boxes as any of the split has, the last without area and ignored."""
        if "boxes" not in example:
            return example
        most = self.split.max_boxes
        rows = [[0, most - tf.shape(example["boxes"])[0]]]
        labels = tf.ensure_shape(tf.pad(example["box_labels"], rows, constant_values=IGNORE), [most])
        found = {"box_labels": labels}
        for key in ("boxes", "mask_boxes", "masks"):
            if key in example:
                more = [*rows, *[[0, 0]] * (example[key].shape.rank - 1)]
                found[key] = tf.ensure_shape(tf.pad(example[key], more), [most, *example[key].shape[1:]])
        return example | found


def _held(reader, memory):
    """(dict of tensors of N rows, None), or where sizes differ (None, function of an index), or no memory."""
    split = reader.split
    if reader.as_stored and split.source.array is not None and split.source.kind in ("class", "classes"):
        key = "labels" if split.source.kind == "class" else "multi_hot"
        return constants({"image": split.source.array, key: getattr(split, key)}), None
    if not len(split) or not memory:
        return None, None
    pairs = tf.data.Dataset.zip(split.dataset(), tf.data.Dataset.range(len(split)))
    examples = pairs.map(reader.checked, num_parallel_calls=tf.data.AUTOTUNE)
    first = next(examples.take(1).as_numpy_iterator())
    if len(split) * _size(first) > memory:
        return None, None
    whole = all(spec.shape.is_fully_defined() for spec in examples.element_spec.values())
    parts, total = [], 0
    for part in (examples.batch(256) if whole else examples).as_numpy_iterator():
        parts.append({key: _small(values) for key, values in part.items()})
        total += _size(part)
        if total > memory:
            return None, None
    columns = {key: [part[key] for part in parts] for key in first}
    if whole:
        return constants({key: np.concatenate(values) for key, values in columns.items()}), None
    return None, together({key: ragged(values) for key, values in columns.items()})


def _small(values):
    """Labels in as few bytes as hold them; images as they are."""
    if values.dtype != np.int32:
        return values
    most = values.max(initial=0)
    return values.astype("int8" if most < 2**7 else "int16" if most < 2**15 else "int32")


def _size(example):
    return sum(_small(values).nbytes for values in example.values())


def _targets(example):
    rest = {key: values for key, values in example.items() if key != "image"}
    return rest["labels"] if set(rest) == {"labels"} else rest


def _check_batch_size(batch_size):
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"`batch_size` must be an int >= 1. Received: batch_size={batch_size!r}")
