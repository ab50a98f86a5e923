"""Backbones: images in, features out, by one call each and without a network.

Each function returns a `keras.Model` that takes float images (N, H, W, channels) with pixels 0..255 (it rescales them
itself) and gives features: a vector (N, K), or with `pool=False` the map (N, h, w, K). `dilated_resnet`, `hrnet`,
`resnext` and `small_maps` are for pixels and boxes: they give a list of maps, fine to coarse. Pretrained weights come
from keras-cv, as do `resnet_v2`, `efficientnet_v2`, `mobilenet_v3`, `densenet` and `mit`; it is imported, with
TensorFlow, when it is needed.
"""

from cplus1_keras.backbones.cifar import cifar_densenet, cifar_resnext, plain_cnn
from cplus1_keras.backbones.hrnets import hrnet
from cplus1_keras.backbones.large import densenet, efficientnet_v2, mit, mobilenet_v3, resnet_v2
from cplus1_keras.backbones.outputs import synchronize_batch_norm
from cplus1_keras.backbones.resnets import dilated_resnet, resnet
from cplus1_keras.backbones.resnexts import resnext
from cplus1_keras.backbones.small import cifar_resnet, lenet_plus_plus, small_cnn, small_maps

__all__ = [
    "cifar_densenet",
    "cifar_resnet",
    "cifar_resnext",
    "densenet",
    "dilated_resnet",
    "efficientnet_v2",
    "hrnet",
    "lenet_plus_plus",
    "mit",
    "mobilenet_v3",
    "plain_cnn",
    "resnet",
    "resnet_v2",
    "resnext",
    "small_cnn",
    "small_maps",
    "synchronize_batch_norm",
]
