"""Sources from TensorFlow Datasets."""

import difflib

import numpy as np
import tensorflow as tf

from cplus1_keras.data.boxes import collect
from cplus1_keras.data.names import mask_names
from cplus1_keras.data.source import Source
from cplus1_keras.images import read_size

_MEMORY = 2**30
_KEYS = {
    "oxford_iiit_pet": ("image", "segmentation_mask"),
    "cityscapes": ("image_left", "segmentation_label"),
    "scene_parse150": ("image", "annotation"),
    "voc": ("image", "labels"),
    "coco": ("image", "objects"),
}
_CROWDS = ("is_crowd", "is_difficult")


def tfds(name, split="train", data_dir=None, download=False, memory=_MEMORY, *, keys=None):
    """A set of TensorFlow Datasets, by name: with a class, a mask, objects or several labels for each image.

    Images with a class that all have one size and fit into `memory` are read at once; others are streamed from the
    prepared files whenever they are wanted. Examples keep the order of the files.

    Its decoders do not turn images by their EXIF orientation, and `data.decode`, which reads files and requests, does.

    Beware of `emnist/letters` of version 4.9.10: it holds only the first 88,800 and 14,800 of 124,800 and 20,800
    images, and they are transposed. Masks that hold colours, as those of `coco/2017_panoptic`, are no mask of classes.

    Args:
        name: Such as "mnist", "imagenet2012:5.*.*", "oxford_iiit_pet", "voc/2012" or "coco/2017".
        split: Such as "train", "test" or "train[:10%]".
        data_dir: Folder of the prepared data; None: the environment variable TFDS_DATA_DIR, or the library's default.
        download: Fetch and prepare the data where they are absent; otherwise no network is used.
        memory: Most bytes of decoded images to hold; 0 always streams.
        keys: Names of the image and of its annotation in an example: a class, a mask, a sequence of classes or of
            objects with a `label`. None knows oxford_iiit_pet, cityscapes, scene_parse150, voc, coco, and otherwise
            takes the set's image and class.

    Raises:
        FileNotFoundError: If the data are not prepared in `data_dir` and `download` is not set.
        ValueError: If there is no such set, split or key, the annotation is none of these, or files are damaged.

    >>> train = tfds("cifar10", "train")  # doctest: +SKIP
    """
    builder = _prepared(name, data_dir, download)
    keys = _checked_keys(builder, name, keys)
    count = _count(builder, name, split)
    try:
        return _source(builder, split, keys, count, f"{name}/{split}", memory)
    except tf.errors.OpError as error:
        raise ValueError(f"{name}/{split}: cannot read {builder.data_path}: {error.message}") from error


def tfds_boxes(name, split="train", data_dir=None, download=False, *, keys=("image", "objects"), on_bad="error"):
    """A set of TensorFlow Datasets as images with boxes; what is crowd or difficult there counts for nothing.

    The boxes are read once, here, with the images' sizes but without decoding them; images are streamed.

    Args:
        name: Such as "voc/2007", "coco/2017" or "wider_face".
        split, data_dir, download: As in `tfds`.
        keys: Names of the image and of its sequence of objects, each with a `bbox` and perhaps a `label`, `is_crowd`,
            `is_difficult`. Without labels the one class is called "object".
        on_bad: What to do with bad boxes, "error" or "drop", as in `boxes`.

    Raises:
        FileNotFoundError, ValueError: As `tfds`; ValueError also for a bad box, which is named.

    >>> train = tfds_boxes("voc/2007", "trainval")  # doctest: +SKIP
    """
    builder = _prepared(name, data_dir, download)
    features = builder.info.features
    objects = getattr(features[keys[1]], "feature", {}) if set(keys) <= set(features) else {}
    if "bbox" not in getattr(objects, "keys", tuple)():
        has = ", ".join(features)
        raise ValueError(f"`keys` name the image and its objects with a `bbox`. Received: {keys}. {name!r} has: {has}")
    form = getattr(objects["bbox"].bbox_format, "value", objects["bbox"].bbox_format)
    if form is not None and not str(form).upper().startswith("REL"):
        raise ValueError(f"Boxes of {name!r} must be relative to the image's size. Received: bbox_format={form}")
    count, title = _count(builder, name, split), f"{name}/{split}"
    class_names = objects["label"].names if "label" in objects else ["object"]
    try:
        found = _objects(builder, split, keys, title, on_bad)
    except tf.errors.OpError as error:
        raise ValueError(f"{title}: cannot read {builder.data_path}: {error.message}") from error
    way = _streamed(builder, split, keys[:1], count) | {"shape": tuple(features[keys[0]].shape)}
    return Source(class_names, kind="boxes", boxes=found, name=title, count=count, **way)


def _objects(builder, split, keys, title, on_bad):
    from tensorflow_datasets import decode

    records = builder.as_dataset(split=split, shuffle_files=False, decoders={keys[0]: decode.SkipDecoding()})
    records = records.map(
        lambda record: {"size": read_size(record[keys[0]])} | record[keys[1]], num_parallel_calls=tf.data.AUTOTUNE
    )
    found = list(records.as_numpy_iterator())
    corners = [own["bbox"][:, [1, 0, 3, 2]].astype("float64") * own["size"][[1, 0, 1, 0]] for own in found]
    nothing = [np.zeros(len(own["bbox"]), bool) for own in found]
    flags = [[own.get(key, none) for own, none in zip(found, nothing, strict=True)] for key in _CROWDS]
    return collect(
        corners,
        [own.get("label", none.astype("int64")) for own, none in zip(found, nothing, strict=True)],
        [own["size"] for own in found],
        lambda image, box: f"{title}[{image}], object {box}",
        crowd=[np.logical_or(*own) for own in zip(*flags, strict=True)],
        on_bad=on_bad,
    )


