"""Sources from TensorFlow Datasets."""

import difflib

import numpy as np
import tensorflow as tf

from cplus1_keras.data.sources.source import Source

_MEMORY = 2**30


def tfds(name, split="train", data_dir=None, download=False, memory=_MEMORY):
    """Any classification set of TensorFlow Datasets, by name.

    Images that all have one size and fit into `memory` are read at once; others are streamed from the prepared files
    whenever they are wanted. Examples keep the order of the files. No network is used unless `download` is set.

    Beware of `emnist/letters` of version 4.9.10: it holds only the first 88,800 and 14,800 of 124,800 and 20,800
    images, and they are transposed.

    Args:
        name: such as "mnist", "cifar100" or "imagenet2012:5.*.*".
        split: such as "train", "test" or "train[:10%]".
        data_dir: folder of the prepared data; None takes the environment variable TFDS_DATA_DIR, or the default of
            TensorFlow Datasets.
        download: fetch and prepare the data where they are absent.
        memory: most bytes of decoded images to hold; 0 always streams.

    Raises:
        FileNotFoundError: the data are not prepared in `data_dir` and `download` is not set.
        ValueError: no such set or split, no classification set, or damaged files.

    Example:

    >>> train = tfds("cifar10", "train")  # doctest: +SKIP
    """
    builder = _builder(name, data_dir)
    if not builder.is_prepared():
        if not download:
            raise FileNotFoundError(
                f"{name!r} is not prepared: {builder.data_path} is absent or incomplete. Point `data_dir` or "
                "TFDS_DATA_DIR at prepared data, or use `download=True` with a network."
            )
        builder.download_and_prepare()
    keys = builder.info.supervised_keys
    if keys is None or len(keys) != 2 or not hasattr(builder.info.features[keys[1]], "names"):
        raise ValueError(f"{name!r} is no classification set of (image, label). Its supervised keys are: {keys}")
    try:
        count = builder.info.splits[split].num_examples
    except (KeyError, ValueError) as error:
        has = ", ".join(builder.info.splits)
        raise ValueError(f"{name!r} has no split {split!r}. It has: {has}") from error
    return _source(builder, split, count, keys, f"{name}/{split}", memory)


def _builder(name, data_dir):
    import tensorflow_datasets

    try:
        return tensorflow_datasets.builder(name, data_dir=data_dir)
    except tensorflow_datasets.core.registered.DatasetNotFoundError as error:
        known = tensorflow_datasets.list_builders(with_community_datasets=False)
        close = difflib.get_close_matches(name.split("/")[0].split(":")[0], known, n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f"TensorFlow Datasets has no set {name!r}.{hint}") from error


def _source(builder, split, count, keys, name, memory):
    from tensorflow_datasets import decode

    image_key, label_key = keys
    feature = builder.info.features[image_key]
    shape = tuple(feature.shape)
    class_names = builder.info.features[label_key].names

    def everything(**options):
        return builder.as_dataset(split=split, shuffle_files=False, **options)

    def complete(labels):
        if len(labels) != count:
            raise ValueError(
                f"{name}: {builder.data_path} is damaged: {count} examples announced, {len(labels)} there."
            )
        return labels

    def stream(indices):
        wanted = np.zeros(count, bool)
        wanted[indices] = True
        wanted = tf.constant(wanted)
        records = everything(decoders={image_key: decode.SkipDecoding()}).enumerate()
        records = records.filter(lambda index, _: tf.gather(wanted, index)).take(len(indices))
        return records.map(
            lambda _, record: feature.decode_example(record[image_key]), num_parallel_calls=tf.data.AUTOTUNE
        )

    try:
        if None not in shape and count * np.prod(shape) * feature.np_dtype().itemsize <= memory:
            batches = list(everything(as_supervised=True).batch(1024).as_numpy_iterator())
            images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
            return Source(complete(labels), class_names, name=name, array=images)
        records = everything(decoders=decode.PartialDecoding({label_key: True})).batch(4096)
        labels = np.concatenate([record[label_key] for record in records.as_numpy_iterator()])
    except tf.errors.OpError as error:
        raise ValueError(f"{name}: cannot read {builder.data_path}: {error.message}") from error
    return Source(complete(labels), class_names, name=name, stream=stream, shape=shape, dtype=feature.np_dtype)
