"""Scores of the logits: with a temperature, and by generalised entropy."""

import keras
import numpy as np
from keras import ops
from scipy.optimize import brentq

from cplus1_keras import scores
from cplus1_keras.posthoc.base import FittedScore
from cplus1_keras.posthoc.streams import Reservoir

SAMPLES = 2**14
"""So many samples tell a temperature to about 1 %."""

LOWEST, HIGHEST = 0.01, 100.0


@keras.saving.register_keras_serializable("cplus1_keras")
class Temperature(FittedScore):
    """A score of logits divided by the temperature T at which the probabilities of held-out knowns are right.

        T = argmin over T of  -Σ_i ln softmax(z_i / T)[y_i],    score(z / T)

    T is found to 1e-6, in [0.01, 100], on a sample of 16,384. Fit it on knowns that did not train the model: of its own
    training images it is too sure.

    Args:
        score: A function of `cplus1_keras.scores` of logits, or its name.
        **kwargs: Those of `FittedScore`.

    Reference: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    >>> score = Temperature(scores.energy)
    >>> batch = {"logits": 4.0 * np.array([[1, 0], [1, 0], [1, 0], [1, 0]]), "features": np.zeros((4, 1))}
    >>> score.fit([(batch, np.array([0, 0, 0, 1]))], num_classes=2)
    >>> print(round(float(score.temperature.numpy()), 3))  # 4 / ln 3: a probability of 3/4
    3.641
    """

    score_name = "temperature"
    reads_features = False

    def __init__(self, score=scores.log_odds, **kwargs):
        super().__init__(**kwargs)
        self.score = scores.get(score)

    def build(self, shapes):
        self.temperature = self.add_statistic("temperature", ())

    def estimate(self, rows, classifier):
        sample = Reservoir(SAMPLES, seed=0)
        for logits, _, labels in rows:
            sample.update(np.column_stack([logits, labels]).astype("float64"))
        logits, labels = sample.rows[:, :-1], sample.rows[:, -1].astype(int)
        logits = logits - logits.max(-1, keepdims=True)
        right = np.take_along_axis(logits, labels[:, None], -1).mean()

        def slope(log_inverse):
            """Derivative of the mean loss by 1 / T, which rises: the loss is convex in it."""
            weights = np.exp(logits * np.exp(log_inverse))
            return np.mean(np.sum(weights * logits, -1) / np.sum(weights, -1)) - right

        low, high = -np.log(HIGHEST), -np.log(LOWEST)
        if slope(high) <= 0 or slope(low) >= 0:  # all are answered right, or no better than by chance
            return {"temperature": LOWEST if slope(high) <= 0 else HIGHEST}
        return {"temperature": np.exp(-brentq(slope, low, high, xtol=1e-7))}

    def measure(self, logits, features):
        return self.score({"logits": logits / ops.convert_to_tensor(self.temperature)}, self.num_classes)

    def get_config(self):
        return {**super().get_config(), "score": scores.to_config(self.score)}


@keras.saving.register_keras_serializable("cplus1_keras")
class GEN(FittedScore):
    """Generalised entropy of the probabilities, negative.

        -Σ p_c^γ (1 - p_c)^γ    over the `top` largest p_c

    1 - p of the surest class is computed from its log-odds, so that the score does not round to ties.

    Args:
        gamma: γ > 0; the smaller, the more the small probabilities count.
        top: M >= 1, how many probabilities count.
        **kwargs: Those of `FittedScore`.

    Raises:
        ValueError: If an argument lies outside its range.

    Reference: Liu, Lochman and Zach, "GEN: Pushing the Limits of Softmax-Based Out-of-Distribution Detection",
    CVPR 2023, Eq 3.

    >>> score = GEN(gamma=0.5)
    >>> score.fit(None, num_classes=2)
    >>> print(ops.convert_to_numpy(score({"logits": np.zeros((1, 2))})))
    [-1.]
    """

    score_name = "gen"
    needs_training = False
    reads_features = False

    def __init__(self, gamma=0.1, top=100, **kwargs):
        super().__init__(**kwargs)
        if not (gamma > 0 and top >= 1):
            raise ValueError(f"`gamma` must be > 0 and `top` >= 1. Received: gamma={gamma}, top={top}")
        self.gamma, self.top = float(gamma), int(top)

    def measure(self, logits, features):
        highest = ops.top_k(ops.log_softmax(logits), k=min(self.top, logits.shape[-1]))[0]
        # Of all classes, the background's too; p of the others is at most 1/2, where 1 - p is exact.
        odds = scores.log_odds({"logits": logits}, logits.shape[-1])
        others = ops.log1p(-ops.exp(highest[..., 1:]))
        lacking = ops.concatenate([-ops.softplus(ops.expand_dims(odds, -1)), others], axis=-1)
        return -ops.sum(ops.exp(self.gamma * (highest + lacking)), axis=-1)

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma, "top": self.top}
