"""Attacks on classifiers of images: changes of pixels that nobody sees, made to mislead a model.

An objective is `objective(images, labels)`: float32 (N,) that the attack lowers. All attacks move no pixel by more than
`radius` (linf), and stay within 0..255.
"""

import numpy as np
import tensorflow as tf

from cplus1_keras import scores
from cplus1_keras.labels import check_count
from cplus1_keras.serving import guards


def fgsm(objective, images, labels, radius):
    """The fast gradient sign method, x - r sign(d objective / dx).

    Args:
        objective: Function of images (N, H, W, channels), 0..255, and labels (N,) to what is lowered, (N,).
        images: float32 (N, H, W, channels), 0..255.
        labels: int32 (N,).
        radius: r, in pixel values; epsilon on images in 0..1 is 255 times that.

    Returns:
        float32 array of changed images.

    >>> dark = lambda images, labels: tf.reduce_sum(images, axis=(1, 2, 3))
    >>> fgsm(dark, np.full((1, 1, 2, 1), [[9.0], [1.0]]), [0], radius=3.0).ravel().tolist()
    [6.0, 0.0]

    Reference: Goodfellow et al., "Explaining and harnessing adversarial examples", ICLR 2015.
    """
    return pgd(objective, images, labels, radius, steps=1, restarts=1)


def pgd(objective, images, labels, radius, steps=10, restarts=3, seed=0):
    """Projected gradient descent within the ball of `fgsm`, of several starts what is lowest for each image.

    Each step goes r / 4 far, or r where there is only one. The first start is the image itself, the others lie anywhere
    in the ball. FGSM alone flatters models whose gradient is misleading at the image.

    Args:
        objective, images, labels, radius: As for `fgsm`, and so is what it returns.
        steps: Steps from each start, >= 1.
        restarts: Number of starts, >= 1.
        seed: Of the starts.

    Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.

    >>> dark = lambda images, labels: tf.reduce_sum(images, axis=(1, 2, 3))
    >>> pgd(dark, np.full((1, 1, 2, 1), [[9.0], [1.0]]), [0], radius=3.0).ravel().tolist()
    [6.0, 0.0]
    """
    if not 0 <= radius <= 255:
        raise ValueError(f"`radius` is a difference of pixels 0..255. Received: radius={radius}")
    steps, restarts = check_count(steps, "steps"), check_count(restarts, "restarts")
    images, labels = tf.convert_to_tensor(images, tf.float32), tf.convert_to_tensor(labels, tf.int32)
    generator, step = np.random.default_rng(seed), tf.constant(radius if steps == 1 else radius / 4, tf.float32)
    low, high = tf.maximum(images - radius, 0.0), tf.minimum(images + radius, 255.0)
    best = images
    lowest = tf.fill([len(images)], float("inf"))
    for number in range(restarts):
        moved = images
        if number:
            shift = generator.uniform(-radius, radius, images.shape).astype("float32")
            moved = tf.clip_by_value(images + shift, low, high)
        for _ in range(steps):
            moved = tf.clip_by_value(moved - step * tf.sign(gradient(objective, moved, labels)), low, high)
        value = objective(moved, labels)
        better = value < lowest  # never where it is NaN
        best, lowest = tf.where(better[:, None, None, None], moved, best), tf.where(better, value, lowest)
    return best.numpy()


def gradient(objective, images, labels):
    """The derivative of each image's objective by its pixels, 0 where it is not finite.

    Raises:
        ValueError: The objective does not depend on the images in a way that can be differentiated.

    >>> double = lambda images, labels: 2 * tf.reduce_sum(images, axis=(1, 2, 3))
    >>> gradient(double, np.ones((1, 1, 1, 1), "float32"), [0]).numpy().ravel().tolist()
    [2.0]
    """
    images = tf.convert_to_tensor(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        value = objective(images, labels)
    found = tape.gradient(value, images)
    if found is None:
        raise ValueError(
            "No gradient leads from what is attacked to the pixels, so attacks by gradient cannot move it. Scores of "
            "`wrap` that look up neighbours or sort have none: judge with another `score`, like log_odds."
        )
    return tf.where(tf.math.is_finite(found), found, 0.0)


def mistake(predictor):
    """The objective of who wants a known misclassified: the log-odds of its class, z_y - logsumexp of all others.

    Cross-entropy is log(1 + exp(-it)), so the sign of the gradient is the same, and it does not vanish in float32 where
    the probability rounds to 1. A background logit is one of the others.
    """

    def objective(images, labels):
        logits = guards.infer(predictor.network, images)["logits"]
        own = tf.equal(labels[:, None], tf.range(logits.shape[-1]))
        others = tf.reduce_logsumexp(tf.where(own, -float("inf"), logits), axis=-1)
        return tf.reduce_sum(tf.where(own, logits, 0.0), axis=-1) - others

    return _graph(predictor, objective)


def refuse(predictor):
    """The objective of who wants a known refused: the score that the predictor decides by."""

    def objective(images, labels):
        outputs = guards.infer(predictor.network, images)
        return tf.cast(scores.get(predictor.reject.score)(outputs, predictor.num_classes), tf.float32)

    return _graph(predictor, objective)


def accept(predictor):
    """The objective of who wants a stranger accepted: the score with a minus."""
    score = refuse(predictor)
    return _graph(predictor, lambda images, labels: -score(images, labels))


def _graph(predictor, objective):
    """One graph for any number of images."""
    images = tf.TensorSpec((None, *predictor.image_shape), tf.float32)
    return tf.function(objective, [images, tf.TensorSpec((None,), tf.int32)], autograph=False)
