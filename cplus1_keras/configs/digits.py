"""The main job: handwritten digits that ship with scikit-learn, 1,797 real images of 8 x 8 pixels."""

import functools

import keras

from cplus1_keras import backbones, data, heads, losses, models
from cplus1_keras.experiment import Experiment
from cplus1_keras.tasks import Classification


def splits(seed):
    """Digits 0-5 known, 6 and 7 negative, 8 and 9 unknown. The 7s calibrate and never train.

    The network learns to refuse the 6s that it trains on, so the threshold is chosen on digits it never saw.
    """
    return data.split(data.protocols.digits(), data.sources.digits(), calibration_classes=("7",), seed=seed)


def digits() -> Experiment:
    """Digits with the Cos-OS loss, which `python train.py` runs; the README quotes what it reached.

    docs/recipes.md tells how it was chosen.
    """
    net = functools.partial(backbones.small_cnn, (8, 8, 1), features=32, filters=(32, 64), strides=(1, 2))
    return Experiment(
        name="digits",
        task=Classification(),
        data=splits,
        model=functools.partial(models.classifier, backbone=net, head=functools.partial(heads.CosineHead, scale=None)),
        loss=losses.cos_os(0.35, radius=12.0),
        optimizer=functools.partial(keras.optimizers.AdamW, weight_decay=1e-4),
        learning_rate=2e-3,
        epochs=25,
        batch_size=32,
    )
