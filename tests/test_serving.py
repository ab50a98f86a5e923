import dataclasses
import json
import pathlib
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from keras import layers

from cplus1_keras import calibration, scores
from cplus1_keras.layers import rejection

tf = pytest.importorskip("tensorflow", reason="serving is TensorFlow's part")
if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

from cplus1_keras import serving  # noqa: E402  needs TensorFlow

ROOT = pathlib.Path(__file__).parent.parent
NAMES = ["cat", "dög", "eel"]


def build(extra=None, background=False, shape=(8, 10, 3)):
    """A model that answers wrongly when any of its layers runs in training mode, and its images."""
    keras.utils.set_random_seed(3)
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 255)(images)
    x = layers.RandomFlip("horizontal")(x)  # defaults to training=True, which leaks to the layers below
    x = layers.Conv2D(4, 3)(x)
    x = layers.BatchNormalization(momentum=0.5)(x)
    x = layers.Dropout(0.5)(layers.ReLU()(x))
    if extra is not None:
        x = extra(x)
    features = layers.Dense(5)(layers.GlobalAveragePooling2D()(x))
    logits = layers.Dense(len(NAMES) + background, kernel_initializer=keras.initializers.RandomNormal(stddev=5))(
        features
    )
    model = keras.Model(images, {"features": features, "logits": logits})
    if None not in shape:
        model(pixels(32, shape, seed=1), training=True)  # moving statistics away from their start
    return model


def pixels(count, shape=(8, 10, 3), seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (count, *shape)).astype("float32")


def rejecting(model, score=scores.log_odds):
    """A Reject that accepts about half of the images of `pixels`, and their answers by NumPy from `predict`."""
    outputs = model.predict(pixels(16), verbose=0)
    logits = outputs["logits"].astype("float64")
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities = (exponentials / exponentials.sum(-1, keepdims=True))[:, : len(NAMES)]
    best = probabilities.max(-1)
    score_values = np.log(best) - np.log1p(-best)
    threshold = float(np.sort(score_values)[7:9].mean())
    class_id = np.where(score_values >= threshold, probabilities.argmax(-1), -1)
    expected = {"class_id": class_id, "score": score_values, "known": class_id >= 0, "probabilities": probabilities}
    return rejection.Reject(len(NAMES), threshold, score), expected


def agrees(answer, expected, tolerance=1e-4):
    np.testing.assert_array_equal(answer["class_id"], expected["class_id"])
    np.testing.assert_array_equal(answer["known"], expected["known"])
    for name in ("score", "probabilities"):
        np.testing.assert_allclose(answer[name], expected[name], rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "1"
    model = build()
    reject, expected = rejecting(model)
    serving.export(model, path, reject, NAMES, samples=pixels(16))
    return model, reject, expected, path


@pytest.fixture
def served(exported):
    loaded = tf.saved_model.load(str(exported[-1]))
    return lambda images, signature="serving_default": {
        name: value.numpy() for name, value in loaded.signatures[signature](images=tf.constant(images)).items()
    }


def test_the_saved_model_answers_as_numpy_from_predict(exported, served):
    expected, answer = exported[2], served(pixels(16))
    agrees(answer, expected)
    names = [NAMES[i] if i >= 0 else "unknown" for i in expected["class_id"]]
    assert [name.decode() for name in answer["class_name"]] == names
    assert {"unknown"} < set(names)  # some are accepted and some are not
    types = {name: value.dtype.name for name, value in answer.items() if name != "class_name"}
    assert types == {"class_id": "int32", "score": "float32", "known": "bool", "probabilities": "float32"}


def test_features_are_the_models(exported, served):
    answer = served(pixels(16), "features")
    wanted = exported[0].predict(pixels(16), verbose=0)["features"]
    np.testing.assert_allclose(answer["features"], wanted, rtol=1e-5, atol=1e-5)
    assert answer["valid"].all()


def test_training_mode_would_be_seen(exported):
    """Guards the tests above: the same model, run as `model.export` runs it, gives other numbers."""
    model, _, expected, _ = exported
    weights = model.get_weights()
    logits = model(pixels(16))["logits"].numpy()
    model.set_weights(weights)  # the call above moved the statistics
    assert np.abs(tf.nn.softmax(logits).numpy() - expected["probabilities"]).max() > 0.01


def test_python_gives_the_same_answers(exported, served):
    model, reject, expected, _ = exported
    classifier = serving.Classifier(model, reject, NAMES)
    answer = classifier.predict(pixels(16), batch_size=5)
    agrees(answer, expected)
    assert answer["class_name"].tolist() == [name.decode() for name in served(pixels(16))["class_name"]]
    rounded = pixels(16).astype("uint8")
    agrees(classifier.predict(rounded), classifier.predict(rounded.astype("float64")), 0)
    np.testing.assert_allclose(
        classifier.features(pixels(4))["features"], served(pixels(4), "features")["features"], 1e-5
    )


@pytest.mark.parametrize("shape", [(2, 10, 8, 3), (2, 16, 20, 3), (2, 8, 10, 1)])
def test_a_wrong_image_size_is_refused(exported, served, shape):
    for signature in ("serving_default", "features"):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"not compatible with expected shape \[\?,8,10,3\]"):
            served(np.zeros(shape, "float32"), signature)
    with pytest.raises(ValueError, match=r"the shape \(N, 8, 10, 3\)"):
        serving.Classifier(exported[0], exported[1], NAMES).predict(np.zeros(shape))


