"""keras-cv's backbones by one call each. This is the only module that touches keras-cv, and it does so when called.

keras-cv's alias classes (`ResNet18Backbone`) and `from_preset` ask a model hub even without weights, so these build the
parametrised classes from the shapes in `variants.py`. They run on Keras's TensorFlow backend.

Each takes the same arguments beside its size:

- `input_shape`: (height, width, channels), pixels, at least 64 x 64: all of these nets reduce 32-fold, so that a
  32-pixel image would end as a single cell. Height and width may be None, save for `mit`.
- `features`: length of the feature vector by a linear map without bias; None leaves the pooled channels.
- `pool`: True gives a vector (N, K). False gives keras-cv's own backbone, images -> map (N, h, w, K), whose
  `pyramid_level_inputs` name the layers to tap for segmentation and detection.
- `weights`: None starts at random; the name of a keras-cv preset ("resnet50_imagenet") downloads it; a folder is read
  as a preset saved on this machine.
"""

import os
import threading

import keras

from cplus1_keras.backbones import variants
from cplus1_keras.backbones.outputs import check_choice, check_image_shape, finish

HUB_TIMEOUT = 30
"""Seconds until the model hub must have answered the first, small request; its own client would wait forever."""

_SMALLER = "It reduces them 32-fold; for smaller ones take cifar_resnet or lenet_plus_plus, or enlarge them."


def resnet(depth=50, input_shape=(224, 224, 3), features=None, pool=True, weights=None):
    """ResNet: residual blocks with normalisation and ReLU after the convolutions.

    Args:
        depth: 18, 34, 50, 101 or 152.
        input_shape, features, pool, weights: see the module.

    Returns:
        A `keras.Model`: images (N, height, width, channels), 0..255 -> features, 512 of them up to depth 34, then 2048.

    Raises:
        ValueError: unknown depth or weights, or images below 64 pixels.
        ConnectionError: `weights` were asked for and the model hub did not answer.

    Example:
        >>> resnet(18, (64, 64, 3)).output_shape
        (None, 512)

    Reference:
        K. He et al., "Deep residual learning for image recognition", CVPR 2016.
    """
    check_choice("depth", depth, variants.RESNET)
    return _build("ResNetBackbone", f"resnet{depth}", variants.RESNET[depth], input_shape, features, pool, weights)


def resnet_v2(depth=50, input_shape=(224, 224, 3), features=None, pool=True, weights=None):
    """ResNet v2: residual blocks with normalisation and ReLU before the convolutions.

    Args:
        depth: 18, 34, 50, 101 or 152.
        input_shape, features, pool, weights: see the module.

    Returns:
        A `keras.Model`: images (N, height, width, channels), 0..255 -> features, 512 of them up to depth 34, then 2048.

    Raises:
        ValueError: unknown depth or weights, or images below 64 pixels.
        ConnectionError: `weights` were asked for and the model hub did not answer.

    Example:
        >>> resnet_v2(18, (64, 64, 3), features=10).output_shape
        (None, 10)

    Reference:
        K. He et al., "Identity mappings in deep residual networks", ECCV 2016.
    """
    check_choice("depth", depth, variants.RESNET)
    name = f"resnet{depth}_v2"
    return _build("ResNetV2Backbone", name, variants.RESNET[depth], input_shape, features, pool, weights)


def efficientnet_v2(variant="b0", input_shape=(224, 224, 3), features=None, pool=True, weights=None):
    """EfficientNet v2: mobile inverted bottlenecks, fused in the early stages.

    Args:
        variant: "b0", "b1", "b2", "b3", "s", "m" or "l".
        input_shape, features, pool, weights: see the module.

    Returns:
        A `keras.Model`: images (N, height, width, channels), 0..255 -> features, 1280 of them (b2: 1408, b3: 1536).

    Raises:
        ValueError: unknown variant or weights, or images below 64 pixels.
        ConnectionError: `weights` were asked for and the model hub did not answer.

    Example:
        >>> efficientnet_v2("b0", (64, 64, 3)).output_shape
        (None, 1280)

    Reference:
        M. Tan and Q. V. Le, "EfficientNetV2: smaller models and faster training", ICML 2021.
    """
    check_choice("variant", variant, variants.EFFICIENTNET_V2)
    name, arguments = f"efficientnetv2_{variant}", variants.EFFICIENTNET_V2[variant]
    return _build("EfficientNetV2Backbone", name, arguments, input_shape, features, pool, weights)


def mobilenet_v3(variant="large", input_shape=(224, 224, 3), features=None, pool=True, weights=None):
    """MobileNet v3: inverted residuals with hard swish and squeeze-and-excite, for phones.

    Args:
        variant: "small" or "large".
        input_shape, features, pool, weights: see the module.

    Returns:
        A `keras.Model`: images (N, height, width, channels), 0..255 -> features, 576 (small) or 960 (large) of them.

    Raises:
        ValueError: unknown variant or weights, or images below 64 pixels.
        ConnectionError: `weights` were asked for and the model hub did not answer.

    Example:
        >>> mobilenet_v3("small", (64, 64, 3)).output_shape
        (None, 576)

    Reference:
        A. Howard et al., "Searching for MobileNetV3", ICCV 2019.
    """
    check_choice("variant", variant, variants.MOBILENET_V3)
    name, arguments = f"mobilenet_v3_{variant}", variants.MOBILENET_V3[variant]
    return _build("MobileNetV3Backbone", name, arguments, input_shape, features, pool, weights)


