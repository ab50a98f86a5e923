"""What is looked at while a model trains: the predictor's own answers, with images and features beside them."""

import keras
import numpy as np
import pytest

from cplus1_keras import heads, layers, models, scores, serving
from cplus1_keras.models import OpenSetModel
from cplus1_keras.tasks import Record, watching


def image_model():
    images = keras.Input((24, 24, 3))
    maps = keras.layers.Conv2D(5, 5, 8)(images / 255)
    return OpenSetModel(images, heads.CAMHead(3)(maps)), None


def pixel_model():
    images = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(5, 5, 4, "same")(images / 255)
    head = heads.LinearHead(3, use_bias=True, background=True)
    return models.segmentation_model(images, maps, head), serving.PixelSpec(tile=24)


def box_model():
    def backbone():
        images = keras.Input((24, 24, 3))
        return keras.Model(images, keras.layers.Conv2D(6, 5, 4, "same", activation="relu")(images))

    model = models.fcos(3, backbone, heads.LinearHead, levels=(2, 3), channels=8, tower=1, groups=4)
    return model, serving.BoxSpec(score_threshold=0.0, max_detections=7)


@pytest.mark.parametrize("make", [image_model, pixel_model, box_model])
def test_answers_are_those_of_the_predictor(make):
    keras.utils.set_random_seed(4)
    model, spec = make()
    every = serving.Predictor(model, layers.Reject(3, -np.inf, scores.max_logit), None, spec)
    watch = watching.Watching(every)
    images = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3)).astype("uint8")
    images[1, 0] = 255
    plain, found = every.predict(images), watch.predict(images)
    for name, value in plain.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    np.testing.assert_array_equal(found["image"], images)
    outputs = {name: np.asarray(value) for name, value in model(images.astype("float32")).items()}
    if make is box_model:
        assert set(found) - set(plain) == {"image", "features"}
        assert found["features"].shape == (*plain["score"].shape, outputs["features"].shape[-1])
        # The features are those of the point whose logits gave the score.
        best = outputs["logits"].max(axis=-1)[0]
        for score, own in zip(plain["score"][0], found["features"][0], strict=True):
            point = np.argmin(np.abs(best - score))
            np.testing.assert_allclose(own, outputs["features"][0, point], rtol=1e-4, atol=1e-5)
    else:
        assert set(found) - set(plain) == {"image", "features"} | ({"cams"} if make is image_model else set())
        np.testing.assert_allclose(found["features"], outputs["features"], rtol=1e-5, atol=1e-6)


def test_large_images_are_answered_without_features():
    model, spec = pixel_model()
    watch = watching.Watching(serving.Predictor(model, layers.Reject(3, -np.inf), None, spec))
    found = watch.predict(np.zeros((1, 40, 30, 3), "uint8"))
    assert found["score"].shape == (1, 40, 30)
    assert "features" not in found


def test_some_figures_of_an_accumulator_are_told():
    class Sum:
        total = 0

        def update(self, record):
            self.total += int(record.labels)

        def result(self):
            return {"total": self.total, "other": 7}

    told = watching.Told(Sum(), lambda found: {"sum": found["total"] / 2})
    for label in (3, 4):
        told.update(Record(np.array(label), np.array(0), np.array(1.0), ""))
    assert told.result() == {"sum": 3.5}
