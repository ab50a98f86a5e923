"""A run's directory: it keeps its answers, says what is wrong with it, and loading it loads no training code."""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="serving is TensorFlow's part")
if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

import cplus1_keras  # noqa: E402
from cplus1_keras import calibration, heads, scores, serving  # noqa: E402  needs TensorFlow
from cplus1_keras.layers import Reject  # noqa: E402
from cplus1_keras.losses import CrossEntropyLoss  # noqa: E402
from cplus1_keras.models import OpenSetModel  # noqa: E402
from cplus1_keras.serving import Predictor  # noqa: E402

ROOT = pathlib.Path(__file__).parents[2]


def evidence(threshold, score="log_odds"):
    found = calibration.threshold_at_fpr(np.linspace(-1, 1, 200), 0.1, score=score)
    return dataclasses.replace(found, threshold=float(threshold))


@pytest.fixture(scope="module")
def predictor(small):
    model = small.build()
    reject, _ = small.rejecting(model)
    return Predictor(model, reject, small.NAMES, calibration=evidence(reject.threshold.numpy()))


@pytest.fixture(scope="module")
def finished(predictor, tmp_path_factory):
    run = tmp_path_factory.mktemp("finished") / "run"
    serving.save(run, predictor)
    return run


@pytest.fixture
def run(finished, tmp_path):
    return pathlib.Path(shutil.copytree(finished, tmp_path / "run"))


def test_a_run_keeps_its_answers_through_save_load_and_export(small, predictor, run):
    assert sorted(file.name for file in run.iterdir()) == [serving.CALIBRATION_FILE, serving.MODEL_FILE]
    loaded, wanted = cplus1_keras.load(run), predictor.predict(small.pixels(16))
    assert (loaded.calibration, loaded.class_names) == (predictor.calibration, small.NAMES)
    assert loaded.spec == serving.ImageSpec()
    for name, value in loaded.predict(small.pixels(16)).items():
        np.testing.assert_array_equal(value, wanted[name])
    assert 0 < wanted["known"].sum() < 16
    loaded.export(serving.next_version(run), samples=small.pixels(16))
    assert (run / serving.SAVED_MODEL_FOLDER / "1" / "saved_model.pb").is_file()
    for name in ("7", "draft", "8.tmp"):
        (run / serving.SAVED_MODEL_FOLDER / name).mkdir()
    assert serving.next_version(run).name == "8"


def test_a_run_without_evidence_keeps_its_threshold(small, predictor, tmp_path):
    reject = Reject(3, -np.inf, "max_logit")
    serving.save(tmp_path, Predictor(predictor.model, reject, small.NAMES))
    loaded = serving.load(tmp_path)
    assert loaded.calibration is None
    assert loaded.reject.threshold.numpy() == -np.inf
    assert loaded.reject.score is scores.max_logit


class Stranger(CrossEntropyLoss):
    """A loss that nobody registered."""


@pytest.mark.parametrize("nested", [False, True])
def test_a_loaded_model_is_not_compiled(small, tmp_path, nested):
    """So the module of its loss is not needed; nor is that of a model within the model."""
    inner = small.build()
    inner = OpenSetModel(inner.input, inner.output)
    inner.compile("sgd", Stranger())
    model = keras.Model(inner.input, inner(inner.input)) if nested else inner
    serving.save(tmp_path, Predictor(model, Reject(3, 0.0), small.NAMES))
    assert inner.compiled
    loaded = serving.load(tmp_path).model
    assert not any(getattr(layer, "compiled", False) for layer in loaded._flatten_layers())


@keras.saving.register_keras_serializable("test_runs")
def second_logit(outputs, num_classes):
    return outputs["logits"][..., 1]


def test_a_score_of_ones_own(small, predictor, tmp_path):
    found = evidence(0.25, "second_logit")
    serving.save(tmp_path, Predictor(predictor.model, Reject(3, 0.25, second_logit), small.NAMES, calibration=found))
    assert serving.load(tmp_path).reject.score is second_logit


