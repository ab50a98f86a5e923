"""The predictor of images and its SavedModel: NumPy's numbers from `predict`, and no harm by a bad or a missing row."""

import subprocess
import sys
import textwrap
import warnings

import keras
import numpy as np
import pytest
from keras import layers

tf = pytest.importorskip("tensorflow", reason="serving is TensorFlow's part")
if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

from cplus1_keras import heads, serving  # noqa: E402  needs TensorFlow
from cplus1_keras.layers import Presence, Reject  # noqa: E402
from cplus1_keras.serving import Predictor  # noqa: E402


@pytest.fixture(scope="module")
def exported(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "1"
    model = small.build()
    reject, expected = small.rejecting(model)
    predictor = Predictor(model, reject, small.NAMES)
    predictor.export(path, samples=small.pixels(16))
    return predictor, expected, path


@pytest.fixture
def served(exported):
    loaded = tf.saved_model.load(str(exported[-1]))
    return lambda images, signature="serving_default": {
        name: value.numpy() for name, value in loaded.signatures[signature](images=tf.constant(images)).items()
    }


def test_the_saved_model_answers_as_numpy_from_predict(small, exported, served):
    expected, answer = exported[1], served(small.pixels(16))
    small.agree(answer, expected)
    assert [name.decode() for name in answer["class_name"]] == expected["class_name"]
    assert {"unknown"} < set(expected["class_name"])  # some are accepted and some are not
    types = {name: value.dtype.name for name, value in answer.items() if name != "class_name"}
    floats = {"score": "float32", "probabilities": "float32"}
    assert types == {"class_id": "int32", "known": "bool", "valid": "bool", **floats}
    assert answer["valid"].all()


def test_python_gives_the_same_bits(small, exported, served):
    predictor, expected, _ = exported
    answer, wanted = predictor.predict(small.pixels(16)), served(small.pixels(16))
    for name in set(wanted) - {"class_name"}:
        np.testing.assert_array_equal(answer[name], wanted[name])
    assert answer["class_name"].tolist() == expected["class_name"]
    small.agree(predictor.predict(small.pixels(16), batch_size=5), expected)
    rounded = small.pixels(16).astype("uint8")
    small.agree(predictor.predict(rounded), predictor.predict(rounded.astype("float64")), 0)


def test_features_are_the_models(small, exported, served):
    answer = served(small.pixels(16), "features")
    wanted = exported[0].model.predict(small.pixels(16), verbose=0)["features"]
    np.testing.assert_allclose(answer["features"], wanted, rtol=1e-5, atol=1e-5)
    assert answer["valid"].all()
    np.testing.assert_array_equal(exported[0].features(small.pixels(16))["features"], answer["features"])


def test_training_mode_would_be_seen(small, exported):
    """Guards the tests above: the same model, run as `model.export` runs it, gives other numbers."""
    model, expected = exported[0].model, exported[1]
    weights = model.get_weights()
    logits = model(small.pixels(16))["logits"].numpy()
    model.set_weights(weights)  # the call above moved the statistics
    assert np.abs(tf.nn.softmax(logits).numpy() - expected["probabilities"]).max() > 0.01


@pytest.mark.parametrize("shape", [(2, 10, 8, 3), (2, 16, 20, 3), (2, 8, 10, 1)])
def test_a_wrong_image_size_is_refused(exported, served, shape):
    for signature in ("serving_default", "features"):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"not compatible with expected shape \[\?,8,10,3\]"):
            served(np.zeros(shape, "float32"), signature)
    with pytest.raises(ValueError, match=r"the shape \(N, 8, 10, 3\)"):
        exported[0].predict(np.zeros(shape))


def test_one_bad_row_is_rejected_and_the_others_keep_their_answers(small, exported, served):
    predictor, expected, _ = exported
    images, good = small.pixels(16), np.ones(16, bool)
    for row, value in [(2, np.nan), (5, np.inf), (9, 65535.0), (11, -np.inf)]:
        images[row, 3, 4, 1], good[row] = value, False
    with pytest.warns(UserWarning, match="go from 0.*to 65535.*16 bits"):
        python = predictor.predict(images)
    for answer in (served(images), python):
        numbers = {name: value[good] for name, value in answer.items()}
        small.agree(numbers, {name: np.asarray(value)[good] for name, value in expected.items()})
        np.testing.assert_array_equal(answer["valid"], good)
        assert answer["class_id"][~good].tolist() == [-1] * 4
        assert not answer["known"][~good].any()
        assert not answer["probabilities"][~good].any()
        assert {str(name) for name in answer["class_name"][~good]} <= {"unknown", "b'unknown'"}
        assert (answer["score"][~good] == np.finfo("float32").min).all()  # JSON knows no infinity
    features = served(images, "features")
    np.testing.assert_array_equal(features["valid"], good)
    assert not features["features"][~good].any()


@keras.saving.register_keras_serializable("test_serving")
class Coupled(layers.Layer):
    """Reads the whole batch, as per-tensor quantisation does: a NaN in one row would reach the others."""

    def call(self, x):
        return x + 0 * keras.ops.sum(x, axis=0, keepdims=True)


