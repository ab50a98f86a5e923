"""C+1, centres, anchors and activation maps on Keras's JAX and PyTorch backends give what they give on TensorFlow."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

# Prints a JSON line of named numbers. Values, gradients, second derivatives, and the weights after a short `fit`.
SCRIPT = """
import json
import keras, numpy as np
from keras import ops
from cplus1_keras import OpenSetModel, anchors, heads, layers, losses
from cplus1_keras.numerics import derivatives

backend = keras.backend.backend()
if backend == "jax":
    import jax

def gradient(function, x):
    if backend == "tensorflow":
        import tensorflow as tf
        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        return tape.gradient(value, x)
    if backend == "jax":
        return jax.jit(jax.grad(function))(x)
    import torch
    x = x.clone() if x.requires_grad else x.detach().clone().requires_grad_(True)
    return torch.autograd.grad(function(x), x, create_graph=True)[0]

random = np.random.default_rng(0)
labels = np.array([0, 2, -1, 1, -2, 2, -100, -1])
multi = np.array([[1, 0, 0], [0, -100, 1], [1, 1, 1], [-100] * 3, [0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
features = ops.convert_to_tensor(random.normal(size=(8, 4)).astype("float32"))
maps = ops.convert_to_tensor(random.normal(size=(8, 3, 3, 3)).astype("float32"))
centers = ops.convert_to_tensor(0.7 * random.normal(size=(3, 4)).astype("float32"))
kernel = ops.convert_to_tensor(random.normal(size=(4, 4)).astype("float32"))
direction = ops.convert_to_tensor(random.normal(size=(8, 4)).astype("float32"))
seen = np.array([True, True, False])

def on_embeddings(loss):
    provided = {"centers": centers, "centers_seen": seen}
    return lambda f: loss(labels, {"embeddings": derivatives.unit(f), "logits": f @ kernel, **provided})

def on_centers(loss):
    return lambda c: loss(labels, {"embeddings": features, "centers": c, "logits": features @ kernel})

margins = [losses.BackgroundMarginLoss(1.7, distance) for distance in ("euclidean", "squared_euclidean", "cosine")]
cases = {"embeddings 3": (on_embeddings(losses.cplus1(margin=1.7)), features)}
cases |= {f"embeddings {i}": (on_embeddings(loss), features) for i, loss in enumerate(margins)}
cases |= {f"centers {i}": (on_centers(loss), centers) for i, loss in enumerate([losses.CompactnessLoss(), *margins])}
for kind in (heads.EuclideanAnchorHead, heads.CosineAnchorHead):
    head = kind(anchors.simplex(3, 4), scale=2.0)
    cases[kind.__name__] = (lambda f, head=head: losses.CrossEntropyLoss()(labels, head(f)), features)
for loss in (losses.HNCMSELoss(2), losses.HNCKDLoss(2), losses.HNCKDLoss(5)):
    for name, y in (("single", labels), ("multi", {"multi_hot": multi})):
        cases[f"{loss.name} {loss.top_k} {name}"] = (lambda m, loss=loss, y=y: loss(y, {"cams": m}), maps)
sigmoid = losses.WeightedSigmoidLoss([0.1, 0.5, 0.9])
for loss in (sigmoid, losses.MultiLabelCrossEntropyLoss(), losses.AsymmetricLoss(3.0, 0.5)):
    cases[loss.name] = (lambda m, loss=loss: loss(multi, {"logits": m[:, 0, 0]}), maps)

results = {}
for name, (function, x) in cases.items():
    results[name] = jax.jit(function)(x) if backend == "jax" else function(x)
    results[name + " gradient"] = gradient(function, x)
    if name.startswith(("embeddings", "Euclid")):
        along = lambda f, function=function: ops.sum(gradient(function, f) * direction)
        results[name + " second"] = gradient(along, x)

images = random.normal(size=(16, 4)).astype("float32")
given = random.integers(-1, 3, size=16)
for kind in ("moving_average", "learnable", "shared"):
    inputs = keras.Input((4,))
    head = heads.LinearHead(3, background=True)
    layer = {"moving_average": lambda: layers.MovingAverageCenters(3), "learnable": lambda: layers.LearnableCenters(3),
             "shared": lambda: layers.SharedCenters(head)}[kind]()
    model = OpenSetModel(inputs, layer(head(keras.layers.Dense(5)(inputs))))
    fixed = np.random.default_rng(1)
    model.set_weights([fixed.normal(size=w.shape) if w.trainable else np.zeros(w.shape) for w in model.weights])
    model.compile(keras.optimizers.SGD(0.01), losses.cplus1(0.5, 0.5, margin=1.2))
    history = model.fit(images, given, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    results |= {f"{kind} {key}": value for key, value in history.items()}
    results |= {f"{kind} weight {i}": w.value for i, w in enumerate(model.weights)}

def as_list(x):
    return np.asarray(x.detach().cpu() if backend == "torch" and hasattr(x, "detach") else x, "float64").tolist()

print("RESULT" + json.dumps({name: as_list(x) for name, x in results.items()}))
"""


def results(backend):
    environment = {**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"}
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.rsplit("RESULT", 1)[1])


@pytest.fixture(scope="module")
def expected():
    return results("tensorflow")


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_agrees(backend, expected):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"needs {backend}, which is not installed")
    found = results(backend)
    assert found.keys() == expected.keys()
    for name in expected:
        tolerance = 1e-4 if "second" in name else 1e-5
        np.testing.assert_allclose(found[name], expected[name], rtol=tolerance, atol=tolerance, err_msg=name)
