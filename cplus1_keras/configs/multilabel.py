"""Label sets: a few hundred images of COCO for a CPU, and Table 4 of the HNC paper at its size."""

import functools

import keras

from cplus1_keras import backbones, data, heads, layers, losses, models, optimizers
from cplus1_keras.configs.segmentation import unpacked
from cplus1_keras.experiment import Experiment
from cplus1_keras.tasks import MultiLabel

METHODS = ("bce", "weighted", "asymmetric", "hnc_mse", "hnc_kd", "ac", "ac_hnc_mse", "ac_hnc_kd")


def coco_mini_labels(
    root, method="hnc_mse", unknown="animal", hnc_mse=0.01, hnc_kd=0.02, ac=0.1, size=96, seed=0
) -> Experiment:
    """COCO, 267 images: sets of 4 merged classes, another one unknown, a small net. A smoke test in two minutes.

    `method` is one of bce, weighted, asymmetric, hnc_mse, hnc_kd, ac, ac_hnc_mse, ac_hnc_kd; `hnc_mse`, `hnc_kd`, `ac`
    are the weights of its terms; `unknown` is person, vehicle, animal, tableware or furniture.
    """
    take = functools.partial(mini_splits, root=root, unknown=unknown)
    terms = {"hnc_mse": hnc_mse * losses.HNCMSELoss(top_k=2), "hnc_kd": hnc_kd * losses.HNCKDLoss(top_k=2)}
    terms["ac"] = ac * losses.AttentionConsistencyLoss()
    backbone = functools.partial(
        backbones.small_cnn, (size, size, 3), filters=(32, 64, 96, 128), strides=(2, 2, 2, 1), pool=False
    )
    return Experiment(
        name=f"coco_mini_labels_{method}",
        task=MultiLabel(augment=augment(size, 1.3)),
        data=take,
        model=functools.partial(model, backbone=backbone, size=size, views=method.startswith("ac")),
        loss=loss(method, take(seed).train, terms),
        optimizer=functools.partial(keras.optimizers.AdamW, weight_decay=1e-2),
        learning_rate=2e-3,
        schedule=keras.optimizers.schedules.CosineDecay,
        epochs=60,
        batch_size=16,
        fpr=0.25,
        seed=seed,
    )


def coco_labels(
    root, method="hnc_mse", weights="resnet101_imagenet", size=288, calibration_fraction=0.03, seed=0
) -> Experiment:
    """COCO 2014, 80 classes, ResNet-101 at 288 x 288: the rows of Table 4 of the HNC paper. For a GPU.

    `method` is weighted (the baseline), hnc_mse, hnc_kd, ac, ac_hnc_mse or ac_hnc_kd; `weights` those of the backbone:
    a preset, a folder or None. docs/multilabel.md has the paper's figures, and says what it leaves open.
    """
    take = functools.partial(splits, root=root, calibration_fraction=calibration_fraction)
    views = method.startswith("ac")
    # The weights of the authors' code are for sums over the classes, of a cross-entropy and of the maps of k = 100.
    terms = {"hnc_mse": 0.0007 * losses.HNCMSELoss(top_k=100), "hnc_kd": 0.0065 * losses.HNCKDLoss(top_k=100)}
    terms["ac"] = 0.6 * losses.AttentionConsistencyLoss() + 0.8 * losses.AttentionConsistencyLoss("smaller")
    backbone = functools.partial(backbones.resnet, 101, (None, None, 3), pool=False, weights=weights)
    return Experiment(
        name=f"coco_labels_{method}",
        task=MultiLabel(augment=None if views else data.augment.random_flip()),
        data=take,
        model=functools.partial(model, backbone=backbone, size=size, views=views, smaller=8 / 9),
        loss=loss(method, take(seed).train, terms, factor=80.0),
        optimizer=functools.partial(optimizers.SGDWithL2, momentum=0.9, l2=5e-4),
        learning_rate=1e-3,
        schedule=drop_twice,
        epochs=10,
        batch_size=24,
        fpr=0.05,
        seed=seed,
    )


def loss(method, train, terms, factor=1.0):
    """The loss of a method: a cross-entropy of the classes, of each view where there are some, and its terms."""
    if method not in METHODS:
        raise ValueError(f"`method` is one of {', '.join(METHODS)}. Received: method={method!r}")
    simple = {"bce": losses.MultiLabelCrossEntropyLoss(), "asymmetric": losses.AsymmetricLoss()}
    own = simple.get(method) or losses.WeightedSigmoidLoss(positive_rates(train))
    chosen = [term for name, term in terms.items() if f"_{name}_" in f"_{method}_"]
    views = [view for term in chosen for _, part in term.terms() if (view := getattr(part, "view", None))]
    classified = sum((own.of(f"{view}_") for view in views), own) * (factor / (1 + len(views)))
    return sum(chosen, classified)


def model(num_classes, backbone, size, views=False, smaller=None):
    """A classifier with activation maps, which sees views of its images in training where asked for."""
    net = models.classifier(num_classes, backbone, heads.CAMHead)
    if not views and net.input_shape[1] == size:
        return net
    images = keras.Input((size, size, 3))
    return models.OpenSetModel(images, (layers.Views(net, smaller) if views else net)(images))


def positive_rates(split):
    """For each class the share of the annotated images of a split that show it."""
    present, annotated = (split.multi_hot == 1).sum(axis=0), (split.multi_hot >= 0).sum(axis=0)
    return (present / annotated.clip(1)).tolist()


def augment(size, zoom):
    """Random scale up to `zoom`, crop and flip of images of one size."""
    steps = data.augment.random_scale(1.0, zoom), data.augment.random_crop(size), data.augment.random_flip()
    return data.augment.chain(*steps)


def drop_twice(rate, steps):
    """A tenth of the rate after 6 of 10 epochs, and again after 8."""
    ends = [round(steps * share) for share in (0.6, 0.8)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(ends, [rate, rate / 10, rate / 100])


def mini_splits(seed, root, unknown="animal"):
    """COCO mini: three quarters of its training images without the unknown class train and watch, the rest calibrates.

    All images with the unknown class, and the other 66, test.

    Args:
        seed: Of the splits.
        root: Folder, or zip file, with `annotations`, `train` and `val`.
        unknown: The merged class that only the test shows.
    """
    folder, groups = unpacked(root), data.protocols.lists()["coco_mini"]
    protocol = data.Protocol(groups, others="ignored", name="coco_mini_labels").hold_out(unknown)
    train, test = (
        data.sources.coco_labels(next(folder.glob(f"annotations/instances_{part}*.json")), folder / part)
        for part in ("train", "val")
    )
    return data.split(protocol, train, test, validation_fraction=0.1, calibration_fraction=0.3, seed=seed)


def splits(seed, root, calibration_fraction=0.03):
    """COCO 2014: its validation images test, a part of its training images watches and calibrates.

    Args:
        seed: Of the splits.
        root: Folder with `annotations`, `train2014` and `val2014`, from cocodataset.org.
        calibration_fraction: Part of the training images.
    """
    folder = unpacked(root)
    train, test = (
        data.sources.coco_labels(folder / f"annotations/instances_{part}2014.json", folder / f"{part}2014")
        for part in ("train", "val")
    )
    protocol = data.protocols.coco(masks=False)
    return data.split(
        protocol, train, test, validation_fraction=0.01, calibration_fraction=calibration_fraction, seed=seed
    )
