"""Another threshold for a SavedModel: the same scores to the bit, other decisions, the evidence beside."""

import dataclasses
import json
import pathlib
import runpy
import shutil
import sys

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="serving is TensorFlow's part")
if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

from cplus1_keras import calibration, serving  # noqa: E402  needs TensorFlow
from cplus1_keras.layers import Presence  # noqa: E402
from cplus1_keras.retune import main  # noqa: E402
from cplus1_keras.serving import Predictor  # noqa: E402


@pytest.fixture(scope="module")
def versions(small, tmp_path_factory):
    """A folder with version 1, its predictor, and 60 images as files."""
    root = tmp_path_factory.mktemp("retune")
    model = small.build()
    scores = Predictor(model, small.rejecting(model)[0], small.NAMES).predict(small.pixels(200))["score"]
    found = calibration.threshold_at_fpr(scores, 0.3, score="log_odds")
    found = dataclasses.replace(found, sample=calibration.keep_scores(np.repeat([0, -1], 100), scores))
    predictor = Predictor(model, serving.ImageSpec.layer(3, found.threshold), small.NAMES, calibration=found)
    predictor.export(root / "served" / "1")
    pixels = small.pixels(60, seed=5).astype("uint8")
    for number, image in enumerate(pixels):
        tf.io.write_file(f"{root}/images/{number % 3}/{number:02d}.png", tf.io.encode_png(image))
    return root, predictor, pixels


def ask(path, images):
    served = tf.saved_model.load(str(path)).signatures["serving_default"](images=tf.constant(images, tf.float32))
    return {name: value.numpy() for name, value in served.items()}


def evidence(path):
    return json.loads((path / "assets.extra" / "calibration.json").read_text())


def test_an_export_carries_its_evidence(versions):
    root, predictor, _ = versions
    assert evidence(root / "served" / "1") == predictor.calibration.to_dict()


def test_a_rate_on_a_folder_of_images_makes_the_next_version(versions, capsys):
    root, predictor, pixels = versions
    first, second = root / "served" / "1", root / "served" / "2"
    bytes_before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    main([str(first), "--fpr", "0.2", "--confidence", "0.9", "--negatives", str(root / "images")])
    answer = predictor.predict(pixels)
    expected = calibration.threshold_at_fpr(answer["score"], 0.2, 0.9, "log_odds")
    assert evidence(second) == {**expected.to_dict(), "sample": predictor.calibration.sample}
    before, after = ask(first, pixels), ask(second, pixels)
    for name in ("score", "probabilities", "valid"):
        np.testing.assert_array_equal(before[name], after[name])
    np.testing.assert_array_equal(after["known"], answer["score"] >= np.float32(expected.threshold))
    assert after["known"].sum() == expected.accepted != before["known"].sum()
    np.testing.assert_array_equal(after["class_id"] >= 0, after["known"])
    assert str(expected) in capsys.readouterr().out
    old, new = (json.loads((path / serving.CLASSES_FILE).read_text(encoding="utf-8")) for path in (first, second))
    assert (old["threshold"], new["threshold"]) == tuple(
        np.float32([predictor.calibration.threshold, expected.threshold])
    )
    assert {**old, "threshold": 0} == {**new, "threshold": 0}
    assert bytes_before == {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    both = [tf.saved_model.load(str(path)) for path in (first, second)]
    variables = [loaded.signatures["serving_default"].variables for loaded in both]
    gaps = [np.abs(old.numpy() - new.numpy()).max() for old, new in zip(*variables, strict=True)]
    assert np.count_nonzero(gaps) == 1  # the threshold's
    origin = json.loads((second / "assets.extra" / "origin.json").read_text())
    assert (origin["from"], origin["left_out"]) == (str(first.resolve()), [])
    assert origin["user"]
    assert origin["date"][:4].isdecimal()
    assert json.loads((first / "assets.extra" / "origin.json").read_text())["from"] is None
    main([str(second), "--coverage", "0.7", "--knowns", str(root / "images"), "--output", str(root / "other")])
    wanted = calibration.threshold_at_coverage(answer["score"], 0.7, score="log_odds")
    assert evidence(root / "other") == {**wanted.to_dict(), "sample": predictor.calibration.sample}
    assert (ask(root / "other", pixels)["known"]).sum() == wanted.accepted


def test_a_threshold_by_hand_has_no_evidence(versions, tmp_path, monkeypatch):
    """By the command of a checkout, `python -m export.retune`."""
    root, _, pixels = versions
    arguments = [str(root / "served" / "1"), "--threshold", "inf", "--output", str(tmp_path / "9")]
    monkeypatch.setattr(sys, "argv", ["export.retune", *arguments])
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parents[2])
    runpy.run_module("export.retune", run_name="__main__")
    assert not ask(tmp_path / "9", pixels)["known"].any()
    assert evidence(tmp_path / "9") is None


