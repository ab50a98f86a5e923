"""Encoded images: as if each were alone, by training's own function; a bad one harms no other."""

import io

import keras
import numpy as np
import pytest
from PIL import Image

tf = pytest.importorskip("tensorflow", reason="serving is TensorFlow's part")
if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

from cplus1_keras import data, serving  # noqa: E402  needs TensorFlow
from cplus1_keras.layers import Presence, Reject  # noqa: E402
from cplus1_keras.serving import Predictor  # noqa: E402


def encode(pixels, form="PNG", **given):
    file, pixels = io.BytesIO(), np.asarray(pixels, "uint8")
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, form, **given)
    return file.getvalue()


def load(predictor, path):
    predictor.export(path)
    return tf.saved_model.load(str(path)).signatures


def ask(signature, **inputs):
    answer = signature(**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in answer.items()}


def test_encoded_images_are_answered_as_their_pixels(small, tmp_path):
    model = small.build()
    predictor = Predictor(model, small.rejecting(model)[0], small.NAMES)
    serve = load(predictor, tmp_path / "1")["predict_bytes"]
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


def test_encoded_images_of_label_sets(small, tmp_path):
    predictor = Predictor(small.build(), Presence(3, [0.0, 1.0, 2.0]), small.NAMES, serving.LabelSetSpec())
    pixels = small.pixels(3).astype("uint8")
    found = ask(
        load(predictor, tmp_path / "1")["predict_bytes"], image_bytes=[encode(pixels[0]), b"", encode(pixels[2])]
    )
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
