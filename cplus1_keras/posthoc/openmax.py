"""OpenMax: logits of the surest classes lose what lies too far from the mean of their class."""

import keras
import numpy as np
from keras import ops
from scipy.optimize import brentq

from cplus1_keras.labels import check_count
from cplus1_keras.numerics.arithmetic import root
from cplus1_keras.numerics.distances import squared_distances
from cplus1_keras.posthoc.base import FittedScore, check_all_classes

SHIFT = 10_000.0
"""What libMR, the code of the paper, adds to distances before it fits a Weibull distribution through 0."""

STEEPEST = 1e8
"""Of the shape, where all distances are equal."""


@keras.saving.register_keras_serializable("cplus1_keras")
class OpenMax(FittedScore):
    """Log-odds of known against unknown after OpenMax has moved activation from the classes to the unknown.

        ω_c = Weibull_c(‖z - μ_c‖) (α - rank_c) / α  for the α largest logits, rank 0 the largest; else 0
        z'_c = z_c (1 - ω_c),   z'_unknown = Σ_c z_c ω_c,   score = logsumexp(z') - z'_unknown

    so that the paper's probability of the unknown is sigmoid(-score). μ_c is the mean of the logits of the training
    samples of class c that are answered right; a Weibull distribution is fitted to the `tail` largest of their
    distances to it. Adds C² + 3 C numbers.

    Args:
        tail: How many distances of each class are fitted, >= 2.
        alpha: How many logits are revised, >= 1.
        **kwargs: Those of `FittedScore`.

    Raises:
        ValueError: If an argument lies outside its range; when fitted with a class that has fewer than 2 right answers.

    Reference: Bendale and Boult, "Towards Open Set Deep Networks", CVPR 2016, Algorithms 1 and 2. In one pass the
    2 · `tail` samples that are farthest from the mean so far are held, and their distances measured at the end.

    >>> logits = np.random.default_rng(0).normal(size=(200, 2)) + 9 * np.repeat(np.eye(2), 100, axis=0)
    >>> score = OpenMax()
    >>> score.fit([({"logits": logits, "features": logits}, np.repeat([0, 1], 100))], num_classes=2)
    >>> print(ops.convert_to_numpy(score({"logits": np.array([[9.0, 0.0], [30.0, 30.0]])}) > 0))
    [ True False]
    """

    score_name = "openmax"
    reads_features = False

    def __init__(self, tail=20, alpha=10, **kwargs):
        super().__init__(**kwargs)
        self.tail, self.alpha = check_count(tail, "tail"), check_count(alpha, "alpha")
        if self.tail < 2:
            raise ValueError(f"`tail` must be at least 2 distances. Received: tail={tail}")

    def build(self, shapes):
        self.means = self.add_statistic("means", (self.num_classes, self.num_classes))
        self.start = self.add_statistic("start", (self.num_classes,))
        self.scale = self.add_statistic("scale", (self.num_classes,))
        self.shape = self.add_statistic("shape", (self.num_classes,))

    def estimate(self, rows, classifier):
        number = self.num_classes
        counts, sums = np.zeros(number), np.zeros((number, number))
        far = [np.zeros((0, number), "float32")] * number
        for logits, _, labels in rows:
            right = logits.argmax(-1) == labels
            logits, labels = logits[right, :number], labels[right]
            np.add.at(sums, labels, logits.astype("float64"))
            counts += np.bincount(labels, minlength=number)
            for c in np.unique(labels):
                both = np.concatenate([far[c], logits[labels == c]])
                distances = np.linalg.norm(both - sums[c] / counts[c], axis=-1)
                far[c] = both[np.argsort(-distances, kind="stable")[: 2 * self.tail]]
        check_all_classes(counts, 2, "training samples that are answered right")
        means = sums / counts[:, None]
        tails = [np.sort(np.linalg.norm(far[c] - means[c], axis=-1))[-self.tail :] for c in range(number)]
        start, scale, shape = np.array([fit_weibull(tail) for tail in tails]).T
        return {"means": means, "start": start, "scale": scale, "shape": shape}

    def measure(self, logits, features):
        known = logits[..., : self.num_classes]
        distances = root(squared_distances(known, ops.convert_to_tensor(self.means)))
        # ln(y / scale) by a difference of distances: y itself is near 10,000, where float32 has steps of 0.001.
        ratio = ops.maximum((distances - self.start) / self.scale, -0.999999)
        outside = -ops.expm1(-ops.exp(ops.minimum(self.shape * ops.log1p(ratio), 80.0)))
        ranks = ops.argsort(ops.argsort(-known, axis=-1), axis=-1)
        alpha = min(self.alpha, self.num_classes)
        moved = known * outside * ops.maximum(1 - ops.cast(ranks, known.dtype) / alpha, 0)
        rest = ops.concatenate([known - moved, logits[..., self.num_classes :]], axis=-1)
        return ops.logsumexp(rest, axis=-1) - ops.sum(moved, axis=-1)

    def get_config(self):
        return {**super().get_config(), "tail": self.tail, "alpha": self.alpha}


def fit_weibull(tail):
    """The distribution function 1 - exp(-(1 + (d - start) / scale)^shape) of largest distances, by likelihood.

    That is a Weibull distribution of y = d - min(d) + 10,000 through 0. Its likelihood equation, which rises with k,

        Σ y^k ln y / Σ y^k - 1/k - mean ln y = 0,    scale = (mean y^k)^(1/k)

    Args:
        tail: Distances (n,), n >= 2.

    Returns:
        Tuple (start, scale, shape k).

    >>> [round(float(value), 2) for value in fit_weibull(np.linspace(3.0, 4.0, 11))]
    [3.66, 10000.66, 35033.28]
    """
    tail = np.asarray(tail, "float64")
    logs = np.log1p((tail - tail.min()) / SHIFT)  # of y / 10,000
    logs -= logs.max()
    spread = -logs.min()

    def slope(k):
        weights = np.exp(k * logs)
        return weights @ logs / weights.sum() - 1 / k - logs.mean()

    steep = spread * STEEPEST < 1 or slope(STEEPEST) < 0
    shape = STEEPEST if steep else brentq(slope, 0.1 / spread, STEEPEST, rtol=1e-12)
    log_scale = np.log1p(np.ptp(tail) / SHIFT) + np.log(np.mean(np.exp(shape * logs))) / shape
    return tail.min() + SHIFT * np.expm1(log_scale), SHIFT * np.exp(log_scale), shape
