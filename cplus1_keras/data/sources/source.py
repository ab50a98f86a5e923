"""A source: labelled images with class names, read only when asked for."""

import functools

import numpy as np
import tensorflow as tf

from cplus1_keras.data.preprocessing import preprocess, size_pair


class Source:
    """Labelled images. Labels are in memory, one per example; images are read when asked for.

    Use the constructors of this package (`digits`, `tfds`, `folder`, `csv`, `idx`, `npz`, `arrays`, `combine`,
    `concatenate`); build one by hand only for a format they lack, with exactly one of `array`, `read`, `stream`.

    Args:
        labels: (N,) ints, index into `class_names`, one for each example.
        class_names: the names of the classes, all different.
        name: a short name for reports.
        array: (N, H, W, C) numpy array, images in memory.
        read: function of a scalar int64 tensor, the example's index, giving its image; runs inside tf.data.
        stream: function of an ascending (M,) int64 array of indices, giving a tf.data.Dataset of these images, for
            files that can be read from the beginning only.
        shape: (H, W, C) of all images, None where it differs or is not known; taken from `array` where given.
        dtype: dtype of the images; taken from `array` where given.
        files: one path for each example, where examples are files.
        describe: function of an index giving a text that finds the example again.

    Raises:
        ValueError: labels outside the class names, repeated names, or no way to read.

    Example:

    >>> source = Source([0, 1, 1], ["cat", "dog"], name="pets", array=np.zeros([3, 4, 4, 1], "uint8"))
    >>> len(source), source.describe(2)
    (3, 'pets[2]')
    """

    def __init__(
        self,
        labels,
        class_names,
        *,
        name,
        array=None,
        read=None,
        stream=None,
        shape=(None, None, None),
        dtype="uint8",
        files=(),
        describe=None,
    ):
        self.class_names = tuple(map(str, class_names))
        self.labels = checked_labels(labels, self.class_names, name)
        self.name = name
        if sum(way is not None for way in (array, read, stream)) != 1:
            raise ValueError(f"{name}: a source needs exactly one of `array`, `read` and `stream`.")
        self.array = array
        self.shape = tuple(array.shape[1:]) if array is not None else tuple(shape)
        self.dtype = tf.as_dtype(array.dtype if array is not None else dtype)
        self.files = tuple(files)
        self._read = read
        self._stream = stream
        self._describe = describe

    def __len__(self):
        return len(self.labels)

    def __repr__(self):
        return f"Source({self.name!r}, {len(self)} images {self.shape}, {len(self.class_names)} classes)"

    @property
    def random_access(self):
        """True where images can be read in any order at no extra cost."""
        return self._stream is None

    def describe(self, index):
        """A text that finds example `index` again: its path, or the source's name and the index there."""
        if self._describe is not None:
            return self._describe(int(index))
        return self.files[index] if self.files else f"{self.name}[{int(index)}]"

    def reader(self):
        """Function of a scalar int64 tensor, an example's index, giving its image; for `random_access` only."""
        if self._read is not None:
            return self._read
        with tf.device("CPU:0"):
            images = tf.constant(self.array)
        return lambda index: tf.gather(images, index)

    def images(self):
        """All images as they are stored, one by one, in the order of the labels.

        Returns:
            tf.data.Dataset of (H, W, C) images.
        """
        indices = np.arange(len(self))
        if not self.random_access:
            return self._stream(indices)
        dataset = tf.data.Dataset.from_tensor_slices(indices)
        return dataset.map(self.reader(), num_parallel_calls=tf.data.AUTOTUNE)

    def subset(self, indices):
        """A source of some of the examples, with the same class names.

        Args:
            indices: strictly ascending ints.

        Raises:
            ValueError: indices are not strictly ascending or lie outside the source.

        Example:

        >>> source = Source([0, 1, 1], ["cat", "dog"], name="pets", array=np.zeros([3, 4, 4, 1], "uint8"))
        >>> source.subset([0, 2]).describe(1)
        'pets[2]'
        """
        indices = np.asarray(indices, "int64").reshape(-1)
        if len(indices) and (indices[0] < 0 or indices[-1] >= len(self) or np.any(np.diff(indices) <= 0)):
            raise ValueError(f"`indices` must ascend strictly within 0 to {len(self) - 1} for {self!r}")
        if len(indices) == len(self):
            return self
        if self.array is not None:
            way = {"array": self.array[indices]}
        elif self.random_access:
            positions = tf.constant(indices)
            way = {"read": lambda index: self._read(tf.gather(positions, index))}
        else:
            way = {"stream": lambda chosen: self._stream(indices[chosen])}
        return self._like(
            way,
            self.labels[indices],
            files=[self.files[index] for index in indices] if self.files else (),
            describe=lambda index: self.describe(indices[index]),
        )

    def converted(self, size=None, channels=None):
        """The same source with each image passed through `preprocess`: one size, one number of channels, float32.

        Args:
            size: None, an int or (height, width).
            channels: None, 1 or 3.

        Example: colour images beside grey ones, `combine(mnist.converted(32, channels=3), cifar10)`.
        """
        shape = (*(size_pair(size) if size else self.shape[:2]), channels or self.shape[2])

        def convert(image):
            return tf.ensure_shape(preprocess(image, size, channels), shape)

        if self.random_access:
            read = self.reader()
            way = {"read": lambda index: convert(read(index))}
        else:
            way = {"stream": lambda indices: self._stream(indices).map(convert, num_parallel_calls=tf.data.AUTOTUNE)}
        return self._like(way, self.labels, shape=shape, dtype="float32", files=self.files, describe=self.describe)

    def _like(self, way, labels, **changes):
        kept = {"name": self.name, "shape": self.shape, "dtype": self.dtype}
        return Source(labels, self.class_names, **(kept | changes), **way)


