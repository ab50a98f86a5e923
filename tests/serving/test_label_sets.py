"""Any number of classes of an image: what NumPy makes of the logits, in Python and in the SavedModel."""

import dataclasses
import json

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="serving is TensorFlow's part")
if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

from cplus1_keras import calibration, heads, serving  # noqa: E402  needs TensorFlow
from cplus1_keras.layers import Presence, Reject  # noqa: E402
from cplus1_keras.serving import LabelSetSpec, Predictor  # noqa: E402


@pytest.fixture(scope="module")
def predictor(small):
    """Thresholds that about half of the images reach, class by class; one class is never answered."""
    model = small.build()
    logits = model.predict(small.pixels(16), verbose=0)["logits"]
    thresholds = np.sort(logits, axis=0)[7:9].mean(axis=0)
    thresholds[2] = np.inf
    return Predictor(model, Presence(3, thresholds), small.NAMES, LabelSetSpec())


@pytest.fixture(scope="module")
def path(predictor, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "1"
    predictor.export(path)
    return path


def test_answers_are_those_of_numpy(small, predictor, path):
    logits = predictor.model.predict(small.pixels(16), verbose=0)["logits"]
    served = tf.saved_model.load(str(path)).signatures["serving_default"](images=small.pixels(16))
    answer = predictor.predict(small.pixels(16))
    present = logits >= predictor.reject.thresholds.numpy()
    assert 0 < present[:, :2].mean() < 1
    assert not present[:, 2].any()
    assert 0 < present.any(axis=1).mean() < 1
    for found in (answer, {name: value.numpy() for name, value in served.items()}):
        np.testing.assert_array_equal(found["present"], present)
        np.testing.assert_array_equal(found["none"], ~present.any(axis=1))
        np.testing.assert_allclose(found["score"], logits, atol=1e-5)
        np.testing.assert_allclose(found["probabilities"], 1 / (1 + np.exp(-logits.astype("float64"))), atol=1e-6)
        assert found["valid"].all()
    for name, value in served.items():
        np.testing.assert_array_equal(value, answer[name])
    assert served["present"].dtype == served["none"].dtype == tf.bool


def test_bad_rows_and_no_rows(small, predictor, path):
    images, clean = small.pixels(4), predictor.predict(small.pixels(4))
    images[1, 0, 0, 0], images[2, 0, 0, 0] = np.nan, 30000
    with pytest.warns(UserWarning, match="30000"):
        answer = predictor.predict(images)
    served = tf.saved_model.load(str(path))
    for found in (answer, served.signatures["serving_default"](images=images)):
        found = {name: np.asarray(value) for name, value in found.items()}
        assert found["valid"].tolist() == [True, False, False, True]
        assert not found["present"][1:3].any()
        assert found["none"][1:3].all()
        assert not found["probabilities"][1:3].any()
        assert (found["score"][1:3] == np.finfo("float32").min).all()
        for name in ("present", "score"):
            np.testing.assert_allclose(found[name][[0, 3]], clean[name][[0, 3]], atol=1e-5)
    assert served.signatures["features"](images=images)["valid"].numpy().tolist() == [True, False, False, True]
    empty = predictor.predict(images[:0])
    assert (empty["present"].shape, empty["none"].shape) == ((0, 3), (0,))


def test_a_bad_row_shows_nothing_whatever_the_thresholds(small, predictor):
    images = small.pixels(2)
    images[1, 0, 0, 0] = np.nan
    answer = Predictor(predictor.model, Presence(3, -1e9), spec=LabelSetSpec()).predict(images)
    assert answer["present"].tolist() == [[True] * 3, [False] * 3]
    assert answer["none"].tolist() == [False, True]


def test_a_class_that_overflows_makes_the_row_no_answer():
    images = keras.Input((2, 2, 1))
    outputs = heads.LinearHead(2)(keras.layers.Flatten()(images))
    model = keras.Model(images, {**outputs, "logits": outputs["logits"] * float("inf")})
    answer = Predictor(model, Presence(2, -1e9), spec=LabelSetSpec()).predict(np.full((1, 2, 2, 1), 9.0))
    assert not answer["valid"].any()
    assert answer["none"].all()
    assert np.isfinite(answer["score"]).all()


def test_thresholds_and_names_go_with_the_saved_model(small, path):
    serving.check(path)
    classes = json.loads((path / serving.CLASSES_FILE).read_text(encoding="utf-8"))
    assert (classes["class_names"], classes["output"]) == (small.NAMES, "label_set")
    loaded = tf.saved_model.load(str(path))
    (thresholds,) = loaded.threshold
    thresholds.assign([-1e9, 1e9, 1e9])
    answer = loaded.signatures["serving_default"](images=small.pixels(2))
    assert answer["present"].numpy().tolist() == [[True, False, False]] * 2


def evidence(thresholds):
    one = calibration.threshold_at_fpr(np.linspace(-1, 1, 200), 0.1)
    classes = tuple(dataclasses.replace(one, threshold=float(value)) for value in thresholds)
    return calibration.ClassCalibration(0.1, 0.9, classes, score="logit")


def test_a_run_keeps_thresholds_and_evidence(small, predictor, tmp_path):
    found = evidence(predictor.reject.thresholds.numpy())
    serving.save(tmp_path, Predictor(predictor.model, predictor.reject, small.NAMES, LabelSetSpec(), found))
    loaded = serving.load(tmp_path)
    assert (loaded.calibration, loaded.spec) == (found, LabelSetSpec())
    wanted = predictor.predict(small.pixels(5))
    for name, value in loaded.predict(small.pixels(5)).items():
        np.testing.assert_array_equal(value, wanted[name])
    other = evidence([0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="calibration is of the threshold"):
        serving.save(tmp_path, Predictor(predictor.model, predictor.reject, small.NAMES, LabelSetSpec(), other))


def test_what_does_not_fit_is_explained(small, predictor):
    with pytest.raises(ValueError, match="LabelSetSpec needs a `Presence`"):
        Predictor(predictor.model, Reject(3, 0.0), spec=LabelSetSpec())
    with pytest.raises(ValueError, match=r"logits of shape \(N, 3\)\. Received: \(None, 4\)"):
        Predictor(small.build(background=True), Presence(3, 0.0), spec=LabelSetSpec())
