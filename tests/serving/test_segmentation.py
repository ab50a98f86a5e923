"""The exported segmentation model: the answers of `predict`, sizes, limits, broken images, what it does not write."""

import json
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="serving is TensorFlow's part")
if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

from cplus1_keras import heads, palettes, scores  # noqa: E402
from cplus1_keras.layers import Reject  # noqa: E402
from cplus1_keras.models import segmentation_model  # noqa: E402
from cplus1_keras.serving import Segmenter  # noqa: E402
from cplus1_keras.serving import segmentation as serving  # noqa: E402  needs TensorFlow

NAMES = ["cat", "dög", "eel"]


def built(background=True, num_classes=3):
    """Stride 4, seen through its neighbours; a layer in training mode would change its answers."""
    keras.utils.set_random_seed(0)
    images = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 64, -2)(images)
    x = keras.layers.GaussianNoise(1.0)(x)
    x = keras.layers.Conv2D(8, 5, 4, "same", activation="tanh")(x)
    return segmentation_model(images, x, heads.LinearHead(num_classes, use_bias=True, background=background))


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype("uint8")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model, reject = built(), Reject(3, -0.7)
    paths = {dtype: tmp_path_factory.mktemp(dtype) / "1" for dtype in ("uint8", "float32")}
    for dtype, path in paths.items():
        serving.export(model, path, reject, NAMES, (40, 64), dtype)
    loaded = {dtype: tf.saved_model.load(str(path)) for dtype, path in paths.items()}
    return model, reject, paths, loaded


