"""Writes a finished run as a SavedModel, ready to be served, and checks it.

    python -m cplus1_keras.export RUN
    python -m cplus1_keras.export RUN --output models/digits/1

RUN is a directory that train.py wrote. Without --output the SavedModel becomes RUN/saved_model/1, or 2, 3, ... if
there are earlier ones. Nothing is ever overwritten. Before it appears, its graph is searched for operations that a
server must not execute, and its answers, for pixels and for files, are compared to Keras's own.

The SavedModel takes `images`, raw pixels 0..255. It answers with

  images      `class_id` (-1 = rejected), `class_name` ("unknown" then), `score`, `known`, `probabilities`, `valid`
  pixels      `class_id`, `score` and `valid` of each pixel, for uint8 images of any size up to the run's largest; its
              second signature, `palette`, gives a picture of them
  objects     `boxes` in pixels of the image, `class_id`, `class_name`, `score` and `confidence` of the first
              `num_detections` rows, `valid`, for uint8 images of any size up to the run's largest
  label sets  `present`, `score` and `probabilities` of each class, `none`, `valid`

Other signatures take encoded images, which are prepared as in training, tf.Examples, or a threshold for each row, or
give features, maps and pictures: `saved_model_cli show --all --dir SAVEDMODEL` lists them.
"""

import argparse
import sys

from absl import logging

from cplus1_keras import serving
from cplus1_keras.signals import stop_on_signals


def main(arguments=None):
    """Export the run that the command line names; also `cplus1-export`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="directory that train.py wrote")
    parser.add_argument("--output", help="folder to write, which must not exist yet (default: RUN/saved_model/VERSION)")
    given = parser.parse_args(arguments)
    logging.set_verbosity(logging.WARNING)
    stop_on_signals()
    path = given.output or serving.next_version(given.run)
    try:
        predictor = serving.load(given.run)
        predictor.export(path)
    except KeyboardInterrupt:
        sys.exit("Not exported: stopped.")
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"Not exported. {error}")
    shape = ", ".join("any" if size is None else str(size) for size in predictor.image_shape)
    print(f"Wrote {path}: images (N, {shape}), pixels 0..255 -> {', '.join(predictor.class_names)} or unknown.")
    print(f"Look at it with: saved_model_cli show --dir {path} --all")


if __name__ == "__main__":
    main()
