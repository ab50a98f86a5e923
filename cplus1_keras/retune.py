"""Gives a SavedModel another threshold: a new version beside it, with the same weights.

    python -m cplus1_keras.retune SAVEDMODEL --fpr 0.01 --negatives FOLDER
    python -m cplus1_keras.retune SAVEDMODEL --coverage 0.95 --knowns FOLDER
    python -m cplus1_keras.retune SAVEDMODEL --threshold 3.2

SAVEDMODEL is a version that an export wrote, such as runs/digits/saved_model/1; the new one is the next number beside
it, unless --output names another folder. Going back is choosing a folder again. --fpr takes the lowest threshold that
accepts at most this share of images like those in FOLDER, none of which shows a known class; --coverage the highest
that accepts at least this share of images of known classes. FOLDER is searched for images, deeper folders too, and
they are resized as in training. Every version holds the evidence for its threshold, assets.extra/calibration.json.
"""

import argparse
import json
import pathlib
import sys

import numpy as np
import tensorflow as tf
from absl import logging

from cplus1_keras import calibration, serving
from cplus1_keras.images import decode, preprocess
from cplus1_keras.serving.exporting import EVIDENCE_FILE
from cplus1_keras.serving.retuning import load_saved_model

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")


def score_files(saved_model, folder):
    """The scores (N,) that a SavedModel gives the images of a folder, sorted by path.

    Args:
        saved_model: Folder of a SavedModel of images, one class each.
        folder: Folder with images, also in deeper ones.

    Raises:
        ValueError: There are no images, one cannot be read, or the SavedModel answers otherwise.

    >>> score_files("runs/none", ".")
    Traceback (most recent call last):
    ValueError: runs/none is no SavedModel: it lacks saved_model.pb
    """
    serve = load_saved_model(saved_model).signatures["serving_default"]
    height, width, channels = serve.structured_input_signature[1]["images"].shape[1:]
    if None in (height, width) or "known" not in serve.structured_outputs:
        raise ValueError(f"{saved_model} answers for pixels, objects or label sets: give it a `--threshold`.")
    files = sorted(str(file) for file in pathlib.Path(folder).rglob("*") if file.suffix.lower() in ENDINGS)
    if not files:
        raise ValueError(f"{folder} holds no image ({', '.join(ENDINGS)}).")

    def read(file):
        return preprocess(decode(tf.io.read_file(file), channels), (height, width), channels)

    scores, batches = [], tf.data.Dataset.from_tensor_slices(files).map(read, tf.data.AUTOTUNE).batch(64)
    try:
        for images in batches.prefetch(1):
            answer = serve(images=images)
            scores.append(np.where(answer["valid"], answer["score"], np.nan))
    except tf.errors.InvalidArgumentError as error:
        done = sum(map(len, scores))
        raise ValueError(f"One of {files[done : done + 64]} is no image: {error.message}") from error
    return np.concatenate(scores)


def retune(saved_model, output=None, threshold=None, fpr=None, coverage=None, folder=None, confidence=0.95):
    """Writes a version of a SavedModel with another threshold; one of `threshold`, `fpr` and `coverage` is given.

    Args:
        saved_model: Folder of a SavedModel.
        output: Folder to write; None takes the next number beside it.
        threshold: A number.
        fpr, coverage, confidence: As for `calibration.threshold_at_fpr` and `threshold_at_coverage`.
        folder: Images for `fpr` or `coverage`.

    Returns:
        Pair of the path written and the `Calibration`, or None.

    Raises:
        FileExistsError: Something is at `output`.
        ValueError: The SavedModel or the images do not fit.

    >>> retune("runs/none", threshold=0.5)
    Traceback (most recent call last):
    ValueError: runs/none is no SavedModel: it lacks saved_model.pb
    """
    saved_model, found = pathlib.Path(saved_model), None
    if threshold is None:
        scores, score = score_files(saved_model, folder), _score_name(saved_model)
        choose, rate = calibration.threshold_at_fpr, fpr
        if fpr is None:
            choose, rate = calibration.threshold_at_coverage, coverage
        found = choose(scores, rate, confidence, score)
        threshold = found.threshold
    beside = [int(path.name) for path in saved_model.resolve().parent.glob("*") if path.name.isdecimal()]
    path = pathlib.Path(output or saved_model.parent / str(max(beside, default=0) + 1))
    serving.retune(saved_model, path, threshold, found)
    return path, found


def _score_name(saved_model):
    """What the score is called in the evidence of a SavedModel, if that is known."""
    file = saved_model / EVIDENCE_FILE
    record = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    return record.get("score") if record else None


def main(arguments=None):
    """Change the threshold that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("saved_model", metavar="SAVEDMODEL", help="folder with saved_model.pb")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--threshold", type=float, help="the threshold itself; there is no evidence for it")
    asked.add_argument("--fpr", type=float, help="false positive rate, in (0, 1); wants --negatives")
    asked.add_argument("--coverage", type=float, help="share of knowns to accept, in (0, 1); wants --knowns")
    parser.add_argument("--negatives", metavar="FOLDER", help="images that show no known class")
    parser.add_argument("--knowns", metavar="FOLDER", help="images of known classes")
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--output", help="folder to write, which must not exist yet (default: the next number)")
    given = parser.parse_args(arguments)
    folder = given.negatives if given.fpr is not None else given.knowns
    if given.threshold is None and folder is None:
        parser.error("--fpr wants --negatives, --coverage wants --knowns")
    logging.set_verbosity(logging.WARNING)
    rates = {"fpr": given.fpr, "coverage": given.coverage, "folder": folder, "confidence": given.confidence}
    try:
        path, found = retune(given.saved_model, given.output, given.threshold, **rates)
    except KeyboardInterrupt:
        sys.exit("Not changed: stopped.")
    except (OSError, ValueError) as error:
        sys.exit(f"Not changed. {error}")
    print(found or f"Accept score >= {given.threshold:g}, without evidence.")
    print(f"Wrote {path}. To go back, serve {given.saved_model} again.")


if __name__ == "__main__":
    main()
