"""The gate of an export: what must not be served is not written, and nothing half is left."""

import json
import types

import keras
import numpy as np
import pytest
from keras import layers

tf = pytest.importorskip("tensorflow", reason="serving is TensorFlow's part")
if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

from cplus1_keras import serving  # noqa: E402  needs TensorFlow
from cplus1_keras.layers import Presence, Reject  # noqa: E402
from cplus1_keras.serving import Predictor, exporting  # noqa: E402


@keras.saving.register_keras_serializable("test_export")
class Counter(layers.Layer):
    def build(self, input_shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.count.assign_add(1.0)
        return x


@keras.saving.register_keras_serializable("test_export")
class Pythonic(layers.Layer):
    def call(self, x):
        return tf.reshape(tf.numpy_function(lambda a: a, [x], tf.float32), tf.shape(x))

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


@keras.saving.register_keras_serializable("test_export")
class Noise(layers.Layer):
    def call(self, x):
        return x + tf.random.normal(tf.shape(x))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Counter, r"Assign\w+ changes a variable while it serves"),
        (Pythonic, "PyFunc calls Python"),
        (Noise, "RandomStandardNormal draws random numbers"),
    ],
)
def test_a_bad_graph_is_caught_and_nothing_is_left(small, layer, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Predictor(small.build(layer()), Reject(3, 0.0), small.NAMES).export(tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


def test_stock_export_is_caught(small, tmp_path):
    """What `model.export` writes holds the training mode that Keras's augmentation leaks."""
    small.build().export(tmp_path / "stock", verbose=False)
    with pytest.raises(ValueError, match=r"signature 'features' must map.*Assign\w+ changes a variable"):
        serving.check(tmp_path / "stock")


@keras.saving.register_keras_serializable("test_export")
class Moody(layers.Layer):
    """Its predictions depend on an eager flag: a stand-in for whatever makes an export differ from `predict`."""

    shift = 0.0

    def call(self, x):
        return x + self.shift


@pytest.mark.parametrize("shift", [1.0, float("nan")])
def test_an_export_that_disagrees_with_predict_is_caught(small, tmp_path, shift):
    layer = Moody()
    model = small.build(layer)
    model.predict(small.pixels(4), verbose=0)  # traced without the shift
    layer.shift = shift
    with pytest.raises(ValueError, match="disagrees with `predict`"):
        Predictor(model, Reject(3, 0.0), small.NAMES).export(tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


def others(served, expected, predictor):
    """What the gate says of served answers, given as arrays."""
    found = types.SimpleNamespace(signatures={"serving_default": lambda images: served})
    outputs = {"logits": expected}
    network = types.SimpleNamespace(predict=lambda images, verbose: outputs, _flatten_layers=list)
    parts = {"network": network, "spec": predictor.spec, "reject": predictor.reject, "num_classes": 3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.saved_model, "load", lambda path: found)
        exporting._compare(types.SimpleNamespace(**parts), "1", np.zeros((2, 8, 10, 3)))


def test_another_decision_is_caught_and_a_close_one_is_not(small):
    predictor = Predictor(small.build(), Reject(3, 1.0, "max_logit"), small.NAMES)
    logits = np.array([[2.0, 0.0, 0.0], [0.5, 0.0, 0.0]], "float32")
    right = {"class_id": np.array([0, -1]), "score": np.array([2.0, 0.5])}
    others(right, logits, predictor)
    for wrong in ([-1, -1], [0, 0], [1, -1]):
        with pytest.raises(ValueError, match="decides 1 of 2 times otherwise than Keras"):
            others({**right, "class_id": np.array(wrong)}, logits, predictor)
    tied = np.array([[2.0, 2.0, 0.0], [1.00001, 0.0, 0.0]], "float32")  # a tie of classes, a score at the threshold
    others({"class_id": np.array([1, -1]), "score": np.array([2.0, 1.0])}, tied, predictor)


def test_a_number_that_is_none_is_caught(small):
    predictor = Predictor(small.build(), Reject(3, 1.0, "max_logit"), small.NAMES)
    logits = np.array([[2.0, 0.0, 0.0], [0.5, 0.0, 0.0]], "float32")
    for served, expected in ((np.nan, 2.0), (2.0, np.nan)):
        logits[0, 0] = expected
        answer = {"class_id": np.array([0, -1]), "score": np.array([served, 0.5])}
        with pytest.raises(ValueError, match="`score` is off by up to nan"):
            others(answer, logits, predictor)


def test_another_decision_on_label_sets_is_caught(small):
    predictor = Predictor(small.build(), Presence(3, [0.0, 1.0, 5.0]), small.NAMES, serving.LabelSetSpec())
    logits = np.array([[2.0, 0.5, 0.0], [0.5, 2.0, 0.0]], "float32")
    present = logits >= [0.0, 1.0, 5.0]
    others({"present": present, "score": logits}, logits, predictor)
    with pytest.raises(ValueError, match="decides 6 of 6 times"):
        others({"present": ~present, "score": logits}, logits, predictor)


def test_nothing_is_overwritten(small, tmp_path):
    predictor, path = Predictor(small.build(), Reject(3, 0.0), small.NAMES), tmp_path / "versions" / "1"
    predictor.export(path)
    assert path.stat().st_mode & 0o005 == 0o005  # a server of another user can read it
    before = sorted(path.rglob("*"))
    with pytest.raises(FileExistsError, match="never overwrites"):
        predictor.export(path)
    assert sorted(path.rglob("*")) == before
    assert [item.name for item in path.parent.iterdir()] == ["1"]


def test_check_accepts_the_export_and_explains_what_is_none(small, tmp_path):
    Predictor(small.build(), Reject(3, 0.0), small.NAMES).export(tmp_path / "1")
    serving.check(tmp_path / "1")
    classes = tmp_path / "1" / serving.CLASSES_FILE
    assert json.loads(classes.read_text(encoding="utf-8")) == {"class_names": small.NAMES, "output": "image"}
    classes.write_text(json.dumps({"output": "pixel"}))
    with pytest.raises(ValueError, match=r"'serving_default' must map `images` to \['class_id', 'score', 'valid'\]"):
        serving.check(tmp_path / "1")
    classes.write_text("{}")
    with pytest.raises(ValueError, match=r"classes\.json is damaged: KeyError"):
        serving.check(tmp_path / "1")
    with pytest.raises(FileNotFoundError, match=r"lacks saved_model\.pb"):
        serving.check(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xfe nothing")
    with pytest.raises(ValueError, match="damaged"):
        serving.check(tmp_path)


@pytest.mark.parametrize("samples", [np.zeros((2, 8, 9, 3)), np.full((1, 8, 10, 3), np.nan), np.zeros((0, 8, 10, 3))])
def test_samples_that_are_none_are_refused(small, tmp_path, samples):
    with pytest.raises(ValueError, match=r"`samples` must be finite images of shape \(N, \(8, 10, 3\)\)"):
        Predictor(small.build(), Reject(3, 0.0), small.NAMES).export(tmp_path / "1", samples)
    assert list(tmp_path.iterdir()) == []
