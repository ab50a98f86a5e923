"""What every task takes from `Task`: its checks before a training, who gets which setting, records, answers."""

import re
import types
from unittest import mock

import keras
import numpy as np
import pytest

from cplus1_keras import OpenSetModel, data, heads, losses, metrics, plots, scores, serving
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.tasks import Classification, MultiLabel, Record, Segmentation, Task
from cplus1_keras.tasks import task as module

KNOWNS, NEGATIVES = losses.CrossEntropyLoss(), losses.EntropicOpenSetLoss()


def settings(**more):
    """What a task reads of an experiment, nothing of it a default."""
    given = {"batch_size": 5, "seed": 17, "loss": NEGATIVES, "score": scores.max_logit, "name": "some"}
    given |= {"sampling": "repeat_factor", "repeat_threshold": 0.4}
    given |= {"fpr": 0.2, "coverage": 0.7, "confidence": 0.9, "steps": 12, "patience": None}
    return types.SimpleNamespace(**{**given, **more})


def net(num_classes=2, shape=(4, 6, 1)):
    pixels = keras.Input(shape)
    return OpenSetModel(pixels, heads.LinearHead(num_classes)(keras.layers.Flatten()(pixels)))


@pytest.fixture(scope="module")
def splits():
    """Images of 4 x 6 pixels: two known classes, a negative and an unknown one, 30 of each."""
    rng = np.random.default_rng(0)
    images, classes = rng.integers(0, 256, (120, 4, 6, 1)).astype("uint8"), np.arange(120) % 4
    source = data.sources.arrays(images, labels=classes, class_names=("a", "b", "c", "d"))
    protocol = data.Protocol(known=("a", "b"), negative=("c",), unknown=("d",), name="letters")
    return data.split(protocol, source, validation_fraction=0.1, calibration_fraction=0.4)


AUGMENT = data.augment.random_flip()
ORDER = {"seed": 17, "first_step": 9, "sampling": "repeat_factor", "repeat_threshold": 0.4}
SIZE = {"image_size": (4, 6), "channels": 1}


@pytest.mark.parametrize(
    ("task", "loss", "wanted"),
    [
        (Task(), NEGATIVES, SIZE),
        (Classification(AUGMENT, 0.25), NEGATIVES, {**SIZE, "augment": AUGMENT, "negative_fraction": 0.25}),
        (Classification(AUGMENT, 0.25), KNOWNS, {**SIZE, "augment": AUGMENT, "negative_fraction": 0}),
        (MultiLabel(AUGMENT), KNOWNS, {**SIZE, "augment": AUGMENT}),
    ],
)
def test_training_gets_the_settings(splits, monkeypatch, task, loss, wanted):
    training = mock.Mock()
    monkeypatch.setattr(data, "training", training)
    batches = task.training(net(), splits.train, settings(loss=loss), first_step=9)
    assert batches is training.return_value
    assert training.mock_calls == [mock.call(splits.train, 5, **wanted, **ORDER)]
    task.training(net(), splits.train, settings(loss=loss))
    assert training.mock_calls[1].kwargs["first_step"] == 0


@pytest.mark.parametrize(
    ("task", "wanted"),
    [
        (Segmentation(64), (64, (0.5, 2.0), ("the pairs", None, True))),
        (Segmentation((64, 32), (9, 8), False, (1, 2)), ((64, 32), (1, 2), ("the pairs", (9, 8), False))),
    ],
)
@pytest.mark.parametrize("weights", [None, lambda pixels: ("weights of", pixels)])
def test_training_on_masks_gets_the_settings(monkeypatch, task, wanted, weights):
    training, standard = mock.Mock(), mock.Mock()
    monkeypatch.setattr(data, "training", training)
    monkeypatch.setattr(data.augment, "standard", standard)
    monkeypatch.setattr(data, "pixel_counts", lambda split: ("pixels of", split))
    object.__setattr__(task, "class_weights", weights)
    split = mock.Mock(mirror="the pairs")
    assert task.training(net(shape=(4, 6, 3)), split, settings(), first_step=9) is training.return_value
    crop, ratio, (mirror, base, keep_ratio) = wanted
    assert standard.mock_calls == [mock.call(crop, ratio, mirror=mirror, base=base, keep_ratio=keep_ratio)]
    more = {"channels": 3, "augment": standard.return_value}
    more["class_weights"] = None if weights is None else ("weights of", ("pixels of", split))
    assert training.mock_calls == [mock.call(split, 5, **more, **ORDER)]
    task.training(net(shape=(4, 6, 3)), split, settings())
    assert training.mock_calls[1].kwargs["first_step"] == 0


