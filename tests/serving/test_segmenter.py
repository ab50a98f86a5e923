"""Tiles, flips and answers against what they must equal: one pass over the whole image, the average done by hand."""

import itertools
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import calibration, heads, scores, serving
from cplus1_keras.backbones.dilated import dilated_resnet
from cplus1_keras.layers import Reject
from cplus1_keras.models import deeplab_v3_plus, segmentation_model
from cplus1_keras.serving import Segmenter
from cplus1_keras.serving.segmenter import _starts

ROOT = pathlib.Path(__file__).parents[2]


def built(kernel_size, strides=1, background=True, num_classes=3):
    keras.utils.set_random_seed(0)
    images = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 64, -2)(images)
    x = keras.layers.Conv2D(5, kernel_size, strides, "same", activation="tanh")(x)
    return segmentation_model(images, x, heads.LinearHead(num_classes, use_bias=True, background=background))


def accepting(num_classes=3, threshold=-np.inf, score=scores.log_odds):
    return Reject(num_classes, threshold, score)


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (*shape, 3)).astype("float32")


@pytest.mark.parametrize("size", [(40, 33), (16, 40), (40, 16), (17, 9), (8, 8)])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.9])
def test_tiles_change_nothing_for_a_pixelwise_model(size, overlap):
    model, images = built(1), pictures(2, *size)
    whole = Segmenter(model, accepting()).logits(images)
    tiled = Segmenter(model, accepting(), tile=(16, 9), overlap=overlap).logits(images)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    np.testing.assert_allclose(whole, model(images)["logits"], atol=1e-6)


def test_tiles_average_logits_where_they_overlap():
    """Two tiles of a model that sees its neighbours: each alone, and their mean between."""
    model, images = built(5), pictures(1, 8, 12)
    got = Segmenter(model, accepting(), tile=8, overlap=0.5).logits(images).numpy()
    left, right = model(images[:, :, :8])["logits"].numpy(), model(images[:, :, 4:])["logits"].numpy()
    np.testing.assert_allclose(got[:, :, :4], left[:, :, :4], atol=1e-5)
    np.testing.assert_allclose(got[:, :, 8:], right[:, :, 4:], atol=1e-5)
    np.testing.assert_allclose(got[:, :, 4:8], (left[:, :, 4:] + right[:, :, :4]) / 2, atol=1e-5)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_places_of_tiles(overlap):
    for size in range(1, 90):
        starts, tile = _starts(size, 20, overlap), 20
        assert starts[0] == 0
        assert size <= tile or starts[-1] + tile == size
        assert all(0 < b - a <= 20 * (1 - overlap) + 1e-9 for a, b in itertools.pairwise(starts))
    assert _starts(40, 20, 0.0) == [0, 20]
    assert _starts(41, 20, 0.0) == [0, 10, 21]


def test_flip():
    """The mean of two softmaxes by hand; classes 0 and 2 are a left and a right part; the background stays."""
    model, images = built(3), pictures(1, 7, 9)
    got = Segmenter(model, accepting(), mirror=(2, 1, 0)).logits(images)
    plain = keras.ops.softmax(model(images)["logits"]).numpy()
    flipped = keras.ops.softmax(model(images[:, :, ::-1])["logits"]).numpy()[:, :, ::-1][..., [2, 1, 0, 3]]
    np.testing.assert_allclose(np.exp(got), (plain + flipped) / 2, atol=1e-6)


def test_flip_of_flip_is_flip():
    """The answer for a mirrored image is the mirrored answer, with parts swapped: with tiles too."""
    model, images = built(3), pictures(1, 21, 30)
    both = Segmenter(model, accepting(), tile=16, overlap=0.5, mirror=(2, 1, 0))
    answer, mirrored = both.predict(images), both.predict(images[:, :, ::-1])
    np.testing.assert_allclose(mirrored["score"][:, :, ::-1], answer["score"], atol=1e-5)
    np.testing.assert_array_equal(np.array([2, 1, 0, 3])[mirrored["argmax"][:, :, ::-1]], answer["argmax"])


@pytest.mark.parametrize("background", [True, False])
def test_answers(background):
    model, images = built(3, background=background), pictures(2, 6, 5)
    logits = model(images)["logits"].numpy()
    answer = Segmenter(model, accepting(threshold=0.2)).predict(images)
    score = scores.log_odds({"logits": logits}, 3).numpy()
    np.testing.assert_allclose(answer["score"], score, atol=1e-5)
    np.testing.assert_array_equal(answer["argmax"], logits.argmax(-1))
    np.testing.assert_array_equal(answer["known_argmax"], logits[..., :3].argmax(-1))
    np.testing.assert_array_equal(answer["class_id"], np.where(answer["score"] >= 0.2, answer["known_argmax"], -1))
    assert {value.dtype.name for value in answer.values()} == {"int32", "float32", "bool"}
    assert answer["valid"].all()
    # A positive log-odds means more than half of the probability: the background never is answered there.
    assert (answer["argmax"][answer["class_id"] >= 0] < 3).all()


