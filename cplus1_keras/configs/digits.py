"""The main job: handwritten digits that ship with scikit-learn, 1,797 real images of 8 x 8 pixels."""

import functools

import keras

from cplus1_keras import data, heads, losses
from cplus1_keras.tasks.classification import Experiment

CALIBRATION_CLASSES = ("7",)
"""The network learns to refuse the 6s that it trains on, so that the threshold is chosen on digits it never saw."""


def backbone(features=32):
    """A small convolutional net for 8 x 8 grey images: (N, 8, 8, 1) with pixels 0..255 to features (N, K).

    >>> backbone().output_shape
    (None, 32)
    """
    images = keras.Input((8, 8, 1), name="images")
    x = keras.layers.Rescaling(1 / 255)(images)
    for filters, strides in ((32, 1), (64, 2)):
        x = keras.layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)  # 0.99 lags behind in so few steps
        x = keras.layers.Activation("relu")(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(images, keras.layers.Dense(features, use_bias=False, name="features")(x), name="small_cnn")


def splits(seed):
    """Digits 0-5 known, 6 and 7 negative, 8 and 9 unknown, split by a seed. The 7s calibrate and never train.

    >>> splits(0).num_classes
    6
    """
    return data.split(
        data.protocols.digits(), data.sources.digits(), calibration_classes=CALIBRATION_CLASSES, seed=seed
    )


def digits() -> Experiment:
    """Handwritten digits of scikit-learn: 0-5 known, 6 and 7 negative, 8 and 9 unknown. Objectosphere loss.

    `python train.py` runs it; the README quotes what it reached.
    """
    return Experiment(
        name="digits",
        data=splits,
        backbone=backbone,
        head=heads.LinearHead,
        loss=losses.EntropicOpenSetLoss() + 0.01 * losses.MagnitudeLoss(xi=10.0),
        optimizer=functools.partial(keras.optimizers.AdamW, 2e-3, weight_decay=1e-4),
        epochs=25,
        batch_size=32,
    )
