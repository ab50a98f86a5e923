"""Folders and tables in, parquet out: one row for each input, as the SavedModel answers; what was stopped goes on."""

import concurrent.futures
import json
import runpy
import shutil
import sys
import time

import keras
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import csv, fs, parquet

if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

from cplus1_keras import bulk, heads, layers, serving
from cplus1_keras.bulk import files, inputs, jobs, scoring, tables
from cplus1_keras.bulk.__main__ import main

NAMES = ["cat", "dög", "eel"]
COUNT = 23


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    keras.utils.set_random_seed(0)
    images = keras.Input((12, 16, 3))
    model = keras.Model(images, heads.LinearHead(3)(keras.layers.Flatten()(images / 255)))
    predictor = serving.Predictor(model, layers.Reject(3, threshold=-0.4), NAMES)
    path = tmp_path_factory.mktemp("model") / "1"
    predictor.export(path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of 23 files, deeper ones too: two are no images, one is empty; and a text, which is none of them."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        path = folder / str(number % 3) / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (24, 20 + number, 3)).astype("uint8")).save(path)
    (folder / "1" / "07.png").write_bytes(b"\x89PNG, or so it says")
    (folder / "2" / "11.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no image", encoding="utf-8")
    return folder


def read(output):
    return pa.concat_tables([parquet.read_table(path) for path in sorted(output.glob("part-*.parquet"))])


def expected(saved_model, paths):
    """What the SavedModel says of each file by itself."""
    model = serving.SavedModel(saved_model)
    answers = [model.predict_bytes([path.read_bytes()]) for path in paths]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in ("class_name", "score", "valid")}


def agree(table, saved_model, paths):
    wanted = expected(saved_model, paths)
    assert table["class_name"].to_pylist() == wanted["class_name"].tolist()
    assert table["valid"].to_pylist() == wanted["valid"].tolist()
    fine = wanted["valid"]
    assert [score is not None for score in table["score"].to_pylist()] == fine.tolist()
    np.testing.assert_allclose(table["score"].filter(table["valid"]).to_numpy(), wanted["score"][fine], rtol=1e-5)


def test_every_image_of_a_folder_has_one_row_in_order(saved_model, images, tmp_path, capsys):
    output = tmp_path / "answers"
    main([str(saved_model), "--input", str(images), "--output", str(output), "--part", "10", "--batch-size", "4"])
    paths = sorted(images.rglob("*.png"))
    table = read(output)
    assert table["path"].to_pylist() == [str(path) for path in paths]
    assert len(table) == COUNT
    assert sorted(path.name for path in output.iterdir()) == [
        "_inputs.parquet",
        "_job.json",
        "_problems.csv",
        "part-000000.parquet",
        "part-000001.parquet",
        "part-000002.parquet",
    ]
    agree(table, saved_model, paths)
    problems = csv.read_csv(output / "_problems.csv").to_pylist()
    assert [row["path"] for row in problems] == [str(images / "1" / "07.png"), str(images / "2" / "11.png")]
    assert [row["problem"][:16] for row in problems] == ["cannot be answer", "cannot be read: "]
    assert [why for why in table["problem"].to_pylist() if why] == [row["problem"] for row in problems]
    said = capsys.readouterr()
    assert "23 images are answered" in said.out
    assert "2 of them have no answer" in said.out
    assert "3/3 parts" in said.err


def test_what_was_stopped_goes_on_and_what_is_done_stays(saved_model, images, tmp_path, monkeypatch):
    write, output = jobs.Job.write, tmp_path / "answers"

    def stop_at_the_second(self, number, table):
        if number == 1:
            raise KeyboardInterrupt
        write(self, number, table)

    monkeypatch.setattr(jobs.Job, "write", stop_at_the_second)
    with pytest.raises(SystemExit, match="start again to go on"):
        main([str(saved_model), f"--input={images}", f"--output={output}", "--part=8"])
    monkeypatch.setattr(jobs.Job, "write", write)
    done = output / "part-000000.parquet"
    before = done.stat().st_mtime_ns
    (output / ".unfinished-of-a-killed-worker-part-000001.parquet").write_bytes(b"half")
    more = tmp_path / "more"
    shutil.copytree(images, more)
    assert bulk.score(saved_model, images, output, part=5) == (COUNT, 2)
    assert done.stat().st_mtime_ns == before
    assert read(output)["path"].to_pylist() == [str(path) for path in sorted(images.rglob("*.png"))]
    assert not [path for path in output.iterdir() if path.name.startswith(".")]
    monkeypatch.setattr(scoring, "Worker", None)  # all is done: no model is loaded
    assert bulk.score(saved_model, images, output) == (COUNT, 2)
    with pytest.raises(ValueError, match="answers for another input"):
        bulk.score(saved_model, more, output)
    with pytest.raises(ValueError, match="answers for another column"):
        bulk.score(saved_model, images, output, column="path")
    other = tmp_path / "2"
    serving.retune(saved_model, other, 0.7)
    with pytest.raises(ValueError, match="answers for another model"):
        bulk.score(other, images, output)


