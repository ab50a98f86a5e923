"""Losses on labels and named outputs, and the margins that some of them hold."""

from cplus1_keras.losses.adaptive_margins import C2AM, GrowingMargin
from cplus1_keras.losses.attention import AttentionConsistencyLoss
from cplus1_keras.losses.base import OpenSetLoss, WeightedSum
from cplus1_keras.losses.baselines import (
    AnchorLoss,
    ClassBalancedFocalLoss,
    FocalLoss,
    GuidedComplementEntropyLoss,
    HingeLoss,
)
from cplus1_keras.losses.boxes import CenternessLoss, GIoULoss, IoULoss, SigmoidFocalLoss, SmoothL1BoxLoss
from cplus1_keras.losses.cams import HNCKDLoss, HNCMSELoss
from cplus1_keras.losses.classification import BackgroundCrossEntropyLoss, CrossEntropyLoss, EntropicOpenSetLoss
from cplus1_keras.losses.compactness import BackgroundMarginLoss, CompactnessLoss, outside_probability
from cplus1_keras.losses.compositions import (
    arc_eos,
    arc_os,
    cos_eos,
    cos_os,
    cplus1,
    lgm,
    norm_os,
    objectosphere,
    sfn_arcface,
    sfn_cosface,
    sfn_norm,
)
from cplus1_keras.losses.lengths import MagnitudeLoss, RingLoss, SymmetricMagnitudeLoss
from cplus1_keras.losses.long_tail import LDAM, BalancedSoftmax, Equalization, Seesaw, SigmoidEqualizationLoss
from cplus1_keras.losses.margins import ArcFace, CosFace, GaussianMargin, LSoftmax, Margin, SMSoftmax, SphereFace
from cplus1_keras.losses.mixed import MixedLoss, mix
from cplus1_keras.losses.multilabel import AsymmetricLoss, MultiLabelCrossEntropyLoss, WeightedSigmoidLoss
from cplus1_keras.losses.regions import BoxDeltaLoss, MaskLoss, ObjectnessLoss

__all__ = [
    "C2AM",
    "LDAM",
    "AnchorLoss",
    "ArcFace",
    "AsymmetricLoss",
    "AttentionConsistencyLoss",
    "BackgroundCrossEntropyLoss",
    "BackgroundMarginLoss",
    "BalancedSoftmax",
    "BoxDeltaLoss",
    "CenternessLoss",
    "ClassBalancedFocalLoss",
    "CompactnessLoss",
    "CosFace",
    "CrossEntropyLoss",
    "EntropicOpenSetLoss",
    "Equalization",
    "FocalLoss",
    "GIoULoss",
    "GaussianMargin",
    "GrowingMargin",
    "GuidedComplementEntropyLoss",
    "HNCKDLoss",
    "HNCMSELoss",
    "HingeLoss",
    "IoULoss",
    "LSoftmax",
    "MagnitudeLoss",
    "Margin",
    "MaskLoss",
    "MixedLoss",
    "MultiLabelCrossEntropyLoss",
    "ObjectnessLoss",
    "OpenSetLoss",
    "RingLoss",
    "SMSoftmax",
    "Seesaw",
    "SigmoidEqualizationLoss",
    "SigmoidFocalLoss",
    "SmoothL1BoxLoss",
    "SphereFace",
    "SymmetricMagnitudeLoss",
    "WeightedSigmoidLoss",
    "WeightedSum",
    "arc_eos",
    "arc_os",
    "cos_eos",
    "cos_os",
    "cplus1",
    "lgm",
    "mix",
    "norm_os",
    "objectosphere",
    "outside_probability",
    "sfn_arcface",
    "sfn_cosface",
    "sfn_norm",
]
