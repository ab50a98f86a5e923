"""Detection: FCOS on small sets for a CPU, and Table 10 of the C+1 paper at its size.

`method` is a key of `METHODS`: a head and a loss of points, to which `point_loss` adds those of boxes.
"""

import dataclasses
import functools

import keras

from cplus1_keras import backbones, data, heads, losses, models, scores
from cplus1_keras.backbones.outputs import check_choice
from cplus1_keras.configs.families import CENTERS, background_head
from cplus1_keras.configs.needs import path_to
from cplus1_keras.configs.rows import RESNEXT
from cplus1_keras.experiment import Experiment
from cplus1_keras.optimizers import SGDWithL2
from cplus1_keras.tasks import Detection

PRIOR = 0.01
"""Probability of the knowns at first; most points are background."""

CANVAS = 1344
"""Side of the square that a training image of Table 10 is padded to, either way up: 1333 as a multiple of 32."""

SCALE = 16.0
"""Of the cosine classifiers."""

TERMS = {"sigmoid": (), "softmax": (), "compactness": ("compactness",), "cplus1": ("compactness", "background")}
MARGINS = {
    "cosface": losses.CosFace(0.2),
    "arcface": losses.ArcFace(0.2),
    "sphereface": losses.SphereFace(1.1),
    "c2am": losses.C2AM(0.5),
    "sm_softmax": losses.SMSoftmax(0.3),
}
METHODS = (*TERMS, "focal_softmax", "cosine", *MARGINS, "entropic")
"""The sigmoid focal loss; the C+1 softmax, with its terms; with focal weighting; a cosine classifier of C + 1 classes,
with margins; C classes, of whose softmax the background is to be sure of none (entropic open-set loss)."""


def point_head(num_classes, method="cplus1", centers="moving_average"):
    """The classifier of points of a method, and class centres where a term of its loss reads them."""
    if method == "entropic":
        return heads.LinearHead(num_classes, use_bias=True)
    if method == "sigmoid":
        return heads.LinearHead(num_classes, use_bias=True, prior=PRIOR)
    if method == "cosine" or method in MARGINS:
        return heads.CosineHead(num_classes, SCALE, background=True)
    return background_head(num_classes, centers if TERMS.get(method) else None, use_bias=True, prior=PRIOR)


def point_loss(method="cplus1", compactness=0.1, background=1e-4, margin=1.0, box=None):
    """The loss of a method for points, each term divided by the number of known ones, and those of boxes.

        L = L_separability + α L_compact + β L_background + L_box + L_centerness

    α is `compactness`, β `background`; L_box is `box`, GIoU where None.

    Reference: C+1 loss (2022), Eq 1; Tian et al. (2019), Eq 2.

    >>> [term.name for _, term in point_loss("sigmoid").terms()]
    ['sigmoid_focal', 'giou', 'centerness']
    """
    terms = {"compactness": (compactness, losses.CompactnessLoss())}
    terms["background"] = (background, losses.BackgroundMarginLoss(margin))
    others = {"sigmoid": losses.SigmoidFocalLoss(), "entropic": losses.EntropicOpenSetLoss()}
    focal = 2.0 if method == "focal_softmax" else 0.0
    loss = others.get(method) or losses.BackgroundCrossEntropyLoss(MARGINS.get(method), focal)
    for weight, term in (terms[name] for name in TERMS.get(method, ()) if terms[name][0]):
        loss = loss + weight * term
    return loss.per_known() + (box or losses.GIoULoss()) + losses.CenternessLoss()


def small_fcos(num_classes, method="cplus1", centers="moving_average"):
    """FCOS for a CPU: a thin ResNet-18, 64 channels, towers of two convolutions, strides 8 to 32."""
    return models.fcos(
        num_classes,
        functools.partial(backbones.dilated_resnet, 18, 32, widths=(32, 48, 64, 96)),
        functools.partial(point_head, method=method, centers=centers),
        levels=(3, 4, 5),
        channels=64,
        tower=2,
        groups=16,
    )


