"""The client against a server that speaks TF Serving's protocols, backed by real SavedModels: answers and faults."""

import contextlib
import csv
import importlib.util
import json
import pathlib
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="serving is TensorFlow's part")
if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

from cplus1_keras import heads, layers, serving  # noqa: E402  needs TensorFlow
from cplus1_keras.client import Client, ServerError, answer_files, main, tell, to_rows  # noqa: E402
from cplus1_keras.models import segmentation_model  # noqa: E402
from cplus1_keras.predict import predict  # noqa: E402

ROOT = pathlib.Path(__file__).parents[2]
specification = importlib.util.spec_from_file_location("model_server", ROOT / "tests/serving/model_server.py")
model_server = importlib.util.module_from_spec(specification)
specification.loader.exec_module(model_server)


@pytest.fixture(scope="module")
def models(small, tmp_path_factory):
    """Folder of versions 1 and 2, of which the second refuses more, and a folder of 20 images."""
    root = tmp_path_factory.mktemp("client")
    model = small.build()
    serving.Predictor(model, small.rejecting(model)[0], small.NAMES).export(root / "served" / "1")
    serving.retune(root / "served" / "1", root / "served" / "2", np.inf)
    for number, image in enumerate(small.pixels(20, seed=5).astype("uint8")):
        tf.io.write_file(f"{root}/images/{number % 3}/{number:02d}.png", tf.io.encode_png(image))
    return root


@pytest.fixture(scope="module")
def server(models):
    versions = {number: models / "served" / str(number) for number in (1, 2)}
    with model_server.ModelServer(versions, "digits", {"stable": 1, "canary": 2}) as server:
        yield server


@pytest.fixture
def ask():
    """Function to a client, which is closed when the test ends."""
    with contextlib.ExitStack() as stack:

        def client(server, way, **settings):
            settings = {"model": "digits", "version": 1, "wait": 0.01, **settings}
            return stack.enter_context(contextlib.closing(Client(getattr(server, way), **settings)))

        yield client


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


WAYS = pytest.mark.parametrize("way", ["http", "rpc"])


@WAYS
def test_the_table_is_that_of_predict(models, server, way, tmp_path, capsys):
    folder, _ = predict(models / "served" / "1", [models / "images"], tmp_path / "answers")
    address, output = getattr(server, way), tmp_path / "table.csv"
    asked = [address, str(models / "images"), "--model", "digits", "--label", "stable", "--output", str(output)]
    main([*asked, "--batch-size", "3", "--concurrency", "2"])
    said = capsys.readouterr()
    assert said.out == f"Wrote {output}.\n"
    assert said.err.endswith("\r20/20 images\n")
    rows, expected = table(output), table(folder / "answers.csv")
    assert [*rows[0]] == [*expected[0]]
    for row, want in zip(rows, expected, strict=True):
        assert float(row.pop("score")) == pytest.approx(float(want.pop("score")), rel=1e-5)
        assert row == want
    assert {row["class_name"] for row in rows} > {"unknown"}
    with pytest.raises(SystemExit):
        main(asked)  # nothing is overwritten
    assert "exists, and no table is overwritten" in capsys.readouterr().err


@WAYS
def test_versions_and_labels_choose_the_model(ask, models, server, way):
    raw = [path.read_bytes() for path in sorted((models / "images").rglob("*.png"))]
    first, second = (ask(server, way, version=number).predict_bytes(raw) for number in (1, 2))
    assert any(answer["known"] for answer in first)
    assert not any(answer["known"] for answer in second)
    assert ask(server, way, version=None).predict_bytes(raw) == second  # the newest
    assert ask(server, way, version=None, label="canary").predict_bytes(raw) == second
    assert ask(server, way, version=None, label="stable").predict_bytes(raw) == first


@WAYS
@pytest.mark.parametrize("faults", [["503"], ["cut", "503", "cut"]])
def test_what_passes_is_asked_again(ask, models, server, way, faults):
    raw = [(models / "images" / "0" / "00.png").read_bytes()]
    expected, before = ask(server, way).predict_bytes(raw), server.requests
    server.faults.extend(faults)
    assert ask(server, way, attempts=len(faults) + 1).predict_bytes(raw) == expected
    assert server.requests == before + len(faults) + 1
    server.faults.extend(faults)
    with pytest.raises(ServerError):
        ask(server, way, attempts=len(faults)).predict_bytes(raw)
    assert not server.faults


