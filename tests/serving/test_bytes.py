"""Encoded images: as if each were alone, by training's own function; a bad one harms no other."""

import io
import json

import keras
import numpy as np
import pytest
from PIL import Image

tf = pytest.importorskip("tensorflow", reason="serving is TensorFlow's part")
if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

from cplus1_keras import data, heads, serving  # noqa: E402  needs TensorFlow
from cplus1_keras.layers import Presence, Reject  # noqa: E402
from cplus1_keras.serving import Predictor, guards  # noqa: E402
from cplus1_keras.serving.signatures import Signature  # noqa: E402


def encode(pixels, form="PNG", **given):
    file, pixels = io.BytesIO(), np.asarray(pixels, "uint8")
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, form, **given)
    return file.getvalue()


def load(predictor, path):
    predictor.export(path)
    return tf.saved_model.load(str(path)).signatures


def ask(signature, **inputs):
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    answer = signature(*tensors.values()) if isinstance(signature, Signature) else signature(**tensors)
    return {name: value.numpy() for name, value in answer.items()}


@pytest.fixture(scope="module")
def of_images(small, tmp_path_factory):
    """A predictor, and the signatures of its SavedModel."""
    model = small.build()
    predictor = Predictor(model, small.rejecting(model)[0], small.NAMES, serving.ImageSpec(max_pixels=1000))
    return predictor, load(predictor, tmp_path_factory.mktemp("images") / "1")


@pytest.fixture(scope="module")
def of_sets(small, tmp_path_factory):
    predictor = Predictor(small.build(), Presence(3, [0.0, 1.0, 2.0]), small.NAMES, serving.LabelSetSpec())
    return predictor, load(predictor, tmp_path_factory.mktemp("sets") / "1")


def test_encoded_images_are_answered_as_their_pixels(small, of_images):
    predictor, serve = of_images[0], of_images[1]["predict_bytes"]
    pixels = small.pixels(6).astype("uint8")
    larger = small.pixels(1, (23, 31, 3))[0].astype("uint8")
    contents = [*map(encode, pixels), encode(larger), b"no image", encode(pixels[0])[:99], b""]
    resized = data.preprocess(larger, (8, 10), 3).numpy()
    expected = predictor.predict(np.concatenate([pixels.astype("float32"), resized[None]]))
    found = ask(serve, image_bytes=contents)
    assert sorted(found) == sorted(serving.ImageSpec.answers)
    small.agree({name: value[:7] for name, value in found.items()}, expected, tolerance=1e-5)
    assert [name.decode() for name in found["class_name"][:7]] == expected["class_name"].tolist()
    assert found["valid"].tolist() == [True] * 7 + [False] * 3
    assert found["class_name"][7:].tolist() == [b"unknown"] * 3
    assert np.isfinite(found["score"]).all()
    for few in ([], [b"no image"] * 3):
        answer = ask(serve, image_bytes=tf.constant(few, tf.string))
        assert answer["class_id"].tolist() == [-1] * len(few)
        assert answer["probabilities"].shape == (len(few), 3)


def test_encoded_images_of_label_sets(small, of_sets):
    predictor, signatures = of_sets
    pixels = small.pixels(3).astype("uint8")
    found = ask(signatures["predict_bytes"], image_bytes=[encode(pixels[0]), b"", encode(pixels[2])])
    expected = predictor.predict(pixels)
    for name, value in found.items():
        np.testing.assert_allclose(value[[0, 2]], expected[name][[0, 2]], rtol=1e-5)
    assert not found["present"][1].any()


def pixel_model(channels=1):
    keras.utils.set_random_seed(5)
    images = keras.Input((None, None, channels))
    x = keras.layers.Conv2D(4, 3, padding="same")(images / 255)
    x = x + keras.ops.mean(x, axis=(1, 2), keepdims=True)  # so that padding would be noticed
    return keras.Model(images, {"logits": keras.layers.Conv2D(2, 1)(x)})


