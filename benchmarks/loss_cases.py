"""What is compared in cost with Dense + sparse softmax cross-entropy, on any backend."""

import dataclasses
from collections.abc import Callable

import numpy as np

from cplus1_keras import heads, layers, losses


@dataclasses.dataclass(frozen=True)
class Variant:
    """Layers that follow one another on the features, the loss on what they give, and the share of negative labels."""

    layers: Callable
    loss: Callable
    negatives: float = 0.0


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the table: shape of the features without and with their last axis, and what is compared there."""

    title: str
    batch: tuple
    features: int
    classes: int
    target: float
    variants: dict
    memory: tuple = ()
    memory_target: str = ""
    maps: bool = False
    xla: bool = True

    @property
    def labels(self):
        return self.batch[:1] if self.maps else self.batch


def cosine(scale):
    return lambda classes: [heads.CosineHead(classes, scale)]


def linear(classes):
    return [heads.LinearHead(classes)]


def with_background(classes):
    return [heads.CosineHead(classes - 1, 30.0, background=True)]


def with_centers(kind):
    def build(classes):
        head = heads.LinearHead(classes - 1, background=True)
        return [head, layers.SharedCenters(head) if kind is layers.SharedCenters else kind(classes - 1)]

    return build


def maps(classes):
    return [heads.CAMHead(classes, use_bias=False)]


def cross_entropy(margin=None):
    return lambda: losses.CrossEntropyLoss(margin)


def entropic(margin=None):
    return lambda: losses.EntropicOpenSetLoss(margin)


def beside_cross_entropy(weight, loss):
    return lambda: losses.CrossEntropyLoss() + weight * loss


SOFTMAX_FAMILY = {
    "CosFace, hard": Variant(cosine(64.0), cross_entropy(losses.CosFace(0.35))),
    "ArcFace, hard": Variant(cosine(64.0), cross_entropy(losses.ArcFace(0.5))),
    "ArcFace, soft": Variant(cosine(None), cross_entropy(losses.ArcFace(0.5))),
    "SphereFace, soft": Variant(cosine(None), cross_entropy(losses.SphereFace(1.5))),
    "SM-Softmax": Variant(linear, cross_entropy(losses.SMSoftmax(0.3))),
    "EOS": Variant(linear, entropic(), 0.25),
    "Cos-EOS": Variant(cosine(64.0), entropic(losses.CosFace(0.35)), 0.25),
    "Arc-EOS": Variant(cosine(64.0), entropic(losses.ArcFace(0.5)), 0.25),
    "Arc-EOS, soft": Variant(cosine(None), entropic(losses.ArcFace(0.5)), 0.25),
}
C2AM = {
    "C2AM": Variant(with_background, lambda: losses.BackgroundCrossEntropyLoss(losses.C2AM(0.5)), 0.75),
    "C2AM, knowns only": Variant(cosine(30.0), cross_entropy(losses.C2AM(0.5))),
}
COUNTS = np.geomspace(50_000, 5, 1204).astype(int)  # of a long tail
TAIL = {
    "LDAM": Variant(cosine(30.0), cross_entropy(losses.LDAM(COUNTS))),
    "balanced softmax": Variant(linear, cross_entropy(losses.BalancedSoftmax(COUNTS))),
    "equalization": Variant(
        lambda classes: [heads.LinearHead(classes), layers.UniformDraws()],
        cross_entropy(losses.Equalization(COUNTS / COUNTS.sum())),
    ),
    "equalization, sigmoid": Variant(linear, lambda: losses.SigmoidEqualizationLoss(COUNTS / COUNTS.sum())),
    "seesaw": Variant(
        lambda classes: [heads.LinearHead(classes), layers.ClassCounts(classes)], cross_entropy(losses.Seesaw())
    ),
}
CPLUS1 = {
    "C+1, moving average": Variant(with_centers(layers.MovingAverageCenters), losses.cplus1, 0.7),
    "C+1, learnable": Variant(with_centers(layers.LearnableCenters), losses.cplus1, 0.7),
    "C+1, shared": Variant(with_centers(layers.SharedCenters), losses.cplus1, 0.7),
}


def hnc(k):
    return {
        "HNC mse": Variant(maps, beside_cross_entropy(0.0007, losses.HNCMSELoss(k))),
        "HNC kd": Variant(maps, beside_cross_entropy(0.0065, losses.HNCKDLoss(k))),
    }


CASES = {
    "256": Case("batch 256, 512 features, 10,000 classes", (256,), 512, 10_000, 1.15, SOFTMAX_FAMILY),
    "512": Case("batch 512, 512 features, 10,000 classes", (512,), 512, 10_000, 1.06, SOFTMAX_FAMILY),
    "100k": Case(
        "batch 128, 512 features, 100,000 classes",
        (128,),
        512,
        100_000,
        1.15,
        SOFTMAX_FAMILY,
        ("CosFace, hard", "ArcFace, soft", "SM-Softmax", "Arc-EOS"),
        "1.25 x",
        xla=False,
    ),
    "c2am": Case("batch 2,048, 1,024 features, 1,204 classes", (2048,), 1024, 1204, 1.15, C2AM),
    "tail": Case("batch 2,048, 1,024 features, 1,204 classes, long tail", (2048,), 1024, 1204, 1.15, TAIL),
    "cplus1": Case(
        "65,536 pixels, 256 features, 20 + 1 classes", (4, 128, 128), 256, 21, 2.0, CPLUS1, tuple(CPLUS1), "+150 MB"
    ),
    "hnc-100": Case(
        "batch 128, 8 x 8 maps, 512 features, 100 classes", (128, 8, 8), 512, 100, 1.5, hnc(100), maps=True
    ),
    "hnc-1000": Case(
        "batch 32, 7 x 7 maps, 2,048 features, 1,000 classes", (32, 7, 7), 2048, 1000, 1.5, hnc(100), maps=True
    ),
}
