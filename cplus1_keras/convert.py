"""A SavedModel for runtimes without TensorFlow: ONNX Runtime, or LiteRT (once TensorFlow Lite).

    python -m cplus1_keras.convert SAVEDMODEL --to onnx
    python -m cplus1_keras.convert SAVEDMODEL --to litert --output phone.tflite

Writes SAVEDMODEL's signature of images, `serving_default`, with its threshold and the names of its classes, as
SAVEDMODEL.onnx or SAVEDMODEL.tflite beside it, for batches of any size. Before the file appears it answers images of
noise and one with a NaN: its decisions must be those of the SavedModel. Images and label sets are converted; encoded
images are not, so decode and resize as `cplus1_keras.data.preprocess` does. `pip install cplus1-keras[onnx]` or
`[litert]` brings what it needs.
"""

import argparse
import pathlib
import sys

import numpy as np
import tensorflow as tf
from absl import logging

from cplus1_keras import serving
from cplus1_keras.directory import unfinished

ENDINGS = {"onnx": ".onnx", "litert": ".tflite"}
CLOSE = 1e-4


def convert(saved_model, to, path=None):
    """Writes a SavedModel's signature of images for another runtime, and checks its answers.

    Args:
        saved_model: Folder of a SavedModel of images or label sets.
        to: "onnx" or "litert".
        path: File to write; None is `saved_model` with the ending ".onnx" or ".tflite".

    Returns:
        `pathlib.Path` of the file.

    Raises:
        FileExistsError: Something is at `path`.
        ModuleNotFoundError: A package is missing.
        ValueError: There is no such SavedModel, it cannot be converted, or a check failed; `path` is absent.

    >>> convert("runs/none", "onnx")
    Traceback (most recent call last):
    ValueError: runs/none is no SavedModel: it lacks saved_model.pb
    """
    served = serving.SavedModel(saved_model)
    path = pathlib.Path(path or f"{pathlib.Path(saved_model)}{ENDINGS[to]}")
    if path.exists():
        raise FileExistsError(f"Nothing is overwritten, and {path} exists. Choose another path.")
    if not isinstance(served.spec, serving.ImageSpec | serving.LabelSetSpec):
        raise ValueError(f"Images and label sets are converted. {saved_model} answers otherwise: {served.spec.output}.")
    with unfinished(path) as hidden:
        (_write_onnx if to == "onnx" else _write_litert)(_freeze(served), hidden)
        _compare(served, hidden, to)
        hidden.rename(path)
    return path


def answer(path, to, images):
    """The answers of a file that `convert` wrote: a dict of arrays, strings as str."""
    if to == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(names, {"images": images}), strict=True))
    else:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=str(path))
        found = interpreter.get_signature_runner("serving_default")(images=images)
    texts = {n: x.astype("S") if isinstance(x.flat[0], bytes) else x for n, x in found.items() if x.dtype == object}
    return found | {n: np.char.decode(x, "utf-8") if x.dtype.kind == "S" else x.astype("U") for n, x in texts.items()}


def _freeze(served):
    """A function of images whose graph holds constants for variables and what other runtimes know."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    taken = tf.TensorSpec((None, *served.image_shape), served.dtype, name="images")
    serve = served.loaded.signatures["serving_default"]
    given = {"input_signature": [taken], "autograph": False}
    frozen = convert_variables_to_constants_v2(
        tf.function(lambda images: serve(images=images), **given).get_concrete_function()
    )
    graph = frozen.graph.as_graph_def()
    for node in list(graph.node):
        _simplify(node, graph)
    start, ends = frozen.inputs[0].name, [tensor.name for tensor in frozen.outputs]

    def run(images):
        found = tf.graph_util.import_graph_def(graph, input_map={start: images}, return_elements=ends)
        return dict(zip(sorted(serve.structured_outputs), found, strict=True))

    return tf.function(run, **given)


def _simplify(node, graph):
    """Puts operations that other runtimes know for those that they lack."""
    if node.op == "EnsureShape":  # the shape is what it says, but a reshape tells it to converters
        shape = graph.node.add(op="Const", name=f"{node.name}/shape")
        sizes = tf.constant([axis.size for axis in node.attr["shape"].shape.dim], tf.int32)
        shape.attr["dtype"].type = node.attr["Tshape"].type = tf.int32.as_datatype_enum
        shape.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(sizes))
        node.input.append(shape.name)
        node.op = "Reshape"
        del node.attr["shape"]
    # Keras's argmax tells -0 from 0 by the sign's bit. Without it these two tie, and the first of them is the answer.
    elif node.op == "Bitcast":
        node.attr["SrcT"].CopyFrom(node.attr["T"])
        node.attr["DstT"].CopyFrom(node.attr["type"])
        node.op = "Cast"
        del node.attr["T"], node.attr["type"]
    elif node.op == "BitwiseAnd":
        node.op = "Identity"
        del node.input[1:]


def _write_onnx(function, path):
    import tf2onnx
    from tf2onnx.onnx_opset.controlflow import Select

    def where(graph, node, name, arguments):
        # tf2onnx would multiply by 0 and 1, and 0 times a NaN is no 0.
        if node.output_dtypes[0] == 9:  # bool: ONNX Runtime has no such `Where`
            return Select.version_9(graph, node)
        node.type = "Where"
        return node

    handlers = {"SelectV2": (where, [])}
    tf2onnx.convert.from_function(
        function, function.input_signature, opset=17, custom_op_handlers=handlers, output_path=str(path)
    )


def _write_litert(function, path):
    module = tf.Module()
    module.serve = function
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    with unfinished(path.with_name(f"{path.name}-saved")) as folder:  # its names of inputs and outputs are kept
        tf.saved_model.save(module, str(folder), {"serving_default": function}, options)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=["serving_default"])
        path.write_bytes(converter.convert())


def _compare(served, path, to):
    """Raises ValueError unless the file decides as the SavedModel does."""
    images = np.random.default_rng(0).uniform(0, 255, (8, *served.image_shape)).astype(served.dtype.name)
    if images.dtype.kind == "f":
        images[3] = np.nan
    expected, found = served.predict(images), answer(path, to, images)
    sure = np.abs(expected["score"] - served.threshold) > CLOSE * (1 + np.abs(served.threshold))
    for name, want in expected.items():
        have = found[name]
        if want.dtype.kind == "f":
            same = np.abs(have - want) <= CLOSE * (1 + np.abs(want))
        else:
            same = (have == want) | (~sure if want.shape == sure.shape else ~sure.all(axis=-1))
        if not same.all():
            raise ValueError(f"The file answers otherwise than {served.path}: `{name}` of {np.sum(~same)} answers.")


def main(arguments=None):
    """Convert the SavedModel that the command line names; also `cplus1-convert`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("saved_model", metavar="SAVEDMODEL", help="folder with saved_model.pb")
    parser.add_argument("--to", choices=ENDINGS, required=True)
    parser.add_argument("--output", help="file to write, which must not exist yet")
    given = parser.parse_args(arguments)
    logging.set_verbosity(logging.WARNING)
    try:
        path = convert(given.saved_model, given.to, given.output)
    except ModuleNotFoundError as error:
        sys.exit(f"Not converted: {error.name} is missing. Install it: pip install 'cplus1-keras[{given.to}]'")
    except (OSError, ValueError) as error:
        sys.exit(f"Not converted. {error}")
    print(f"Wrote {path} ({path.stat().st_size:,} bytes): images -> the answers of {given.saved_model}.")


if __name__ == "__main__":
    main()
