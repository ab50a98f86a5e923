"""Named tensors: whose labels are whose, and what layers make of the batch before the loss reads it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import OpenSetModel, heads, layers, losses, metrics
from cplus1_keras.labels import IGNORE, NEGATIVE
from cplus1_keras.layers.hooks import find_hooks, find_prefix, name_for

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(24, 6)).astype("float32"), RANDOM.integers(-1, 3, 24)


def test_names_of_labels():
    given = {"labels": 0, "roi1_labels": 1, "roi1_multi_hot": 2, "multi_hot": 3}
    assert name_for(given, "roi1_") == name_for(given, "roi1_box_") == "roi1_labels"
    assert name_for(given, "") == name_for(given, "roi2_") == "labels"
    assert name_for(given, "roi1_", ("multi_hot", "labels")) == "roi1_multi_hot"
    assert layers.labels_for(given, "roi1_logits") == layers.labels_for(given, "roi1_box_logits") == 1
    assert layers.labels_for(given, "logits") == layers.labels_for(given, "roi2_logits") == 0
    assert layers.labels_for(given, "logits", ("multi_hot", "labels")) == 3
    with pytest.raises(ValueError, match=r"no `roi1_labels` or `roi1_multi_hot` from .*\['boxes'\]"):
        layers.labels_for({"boxes": 0}, "roi1_logits", ("labels", "multi_hot"))


def test_the_prefix_of_an_output_is_that_of_logits():
    """`box_labels` are no labels of points, whose offsets are `box_offsets`."""
    given = {"labels": 0, "box_labels": 1, "logits": 2, "box_offsets": 3}
    assert layers.labels_for(given, "box_offsets") == 0
    assert layers.labels_for({**given, "box_logits": 4}, "box_offsets") == 1
    two = {"roi1_logits": 0, "roi1_labels": 1, "roi1_box_labels": 2, "labels": 3}
    assert [find_prefix(two, name) for name in ("roi1_box_offsets", "roi2_features", "points")] == ["roi1_", "", ""]
    assert layers.labels_for(two, "roi1_box_offsets") == 1
    assert layers.labels_for(two, "roi2_box_offsets") == 3


def test_what_a_data_set_gives():
    y = {"labels": np.array([0, 1], "int64"), "roi_labels": np.array([0.5]), "multi_hot": np.array([[1]], "int8")}
    tensors = layers.named(y)
    assert {name: tensor.dtype.name for name, tensor in tensors.items()} == {
        "labels": "int32",
        "roi_labels": "float64",  # a loss refuses it
        "multi_hot": "int8",
    }
    assert list(layers.named(np.array([1]))) == ["labels"]


class Noted(layers.OpenSetLayer):
    """Writes down what is called, with the names that there are."""

    def __init__(self, log, gives=None, **kwargs):
        super().__init__(**kwargs)
        self.note, self.gives = log.append, gives or {}  # Keras would copy the list

    def update(self, labels, tensors):
        self.note((self.name, "update", int(labels), sorted(tensors)))

    def provide(self, tensors):
        self.note((self.name, "provide", sorted(tensors)))
        return self.gives


class Assigns(Noted):
    def targets(self, tensors, training):
        self.note((self.name, "targets", sorted(tensors), training))
        return {"labels": 7}


def test_the_order_of_the_hooks():
    log = []
    first, second = Noted(log, {"given": 1}, name="first"), Assigns(log, name="second")
    tensors = layers.complete([first, second], {"logits": 0, "classes": 5}, training=True)
    assert tensors == {"logits": 0, "classes": 5, "labels": 7, "given": 1}
    assert log == [
        ("second", "targets", ["classes", "logits"], True),
        ("first", "update", 7, ["classes", "labels", "logits"]),
        ("first", "provide", ["classes", "labels", "logits"]),
        ("second", "update", 7, ["classes", "given", "labels", "logits"]),
        ("second", "provide", ["classes", "given", "labels", "logits"]),
    ]
    log.clear()
    layers.complete([first, second], {"logits": 0}, training=False)
    assert [entry[1] for entry in log] == ["targets", "provide", "provide"]


def test_a_prefix_is_a_namespace():
    log = []
    given = {"logits": 0, "labels": 3, "roi1_logits": 1, "roi1_labels": 4}
    tensors = layers.complete([Noted(log, {"norms": 2}, prefix="roi1_", name="roi")], given, training=True)
    assert tensors == {**given, "roi1_norms": 2}
    assert log == [("roi", "update", 4, ["labels", "logits"]), ("roi", "provide", ["labels", "logits"])]
    with pytest.raises(ValueError, match="a name and an underscore"):
        layers.OpenSetLayer(prefix="roi1")


def test_two_that_provide_one_name_are_refused():
    both = [Noted([], {"norms": 1}, name="first"), Noted([], {"norms": 2}, name="second")]
    with pytest.raises(ValueError, match=r"`first` and `second` both provide \['norms'\].*prefix"):
        layers.complete(both, {}, training=False)


class Stage(layers.OpenSetLayer):
    """Owns a head; with `targets` of its own what lies inside is its business."""

    def __init__(self, head, **kwargs):
        super().__init__(**kwargs)
        self.head = head


class OwnStage(Stage):
    def targets(self, tensors, training):
        return {}


def test_each_is_found_once_also_in_nested_models_but_not_in_a_layer_with_targets():
    inputs = keras.Input((6,))
    head = heads.LinearHead(3)
    centers = layers.SharedCenters(head)
    inner = keras.Model(inputs, centers(head(inputs)))
    outer = keras.Model(inputs, inner(inputs))
    assert set(find_hooks([outer, head])) == {head, centers}
    assert len(find_hooks([outer, head])) == 2
    assert find_hooks([stage := Stage(head)]) == [stage, head]
    assert find_hooks([own := OwnStage(head)]) == [own]


def test_hooks_in_a_nested_model_are_called():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    head, centers = heads.LinearHead(3, background=True), layers.MovingAverageCenters(3)
    inner = keras.Model(inputs, centers(head(inputs)))
    model = OpenSetModel(inputs, inner(inputs))
    model.compile("sgd", losses.cplus1(0.5, 0.5))
    model.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(centers.seen, np.ones(3))


@keras.saving.register_keras_serializable("test_hooks")
class Rows(layers.OpenSetLayer):
    """Assigns to each row of an image the class in the middle column of its mask."""

    def call(self, maps):
        return keras.ops.mean(maps, axis=2)

    def targets(self, tensors, training):
        mask = tensors["mask"]
        return {"labels": mask[:, :, mask.shape[2] // 2]}


def rows_model():
    keras.utils.set_random_seed(0)
    images = keras.Input((4, 5, 2))
    outputs = heads.LinearHead(3, background=True)(Rows()(images))
    model = OpenSetModel(images, layers.MovingAverageCenters(3)(outputs))
    metric = {"logits": [metrics.KnownAccuracy(3)]}
    model.compile(keras.optimizers.SGD(0.1), losses.cplus1(0.5, 0.5, margin=1.2), metrics=metric)
    return model


IMAGES = RANDOM.normal(size=(16, 4, 5, 2)).astype("float32")
MASKS = RANDOM.choice([NEGATIVE, 0, 1, 2, IGNORE], size=(16, 4, 5)).astype("int32")


def by_hand(weight=None, class_weight=None, **fit):
    """The same training with the labels that the layer would have assigned."""
    keras.utils.set_random_seed(0)
    rows = keras.Input((4, 2))
    model = OpenSetModel(rows, layers.MovingAverageCenters(3)(heads.LinearHead(3, background=True)(rows)))
    metric = {"logits": [metrics.KnownAccuracy(3)]}
    model.compile(keras.optimizers.SGD(0.1), losses.cplus1(0.5, 0.5, margin=1.2), metrics=metric)
    arguments = {"sample_weight": weight, "class_weight": class_weight}
    history = model.fit(IMAGES.mean(2), MASKS[:, :, 2], **arguments, **fit).history
    return history, model.get_weights()


@pytest.mark.parametrize("class_weight", [None, {NEGATIVE: 0.0, 1: 3.0}])
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "jit"])
def test_targets_are_labels_by_another_way(class_weight, jit, tmp_path):
    fit = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
    weight = np.linspace(0.5, 2, 16)
    expected = by_hand(weight, class_weight, **fit)
    model = rows_model()
    model.compile(model.optimizer, model.loss, metrics={"logits": [metrics.KnownAccuracy(3)]}, jit_compile=jit)
    history = model.fit(IMAGES, {"mask": MASKS}, sample_weight=weight, class_weight=class_weight, **fit).history
    for key in history:
        np.testing.assert_allclose(history[key], expected[0][key], rtol=2e-5, err_msg=key)
    for a, b in zip(model.get_weights(), expected[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.evaluate(IMAGES, {"mask": MASKS}, verbose=0) == model.evaluate(IMAGES, {"mask": MASKS}, verbose=0)


def test_two_heads_with_norms_and_centres_of_their_own(tmp_path):
    """What each provides reaches its own loss: as two models that share nothing."""

    def both(prefix="", **more):
        head = heads.CosineHead(3, 20.0, background=True, prefix=prefix, name=f"{prefix}head")
        centers = layers.MovingAverageCenters(3, prefix=prefix, name=f"{prefix}centers")
        loss = losses.BackgroundCrossEntropyLoss(losses.C2AM(2.0)) + 0.5 * losses.CompactnessLoss()
        return head, centers, loss.of(prefix) if prefix else loss

    def train(parts, inputs, x, y):
        outputs, loss = {}, None
        for head, centers, term in parts:
            outputs |= centers(head(inputs[head.prefix]))
            loss = term if loss is None else loss + term
        model = OpenSetModel(list(inputs.values()), outputs)
        for head, _, _ in parts:
            head.kernel.assign(np.random.default_rng(len(head.prefix)).normal(size=(6, 4)) * [1, 2, 3, 4])
        model.compile(keras.optimizers.SGD(0.01), loss)
        return model, model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0).history

    other, labels = X[::-1].copy(), np.roll(Y, 3)
    _, first = train([both()], {"": keras.Input((6,))}, [X], Y)
    _, second = train([both("roi_")], {"roi_": keras.Input((6,))}, [other], labels)
    pair, together = train(
        [both(), both("roi_")],
        {"": keras.Input((6,)), "roi_": keras.Input((6,))},
        [X, other],
        {"labels": Y, "roi_labels": labels},
    )
    for name in ("background_cross_entropy", "compactness"):
        np.testing.assert_allclose(together[name], first[name], rtol=1e-5)
        np.testing.assert_allclose(together[f"roi_{name}"], second[f"roi_{name}"], rtol=1e-5)
    pair.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_layer("roi_head").prefix == again.get_layer("roi_centers").prefix == "roi_"
    y = {"labels": Y, "roi_labels": labels}
    assert again.evaluate([X, other], y, verbose=0) == pair.evaluate([X, other], y, verbose=0)


def test_metrics_read_the_models_output_and_the_labels_of_its_head():
    """AdaCos provides logits of another scale for the loss; the metric sees those that the model gave."""

    @keras.saving.register_keras_serializable("test_hooks")
    class Largest(keras.metrics.Mean):
        def update_state(self, labels, logits, sample_weight=None):
            super().update_state(keras.ops.max(logits, axis=-1))

    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    model = OpenSetModel(inputs, heads.AdaCosHead(3)(inputs))
    model.compile(keras.optimizers.SGD(0.0), losses.CrossEntropyLoss(), metrics={"logits": [Largest(name="largest")]})
    before = model.predict(X, verbose=0)["logits"].max(-1).mean()
    history = model.fit(X, Y, batch_size=24, verbose=0).history
    assert history["logits_largest"][0] == pytest.approx(before, rel=1e-5)
    assert abs(model.predict(X, verbose=0)["logits"].max(-1).mean() - before) > 0.01


def test_a_metric_of_what_a_layer_made():
    class Provides(layers.OpenSetLayer):
        def call(self, outputs):
            return dict(outputs)

        def provide(self, tensors):
            return {"doubled": 2 * tensors["logits"]}

    inputs = keras.Input((6,))
    model = OpenSetModel(inputs, Provides()(heads.LinearHead(3)(inputs)))
    names = {"logits": [metrics.KnownAccuracy(3)], "doubled": [metrics.KnownAccuracy(3)]}
    model.compile("sgd", losses.CrossEntropyLoss(), metrics=names)
    logs = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert logs["logits_known_accuracy"] == logs["doubled_known_accuracy"]


def test_float16_features_get_a_finite_gradient():
    """Of a feature of length 1e-6 under hard normalisation it is 1e7, beyond float16's largest number."""
    head = heads.CosineHead(3, 20.0, dtype="mixed_float16")
    features = tf.constant([[1e-6, 0.0], [3.0, 4.0]], "float16")
    with tf.GradientTape() as tape:
        tape.watch(features)
        value = losses.CrossEntropyLoss()(np.array([1, 2]), head(features))
    gradient = tape.gradient(value, features)
    assert gradient.dtype == "float16"
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[0]).max() == 65504
    wide = tf.cast(features, "float32")
    with tf.GradientTape() as tape:
        tape.watch(wide)
        value = losses.CrossEntropyLoss()(np.array([1, 2]), head(wide))
    np.testing.assert_allclose(gradient[1], tape.gradient(value, wide)[1], rtol=1e-3)
