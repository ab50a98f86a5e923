"""Detection through the one run: what it leaves is recomputed from the stored model and the splits by hand."""

import csv
import dataclasses
import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import cplus1_keras
from cplus1_keras import backbones, data, losses, models, scores
from cplus1_keras.configs.families import background_head
from cplus1_keras.experiment import Experiment
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.metrics import coco_figures
from cplus1_keras.tasks import Detection, detection

COLOURS = {"red": (200, 0, 0), "green": (0, 170, 0), "grey": (90, 90, 90), "white": (230, 0, 230), "blur": (150, 0, 0)}
TASK = Detection(
    augment=data.augment.detection((64, 80)), base=(64, 80), score_threshold=0.002, pictures=3, iou=0.5, false_allowed=1
)


def source(count, seed, name):
    """Noise of two sizes with coloured squares: at most five, on a grid, so that none covers another."""
    rng = np.random.default_rng(seed)
    images, objects = [], []
    for i in range(count):
        scale = 1 if i % 4 else 2  # each fourth image is twice as large
        image = rng.integers(100, 150, (64 * scale, 80 * scale, 3)).astype("uint8")
        own = []
        for cell in rng.permutation(12)[: rng.integers(1, 6)]:
            kind = rng.choice([*COLOURS], p=[0.35, 0.3, 0.1, 0.15, 0.1])
            x, y, side = (
                20 * (cell % 4) + rng.integers(0, 4),
                20 * (cell // 4) + rng.integers(0, 4),
                rng.integers(10, 17),
            )
            box = scale * np.array([x, y, x + side, y + side])
            image[box[1] : box[3], box[0] : box[2]] = COLOURS[kind]
            own.append((*box.tolist(), str(kind)))
        images.append(image)
        objects.append(own)
    return data.sources.boxes(images, objects, [*COLOURS], name, groups=[f"{name}{i}" for i in range(count)])


@functools.cache
def splits(seed):
    protocol = data.Protocol(["red", "green"], ["grey"], ["white"], ["blur"], name="squares")
    train, test = source(160, 1, "train"), source(40, 2, "test")
    fractions = {"calibration_fraction": 0.3, "validation_fraction": 0.05}
    return data.split(protocol, train, test, **fractions, seed=seed)


def build(num_classes):
    return models.fcos(
        num_classes,
        functools.partial(backbones.small_cnn, (None, None, 3), filters=(16, 16, 32), strides=(2, 2, 2), pool=False),
        functools.partial(background_head, use_bias=True, prior=0.1),
        levels=(3,),
        channels=16,
        tower=1,
        groups=4,
    )


def experiment(**changes):
    loss = losses.BackgroundCrossEntropyLoss().per_known() + losses.GIoULoss() + losses.CenternessLoss()
    settings = {"name": "squares", "task": TASK, "data": splits, "model": build, "loss": loss, "steps": 100}
    settings |= {
        "optimizer": keras.optimizers.Adam,
        "learning_rate": 1e-2,
        "batch_size": 14,
        "fpr": 0.3,
        "seed": 3,
        "interval": 50,
        "patience": 2,
    }
    return Experiment(**{**settings, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    keras.utils.disable_interactive_logging()
    yield experiment(), experiment().run(tmp_path_factory.mktemp("runs"))
    keras.utils.enable_interactive_logging()


@pytest.fixture(scope="module")
def told(run):
    return json.loads((run[1] / "metrics.json").read_text(encoding="utf-8"))


def truth(split, i):
    rows = split.source.boxes.images == i
    return split.source.boxes.corners[rows], split.box_labels[rows]


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


@functools.cache
def judged(directory, part):
    """For each image of a split: answers of the stored model, the label of what each detection hits, the truth."""
    split, predictor, rows = getattr(splits(3), part), cplus1_keras.load(directory), []
    for i, example in enumerate(split.dataset().as_numpy_iterator()):
        answer = {name: value[0] for name, value in predictor.predict(example["image"][None]).items()}
        answer = {n: x[: answer["num_detections"]] if np.ndim(x) else x for n, x in answer.items()}
        objects, labels = truth(split, i)
        hits = []
        for box in answer["boxes"]:
            near = [iou(box, own) if label != IGNORE else 0 for own, label in zip(objects, labels, strict=True)]
            hits.append(labels[np.argmax(near)] if max(near, default=0) >= 0.5 else NEGATIVE)
            inside = [box for own, label in zip(objects, labels, strict=True) if label == IGNORE and within(box, own)]
            hits[-1] = IGNORE if inside and hits[-1] == NEGATIVE and max(near) < 0.5 else hits[-1]
        rows.append((answer, np.array(hits, int), objects, labels))
    return rows


def within(box, other):
    """Whether half of a box lies in another."""
    width, height = min(box[2], other[2]) - max(box[0], other[0]), min(box[3], other[3]) - max(box[1], other[1])
    return max(width, 0) * max(height, 0) >= 0.5 * (box[2] - box[0]) * (box[3] - box[1])


def test_the_directory_is_complete(run):
    _, directory = run
    wanted = "model.keras config.json metrics.json calibration.json predictions.csv classes.md oscr.png mistakes.png"
    wanted += " precision_recall.png pictures logs saved_model evidence.json report.html"
    assert {path.name for path in directory.iterdir()} == set(wanted.split())
    assert len([*(directory / "pictures").iterdir()]) == 3


def test_it_detects_and_figures_are_those_of_the_test_split(run, told):
    _, directory = run
    rows, own = judged(directory, "test"), told["detection"]
    columns = [(a["boxes"], a["known_argmax"], a["confidence"], o, k, areas(o)) for a, _, o, k in rows]
    wanted = coco_figures(columns, ["red", "green"])
    assert own["coco"]["ap50"] == pytest.approx(wanted["ap50"], abs=1e-3)
    assert own["coco"]["ap"] == pytest.approx(wanted["ap"], abs=1e-3)
    assert own["coco"]["ap50"] > 0.6
    assert own["images"] == told["images"] == 40
    unknown = sum((labels == UNKNOWN).sum() for *_, labels in rows)
    assert own["open"]["unknown_objects"] == unknown > 9
    assert own["open"]["a_ose"] == pytest.approx(sum(len(found(row, UNKNOWN)) for row in rows), abs=1)
    hits = np.concatenate([hits for _, hits, *_ in rows])
    assert {*hits.tolist()} == {0, 1, NEGATIVE, UNKNOWN, IGNORE}
    for group, label in (("negative", NEGATIVE), ("unknown", UNKNOWN)):
        assert told["open_set"][group]["members"] == (hits == label).sum()
    low, high = own["open"]["intervals"]["ap50"]
    assert low < own["open"]["ap50"] < high


def areas(objects):
    return np.prod(objects[:, 2:] - objects[:, :2], axis=1)


def found(row, label):
    """Indices of the objects with a label that a detection hits."""
    answer, hits, objects, labels = row
    pairs = [(iou(box, own), i) for box, hit in zip(answer["boxes"], hits, strict=True) if hit == label
             for i, own in enumerate(objects) if labels[i] == label]  # fmt: skip
    return {i for overlap, i in pairs if overlap >= 0.5}


def test_the_threshold_counts_images_of_the_calibration_split(run):
    _, directory = run
    calibration = cplus1_keras.load(directory).calibration
    worst = []
    for answer, hits, *_ in judged(directory, "calibration"):
        false = np.sort(answer["score"][hits == NEGATIVE])[::-1]
        worst.append(false[1] if len(false) > 1 else -np.inf)
    assert calibration.samples == len(worst) == 48
    assert calibration.accepted == np.sum(np.array(worst) >= calibration.threshold)
    bound = stats.beta.ppf(0.95, calibration.accepted + 1, 48 - calibration.accepted)
    assert calibration.bound == pytest.approx(bound)
    assert bound <= 0.3
    assert stats.beta.ppf(0.95, calibration.accepted + 2, 47 - calibration.accepted) > 0.3
    assert "images with more than 1 false detection " in str(calibration)


def test_the_threshold_is_judged_on_the_test_split(run, told):
    _, directory = run
    rows, threshold = judged(directory, "test"), cplus1_keras.load(directory).calibration.threshold
    score = np.concatenate([answer["score"] for answer, *_ in rows])
    hits = np.concatenate([hits for _, hits, *_ in rows])
    k = np.concatenate([answer["known_argmax"] for answer, *_ in rows])
    accepted = score >= threshold
    at = told["at_threshold"]
    assert at["ccr"] == pytest.approx((accepted & (k == hits))[hits >= 0].mean(), abs=2e-3)
    assert at["fpr_unknown"] == pytest.approx(accepted[hits == UNKNOWN].mean(), abs=2e-3)
    own = told["detection"]["at_threshold"]
    assert own["recall"] > 0.3
    assert own["false_per_image"] < 3
    answers = np.concatenate([answer["class_id"] for answer, *_ in rows])
    np.testing.assert_array_equal(answers, np.where(accepted, k, -1))


def test_what_is_accepted_of_each_class_that_is_not_known(run, told):
    _, directory = run
    split, threshold = splits(3).test, cplus1_keras.load(directory).calibration.threshold
    shares = {"white": [], "grey": []}
    for i, (answer, hits, objects, _) in enumerate(judged(directory, "test")):
        names = np.array(split.source.class_names)[split.source.boxes[[i]].values]
        for name, label in (("white", UNKNOWN), ("grey", NEGATIVE)):
            accepted = []
            for box, score in zip(answer["boxes"][hits == label], answer["score"][hits == label], strict=True):
                overlap, hit = max((iou(box, own), k) for k, own in enumerate(objects))
                accepted += [score >= threshold] * bool(overlap >= 0.5 and names[hit] == name)
            shares[name] += [np.mean(accepted)] if accepted else []
    got = told["by_class"]
    assert {*got} == {name for name, own in shares.items() if own} >= {"white"}
    for name, row in got.items():
        assert (row["images"], row["role"]) == (len(shares[name]), "unknown" if name == "white" else "negative")
        assert row["accepted"] == pytest.approx(np.mean(shares[name]), abs=2e-2)


def test_the_table_and_the_saved_model_say_the_same(run):
    _, directory = run
    rows, split = judged(directory, "test"), splits(3).test
    with open(directory / "predictions.csv", encoding="utf-8") as file:
        lines = [*csv.DictReader(file)]
    assert len(lines) == sum(answer["num_detections"] for answer, *_ in rows)
    served = tf.saved_model.load(str(directory / "saved_model" / "1")).signatures["serving_default"]
    names = {0: "red", 1: "green", NEGATIVE: "background", UNKNOWN: "unknown", IGNORE: "ignored"}
    images, start = [*split.dataset().as_numpy_iterator()], 0
    for i in (0, 1, 2, 4):
        answer, hits, *_ = rows[i]
        number = answer["num_detections"]
        start = sum(row[0]["num_detections"] for row in rows[:i])
        own = lines[start : start + number]
        assert {line["example"] for line in own} <= {split.describe(i)}
        assert [line["answer"] for line in own] == answer["class_name"].tolist()
        assert [line["hits"] for line in own] == [names[hit] for hit in hits.tolist()]
        boxes = np.array([[line[name] for name in ("x1", "y1", "x2", "y2")] for line in own], "float32")
        np.testing.assert_allclose(boxes.reshape(-1, 4), answer["boxes"], atol=1e-2)
        given = {name: value.numpy()[0] for name, value in served(images=images[i]["image"][None]).items()}
        assert given["num_detections"] == number
        np.testing.assert_allclose(given["boxes"][:number], answer["boxes"], atol=1e-2)
        np.testing.assert_array_equal(given["class_id"][:number], answer["class_id"])
    assert {image["image"].shape for image in images} == {(64, 80, 3), (128, 160, 3)}


def test_training_shows_boxes_in_an_order_that_the_seed_decides():
    model, trained = build(2), experiment()
    first, again = (next(iter(TASK.training(model, splits(3).train, trained))) for _ in range(2))
    later = next(iter(TASK.training(model, splits(3).train, trained, first_step=1)))
    assert first[0].shape == (14, 64, 80, 3)
    assert sorted(first[1]) == ["box_labels", "boxes"]
    np.testing.assert_array_equal(first[1]["boxes"], again[1]["boxes"])
    assert np.any(first[1]["boxes"] != later[1]["boxes"])
    assert UNKNOWN not in first[1]["box_labels"].numpy()
    assert TASK.validation(model, splits(3).validation, trained) is None


def test_too_few_images_are_told_before_training(tmp_path):
    with pytest.raises(ValueError, match=r"all but 2% .* needs at least 149 calibration images.* has 48"):
        experiment(fpr=0.02).run(tmp_path)
    assert not [*tmp_path.iterdir()]


def test_settings_reach_the_answers():
    own = Detection(max_detections=7, per_level=9, class_agnostic=True, sigmoid=True, largest=99, iou=0.3)
    spec = own.spec()
    assert (spec.max_detections, spec.per_level, spec.class_agnostic, spec.sigmoid) == (7, 9, True, True)
    assert (spec.max_size, spec.iou, spec.score_threshold) == ((99, 99), 0.3, 0.05)
    every = TASK.predictor(build(2), scores.log_odds, splits(3))
    assert every.image_shape == (None, None, 3)
    again = dataclasses.replace(TASK, iou=0.9, false_allowed=3)
    assert (again.with_calibration(every).spec.iou, every.spec.iou) == (0.9, 0.5)
    assert {"iou", "false_allowed", "fpr"} <= set(again.promises)
    plain = Detection().predictor(build(2), scores.log_odds, splits(3))
    large = np.random.default_rng(0).integers(0, 255, (1, 128, 160, 3)).astype("uint8")
    points = [part.model(large.astype("float32"))["points"].numpy()[0] for part in (every, plain)]
    assert [len(own) for own in points] == [80, 320]  # cells of 64 x 80, and of 128 x 160
    np.testing.assert_allclose(points[0][:2], [[8, 8, 8], [24, 8, 8]])  # in pixels of the image


def test_records_know_crowds_and_what_was_looked_for(run):
    """The first detection of red, on a crowd of green; then in an image in which nobody looked for red."""
    _, directory = run
    every, split = cplus1_keras.load(directory), splits(3).test
    every = TASK.with_calibration(every)
    number = next(
        i for i, (answer, hits, *_) in enumerate(judged(directory, "test")) if 0 in answer["known_argmax"][hits < 0]
    )
    plain = split.subset([number])
    crowd = dataclasses.replace(plain.source.boxes, crowd=np.ones(plain.source.boxes.counts[0], bool))
    looked = dataclasses.replace(plain.source.boxes, neg_categories=((1, 2, 3, 4),), not_exhaustive=((0,),))
    found = []
    for boxes in (plain.source.boxes, crowd, looked):
        own = split.subset([number])
        own.source.boxes = boxes
        (record,) = TASK.records(every, own, experiment())
        found.append(record)
    first, second, third = found
    assert {*second.labels.tolist()} <= {NEGATIVE, IGNORE}
    assert {*second.more["object_labels"].tolist()} == {IGNORE}
    assert second.more["object_classes"].tolist() == plain.class_labels[plain.source.boxes.values].tolist()
    red = first.predictions == 0
    assert third.more["unjudged"].tolist() == [0]
    np.testing.assert_array_equal(third.labels, np.where(red & (first.labels != 0), IGNORE, first.labels))
    assert np.any(third.labels != first.labels)
    objects = detection.Objects(every, samples=0)
    objects.update(second)
    assert objects.scores.images[0].classes.tolist() == second.more["object_classes"].tolist()
    objects.update(third)
    assert objects.scores.images[1].ignored[red & (third.labels != 0)].all()
