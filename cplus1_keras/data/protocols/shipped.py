"""The protocols that ship: the digits, handwriting, Fashion-MNIST, the field's MNIST and CIFAR splits, ImageNet."""

import functools
import json
import pathlib

from cplus1_keras.data.protocols.protocol import Protocol


@functools.cache
def _lists():
    return json.loads(pathlib.Path(__file__).with_name("classes.json").read_text(encoding="utf-8"))


def _pick(what, lists, split):
    if isinstance(split, bool) or split not in range(len(lists)):
        raise ValueError(f"`split` of {what} must be one of 0 to {len(lists) - 1}. Received: split={split!r}")
    return lists[split]


def _one_set(name, class_names, known, negatives):
    rest = [item for index, item in enumerate(class_names) if index not in known]
    if isinstance(negatives, bool) or negatives not in range(len(rest)):
        raise ValueError(
            f"`negatives` is how many of the {len(rest)} other classes are negative, 0 to {len(rest) - 1}. "
            f"Received: negatives={negatives!r}"
        )
    known = tuple(class_names[index] for index in known)
    return Protocol(known, rest[:negatives], rest[negatives:], f"{name}_negatives{negatives}" if negatives else name)


def digits():
    """Protocol of the digits that ship with scikit-learn: known 0-5, negative 6 and 7, unknown 8 and 9 (ours).

    >>> digits().unknown
    ('8', '9')
    """
    return Protocol(["0", "1", "2", "3", "4", "5"], ("6", "7"), ("8", "9"), "digits")


def fashion_mnist():
    """Protocol on Fashion-MNIST by the same indices as `digits`: known 0-5, negative 6, 7, unknown 8, 9 (ours).

    >>> fashion_mnist().negative
    ('Shirt', 'Sneaker')
    """
    return _one_set("fashion_mnist", _lists()["class_names"]["fashion_mnist"], range(6), 2)


def toy():
    """Protocol of handwriting: known are the digits 0-9, negative 11 letters up to n, unknown the letters p to z.

    The letters g, i, l and o are left out for they look like digits.

    >>> "".join(toy().negative), "".join(toy().unknown)
    ('abcdefhjkmn', 'pqrstuvwxyz')

    Reference: TwoDigitsOneNumber/openset-imagenet-comparison, OSCToyDataGeneration.py; with letters as negatives and
    unknowns after Dhamija et al., Reducing Network Agnostophobia, NeurIPS 2018
    """
    return Protocol(tuple("0123456789"), _lists()["toy"]["negative"], _lists()["toy"]["unknown"], "toy")


def mnist(split=0, negatives=0):
    """The field's five splits of MNIST: 6 known, 4 unknown digits.

    Args:
        split: 0 to 4.
        negatives: so many of the 4 other classes, the first in class order, are negative instead (ours; the field
            has none).

    >>> mnist(0).known
    ('2', '4', '5', '9', '8', '3')

    Reference: as `cifar10`
    """
    return _one_set(f"mnist_split{split}", tuple("0123456789"), _pick("mnist", _lists()["mnist"], split), negatives)


def cifar10(split=0, negatives=0):
    """The field's five splits of CIFAR-10: 6 known, 4 unknown classes.

    Args:
        split: 0 to 4.
        negatives: so many of the 4 other classes, the first in class order, are negative instead (ours; the field
            has none).

    Raises:
        ValueError: no such split or no such number of negatives.

    Example:

    >>> cifar10(0).unknown
    ('bird', 'cat', 'dog', 'ship')

    Reference: introduced by Neal et al., Open Set Learning with Counterfactual Images, ECCV 2018; these lists are
    split.py of Chen et al., Adversarial Reciprocal Points Learning, TPAMI 2021 (iCGY96/ARPL), equal to osr_splits.py
    of Vaze et al., ICLR 2022 (sgvaze/osr_closed_set_all_you_need)
    """
    names = _lists()["class_names"]["cifar10"]
    return _one_set(f"cifar10_split{split}", names, _pick("cifar10", _lists()["cifar10"], split), negatives)


def cifar_plus(unknowns, split=0, negatives=False):
    """CIFAR+10 and CIFAR+50: 4 known classes of CIFAR-10, 10 or 50 unknown classes of CIFAR-100.

    Read with `combine(tfds("cifar10", ...), tfds("cifar100", ...))`: the class names of the two sets are disjoint. The
    field tests on the two test sets alone: train on CIFAR-10, test on the combination.

    Args:
        unknowns: 10 or 50.
        split: 0 to 4.
        negatives: with `unknowns=10`, the 40 classes that CIFAR+50 has in addition are negative (ours; the field has
            none).

    Raises:
        ValueError: no such protocol.

    Example:

    >>> protocol = cifar_plus(10)
    >>> protocol.known, protocol.unknown[:3]
    (('deer', 'horse', 'truck', 'automobile'), ('dolphin', 'couch', 'aquarium_fish'))

    Reference: as `cifar10`
    """
    if unknowns not in (10, 50) or (negatives and unknowns != 10):
        raise ValueError(
            "`cifar_plus` has 10 or 50 unknown classes, and negatives with 10 only. "
            f"Received: unknowns={unknowns!r}, negatives={negatives!r}"
        )
    tables = _lists()
    names10, names100 = tables["class_names"]["cifar10"], tables["class_names"]["cifar100"]
    known = [names10[index] for index in _pick("cifar_plus", tables["cifar_plus"], split)]
    unknown = [names100[index] for index in tables[f"cifar_plus_{unknowns}"][split]]
    wider = [names100[index] for index in tables["cifar_plus_50"][split]]
    negative = [item for item in wider if item not in unknown] if negatives else ()
    return Protocol(known, negative, unknown, f"cifar_plus{unknowns}_split{split}" + "_negatives" * bool(negatives))


def imagenet(number):
    """The open-set protocols of ImageNet, P1 (easy), P2 (hard) and P3 (in between), by WordNet id.

    Args:
        number: 1, 2 or 3; 116/67/166, 30/31/55 and 151/97/164 known/negative/unknown classes.

    Raises:
        ValueError: no such protocol.

    Example:

    >>> protocol = imagenet(2)
    >>> len(protocol.known), len(protocol.negative), len(protocol.unknown), protocol.known[0]
    (30, 31, 55, 'n02087394')

    Reference: Palechor, Bhoumik, Günther, Large-Scale Open-Set Classification Protocols for ImageNet, WACV 2023. The
    lists follow from the rules of its protocol.py (AIML-IfI/openset-imagenet) over the WordNet edges in
    MadryLab/BREEDS-Benchmarks
    """
    tables = _lists()["imagenet"]
    if isinstance(number, bool) or number not in (1, 2, 3):
        raise ValueError(f"ImageNet has the protocols 1, 2 and 3. Received: {number!r}")
    return Protocol(**tables[f"P{number}"], name=f"imagenet_p{number}")


def imagenet_names():
    """Dict of WordNet id -> English name for the classes of P1, P2 and P3.

    >>> imagenet_names()["n02085620"]
    'Chihuahua'
    """
    return dict(_lists()["imagenet_names"])
