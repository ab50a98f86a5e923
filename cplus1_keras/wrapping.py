"""Any trained classifier, made able to say "none of these" without training it again."""

import dataclasses

import keras
import numpy as np

from cplus1_keras import calibration as rules
from cplus1_keras import scores
from cplus1_keras.labels import is_known, is_negative
from cplus1_keras.layers import Reject
from cplus1_keras.models.parts import take_apart, to_log_probabilities
from cplus1_keras.posthoc.base import FittedScore, read_labels

BATCH = 64


def wrap(
    model,
    known,
    calibration,
    training=None,
    score=scores.log_odds,
    preprocess=None,
    features=None,
    fpr=0.1,
    coverage=0.95,
    confidence=0.95,
    short_side=None,
):
    """A trained Keras classifier with a score and a calibrated threshold, as the same predictor that a run gives.

    One pass over `training` fits the score, one over `calibration` finds the threshold: the lowest with that `fpr` on
    its negatives, or where there are none the highest with that `coverage` of its knowns. Data is a pair of arrays
    (images, labels) or an iterable of such batches, as a `tf.data.Dataset`; images are raw pixels, 0..255; a label
    names one of the known classes, or is -1 for images of none of them. Calibrate on images that chose nothing of the
    model, and on strangers like those that you expect.

    Args:
        model: A functional `keras.Model` or a built `Sequential`, images -> logits or probabilities (N, C); it is not
            changed. Where it takes images of any size, the size of the calibration images is kept.
        known: Names of its C classes, in the order of its outputs.
        calibration: Images with labels that neither trained the model nor chose anything.
        training: The model's training images with their labels; None for a score that needs none.
        score: A function of `cplus1_keras.scores` or its name; or a layer of `cplus1_keras.posthoc`, of which a copy is
            fitted and becomes an output of the model.
        preprocess: What the model wants done to raw pixels before, such as `keras.layers.Rescaling(1 / 255)` or
            `keras.applications.resnet.preprocess_input`; it becomes part of the model.
        features: Name of the layer that gives the features, (N, K) or maps (N, H, W, K); None takes the input of the
            last Dense layer.
        fpr, coverage, confidence: As for `calibration.threshold_at_fpr` and `threshold_at_coverage`, each in (0, 1).
        short_side: None stretches files that are asked about to the model's size; a number of pixels resizes them to
            this shorter side and cuts their middle, as `data.preprocess` does. Prepare the images given here alike.

    Returns:
        `cplus1_keras.serving.Predictor`: `predict(images)`, `export(path)`; its `calibration` is the evidence.
        `serving.save(folder, predictor)` keeps it for `cplus1_keras.load`.

    Raises:
        ValueError: For a model, data or rates that do not fit together.

    >>> images = keras.Input((8, 8, 1))
    >>> model = keras.Sequential([images, keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")])
    >>> pixels, labels = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 1)), np.repeat([0, 1, -1, -1], 50)
    >>> predictor = wrap(model, ["cat", "dog"], (pixels, labels), (pixels, labels), posthoc.Mahalanobis(), fpr=0.2)
    >>> predictor.calibration.score, sorted(predictor.model.output)
    ('mahalanobis', ['features', 'logits', 'mahalanobis'])
    """
    from cplus1_keras import serving

    parts, classifier = take_apart(model, features)
    spec = serving.ImageSpec(short_side=short_side)
    calibration = _Data(calibration, "calibration")
    shape = _image_shape(parts, preprocess, calibration)
    number, classes = parts.output["logits"].shape[-1], [str(name) for name in known]
    if len(classes) != number:
        raise ValueError(f"`known` must name each of the model's {number} classes. Received {len(classes)}: {classes}")
    network = _put_before(parts, preprocess, shape)
    if classifier is None and _gives_probabilities(network, calibration):
        network = _put_before(to_log_probabilities(parts), preprocess, shape)
        if score in (scores.energy, "energy"):
            raise ValueError("Of probabilities alone the energy is 0: take `log_odds`, or wrap a model of logits.")
    if isinstance(score, FittedScore):
        bare = serving.Predictor(network, Reject(number, -np.inf), classes)
        layer = type(score).from_config(score.get_config())
        if training is not None and layer.needs_training:
            training = _outputs(bare, _Data(training, "training"))
        layer.fit(training, number, classifier)
        output = network.output
        network = keras.Model(network.inputs, {**output, layer.score_name: layer(output)}, name=network.name)
        score = scores.ModelScore(layer.score_name)
    score = scores.get(score)
    every = serving.Predictor(network, Reject(number, -np.inf, score), classes, spec)
    found = _calibrate(every, calibration, fpr, coverage, confidence)
    return serving.Predictor(network, Reject(number, found.threshold, score), classes, spec, found)


