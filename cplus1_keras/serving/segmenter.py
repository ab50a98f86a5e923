"""Answers for each pixel, in Python: tiles for large images, the flip test, and the SavedModel of the same answers."""

import keras
import numpy as np
import tensorflow as tf

from cplus1_keras.data.preprocessing import size_pair
from cplus1_keras.serving import segmentation
from cplus1_keras.serving.signatures import checked_names, warn_if_scaled


class Segmenter:
    """Answers for the pixels of images of any size; without tiles and flips, those of the SavedModel that it exports.

    Args:
        model: `keras.Model`, images (N, H, W, channels), 0..255 -> dict with `logits` (N, H, W, C or C+1).
        reject: A `cplus1_keras.layers.Reject` with a score that reads the logits alone, such as `log_odds`; features
            are coarser than pixels. A threshold of -inf accepts every pixel.
        class_names: Names of the known classes, in the order of the logits; "0", "1", ... where None.
        calibration: The `Calibration` of the threshold, kept as evidence; None if there is none.
        tile: None, or int or (height, width): larger images are cut into tiles of this size. The logits of pixels in
            several tiles are averaged.
        overlap: Share of a tile that the next one covers again, at least, in [0, 1).
        mirror: None, or the class of each known class in a mirrored image, as `protocol.mirror()` gives it: then the
            softmax of image and mirrored image are averaged (the flip test). Scores that read the logits get the
            logarithms of these probabilities.
        max_size: int or (height, width): the largest image that an exported SavedModel takes.

    Raises:
        ValueError: For a model without logits of each pixel, names, an overlap or a mirror that do not fit.

    Example:

    >>> images = keras.Input((None, None, 3))
    >>> model = keras.Model(images, heads.LinearHead(2)(images))
    >>> segmenter = Segmenter(model, layers.Reject(2, threshold=0.0), tile=512, overlap=0.25, mirror=(0, 1))
    >>> segmenter.predict(np.zeros((1, 20, 24, 3)))["class_id"].shape
    (1, 20, 24)

    Reference: the flip test and the sliding window of mmsegmentation; C+1 paper, Table 9.
    """

    def __init__(
        self, model, reject, class_names=None, calibration=None, tile=None, overlap=0.25, mirror=None, max_size=2048
    ):
        entries = segmentation.checked_entries(model, reject.num_classes)
        if not 0 <= overlap < 1:
            raise ValueError(f"`overlap` is a share of a tile, in [0, 1). Received: {overlap!r}")
        if mirror is not None and sorted(mirror) != [*range(reject.num_classes)]:
            raise ValueError(
                f"`mirror` names the class of each of {reject.num_classes} classes in a mirrored image, as "
                f"`protocol.mirror()` does. Received: {mirror}"
            )
        self.model = model
        self.reject = reject
        names = range(reject.num_classes) if class_names is None else class_names
        self.class_names = checked_names(names, reject.num_classes)
        self.image_shape = model.input_shape[1:]
        self.calibration = calibration
        self.max_size = size_pair(max_size)
        self.num_classes = reject.num_classes
        self.background = entries > reject.num_classes
        self.tile = None if tile is None else size_pair(tile)
        self.overlap = overlap
        self._swap = None if mirror is None else [*mirror, *range(reject.num_classes, entries)]
        channels = self.image_shape[-1]
        # Only the logits: what else the model gives is never computed. One trace serves images of every size.
        judged = keras.Model(model.input, model.output["logits"])
        self._logits = tf.function(
            lambda images: tf.cast(judged(images, training=False), tf.float32),
            input_signature=[tf.TensorSpec((None, None, None, channels), tf.float32)],
            autograph=False,
        )
        given = [tf.TensorSpec((None, None, None, entries), tf.float32), tf.TensorSpec((None,), tf.bool)]
        self._answers = tf.function(self._answers, input_signature=given, autograph=False)

    def predict(self, images):
        """Answers for the pixels of some images of one size.

        Args:
            images: (N, H, W, channels), pixels 0..255, integers or floats; N may be 0.

        Returns:
            Dict of arrays (N, H, W): `class_id` int32, a known class, or -1 where the score is below the threshold,
            which is what a pixel of the background should be; `score` float32, higher = more known; `known_argmax`
            int32, the known class with the largest logit, before any rejection; `argmax` int32, the class with the
            largest logit, C for the background, as mIoU counts it; `valid` bool, False where there is no score, which
            then is the lowest number: in images with a NaN or infinite pixel, and where the model gives NaN.

        Raises:
            ValueError: for images of another shape.
        """
        warn_if_scaled(images, stacklevel=3)
        images = self._checked(images)
        images, finite = segmentation.without_invalid(images)
        return {name: value.numpy() for name, value in self._answers(self._merged(images), finite).items()}

    def export(self, path, samples=None):
        """Writes a SavedModel for images up to `max_size`; see `cplus1_keras.serving.segmentation.export`.

        It answers in one piece, whatever `tile` and `mirror` are here.
        """
        segmentation.export(self.model, path, self.reject, self.class_names, self.max_size, samples=samples)

    def logits(self, images):
        """The logits that `predict` reads, averaged over tiles and mirrored images if that is asked for.

        Args:
            images: As for `predict`.

        Returns:
            Tensor (N, H, W, C or C+1) float32.
        """
        return self._merged(self._checked(images))

    def _checked(self, images):
        images, channels = tf.cast(images, tf.float32), self.image_shape[-1]
        if images.shape.rank != 4 or images.shape[-1] != channels:
            hint = " Add a batch axis: images[None]." if images.shape.rank == 3 else ""
            raise ValueError(f"`images` must be (N, H, W, {channels}). Received: {tuple(images.shape)}.{hint}")
        return images

    def _merged(self, images):
        if not len(images):  # oneDNN's convolutions fail on an empty batch
            entries = self.num_classes + self.background
            return tf.zeros((*images.shape[:3], entries))
        logits = self._tiled(images)
        if self._swap is None:
            return logits
        mirrored = tf.gather(tf.reverse(self._tiled(tf.reverse(images, [2])), [2]), self._swap, axis=-1)
        both = tf.stack([tf.nn.log_softmax(logits), tf.nn.log_softmax(mirrored)])
        return tf.reduce_logsumexp(both, axis=0) - tf.math.log(2.0)

    def _tiled(self, images):
        size = images.shape[1:3]
        if self.tile is None or all(have <= most for have, most in zip(size, self.tile, strict=True)):
            return self._of_size(self._logits(images), size)
        rows, columns = (_starts(have, most, self.overlap) for have, most in zip(size, self.tile, strict=True))
        total, times = None, np.zeros((*size, 1), "float32")
        for top in rows:
            for left in columns:
                place = slice(top, top + self.tile[0]), slice(left, left + self.tile[1])
                tile = images[:, place[0], place[1]]
                logits = self._of_size(self._logits(tile), tile.shape[1:3]).numpy()
                if total is None:
                    total = np.zeros((len(logits), *size, logits.shape[-1]), "float32")
                total[:, place[0], place[1]] += logits
                times[place] += 1
        return tf.constant(total / times)

    def _answers(self, logits, finite):
        argmaxes = {"known_argmax": logits[..., : self.num_classes], "argmax": logits}
        return segmentation.answered(self.reject, logits, finite) | {
            name: tf.argmax(values, axis=-1, output_type=tf.int32) for name, values in argmaxes.items()
        }

    @staticmethod
    def _of_size(logits, size):
        if logits.shape[1:3] != size:
            raise ValueError(
                f"The model must give logits of its images' size, {tuple(size)}. Received: {tuple(logits.shape[1:3])}. "
                "`models.segmentation_model` builds such models."
            )
        return logits


def _starts(size, tile, overlap):
    """Where tiles begin along an axis: as few as overlap enough, spread evenly from the first pixel to the last."""
    if size <= tile:
        return [0]
    step = max(1, int(tile * (1 - overlap)))
    number = -(-(size - tile) // step) + 1
    return [i * (size - tile) // (number - 1) for i in range(number)]
