"""Makes attacks.npz: what the Adversarial Robustness Toolbox does to four images, by three small nets.

    pip install adversarial-robustness-toolbox==1.20.1   # beside this package and its TensorFlow
    PYTHONPATH=. python tests/golden_attacks/make.py

The images are in 0..1 there and 0..255 here. PGD starts at the image, goes ten steps of epsilon / 4.
"""

import pathlib

import keras
import numpy as np

from cplus1_keras import OpenSetModel, heads

EPSILON = 0.1
LABELS = np.array([0, 1, 2, 1], "int32")
IMAGES = (0.5 + 0.5 * np.sin(np.arange(4 * 6 * 6, dtype="float32") * 1.7)).reshape(4, 6, 6, 1)
IMAGES[0, :3] = 0.0  # at an end of the range, and near to one
IMAGES[1, :3] = 0.97
HEADS = {"linear": heads.LinearHead, "cosine": lambda classes: heads.CosineHead(classes, 15.0), "cam": heads.CAMHead}


def build(kind):
    """A net whose weights are waves; its images are 0..255."""
    images = keras.Input((6, 6, 1))
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(4, 3, activation="tanh")(x)
    outputs = HEADS[kind](3)(x if kind == "cam" else keras.layers.Flatten()(x))
    model = OpenSetModel(images, outputs)
    for number, weight in enumerate(model.weights):
        waves = np.sin(np.arange(np.prod(weight.shape)) * 2.3 + number)
        weight.assign(0.6 * waves.reshape(weight.shape))
    return model


def main():
    import tensorflow as tf
    from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
    from art.estimators.classification import TensorFlowV2Classifier

    arrays = {}
    for kind in HEADS:
        model = build(kind)
        classifier = TensorFlowV2Classifier(
            model=lambda x, training=False, model=model: model(255.0 * x, training=False)["logits"],
            nb_classes=3,
            input_shape=(6, 6, 1),
            loss_object=tf.keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum"),
            clip_values=(0.0, 1.0),
        )
        target = np.eye(3, dtype="float32")[LABELS]
        fast = FastGradientMethod(classifier, eps=EPSILON)
        walk = ProjectedGradientDescent(classifier, eps=EPSILON, eps_step=EPSILON / 4, max_iter=10, verbose=False)
        arrays[f"{kind}_gradient"] = classifier.loss_gradient(IMAGES, target)
        arrays[f"{kind}_fgsm"] = fast.generate(IMAGES, target)
        arrays[f"{kind}_pgd"] = walk.generate(IMAGES, target)
    np.savez(pathlib.Path(__file__).parent / "attacks.npz", **arrays)
    print({name: array.shape for name, array in arrays.items()})


if __name__ == "__main__":
    main()