def test_thresholds_of_label_sets(small, tmp_path):
    model = small.build()
    Predictor(model, Presence(3, [0.0, 1.0, 2.0]), small.NAMES, serving.LabelSetSpec()).export(tmp_path / "1")
    serving.retune(tmp_path / "1", tmp_path / "2", [5.0, -5.0, np.inf])
    answer = ask(tmp_path / "2", small.pixels(8))
    np.testing.assert_array_equal(answer["present"], answer["score"] >= [5.0, -5.0, np.inf])
    with pytest.raises(ValueError, match=r"threshold of shape \(3,\)"):
        serving.retune(tmp_path / "1", tmp_path / "3", [1.0, 2.0])


def test_each_class_of_label_sets_gets_a_threshold_by_the_names_of_folders(small, tmp_path, capsys):
    model, pixels = small.build(), small.pixels(80, seed=4).astype("uint8")
    predictor = Predictor(model, Presence(3, [0.0, 1.0, 2.0]), small.NAMES, serving.LabelSetSpec())
    predictor.export(tmp_path / "1")
    shown = [("none",), (small.NAMES[1],), (small.NAMES[0], small.NAMES[2]), ("none", small.NAMES[0])]
    for number, image in enumerate(pixels):
        path = tmp_path.joinpath("images", *shown[number % 4], f"{number:02d}.png")
        tf.io.write_file(str(path), tf.io.encode_png(image))
    asked = [str(tmp_path / "1"), "--fpr", "0.2", "--confidence", "0.8", "--negatives", str(tmp_path / "images")]
    with pytest.raises(SystemExit, match="has a threshold for each class: ask with --per-class"):
        main(asked)
    slip = tmp_path / "images" / "Cat" / "1.png"
    tf.io.write_file(str(slip), tf.io.encode_png(pixels[0]))
    with pytest.raises(
        SystemExit, match=r"or 'none'\. In .*images there are also: 'Cat'\. .* are: 'cat', 'dög', 'eel'"
    ):
        main([*asked, "--per-class"])
    assert not (tmp_path / "2").exists()
    slip.unlink()
    tf.io.write_file(f"{tmp_path}/images/80.png", tf.io.encode_png(pixels[0]))  # in the folder itself: of no class
    main([*asked, "--per-class"])
    pixels = np.concatenate([pixels, pixels[:1]])
    scores, rows = predictor.predict(pixels)["score"], np.append(np.arange(80) % 4, 0)
    lacking = [(rows == 0) | (rows == 1), rows != 1, rows != 2]
    each = 1 - 0.2 / 3
    expected = [calibration.threshold_at_fpr(scores[lacks, c], 0.2, each) for c, lacks in enumerate(lacking)]
    served = serving.SavedModel(tmp_path / "2")
    assert served.threshold.tolist() == [found.threshold for found in expected]
    assert served.calibration.classes == tuple(expected)
    assert served.calibration.class_names == tuple(small.NAMES)
    assert f"| {small.NAMES[1]} " in capsys.readouterr().out


def test_one_damaged_file_in_a_hundred_is_left_out_and_named(versions, tmp_path, capsys):
    root, _, pixels = versions
    for number in range(99):
        tf.io.write_file(f"{tmp_path}/images/{number:03d}.png", tf.io.encode_png(pixels[number % 60]))
    (tmp_path / "images" / "050.jpg").write_bytes(b"no image")
    asked = [str(root / "served" / "1"), "--fpr", "0.2", "--negatives", str(tmp_path / "images")]
    main([*asked, "--output", str(tmp_path / "9")])
    said = capsys.readouterr().out
    assert f"Left out 1 damaged files: {tmp_path / 'images' / '050.jpg'}" in said
    assert evidence(tmp_path / "9")["samples"] == 99
    assert json.loads((tmp_path / "9" / "assets.extra" / "origin.json").read_text())["left_out"] == [
        str(tmp_path / "images" / "050.jpg")
    ]
    with pytest.raises(SystemExit, match=r"one threshold for all classes.*leave --per-class out.*=-inf"):
        main([*asked, "--per-class"])


def test_what_is_refused_leaves_nothing(versions, tmp_path):
    root, predictor, _ = versions
    first = root / "served" / "1"
    with pytest.raises(FileExistsError, match="never overwrites"):
        serving.retune(first, first, 0.0)
    with pytest.raises(ValueError, match=r"is of the threshold .*, not of 0\.5"):
        serving.retune(first, tmp_path / "2", 0.5, predictor.calibration)
    with pytest.raises(ValueError, match="Received: nan"):
        serving.retune(first, tmp_path / "2", float("nan"))
    tf.saved_model.save(tf.Module(), str(tmp_path / "foreign"))
    with pytest.raises(SystemExit, match="has no threshold to change"):
        main([str(tmp_path / "foreign"), "--threshold", "1"])
    with pytest.raises(SystemExit, match="has no image"):
        main([str(first), "--fpr", "0.1", "--negatives", str(tmp_path / "foreign")])
    with pytest.raises(SystemExit, match="at least 299 negatives; there are 60"):
        main([str(first), "--fpr", "0.01", "--negatives", str(root / "images")])
    shutil.copytree(root / "images", tmp_path / "images")
    pathlib.Path(tmp_path / "images" / "bad.png").write_bytes(b"no image")
    with pytest.raises(SystemExit, match=r"1 of 61 files .* are damaged, such as .*bad\.png"):
        main([str(first), "--fpr", "0.2", "--negatives", str(tmp_path / "images")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["foreign", "images"]
