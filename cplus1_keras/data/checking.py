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

    Of each file the first bytes are looked at; a png or jpeg whose end is missing is read in any case. Masks and boxes
    are all read; other images in memory cannot be damaged.

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
    """What goes wrong when the examples of a split are read."""
    if not len(split):
        return []
    if not split.source.random_access:
        return _problem(lambda: collections.deque(split.dataset(), maxlen=0))

    def attempt(index):
        with tf.control_dependencies(tf.nest.flatten(split.example(index))):
            return tf.identity(index)

    def read_all():
        whole = tf.data.Dataset.range(len(split)).map(attempt, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
        left.extend(np.setdiff1d(np.arange(len(split)), [*whole.as_numpy_iterator()]))

    left = []
    problems = _problem(read_all)
    again = tf.function(attempt, input_signature=[tf.TensorSpec([], tf.int64)])
    return problems + [text for index in left for text in _problem(functools.partial(again, index))]


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