@pytest.mark.parametrize("size", [(1, 1), (7, 64), (40, 33), (16, 16)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_answers_are_those_of_predict(exported, size, dtype):
    model, reject, _, loaded = exported
    images = pictures(2, *size)
    served = loaded[dtype].signatures["serving_default"](images=tf.constant(images, dtype))
    answer = Segmenter(model, reject).predict(images)
    assert {name: (value.dtype, tuple(value.shape)) for name, value in served.items()} == {
        "class_id": (tf.int32, (2, *size)),
        "score": (tf.float32, (2, *size)),
    }
    np.testing.assert_allclose(served["score"], answer["score"], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(served["class_id"], answer["class_id"])
    logits = model.predict(images.astype("float32"), verbose=0)["logits"]
    assert ((served["class_id"].numpy() >= 0) == (scores.log_odds({"logits": logits}, 3).numpy() >= -0.7)).all()
    picture = loaded[dtype].signatures["palette"](images=tf.constant(images, dtype))["image"]
    assert picture.dtype == tf.uint8
    np.testing.assert_array_equal(picture, palettes.palette(3)[answer["class_id"] + 1])


def test_rejected_and_accepted_occur(exported):
    found = exported[3]["uint8"].signatures["serving_default"](images=pictures(1, 40, 64))["class_id"].numpy()
    assert 0.1 < np.mean(found == -1) < 0.9


@pytest.mark.parametrize("signature", ["serving_default", "palette"])
@pytest.mark.parametrize("size", [(41, 64), (40, 65), (0, 5)])
def test_the_size_is_limited(exported, signature, size):
    message = r"takes images of 1 to 40 x 64 pixels.*Received images of shape:"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        exported[3]["uint8"].signatures[signature](images=tf.zeros((1, *size, 3), "uint8"))


def test_no_image(exported):
    served = exported[3]["uint8"].signatures["serving_default"](images=tf.zeros((0, 8, 12, 3), "uint8"))
    assert served["class_id"].shape == served["score"].shape == (0, 8, 12)


def test_an_image_with_nan_is_rejected_alone(exported):
    serve = exported[3]["float32"].signatures["serving_default"]
    images = pictures(3, 9, 14).astype("float32")
    whole = serve(images=tf.constant(images))
    images[1, 0, 0, 0] = np.nan
    images[2, 3, 3, 1] = np.inf
    served = serve(images=tf.constant(images))
    for name in ("class_id", "score"):
        np.testing.assert_allclose(served[name][0], whole[name][0], atol=1e-6)
    assert (served["class_id"].numpy()[1:] == -1).all()
    assert (served["score"].numpy()[1:] == np.finfo("float32").min).all()


def test_a_pixel_whose_score_is_nan_is_rejected_alone():
    images = keras.Input((None, None, 3))
    model = keras.Model(images, {"logits": keras.layers.Rescaling(1e38)(images)})
    signatures = serving.PixelSignatures(model, Reject(3, 0.0), NAMES, 16)
    answer = signatures.answers(tf.constant([[[[9, 0, 0], [0, 1, 0]]]], "uint8"))
    assert answer["class_id"].numpy().tolist() == [[[-1, 1]]]
    assert np.isfinite(answer["score"]).all()


def test_classes_and_colours_go_with_it(exported):
    classes = json.loads((exported[2]["uint8"] / serving.CLASSES_FILE).read_text(encoding="utf-8"))
    assert classes["class_names"] == NAMES
    assert [classes["rejected"]["colour"], *classes["colours"]] == palettes.palette(3).tolist()


def test_serves_without_keras_and_this_package(exported):
    """In a process of its own, where importing either fails."""
    images = pictures(1, 21, 30)
    code = f"""
        import sys
        sys.modules["keras"] = sys.modules["cplus1_keras"] = None
        import numpy as np, tensorflow as tf
        images = np.random.default_rng(0).integers(0, 256, (1, 21, 30, 3)).astype("uint8")
        answer = tf.saved_model.load({str(exported[2]["uint8"])!r}).signatures["serving_default"](images=images)
        print(int(tf.reduce_sum(answer["class_id"])))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) == Segmenter(*exported[:2]).predict(images)["class_id"].sum()


def test_the_threshold_can_be_changed(exported):
    again = tf.saved_model.load(str(exported[2]["uint8"]))
    (threshold,) = again.threshold
    threshold.assign(np.inf)
    assert (again.signatures["serving_default"](images=pictures(1, 8, 8))["class_id"].numpy() == -1).all()


def test_errors(exported, tmp_path):
    model, reject, paths, _ = exported
    with pytest.raises(FileExistsError, match="never overwrites"):
        serving.export(model, paths["uint8"], reject, NAMES, 64)
    with pytest.raises(ValueError, match="one class name for each of 3"):
        serving.export(model, tmp_path / "1", reject, NAMES[:2], 64)
    with pytest.raises(ValueError, match='"uint8" or "float32"'):
        serving.export(model, tmp_path / "1", reject, NAMES, 64, dtype="int32")
    with pytest.raises(ValueError, match=r"`colours` must be \(4, 3\) uint8"):
        serving.export(model, tmp_path / "1", reject, NAMES, 64, colours=palettes.palette(2))
    with pytest.raises(ValueError, match=r"2 known classes need .* Received: \(None, None, None, 4\)"):
        serving.export(model, tmp_path / "1", Reject(2, 0.0), NAMES[:2], 64)
    fixed = keras.Input((8, 8, 3))
    fixed = keras.Model(fixed, {"logits": keras.layers.Conv2D(3, 1)(fixed)})
    with pytest.raises(ValueError, match=r"images of any size.*\(None, 8, 8, 3\)"):
        serving.export(fixed, tmp_path / "1", reject, NAMES, 64)
    assert not list(tmp_path.iterdir())


def test_a_model_that_answers_otherwise_is_not_written(tmp_path, monkeypatch):
    real = serving.PixelSignatures.answers

    def shifted(self, images):
        answer = real(self, images)
        return {**answer, "score": answer["score"] + 0.01}

    monkeypatch.setattr(serving.PixelSignatures, "answers", shifted)
    with pytest.raises(ValueError, match="disagrees with `predict`"):
        serving.export(built(False), tmp_path / "1", Reject(3, 0.1), NAMES, 64)
    assert not list(tmp_path.iterdir())


def test_palette():
    colours = palettes.palette(20)
    # The development kit's colours of aeroplane, bicycle, person and tv monitor.
    assert colours[[1, 2, 15, 20]].tolist() == [[128, 0, 0], [0, 128, 0], [192, 128, 128], [0, 64, 128]]
    assert len({tuple(colour) for colour in palettes.palette(255).tolist()}) == 256
    with pytest.raises(ValueError, match="0 to 255"):
        palettes.palette(256)
