"""Sources from TensorFlow Datasets."""

import difflib

import numpy as np
import tensorflow as tf

from cplus1_keras.data.segmentation.sources.source import MaskSource

_KEYS = {
    "oxford_iiit_pet": ("image", "segmentation_mask"),
    "cityscapes": ("image_left", "segmentation_label"),
    "scene_parse150": ("image", "annotation"),
}


def tfds(name, split="train", keys=None, data_dir=None, download=False):
    """A set of TensorFlow Datasets with masks, streamed from its prepared files.

    `oxford_iiit_pet`, `cityscapes` (config `semantic_segmentation`, label ids; fetched by hand) and `scene_parse150`
    need no `keys`. Masks that hold colours, such as the ids of `coco/2017_panoptic`, are no mask of classes. No
    network is used unless `download` is set.

    Args:
        name: such as "oxford_iiit_pet".
        split: such as "train", "test" or "train[:10%]".
        keys: names of the image and of the mask in an example; None knows the sets above.
        data_dir: folder of the prepared data; None takes the environment variable TFDS_DATA_DIR, or the default of
            TensorFlow Datasets.
        download: fetch and prepare the data where they are absent.

    Raises:
        FileNotFoundError: the data are not prepared in `data_dir` and `download` is not set.
        ValueError: no such set, split or keys, or masks of colours.

    Example:

    >>> pets = tfds("oxford_iiit_pet", "train")  # doctest: +SKIP
    """
    builder = _builder(name, data_dir)
    keys = _checked_keys(builder, name, keys)
    if not builder.is_prepared():
        if not download:
            raise FileNotFoundError(
                f"{name!r} is not prepared: {builder.data_path} is absent or incomplete. Point `data_dir` or "
                "TFDS_DATA_DIR at prepared data, or use `download=True` with a network."
            )
        builder.download_and_prepare()
    try:
        count = builder.info.splits[split].num_examples
    except (KeyError, ValueError) as error:
        has = ", ".join(builder.info.splits)
        raise ValueError(f"{name!r} has no split {split!r}. It has: {has}") from error
    return MaskSource(range(count), name=f"{name}/{split}", stream=_streamer(builder, split, keys, count))


def _streamer(builder, split, keys, count):
    from tensorflow_datasets import decode

    features = [builder.info.features[key] for key in keys]

    def stream(indices):
        wanted = np.zeros(count, bool)
        wanted[indices] = True
        wanted = tf.constant(wanted)
        records = builder.as_dataset(
            split=split, shuffle_files=False, decoders={key: decode.SkipDecoding() for key in keys}
        )
        records = records.enumerate().filter(lambda index, _: tf.gather(wanted, index)).take(len(indices))
        return records.map(
            lambda _, record: tuple(
                feature.decode_example(record[key]) for feature, key in zip(features, keys, strict=True)
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    return stream


def _builder(name, data_dir):
    import tensorflow_datasets

    try:
        return tensorflow_datasets.builder(name, data_dir=data_dir)
    except tensorflow_datasets.core.registered.DatasetNotFoundError as error:
        close = difflib.get_close_matches(name.split("/")[0].split(":")[0], _KEYS, n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f"TensorFlow Datasets has no set {name!r}.{hint}") from error


def _checked_keys(builder, name, keys):
    features = builder.info.features
    keys = tuple(keys or _KEYS.get(builder.name, ()))
    lacks = [key for key in keys if key not in features]
    if len(keys) != 2 or lacks:
        raise ValueError(
            f"`keys` must name the image and the mask of {name!r}. Received: {keys or None}. An example has: "
            + ", ".join(f"{key} {getattr(feature, 'shape', '')}" for key, feature in features.items())
        )
    shape = features[keys[1]].shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] != 1):
        raise ValueError(f"A mask has one integer for each pixel. {keys[1]!r} of {name!r} has shape {shape}.")
    return keys
