"""The protocols that ship, for images, pixels and sets of labels; `Protocol.hold_out` makes any of them open-set."""

from cplus1_keras.data.names import CROWD, OUTLINE, UNLABELLED, lists
from cplus1_keras.data.protocol import Protocol


def digits():
    """The digits that ship with scikit-learn: known 0-5, negative 6 and 7, unknown 8 and 9 (ours).

    >>> digits().unknown
    ('8', '9')
    """
    return Protocol(tuple("012345"), ("6", "7"), ("8", "9"), name="digits")


def fashion_mnist():
    """Fashion-MNIST by the same indices as `digits` (ours)."""
    names = lists()["names"]["fashion_mnist"]
    return Protocol(names[:6], names[6:8], names[8:], name="fashion_mnist")


def toy():
    """Handwriting: known are the digits, negative 11 letters up to n, unknown p to z; g, i, l and o look like digits.

    >>> "".join(toy().negative), "".join(toy().unknown)
    ('abcdefhjkmn', 'pqrstuvwxyz')

    Reference: TwoDigitsOneNumber/openset-imagenet-comparison, OSCToyDataGeneration.py; letters after Dhamija et al.,
    Reducing Network Agnostophobia, NeurIPS 2018.
    """
    return Protocol(tuple("0123456789"), **lists()["toy"], others="ignored", name="toy")


def mnist(split=0, negatives=0):
    """The field's five splits of MNIST: 6 known, 4 unknown digits; arguments and reference as for `cifar10`.

    >>> mnist(0).class_names
    ('2', '4', '5', '9', '8', '3')
    """
    return _one_set("mnist", split, tuple("0123456789"), negatives)


def cifar10(split=0, negatives=0):
    """The field's five splits of CIFAR-10: 6 known, 4 unknown classes.

    Args:
        split: 0 to 4.
        negatives: So many of the 4 other classes, the first in class order, are negative instead (ours).

    >>> cifar10(0).unknown
    ('bird', 'cat', 'dog', 'ship')

    Reference: Neal et al., Open Set Learning with Counterfactual Images, ECCV 2018; the lists are split.py of Chen et
    al., Adversarial Reciprocal Points Learning, TPAMI 2021 (iCGY96/ARPL), and osr_splits.py of Vaze et al., ICLR 2022.
    """
    return _one_set("cifar10", split, lists()["names"]["cifar10"], negatives)


def closed(data_set):
    """All classes of a data set known, none to refuse: "mnist", "cifar10" or "cifar100".

    >>> closed("cifar100").num_classes
    100
    """
    names = tuple("0123456789") if data_set == "mnist" else lists()["names"].get(data_set)
    if names is None or data_set not in ("mnist", "cifar10", "cifar100"):
        raise ValueError(f"`data_set` must be 'mnist', 'cifar10' or 'cifar100'. Received: {data_set!r}")
    return Protocol(names, name=f"{data_set}_closed")


def cifar_plus(unknowns, split=0, negatives=False):
    """CIFAR+10 and CIFAR+50: 4 known classes of CIFAR-10, 10 or 50 unknown classes of CIFAR-100; lists as of `cifar10`.

    The field trains on CIFAR-10 and tests on `combine(tfds("cifar10", "test"), tfds("cifar100", "test"))`.

    Args:
        unknowns: 10 or 50.
        split: 0 to 4.
        negatives: With `unknowns=10`, the 40 classes that CIFAR+50 has in addition are negative (ours).

    >>> cifar_plus(10).class_names, cifar_plus(10).unknown[:3]
    (('deer', 'horse', 'truck', 'automobile'), ('dolphin', 'couch', 'aquarium_fish'))
    """
    if unknowns not in (10, 50) or (negatives and unknowns != 10):
        raise ValueError(
            "`cifar_plus` has 10 or 50 unknown classes, and negatives with 10 only. "
            f"Received: unknowns={unknowns!r}, negatives={negatives!r}"
        )
    ten, hundred = lists()["names"]["cifar10"], lists()["names"]["cifar100"]
    known = [ten[index] for index in _pick("cifar_plus", split)]
    unknown, wider = ([hundred[k] for k in lists()[f"cifar_plus_{number}"][split]] for number in (unknowns, 50))
    negative = [item for item in wider if item not in unknown] if negatives else ()
    name = f"cifar_plus{unknowns}_split{split}" + "_negatives" * bool(negatives)
    return Protocol(known, negative, unknown, others="ignored", name=name)


def imagenet(number):
    """The open-set protocols of ImageNet by WordNet id: P1 (easy), P2 (hard) and P3 (in between).

    Their known/negative/unknown classes are 116/67/166, 30/31/55 and 151/97/164.

    >>> imagenet(2).num_classes, imagenet(2).class_names[0]
    (30, 'n02087394')

    Reference: Palechor, Bhoumik, Günther, Large-Scale Open-Set Classification Protocols for ImageNet, WACV 2023; the
    lists follow from its protocol.py (AIML-IfI/openset-imagenet) over the WordNet edges in MadryLab/BREEDS-Benchmarks.
    """
    if isinstance(number, bool) or number not in (1, 2, 3):
        raise ValueError(f"ImageNet has the protocols 1, 2 and 3. Received: {number!r}")
    return Protocol(**lists()["imagenet"][f"P{number}"], others="ignored", name=f"imagenet_p{number}")


