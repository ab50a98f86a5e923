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
    with pytest.raises(ValueError, match=r"signature 'serving_default' must map.*Assign\w+ changes a variable"):
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


def others(served, expected, predictor, layers=()):
    """What the gate says of served answers, given as arrays."""
    outputs = {"logits": expected}
    network = types.SimpleNamespace(predict=lambda images, verbose: outputs, _flatten_layers=lambda: layers)
    parts = {"network": network, "spec": predictor.spec, "reject": predictor.reject}
    parts["num_classes"] = predictor.num_classes
    exporting._compare(types.SimpleNamespace(**parts), lambda images: served, np.zeros((2, 8, 10, 3)))


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
    said = json.loads(classes.read_text(encoding="utf-8"))
    assert (said["class_names"], said["output"], said["threshold"]) == (small.NAMES, "image", 0.0)
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


HALF = [types.SimpleNamespace(compute_dtype="float32"), types.SimpleNamespace(compute_dtype="bfloat16")]


@pytest.mark.parametrize(("layers", "allowed"), [((), 1e-4), (HALF[:1], 1e-4), (HALF, 2e-2)])
@pytest.mark.parametrize("size", [0.5, 9.0, -99.0])
def test_answers_may_differ_by_rounding(small, layers, allowed, size):
    """Relative to 1 + their size, so that neither small nor large ones fail on the last digits."""
    logits = np.array([[size, -1e4, -1e4]] * 2, "float32")
    predictor = Predictor(small.build(), Reject(3, -1e9, "max_logit"), small.NAMES)
    answer = {"class_id": np.array([0, 0])}
    for sign in (1, -1):
        shift = sign * allowed * (1 + abs(size))
        others({**answer, "score": np.array([size, size + 0.9 * shift])}, logits, predictor, layers)
        with pytest.raises(ValueError, match=f"`score` is off by up to .*allowed: {allowed}"):
            others({**answer, "score": np.array([size, size + 1.1 * shift])}, logits, predictor, layers)
    probabilities = {"probabilities": np.array([[1.0, 0, 0]] * 2), "score": logits[:, 0]}
    others({**answer, **probabilities}, logits, predictor, layers)
    with pytest.raises(ValueError, match="`probabilities` is off by up to"):
        others({**answer, **probabilities, "probabilities": np.full((2, 3), 1 / 3)}, logits, predictor, layers)


@pytest.mark.parametrize(("threshold", "near"), [(9.0, 1e-3), (0.0, 1e-4), (-9.0, 1e-3)])
def test_decisions_at_the_threshold_may_differ(small, threshold, near):
    predictor = Predictor(small.build(), Reject(3, threshold, "max_logit"), small.NAMES)
    for gap, told in ((0.9 * near, False), (-0.9 * near, False), (1.1 * near, True), (-1.1 * near, True)):
        score = threshold + gap
        logits = np.array([[score, -1e4, -1e4]], "float32")
        other = {"class_id": np.array([-1 if gap > 0 else 0]), "score": logits[:, 0]}
        if not told:
            others(other, logits, predictor)
            continue
        with pytest.raises(ValueError, match="decides 1 of 1 times otherwise"):
            others(other, logits, predictor)


@pytest.mark.parametrize("threshold", [-np.inf, -1e9])
def test_classes_that_tie_may_differ(small, threshold):
    predictor = Predictor(small.build(), Reject(3, threshold, "max_logit"), small.NAMES)
    for best, gap, told in ((9.0, 0.9e-3, False), (9.0, 1.1e-3, True), (-9.0, 0.9e-3, False), (-9.0, 1.1e-3, True)):
        logits = np.array([[-1e4, best - gap, best]], "float32")
        other = {"class_id": np.array([1]), "score": logits[:, 2]}
        if not told:
            others(other, logits, predictor)
            continue
        with pytest.raises(ValueError, match="decides 1 of 1 times otherwise"):
            others(other, logits, predictor)


def test_one_class_ties_with_none(small):
    images = keras.Input((8, 10, 3))
    features = layers.Flatten()(images)
    model = keras.Model(images, {"features": features, "logits": layers.Dense(2)(features)})
    predictor = Predictor(model, Reject(1, 0.0, "max_logit"))
    logits = np.array([[2.0, 2.0]], "float32")  # as much background as class
    others({"class_id": np.array([0]), "score": np.array([2.0])}, logits, predictor)
    with pytest.raises(ValueError, match="decides 1 of 1"):
        others({"class_id": np.array([-1]), "score": np.array([2.0])}, logits, predictor)


def samples(spec, shape, given=None):
    return exporting._samples(types.SimpleNamespace(spec=spec, image_shape=shape), given)


def test_samples_are_noise_of_a_size_that_no_stride_divides():
    for spec, shape, size in (
        (serving.ImageSpec(), (8, 10, 3), (8, 10)),
        (serving.PixelSpec(), (None, None, 1), (65, 97)),
        (serving.PixelSpec((40, 30)), (None, 50, 1), (40, 50)),
    ):
        made = samples(spec, shape)
        assert made.shape == (4, *size, shape[2])
        assert made.dtype == spec.dtype
        assert (made.min() < 3, made.max() > 252, made.max() <= 255) == (True, True, True)
        np.testing.assert_array_equal(made, samples(spec, shape))
        assert made[0].std() > 60
    given = np.full((1, 8, 10, 3), 7)
    assert samples(serving.ImageSpec(), (8, 10, 3), given).dtype == np.float32
    for wrong in (given[0], given[:0], given[:, :7], given[..., :1], given + np.nan):
        with pytest.raises(ValueError, match="must be finite images of shape"):
            samples(serving.ImageSpec(), (8, 10, 3), wrong)


def test_what_a_graph_executes_is_found_wherever_it_hides(tmp_path):
    """In functions within functions, by a control dependency; not what no signature reaches, Python apart."""

    class Holder(tf.Module):
        def __init__(self):
            super().__init__()
            self.count = tf.Variable(0.0)

        @tf.function(input_signature=[tf.TensorSpec((), name="images")])
        def serve(self, images):
            return {"answer": tf.cond(images > 0, lambda: self.inner(images), lambda: images)}

        @tf.function
        def inner(self, x):
            with tf.control_dependencies([self.count.assign_add(x)]):
                return tf.identity(x)

        @tf.function(input_signature=[tf.TensorSpec(())])
        def train(self, x):
            return x + tf.random.normal(())

    holder = Holder()
    tf.saved_model.save(holder, str(tmp_path / "1"), signatures={"serving_default": holder.serve})
    with pytest.raises(ValueError, match="'serving_default' must map") as told:
        serving.check(tmp_path / "1")
    assert "AssignAddVariableOp changes a variable" in str(told.value)
    assert "random" not in str(told.value)
