"""Answers of a finished run for files of images.

    python -m cplus1_keras.predict RUN FILES_OR_FOLDERS ... --output answers

Writes `answers/answers.csv`: a line for each image with its class, or unknown; for each object of a detector; of pixels
the share of what is rejected, and in `answers/pictures` a picture with the colours of the classes. A file that cannot
be read has a line that says so, and the others are answered.
"""

import argparse
import csv
import pathlib
import sys

import keras
import tensorflow as tf
from absl import logging

from cplus1_keras import data, serving
from cplus1_keras.data.reading import IMAGE_ENDINGS
from cplus1_keras.directory import new_directory, unfinished
from cplus1_keras.signals import stop_on_signals


def predict(run, paths, output="answers"):
    """Answer for images and write what was found.

    Args:
        run: Directory of a finished run.
        paths: Files, and folders whose images are taken, at any depth.
        output: Folder to write; `answers-2` and so on if it exists.

    Returns:
        Pair of the folder's path and the number of files that could not be read.

    Raises:
        FileNotFoundError: There is no such run, file or folder, or no image in a folder.

    >>> predict("runs/digits", ["my_images"])  # doctest: +SKIP
    (PosixPath('answers'), 0)
    """
    predictor, files, damaged = serving.load(run), find_images(paths), 0
    with unfinished(output) as folder:
        (folder / "pictures").mkdir(parents=True)
        with open(folder / "answers.csv", "w", newline="", encoding="utf-8") as file:
            rows = csv.DictWriter(file, ["path", *predictor.spec.columns, "problem"], restval="")
            rows.writeheader()
            for number, path in enumerate(files):
                try:
                    answer = read_and_answer(predictor, path)
                except (OSError, tf.errors.OpError) as error:
                    damaged += 1
                    rows.writerow({"path": path, "problem": f"cannot be read: {data.sentence(error).splitlines()[0]}"})
                    continue
                rows.writerows({"path": path, **row} for row in predictor.spec.tell(predictor, answer))
                picture = predictor.spec.picture(predictor, answer)
                if picture is not None:
                    keras.utils.save_img(folder / "pictures" / f"{number:06d}_{path.stem}.png", picture, scale=False)
        if not any((folder / "pictures").iterdir()):
            (folder / "pictures").rmdir()
        return new_directory(folder, output), damaged


def find_images(paths):
    """The files that paths name: themselves, and the images in folders, sorted; FileNotFoundError where there is none.

    >>> find_images(["nowhere"])
    Traceback (most recent call last):
    FileNotFoundError: There is no file or folder nowhere.
    """
    found = []
    for path in map(pathlib.Path, paths):
        inside = [path]
        if path.is_dir():
            inside = sorted(own for own in path.rglob("*") if own.suffix.lower() in IMAGE_ENDINGS)
        elif not path.exists():
            raise FileNotFoundError(f"There is no file or folder {path}.")
        if not inside:
            raise FileNotFoundError(f"The folder {path} has no image ({', '.join(IMAGE_ENDINGS)}).")
        found += inside
    return found


def read_and_answer(predictor, path):
    """The answer of a predictor for the image in a file, brought to the model's size as in training: a dict of rows."""
    height, width, channels = predictor.image_shape
    size = None if None in (height, width) else (height, width)
    image = data.preprocess(data.decode(tf.io.read_file(str(path)), channels or 3), size, channels)
    return {name: value[0] for name, value in predictor.predict(image[None].numpy()).items()}


def main(arguments=None):
    """Answer for the files that the command line names; also `cplus1-predict`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="directory that train.py wrote")
    parser.add_argument("paths", metavar="FILE_OR_FOLDER", nargs="+", help="images, or folders of them")
    parser.add_argument("--output", default="answers", help="folder to write; none is ever overwritten")
    given = parser.parse_args(arguments)
    logging.set_verbosity(logging.WARNING)
    stop_on_signals()
    try:
        folder, damaged = predict(given.run, given.paths, given.output)
    except KeyboardInterrupt:
        sys.exit("Nothing is written: stopped.")
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"Nothing is written. {error}")
    print(
        f"Wrote {folder}." + (f" {damaged:,} files could not be read; the column `problem` says why." * bool(damaged))
    )


if __name__ == "__main__":
    main()
