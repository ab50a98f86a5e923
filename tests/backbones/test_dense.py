import keras
import numpy as np
import pytest

from cplus1_keras.backbones import dilated_resnet, hrnet, resnet, resnet_v2, synchronize_batch_norm
from cplus1_keras.backbones.convolutions import convolution
from cplus1_keras.backbones.resnets import keras_cv_form
from cplus1_keras.layers.resizing import ResizeLike

SLIM = (8, 8, 8, 8)


@pytest.mark.parametrize(("stride", "cells"), [(8, [25, 13, 13, 13]), (16, [25, 13, 7, 7]), (32, [25, 13, 7, 4])])
def test_output_stride(stride, cells):
    backbone = dilated_resnet(18, stride, widths=(64, 8, 8, 8))
    shapes = backbone.compute_output_shape((1, 97, 64, 3))
    assert [shape[1] for shape in shapes] == cells
    assert [shape[-1] for shape in shapes] == [64, 8, 8, 8]


def test_dilations_are_those_of_the_reference_framework():
    # mmsegmentation's ResNetV1c with dilations (1, 1, 2, 4) and contract_dilation, and with (1, 1, 1, 2).
    expected = {8: {3: [1, 2, 2, 2, 2, 2], 4: [2, 4, 4]}, 16: {3: [1] * 6, 4: [1, 2, 2]}}
    for stride, stages in expected.items():
        backbone = dilated_resnet(50, stride, widths=SLIM)
        for stage, rates in stages.items():
            for block, rate in enumerate(rates, start=1):
                layer = backbone.get_layer(f"stage{stage}_block{block}_2_conv")
                assert layer.dilation_rate == (rate, rate)
                assert backbone.get_layer(f"stage{stage}_block{block}_1_conv").dilation_rate == (1, 1)
        assert backbone.get_layer("stage2_block1_2_conv").dilation_rate == (1, 1)


