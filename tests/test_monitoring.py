"""What TensorBoard shows of a training, asked over HTTP as a browser does, against figures counted from predictions."""

import io
import json
import math
import random
import sys
import time
import urllib.parse
import urllib.request
import warnings
from unittest import mock

import keras
import numpy as np
import pytest
from PIL import Image

if keras.backend.backend() != "tensorflow":
    pytest.skip("TensorBoard is TensorFlow's part", allow_module_level=True)

import tensorflow as tf
from tensorboard import program

from cplus1_keras import OpenSetModel, calibration, heads, layers, losses, metrics, monitoring, plots, scores
from cplus1_keras.monitoring import OpenSetMonitor, batches, geometry, pictures, runs, sample, timing
from cplus1_keras.tasks import Record

NAMES = ["$cat", "dog", "eel"]


def data(seed, number=48, kinds=(0, 1, 2, -1)):
    """Bright quarters of images of 8 x 8 pixels, one for each class; strangers have two."""
    generator = np.random.default_rng(seed)
    labels = np.resize(kinds, number).astype("int32")
    images = generator.uniform(0, 90, (number, 8, 8, 3)).astype("float32")
    for image, label in zip(images, labels, strict=True):
        for k in [label] if label >= 0 else [0, label]:
            image[4 * (k // 2 % 2) :][:4, 4 * (k % 2) :][:, :4] += generator.uniform(30, 160)
    return images, labels


def network(head=heads.CAMHead, **settings):
    images = keras.Input((8, 8, 3))
    maps = keras.layers.Conv2D(6, 3, 2, "same", activation="relu")(images / 128)
    return OpenSetModel(images, head(3, **settings)(maps))


def compiled(model, loss=None, metrics=None):
    model.compile(keras.optimizers.Adam(1e-2), loss or losses.EntropicOpenSetLoss(), metrics=metrics)
    return model


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model that was watched for three epochs, and the folder of its logs."""
    keras.utils.set_random_seed(2)
    loss = losses.EntropicOpenSetLoss() + 0.01 * losses.MagnitudeLoss(radius=5.0)
    model, logs = compiled(network(), loss, {"logits": [metrics.KnownAccuracy(3)]}), tmp_path_factory.mktemp("logs")
    images, labels = data(0)
    watch = OpenSetMonitor(
        data(1),
        logs,
        NAMES,
        scores.energy,
        others={"test": data(2, 50, (0, 1, 2, -1, -2))},
        calibrate=lambda records: calibration.calibrate(records, fpr=0.5, coverage=0.95, confidence=0.8),
        sample=(images[:8], labels[:8]),
        batch_size=16,
        hparams={"loss": "entropic", "rate": 0.25},
        share=math.inf,
    )
    history = model.fit(images, labels, batch_size=16, epochs=3, callbacks=[watch], verbose=0).history
    return model, logs, history


@pytest.fixture(scope="module")
def ask(trained):
    """A function that asks TensorBoard itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 2026-11-21: TensorBoard 2.21's own copy of html5lib
        board = program.TensorBoard()  # imported here, being lazy
        board.configure(argv=[None, "--logdir", str(trained[1]), "--port", "0", "--load_fast", "false"])
        url = board.launch()

    def get(path, body=None, **query):
        query = {"run": "monitor", **query} if "/tags" not in path and body is None else query
        request = f"{url}data/plugin/{path}?{urllib.parse.urlencode(query)}"
        given = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(request, given, headers)) as answer:
            told = answer.read()
        return json.loads(told) if answer.headers.get_content_type() == "application/json" else told

    return get


def answers(model, images):
    outputs = {name: np.asarray(value) for name, value in model.predict(images, verbose=0).items()}
    return outputs, outputs["logits"].argmax(axis=-1), np.asarray(scores.energy(outputs, 3))


def test_scalars_are_those_of_the_predictions(trained, ask):
    model, _, history = trained
    images, labels = data(1)
    _, predictions, found = answers(model, images)
    wanted = {
        "accuracy": metrics.closed_set_accuracy(labels, predictions),
        "auroc_negative": metrics.auroc(labels, found, "negative"),
        "open_auc_negative": metrics.open_auc(labels, predictions, found, "negative"),
        "ccr_at_fpr_0.1_negative": metrics.ccr_at_fpr(labels, predictions, found, 0.1, "negative"),
    }
    negative = found[labels == -1]
    wanted["threshold"] = calibration.threshold_at_fpr(negative, 0.5, 0.8).threshold
    wanted |= {name: value for name, value in model.evaluate(images, labels, verbose=0, return_dict=True).items()}
    for name, value in wanted.items():
        told = ask("scalars/scalars", tag=f"validation/{name}")
        assert [step for _, step, _ in told] == [0, 1, 2]
        assert told[-1][2] == pytest.approx(value, rel=1e-5), name
        if name not in ("accuracy", "threshold"):
            assert history[f"val_{name}"][-1] == pytest.approx(value, rel=1e-5)
    # 12 negatives cannot tell a rate of 1 %.
    tags = set(ask("scalars/tags")["monitor"])
    assert "validation/ccr_at_fpr_0.01_negative" not in tags
    assert {"validation/magnitude", "gradient_ratio/magnitude", "speed/images_per_second"} <= tags


def test_what_is_told_of_unknowns_is_not_for_selection(trained, ask):
    model, _, history = trained
    images, labels = data(2, 50, (0, 1, 2, -1, -2))
    _, _, found = answers(model, images)
    told = ask("scalars/scalars", tag="not for selection (test)/auroc_unknown")
    assert told[-1][2] == pytest.approx(metrics.auroc(labels, found, "unknown"), rel=1e-5)
    unknown = {tag for tag in ask("scalars/tags")["monitor"] if "unknown" in tag}
    assert unknown
    assert all(tag.startswith("not for selection (test)/") for tag in unknown)
    assert not [name for name in history if "unknown" in name or "test" in name]


def test_the_oscr_curve_is_among_the_pr_curves(trained, ask):
    images, labels = data(1)
    _, predictions, found = answers(trained[0], images)
    curve = metrics.oscr(labels, predictions, found, "negative")
    told = ask("pr_curves/pr_curves", tag="validation/oscr_negative/pr_curves")["monitor"][-1]
    np.testing.assert_allclose(told["recall"], curve.fpr, rtol=1e-5)
    np.testing.assert_allclose(told["precision"], curve.ccr, rtol=1e-5)
    np.testing.assert_allclose(told["true_positives"], curve.ccr * 36, atol=1)
    np.testing.assert_allclose(told["false_positives"], curve.fpr * 12, atol=1)


def test_histograms_are_of_scores_norms_and_angles_by_group(trained, ask):
    model, _, _ = trained
    images, labels = data(1)
    outputs, predictions, found = answers(model, images)
    kernel = np.asarray(model.layers[-1].kernel).T
    angles = geometry.angles(outputs["features"], kernel, np.where(labels >= 0, labels, predictions))
    norms = np.linalg.norm(outputs["features"], axis=1)
    for figure, values in {"score": found, "feature_norm": norms, "angle": angles}.items():
        for group, inside in {"known": labels >= 0, "negative": labels == -1}.items():
            (_, step, bins) = ask("histograms/histograms", tag=f"validation/{figure}/{group}")[-1]
            assert step == 2
            assert sum(count for *_, count in bins) == inside.sum()
            assert bins[0][0] == pytest.approx(values[inside].min(), rel=1e-4)
            assert bins[-1][1] == pytest.approx(values[inside].max(), rel=1e-4)


def test_pictures_open(ask):
    wanted = {f"validation/{name}" for name in ("oscr", "features", "activation_maps", "worst_mistakes")}
    assert wanted <= set(ask("images/tags")["monitor"])
    for tag in wanted:
        told = ask("images/images", tag=tag, sample=0)
        assert len(told) == 3
        shown = Image.open(io.BytesIO(ask("images/individualImage", **dict(urllib.parse.parse_qsl(told[-1]["query"])))))
        assert shown.format == "PNG"
        assert min(shown.size) >= 200


def test_the_projector_has_features_names_and_pictures(trained, ask):
    images, labels = data(1)
    outputs, predictions, _ = answers(trained[0], images)
    (shown,) = ask("projector/info")["embeddings"]
    assert shown["tensorShape"] == [48, 6]
    tensor = np.frombuffer(ask("projector/tensor", name="features"), "float32").reshape(48, 6)
    np.testing.assert_allclose(tensor, outputs["features"], rtol=1e-4)
    header, *rows = ask("projector/metadata", name="features").decode().splitlines()
    assert header.split("\t") == ["true class", "prediction", "score"]
    names = dict(enumerate(NAMES)) | {-1: "negative"}
    assert [row.split("\t")[:2] for row in rows] == [
        [names[k], names[p]] for k, p in zip(labels.tolist(), predictions.tolist(), strict=True)
    ]
    sprite = np.asarray(Image.open(io.BytesIO(ask("projector/sprite_image", name="features"))))
    side, (height, width) = sample.SIDE, shown["sprite"]["singleImageDim"]
    assert (height, width, sprite.shape) == (side, side, (7 * side, 7 * side, 3))
    tenth = Image.fromarray(np.round(images[9]).astype("uint8")).resize((side, side), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(sprite[side : 2 * side, 2 * side : 3 * side], tenth)


def test_settings_are_on_the_page_of_hyperparameters(ask):
    asked = {
        "experimentName": "",
        "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_RUNNING"],
        "sliceSize": 5,
        "startIndex": 0,
    }
    told = ask("hparams/session_groups", asked)
    (group,) = told["sessionGroups"]
    assert group["hparams"] == {"loss": "entropic", "rate": 0.25}


def fit(model, x, y, **settings):
    watch = OpenSetMonitor(**{"directory": settings.pop("logs"), "share": math.inf, "validation": (x, y), **settings})
    return model.fit(x, y, batch_size=8, epochs=2, callbacks=[watch], verbose=0, shuffle=False).history


def tags(logs):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(logs / "monitor"), size_guidance={"tensors": 0}).Reload().Tags()["tensors"]


