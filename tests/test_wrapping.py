"""A trained Keras classifier made open-set: the same numbers before and after, on disk and in the SavedModel."""

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.metrics import roc_auc_score

tf = pytest.importorskip("tensorflow", reason="serving is TensorFlow's part")
if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

import cplus1_keras  # noqa: E402
from cplus1_keras import heads, posthoc, scores, serving  # noqa: E402  needs TensorFlow
from cplus1_keras.models.parts import take_apart  # noqa: E402

NAMES = ["cat", "dög", "eel"]
SHAPE = (8, 8, 1)
SCORES = {
    "temperature": posthoc.Temperature,
    "gen": posthoc.GEN,
    "class_means": posthoc.ClassMeans,
    "mahalanobis": posthoc.Mahalanobis,
    "relative_mahalanobis": posthoc.RelativeMahalanobis,
    "nearest_neighbors": lambda: posthoc.NearestNeighbors(neighbors=3, kept=50),
    "openmax": lambda: posthoc.OpenMax(tail=5),
    "vim": posthoc.ViM,
    "react": posthoc.ReAct,
    "ash_s": posthoc.ASHScale,
}


def draw(count=240, seed=0):
    """Images of three classes, each a place that is bright, and of strangers, where nothing is; labels."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    pixels = generator.uniform(0, 100, (count, *SHAPE))
    for c in range(3):
        pixels[labels == c, 2 * c : 2 * c + 3, 2 * c : 2 * c + 3] += 155
    return pixels.astype("uint8"), np.where(labels == 3, -1, labels)


def build(end="softmax"):
    """A small convolutional net whose logits are right: trained in closed form, by least squares on its features."""
    keras.utils.set_random_seed(0)
    images = keras.Input(SHAPE)
    x = layers.Conv2D(8, 3, activation="relu")(layers.Rescaling(1 / 255)(images))
    x = layers.Dropout(0.5)(layers.Dense(32, activation="elu")(layers.Flatten()(x)))
    kind = {"softmax": {"activation": "softmax"}, "sigmoid": {"activation": "sigmoid"}}.get(end, {})
    dense = layers.Dense(3, name="predictions", **kind)
    output = dense(x)
    pixels, labels = draw()
    known = labels >= 0
    inside = keras.Model(images, x).predict(pixels[known], verbose=0)
    inside = np.column_stack([inside, np.ones(len(inside))])
    solution = np.linalg.lstsq(inside, 8 * np.eye(3)[labels[known]], rcond=None)[0]
    dense.set_weights([solution[:-1], solution[-1]])
    if end == "layer":
        output = layers.Softmax()(layers.Identity()(output))
    elif end == "activation":
        output = layers.Activation("softmax", dtype="float32")(output)
    elif end == "operation":
        output = keras.ops.softmax(output)
    return keras.Model(images, output, name="theirs")


@pytest.fixture(scope="module")
def model():
    return build()


def test_the_decision_is_that_of_the_models_own_probabilities(model):
    data, weights = draw(seed=1), model.get_weights()
    predictor = cplus1_keras.wrap(model, NAMES, data, fpr=0.2, confidence=0.9, score="max_probability")
    pixels = draw(seed=2)[0]
    wanted, answer = model.predict(pixels, verbose=0), predictor.predict(pixels)
    np.testing.assert_allclose(answer["probabilities"], wanted, rtol=1e-4, atol=1e-6)
    found = predictor.calibration
    known = wanted.max(-1) >= found.threshold
    np.testing.assert_array_equal(answer["class_id"], np.where(known, wanted.argmax(-1), -1))
    assert 0 < known.sum() < len(pixels)
    assert (found.rule, found.score, found.samples) == ("fpr", "max_probability", 60)
    assert (found.target, found.confidence) == (0.2, 0.9)
    accepted = model.predict(data[0][data[1] < 0], verbose=0).max(-1) >= found.threshold
    assert found.accepted == accepted.sum()
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("end", ["logits", "softmax", "layer", "activation", "operation"])
def test_logits_are_taken_before_the_softmax(model, end):
    parts, (kernel, bias) = take_apart(build(end))
    pixels = draw(20)[0].astype("float32")
    outputs = parts.predict(pixels, verbose=0)
    np.testing.assert_allclose(outputs["features"] @ kernel + bias, outputs["logits"], rtol=1e-4, atol=1e-4)
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(outputs["logits"]))
    np.testing.assert_allclose(probabilities, model.predict(pixels, verbose=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_each_score_is_kept_and_exported(model, name, tmp_path):
    spec = SCORES[name]()
    predictor = cplus1_keras.wrap(model, NAMES, draw(seed=1), draw(), spec, fpr=0.5)
    assert spec.num_classes is None  # a copy is fitted
    layer, pixels = predictor.model.get_layer(name), draw(60, seed=2)[0]
    outputs = take_apart(model)[0].predict(pixels.astype("float32"), verbose=0)
    answer = predictor.predict(pixels)
    np.testing.assert_allclose(answer["score"], layer(outputs), rtol=2e-4, atol=2e-4)
    np.testing.assert_array_equal(answer["known"], answer["score"] >= np.float32(predictor.calibration.threshold))
    assert predictor.calibration.score == name
    serving.save(tmp_path / "run", predictor)
    loaded = cplus1_keras.load(tmp_path / "run")
    assert loaded.calibration == predictor.calibration
    loaded.export(tmp_path / "1", samples=pixels)
    served = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"](
        images=tf.constant(pixels, tf.float32)
    )
    for key, value in loaded.predict(pixels).items():
        np.testing.assert_array_equal(value, answer[key])
        if key != "class_name":
            np.testing.assert_allclose(served[key], answer[key], rtol=1e-5, atol=1e-5)
    broken = pixels.astype("float32")
    broken[::2, 0, 0] = np.nan
    got = loaded.predict(broken)
    np.testing.assert_array_equal(got["valid"], np.arange(60) % 2 == 1)
    np.testing.assert_array_equal(got["class_id"][1::2], answer["class_id"][1::2])


def test_a_fitted_score_ranks_strangers_below_knowns(model):
    pixels, labels = draw(400, seed=3)
    predictor = cplus1_keras.wrap(model, NAMES, draw(seed=1), draw(), posthoc.Mahalanobis(), fpr=0.1)
    answer = predictor.predict(pixels)
    assert roc_auc_score(labels >= 0, answer["score"]) > 0.85
    assert answer["known"][labels < 0].mean() < 0.2


def test_batches_of_a_dataset_are_arrays_and_training_is_read_once(model):
    train, held, reads = draw(), draw(seed=1), []

    def batches():
        reads.append(1)
        for start in range(0, 240, 100):
            yield train[0][start : start + 100], train[1][start : start + 100]

    kind = (tf.TensorSpec((None, *SHAPE), tf.uint8), tf.TensorSpec((None,), tf.int64))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=kind)
    calibration = tf.data.Dataset.from_tensor_slices(held).batch(33).prefetch(1)
    first = cplus1_keras.wrap(model, NAMES, calibration, dataset, posthoc.ViM(), fpr=0.2)
    second = cplus1_keras.wrap(model, NAMES, held, train, posthoc.ViM(), fpr=0.2)
    assert len(reads) == 1
    assert first.calibration.threshold == pytest.approx(second.calibration.threshold, rel=1e-4)


def test_without_strangers_the_coverage_decides(model):
    pixels, labels = draw(400, seed=1)
    known = labels >= 0
    given = {"coverage": 0.8, "confidence": 0.9, "short_side": 11}
    predictor = cplus1_keras.wrap(model, NAMES, (pixels[known], labels[known]), **given)
    assert predictor.spec == serving.ImageSpec(short_side=11)
    assert (predictor.calibration.rule, predictor.calibration.target) == ("coverage", 0.8)
    assert 0.8 <= predictor.predict(pixels[known])["known"].mean() < 0.9


def test_preprocessing_becomes_part_of_the_model(tmp_path):
    """A net that wants pixels in 0..1 answers on raw ones as it did on its own."""
    images = keras.Input((None, None, 1))
    x = layers.Conv2D(4, 3, activation="relu")(images)
    theirs = keras.Model(images, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    data = draw(seed=1)
    predictor = cplus1_keras.wrap(theirs, NAMES, data, preprocess=layers.Rescaling(1 / 255), fpr=0.5)
    assert predictor.image_shape == SHAPE
    pixels = draw(20)[0]
    wanted = keras.ops.softmax(theirs.predict(pixels / np.float32(255), verbose=0))
    np.testing.assert_allclose(predictor.predict(pixels)["probabilities"], wanted, rtol=1e-4, atol=1e-5)
    serving.save(tmp_path, predictor)

    again = cplus1_keras.load(tmp_path).predict(pixels)
    np.testing.assert_array_equal(again["score"], predictor.predict(pixels)["score"])


def test_models_of_other_kinds(model):
    """A Sequential, a network at the end of a network, one that has named outputs already, maps as features."""
    inner = keras.Sequential([keras.Input((36,)), layers.Dense(7), layers.Dense(3, activation="softmax")])
    images = keras.Input(SHAPE)
    nested = keras.Model(images, inner(layers.Flatten()(layers.Conv2D(1, 3, name="maps")(images))))
    parts, (kernel, _) = take_apart(nested)
    outputs = parts.predict(draw(5)[0].astype("float32"), verbose=0)
    assert (outputs["features"].shape, kernel.shape) == ((5, 7), (7, 3))
    np.testing.assert_allclose(
        keras.ops.softmax(outputs["logits"]), nested.predict(draw(5)[0].astype("float32"), verbose=0), atol=1e-5
    )
    ours = keras.Model(images, heads.LinearHead(3)(layers.Flatten()(images)))
    parts, (kernel, bias) = take_apart(ours)
    assert (kernel.shape, bias.shape, sorted(parts.output)) == ((64, 3), (3,), ["features", "logits"])
    cosine = heads.CosineHead(3, 9.0)(layers.Dense(5)(layers.Flatten()(images)))
    assert take_apart(keras.Model(images, cosine))[1] is None  # its logits are no products with features
    parts, _ = take_apart(model, features=model.layers[2].name)
    assert parts.output["features"].shape == (None, 8)


def test_probabilities_without_a_softmax_in_sight_are_logarithms():
    images = keras.Input(SHAPE)
    x = layers.Flatten()(images) / 255
    shares = keras.ops.concatenate([x[:, :2] + 0.1, x[:, 5:6] + 0.1], axis=-1)
    theirs = keras.Model(images, shares / keras.ops.sum(shares, axis=-1, keepdims=True))
    with pytest.raises(ValueError, match=r"ends in .*, not in a Dense layer, .*`features=` one of"):
        cplus1_keras.wrap(theirs, NAMES, draw())
    flat = next(layer.name for layer in theirs.layers if isinstance(layer, layers.Flatten))
    predictor = cplus1_keras.wrap(theirs, NAMES, draw(), features=flat, fpr=0.5)
    pixels = draw(20)[0]
    p = theirs.predict(pixels.astype("float32"), verbose=0)
    answer = predictor.predict(pixels)
    np.testing.assert_allclose(answer["probabilities"], p, rtol=1e-4)
    np.testing.assert_allclose(answer["score"], np.log(p.max(-1)) - np.log1p(-p.max(-1)), rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="energy is 0"):
        cplus1_keras.wrap(theirs, NAMES, draw(), features=flat, score="energy")


def test_a_model_of_half_precision(tmp_path):
    """Its features and logits are float16, the score and the threshold float32."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        theirs = build("activation")
        data = draw(seed=1)
        predictor = cplus1_keras.wrap(theirs, NAMES, data, draw(), posthoc.Mahalanobis(), fpr=0.3)
    finally:
        keras.config.set_dtype_policy(policy)
    assert predictor.model.output["logits"].dtype == "float16"
    assert predictor.model.output["mahalanobis"].dtype == "float32"
    serving.save(tmp_path / "run", predictor)
    loaded, pixels = cplus1_keras.load(tmp_path / "run"), draw(100, seed=2)[0]
    answer = loaded.predict(pixels)
    np.testing.assert_array_equal(answer["score"], predictor.predict(pixels)["score"])
    assert answer["score"].dtype == "float32"
    assert answer["valid"].all()


