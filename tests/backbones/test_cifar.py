"""The nets of the tables on small images: parameters counted by hand and as published, what reads what."""

import keras
import numpy as np
import pytest

from cplus1_keras.backbones import cifar_densenet, cifar_resnext, lenet_plus_plus, plain_cnn


def trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def images(*shape):
    return np.random.default_rng(0).uniform(0, 255, shape).astype("float32")


def conv(channels, filters, size=3, groups=1):
    """Weights of a convolution and its normalisation."""
    return size * size * channels // groups * filters + 2 * filters


@pytest.mark.parametrize(
    ("data_set", "widths", "repeats", "flat", "features", "total"),
    [
        ("mnist", (64, 64, 64, 64), 3, 3 * 3, 256, 481_088),
        ("cifar10", (64, 64, 96, 128), 4, 4 * 4, 256, 1_532_992),
        ("cifar100", (96, 96, 192, 384), 4, 4 * 4, 512, 9_291_744),
    ],
)
def test_the_nets_of_the_anchor_based_loss_by_hand(data_set, widths, repeats, flat, features, total):
    model = plain_cnn(data_set, dropout=0.25)
    channels, count = model.input_shape[-1], 0
    for unit, width in enumerate(widths):
        for _ in range(repeats if unit else 1):
            count, channels = count + conv(channels, width), width
    assert trainable(model) == count + flat * channels * features == total
    assert model.output_shape == (None, features)
    kinds = [type(layer).__name__ for layer in model.layers]
    unit = ["Conv2D", "BatchNormalization", "ReLU"]
    parts = [*unit, *unit * repeats, "MaxPooling2D", "Dropout", *unit * repeats, "MaxPooling2D", "Dropout"]
    assert kinds == ["InputLayer", "Rescaling", *parts, *unit * repeats, "MaxPooling2D", "Flatten", "Dense"]
    assert {layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)} == {0.25}


def test_two_features_for_pictures():
    model = plain_cnn("mnist", features=2)
    assert trainable(model) == 481_088 - 9 * 64 * 254
    assert not [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert plain_cnn("mnist", pool=False).output_shape == (None, 3, 3, 64)


@pytest.mark.parametrize(("features", "total"), [(2, 797_600), (10, 806_816)])
def test_lenet_plus_plus_in_both_widths(features, total):
    """Two for pictures, and as many as digits; kernels with bias, two numbers of each normalised channel."""
    assert trainable(lenet_plus_plus(features=features)) == total
    convolutions = sum(25 * i * o + o for i, o in [(1, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128)])
    assert total == convolutions + 2 * (32 + 64 + 128) + 128 * 3 * 3 * features


def test_densenet_bc_has_the_published_parameters():
    """By hand: 16 bottlenecks a block, each 1x1 to 4k and 3x3 to k; normalisation comes before each convolution."""
    channels, count, k = 24, 27 * 24, 12
    for block in range(3):
        for _ in range(16):
            count += 2 * channels + channels * 4 * k + 2 * 4 * k + 9 * 4 * k * k
            channels += k
        count += 2 * channels
        if block < 2:
            count, channels = count + channels * (channels // 2), channels // 2
    model = cifar_densenet()
    assert model.output_shape == (None, channels) == (None, 342)
    assert trainable(model) == count == 765_732
    assert (count + 342 * 10 + 10) / 1e6 == pytest.approx(0.8, abs=0.05)  # the paper's, with ten classes


@pytest.mark.parametrize(("groups", "published"), [(8, 34.4), pytest.param(16, 68.1, marks=pytest.mark.slow)])
def test_resnext_29_has_the_published_parameters(groups, published):
    channels, count = 64, conv(3, 64)
    for stage in range(3):
        inner, out = groups * 64 * 2**stage, 256 * 2**stage
        for block in range(3):
            count += conv(channels, inner, 1) + conv(inner, inner, 3, groups) + conv(inner, out, 1)
            count += conv(channels, out, 1) if not block else 0
            channels = out
    model = cifar_resnext(29, groups)
    assert trainable(model) == count
    assert (count + 10 * 1025) / 1e6 == pytest.approx(published, abs=0.06)


def test_a_bottleneck_reads_all_before_it_in_its_block():
    """What the net gives beside the new channels is what was there: the first 2k channels of a block are its input."""
    model = cifar_densenet(16, 3, (16, 16, 3), pool=False)
    taps = [model.get_layer(name).output for name in ("stem_conv", "block1_1_concat", "block1_2_concat")]
    stem, first, second = keras.Model(model.input, taps).predict(images(2, 16, 16, 3), verbose=0)
    assert (stem.shape[-1], first.shape[-1], second.shape[-1]) == (6, 9, 12)
    np.testing.assert_array_equal(first[..., :6], stem)
    np.testing.assert_array_equal(second[..., :9], first)
    assert model.output_shape == (None, 4, 4, 12)


def test_shapes():
    net = cifar_densenet(10, 4, (None, None, 1), pool=False)
    assert net.predict(images(1, 12, 20, 1), verbose=0).shape == (1, 3, 5, 9)
    assert cifar_densenet(10, 4, features=7).output_shape == (None, 7)
    assert cifar_resnext(11, 2, 4, pool=False).output_shape == (None, 8, 8, 1024)
    assert cifar_resnext(11, 2, 4, features=7).output_shape == (None, 7)


@pytest.mark.parametrize(
    "build", [lambda: cifar_densenet(10, 4, (16, 16, 3)), lambda: cifar_resnext(11, 2, 4, (16, 16, 3))]
)
def test_they_train_and_are_saved(build, tmp_path):
    keras.utils.set_random_seed(1)
    model, x = build(), images(4, 16, 16, 3)
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(1e-2), "mse")
    model.train_on_batch(x, np.ones((4, model.output_shape[-1])))
    moved = [not np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True)]
    assert all(moved)
    model.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plain_cnn("svhn"), "`data_set` must be one of 'mnist'"),
        (lambda: plain_cnn(dropout=1.0), r"`dropout` is a share in \[0, 1\)"),
        (lambda: plain_cnn(features=3, pool=False), "leave it out with `pool=False`"),
        (lambda: cifar_densenet(101), "`depth` is 6n \\+ 4"),
        (lambda: cifar_resnext(28), "`depth` is 9n \\+ 2"),
        (lambda: cifar_resnext(29, groups=0), "`groups` must be an integer >= 1"),
        (lambda: cifar_densenet(input_shape=(4, 32, 3)), "at least 8 x 8 pixels"),
    ],
)
def test_wrong_arguments_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()