def test_pixels_of_any_size_are_padded_and_answered_alone(tmp_path):
    predictor = Predictor(pixel_model(), Reject(2, 0.55, "max_probability"), spec=serving.PixelSpec(max_size=(40, 30)))
    serve = load(predictor, tmp_path / "1")["predict_bytes"]
    sizes = [(7, 9), (12, 5), (40, 30), (41, 30), (1, 1)]
    images = [np.random.default_rng(k).integers(0, 256, (*size, 1)) for k, size in enumerate(sizes)]
    found = ask(serve, image_bytes=[*map(encode, images), b"no image"])
    assert found["sizes"].tolist() == [[7, 9], [12, 5], [40, 30], [0, 0], [1, 1], [0, 0]]
    assert found["class_id"].shape == (6, 40, 30)
    rest = np.ones((6, 40, 30), bool)
    for k in (0, 1, 2, 4):
        expected = predictor.predict(images[k][None])
        place = (k, slice(sizes[k][0]), slice(sizes[k][1]))
        rest[place] = False
        for name in serving.PixelSpec.answers:
            np.testing.assert_allclose(found[name][place], expected[name][0], rtol=1e-5, atol=1e-6)
    assert (set(found["class_id"][rest]), found["valid"][rest].any()) == ({-1}, False)
    assert (found["score"][rest] == np.finfo("float32").min).all()
    for few, size in (([images[0]] * 2, (7, 9)), ([], (1, 1))):  # of one size, and none
        answer = ask(serve, image_bytes=tf.constant([*map(encode, few)], tf.string))
        assert answer["class_id"].shape == (len(few), *size)
        assert answer["sizes"].shape == (len(few), 2)
    np.testing.assert_allclose(
        ask(serve, image_bytes=[encode(images[0])] * 2)["score"][1],
        predictor.predict(images[0][None])["score"][0],
        1e-5,
    )


def test_a_gigantic_image_is_not_valid_and_harms_no_other(of_images):
    """The field of the spec: 1,000 pixels, and at most 4 bytes for each."""
    fits, large = np.full((40, 25, 3), 9), np.full((40, 26, 3), 9)
    contents = [encode(fits), encode(large), encode(fits) + bytes(4000)]
    found = ask(of_images[1]["predict_bytes"], image_bytes=contents)
    assert found["valid"].tolist() == [True, False, False]


def test_a_threshold_for_each_image(small, of_images):
    """It answers as a predictor of that threshold would, and NaN accepts nothing."""
    predictor, images = of_images[0], small.pixels(4)
    score = predictor.predict(images)["score"]
    thresholds = np.array([-np.inf, np.inf, np.nan, score[3]], "float32")
    found = ask(of_images[1]["predict_at"], images=images, threshold=thresholds)
    assert found["known"].tolist() == [True, False, False, True]
    np.testing.assert_array_equal(found["score"], score)
    np.testing.assert_array_equal(found["class_id"] >= 0, found["known"])
    logits = tf.zeros((2, 5, 6, 3))  # of pixels
    assert guards.spread(tf.zeros(2), logits).shape == (2, 1, 1)
    assert guards.spread(None, logits) is None


def test_thresholds_for_each_image_and_class(small, of_sets):
    serve, images = of_sets[1]["predict_at"], small.pixels(3)
    thresholds = np.array([[-9, 9, 0], [0, 0, 0], [np.inf, -np.inf, 1]], "float32")
    found = ask(serve, images=images, threshold=thresholds)
    np.testing.assert_array_equal(found["present"], found["score"] >= thresholds)


def examples(contents, key="image/encoded"):
    rows = []
    for content in contents:
        example = tf.train.Example()
        example.features.feature[key].bytes_list.value.append(content)
        rows.append(example.SerializeToString())
    return rows


def test_classify_is_the_answer_for_examples(small, of_images):
    predictor, signatures = of_images
    pixels = small.pixels(4).astype("uint8")
    rows = [*examples(map(encode, pixels)), *examples([b"none"]), *examples([encode(pixels[0])], "image")]
    found, expected = ask(signatures["classify"], inputs=rows), predictor.predict(pixels)
    assert {name: value.shape for name, value in found.items()} == {"classes": (6, 1), "scores": (6, 1)}
    assert [name.decode() for name in found["classes"][:4, 0]] == expected["class_name"].tolist()
    np.testing.assert_allclose(found["scores"][:4, 0], expected["score"], rtol=1e-5)
    assert found["classes"][4:, 0].tolist() == [b"unknown"] * 2
    told = ask(signatures["about"], request=["", "who?"])
    for row in range(2):
        assert [name.decode() for name in told["class_names"][row]] == small.NAMES
        assert told["threshold"][row] == predictor.reject.threshold.numpy()
        assert (told["score"][row], told["version"][row][:12]) == (b"log_odds", b"cplus1_keras")


