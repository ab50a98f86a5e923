"""Detectors: a backbone, a pyramid, and at each of its points a class, a box and how central the point is in it."""

import keras
from keras import initializers, layers

from cplus1_keras.backbones.outputs import check_choice
from cplus1_keras.layers.hooks import no_half
from cplus1_keras.layers.points import BoxOffsets, FCOSPoints
from cplus1_keras.layers.resizing import RescalePoints, ScaleWithin
from cplus1_keras.models.classifiers import check_makers
from cplus1_keras.models.open_set import OpenSetModel
from cplus1_keras.models.pyramids import pyramid


def fcos(
    num_classes,
    backbone,
    head,
    levels=(3, 4, 5, 6, 7),
    channels=256,
    tower=4,
    groups=32,
    regress_ranges=None,
    center_radius=1.5,
    centerness="regression",
    activation="exponential",
    extra="on_output",
    name="fcos",
):
    """FCOS: a fully convolutional one-stage detector, of which each cell of a pyramid predicts a class and a box.

    Two towers of 3x3 convolutions with group normalisation and ReLU, shared by all levels, one for classes, one for
    boxes. The head classifies the features of the first at each point, as any classifier of the package: centres,
    margins and the C+1 loss are those of images and pixels. The published network classifies by a 3x3 convolution, in
    which no one vector could be near a centre; that is the one difference in size. Trainable parameters with 80 classes
    on `dilated_resnet(50, 32)`: 32,131,482 with sigmoids and 32,131,739 with a background, where mmdetection's
    `fcos_r50_caffe_fpn_gn-head` has 32,295,322 (of which it freezes 275,520 in the backbone); on `resnext()` 90,029,722
    and 90,029,979.

    Args:
        num_classes: C, the number of known classes.
        backbone: Function of no argument that gives a backbone for `pyramid`.
        head: Function from C to a head, or to any function from features (N, L, channels) to named outputs, such as a
            head followed by centres. Where knowns are rare a head has a prior: `functools.partial(heads.LinearHead,
            background=True, use_bias=True, prior=0.01)` for the C+1 loss, without background for sigmoids.
        levels, channels, extra: As `pyramid`.
        tower: Convolutions of each tower.
        groups: Of the group normalisation; they divide `channels`.
        regress_ranges, center_radius: As `layers.FCOSPoints`.
        centerness: The tower beside whose output centerness is predicted, "regression", or "classification" as in the
            first publication.
        activation: As `layers.BoxOffsets`.
        name: The model's name.

    Returns:
        `OpenSetModel`, not compiled: images (N, H, W, channels) of any size, 0..255 -> what the head gives for each of
        the L points of all levels, fine to coarse and row by row, `features` (N, L, channels) and `logits`
        (N, L, C or C + 1) among it; `box_offsets` (N, L, 4), the distances from the point to the left, upper, right and
        lower side of its box, pixels; `centerness` (N, L), logits; `points` (N, L, 3): x, y, stride. It trains on
        `boxes` and `box_labels`, see `layers.FCOSPoints`.

    Raises:
        TypeError: A model or a head where a function that makes one is wanted.
        ValueError: As `pyramid` and the layers; outputs that are no classifier's of C classes.

    Reference: Tian et al., "FCOS: fully convolutional one-stage object detection", ICCV 2019; as in the `FCOSHead` of
    mmdetection. Its first settings are `center_radius=None, centerness="classification"` and `losses.IoULoss`.

    >>> backbone = lambda: backbones.dilated_resnet(18, 32, widths=(32, 32, 64, 64))
    >>> head = lambda c: heads.LinearHead(c, background=True, use_bias=True, prior=0.01)
    >>> model = fcos(3, backbone, head, levels=(3, 4, 5), channels=32, tower=1, groups=8)
    >>> outputs = model(np.zeros((1, 64, 96, 3), "float32"))  # 8 * 12 + 4 * 6 + 2 * 3 points
    >>> {name: tuple(tensor.shape[1:]) for name, tensor in outputs.items() if name != "features"}
    {'logits': (126, 4), 'box_offsets': (126, 4), 'centerness': (126,), 'points': (126, 3)}
    >>> model.compile("sgd", losses.cplus1().per_known() + losses.GIoULoss() + losses.CenternessLoss())
    """
    check_makers(backbone, head)
    check_choice("centerness", centerness, ("regression", "classification"))
    net, strides = backbone(), [2**level for level in levels]
    maps = pyramid(net, levels, channels, extra)
    classes, boxes = (_tower(maps, tower, groups, f"{kind}_tower") for kind in ("class", "box"))
    outputs = head(num_classes)(_flatten(classes, channels, "features"))
    logits = getattr(outputs.get("logits"), "shape", ()) if isinstance(outputs, dict) else ()
    if len(logits) != 3 or logits[-1] not in (num_classes, num_classes + 1):
        raise ValueError(
            f"A head for {num_classes} classes of points gives a dict with `logits` (N, L, {num_classes}), or one more "
            f"with the background last. Received: {outputs}"
        )
    beside = boxes if centerness == "regression" else classes
    outputs = {
        **outputs,
        "box_offsets": BoxOffsets(strides, activation, name="box_offsets")(_predict(boxes, 4, "box")),
        "centerness": _flatten(_predict(beside, 1, "centerness"), None, "centerness"),
        "points": FCOSPoints(strides, regress_ranges, center_radius, name="points")(maps),
    }
    return OpenSetModel(net.input, outputs, name=name)


