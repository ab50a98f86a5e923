"""Pixels: tiles, flips and answers against one pass over the whole image and averages by hand; their SavedModel."""

import dataclasses
import itertools
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

from cplus1_keras import calibration, heads, palettes, scores, serving  # noqa: E402  needs TensorFlow
from cplus1_keras.backbones import dilated_resnet  # noqa: E402
from cplus1_keras.layers import Reject  # noqa: E402
from cplus1_keras.models import deeplab_v3_plus, segmentation_model  # noqa: E402
from cplus1_keras.serving import PixelSpec, Predictor  # noqa: E402
from cplus1_keras.serving.pixels import _starts  # noqa: E402

NAMES = ["cat", "dög", "eel"]


def built(kernel_size, strides=1, background=True, num_classes=3):
    """A layer in training mode would change its answers."""
    keras.utils.set_random_seed(0)
    images = keras.Input((None, None, 3))
    x = keras.layers.GaussianNoise(1.0)(keras.layers.Rescaling(1 / 64, -2)(images))
    x = keras.layers.Conv2D(5, kernel_size, strides, "same", activation="tanh")(x)
    return segmentation_model(images, x, heads.LinearHead(num_classes, use_bias=True, background=background))


def accepting(num_classes=3, threshold=-np.inf, score=scores.log_odds):
    return Reject(num_classes, threshold, score)


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (*shape, 3)).astype("float32")


def merge(model, images, **settings):
    """The logits that a predictor decides on."""
    predictor = Predictor(model, accepting(), spec=PixelSpec(**settings))
    return predictor.spec.merge(predictor, tf.constant(images))["logits"].numpy()


@pytest.mark.parametrize("size", [(40, 33), (16, 40), (40, 16), (17, 9), (8, 8)])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.9])
def test_tiles_change_nothing_for_a_pixelwise_model(size, overlap):
    model, images = built(1), pictures(2, *size)
    tiled = merge(model, images, tile=(16, 9), overlap=overlap)
    np.testing.assert_allclose(tiled, model(images)["logits"], atol=1e-5)


def test_tiles_average_logits_where_they_overlap():
    """Two tiles of a model that sees its neighbours: each alone, and their mean between."""
    model, images = built(5), pictures(1, 8, 12)
    got = merge(model, images, tile=8, overlap=0.5)
    left, right = model(images[:, :, :8])["logits"].numpy(), model(images[:, :, 4:])["logits"].numpy()
    np.testing.assert_allclose(got[:, :, :4], left[:, :, :4], atol=1e-5)
    np.testing.assert_allclose(got[:, :, 8:], right[:, :, 4:], atol=1e-5)
    np.testing.assert_allclose(got[:, :, 4:8], (left[:, :, 4:] + right[:, :, :4]) / 2, atol=1e-5)
    answer = Predictor(model, accepting(), spec=PixelSpec(tile=8, overlap=0.5)).predict(images)
    np.testing.assert_array_equal(answer["argmax"], got.argmax(-1))


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
    got = merge(model, images, mirror=(2, 1, 0))
    plain = keras.ops.softmax(model(images)["logits"]).numpy()
    flipped = keras.ops.softmax(model(images[:, :, ::-1])["logits"]).numpy()[:, :, ::-1][..., [2, 1, 0, 3]]
    np.testing.assert_allclose(np.exp(got), (plain + flipped) / 2, atol=1e-6)


@pytest.mark.parametrize("tile", [None, 16])
def test_flip_of_flip_is_flip(tile):
    """The answer for a mirrored image is the mirrored answer, with parts swapped: with tiles too."""
    model, images = built(3), pictures(1, 21, 30)
    both = Predictor(model, accepting(), spec=PixelSpec(tile=tile, overlap=0.5, mirror=(2, 1, 0)))
    answer, mirrored = both.predict(images), both.predict(images[:, :, ::-1])
    np.testing.assert_allclose(mirrored["score"][:, :, ::-1], answer["score"], atol=1e-5)
    np.testing.assert_array_equal(np.array([2, 1, 0, 3])[mirrored["argmax"][:, :, ::-1]], answer["argmax"])


@pytest.mark.parametrize("background", [True, False])
def test_answers(background):
    model, images = built(3, background=background), pictures(2, 6, 5)
    logits = model(images)["logits"].numpy()
    predictor = Predictor(model, accepting(threshold=0.2))
    answer = predictor.predict(images)
    assert predictor.background == background
    assert predictor.spec == PixelSpec()
    score = scores.log_odds({"logits": logits}, 3).numpy()
    np.testing.assert_allclose(answer["score"], score, atol=1e-5)
    np.testing.assert_array_equal(answer["argmax"], logits.argmax(-1))
    np.testing.assert_array_equal(answer["known_argmax"], logits[..., :3].argmax(-1))
    np.testing.assert_array_equal(answer["class_id"], np.where(answer["score"] >= 0.2, answer["known_argmax"], -1))
    assert {value.dtype.name for value in answer.values()} == {"int32", "float32", "bool"}
    assert answer["valid"].all()
    # A positive log-odds means more than half of the probability: the background never is answered there.
    assert (answer["argmax"][answer["class_id"] >= 0] < 3).all()
    np.testing.assert_allclose(predictor.features(images)["features"], model(images)["features"], atol=1e-6)
    one_by_one = predictor.predict(images, batch_size=1)
    np.testing.assert_allclose(one_by_one["score"], answer["score"], atol=1e-5)