def _prepared(name, data_dir, download):
    builder = _builder(name, data_dir)
    if not builder.is_prepared():
        if not download:
            raise FileNotFoundError(
                f"{name!r} is not prepared: {builder.data_path} is absent or incomplete. Point `data_dir` or "
                "TFDS_DATA_DIR at prepared data, or use `download=True` with a network."
            )
        builder.download_and_prepare()
    return builder


def _count(builder, name, split):
    try:
        return builder.info.splits[split].num_examples
    except (KeyError, ValueError) as error:
        has = ", ".join(builder.info.splits)
        raise ValueError(f"{name!r} has no split {split!r}. It has: {has}") from error


def _source(builder, split, keys, count, name, memory):
    image, label = (builder.info.features[key] for key in keys)
    shape, kind, names = tuple(image.shape), _kind(label), _names(label)
    if kind == "mask":
        masks = builder.name in ("oxford_iiit_pet", "cityscapes")
        names = mask_names(builder.name) if masks else {value: str(value) for value in range(256)}
        return Source(names, kind=kind, name=name, count=count, shape=shape, **_streamed(builder, split, keys, count))
    if kind == "class" and None not in shape and count * np.prod(shape) * image.np_dtype().itemsize <= memory:
        records = builder.as_dataset(split=split, shuffle_files=False).batch(1024).as_numpy_iterator()
        images, labels = zip(*((record[keys[0]], record[keys[1]]) for record in records), strict=True)
        labels, way = np.concatenate(labels), {"arrays": {"image": np.concatenate(images)}}
    else:
        labels = _labels(builder, split, keys[1], kind, len(names))
        way = _streamed(builder, split, keys[:1], count) | {"shape": shape, "dtype": image.np_dtype}
    if len(labels) != count:
        raise ValueError(f"{name}: {builder.data_path} is damaged: {count} examples announced, {len(labels)} there.")
    return Source(names, labels, kind=kind, name=name, **way)


def _labels(builder, split, key, kind, number):
    from tensorflow_datasets import decode

    wanted = {key: {"label"}} if hasattr(builder.info.features[key], "keys") else {key}
    decoders = decode.PartialDecoding(wanted)
    records = builder.as_dataset(split=split, shuffle_files=False, decoders=decoders)
    if kind == "class":
        return np.concatenate([record[key] for record in records.batch(4096).as_numpy_iterator()])
    found = [record[key] for record in records.as_numpy_iterator()]
    found = [own["label"] if isinstance(own, dict) else own for own in found]
    return np.array([np.bincount(own, minlength=number) > 0 for own in found], bool).reshape(-1, number)


def _streamed(builder, split, keys, count):
    from tensorflow_datasets import decode

    features = {key: builder.info.features[key] for key in keys}

    def stream(indices):
        wanted = np.zeros(count, bool)
        wanted[indices] = True
        wanted = tf.constant(wanted)
        decoders = {key: decode.SkipDecoding() for key in keys}
        records = builder.as_dataset(split=split, shuffle_files=False, decoders=decoders).enumerate()
        records = records.filter(lambda index, _: tf.gather(wanted, index)).take(len(indices))
        return records.map(lambda _, record: {key: record[key] for key in keys})

    def decode_record(record):
        values = [feature.decode_example(record[key]) for key, feature in features.items()]
        return dict(zip(("image", "mask"), values, strict=False))

    return {"stream": stream, "decode": decode_record}


def _builder(name, data_dir):
    import tensorflow_datasets

    try:
        return tensorflow_datasets.builder(name, data_dir=data_dir)
    except tensorflow_datasets.core.registered.DatasetNotFoundError as error:
        known = tensorflow_datasets.list_builders(with_community_datasets=False)
        close = difflib.get_close_matches(name.split("/")[0].split(":")[0], known, n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f"TensorFlow Datasets has no set {name!r}.{hint}") from error


def _checked_keys(builder, name, keys):
    features = builder.info.features
    keys = tuple(keys or _KEYS.get(builder.name) or builder.info.supervised_keys or ())
    if len(keys) != 2 or not set(keys) <= set(features):
        raise ValueError(
            f"`keys` must name the image and the mask or label of {name!r}. Received: {keys or None}. An example has: "
            + ", ".join(f"{key} {getattr(feature, 'shape', '')}" for key, feature in features.items())
        )
    if _kind(features[keys[1]]) is None:
        shape = getattr(features[keys[1]], "shape", None)
        raise ValueError(
            f"{name!r} is no set of classes or masks by {keys[1]!r}, shape {shape}: needs a class, a sequence "
            "of classes or of objects with a `label`, or an image with one integer for each pixel."
        )
    return keys


def _kind(feature):
    shape = getattr(feature, "shape", None)
    if _names(feature) is not None:  # a sequence has all attributes of what it holds
        return "classes" if hasattr(feature, "feature") else "class"
    plain = isinstance(shape, tuple) and (len(shape) == 2 or (len(shape) == 3 and shape[2] == 1))
    return "mask" if plain else None


def _names(feature):
    inner = getattr(feature, "feature", feature)
    inner = inner["label"] if hasattr(inner, "keys") and "label" in inner else inner
    return getattr(inner, "names", None)
