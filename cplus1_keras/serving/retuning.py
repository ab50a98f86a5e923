"""Another threshold for a SavedModel: a new one beside it, with the same weights."""

import json
import pathlib
import shutil

import numpy as np
import tensorflow as tf

from cplus1_keras.directory import unfinished
from cplus1_keras.serving.exporting import CLASSES_FILE, EVIDENCE_FILE, check, plain_threshold
from cplus1_keras.serving.origin import write_origin


def retune(saved_model, path, threshold, calibration=None, left_out=()):
    """Writes a SavedModel that decides by another threshold, and checks that nothing else changed.

    It needs neither Keras nor the run that the SavedModel came from. The evidence goes to
    `assets.extra/calibration.json`, null without one; where the version comes from to `assets.extra/origin.json`.

    Args:
        saved_model: Folder of a SavedModel that `export` wrote. SavedModels are programs: load only what you trust.
        path: Folder to write, which must not exist yet.
        threshold: A number, or one for each class where the SavedModel has so many.
        calibration: The `Calibration` or `ClassCalibration` of this threshold, or None.
        left_out: Names of files that were damaged and played no part in it, for the record.

    Raises:
        FileExistsError: Something is at `path`.
        ValueError: There is no such SavedModel, it has no threshold of that shape, or a check failed; `path` is absent.

    >>> retune("runs/none/saved_model/1", "runs/none/saved_model/2", 0.5)
    Traceback (most recent call last):
    ValueError: runs/none/saved_model/1 is no SavedModel: it lacks saved_model.pb
    """
    saved_model, path = pathlib.Path(saved_model), pathlib.Path(path)
    if path.exists():
        raise FileExistsError(f"A threshold never overwrites another, and {path} exists. Choose another path.")
    loaded = load_saved_model(saved_model)
    variable, value = loaded.threshold[0], np.asarray(threshold, "float32")
    if value.shape not in ((), tuple(variable.shape)) or np.isnan(value).any():
        raise ValueError(f"{saved_model} has a threshold of shape {tuple(variable.shape)}. Received: {threshold!r}")
    wanted = getattr(calibration, "thresholds", getattr(calibration, "threshold", value))
    if not np.array_equal(np.asarray(wanted, "float32"), value):
        raise ValueError(f"The calibration is of the threshold {wanted}, not of {threshold}.")
    samples = _noise(loaded)
    before = loaded.signatures["serving_default"](images=samples)
    variable.assign(np.broadcast_to(value, variable.shape))
    with unfinished(path) as folder:
        tf.saved_model.save(loaded, str(folder), signatures=loaded.signatures)
        if (saved_model / "assets.extra").is_dir():
            shutil.copytree(saved_model / "assets.extra", folder / "assets.extra")
        record = calibration and calibration.to_dict()
        (folder / EVIDENCE_FILE).parent.mkdir(exist_ok=True)
        (folder / EVIDENCE_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        _tell_threshold(folder / CLASSES_FILE, variable.numpy())
        write_origin(folder, saved_model, left_out=list(left_out))
        check(folder)
        _compare(folder, samples, before, value)
        folder.rename(path)


def _tell_threshold(file, threshold):
    """Exports of earlier versions do not say their threshold there."""
    told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if "threshold" in told:
        told["threshold"] = plain_threshold(threshold)
        file.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def load_saved_model(path):
    """The SavedModel at a path, if it is one that `export` wrote; else ValueError."""
    if not (pathlib.Path(path) / "saved_model.pb").is_file():
        raise ValueError(f"{path} is no SavedModel: it lacks saved_model.pb")
    loaded = tf.saved_model.load(str(path))
    if not getattr(loaded, "threshold", None) or "serving_default" not in loaded.signatures:
        raise ValueError(f"{path} has no threshold to change: it was not written by `cplus1_keras.export`.")
    return loaded


def _noise(loaded):
    """Images that the signature takes."""
    wanted = loaded.signatures["serving_default"].structured_input_signature[1]["images"]
    size = [number or 33 for number in wanted.shape[1:]]
    return tf.cast(np.random.default_rng(0).uniform(0, 255, (4, *size)), wanted.dtype)


def _compare(folder, samples, before, threshold):
    """Raises ValueError unless the scores are those of before, to the bit, and the decisions those of the threshold."""
    loaded = tf.saved_model.load(str(folder))
    after = loaded.signatures["serving_default"](images=samples)
    same = [name for name in ("score", "probabilities", "valid") if name in before]
    changed = [name for name in same if not np.array_equal(before[name].numpy(), after[name].numpy())]
    kept = loaded.threshold[0].numpy()
    if changed or not np.array_equal(kept, np.broadcast_to(threshold, kept.shape)):
        raise ValueError(f"The SavedModel came back otherwise than it was: {changed or 'its threshold'} differs.")
    decision = after.get("known", after.get("present"))
    if decision is not None and after["score"].shape == decision.shape:
        expected = (after["score"].numpy() >= threshold) & np.reshape(after["valid"], [-1] + [1] * (decision.ndim - 1))
        if not np.array_equal(decision.numpy(), expected):
            raise ValueError(f"The SavedModel does not decide by {threshold}.")
