"""What is looked at while a model trains: records with images and features, from one pass."""

import numpy as np

from cplus1_keras import serving
from cplus1_keras.serving import guards

KEPT = ("features", "cams")


class Watching(serving.Predictor):
    """A predictor whose answers hold also each image and, where the model gives them, its `features` and `cams`.

    Images that are cut into tiles have no features.

    Args:
        predictor: A `serving.Predictor` of the same model.

    >>> images = keras.Input((8, 8, 1))
    >>> model = keras.Model(images, heads.LinearHead(3)(keras.layers.Flatten()(images)))
    >>> watching = Watching(serving.Predictor(model, layers.Reject(3, threshold=0.5)))
    >>> watching.predict(np.zeros((2, 8, 8, 1), "uint8"))["features"].shape
    (2, 64)
    """

    def __init__(self, predictor):
        given = predictor.model, predictor.reject, predictor.class_names, predictor.spec, predictor.calibration
        super().__init__(*given)

    def answer(self, images, threshold=None):
        found = {}

        def run(images):
            found.update(guards.infer(self.model, images))
            return found

        sound, valid = guards.only_valid(images)
        outputs = self.spec.outputs(run, sound, self.num_classes)
        found = {**found, **outputs}
        kept = {name: found[name] for name in KEPT if name in found}
        return {**kept, "image": images, **self.spec.decide(self, outputs, valid, threshold)}


class Told:
    """An accumulator of which some figures are told.

    Args:
        accumulator: With `update(record)` and `result()`.
        tell: Function from that result to floats by name.

    >>> class Sum:
    ...     total = 0
    ...
    ...     def update(self, record):
    ...         self.total += record
    ...
    ...     def result(self):
    ...         return self.total
    >>> told = Told(Sum(), lambda total: {"sum": total})
    >>> told.update(3)
    >>> told.result()
    {'sum': 3}
    """

    def __init__(self, accumulator, tell):
        self.accumulator, self.tell = accumulator, tell

    def update(self, record):
        self.accumulator.update(record)

    def result(self):
        return self.tell(self.accumulator.result())


def spaced(length, number):
    """Indices, ascending and at most this many, that are evenly spaced.

    >>> spaced(6, 3)
    array([0, 2, 5])
    """
    return np.unique(np.linspace(0, length - 1, min(number, length)).astype(int))
