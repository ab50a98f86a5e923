"""The protocols that ship. Each function takes the classes to hold out, so that any of them becomes open-set."""

import dataclasses
import functools
import json
import pathlib

from cplus1_keras.data.segmentation.protocol import SegmentationProtocol


@functools.cache
def _lists():
    return json.loads(pathlib.Path(__file__).with_name("classes.json").read_text(encoding="utf-8"))


def _numbered(names, first):
    return {name: value for value, name in enumerate(names, first)}


def voc():
    """PASCAL VOC: 20 classes, value 0 background, the outline of objects (255) ignored.

    >>> voc().num_classes, voc().evaluation_labels()[255]
    (20, -100)

    Reference: Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2015
    """
    return SegmentationProtocol(_numbered(_lists()["voc"], 1), background=(0,), ignored=(255,), name="voc")


def context():
    """PASCAL Context: the 59 most frequent classes, everything else (value 0) background.

    >>> context().num_classes, context().class_names[0], context().class_names[-1]
    (59, 'aeroplane', 'wood')

    Reference: Mottaghi et al., The Role of Context for Object Detection and Semantic Segmentation, CVPR 2014; the
    order is that of mmsegmentation's PascalContextDataset
    """
    return SegmentationProtocol(_numbered(_lists()["context"], 1), background=(0,), ignored=(255,), name="context")


def lip():
    """Look into Person: 19 parts and garments, value 0 background; left and right limbs swap in a mirrored image.

    >>> lip().mirror()[13:]
    (14, 13, 16, 15, 18, 17)

    Reference: Gong et al., Look into Person, CVPR 2017
    """
    pairs = [(f"left {part}", f"right {part}") for part in ("arm", "leg", "shoe")]
    return SegmentationProtocol(
        _numbered(_lists()["lip"], 1), background=(0,), ignored=(255,), mirrored=pairs, name="lip"
    )


def camvid():
    """CamVid by SegNet: 11 classes of street scenes, value 11 (unlabelled) ignored. It has no background.

    >>> camvid().num_classes, camvid().training_labels()[11]
    (11, -100)

    Reference: Brostow et al., Semantic Object Classes in Video, PRL 2009; Badrinarayanan et al., SegNet, TPAMI 2017
    """
    return SegmentationProtocol(_numbered(_lists()["camvid"], 0), ignored=(11,), name="camvid")


def camvid_open(in_training="ignore"):
    """CamVid with classes held out (ours): fences and bicyclists unknown, trees background, 8 classes known.

    A tree is a real class with many pixels (10 %) that is no object of traffic: a background as in VOC, seen and
    not of interest. Fences and bicyclists are objects of traffic like the known ones, yet rare (1.5 % together), so
    little of training is lost. Unlabelled pixels stay ignored.

    Args:
        in_training: "ignore" or "background": what pixels of the unknown classes are in training.

    >>> camvid_open().class_names
    ('sky', 'building', 'pole', 'road', 'pavement', 'sign', 'car', 'pedestrian')
    """
    protocol = camvid().with_background("tree").with_unknown("fence", "bicyclist", in_training=in_training)
    return dataclasses.replace(protocol, name="camvid_open")


def coco():
    """COCO by our converter: 80 classes as 1 to 80 in the order of their ids, 0 background, crowds (255) ignored.

    >>> coco().num_classes, coco().class_names[0]
    (80, 'person')

    Reference: Lin et al., Microsoft COCO, ECCV 2014
    """
    return SegmentationProtocol(_numbered(_lists()["coco"], 1), background=(0,), ignored=(255,), name="coco")


def coco_mini(in_training="ignore"):
    """COCO cut to 4 merged classes (ours), all else background: person, vehicle, animal, tableware; furniture unknown.

    Merged by COCO's supercategories, for a set of a few hundred images has too little of most of the 80.

    Args:
        in_training: "ignore" or "background": what pixels of furniture are in training.

    >>> coco_mini().class_names, coco_mini().unknown
    (('person', 'vehicle', 'animal', 'tableware'), ('furniture',))
    """
    merged = {name: tuple(range(first, last + 1)) for name, (first, last) in _lists()["coco_mini"].items()}
    taken = {value for values in merged.values() for value in values}
    background = tuple(value for value in range(81) if value not in taken)
    return SegmentationProtocol(
        merged,
        background=background,
        ignored=(255,),
        unknown=("furniture",),
        unknown_in_training=in_training,
        name="coco_mini",
    )


def cityscapes():
    """Cityscapes by label id: the 19 classes of its benchmark; all other ids, and 255, ignored. No background.

    >>> cityscapes().num_classes, cityscapes().training_labels()[7]
    (19, 0)

    Reference: Cordts et al., The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016
    """
    classes = _lists()["cityscapes"]
    ignored = [value for value in (*range(34), 255) if value not in classes.values()]
    return SegmentationProtocol(classes, ignored=ignored, name="cityscapes")


def oxford_iiit_pet():
    """Oxford-IIIT Pet by trimap: 1 the pet, 2 background, its outline (3) ignored.

    >>> oxford_iiit_pet().class_names
    ('pet',)

    Reference: Parkhi et al., Cats and Dogs, CVPR 2012
    """
    return SegmentationProtocol({"pet": 1}, background=(2,), ignored=(3,), name="oxford_iiit_pet")
