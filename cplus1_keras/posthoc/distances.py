"""Scores by distances of the features: to class means, by covariances, to nearest neighbours."""

import keras
from keras import ops

from cplus1_keras.labels import check_count
from cplus1_keras.numerics.derivatives import unit
from cplus1_keras.numerics.distances import own_squared_distance, squared_distances
from cplus1_keras.posthoc.base import FittedScore, check_all_classes
from cplus1_keras.posthoc.streams import Moments, Reservoir, whitening


def _moments(rows, num_classes, covariance):
    moments = Moments(num_classes, covariance)
    for _, features, labels in rows:
        moments.update(features, labels)
    check_all_classes(moments.counts)
    return moments


@keras.saving.register_keras_serializable("cplus1_keras")
class ClassMeans(FittedScore):
    """Squared distance of the features to the nearest class mean, negative: -min_c ‖φ - μ_c‖².

    Adds C · K numbers to the model.

    Args:
        **kwargs: Those of `FittedScore`.

    Reference: Mensink et al., "Distance-Based Image Classification", PAMI 2013.

    >>> outputs = {"logits": np.zeros((2, 2)), "features": np.array([[0.0, 1.0], [3.0, 1.0]])}
    >>> score = ClassMeans()
    >>> score.fit([(outputs, np.array([0, 1]))], num_classes=2)
    >>> print(ops.convert_to_numpy(score({"logits": np.zeros((1, 2)), "features": np.array([[1.0, 1.0]])})))
    [-1.]
    """

    score_name = "class_means"

    def build(self, shapes):
        self.means = self.add_statistic("means", (self.num_classes, shapes["features"][-1]))

    def estimate(self, rows, classifier):
        return {"means": _moments(rows, self.num_classes, covariance=False).means}

    def measure(self, logits, features):
        return -ops.min(squared_distances(features, ops.convert_to_tensor(self.means)), axis=-1)


@keras.saving.register_keras_serializable("cplus1_keras")
class Mahalanobis(FittedScore):
    """Squared Mahalanobis distance to the nearest class mean, negative, by the covariance that all classes share.

        -min_c (φ - μ_c)ᵀ Σ⁻¹ (φ - μ_c),    Σ = 1/N Σ_i (φ_i - μ_y_i)(φ_i - μ_y_i)ᵀ

    Directions in which nothing varies (below 1e-9 of the largest variance) don't count. Adds K² + C · K numbers.

    Args:
        **kwargs: Those of `FittedScore`.

    Reference: Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial
    Attacks", NeurIPS 2018, Eq 2, of the last features and without input preprocessing.

    >>> features = np.array([[0.0, -2.0], [0.0, 2.0], [9.0, -2.0], [9.0, 2.0]])
    >>> score = Mahalanobis()
    >>> score.fit([({"logits": np.zeros((4, 2)), "features": features}, np.array([0, 0, 1, 1]))], num_classes=2)
    >>> print(ops.convert_to_numpy(score({"logits": np.zeros((1, 2)), "features": np.array([[0.0, 4.0]])})).round(3))
    [-4.]
    """

    score_name = "mahalanobis"

    def build(self, shapes):
        size = shapes["features"][-1]
        self.origin = self.add_statistic("origin", (size,))
        self.whitening = self.add_statistic("whitening", (size, size))
        self.means = self.add_statistic("means", (self.num_classes, size))

    def estimate(self, rows, classifier):
        return self.summarize(_moments(rows, self.num_classes, covariance=True))

    def summarize(self, moments):
        """The statistics, of `Moments`."""
        matrix = whitening(moments.within)
        means = (moments.means - moments.mean) @ matrix
        return {"origin": moments.mean, "whitening": matrix, "means": means}

    def measure(self, logits, features):
        white = ops.matmul(features - self.origin, ops.convert_to_tensor(self.whitening))
        return -ops.min(squared_distances(white, ops.convert_to_tensor(self.means)), axis=-1)


