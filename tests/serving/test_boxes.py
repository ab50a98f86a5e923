"""Detections: what a NumPy reference, written from the papers, makes of a model's outputs; in Python and SavedModel."""

import dataclasses
import json

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="serving is TensorFlow's part")
if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

from cplus1_keras import serving  # noqa: E402  needs TensorFlow
from cplus1_keras.layers import Reject  # noqa: E402
from cplus1_keras.serving import BoxSpec, Predictor  # noqa: E402
from cplus1_keras.serving.boxes import suppress  # noqa: E402

SIZE, STRIDES, NAMES = (48, 72), (8, 16), ["cat", "dog", "eel"]
GRID = [((y + 0.5) * s, (x + 0.5) * s, s) for s in STRIDES for y in range(48 // s) for x in range(-(-72 // s))]
POINTS = np.array([(x, y, s) for y, x, s in GRID], "float32")


def build(logits=4, seed=0, size=SIZE):
    """Raw outputs that depend on the image at random, at two levels of points."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((*size, 3))
    pool = keras.layers.GlobalAveragePooling2D() if None in size else keras.layers.AveragePooling2D(8)
    flat = keras.layers.Flatten()(pool(images / 64 - 2))
    names = {"logits": (logits, 9.0), "box_offsets": (4, 60.0), "centerness": (1, 1.0), "features": (5, 1.0)}
    outputs = {}
    for name, (number, spread) in names.items():
        start = keras.initializers.RandomNormal(stddev=spread / 12)
        own = keras.layers.Dense(len(POINTS) * number, kernel_initializer=start)(flat)
        outputs[name] = keras.layers.Reshape((len(POINTS), number))(own)
    outputs["box_offsets"] = keras.ops.softplus(outputs["box_offsets"]) * 4
    outputs["centerness"] = outputs["centerness"][..., 0]
    outputs["points"] = outputs["box_offsets"][..., :3] * 0.0 + POINTS[None]
    return keras.Model(images, outputs)


SIZES = [(40, 48), (64, 33), (71, 20)]


def pixels(count=4, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (count, *SIZE, 3)).astype("uint8")


def area(box):
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def iou(a, b):
    shared = area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])
    return shared / max(area(a) + area(b) - shared, 1e-12)


def reference(outputs, spec):
    """Rows (box, class, confidence, point) of one image: sections 3.1 and 4.1 of FCOS, by loops."""
    logits = outputs["logits"].astype("float64")
    softmax = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    p = 1 / (1 + np.exp(-logits)) if spec.sigmoid else softmax[:, :3]
    centre, height, width = 1 / (1 + np.exp(-outputs["centerness"].astype("float64"))), *SIZE
    candidates = []
    for stride in STRIDES:
        level = [(-p[i, k] * centre[i], i, k) for i in range(len(p)) if POINTS[i, 2] == stride for k in range(3)]
        candidates += sorted(c for c in level if p[c[1], c[2]] > spec.score_threshold)[: spec.per_level]
    kept = []
    for confidence, i, k in sorted(candidates):
        (x, y, _), (left, top, right, bottom) = POINTS[i], outputs["box_offsets"][i]
        box = np.clip([x - left, y - top, x + right, y + bottom], 0, [width, height, width, height])
        rivals = [own for own, other, *_ in kept if spec.class_agnostic or other == k]
        if len(kept) < spec.max_detections and all(iou(box, own) <= spec.iou for own in rivals):
            kept.append((box, k, -confidence, i))
    return kept


SPECS = {
    "by class": BoxSpec(max_detections=30, per_level=60, score_threshold=0.2, iou=0.5),
    "by none": BoxSpec(max_detections=25, per_level=500, score_threshold=0.05, iou=0.3, class_agnostic=True),
    "sigmoid": BoxSpec(max_detections=100, per_level=20, score_threshold=0.4, iou=0.8, sigmoid=True),
    "few": BoxSpec(max_detections=100, per_level=1000, score_threshold=0.6, iou=0.2, dtype="float32"),
}


@pytest.mark.parametrize("name", SPECS)
def test_answers_are_those_of_the_reference(name):
    spec, model = SPECS[name], build(3 if name == "sigmoid" else 4)
    raw = model.predict(pixels(), verbose=0)
    reject = Reject(3, np.quantile(Reject(3, 0.0)(raw)["score"], 0.9))
    answer = Predictor(model, reject, NAMES, spec).predict(pixels())
    shape, numbers, wanted, suppressed = (4, spec.max_detections), [], reject(raw), 0
    for i in range(4):
        rows = reference({key: value[i] for key, value in raw.items()}, spec)
        number = answer["num_detections"][i]
        assert number == len(rows) > 3
        other = {"class_agnostic": False} if spec.class_agnostic else {"iou": 1.0}
        others = reference({key: value[i] for key, value in raw.items()}, dataclasses.replace(spec, **other))
        suppressed += [row[1:] for row in others] != [row[1:] for row in rows]
        numbers.append(number)
        boxes, classes, confidences, points = (np.array(column) for column in zip(*rows, strict=True))
        np.testing.assert_allclose(answer["boxes"][i, :number], boxes, atol=1e-3)
        np.testing.assert_allclose(answer["confidence"][i, :number], confidences, atol=1e-5)
        np.testing.assert_array_equal(answer["known_argmax"][i, :number], classes)
        np.testing.assert_allclose(answer["score"][i, :number], wanted["score"].numpy()[i, points], atol=1e-4)
        known = wanted["known"].numpy()[i, points]
        assert 0 < known.sum() < number
        np.testing.assert_array_equal(answer["class_id"][i, :number], np.where(known, classes, -1))
        names = [NAMES[k] if own else "unknown" for k, own in zip(classes, known, strict=True)]
        assert answer["class_name"][i, :number].tolist() == names
        assert (answer["class_id"][i, number:] == -1).all()
        assert not answer["boxes"][i, number:].any()
        assert not answer["confidence"][i, number:].any()
        assert (answer["score"][i, number:] == np.finfo("float32").min).all()
        assert set(answer["class_name"][i, number:]) <= {""}
    assert answer["boxes"].shape == (*shape, 4)
    assert answer["valid"].all()
    full = [number == spec.max_detections for number in numbers]
    assert suppressed
    assert all(full) if name in ("by class", "by none") else not all(full)


@pytest.mark.parametrize(("groups", "most"), [(1, 50), (3, 100), (1203, 200)])
def test_suppression_is_that_of_the_reference_in_large_images(groups, most):
    rng = np.random.default_rng(groups)
    low = rng.uniform(0, 1900, (2, 25, 2)).repeat(12, axis=1)
    size = rng.uniform(4, 60, (2, 25, 2)).repeat(12, axis=1)
    boxes = np.concatenate([low, low + size], axis=-1) + rng.normal(size=(2, 300, 4)) * np.tile(size, 2) / 10
    boxes = np.clip(boxes, 0, 2000).astype("float32")
    boxes[:, :, 2:] = np.maximum(boxes[:, :, 2:], boxes[:, :, :2])
    which, confidence = rng.integers(0, groups, (2, 300)), rng.uniform(0.1, 1, (2, 300)).astype("float32")
    which[:, ::2], confidence[:, ::17] = groups - 1, 0
    given = (tf.constant(each) for each in (boxes, confidence, which.astype("int32")))
    rows, number = suppress(*given, 0.6, most, groups, tf.constant([1500.0, 2000.0]))
    lost = 0
    for i in range(2):
        kept = []
        for j in np.argsort(-confidence[i], kind="stable"):
            near = [iou(boxes[i, j], boxes[i, own]) for own in kept if which[i, own] == which[i, j]]
            if confidence[i, j] and max(near, default=0) <= 0.6:
                kept.append(j)
        lost += np.count_nonzero(confidence[i]) - len(kept)
        assert number[i] == min(len(kept), most)
        assert rows[i, : number[i]].numpy().tolist() == kept[:most]
    assert lost > 50


@pytest.fixture(scope="module")
def predictor():
    return Predictor(build(), Reject(3, 0.3), NAMES, SPECS["by class"])


@pytest.fixture(scope="module")
def path(predictor, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "1"
    predictor.export(path, pixels(2))
    return path


def test_the_saved_model_answers_as_the_predictor(predictor, path):
    serving.check(path)
    answer = predictor.predict(pixels())
    served = tf.saved_model.load(str(path)).signatures["serving_default"](images=tf.constant(pixels()))
    wanted = "boxes class_id class_name confidence num_detections score valid"
    assert sorted(served) == wanted.split()
    for name, value in served.items():
        value = np.char.decode(value.numpy().astype("S")) if value.dtype == tf.string else value.numpy()
        np.testing.assert_array_equal(value, answer[name])
    said = json.loads((path / serving.CLASSES_FILE).read_text(encoding="utf-8"))
    assert (said["class_names"], said["output"], said["max_size"]) == (NAMES, "boxes", [2048, 2048])


def test_images_above_the_largest_size_are_refused(tmp_path):
    small = Predictor(build(), Reject(3, 0.3), NAMES, BoxSpec(max_size=(48, 64)))
    with pytest.raises(Exception, match="48 x 64"):
        small.export(tmp_path / "1", pixels(1))


def test_bad_images_and_no_images(predictor):
    images, clean = pixels().astype("float32"), predictor.predict(pixels())
    images[1, 0, 0, 0], images[2, 0, 0, 0] = np.nan, 30000
    with pytest.warns(UserWarning, match="30000"):
        answer = predictor.predict(images)
    assert answer["valid"].tolist() == [True, False, False, True]
    assert answer["num_detections"].tolist() == [clean["num_detections"][0], 0, 0, clean["num_detections"][3]]
    assert (answer["score"][1:3] == np.finfo("float32").min).all()
    assert not answer["boxes"][1:3].any()
    assert set(answer["class_name"][1:3].ravel()) == {""}
    empty = predictor.predict(pixels()[:0])
    assert (empty["boxes"].shape, empty["num_detections"].shape) == ((0, 30, 4), (0,))


@pytest.mark.parametrize("name", ["logits", "box_offsets", "centerness"])
def test_a_model_that_overflows_has_no_answer(name):
    model = build()
    broken = keras.Model(model.input, {**model.output, name: model.output[name] * float("inf")})
    answer = Predictor(broken, Reject(3, -9.0), NAMES, SPECS["by none"]).predict(pixels())
    assert not answer["valid"].any()
    assert not answer["num_detections"].any()


def test_a_saved_model_that_finds_other_objects_is_refused(predictor):
    spec, run = predictor.spec, predictor.network.predict
    outputs = {n: x.numpy() for n, x in spec.outputs(run, pixels(1).astype("float32"), 3).items()}
    expected = {**outputs, **{n: np.array(x) for n, x in predictor.reject(outputs).items()}}
    answer = {n: np.array(x) for n, x in predictor.predict(pixels(1)).items()}
    number = answer["num_detections"][0]
    here, there = spec.align(answer, expected)
    assert here["boxes"].shape == there["boxes"].shape == (number, 4)
    swapped = np.r_[1, 0, 2 : spec.max_detections]
    moved = {n: x[:, swapped] if x.ndim > 1 else x for n, x in answer.items()}
    here, there = spec.align(moved, expected)
    for name in ("boxes", "score", "confidence", "class_id"):
        np.testing.assert_allclose(here[name], there[name], atol=1e-4)
    boxes = answer["boxes"].copy()
    boxes[0, :3] += 9
    with pytest.raises(ValueError, match=f"3 of {number}"):
        spec.align({**answer, "boxes": boxes}, expected)
    more = {**answer, "num_detections": answer["num_detections"] + 2}
    with pytest.raises(ValueError, match=f"2 of {number}"):
        spec.align(more, expected)


def test_settings_outside_their_range_are_explained():
    with pytest.raises(ValueError, match=r"Received: per_level=0, iou=0"):
        BoxSpec(per_level=0, iou=0)
    with pytest.raises(ValueError, match="uint16"):
        BoxSpec(dtype="uint16")


def test_encoded_images_of_several_sizes_give_boxes_in_their_own_pixels(tmp_path):
    predictor = Predictor(build(size=(None, None)), Reject(3, 0.3), NAMES, BoxSpec(max_size=(70, 50)))
    predictor.export(tmp_path / "1")
    serve = tf.saved_model.load(str(tmp_path / "1")).signatures["predict_bytes"]
    images = [np.random.default_rng(k).integers(0, 255, (*size, 3), "uint8") for k, size in enumerate(SIZES)]
    images = [image // (k + 1) for k, image in enumerate(images)]  # so that their means differ
    contents = [tf.io.encode_png(image).numpy() for image in images]
    for rows in ([0, 1, 2], [1], [0, 0]):
        found = serve(image_bytes=tf.constant([*(contents[k] for k in rows), b"no image"]))
        assert found["sizes"].numpy().tolist() == [*([*SIZES[k]] * (k < 2) or [0, 0] for k in rows), [0, 0]]
        for row, k in enumerate(rows):
            if k == 2:  # too large
                assert (found["num_detections"][row], found["valid"][row]) == (0, False)
                continue
            expected = predictor.predict(images[k][None])
            assert expected["num_detections"] > 0
            for name in ("boxes", "score", "class_id", "num_detections"):
                np.testing.assert_allclose(found[name][row], expected[name][0], rtol=1e-5, atol=1e-4)
        assert (found["num_detections"][-1], found["valid"][-1]) == (0, False)
