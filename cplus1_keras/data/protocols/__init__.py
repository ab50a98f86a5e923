"""Open-set protocols: which classes are known, negative and unknown. Pure Python, without numpy or TensorFlow."""

from cplus1_keras.data.protocols.protocol import Protocol
from cplus1_keras.data.protocols.shipped import (
    cifar10,
    cifar_plus,
    digits,
    fashion_mnist,
    imagenet,
    imagenet_names,
    mnist,
    toy,
)

__all__ = [
    "Protocol",
    "cifar10",
    "cifar_plus",
    "digits",
    "fashion_mnist",
    "imagenet",
    "imagenet_names",
    "mnist",
    "toy",
]
