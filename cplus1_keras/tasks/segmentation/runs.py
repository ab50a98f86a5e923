"""What a finished run of segmentation leaves behind for others: the model, and its threshold with the evidence."""

import json
import pathlib

import keras

from cplus1_keras import heads, models  # noqa: F401  registers the classes that a model is made of
from cplus1_keras.calibration import Calibration
from cplus1_keras.provenance import write_json
from cplus1_keras.rejection import Reject
from cplus1_keras.serving.runs import CALIBRATION_FILE, MODEL_FILE
from cplus1_keras.tasks.segmentation.inference import Segmenter


def save(directory, model, calibration, score, class_names, tile=None):
    """Writes what `load` reads into a run's directory.

    Args:
        directory: Folder; made if absent. Files of these names in it are replaced.
        model: `keras.Model`, images of any size -> dict with `logits` of each pixel.
        calibration: `calibration.Calibration`.
        score: The score that was calibrated, of `cplus1_keras.scores`.
        class_names: Names of the known classes, in the order of the logits.
        tile: As `inference.Segmenter` has it.

    >>> save("runs/mine", model, found, scores.log_odds, ["road", "car"])  # doctest: +SKIP
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    reject = Reject(len(class_names), calibration.threshold, score)
    record = {
        "calibration": calibration.to_dict(),
        "score": reject.get_config()["score"],
        "class_names": list(class_names),
        "tile": tile,
    }
    model.save(directory / MODEL_FILE)
    write_json(directory / CALIBRATION_FILE, record)


def load(directory):
    """The segmenter of a finished run, which answers as the run was judged (without the flip test).

    Args:
        directory: A run's directory. Models are programs: load only what you trust.

    Returns:
        Pair of an `inference.Segmenter` and the names of the known classes.

    Raises:
        FileNotFoundError: There is no such directory, or it holds no finished run.
        ValueError: A file is damaged, or belongs to a run of classification.

    >>> segmenter, names = load("runs/camvid_cplus1")  # doctest: +SKIP
    """
    directory = pathlib.Path(directory)
    missing = [name for name in (MODEL_FILE, CALIBRATION_FILE) if not (directory / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{directory} is no finished run: it lacks {' and '.join(missing)}.")
    try:
        record = json.loads((directory / CALIBRATION_FILE).read_text(encoding="utf-8"))
        names, tile = record["class_names"], record["tile"]
        threshold = Calibration.from_dict(record["calibration"]).threshold
        reject = Reject.from_config({"num_classes": len(names), "threshold": threshold, "score": record["score"]})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{directory / CALIBRATION_FILE} is damaged, or of a run of classification, which `cplus1_keras.load` "
            f"reads: {type(error).__name__}: {error}"
        ) from error
    return Segmenter(keras.saving.load_model(directory / MODEL_FILE, compile=False), reject, tile), names
