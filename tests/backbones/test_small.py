import keras
import numpy as np
import pytest

from cplus1_keras.backbones import cifar_resnet, lenet_plus_plus, small_cnn, small_maps, synchronize_batch_norm


def trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, shape).astype("float32")


def perturbed(model):
    """The model with weights that are all away from their start, so that no two of them may be swapped unseen."""
    generator = np.random.default_rng(1)
    values = model.get_weights()
    values = [
        np.abs(value + 0.05 * generator.normal(size=value.shape)) * np.where(value < 0, -1, 1) for value in values
    ]
    model.set_weights(values)
    return model


def one_step(model, shape):
    """The training loss of one batch before and after one small step, and which weights the two steps moved."""
    x, y = images(8, *shape), np.arange(8) % 2
    net = keras.Sequential([model, keras.layers.Dense(2)])
    net.compile(keras.optimizers.SGD(1e-4), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    net.build((None, *shape))
    before = model.get_weights()
    first, second = (net.train_on_batch(x, y) for _ in range(2))
    moved = [not np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True)]
    return float(first), float(second), moved


def test_lenet_plus_plus_has_the_layers_of_the_thesis_code():
    model = lenet_plus_plus()
    kinds = [type(layer).__name__ for layer in model.layers]
    block = ["Conv2D", "Conv2D", "BatchNormalization", "MaxPooling2D"]
    assert kinds == ["InputLayer", "Rescaling", *block * 3, "Flatten", "Dense"]
    assert all(layer.activation is keras.activations.linear for layer in model.layers if hasattr(layer, "activation"))
    convolutions = sum(25 * i * o + o for i, o in [(1, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128)])
    assert trainable(model) == convolutions + 2 * (32 + 64 + 128) + 128 * 3 * 3 * 10
    kernel = model.get_layer("conv2_2").get_weights()[0]
    assert np.abs(kernel).max() == pytest.approx(1 / np.sqrt(25 * 64), rel=1e-3)  # uniform within 1 / sqrt(fan in)


def test_lenet_plus_plus_computes_what_pytorch_does():
    torch = pytest.importorskip("torch", reason="the reference runs on PyTorch")
    model = perturbed(lenet_plus_plus((28, 28, 1), features=2))
    parts, channels = [], 1
    for block, filters in enumerate((32, 64, 128), start=1):
        for step in (1, 2):
            parts.append(torch.nn.Conv2d(channels, filters, 5, padding="same"))
            kernel, bias = model.get_layer(f"conv{block}_{step}").get_weights()
            parts[-1].weight.data = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
            parts[-1].bias.data = torch.tensor(bias)
            channels = filters
        parts.append(torch.nn.BatchNorm2d(filters))
        values = [torch.tensor(value) for value in model.get_layer(f"norm{block}").get_weights()]
        parts[-1].weight.data, parts[-1].bias.data, parts[-1].running_mean, parts[-1].running_var = values
        parts.append(torch.nn.MaxPool2d(2))
    peer, x = torch.nn.Sequential(*parts).eval(), images(3, 28, 28, 1)
    with torch.no_grad():
        maps = peer(torch.tensor(x.transpose(0, 3, 1, 2).copy()) / 255).numpy()
    expected = maps.transpose(0, 2, 3, 1).reshape(3, -1) @ model.get_layer("features").get_weights()[0]
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("depth", "published"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_cifar_resnet_has_the_published_parameter_count(depth, published):
    count = trainable(cifar_resnet(depth)) + 64 * 10 + 10  # table 6 counts the classifier of ten classes too
    assert count / 1e6 == pytest.approx(published, abs=0.05 if published > 1 else 0.005)


def test_cifar_resnet_20_has_the_parameters_counted_by_hand():
    stem, first, second, third = 27 * 16, 6 * 9 * 16 * 16, 9 * 16 * 32 + 5 * 9 * 32 * 32, 9 * 32 * 64 + 5 * 9 * 64 * 64
    norms = 2 * (16 + 6 * 16 + 6 * 32 + 6 * 64)
    assert trainable(cifar_resnet(20)) == stem + first + second + third + norms


def test_cifar_resnet_shortcuts_take_each_second_pixel_and_pad_channels_with_zeros():
    model = cifar_resnet(20, pool=False)
    for layer in model.layers:  # a residual branch that ends in zeros leaves the shortcut alone
        if layer.name.endswith("_2_norm"):
            layer.gamma.assign(keras.ops.zeros_like(layer.gamma))
    x = images(2, 32, 32, 3)
    stem = keras.Model(model.input, model.get_layer("stem_relu").output).predict(x, verbose=0)
    expected = np.zeros((2, 8, 8, 64), "float32")
    expected[..., 24:40] = stem[:, ::4, ::4]
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)


