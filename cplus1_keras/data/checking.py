"""Checks of data before days are spent on them: that all can be read, and that no image is in two splits."""

import collections
import concurrent.futures
import functools
import hashlib
import os
import re

import numpy as np
import tensorflow as tf

from cplus1_keras.data.reading import OTHER_ENDINGS

BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"RIFF")
"""First bytes of the files that TensorFlow reads: jpeg, png, gif, bmp, webp."""


def check(splits, sample=None):
    """Look at all files of all splits in parallel, read examples, and say what is wrong with them.

    Of each file the first bytes are looked at; a png or jpeg whose end is missing is read in any case. What is read
    must have labels that the protocol knows and pixels in 0..255. Of images in memory those with masks or boxes are all
    read; the others were looked at when their source was made.

    Args:
        splits: `Splits`, or an iterable of `Split`.
        sample: How many examples of each split to read whole, evenly spread; None reads all.

    Returns:
        List of texts, one for each problem; of files that can be read from the beginning only, the first of a split.

    >>> from cplus1_keras import data
    >>> check(data.split(data.protocols.digits(), data.sources.digits()), sample=10)
    []
    """
    problems = []
    for split in filter(len, splits):
        source = split.source
        if source.array is not None and source.kind in ("class", "classes"):
            continue
        wrong, torn = _look(source)
        problems += wrong.values()
        chosen = np.arange(len(split))
        if sample is not None and source.array is None:
            chosen = np.union1d(np.linspace(0, len(split) - 1, sample).astype(int), torn)
        problems += _read(split.subset(np.setdiff1d(chosen, [*wrong])))
    return [*dict.fromkeys(problems)]


def find_copies(splits, decode=True):
    """Images that are in more than one split, whatever their files are called, by a hash.

    A copy in another size, or compressed again with a loss, is not found.

    Args:
        splits: `Splits`, or an iterable of `Split`.
        decode: Whether to read all images and compare their pixels. Otherwise images in memory are compared, and files
            byte for byte, of which only those are read that are as long as one of another split.

    Returns:
        List of tuples of texts "split: image", one tuple for each image that several splits have.

    >>> from cplus1_keras import data
    >>> find_copies(data.split(data.protocols.digits(), data.sources.digits()))
    []
    """
    places, files, splits = collections.defaultdict(list), [], list(splits)
    for split in splits:
        images = split.source.array
        if images is None and decode:
            images = split.source.examples().map(lambda example: example["image"]).as_numpy_iterator()
        elif images is None:
            files += [(split.name, file) for file in split.source.files]
        for index, image in enumerate(() if images is None else images):
            key = hashlib.blake2b(str(image.shape).encode() + image.tobytes(), digest_size=16).digest()
            places[key].append((split.name, (split.source.files or split.source.ids)[index]))
    # What differs in its length, or at its ends, need not be read whole.
    for key in (os.path.getsize, _ends, _digest):
        alike = collections.defaultdict(list)
        for place, value in zip(files, _in_parallel(key, [file for _, file in files]), strict=True):
            alike[value].append(place)
        files = [place for own in alike.values() if len({name for name, _ in own}) > 1 for place in own]
        if key is _digest:
            places.update(alike)
    found = [own for own in places.values() if len({name for name, _ in own}) > 1]
    return [tuple(f"{name}: {place}" for name, place in own) for own in found]


def _look(source):
    """By index, what is wrong with an image's or mask's file by its first bytes; and the indices of torn ones."""
    columns = [files for files in (source.files, source.mask_files) if files]
    files = [*{file: None for column in columns for file in column if not file.lower().endswith(OTHER_ENDINGS)}]
    told = {file: text for file, text in zip(files, _in_parallel(_header, files), strict=True) if text is not None}
    wrong, torn = {}, []
    for column in columns if told else ():
        for index, file in enumerate(column):
            if told.get(file):
                wrong.setdefault(index, told[file])
            elif file in told:
                torn.append(index)
    return wrong, torn