def test_a_bad_row_is_rejected_whatever_the_threshold_and_spoils_no_other(small):
    predictor = Predictor(small.build(Coupled()), Reject(3, -1e9), small.NAMES)
    images = small.pixels(4)
    images[1, 0, 0, 0] = np.nan
    answer, wanted = predictor.predict(images), predictor.predict(small.pixels(4))
    assert wanted["known"].all()
    assert answer["class_id"].tolist() == [wanted["class_id"][0], -1, *wanted["class_id"][2:]]
    assert answer["class_name"][1] == "unknown"
    assert answer["known"].tolist() == answer["valid"].tolist() == [True, False, True, True]
    keep = [0, 2, 3]
    np.testing.assert_allclose(answer["probabilities"][keep], wanted["probabilities"][keep], rtol=1e-5, atol=1e-6)


def constant(value, num_classes=3, reject=None):
    """A predictor whose logits are `value` times the mean pixel."""
    images = keras.Input((8, 10, 3))
    features = layers.GlobalAveragePooling2D()(images)
    kernel = keras.initializers.Constant(np.broadcast_to(value, (3, num_classes)).tolist())
    logits = layers.Dense(num_classes, kernel_initializer=kernel)(features)
    model = keras.Model(images, {"features": features, "logits": logits})
    return Predictor(model, reject or Reject(num_classes, -1e9))


def test_a_model_that_overflows_rejects():
    answer = constant(1e38).predict(np.stack([np.full((8, 10, 3), 255.0), np.zeros((8, 10, 3))]))
    assert answer["known"].tolist() == answer["valid"].tolist() == [False, True]
    assert np.isfinite(answer["probabilities"]).all()


@keras.saving.register_keras_serializable("test_serving")
def nowhere(outputs, num_classes):
    return outputs["logits"][..., 0] * float("nan")


@keras.saving.register_keras_serializable("test_serving")
def steady(outputs, num_classes):
    return keras.ops.zeros_like(outputs["logits"][..., 0])


def test_a_score_without_probabilities_is_no_answer_nor_are_they_without_it():
    bright = np.full((1, 8, 10, 3), 255.0)
    for value, score in ((1.0, nowhere), (1e38, steady)):
        answer = constant(value, reject=Reject(3, -1e9, score)).predict(bright)
        assert answer["known"].tolist() == answer["valid"].tolist() == [False]
    assert constant(1.0, reject=Reject(3, -1e9, steady)).predict(bright)["valid"].all()


@keras.saving.register_keras_serializable("test_serving")
def endless(outputs, num_classes):
    return outputs["logits"][..., 0] * float("inf")


def test_an_infinite_score_is_served_as_the_largest_number():
    answer = constant([1.0, 0.0, 0.0], reject=Reject(3, 0.0, endless)).predict(np.full((1, 8, 10, 3), 9.0))
    assert answer["score"].tolist() == [np.finfo("float32").max]
    assert answer["class_name"].tolist() == ["0"]


def test_an_empty_batch_gives_empty_answers(exported, served):
    empty = np.zeros((0, 8, 10, 3), "float32")
    for answer in (served(empty), exported[0].predict(empty)):
        assert answer["probabilities"].shape == (0, 3)
        assert all(len(value) == 0 for value in answer.values())
    assert served(empty, "features")["features"].shape == (0, 5)


