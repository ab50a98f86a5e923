"""A run's directory: the model, what decides, and the evidence, as files that belong together."""

import hashlib
import json
import pathlib

import keras
import numpy as np

from cplus1_keras import heads, layers, models, posthoc  # noqa: F401  they register the classes that a model is made of
from cplus1_keras.calibration import read_calibration
from cplus1_keras.directory import unfinished
from cplus1_keras.serving.exporting import read_spec
from cplus1_keras.serving.predictor import Predictor

MODEL_FILE, CALIBRATION_FILE, SAVED_MODEL_FOLDER = "model.keras", "calibration.json", "saved_model"
"""In a run's directory: the model; what decides, with its evidence, names of the classes, what the model answers and
which model it is; a folder with one SavedModel for each version number, as TF Serving wants it."""


def save(run, predictor):
    """Writes what `load` reads, a predictor's model and its threshold, into a run's directory.

    Args:
        run: The directory; made if absent.
        predictor: A `Predictor`, with a `calibration` or without.

    Raises:
        ValueError: The calibration is of another threshold or score than the predictor's.

    >>> import tempfile
    >>> images, folder = keras.Input((8, 8, 1)), tempfile.mkdtemp()
    >>> model = keras.Model(images, heads.LinearHead(3)(keras.layers.Flatten()(images)))
    >>> save(folder, Predictor(model, layers.Reject(3, 0.5), ["cat", "dog", "eel"]))
    >>> load(folder).class_names
    ['cat', 'dog', 'eel']
    """
    _check_evidence(predictor)
    run = pathlib.Path(run)
    with unfinished(run / MODEL_FILE) as model:
        _save_model(predictor.model, model)
        with unfinished(run / CALIBRATION_FILE) as record:
            record.write_text(_to_text(predictor, model), encoding="utf-8")
            model.replace(run / MODEL_FILE)
            record.replace(run / CALIBRATION_FILE)


def save_calibration(run, predictor):
    """Writes a predictor's threshold into the directory of a run that has its model already, in one step."""
    _check_evidence(predictor)
    run = pathlib.Path(run)
    with unfinished(run / CALIBRATION_FILE) as record:
        record.write_text(_to_text(predictor, run / MODEL_FILE), encoding="utf-8")
        record.replace(run / CALIBRATION_FILE)


def _to_text(predictor, model_file):
    inherited = keras.layers.Layer().get_config()
    record = {
        "spec": predictor.spec.to_dict(),
        "decision": {name: value for name, value in predictor.reject.get_config().items() if name not in inherited},
        "class_names": predictor.class_names,
        "image_shape": predictor.image_shape,
        "background": predictor.background,
        "model": _digest(model_file),
        "calibration": predictor.calibration and predictor.calibration.to_dict(),
    }
    return json.dumps(record, indent=2) + "\n"


def load(run):
    """The `Predictor` of a finished run, which answers as the run was judged.

    Args:
        run: A run's directory, as `save` and `train.py` write it. Models are programs: load only what you trust. If
            the model has classes of your own, import the module that registers them first.

    Raises:
        FileNotFoundError: There is no such directory, or it holds no finished run.
        ValueError: A file is damaged, or the files don't belong together.

    >>> load("runs/none")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileNotFoundError: runs/none is no finished run: there is no such directory. ...
    """
    run = pathlib.Path(run)
    missing = [name for name in (MODEL_FILE, CALIBRATION_FILE) if not (run / name).is_file()]
    if missing:
        absent = "it is a file" if run.is_file() else "there is no such directory"
        lacks = f"it lacks {' and '.join(missing)}" if run.is_dir() else absent
        raise FileNotFoundError(f"{run} is no finished run: {lacks}. `python train.py` writes one, and says where.")
    try:
        record = json.loads((run / CALIBRATION_FILE).read_text(encoding="utf-8"))
        spec = read_spec(record["spec"])
        evidence = read_calibration(record["calibration"])
        parts = spec.layer.from_config(record["decision"]), record["class_names"], spec, evidence
        given = record["model"], tuple(record["image_shape"]), record["background"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{run / CALIBRATION_FILE} is damaged: {type(error).__name__}: {error}") from error
    model = _load_model(run / MODEL_FILE)
    try:
        predictor = Predictor(model, *parts)
        _check_evidence(predictor)
        found = _digest(run / MODEL_FILE), predictor.image_shape, predictor.background
        for what, have, want in zip(("model", "image_shape", "background"), found, given, strict=True):
            if have != want:
                raise ValueError(f"{CALIBRATION_FILE} is for {what} {want}, {MODEL_FILE} has {have}.")
    except ValueError as error:
        raise ValueError(f"{run} mixes two runs: {error} `serving.save` writes files that belong together.") from error
    return predictor


def next_version(run):
    """The path for a run's next SavedModel: `saved_model/1`, `saved_model/2`, ... in its directory.

    >>> next_version("runs/none").name
    '1'
    """
    folder = pathlib.Path(run) / SAVED_MODEL_FOLDER
    versions = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
    return folder / str(max(versions, default=0) + 1)


def _check_evidence(predictor):
    calibration, reject = predictor.calibration, predictor.reject
    if calibration is None:
        return
    name = getattr(getattr(reject, "score", None), "__name__", None)
    if name is not None and calibration.score not in (None, name):
        raise ValueError(f"The threshold was calibrated for the score {calibration.score!r}, not for {name!r}.")
    wanted = getattr(calibration, "thresholds", getattr(calibration, "threshold", None))
    have = reject.weights[0].numpy()
    if not np.array_equal(have, np.asarray(wanted, "float32")):
        raise ValueError(f"The calibration is of the threshold {wanted}, the predictor's is {have}.")


def _save_model(model, file):
    """Without the losses of models within the model: Keras would build those again even where it compiles nothing."""
    inner = [layer for layer in model._flatten_layers(include_self=False) if getattr(layer, "compiled", False)]
    try:
        for layer in inner:
            layer.compiled = False
        model.save(file)
    finally:
        for layer in inner:
            layer.compiled = True


def _digest(file):
    with open(file, "rb") as opened:
        return "sha256:" + hashlib.file_digest(opened, "sha256").hexdigest()


def _load_model(file):
    try:
        return keras.saving.load_model(file, compile=False)
    except Exception as error:  # whatever Keras raises on a damaged file or a class that it does not know
        hint = "If the model has classes of your own, import the module that registers them before."
        raise ValueError(f"Keras cannot read {file}. {hint} Keras said: {error}") from error