@pytest.mark.parametrize("size", [(72, 64), (96, 128), (97, 65)])  # grids of odd and even sides at all strides
@pytest.mark.parametrize(
    ("depth", "stride"),
    [(18, 8), *(pytest.param(*net, marks=pytest.mark.slow) for net in ((50, 16), (34, 16), (50, 8)))],
)
def test_uncontracted_dilation_computes_the_strided_net_at_more_positions(depth, stride, size):
    keras.utils.set_random_seed(0)
    strided = dilated_resnet(depth, 32, widths=SLIM)
    dilated = dilated_resnet(depth, stride, widths=SLIM, contract_dilation=False)
    contracted = dilated_resnet(depth, stride, widths=SLIM)
    weights = random_weights(strided)
    images = np.random.default_rng(1).uniform(0, 255, (1, *size, 3)).astype("float32")
    maps = {}
    for name, net in {"strided": strided, "dilated": dilated, "contracted": contracted}.items():
        net.set_weights(weights)
        maps[name] = net.predict(images, verbose=0)
    for stage, whole in enumerate((4, 8, 16, 32)):
        step = max(1, whole // stride)
        scale = np.abs(maps["strided"][stage]).max()
        assert scale > 0
        same = maps["dilated"][stage][:, ::step, ::step]
        np.testing.assert_allclose(same, maps["strided"][stage], atol=1e-4 * scale)
    assert np.abs(maps["contracted"][3] - maps["dilated"][3]).max() > 1e-3 * scale


def random_weights(net):
    """Weights that are all away from their start, so that no two of them may be swapped unseen."""
    rng = np.random.default_rng(0)
    return [np.abs(rng.normal(0.3, 0.1, w.shape)) if w.ndim == 1 else w for w in net.get_weights()]


@pytest.mark.parametrize("depth", [18, 50])
def test_the_net_is_keras_cvs(depth):
    keras_cv = pytest.importorskip("keras_cv", reason="the reference is keras-cv's net")
    form = {**keras_cv_form(depth), "stackwise_filters": [64, 16, 24, 32]}
    keras.utils.set_random_seed(3)
    reference = keras_cv.models.ResNetBackbone(**form, include_rescaling=True, input_shape=(None, None, 3))
    keras.utils.set_random_seed(3)
    net = dilated_resnet(depth, 32, widths=form["stackwise_filters"])
    for mine, theirs in zip(net.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)  # one seed, one start
    weights = random_weights(reference)
    reference.set_weights(weights)
    net.set_weights(weights)
    taps = [reference.get_layer(name).output for name in reference.pyramid_level_inputs.values()]
    for size in ((64, 96), (97, 70)):
        images = np.random.default_rng(1).uniform(0, 255, (1, *size, 3)).astype("float32")
        for mine, theirs in zip(net(images), keras.Model(reference.input, taps)(images), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5)


def test_a_padded_net_is_read_again(tmp_path):
    net = dilated_resnet(18, 8, widths=SLIM, contract_dilation=False)
    images = np.random.default_rng(1).uniform(0, 255, (1, 64, 80, 3)).astype("float32")
    net.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    for mine, theirs in zip(loaded.predict(images, verbose=0), net(images, training=False), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def test_batch_norm_momentum_and_synchronisation():
    backbone = synchronize_batch_norm(dilated_resnet(18, 16, widths=(64, 8, 8, 8)))
    norms = [layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) == 20
    assert all(norm.momentum == 0.9 and norm.synchronized for norm in norms)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 20}, "`depth` must be one of"),
        ({"output_stride": 4}, "`output_stride` must be one of 8, 16, 32"),
        ({"widths": (64, 8, 8)}, "four positive numbers"),
        ({"widths": SLIM, "weights": "resnet50_imagenet"}, "no weights for other widths"),
        ({"input_shape": (32, 32, 3)}, "at least 64 x 64"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        dilated_resnet(**arguments)


def test_hrnet_maps_and_published_count():
    backbone = hrnet(18)
    assert sum(int(np.prod(v.shape)) for v in backbone.trainable_variables) == 9_562_260
    shapes = backbone.compute_output_shape((2, 65, 96, 3))
    assert [shape[1:] for shape in shapes] == [(17, 24, 18), (9, 12, 36), (5, 6, 72), (3, 3, 144)]
    with pytest.raises(ValueError, match="`width` must be"):
        hrnet(0)


@pytest.mark.parametrize("size", [8, 9])
def test_strided_convolutions_stay_on_every_second_pixel(size):
    # As the 1x1 convolutions of shortcuts do. "same" padding would move on by one where the size is even.
    image = keras.Input((size, size, 1))
    model = keras.Model(image, convolution(image, 1, 3, "c", strides=2, activation=False))
    centre = np.zeros((3, 3, 1, 1), "float32")
    centre[1, 1] = np.sqrt(1 + 1e-5)  # what the normalisation divides by
    model.set_weights([centre, *model.get_weights()[1:]])
    x = np.random.default_rng(0).normal(size=(1, size, size, 1)).astype("float32")
    np.testing.assert_allclose(model(x), x[:, ::2, ::2], rtol=1e-5)


def test_resizing_has_half_pixel_centres():
    x = np.array([0.0, 1.0], "float32").reshape(1, 1, 2, 1)
    y = ResizeLike()([x, np.zeros((1, 1, 4, 3), "float32")])
    np.testing.assert_allclose(np.array(y).ravel(), [0, 0.25, 0.75, 1])
    z = ResizeLike()([x.astype("float16"), np.zeros((1, 2, 2, 3), "float32")])
    assert keras.backend.standardize_dtype(z.dtype) == "float16"
    assert z.shape == (1, 2, 2, 1)


def test_keras_cvs_weights_are_taken_from_a_folder(tmp_path):
    keras_cv = pytest.importorskip("keras_cv", reason="presets are keras-cv's")
    from keras_cv.src.utils.preset_utils import save_to_preset

    donor = keras_cv.models.ResNetBackbone(**keras_cv_form(18), include_rescaling=False, input_shape=(64, 64, 3))
    save_to_preset(donor, str(tmp_path))
    for taker in (dilated_resnet(18, 16, weights=tmp_path), resnet(18, (64, 64, 3), weights=tmp_path)):
        for mine, theirs in zip(taker.get_weights(), donor.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(ValueError, match="another net than resnet50: it has"):
        resnet(50, weights=tmp_path)
    with pytest.raises(ValueError, match="ResNetV2Backbone"):
        resnet_v2(18, (64, 64, 3), weights=tmp_path)