def test_a_process_without_keras_gets_the_same_numbers(small, exported, tmp_path):
    np.save(tmp_path / "images.npy", small.pixels(16))
    code = """
        import sys
        sys.modules["keras"] = None  # importing it now fails
        sys.modules["cplus1_keras"] = None
        import numpy as np
        import tensorflow as tf
        path, folder = sys.argv[1:]
        served = tf.saved_model.load(path).signatures["serving_default"]
        answer = served(images=tf.constant(np.load(folder + "/images.npy")))
        answer.pop("class_name")
        np.savez(folder + "/answer.npz", **{name: value.numpy() for name, value in answer.items()})
        encoded = tf.saved_model.load(path).signatures["predict_bytes"]
        rows = tf.stack([tf.io.encode_png(tf.zeros([20, 30, 3], tf.uint8)), "no image"])
        assert encoded(image_bytes=rows)["valid"].numpy().tolist() == [True, False]
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(exported[-1]), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    with np.load(tmp_path / "answer.npz") as answer:
        small.agree(dict(answer), exported[1])


def test_the_threshold_can_be_changed_in_the_saved_model(small, exported, tmp_path):
    loaded = tf.saved_model.load(str(exported[-1]))
    (threshold,) = loaded.threshold
    assert threshold.numpy() == exported[0].reject.threshold.numpy()
    threshold.assign(1e9)
    tf.saved_model.save(loaded, str(tmp_path / "2"), signatures=loaded.signatures)
    answer = tf.saved_model.load(str(tmp_path / "2")).signatures["serving_default"](images=small.pixels(4))
    assert not answer["known"].numpy().any()


def test_a_background_logit_is_never_an_answer(small, tmp_path):
    model = small.build(background=True)
    reject, expected = small.rejecting(model)
    predictor = Predictor(model, reject, small.NAMES)
    assert predictor.background
    predictor.export(tmp_path / "1", samples=small.pixels(16))
    answer = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"](images=small.pixels(16))
    assert answer["probabilities"].shape == (16, 3)
    np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], rtol=1e-4, atol=1e-5)
    assert answer["class_id"].numpy().max() < 3


def test_mixed_precision_answers_in_float32(small, tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = small.build()
        reject, expected = small.rejecting(model)
        assert model.output["logits"].dtype == "float16"
        Predictor(model, reject, small.NAMES).export(tmp_path / "1", samples=small.pixels(16))
    finally:
        keras.config.set_dtype_policy(before)
    answer = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"](images=small.pixels(16))
    assert {answer[name].dtype.name for name in ("score", "probabilities")} == {"float32"}
    np.testing.assert_allclose(answer["probabilities"].numpy(), expected["probabilities"], atol=2e-2)


def test_wrong_parts_are_explained(small, exported):
    model = exported[0].model
    inputs = keras.Input((8, 10, 3))
    six = keras.Model(inputs, heads.LinearHead(6)(layers.Flatten()(inputs)))
    for message, *parts in (
        ("each of 3 known classes", model, Reject(3, 0.0), ["a", "b"]),
        ("differ from each other", model, Reject(3, 0.0), ["a", "b", "unknown"]),
        ("differ from each other", model, Reject(3, 0.0), ["a", "b", "a"]),
        ("must not be empty", model, Reject(3, 0.0), ["a", "b", ""]),
        (r"logits of shape \(N, 7\), or 8 with", model, Reject(7, 0.0), list("abcdefg")),
        ("sizes known", small.build(shape=(None, 8, 3)), Reject(3, 0.0), small.NAMES),
        ("functional Keras model", keras.Sequential(), Reject(3, 0.0), small.NAMES),
        ("gives a dict with features and logits", keras.Model(model.input, model.output["logits"]), Reject(3, 0.0)),
        ("ImageSpec needs a `Reject`", model, Presence(3, 0.0)),
        # Six classes and no background: the sixth logit would never be answered.
        ("5 known classes need .* a head with 6 known classes and logits of shape", six, Reject(5, 0.0)),
        (r"\(N, H, W, 3\), or 4 with .*another `spec`", model, Reject(3, 0.0), None, serving.PixelSpec()),
    ):
        with pytest.raises(ValueError, match=message):
            Predictor(*parts)


def test_positions_of_an_image_have_answers_of_their_own(tmp_path):
    """A class for each row of an image, beside the same predictor of rows that are images."""
    images = keras.Input((4, 3, 1))
    rows = keras.Model(images, heads.LinearHead(2)(layers.Reshape((4, 3))(images)))
    predictor = Predictor(rows, Reject(2, 0.0, "max_logit"), spec=serving.ImageSpec(positions=1))
    given = np.random.default_rng(0).uniform(0, 255, (5, 4, 3, 1)).astype("float32")
    logits = rows.predict(given, verbose=0)["logits"]
    answer = predictor.predict(given)
    np.testing.assert_array_equal(answer["class_id"], np.where(logits.max(-1) >= 0, logits.argmax(-1), -1))
    assert 0 < answer["known"].mean() < 1
    given[3, 0, 0, 0] = np.nan
    assert predictor.predict(given)["valid"].all(axis=1).tolist() == [True, True, True, False, True]
    predictor.export(tmp_path / "1")
    served = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"](images=given)
    np.testing.assert_array_equal(served["score"], predictor.predict(given)["score"])
    with pytest.raises(ValueError, match=r"logits of shape \(N, P, Q, 2\), or 3 with.*Received: \(None, 4, 2\)"):
        Predictor(rows, Reject(2, 0.0), spec=serving.ImageSpec(positions=2))


def test_wrong_images_are_explained(exported):
    predictor = exported[0]
    with pytest.raises(ValueError, match=r"Received: \(8, 10, 3\)\. Add a batch axis"):
        predictor.predict(np.zeros((8, 10, 3)))
    with pytest.raises(ValueError, match=r"Received: \(2, 3, 8, 10\)\. Channels come last: np\.moveaxis"):
        predictor.predict(np.zeros((2, 3, 8, 10)))
    with pytest.raises(TypeError, match="dtype=bool"):
        predictor.predict(np.zeros((1, 8, 10, 3), bool))


def test_pixels_of_another_range_are_warned_of_where_predict_was_called(small, exported):
    for images, message in (
        (small.pixels(2) / 255, "scaled to 0..1"),
        (small.pixels(2) / 127.5 - 1, "scaled to 0..1"),
        ((small.pixels(2) * 257).astype("uint16"), r"go from \d+ to 6\d+; the model takes raw pixels, 0\.\.255"),
        (small.pixels(2) - 128, "go from -12"),
    ):
        with pytest.warns(UserWarning, match=message) as found:
            exported[0].predict(images)
        assert found[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exported[0].predict(np.ones((1, 8, 10, 3), "uint8"))  # dark, and no reason to warn
        exported[0].predict(np.full((1, 8, 10, 3), 255.3))  # what resizing may overshoot
