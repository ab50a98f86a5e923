"""Every family of losses of the five papers, with the hyper-parameters that the papers print: head and loss by name."""

import dataclasses
import functools
import math
from collections.abc import Callable

from cplus1_keras import anchors, heads, layers, losses, scores
from cplus1_keras.backbones.outputs import check_choice
from cplus1_keras.losses import OpenSetLoss
from cplus1_keras.scale import simplex_bound

CENTERS = {
    "moving_average": lambda head: layers.MovingAverageCenters(head.num_classes),
    "learnable": lambda head: layers.LearnableCenters(head.num_classes, name="centers"),
    "shared": layers.SharedCenters,
}
"""Class centres by name, the rows of Table 2 of the C+1 paper: functions from a head to a layer."""


def background_head(num_classes, centers=None, use_bias=False, prior=None):
    """A linear classifier over C + 1 classes, and class centres, by a key of `CENTERS`, on its outputs."""
    head = heads.LinearHead(num_classes, use_bias=use_bias, background=True, prior=prior)
    if centers is None:
        return head
    layer = CENTERS[centers](head)
    return lambda features: layer(head(features))


def center_head(num_classes):
    """A linear classifier with class centres on its features, for the center loss."""
    head, centers = heads.LinearHead(num_classes), layers.MovingAverageCenters(num_classes, normalize=False)
    return lambda features: centers(head(features))


@dataclasses.dataclass(frozen=True)
class Tail:
    """A classifier for long tails: a linear or a cosine head, what the counts of the classes make of its loss, and a
    layer with state that the margin reads.
    """

    margin: Callable = lambda counts: None  # from numbers of training samples (C,) to a margin, or None
    cosine: bool = False
    layer: Callable | None = None  # from the number of known classes to a layer on the head's outputs


def _equalization(counts):
    return losses.Equalization([count / sum(counts) for count in counts], threshold=0.01)


TAILS = {
    "softmax": Tail(),
    "cosine": Tail(cosine=True),
    "c2am": Tail(lambda counts: losses.C2AM(0.5), cosine=True),
    "balanced_softmax": Tail(losses.BalancedSoftmax),
    "ldam": Tail(losses.LDAM, cosine=True),
    "equalization": Tail(_equalization, layer=lambda num_classes: layers.UniformDraws()),
    "seesaw": Tail(lambda counts: losses.Seesaw(), layer=layers.ClassCounts),
}
"""Classifiers for long tails by name. Equalization spares classes of less than 1 % of the samples: sets that train here
are small."""


def tail_head(num_classes, method="c2am", scale=30.0, background=False, prior=None):
    """The head of a method of `TAILS`; a linear one has a bias where it has a `prior`.

    >>> list(tail_head(3, "seesaw")(np.ones((1, 5), "float32")))
    ['features', 'logits']
    """
    check_choice("method", method, TAILS)
    tail = TAILS[method]
    if tail.cosine:
        head = heads.CosineHead(num_classes, scale, background=background)
    else:
        head = heads.LinearHead(num_classes, use_bias=prior is not None, background=background, prior=prior)
    if tail.layer is None:
        return head
    layer = tail.layer(num_classes)
    return lambda features: layer(head(features))


def tail_loss(splits, method="c2am", background=False):
    """The loss of a method of `TAILS` for the counts of a training split; with `background`, over C + 1 classes.

    >>> tail_loss(configs.resolve("digits").data(0), "balanced_softmax").margin.counts
    [89, 91, 88, 91, 90, 91]
    """
    check_choice("method", method, TAILS)
    from cplus1_keras import data  # which needs TensorFlow; the families run on any backend

    margin = TAILS[method].margin(data.pixel_counts(splits.train)[: splits.num_classes].tolist())
    return losses.BackgroundCrossEntropyLoss(margin) if background else losses.CrossEntropyLoss(margin)


@dataclasses.dataclass(frozen=True)
class Family:
    """A head and a loss that belong together."""

    head: Callable[[int], Callable]  # from the number of known classes to a function from features to named outputs
    loss: OpenSetLoss
    maps: bool = False  # whether the head takes feature maps instead of pooled features
    score: Callable = scores.log_odds  # that the family is judged by