def test_classify_of_label_sets_names_what_is_there(small, of_sets):
    predictor, signatures = of_sets
    pixels = small.pixels(4).astype("uint8")
    found = ask(signatures["classify"], inputs=examples(map(encode, pixels)))
    expected = predictor.predict(pixels)
    names = np.where(expected["present"], small.NAMES, "")
    assert [[name.decode() for name in row] for row in found["classes"]] == names.tolist()
    np.testing.assert_allclose(found["scores"], expected["score"], rtol=1e-5)


@pytest.mark.parametrize("sets", [False, True])
def test_the_map_is_that_of_the_class_nearest_to_being_the_answer(sets):
    keras.utils.set_random_seed(2)
    images = keras.Input((8, 8, 3))
    model = keras.Model(images, heads.CAMHead(3)(keras.layers.Conv2D(4, 3)(images / 64)))
    thresholds = [0.0, -50.0, 0.0]  # nearest is the second, for label sets
    reject = Presence(3, thresholds) if sets else Reject(3, 99.0)
    predictor = Predictor(model, reject, ["a", "b", "c"], serving.LabelSetSpec() if sets else serving.ImageSpec())
    pixels = np.random.default_rng(1).uniform(0, 255, (5, 8, 8, 3)).astype("float32")
    pixels[3, 0, 0, 0] = np.nan
    found = ask(predictor.spec.signatures(predictor)["explain"], images=pixels)
    outputs = model.predict(np.nan_to_num(pixels), verbose=0)
    k = np.full(5, 1) if sets else outputs["logits"].argmax(-1)
    expected = np.take_along_axis(outputs["cams"], k[:, None, None, None], axis=-1)[..., 0]
    good = [0, 1, 2, 4]
    np.testing.assert_allclose(found["map"][good], expected[good], rtol=1e-4, atol=1e-4)
    assert [name.decode() for name in found["map_class"][good]] == ["abc"[c] for c in k[good]]
    assert (found["valid"].tolist(), found["map_class"][3]) == ([True] * 3 + [False, True], b"unknown")
    assert not found["map"][3].any()


def test_models_of_other_channels_take_no_encoded_images():
    images = keras.Input((4, 4, 2))
    model = keras.Model(images, heads.LinearHead(2)(keras.layers.Flatten()(images)))
    predictor = Predictor(model, Reject(2, 0.0))
    signatures = predictor.spec.signatures(predictor)
    assert sorted(signatures) == ["about", "features", "predict_at", "serving_default"]


def test_names_of_any_script_and_very_many_of_them(tmp_path):
    images = keras.Input((2, 2, 1))
    names = ["😀", "مرحبا", "日本語", "a b"] + [f"class {k}" for k in range(99_996)]
    flat = keras.layers.Flatten()(images)
    logits = keras.layers.Dense(100_000, kernel_initializer="zeros", name="logits")
    model = keras.Model(images, {"features": flat, "logits": logits(flat)})
    logits.bias.assign(np.eye(1, 100_000, 1)[0] * 9)
    signatures = load(Predictor(model, Reject(100_000, -50.0), names), tmp_path / "1")
    found = ask(signatures["predict_bytes"], image_bytes=[encode(np.zeros((2, 2, 1))), b""])
    assert [name.decode() for name in found["class_name"]] == ["مرحبا", "unknown"]
    assert (tmp_path / "1" / "saved_model.pb").stat().st_size < 20e6
    said = json.loads((tmp_path / "1" / serving.CLASSES_FILE).read_text(encoding="utf-8"))
    assert said["class_names"] == names
    with pytest.raises(ValueError, match="have no line ends"):
        Predictor(model, Reject(100_000, 0.0), ["a\nb", *names[1:]])
