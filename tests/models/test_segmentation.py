"""The models' published sizes, what they give at which resolution, and that they learn pixels."""

import keras
import numpy as np
import pytest
from keras import ops

from cplus1_keras import heads, layers, losses, models
from cplus1_keras.backbones import cifar_resnet, dilated_resnet, hrnet, synchronize_batch_norm
from cplus1_keras.labels import IGNORE, NEGATIVE, nearest
from cplus1_keras.models import decoders

AUXILIARY = 0.4 * losses.BackgroundCrossEntropyLoss().of("auxiliary_", name="auxiliary")


def classifier(num_classes=20):
    return heads.LinearHead(num_classes, use_bias=True, background=True)


def trainable(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def only_logits(model):
    return keras.Model(model.input, {"logits": model.output["logits"]})


def rates(model):
    names = [layer.name for layer in model.layers if layer.name.endswith("_depthwise_conv")]
    return [model.get_layer(name).dilation_rate[0] for name in names if name.startswith("context_")]


@pytest.fixture(scope="module")
def light():
    """The net for small machines, with centres and an auxiliary classifier."""
    keras.utils.set_random_seed(0)
    backbone = dilated_resnet(18, 16, widths=(64, 64, 96, 128))
    head = lambda features: layers.MovingAverageCenters(4, name="centers")(classifier(4)(features))  # noqa: E731
    return models.deeplab_v3_plus(backbone, head, classifier(4), channels=32)


@pytest.fixture(scope="module")
def hrnets():
    """Both decoders of HRNet on one backbone."""
    backbone = hrnet(18)
    return {
        "hrnet_fcn": models.hrnet_fcn(backbone, classifier()),
        "ocrnet": models.ocrnet(backbone, classifier(), classifier()),
    }


@pytest.fixture(scope="module")
def tiny():
    """A head on averages of 4 x 4 pixels: `tiny(head)` is a model that can be computed by hand."""

    def build(head):
        images = keras.Input((None, None, 3))
        return models.segmentation_model(images, keras.layers.AveragePooling2D(4)(images), head)

    return build


def batch(seed=0, size=(16, 24), num_classes=4):
    rng = np.random.default_rng(seed)
    images = rng.uniform(0, 255, (2, *size, 3)).astype("float32")
    labels = rng.integers(-1, num_classes, (2, *size))
    labels[:, :5] = IGNORE
    return images, labels


# Sizes


def test_deeplab_resnet50_has_the_published_size():
    # mmsegmentation publishes 43.59M: 19,232 more, in its V1c stem.
    model = models.deeplab_v3_plus(dilated_resnet(50), classifier(), auxiliary=classifier())
    assert trainable(model) == 43_572_186
    assert trainable(only_logits(model)) == 41_206_981  # the auxiliary classifier is not part of prediction
    assert rates(model) == [12, 24, 36]


@pytest.mark.slow
def test_hrnet18_has_the_published_sizes(hrnets):
    assert trainable(hrnets["hrnet_fcn"]) == 9_641_391
    assert trainable(hrnets["ocrnet"]) == 12_081_604


@pytest.mark.slow
def test_the_large_nets_have_the_published_sizes():
    model = models.deeplab_v3_plus(dilated_resnet(101), classifier(), auxiliary=classifier())
    assert trainable(model) == 62_564_314
    backbone = hrnet(48)
    assert trainable(backbone) == 65_325_120
    assert trainable(models.hrnet_fcn(backbone, classifier())) == 65_860_101
    assert trainable(models.ocrnet(backbone, classifier(), classifier())) == 70_373_914


# Outputs


def test_deeplab_gives_pixels_and_cells_of_any_size(light):
    assert rates(light) == [6, 12, 18]
    for size in ((64, 64), (65, 83)):
        outputs = light(np.zeros((1, *size, 3), "float32"))
        cells = tuple(-(-side // 4) for side in size)
        assert {name: tuple(tensor.shape[1:]) for name, tensor in outputs.items()} == {
            "features": (*cells, 32),
            "embeddings": (*cells, 32),
            "logits": (*size, 5),
            "auxiliary_logits": (*size, 5),
        }


def test_fcn_keeps_the_stride_of_its_backbone():
    backbone = dilated_resnet(18, 8, widths=(64, 8, 8, 8))
    assert models.output_stride(backbone) == 8
    model = models.fcn(backbone, classifier(3), auxiliary=classifier(3), channels=16)
    shapes = model.compute_output_shape((1, 64, 96, 3))
    assert shapes["features"] == (1, 8, 12, 16)
    assert shapes["logits"] == shapes["auxiliary_logits"] == (1, 64, 96, 4)


@pytest.mark.parametrize(("name", "channels"), [("hrnet_fcn", 15 * 18), ("ocrnet", 512)])
def test_hrnet_models_give_pixels_of_any_size(hrnets, name, channels):
    outputs = hrnets[name](np.random.default_rng(0).uniform(0, 255, (1, 67, 64, 3)).astype("float32"))
    assert outputs["features"].shape == (1, 17, 16, channels)
    assert outputs["logits"].shape == (1, 67, 64, 21)
    assert ("auxiliary_logits" in outputs) == (name == "ocrnet")
    assert all(np.isfinite(tensor).all() for tensor in outputs.values())


def test_what_is_per_class_is_resized_to_the_image_and_features_are_not(tiny):
    head = heads.CosineHead(4, scale=12.0, background=True)
    images, _ = batch()
    outputs = tiny(head)(images)
    averages = images.reshape(2, 4, 4, 6, 4, 3).mean((2, 4))
    np.testing.assert_allclose(outputs["features"], averages, rtol=1e-5)
    for name, tensor in head(averages).items():
        if name != "features":
            assert outputs[name].shape == (2, 16, 24, tensor.shape[-1])
            np.testing.assert_allclose(outputs[name], bilinear(np.array(tensor), 4), rtol=1e-4, atol=1e-5)
    loss = losses.CrossEntropyLoss(margin=losses.ArcFace(0.2))  # reads logits, cosines and scale together
    assert np.isfinite(float(loss(batch()[1], outputs)))


def bilinear(x, factor):
    """Resizing with half-pixel centres, by two matrix products."""
    for axis in (1, 2):
        cells = x.shape[axis]
        at = np.clip((np.arange(cells * factor) + 0.5) / factor - 0.5, 0, cells - 1)
        matrix = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells)))
        x = np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)
    return x