def test_broken_pixels_are_rejected_with_their_image():
    model, images = built(3), pictures(3, 6, 5)
    clean = Segmenter(model, accepting()).predict(images)
    images[1, 2, 3, 0] = np.nan
    answer = Segmenter(model, accepting(), tile=4).predict(images)
    assert answer["valid"].all(axis=(1, 2)).tolist() == [True, False, True]
    assert (answer["class_id"][1] == -1).all()
    assert (answer["score"][1] == np.finfo("float32").min).all()
    answer = Segmenter(model, accepting()).predict(images)
    np.testing.assert_allclose(answer["score"][[0, 2]], clean["score"][[0, 2]], atol=1e-6)
    empty = Segmenter(model, accepting()).predict(images[:0])
    assert {value.shape for value in empty.values()} == {(0, 6, 5)}
    Segmenter(model, accepting()).predict(np.ones((1, 6, 5, 3), "uint8"))  # dark, and no reason to warn
    with pytest.warns(UserWarning, match="scaled to 0..1"):
        Segmenter(model, accepting()).predict(images[:1] / 255)


def test_sizes_that_no_stride_divides():
    keras.utils.set_random_seed(0)
    backbone = dilated_resnet(18, 16, widths=(64, 8, 8, 8))
    model = deeplab_v3_plus(backbone, heads.LinearHead(3, background=True), channels=8)
    found = Segmenter(model, accepting(), tile=(48, 64), mirror=(0, 1, 2))
    for size in [(33, 47), (49, 66)]:
        assert found.predict(pictures(1, *size))["class_id"].shape == (1, *size)


def test_errors():
    model = built(1)
    with pytest.raises(ValueError, match=r"2 known classes need .*Received: \(None, None, None, 4\)"):
        Segmenter(model, accepting(2))
    with pytest.raises(ValueError, match=r"Received: \['features'\]"):
        Segmenter(keras.Model(model.input, {"features": model.output["features"]}), accepting())
    with pytest.raises(ValueError, match="overlap"):
        Segmenter(model, accepting(), tile=8, overlap=1.0)
    with pytest.raises(ValueError, match="in a mirrored image"):
        Segmenter(model, accepting(), mirror=(0, 1))
    with pytest.raises(ValueError, match="one class name for each of 3"):
        Segmenter(model, accepting(), ["cat"])
    with pytest.raises(ValueError, match=r"Add a batch axis"):
        Segmenter(model, accepting()).predict(pictures(4, 4))
    with pytest.raises(ValueError, match="reads the output 'features'"):
        Segmenter(model, accepting(score=scores.probability_times_magnitude)).predict(pictures(1, 4, 4))
    coarse = keras.Model(model.input, {"logits": keras.layers.AveragePooling2D(2)(model.output["logits"])})
    with pytest.raises(ValueError, match="of its images' size"):
        Segmenter(coarse, accepting()).predict(pictures(1, 4, 4))


def test_a_run_keeps_its_answers_through_save_load_and_export(tmp_path):
    model, images = built(3), pictures(1, 21, 30)
    found = calibration.threshold_at_fpr(np.linspace(-1, 1, 200), 0.1, score="log_odds")
    serving.save(tmp_path, model, found, scores.log_odds, ["cat", "dog", "eel"], tile=16, max_size=(40, 64))
    segmenter = serving.load(tmp_path)
    assert (segmenter.class_names, segmenter.calibration) == (["cat", "dog", "eel"], found)
    wanted = Segmenter(model, accepting(threshold=found.threshold), tile=16).predict(images)
    for name, value in segmenter.predict(images).items():
        np.testing.assert_allclose(value, wanted[name], atol=1e-6)
    segmenter.export(serving.next_version(tmp_path))
    served = tf.saved_model.load(str(tmp_path / "saved_model" / "1")).signatures["serving_default"]
    assert served(images=tf.zeros((1, 40, 64, 3), tf.uint8))["class_id"].shape == (1, 40, 64)
    with pytest.raises(tf.errors.InvalidArgumentError, match="1 to 40 x 64 pixels"):
        served(images=tf.zeros((1, 41, 64, 3), tf.uint8))
    done = subprocess.run([sys.executable, "-m", "export", tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert "images (N, any, any, 3), pixels 0..255 -> cat, dog, eel or unknown" in done.stdout, done.stderr
    assert (tmp_path / "saved_model" / "2").is_dir()


def test_sizes_are_for_models_of_pixels(tmp_path):
    images = keras.Input((8, 8, 1))
    model = keras.Model(images, heads.LinearHead(2)(keras.layers.Flatten()(images)))
    found = calibration.threshold_at_fpr(np.linspace(-1, 1, 200), 0.1)
    with pytest.raises(ValueError, match=r"for models that answer for each pixel.*'tile': 16"):
        serving.save(tmp_path / "run", model, found, "log_odds", ["cat", "dog"], tile=16)
    assert not (tmp_path / "run").exists()
