"""An example's image moved, and what is annotated in it moved alike: label maps (H, W) and boxes (M, 4) in pixels."""

import tensorflow as tf

from cplus1_keras.labels import IGNORE, NEGATIVE

_LABELS = ("labels", "box_labels")
_BOXES = ("boxes", "mask_boxes")  # masks lie in boxes of their own, which no crop cuts


def resize(example, size):
    """Resize to (height, width), the image bilinear, label maps by nearest neighbour at the pixels' centres.

    Without antialiasing, as mmsegmentation does: the layers that resize within models of pixels and boxes do the same,
    so that what is trained is what is judged and served. Images that are classified are resized by `images.preprocess`.

    >>> resize({"image": tf.zeros([2, 2, 3]), "labels": tf.constant([[0, 1], [2, 3]])}, [1, 4])["labels"].numpy()
    array([[2, 2, 3, 3]], dtype=int32)
    """
    return resize_annotations(example, size) | {"image": tf.image.resize(example["image"], size)}


def resize_annotations(example, size):
    """The example with its label map or boxes at another size (height, width), its image as it is."""
    example = dict(example)
    if _has_map(example):
        example["labels"] = tf.image.resize(example["labels"][..., tf.newaxis], size, method="nearest")[..., 0]
    for key in _present(example, _BOXES):
        factor = tf.cast(size, tf.float32) / tf.cast(tf.shape(example["image"])[:2], tf.float32)
        example[key] *= tf.tile(factor[::-1], [2])
    return example


def flip(example, mirror=None):
    """Mirror an example left to right; `mirror` as in `random_flip`.

    >>> flip({"image": tf.zeros([1, 2, 3]), "labels": tf.constant([[0, -1]])}, mirror=(1, 0))["labels"].numpy()
    array([[-1,  1]], dtype=int32)
    """
    example = _everywhere(example, lambda pixels: tf.reverse(pixels, axis=[1]))
    for key in _present(example, _BOXES):
        left, top, right, bottom = tf.unstack(example[key], axis=1)
        width = tf.cast(tf.shape(example["image"])[1], tf.float32)
        example[key] = tf.stack([width - right, top, width - left, bottom], axis=1)
    if "masks" in example:
        example["masks"] = tf.reverse(example["masks"], axis=[2])
    if mirror is None:
        return example
    for key in _LABELS:
        if key in example:
            other = tf.gather(tf.constant(mirror, tf.int32), tf.maximum(example[key], 0))
            example[key] = tf.where(example[key] >= 0, other, example[key])
    if "multi_hot" in example:
        example["multi_hot"] = tf.gather(example["multi_hot"], mirror)
    return example


def crop(example, top, left, height, width, min_share):
    """Cut out a window, as far as it lies in the image. Boxes are cut to it.

    A box that is gone is left out; where less than the share `min_share` of a known object's area is left, the rest is
    ignored: it is neither an object to be found nor background.
    """
    example = _everywhere(example, lambda pixels: pixels[top : top + height, left : left + width])
    if "boxes" not in example:
        return example
    moved = {key: example[key] - tf.cast(tf.stack([left, top] * 2), tf.float32) for key in _present(example, _BOXES)}
    boxes = moved["boxes"]
    limit = tf.cast(tf.tile(tf.shape(example["image"])[1::-1], [2]), tf.float32)
    inside = tf.clip_by_value(boxes, 0.0, limit)
    share = tf.math.divide_no_nan(_area(inside), _area(boxes))
    labels = example["box_labels"]
    # The rest of a background object is background.
    labels = tf.where((share >= min_share) | (labels == NEGATIVE), labels, IGNORE)
    masks = {key: example[key] for key in _present(example, ["masks"])}
    found = {**masks, **moved, "boxes": inside, "box_labels": labels}
    return example | {key: tf.boolean_mask(values, share > 0) for key, values in found.items()}


def enlarge(example, sides, colour):
    """The example with more pixels on its sides: of the image of one colour, of label maps IGNORE.

    `sides` is [[top, bottom], [left, right]].
    """
    # Strips beside the image: a mask of where it is, and a choice between it and the colour, takes five times as long.
    image, colour = example["image"], tf.constant(colour, tf.float32)
    for axis, amounts in enumerate(sides):
        shape = tf.shape(image)
        shapes = [tf.concat([shape[:axis], [amount], shape[axis + 1 :]], 0) for amount in amounts]
        before, after = (tf.broadcast_to(colour, shape) for shape in shapes)
        image = tf.concat([before, image, after], axis)
    example = example | {"image": image}
    if _has_map(example):
        example["labels"] = tf.pad(example["labels"], sides, constant_values=IGNORE)
    for key in _present(example, _BOXES):
        (top, _), (left, _) = sides
        example[key] += tf.cast(tf.stack([left, top, left, top]), tf.float32)
    return example


def ensure_size(example, height, width):
    """The example, whose image and label map have this size, with static shapes that say so."""
    return _everywhere(example, lambda pixels: tf.ensure_shape(pixels, [height, width, *pixels.shape[2:]]))


def _present(example, keys):
    return [key for key in keys if key in example]


def _has_map(example):
    return "labels" in example and example["labels"].shape.rank == 2


def _everywhere(example, change):
    maps = ["image", "labels"] if _has_map(example) else ["image"]
    return example | {key: change(example[key]) for key in maps}


def _area(boxes):
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
