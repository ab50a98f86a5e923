"""What the segmentation configs share: classifiers with centres, losses on pixels, models, unpacked data."""

import functools
import os
import pathlib
import tempfile
import zipfile

from cplus1_keras import backbones, heads, layers, losses, models
from cplus1_keras.optimizers import SGDWithL2


def moving_average(head):
    """Centres that are moving averages of L2-normalised features: the paper's choice."""
    return layers.MovingAverageCenters(head.num_classes)


def learnable(head):
    """Centres that are learned with the net."""
    return layers.LearnableCenters(head.num_classes, name="centers")


def shared(head):
    """Centres that are the classifier's own weights."""
    return layers.SharedCenters(head)


CENTERS = {"moving_average": moving_average, "learnable": learnable, "shared": shared}
"""The rows of Table 2."""


def classifier(num_classes, centers=None):
    """A linear classifier of pixels over C + 1 classes, with a bias as in mmsegmentation, and centres on its outputs.

    Args:
        num_classes: C.
        centers: Function from the head to a layer of centres, or None.

    Returns:
        Function from features to named outputs.

    >>> classifier(20, moving_average)(np.ones((1, 4, 4, 8), "float32"))["logits"].shape.as_list()
    [1, 4, 4, 21]
    """
    head = heads.LinearHead(num_classes, use_bias=True, background=True)
    if centers is None:
        return head
    layer = centers(head)
    return lambda features: layer(head(features))


def pixel_loss(compactness=0.0, background=0.0, auxiliary=False, margin=1.0, class_reduction="mean"):
    """The C+1 loss on pixels; a weight of 0 leaves a term out, so that it and its centres cost nothing.

        L = L_separability + α L_compact + β L_background + 0.4 L_auxiliary

    Args:
        compactness: α >= 0.
        background: β >= 0.
        auxiliary: Whether the model has an auxiliary classifier, which learns from a cross-entropy of its own.
        margin, class_reduction: As in `losses.BackgroundMarginLoss`.

    Returns:
        A loss.

    >>> [(weight, term.name) for weight, term in pixel_loss(0.1, auxiliary=True).terms()]
    [(1.0, 'background_cross_entropy'), (0.1, 'compactness'), (0.4, 'auxiliary')]

    Reference: C+1 loss (2022), Eq 1.
    """
    loss = losses.BackgroundCrossEntropyLoss()
    if compactness:
        loss = loss + compactness * losses.CompactnessLoss()
    if background:
        loss = loss + background * losses.BackgroundMarginLoss(margin, class_reduction=class_reduction)
    if auxiliary:
        own = losses.BackgroundCrossEntropyLoss().of("auxiliary_", name="auxiliary")
        loss = loss + models.AUXILIARY_WEIGHT * own
    return loss


def method(name, centers, compactness, background, **margin):
    """Centres and loss by names, for a command line: the rows of Table 1, with the centres of Table 2.

    Args:
        name: "softmax", "compactness" or "cplus1".
        centers: A key of `CENTERS`.
        compactness, background, **margin: As in `pixel_loss`; those that the method does not have are left out.

    Returns:
        Pair of the function that makes the centres, or None, and the loss.

    Raises:
        ValueError: For another name.

    >>> method("softmax", "moving_average", 0.1, 1e-4)[0] is None
    True
    """
    weights = {"softmax": (0.0, 0.0), "compactness": (compactness, 0.0), "cplus1": (compactness, background)}
    for what, key, allowed in (("method", name, weights), ("centers", centers, CENTERS)):
        if key not in allowed:
            raise ValueError(f"`{what}` is one of {', '.join(allowed)}. Received: {key!r}")
    return None if name == "softmax" else CENTERS[centers], pixel_loss(*weights[name], **margin)


def deeplab(num_classes, centers=None, depth=50, output_stride=8, weights=None):
    """DeepLabV3+ on a dilated ResNet with an auxiliary classifier, as mmsegmentation has it.

    >>> model = deeplab(20, moving_average, weights="resnet50_imagenet")  # doctest: +SKIP
    """
    backbone = backbones.dilated_resnet(depth, output_stride, weights=weights)
    return models.deeplab_v3_plus(backbone, classifier(num_classes, centers), classifier(num_classes))


def hrnet(num_classes, centers=None, width=48, weights=None):
    """HRNetV2 with its own classifier; `weights` is a file that `save_weights` of such a backbone wrote, or None.

    >>> model = hrnet(20, moving_average, width=18)  # doctest: +SKIP
    """
    return models.hrnet_fcn(_hrnet(width, weights), classifier(num_classes, centers))


def ocrnet(num_classes, centers=None, width=48, weights=None):
    """OCRNet on HRNetV2; `weights` as in `hrnet`.

    >>> model = ocrnet(20, moving_average, width=18)  # doctest: +SKIP
    """
    backbone = _hrnet(width, weights)
    return models.ocrnet(backbone, classifier(num_classes, centers), classifier(num_classes))


def small_deeplab(num_classes, centers=None):
    """DeepLabV3+ for a CPU: ResNet-18 with thin last stages at stride 16, 96 channels, no auxiliary classifier.

    >>> small_deeplab(8).count_params() < 2_000_000
    True
    """
    backbone = backbones.dilated_resnet(18, 16, widths=(64, 64, 96, 128))
    return models.deeplab_v3_plus(backbone, classifier(num_classes, centers), channels=96)


def sgd(l2=5e-4):
    """The paper's optimizer, without its learning rate.

    >>> sgd()(0.01).momentum
    0.9
    """
    return functools.partial(SGDWithL2, momentum=0.9, l2=l2)


def unpacked(path):
    """A data set's folder: `path` itself, or for a zip file a folder in the user's cache, unpacked once.

    Args:
        path: Folder or zip file.

    Returns:
        `pathlib.Path`.

    Raises:
        FileNotFoundError: There is nothing at `path`.

    >>> unpacked("../shared/data/camvid_seg/camvid_256x192.zip")  # doctest: +SKIP
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return path
    if not path.is_file():
        raise FileNotFoundError(
            f"No data set at {path} (looked from {pathlib.Path.cwd()}): needs a folder or a zip file. Say where it is, "
            "for example --set root=/data/camvid"
        )
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cplus1_keras"
    folder = cache / f"{path.stem}-{path.stat().st_size}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as partial, zipfile.ZipFile(path) as archive:
            archive.extractall(pathlib.Path(partial) / "files")
            if not folder.is_dir():
                (pathlib.Path(partial) / "files").rename(folder)
    return folder


def _hrnet(width, weights):
    backbone = backbones.hrnet(width)
    if weights is not None:
        backbone.load_weights(weights)
    return backbone


def named(config, name, title):
    """A config made by a function that makes one for each row of a table, under its own name and docstring.

    Args:
        config: The inner function, annotated to return an `Experiment`.
        name: Name of the config.
        title: The table, the row, what it trains, and the paper's figures: a line for `configs.listing`.

    Returns:
        `config`.

    >>> named(lambda: None, "table1_softmax", "Table 1, first row.").__name__
    'table1_softmax'
    """
    config.__name__ = config.__qualname__ = name
    config.__doc__ = title
    return config