def test_a_part_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "part"
    files.write_file(path, b"first")

    def fail(self, source, target):
        raise OSError("disk full")

    monkeypatch.setattr(files, "locate", lambda path: (Failing(), str(path)))

    class Failing:
        """A local file system whose disk is full when a file is renamed."""

        def __getattr__(self, name):
            return getattr(fs.LocalFileSystem(), name)

        move = fail

    with pytest.raises(OSError, match=r"part cannot be written: disk full"):
        files.write_file(path, b"second")
    assert path.read_bytes() == b"first"
    assert [own.name for own in path.parent.iterdir()] == ["part"]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_column_of_paths(saved_model, images, tmp_path, ending):
    paths = sorted(images.rglob("*.png"))[:3]
    shutil.copy(paths[0], tmp_path / "near.png")
    table = pa.table({"number": [1, 2, 3, 4], "image": [str(paths[1]), "near.png", str(paths[2]), "none.png"]})
    own = tmp_path / f"inputs.{ending}"
    {"csv": csv.write_csv, "parquet": parquet.write_table}[ending](table, own)
    assert bulk.score(saved_model, str(own), tmp_path / "answers", column="image") == (4, 1)
    found = read(tmp_path / "answers")
    assert found["path"].to_pylist() == table["image"].to_pylist()
    agree(found.slice(0, 3), saved_model, [paths[1], tmp_path / "near.png", paths[2]])
    last = found.slice(3).to_pylist()[0]
    assert (last["class_name"], last["valid"], last["score"]) == ("unknown", False, None)
    assert last["problem"].startswith("cannot be read: ")
    with pytest.raises(ValueError, match="no column 'path'; there are number, image"):
        bulk.score(saved_model, str(own), tmp_path / "others")
    with pytest.raises(ValueError, match=r"must name images or hold their bytes\. It is int64"):
        bulk.score(saved_model, str(own), tmp_path / "others", column="number")


def test_a_column_of_bytes_in_a_folder_of_parquet(saved_model, images, tmp_path):
    paths = sorted(images.rglob("*.png"))
    folder = tmp_path / "tables"
    folder.mkdir()
    for number, own in enumerate((paths[:9], paths[9:20])):
        contents = pa.array([path.read_bytes() for path in own], pa.binary())
        columns = {"image": contents} if number else {"path": [path.name for path in own], "image": contents}
        parquet.write_table(pa.table(columns), folder / f"{number}.parquet", row_group_size=4)
    assert bulk.score(saved_model, folder, tmp_path / "answers", column="image", part=7, batch_size=3)[0] == 20
    found = read(tmp_path / "answers")
    named = [path.name for path in paths[:9]] + [f"{folder}/1.parquet#{row}" for row in range(11)]
    assert found["path"].to_pylist() == named
    agree(found, saved_model, paths[:20])


def test_an_object_store_is_a_file_system_like_any_other(saved_model, images, tmp_path, monkeypatch):
    (tmp_path / "bucket").mkdir()
    shutil.copytree(images, tmp_path / "bucket" / "in")
    store = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr(files, "_connect", lambda root: (store, root.removeprefix("s3://")))
    assert bulk.score(saved_model, "s3://bucket/in", "s3://bucket/out/1", part=9) == (COUNT, 2)
    found = read(tmp_path / "bucket" / "out" / "1")
    names = sorted(str(path.relative_to(images)) for path in images.rglob("*.png"))
    assert found["path"].to_pylist() == [f"s3://bucket/in/{name}" for name in names]
    agree(found, saved_model, [images / name for name in names])


