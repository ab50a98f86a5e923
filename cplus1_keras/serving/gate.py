"""What a SavedModel is asked before it gets its name: requests of people who err."""

import numpy as np
import tensorflow as tf

from cplus1_keras.images import preprocess

_BROKEN = b"\x89PNG\r\n\x1a\n, and then nothing"


def try_requests(predictor, signatures, samples):
    """Raises ValueError unless a SavedModel refuses wrong shapes, and answers encoded images with a broken one.

    `signatures` are its functions by name, `samples` images (N, H, W, channels) of the spec's dtype.
    """
    _try_wrong_shapes(signatures["serving_default"], samples[:1], predictor)
    if "predict_bytes" in signatures:
        _try_bytes(signatures, np.rint(samples).astype("uint8"), predictor)


def _try_wrong_shapes(serve, sample, predictor):
    wrong = [sample[0], np.concatenate([sample, sample[..., :1]], axis=-1)]
    for axis, known in enumerate(predictor.image_shape[:2], start=1):
        most = predictor.spec.max_size[axis - 1] if predictor.spec.max_size else 0
        if known is not None or most:
            wrong.append(np.repeat(sample.take([0], axis), (known or most) + 1, axis))
    for images in wrong:
        try:
            serve(images=tf.constant(images))
        except (tf.errors.OpError, TypeError, ValueError):
            continue
        needs = f"images of shape (N, {', '.join(map(str, predictor.image_shape))})"
        raise ValueError(f"The SavedModel must refuse all but {needs}. It answers for {images.shape}.")


def _try_bytes(signatures, samples, predictor):
    """Encoded images must be answered as their pixels, prepared as in training, with a broken one among them."""
    (*size, channels), spec = predictor.image_shape, predictor.spec
    one_size = None not in predictor.image_shape
    if spec.max_size is None:  # images of any size are made the model's: beside its mirror image, each is resized
        samples = np.concatenate([samples, samples[:, :, ::-1]], axis=2)
    contents = [tf.io.encode_png(image).numpy() for image in samples]
    contents.insert(1, _BROKEN)
    served = {name: x.numpy() for name, x in signatures["predict_bytes"](image_bytes=tf.constant(contents)).items()}
    if spec.max_size is None:
        samples = preprocess(samples, size, channels, spec.short_side).numpy()
    # Of one size they go through the model together, the broken one as a black one; else each by itself.
    parts = [np.insert(samples, 1, 0, axis=0)] if one_size else np.split(samples, len(samples))
    parts = [signatures["serving_default"](images=tf.cast(part, spec.dtype)) for part in parts]
    if served["valid"][1].any():
        raise ValueError("The SavedModel takes a broken image for a valid one.")
    for name in parts[0]:
        expected = np.concatenate([part[name].numpy() for part in parts])
        expected, found = np.delete(expected, [1] * one_size, axis=0), np.delete(served[name], 1, axis=0)
        near = expected == found
        if expected.dtype.kind == "f":
            near = np.abs(expected - found) <= 1e-4 * (1 + np.abs(expected))
        if not near.all():
            text = "answers otherwise for encoded images, one of them broken, than for their pixels"
            raise ValueError(f"The SavedModel {text}: `{name}` differs in {np.sum(~near)} of {near.size} places.")
