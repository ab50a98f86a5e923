"""Detectors of two stages on sets with long tails: small ones for a CPU, and Tables 2-6 of the C2AM paper.

`method` is a key of `families.TAILS`: a head and a loss of regions.
"""

import dataclasses
import functools

import keras
import numpy as np

from cplus1_keras import backbones, data, heads, losses, models
from cplus1_keras.backbones.outputs import check_choice
from cplus1_keras.configs.detection import CANVAS, PRIOR, bccd_splits, freeze, mini_splits
from cplus1_keras.configs.families import TAILS, tail_head, tail_loss
from cplus1_keras.configs.needs import path_to
from cplus1_keras.experiment import Experiment
from cplus1_keras.optimizers import SGDWithL2, stepwise
from cplus1_keras.tasks import Detection

STAGE_WEIGHTS = (1.0, 0.5, 0.25)
"""Of the losses of a cascade's stages."""

RARE = {"WBC": 40, "Platelets": 8}
"""In how many of the 205 training images of BCCD `bccd_tail` keeps a class: common and rare, as of LVIS."""


def region_loss(splits, method="c2am", stages=1, beta=1.0, masks=False, margin=None):
    """The loss of a detector of two stages.

        L = L_objectness + L_rpn_box + Σ_k w_k (L_class + L_box + L_mask),   w = 1, 1/2, 1/4

    Args:
        splits: `data.Splits`, for losses that ask how frequent classes are.
        method: A key of `families.TAILS`.
        stages: Of the detector.
        beta: β of the smooth-L1 of box heads, a ninth of it of the proposals'; 0 is the absolute value.
        masks: Whether there are mask heads.
        margin: Takes the place of the method's, where given.

    >>> splits = configs.resolve("digits").data(0)
    >>> [name for name in (term.name for _, term in region_loss(splits, stages=2).terms())][2:]
    ['roi1_background_cross_entropy', 'roi1_box_delta', 'roi2_background_cross_entropy', 'roi2_box_delta']
    """
    loss = (losses.ObjectnessLoss() + losses.BoxDeltaLoss(beta / 9)).of("rpn_")
    for stage, weight in enumerate(STAGE_WEIGHTS[:stages], start=1):
        given = margin and losses.BackgroundCrossEntropyLoss(margin)
        own = (given or tail_loss(splits, method, background=True)) + losses.BoxDeltaLoss(beta)
        loss = loss + weight * own.of(f"roi{stage}_")
        loss = loss + weight * losses.MaskLoss().of(f"mask{stage}_") if masks else loss
    return loss


def small_rcnn(num_classes, method="c2am", scale=16.0, stages=1, masks=False):
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
        masks="agnostic" if masks else False,
    )


def make_rare(split, images, seed):
    """A split of boxes in which some classes count in a few images only: elsewhere their objects are ignored.

    Args:
        split: A `data.Split` of boxes.
        images: Dict of a known class's name -> in how many images, by a seeded choice, its objects count.
        seed: int >= 0.

    >>> make_rare.__name__  # configs.resolve("bccd_tail") asks for the data set
    'make_rare'
    """
    boxes, crowd = split.source.boxes, split.source.boxes.crowd.copy()
    for name, number in images.items():
        label = split.protocol.class_names.index(name)
        own = split.box_labels == label
        kept = np.random.default_rng([seed, label]).permutation(np.unique(boxes.images[own]))[:number]
        crowd |= own & ~np.isin(boxes.images, kept)
    return dataclasses.replace(split, source=split.source.with_boxes(dataclasses.replace(boxes, crowd=crowd)))


def bccd_tail_splits(seed, root=None):
    """BCCD's lists as `bccd`, with white cells and platelets in a few training images only, the same for all seeds."""
    splits = bccd_splits(seed, root)
    return dataclasses.replace(splits, train=make_rare(splits.train, RARE, seed=0))


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
    size = (round(0.75 * width), width)
    change = data.augment.random_scale(0.9, 1.1, base=size), data.augment.random_crop(size), data.augment.random_flip()
    task = Detection(augment=data.augment.chain(*change, data.augment.pad(size)), base=size, false_allowed=2, iou=0.5)
    note = "The images that calibrate were looked at when `bccd` was made: the bound is a demonstration."
    splits = functools.partial(bccd_tail_splits, root=root)
    return _small("bccd_tail", method, stages, scale, task, splits, steps=1000, interval=200, batch_size=2, note=note)


def mini_tail_splits(seed, root=None, unknown_in_training="ignored"):
    """COCO mini with masks, as `coco_mini_boxes` has it; vehicles and tableware count in a few training images only."""
    splits = mini_splits(seed, root, unknown_in_training, kind="instances")
    return dataclasses.replace(splits, train=make_rare(splits.train, {"vehicle": 15, "tableware": 6}, seed=0))


