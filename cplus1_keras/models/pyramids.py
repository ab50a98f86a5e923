"""Feature pyramids: maps of as many channels at every stride, from the maps of any backbone."""

import math

import keras
from keras import layers

from cplus1_keras.backbones.outputs import check_choice
from cplus1_keras.layers.resizing import RepeatLike


def pyramid(backbone, levels=(3, 4, 5, 6, 7), channels=256, extra="on_output"):
    """The maps P_l, for each level l one with stride 2^l.

    A 1x1 convolution brings the backbone's map of each level to `channels`; from the coarsest on, each is enlarged
    twofold and added to the next finer one; a 3x3 convolution makes the level's map. Levels beyond the backbone's are
    3x3 convolutions of stride 2, one on the other, with a ReLU between. Images may have any size: a map halves an odd
    side upwards, and its enlarged copy is cut.

    Args:
        backbone: `keras.Model` from images to a list of maps, such as `backbones.dilated_resnet(50, 32)`,
            `backbones.resnext` or `backbones.hrnet`, to one map, or one of keras-cv's with `pyramid_level_inputs`:
            `backbones.resnet_v2`, `densenet` or `efficientnet_v2` with `pool=False`. (The inner layers of its
            `mobilenet_v3` and `mit` do not survive saving on their own.)
        levels: Levels without a gap, fine to coarse; the backbone must have the finest.
        channels: Of every map.
        extra: What the first level beyond the backbone's is made of: "on_output", the pyramid's last map (FCOS), or
            "on_input", the backbone's (RetinaNet). "every_second": each is every second cell of the one before, without
            a convolution (Faster R-CNN).

    Returns:
        List of symbolic maps (N, h, w, channels), one for each level.

    Raises:
        ValueError: Levels with a gap, or finer or far coarser than those of the backbone.

    Reference: T.-Y. Lin et al., "Feature pyramid networks for object detection", CVPR 2017; T.-Y. Lin et al., "Focal
    loss for dense object detection", ICCV 2017; as in the `FPN` of mmdetection.

    >>> backbone = backbones.dilated_resnet(18, 32, input_shape=(100, 70, 3))
    >>> [tuple(x.shape[1:]) for x in models.pyramid(backbone, levels=(4, 5, 6), channels=8)]
    [(7, 5, 8), (4, 3, 8), (2, 2, 8)]
    """
    check_choice("extra", extra, ("on_output", "on_input", "every_second"))
    maps, levels = backbone_levels(backbone), [int(level) for level in levels]
    given = [level for level in levels if level in maps]
    whole = levels == list(range(levels[0], levels[0] + len(levels))) if levels else False
    if not whole or levels[0] not in maps or given != levels[: len(given)]:
        raise ValueError(
            f"`levels` must follow one another, like (3, 4, 5), and start with one of the backbone's, {sorted(maps)} "
            f"({backbone.name!r}). Received: levels={levels}"
        )
    merged = {}
    for level in reversed(given):
        x = layers.Conv2D(channels, 1, name=f"lateral{level}")(maps[level])
        if merged:
            above = RepeatLike(name=f"enlarged{level + 1}")([merged[level + 1], x])
            x = layers.Add(name=f"merged{level}")([x, above])
        merged[level] = x
    found = [layers.Conv2D(channels, 3, padding="same", name=f"p{level}")(merged[level]) for level in given]
    x = maps[given[-1]] if extra == "on_input" else found[-1]
    for number, level in enumerate(levels[len(given) :]):
        if extra == "every_second":
            x = layers.MaxPooling2D(1, 2, name=f"p{level}")(x)
            found.append(x)
            continue
        x = layers.ReLU(name=f"p{level - 1}_relu")(x) if number else x
        # The same zeros on all sides, as in backbones/convolutions.
        x = layers.Conv2D(channels, 3, 2, name=f"p{level}")(layers.ZeroPadding2D(1, name=f"p{level}_pad")(x))
        found.append(x)
    return found


def backbone_levels(backbone):
    """The maps of a backbone by level, {l: map of stride 2^l}; of several at one stride the deepest.

    >>> sorted(backbone_levels(backbones.hrnet(4)))
    [2, 3, 4, 5]
    """
    if getattr(backbone, "pyramid_level_inputs", None):
        maps = [backbone.get_layer(name).output for name in backbone.pyramid_level_inputs.values()]
    else:
        maps = backbone.output if isinstance(backbone.output, list) else [backbone.output]
    if any(len(getattr(x, "shape", ())) != 4 for x in maps):
        raise ValueError(
            "A pyramid needs a backbone that gives maps (N, h, w, K), such as backbones.dilated_resnet(50, 32). "
            f"Received: {backbone.name!r} with output {backbone.output}"
        )
    _, height, width, channels = backbone.input_shape
    shape = (1, height or 512, width or 512, channels)
    sides = [found[1] for found in keras.Model(backbone.input, maps).compute_output_shape(shape)]
    return {round(math.log2(shape[1] / side)): x for side, x in zip(sides, maps, strict=True)}
