"""Images and masks that are files."""

import os
import pathlib

import numpy as np
import tensorflow as tf
from PIL import Image

from cplus1_keras.data.preprocessing import decode
from cplus1_keras.data.segmentation.sources.source import MaskSource

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
MASK_ENDINGS = (".png", ".bmp", ".gif", ".tif", ".tiff")


def read_image(path):
    """An image file as (H, W, 3) uint8, decoded as the classification data are.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or no image; the message names it.
    """
    contents = _contents(path)
    try:
        with tf.device("CPU:0"):
            return decode(tf.constant(contents), channels=3).numpy()
    except tf.errors.OpError as error:
        raise ValueError(f"{path} is damaged, or no jpg, png, bmp or gif image: {error.message}") from error


def read_mask(path):
    """A mask file as (H, W) int32: the grey values, or the indices into the palette.

    TensorFlow's decoder gives the palette's colours instead of the indices, so PIL reads.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or a colour image; the message names it.
    """
    _contents(path, first=1)
    try:
        with Image.open(path) as image:
            mode, factor = image.mode, _grey_factor(path, image)
            mask = np.asarray(image)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is damaged, or no image: {error}") from error
    if mask.ndim != 2 or mask.dtype.kind not in "bui":
        raise ValueError(
            f"{path}: a mask is a grey image or one with a palette, so that each pixel is one integer. Received: an "
            f"image of mode {mode}. Convert its colours to class numbers first."
        )
    return mask.astype("int32") // factor


def folder(images, masks, image_suffix="", mask_suffix="", name=None, group=None):
    """A source from a folder of images and a folder of masks whose file names are the same but for the ending.

    Deeper folders are searched too, and are part of the name. Masks without an image are left out. Only names are
    read here; files are decoded when asked for.

    Args:
        images: folder of images (jpg, png, bmp, gif).
        masks: folder of masks (png, bmp, gif, tif), grey or with a palette; may be the same folder where the suffixes
            tell the two apart.
        image_suffix: what an image's file name has before its ending beyond the common name, such as "_leftImg8bit".
        mask_suffix: likewise for masks, such as "_gtFine_labelIds".
        name: a short name; the image folder's name where None.
        group: function of an image's name that says what it belongs to, such as its video: splits keep a group
            together, and a threshold's evidence counts it once. None takes each image for itself.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no images, an image without a mask, or two files of one name.

    Example:

    >>> scenes = folder("images", "masks", mask_suffix="_labels")  # doctest: +SKIP
    """
    images, masks = pathlib.Path(images), pathlib.Path(masks)
    image_of = _by_stem(images, image_suffix, IMAGE_ENDINGS)
    mask_of = _by_stem(masks, mask_suffix, MASK_ENDINGS)
    if not image_of:
        raise ValueError(f"{images} has no images that end in {image_suffix or 'any name'} + {IMAGE_ENDINGS}.")
    without = sorted(set(image_of) - set(mask_of))
    if without:
        raise ValueError(
            f"{len(without)} of {len(image_of)} images in {images} have no mask, such as {image_of[without[0]]}: needs "
            f"{masks / (without[0] + mask_suffix + MASK_ENDINGS[0])}. Add the masks, or remove the images."
        )
    stems = sorted(image_of, key=lambda stem: (group(stem), stem) if group else stem)
    files = [image_of[stem] for stem in stems], [mask_of[stem] for stem in stems]
    return of_files(stems, *files, name or images.name, [group(stem) for stem in stems] if group else None)


def of_files(names, images, masks, name, groups=None):
    """A source from lists of names, image files and mask files, one of each for each image."""

    def load(index):
        return read_image(images[index]), read_mask(masks[index])

    return MaskSource(names, load, name=name, files=masks, image_files=images, groups=groups)


def listed(names, images, masks, name, image_ending=".jpg", mask_ending=".png"):
    """A source from names and, for each, the folder of its image and of its mask.

    Args:
        names: names of files without ending, one for each image.
        images: folder of the images.
        masks: folder of the masks, or a list of folders, one for each name.
        name: a short name.
        image_ending: ending of the image files.
        mask_ending: ending of the mask files.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a name has no image or no mask; the message names the file.

    Example:

    >>> train = listed(lines("train.txt"), "JPEGImages", "SegmentationClass", name="train")  # doctest: +SKIP
    """
    folders = masks if isinstance(masks, list) else [masks] * len(names)
    image_files = [os.path.join(images, item + image_ending) for item in names]
    mask_files = [os.path.join(where, item + mask_ending) for where, item in zip(folders, names, strict=True)]
    there = {os.fspath(where): set(os.listdir(existing_folder(where))) for where in {images, *folders}}
    for kind, files in (("image", image_files), ("mask", mask_files)):
        missing = [file for file in files if os.path.basename(file) not in there[os.path.dirname(file)]]
        if missing:
            raise ValueError(
                f"{name}: {len(missing)} of {len(files)} listed names have no {kind}. The first: {missing[0]}. Is the "
                "data set complete, and are the list and the files of one release?"
            )
    return of_files(names, image_files, mask_files, name)


def existing_folder(path):
    """`path` as a pathlib.Path, once it is known to be a folder.

    Raises:
        FileNotFoundError: it is none; the message says from where it was looked for.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"No folder at {path} (looked from {pathlib.Path.cwd()}). Check the path.")
    return path


def lines(path):
    """The lines of a list file, stripped, without empty ones.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty or lists a name twice.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No list of images at {path} (looked from {pathlib.Path.cwd()}).")
    found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not found or len(set(found)) != len(found):
        raise ValueError(
            f"{path} needs one name a line, each once. Received: {len(found)} lines, {len(set(found))} names"
        )
    return found


def _by_stem(path, suffix, endings):
    result = {}
    for parent, _, files in os.walk(existing_folder(path), followlinks=True):
        for file in files:
            stem, ending = os.path.splitext(file)
            if ending.lower() not in endings or not stem.endswith(suffix) or file.startswith("."):
                continue
            key = os.path.relpath(os.path.join(parent, stem.removesuffix(suffix)), path)
            if key in result:
                raise ValueError(f"Two files of one name: {result[key]} and {os.path.join(parent, file)}")
            result[key] = os.path.join(parent, file)
    return result


def _contents(path, first=-1):
    try:
        with open(path, "rb") as file:
            return file.read(first)
    except OSError as error:
        raise FileNotFoundError(f"Cannot read {path}: {error.strerror}") from error


def _grey_factor(path, image):
    """PIL spreads grey PNGs of 2 and 4 bits over 0..255; this is the factor by which it multiplies them."""
    if image.format != "PNG" or image.mode != "L":
        return 1
    with open(path, "rb") as file:
        bits = file.read(25)[24]
    return {2: 85, 4: 17}.get(bits, 1)
