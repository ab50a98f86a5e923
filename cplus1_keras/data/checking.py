"""Checks of data before days are spent on them: that all can be read, and that no image is in two splits."""

import collections
import concurrent.futures
import functools
import hashlib
import re

import numpy as np
import tensorflow as tf


def check(splits, sample=None):
    """Read examples of all splits in parallel and say what is wrong with them.

    Args:
        splits: `Splits`, or an iterable of `Split`.
        sample: How many examples of each split to read, evenly spread; None reads all.

    Returns:
        List of texts, one for each problem; of files that can be read from the beginning only, the first of a split.

    >>> from cplus1_keras import data
    >>> check(data.split(data.protocols.digits(), data.sources.digits()), sample=10)
    []
    """
    problems = []
    for split in filter(len, splits):
        if sample is not None:
            split = split.subset(np.unique(np.linspace(0, len(split) - 1, sample).astype(int)))
        if not split.source.random_access:
            problems += _problem(lambda split=split: collections.deque(split.dataset(), maxlen=0))
            continue
        read = tf.function(split.example, input_signature=[tf.TensorSpec([], tf.int64)])
        problems += _problem(read.get_concrete_function)
        attempts = [functools.partial(read, index) for index in tf.range(len(split), dtype=tf.int64)]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            problems += [text for found in pool.map(_problem, attempts) for text in found]
    return problems


def find_copies(splits):
    """Images that are in more than one split, whatever their files are called: equal pixels, by a hash.

    Reads all images. A copy in another size or with another compression is not found. Returns tuples of texts
    "split: image", one tuple for each image that several splits have.

    >>> from cplus1_keras import data
    >>> find_copies(data.split(data.protocols.digits(), data.sources.digits()))
    []
    """
    places = collections.defaultdict(list)
    for split in splits:
        images = split.source.examples().map(lambda example: example["image"])
        for index, image in enumerate(images.as_numpy_iterator()):
            key = hashlib.blake2b(str(image.shape).encode() + image.tobytes(), digest_size=16).digest()
            places[key].append((split.name, split.describe(index)))
    found = [own for own in places.values() if len({name for name, _ in own}) > 1]
    return [tuple(f"{name}: {place}" for name, place in own) for own in found]


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
