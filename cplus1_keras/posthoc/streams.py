"""Statistics of a stream of rows, in memory that does not grow with it. NumPy; sums in float64."""

import numpy as np

RANK = 1e-9
"""Directions whose variance is below this share of the largest count as constant: float32 cannot tell them from 0."""


class Moments:
    """Counts, means and covariances of rows by class, from one pass.

    Sums are of differences to the mean of the first batch, so that no digits are lost where that is far from 0.

    Args:
        num_classes: C.
        covariance: Whether second moments are kept, (K, K) numbers.

    >>> moments = Moments(2)
    >>> moments.update(np.array([[0.0, 1.0], [2.0, 1.0], [5.0, 4.0]]), np.array([0, 0, 1]))
    >>> moments.means.tolist(), moments.within.round(3).tolist()
    ([[1.0, 1.0], [5.0, 4.0]], [[0.667, 0.0], [0.0, 0.0]])
    """

    def __init__(self, num_classes, covariance=True):
        self.counts, self.covariance, self.origin = np.zeros(num_classes), covariance, None

    def update(self, rows, labels):
        """Count rows (n, K) with their classes (n,)."""
        rows = np.asarray(rows, "float64")
        if self.origin is None:
            self.origin = rows.mean(0)
            self.sums = np.zeros((len(self.counts), rows.shape[1]))
            self.squares = np.zeros((rows.shape[1],) * 2) if self.covariance else None
        rows = rows - self.origin
        np.add.at(self.sums, labels, rows)
        self.counts += np.bincount(labels, minlength=len(self.counts))
        if self.covariance:
            self.squares += rows.T @ rows

    @property
    def means(self):
        """(C, K); of a class without rows NaN."""
        with np.errstate(invalid="ignore"):
            return self.origin + self.sums / self.counts[:, None]

    @property
    def mean(self):
        """(K,), of all rows."""
        return self.origin + self.sums.sum(0) / self.counts.sum()

    @property
    def within(self):
        """(K, K), the covariance that all classes share: of the differences to the own class's mean."""
        between = (self.sums / np.sqrt(np.maximum(self.counts, 1))[:, None]).T
        return (self.squares - between @ between.T) / self.counts.sum()

    @property
    def whole(self):
        """(K, K), the covariance of all rows."""
        mean = self.sums.sum(0) / self.counts.sum()
        return self.squares / self.counts.sum() - np.outer(mean, mean)


def whitening(covariance):
    """W (K, K) with W Wᵀ the (pseudo)inverse of a covariance: of rows x the covariance of x W is the identity.

    >>> whitening(np.diag([4.0, 0.0])).round(3).tolist()
    [[0.0, 0.5], [0.0, 0.0]]
    """
    variances, directions = np.linalg.eigh(covariance)
    inside = variances > RANK * max(variances[-1], 0)
    return directions * np.where(inside, 1 / np.sqrt(np.where(inside, variances, 1)), 0)


class Reservoir:
    """A uniform sample, without repetition, of the rows of a stream; the same for the same stream and seed.

    Args:
        size: How many rows are kept at most; all, in their order, where there are no more.
        seed: Integer.

    >>> sample = Reservoir(3, seed=0)
    >>> sample.update(np.arange(2.0)), sample.update(np.arange(2.0, 4.0))
    (None, None)
    >>> len(sample.rows), sample.seen
    (3, 4)

    Reference: Vitter, "Random sampling with a reservoir", 1985, Algorithm R.
    """

    def __init__(self, size, seed):
        self.size, self.generator, self.seen, self._rows = size, np.random.default_rng(seed), 0, None

    def update(self, rows):
        """See rows (n, ...)."""
        index = self.seen + np.arange(len(rows))
        place = np.where(index < self.size, index, self.generator.integers(0, index + 1))
        kept = place < self.size
        # It grows as rows come, up to its size.
        have, want = 0 if self._rows is None else len(self._rows), min(self.seen + len(rows), self.size)
        if want > have:
            larger = np.zeros((min(max(want, 2 * have), self.size), *rows.shape[1:]), rows.dtype)
            larger[:have] = 0 if self._rows is None else self._rows
            self._rows = larger
        self._rows[place[kept]] = rows[kept]  # of two rows for a place the later one stays, as one by one
        self.seen += len(rows)

    @property
    def rows(self):
        """The rows kept, (m, ...)."""
        return self._rows[: min(self.seen, self.size)]