@pytest.mark.parametrize("tile", [None, 4])
def test_broken_pixels_are_rejected_with_their_image(tile):
    model, images = built(3), pictures(3, 6, 5)
    predictor = Predictor(model, accepting(), spec=PixelSpec(tile=tile))
    clean = predictor.predict(images)
    images[1, 2, 3, 0] = np.nan
    answer = predictor.predict(images)
    assert answer["valid"].all(axis=(1, 2)).tolist() == [True, False, True]
    assert (answer["class_id"][1] == -1).all()
    assert (answer["score"][1] == np.finfo("float32").min).all()
    np.testing.assert_allclose(answer["score"][[0, 2]], clean["score"][[0, 2]], atol=1e-6)
    empty = predictor.predict(images[:0])
    assert {value.shape for value in empty.values()} == {(0, 6, 5)}
    with pytest.warns(UserWarning, match="scaled to 0..1"):
        predictor.predict(images[:1] / 255)


def test_a_pixel_whose_score_is_nan_is_rejected_alone():
    images = keras.Input((None, None, 3))
    model = keras.Model(images, {"logits": keras.layers.Rescaling(1e38)(images)})
    answer = Predictor(model, Reject(3, 0.0)).predict(np.array([[[[9, 0, 0], [0, 1, 0]]]]))
    assert answer["class_id"].tolist() == [[[-1, 1]]]
    assert answer["valid"].tolist() == [[[False, True]]]
    assert np.isfinite(answer["score"]).all()


def test_sizes_that_no_stride_divides():
    keras.utils.set_random_seed(0)
    backbone = dilated_resnet(18, 16, widths=(64, 8, 8, 8))
    model = deeplab_v3_plus(backbone, heads.LinearHead(3, background=True), channels=8)
    found = Predictor(model, accepting(), spec=PixelSpec(tile=(48, 64), mirror=(0, 1, 2)))
    for size in [(33, 47), (49, 66)]:
        assert found.predict(pictures(1, *size))["class_id"].shape == (1, *size)


def test_what_does_not_fit_is_explained():
    model = built(1)
    coarse = keras.Model(model.input, {"logits": keras.layers.AveragePooling2D(2)(model.output["logits"])})
    for message, call in (
        (r"2 known classes need .*Received: \(None, None, None, 4\)", lambda: Predictor(model, accepting(2))),
        (
            r"Received: \['features'\]",
            lambda: Predictor(
                keras.Model(model.input, {"features": model.output["features"]}), accepting(), spec=PixelSpec()
            ),
        ),
        ("overlap", lambda: PixelSpec(tile=8, overlap=1.0)),
        ("image size is a positive int", lambda: PixelSpec(tile=0)),
        ('"uint8" or "float32"', lambda: PixelSpec(dtype="int32")),
        ("in a mirrored image", lambda: Predictor(model, accepting(), spec=PixelSpec(mirror=(0, 1)))),
        ("`colours` must be 4 times", lambda: Predictor(model, accepting(), spec=PixelSpec(colours=[(0, 0, 0)] * 3))),
        ("`colours` must be 4 times", lambda: Predictor(model, accepting(), spec=PixelSpec(colours=[(0, 0, 256)] * 4))),
        ("one class name for each of 3", lambda: Predictor(model, accepting(), ["cat"])),
        (r"\(N, H, W, 3\).*Add a batch axis", lambda: Predictor(model, accepting()).predict(pictures(4, 4))),
        (
            "reads the output 'features'",
            lambda: Predictor(model, accepting(score="probability_times_magnitude")).predict(pictures(1, 4, 4)),
        ),
        ("of its images' size", lambda: Predictor(coarse, accepting()).predict(pictures(1, 4, 4))),
        (
            "of its images' size",
            lambda: Predictor(coarse, accepting(), spec=PixelSpec(tile=4)).predict(pictures(1, 6, 6)),
        ),
        ("gives no `features`", lambda: Predictor(coarse, accepting()).features(pictures(1, 4, 4))),
    ):
        with pytest.raises(ValueError, match=message):
            call()