def test_nothing_changes_for_the_training(tmp_path):
    """Weights to the bit, and the global random numbers of Python and NumPy."""
    weights = []
    for watched in (False, True):
        keras.utils.set_random_seed(5)
        images = keras.Input((8, 8, 3))
        x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(images / 128))
        centers = layers.MovingAverageCenters(3)
        head = heads.LinearHead(3, background=True)
        loss = losses.BackgroundCrossEntropyLoss() + 0.1 * losses.CompactnessLoss()
        model = compiled(OpenSetModel(images, centers(head(keras.layers.Dense(5)(x)))), loss)
        before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        watch = OpenSetMonitor(data(1), tmp_path, sample=data(0, 8), share=math.inf)
        model.fit(*data(0), batch_size=8, epochs=2, callbacks=[watch] * watched, verbose=0, shuffle=False)
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert "validation/features" in tags(tmp_path)


def test_pixels_under_stock_fit(tmp_path):
    images = keras.Input((8, 8, 3))
    maps = keras.layers.Conv2D(4, 3, 2, "same")(images / 128)
    outputs = heads.LinearHead(3, background=True)(maps)
    outputs["logits"] = (
        layers.ResizeLogits()(outputs["logits"], images)
        if hasattr(layers, "ResizeLogits")
        else (keras.layers.UpSampling2D(2)(outputs["logits"]))
    )
    model = compiled(OpenSetModel(images, outputs), losses.BackgroundCrossEntropyLoss())
    x, y = data(0)
    y = np.broadcast_to(y[:, None, None], (48, 8, 8)).copy()
    y[:, 0] = -100
    history = fit(model, x, y, logs=tmp_path, class_names=NAMES)
    logits = model.predict(x, verbose=0)["logits"]
    wanted = metrics.auroc(y, np.asarray(scores.log_odds({"logits": logits}, 3)), "negative")
    assert history["val_auroc_negative"][-1] == pytest.approx(wanted, abs=1e-4)
    assert {"validation/images/0", "validation/features", "validation/worst_mistakes"} <= {*tags(tmp_path)}


