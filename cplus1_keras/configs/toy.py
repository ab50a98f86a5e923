"""The thesis's toy protocol: MNIST digits are known, handwritten letters negative and unknown."""

import functools

import keras

from cplus1_keras import backbones, data
from cplus1_keras.configs.families import families
from cplus1_keras.tasks.classification import Experiment

LETTERS = "../shared/data/nist_letters/nist_letters_28x28.npz"
NEGATIVE_FRACTION = 0.468  # 42,240 of 90,240 training images, Table 5.1 of the thesis


def splits(seed, data_dir="../shared/tfds", letters=LETTERS, knowns="train"):
    """Digits of MNIST and letters of NIST by the toy protocol.

    The unknown letters of both NIST splits are test. A fifth of the other training images watches, another fifth
    calibrates.

    Args:
        seed: Of the splits.
        data_dir: Folder of prepared TFDS sets with `mnist`.
        letters: npz file with x_train, y_train, x_test, y_test; labels 1..26 = a..z.
        knowns: Slice of MNIST that trains, calibrates and watches, like "train[:10%]".

    Returns:
        `data.Splits`.

    Raises:
        FileNotFoundError: If the files are not there.

    >>> print(splits(0).summary())  # doctest: +SKIP
    """
    names = dict(enumerate("abcdefghijklmnopqrstuvwxyz", 1))

    def part(mnist, letter):
        digits = data.sources.tfds("mnist", mnist, data_dir=data_dir)
        return data.combine(digits, data.sources.npz(letters, f"x_{letter}", f"y_{letter}", names))

    train, test = part(knowns, "train"), part("test", "test")
    return data.split(data.protocols.toy(), train, test, calibration_fraction=0.2, validation_fraction=0.1, seed=seed)


def toy(
    method="objectosphere", data_dir="../shared/tfds", letters=LETTERS, knowns="train", learning_rate=1e-3, epochs=15
) -> Experiment:
    """MNIST digits known, NIST letters negative and unknown, LeNet++ (--set method=, --set data_dir=).

    `method` is a name of `configs.families.families`. Negatives are sampled, with repetition, to 46.8 % of a training
    batch. Adam with a constant rate; the thesis does not say how it trained the toy nets. `knowns="train[:5%]"` takes a
    part of MNIST, for a CPU.
    """
    family = families(num_classes=10, features=10)[method]
    return Experiment(
        name=f"toy_{method}",
        data=functools.partial(splits, data_dir=data_dir, letters=letters, knowns=knowns),
        backbone=functools.partial(backbones.lenet_plus_plus, features=10),
        head=family.head,
        loss=family.loss,
        optimizer=functools.partial(keras.optimizers.Adam, learning_rate),
        score=family.score,
        epochs=epochs,
        batch_size=128,
        negative_fraction=NEGATIVE_FRACTION,
    )


def fashion_splits(seed, data_dir="../shared/tfds", knowns="train"):
    """Fashion-MNIST with knowns, negatives and unknowns from one set; arguments as `splits`.

    >>> fashion_splits(0).num_classes  # doctest: +SKIP
    6
    """
    train, test = (data.sources.tfds("fashion_mnist", part, data_dir=data_dir) for part in (knowns, "test"))
    return data.split(data.protocols.fashion_mnist(), train, test, seed=seed)


def fashion(
    method="objectosphere", data_dir="../shared/tfds", knowns="train", learning_rate=1e-3, epochs=15
) -> Experiment:
    """Fashion-MNIST: 6 classes known, 2 negative, 2 unknown, all from one set; LeNet++ (--set method=).

    As `toy` otherwise.
    """
    family = families(num_classes=6, features=10)[method]
    return Experiment(
        name=f"fashion_{method}",
        data=functools.partial(fashion_splits, data_dir=data_dir, knowns=knowns),
        backbone=functools.partial(backbones.lenet_plus_plus, features=10),
        head=family.head,
        loss=family.loss,
        optimizer=functools.partial(keras.optimizers.Adam, learning_rate),
        score=family.score,
        epochs=epochs,
        batch_size=128,
    )
