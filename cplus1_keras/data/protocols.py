"""The protocols that ship. Images: digits, handwriting, the field's MNIST and CIFAR splits, ImageNet. Pixels and sets
of labels: VOC, Context, LIP, CamVid, COCO, Cityscapes, Oxford-IIIT Pet; `Protocol.hold_out` makes any of them open-set.
"""

from cplus1_keras.data.names import CROWD, OUTLINE, UNLABELLED, lists
from cplus1_keras.data.protocol import Protocol


def digits():
    """The digits that ship with scikit-learn: known 0-5, negative 6 and 7, unknown 8 and 9 (ours).

    >>> digits().unknown
    ('8', '9')
    """
    return _thirds("digits", tuple("0123456789"))


def fashion_mnist():
    """Fashion-MNIST by the same indices as `digits`: known 0-5, negative 6, 7, unknown 8, 9 (ours).

    >>> fashion_mnist().negative
    ('Shirt', 'Sneaker')
    """
    return _thirds("fashion_mnist", lists()["names"]["fashion_mnist"])


def toy():
    """Handwriting: known are the digits 0-9, negative 11 letters up to n, unknown the letters p to z.

    The letters g, i, l and o are left out for they look like digits.

    >>> "".join(toy().negative), "".join(toy().unknown)
    ('abcdefhjkmn', 'pqrstuvwxyz')

    Reference: TwoDigitsOneNumber/openset-imagenet-comparison, OSCToyDataGeneration.py; with letters as negatives and
    unknowns after Dhamija et al., Reducing Network Agnostophobia, NeurIPS 2018.
    """
    return Protocol(tuple("0123456789"), **lists()["toy"], others="ignored", name="toy")


def mnist(split=0, negatives=0):
    """The field's five splits of MNIST: 6 known, 4 unknown digits.

    Arguments as `cifar10`.

    >>> mnist(0).class_names
    ('2', '4', '5', '9', '8', '3')
    """
    return _one_set("mnist", split, tuple("0123456789"), negatives)


def cifar10(split=0, negatives=0):
    """The field's five splits of CIFAR-10: 6 known, 4 unknown classes.

    Args:
        split: 0 to 4.
        negatives: So many of the 4 other classes, the first in class order, are negative instead (ours; the field has
            none).

    >>> cifar10(0).unknown
    ('bird', 'cat', 'dog', 'ship')

    Reference: Introduced by Neal et al., Open Set Learning with Counterfactual Images, ECCV 2018; these lists are
    split.py of Chen et al., Adversarial Reciprocal Points Learning, TPAMI 2021 (iCGY96/ARPL), equal to osr_splits.py
    of Vaze et al., ICLR 2022 (sgvaze/osr_closed_set_all_you_need).
    """
    return _one_set("cifar10", split, lists()["names"]["cifar10"], negatives)


def cifar_plus(unknowns, split=0, negatives=False):
    """CIFAR+10 and CIFAR+50: 4 known classes of CIFAR-10, 10 or 50 unknown classes of CIFAR-100.

    Read with `combine(tfds("cifar10", ...), tfds("cifar100", ...))`: the class names of the two sets are disjoint. The
    field tests on the two test sets alone: train on CIFAR-10, test on the combination.

    Args:
        unknowns: 10 or 50.
        split: 0 to 4.
        negatives: With `unknowns=10`, the 40 classes that CIFAR+50 has in addition are negative (ours; the field has
            none).

    >>> protocol = cifar_plus(10)
    >>> protocol.class_names, protocol.unknown[:3]
    (('deer', 'horse', 'truck', 'automobile'), ('dolphin', 'couch', 'aquarium_fish'))

    Reference: As `cifar10`.
    """
    if unknowns not in (10, 50) or (negatives and unknowns != 10):
        raise ValueError(
            "`cifar_plus` has 10 or 50 unknown classes, and negatives with 10 only. "
            f"Received: unknowns={unknowns!r}, negatives={negatives!r}"
        )
    ten, hundred = lists()["names"]["cifar10"], lists()["names"]["cifar100"]
    known = [ten[index] for index in _pick("cifar_plus", split)]
    unknown = [hundred[index] for index in lists()[f"cifar_plus_{unknowns}"][split]]
    wider = [hundred[index] for index in lists()["cifar_plus_50"][split]]
    negative = [item for item in wider if item not in unknown] if negatives else ()
    name = f"cifar_plus{unknowns}_split{split}" + "_negatives" * bool(negatives)
    return Protocol(known, negative, unknown, others="ignored", name=name)


def imagenet(number):
    """The open-set protocols of ImageNet, P1 (easy), P2 (hard) and P3 (in between), by WordNet id.

    Args:
        number: 1, 2 or 3; 116/67/166, 30/31/55 and 151/97/164 known/negative/unknown classes.

    >>> protocol = imagenet(2)
    >>> protocol.num_classes, len(protocol.negative), len(protocol.unknown), protocol.class_names[0]
    (30, 31, 55, 'n02087394')

    Reference: Palechor, Bhoumik, Günther, Large-Scale Open-Set Classification Protocols for ImageNet, WACV 2023. The
    lists follow from the rules of its protocol.py (AIML-IfI/openset-imagenet) over the WordNet edges in
    MadryLab/BREEDS-Benchmarks.
    """
    if isinstance(number, bool) or number not in (1, 2, 3):
        raise ValueError(f"ImageNet has the protocols 1, 2 and 3. Received: {number!r}")
    return Protocol(**lists()["imagenet"][f"P{number}"], others="ignored", name=f"imagenet_p{number}")


