"""Detectors of two stages: regions that are likely objects, and what each of them is."""

import keras
from keras import initializers, layers

from cplus1_keras.labels import check_count
from cplus1_keras.layers.alignment import RoIAlign
from cplus1_keras.layers.anchors import Anchors, Proposals
from cplus1_keras.layers.hooks import no_half
from cplus1_keras.layers.regions import RoIHeads
from cplus1_keras.models.classifiers import check_makers
from cplus1_keras.models.open_set import OpenSetModel
from cplus1_keras.models.pyramids import backbone_levels, pyramid

STDS = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))
IOUS = (0.5, 0.6, 0.7)
"""Of the stages of a cascade: what box deltas are divided by, and the IoU of an object's regions."""


def rcnn(
    num_classes,
    backbone,
    head,
    levels=(2, 3, 4, 5, 6),
    channels=256,
    width=1024,
    stages=1,
    agnostic=None,
    scale=8,
    proposals=1000,
    per_level=(2000, 1000),
    samples=512,
    share=0.25,
    masks=False,
    name="rcnn",
):
    """Faster, Mask or Cascade R-CNN with a feature pyramid: a region proposal network, and heads on its regions.

    A 3x3 convolution with ReLU, shared by all levels, tells of three anchors at each cell whether they are objects and
    how they move; the most likely ones without overlaps are regions, see `layers.Anchors`, `layers.Proposals`. From
    each `layers.RoIAlign` cuts 7 x 7 cells, of which two fully connected layers make features, the head classes and a
    third layer a box. The head classifies regions as any classifier of the package: background as one more class,
    margins, centres. In a cascade three such box heads follow one another.

    Trainable parameters on `dilated_resnet(50, 32)` with 80 classes, a background and a bias, 41,753,056; mmdetection's
    `faster_rcnn_r50_fpn` has as many, of which it freezes 225,344, torchvision's 41,755,286 with 90 classes, without
    53,120 of batch normalisation, with boxes of the background. With three stages 69,394,766 as in mmdetection. Masks
    are 2,643,280 more for each stage: torchvision's 44,401,393, mmdetection's 77.1 M of the cascade.

    Args:
        num_classes: C, the number of known classes.
        backbone: Function of no argument that gives a backbone for `pyramid`.
        head: Function from C to a head, or to any function from features (N, R, K) to named outputs, such as a head
            followed by centres: `functools.partial(heads.CosineHead, scale=30.0, background=True)`.
        levels: As `pyramid`; regions are cut from those that the backbone has, proposals come from all.
        channels: Of every map.
        width: Features, and units of the layer before them.
        stages: 1, or 2 or 3 of a cascade, at IoUs of 0.5, 0.6 and 0.7.
        agnostic: Whether all classes share a box; None: in a cascade, which needs it.
        scale: Strides to the side of an anchor.
        proposals, per_level: `keep` and `per_level` of `layers.Proposals`.
        samples, share: Regions of an image that train, and the largest share of objects.
        masks: False for none; True for a mask of 28 x 28 cells for each class, "agnostic" for one that all share: four
            3x3 convolutions on 14 x 14 cells, an upsampling one and one of 1x1.
        name: The model's name.

    Returns:
        `OpenSetModel`, not compiled: images (N, H, W, channels) of any size, 0..255 -> what the head gives for each of
        R regions, `features` and `logits` among it, and `roi_boxes`, see `layers.RoIHeads`; `regions` (N, R, 4), by
        falling likelihood; for training `rpn_logits` (N, A, 1) and `rpn_box_deltas` of `anchors` (N, A, 4), and the
        pyramid's maps. It trains on `boxes` and `box_labels`, masks on `masks` and
        `mask_boxes` too. On the TensorFlow backend.

    Raises:
        TypeError: A model or a head where a function that makes one is wanted.
        ValueError: As `pyramid` and the layers; outputs that are no classifier's of C classes; another number of
            stages, or a cascade with boxes for each class.

    Reference: Ren et al., "Faster R-CNN", NIPS 2015; T.-Y. Lin et al., "Feature pyramid networks for object detection",
    CVPR 2017, section 4; Cai and Vasconcelos, "Cascade R-CNN", CVPR 2018.

    >>> backbone = lambda: backbones.dilated_resnet(18, 32, widths=(8, 8, 16, 16))
    >>> head = lambda c: heads.CosineHead(c, 16.0, background=True)
    >>> model = rcnn(3, backbone, head, channels=16, width=32, proposals=20)
    >>> outputs = model(np.zeros((1, 64, 96, 3), "float32"))
    >>> {name: tuple(outputs[name].shape[1:]) for name in ("logits", "roi_boxes", "regions")}
    {'logits': (20, 4), 'roi_boxes': (20, 3, 4), 'regions': (20, 4)}
    >>> rpn = losses.ObjectnessLoss() + losses.BoxDeltaLoss()
    >>> roi = losses.BackgroundCrossEntropyLoss(losses.C2AM(0.5)) + losses.BoxDeltaLoss()
    >>> model.compile("sgd", rpn.of("rpn_") + roi.of("roi1_"))
    """
    check_makers(backbone, head)
    agnostic = stages > 1 if agnostic is None else agnostic
    if check_count(stages, "stages") > len(IOUS) or (stages > 1 and not agnostic):
        raise ValueError(
            f"A cascade has up to {len(IOUS)} stages, with boxes that all classes share. Received: stages={stages}, "
            f"agnostic={agnostic}"
        )
    net, strides = backbone(), [2**level for level in levels]
    images, maps = net.input, pyramid(net, levels, channels, "every_second")
    own = [x for x, level in zip(maps, levels, strict=True) if level in backbone_levels(net)]
    anchors = Anchors(strides, scale, name="anchors")
    boxes, (logits, deltas) = anchors(maps), _rpn(maps, channels, len(anchors.ratios))
    regions = Proposals(proposals, per_level, name="proposals")([images, boxes, logits, deltas, *maps])
    made = [
        box_head(7 * 7 * channels, width, num_classes, head, agnostic, f"roi{stage}") for stage in range(1, stages + 1)
    ]
    align = RoIAlign(7, strides[: len(own)], name="align")
    inside = {}
    if masks:
        number = 1 if masks == "agnostic" else num_classes
        inside["mask_heads"] = [mask_head(channels, number, f"mask{stage}") for stage in range(1, stages + 1)]
        inside["mask_align"] = RoIAlign(14, strides[: len(own)], name="mask_align")
    found = RoIHeads(made, align, IOUS[:stages], STDS[:stages], samples, share, **inside, name="regions")
    outputs = {
        **found([images, regions, *own]),
        "regions": regions,
        "anchors": boxes,
        "rpn_logits": logits,
        "rpn_box_deltas": deltas,
        **{f"map{level}": x for level, x in zip(levels, own, strict=False)},
    }
    return OpenSetModel(images, outputs, name=name)