def test_label_sets_under_stock_fit(tmp_path):
    x, labels = data(0)
    sets = (labels[:, None] == np.arange(3)).astype("int32")
    sets[5, 1] = -100
    loss = losses.MultiLabelCrossEntropyLoss()
    history = fit(compiled(network(), loss), x, {"multi_hot": sets}, logs=tmp_path, class_names=NAMES)
    assert {"val_auroc_negative", "val_loss"} <= set(history)
    assert {"validation/activation_maps", "validation/score/negative"} <= {*tags(tmp_path)}
    assert "validation/accuracy" not in tags(tmp_path)  # of each class alone it would be 1


def test_without_negatives_or_features_there_is_less(tmp_path):
    x, y = data(0, kinds=(0, 1, 2))
    images = keras.Input((192,))
    model = OpenSetModel(images, {"logits": keras.layers.Dense(3)(images)})
    compiled(model, losses.CrossEntropyLoss())
    with pytest.raises(ValueError, match="`class_names` are needed"):
        fit(model, x.reshape(48, -1), y, logs=tmp_path)
    history = fit(model, x.reshape(48, -1), y, logs=tmp_path, class_names=NAMES)
    assert set(history) == {"loss", "val_loss"}
    assert {"validation/accuracy", "validation/score/known"} <= {*tags(tmp_path)}