def checked_labels(labels, class_names, name):
    """`labels` as int64, once they and the names of their classes have been checked."""
    labels = np.asarray(labels)
    if len(set(class_names)) != len(class_names):
        raise ValueError(f"{name}: class names must differ. Received: {class_names}")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: needs one integer label for each example. Received: shape {labels.shape}, dtype {labels.dtype}"
        )
    outside = labels[(labels < 0) | (labels >= len(class_names))]
    if len(outside):
        raise ValueError(
            f"{name}: labels must lie in 0 to {len(class_names) - 1}, for there are {len(class_names)} class names. "
            f"Received: {sorted(set(outside.tolist()))[:10]}"
        )
    return labels.astype("int64")


def combine(*sources, name=None):
    """One source from sources of different classes, such as digits and letters; its classes are all of theirs.

    Args:
        sources: sources whose class names have nothing in common, of one number of channels.
        name: a short name; the sources' names joined by + where None.

    Returns:
        A source that holds the examples of the first, then those of the second, and so on.

    Raises:
        ValueError: a class name occurs in two sources, or grey meets colour.

    Example:

    >>> digit = Source([0], ["7"], name="digits", array=np.zeros([1, 4, 4, 1], "uint8"))
    >>> letter = Source([0], ["k"], name="letters", array=np.zeros([1, 4, 4, 1], "uint8"))
    >>> combine(digit, letter).class_names
    ('7', 'k')
    """
    names = [item for source in sources for item in source.class_names]
    shared = sorted({item for item in names if names.count(item) > 1})
    if shared:
        raise ValueError(
            f"Combined sources must not share class names. Received in more than one: {', '.join(shared[:10])}. "
            "Name the classes apart; use `concatenate` for more examples of the same classes."
        )
    return join(sources, names, name)


def concatenate(*sources, name=None):
    """One source from sources of the same classes, such as the two halves of a data set.

    Args:
        sources: sources with equal `class_names`, of one number of channels.
        name: a short name; the sources' names joined by + where None.

    Raises:
        ValueError: class names differ, or grey meets colour.

    Example:

    >>> half = Source([0, 1], ["cat", "dog"], name="half", array=np.zeros([2, 4, 4, 1], "uint8"))
    >>> len(concatenate(half, half))
    4
    """
    if len({source.class_names for source in sources}) > 1:
        raise ValueError(
            "Concatenated sources must have equal class names. Received: "
            + "; ".join(f"{source.name}: {', '.join(source.class_names[:10])}" for source in sources)
        )
    return join(sources, sources[0].class_names if sources else (), name)


def join(sources, class_names, name=None):
    """One source that holds the examples of `sources` one after another, relabelled by name into `class_names`."""
    if not sources:
        raise ValueError("Needs at least one source. Received: none")
    if len(sources) == 1 and sources[0].class_names == tuple(class_names):
        return sources[0]
    channels = {source.shape[2] for source in sources}
    if len(channels) > 1:
        raise ValueError(
            "Sources to be joined must have the same number of channels. Received: "
            + ", ".join(f"{source.name}: {source.shape[2]}" for source in sources)
            + ". Use `source.converted(channels=3)` on the grey ones."
        )
    if len({source.dtype for source in sources}) > 1:
        sources = [source if source.dtype == tf.float32 else source.converted() for source in sources]
    position = {item: index for index, item in enumerate(class_names)}
    labels = [np.array([position[item] for item in source.class_names])[source.labels] for source in sources]
    starts = np.cumsum([0] + [len(source) for source in sources])

    def describe(index):
        which = int(np.searchsorted(starts, index, side="right")) - 1
        return sources[which].describe(index - starts[which])

    return Source(
        np.concatenate(labels),
        class_names,
        name=name or "+".join(source.name for source in sources),
        shape=tuple(axis[0] if len(set(axis)) == 1 else None for axis in zip(*(s.shape for s in sources), strict=True)),
        dtype=sources[0].dtype,
        files=sum((source.files for source in sources), ()) if all(source.files for source in sources) else (),
        describe=describe,
        **_ways(sources, starts),
    )


def _ways(sources, starts):
    if all(source.array is not None for source in sources) and len({source.shape for source in sources}) == 1:
        return {"array": np.concatenate([source.array for source in sources])}
    if all(source.random_access for source in sources):
        return {"read": _joint_reader([source.reader() for source in sources], starts)}

    def stream(indices):
        parts = []
        for source, start, stop in zip(sources, starts[:-1], starts[1:], strict=True):
            own = indices[(indices >= start) & (indices < stop)] - start
            if len(own):
                parts.append(source.subset(own).images())
        return functools.reduce(
            lambda first, second: first.concatenate(second), parts or [sources[0].subset([]).images()]
        )

    return {"stream": stream}


def _joint_reader(readers, starts):
    firsts = tf.constant(starts[:-1], tf.int64)

    def read(index):
        which = tf.searchsorted(firsts, [index], side="right")[0] - 1
        local = index - tf.gather(firsts, which)
        return tf.switch_case(which, [lambda reader=reader: reader(local) for reader in readers])

    return read