class _Data:
    """Batches (images, labels), NumPy, of arrays or of an iterable that may be read again."""

    def __init__(self, given, name):
        self.given, self.name = given, name
        arrays = isinstance(given, tuple) and len(given) == 2 and all(hasattr(part, "shape") for part in given)
        self.arrays = given if arrays else None
        if arrays and len(given[0]) != len(given[1]):
            raise ValueError(f"`{name}` has {len(given[0]):,} images and {len(given[1]):,} labels.")
        if not arrays and (hasattr(given, "shape") or given is None or isinstance(given, tuple)):
            raise ValueError(f"`{name}` {_NEEDS} Received: {type(given).__name__}")
        if getattr(given, "cardinality", None) is not None and int(given.cardinality()) == -1:
            raise ValueError(f"`{name}` never ends: it is read once, without `repeat()`.")

    def __iter__(self):
        if self.arrays is not None:
            images, labels = self.arrays
            for start in range(0, len(images), BATCH):
                yield np.asarray(images[start : start + BATCH]), np.asarray(labels[start : start + BATCH])
            return
        for batch in self.given:
            if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
                raise ValueError(f"`{self.name}` {_NEEDS} Received batches of: {type(batch).__name__}")
            images, labels = (np.asarray(part) for part in batch[:2])
            if images.ndim != 4:
                raise ValueError(
                    f"`{self.name}` must give batches of images (N, H, W, channels): call `.batch(64)`. Received: "
                    f"images of shape {images.shape}"
                )
            yield images, labels

    def first(self):
        """The first batch of images, of data that is read again."""
        if self.arrays is None and iter(self.given) is self.given:
            raise ValueError(f"`{self.name}` is read more than once: give arrays or a `tf.data.Dataset`, no iterator.")
        for images, _ in self:
            return images
        raise ValueError(f"`{self.name}` is empty.")


_NEEDS = "must be a pair of arrays (images, labels), or an iterable of such batches; labels of strangers are -1."


def _image_shape(parts, preprocess, calibration):
    """The shape of one raw image: the model's own, where it is known and nothing is done before."""
    own, given = parts.inputs[0].shape[1:], calibration.first().shape[1:]
    return tuple(given if preprocess is not None or len(own) != 3 or None in own else own)


def _put_before(parts, preprocess, shape):
    """The network from raw images."""
    images = keras.Input(shape, name="images")
    return keras.Model(images, parts(images if preprocess is None else preprocess(images)), name=parts.name)


def _gives_probabilities(network, calibration):
    """Whether what a model gives as logits are probabilities after all."""
    images = keras.ops.cast(calibration.first()[:BATCH], "float32")
    values = keras.ops.convert_to_numpy(keras.ops.cast(network(images, training=False)["logits"], "float32"))
    return bool((values >= 0).all() and np.allclose(values.sum(-1), 1, atol=1e-2))


def _outputs(predictor, training):
    """Pairs of the outputs and the labels for each batch."""
    number = 0
    for images, labels in training:
        outputs = predictor.outputs(images)
        _check_valid(outputs, number, "Training")
        number += len(images)
        yield outputs, labels


def _check_valid(answer, number, kind):
    """Raises ValueError for an image that cannot be judged, in a batch that begins with this number."""
    if not answer["valid"].all():
        index = number + int(np.argmin(answer["valid"]))
        raise ValueError(f"{kind} image {index:,} has NaN pixels or some far outside 0..255, or the model gives NaN.")


def _calibrate(predictor, calibration, fpr, coverage, confidence):
    """The threshold with its evidence."""
    found, labels, name = [], [], predictor.reject.score.__name__
    for images, own in calibration:
        answer = predictor.predict(images)
        _check_valid(answer, sum(map(len, found)), "Calibration")
        found.append(answer["score"])
        labels.append(read_labels(own, len(images), predictor.num_classes))
    found, labels = np.concatenate(found), np.concatenate(labels)
    strangers = found[is_negative(labels)]
    if len(strangers):
        evidence = rules.threshold_at_fpr(strangers, fpr, confidence, score=name)
    else:
        evidence = rules.threshold_at_coverage(found[is_known(labels)], coverage, confidence, score=name)
    return dataclasses.replace(evidence, sample=rules.keep_scores(labels, found))
