"""Softmax, entropic open-set and Objectosphere on the toy protocol and on Fashion-MNIST: `python benchmarks/toy.py`.

Needs prepared data sets: `--set data_dir=FOLDER`, for the toy protocol also `--set letters=FILE`.
The size is one that two CPU cores finish; --full takes all of MNIST and 15 epochs.
"""

import argparse

import comparison
import keras

METHODS = ("softmax", "entropic", "objectosphere")
SMALL = {"toy": ("knowns=train[:5%]", "epochs=5"), "fashion": ("knowns=train[:5%]", "epochs=8")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all of MNIST, 15 epochs: for a GPU")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="NAME=VALUE")
    arguments = parser.parse_args()
    keras.utils.disable_interactive_logging()
    for config, small in SMALL.items():
        output = f"docs/results/{config}{'_full' if arguments.full else ''}.json"
        comparison.report(
            config, METHODS, arguments.seeds, (*(() if arguments.full else small), *arguments.settings), output
        )


if __name__ == "__main__":
    main()