def densenet(depth=121, input_shape=(224, 224, 3), features=None, pool=True, weights=None):
    """DenseNet: each layer reads all earlier ones of its block.

    Args:
        depth: 121, 169 or 201.
        input_shape, features, pool, weights: see the module.

    Returns:
        A `keras.Model`: images (N, height, width, channels), 0..255 -> features, 1024, 1664 or 1920 of them.

    Raises:
        ValueError: unknown depth or weights, or images below 64 pixels.
        ConnectionError: `weights` were asked for and the model hub did not answer.

    Example:
        >>> densenet(121, (64, 64, 3)).output_shape
        (None, 1024)

    Reference:
        G. Huang et al., "Densely connected convolutional networks", CVPR 2017.
    """
    check_choice("depth", depth, variants.DENSENET)
    name, arguments = f"densenet{depth}", variants.DENSENET[depth]
    return _build("DenseNetBackbone", name, arguments, input_shape, features, pool, weights)


def mit(variant="b0", input_shape=(224, 224, 3), features=None, pool=True, weights=None):
    """Mix Transformer, the encoder of SegFormer: four stages of overlapping patches and self-attention.

    Args:
        variant: "b0" to "b5".
        input_shape, features, pool, weights: see the module; height and width must be known multiples of 32.

    Returns:
        A `keras.Model`: images (N, height, width, channels), 0..255 -> features, 256 (b0) or 512 of them.

    Raises:
        ValueError: unknown variant or weights, images below 64 pixels or no multiple of 32.
        ConnectionError: `weights` were asked for and the model hub did not answer.

    Example:
        >>> mit("b0", (64, 64, 3)).output_shape
        (None, 256)

    Reference:
        E. Xie et al., "SegFormer: simple and efficient design for semantic segmentation with transformers",
        NeurIPS 2021.
    """
    check_choice("variant", variant, variants.MIT)
    height, width, _ = check_image_shape(f"mit_{variant}", input_shape, 64, _SMALLER, fixed=True)
    if height % 32 or width % 32:
        raise ValueError(f"mit needs a height and width that are multiples of 32 pixels. Received: {input_shape}")
    return _build("MiTBackbone", f"mit_{variant}", variants.MIT[variant], input_shape, features, pool, weights)


def _build(class_name, name, arguments, input_shape, features, pool, weights):
    shape = check_image_shape(name, input_shape, 64, _SMALLER)
    backbone_class = _backbone_class(class_name)
    if weights is None:
        backbone = backbone_class(**arguments, include_rescaling=True, input_shape=shape, name=name)
    else:
        backbone = _pretrained(backbone_class, name, shape, weights)
    if not pool and features is None:
        return backbone
    # As one nested layer, because keras-cv's inner layers do not all survive saving; its backbones do.
    images = keras.Input(shape, name="images")
    return finish(f"{name}_features", images, backbone(images), features, pool)


def _backbone_class(class_name):
    try:
        import keras_cv
    except ImportError as error:
        raise ImportError(
            f"This backbone comes from keras-cv: `pip install keras-cv==0.9.0 tensorflow`. The import said: {error}"
        ) from error
    return getattr(keras_cv.models, class_name)


def _pretrained(backbone_class, name, shape, weights):
    preset = os.fspath(weights)
    if not os.path.isdir(preset):
        fitting = sorted(p for p in backbone_class.presets_with_weights if p.startswith(f"{name}_"))
        if preset not in fitting:
            raise ValueError(
                f"keras-cv has {', '.join(map(repr, fitting)) or 'no weights'} for {name}; `weights` may also be a "
                f"folder with a saved preset. Received: weights={weights!r}"
            )
        _ask_hub(preset, backbone_class.presets[preset]["kaggle_handle"])
    return backbone_class.from_preset(preset, include_rescaling=True, input_shape=shape, name=name)


def _ask_hub(preset, handle):
    """Fetches the preset's small configuration, to learn in bounded time whether there is a network at all."""
    import kagglehub

    failure = []

    def fetch():
        try:
            kagglehub.model_download(handle.removeprefix("kaggle://"), "config.json")
        except Exception as error:  # whatever the hub's client raises without a network, and there are many
            failure.append(error)

    # A daemon, because the client of the hub cannot be stopped: it must not hold up the exit of Python.
    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT)
    if thread.is_alive():
        failure.append(TimeoutError(f"no answer within {HUB_TIMEOUT} s"))
    if failure:
        raise ConnectionError(
            f"The weights {preset!r} come from the model hub of Keras, which did not answer. Use weights=None to start "
            f"at random, or the folder of a preset that was saved with a network. The hub's client said: {failure[0]}"
        ) from failure[0]
