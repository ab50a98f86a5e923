"""Answers for millions of images: a SavedModel, a folder or table of images, parquet out.

    python -m cplus1_keras.bulk SAVEDMODEL --input FOLDER_OR_TABLE --output FOLDER
    python -m cplus1_keras.bulk SAVEDMODEL --input s3://bucket/images --output s3://bucket/answers --ray auto

--input is a folder, searched for images at any depth; or a csv or parquet file whose column `path`, or --column, names
images or holds their bytes; or with --column a folder of parquet files. Inputs and output may be URIs of object stores.
Each input has exactly one row in the output, with its answer, `valid` and, where there is none, the `problem`; those
files are named in `_problems.csv`. Started again with the same --output it goes on where it was stopped.
"""

import argparse
import sys

from absl import logging

from cplus1_keras.bulk.jobs import PROBLEMS
from cplus1_keras.bulk.scoring import score
from cplus1_keras.signals import stop_on_signals


def main(arguments=None):
    """Score what the command line names; also `cplus1-score`."""
    parser = argparse.ArgumentParser(
        prog="score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("saved_model", metavar="SAVEDMODEL", help="folder with saved_model.pb")
    parser.add_argument("--input", required=True, dest="source", help="folder, csv or parquet; path or URI")
    parser.add_argument("--output", required=True, help="folder to write, or to go on with; path or URI")
    parser.add_argument("--column", help="of a table: paths, or the bytes of images (default: path)")
    parser.add_argument("--part", type=int, default=10_000, help="images in a file (default: 10,000)")
    parser.add_argument("--batch-size", type=int, help="images in a batch (default: the model's)")
    parser.add_argument("--ray", nargs="?", const="auto", metavar="ADDRESS", help="use a Ray cluster (default: auto)")
    parser.add_argument("--workers", type=int, help="Ray actors (default: one for each GPU, or for each node)")
    given = parser.parse_args(arguments)
    logging.set_verbosity(logging.WARNING)
    stop_on_signals()
    try:
        rows, problems = score(**vars(given))
    except KeyboardInterrupt:
        sys.exit(f"Stopped. What is done stays in {given.output}: start again to go on.")
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        sys.exit(f"Not all is scored. {error}")
    print(f"{rows:,} images are answered in {given.output}.")
    if problems:
        print(f"{problems:,} of them have no answer; {PROBLEMS} there names them.")


if __name__ == "__main__":
    main()
