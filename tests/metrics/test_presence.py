"""The streamed area of label sets beside scikit-learn's average precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import average_precision_score

from cplus1_keras.labels import IGNORE
from cplus1_keras.metrics import PresenceAUC


def batch():
    rng = np.random.default_rng(0)
    truth = (rng.random((3000, 4)) < [0.5, 0.1, 0.3, 0.2]).astype("int32")
    logits = (2 * rng.normal(size=truth.shape) + 2 * truth - 2).astype("float32")
    return np.where(rng.random(truth.shape) < 0.3, IGNORE, truth), logits


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "jit"])
def test_it_is_close_to_average_precision(jit):
    truth, logits = batch()
    metric = PresenceAUC(4)
    update = tf.function(metric.update_state, jit_compile=jit)
    for start in range(0, 3000, 500):
        update(tf.constant(truth[start : start + 500]), tf.constant(logits[start : start + 500]))
    seen = truth != IGNORE
    wanted = np.mean([average_precision_score(truth[k, c], logits[k, c]) for c, k in enumerate(seen.T)])
    assert float(metric.result()) == pytest.approx(wanted, abs=0.01)


def test_what_is_not_annotated_or_weighs_nothing_does_not_count():
    truth, logits = batch()
    metric, other = PresenceAUC(4), PresenceAUC(4)
    metric.update_state(truth, np.where(truth == IGNORE, 99, logits))
    other.update_state(truth, np.where(truth == IGNORE, -99, logits))
    assert float(metric.result()) == float(other.result())
    weight = (np.arange(3000) < 1000).astype("float32")
    weighted, part = PresenceAUC(4), PresenceAUC(4)
    weighted.update_state(truth, logits, weight)
    part.update_state(truth[:1000], logits[:1000])
    assert float(weighted.result()) == pytest.approx(float(part.result()), rel=1e-6)


def test_config_round_trip():
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(PresenceAUC(4, name="map")))
    assert (again.num_labels, again.name) == (4, "map")