@pytest.mark.parametrize("build", [models.deeplab_v3_plus, models.fcn, models.hrnet_fcn])
def test_a_backbone_for_classification_is_refused(build):
    with pytest.raises(ValueError, match=r"list of maps.*Received: 'cifar_resnet20'"):
        build(cifar_resnet(20), classifier(3))


# Losses


def test_separability_reads_pixels_and_compactness_reads_cells(tiny):
    head, centers = classifier(4), layers.MovingAverageCenters(4)
    model = tiny(lambda features: centers(head(features)))
    model.compile("sgd", losses.cplus1(compactness=0.5, background=2.0, margin=1.5))
    images, labels = batch()
    outputs = model(images)
    total = float(model.compute_loss(images, labels, outputs))
    cells = labels[:, 2::4, 2::4]  # of 4 pixels, the one behind the middle
    unit = np.array(outputs["embeddings"])
    means = np.array([unit[cells == label].mean(0) for label in range(4)])
    logits = np.array(outputs["logits"], "float64")
    log_p = logits - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
    log_p -= logits.max(-1, keepdims=True)
    counted = labels != IGNORE
    index = np.where(labels == NEGATIVE, 4, np.where(counted, labels, 0))
    separability = -np.take_along_axis(log_p, index[..., None], -1)[..., 0][counted].mean()
    known = cells >= 0
    compactness = 0.5 * np.square(unit[known] - means[cells[known]]).sum(-1).mean()
    away = np.linalg.norm(unit[cells == NEGATIVE][:, None] - means, axis=-1)
    background = np.maximum(1.5 - away, 0).mean()
    assert total == pytest.approx(separability + 0.5 * compactness + 2.0 * background, rel=1e-4)


