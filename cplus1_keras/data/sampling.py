"""Which images of a pool training draws, by the classes that they show: all alike, or those of rare classes more often.

Each is a function of the seed and a draw's number alone.
"""

import numpy as np
import tensorflow as tf

from cplus1_keras.labels import is_known, is_present

SAMPLING = ("repeat_factor", "class_aware")
"""Names of what an experiment's `sampling` can be."""

_PADDING = 498247692  # what tf.random.experimental.index_shuffle puts before a seed; it takes one seed at a time
_GOLDEN = (5**0.5 - 1) / 2  # steps of it fill the unit interval evenly


def shown_classes(split):
    """Each known class that each image of a split shows, once: indices of images and of classes, two (n,) arrays.

    >>> from cplus1_keras import data
    >>> shown_classes(data.split(data.protocols.digits(), data.sources.digits()).test.subset([0, 4]))[1]
    array([1])
    """
    if split.source.kind == "mask":
        labels = (np.unique(example["labels"]) for example in split.dataset().as_numpy_iterator())
        rows = [np.stack([np.full(len(own), n), own], axis=1) for n, own in enumerate(labels)]
        images, classes = np.concatenate([np.zeros((0, 2), int), *rows]).T
    elif split.source.kind == "classes":
        return np.nonzero(is_present(split.multi_hot))
    elif split.source.kind == "boxes":
        pairs = np.stack([split.source.boxes.images, split.box_labels], axis=1)
        images, classes = np.unique(pairs, axis=0).T
    else:
        images, classes = np.arange(len(split)), split.labels
    return images[is_known(classes)], classes[is_known(classes)].astype("int64")


def image_counts(split):
    """In how many images of a split each known class shows, (C,) int64; LVIS's groups go by this of its training split.

    >>> from cplus1_keras import data
    >>> image_counts(data.split(data.protocols.digits(), data.sources.digits()).train)[:3]
    array([89, 91, 88])
    """
    return np.bincount(shown_classes(split)[1], minlength=split.protocol.num_classes)


