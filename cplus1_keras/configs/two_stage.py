"""Detectors of two stages on sets with long tails: Faster and Cascade R-CNN on small sets for a CPU.

`method` is a key of `families.TAILS`: a head and a loss of regions.
"""

import dataclasses
import functools

import keras
import numpy as np

from cplus1_keras import backbones, data, losses, models
from cplus1_keras.backbones.outputs import check_choice
from cplus1_keras.configs.detection import PRIOR, bccd_splits
from cplus1_keras.configs.families import TAILS, tail_head, tail_loss
from cplus1_keras.experiment import Experiment
from cplus1_keras.tasks import Detection

STAGE_WEIGHTS = (1.0, 0.5, 0.25)
"""Of the losses of a cascade's stages."""

RARE = {"WBC": 40, "Platelets": 8}
"""In how many of the 205 training images of BCCD `bccd_tail` keeps a class: common and rare, as of LVIS."""


def region_loss(splits, method="c2am", stages=1, beta=1.0):
    """The loss of a detector of two stages.

        L = L_objectness + L_rpn_box + Σ_k w_k (L_class + L_box),   w = 1, 1/2, 1/4

    Args:
        splits: `data.Splits`, for losses that ask how frequent classes are.
        method: A key of `families.TAILS`.
        stages: Of the detector.
        beta: β of the smooth-L1 of box heads, a ninth of it of the proposals'; 0 is the absolute value.

    >>> splits = configs.resolve("digits").data(0)
    >>> [name for name in (term.name for _, term in region_loss(splits, stages=2).terms())][2:]
    ['roi1_background_cross_entropy', 'roi1_box_delta', 'roi2_background_cross_entropy', 'roi2_box_delta']
    """
    loss = (losses.ObjectnessLoss() + losses.BoxDeltaLoss(beta / 9)).of("rpn_")
    for stage, weight in enumerate(STAGE_WEIGHTS[:stages], start=1):
        own = tail_loss(splits, method, background=True) + losses.BoxDeltaLoss(beta)
        loss = loss + weight * own.of(f"roi{stage}_")
    return loss


def small_rcnn(num_classes, method="c2am", scale=16.0, stages=1):
    """Faster R-CNN for a CPU: a thin ResNet-18, 64 channels, strides 8 to 32, 200 proposals, 64 regions that train."""
    return models.rcnn(
        num_classes,
        functools.partial(backbones.dilated_resnet, 18, 32, widths=(32, 48, 64, 96)),
        functools.partial(tail_head, method=method, scale=scale, background=True, prior=PRIOR),
        levels=(3, 4, 5),
        channels=64,
        width=256,
        stages=stages,
        scale=4,
        proposals=200,
        per_level=(500, 300),
        samples=64,
    )


def make_rare(source, images, seed):
    """A source of boxes in which classes are annotated in a few images only: elsewhere their objects are ignored.

    Args:
        source: A `data.Source` of boxes.
        images: Dict of class name -> in how many images, by a seeded choice, its objects count.
        seed: int >= 0.
    """
    boxes, crowd = source.boxes, source.boxes.crowd.copy()
    for name, number in images.items():
        own = boxes.values == source.class_names.index(name)
        showing = np.unique(boxes.images[own])
        kept = np.random.default_rng([seed, source.class_names.index(name)]).permutation(showing)[:number]
        crowd |= own & ~np.isin(boxes.images, kept)
    return source.with_boxes(dataclasses.replace(boxes, crowd=crowd))


def bccd_tail_splits(seed, root=None):
    """BCCD's lists as `bccd`, with white cells and platelets in a few training images only, the same for all seeds."""
    splits = bccd_splits(seed, root)
    train = dataclasses.replace(splits.train, source=make_rare(splits.train.source, RARE, seed=0))
    return dataclasses.replace(splits, train=train)


def bccd_tail(method="c2am", root: str | None = None, width=320, stages=1, scale=16.0):
    """Blood cells with a long tail: white cells in 40 of 205 training images, platelets in 8, else ignored.

    Args:
        method: A key of `families.TAILS`.
        root: Folder, or zip file.
        width: Pixels that images are scaled to, with 3/4 as height.
        stages: 1, or up to 3 of a cascade.
        scale: s of a cosine classifier.

    >>> bccd_tail("seesaw", width=160).name
    'bccd_tail_seesaw'
    """
    check_choice("method", method, TAILS)
    size = (round(0.75 * width), width)
    change = data.augment.random_scale(0.9, 1.1, base=size), data.augment.random_crop(size), data.augment.random_flip()
    return Experiment(
        name=f"bccd_tail_{method}",
        task=Detection(
            augment=data.augment.chain(*change, data.augment.pad(size)), base=size, false_allowed=2, iou=0.5
        ),
        data=functools.partial(bccd_tail_splits, root=root),
        model=functools.partial(small_rcnn, method=method, scale=scale, stages=stages),
        loss=functools.partial(region_loss, method=method, stages=stages),
        optimizer=functools.partial(keras.optimizers.AdamW, weight_decay=0.05, global_clipnorm=10.0),
        schedule=keras.optimizers.schedules.CosineDecay,
        learning_rate=1e-3,
        steps=1000,
        interval=200,
        batch_size=2,
        fpr=0.2,
        note="The images that calibrate were looked at when `bccd` was made: the bound is a demonstration.",
    )
