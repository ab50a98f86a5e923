"""Every family of the five papers on the toy protocol, MNIST and CIFAR-10: `python benchmarks/families.py`.

Needs prepared data sets: `--set data_dir=FOLDER`, for the toy protocol also `--set letters=FILE`.

All start from the same weights and see the same images in the same order, seed by seed;
`python benchmarks/families.py --config cifar10_small` does one data set, so that two can run side by side.
"""

import argparse

import comparison
import keras

from cplus1_keras.configs.families import families

PAIRS = (
    ("cosface", "softmax"),
    ("arcface", "softmax"),
    ("sfn_cosface", "cosface"),
    ("sfn_arcface", "arcface"),
    ("c2am", "softmax"),
    ("e_ncm", "softmax"),
    ("c_ncm", "softmax"),
    ("background", "softmax"),
    ("entropic", "softmax"),
    ("objectosphere", "entropic"),
    ("background", "entropic"),
    ("cplus1_moving_average", "background"),
    ("cplus1_learnable", "background"),
    ("cplus1_shared", "background"),
    ("cos_os", "objectosphere"),
    ("cos_os", "norm_os"),
    ("cos_eos", "entropic"),
    ("arc_eos", "entropic"),
    ("cos_eos", "norm_eos"),
    ("hnc_mse", "cam"),
    ("hnc_kd", "cam"),
)
"""What a paper claims to help, and what it is to be compared with."""

CONFIGS = ("toy_small", "mnist_small", "cifar10_small")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=CONFIGS, help="one of the data sets instead of all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="NAME=VALUE")
    arguments = parser.parse_args()
    keras.utils.disable_interactive_logging()
    for config in [arguments.config] if arguments.config else CONFIGS:
        output = f"docs/results/families_{config}.json"
        comparison.report(config, list(families(10, 10)), arguments.seeds, arguments.settings, output, PAIRS)


if __name__ == "__main__":
    main()