def stock(kind):
    """A model of somebody else, and what it wants done to pixels."""
    if kind == "mobilenet":
        theirs = keras.applications.MobileNet((32, 32, 3), alpha=0.25, weights=None, classes=3)
        return theirs, keras.applications.mobilenet.preprocess_input
    if kind == "vgg":
        theirs = keras.applications.VGG16(include_top=False, input_shape=(32, 32, 3), weights=None, pooling="avg")
        theirs = keras.Model(theirs.input, layers.Dense(3, activation="softmax")(theirs.output))
        return theirs, keras.applications.vgg16.preprocess_input
    import keras_cv

    backbone = keras_cv.models.ResNetBackbone(
        stackwise_filters=[64, 64],
        stackwise_blocks=[1, 1],
        stackwise_strides=[1, 2],
        block_type="basic_block",
        include_rescaling=True,
    )
    return keras_cv.models.ImageClassifier(backbone, num_classes=3), None


@pytest.mark.parametrize(
    "kind", [*(pytest.param(kind, marks=pytest.mark.slow) for kind in ("mobilenet", "vgg")), "keras_cv"]
)
def test_stock_models_are_wrapped_saved_and_exported(kind, tmp_path):
    generator = np.random.default_rng(0)
    data = generator.integers(0, 256, (48, 32, 32, 3)).astype("uint8"), np.arange(48) % 4 - 1
    keras.utils.set_random_seed(1)
    theirs, preprocess = stock(kind)
    score = posthoc.ASHPrune() if kind == "mobilenet" else posthoc.NearestNeighbors(neighbors=2)
    predictor = cplus1_keras.wrap(theirs, NAMES, data, data, score, preprocess, fpr=0.5, confidence=0.6)
    serving.save(tmp_path / "run", predictor)
    loaded, pixels = cplus1_keras.load(tmp_path / "run"), data[0][:8]
    loaded.export(tmp_path / "1", samples=pixels)
    answer, given = loaded.predict(pixels), pixels.astype("float32")
    expected = theirs.predict(given if preprocess is None else preprocess(given), verbose=0)
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-3, atol=1e-4)
    assert answer["valid"].all()


