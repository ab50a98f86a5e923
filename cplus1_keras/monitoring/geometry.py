"""Where features lie: the directions that classes have in a model, and one projection to the plane for all frames."""

import json

import numpy as np
import tensorflow as tf
from keras import ops

from cplus1_keras.heads import Head
from cplus1_keras.layers.centers import Centers
from cplus1_keras.layers.hooks import find_hooks


def directions(model):
    """What pulls the features of each class.

    Returns:
        Pair of "centres", "anchors" or "weights" and an array (C, K); None for a model without one.

    >>> images = keras.Input((4,))
    >>> name, rays = directions(OpenSetModel(images, heads.LinearHead(3)(images)))
    >>> name, rays.shape
    ('weights', (3, 4))
    """
    layers = find_hooks(model.layers)
    for layer in layers:
        if isinstance(layer, Centers):
            return "centres", ops.convert_to_numpy(layer.current())
    for layer in layers:
        if isinstance(layer, Head) and hasattr(layer, "anchors"):
            return "anchors", np.asarray(layer.anchors)
    for layer in layers:
        kernel = getattr(layer, "kernel", None)
        if isinstance(layer, Head) and kernel is not None and len(kernel.shape) == 2:
            return "weights", ops.convert_to_numpy(kernel).T[: layer.num_classes]
    return None


def angles(features, rays, classes):
    """Angles in degrees (n,) between features (n, K) and the rays (C, K) of their classes (n,).

    >>> angles(np.array([[0.0, 2.0]]), np.array([[3.0, 0.0], [0.0, 1.0]]), [0]).tolist()
    [90.0]
    """
    features, own = np.asarray(features, "float64"), np.asarray(rays, "float64")[np.asarray(classes)]
    lengths = np.linalg.norm(features, axis=-1) * np.linalg.norm(own, axis=-1)
    cosines = (features * own).sum(axis=-1) / np.maximum(lengths, 1e-12)
    return np.degrees(np.arccos(np.clip(cosines, -1, 1)))


class Projection:
    """A plane that is chosen once, by the principal directions of the first features, so that pictures compare.

    Two features are shown as they are. It is kept in a file, for the pictures of a training that goes on.

    Args:
        path: The file, or None.

    >>> Projection()(np.array([[3.0, 4.0]])).tolist()
    [[3.0, 4.0]]
    """

    def __init__(self, path=None):
        self.path, self.axes = path, None

    def __call__(self, points):
        """Points (n, K) in the plane, (n, 2); the origin stays where it is."""
        points = np.asarray(points, "float64")
        if points.shape[-1] == 2:
            return points
        if self.axes is None:
            self.axes = self._load(points.shape[-1])
        if self.axes is None:
            self.axes = self._fit(points)
        return points @ self.axes.T

    def _fit(self, points):
        _, _, axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
        axes = np.concatenate([axes[:2], np.zeros((2, points.shape[-1]))])[:2]
        largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
        axes = axes * np.where(largest < 0, -1, 1)  # a singular vector's sign is arbitrary
        if self.path is not None:
            tf.io.write_file(str(self.path), json.dumps(axes.tolist()))
        return axes

    def _load(self, dimensions):
        try:
            axes = np.array(json.loads(tf.io.read_file(str(self.path)).numpy()), "float64")
        except (tf.errors.OpError, ValueError):  # there is none, or a process was killed while it wrote
            return None
        return axes if axes.shape == (2, dimensions) else None
