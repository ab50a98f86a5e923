"""A source: images with masks of the same size, read only when asked for."""

import numpy as np
import tensorflow as tf

from cplus1_keras.data.preprocessing import preprocess


class MaskSource:
    """Images, each with a mask of integers of its size. What the integers mean is the protocol's business.

    Use the constructors of this package (`folder`, `voc`, `lip`, `coco`, `tfds`, ...); build one by hand only for a
    format they lack, with exactly one of `load` and `stream`.

    Args:
        names: a name for each image, all different.
        load: Python function of an index, an int, giving (image (H, W) or (H, W, C), mask (H, W)) as numpy arrays; it
            raises a ValueError that names the file where one is damaged. Called from several threads.
        name: a short name of the source for reports.
        stream: function of an ascending (M,) int64 array of indices, giving a tf.data.Dataset of these pairs, for
            files that can be read from the beginning only.
        files: the path of each mask, where masks are files, for messages.
        image_files: the path of each image, where images are files: splits see by it that two sources share one.
        groups: for each image what it was cut from, where several were cut from one; its own name where None. Splits
            keep a group together.

    Raises:
        ValueError: repeated names, or no way to read.

    Example:

    >>> source = arrays(np.zeros([2, 4, 6, 3], "uint8"), np.ones([2, 4, 6], "uint8"))
    >>> image, mask = next(iter(source.dataset()))
    >>> image.shape, image.dtype, mask.shape, mask.dtype
    (TensorShape([4, 6, 3]), tf.float32, TensorShape([4, 6]), tf.int32)
    """

    def __init__(self, names, load=None, *, name, stream=None, files=(), image_files=(), groups=None):
        self.names = tuple(map(str, names))
        self.name = name
        self.files = tuple(map(str, files))
        self.image_files = tuple(map(str, image_files))
        self.groups = self.names if groups is None else tuple(map(str, groups))
        if (load is None) == (stream is None):
            raise ValueError(f"{name}: a source needs exactly one of `load` and `stream`.")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"{name}: names of images must differ, or splits could share one.")
        lengths = {len(self.files), len(self.image_files)} - {0}
        if {len(self.groups), *lengths} != {len(self.names)}:
            raise ValueError(
                f"{name}: needs one group, and one file or none at all, for each of {len(self.names)} names."
            )
        self._load = load
        self._stream = stream

    def __len__(self):
        return len(self.names)

    def __repr__(self):
        return f"MaskSource({self.name!r}, {len(self)} images)"

    @property
    def random_access(self):
        """True where images can be read in any order at no extra cost."""
        return self._stream is None

    def describe(self, index):
        """A text that finds mask `index` again: its path, or the source's name and the image's."""
        return self.files[index] if self.files else f"{self.name}: {self.names[index]}"

    def load(self, index):
        """Image and mask `index` as numpy arrays; for `random_access` only.

        Returns:
            image (H, W, C) as stored, mask (H, W) int32.

        Raises:
            ValueError: a damaged file, or sizes that differ; the message names the file.
        """
        image, mask = self._load(int(index))
        image, mask = np.atleast_3d(image), np.asarray(mask)
        if mask.ndim != 2 or mask.dtype.kind not in "bui":
            raise ValueError(
                f"A mask is (H, W) of integers. Received: shape {mask.shape}, {mask.dtype} for {self.describe(index)}"
            )
        if image.shape[:2] != mask.shape:
            raise ValueError(
                f"A mask has the size of its image. Received: image {image.shape[1]} x {image.shape[0]}, mask "
                f"{mask.shape[1]} x {mask.shape[0]} (width x height) for {self.describe(index)}. Resize the mask to "
                "the image, by nearest neighbour, or the image to the mask."
            )
        return image, mask.astype("int32")

    def reader(self):
        """Function of a scalar int64 tensor, an index, giving (image (H, W, 3) float32, mask (H, W) int32)."""

        @tf.autograph.experimental.do_not_convert
        def load(index):
            image, mask = self.load(index)
            with tf.device("CPU:0"):
                return preprocess(image, channels=3).numpy(), mask

        return lambda index: _shaped(*tf.numpy_function(load, [index], (tf.float32, tf.int32)))

    def dataset(self):
        """All images and masks, one by one, in the order of `names`.

        Returns:
            tf.data.Dataset of (image (H, W, 3) float32 in 0..255, mask (H, W) int32).
        """
        indices = np.arange(len(self))
        if self.random_access:
            return tf.data.Dataset.from_tensor_slices(indices).map(self.reader(), num_parallel_calls=tf.data.AUTOTUNE)
        return self._stream(indices).map(_prepared, num_parallel_calls=tf.data.AUTOTUNE)

    def subset(self, indices):
        """A source of some of the images.

        Args:
            indices: strictly ascending ints.

        Raises:
            ValueError: indices are not strictly ascending or lie outside the source.

        Example:

        >>> arrays(np.zeros([3, 4, 4, 3], "uint8"), np.zeros([3, 4, 4], "uint8")).subset([0, 2]).names
        ('0', '2')
        """
        indices = np.asarray(indices, "int64").reshape(-1)
        if len(indices) and (indices[0] < 0 or indices[-1] >= len(self) or np.any(np.diff(indices) <= 0)):
            raise ValueError(f"`indices` must ascend strictly within 0 to {len(self) - 1} for {self!r}")
        if self.random_access:
            way = {"load": lambda index: self._load(int(indices[index]))}
        else:
            way = {"stream": lambda chosen: self._stream(indices[chosen])}
        return MaskSource(
            [self.names[index] for index in indices],
            name=self.name,
            files=[self.files[index] for index in indices] if self.files else (),
            image_files=[self.image_files[index] for index in indices] if self.image_files else (),
            groups=[self.groups[index] for index in indices],
            **way,
        )


def arrays(images, masks, names=None, name="arrays"):
    """A source of images in memory, of one size or of several.

    Args:
        images: (N, H, W), (N, H, W, C) or a sequence of images.
        masks: (N, H, W) or a sequence of masks, integers.
        names: a name for each image; its number where None.
        name: a short name.

    Raises:
        ValueError: not as many masks as images. Sizes that differ raise when the pair is read.

    Example:

    >>> len(arrays([np.zeros([4, 6, 3], "uint8"), np.zeros([5, 5, 3], "uint8")], [np.zeros([4, 6], int)] * 2))
    2
    """
    if len(images) != len(masks):
        raise ValueError(f"Each image needs a mask. Received: {len(images)} images, {len(masks)} masks")
    names = range(len(images)) if names is None else names
    return MaskSource(names, lambda index: (images[index], masks[index]), name=name)


def _prepared(image, mask):
    image, mask = preprocess(image, channels=3), tf.cast(mask, tf.int32)
    return _shaped(image, mask[..., 0] if mask.shape.rank == 3 else mask)


def _shaped(image, mask):
    return tf.ensure_shape(image, [None, None, 3]), tf.ensure_shape(mask, [None, None])
