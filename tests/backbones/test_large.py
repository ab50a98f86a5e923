import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pytest

from cplus1_keras import backbones
from cplus1_keras.backbones import kerascv

pytest.importorskip("keras_cv", reason="these backbones come from keras-cv, which needs TensorFlow")

SMALLEST = [
    (backbones.resnet, 18, 11_186_112, 512),
    (backbones.resnet_v2, 18, 11_183_488, 512),
    (backbones.efficientnet_v2, "b0", 5_919_312, 1280),
    (backbones.mobilenet_v3, "small", 939_120, 576),
    (backbones.mobilenet_v3, "large", 2_996_352, 960),
    (backbones.densenet, 121, 7_037_504, 1024),
    (backbones.mit, "b0", 3_321_962 - 2_570, 256),
]
LARGER = [
    (backbones.resnet, 34, 21_301_696, 512),
    (backbones.resnet, 50, 23_561_152, 2048),
    (backbones.resnet, 101, 42_605_504, 2048),
    (backbones.resnet, 152, 58_295_232, 2048),
    (backbones.resnet_v2, 34, 21_299_072, 512),
    (backbones.resnet_v2, 50, 23_564_800, 2048),
    (backbones.resnet_v2, 101, 42_626_560, 2048),
    (backbones.resnet_v2, 152, 58_331_648, 2048),
    (backbones.efficientnet_v2, "b1", 6_931_124, 1280),
    (backbones.efficientnet_v2, "b2", 8_769_374, 1408),
    (backbones.efficientnet_v2, "b3", 12_930_622, 1536),
    (backbones.efficientnet_v2, "s", 20_331_360, 1280),
    (backbones.efficientnet_v2, "m", 53_150_388, 1280),
    (backbones.efficientnet_v2, "l", 117_746_848, 1280),
    (backbones.densenet, 169, 12_642_880, 1664),
    (backbones.densenet, 201, 18_321_984, 1920),
    (backbones.mit, "b1", 13_156_554 - 5_130, 512),
    (backbones.mit, "b2", 24_201_418 - 5_130, 512),
    (backbones.mit, "b3", 44_077_258 - 5_130, 512),
    (backbones.mit, "b4", 60_847_818 - 5_130, 512),
    (backbones.mit, "b5", 81_448_138 - 5_130, 512),
]
"""Counts that keras-cv states with its presets (MiT's with a classifier of ten classes), and keras.applications for
MobileNetV3 and DenseNet without their tops."""
FAST = [row for row in SMALLEST if row[0] not in (backbones.efficientnet_v2, backbones.mit)]


def images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, shape).astype("float32")


@pytest.mark.parametrize(
    ("build", "size", "count", "channels"),
    [row if row in FAST else pytest.param(*row, marks=pytest.mark.slow) for row in (*SMALLEST, *LARGER)],
)
def test_parameter_counts_and_shapes(build, size, count, channels):
    backbone = build(size, (96, 64, 3), pool=False)
    assert backbone.count_params() == count
    assert backbone.output_shape == (None, 3, 2, channels)
    if build is not backbones.resnet:  # whose maps `dilated_resnet` gives
        assert len(backbone.pyramid_level_inputs) >= 4  # taps for segmentation
    assert build(size, (96, 64, 3)).output_shape == (None, channels)


