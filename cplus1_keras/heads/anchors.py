"""Anchor heads: the logits are distances to fixed points, with the sign changed."""

import keras
import numpy as np
from keras import ops

from cplus1_keras.heads.base import Head
from cplus1_keras.numerics import root
from cplus1_keras.numerics.derivatives import unit
from cplus1_keras.numerics.distances import squared_distances


class _AnchorHead(Head):
    """What the two share: no weight, fixed anchors and a scale."""

    def __init__(self, anchors, scale=1.0, **kwargs):
        anchors = np.array(anchors, "float64")
        if anchors.ndim != 2 or not anchors.size or not np.all(np.isfinite(anchors)):
            raise ValueError(
                "`anchors` must be finite points, an array of shape (num_classes, features), like "
                f"`cplus1_keras.anchors.orthonormal(10, 64)`. Received: shape {anchors.shape}"
            )
        if len(np.unique(anchors, axis=0)) < len(anchors):
            raise ValueError("Two classes have the same anchor, so no feature could tell them apart: make them differ.")
        super().__init__(len(anchors), **kwargs)
        if not 0 < scale < float("inf"):
            raise ValueError(f"`scale` must be a number > 0. Received: scale={scale}")
        self.anchors = anchors
        self.scale = float(scale)

    def build(self, input_shape):
        if input_shape[-1] != self.anchors.shape[-1]:
            raise ValueError(
                f"The anchors have {self.anchors.shape[-1]} features, so `{self.name}` needs as many. "
                f"Received: shape {tuple(input_shape)}. Set `dim` of the anchors to {input_shape[-1]}."
            )

    def get_config(self):
        config = super().get_config()
        del config["num_classes"]
        return {**config, "anchors": self.anchors.tolist(), "scale": self.scale}


@keras.saving.register_keras_serializable("cplus1_keras")
class EuclideanAnchorHead(_AnchorHead):
    """Logits are Euclidean distances to anchors: z_c = -scale ‖φ - a_c‖. With `CrossEntropyLoss` it is E-NCM.

    Gives `features` φ (..., K), `distances` and `logits` (..., C). It has no weight: the anchors never train. At an
    anchor the distance has gradient 0. With scale 1, as in the paper, the loss cannot fall to 0: at the anchor it is
    1.159 for ten orthonormal anchors. A larger scale lowers that floor.

    Args:
        anchors: C different points, array (C, K), row c for class c; see `cplus1_keras.anchors`. Any lengths: with
            α e_c it is CAC's tuplet loss.
        scale: > 0.

    Reference: Anchor-based NCM (2018), Eq 4-7.

    >>> head = heads.EuclideanAnchorHead(np.array([[0.0, 3.0], [4.0, 3.0]]))
    >>> np.array(head(np.array([[0.0, 0.0]], "float32"))["logits"]).tolist()
    [[-3.0, -5.0]]
    """

    def outputs(self, features):
        distances = root(squared_distances(features, ops.convert_to_tensor(self.anchors, features.dtype)))
        return {"features": features, "distances": distances, "logits": -self.scale * distances}


@keras.saving.register_keras_serializable("cplus1_keras")
class CosineAnchorHead(_AnchorHead):
    """Logits are cosine distances to anchors: z_c = -scale (1 - cos(φ, a_c)). With `CrossEntropyLoss` it is C-NCM.

    Gives `features` φ (..., K), `cosines`, `distances` and `logits` (..., C), and `scale` (..., 1), so that margins
    work with it too. Otherwise it is as `EuclideanAnchorHead`; at the anchor the loss is 1.461 with scale 1.

    Args:
        anchors: Array of shape (C, K), row c for class c, none of them zero; see `cplus1_keras.anchors`.
        scale: > 0.

    Reference: Anchor-based NCM (2018), Eq 4-6 and 8.

    >>> head = heads.CosineAnchorHead(np.array([[0.0, 1.0], [1.0, 0.0]]))
    >>> np.array(head(np.array([[0.0, 7.0]], "float32"))["distances"]).tolist()
    [[0.0, 1.0]]
    """

    def __init__(self, anchors, scale=1.0, **kwargs):
        super().__init__(anchors, scale, **kwargs)
        if not np.all(np.linalg.norm(self.anchors, axis=-1) > 0):
            raise ValueError("A zero vector has no direction, so `anchors` must not contain one.")

    def outputs(self, features):
        directions = self.anchors / np.linalg.norm(self.anchors, axis=-1, keepdims=True)
        cosines = ops.matmul(unit(features), ops.convert_to_tensor(directions.T, features.dtype))
        distances = 1 - cosines
        given = {"features": features, "cosines": cosines, "distances": distances, "logits": -self.scale * distances}
        return {**given, "scale": ops.full_like(features[..., :1], self.scale)}