def test_a_missing_or_damaged_run_is_explained(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such directory"):
        serving.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"lacks model.keras and calibration.json"):
        serving.load(tmp_path)
    file = run / serving.CALIBRATION_FILE
    record = json.loads(file.read_text())
    for text, message in (
        ("{", "damaged"),
        ("[]", "damaged"),
        (json.dumps({**record, "calibration": {}}), "damaged"),
        (json.dumps({**record, "decision": {**record["decision"], "score": "telepathy"}}), "damaged.*telepathy"),
        (json.dumps({**record, "spec": {"output": "sound"}}), "damaged.*no output 'sound'. Outputs: image, pixel"),
        (json.dumps({**record, "spec": {"output": "image", "tile": 3}}), "damaged.*tile"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            serving.load(run)
    file.write_text(json.dumps(record))
    (run / serving.MODEL_FILE).write_bytes(b"no model")
    with pytest.raises(ValueError, match="Keras cannot read"):
        serving.load(run)


def test_files_of_two_runs_are_refused(small, predictor, run, tmp_path):
    file = run / serving.CALIBRATION_FILE
    record = json.loads(file.read_text())
    two = {**record["decision"], "num_classes": 2}
    for changed, message in (
        ({"class_names": ["cat", "eel"]}, "one class name for each of 3"),
        ({"class_names": ["cat", "eel"], "decision": two}, "is for background False, .* has True"),
        ({"decision": {**record["decision"], "score": "max_logit"}}, "for the score 'log_odds', not for 'max_logit'"),
        ({"decision": {**record["decision"], "threshold": 0.0}}, "calibration is of the threshold"),
        ({"image_shape": [4, 4, 3]}, r"is for image_shape \(4, 4, 3\), model.keras has \(8, 10, 3\)"),
        ({"spec": {"output": "label_set"}}, "damaged|mixes"),
    ):
        file.write_text(json.dumps({**record, **changed}))
        with pytest.raises(ValueError, match=f"mixes two runs: .*{message}|{message}"):
            serving.load(run)
    file.write_text(json.dumps(record))
    retrained = small.build()
    retrained.set_weights([weight + 0.1 for weight in retrained.get_weights()])
    serving.save(tmp_path / "other", Predictor(retrained, predictor.reject, small.NAMES))
    shutil.copy(tmp_path / "other" / serving.MODEL_FILE, run)
    with pytest.raises(ValueError, match=r"mixes two runs: calibration.json is for model sha256:.* belong together"):
        serving.load(run)


def test_evidence_of_another_threshold_or_score_is_refused(small, predictor, tmp_path):
    for found, message in (
        (evidence(0.0, "max_logit"), "calibrated for the score 'max_logit', not for 'log_odds'"),
        (evidence(0.5), "calibration is of the threshold 0.5, the predictor's is 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            serving.save(tmp_path, Predictor(predictor.model, Reject(3, 0.0), small.NAMES, calibration=found))
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_run_before(small, predictor, run, monkeypatch):
    before = {file.name: file.read_bytes() for file in run.iterdir()}

    def full(path):
        pathlib.Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(predictor.model, "save", full)
    with pytest.raises(OSError, match="No space"):
        serving.save(run, predictor)
    assert {name: (run / name).read_bytes() for name in before} == before
    serving.load(run)


def python(script, *arguments):
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loading_loads_no_training_code(run):
    """Keras and scikit-learn load modules of their own; what counts is what comes on top of those."""
    script = """
        import sys, keras, numpy, tensorflow, sklearn.metrics
        before = set(sys.modules)
        import cplus1_keras
        answer = cplus1_keras.load(sys.argv[1]).predict(numpy.zeros((1, 8, 10, 3), "uint8"))
        print(len(answer["class_id"]), *sorted(set(sys.modules) - before))
    """
    number, *found = python(script, run).split()
    assert number == "1"
    assert "cplus1_keras.serving.runs" in found
    own = ("tasks", "configs", "data", "experiment", "plots", "report", "monitor", "callbacks", "provenance")
    unwanted = [f"cplus1_keras.{name}" for name in own] + ["matplotlib", "tensorboard", "tensorflow_datasets"]
    assert [name for name in found if name.startswith(tuple(unwanted))] == []


def test_whatever_a_model_is_made_of_can_be_loaded_by_a_fresh_process():
    script = """
        import importlib, pkgutil, keras, cplus1_keras

        def layers():
            registered = keras.saving.get_custom_objects().items()
            return {name for name, it in registered if isinstance(it, type) and issubclass(it, keras.Layer)}

        from cplus1_keras import serving
        first = layers()
        for module in pkgutil.walk_packages(cplus1_keras.__path__, "cplus1_keras."):
            importlib.import_module(module.name)
        print(len(first), sorted(layers() - first))
    """
    number, missed = python(script).split(maxsplit=1)
    assert (int(number) > 10, missed.strip()) == (True, "[]")


def command(module, *arguments):
    return subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("module", [pytest.param("export", marks=pytest.mark.slow), "cplus1_keras.export"])
def test_the_command(run, tmp_path, module):
    done = command(module, str(run), f"--output={tmp_path / 'served'}")
    assert done.returncode == 0, done.stderr
    assert "images (N, 8, 10, 3), pixels 0..255 -> cat, dög, eel or unknown" in done.stdout
    serving.check(tmp_path / "served")
    again = command(module, str(run), f"--output={tmp_path / 'served'}")
    assert again.returncode == 1
    assert "Not exported. An export never overwrites" in again.stderr
    assert "Traceback" not in again.stderr


def test_the_command_explains_itself():
    assert "RUN/saved_model/1" in command("export", "--help").stdout
    assert "required: RUN" in command("cplus1_keras.export").stderr


def test_a_stranger_to_the_package_says_what_is_missing(tmp_path):
    """A class of one's own must be imported before; the sentence says so."""

    class Mine(keras.layers.Layer):
        def call(self, x):
            return x

    images = keras.Input((4, 4, 1))
    model = keras.Model(images, heads.LinearHead(2)(Mine()(keras.layers.Flatten()(images))))
    serving.save(tmp_path, Predictor(model, Reject(2, 0.0)))
    with pytest.raises(ValueError, match="import the module that registers them before"):
        serving.load(tmp_path)
