"""Detection: FCOS on small sets for a CPU, and Table 10 of the C+1 paper at its size.

`method` is a key of `METHODS`: a head and a loss of points, to which `point_loss` adds those of boxes.
"""

import functools

import keras

from cplus1_keras import backbones, data, heads, losses, models, scores
from cplus1_keras.backbones.outputs import check_choice
from cplus1_keras.configs.families import CENTERS, background_head
from cplus1_keras.configs.needs import path_to
from cplus1_keras.experiment import Experiment
from cplus1_keras.tasks import Detection

PRIOR = 0.01
"""Probability of the knowns at first; most points are background."""

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


def point_loss(method="cplus1", compactness=0.1, background=1e-4, margin=1.0):
    """The loss of a method for points, each term divided by the number of known ones, and those of boxes.

        L = L_separability + α L_compact + β L_background + L_GIoU + L_centerness

    α is `compactness`, β `background`. Reference: C+1 loss (2022), Eq 1; Tian et al. (2019), Eq 2.

    >>> [term.name for _, term in point_loss("sigmoid").terms()]
    ['sigmoid_focal', 'giou', 'centerness']
    """
    terms = {"compactness": (compactness, losses.CompactnessLoss())}
    terms["background"] = (background, losses.BackgroundMarginLoss(margin))
    loss = losses.BackgroundCrossEntropyLoss(MARGINS.get(method))
    loss = {
        "sigmoid": losses.SigmoidFocalLoss(),
        "focal_softmax": losses.BackgroundCrossEntropyLoss(gamma=2.0),
        "entropic": losses.EntropicOpenSetLoss(),
    }.get(method, loss)
    for weight, term in (terms[name] for name in TERMS.get(method, ()) if terms[name][0]):
        loss = loss + weight * term
    return loss.per_known() + losses.GIoULoss() + losses.CenternessLoss()


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
    """BCCD's own lists: 205 images train, 87 calibrate, 72 test. The seed has no effect."""
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
    """Blood cells: red and white ones and platelets; 12 passes take about three minutes on two quiet CPU cores.

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
    return _small("bccd", method, centers, weights, splits, size, epochs=12, batch_size=4, fpr=0.2)


def _small(name, method, centers, weights, splits, size, **training):
    check_choice("method", method, METHODS)
    check_choice("centers", centers, CENTERS)
    return Experiment(
        name=f"{name}_{method}",
        task=Detection(augment=data.augment.detection(size), base=size, sigmoid=method == "sigmoid"),
        data=splits,
        model=functools.partial(small_fcos, method=method, centers=centers),
        loss=point_loss(method, **weights),
        optimizer=functools.partial(keras.optimizers.AdamW, weight_decay=1e-4),
        learning_rate=2e-3,
        schedule=keras.optimizers.schedules.CosineDecay,
        score=scores.max_logit if method == "sigmoid" else scores.log_odds,
        **training,
    )