@WAYS
def test_a_slow_server_is_not_waited_for(ask, models, server, way):
    raw = [(models / "images" / "0" / "00.png").read_bytes()]
    expected = ask(server, way).predict_bytes(raw)
    server.faults.append("slow")  # a second
    start = time.monotonic()
    assert ask(server, way, timeout=0.3, attempts=2).predict_bytes(raw) == expected
    assert time.monotonic() - start < 0.9
    server.faults.append("slow")
    with pytest.raises(ServerError, match=r"timed out|DEADLINE_EXCEEDED"):
        ask(server, way, timeout=0.3, attempts=1).predict_bytes(raw)


def test_waits_grow_are_random_and_end(monkeypatch, server):
    waits, shares = [], iter([0.5, 1.0, 0.25, 1.0])
    monkeypatch.setattr("cplus1_keras.client.time.sleep", waits.append)
    monkeypatch.setattr("cplus1_keras.client.random.random", lambda: next(shares))
    with pytest.raises(ServerError, match="refused"):
        Client("http://localhost:1", attempts=5, wait=2.0).predict_bytes([b""])
    assert waits == [0.5 * 2, 1.0 * 4, 0.25 * 8, 1.0 * 10]


@WAYS
def test_what_does_not_pass_is_not_asked_again(ask, server, way):
    wrong = {"model": "letters"}, {"version": 3}
    for settings in wrong:
        with pytest.raises(ServerError, match="Servable not found") as found:
            ask(server, way, **settings).check()
        assert not found.value.passing


@WAYS
def test_files_are_answered_in_order_and_a_bad_one_costs_no_other(ask, models, server, way):
    files = sorted((models / "images").rglob("*.png"))
    expected = ask(server, way).predict_bytes([path.read_bytes() for path in files])
    asked = [*files[:4], models / "gone.png", ROOT / "README.md", *files[4:]]
    server.most = 0
    found = list(answer_files(ask(server, way), asked, concurrency=3, batch_size=4))
    assert [path for path, _, _ in found] == asked
    problems = [problem for _, _, problem in found]
    assert [bool(problem) for problem in problems] == [False] * 4 + [True] + [False] * 17
    assert "No such file" in problems[4]
    answers = [answer for _, answer, problem in found if not problem]
    assert not answers.pop(4)["valid"]
    rows = list(to_rows(iter(found)))
    assert [row["problem"] for row in rows[5:7]] == ["The server reads no image in it.", ""]
    for answer, want in zip(answers, expected, strict=True):
        assert answer.pop("score") == pytest.approx(want.pop("score"), rel=1e-4, abs=1e-4)
        assert answer.pop("probabilities") == pytest.approx(want.pop("probabilities"), abs=1e-4)
        assert answer == want
    assert 1 <= server.most <= 3


def test_no_more_is_read_than_is_under_way(ask, models, server):
    given, path = [], models / "images" / "0" / "00.png"
    found = answer_files(ask(server, "http"), (given.append(1) or path for _ in range(50)), 2, 1)
    for number in range(1, 11):
        next(found)
        assert len(given) <= number + 4
    found.close()
    assert len(given) < 20


def test_a_server_that_is_not_there_is_told_before_any_file(models, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"Nothing is written\. localhost:1: .*refused"):
        main(["http://localhost:1", str(models / "images"), "--attempts", "1"])
    with pytest.raises(SystemExit, match="There is no image at nowhere"):
        main(["http://localhost:1", "nowhere"])
    with pytest.raises(SystemExit, match="http://HOST:PORT"):
        main(["localhost:8501", str(models / "images")])
    assert not list(tmp_path.iterdir())


def test_neither_keras_nor_tensorflow_is_imported_for_rest(models, server, tmp_path):
    """By the command of a checkout, where importing either fails."""
    code = f"""
        import runpy, sys
        sys.modules["keras"] = sys.modules["tensorflow"] = sys.modules["numpy"] = None
        sys.argv = ["client", "{server.http}", "{models / "images"}", "--model", "digits", "--output", "out.csv"]
        runpy.run_module("export.client", run_name="__main__")
    """
    code, env = "\n".join(line.strip() for line in code.splitlines()), {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True, timeout=60)
    assert len(table(tmp_path / "out.csv")) == 20