def test_a_batch_that_fails_whole_is_answered_in_halves(saved_model, images, tmp_path, monkeypatch):
    import tensorflow as tf

    answer, bad = serving.SavedModel.predict_bytes, (images / "0" / "03.png").read_bytes()

    def fail(self, contents, batch_size=None):
        if len(contents) > 8:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        if bad in contents:
            raise tf.errors.InvalidArgumentError(None, None, "odd image\nwith a long trace")
        return answer(self, contents, batch_size)

    monkeypatch.setattr(serving.SavedModel, "predict_bytes", fail)
    assert bulk.score(saved_model, images, tmp_path / "answers", batch_size=16) == (COUNT, 3)
    rows = {row["path"]: row for row in read(tmp_path / "answers").to_pylist()}
    assert len(rows) == COUNT
    row = rows[str(images / "0" / "03.png")]
    assert (row["class_name"], row["valid"], row["problem"]) == (None, False, "cannot be answered: odd image")


@pytest.mark.parametrize(("name", "text"), [("InternalError", "no fault"), ("ResourceExhaustedError", "one image")])
def test_what_is_no_fault_of_an_image_is_not_recorded_as_one(saved_model, images, tmp_path, monkeypatch, name, text):
    import tensorflow as tf

    def fail(*given):
        raise getattr(tf.errors, name)(None, None, "the GPU fell off the bus")

    monkeypatch.setattr(serving.SavedModel, "predict_bytes", fail)
    with pytest.raises(RuntimeError, match=rf"{text}.*the GPU fell off the bus"):
        bulk.score(saved_model, images, tmp_path / "answers")
    assert not list((tmp_path / "answers").glob("part-*"))


def test_a_job_means_the_same_in_every_folder(saved_model, images, tmp_path, monkeypatch):
    monkeypatch.chdir(images.parent)
    job = jobs.open_job(saved_model, images.name, tmp_path / "answers")
    assert (job.source, job.output) == (str(images), str(tmp_path / "answers"))
    monkeypatch.chdir(tmp_path)
    assert jobs.open_job(saved_model, images.as_uri(), "answers") == job
    assert job.read_inputs(0)[0]["file"] == str(images / "0" / "00.png")


def test_a_kill_while_the_job_is_opened_is_no_obstacle(saved_model, images, tmp_path):
    output = tmp_path / "answers"
    output.mkdir()
    (output / "_inputs.parquet").write_bytes(b"")
    (output / ".unfinished-host-_job.json").write_bytes(b"{")
    (output / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"other files, such as mine\.txt"):
        jobs.open_job(saved_model, images, output)
    (output / "mine.txt").unlink()
    assert jobs.open_job(saved_model, images, output).rows == COUNT


def test_what_is_stopped_while_it_is_written_leaves_nothing(tmp_path, monkeypatch):
    class Stopped:
        """A local file system whose process is told to stop when a file is renamed."""

        def __getattr__(self, name):
            return getattr(fs.LocalFileSystem(), name)

        def move(self, source, target):
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "locate", lambda path: (Stopped(), str(path)))
    with pytest.raises(KeyboardInterrupt):
        files.write_file(tmp_path / "part", b"whole")
    assert not list(tmp_path.iterdir())


