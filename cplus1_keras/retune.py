"""Gives a SavedModel another threshold: a new version beside it, with the same weights.

    python -m cplus1_keras.retune SAVEDMODEL --fpr 0.01 --negatives FOLDER
    python -m cplus1_keras.retune SAVEDMODEL --coverage 0.95 --knowns FOLDER
    python -m cplus1_keras.retune SAVEDMODEL --fpr 0.05 --per-class --negatives FOLDER
    python -m cplus1_keras.retune SAVEDMODEL --threshold 3.2

SAVEDMODEL is a version that an export wrote, such as runs/digits/saved_model/1; the new one is the next number beside
it, unless --output names another folder. Going back is choosing a folder again. --fpr takes the lowest threshold that
accepts at most this share of images like those in FOLDER, none of which shows a known class; --coverage the highest
that accepts at least this share of images of known classes. --per-class is for label sets, whose classes have a
threshold each: there an image shows the classes that folders of its path are named after, as in FOLDER/cat/1.png, and
none of the others; those that show no class lie in FOLDER itself or in FOLDER/none. Folders of other names are refused.

FOLDER is searched for images, deeper folders too, and they are resized as in training. Damaged files are named and left
out; if they are more than one in a hundred, nothing is written. Every version holds the evidence for its threshold,
assets.extra/calibration.json, and where it comes from, assets.extra/origin.json.
"""

import argparse
import dataclasses
import pathlib
import sys
import types

import numpy as np
from absl import logging

from cplus1_keras import calibration, serving
from cplus1_keras.data.folders import find_images
from cplus1_keras.predict import answer_files
from cplus1_keras.progress import follow

NONE = "none"
"""The folder of images that show no class of a label set."""

DAMAGED = 0.01
"""Share of files that may be left out."""


def score_files(served, folder):
    """The scores that a SavedModel gives the images of a folder, sorted by path.

    Args:
        served: A `serving.SavedModel` of images, one class each, or of label sets.
        folder: Folder with images, also in deeper ones.

    Returns:
        Tuple of the files, their scores float32 (N,) or (N, C), and the files that were left out.

    Raises:
        FileNotFoundError: There are no images.
        ValueError: More than one in a hundred is damaged, or the SavedModel answers for pixels or objects.

    >>> from types import SimpleNamespace
    >>> score_files(SimpleNamespace(spec=serving.BoxSpec(), path="boxes/1"), ".")
    Traceback (most recent call last):
    ValueError: boxes/1 answers for pixels, objects or positions: give it a `--threshold`.
    """
    spec = served.spec
    if not isinstance(spec, serving.ImageSpec | serving.LabelSetSpec) or getattr(spec, "positions", 0):
        raise ValueError(f"{served.path} answers for pixels, objects or positions: give it a `--threshold`.")
    files, scores, damaged, images = [], [], [], find_images([folder])
    for path, answer, problem in follow(answer_files(served, images), len(images)):
        if problem or not answer["valid"]:
            damaged.append(path)
            continue
        files.append(path)
        scores.append(answer["score"])
    if len(damaged) > DAMAGED * len(images):
        names = ", ".join(map(str, damaged[:5]))
        raise ValueError(f"{len(damaged):,} of {len(images):,} files in {folder} are damaged, such as {names}.")
    return files, np.array(scores), damaged


def retune(
    saved_model, output=None, threshold=None, fpr=None, coverage=None, folder=None, confidence=0.95, per_class=False
):
    """Writes a version of a SavedModel with another threshold; one of `threshold`, `fpr` and `coverage` is given.

    Args:
        saved_model: Folder of a SavedModel.
        output: Folder to write; None takes the next number beside it.
        threshold: A number.
        fpr, coverage, confidence: As for `calibration.threshold_at_fpr` and `threshold_at_coverage`.
        folder: Images for `fpr` or `coverage`.
        per_class: Whether each class gets a threshold, by `calibration.calibrate_classes`; label sets only.

    Returns:
        Tuple of the path written, the `Calibration` or `ClassCalibration`, or None, and the files that were left out.

    Raises:
        FileExistsError: Something is at `output`.
        ValueError: The SavedModel or the images do not fit.

    >>> retune("runs/none", threshold=0.5)
    Traceback (most recent call last):
    ValueError: runs/none is no SavedModel: it lacks saved_model.pb
    """
    saved_model, found, damaged = pathlib.Path(saved_model), None, []
    if threshold is None:
        served = serving.SavedModel(saved_model)
        _check_shape(served, per_class)
        if per_class:
            _check_folders(served, folder)
        files, scores, damaged = score_files(served, folder)
        score = getattr(served.calibration, "score", None)
        if per_class:
            records = _records(served, files, scores, folder)
            found = calibration.calibrate_classes(records, fpr, confidence, score, served.class_names)
        else:
            choose = calibration.threshold_at_fpr if coverage is None else calibration.threshold_at_coverage
            found = choose(scores, fpr if coverage is None else coverage, confidence, score)
            # The scores of the calibration split are what they were, whatever the threshold.
            found = dataclasses.replace(found, sample=getattr(served.calibration, "sample", None))
        threshold = found.thresholds if per_class else found.threshold
    beside = [int(path.name) for path in saved_model.resolve().parent.glob("*") if path.name.isdecimal()]
    path = pathlib.Path(output or saved_model.parent / str(max(beside, default=0) + 1))
    serving.retune(saved_model, path, threshold, found, [str(file) for file in damaged])
    return path, found, damaged


