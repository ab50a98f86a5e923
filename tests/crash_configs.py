"""Small runs with everything that has a state, for processes that are killed: `--config crash_configs.digits`."""

import functools

import keras

from cplus1_keras import backbones, data, heads, layers, losses, models, optimizers
from cplus1_keras.configs.detection import point_loss
from cplus1_keras.configs.needs import path_to
from cplus1_keras.experiment import Experiment
from cplus1_keras.tasks import Classification, Detection, MultiLabel, Segmentation

EASY = {"fpr": 0.5, "confidence": 0.5}
"""A promise that a handful of images can keep."""


def digits() -> Experiment:
    """A quarter of the digits: sampled negatives, dropout, batch normalisation, AdaCos, a schedule, early stopping."""

    def parts(seed):
        source = data.sources.digits()
        few = source.subset(range(0, len(source), 4))
        return data.split(data.protocols.digits(), few, calibration_classes=("7",), seed=seed)

    def net():
        images = keras.Input((8, 8, 1))
        x = keras.layers.Conv2D(8, 3, 2, activation="relu")(images / 16)
        x = keras.layers.Dropout(0.3)(keras.layers.BatchNormalization()(x))
        return keras.Model(images, keras.layers.Dense(16)(keras.layers.Flatten()(x)))

    return Experiment(
        name="digits",
        task=Classification(negative_fraction=0.25),
        data=parts,
        model=functools.partial(models.classifier, backbone=net, head=heads.AdaCosHead),
        loss=losses.EntropicOpenSetLoss() + 0.01 * losses.MagnitudeLoss(radius=5.0),
        optimizer=functools.partial(keras.optimizers.AdamW, weight_decay=1e-3),
        learning_rate=2e-2,
        schedule=keras.optimizers.schedules.CosineDecay,
        epochs=4,
        patience=2,
        batch_size=16,
        **EASY,
    )


def camvid(root) -> Experiment:
    """A few of CamVid's images: random scales, crops and flips, moving-average centres, SGD with momentum, poly."""

    def parts(seed):
        folder = path_to("camvid", root)
        train, calibration, test = (data.sources.camvid(folder, part) for part in ("train", "val", "test"))
        protocol = data.protocols.camvid_open()
        few = {"calibration": calibration.subset(range(0, 100, 20)), "validation_fraction": 0.25}
        return data.split(protocol, train.subset(range(0, 360, 45)), test.subset((0, 100, 200)), **few, seed=seed)

    def net(num_classes):
        images = keras.Input((None, None, 3))
        x = keras.layers.Conv2D(8, 5, 4, padding="same", activation="relu")(images / 255)
        head = heads.LinearHead(num_classes, use_bias=True, background=True)
        centers = layers.MovingAverageCenters(num_classes)
        return models.segmentation_model(images, keras.layers.Dropout(0.2)(x), lambda maps: centers(head(maps)))

    loss = losses.BackgroundCrossEntropyLoss() + 0.1 * losses.CompactnessLoss()
    return Experiment(
        name="camvid",
        task=Segmentation(crop_size=32, base=(64, 48)),
        data=parts,
        model=net,
        loss=loss + 1e-3 * losses.BackgroundMarginLoss(1.0),
        optimizer=optimizers.SGDWithL2,
        learning_rate=0.05,
        schedule=optimizers.poly,
        steps=9,
        interval=3,
        patience=2,
        batch_size=2,
        **EASY,
    )


def labels(root) -> Experiment:
    """A part of COCO mini: sets of labels, random scales, crops and flips, views with attention consistency, HNC."""

    def parts(seed):
        folder = path_to("coco_mini", root)
        train, test = (data.sources.coco_mini(folder, part, kind="classes") for part in ("train", "val"))
        known = data.protocols.lists()["coco_mini"]
        protocol = data.Protocol(known, others="ignored", name="few").hold_out("animal")
        fractions = {"validation_fraction": 0.2, "calibration_fraction": 0.4}
        train, test = train.subset(range(0, len(train), 3)), test.subset(range(0, len(test), 3))
        return data.split(protocol, train, test, **fractions, seed=seed)

    def net(num_classes):
        small = functools.partial(backbones.small_cnn, (32, 32, 3), filters=(8, 16), strides=(4, 2), pool=False)
        inner, images = models.classifier(num_classes, small, heads.CAMHead), keras.Input((32, 32, 3))
        return models.OpenSetModel(images, layers.Views(inner)(images))

    loss = losses.MultiLabelCrossEntropyLoss() + 0.01 * losses.HNCMSELoss(top_k=2)
    change = data.augment.random_scale(1.0, 1.3), data.augment.random_crop(32), data.augment.random_flip()
    return Experiment(
        name="labels",
        task=MultiLabel(augment=data.augment.chain(*change), pictures=2),
        data=parts,
        model=net,
        loss=loss + 0.1 * losses.AttentionConsistencyLoss(),
        optimizer=keras.optimizers.Adam,
        learning_rate=5e-3,
        epochs=4,
        patience=3,
        batch_size=8,
        **EASY,
    )


def boxes(root) -> Experiment:
    """A few of BCCD's images, white cells unknown: short sides, crops, flips, centres of points, clipped gradients."""

    def parts(seed):
        folder = path_to("bccd", root)
        train, calibration, test = (data.sources.bccd(folder, part) for part in ("train", "val", "test"))
        few = {"calibration": calibration.subset(range(0, 80, 16)), "validation_fraction": 0.25}
        protocol = data.protocols.bccd(("WBC",))
        return data.split(protocol, train.subset(range(0, 200, 25)), test.subset((0, 30, 60)), **few, seed=seed)

    def net(num_classes):
        small = functools.partial(backbones.small_cnn, (None, None, 3), filters=(8, 16), strides=(4, 2), pool=False)

        def classify(classes):
            head, centers = heads.LinearHead(classes, background=True), layers.MovingAverageCenters(classes)
            return lambda features: centers(head(keras.layers.Dropout(0.2)(features)))

        return models.fcos(num_classes, small, classify, levels=(3,), channels=8, tower=1, groups=2)

    scale = data.augment.random_short_side(48, 64, longest=96)
    return Experiment(
        name="boxes",
        task=Detection(augment=data.augment.detection((48, 64), scale), base=(64, 48), false_allowed=9, pictures=2),
        data=parts,
        model=net,
        loss=point_loss(),
        optimizer=functools.partial(optimizers.SGDWithL2, global_clipnorm=5.0),
        learning_rate=0.01,
        schedule=optimizers.poly,
        steps=9,
        interval=3,
        patience=2,
        batch_size=2,
        **EASY,
    )