def test_one_bad_row_is_rejected_and_the_others_keep_their_answers(exported, served):
    model, reject, expected, _ = exported
    images, good = pixels(16), np.ones(16, bool)
    for row, value in [(2, np.nan), (5, np.inf), (11, -np.inf)]:
        images[row, 3, 4, 1], good[row] = value, False
    for answer in (served(images), serving.Classifier(model, reject, NAMES).predict(images)):
        agrees({name: value[good] for name, value in answer.items()}, {n: v[good] for n, v in expected.items()})
        assert answer["class_id"][~good].tolist() == [-1] * 3
        assert not answer["known"][~good].any()
        assert not answer["probabilities"][~good].any()
        assert {str(name) for name in answer["class_name"][~good]} <= {"unknown", "b'unknown'"}
        assert np.isfinite(answer["score"]).all()  # JSON knows no infinity
    features = served(images, "features")
    np.testing.assert_array_equal(features["valid"], good)
    assert np.isfinite(features["features"]).all()


@keras.saving.register_keras_serializable("test_serving")
class Coupled(layers.Layer):
    """Reads the whole batch, as per-tensor quantisation does: a NaN in one row would reach the others."""

    def call(self, x):
        return x + 0 * keras.ops.sum(x, axis=0, keepdims=True)


def test_a_bad_row_is_rejected_whatever_the_threshold_and_spoils_no_other():
    classifier = serving.Classifier(build(Coupled()), rejection.Reject(3, -1e9), NAMES)
    images = pixels(4)
    images[1, 0, 0, 0] = np.nan
    answer, wanted = classifier.predict(images), classifier.predict(pixels(4))
    assert wanted["known"].all()
    assert answer["class_id"].tolist() == [wanted["class_id"][0], -1, *wanted["class_id"][2:]]
    assert answer["class_name"][1] == "unknown"
    assert answer["known"].tolist() == [True, False, True, True]
    keep = [0, 2, 3]
    np.testing.assert_allclose(answer["probabilities"][keep], wanted["probabilities"][keep], rtol=1e-5, atol=1e-6)


def test_a_model_that_overflows_rejects():
    images = keras.Input((8, 10, 3))
    features = layers.GlobalAveragePooling2D()(images)
    logits = layers.Dense(3, kernel_initializer=keras.initializers.Constant(1e38))(features)
    classifier = serving.Classifier(
        keras.Model(images, {"features": features, "logits": logits}), rejection.Reject(3, -1e9), NAMES
    )
    answer = classifier.predict(np.stack([np.full((8, 10, 3), 255.0), np.zeros((8, 10, 3))]))
    assert answer["known"].tolist() == [False, True]
    assert np.isfinite(answer["probabilities"]).all()


def test_an_empty_batch_gives_empty_answers(exported, served):
    model, reject, _, _ = exported
    empty = np.zeros((0, 8, 10, 3), "float32")
    for answer in (served(empty), serving.Classifier(model, reject, NAMES).predict(empty)):
        assert answer["probabilities"].shape == (0, 3)
        assert all(len(value) == 0 for value in answer.values())
    assert served(empty, "features")["features"].shape == (0, 5)


def test_a_process_without_keras_gets_the_same_numbers(exported, tmp_path):
    np.save(tmp_path / "images.npy", pixels(16))
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
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(exported[-1]), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    with np.load(tmp_path / "answer.npz") as answer:
        agrees(dict(answer), exported[2])


def test_the_threshold_can_be_changed_in_the_saved_model(exported, tmp_path):
    loaded = tf.saved_model.load(str(exported[-1]))
    (threshold,) = loaded.threshold
    assert threshold.numpy() == exported[1].threshold.numpy()
    threshold.assign(1e9)
    tf.saved_model.save(loaded, str(tmp_path / "2"), signatures=loaded.signatures)
    answer = tf.saved_model.load(str(tmp_path / "2")).signatures["serving_default"](images=tf.constant(pixels(4)))
    assert not answer["known"].numpy().any()