def imagenet_names():
    """Dict of WordNet id -> English name for the classes of P1, P2 and P3."""
    return dict(lists()["imagenet_names"])


def voc(masks=True):
    """PASCAL VOC (Everingham et al., IJCV 2015): 20 classes; of masks, value 0 is background, outlines (255) ignored.

    >>> voc().negative, voc(masks=False).negative
    (('background',), ())
    """
    return _objects("voc", OUTLINE) if masks else Protocol(lists()["names"]["voc"], name="voc")


def context():
    """PASCAL Context (Mottaghi et al., CVPR 2014): the 59 most frequent classes, in mmsegmentation's order; the rest
    (value 0) is background."""
    return _objects("context", UNLABELLED)


def lip():
    """Look into Person (Gong et al., CVPR 2017): 19 parts and garments, left and right ones apart; 0 is background."""
    return _objects("lip", UNLABELLED)


def camvid():
    """CamVid (Brostow et al., PRL 2009) by SegNet: 11 classes of street scenes, unlabelled (11) ignored, no background.

    >>> camvid().num_classes, camvid().ignored
    (11, ('unlabelled',))
    """
    return Protocol(lists()["names"]["camvid"], ignored=[UNLABELLED], name="camvid")


def camvid_open(unknown_in_training="ignored"):
    """CamVid with classes held out (ours): fences and bicyclists unknown, trees negative, 8 classes known.

    A tree is a real class with many pixels (10 %) that is no object of traffic: a background as in VOC. Fences and
    bicyclists are objects of traffic like the known ones, yet rare (1.5 % together): little of training is lost.

    >>> camvid_open().class_names
    ('sky', 'building', 'pole', 'road', 'pavement', 'sign', 'car', 'pedestrian')
    """
    known = [name for name in lists()["names"]["camvid"] if name not in ("tree", "fence", "bicyclist")]
    return Protocol(known, ["tree"], ["fence", "bicyclist"], [UNLABELLED], unknown_in_training, name="camvid_open")


def coco(masks=True):
    """COCO's 80 classes (Lin et al., ECCV 2014); of masks, not sets or boxes, the rest is background, crowds ignored.

    >>> coco().num_classes, coco().class_names[0], coco(masks=False).negative
    (80, 'person', ())
    """
    return _objects("coco", CROWD) if masks else Protocol(lists()["names"]["coco"], name="coco")


def coco_mini(unknown_in_training="ignored", masks=True):
    """COCO in 4 merged classes (ours): person, vehicle, animal, tableware; furniture unknown, all else negative.

    Merged by COCO's supercategories, for a set of a few hundred images has too little of most of the 80. `masks`, to be
    left out for sets and boxes, adds crowds, which are ignored; `unknown_in_training` is the `Protocol`'s.

    >>> coco_mini().class_names, coco_mini().unknown[0]
    (('person', 'vehicle', 'animal', 'tableware'), 'chair')
    """
    known = dict(lists()["coco_mini"])
    unknown = known.pop("furniture")
    ignored = [CROWD] if masks else ()
    return Protocol(known, (), unknown, ignored, unknown_in_training, others="negative", name="coco_mini")


def bccd(hold_out=(), unknown_in_training="ignored"):
    """Blood cells: RBC, WBC and Platelets known, save the names in `hold_out`, which are unknown (ours).

    >>> bccd(hold_out=["Platelets"]).class_names
    ('RBC', 'WBC')
    """
    if isinstance(hold_out, str):
        raise ValueError(f"`hold_out` is a sequence of names. Received: {hold_out!r}; did you mean ({hold_out!r},)?")
    return Protocol(lists()["names"]["bccd"], name="bccd").hold_out(*hold_out, unknown_in_training=unknown_in_training)


def cityscapes():
    """Cityscapes (Cordts et al., CVPR 2016) by label id: the benchmark's 19 classes, all else ignored."""
    return Protocol(lists()["cityscapes_known"], others="ignored", name="cityscapes")


def oxford_iiit_pet():
    """Oxford-IIIT Pet (Parkhi et al., CVPR 2012) by trimap: the pet, background, its outline ignored."""
    return Protocol(["pet"], ["background"], ignored=[OUTLINE], name="oxford_iiit_pet")


def _objects(data_set, ignored):
    return Protocol(lists()["names"][data_set], ["background"], ignored=[ignored], name=data_set)


def _pick(what, split):
    choices = lists()[what]
    if isinstance(split, bool) or split not in range(len(choices)):
        raise ValueError(f"`split` of {what} must be one of 0 to {len(choices) - 1}. Received: split={split!r}")
    return choices[split]


def _one_set(data_set, split, names, negatives):
    known = _pick(data_set, split)
    rest = [item for index, item in enumerate(names) if index not in known]
    if isinstance(negatives, bool) or negatives not in range(len(rest)):
        raise ValueError(f"`negatives` of {data_set} is a number, 0 to {len(rest) - 1}. Received: {negatives!r}")
    name = f"{data_set}_split{split}" + (f"_negatives{negatives}" if negatives else "")
    return Protocol([names[index] for index in known], rest[:negatives], rest[negatives:], name=name)
