"""Takes a finished classifier apart: its logits, the features that they are made of, the weights between them."""

import keras
from keras import ops

from cplus1_keras.heads import LinearHead

TINY = 1e-37


def take_apart(model, features=None):
    """A classifier as a model of named outputs.

    A softmax at the end is taken off: a `Softmax` or `Activation` layer, the activation of a `Dense` layer. The
    features are what the last `Dense` layer takes, or a convolution of one pixel in its place; maps (N, H, W, K) are
    averaged. Weights are shared, but for a `Dense` layer with a softmax of its own, whose weights are copied.

    Args:
        model: A functional `keras.Model` or a built `Sequential`, one input -> logits or probabilities (N, C); one that
            gives a dict with `logits` and `features` keeps these.
        features: Name of the layer that gives the features; None finds them.

    Returns:
        Pair of a functional model that gives a dict of `logits` and `features` (N, K), and the pair (kernel, bias) of
        the layer that makes the logits, NumPy arrays, or None.

    Raises:
        ValueError: For another kind of model; where there is no such layer, or its output is none of features.

    >>> images = keras.Input((8, 8, 1))
    >>> model = keras.Sequential([images, keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")])
    >>> parts, (kernel, bias) = take_apart(model)
    >>> {name: tuple(output.shape) for name, output in parts.output.items()}, kernel.shape
    ({'logits': (None, 3), 'features': (None, 64)}, (64, 3))
    """
    output = _only_output(model)
    if isinstance(output, dict):
        logits, found, last = output["logits"], output["features"], _producer(output["logits"])
    else:
        logits, last = _before_softmax(output)
        if isinstance(last, keras.Model):  # a network whose last layer is a network
            return _take_apart_inner(model, last, logits, features)
        last, found = _maker(logits)
    if features is not None:
        found = _output_of_layer(model, features)
    if found is None:
        raise ValueError(
            f"The model ends in {type(last).__name__} `{last.name}`, not in a Dense layer, so its features must be "
            f"named: `features=` one of {_candidates(model)}."
        )
    if len(found.shape) == 4:
        found = keras.layers.GlobalAveragePooling2D(name="average_features")(found)
    if len(found.shape) != 2 or None in found.shape[1:] or len(logits.shape) != 2:
        raise ValueError(
            "A classifier of images needs logits (N, C) and features (N, K), or maps of them (N, H, W, K). Received: "
            f"logits of shape {tuple(logits.shape)}, features of shape {tuple(found.shape)}"
        )
    parts = keras.Model(model.inputs, {"logits": logits, "features": found}, name=f"{model.name}_parts")
    return parts, _classifier(last)


def to_log_probabilities(parts):
    """A model of named outputs whose logits are probabilities, with their logarithms in place of these."""
    logits = ops.log(ops.maximum(ops.cast(parts.output["logits"], "float32"), TINY))
    return keras.Model(parts.inputs, {**parts.output, "logits": logits}, name=parts.name)


def _only_output(model):
    """The model's output, one tensor or a dict with logits and features; a ValueError for anything else."""
    if not isinstance(model, keras.Model):
        raise ValueError(f"A functional keras.Model is needed. Received: {type(model).__name__}")
    if isinstance(model, keras.Sequential) and not model.built:
        raise ValueError("The Sequential model is not built: begin it with `keras.Input((height, width, channels))`.")
    try:
        inputs, output = model.inputs, model.outputs if isinstance(model, keras.Sequential) else model.output
    except (AttributeError, ValueError) as error:
        raise ValueError(
            f"{type(model).__name__} is no functional model, so it cannot be taken apart. Make one of it: "
            "`images = keras.Input(shape)`, `keras.Model(images, model(images))`, if its `call` can be given features "
            "and logits as a dict."
        ) from error
    if isinstance(output, dict) and {"logits", "features"} <= set(output):
        return output
    outputs = keras.tree.flatten(output)
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(
            f"A classifier has one input and one output, logits or probabilities. Received: {len(inputs)} inputs, "
            f"{len(outputs)} outputs. Choose: `keras.Model(model.input, model.outputs[0])`."
        )
    return outputs[0]


def _producer(tensor):
    return tensor._keras_history.operation


def _inputs(tensor):
    operation, node, _ = tensor._keras_history
    return operation._inbound_nodes[node].input_tensors


def _before_softmax(output):
    """Logits, and the operation that makes them."""
    tensor, operation = output, _producer(output)
    while _is(operation, "linear") or _is(operation, "softmax"):
        tensor = _inputs(tensor)[0]
        operation = _producer(tensor)
    if not isinstance(operation, keras.layers.Dense) or operation.activation is keras.activations.linear:
        return tensor, operation
    if operation.activation is not keras.activations.softmax:
        name = getattr(operation.activation, "__name__", operation.activation)
        raise ValueError(
            f"The last layer `{operation.name}` ends in {name!r}: logits or softmax probabilities of one class for "
            "each image are needed. Sigmoids say which classes are present: see `layers.Presence`."
        )
    plain = type(operation).from_config({**operation.get_config(), "activation": None})
    logits = plain(_inputs(tensor)[0])
    plain.set_weights(operation.get_weights())
    return logits, plain


def _maker(logits):
    """The layer that makes logits of features and these; None for what is no such layer."""
    tensor, last = logits, _producer(logits)
    while isinstance(last, keras.layers.Flatten | keras.layers.Reshape):
        tensor = _inputs(tensor)[0]
        last = _producer(tensor)
    if isinstance(last, keras.layers.Dense) and len(tensor.shape) == 2:
        return last, _inputs(tensor)[0]
    # A convolution of one pixel by one, as MobileNets have, is a Dense layer.
    pixel = isinstance(last, keras.layers.Conv2D) and last.kernel_size == (1, 1) and last.groups == 1
    alone = pixel and tuple(_inputs(tensor)[0].shape[1:3]) == (1, 1) and last.activation is keras.activations.linear
    return last, _inputs(tensor)[0] if alone else None


def _is(operation, name):
    """Whether an operation is nothing but this activation."""
    if isinstance(operation, keras.layers.Activation):
        return operation.activation is getattr(keras.activations, name)
    if name == "softmax":
        return isinstance(operation, keras.layers.Softmax) or type(operation).__name__ == "Softmax"
    return isinstance(operation, keras.layers.Identity)


def _take_apart_inner(model, inner, output, features):
    parts, classifier = take_apart(inner, features)
    outputs = parts(_inputs(output)[0])
    return keras.Model(model.inputs, outputs, name=parts.name), classifier


def _output_of_layer(model, name):
    names = [layer.name for layer in model.layers]
    if name not in names:
        raise ValueError(f"The model has no layer {name!r} at its top level. Its last ones: {_candidates(model)}")
    return model.get_layer(name).output


def _candidates(model):
    """The last layers that may give features."""
    outputs = [(layer.name, getattr(layer, "output", None)) for layer in model.layers]
    return [name for name, output in outputs if len(getattr(output, "shape", ())) in (2, 4)][-6:]


def _classifier(last):
    """Kernel and bias of the layer that makes the logits, or None."""
    if not isinstance(last, keras.layers.Dense | keras.layers.Conv2D | LinearHead):
        return None
    kernel = ops.convert_to_numpy(ops.cast(last.kernel, "float32"))
    if kernel.size != kernel.shape[-2] * kernel.shape[-1]:
        return None
    kernel = kernel.reshape(kernel.shape[-2:])
    bias = getattr(last, "bias", None)
    return kernel, kernel[0] * 0 if bias is None else ops.convert_to_numpy(ops.cast(bias, "float32"))
