"""Every family of the five papers on the toy protocol, MNIST and CIFAR-10: `python benchmarks/families.py`.

Needs the data of ../shared. All start from the same weights and see the same images in the same order, seed by seed;
`python benchmarks/families.py --config cifar10_small` does one data set, so that two can run side by side.
"""

import argparse

import comparison
import keras

from cplus1_keras.configs.families import families

CONFIGS = ("toy_small", "mnist_small", "cifar10_small")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=CONFIGS, help="one of the data sets instead of all")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    keras.utils.disable_interactive_logging()
    for config in [arguments.config] if arguments.config else CONFIGS:
        comparison.report(config, list(families(10, 10)), arguments.seeds, (), f"docs/results/families_{config}.json")


if __name__ == "__main__":
    main()
