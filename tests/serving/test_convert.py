"""ONNX and LiteRT: their decisions on real digits are those of the SavedModel, also of images that are none."""

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="serving is TensorFlow's part")
if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

from cplus1_keras import data, heads, layers, serving  # noqa: E402  needs TensorFlow
from cplus1_keras.convert import answer, convert, main  # noqa: E402

NAMES = [f"dög {k}" for k in range(6)]
NEEDS = {"onnx": ("tf2onnx", "onnxruntime"), "litert": ("ai_edge_litert.interpreter",)}


@pytest.fixture(params=["onnx", "litert"])
def to(request):
    for name in NEEDS[request.param]:
        pytest.importorskip(name, reason=f"needs {name}: pip install -e '.[{request.param}]'")
    return request.param


@pytest.fixture(scope="module")
def digits():
    """Real images of ten digits, of which the model knows six."""
    source = data.sources.digits()
    return source.array.astype("float32"), np.asarray(source.labels)


@pytest.fixture(scope="module")
def model(digits):
    """A convolutional network that learned a little, with what a graph of an image model has."""
    keras.utils.set_random_seed(0)
    images, labels = digits
    given = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(8, 3, activation="relu")(given / 255)
    x = keras.layers.Flatten()(keras.layers.BatchNormalization()(x))
    model = keras.Model(given, heads.CosineHead(6, scale=12.0)(keras.layers.Dense(16)(x)))
    known = labels < 6
    learner = keras.Model(given, model.output["logits"])
    learner.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    learner.fit(images[known], labels[known], epochs=3, verbose=0)
    return model


@pytest.fixture(scope="module")
def exported(model, digits, tmp_path_factory):
    """SavedModels of images and of label sets, with thresholds amid the scores."""
    root = tmp_path_factory.mktemp("convert")
    reject = layers.Reject(6, 0.0)
    predictor = serving.Predictor(model, reject, NAMES)
    reject.threshold.assign(np.median(predictor.predict(digits[0])["score"]))
    predictor.export(root / "image")
    logits = predictor.outputs(digits[0])["logits"]
    presence = layers.Presence(6, np.quantile(logits, 0.8, axis=0))
    serving.Predictor(model, presence, NAMES, serving.LabelSetSpec()).export(root / "label_set")
    return root


@pytest.mark.parametrize("kind", ["image", "label_set"])
def test_decisions_on_real_digits_are_those_of_the_saved_model(exported, digits, to, kind, tmp_path):
    path = convert(exported / kind, to, tmp_path / "model")
    images = digits[0].copy()
    images[7], images[8, 2, 2] = np.nan, 1e6
    served = serving.SavedModel(exported / kind)
    with pytest.warns(UserWarning, match="go from"):
        expected, found = served.predict(images), answer(path, to, images)
    assert sorted(found) == sorted(expected)
    far = np.abs(expected["score"] - served.threshold) > 1e-4
    assert far.mean() > 0.99
    for name, want in expected.items():
        have = found[name]
        if want.dtype.kind == "f":
            np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-4)
        else:
            rows = far if want.shape == far.shape else far.all(axis=-1)
            np.testing.assert_array_equal(have[rows], want[rows])
    decided = expected["known" if kind == "image" else "present"]
    assert 0.1 < decided.mean() < 0.9
    assert not found["valid"][7:9].any()
    one = answer(path, to, images[5:6])  # batches of any size
    np.testing.assert_allclose(one["score"], expected["score"][5:6], rtol=1e-4, atol=1e-4)


def test_the_command_writes_beside_the_saved_model(exported, to, capsys):
    main([str(exported / "image"), "--to", to])
    path = exported / {"onnx": "image.onnx", "litert": "image.tflite"}[to]
    assert capsys.readouterr().out.startswith(f"Wrote {path} (")
    with pytest.raises(SystemExit, match="Nothing is overwritten"):
        main([str(exported / "image"), "--to", to])


@pytest.mark.parametrize("end", ["", "/"])
def test_the_file_lies_beside_the_saved_model_however_its_path_ends(exported, end, monkeypatch):
    monkeypatch.setattr("cplus1_keras.convert._write_onnx", lambda function, path: path.write_bytes(b"written"))
    monkeypatch.setattr("cplus1_keras.convert._compare", lambda served, path, to: None)
    path = convert(f"{exported / 'label_set'}{end}", "onnx")
    assert path == exported / "label_set.onnx"
    assert path.read_bytes() == b"written"
    path.unlink()


def test_a_file_that_decides_otherwise_is_not_kept(exported, to, tmp_path, monkeypatch):
    monkeypatch.setattr("cplus1_keras.convert.answer", lambda *given: {n: x[::-1] for n, x in answer(*given).items()})
    with pytest.raises(SystemExit, match="answers otherwise"):
        main([str(exported / "image"), "--to", to, "--output", str(tmp_path / "model")])
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_told(exported, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tf2onnx", None)
    with pytest.raises(SystemExit, match=r"tf2onnx is missing\. Install it: pip install 'cplus1-keras\[onnx\]'"):
        main([str(exported / "image"), "--to", "onnx", "--output", str(tmp_path / "model")])
    assert not list(tmp_path.iterdir())
