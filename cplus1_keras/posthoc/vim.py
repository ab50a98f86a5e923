"""Virtual-logit matching: what of the features lies outside the directions in which the knowns vary."""

import keras
import numpy as np
from keras import ops

from cplus1_keras.labels import check_count
from cplus1_keras.numerics.arithmetic import norm
from cplus1_keras.posthoc.base import FittedScore
from cplus1_keras.posthoc.streams import Reservoir

SAMPLES = 2**13
"""So many samples tell the mean length of the residual to about 0.5 %."""


@keras.saving.register_keras_serializable("cplus1_keras")
class ViM(FittedScore):
    """Energy minus the length of the features' residual, scaled to be like a logit.

        logsumexp(z) - α ‖Rᵀ (φ - o)‖,    α = mean of max_c z_c / mean of ‖Rᵀ (φ - o)‖

    R holds the directions of least variance about the origin o = -W⁺ b, all but `dim`. α is estimated on a sample of
    8,192. Adds K (K - dim) numbers.

    Args:
        dim: How many directions are principal, in [1, K); None takes 1,000 of 2,048 and more features, 512 of 768 and
            more, half of fewer.
        **kwargs: Those of `FittedScore`.

    Raises:
        ValueError: If `dim` is no such number; when fitted on samples without a residual.

    Reference: Wang et al., "ViM: Out-Of-Distribution with Virtual-logit Matching", CVPR 2022, Eq 4 to 7.

    >>> features = np.array([[3.0, 1.0], [-3.0, -1.0]])
    >>> outputs = {"logits": features * [1, 0], "features": features}
    >>> score = ViM(dim=1)
    >>> score.fit([(outputs, np.array([0, 1]))], num_classes=2, classifier=(np.diag([1.0, 0.0]), np.zeros(2)))
    Traceback (most recent call last):
    ValueError: The training features have no residual beside 1 principal directions: take a smaller `dim`.
    """

    score_name = "vim"
    needs_classifier = True

    def __init__(self, dim=None, **kwargs):
        super().__init__(**kwargs)
        self.dim = None if dim is None else check_count(dim, "dim")

    def build(self, shapes):
        size = shapes["features"][-1]
        self.origin = self.add_statistic("origin", (size,))
        self.residual = self.add_statistic("residual", (size, size - self._principal(size)))
        self.alpha = self.add_statistic("alpha", ())

    def estimate(self, rows, classifier):
        kernel, bias = (weight.astype("float64") for weight in classifier)
        # Columns that sum to 0, which weight decay leads to, leave a singular value that is rounding and nothing else.
        origin = -np.linalg.pinv(kernel.T, rcond=1e-6) @ bias
        dim, squares, count, best = self._principal(len(origin)), 0, 0, 0
        sample = Reservoir(SAMPLES, seed=0)
        for logits, features, _ in rows:
            shifted = features - origin
            squares = squares + shifted.T @ shifted
            count, best = count + len(logits), best + logits[:, : self.num_classes].max(-1).sum()
            sample.update(features)
        residual = np.linalg.eigh(squares)[1][:, : len(origin) - dim]  # in ascending order of the variance
        lengths = np.linalg.norm((sample.rows - origin) @ residual, axis=-1)
        if not lengths.mean() > 1e-6 * np.linalg.norm(sample.rows - origin, axis=-1).mean():
            raise ValueError(
                f"The training features have no residual beside {dim} principal directions: take a smaller `dim`."
            )
        return {"origin": origin, "residual": residual, "alpha": best / count / lengths.mean()}

    def measure(self, logits, features):
        outside = norm(ops.matmul(features - self.origin, ops.convert_to_tensor(self.residual)))
        return ops.logsumexp(logits[..., : self.num_classes], axis=-1) - self.alpha * outside

    def _principal(self, size):
        usual = 1000 if size >= 2048 else 512 if size >= 768 else size // 2
        dim = usual if self.dim is None else self.dim
        if not 1 <= dim < size:
            raise ValueError(f"`dim` must be less than the {size} features, and at least 1. Received: dim={dim}")
        return dim

    def get_config(self):
        return {**super().get_config(), "dim": self.dim}
