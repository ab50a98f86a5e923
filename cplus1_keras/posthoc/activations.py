"""Scores of logits that are made again, of features that are clipped, pruned or rescaled."""

import keras
import numpy as np
from keras import ops

from cplus1_keras import scores
from cplus1_keras.numerics import divide
from cplus1_keras.posthoc.base import FittedScore, share
from cplus1_keras.posthoc.streams import Reservoir

ENTRIES = 2**20
"""So many entries tell the share below a number to 0.05 %."""


class ShapedActivations(FittedScore):
    """What these share: `score` of the logits that the last Dense layer makes of `shape(features)`.

    A copy of that layer's weights, (K + 1) · C numbers, is added to the model. The features are meant to be activations
    after a ReLU, and their averages.
    """

    needs_classifier = True

    def __init__(self, score=scores.energy, **kwargs):
        super().__init__(**kwargs)
        self.score = scores.get(score)

    def build(self, shapes):
        inside, outside = shapes["features"][-1], shapes["logits"][-1]
        self.kernel = self.add_statistic("kernel", (inside, outside))
        self.bias = self.add_statistic("bias", (outside,))

    def estimate(self, rows, classifier):
        return dict(zip(("kernel", "bias"), classifier, strict=True))

    def shape(self, features):
        """The features as these activations should have been."""
        raise NotImplementedError(f"{type(self).__name__} must implement `shape(features)`.")

    def measure(self, logits, features):
        features = self.shape(features)
        logits = ops.matmul(features, ops.convert_to_tensor(self.kernel)) + self.bias
        return self.score({"logits": logits, "features": features}, self.num_classes)

    def get_config(self):
        return {**super().get_config(), "score": scores.to_config(self.score)}


@keras.saving.register_keras_serializable("cplus1_keras")
class ReAct(ShapedActivations):
    """A score of logits from features that are clipped from above: score(W min(φ, c) + b).

    c is a quantile of all entries of the training features, of a sample of a million of them.

    Args:
        quantile: The share of the entries below c, in (0, 1).
        score: A function of `cplus1_keras.scores`, or its name.
        **kwargs: Those of `FittedScore`.

    Raises:
        ValueError: If an argument lies outside its range.

    Reference: Sun, Guo and Li, "ReAct: Out-of-distribution Detection With Rectified Activations", NeurIPS 2021, Eq 5.

    >>> features = np.arange(101.0)[:, None]
    >>> score = ReAct(quantile=0.9, score=scores.max_logit)
    >>> outputs = {"logits": 2 * features, "features": features}
    >>> score.fit([(outputs, np.zeros(101, int))], num_classes=1, classifier=([[2.0]], [0.0]))
    >>> print(ops.convert_to_numpy(score(outputs))[[50, 100]])
    [100. 180.]
    """

    score_name = "react"

    def __init__(self, quantile=0.9, score=scores.energy, **kwargs):
        super().__init__(score, **kwargs)
        self.quantile = share(quantile, "quantile")

    def build(self, shapes):
        super().build(shapes)
        self.limit = self.add_statistic("limit", ())

    def estimate(self, rows, classifier):
        entries = Reservoir(ENTRIES, seed=0)
        for _, features, _ in rows:
            entries.update(features.ravel())
        return {**super().estimate(rows, classifier), "limit": np.quantile(entries.rows, self.quantile)}

    def shape(self, features):
        return ops.minimum(features, ops.convert_to_tensor(self.limit))

    def get_config(self):
        return {**super().get_config(), "quantile": self.quantile}


class PrunedActivations(ShapedActivations):
    """What the three kinds of ASH share: only the largest features of each sample stay."""

    needs_training = False

    def __init__(self, pruned=0.9, score=scores.energy, **kwargs):
        super().__init__(score, **kwargs)
        self.pruned = share(pruned, "pruned")

    def number(self, features):
        """How many features of a sample stay."""
        return max(features.shape[-1] - round(features.shape[-1] * self.pruned), 1)

    def stays(self, features):
        """True for the features that stay; exactly as many where some are equal."""
        ranks = ops.argsort(ops.argsort(-features, axis=-1), axis=-1)
        return ranks < self.number(features)

    def get_config(self):
        return {**super().get_config(), "pruned": self.pruned}


@keras.saving.register_keras_serializable("cplus1_keras")
class ASHPrune(PrunedActivations):
    """ASH-P: a score of logits from the largest features of each sample; the others are 0.

    Args:
        pruned: The share of the features that become 0, in (0, 1); one always stays.
        score: A function of `cplus1_keras.scores`, or its name.
        **kwargs: Those of `FittedScore`.

    Raises:
        ValueError: If an argument lies outside its range.

    Reference: Djurisic et al., "Extremely Simple Activation Shaping for Out-of-Distribution Detection", ICLR 2023,
    Algorithm 1.

    >>> score = ASHPrune(pruned=0.5)
    >>> print(ops.convert_to_numpy(score.shape(np.array([[4.0, 1.0, 3.0, 2.0]]))))
    [[4. 0. 3. 0.]]
    """

    score_name = "ash_p"

    def shape(self, features):
        return ops.where(self.stays(features), features, 0.0)


@keras.saving.register_keras_serializable("cplus1_keras")
class ASHBinarize(PrunedActivations):
    """ASH-B: as `ASHPrune`, and all features that stay are equal, with the sum that all had before.

    Args:
        pruned, score, **kwargs: As for `ASHPrune`.

    Reference: Djurisic et al., ICLR 2023, Algorithm 2.

    >>> score = ASHBinarize(pruned=0.5)
    >>> print(ops.convert_to_numpy(score.shape(np.array([[4.0, 1.0, 3.0, 2.0]]))))
    [[5. 0. 5. 0.]]
    """

    score_name = "ash_b"

    def shape(self, features):
        equal = ops.sum(features, axis=-1, keepdims=True) / self.number(features)
        return ops.where(self.stays(features), equal, 0.0)


@keras.saving.register_keras_serializable("cplus1_keras")
class ASHScale(PrunedActivations):
    """ASH-S: as `ASHPrune`, and those that stay times exp(s / s'), the sums of the features before and after.

    Args:
        pruned, score, **kwargs: As for `ASHPrune`.

    Reference: Djurisic et al., ICLR 2023, Algorithm 3.

    >>> score = ASHScale(pruned=0.75)
    >>> print(ops.convert_to_numpy(score.shape(np.array([[2.0, 0.0, 0.0, 0.0]]))).round(3))
    [[5.437 0.    0.    0.   ]]
    """

    score_name = "ash_s"

    def shape(self, features):
        stay = ops.where(self.stays(features), features, 0.0)
        before, after = (ops.sum(part, axis=-1, keepdims=True) for part in (features, stay))
        return stay * ops.exp(divide(before, after))