@keras.saving.register_keras_serializable("cplus1_keras")
class RelativeMahalanobis(Mahalanobis):
    """How much nearer a class is than all training samples together: the Mahalanobis score, minus that of one Gaussian.

        -min_c (d_c² - d_0²),    d_0² = (φ - μ)ᵀ Σ_0⁻¹ (φ - μ)   with mean and covariance of all samples

    Adds 2 K² + C · K numbers.

    Args:
        **kwargs: Those of `FittedScore`.

    Reference: Ren et al., "A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection", 2021, Eq 3.

    >>> features = np.array([[0.0, -2.0], [0.0, 2.0], [9.0, -2.0], [9.0, 2.0]])
    >>> score = RelativeMahalanobis()
    >>> score.fit([({"logits": np.zeros((4, 2)), "features": features}, np.array([0, 0, 1, 1]))], num_classes=2)
    >>> print(ops.convert_to_numpy(score({"logits": np.zeros((1, 2)), "features": np.array([[4.5, 4.0]])})).round(3))
    [0.]
    """

    score_name = "relative_mahalanobis"

    def build(self, shapes):
        super().build(shapes)
        self.whitening_of_all = self.add_statistic("whitening_of_all", (shapes["features"][-1],) * 2)

    def summarize(self, moments):
        return {**super().summarize(moments), "whitening_of_all": whitening(moments.whole)}

    def measure(self, logits, features):
        white = ops.matmul(features - self.origin, ops.convert_to_tensor(self.whitening_of_all))
        return ops.sum(ops.square(white), axis=-1) + super().measure(logits, features)


@keras.saving.register_keras_serializable("cplus1_keras")
class NearestNeighbors(FittedScore):
    """Squared distance to the k-th nearest training sample, negative, of features divided by their norms.

        -‖φ/‖φ‖ - z_(k)‖²,    z_(k) the k-th nearest of the samples kept

    Adds `kept` · K numbers: a uniform sample of the training set is kept, not chosen otherwise.

    Args:
        neighbors: k >= 1. With fewer samples kept, take fewer: the share k / kept is what counts.
        kept: How many training samples are kept at most, >= k; `fit` makes it less where there are fewer.
        seed: Chooses which.
        **kwargs: Those of `FittedScore`.

    Raises:
        ValueError: If an argument lies outside its range; when fitted on fewer than k samples.

    Reference: Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022, Eq 1, squared.

    >>> outputs = {"logits": np.zeros((3, 2)), "features": np.array([[5.0, 0.0], [4.0, 3.0], [0.0, 1.0]])}
    >>> score = NearestNeighbors(neighbors=2)
    >>> score.fit([(outputs, np.array([0, 1, 1]))], num_classes=2)
    >>> print(ops.convert_to_numpy(score(outputs)).round(3))
    [-0.4 -0.4 -0.8]
    """

    score_name = "nearest_neighbors"

    def __init__(self, neighbors=10, kept=10_000, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.neighbors, self.kept, self.seed = check_count(neighbors, "neighbors"), check_count(kept, "kept"), seed
        if self.neighbors > self.kept:
            raise ValueError(f"`kept` must be at least `neighbors`. Received: neighbors={neighbors}, kept={kept}")

    def build(self, shapes):
        self.samples = self.add_statistic("samples", (self.kept, shapes["features"][-1]))

    def estimate(self, rows, classifier):
        sample = Reservoir(self.kept, self.seed)
        for _, features, _ in rows:
            sample.update(features)
        if len(sample.rows) < self.neighbors:
            raise ValueError(
                f"The {self.neighbors}-th nearest neighbour needs as many training samples. Received: {sample.seen}"
            )
        self.kept = len(sample.rows)
        return {"samples": ops.convert_to_numpy(unit(sample.rows))}

    def measure(self, logits, features):
        features, samples = unit(features), ops.convert_to_tensor(self.samples)
        index = ops.top_k(ops.matmul(features, ops.transpose(samples)), k=self.neighbors)[1][..., -1]
        # 2 - 2 cos loses all digits where the neighbour is near.
        return -own_squared_distance(features, samples, index)

    def get_config(self):
        return {**super().get_config(), "neighbors": self.neighbors, "kept": self.kept, "seed": self.seed}