@pytest.mark.parametrize("kind", ["learnable", "shared"])
def test_other_centres_train_on_cells(tiny, kind):
    head = classifier(4)
    centers = layers.LearnableCenters(4) if kind == "learnable" else layers.SharedCenters(head)
    model = tiny(lambda features: centers(head(features)))
    model.compile(keras.optimizers.SGD(1e-6), losses.cplus1(background=0.1))
    images, labels = batch()
    history = model.fit(images, labels, sample_weight=np.ones(labels.shape, "float32"), batch_size=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert {"background_cross_entropy", "compactness", "background_margin"} <= set(history.history)


def test_ignored_pixels_do_not_count(tiny):
    model = tiny(classifier(4))
    model.compile("sgd", losses.BackgroundCrossEntropyLoss())
    images, labels = batch()
    outputs = {name: np.array(tensor) for name, tensor in model(images).items()}
    before = float(model.loss(labels, outputs))
    outputs["logits"][:, :5] += np.random.default_rng(0).normal(size=outputs["logits"][:, :5].shape)
    assert float(model.loss(labels, outputs)) == before


def test_deeplab_learns_with_the_cplus1_loss_and_an_auxiliary_loss(light, tmp_path):
    light.compile(keras.optimizers.SGD(0.02, 0.9), losses.cplus1(background=0.1) + AUXILIARY, run_eagerly=True)
    images, labels = batch(size=(64, 64))
    labels[:] = np.where(np.arange(64) < 32, 1, NEGATIVE)  # a half plane
    history = light.fit(images, labels, epochs=3, batch_size=2, verbose=0).history
    assert history["background_cross_entropy"][-1] < history["background_cross_entropy"][0]
    assert history["auxiliary"][-1] < history["auxiliary"][0]
    assert np.array(ops.convert_to_tensor(light.get_layer("centers").seen)).tolist() == [0, 1, 0, 0]
    light.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = light(images, training=False)
    for name, tensor in loaded(images, training=False).items():
        np.testing.assert_allclose(tensor, expected[name], rtol=1e-5, atol=1e-5)
    assert all(
        layer.synchronized
        for layer in synchronize_batch_norm(loaded).layers
        if isinstance(layer, keras.layers.BatchNormalization)
    )


def test_half_precision_computes_the_outputs_in_float32():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = models.ocrnet(hrnet(4), classifier(3), classifier(3), channels=16, key_channels=8)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("attention").compute_dtype == "float16"
    images, labels = batch(size=(64, 64), num_classes=3)
    outputs = model(images, training=True)  # without statistics yet, 60 residual blocks leave the range of float16
    for name in ("logits", "auxiliary_logits", "features"):
        assert keras.backend.standardize_dtype(outputs[name].dtype) == "float32"
        assert np.isfinite(outputs[name]).all()
    assert np.isfinite(float((losses.BackgroundCrossEntropyLoss() + AUXILIARY)(labels, outputs)))


# The parts of OCR


def test_region_means_and_attention_are_the_papers():
    rng = np.random.default_rng(0)
    features, logits = rng.normal(size=(2, 3, 4, 5)).astype("f4"), rng.normal(size=(2, 3, 4, 6)).astype("f4")
    means = np.array(decoders.RegionMeans()([features, logits]))
    for image in range(2):
        for region in range(6):
            weights = np.exp(logits[image, ..., region])
            expected = (features[image] * (weights / weights.sum())[..., None]).sum((0, 1))
            np.testing.assert_allclose(means[image, region, 0], expected, rtol=1e-4, atol=1e-6)
    found = np.array(decoders.RegionAttention()([features, means, 2 * means]))
    similarity = np.exp(features[1, 2, 3] @ means[1, :, 0].T / np.sqrt(5))
    expected = similarity / similarity.sum() @ (2 * means[1, :, 0])
    np.testing.assert_allclose(found[1, 2, 3], expected, rtol=1e-4, atol=1e-6)


def test_region_means_of_certain_logits_are_the_means_of_the_classes():
    _, labels = batch(size=(8, 8), num_classes=3)
    labels = np.where(labels < 0, 0, labels)
    features = np.random.default_rng(0).normal(size=(2, 8, 8, 5)).astype("float32")
    means = np.array(decoders.RegionMeans()([features, 1e4 * np.eye(3, dtype="float32")[labels]]))
    for region in range(3):
        np.testing.assert_allclose(means[1, region, 0], features[1][labels[1] == region].mean(0), rtol=1e-4, atol=1e-6)


def test_labels_of_pixels_lie_under_their_cells():
    labels = np.zeros((1, 64, 64), "int32")
    labels[:, 16:, 32:] = 1
    cells = np.array(nearest(labels, np.zeros((1, 16, 16, 1), "float32")))
    assert cells.sum() == 12 * 8
    assert (cells[0, 4:, 8:] == 1).all()