def imagenet_names():
    """Dict of WordNet id -> English name for the classes of P1, P2 and P3.

    >>> imagenet_names()["n02085620"]
    'Chihuahua'
    """
    return dict(lists()["imagenet_names"])


def voc():
    """PASCAL VOC: 20 classes, value 0 background, the outline of objects (255) ignored.

    >>> voc().num_classes, voc().ignored
    (20, ('outline',))

    Reference: Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2015.
    """
    return _objects("voc", OUTLINE)


def context():
    """PASCAL Context: the 59 most frequent classes, everything else (value 0) background.

    >>> context().num_classes, context().class_names[0], context().class_names[-1]
    (59, 'aeroplane', 'wood')

    Reference: Mottaghi et al., The Role of Context for Object Detection and Semantic Segmentation, CVPR 2014; the
    order is that of mmsegmentation's PascalContextDataset.
    """
    return _objects("context", UNLABELLED)


def lip():
    """Look into Person: 19 parts and garments, value 0 background; left and right limbs swap in a mirrored image.

    >>> lip().class_names[13:15]
    ('left arm', 'right arm')

    Reference: Gong et al., Look into Person, CVPR 2017.
    """
    return _objects("lip", UNLABELLED)


def camvid():
    """CamVid by SegNet: 11 classes of street scenes, value 11 (unlabelled) ignored. It has no background.

    >>> camvid().num_classes, camvid().ignored
    (11, ('unlabelled',))

    Reference: Brostow et al., Semantic Object Classes in Video, PRL 2009; Badrinarayanan et al., SegNet, TPAMI 2017.
    """
    return Protocol(lists()["names"]["camvid"], ignored=[UNLABELLED], name="camvid")


def camvid_open(unknown_in_training="ignored"):
    """CamVid with classes held out (ours): fences and bicyclists unknown, trees negative, 8 classes known.

    A tree is a real class with many pixels (10 %) that is no object of traffic: a background as in VOC, seen and
    not of interest. Fences and bicyclists are objects of traffic like the known ones, yet rare (1.5 % together), so
    little of training is lost. Unlabelled pixels stay ignored.

    >>> camvid_open().class_names
    ('sky', 'building', 'pole', 'road', 'pavement', 'sign', 'car', 'pedestrian')
    """
    known = [name for name in lists()["names"]["camvid"] if name not in ("tree", "fence", "bicyclist")]
    return Protocol(known, ["tree"], ["fence", "bicyclist"], [UNLABELLED], unknown_in_training, name="camvid_open")


def coco(masks=True):
    """COCO's 80 classes; of masks all else is background, and crowds are ignored.

    >>> coco().num_classes, coco().class_names[0], coco(masks=False).negative
    (80, 'person', ())

    Reference: Lin et al., Microsoft COCO, ECCV 2014.
    """
    return _objects("coco", CROWD) if masks else Protocol(lists()["names"]["coco"], name="coco")


def coco_mini(unknown_in_training="ignored", masks=True):
    """COCO in 4 merged classes (ours): person, vehicle, animal, tableware; furniture unknown, all else negative.

    Merged by COCO's supercategories, for a set of a few hundred images has too little of most of the 80.

    Args:
        unknown_in_training: "ignored" or "negative": what pixels of furniture are in training.
        masks: Whether the source has masks, with background and crowds, or sets of labels.

    >>> coco_mini().class_names, coco_mini().unknown[0]
    (('person', 'vehicle', 'animal', 'tableware'), 'chair')
    """
    known = dict(lists()["coco_mini"])
    unknown = known.pop("furniture")
    ignored = [CROWD] if masks else ()
    return Protocol(known, (), unknown, ignored, unknown_in_training, others="negative", name="coco_mini")


def cityscapes():
    """Cityscapes by label id: the 19 classes of its benchmark, all else ignored. No background.

    >>> cityscapes().num_classes, cityscapes().class_names[0]
    (19, 'road')

    Reference: Cordts et al., The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016.
    """
    return Protocol(lists()["cityscapes_known"], others="ignored", name="cityscapes")


def oxford_iiit_pet():
    """Oxford-IIIT Pet by trimap: the pet, background, its outline ignored.

    >>> oxford_iiit_pet().class_names
    ('pet',)

    Reference: Parkhi et al., Cats and Dogs, CVPR 2012.
    """
    return Protocol(["pet"], ["background"], ignored=[OUTLINE], name="oxford_iiit_pet")


def _objects(data_set, ignored):
    return Protocol(lists()["names"][data_set], ["background"], ignored=[ignored], name=data_set)


def _thirds(name, names):
    return Protocol(names[:6], names[6:8], names[8:], name=name)


def _pick(what, split):
    choices = lists()[what]
    if isinstance(split, bool) or split not in range(len(choices)):
        raise ValueError(f"`split` of {what} must be one of 0 to {len(choices) - 1}. Received: split={split!r}")
    return choices[split]


def _one_set(data_set, split, names, negatives):
    known = _pick(data_set, split)
    rest = [item for index, item in enumerate(names) if index not in known]
    if isinstance(negatives, bool) or negatives not in range(len(rest)):
        raise ValueError(
            f"`negatives` is how many of the {len(rest)} other classes are negative, 0 to {len(rest) - 1}. "
            f"Received: negatives={negatives!r}"
        )
    name = f"{data_set}_split{split}" + (f"_negatives{negatives}" if negatives else "")
    return Protocol([names[index] for index in known], rest[:negatives], rest[negatives:], name=name)