def test_shapes():
    assert cifar_resnet(20, (28, 28, 1), pool=False).output_shape == (None, 7, 7, 64)
    assert cifar_resnet(20, (None, None, 3), pool=False).predict(images(1, 40, 24, 3), verbose=0).shape == (
        1,
        10,
        6,
        64,
    )
    assert cifar_resnet(20, features=7).output_shape == (None, 7)
    assert small_cnn((28, 28, 1), pool=False).output_shape == (None, 7, 7, 64)
    assert small_cnn((28, 28, 1)).output_shape == (None, 7 * 7 * 64)
    assert lenet_plus_plus((8, 8, 1), features=3).predict(images(2, 8, 8, 1), verbose=0).shape == (2, 3)


def test_maps_of_all_strides():
    """Odd sides are halved upwards; convolutions by hand: 9 K K' and two numbers of each channel's normalisation."""
    net = small_maps((4, 6, 8), (33, 70, 1))
    assert [tuple(x.shape[1:]) for x in net.output] == [(9, 18, 6), (5, 9, 8)]
    pairs = [(1, 4), (4, 6), (6, 6), (6, 8), (8, 8)]
    assert sum(np.prod(w.shape) for w in net.trainable_variables) == sum(9 * a * b + 2 * b for a, b in pairs)


@pytest.mark.parametrize("build", [lenet_plus_plus, small_cnn, lambda shape: cifar_resnet(20, shape)])
def test_pixels_are_rescaled_inside(build):
    model = build((16, 16, 1))
    rescalings = [layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling)]
    assert [layer.scale for layer in rescalings] == [1 / 255]
    assert model.layers.index(rescalings[0]) == 1


@pytest.mark.parametrize("build", [lenet_plus_plus, small_cnn, lambda shape: cifar_resnet(20, shape)])
def test_one_step_trains_every_weight(build):
    keras.utils.set_random_seed(4)
    first, second, moved = one_step(build((16, 16, 1)), (16, 16, 1))
    assert second < first
    assert sum(moved) >= len(moved) - 3  # the bias ahead of a batch normalisation has no gradient


@pytest.mark.parametrize("build", [lenet_plus_plus, small_cnn, lambda shape: cifar_resnet(20, shape)])
def test_a_saved_model_gives_the_same_features(build, tmp_path):
    model, x = perturbed(build((16, 16, 3))), images(4, 16, 16, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cifar_resnet(50), "`depth` must be one of 20, 32, 44, 56, 110. Received: depth=50"),
        (lambda: cifar_resnet(20, (32, 32)), r"\(height, width, channels\).*Received: \(32, 32\)"),
        (lambda: cifar_resnet(20, (4, 32, 3)), "at least 8 x 8 pixels"),
        (lambda: cifar_resnet(20, features=5, pool=False), "leave it out with `pool=False`"),
        (lambda: small_cnn(features=5, pool=False), "leave it out with `pool=False`"),
        (lambda: small_cnn((None, 28, 1)), "needs `input_shape`"),
        (lambda: small_maps((8,)), "at least two numbers of channels"),
        (lambda: small_maps((8, 0)), "`widths` must be an integer >= 1"),
        (lambda: small_maps(input_shape=(31, 64, 3)), "at least 32 x 32 pixels"),
        (lambda: lenet_plus_plus((7, 28, 1)), "at least 8 x 8 pixels"),
        (lambda: lenet_plus_plus((None, None, 1)), r"`input_shape` as \(height, width, channels\), all known"),
    ],
)
def test_wrong_arguments_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_synchronize_batch_norm_reaches_nested_models_and_is_saved(tmp_path):
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, cifar_resnet(20, (16, 16, 3))(inputs))
    assert synchronize_batch_norm(model) is model

    def norms(net):
        return [layer for layer in net._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]

    assert len(norms(model)) == 19
    assert all(layer.synchronized for layer in norms(model))
    model.save(tmp_path / "model.keras")
    assert all(layer.synchronized for layer in norms(keras.saving.load_model(tmp_path / "model.keras")))
