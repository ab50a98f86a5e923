"""FCOS's published size, pyramids over images of any size, and that a detector learns where its boxes are."""

import functools

import keras
import numpy as np
import pytest
from keras import layers as stock

from cplus1_keras import backbones, heads, losses, models
from cplus1_keras.configs.families import background_head
from cplus1_keras.labels import IGNORE, NEGATIVE

RANDOM = np.random.default_rng(0)
SMALL = {"levels": (3, 4), "channels": 16, "tower": 1, "groups": 4}


def tiny():
    """A few convolutions at strides 4, 8 and 16."""
    images, maps = keras.Input((None, None, 3)), []
    x = stock.Rescaling(1 / 127.5, -1)(images)
    for channels, stride in ((8, 4), (16, 2), (16, 2)):
        x = stock.Conv2D(channels, 5, stride, "same", activation="relu")(x)
        maps.append(x)
    return keras.Model(images, maps)


def with_prior(num_classes, background=False):
    return heads.LinearHead(num_classes, use_bias=True, background=background, prior=0.01)


def count(model, beginning=""):
    owned = [weight for weight in model.trainable_variables if weight.path.startswith(beginning)]
    return sum(int(np.prod(weight.shape)) for weight in owned)


def squares(number, side=48, seed=0):
    """Images with a bright square each, red or green, on noise, and an ignored patch; y as the data give it."""
    random = np.random.default_rng(seed)
    images = random.uniform(0, 60, (number, side, side, 3)).astype("float32")
    boxes, labels = np.zeros((number, 3, 4), "float32"), np.full((number, 3), IGNORE)
    for i in range(number):
        size, label = random.integers(12, 24), random.integers(0, 2)
        x, y = random.integers(0, side - size, 2)
        images[i, y : y + size, x : x + size, label] += 180
        boxes[i, 0], labels[i, 0] = (x, y, x + size, y + size), label
    return images, {"boxes": boxes, "box_labels": labels}


def box_loss():
    return losses.GIoULoss() + losses.CenternessLoss()


def test_the_published_size():
    """mmdetection's fcos_r50_caffe_fpn_gn-head, layer by layer; it classifies by a 3x3 convolution, ours by point."""
    model = models.fcos(80, functools.partial(backbones.dilated_resnet, 50, 32), with_prior)
    pyramid = (512 + 1024 + 2048) * 256 + 3 * 256 + 5 * (9 * 256 * 256 + 256)
    towers, boxes, centerness = 2 * 4 * (9 * 256 * 256 + 2 * 256), 9 * 256 * 4 + 4, 9 * 256 + 1
    assert count(model, "stage") + count(model, "stem") == 23_508_032  # torchvision's ResNet-50 without its classifier
    assert sum(count(model, name) for name in ("lateral", "p3", "p4", "p5", "p6", "p7")) == pyramid
    assert count(model, "class_tower") + count(model, "box_tower") == towers
    assert (count(model, "box_conv"), count(model, "centerness_conv"), count(model, "box_offsets")) == (
        boxes,
        centerness,
        5,
    )
    published = 23_508_032 + pyramid + towers + boxes + centerness + 5 + 9 * 256 * 80 + 80
    assert published == 32_295_322
    assert published - count(model) == 8 * 256 * 80
    assert count(model) == 32_131_482


def test_resnext_has_torchvisions_size():
    assert count(backbones.resnext()) == 83_455_272 - 2_049_000  # less the classifier of 1,000 classes
    assert count(backbones.resnext(50, 32)) == 25_028_904 - 2_049_000