def bccd_splits(seed, root=None, hold_out="", unknown_in_training="ignored"):
    """BCCD's own lists: 205 images train, 87 calibrate, 72 test. The seed has no effect.

    The settings of `bccd` were chosen while looking at the 87. So they are no fresh images of the detector, and what
    the threshold promises is likely a little better than it would be on images that nobody has looked at.
    """
    folder = path_to("bccd", root)
    train, calibration, test = (data.sources.bccd(folder, part) for part in ("train", "val", "test"))
    protocol = data.protocols.bccd((hold_out,) if hold_out else (), unknown_in_training)
    return data.split(protocol, train, test, calibration=calibration, validation_fraction=0.0, seed=seed)


def bccd(
    method="cplus1",
    centers="moving_average",
    compactness=0.1,
    background=1e-4,
    margin=1.0,
    root: str | None = None,
    hold_out="",
    unknown_in_training="ignored",
    width=320,
):
    """Blood cells: red and white ones, platelets; 1,000 batches of 2 take about three minutes on two quiet CPU cores.

    Args:
        method: One of `METHODS`.
        centers: A key of `families.CENTERS`, for methods with terms that read centres.
        compactness, background, margin: As in `point_loss`.
        root: Folder, or zip file.
        hold_out: A class that is unknown, "RBC", "WBC" or "Platelets"; "" for none.
        unknown_in_training: "ignored" or "negative": what objects of the unknown class are in training.
        width: Pixels that images are scaled to, with 3/4 as height.

    >>> bccd(width=160).task.base
    (120, 160)
    """
    size = (round(0.75 * width), width)
    splits = functools.partial(bccd_splits, root=root, hold_out=hold_out, unknown_in_training=unknown_in_training)
    weights = {"compactness": compactness, "background": background, "margin": margin}
    # The stain's colours tell the cells apart, so they stay.
    change = data.augment.random_scale(0.9, 1.1, base=size), data.augment.random_crop(size), data.augment.random_flip()
    task = Detection(augment=data.augment.chain(*change, data.augment.pad(size)), base=size, false_allowed=2)
    note = (
        "The images that calibrate were looked at when the settings of this config were chosen, so the bound of the "
        "threshold is a demonstration. Calibrate your own runs on images that nobody has looked at."
    )
    training = {"learning_rate": 3e-3, "steps": 1000, "interval": 200, "batch_size": 2, "note": note}
    return _small("bccd", method, centers, weights, splits, task, **training)


def mini_splits(seed, root=None, unknown_in_training="ignored", kind="boxes"):
    """COCO mini: of 201 images a quarter calibrates and the others train, 66 test."""
    folder, protocol = path_to("coco_mini", root), data.protocols.coco_mini(unknown_in_training, masks=False)
    train, test = (data.sources.coco_mini(folder, part, kind=kind) for part in ("train", "val"))
    fractions = {"calibration_fraction": 0.25, "validation_fraction": 0.0}
    return data.split(protocol, train, test, **fractions, seed=seed)


def coco_mini_boxes(
    method="cplus1",
    centers="moving_average",
    compactness=0.1,
    background=1e-4,
    margin=1.0,
    root: str | None = None,
    unknown_in_training="ignored",
    width=320,
):
    """COCO in 4 merged classes, furniture unknown, all other objects background; arguments as `bccd`.

    150 images teach a net without pretrained weights next to nothing: it shows that a run goes through.

    >>> coco_mini_boxes("entropic").name
    'coco_mini_boxes_entropic'
    """
    splits = functools.partial(mini_splits, root=root, unknown_in_training=unknown_in_training)
    weights = {"compactness": compactness, "background": background, "margin": margin}
    task = Detection(augment=data.augment.detection(width), base=(width, width))
    training = {"learning_rate": 2e-3, "epochs": 20, "batch_size": 8}
    return _small("coco_mini_boxes", method, centers, weights, splits, task, **training)