def test_pictures_need_no_display(tmp_path, monkeypatch):
    """Nor what matplotlib's own state would take one for; that state stays as it is."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("MPLBACKEND", "tkagg")
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # to import it is an error
    fit(compiled(network()), *data(0), logs=tmp_path)  # a picture that fails warns, which is an error in tests
    assert {"validation/oscr", "validation/features", "validation/worst_mistakes"} <= {*tags(tmp_path)}


def test_a_picture_that_fails_is_told_once_and_training_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "oscr", lambda *given: 1 / 0)
    monkeypatch.setattr(plots, "features", lambda *given, **more: 1 / 0)
    with pytest.warns(UserWarning, match="TensorBoard lacks validation/oscr, .* goes on. ZeroDivisionError") as told:
        history = fit(compiled(network()), *data(0), logs=tmp_path)
    assert len([own for own in told if "TensorBoard lacks" in str(own.message)]) == 1
    assert len(history["val_loss"]) == 2
    assert "validation/worst_mistakes" in tags(tmp_path)


def test_a_sample_that_fails_is_told_and_training_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "thumbnail", lambda record, place: 1 / 0)
    with pytest.warns(UserWarning, match="TensorBoard lacks samples of images, .* goes on. ZeroDivisionError"):
        history = fit(compiled(network()), *data(0), logs=tmp_path)
    assert len(history["val_loss"]) == 2


def test_images_with_and_without_features_are_one_sample():
    """Some of a pass may be cut into tiles, which have none."""
    some = sample.Sample(["cat"])
    for features in (np.ones((1, 1, 3)), None):
        more = {} if features is None else {"features": features}
        some.update(Record(np.zeros((2, 2), int), np.zeros((2, 2), int), np.ones((2, 2)), "", more))
    assert {*some.arrays()} == {"label", "prediction", "score"}


def test_data_that_cannot_be_judged_is_an_error(tmp_path):
    def records():
        yield Record(np.array(0), np.array(0), np.array(np.nan), "")

    for calibrate in (None, list):
        with pytest.raises(FloatingPointError, match="NaN"):
            fit(compiled(network()), *data(0), logs=tmp_path, validation=records, calibrate=calibrate)
    with pytest.raises(ValueError, match=r"must be above 0\. Received: share=0"):
        OpenSetMonitor(None, tmp_path, share=0)


def test_drawing_keeps_its_share_by_turns(monkeypatch):
    """Looks count, and are made only where at least as much time is left to draw in."""
    clock = [100.0]
    monkeypatch.setattr(timing.time, "monotonic", lambda: clock[0])
    budget, drawn, looks = timing.Budget(0.1), [], []
    budget.begin()
    costs = {"a": 0.5, "b": 2.0, "c": 0.25}

    def draw(name):
        drawn.append((name, clock[0]))
        clock[0] += costs[name]

    shares = []
    for _ in range(200):
        clock[0] += 1.0
        if budget.due():
            looks.append(len(drawn))
            clock[0] += 0.4
            budget.spend(0.4)
            budget.draw({name: lambda name=name: draw(name) for name in costs})
        shares.append(budget.spent / (clock[0] - 100 - budget.spent))
    assert [name for name, _ in drawn[:7]] == ["a", "b", "c", "a", "b", "c", "a"]
    assert drawn[0][1] == pytest.approx(112.8)  # 12 seconds afford 0.4 spent, 0.4 for a look, as much to draw
    assert max(shares[60:]) <= 0.1
    assert shares[-1] > 0.08
    assert min(np.diff([*looks[1:], len(drawn)])) >= 1  # but for the first look, whose cost nothing told, none in vain
    assert sum(costs[name] for name, _ in drawn) >= 0.4 * (len(looks) - 1)


def test_some_of_a_stream_is_evenly_spaced():
    some = sample.Spaced(3)
    for number in range(50):
        some.offer(lambda number=number: number)
    assert some.items == [0, 16, 32, 48]


def test_samples_of_pixels_are_at_the_centres_of_cells():
    labels = np.full((6, 9), -100)
    labels[1, 1], labels[4, 7], labels[1, 4] = 0, -1, -2
    features = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    places, chosen = sample.pick(Record(labels, labels, labels, "", {"features": features}), 6)
    assert [np.unravel_index(place, (6, 9)) for place in places] == [(1, 1), (4, 7), (1, 4)]
    np.testing.assert_array_equal(chosen, [features[0, 0], features[1, 2], features[0, 1]])


def test_samples_of_boxes_are_cut_from_their_image():
    image = np.zeros((20, 30, 3))
    image[5:10, 6:18] = 200
    boxes = np.array([[6.0, 5, 18, 10], [0, 0, 2, 2]])
    labels, features = np.array([1, -1]), np.eye(2)
    record = Record(
        labels, np.array([1, 0]), np.array([3.0, 4.0]), "", {"image": image, "features": features, "boxes": boxes}
    )
    kept = sample.Sample(NAMES)
    kept.update(record)
    (first, bright), (second, dark) = kept.rows
    assert (first["label"], second["label"], bright.min(), dark.max()) == (1, -1, 200, 0)
    ((_, box, text),) = kept.mistakes["negative accepted"]
    assert (box.tolist(), text) == ([0, 0, 2, 2], "negative → $cat\n4.00")


def test_objects_that_a_calibration_would_refuse_are_drawn_so(monkeypatch):
    """A predictor that watches accepts everything; hundreds of boxes would hide an image."""
    more = {"image": np.zeros((8, 8, 3)), "objects": "objects", "object_labels": "labels"}
    more |= {"class_id": np.array([2, 1, 0]), "score": np.array([1.0, 0.5, 0.25])}
    shown = mock.Mock(arrays=dict, mistakes={}, images=[Record(np.zeros(3), np.zeros(3), np.zeros(3), "", more)])
    monkeypatch.setattr(plots, "detections", lambda *given: given)
    for threshold, classes in ((0.5, [2, 1, -1]), (None, [2, 1, 0])):
        made = pictures.draw(shown, {}, None, None, NAMES, threshold, "energy")
        image, *truth, answer, names = made["images/0"]()
        assert (image is more["image"], truth, names) == (True, ["objects", "labels"], NAMES)
        assert answer["class_id"].tolist() == classes


def test_one_projection_for_all_frames(tmp_path):
    from sklearn.decomposition import PCA

    points = np.random.default_rng(0).normal(size=(40, 6)) * [5, 1, 3, 1, 1, 1]
    first = geometry.Projection(tmp_path / "plane.json")
    shown = first(points)
    wanted = PCA(2).fit(points).components_
    np.testing.assert_allclose(np.abs(first.axes), np.abs(wanted), atol=1e-6)
    again = geometry.Projection(tmp_path / "plane.json")
    np.testing.assert_allclose(again(points[:3]), shown[:3])
    assert first(2 * points)[0].tolist() == (2 * shown[0]).tolist()
    (tmp_path / "plane.json").write_text('{"half')
    np.testing.assert_allclose(geometry.Projection(tmp_path / "plane.json")(points), shown)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (lambda features: heads.EuclideanAnchorHead(np.eye(3, 6))(features), "anchors"),
        (lambda features: layers.MovingAverageCenters(3)(heads.LinearHead(3)(features)), "centres"),
        (lambda features: heads.CosineHead(3, 20.0, background=True)(features), "weights"),
    ],
)
def test_directions_of_the_classes(head, name):
    inputs = keras.Input((6,))
    told, rays = geometry.directions(OpenSetModel(inputs, head(inputs)))
    assert (told, rays.shape) == (name, (3, 6))


class Numbers(list):
    """A split that keeps which of its images were taken."""

    def subset(self, indices):
        return Numbers(self[index] for index in indices)

    @property
    def groups(self):
        return [f"of {number}" for number in self]


@pytest.mark.parametrize("given", ["batches", None])
@pytest.mark.parametrize("number", [5, 0])
def test_what_a_run_looks_at(tmp_path, monkeypatch, given, number):
    """Batches where a task has them, else its records; without a validation split a few training images."""
    monkeypatch.setattr(runs, "Watching", lambda predictor: ("watching", predictor))
    monkeypatch.setattr(runs, "list_settings", lambda experiment: ("settings of", experiment))
    task = mock.Mock()
    task.validation.return_value = given
    experiment = mock.Mock(task=task, score=scores.energy, batch_size=24)
    splits = mock.Mock(class_names=["a", "b"], validation=Numbers(range(number)), train=Numbers(range(46)))
    watch = monitoring.make_monitor("model", experiment, splits, tmp_path, "a batch")
    every = task.predictor.return_value
    task.predictor.assert_called_once_with("model", scores.energy, splits)
    name, split = ("validation", [*range(5)]) if number else ("training", [*range(0, 46, 3)])
    assert {key for key, source in watch.sources.items() if source is not None} == {name}
    task.validation.assert_called_once_with("model", split, experiment)
    if given is None:
        assert watch.sources[name]() is task.records.return_value
        task.records.assert_called_once_with(("watching", every), split, experiment)
    else:
        assert watch.sources[name] == "batches"
    told = watch.class_names, watch.score, watch.sample, watch.batch_size
    assert told == (["a", "b"], scores.energy, "a batch", 24)
    assert watch.figures() is task.watched_figures.return_value
    task.watched_figures.assert_called_once_with(every)
    records = (Record(np.array(label), None, None, "batch", {}) for label in range(4))  # the last may not fill replicas
    assert watch.calibrate(records) is task.choose_threshold.return_value
    ((one, own, *others), _) = task.choose_threshold.call_args
    assert [one, *others] == [every, split, experiment]
    assert [(int(record.labels), record.group) for record in own] == [(k, f"of {split[k]}") for k in range(4)]
    assert watch.hparams == ("settings of", experiment)
    assert watch.budget.share == 0.05


def test_waiting_for_input_is_told(tmp_path):
    """Batches that take 20 ms wait for a step of less, those that are there do not."""

    def late(*batch):
        with tf.control_dependencies([tf.py_function(lambda: time.sleep(0.02), [], [])]):
            return tf.nest.map_structure(tf.identity, batch)

    x, y = data(0)
    ready = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    shares = []
    for given in (ready.cache().prefetch(20), ready.map(late)):
        watch = OpenSetMonitor(None, tmp_path, NAMES)
        model = compiled(network())
        told = watch.watch_input(given, model)
        for (images, labels), (others, more) in zip(given, told, strict=True):
            np.testing.assert_array_equal(images, others)
            np.testing.assert_array_equal(labels, more)
        before = watch.pace.clock.seconds()
        model.fit(told, epochs=2, callbacks=[watch], verbose=0, shuffle=False)
        shares.append((watch.pace.waiting(), watch.pace.clock.seconds() - before))
    (short, _), (long, seconds) = shares
    assert 0 <= short < long <= 1
    assert seconds >= 24 * 0.02
    assert watch.watch_input([1], model) == [1]
    two = mock.Mock()
    two.distribute_strategy.num_replicas_in_sync = 2
    assert watch.watch_input(ready, two) is ready
    assert OpenSetMonitor(None, tmp_path).pace.waiting() is None


def test_batches_end_with_kerass_figures():
    model = compiled(network())
    images, labels = data(3)
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(20)
    source = batches.Batches(model, dataset, 3, scores.log_odds)
    found = [*source()]
    assert [int(record.labels) for record in found] == labels.tolist()
    assert len({record.group for record in found}) == 48
    np.testing.assert_array_equal(np.stack([record.more["image"] for record in found]), images)
    assert source.figures["loss"] == pytest.approx(model.evaluate(images, labels, verbose=0), rel=1e-5)
