"""A SavedModel in Python: the arrays and the checks of the predictor that it was exported from."""

import dataclasses
import json
import shutil
import types

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="serving is TensorFlow's part")
if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

import cplus1_keras  # noqa: E402  needs TensorFlow
from cplus1_keras import calibration, heads, models, serving  # noqa: E402
from cplus1_keras.layers import Reject  # noqa: E402
from cplus1_keras.predict import answer_files  # noqa: E402
from cplus1_keras.serving import served as served_module  # noqa: E402


@pytest.fixture(scope="module")
def images(small, tmp_path_factory):
    """A predictor of images, with evidence, and its SavedModel in a folder `7`."""
    path = tmp_path_factory.mktemp("served") / "7"
    model = small.build()
    reject, _ = small.rejecting(model)
    threshold = float(reject.threshold)
    found = calibration.Calibration(threshold, "fpr", 0.25, 0.9, 40, 8, 0.2, 0.24, "log_odds")
    predictor = serving.Predictor(model, reject, small.NAMES, calibration=found)
    predictor.export(path)
    return predictor, path


@pytest.fixture(scope="module")
def pixels(small, tmp_path_factory):
    """The same of pixels, up to 40 x 64, with colours of its own."""
    keras.utils.set_random_seed(1)
    given = keras.Input((None, None, 3))
    model = models.segmentation_model(given, keras.layers.Conv2D(4, 3, 2, "same")(given / 64 - 2), heads.LinearHead(3))
    spec = serving.PixelSpec((40, 64), colours=((1, 1, 1), (9, 0, 0), (0, 9, 0), (0, 0, 9)))
    predictor = serving.Predictor(model, Reject(3, 0.5), small.NAMES, spec)
    predictor.export(tmp_path_factory.mktemp("served") / "pixels")
    return predictor, next(tmp_path_factory.getbasetemp().glob("served*/pixels"))


def test_it_answers_as_its_predictor(images, small):
    predictor, path = images
    served = cplus1_keras.load(path)
    rows = small.pixels(9)
    rows[4, 0, 0, 0] = np.nan
    expected, answer = predictor.predict(rows, batch_size=4), served.predict(rows, batch_size=4)
    assert sorted(answer) == sorted(expected)
    for name, values in answer.items():
        np.testing.assert_array_equal(values, expected[name])
        assert values.dtype == expected[name].dtype
    assert answer["valid"].tolist() == [True] * 4 + [False] + [True] * 4
    assert served.predict(rows[:0])["class_name"].shape == (0,)


def test_it_says_what_it_is(images, tmp_path):
    predictor, path = images
    served = serving.SavedModel(path)
    assert (served.version, served.class_names, served.num_classes) == (7, predictor.class_names, 3)
    assert (served.spec, served.image_shape) == (predictor.spec, predictor.image_shape)
    assert served.calibration == predictor.calibration
    assert served.threshold == np.float32(predictor.calibration.threshold)
    shutil.copytree(path, tmp_path / "copy")
    (tmp_path / "copy" / "assets.extra" / "calibration.json").unlink()
    copy = serving.SavedModel(tmp_path / "copy")
    assert (copy.version, copy.calibration) == (None, None)


CHANGED = [
    serving.ImageSpec(positions=1, max_pixels=900, short_side=20),
    serving.LabelSetSpec(max_pixels=901),
    serving.PixelSpec((40, 64), 16, 0.5, (1, 0), (0.5, 1.0), "float32", ((1, 1, 1), (9, 0, 0), (0, 9, 0))),
    serving.BoxSpec(7, 9, 0.25, 0.5, True, True, True, (40, 64), "float32"),
]


@pytest.mark.parametrize("spec", CHANGED, ids=lambda spec: spec.output)
def test_a_saved_model_tells_each_setting_of_its_spec(spec, images):
    settings = dataclasses.fields(spec)
    assert all(getattr(spec, field.name) != field.default for field in settings)
    told = json.loads(json.dumps(spec.describe(images[0])))
    assert served_module._read_spec(told, None, None) == spec
    # What an export told before its spec stood there.
    told.pop("spec")
    rank = 2 if spec.output in ("boxes", "image") else 1
    outputs = {"score": tf.TensorSpec((None, 7)[:rank], tf.float32)}
    found = served_module._read_spec(told, getattr(spec, "dtype", None), outputs)
    assert type(found) is type(spec)
    assert getattr(found, "max_size", None) == getattr(spec, "max_size", None)


