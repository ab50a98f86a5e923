"""What is asked of a SavedModel before it gets its name, and what it says of itself to TF Serving."""

import json
import shutil

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="serving is TensorFlow's part")
if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

from tensorflow.core.protobuf import saved_model_pb2  # noqa: E402
from tensorflow_serving.apis import prediction_log_pb2  # noqa: E402

from cplus1_keras import serving  # noqa: E402  needs TensorFlow
from cplus1_keras.images import decoding  # noqa: E402
from cplus1_keras.layers import Reject  # noqa: E402
from cplus1_keras.serving import Predictor, guards, signatures, warmup  # noqa: E402


@pytest.fixture(scope="module")
def exported(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("gate") / "1"
    predictor = Predictor(small.build(), Reject(3, 0.0), small.NAMES)
    predictor.export(path)
    return predictor, path


def logs(path):
    records = tf.data.TFRecordDataset(str(path / warmup.WARMUP_FILE)).as_numpy_iterator()
    return [prediction_log_pb2.PredictionLog.FromString(record) for record in records]


def test_the_warm_up_asks_each_signature_at_each_size_of_batch(exported):
    path = exported[1]
    found = set()
    for log in logs(path):
        kind = log.WhichOneof("log_type")
        request = getattr(log, kind).request
        if kind == "predict_log":
            sizes = {len(np.atleast_1d(tf.make_ndarray(proto))) for proto in request.inputs.values()}
        else:
            sizes = {len(request.input.example_list.examples)}
        (size,) = sizes
        found.add((kind, request.model_spec.signature_name, size))
    predicted = ("features", "predict_at", "predict_bytes", "serving_default")
    expected = {("predict_log", name, size) for name in predicted for size in (1, 8, 64)}
    expected |= {("classify_log", "classify", size) for size in (1, 8, 64)}
    assert found == expected | {("predict_log", "about", 1)}
    assert len(logs(path)) == len(found) <= 1000  # TF Serving reads no more
    assert (path / warmup.WARMUP_FILE).stat().st_size < 20_000


def test_the_images_of_the_warm_up_are_images(exported):
    path = exported[1]
    served = tf.saved_model.load(str(path)).signatures
    for log in logs(path):
        request = log.predict_log.request
        if request.model_spec.signature_name in ("serving_default", "predict_bytes"):
            inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
            answer = served[request.model_spec.signature_name](**inputs)
            assert answer["valid"].numpy().all()
            np.testing.assert_allclose(answer["score"], answer["score"][:1].numpy().repeat(len(answer["score"])), 1e-5)


def refused(predictor, folder, match):
    with pytest.raises(ValueError, match=match):
        predictor.export(folder / "1")
    assert list(folder.iterdir()) == []


def test_a_model_that_takes_any_shape_is_not_written(small, tmp_path, monkeypatch):
    """As all do that end in a mean over pixels, were it not for the guard."""
    real = tf.ensure_shape

    def loose(tensor, shape, name=None):
        return tensor if len(shape) == 4 else real(tensor, shape, name)

    monkeypatch.setattr(guards.tf, "ensure_shape", loose)
    refused(
        Predictor(small.build(), Reject(3, 0.0), small.NAMES),
        tmp_path,
        r"must refuse all but images of shape \(N, 8, 10, 3\)\. It answers for",
    )


def test_images_above_the_largest_size_must_be_refused(tmp_path, monkeypatch):
    images = keras.Input((None, None, 1))
    model = keras.Model(images, {"logits": keras.layers.Conv2D(2, 1)(images)})
    monkeypatch.setattr(serving.PixelSpec, "limit", lambda self, images: images)
    predictor = Predictor(model, Reject(2, 0.0), spec=serving.PixelSpec(max_size=(20, 30)))
    refused(predictor, tmp_path, r"It answers for \(1, 21, 30, 1\)")


def test_a_broken_image_that_counts_is_not_written(small, tmp_path, monkeypatch):
    real = decoding._in_parallel
    monkeypatch.setattr(decoding, "_in_parallel", lambda raw, read, nothing: real(raw, read, tf.zeros_like(nothing)))
    refused(Predictor(small.build(), Reject(3, 0.0), small.NAMES), tmp_path, "takes a broken image for a valid one")


def test_encoded_images_that_are_read_otherwise_are_not_written(small, tmp_path, monkeypatch):
    real = signatures.decode_batch
    monkeypatch.setattr(signatures, "decode_batch", lambda *given: real(*given) + 1.0)
    refused(
        Predictor(small.build(), Reject(3, 0.0), small.NAMES),
        tmp_path,
        r"answers otherwise for encoded images, one of them broken, than for their pixels: `\w+` differs in \d+ of",
    )


def test_a_warm_up_that_fails_is_not_written(small, tmp_path, monkeypatch):
    real = warmup._tensor
    monkeypatch.setattr(warmup, "_tensor", lambda spec, number, size: real(spec, number, (9, 9)))
    refused(
        Predictor(small.build(), Reject(3, 0.0), small.NAMES),
        tmp_path,
        r"fails on its warm-up, request \d+ to 'serving_default'",
    )


@pytest.mark.parametrize("field", ["identifier", "registered_name", "registered_saver"])
def test_what_needs_keras_to_be_loaded_is_not_served(exported, tmp_path, field):
    """As a SavedModel of Keras 2 does, by the names that it gives its objects."""
    file = shutil.copytree(exported[1], tmp_path / "1") / "saved_model.pb"
    serving.check(file.parent)
    proto = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    node = proto.meta_graphs[0].object_graph_def.nodes[0]
    setattr(node.user_object if field == "identifier" else node, field, "_tf_keras_model")
    file.write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match="the object '_tf_keras_model' needs the library that wrote it"):
        serving.check(file.parent)