def scale_boxes(model, base, keep_ratio=True):
    """A trained detector behind `ScaleWithin`, with points and distances in pixels of the images that it was given.

    `base` and `keep_ratio` are those of `ScaleWithin`; a base of None gives `model` itself.

    >>> backbone = lambda: backbones.small_cnn((None, None, 3), filters=(4,), strides=(2,), pool=False)
    >>> model = fcos(3, backbone, heads.LinearHead, levels=(1,), channels=8, tower=1, groups=2)
    >>> outputs = scale_boxes(model, (16, 24))(np.ones((1, 32, 48, 3), "float32"))
    >>> np.array(outputs["points"])[0, 0].tolist()  # in an image of 16 x 24 it is (1, 1)
    [2.0, 2.0, 2.0]
    """
    if base is None:
        return model
    images = keras.Input((None, None, model.input_shape[-1]), name="images")
    scaled = ScaleWithin(base, keep_ratio, name="scale_within")(images)
    outputs = model(scaled)
    names = ["features", "logits", "centerness", *(name for name in outputs if name.startswith(("map", "image_size")))]
    found = {name: outputs[name] for name in names if name in outputs}
    for name in [name for name in ("points", "box_offsets", "roi_boxes") if name in outputs]:
        found[name] = RescalePoints(name=f"{name}_in_pixels")([outputs[name], scaled, images])
    return keras.Model(images, found, name=model.name)


def _tower(maps, depth, groups, name):
    """The maps after the same convolutions, with group normalisation and ReLU."""
    for step in range(1, depth + 1):
        options = {"padding": "same", "use_bias": False, "kernel_initializer": _small()}
        conv = layers.Conv2D(maps[0].shape[-1], 3, **options, name=f"{name}_{step}_conv")
        norm = layers.GroupNormalization(groups, epsilon=1e-5, name=f"{name}_{step}_norm")
        relu = layers.ReLU(name=f"{name}_{step}_relu")
        maps = [relu(norm(conv(x))) for x in maps]
    return maps


def _predict(maps, channels, name):
    conv = layers.Conv2D(channels, 3, padding="same", kernel_initializer=_small(), name=f"{name}_conv")
    return [conv(x) for x in maps]


def _flatten(maps, channels, name):
    """Maps (N, h, w, channels) as points (N, L, channels), or of one channel as (N, L) where `channels` is None."""
    shape = (-1,) if channels is None else (-1, channels)
    options = {"dtype": no_half(None)}  # outputs are float32 in mixed precision
    rows = [layers.Reshape(shape, **options, name=f"{name}_{number}")(x) for number, x in enumerate(maps, start=1)]
    return layers.Concatenate(axis=1, **options, name=name)(rows) if len(rows) > 1 else rows[0]


def _small():
    return initializers.RandomNormal(stddev=0.01)