@pytest.mark.parametrize(("replicas", "count", "left"), [(1, 7, 7), (2, 7, 6), (4, 7, 4), (8, 7, None), (1, 0, None)])
def test_validation_shares_its_images_among_the_replicas(splits, replicas, count, left):
    model = types.SimpleNamespace(
        distribute_strategy=types.SimpleNamespace(num_replicas_in_sync=replicas), input_shape=(None, 4, 6, 1)
    )
    split = splits.validation.subset(range(count))
    batches = Task().validation(model, split, settings())
    if left is None:
        assert batches is None
        return
    numbers = [len(images) for images, _ in batches]
    assert numbers == [5] * (left // 5) + [left % 5] * bool(left % 5)
    np.testing.assert_array_equal(np.concatenate([own for _, own in batches]), split.labels[:left])


def test_what_is_checked_before_a_training(splits, monkeypatch):
    monkeypatch.setattr(Task, "check_files", mock.Mock())
    monkeypatch.setattr(Task, "check_copies", mock.Mock())
    monkeypatch.setattr(Task, "check_rate", mock.Mock())
    task, given = Task(), settings()
    task.check(given, splits)
    Task.check_files.assert_called_once_with(splits, 32)
    Task.check_copies.assert_called_once_with(splits)
    Task.check_rate.assert_called_once_with(given, splits.calibration)
    some = types.SimpleNamespace(test=splits.test, validation=splits.validation, calibration=None)
    some.protocol, some.train = mock.Mock(), mock.Mock(has_negatives=False, source=mock.Mock(kind="class"))
    some.protocol.name = "plain"
    with pytest.raises(ValueError, match=r"\['entropic_open_set'\] learns from negatives.*'plain'"):
        task.check(given, some)
    with pytest.raises(ValueError, match=r"\['magnitude'\] learns"):
        task.check(settings(loss=KNOWNS + 0.1 * losses.MagnitudeLoss(9.0)), some)
    task.check(settings(loss=KNOWNS), some)
    task.check(settings(loss=KNOWNS, patience=3), some)
    some.validation = []
    with pytest.raises(ValueError, match=r"`patience` watches the validation split, which is empty.*patience=3"):
        task.check(settings(loss=KNOWNS, patience=3), some)
    strange = splits.test.subset(np.flatnonzero(splits.test.labels < 0))
    for test in (splits.test.subset([]), strange):
        some.test = test
        with pytest.raises(ValueError, match=f"no image of a known class.*Received: {len(test)} test images"):
            task.check(settings(loss=KNOWNS), some)
    some.train.source.kind = "mask"
    some.test = strange  # masks tell when they are read
    task.check(settings(loss=KNOWNS), some)
    with pytest.raises(ValueError, match=r"Classification needs a source of kind 'class', one class .* kind 'mask'"):
        Classification().check(settings(loss=KNOWNS), some)
    few = settings(steps=None, batch_size=10**6)
    with pytest.raises(ValueError, match="no batch of 1000000"):
        task.check(few, splits)
    task.check(settings(steps=12, batch_size=10**6), splits)


@pytest.mark.parametrize(("count", "told"), [(1, []), (5, []), (6, ["... and 1 more"]), (1234, ["... and 1,229 more"])])
def test_five_problems_of_files_are_told(monkeypatch, count, told):
    files, seen = mock.MagicMock(), []
    monkeypatch.setattr(data, "check", lambda *given: seen.append(given) or [f"problem {i}" for i in range(count)])
    with pytest.raises(ValueError, match="problem 0") as found:
        Task().check_files([files], 7)
    assert seen == [([files], 7)]
    assert str(found.value).splitlines() == [f"problem {i}" for i in range(min(count, 5))] + told
    monkeypatch.setattr(data, "check", lambda *given: [])
    Task().check_files([files])


@pytest.mark.parametrize(("seconds", "told"), [(3, ""), (3.5, "Looking at 120 images took 4 s.\n")])
def test_a_long_look_at_the_files_is_told(splits, monkeypatch, capsys, seconds, told):
    monkeypatch.setattr(data, "check", lambda *given: [])
    monkeypatch.setattr(module.time, "monotonic", iter([10.0, 10 + seconds]).__next__)
    Task().check_files(splits)
    assert capsys.readouterr().out == told


FEW, MANY = (1, 100, False), (2, 100, True)


@pytest.mark.parametrize(("number", "images", "refused"), [(0, 100, False), FEW, MANY, (2, 200, False)])
def test_copies_of_training_images_are_told(monkeypatch, capsys, number, images, refused):
    copies = [(f"train: a{i}", f"validation: b{i}", f"test: c{i}") for i in range(number)]
    monkeypatch.setattr(data, "find_copies", lambda splits, decode: [*copies, ("validation: d", "test: e")])
    splits = [mock.MagicMock(__len__=lambda self, n=n: n) for n in (1, 1000, images)]
    for split, name in zip(splits, ("train", "validation", "test"), strict=True):
        split.name = name
    if refused:
        with pytest.raises(ValueError, match=r"2 images train .* such as train: a0 = .*They are 2\.0% of test, whose"):
            Task().check_copies(splits)
        return
    Task().check_copies(splits)
    told = capsys.readouterr().out
    assert told.startswith(f"Note: {number} images train and are in another split") if number else not told


def split_of(groups, own):
    return types.SimpleNamespace(groups=groups, labels=own)


def images(count, *own):
    """One image with one label for each of `own`, so often."""
    return split_of([str(i) for i in range(count * len(own))], np.array([*own] * count))


def maps(count, *own):
    return split_of([str(i) for i in range(count)], np.array([own] * count))


@pytest.mark.parametrize(
    ("split", "needed", "kind"),
    [
        # At 20 % and 90 %: single decisions need ln 0.1 / ln 0.8 = 10.3 images, many decisions in each 14.
        (lambda n: images(n, NEGATIVE, 0, UNKNOWN, IGNORE), 11, "negative labels"),
        # Without negatives at a coverage of 70 %: ln 0.1 / ln 0.7 = 6.5.
        (lambda n: images(n, 0, UNKNOWN, IGNORE), 7, "known labels"),
        (lambda n: maps(n, NEGATIVE, NEGATIVE, 0), 14, "negative labels"),
        (lambda n: maps(n, NEGATIVE, 0, 0), 11, "negative labels"),
        (lambda n: maps(n, 0, 1, UNKNOWN), 9, "known labels"),
        # Two images of one video are one group of two decisions.
        (lambda n: split_of(np.repeat([str(i) for i in range(n)], 2), np.full(2 * n, NEGATIVE)), 14, "negative labels"),
    ],
)
def test_calibration_images_are_counted(split, needed, kind):
    Task().check_rate(settings(), split(needed))
    rate = "0.2" if kind.startswith("negative") else "0.3"
    with pytest.raises(ValueError, match=f"rate of {rate} and 90% .* at least {needed} .*{kind}; .* has {needed - 1}"):
        Task().check_rate(settings(), split(needed - 1))


def test_calibration_images_are_counted_by_their_unit():
    with pytest.raises(ValueError, match="at least 7 calibration images with known labels; the split has 0"):
        Task().check_rate(settings(), images(0, 0))
    with pytest.raises(ValueError, match="images with negative pixels; the split has 2"):
        Segmentation().check_rate(settings(), maps(2, NEGATIVE, NEGATIVE))


def test_labels_of_masks_are_read():
    masks = np.random.default_rng(0).integers(0, 3, (5, 4, 4)).astype("uint8")
    source = data.sources.arrays(np.zeros((5, 4, 4, 1), "uint8"), masks=masks, class_names=("a", "b", "c"))
    protocol = data.Protocol(known=("a", "b"), negative=("c",))
    split = data.split(protocol, source.subset([0]), source.subset(range(1, 5))).test
    np.testing.assert_array_equal(list(Task().labels(split)), np.array([0, 1, NEGATIVE])[masks[1:]])


def test_watched_figures(splits):
    def watched(task, model, loss):
        return {output: [type(m) for m in own] for output, own in task.metrics(model, settings(loss=loss), 2).items()}

    known = metrics.KnownAccuracy
    assert watched(Task(), net(), NEGATIVES) == watched(Classification(), net(), NEGATIVES) == {"logits": [known]}
    for background in (False, True):
        pixels = keras.Input((None, None, 3))
        model = keras.Model(pixels, heads.LinearHead(2, background=background)(pixels))
        (own,) = Segmentation().metrics(model, settings(), 2)["logits"]
        assert own.num_classes == 2 + background


def test_a_predictor_accepts_everything_until_it_is_calibrated(splits):
    every = Task().predictor(net(), scores.max_logit, splits)
    assert (every.reject.threshold.numpy(), every.reject.score) == (-np.inf, scores.max_logit)
    assert (every.class_names, every.spec) == (["a", "b"], serving.ImageSpec())
    found = types.SimpleNamespace(threshold=0.5)
    calibrated = Task().with_calibration(every, found)
    assert (calibrated.reject.threshold.numpy(), calibrated.reject.score) == (0.5, scores.max_logit)
    assert (calibrated.calibration, calibrated.model, calibrated.spec) == (found, every.model, every.spec)
    assert Task().with_calibration(calibrated).reject.threshold.numpy() == -np.inf


def test_images_are_judged_in_batches_of_the_models_size(splits):
    every = Task().predictor(net(shape=(5, 5, 3)), scores.max_logit, splits)
    batches = [own.shape for own, _ in Task().images(every, splits.test.subset(range(7)), settings())]
    assert batches == [(5, 5, 5, 3), (2, 5, 5, 3)]
    assert Task().samples(every, splits.test, settings()).shape == (5, 5, 5, 3)
    free = types.SimpleNamespace(image_shape=(None, None, 3))
    assert [own.shape for own, _ in Task().images(free, splits.test.subset([0, 3]), settings())] == [(1, 4, 6, 3)] * 2


def test_an_image_without_a_score_is_named(splits):
    every = Task().predictor(net(), scores.max_logit, splits)
    split = splits.test.subset(range(9))
    plain = list(Task().answers(every, split, settings()))
    assert [int(y) for y, _ in plain] == split.labels.tolist()
    answers = every.predict(np.stack([example["image"] for example in split.dataset().as_numpy_iterator()]))
    np.testing.assert_allclose([own["score"] for _, own in plain], answers["score"], rtol=1e-5)
    real, number = every.predict, iter((0, 1))

    def broken(given):
        answer = real(given)
        answer["valid"][2] &= next(number) == 0
        return answer

    every.predict = broken
    with pytest.raises(ValueError, match=re.escape(f"{split.describe(7)} has no score")):
        list(Task().answers(every, split, settings()))


def test_a_record_is_of_one_image(splits):
    every = Task().predictor(net(), scores.max_logit, splits)
    split = splits.test.subset(range(6))
    for index, record in enumerate(Task().records(every, split, settings())):
        answer = record.more
        assert (record.labels, record.group) == (split.labels[index], split.groups[index])
        assert (record.predictions, record.scores) == (answer["class_id"], answer["score"])


def test_thresholds_get_the_rates_and_the_names(monkeypatch):
    made = mock.Mock()
    monkeypatch.setattr(module.calibration, "calibrate", made.calibrate)
    monkeypatch.setattr(module.calibration, "calibrate_classes", made.calibrate_classes)
    for task in (Task, MultiLabel):
        monkeypatch.setattr(task, "records", lambda task, *given: ("records of", *given))
    predictor = mock.Mock(class_names=["a", "b"])
    assert Task().calibrate(predictor, "split", settings()) is made.calibrate.return_value
    records = "records of", predictor, "split", settings()
    assert made.mock_calls == [mock.call.calibrate(records, 0.2, 0.7, 0.9, score="max_logit")]
    assert MultiLabel().calibrate(predictor, "split", settings()) is made.calibrate_classes.return_value
    names = {"class_names": ["a", "b"]}
    made.calibrate_classes.assert_called_once_with(records, 0.2, 0.9, "log_odds", **names)


def test_a_split_is_judged_in_one_pass(splits, monkeypatch):
    given = [Record(np.int32(y), np.int32(0), np.float32(s), "") for y, s in ((0, 2), (1, 1), (UNKNOWN, 0))]
    monkeypatch.setattr(Task, "records", lambda *arguments: iter(given))
    own = mock.Mock()
    own.result.return_value = "its own"
    monkeypatch.setattr(Task, "figures", lambda *arguments: {"mine": own})
    figures, judged = Task().judge("predictor", splits.test, settings())
    assert (figures["images"], figures["mine"]) == (3, "its own")
    assert "at_threshold" not in figures
    assert own.update.mock_calls == [mock.call(record) for record in given]
    assert figures["open_set"]["unknown"]["auroc"] == 1.0
    assert judged.arrays[2].tolist() == [2, 1, 0]


def test_curves_of_all_groups_are_drawn(monkeypatch, tmp_path):
    judged, drawn = mock.Mock(groups=["negative", "unknown"], curve=lambda group: f"of {group}"), mock.Mock()
    monkeypatch.setattr(plots, "oscr", drawn)
    given = tmp_path, "predictor", "split", settings(), {}
    assert Task().write(*given, judged) == ["oscr.png"]
    assert drawn.mock_calls[0] == mock.call(
        {"negative": "of negative", "unknown": "of unknown"}, title="some: OSCR over the test's images"
    )
    drawn.return_value.savefig.assert_called_once_with(tmp_path / "oscr.png")
    assert Task().write(*given, mock.Mock(groups=[])) == []
    assert drawn.call_count == 1


def test_steps_and_sizes(splits):
    count = len(splits.train)
    usual, often = settings(sampling=None), settings(repeat_threshold=1.0)  # a third of 27 images are of each class
    assert Task().steps_per_epoch(splits.train, usual) == count // 5
    knowns = int((splits.train.labels >= 0).sum())
    assert Classification(negative_fraction=0.5).steps_per_epoch(splits.train, usual) == 2 * knowns // 5
    repeated = int(np.ceil(knowns * 3**0.5))
    assert Task().steps_per_epoch(splits.train, often) == int(np.ceil(knowns * 3**0.5 + count - knowns)) // 5
    assert Classification(negative_fraction=0.5).steps_per_epoch(splits.train, often) == 2 * repeated // 5
    plain = settings(loss=KNOWNS, sampling=None)
    assert Classification(negative_fraction=0.5).steps_per_epoch(splits.train, plain) == knowns // 5
    assert module.image_format(net()) == SIZE