def coco_splits(seed, root=None, calibration_fraction=0.01):
    """COCO 2017: 5,000 images test; of 118,287 others some calibrate."""
    folder = path_to("coco_boxes", root)
    train, test = (
        data.sources.coco_boxes(folder / f"annotations/instances_{part}2017.json", folder / f"{part}2017")
        for part in ("train", "val")
    )
    fractions = {"calibration_fraction": calibration_fraction, "validation_fraction": 0.0}
    return data.split(data.protocols.coco(masks=False), train, test, **fractions, seed=seed)


def coco(name, row, root: str | None = None, weights: str | None = "resnet50_imagenet", calibration_fraction=0.01):
    """FCOS at the published size, multi-scale, "2x", in the settings of mmdetection's that the paper builds on.

    `root` is the folder of the data set; `weights` what a ResNet-50 starts with (of ResNeXt there are none in Keras's
    format); `calibration_fraction` the part of the training images that chooses the threshold instead, which the paper
    does not have. What starts with weights keeps some of them, see `published_fcos`.

    >>> configs.resolve("coco_table10_r50").epochs
    24
    """
    change = data.augment.random_short_side(640, 800, longest=1333), data.augment.random_flip()
    return Experiment(
        name=name,
        task=Detection(
            augment=data.augment.chain(*change, data.augment.pad(CANVAS)),
            base=(1333, 800),
            iou=0.5,
            sigmoid=row.method == "sigmoid",
        ),
        data=functools.partial(coco_splits, root=root, calibration_fraction=calibration_fraction),
        model=functools.partial(published_fcos, row=row, weights=weights),
        loss=point_loss(row.method, box=losses.IoULoss()),
        optimizer=functools.partial(SGDWithL2, momentum=0.9, l2=1e-4, global_clipnorm=35.0),
        learning_rate=0.01,
        schedule=two_drops,
        epochs=24,
        batch_size=16,
        score=scores.max_logit if row.method == "sigmoid" else scores.log_odds,
        fpr=0.2,
    )


def published_fcos(num_classes, row, weights=None, frozen=None):
    """FCOS as first published: 256 channels, towers of 4, strides 8 to 128, whole boxes, centerness beside classes.

    Where `frozen`, by default of a net that starts with `weights`, the stem, the first stage and all batch
    normalisation of the backbone stay as they are: 275,520 of its parameters.
    """
    pretrained = None if row.backbone == RESNEXT else weights
    frozen = pretrained is not None if frozen is None else frozen

    def backbone():
        net = backbones.resnext() if row.backbone == RESNEXT else backbones.dilated_resnet(50, 32, weights=pretrained)
        return freeze(net) if frozen else net

    return models.fcos(
        num_classes,
        backbone,
        functools.partial(point_head, method=row.method),
        center_radius=None,
        centerness="classification",
    )


def freeze(net):
    """A backbone whose stem, first stage and batch normalisation stay as they are."""
    for layer in net.layers:
        if layer.name.startswith(("stem", "stage1")) or isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    return net


def two_drops(rate, steps):
    """A third of the rate for 500 steps, then the rate, a tenth after 16 of 24 epochs, and again after 22.

    >>> [round(float(two_drops(0.01, 24_000)(step)), 6) for step in (0, 1000, 16_001, 23_000)]
    [0.003333, 0.01, 0.001, 0.0001]
    """
    ends = [min(500, steps // 4), round(steps * 16 / 24), round(steps * 22 / 24)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(ends, [rate / 3, rate, rate / 10, rate / 100])


def _small(name, method, centers, weights, splits, task, **training):
    check_choice("method", method, METHODS)
    check_choice("centers", centers, CENTERS)
    return Experiment(
        name=f"{name}_{method}",
        task=dataclasses.replace(task, sigmoid=method == "sigmoid"),
        data=splits,
        model=functools.partial(small_fcos, method=method, centers=centers),
        loss=point_loss(method, **weights),
        optimizer=functools.partial(keras.optimizers.AdamW, weight_decay=1e-4),
        schedule=keras.optimizers.schedules.CosineDecay,
        fpr=0.2,
        score=scores.max_logit if method == "sigmoid" else scores.log_odds,
        **training,
    )
