"""Margins for long tails, by how many training samples a class has: maps from (labels, logits) to training logits.

Each goes into a softmax cross-entropy, like `CrossEntropyLoss(margin=BalancedSoftmax(counts))`.
"""

import math

import keras
import numpy as np
from keras import ops

from cplus1_keras.labels import is_known, is_seen
from cplus1_keras.losses.base import OpenSetLoss
from cplus1_keras.losses.margins import Margin, rows_to_move
from cplus1_keras.numerics.derivatives import take_at

DROPPED = -1e30
"""The logit of a class that a softmax leaves out; an infinite one would become NaN where a margin grows."""


def equalization_weights(labels, frequencies, threshold, columns, dtype):
    """w of `SigmoidEqualizationLoss`, (..., C): 0 where a rare class (frequency below the threshold) is not the label.

    >>> np.array(equalization_weights(np.array([0, -1], "int32"), [0.9, 0.001], 0.01, 2, "float32")).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    rare = ops.convert_to_tensor(_columns(frequencies, columns, 1.0) < threshold)
    other = ops.expand_dims(labels, -1) != ops.arange(columns, dtype="int32")
    return ops.cast(~(rare & other & ops.expand_dims(is_known(labels), -1)), dtype)


def _columns(values, columns, background):
    """A value for each logit: as given, with `background` for one more, without the last for one fewer."""
    if columns - len(values) not in (-1, 0, 1):
        raise ValueError(
            f"There must be as many logits as classes with a count or frequency, {len(values)}, or one more for the "
            f"background. Received: {columns} logits"
        )
    return np.asarray([*values, background][:columns], "float64")


def _check_counts(counts):
    counts = [int(count) for count in counts]
    if not counts or min(counts) < 1:
        raise ValueError(f"`counts` are the numbers of training samples of the classes, >= 1. Received: {counts}")
    return counts


def _check_frequencies(frequencies, threshold):
    frequencies = [float(frequency) for frequency in frequencies]
    if not frequencies or not all(0 <= own <= 1 for own in (*frequencies, threshold)):
        raise ValueError(
            "`frequencies` are the shares of the training images, or samples, with each class, and `threshold` is such "
            f"a share, in [0, 1]. Received: frequencies={frequencies}, threshold={threshold}"
        )
    return frequencies, float(threshold)


class _Shift(Margin):
    """A margin that adds to every logit of a sample, by its class."""

    target = None  # no function of a cosine

    def training_logits(self, labels, outputs, background=None):
        logits = outputs["logits"]
        rows, index, moves = rows_to_move(labels, logits, background)
        moved = ops.where(ops.expand_dims(moves, -1), self._move(rows, index, outputs), rows)
        return ops.reshape(moved, ops.shape(logits))


@keras.saving.register_keras_serializable("cplus1_keras")
class BalancedSoftmax(_Shift):
    """Logits of training with the logarithm of the classes' counts, so that those of inference hold for equal counts.

        z_j + log n_j

    With equal counts it is plain cross-entropy. A background without a count has that of the mean class.

    Args:
        counts: n, numbers of training samples of the C classes, >= 1; one more is that of the background.

    Reference: Ren et al., "Balanced meta-softmax for long-tailed visual recognition", NeurIPS 2020, section
    3.1; C2AM (2022), Table 6.

    >>> loss = losses.CrossEntropyLoss(margin=losses.BalancedSoftmax([900, 100]))
    >>> round(float(loss(np.array([1]), {"logits": np.zeros((1, 2), "float32")})), 4)  # -log 0.1
    2.3026
    """

    reads = ("logits",)

    def __init__(self, counts):
        self.counts = _check_counts(counts)

    def _move(self, rows, index, outputs):
        counts = _columns(self.counts, rows.shape[-1], np.mean(self.counts))
        return rows + ops.cast(np.log(counts / np.mean(self.counts)), rows.dtype)

    def get_config(self):
        return {"counts": self.counts}


@keras.saving.register_keras_serializable("cplus1_keras")
class LDAM(Margin):
    """Label-distribution-aware margin: the rarer a class, the larger the margin on the cosine of its samples.

        z_y = scale (cos θ_y - Δ_y),   Δ_c = Δ n_c^-1/4 / max_k n_k^-1/4

    Needs a `CosineHead` (the authors' code: scale 30). Its deferred re-weighting is a weight for each sample, or
    class, in the last epochs: `sample_weight`, `data.class_weights`.

    Args:
        counts: n, numbers of training samples of the C classes, >= 1.
        margin: Δ >= 0, that of the rarest class.

    Reference: Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019,
    section 3.2, normalised as in its authors' code; C2AM (2022), Table 6.

    >>> loss = losses.CrossEntropyLoss(margin=losses.LDAM([500, 50, 5]))
    """

    target = None  # one for each class

    def __init__(self, counts, margin=0.5):
        if not 0 <= margin < math.inf:
            raise ValueError(f"`margin` is a difference of cosines and must be >= 0. Received: margin={margin}")
        super().__init__(margin)
        self.counts = _check_counts(counts)

    def _offset(self, logit, outputs, index):
        counts = _columns(self.counts, outputs["logits"].shape[-1], math.inf)
        margins = ops.cast(self.margin * (counts / min(self.counts)) ** -0.25, logit.dtype)
        return -self._scale(outputs, index) * ops.take(margins, index)

    def get_config(self):
        return {"counts": self.counts, "margin": self.margin}


@keras.saving.register_keras_serializable("cplus1_keras")
class Equalization(_Shift):
    """Softmax equalization loss: a sample of another class does not push rare classes down.

        -log( e^z_y / sum_k w_k e^z_k ),   w_k = 1 - β [f_k < λ] [k != y],   β = 1 by probability γ, else 0

    With γ < 1 each logit of each sample draws its own β, from the `draws` of a `layers.UniformDraws` on the head's
    outputs. Rows of negatives push every class.

    Args:
        frequencies: f, the share of the training images, or samples, with each of the C classes.
        threshold: λ; the authors take 1.76e-3 for LVIS.
        probability: γ in (0, 1].

    Reference: Tan et al., "Equalization loss for long-tailed object recognition", CVPR 2020, section 3.4 (softmax);
    C2AM (2022), Table 6.

    >>> loss = losses.CrossEntropyLoss(margin=losses.Equalization([0.9, 0.099, 0.001], probability=1.0))
    >>> round(float(loss(np.array([0]), {"logits": np.zeros((1, 3), "float32")})), 4)  # log 2: the last is left out
    0.6931
    """

    drops = True

    def __init__(self, frequencies, threshold=1.76e-3, probability=0.9):
        self.frequencies, self.threshold = _check_frequencies(frequencies, threshold)
        if not 0 < probability <= 1:
            raise ValueError(f"`probability` must lie in (0, 1]. Received: probability={probability}")
        self.probability = float(probability)
        self.reads = ("logits", "draws") if self.probability < 1 else ("logits",)

    def training_logits(self, labels, outputs, background=None):
        return super().training_logits(labels, outputs)  # negatives are no foreground, whose rows alone move

    def _move(self, rows, index, outputs):
        columns = rows.shape[-1]
        dropped = equalization_weights(index, self.frequencies, self.threshold, columns, "float32") == 0
        if self.probability < 1:
            dropped = dropped & (ops.reshape(outputs["draws"], (-1, columns)) < self.probability)
        return ops.where(dropped, DROPPED, rows)

    def get_config(self):
        return {"frequencies": self.frequencies, "threshold": self.threshold, "probability": self.probability}


@keras.saving.register_keras_serializable("cplus1_keras")
class Seesaw(_Shift):
    """Seesaw loss: a sample pushes rarer classes down less, but those more that it is mistaken for.

        -log( e^z_y / (e^z_y + sum_{j != y} M_yj C_yj e^z_j) )
        M_yj = min(1, (N_j / N_y)^p),   C_yj = max(1, (σ_j / σ_y)^q),   σ = softmax(z)

    N are the samples that training has seen so far, which a `layers.ClassCounts` on the head's outputs counts. No
    gradient flows through M and C. (The paper's normalised classifier is `heads.CosineHead`; its objectness, a branch
    of its own, is not here: background is a class.)

    Args:
        p: >= 0; 0 leaves M out.
        q: >= 0; 0 leaves C out.

    Reference: Wang et al., "Seesaw loss for long-tailed instance segmentation", CVPR 2021, section 3.1;
    C2AM (2022), Table 6.

    >>> loss = losses.CrossEntropyLoss(margin=losses.Seesaw(p=1.0, q=0.0))
    >>> outputs = {"logits": np.zeros((1, 2), "float32"), "class_counts": np.array([30, 10, 0])}
    >>> round(float(loss(np.array([0]), outputs)), 4)  # log(1 + 10 / 30)
    0.2877
    """

    reads = ("logits", "class_counts")

    def __init__(self, p=0.8, q=2.0):
        if not (0 <= p < math.inf and 0 <= q < math.inf):
            raise ValueError(f"`p` and `q` are exponents >= 0. Received: p={p}, q={q}")
        self.p, self.q = float(p), float(q)

    def _move(self, rows, index, outputs):
        seen = ops.log(ops.maximum(ops.cast(outputs["class_counts"], rows.dtype), 1))[: rows.shape[-1]]
        fixed = ops.stop_gradient(rows)
        mitigation = self.p * ops.minimum(seen - ops.expand_dims(ops.take(seen, index), -1), 0)
        compensation = self.q * ops.maximum(fixed - ops.expand_dims(take_at(fixed, index), -1), 0)
        return rows + mitigation + compensation

    def get_config(self):
        return {"p": self.p, "q": self.q}


@keras.saving.register_keras_serializable("cplus1_keras")
class SigmoidEqualizationLoss(OpenSetLoss):
    """Equalization loss on `logits` (..., C), a sigmoid for each class: rare classes are not pushed down by others.

        -sum_c w_c (log p_c for c = y, log(1 - p_c) for the others),   w_c = 1 - [y known] [f_c < λ] [c != y]

    It wants a head without a background; negatives are absent from all classes. The mean counts both.

    Args:
        frequencies, threshold: As for `Equalization`.

    Reference: Tan et al., "Equalization loss for long-tailed object recognition", CVPR 2020, section 3.2.

    >>> loss = losses.SigmoidEqualizationLoss([0.9, 0.001], threshold=0.01)
    >>> round(float(loss(np.array([0]), {"logits": np.zeros((1, 2), "float32")})), 4)  # log 2: the second is left out
    0.6931
    """

    counted = staticmethod(is_seen)
    needs_negatives = True

    def __init__(self, frequencies, threshold=1.76e-3, name=None):
        self.frequencies, self.threshold = _check_frequencies(frequencies, threshold)
        super().__init__(name)

    def values(self, labels, outputs):
        logits = outputs["logits"]
        columns = logits.shape[-1]
        weights = equalization_weights(labels, self.frequencies, self.threshold, columns, logits.dtype)
        present = ops.expand_dims(labels, -1) == ops.arange(columns, dtype="int32")
        values = ops.sum(weights * ops.softplus(ops.where(present, -logits, logits)), axis=-1)
        return ops.where(labels < columns, values, float("nan"))

    def get_config(self):
        return {**super().get_config(), "frequencies": self.frequencies, "threshold": self.threshold}
