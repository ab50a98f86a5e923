"""A backbone and a head make a classifier, or an error that says which of them to change."""

import functools

import keras
import numpy as np
import pytest

from cplus1_keras import OpenSetModel, backbones, heads, layers, models

VECTORS = functools.partial(backbones.small_cnn, (8, 8, 1), features=5)
MAPS = functools.partial(backbones.small_cnn, (8, 8, 1), pool=False)


def with_centers(num_classes):
    head, centers = heads.LinearHead(num_classes, background=True), layers.MovingAverageCenters(num_classes)
    return lambda features: centers(head(features))


def cams_of(num_classes):
    head = heads.CAMHead(num_classes)
    return lambda features: head(features)


@pytest.mark.parametrize(
    ("backbone", "head", "logits"),
    [
        (VECTORS, heads.LinearHead, 4),
        (VECTORS, functools.partial(heads.LinearHead, background=True), 5),
        (VECTORS, with_centers, 5),
        (MAPS, heads.CAMHead, 4),
        (MAPS, cams_of, 4),
    ],
)
def test_it_is_the_head_on_the_backbone(backbone, head, logits):
    keras.utils.set_random_seed(0)
    model = models.classifier(4, backbone, head, name="mine")
    assert isinstance(model, OpenSetModel)
    assert model.name == "mine"
    assert model.output["logits"].shape == (None, logits)
    keras.utils.set_random_seed(0)
    images, net = np.random.default_rng(0).uniform(0, 255, (3, 8, 8, 1)).astype("float32"), backbone()
    expected = head(4)(net(images))
    for name, tensor in model(images).items():
        np.testing.assert_allclose(tensor, expected[name], rtol=1e-5, atol=1e-6)


def test_two_models_share_nothing():
    make = functools.partial(models.classifier, backbone=VECTORS, head=heads.LinearHead)
    one, other = make(4), make(4)
    assert not {id(v) for v in one.variables} & {id(v) for v in other.variables}


def maps_and_vector():
    images = keras.Input((8, 8, 1))
    return keras.Model(images, [images, keras.layers.Flatten()(images)])


@pytest.mark.parametrize(
    ("backbone", "head", "error", "message"),
    [
        (VECTORS(), heads.LinearHead, TypeError, "`backbone` is a function that makes one, like functools.partial"),
        (VECTORS, heads.LinearHead(4), TypeError, "`head` is a function that makes one, like heads.LinearHead"),
        (VECTORS, "linear", TypeError, "`head` is a function .*Received: 'linear'"),
        (maps_and_vector, heads.LinearHead, ValueError, "lists of maps are for segmentation"),
        (lambda: None, heads.LinearHead, ValueError, "needs a backbone from images"),
        (VECTORS, heads.CAMHead, ValueError, r"CAMHead reads maps.*`pool=False`.*\(None, 5\)"),
        (VECTORS, cams_of, ValueError, "needs feature maps .* before pooling"),
        (MAPS, heads.LinearHead, ValueError, r"each cell of a map: give the backbone `pool=True`.*\(None, 2, 2, 64\)"),
        (VECTORS, lambda n: heads.LinearHead(7), ValueError, r"`logits` \(N, 4\), or one more"),
        (VECTORS, lambda n: keras.layers.Dense(n), ValueError, "gives a dict with `logits`"),
    ],
)
def test_what_does_not_fit_is_told(backbone, head, error, message):
    with pytest.raises(error, match=message):
        models.classifier(4, backbone, head)