def repeat_factors(split, threshold=1e-3):
    """How often repeat-factor sampling takes each image in a pass, on average, (N,) float64 >= 1.

        r = max over the classes c that it shows of max(1, sqrt(t / f_c)),   f_c: share of the images with class c

    Args:
        split: A `Split`; masks are read once for it.
        threshold: t in [0, 1]; classes that more images show are not repeated.

    Reference: Gupta et al., "LVIS", CVPR 2019, appendix B.1; C2AM (2022), section 4.2, t = 1e-3.

    >>> from cplus1_keras import data
    >>> splits = data.split(data.protocols.digits(), data.sources.digits())
    >>> repeat_factors(splits.train).max(), round(repeat_factors(splits.train, 0.5).max(), 3)
    (np.float64(1.0), np.float64(2.021))
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"`repeat_threshold` is a share of images in [0, 1]. Received: repeat_threshold={threshold}")
    images, classes = shown_classes(split)
    factors = np.ones(len(split))
    shares = np.bincount(classes) / max(len(split), 1)
    np.maximum.at(factors, images, np.sqrt(threshold / shares[classes]))
    return factors


def make_pool(split, indices, sampling=None, threshold=1e-3):
    """What draws of some images of a split, ascending `indices`, by a name of `SAMPLING` or None.

    >>> from cplus1_keras import data
    >>> splits = data.split(data.protocols.digits(), data.sources.digits())
    >>> make_pool(splits.train, np.arange(10), "repeat_factor", threshold=1.0).per_pass
    21
    """
    if sampling is None:
        return Pool(indices)
    if sampling == "repeat_factor":
        return RepeatedPool(indices, repeat_factors(split, threshold)[indices])
    if sampling == "class_aware":
        return ClassPool(indices, *shown_classes(split))
    raise ValueError(f"`sampling` is None or one of {', '.join(SAMPLING)}. Received: sampling={sampling!r}")


class Pool:
    """Draws each of some images once in a pass.

    Args:
        indices: Their positions in the split, ascending.

    >>> sorted(Pool(np.array([2, 5, 7])).draw(tf.range(3, 6, dtype=tf.int64), seed=0).numpy().tolist())
    [2, 5, 7]
    """

    def __init__(self, indices):
        self.indices = np.asarray(indices)
        self.per_pass = len(self.indices)

    def draw(self, ranks, seed):
        """Positions (n,) of the draws with these numbers (n,), an int64 tensor."""
        place = _shuffled(ranks % self.per_pass, self.per_pass, seed, ranks // self.per_pass)
        return tf.gather(tf.constant(self.indices, tf.int64), place)

    def times(self, number, seed):
        """How often pass `number`, an int64 tensor, takes each of the images, or None for once."""
        return None


class RepeatedPool(Pool):
    """Draws each of some images as often in a pass as its factor says: the whole number below or above it.

    A pass is a comb with a distance of 1, laid over the factors side by side, then shuffled; where it starts is random
    by the seed, and moves from pass to pass. So each image has its factor on average, and every pass the same length,
    that of all factors, rounded up: factors grow by as little.

    Args:
        indices: As for `Pool`.
        factors: (n,) >= 1.

    >>> pool = RepeatedPool(np.array([2, 5]), [1.0, 2.5])
    >>> sorted(pool.draw(tf.range(4, dtype=tf.int64), seed=0).numpy().tolist())
    [2, 5, 5, 5]
    """

    def __init__(self, indices, factors):
        super().__init__(indices)
        ends = np.cumsum(factors)
        self.per_pass = int(np.ceil(ends[-1])) if len(ends) else 0
        self.ends = ends * (self.per_pass / ends[-1]) if len(ends) else ends
        self.ends[-1:] = self.per_pass

    def draw(self, ranks, seed):
        passes = ranks // self.per_pass
        place = _shuffled(ranks % self.per_pass, self.per_pass, seed, passes)
        return tf.gather(tf.constant(self.indices, tf.int64), self._image_at(place, seed, passes))

    def times(self, number, seed):
        places = tf.range(self.per_pass, dtype=tf.int64)
        taken = self._image_at(places, seed, tf.fill(tf.shape(places), number))
        return tf.math.bincount(tf.cast(taken, tf.int32), minlength=len(self.indices), dtype=tf.int64)

    def _image_at(self, places, seed, passes):
        first = np.random.default_rng(seed).random()
        start = tf.math.floormod(first + tf.cast(passes, tf.float64) * _GOLDEN, 1)
        at = tf.cast(places, tf.float64) + start
        return tf.searchsorted(tf.constant(self.ends, tf.float64), at, side="right", out_type=tf.int64)


class ClassPool(Pool):
    """Draws each class as often as any other, and of a class each image that shows it as often as any other.

    Images without a known class make one more class. A pass has as many draws as there are images.

    Args:
        indices: As for `Pool`.
        images, classes: What images of the split show, as `shown_classes` says.

    Reference: Shen et al., "Relay backpropagation", ECCV 2016, section 3.3.

    >>> pool = ClassPool(np.arange(4), np.array([0, 1, 2]), np.array([0, 0, 0]))
    >>> pool.draw(tf.range(8, dtype=tf.int64), seed=0).numpy().tolist().count(3)
    4
    """

    def __init__(self, indices, images, classes):
        super().__init__(indices)
        own = np.isin(images, self.indices)
        images, classes = images[own], classes[own]
        lists = [images[classes == c] for c in np.unique(classes)]
        others = np.setdiff1d(self.indices, images)
        self.lists = [*lists, others] if others.size else lists

    def draw(self, ranks, seed):
        number, counts = len(self.lists), np.array([len(own) for own in self.lists])
        rounds = ranks // number  # each class has one draw of a round, so this is the number of its own draw
        chosen = _shuffled(ranks % number, number, seed, rounds)
        count = tf.gather(tf.constant(counts, tf.int64), chosen)
        keys = _PADDING + 1 + tf.cast(chosen, tf.int32)
        place = _shuffled(rounds % count, count, seed, rounds // count, keys)
        start = tf.gather(tf.constant(np.cumsum(counts) - counts, tf.int64), chosen)
        return tf.gather(tf.constant(np.concatenate(self.lists), tf.int64), start + place)

    def times(self, number, seed):
        raise ValueError(
            "Class-aware sampling needs images that can be read in any order: in memory (`memory` of `data.training`), "
            "or from a source with random access. Received files that are read from the beginning only."
        )


def _shuffled(ranks, count, seed, passes, key=_PADDING):
    """Where the permutation of so many that a pass has takes each rank; all are (n,) tensors or numbers."""
    passes = tf.cast(passes, tf.int32)
    same = [tf.broadcast_to(value, tf.shape(passes)) for value in (key, seed)]
    last = tf.broadcast_to(tf.cast(count, tf.int64) - 1, tf.shape(ranks))
    keys = tf.stack([*same, passes], axis=1)
    # With the usual 4 rounds passes over 50,000 images are alike (correlation 0.7), and neighbours of a million.
    return tf.raw_ops.RandomIndexShuffle(index=ranks, seed=keys, max_index=last, rounds=8)
