"""Detections of two stages: what loops make of a model's regions; in Python and in a SavedModel."""

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="serving is TensorFlow's part")
if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

from cplus1_keras.layers import Reject  # noqa: E402  needs TensorFlow
from cplus1_keras.serving import BoxSpec, Predictor  # noqa: E402

SIZE, REGIONS, NAMES = (48, 72), 30, ["cat", "dog", "eel"]


def build(agnostic, seed=0):
    """Regions, a third of which are missing, that depend on the image at random."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((*SIZE, 3))
    flat = keras.layers.Flatten()(keras.layers.AveragePooling2D(8)(images / 64 - 2))
    classes, outputs = 1 if agnostic else 3, {}
    for name, shape, spread in (("logits", (4,), 0.08), ("low", (classes, 2), 0.6), ("side", (classes, 2), 0.1)):
        start = keras.initializers.RandomNormal(stddev=spread)
        own = keras.layers.Dense(REGIONS * int(np.prod(shape)), kernel_initializer=start)(flat)
        outputs[name] = keras.layers.Reshape((REGIONS, *shape))(own)
    low = keras.ops.sigmoid(outputs.pop("low")) * np.array([40.0, 20.0], "float32")
    side = (
        keras.ops.sigmoid(outputs.pop("side")) * 25 * (np.arange(REGIONS) % 3 > 0).astype("float32").reshape(-1, 1, 1)
    )
    boxes = keras.ops.concatenate([low, low + side], axis=-1)
    outputs["roi_boxes"] = boxes[:, :, 0] if agnostic else boxes
    return keras.Model(images, outputs)


def iou(a, b):
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(wide, 0) * max(high, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def reference(logits, boxes, spec):
    p = np.exp(logits.astype("float64"))
    p, candidates, kept = (p / p.sum(axis=-1, keepdims=True))[:, :3], [], []
    for i in range(REGIONS):
        for k in range(3):
            box = boxes[i] if boxes.ndim == 2 else boxes[i, k]
            if p[i, k] > spec.score_threshold and box[2] > box[0]:
                candidates.append((-p[i, k], i, k, box))
    for confidence, i, k, box in sorted(candidates, key=lambda own: own[:3])[: spec.per_level]:
        if all(iou(box, other) <= spec.iou for other, same, *_ in kept if same == k):
            kept.append((box, k, -confidence, i))
    return kept[: spec.max_detections]


@pytest.mark.parametrize("agnostic", [True, False])
def test_answers_are_those_of_the_reference(agnostic, tmp_path):
    spec = BoxSpec(max_detections=15, per_level=60, score_threshold=0.1, iou=0.3)
    images = np.random.default_rng(1).integers(0, 256, (3, *SIZE, 3)).astype("uint8")
    model = build(agnostic)
    raw = model.predict(images.astype("float32"), verbose=0)
    reject = Reject(3, 0.0)
    predictor = Predictor(model, reject, NAMES, spec)
    answer, scores = predictor.predict(images), reject(raw)["score"].numpy()
    for i in range(3):
        boxes, classes, confidences, rows = zip(*reference(raw["logits"][i], raw["roi_boxes"][i], spec), strict=True)
        number = answer["num_detections"][i]
        assert number == len(boxes) > 5
        np.testing.assert_allclose(answer["boxes"][i, :number], boxes, atol=1e-3)
        np.testing.assert_allclose(answer["confidence"][i, :number], confidences, atol=1e-5)
        np.testing.assert_array_equal(answer["known_argmax"][i, :number], classes)
        np.testing.assert_allclose(answer["score"][i, :number], scores[i, list(rows)], atol=1e-4)
    predictor.export(tmp_path / "1", samples=images)
    served = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"](tf.constant(images))
    np.testing.assert_allclose(served["boxes"], answer["boxes"], atol=1e-3)


@pytest.mark.parametrize("name", ["logits", "roi_boxes"])
def test_a_model_that_overflows_has_no_answer(name):
    model = build(False)
    broken = keras.Model(model.input, {**model.output, name: model.output[name] * float("nan")})
    answer = Predictor(broken, Reject(3, -9.0), NAMES).predict(np.zeros((1, *SIZE, 3), "uint8"))
    assert not answer["valid"].any()
    assert answer["num_detections"].tolist() == [0]


def test_a_model_without_boxes_is_refused():
    model = build(True)
    lacking = keras.Model(model.input, {"logits": model.output["logits"]})
    with pytest.raises(ValueError, match="roi_boxes"):
        Predictor(lacking, Reject(3, 0.0), NAMES, BoxSpec())