@pytest.mark.parametrize("size", [(64, 64), (101, 75), (33, 130)])
def test_any_size_and_every_kind_of_backbone(size):
    """Points lie as each level says, and the pyramid's maps over them; one level lies beyond the backbone's."""
    strides = (4, 8, 16, 32)
    model = models.fcos(2, tiny, with_prior, levels=(2, 3, 4, 5), channels=8, tower=1, groups=2)
    sides = [(-(-size[0] // s), -(-size[1] // s)) for s in strides]
    found = model(np.zeros((2, *size, 3), "float32"))
    length = sum(height * width for height, width in sides)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    assert shapes == {
        "features": (2, length, 8),
        "logits": (2, length, 2),
        "box_offsets": (2, length, 4),
        "centerness": (2, length),
        "points": (2, length, 3),
    }
    assert (np.array(found["box_offsets"]) > 0).all()
    expected = [
        ((column + 0.5) * s, (row + 0.5) * s, s)
        for s, (height, width) in zip(strides, sides, strict=True)
        for row in range(height)
        for column in range(width)
    ]
    np.testing.assert_allclose(found["points"][1], expected)


@pytest.mark.parametrize("centerness", ["regression", "classification"])
def test_each_output_has_its_tower(centerness):
    """With a tower that gives 0 everywhere, what reads it is the same at all points."""
    model = models.fcos(2, tiny, with_prior, centerness=centerness, **SMALL)
    image = RANDOM.uniform(0, 255, (1, 48, 48, 3)).astype("float32")

    def varies():
        found = model(image)
        return {
            name: np.ptp(np.array(found[name])[0, :36], axis=0).max() > 0
            for name in ("logits", "box_offsets", "centerness")
        }

    assert all(varies().values())
    norm = model.get_layer("class_tower_1_norm")
    gamma = np.array(norm.gamma)
    norm.gamma.assign(0 * gamma)
    assert varies() == {"logits": False, "box_offsets": True, "centerness": centerness == "regression"}
    norm.gamma.assign(gamma)
    model.get_layer("box_tower_1_norm").gamma.assign(0 * gamma)
    assert varies() == {"logits": True, "box_offsets": False, "centerness": centerness == "classification"}


def test_settings_arrive():
    ranges = ((-1, 30), (20, 99))
    settings = {**SMALL, "tower": 2, "regress_ranges": ranges, "center_radius": None, "activation": "relu"}
    model = models.fcos(2, tiny, with_prior, extra="on_input", **{**settings, "levels": (4, 5)}, name="own")
    points = model.get_layer("points")
    assert (points.strides, points.regress_ranges, points.center_radius) == ((16, 32), ranges, None)
    assert model.get_layer("box_offsets").activation == "relu"
    assert [model.get_layer(f"{tower}_tower_2_norm").groups for tower in ("class", "box")] == [4, 4]
    assert model.get_layer("p5_pad").input.shape[-1] == 16  # channels of the backbone's last map
    assert model.name == "own"


def test_a_point_sees_its_own_place():
    """A bright spot changes the outputs of the points around it, not of those far away."""
    model = models.fcos(2, tiny, with_prior, levels=(3,), channels=8, tower=1, groups=8)
    norm = model.get_layer("class_tower_1_norm")  # its statistics are of the whole image
    plain = keras.Model(model.input, norm.input)
    image = np.full((1, 96, 96, 3), 100.0, "float32")
    spot = image.copy()
    spot[0, 64:72, 16:24] = 255
    change = np.abs(np.array(plain(spot)) - np.array(plain(image)))[0].max(-1)
    row, column = np.unravel_index(change.argmax(), change.shape)
    assert max(abs(row - 8), abs(column - 2)) <= 2  # whatever the first weights are
    assert change[:4].max() == change[:, 7:].max() == 0


def test_pyramid_adds_the_coarser_map():
    """With kernels that pass one channel on, a level is the sum of the backbone's maps, the coarser ones enlarged."""
    images = keras.Input((None, None, 1))
    maps = [stock.MaxPooling2D(s, padding="same")(images) for s in (2, 4)]
    levels = models.pyramid(keras.Model(images, maps), levels=(1, 2, 3, 4), channels=1)
    model = keras.Model(images, levels)
    for layer in model.layers:
        if layer.weights:
            kernel = np.zeros(layer.kernel.shape, "float32")
            kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = 1
            layer.kernel.assign(kernel)
    x = RANDOM.normal(size=(1, 10, 6, 1)).astype("float32")
    fine, coarse, sixth, seventh = (np.array(level)[0, ..., 0] for level in model(x))
    pooled = [np.array(level)[0, ..., 0] for level in keras.Model(images, maps)(x)]
    np.testing.assert_allclose(coarse, pooled[1])
    np.testing.assert_allclose(fine, pooled[0] + coarse.repeat(2, 0).repeat(2, 1)[:5, :3], rtol=1e-6)
    np.testing.assert_allclose(sixth, coarse[::2, ::2])
    np.testing.assert_allclose(seventh, np.maximum(sixth, 0)[::2, ::2])  # a ReLU between the two
    on_input = keras.Model(images, models.pyramid(keras.Model(images, maps), (1, 2, 3), 1, extra="on_input"))
    kernel = np.zeros(on_input.get_layer("p3").kernel.shape, "float32")
    kernel[1, 1] = 1
    on_input.get_layer("p3").kernel.assign(kernel)
    np.testing.assert_allclose(on_input(x)[2][0, ..., 0], pooled[1][::2, ::2])


def test_the_prior_is_the_probability_at_the_start():
    image = RANDOM.uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    for classes in (1, 40):
        model = models.fcos(classes, tiny, functools.partial(with_prior, background=True), **SMALL)
        p = np.array(keras.ops.softmax(model(image)["logits"]))
        np.testing.assert_allclose(p[..., :-1].sum(-1), 0.01, rtol=0.25)
        p = np.array(keras.ops.sigmoid(models.fcos(classes, tiny, with_prior, **SMALL)(image)["logits"]))
        np.testing.assert_allclose(p, 0.01, rtol=0.25)
    with pytest.raises(ValueError, match="prior"):
        heads.LinearHead(3, prior=0.01)


LOSSES = {
    "focal": (with_prior, losses.SigmoidFocalLoss()),
    "cplus1": (
        functools.partial(background_head, centers="moving_average", use_bias=True, prior=0.01),
        losses.cplus1(0.1, 0.01).per_known(),
    ),
    "cosine": (
        functools.partial(heads.CosineHead, scale=16.0, background=True),
        losses.BackgroundCrossEntropyLoss(losses.ArcFace(0.2), gamma=2.0).per_known(),
    ),
    "entropic": (heads.LinearHead, losses.EntropicOpenSetLoss().per_known()),
}


@pytest.mark.parametrize(
    "name", ["cplus1", *(pytest.param(name, marks=pytest.mark.slow) for name in ("focal", "cosine", "entropic"))]
)
@pytest.mark.filterwarnings("ignore:scale=16.0 is below")
def test_it_learns_where_the_squares_are(name):
    """In the middle of each square the best point's box overlaps it, and the known classes are told apart."""
    keras.utils.set_random_seed(0)
    head, loss = LOSSES[name]
    model = models.fcos(2, tiny, head, **SMALL)
    model.compile(keras.optimizers.Adam(5e-3), loss + box_loss(), jit_compile=False)
    images, y = squares(64)
    history = model.fit(images, y, batch_size=16, epochs=30, verbose=0).history
    assert history["giou"][-1] < 0.35 < history["giou"][0]
    found = model.predict(images, verbose=0)
    # The point nearest to the middle of each box, on the finest level.
    middle = (y["boxes"][:, 0, :2] + y["boxes"][:, 0, 2:]) / 2
    nearest = np.square(found["points"][..., :2] - middle[:, None]).sum(-1)[:, :36].argmin(-1)
    classes = found["logits"][np.arange(64), nearest, :2].argmax(-1)
    assert (classes == y["box_labels"][:, 0]).mean() > 0.9


def compiled(jit=False):
    keras.utils.set_random_seed(0)
    head, loss = LOSSES["cplus1"]
    model = models.fcos(2, tiny, head, center_radius=2.0, **SMALL)
    model.compile(keras.optimizers.SGD(0.01), loss + box_loss(), jit_compile=jit)
    return model


@pytest.mark.slow
def test_graph_and_jit_are_one_and_it_goes_on_after_loading(tmp_path):
    images, y = squares(16)
    y["box_labels"][:4, 0] = NEGATIVE
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0}
    plain, fused = compiled(), compiled(jit=True)
    histories = [model.fit(images, y, epochs=2, **fit).history for model in (plain, fused)]
    assert set(histories[0]) == {
        "loss",
        "background_cross_entropy",
        "compactness",
        "background_margin",
        "giou",
        "centerness",
    }
    for key in histories[0]:
        np.testing.assert_allclose(histories[0][key], histories[1][key], rtol=1e-5, err_msg=key)
    for a, b in zip(plain.get_weights(), fused.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    plain.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_layer("points").center_radius == 2.0
    histories = [model.fit(images, y, **fit).history for model in (plain, again)]
    assert histories[0] == histories[1]
    for a, b in zip(plain.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_mixed_precision_trains():
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = models.fcos(2, tiny, LOSSES["cplus1"][0], **SMALL)
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(keras.optimizers.Adam(1e-3), LOSSES["cplus1"][1] + box_loss(), jit_compile=False)
    images, y = squares(8)
    assert np.isfinite(model.train_on_batch(images, y, return_dict=True)["loss"])
    assert {str(tensor.dtype) for tensor in model.output.values()} == {"float32"}


def test_wrong_arguments():
    with pytest.raises(TypeError, match="`backbone` is a function that makes one"):
        models.fcos(2, tiny(), with_prior, **SMALL)
    for levels in ((1, 2), (3, 5), (5, 6), ()):
        with pytest.raises(ValueError, match=r"must follow one another.*\[2, 3, 4\]"):
            models.fcos(2, tiny, with_prior, **{**SMALL, "levels": levels})
    with pytest.raises(ValueError, match="`extra` must be one of"):
        models.pyramid(tiny(), (3,), extra="pool")
    with pytest.raises(ValueError, match="`centerness` must be one of"):
        models.fcos(2, tiny, with_prior, centerness="box", **SMALL)
    with pytest.raises(ValueError, match="gives a dict with `logits`"):
        models.fcos(2, tiny, lambda c: stock.Dense(c), **SMALL)
    with pytest.raises(ValueError, match="A pyramid needs a backbone that gives maps"):
        models.pyramid(backbones.small_cnn())