def refused(match, *args, **kwargs):
    with pytest.raises(ValueError, match=match):
        cplus1_keras.wrap(*args, **kwargs)


def test_what_is_refused(model):
    data, images = draw(), keras.Input(SHAPE)
    flat = layers.Flatten()(images)

    class Own(keras.Model):
        def call(self, x):
            return x

    refused("not built: begin it with", keras.Sequential([layers.Flatten(), layers.Dense(3)]), NAMES, data)
    refused("Own is no functional model", Own(), NAMES, data)
    refused("keras.Model is needed. Received: function", lambda x: x, NAMES, data)
    two = keras.Model(images, [layers.Dense(3)(flat), layers.Dense(3)(flat)])
    refused(r"1 inputs, 2 outputs\. Choose", two, NAMES, data)
    refused("ends in 'sigmoid'.*Presence", build("sigmoid"), NAMES, data)
    refused(r"each of the model's 3 classes\. Received 2", model, NAMES[:2], data)
    refused("no layer 'absent' at its top level. Its last ones: ", model, NAMES, data, features="absent")
    maps = keras.Model(images, layers.Conv2D(3, 3)(images))
    refused(r"needs logits \(N, C\)", maps, NAMES, data, features=maps.layers[-1].name)
    refused("`training` must be a pair .* Received: ndarray", model, NAMES, data, data[0], posthoc.ClassMeans())
    refused("is fitted on training samples", model, NAMES, data, None, posthoc.ClassMeans())
    unlabelled = tf.data.Dataset.from_tensor_slices(data[0]).batch(8)
    refused("Received batches of: EagerTensor", model, NAMES, data, unlabelled, posthoc.ClassMeans())
    single = tf.data.Dataset.from_tensor_slices(data)
    refused(r"call `\.batch\(64\)`", model, NAMES, single)
    refused("never ends", model, NAMES, single.batch(8).repeat())
    refused("240 images and 239 labels", model, NAMES, (data[0], data[1][1:]))
    refused("no iterator", model, NAMES, iter([data]))
    refused("is empty", model, NAMES, (data[0][:0], data[1][:0]))
    refused(r"classes 0\.\.2.*Received also: \[7\]", model, NAMES, (data[0], data[1] * 0 + 7))
    refused("argmax", model, NAMES, (data[0], np.eye(4)[data[1]]))
    broken = data[0].astype("float32")
    broken[70, 0] = np.nan
    refused("Calibration image 70 has NaN", model, NAMES, (broken, data[1]))
    refused("Training image 70 has NaN", model, NAMES, data, (broken, data[1]), posthoc.Mahalanobis())
    refused("at least 299 negatives; there are 60", model, NAMES, data, fpr=0.01)
    refused("There is no score 'msp'", model, NAMES, data, score="msp")
    slices = keras.Model(images, flat[:, :3])
    refused("that a Dense layer makes", slices, NAMES, data, data, posthoc.ReAct(), features=slices.layers[1].name)


def test_less_cannot_be_cut_from_an_image_than_the_model_takes(model):
    with pytest.raises(ValueError, match=r"`short_side` must be no less than .*short_side=7, size=\(8, 8\)"):
        cplus1_keras.wrap(model, NAMES, draw(), short_side=7)


def test_the_evidence_must_be_of_the_score(model, tmp_path):
    predictor = cplus1_keras.wrap(model, NAMES, draw(seed=1), draw(), posthoc.ClassMeans(), fpr=0.5)
    other = serving.Predictor(
        predictor.model, cplus1_keras.Reject(3, 0.0, scores.energy), NAMES, calibration=predictor.calibration
    )
    with pytest.raises(ValueError, match="for the score 'class_means', not for 'energy'"):
        serving.save(tmp_path, other)
