"""Label sets: a few hundred images of COCO for a CPU, and Table 4 of the HNC paper at its size.

`method` names the terms of the loss: `bce`, `asymmetric` or `weighted`, a cross-entropy alone; `hnc_mse` and `hnc_kd`,
the weighted one with homogeneous negative CAM; `ac`, `ac_hnc_mse` and `ac_hnc_kd`, the same with attention consistency.
"""

import functools

import keras

from cplus1_keras import backbones, data, heads, layers, losses, models, optimizers
from cplus1_keras.backbones.outputs import check_choice
from cplus1_keras.configs.needs import path_to
from cplus1_keras.experiment import Experiment
from cplus1_keras.tasks import MultiLabel

METHODS = ("bce", "asymmetric", "weighted", "hnc_mse", "hnc_kd", "ac", "ac_hnc_mse", "ac_hnc_kd")


def mini_splits(seed, root=None, unknown="animal"):
    """COCO mini, of whose training images a tenth watches and three tenths calibrate; its others test.

    All images that show the unknown class, one of person, vehicle, animal, tableware and furniture, are tests.
    """
    protocol = data.Protocol(data.protocols.lists()["coco_mini"], others="ignored", name="coco_mini_labels")
    folder = path_to("coco_mini", root)
    train, test = (data.sources.coco_mini(folder, part, kind="classes") for part in ("train", "val"))
    fractions = {"validation_fraction": 0.1, "calibration_fraction": 0.3}
    return data.split(protocol.hold_out(unknown), train, test, **fractions, seed=seed)


def coco_splits(seed, root=None, calibration_fraction=0.03):
    """COCO 2014: 40,504 images test; of 82,783 others one in a hundred watches and some calibrate."""
    folder = path_to("coco", root)
    train, test = (
        data.sources.coco_labels(folder / f"annotations/instances_{part}2014.json", folder / f"{part}2014")
        for part in ("train", "val")
    )
    fractions = {"validation_fraction": 0.01, "calibration_fraction": calibration_fraction}
    return data.split(data.protocols.coco(masks=False), train, test, **fractions, seed=seed)


def coco_mini_labels(method="hnc_mse", hnc=0.01, ac=0.1, root: str | None = None, unknown="animal", width=96):
    """COCO mini; 60 passes take one to two minutes on two quiet CPU cores.

    `hnc` and `ac` are weights of the terms, `root` and `unknown` go to `mini_splits`; images are `width` pixels a side.

    >>> coco_mini_labels(width=64).model(4).input_shape
    (None, 64, 64, 3)
    """
    check_choice("method", method, METHODS)
    terms = {"hnc_mse": hnc * losses.HNCMSELoss(top_k=2), "hnc_kd": hnc * losses.HNCKDLoss(top_k=2)}
    terms["ac"] = ac * losses.AttentionConsistencyLoss()
    channels = {"filters": (32, 64, 96, 128), "strides": (2, 2, 2, 1)}
    net = functools.partial(backbones.small_cnn, (width, width, 3), pool=False, **channels)
    change = data.augment.random_scale(1.0, 1.3), data.augment.random_crop(width), data.augment.random_flip()
    return Experiment(
        name=f"coco_mini_labels_{method}",
        task=MultiLabel(augment=data.augment.chain(*change)),
        data=functools.partial(mini_splits, root=root, unknown=unknown),
        model=functools.partial(cam_model, net=net, width=width, views=method.startswith("ac")),
        loss=functools.partial(set_loss, method=method, terms=terms),
        optimizer=functools.partial(keras.optimizers.AdamW, weight_decay=1e-2),
        learning_rate=2e-3,
        schedule=keras.optimizers.schedules.CosineDecay,
        epochs=60,
        batch_size=16,
        fpr=0.25,
    )


def coco_labels(
    method="hnc_mse", root: str | None = None, weights: str | None = "resnet101_imagenet", calibration_fraction=0.03
):
    """Rows of Table 4. docs/multilabel.md has the paper's figures, and says what the paper leaves open.

    `root` and `calibration_fraction` go to `coco_splits`, `weights` to `backbones.resnet`.

    >>> coco_labels("ac").batch_size
    24
    """
    check_choice("method", method, METHODS)
    # The weights of the papers' code, which adds up the classes of the cross-entropy and of all absent maps.
    terms = {"hnc_mse": 0.0007 * losses.HNCMSELoss(top_k=100), "hnc_kd": 0.0065 * losses.HNCKDLoss(top_k=100)}
    terms["ac"] = 0.6 * losses.AttentionConsistencyLoss() + 0.8 * losses.AttentionConsistencyLoss("smaller")
    views = method.startswith("ac")
    net = functools.partial(backbones.resnet, 101, (None, None, 3), pool=False, weights=weights)
    return Experiment(
        name=f"coco_labels_{method}",
        task=MultiLabel(augment=None if views else data.augment.random_flip()),
        data=functools.partial(coco_splits, root=root, calibration_fraction=calibration_fraction),
        model=functools.partial(cam_model, net=net, width=288, views=views, smaller=8 / 9),
        loss=functools.partial(set_loss, method=method, terms=terms, factor=80.0),
        optimizer=functools.partial(optimizers.SGDWithL2, momentum=0.9, l2=5e-4),
        learning_rate=1e-3,
        schedule=drop_twice,
        epochs=10,
        batch_size=24,
        fpr=0.05,
    )


def set_loss(splits, method, terms, factor=1.0):
    """The loss of a method for label sets; presence and absence weigh by how frequent classes are in training.

    `terms` has a loss for each part of `method` that asks for one; `factor` is that of the cross-entropy, which is the
    mean of those of the image and of each of its views.
    """
    known = splits.train.multi_hot
    rates = (known == 1).sum(axis=0) / (known >= 0).sum(axis=0).clip(1)
    simple = {"bce": losses.MultiLabelCrossEntropyLoss(), "asymmetric": losses.AsymmetricLoss()}
    own = simple.get(method) or losses.WeightedSigmoidLoss(rates)
    chosen = [term for name, term in terms.items() if f"_{name}_" in f"_{method}_"]
    views = [part.view for term in chosen for _, part in term.terms() if hasattr(part, "view")]
    parts = [own, *(own.of(f"{view}_") for view in views)]
    first, *others = [factor / len(parts) * part for part in parts] + chosen
    return functools.reduce(lambda total, term: total + term, others, first)


def cam_model(num_classes, net, width, views=False, smaller=None):
    """A backbone and a `CAMHead` for images of one size, seeing views of them in training where asked for."""
    model = models.classifier(num_classes, net, heads.CAMHead)
    images = keras.Input((width, width, 3))
    return models.OpenSetModel(images, (layers.Views(model, smaller) if views else model)(images))


def drop_twice(rate, steps):
    """A tenth of the rate after 6 of 10 epochs, and again after 8."""
    ends = [round(share * steps) for share in (0.6, 0.8)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(ends, [rate, rate / 10, rate / 100])
