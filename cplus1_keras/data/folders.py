"""Files of images without labels: found in folders, read in parallel, the damaged ones told apart."""

import itertools
import pathlib
import re

import numpy as np
import tensorflow as tf

from cplus1_keras.data.checking import sentence
from cplus1_keras.data.reading import IMAGE_ENDINGS
from cplus1_keras.images import MAX_PIXELS, decode, preprocess


def find_images(paths):
    """The files that paths name: themselves, and the images in folders, sorted; FileNotFoundError where there is none.

    >>> find_images(["nowhere"])
    Traceback (most recent call last):
    FileNotFoundError: There is no file or folder nowhere.
    """
    found = []
    for path in map(pathlib.Path, paths):
        inside = [path]
        if path.is_dir():
            inside = sorted(own for own in path.rglob("*") if own.suffix.lower() in IMAGE_ENDINGS)
        elif not path.exists():
            raise FileNotFoundError(f"There is no file or folder {path}.")
        if not inside:
            raise FileNotFoundError(f"The folder {path} has no image ({', '.join(IMAGE_ENDINGS)}).")
        found += inside
    return found


def read_images(files, image_shape, short_side=None, max_pixels=MAX_PIXELS):
    """Yields the images of files in their order, brought to a model's size as in training; read on all cores.

    Args:
        files: Paths.
        image_shape: (H, W, channels), None where any will do.
        short_side: As for `preprocess`.
        max_pixels: An image with more is not read.

    Yields:
        Pairs of an array (H, W, channels) float32, of no pixels where a file cannot be read, and why, "" where it can.

    >>> [(image.size, why) for image, why in read_images(["none.png"], (8, 8, 3))]
    [(0, 'none.png; No such file or directory')]
    """
    height, width, channels = image_shape
    channels = channels or 3
    size = None if None in (height, width) else (height, width)

    def read(path):
        return preprocess(decode(tf.io.read_file(path), channels, max_pixels=max_pixels), size, channels, short_side)

    files = [str(path) for path in files]
    numbered = tf.data.Dataset.from_tensor_slices(tf.constant(files)).enumerate()
    # A graph cannot tell what is wrong with a file, but its number is missing then.
    found = numbered.map(lambda number, path: (number, read(path)), tf.data.AUTOTUNE, deterministic=True)
    following = 0
    for number, image in itertools.chain(found.ignore_errors().prefetch(8).as_numpy_iterator(), [(len(files), None)]):
        yield from (_read_again(read, path) for path in files[following:number])
        if image is not None:
            yield image, ""
        following = number + 1


def _read_again(read, path):
    """The image of a file that could not be read, if that was for once, and else why."""
    try:
        return read(path).numpy(), ""
    except tf.errors.OpError as error:
        # Without the name of the operation, which says nothing of the file.
        why = re.sub(r"^{{.*?}} | \[Op:.*", "", sentence(error).partition("\n")[0])
        return np.zeros([0, 0, 0], "float32"), why or type(error).__name__
