"""Answers of a finished run, or of its SavedModel, for files of images.

    python -m cplus1_keras.predict RUN_OR_SAVEDMODEL FILES_OR_FOLDERS ... --output answers

Writes `answers/answers.csv`: a line for each image with its class, or unknown; for each object of a detector; of pixels
the share of what is rejected, and in `answers/pictures` a picture with the colours of the classes. A file that cannot
be read has a line that says so, and the others are answered. A run and its SavedModel, such as
runs/digits/saved_model/1, answer alike; a SavedModel needs no code of your own, cuts no tiles and so refuses images
above its largest size.
"""

import argparse
import csv
import itertools
import sys

import keras
import tensorflow as tf
from absl import logging

import cplus1_keras
from cplus1_keras import data, serving
from cplus1_keras.data.folders import find_images, read_images
from cplus1_keras.directory import new_directory, unfinished
from cplus1_keras.progress import follow
from cplus1_keras.signals import stop_on_signals


def predict(path, paths, output="answers"):
    """Answer for images and write what was found; a line on standard error tells how far it is.

    Args:
        path: Directory of a finished run, or folder of a SavedModel.
        paths: Files, and folders whose images are taken, at any depth.
        output: Folder to write; `answers-2` and so on if it exists.

    Returns:
        Pair of the folder's path and a list of the files that have no answer.

    Raises:
        FileNotFoundError: There is no such run, SavedModel, file or folder, or no image in a folder.

    >>> predict("runs/digits", ["my_images"])  # doctest: +SKIP
    (PosixPath('answers'), [])
    """
    predictor, files, damaged = cplus1_keras.load(path), find_images(paths), []
    with unfinished(output) as folder:
        (folder / "pictures").mkdir(parents=True)
        with open(folder / "answers.csv", "w", newline="", encoding="utf-8") as file:
            rows = csv.DictWriter(file, ["path", *predictor.spec.columns, "problem"], restval="")
            rows.writeheader()
            answers = follow(answer_files(predictor, files), len(files))
            for number, (image, answer, problem) in enumerate(answers):
                if problem:
                    damaged.append(image)
                    rows.writerow({"path": image, "problem": problem})
                    continue
                rows.writerows({"path": image, **row} for row in predictor.spec.tell(predictor, answer))
                picture = predictor.spec.picture(predictor, answer)
                if picture is not None:
                    keras.utils.save_img(folder / "pictures" / f"{number:06d}_{image.stem}.png", picture, scale=False)
        if not any((folder / "pictures").iterdir()):
            (folder / "pictures").rmdir()
        return new_directory(folder, output), damaged


def answer_files(predictor, files):
    """Yields the answer for each file in order, from images that are read in parallel and answered in batches.

    Args:
        predictor: A `Predictor` or `SavedModel`.
        files: List of `pathlib.Path`s.

    Yields:
        Triples of the path, a dict of arrays without the batch axis, and "" or what is wrong with the file.

    Raises:
        RuntimeError: The model fails, or memory is short for one image alone.

    >>> from types import SimpleNamespace
    >>> nobody = SimpleNamespace(image_shape=(8, 8, 1), spec=serving.ImageSpec())
    >>> [problem for _, _, problem in answer_files(nobody, ["none.png"])]
    ['cannot be read: none.png; No such file or directory']
    """
    spec = predictor.spec
    images = read_images(files, predictor.image_shape, spec.short_side, spec.max_pixels)
    stream = zip(files, images, strict=True)
    for _, group in itertools.groupby(stream, key=lambda pair: pair[1][0].shape):  # a batch has one size
        while batch := list(itertools.islice(group, spec.batch_size)):
            yield from _answer(predictor, batch)


def _answer(predictor, batch):
    if not batch[0][1][0].size:
        return [(path, None, f"cannot be read: {why}") for path, (_, why) in batch]

    def ask(batch):
        answers = predictor.predict(tf.stack([image for _, (image, _) in batch]).numpy())
        return [(path, {name: rows[i] for name, rows in answers.items()}, "") for i, (path, _) in enumerate(batch)]

    def refuse(row, error):  # such as an image above the largest size
        return [(row[0], None, f"cannot be answered: {data.sentence(error).splitlines()[0]}")]

    return itertools.chain(*serving.isolate(ask, refuse, batch))


def main(arguments=None):
    """Answer for the files that the command line names; also `cplus1-predict`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", metavar="RUN_OR_SAVEDMODEL", help="directory of a run, or folder with saved_model.pb")
    parser.add_argument("paths", metavar="FILE_OR_FOLDER", nargs="+", help="images, or folders of them")
    parser.add_argument("--output", default="answers", help="folder to write; none is ever overwritten")
    given = parser.parse_args(arguments)
    logging.set_verbosity(logging.WARNING)
    stop_on_signals()
    try:
        folder, damaged = predict(given.path, given.paths, given.output)
    except KeyboardInterrupt:
        sys.exit("Nothing is written: stopped.")
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"Nothing is written. {error}")
    print(f"Wrote {folder}.")
    if damaged:
        names = ", ".join(map(str, damaged[:5])) + (", ..." if len(damaged) > 5 else "")
        print(f"{len(damaged):,} files have no answer; the column `problem` says why: {names}")


if __name__ == "__main__":
    main()
