"""Two replicas train as one device does: weights, losses, each term's log, and the layers with state.

`MirroredStrategy` on two logical CPUs, which must exist before TensorFlow starts, so both trainings run in a process of
their own (this file, run as a script).
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pytest


def settings():
    from cplus1_keras import heads, losses

    growing = losses.GrowingMargin(losses.ArcFace(0.3))
    return {
        "objectosphere": (heads.LinearHead(3), losses.objectosphere(4.0)),
        "cos_os": (heads.CosineHead(3, None), losses.cos_os(0.35, 4.0)),
        "background": (heads.CosineHead(3, 20.0, background=True), losses.BackgroundCrossEntropyLoss(losses.C2AM(0.5))),
        "adacos": (heads.AdaCosHead(3), losses.CrossEntropyLoss(growing) + 0.01 * losses.RingLoss(4.0)),
        "lgm": (heads.GaussianHead(3), losses.lgm(0.5, 0.2)),
        "l_softmax": (heads.LinearHead(3), losses.CrossEntropyLoss(losses.LSoftmax(3)) + losses.AnchorLoss()),
        "label_sets": (heads.LinearHead(3), losses.MultiLabelCrossEntropyLoss() + 0.5 * losses.AsymmetricLoss(2.0)),
    }


def detector():
    """FCOS on one convolution, with centres, at two levels."""
    import keras

    from cplus1_keras import losses, models
    from cplus1_keras.configs.families import background_head

    def backbone():
        images = keras.Input((24, 24, 3))
        return keras.Model(images, keras.layers.Conv2D(6, 5, 4, "same", activation="relu")(images))

    def head(num_classes):
        return background_head(num_classes, "moving_average", use_bias=True, prior=0.1)

    model = models.fcos(3, backbone, head, levels=(2, 3), channels=8, tower=1, groups=4)
    loss = losses.cplus1(0.5, 0.1).per_known() + losses.GIoULoss() + losses.CenternessLoss()
    model.compile(keras.optimizers.SGD(0.01), loss)
    return model


def two_stages():
    """Mask R-CNN with C2AM on one convolution; of 24 anchors 8 train, of 20 regions 6, all by chance."""
    import keras

    from cplus1_keras import heads, losses, models

    def backbone():
        images = keras.Input((24, 24, 3))
        return keras.Model(images, keras.layers.Conv2D(6, 5, 4, "same", activation="relu")(images))

    def head(num_classes):
        return heads.CosineHead(num_classes, 16.0, background=True)

    sizes = {"channels": 8, "width": 8, "scale": 2, "proposals": 18, "samples": 6}
    model = models.rcnn(3, backbone, head, levels=(2, 3), masks=True, **sizes)
    rpn = losses.ObjectnessLoss() + losses.BoxDeltaLoss()
    roi = losses.BackgroundCrossEntropyLoss(losses.C2AM(0.5)) + losses.BoxDeltaLoss()
    model.compile(keras.optimizers.SGD(0.01), rpn.of("rpn_") + roi.of("roi1_") + losses.MaskLoss().of("mask1_"))
    return model


def scenes():
    """Images with boxes. The second replica has no known in the first batch, neither has any in the second batch."""
    random = np.random.default_rng(1)
    boxes = random.uniform(0, 12, (21, 2, 4)).astype("float32")
    boxes[..., 2:] = boxes[..., :2] + random.uniform(6, 12, (21, 2, 2))
    labels = random.integers(0, 3, (21, 2)).astype("int32")
    labels[4:16], labels[5] = -1, -100
    boxes[6], labels[6] = 0, -100
    images = random.uniform(-1, 1, (21, 24, 24, 3)).astype("float32")
    masks = {"mask_boxes": boxes, "masks": random.integers(0, 2, (21, 2, 14, 14)).astype("uint8")}
    return images, {"boxes": boxes, "box_labels": labels, **masks}


def train(name, strategy, data):
    import keras

    from cplus1_keras import OpenSetModel, layers

    with strategy.scope():
        keras.utils.set_random_seed(0)
        if name in ("points", "regions"):
            return fit(detector() if name == "points" else two_stages(), data)
        head, loss = settings()[name]
        inputs = keras.Input((6,))
        outputs = head(keras.layers.Dense(5, activation="tanh", kernel_initializer="identity")(inputs))
        shape = head.weights[0].shape
        head.weights[0].assign(np.eye(*shape) * np.arange(1, shape[1] + 1))  # close to the data, norms that differ
        model = OpenSetModel(inputs, layers.MarginWarmup(20)(outputs) if name == "adacos" else outputs)
        # At large rates rounding alone grows to 1e-4.
        sets = name == "label_sets"
        metrics = {"logits": [keras.metrics.MeanAbsoluteError(name="error")]} if sets else None
        model.compile(keras.optimizers.SGD(0.01), loss, metrics=metrics)
    return fit(model, data)


def watch(strategy):
    """A model of activation maps that TensorBoard shows, and what of it."""
    import keras
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from cplus1_keras import OpenSetModel, heads, losses
    from cplus1_keras.monitoring import OpenSetMonitor

    random = np.random.default_rng(3)
    x, y = random.uniform(0, 255, (22, 8, 8, 3)).astype("float32"), np.resize([0, 1, 2, -1], 22)
    with strategy.scope():
        keras.utils.set_random_seed(0)
        images = keras.Input((8, 8, 3))
        maps = keras.layers.Conv2D(6, 3, 2, "same", activation="relu")(images / 128)
        model = OpenSetModel(images, heads.CAMHead(3)(maps))
        model.compile(keras.optimizers.SGD(0.01), losses.EntropicOpenSetLoss() + 0.01 * losses.MagnitudeLoss(5.0))
    with tempfile.TemporaryDirectory() as folder:
        monitor = OpenSetMonitor((x, y), folder, sample=(x[:4], y[:4]), share=np.inf)
        told = fit(model, tf_batches((x, y)), [monitor])
        events = EventAccumulator(f"{folder}/monitor", size_guidance={"tensors": 0}).Reload()
        return {**told, "tags": sorted(events.Tags()["tensors"])}


def tf_batches(data):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(data).batch(8)


def fit(model, data, callbacks=()):
    history = model.fit(data, epochs=2, callbacks=[*callbacks], verbose=0).history
    evaluated = model.evaluate(data, verbose=0, return_dict=True)
    return {
        "weights": [weight.tolist() for weight in model.get_weights()],
        "logs": history,
        "evaluated": evaluated,
    }


def main():
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    random = np.random.default_rng(0)
    x = 0.3 * random.normal(size=(29, 6)).astype("float32")  # batches of 8, 8, 8 and 5 = 3 + 2
    y = random.integers(0, 3, 29)
    x[np.arange(29), y] += 2  # angles below π/4, where AdaCos asks for their median
    y[[4, 5, 6, 7, 13, 20, 28]] = -1  # the second replica's part of the first batch has no known
    y[[8, 9, 10, 11, 12, 14, 15]] = [-1, -1, -100, -2, -1, -1, -1]  # the second batch has none at all
    y[13] = -1
    sets = random.choice([0, 1, -100], (29, 3)).astype("int32")
    sets[8:16] = -100  # the second batch has none at all
    # One strategy for all: on CPUs a second one in the same process reuses the numbers of the first one's collectives.
    strategies = {
        "one": tf.distribute.OneDeviceStrategy("/cpu:0"),
        "two": tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]),
    }
    results = {}
    for name in (*settings(), "points", "regions"):
        for key, strategy in strategies.items():
            given = {"multi_hot": sets, "more": x} if name == "label_sets" else y
            data = tf_batches((x, given) if name in settings() else scenes())
            results.setdefault(name, {})[key] = train(name, strategy, data)
    results["watched"] = {key: watch(strategy) for key, strategy in strategies.items()}
    print(json.dumps(results))


@pytest.fixture(scope="module")
def results():
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize(
    "name", ["objectosphere", "cos_os", "background", "adacos", "lgm", "l_softmax", "label_sets", "points", "regions"]
)
def test_two_replicas_are_one_device(results, name):
    one, two = results[name]["one"], results[name]["two"]
    for a, b in zip(one["weights"], two["weights"], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert set(one["logs"]) == set(two["logs"])
    for key in one["logs"]:
        np.testing.assert_allclose(one["logs"][key], two["logs"][key], atol=1e-6, rtol=1e-6, err_msg=key)
        np.testing.assert_allclose(one["evaluated"][key], two["evaluated"][key], atol=1e-6, rtol=1e-6, err_msg=key)


def test_what_tensorboard_shows_of_two_replicas_is_that_of_one_device(results):
    one, two = results["watched"]["one"], results["watched"]["two"]
    for a, b in zip(one["weights"], two["weights"], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert one["tags"] == two["tags"]
    assert {"validation/activation_maps", "validation/features", "validation/oscr"} <= {*one["tags"]}
    assert set(one["logs"]) == set(two["logs"]) >= {"val_loss", "val_auroc_negative", "gradient_ratio/magnitude"}
    for key in one["logs"]:
        np.testing.assert_allclose(one["logs"][key], two["logs"][key], rtol=1e-3, atol=1e-5, err_msg=key)


def test_each_term_is_logged(results):
    assert set(results["cos_os"]["two"]["logs"]) == {"loss", "cross_entropy", "symmetric_magnitude"}


def test_outside_a_strategy_there_is_one():
    from cplus1_keras import replicas

    assert replicas.count() == 1
    assert float(replicas.total(2.0)) == 2.0
    np.testing.assert_array_equal(replicas.gather(np.arange(3)), [0, 1, 2])


if __name__ == "__main__":
    main()