def test_a_background_logit_is_never_an_answer(tmp_path):
    model = build(background=True)
    reject, expected = rejecting(model)
    serving.export(model, tmp_path / "1", reject, NAMES, samples=pixels(16))
    signature = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
    answer = {name: value.numpy() for name, value in signature(images=tf.constant(pixels(16))).items()}
    assert answer["probabilities"].shape == (16, 3)
    np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], rtol=1e-4, atol=1e-5)
    assert answer["class_id"].max() < 3


def test_mixed_precision_answers_in_float32(tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build()
        reject, expected = rejecting(model)
        assert model.output["logits"].dtype == "float16"
        serving.export(model, tmp_path / "1", reject, NAMES, samples=pixels(16))
    finally:
        keras.config.set_dtype_policy(before)
    answer = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"](images=tf.constant(pixels(16)))
    assert {answer[name].dtype.name for name in ("score", "probabilities")} == {"float32"}
    np.testing.assert_allclose(answer["probabilities"].numpy(), expected["probabilities"], atol=2e-2)


@keras.saving.register_keras_serializable("test_serving")
class Counter(layers.Layer):
    def build(self, input_shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.count.assign_add(1.0)
        return x


@keras.saving.register_keras_serializable("test_serving")
class Pythonic(layers.Layer):
    def call(self, x):
        return tf.reshape(tf.numpy_function(lambda a: a, [x], tf.float32), tf.shape(x))

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


@keras.saving.register_keras_serializable("test_serving")
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
def test_a_bad_graph_is_caught_and_nothing_is_left(layer, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        serving.export(build(layer()), tmp_path / "1", rejection.Reject(3, 0.0), NAMES)
    assert list(tmp_path.iterdir()) == []


def test_stock_export_is_caught(tmp_path):
    """What `model.export` writes holds the training mode that Keras's augmentation leaks."""
    build().export(tmp_path / "stock", verbose=False)
    with pytest.raises(ValueError, match=r"signature 'features' must map.*Assign\w+ changes a variable"):
        serving.check(tmp_path / "stock")


@keras.saving.register_keras_serializable("test_serving")
class Moody(layers.Layer):
    """Its predictions depend on an eager flag: a stand-in for whatever makes an export differ from `predict`."""

    shift = 0.0

    def call(self, x):
        return x + self.shift


def test_an_export_that_disagrees_with_predict_is_caught(tmp_path):
    layer = Moody()
    model = build(layer)
    model.predict(pixels(4), verbose=0)  # traced without the shift
    layer.shift = 1.0
    with pytest.raises(ValueError, match="disagrees with `predict`"):
        serving.export(model, tmp_path / "1", rejection.Reject(3, 0.0), NAMES)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(exported):
    model, reject, _, path = exported
    before = sorted(path.rglob("*"))
    with pytest.raises(FileExistsError, match="never overwrites"):
        serving.export(model, path, reject, NAMES)
    assert sorted(path.rglob("*")) == before
    assert [item.name for item in path.parent.iterdir()] == ["1"]
    assert path.stat().st_mode & 0o005 == 0o005  # a server of another user can read it


def test_check_accepts_the_export_and_explains_what_is_none(exported, tmp_path):
    serving.check(exported[-1])
    with pytest.raises(FileNotFoundError, match=r"lacks saved_model\.pb"):
        serving.check(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xfe nothing")
    with pytest.raises(ValueError, match="damaged"):
        serving.check(tmp_path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: serving.Classifier(m, rejection.Reject(3, 0.0), ["a", "b"]), "each of 3 known classes"),
        (lambda m: serving.Classifier(m, rejection.Reject(3, 0.0), ["a", "b", "unknown"]), "differ from each other"),
        (lambda m: serving.Classifier(m, rejection.Reject(7, 0.0), list("abcdefg")), r"logits of shape \(N, 7\)"),
        (lambda m: serving.Classifier(build(shape=(None, 8, 3)), rejection.Reject(3, 0.0), NAMES), "sizes known"),
        (lambda m: serving.Classifier(keras.Sequential(), rejection.Reject(3, 0.0), NAMES), "functional Keras model"),
        (
            lambda m: serving.Classifier(keras.Model(m.input, m.output["logits"]), rejection.Reject(3, 0.0), NAMES),
            "dict",
        ),
    ],
)
def test_wrong_parts_are_explained(exported, call, message):
    with pytest.raises(ValueError, match=message):
        call(exported[0])


def test_wrong_images_are_explained(exported):
    classifier = serving.Classifier(exported[0], exported[1], NAMES)
    with pytest.raises(ValueError, match=r"Received: \(8, 10, 3\)\. Add a batch axis"):
        classifier.predict(np.zeros((8, 10, 3)))
    with pytest.raises(TypeError, match="dtype=bool"):
        classifier.predict(np.zeros((1, 8, 10, 3), bool))
    with pytest.warns(UserWarning, match="scaled to 0..1"):
        classifier.predict(pixels(2) / 255)


def write_run(folder):
    model = build()
    some = calibration.threshold_at_fpr(np.linspace(-1, 1, 200), 0.1, score="log_odds")
    threshold = dataclasses.replace(some, threshold=float(rejecting(model)[0].threshold.numpy()))
    serving.save(folder, model, threshold, "log_odds", NAMES)
    return model, threshold


def test_a_run_keeps_its_answers_through_save_load_and_export(tmp_path):
    model, threshold = write_run(tmp_path / "run")
    classifier = serving.load(tmp_path / "run")
    assert classifier.calibration == threshold
    assert classifier.class_names == NAMES
    reject = rejection.Reject(3, threshold.threshold, scores.log_odds)
    wanted = serving.Classifier(model, reject, NAMES).predict(pixels(16))
    agrees(classifier.predict(pixels(16)), wanted, 1e-6)
    assert 0 < wanted["known"].sum() < 16
    classifier.export(serving.next_version(tmp_path / "run"), samples=pixels(16))
    assert (tmp_path / "run" / serving.SAVED_MODEL_FOLDER / "1" / "saved_model.pb").is_file()
    assert serving.next_version(tmp_path / "run").name == "2"


def test_a_damaged_run_is_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such directory"):
        serving.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"lacks model.keras and calibration.json"):
        serving.load(tmp_path)
    run = tmp_path / "run"
    write_run(run)
    file = run / serving.CALIBRATION_FILE
    record = json.loads(file.read_text())
    for text, message in [
        ("{", "damaged"),
        (json.dumps({**record, "calibration": {}}), "damaged"),
        (json.dumps({**record, "score": "telepathy"}), "damaged.*telepathy"),
        (json.dumps({**record, "image_shape": [4, 4, 3]}), "mixes two runs"),
    ]:
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            serving.load(run)
    file.write_text(json.dumps(record))
    (run / serving.MODEL_FILE).write_bytes(b"no model")
    with pytest.raises(ValueError, match="Keras cannot read"):
        serving.load(run)


def test_whatever_a_model_is_made_of_can_be_loaded_by_a_fresh_process():
    script = """
        import importlib, pkgutil, keras, cplus1_keras
        from cplus1_keras.serving import runs

        def layers():
            registered = keras.saving.get_custom_objects().items()
            return {name for name, it in registered if isinstance(it, type) and issubclass(it, keras.Layer)}

        for module in runs.LAYERS:
            importlib.import_module(f"cplus1_keras.{module}")
        first = layers()
        for module in pkgutil.walk_packages(cplus1_keras.__path__, "cplus1_keras."):
            importlib.import_module(module.name)
        print(len(first), sorted(layers() - first))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, cwd=ROOT)
    number, missed = done.stdout.split(maxsplit=1)
    assert (int(number) > 10, missed.strip()) == (True, "[]"), done.stderr


def test_a_threshold_of_another_score_is_refused(tmp_path):
    threshold = calibration.threshold_at_fpr(np.linspace(-1, 1, 200), 0.1, score="max_logit")
    with pytest.raises(ValueError, match="calibrated for the score 'max_logit', not for 'log_odds'"):
        serving.save(tmp_path, build(), threshold, scores.log_odds, NAMES)
    assert list(tmp_path.iterdir()) == []


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "export", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_the_command(tmp_path):
    write_run(tmp_path / "run")
    done = command(str(tmp_path / "run"), f"--output={tmp_path / 'served'}")
    assert done.returncode == 0, done.stderr
    assert "cat, dög, eel or unknown" in done.stdout
    serving.check(tmp_path / "served")
    again = command(str(tmp_path / "run"), f"--output={tmp_path / 'served'}")
    assert again.returncode == 1
    assert "Not exported. An export never overwrites" in again.stderr
    assert "Traceback" not in again.stderr


def test_the_command_explains_itself():
    assert "RUN/saved_model/1" in command("--help").stdout
    assert "Name one run" in command().stderr
