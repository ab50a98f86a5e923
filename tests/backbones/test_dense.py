import keras
import numpy as np
import pytest

from cplus1_keras.backbones import dilated_resnet, hrnet, resnet, synchronize_batch_norm
from cplus1_keras.backbones.convolutions import convolution
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
    expected = {8: {2: [1, 2, 2, 2, 2, 2], 3: [2, 4, 4]}, 16: {2: [1] * 6, 3: [1, 2, 2]}}
    for stride, stacks in expected.items():
        backbone = dilated_resnet(50, stride, widths=SLIM)
        for stack, rates in stacks.items():
            for block, rate in enumerate(rates, start=1):
                layer = backbone.get_layer(f"v2_stack_{stack}_block{block}_2_conv")
                assert layer.dilation_rate == (rate, rate)
                assert backbone.get_layer(f"v2_stack_{stack}_block{block}_1_conv").dilation_rate == (1, 1)
        assert backbone.get_layer("v2_stack_1_block1_2_conv").dilation_rate == (1, 1)


def test_uncontracted_dilation_computes_the_strided_net_at_more_positions():
    keras.utils.set_random_seed(0)
    strided = dilated_resnet(50, 32, widths=SLIM)
    dilated = dilated_resnet(50, 8, widths=SLIM, contract_dilation=False)
    contracted = dilated_resnet(50, 8, widths=SLIM)
    rng = np.random.default_rng(0)
    weights = [np.abs(rng.normal(0.3, 0.1, w.shape)) if w.ndim == 1 else w for w in strided.get_weights()]
    images = rng.uniform(0, 255, (1, 72, 64, 3)).astype("float32")
    maps = {}
    for name, net in {"strided": strided, "dilated": dilated, "contracted": contracted}.items():
        net.set_weights(weights)
        maps[name] = [np.array(m) for m in net(images, training=False)]
    for stage, step in enumerate((1, 1, 2, 4)):
        scale = np.abs(maps["strided"][stage]).max()
        assert scale > 0
        same = maps["dilated"][stage][:, ::step, ::step]
        np.testing.assert_allclose(same, maps["strided"][stage], atol=1e-4 * scale)
    assert np.abs(maps["contracted"][3] - maps["dilated"][3]).max() > 1e-3 * scale


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
        ({"depth": 18, "widths": (32, 64, 96, 128)}, "the first of them 64"),
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


def test_weights_of_the_strided_net_are_carried_over(tmp_path):
    preset_utils = pytest.importorskip("keras_cv.src.utils.preset_utils", reason="presets are keras-cv's")
    donor = resnet(18, (64, 64, 3), pool=False)
    preset_utils.save_to_preset(donor, str(tmp_path))
    dilated = dilated_resnet(18, 16, weights=tmp_path)
    for mine, theirs in zip(dilated.get_weights(), donor.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