def test_wrong_requests_are_refused_as_by_the_predictor(images, small):
    served = serving.SavedModel(images[1])
    with pytest.raises(ValueError, match=r"shape \(N, 8, 10, 3\).* Add a batch axis"):
        served.predict(small.pixels(1)[0])
    with pytest.raises(TypeError, match="integers or floats"):
        served.predict([[[["a"]]]])
    with pytest.raises(ValueError, match="batch_size=0"):
        served.predict(small.pixels(1), batch_size=0)


def test_what_is_no_such_saved_model_is_told(images, tmp_path):
    with pytest.raises(ValueError, match=r"lacks saved_model\.pb"):
        serving.SavedModel(tmp_path)
    with pytest.raises(FileNotFoundError, match="is no finished run"):
        cplus1_keras.load(tmp_path)
    shutil.copytree(images[1], tmp_path / "1")
    (tmp_path / "1" / serving.CLASSES_FILE).write_text('{"class_names": ["a"], "output": "sound"}', encoding="utf-8")
    with pytest.raises(ValueError, match="damaged or incomplete: ValueError: There is no output 'sound'"):
        serving.SavedModel(tmp_path / "1")


def test_pixels_of_8_bits_are_rounded_and_others_refused(pixels):
    predictor, path = pixels
    served = serving.SavedModel(path)
    assert (served.spec, served.image_shape) == (predictor.spec, (None, None, 3))
    rows = np.random.default_rng(3).uniform(0, 255, (2, 21, 30, 3))
    answer, expected = served.predict(rows), predictor.predict(np.rint(rows))
    np.testing.assert_array_equal(answer["class_id"], expected["class_id"])
    np.testing.assert_allclose(answer["score"], expected["score"], rtol=1e-5)
    assert sorted(answer) == ["class_id", "score", "valid"]
    for wrong in (np.nan, -1.0, 255.6):
        rows[0, 0, 0, 0] = wrong
        with pytest.raises(ValueError, match="finite numbers from 0 to 255"):
            served.predict(rows)


def test_files_keep_their_order_whatever_their_size_and_those_too_large_are_named(pixels, tmp_path):
    predictor, path = pixels
    served, files, expected = serving.SavedModel(path), [], []
    rng = np.random.default_rng(0)
    for number, size in enumerate(((8, 8), (8, 8), (8, 8), (41, 8), (6, 9), (8, 8))):
        image = rng.integers(0, 256, (*size, 3)).astype("uint8")
        files.append(tmp_path / f"{number}.png")
        tf.io.write_file(str(files[-1]), tf.io.encode_png(image))
        expected.append(predictor.predict(image[None])["class_id"][0])
    files.insert(2, tmp_path / "gone.png")
    expected.insert(2, None)
    two = types.SimpleNamespace(
        batch_size=2, short_side=None, max_pixels=2**20
    )  # so that three of one size are two batches
    served = types.SimpleNamespace(predict=served.predict, image_shape=served.image_shape, spec=two)
    found = list(answer_files(served, files))
    assert [path for path, _, _ in found] == files
    problems = {index: problem for index, (_, _, problem) in enumerate(found) if problem}
    assert sorted(problems) == [2, 4]
    assert problems[2].startswith("cannot be read: ")
    assert "gone.png" in problems[2]
    assert problems[4].startswith("cannot be answered: This model takes images of 1 to 40 x 64 pixels")
    for index, (_, answer, _) in enumerate(found):
        if index not in problems:
            np.testing.assert_array_equal(answer["class_id"], expected[index])


def test_encoded_images_are_answered_as_their_pixels(images, pixels, small):
    rows = small.pixels(5).astype("uint8")
    contents = [tf.io.encode_png(row).numpy() for row in rows]
    contents.insert(2, b"no image")
    answer, expected = serving.SavedModel(images[1]).predict_bytes(contents, batch_size=4), images[0].predict(rows)
    assert answer["valid"].tolist() == [True, True, False, True, True, True]
    for name, values in expected.items():
        np.testing.assert_allclose(np.delete(answer[name], 2, 0), values, rtol=1e-5) if values.dtype.kind == "f" else (
            np.testing.assert_array_equal(np.delete(answer[name], 2, 0), values)
        )
    several = [np.random.default_rng(n).integers(0, 256, (6 + n, 9 - n, 3)).astype("uint8") for n in range(3)]
    served = serving.SavedModel(pixels[1])
    answer = served.predict_bytes([tf.io.encode_png(image).numpy() for image in several], batch_size=1)
    assert answer["sizes"].tolist() == [[6, 9], [7, 8], [8, 7]]
    for number, image in enumerate(several):
        height, width = image.shape[:2]
        found = answer["class_id"][number]
        np.testing.assert_array_equal(found[:height, :width], pixels[0].predict(image[None])["class_id"][0])
        assert (found[height:] == -1).all()
        assert (found[:, width:] == -1).all()
