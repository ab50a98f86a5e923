"""Files in, answers out: the table says what `predict` says, for each kind of answer."""

import csv

import keras
import numpy as np
import pytest
from PIL import Image

if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

import cplus1_keras
from cplus1_keras import heads, layers, models, serving
from cplus1_keras.predict import main, predict

NAMES = ["cat", "dög", "eel"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of five images of two sizes, one of them in a folder inside, one damaged; and a text."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "more").mkdir()
    rng = np.random.default_rng(0)
    for number, name in enumerate(("a.png", "b.PNG", "c.bmp", "more/d.png")):
        pixels = rng.integers(0, 256, (24, 32 if number % 2 else 24, 3)).astype("uint8")
        Image.fromarray(pixels).save(folder / name)
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff, or so it says")
    (folder / "notes.txt").write_text("no image", encoding="utf-8")
    return folder


def saved(folder, model, decision, spec=None):
    serving.save(folder / "run", serving.Predictor(model, decision, NAMES, spec))
    return folder / "run"


def answers(run, paths, output):
    """What `predict` writes for a run, once its SavedModel was seen to give the same table and pictures."""
    serving.load(run).export(run / "saved_model" / "1")
    written = [predict(path, paths, output / path.name) for path in (run, run / "saved_model" / "1")]
    (folder, damaged), (other, also) = written
    assert table(other) == table(folder)
    assert also == damaged
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert [(other / path).read_bytes() for path in files] == [(folder / path).read_bytes() for path in files]
    return folder, damaged


def classifier():
    keras.utils.set_random_seed(0)
    images = keras.Input((12, 16, 3))
    return keras.Model(images, heads.LinearHead(3)(keras.layers.Flatten()(images / 255)))


def table(folder):
    with open(folder / "answers.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read(path, size=None):
    image = Image.open(path)
    return np.asarray(image.resize(size, Image.BILINEAR) if size else image, "float32")[None]


def test_images_are_resized_and_answered_and_a_bad_one_is_named(images, tmp_path):
    run = saved(tmp_path, classifier(), layers.Reject(3, threshold=-0.4))
    folder, damaged = answers(run, [images], tmp_path / "out")
    rows = {row["path"]: row for row in table(folder)}
    assert [*rows] == sorted(str(path) for path in images.rglob("*") if path.suffix.lower() in (".png", ".bmp", ".jpg"))
    assert damaged == [images / "bad.jpg"]
    bad = rows.pop(str(images / "bad.jpg"))
    assert bad["problem"].startswith("cannot be read: ")
    assert not bad["class_name"]
    predictor = cplus1_keras.load(run)
    for path, row in rows.items():
        answer = predictor.predict(read(path, (16, 12)))
        assert row["class_name"] == answer["class_name"][0]
        assert float(row["score"]) == pytest.approx(answer["score"][0], abs=0.05)  # PIL rounds what it resizes
        assert (row["valid"], row["problem"]) == ("True", "")
    assert len({row["class_name"] for row in rows.values()}) > 1
    assert not (folder / "pictures").exists()


def test_pixels_get_a_picture_each_at_their_own_size(images, tmp_path):
    keras.utils.set_random_seed(1)
    given = keras.Input((None, None, 3))
    model = models.segmentation_model(given, keras.layers.Conv2D(4, 3, 2, "same")(given / 64 - 2), heads.LinearHead(3))
    spec = serving.PixelSpec(colours=((1, 1, 1), (9, 0, 0), (0, 9, 0), (0, 0, 9)))
    run = saved(tmp_path, model, layers.Reject(3, threshold=0.5), spec)
    folder, _ = answers(run, [images / "more", images / "a.png"], tmp_path / "out")
    first, second = table(folder)
    answer = cplus1_keras.load(run).predict(read(images / "more" / "d.png"))["class_id"][0]
    assert float(first["rejected"]) == pytest.approx(np.mean(answer == -1))
    assert 0 < np.mean(answer == -1) < 1
    assert first["classes"] == "; ".join(NAMES[k] for k in np.unique(answer) if k >= 0)
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == ["000000_d.png", "000001_a.png"]
    picture = np.asarray(Image.open(folder / "pictures" / "000000_d.png"))
    np.testing.assert_array_equal(picture, np.array(spec.colours)[answer + 1])
    assert second["path"] == str(images / "a.png")


def test_label_sets_are_told_by_name(images, tmp_path):
    run = saved(tmp_path, classifier(), layers.Presence(3, [0.0, 0.0, 99.0]), serving.LabelSetSpec())
    folder, _ = answers(run, [images / "a.png", images / "c.bmp"], tmp_path / "out")
    for row in table(folder):
        present = cplus1_keras.load(run).predict(read(row["path"], (16, 12)))["present"][0]
        assert row["classes"] == "; ".join(np.array(NAMES)[present])
        assert row["none"] == str(not present.any())


def test_objects_have_a_row_each(images, tmp_path):
    keras.utils.set_random_seed(2)
    given = keras.Input((24, 24, 3))
    flat = keras.layers.Flatten()(given / 255)
    values = {name: keras.layers.Dense(9 * n) for name, n in (("logits", 4), ("box_offsets", 4), ("centerness", 1))}
    outputs = {name: keras.layers.Reshape((9, -1))(layer(flat)) for name, layer in values.items()}
    outputs["centerness"] = outputs["centerness"][..., 0]
    outputs["box_offsets"] = keras.ops.softplus(outputs["box_offsets"]) * 4
    grid = np.array([(4 + 8 * x, 4 + 8 * y, 8) for y in range(3) for x in range(3)], "float32")
    outputs["points"] = outputs["box_offsets"][..., :3] * 0.0 + grid[None]
    run = saved(tmp_path, keras.Model(given, outputs), layers.Reject(3, threshold=-0.5), serving.BoxSpec())
    folder, _ = answers(run, [images / "a.png"], tmp_path / "out")
    answer = {name: value[0] for name, value in cplus1_keras.load(run).predict(read(images / "a.png")).items()}
    rows = table(folder)
    assert len(rows) == answer["num_detections"] > 1
    for i, row in enumerate(rows):
        assert [float(row[name]) for name in ("x1", "y1", "x2", "y2")] == pytest.approx(answer["boxes"][i].tolist())
        assert (row["class_name"], float(row["score"])) == (answer["class_name"][i], pytest.approx(answer["score"][i]))
        assert float(row["confidence"]) == pytest.approx(answer["confidence"][i])


def test_the_command_says_what_it_wrote_or_what_is_missing(images, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cplus1_keras.predict.stop_on_signals", lambda: None)
    run = saved(tmp_path, classifier(), layers.Reject(3, threshold=0.0))
    for name in ("answers", "answers-2"):  # nothing is overwritten
        main([str(run), str(images)])
        said = capsys.readouterr()
        assert (
            said.out == f"Wrote {name}.\n1 files have no answer; the column `problem` says why: {images / 'bad.jpg'}\n"
        )
        assert said.err.splitlines()[-1].startswith("5/5 images ")
        assert len(table(tmp_path / name)) == 5
    (tmp_path / "empty").mkdir()
    wrong = ([tmp_path / "none", images], [run, "nowhere"], [run, tmp_path / "empty"])
    for arguments, told in zip(wrong, ("no finished run", "no file or folder nowhere", "has no image"), strict=True):
        with pytest.raises(SystemExit, match=f"Nothing is written.*{told}"):
            main([*map(str, arguments)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers", "answers-2", "empty", "run"]
