"""The losses, margins and heads give one value and one gradient on TensorFlow, JAX and PyTorch.

Keras takes its backend from the environment before it is imported, so each other backend runs this file as a script.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
LABELS = np.array([0, 3, -1, 1, -2, 2, -100, -1, 1, 0])
FEATURES = np.random.default_rng(0).normal(size=(10, 5)).astype("float32")
FEATURES[9] = 0


def parts():
    """Each loss with the head that it reads."""
    from cplus1_keras import heads, losses

    margins = {
        "none": None,
        "sm_softmax": losses.SMSoftmax(0.3),
        "sphereface": losses.SphereFace(1.5),
        "cosface": losses.CosFace(0.35),
        "arcface": losses.ArcFace(0.5),
        "arcface_detached": losses.ArcFace(0.5, detach=True),
        "c2am": losses.C2AM(0.5),
        "growing": losses.GrowingMargin(losses.ArcFace(0.5)),
    }
    kinds = (losses.CrossEntropyLoss, losses.BackgroundCrossEntropyLoss, losses.EntropicOpenSetLoss)
    for kind in kinds:
        for name in ("none", "arcface", "c2am"):
            background = kind is losses.BackgroundCrossEntropyLoss
            yield f"{kind.__name__}-{name}-hard", heads.CosineHead(4, 20.0, background), kind(margins[name])
    for name, margin in margins.items():
        yield f"{name}-soft", heads.CosineHead(4, None), losses.CrossEntropyLoss(margin)
    for loss in (losses.objectosphere(3.0), losses.HingeLoss(), losses.FocalLoss(0.5), losses.norm_os(3.0)):
        yield f"{loss.terms()[0][1].name}-linear-{len(loss.terms())}", heads.LinearHead(4), loss
    yield "class_balanced", heads.LinearHead(4), losses.ClassBalancedFocalLoss([9, 3, 2, 1])
    counts, shares = [90, 9, 2, 1], [0.88, 0.09, 0.02, 0.01]
    for margin in (losses.LDAM(counts), losses.BalancedSoftmax(counts), losses.Equalization(shares, 0.05, 1.0)):
        yield type(margin).__name__, heads.CosineHead(4, 20.0), losses.CrossEntropyLoss(margin)
    background = losses.BackgroundCrossEntropyLoss(losses.Seesaw())
    yield "seesaw", heads.CosineHead(4, 20.0, background=True), background
    yield "sigmoid_equalization", heads.LinearHead(4), losses.SigmoidEqualizationLoss(shares, 0.05)
    yield "l_softmax", heads.LinearHead(4), losses.CrossEntropyLoss(losses.LSoftmax(3, annealing=0.5))
    yield "lgm", heads.GaussianHead(4), losses.lgm(0.5, 0.2)
    yield "anchor", heads.LinearHead(4), losses.AnchorLoss(0.7)
    yield "guided", heads.LinearHead(4), losses.GuidedComplementEntropyLoss(0.6)
    yield "ring", heads.LinearHead(4, use_bias=True), losses.RingLoss(3.0)
    yield "adacos", heads.AdaCosHead(4), losses.CrossEntropyLoss(losses.CosFace(0.2))


def value_of(head, loss, features):
    from keras import ops

    from cplus1_keras import layers

    outputs = head(features)
    fraction = {"margin_fraction": ops.convert_to_tensor(0.7)}
    tensors = layers.complete(
        [head, layers.ClassCounts(head.num_classes)], {**outputs, **layers.named(LABELS), **fraction}, training=True
    )
    return loss(tensors, tensors)


def evaluate():
    """Name of each part -> [value, gradient for the features, gradient for the kernel]."""
    import keras

    results = {}
    for name, head, loss in parts():
        head.build((None, 5))
        columns = head.weights[0].shape[-1]
        kernel = np.random.default_rng(1).normal(size=head.weights[0].shape) * np.geomspace(1, 4, columns)
        head.weights[0].assign(kernel.astype("float32"))
        results[name] = globals()[f"_{keras.backend.backend()}"](head, loss)
    return results


def _tensorflow(head, loss):
    import tensorflow as tf

    features = tf.constant(FEATURES)
    with tf.GradientTape() as tape:
        tape.watch(features)
        value = value_of(head, loss, features)
    gradients = tape.gradient(value, [features, head.weights[0].value], unconnected_gradients="zero")
    return [np.asarray(x).tolist() for x in (value, *gradients)]


def _torch(head, loss):
    import torch

    features = torch.tensor(FEATURES, requires_grad=True)
    head.weights[0].value.grad = None
    value = value_of(head, loss, features)
    value.backward()
    of_kernel = head.weights[0].value.grad
    of_kernel = torch.zeros(head.weights[0].shape) if of_kernel is None else of_kernel
    return [x.detach().numpy().tolist() for x in (value, features.grad, of_kernel)]


def _jax(head, loss):
    import jax
    import keras

    def compute(features, kernel):
        pairs = [(head.weights[0], kernel)]
        with keras.StatelessScope(state_mapping=pairs):
            return value_of(head, loss, features)

    value, gradients = jax.jit(jax.value_and_grad(compute, argnums=(0, 1)))(FEATURES, head.weights[0].value)
    return [np.asarray(x).tolist() for x in (value, *gradients)]


def fit():
    """Losses of a short training with state, which on JAX runs without assignments."""
    import keras

    from cplus1_keras import OpenSetModel, heads, layers, losses

    inputs = keras.Input((5,))
    dense = keras.layers.Dense(5, kernel_initializer="identity")
    head = heads.AdaCosHead(4)
    model = OpenSetModel(inputs, layers.MarginWarmup(4)(head(dense(inputs))))
    head.kernel.assign(np.random.default_rng(1).normal(size=(5, 4)).astype("float32"))
    loss = losses.CrossEntropyLoss(losses.GrowingMargin(losses.ArcFace(0.3))) + 0.01 * losses.RingLoss(4.0)
    model.compile(keras.optimizers.SGD(0.1), loss)
    history = model.fit(FEATURES, LABELS, batch_size=5, epochs=3, shuffle=False, verbose=0).history
    return [history["loss"], history["ring"], [float(keras.ops.convert_to_numpy(head.scale))]]


def fit_targets():
    """Logs of a training whose labels a layer assigns, with label sets beside them, weights and metrics."""
    import keras

    from cplus1_keras import OpenSetModel, heads, layers, losses, metrics

    class Halves(layers.OpenSetLayer):
        def call(self, features):
            return keras.ops.reshape(features, (-1, 2, 5))

        def targets(self, tensors, training):
            return {"labels": tensors["pairs"] - 1, "sums": tensors["logits"] * 1.0}

    inputs = keras.Input((10,))
    head = heads.CosineHead(3, 20.0, background=True)
    outputs = layers.MovingAverageCenters(3)(head(Halves()(inputs)))
    outputs["set_logits"] = keras.layers.Dense(3, kernel_initializer="ones")(inputs)
    model = OpenSetModel(inputs, outputs)
    head.kernel.assign(np.random.default_rng(1).normal(size=(5, 4)).astype("float32"))
    loss = losses.cplus1(0.5, 0.5, margin=1.2) + losses.AsymmetricLoss(2.0).of("set_")
    names = {name: [metrics.KnownAccuracy(3)] for name in ("logits", "sums")}
    model.compile(keras.optimizers.SGD(0.01), loss, metrics=names)
    x = np.concatenate([FEATURES, FEATURES[::-1]], axis=1)
    pairs, sets = np.stack([LABELS, LABELS[::-1]], axis=1), np.random.default_rng(2).choice([0, 1, -100], (10, 3))
    y = {"pairs": np.where(pairs == 3, 0, pairs) + 1, "multi_hot": sets.astype("int32")}
    data = {"sample_weight": np.linspace(0.5, 2, 10), "batch_size": 5, "shuffle": False, "verbose": 0}
    history = model.fit(x, y, epochs=2, validation_data=(x, y), **data).history
    return [history[name] for name in sorted(history)]


def fit_points():
    """Logs of a training of FCOS, of which every weight starts from a formula; then what it predicts."""
    import keras

    from cplus1_keras import losses, models
    from cplus1_keras.configs.families import background_head

    def backbone():
        images = keras.Input((20, 28, 3))
        return keras.Model(images, keras.layers.Conv2D(4, 5, 4, "same", activation="relu")(images))

    def head(num_classes):
        return background_head(num_classes, "moving_average", use_bias=True)

    model = models.fcos(2, backbone, head, levels=(2, 3, 4), channels=4, tower=1, groups=2)
    for number, weight in enumerate(model.trainable_variables):
        waves = np.sin(np.arange(np.prod(weight.shape)) + number).reshape(weight.shape)
        weight.assign((1 if weight.name in ("gamma", "scales") else 0) + 0.2 * waves)
    random = np.random.default_rng(3)
    images = random.uniform(-1, 1, (4, 20, 28, 3)).astype("float32")
    boxes = np.concatenate([random.uniform(0, 10, (4, 3, 2)), random.uniform(11, 28, (4, 3, 2))], -1).astype("float32")
    labels = np.array([[0, 1, -1], [1, -100, -100], [0, 0, -2], [-100, -1, -1]])
    separability = losses.BackgroundCrossEntropyLoss(gamma=2.0) + 0.2 * losses.BackgroundMarginLoss(1.0)
    for loss, box in (
        (separability.per_known() + 0.1 * losses.CompactnessLoss(), losses.GIoULoss()),
        (losses.SigmoidFocalLoss(), losses.SmoothL1BoxLoss()),
    ):
        model.compile(keras.optimizers.SGD(0.01), loss + box + losses.CenternessLoss() + losses.IoULoss())
        y = {"boxes": boxes, "box_labels": labels}
        history = model.fit(images, y, batch_size=2, epochs=2, shuffle=False, verbose=0).history
        yield from (history[name] for name in sorted(history))
    outputs = model.predict(images, verbose=0)
    yield from (outputs[name].tolist() for name in sorted(outputs))


def own():
    return {**evaluate(), "fit": fit(), "fit targets": fit_targets(), "fit points": [*fit_points()]}


def main():
    blocked = sys.argv[1:] == ["--without-tensorflow"]
    if blocked:
        sys.modules["tensorflow"] = None
    import cplus1_keras  # noqa: F401

    print(json.dumps(own()))


def run(backend, *arguments):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_agrees_with_tensorflow_and_needs_it_not(backend):
    results, expected = run(backend, "--without-tensorflow"), own()
    assert set(results) == set(expected)
    for name in expected:
        for got, wanted in zip(results[name], expected[name], strict=True):
            assert np.isfinite(got).all(), name
            np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=2e-5, err_msg=name)


def test_the_import_needs_no_tensorflow():
    """Also where no other backend is installed: nothing of this package imports TensorFlow when it is imported."""
    code = """
import builtins, keras
original, asked = builtins.__import__, []
def watching(name, given=None, *rest):
    if name.split(".")[0] in ("tensorflow", "tensorflow_datasets", "keras_cv") and given:
        if given.get("__name__", "").startswith("cplus1_keras"):
            asked.append((given["__name__"], name))
    return original(name, given, *rest)
builtins.__import__ = watching
import cplus1_keras
from cplus1_keras import backbones
from cplus1_keras.configs import families  # for benchmarks/gpu.py
assert not asked, asked
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


if __name__ == "__main__":
    main()
