"""docs/serving.md, as a newcomer walks it: its commands and Python, in order, against real digits and a real server."""

import contextlib
import csv
import importlib
import importlib.util
import pathlib
import re
import shlex
import shutil
import subprocess

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="serving is TensorFlow's part")
pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api")
if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

from google.protobuf import text_format  # noqa: E402
from tensorflow_serving.config import model_server_config_pb2  # noqa: E402

import cplus1_keras  # noqa: E402
from cplus1_keras import data, serving  # noqa: E402

ROOT = pathlib.Path(__file__).parents[2]
specification = importlib.util.spec_from_file_location("model_server", ROOT / "tests/serving/model_server.py")
model_server = importlib.util.module_from_spec(specification)
specification.loader.exec_module(model_server)

NEEDS = {"onnx": ("tf2onnx", "onnxruntime"), "litert": ("ai_edge_litert",)}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder with a run of the digits 0 to 5, its first export, and images of knowns and of strangers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cplus1_keras.export.stop_on_signals", lambda: None)
    monkeypatch.setattr("cplus1_keras.predict.stop_on_signals", lambda: None)
    digits = data.sources.digits()
    images, labels = digits.array, np.where(np.asarray(digits.labels) < 6, digits.labels, -1)
    keras.utils.set_random_seed(0)
    given = keras.Input((8, 8, 1))
    x = keras.layers.Dense(32, activation="relu")(keras.layers.Flatten()(given / 255))
    model = keras.Model(given, keras.layers.Dense(6, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images[:900][labels[:900] >= 0], labels[:900][labels[:900] >= 0], epochs=10, verbose=0)
    predictor = cplus1_keras.wrap(model, [*"012345"], (images[900:1500], labels[900:1500]))
    serving.save("runs/digits", predictor)
    predictor.export("runs/digits/saved_model/1")
    shown = {"my_images": np.flatnonzero(labels >= 0)[-20:], "strangers": np.flatnonzero(labels < 0)[-120:]}
    for folder, places in shown.items():
        for number, place in enumerate(places):
            tf.io.write_file(f"{folder}/{number}.png", tf.io.encode_png(images[place].astype("uint8")))
    return tmp_path


class Walk:
    """Runs what a block of the guide says; `docker compose up` starts the server that the written files describe."""

    def __init__(self, stack):
        self.stack, self.server, self.names, self.done = stack, None, {"__name__": "guide"}, []

    def sh(self, source):
        for line in source.replace("\\\n", " ").replace("|\n", "| ").splitlines():
            words = shlex.split(line)
            if words[:2] == ["docker", "compose"]:
                self.start(pathlib.Path(words[3]).parent)
            elif words[0] == "echo" and shutil.which("curl"):
                found = subprocess.run(["bash", "-c", self.address(line)], capture_output=True, text=True, check=True)
                assert '"class_name"' in found.stdout
            elif words[:2] == ["python", "-m"]:
                self.python_m(words[2], words[3:])
            else:
                assert words[0] in ("tensorflow_model_server", "echo"), line
                continue
            self.done.append(words[2] if words[0] == "python" else words[0])

    def python_m(self, name, arguments):
        to = arguments[-1] if name.endswith("convert") else None
        if any(importlib.util.find_spec(each) is None for each in NEEDS.get(to, ())):
            return
        code = 0
        try:
            importlib.import_module(name).main([self.address(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code
        assert code == 0 or (name.endswith("watch") and code == 3), code  # 3 where the world drifts

    def python(self, source):
        exec(compile(self.address(source), "docs/serving.md", "exec"), self.names)

    def address(self, text):
        return text.replace("http://localhost:8501", self.server.http) if self.server else text

    def start(self, folder):
        text = (folder / "models.config").read_text(encoding="utf-8")
        (config,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
        compose = (folder / "compose.yaml").read_text(encoding="utf-8")
        models = pathlib.Path(re.search(r'source: "([^"]+)", target: "/models', compose)[1])
        versions = {number: models / str(number) for number in config.model_version_policy.specific.versions}
        server = model_server.ModelServer(versions, config.name, dict(config.version_labels))
        self.server = self.stack.enter_context(server)


def test_the_guide_leads_from_a_run_to_answers_over_http(world, capsys):
    text = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    with contextlib.ExitStack() as stack:
        walk = Walk(stack)
        for kind, source in blocks:
            getattr(walk, kind)(source)
    names = "export predict retune server server client watch convert convert"
    assert [name.rpartition(".")[2] for name in walk.done if "." in name] == names.split()

    def table(path):
        with open(path, newline="", encoding="utf-8") as file:
            return [row["class_name"] for row in csv.DictReader(file)]

    assert table("stable.csv") == table("answers/answers.csv")
    assert len({*table("stable.csv")}) > 3