def _header(file):
    """A sentence where a file is no image, "" where its end is missing, None where it looks well."""
    try:
        with open(file, "rb", buffering=0) as opened:
            first, size = opened.read(16), opened.seek(0, os.SEEK_END)
            opened.seek(max(0, size - 16))
            last = opened.read(16)
    except OSError as error:
        return f"{file} cannot be read: {error.strerror}."
    if not first.startswith(BEGINNINGS):
        return f"{file} is damaged, or no image."
    ends = {b"\x89": b"IEND", b"\xff": b"\xff\xd9"}
    return None if ends.get(first[:1], b"") in last else ""


def _ends(file):
    with open(file, "rb") as opened:
        first = opened.read(4096)
        opened.seek(-min(4096, len(first)), os.SEEK_END)
        return first, opened.read()


def _digest(file):
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "blake2b").digest()


def _in_parallel(function, items, chunk=200):
    """A list of the function's values; in threads, since files may lie on another machine."""
    chunks = [items[start : start + chunk] for start in range(0, len(items), chunk)]
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        return [value for own in pool.map(lambda part: [*map(function, part)], chunks) for value in own]


def _read(split):
    """What goes wrong when the examples of a split are read, and what their pixels are, if not 0..255."""
    if not len(split):
        return []
    number, found, left = len(split), [], []

    def look(example, index):
        image = example["image"]
        pixels = tf.cast(image if image.dtype.is_floating else [0, 255], tf.float32)
        finite, ends = tf.reduce_all(tf.math.is_finite(pixels)), [tf.reduce_min(pixels), tf.reduce_max(pixels)]
        with tf.control_dependencies(tf.nest.flatten(example)):
            return tf.stack([tf.cast(index, tf.float32), *(tf.where(finite, end, np.nan) for end in ends)])

    def read_all():
        if not split.source.random_access:
            pairs = tf.data.Dataset.zip(split.dataset(), tf.data.Dataset.range(number))
            found.extend(pairs.map(look).as_numpy_iterator())
            return
        looked = tf.data.Dataset.range(number).map(attempt, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
        found.extend(looked.as_numpy_iterator())
        left.extend(np.setdiff1d(np.arange(number), [int(row[0]) for row in found]))

    def attempt(index):
        return look(split.example(index), index)

    problems = _problem(read_all)
    again = tf.function(attempt, input_signature=[tf.TensorSpec([], tf.int64)])
    problems += [text for index in left for text in _problem(functools.partial(again, index))]
    return problems + _pixels(split, np.array(found).reshape(-1, 3))


def _pixels(split, found):
    """What is wrong with the range of pixels, from rows of (index, lowest, highest)."""
    outside = found[~((found[:, 1] >= -1) & (found[:, 2] <= 256))]
    if len(outside):
        index, low, high = outside[0]
        came = "NaN or infinity" if np.isnan(low) else f"{low:g} to {high:g}"
        return [f"Pixels lie in 0..255. Received: {came} in {split.describe(int(index))}."]
    if len(found) and 0 < found[:, 2].max() <= 1:
        return [f"Pixels lie in 0..255, and those of {split.source.name} look scaled to 0..1. Multiply them by 255."]
    return []


def _problem(attempt):
    """The sentence of what goes wrong, in a list; an empty list where nothing does."""
    try:
        attempt()
    except (tf.errors.OpError, ValueError) as error:
        return [sentence(error)]
    return []


def sentence(error):
    """What an error of TensorFlow says, such as `fit` raises, without the names of operations around it.

    >>> sentence(tf.errors.InvalidArgumentError(None, None, "{{node f}} assertion failed: [a.png is damaged.]"))
    'a.png is damaged.'
    """
    text = getattr(error, "message", None) or str(error)
    graph = re.search(r"assertion failed: \[([^\n]*)\]", text)
    eager = re.search(r"Summarized data: b(['\"])(.*)\1", text, re.DOTALL)
    if not (graph or eager):
        return text.strip()
    # TensorFlow escapes quotes and line ends, and some bytes of what is not ASCII.
    raw = graph.group(1) if graph else eager.group(2)
    return raw.encode().decode("unicode_escape").encode("latin-1").decode("utf-8", "replace")