def families(num_classes, features, hnc=1.0):
    """All families for C classes, by name, with the margins, scale and weights of the thesis's Table 5.2.

    `features` is K >= C, the length of the features: anchors need their own axis each. `hnc` multiplies the weights of
    homogeneous negative CAM. The weight of the center loss, 0.003, is that of Wen et al. (2016): HNC's tables state
    none.

    >>> families(10, 10)["cosface"].loss.margin.margin
    0.35
    """
    scale = float(math.ceil(simplex_bound(num_classes)))
    hard = functools.partial(heads.CosineHead, scale=scale)
    soft = functools.partial(heads.CosineHead, scale=None)
    with_centers = {centers: functools.partial(background_head, centers=centers) for centers in CENTERS}
    axes = anchors.orthonormal(num_classes, features)
    cross_entropy = losses.CrossEntropyLoss
    return {
        "softmax": Family(heads.LinearHead, cross_entropy()),
        "focal": Family(heads.LinearHead, losses.FocalLoss()),
        "sm_softmax": Family(heads.LinearHead, cross_entropy(losses.SMSoftmax(0.3))),
        "hinge": Family(heads.LinearHead, losses.HingeLoss()),
        "center": Family(center_head, cross_entropy() + 0.003 * losses.CompactnessLoss()),
        "l_softmax": Family(heads.LinearHead, cross_entropy(losses.LSoftmax(2, annealing=5.0))),
        "l_softmax3": Family(heads.LinearHead, cross_entropy(losses.LSoftmax(3, annealing=5.0))),
        "l_softmax4": Family(heads.LinearHead, cross_entropy(losses.LSoftmax(4, annealing=5.0))),
        "lgm": Family(heads.GaussianHead, losses.lgm(), score=scores.max_logit),  # a likelihood
        "anchor_loss": Family(heads.LinearHead, losses.AnchorLoss()),
        "gce": Family(heads.LinearHead, losses.GuidedComplementEntropyLoss()),
        "sphereface": Family(hard, cross_entropy(losses.SphereFace(1.2))),
        "cosface": Family(hard, cross_entropy(losses.CosFace(0.35))),
        "arcface": Family(hard, cross_entropy(losses.ArcFace(0.5))),
        "adacos": Family(heads.AdaCosHead, cross_entropy()),
        "sfn_norm": Family(soft, losses.sfn_norm(scale)),
        "sfn_cosface": Family(soft, losses.sfn_cosface(0.35, scale)),
        "sfn_arcface": Family(soft, losses.sfn_arcface(0.5, scale)),
        "c2am": Family(functools.partial(heads.CosineHead, scale=30.0), cross_entropy(losses.C2AM(0.5))),
        "e_ncm": Family(lambda _: heads.EuclideanAnchorHead(axes), cross_entropy()),
        "c_ncm": Family(lambda _: heads.CosineAnchorHead(axes), cross_entropy()),
        "background": Family(background_head, losses.BackgroundCrossEntropyLoss()),
        **{f"cplus1_{name}": Family(head, losses.cplus1(0.1, 1e-4, margin=1.0)) for name, head in with_centers.items()},
        "entropic": Family(heads.LinearHead, losses.EntropicOpenSetLoss()),
        "objectosphere": Family(heads.LinearHead, losses.objectosphere(scale)),
        "norm_os": Family(soft, losses.norm_os(scale)),
        "cos_os": Family(soft, losses.cos_os(0.35, scale)),
        "arc_os": Family(soft, losses.arc_os(0.5, scale)),
        "cos_os_one_sided": Family(soft, cross_entropy(losses.CosFace(0.35)) + 0.01 * losses.MagnitudeLoss(scale)),
        "arc_os_one_sided": Family(soft, cross_entropy(losses.ArcFace(0.5)) + 0.01 * losses.MagnitudeLoss(scale)),
        "norm_eos": Family(hard, losses.EntropicOpenSetLoss()),
        "cos_eos": Family(hard, losses.cos_eos(0.35)),
        "arc_eos": Family(hard, losses.arc_eos(0.5)),
        "cos_eos_ring": Family(hard, losses.cos_eos(0.35) + 0.01 * losses.RingLoss(scale)),
        "arc_eos_ring": Family(hard, losses.arc_eos(0.5) + 0.01 * losses.RingLoss(scale)),
        "cam": Family(heads.CAMHead, cross_entropy(), maps=True),
        "hnc_mse": Family(heads.CAMHead, cross_entropy() + 0.0007 * hnc * losses.HNCMSELoss(num_classes), maps=True),
        "hnc_kd": Family(heads.CAMHead, cross_entropy() + 0.0065 * hnc * losses.HNCKDLoss(num_classes), maps=True),
    }