def box_head(size, width, num_classes, head, agnostic, name):
    """A model from cells (N, R, size) of regions to what a head gives for them, and `box_deltas` (N, R, 4 or 4 C)."""
    cells = keras.Input((None, size), name="cells")
    x = layers.Dense(width, "relu", name="hidden")(cells)
    x = layers.Dense(width, "relu", name="features")(x)
    outputs = head(num_classes)(x)
    logits = getattr(outputs.get("logits"), "shape", ()) if isinstance(outputs, dict) else ()
    if len(logits) != 3 or logits[-1] not in (num_classes, num_classes + 1):
        raise ValueError(
            f"A head for {num_classes} classes of regions gives a dict with `logits` (N, R, {num_classes}), or one "
            f"more with the background last. Received: {outputs}"
        )
    small = initializers.RandomNormal(stddev=0.001)
    deltas = layers.Dense(4 if agnostic else 4 * num_classes, kernel_initializer=small, dtype=no_half(None), name="box")
    return keras.Model(cells, {**outputs, "box_deltas": deltas(x)}, name=name)


def mask_head(channels, number, name):
    """A model from cells (n, 14, 14, channels) of regions to logits (n, 28, 28, number)."""
    x = cells = keras.Input((14, 14, channels), name="cells")
    he = {"activation": "relu", "kernel_initializer": "he_normal"}
    for step in range(1, 5):
        x = layers.Conv2D(channels, 3, padding="same", **he, name=f"conv{step}")(x)
    x = layers.Conv2DTranspose(channels, 2, 2, **he, name="enlarge")(x)
    return keras.Model(cells, layers.Conv2D(number, 1, name="logits")(x), name=name)


def _rpn(maps, channels, ratios):
    """Logits (N, A, 1) and deltas (N, A, 4) of the anchors of maps."""
    options = {"kernel_initializer": initializers.RandomNormal(stddev=0.01)}
    conv = layers.Conv2D(channels, 3, padding="same", activation="relu", **options, name="rpn_conv")
    seen, found = [conv(x) for x in maps], []
    for name, number in (("logits", 1), ("box_deltas", 4)):
        conv = layers.Conv2D(ratios * number, 1, **options, name=f"rpn_{name}_conv")
        rows = [layers.Reshape((-1, number), dtype=no_half(None))(conv(x)) for x in seen]
        join = layers.Concatenate(axis=1, dtype=no_half(None), name=f"rpn_{name}")
        found.append(join(rows) if len(rows) > 1 else rows[0])
    return found