def test_no_network_is_asked_without_weights(monkeypatch):
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("a backbone opened a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert backbones.resnet(18, (64, 64, 3), features=10).output_shape == (None, 10)


@pytest.mark.parametrize(
    ("build", "size"),
    [
        pytest.param(backbones.mobilenet_v3, "small", marks=pytest.mark.slow),
        pytest.param(backbones.resnet, 18, marks=pytest.mark.slow),
        pytest.param(backbones.resnet_v2, 18, marks=pytest.mark.slow),
        pytest.param(backbones.efficientnet_v2, "b0", marks=pytest.mark.slow),
        pytest.param(backbones.densenet, 121, marks=pytest.mark.slow),
        pytest.param(backbones.mit, "b0", marks=pytest.mark.slow),
    ],
)
def test_it_trains_and_a_fresh_process_reads_the_same_features(build, size, tmp_path):
    model, x = build(size, (64, 64, 3), features=5), images(4, 64, 64, 3)
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    before = model.get_layer("features").get_weights()[0]
    assert np.isfinite(model.train_on_batch(x, np.eye(4, 5)))
    assert not np.array_equal(before, model.get_layer("features").get_weights()[0])
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", x)
    code = """
        import sys, keras, numpy as np
        folder = sys.argv[1]
        model = keras.saving.load_model(folder + "/model.keras")
        np.save(folder + "/features.npy", model.predict(np.load(folder + "/images.npy"), verbose=0))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "features.npy"), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_pixels_are_rescaled_inside():
    for build, size, _, _ in SMALLEST:
        first = build(size, (64, 64, 3), pool=False).layers[1]
        assert isinstance(first, keras.layers.Rescaling)
        assert first.scale == pytest.approx(1 / 255)


def test_a_saved_preset_is_read_without_a_network(tmp_path):
    from keras_cv.src.utils.preset_utils import save_to_preset

    donor, x = backbones.mobilenet_v3("small", (64, 64, 3), pool=False), images(2, 64, 64, 3)
    save_to_preset(donor, str(tmp_path))
    taker = backbones.mobilenet_v3("small", (64, 64, 3), pool=False, weights=tmp_path)
    np.testing.assert_allclose(taker.predict(x, verbose=0), donor.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_a_preset_of_another_net_is_refused(tmp_path):
    from keras_cv.src.utils.preset_utils import save_to_preset

    save_to_preset(backbones.mobilenet_v3("small", (64, 64, 3), pool=False), str(tmp_path))
    with pytest.raises(ValueError, match=r"another net than mobilenet_v3_large: it has {'stackwise_expansion'"):
        backbones.mobilenet_v3("large", (64, 64, 3), weights=tmp_path)


def test_weights_without_an_answer_from_the_hub_fail_soon(monkeypatch):
    import kagglehub

    monkeypatch.setattr(kagglehub, "model_download", lambda *args: time.sleep(60))
    monkeypatch.setattr(kerascv, "HUB_TIMEOUT", 0.2)
    start = time.monotonic()
    with pytest.raises(ConnectionError, match=r"'resnet50_imagenet' come from the model hub.*weights=None"):
        backbones.resnet(50, weights="resnet50_imagenet")
    assert time.monotonic() - start < 10


def test_weights_without_a_network_name_the_cause(monkeypatch):
    import kagglehub

    def fail(*args):
        raise OSError("Name or service not known")

    monkeypatch.setattr(kagglehub, "model_download", fail)
    with pytest.raises(ConnectionError, match="The hub's client said: Name or service not known"):
        backbones.mit("b0", weights="mit_b0_imagenet")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: backbones.resnet(19), "`depth` must be one of 18, 34, 50, 101, 152. Received: depth=19"),
        (lambda: backbones.efficientnet_v2("b9"), "`variant` must be one of 'b0'"),
        (lambda: backbones.densenet(121, (3, 224, 224)), "wants the channels last.*3, 224, 224"),
        (lambda: backbones.densenet(121, (64, 64.5, 3)), r"needs `input_shape` as \(height, width, channels\)"),
        (lambda: backbones.resnet(18, (32, 32, 3)), "at least 64 x 64 pixels.*cifar_resnet"),
        (lambda: backbones.mit("b0", (32, 64, 3)), "at least 64 x 64 pixels"),
        (lambda: backbones.mit("b0", (80, 64, 3)), "multiples of 32 pixels"),
        (lambda: backbones.mit("b0", (None, None, 3)), r"as \(height, width, channels\), all known\. Received"),
        (lambda: backbones.resnet(50, weights="imagenet"), "keras-cv has 'resnet50_imagenet' for resnet50.*'imagenet'"),
        (lambda: backbones.resnet(18, weights="resnet50_imagenet"), "keras-cv has no weights for resnet18"),
    ],
)
def test_wrong_arguments_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_module_is_light():
    code = "import sys, cplus1_keras.backbones; sys.exit('keras_cv' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