def test_exports_of_earlier_versions_are_still_checked(small, exported, tmp_path):
    """They have no list of signatures, no threshold in `classes.json` and no encoded images."""
    shutil.copytree(exported[1], tmp_path / "1")
    file = tmp_path / "1" / serving.CLASSES_FILE
    file.write_text(json.dumps({"class_names": small.NAMES, "output": "image"}))
    serving.check(tmp_path / "1")
    serving.retune(tmp_path / "1", tmp_path / "2", 0.5)
    assert json.loads((tmp_path / "2" / serving.CLASSES_FILE).read_text()) == json.loads(file.read_text())
    file.write_text(json.dumps({"output": "image", "signatures": {"sing": {"inputs": ["a"], "outputs": ["b"]}}}))
    with pytest.raises(ValueError, match=r"the signature 'sing' must map `a` to \['b'\]"):
        serving.check(tmp_path / "1")


def test_another_threshold_keeps_every_signature(small, exported, tmp_path):
    """`predict_at` reads its own; all others the variable."""
    path = exported[1]
    serving.retune(path, tmp_path / "2", 1e9)
    before, after = (tf.saved_model.load(str(folder)).signatures for folder in (path, tmp_path / "2"))
    assert sorted(before) == sorted(after)
    images = tf.constant(small.pixels(4))
    old, new = (each["predict_at"](images=images, threshold=tf.zeros(4)) for each in (before, after))
    np.testing.assert_array_equal(old["known"], new["known"])
    contents = tf.stack([tf.io.encode_png(tf.cast(image, tf.uint8)) for image in images])
    assert before["predict_bytes"](image_bytes=contents)["known"].numpy().any()
    assert not after["predict_bytes"](image_bytes=contents)["known"].numpy().any()
    assert after["about"](request=tf.constant([""]))["threshold"].numpy() == np.float32(1e9)
    assert json.loads((tmp_path / "2" / serving.CLASSES_FILE).read_text())["threshold"] == 1e9
    warmup.replay_warmup(tmp_path / "2", after)