def test_batches_that_are_read_at_once_load_a_row_group_once(tmp_path, monkeypatch):
    path, loaded = str(tmp_path / "images.parquet"), []
    parquet.write_table(pa.table({"image": pa.array([b"%d" % n for n in range(40)])}), path, row_group_size=20)
    load = parquet.ParquetFile.read_row_group

    def slow(self, group, **given):
        loaded.append(group)
        time.sleep(0.05)
        return load(self, group, **given)

    monkeypatch.setattr(parquet.ParquetFile, "read_row_group", slow)
    rows = [{"path": "", "file": path, "row": row} for row in range(40)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        batches = pool.map(lambda i: inputs.read_contents(rows[i : i + 5], "image"), range(0, 20, 5))
        assert b"".join(b"".join(contents) for contents, _ in batches) == b"".join(b"%d" % n for n in range(20))
    assert loaded == [0]


def test_pixels_have_shares_of_each_image_whatever_its_size(images, tmp_path):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, None, 3))
    logits = keras.layers.Conv2D(3, 3, padding="same")(inputs / 255)
    predictor = serving.Predictor(keras.Model(inputs, {"logits": logits}), layers.Reject(3, 0.2), NAMES)
    predictor.export(tmp_path / "1")
    paths = sorted((images / "1").iterdir())  # of two sizes in a batch
    assert bulk.score(tmp_path / "1", images / "1", tmp_path / "answers", part=6, batch_size=5) == (len(paths), 1)
    for row, path in zip(read(tmp_path / "answers").to_pylist(), paths, strict=True):
        if path.name == "07.png":
            assert not row["valid"]
            assert row["problem"]
            continue
        answer = predictor.predict(np.asarray(Image.open(path))[None])["class_id"]
        shares = {NAMES[k]: np.mean(answer == k) for k in np.unique(answer) if k >= 0}
        assert row["rejected"] == pytest.approx(np.mean(answer == -1), abs=2e-3)
        assert {each["class_name"]: each["share"] for each in row["shares"]} == pytest.approx(shares, abs=2e-3)
        assert row["valid"]


def test_objects_are_a_list(monkeypatch):
    class Model:
        spec = serving.BoxSpec(max_detections=3)
        class_names = NAMES

    boxes = np.arange(24.0).reshape(2, 3, 4)
    answers = {
        "boxes": boxes,
        "class_name": np.array([["cat", "unknown", ""], ["", "", ""]]),
        "valid": np.array([True, False]),
        "score": np.array([[2.0, 1.0, 0], [0, 0, 0]]),
        "confidence": np.array([[0.9, 0.8, 0], [0, 0, 0]]),
        "num_detections": np.array([2, 0]),
    }
    told = tables.tell(Model, answers)
    assert told["objects"][1] == []
    rows = pa.array(told["objects"], tables.COLUMNS[Model.spec.output]["objects"]).to_pylist()
    assert [row["class_name"] for row in rows[0]] == ["cat", "unknown"]
    assert rows[0][1] == {
        "x1": 4,
        "y1": 5,
        "x2": 6,
        "y2": 7,
        "class_name": "unknown",
        "score": 1,
        "confidence": pytest.approx(0.8),
    }
    assert tables.schema(Model.spec).names == ["path", "objects", "valid", "problem"]


def test_what_cannot_be_scored_is_said(saved_model, images, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    (tmp_path / "odd.parquet").write_bytes(b"odd")
    for given, text in (
        ([tmp_path, f"--input={images}", "--output=x"], "is no SavedModel"),
        ([saved_model, "--input=nowhere", "--output=x"], "There is no file or folder .*nowhere"),
        ([saved_model, f"--input={tmp_path}/empty", "--output=x"], "has no image"),
        ([saved_model, f"--input={tmp_path}/empty", "--column=image", "--output=x"], "has no row"),
        ([saved_model, f"--input={images}", f"--output={tmp_path}/taken"], "holds other files, such as mine.txt"),
        ([saved_model, f"--input={images}", "--output=x", "--part=0"], "at least 1. Received: part=0"),
        ([saved_model, f"--input={tmp_path}/odd.parquet", "--output=x"], "no table of inputs"),
        ([saved_model, "--input=nothing://here", "--output=x"], "nothing://here cannot be reached"),
    ):
        with pytest.raises(SystemExit, match=text):
            main([*map(str, given)])


def test_the_job_says_where_it_comes_from(saved_model, images, tmp_path):
    job = jobs.open_job(saved_model, images, tmp_path / "answers", part=10)
    assert (job.rows, job.parts, job.missing()) == (COUNT, 3, [0, 1, 2])
    record = json.loads((tmp_path / "answers" / "_job.json").read_text())
    assert record["saved_model"] == str(saved_model)
    assert {"commit", "machine", "packages", "date"} <= set(record)
    assert jobs.open_job(saved_model, images, tmp_path / "answers", part=3) == job


def test_it_runs_as_a_module_of_the_checkout(saved_model, images, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["score", str(saved_model), f"--input={images}", f"--output={tmp_path}/answers"])
    runpy.run_module("export.score", run_name="__main__")
    assert len(read(tmp_path / "answers")) == COUNT