COLOURS = [(9, 9, 9), (255, 0, 0), (0, 255, 0), (0, 0, 255)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Predictors by the type of pixels in a request, one with the flip test; their SavedModels; where those are."""
    model, reject = built(5, 4), Reject(3, -0.7)
    specs = {
        "uint8": PixelSpec((40, 64)),
        "float32": PixelSpec((40, 64), mirror=(1, 0, 2), dtype="float32", colours=COLOURS),
    }
    predictors = {dtype: Predictor(model, reject, NAMES, spec) for dtype, spec in specs.items()}
    paths = {dtype: tmp_path_factory.mktemp(dtype) / "1" for dtype in specs}
    for dtype, path in paths.items():
        predictors[dtype].export(path)
    return predictors, {dtype: tf.saved_model.load(str(path)) for dtype, path in paths.items()}, paths


@pytest.mark.parametrize("size", [(1, 1), (7, 64), (40, 33), (16, 16)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_saved_model_answers_as_predict(exported, size, dtype):
    predictor, loaded = exported[0][dtype], exported[1][dtype]
    images = pictures(2, *size).astype("uint8")
    served = loaded.signatures["serving_default"](images=tf.constant(images, dtype))
    answer = predictor.predict(images)
    assert {name: (value.dtype.name, tuple(value.shape)) for name, value in served.items()} == {
        "class_id": ("int32", (2, *size)),
        "score": ("float32", (2, *size)),
        "valid": ("bool", (2, *size)),
    }
    for name in served:
        np.testing.assert_array_equal(served[name], answer[name])
    picture = loaded.signatures["palette"](images=tf.constant(images, dtype))["image"]
    assert picture.dtype == tf.uint8
    colours = palettes.palette(3) if dtype == "uint8" else np.array(COLOURS)
    np.testing.assert_array_equal(picture, colours[answer["class_id"] + 1])


def test_without_a_flip_they_are_the_models(exported):
    images = pictures(2, 40, 33).astype("uint8")
    logits = exported[0]["uint8"].model.predict(images.astype("float32"), verbose=0)["logits"]
    answer = exported[1]["uint8"].signatures["serving_default"](images=images)
    known = scores.log_odds({"logits": logits}, 3).numpy() >= -0.7
    np.testing.assert_array_equal(answer["class_id"], np.where(known, logits[..., :3].argmax(-1), -1))
    assert 0.1 < known.mean() < 0.9


@pytest.mark.parametrize("signature", ["serving_default", "palette"])
@pytest.mark.parametrize("size", [(41, 64), (40, 65), (0, 5)])
def test_the_size_is_limited(exported, signature, size):
    message = r"takes images of 1 to 40 x 64 pixels.*Received images of shape:"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        exported[1]["uint8"].signatures[signature](images=tf.zeros((1, *size, 3), "uint8"))
    if size[0]:
        assert exported[0]["uint8"].predict(np.zeros((1, *size, 3)))["class_id"].shape == (1, *size)


def test_no_image(exported):
    served = exported[1]["uint8"].signatures["serving_default"](images=tf.zeros((0, 8, 12, 3), "uint8"))
    assert served["class_id"].shape == served["score"].shape == (0, 8, 12)


def test_a_bad_image_is_rejected_alone_by_the_saved_model(exported):
    serve = exported[1]["float32"].signatures["serving_default"]
    images = pictures(4, 9, 14)
    whole = serve(images=tf.constant(images))
    images[1, 0, 0, 0], images[2, 3, 3, 1], images[3, 1, 2, 0] = np.nan, np.inf, 40000
    served = serve(images=tf.constant(images))
    for name in ("class_id", "score"):
        np.testing.assert_allclose(served[name][0], whole[name][0], atol=1e-6)
    assert (served["class_id"].numpy()[1:] == -1).all()
    assert (served["score"].numpy()[1:] == np.finfo("float32").min).all()
    assert not served["valid"].numpy()[1:].any()


def test_classes_and_colours_go_with_it(exported):
    classes = json.loads((exported[2]["float32"] / serving.CLASSES_FILE).read_text(encoding="utf-8"))
    assert (classes["class_names"], classes["max_size"], classes["output"]) == (NAMES, [40, 64], "pixel")
    assert classes["rejected"] == {"class_id": -1, "colour": [9, 9, 9]}
    assert classes["colours"] == [list(colour) for colour in COLOURS[1:]]


def test_serves_without_keras_and_this_package(exported):
    """In a process of its own, where importing either fails."""
    images = np.random.default_rng(0).integers(0, 256, (1, 21, 30, 3)).astype("uint8")
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
    assert int(done.stdout.split()[-1]) == exported[0]["uint8"].predict(images)["class_id"].sum()


def test_the_threshold_can_be_changed(exported):
    again = tf.saved_model.load(str(exported[2]["uint8"]))
    (threshold,) = again.threshold
    threshold.assign(np.inf)
    images = np.zeros((1, 8, 8, 3), "uint8")
    assert (again.signatures["serving_default"](images=images)["class_id"].numpy() == -1).all()


def test_a_model_that_answers_otherwise_is_not_written(tmp_path, monkeypatch):
    real = PixelSpec.decide

    def shifted(self, predictor, outputs, valid, threshold=None):
        answer = real(self, predictor, outputs, valid, threshold)
        return {**answer, "score": answer["score"] + 0.01}

    monkeypatch.setattr(PixelSpec, "decide", shifted)
    with pytest.raises(ValueError, match="disagrees with `predict`"):
        Predictor(built(5, 4, background=False), Reject(3, 0.1)).export(tmp_path / "1")
    assert not list(tmp_path.iterdir())


def test_a_model_of_one_size_serves_that_size(tmp_path):
    images = keras.Input((8, 6, 3))
    model = keras.Model(images, {"logits": keras.layers.Conv2D(3, 1)(images)})
    Predictor(model, Reject(3, 0.0)).export(tmp_path / "1")
    served = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
    assert served(images=tf.zeros((1, 8, 6, 3), "uint8"))["class_id"].shape == (1, 8, 6)


def test_a_run_keeps_its_settings_and_answers(tmp_path):
    model, images = built(3), pictures(1, 21, 30)
    found = calibration.threshold_at_fpr(np.linspace(-1, 1, 200), 0.1, score="log_odds")
    spec = PixelSpec((40, 64), tile=16, overlap=0.5, mirror=(1, 0, 2), dtype="float32", colours=COLOURS)
    predictor = Predictor(model, Reject(3, found.threshold), NAMES, spec, found)
    serving.save(tmp_path, predictor)
    loaded = serving.load(tmp_path)
    assert (loaded.spec, loaded.class_names, loaded.calibration) == (spec, NAMES, found)
    wanted = predictor.predict(images)
    for name, value in loaded.predict(images).items():
        np.testing.assert_array_equal(value, wanted[name])
    loaded.export(serving.next_version(tmp_path))
    served = tf.saved_model.load(str(tmp_path / "saved_model" / "1")).signatures["serving_default"]
    assert served(images=tf.zeros((1, 40, 64, 3)))["class_id"].shape == (1, 40, 64)


def test_palette():
    colours = palettes.palette(20)
    # The development kit's colours of aeroplane, bicycle, person and tv monitor.
    assert colours[[1, 2, 15, 20]].tolist() == [[128, 0, 0], [0, 128, 0], [192, 128, 128], [0, 64, 128]]
    assert len({tuple(colour) for colour in palettes.palette(255).tolist()}) == 256
    with pytest.raises(ValueError, match="0 to 255"):
        palettes.palette(256)


def test_settings_and_their_ends():
    assert dataclasses.astuple(PixelSpec()) == ((2048, 2048), None, 0.25, None, (1.0,), "uint8", None)
    assert (PixelSpec().batch_size, serving.ImageSpec().batch_size, serving.ImageSpec().positions) == (8, 256, 0)
    assert PixelSpec(overlap=0.0).overlap == 0
    for overlap in (-0.1, 1.0, 1.1):
        with pytest.raises(ValueError, match=f"in \\[0, 1\\). Received: {overlap}"):
            PixelSpec(overlap=overlap)
    for level, told in ((0, None), (255, None), (-1, "0 to 255"), (256, "0 to 255")):
        spec = PixelSpec(colours=[(0, 0, 0), (255, 255, 255), (0, 0, 0), (9, level, 9)])
        if told is None:
            spec.check(built(1), 3)
            continue
        with pytest.raises(ValueError, match=told):
            spec.check(built(1), 3)


def test_scales_average_the_softmax_of_resized_images():
    model, images = built(1), pictures(1, 24, 20)
    views = []
    for height, width in ((12, 10), (24, 20), (36, 30)):
        scaled = tf.image.resize(images, (height, width), antialias=True)
        for turned, back in ((scaled, lambda x: x), (scaled[:, :, ::-1], lambda x: x[:, :, ::-1])):
            logits = back(model(turned)["logits"])
            views.append(tf.nn.softmax(tf.image.resize(logits, (24, 20))))
    got = merge(model, images, scales=(0.5, 1, 1.5), mirror=(0, 1, 2))
    np.testing.assert_allclose(tf.nn.softmax(got), np.mean(views, axis=0), atol=1e-5)
    np.testing.assert_allclose(merge(model, images, scales=(1,)), model(images)["logits"], atol=1e-5)


@pytest.mark.parametrize("scales", [(), (0,), (-1.0,), (float("inf"),)])
def test_scales_are_factors(scales):
    with pytest.raises(ValueError, match="factors > 0"):
        PixelSpec(scales=scales)