def coco_mini_masks(method="c2am", root: str | None = None, width=320, stages=1, scale=16.0):
    """COCO in 4 merged classes with masks, Mask R-CNN: vehicles count in 15 training images, tableware in 6.

    150 images teach a net without pretrained weights next to nothing: it shows that a run goes through. Arguments as
    for `bccd_tail`.

    >>> coco_mini_masks("cosine").task.masks
    True
    """
    task = Detection(augment=data.augment.detection(width), base=(width, width), masks=True, iou=0.5)
    splits = functools.partial(mini_tail_splits, root=root)
    return _small("coco_mini_masks", method, stages, scale, task, splits, epochs=20, batch_size=4)


def _small(name, method, stages, scale, task, splits, **training):
    check_choice("method", method, TAILS)
    return Experiment(
        name=f"{name}_{method}",
        task=task,
        data=splits,
        model=functools.partial(small_rcnn, method=method, scale=scale, stages=stages, masks=task.masks),
        loss=functools.partial(region_loss, method=method, stages=stages, masks=task.masks),
        optimizer=functools.partial(keras.optimizers.AdamW, weight_decay=0.05, global_clipnorm=10.0),
        schedule=keras.optimizers.schedules.CosineDecay,
        learning_rate=1e-3,
        fpr=0.2,
        **training,
    )


def lvis_splits(seed, root=None, version="v1", calibration_fraction=0.01):
    """LVIS with masks, all classes known: of the training images some calibrate, those of its list `val` test."""
    folder = path_to("lvis", root)
    # The json of v0.5 names the files of COCO 2017, that of v1 these with their folder.
    places = {"train": folder, "val": folder}
    if version != "v1":
        places = {part: folder / f"{part}2017" for part in places}
    read = functools.partial(data.sources.coco_boxes, masks=True)
    train, test = (read(folder / "annotations" / f"lvis_{version}_{part}.json", places[part]) for part in places)
    protocol = data.Protocol(train.class_names, name=f"lvis_{version}")
    fractions = {"calibration_fraction": calibration_fraction, "validation_fraction": 0.0}
    return data.split(protocol, train, test, **fractions, seed=seed)


def published_rcnn(num_classes, row, weights=None, frozen=None):
    """Mask R-CNN, or Cascade Mask R-CNN, of a row of `lvis_rows.LVIS_ROWS` at its published size.

    Where `frozen`, by default of a net that starts with `weights`, the stem, the first stage and all batch
    normalisation of the backbone stay as they are.
    """

    def backbone():
        given = None if weights is None else weights.replace("50", str(row.depth))
        net = backbones.dilated_resnet(row.depth, 32, weights=given)
        return freeze(net) if (weights is not None if frozen is None else frozen) else net

    def head(num_classes):
        if row.method == "fixed":
            return heads.CosineHead(num_classes, row.scale, background=True)
        return tail_head(num_classes, row.method, row.scale, background=True, prior=PRIOR)

    return models.rcnn(num_classes, backbone, head, stages=row.stages, masks=True)


def lvis(name, row, root: str | None = None, weights: str | None = "resnet50_imagenet", margin=0.1):
    """Tables 2-6 at the published size, "2x", in the settings of section 4.2 and of mmdetection's LVIS models.

    `root` is the folder of the data set; `weights` what the ResNet starts with, 50 standing for its depth; `margin` the
    angle of the fixed margin of Table 5, ArcFace's, which the paper does not print.

    >>> configs.resolve("lvis_table2_cascade_r50_c2am").epochs
    24
    """
    change = data.augment.random_short_side(640, 800, longest=1333), data.augment.random_flip()
    margins = {"c2am": losses.C2AM(row.alpha), "fixed": losses.ArcFace(margin)}
    given = {"stages": row.stages, "beta": float(row.stages > 1), "masks": True, "margin": margins.get(row.method)}
    return Experiment(
        name=name,
        task=Detection(
            augment=data.augment.chain(*change, data.augment.pad(CANVAS)),
            base=(1333, 800),
            iou=0.5,
            max_detections=300,
            score_threshold=1e-4,
            per_level=10_000,
            masks=True,
        ),
        data=functools.partial(lvis_splits, root=root, version=row.version),
        model=functools.partial(published_rcnn, row=row, weights=weights),
        loss=functools.partial(region_loss, method=row.method, **given),
        optimizer=functools.partial(SGDWithL2, momentum=0.9, l2=1e-4),
        learning_rate=0.02,
        schedule=functools.partial(stepwise, at=(16 / 24, 22 / 24)),
        warmup=500 / 150_000,
        epochs=24,
        batch_size=16,
        sampling=row.sampling,
        fpr=0.2,
    )
