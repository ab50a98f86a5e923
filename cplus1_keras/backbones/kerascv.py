"""keras-cv's backbones: the only module that touches keras-cv, and it does so when called.

keras-cv's alias classes (`ResNet18Backbone`) and `from_preset` ask a model hub even without weights, so nets are built
by the parametrised classes. keras-cv runs on Keras's TensorFlow backend.
"""

import os
import threading

HUB_TIMEOUT = 30  # seconds to answer a first, small request; the hub's own client would wait forever


def build(class_name, name, arguments, shape, weights=None):
    """keras-cv's model of that class, from images, 0..255, to the last map; its presets begin with `name`.

    `arguments` make up the net; `weights` are None, the name of a preset, or the folder of a saved one.
    """
    try:
        import keras_cv
    except ImportError as error:
        text = "This backbone comes from keras-cv: `pip install keras-cv==0.9.0 tensorflow`. The import said: "
        raise ImportError(f"{text}{error}") from error
    backbone_class = getattr(keras_cv.models, class_name)
    common = {"include_rescaling": True, "input_shape": shape, "name": name}
    if weights is None:
        return backbone_class(**arguments, **common)
    preset = os.fspath(weights)
    if not os.path.isdir(preset):
        fitting = sorted(p for p in backbone_class.presets_with_weights if p.startswith(f"{name}_"))
        if preset not in fitting:
            raise ValueError(
                f"keras-cv has {', '.join(map(repr, fitting)) or 'no weights'} for {name}; `weights` may also be a "
                f"folder with a saved preset. Received: weights={weights!r}"
            )
        _ask_hub(preset, backbone_class.presets[preset]["kaggle_handle"])
    backbone = backbone_class.from_preset(preset, **common)
    found = backbone.get_config()
    other = {key: found[key] for key, value in arguments.items() if found[key] != value}
    if other:
        raise ValueError(f"The preset {preset!r} is another net than {name}: it has {other}")
    return backbone


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