def _check_shape(served, per_class):
    """Raises ValueError unless there is a threshold for each class, or else one, as is asked for."""
    if per_class and np.ndim(served.threshold) == 0:
        raise ValueError(
            f"{served.path} decides by one threshold for all classes, and only label sets have one for each: leave "
            "--per-class out. To be stricter with some classes, let a version accept everything (--threshold=-inf) and "
            "compare the `score` of each answer with a threshold of your own for its `class_name`."
        )
    if not per_class and np.ndim(served.threshold) > 0:
        raise ValueError(f"{served.path} has a threshold for each class: ask with --per-class.")


def _check_folders(served, folder):
    """Raises ValueError for a folder that is no class's: by a slip in its name its images would lack the class."""
    names = {name for file in find_images([folder]) for name in file.relative_to(folder).parent.parts}
    strange = sorted(names - {*served.class_names, NONE})
    if strange:
        raise ValueError(
            f"With --per-class folders are named after classes, or {NONE!r}. In {folder} there are also: "
            f"{', '.join(map(repr, strange[:10]))}. The classes are: {', '.join(map(repr, served.class_names[:100]))}."
        )


def _records(served, files, scores, folder):
    """Records of label sets: an image shows the classes after which folders of its path are named."""
    for file, row in zip(files, scores, strict=True):
        shown = file.relative_to(folder).parent.parts
        labels = np.array([c if name in shown else -1 for c, name in enumerate(served.class_names)])
        yield types.SimpleNamespace(labels=labels, scores=row, group=str(file))


def main(arguments=None):
    """Change the threshold that the command line names; also `cplus1-retune`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("saved_model", metavar="SAVEDMODEL", help="folder with saved_model.pb")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--threshold", type=float, help="the threshold itself; there is no evidence for it")
    asked.add_argument("--fpr", type=float, help="false positive rate, in (0, 1); wants --negatives")
    asked.add_argument("--coverage", type=float, help="share of knowns to accept, in (0, 1); wants --knowns")
    parser.add_argument("--negatives", metavar="FOLDER", help="images that show no known class")
    parser.add_argument("--knowns", metavar="FOLDER", help="images of known classes")
    parser.add_argument("--per-class", action="store_true", help="with --fpr: a threshold for each class of label sets")
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--output", help="folder to write, which must not exist yet (default: the next number)")
    given = parser.parse_args(arguments)
    folder = given.negatives if given.fpr is not None else given.knowns
    if given.threshold is None and folder is None:
        parser.error("--fpr wants --negatives, --coverage wants --knowns")
    if given.per_class and given.fpr is None:
        parser.error("--per-class wants --fpr and --negatives")
    logging.set_verbosity(logging.WARNING)
    rates = {"fpr": given.fpr, "coverage": given.coverage, "folder": folder, "confidence": given.confidence}
    try:
        path, found, damaged = retune(
            given.saved_model, given.output, given.threshold, **rates, per_class=given.per_class
        )
    except KeyboardInterrupt:
        sys.exit("Not changed: stopped.")
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"Not changed. {error}")
    print(found or f"Accept score >= {given.threshold:g}, without evidence.")
    if damaged:
        print(f"Left out {len(damaged):,} damaged files: {', '.join(map(str, damaged[:5]))}")
    print(f"Wrote {path}. To go back, serve {given.saved_model} again.")


if __name__ == "__main__":
    main()
