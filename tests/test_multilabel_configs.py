"""Configs of label sets: what each method trains, on which images, and what its model sees."""

import keras
import numpy as np
import pytest

from cplus1_keras import configs, data
from cplus1_keras.configs import multilabel

SOURCE = {"kind": "classes", "arrays": {"image": np.zeros((4, 8, 8, 3), "uint8")}}


def parts():
    shown = np.array([[1, 0], [1, 1], [0, 0], [1, 0]], bool)
    annotated = np.array([[1, 1], [1, 1], [1, 0], [1, 1]], bool)
    source = data.Source(["cat", "dog"], shown, annotated=annotated, name="pets", **SOURCE)
    train, other = (data.Split("train", part, data.Protocol(["cat", "dog"])) for part in (source, source.subset([0])))
    return data.Splits(train, other, other, other, train.protocol)


@pytest.mark.parametrize(
    ("method", "terms"),
    [
        ("bce", {"multi_label_cross_entropy": 1}),
        ("asymmetric", {"asymmetric": 1}),
        ("weighted", {"weighted_sigmoid": 1}),
        ("hnc_mse", {"weighted_sigmoid": 1, "hnc_mse": 0.5}),
        ("hnc_kd", {"weighted_sigmoid": 1, "hnc_kd": 0.5}),
        ("ac", {"weighted_sigmoid": 0.5, "mirrored_weighted_sigmoid": 0.5, "mirrored_attention": 0.25}),
        (
            "ac_hnc_kd",
            {"weighted_sigmoid": 0.5, "mirrored_weighted_sigmoid": 0.5, "hnc_kd": 0.5, "mirrored_attention": 0.25},
        ),
    ],
)
def test_terms_of_the_methods(method, terms):
    experiment = configs.resolve("coco_mini_labels", [f"method={method}", "hnc=0.5", "ac=0.25"]).with_loss(parts())
    assert {term.name: weight for weight, term in experiment.loss.terms()} == terms
    read = {name for _, term in experiment.loss.terms() for name in (term.prefix + name for name in term.reads)}
    assert read <= set(experiment.model(2).output)


def test_presence_weighs_by_the_training_images_that_were_looked_at():
    loss = configs.resolve("coco_mini_labels", ["method=weighted"]).with_loss(parts()).loss
    assert loss.terms()[0][1].positive_rates == pytest.approx([3 / 4, 1 / 3])


def test_table_4_at_its_size(monkeypatch):
    monkeypatch.setattr(multilabel.backbones, "resnet", lambda *args, **given: small(*args, **given))
    seen = []

    def small(depth, shape, pool, weights):
        seen.append((depth, pool, weights))
        images = keras.Input(shape)
        return keras.Model(images, keras.layers.Conv2D(4, 1, 32)(images))

    experiment = configs.resolve("coco_labels", ["method=ac_hnc_mse", "weights=folder"]).with_loss(parts())
    model = experiment.model(80)
    assert seen == [(101, False, "folder")]
    assert model.input_shape == (None, 288, 288, 3)
    assert model.output["smaller_cams"].shape == (None, 9, 9, 80)
    weights = {term.name: weight for weight, term in experiment.loss.terms()}
    assert weights.pop("hnc_mse") == 0.0007
    assert (weights.pop("mirrored_attention"), weights.pop("smaller_attention")) == (0.6, 0.8)
    views = [f"{view}weighted_sigmoid" for view in ("", "mirrored_", "smaller_")]
    assert weights == pytest.approx(dict.fromkeys(views, 80 / 3))
    rate = experiment.schedule(experiment.learning_rate, 1000)
    assert [float(rate(step)) for step in (599, 601, 801)] == pytest.approx([1e-3, 1e-4, 1e-5])


def test_an_unknown_method_is_told():
    for name in ("coco_labels", "coco_mini_labels"):
        with pytest.raises(ValueError, match="`method` must be one of 'bce'"):
            configs.resolve(name, ["method=hnc"])


@pytest.mark.parametrize("unknown", ["animal", "food"])
def test_coco_mini_holds_a_class_out(shared, tmp_path, monkeypatch, unknown):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = [f"root={shared}/data/coco_mini/coco_mini.zip", f"unknown={unknown}"]
    experiment = configs.resolve("coco_mini_labels", settings)
    if unknown == "food":
        with pytest.raises(ValueError, match="lacks: 'food'"):
            experiment.data(0)
        return
    splits = experiment.data(0)
    assert splits.class_names == ("person", "vehicle", "tableware", "furniture")
    assert [len(part) for part in splits] == [98, 16, 48, 105]
    assert [int(part.shows_unknown.sum()) for part in splits] == [0, 0, 0, 53]
    experiment.with_loss(splits).task.check(experiment.with_loss(splits), splits)