@pytest.mark.parametrize("spec", [serving.PixelSpec(), serving.BoxSpec(), serving.LabelSetSpec(), serving.ImageSpec()])
def test_rows_are_those_that_the_specs_tell(spec):
    answer = {
        "pixel": {"class_id": [[-1, 2, -1], [0, 2, -1], [-1] * 3], "sizes": [2, 2]},
        "boxes": {
            "boxes": [[1.0, 2.0, 3.0, 4.0], [0.0] * 4],
            "class_name": ["eel", ""],
            "score": [0.5, -1.0],
            "confidence": [0.25, 0.0],
            "num_detections": 1,
        },
        "label_set": {"present": [True, False, True], "none": False, "valid": True},
        "image": {"class_name": "dög", "score": 0.5, "valid": True, "class_id": 1, "probabilities": [0.0] * 3},
    }[spec.output]
    names = ["cat", "dög", "eel"]
    arrays = {name: np.asarray(value) for name, value in answer.items()}
    if "sizes" in answer:
        arrays["class_id"] = arrays["class_id"][:2, :2]
    expected = spec.tell(type("Names", (), {"class_names": names}), arrays)
    assert json.dumps(tell(answer, names)) == json.dumps(expected)


def test_mistakes_of_the_command_are_one_sentence(models, server, monkeypatch, tmp_path):
    asked = [str(models / "images"), "--model", "digits", "--output", str(tmp_path / "table.csv")]
    for text in ("[1]", '{"output": "image"}', "names", "3"):
        (tmp_path / "classes.json").write_text(text)
        with pytest.raises(SystemExit, match=r"^Nothing is written\. .*classes\.json names no classes\. Give assets"):
            main([server.http, *asked, "--classes", str(tmp_path / "classes.json")])
    with pytest.raises(SystemExit, match=r"^Nothing is written\. .*No such file"):
        main([server.http, *asked, "--classes", str(tmp_path / "gone.json")])
    for answer in (
        {"present": [True, False, True], "none": False, "valid": True},
        {"class_id": [[2]], "sizes": [1, 1]},
    ):
        with pytest.raises(ValueError, match=r"^The 2 names of --classes are not those of the model"):
            tell(answer, ["cat", "dog"])
    with pytest.raises(ValueError, match="The 4 names"):
        tell({"present": [False] * 3, "none": True, "valid": True}, list("abcd"))
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(SystemExit, match=r"^Nothing is written\. grpc:// needs `pip install tensorflow-serving-api`"):
        main([server.rpc, *asked])
    assert not (tmp_path / "table.csv").exists()


@WAYS
def test_pixels_of_images_of_several_sizes_are_told_as_predict_tells_them(small, way, tmp_path):
    keras.utils.set_random_seed(1)
    given = keras.Input((None, None, 3))
    model = segmentation_model(given, keras.layers.Conv2D(4, 3, 2, "same")(given / 64 - 2), heads.LinearHead(3))
    serving.Predictor(model, layers.Reject(3, 0.5), small.NAMES, serving.PixelSpec((40, 64))).export(tmp_path / "1")
    rng = np.random.default_rng(0)
    for number, size in enumerate(((8, 8), (9, 30), (40, 7), (41, 8), (16, 16))):  # the fourth is too large
        image = rng.integers(0, 256, (*size, 3)).astype("uint8")
        tf.io.write_file(f"{tmp_path}/images/{number}.png", tf.io.encode_png(image))
    folder, (large,) = predict(tmp_path / "1", [tmp_path / "images"], tmp_path / "answers")
    classes = str(tmp_path / "1" / serving.CLASSES_FILE)
    output = tmp_path / "table.csv"
    with model_server.ModelServer({1: tmp_path / "1"}) as server:
        asked = [getattr(server, way), str(tmp_path / "images"), "--output", str(output)]
        main([*asked, "--classes", classes, "--batch-size", "3"])
    rows, expected = table(output), table(folder / "answers.csv")
    assert [row.pop("problem") for row in rows] == ["", "", "", "The server reads no image in it.", ""]
    assert [row.pop("problem")[:18] for row in expected] == ["", "", "", "cannot be answered", ""]
    assert rows == expected
    assert large.name == "3.png"
    assert 0 < float(rows[1]["rejected"]) < 1
