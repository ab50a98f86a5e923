"""Writes a SavedModel, and doubts it: what it would execute, and whether it answers as Keras predicts."""

import os
import pathlib
import shutil
import tempfile

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from cplus1_keras.serving.signatures import ANSWERS, FEATURES, Signatures

SIGNATURES = {"serving_default": set(ANSWERS), "features": set(FEATURES)}

_FORBIDDEN = {
    "Assign": "changes a variable while it serves, as layers do in training mode",
    "ResourceApply": "trains while it serves",
    "ResourceScatter": "changes a variable while it serves",
    "PyFunc": "calls Python, which a model server has not",
    "EagerPyFunc": "calls Python, which a model server has not",
    "Random": "draws random numbers, as augmentation and dropout do in training mode",
    "StatelessRandom": "draws random numbers, as augmentation and dropout do in training mode",
}
"""Beginnings of the names of operations that a serving graph must not hold, and why."""


def export(model, path, reject, class_names, samples=None):
    """Writes a SavedModel that takes raw images and answers with a known class or "unknown", then checks it.

    Its signatures are `serving_default` (images -> class_id, class_name, score, known, probabilities) and `features`
    (images -> features, valid); see `Signatures`. It needs neither Keras nor this package. The threshold is the one
    variable of the collection `threshold`: load the SavedModel, assign, and save it elsewhere to change it.

    It is written beside `path` and renamed when every check has passed, so that `path` is complete or absent.

    Args:
        model: a functional `keras.Model`, images (N, H, W, channels), 0..255 -> dict with `features` and `logits`.
        path: folder to write, which must not exist yet. TF Serving wants its last part to be a version number.
        reject: a `cplus1_keras.layers.Reject` with the calibrated threshold.
        class_names: names of the known classes, in the order of the logits.
        samples: images (N, H, W, channels), 0..255, on which the SavedModel must agree with `model.predict`. None takes
            four images of noise.

    Raises:
        FileExistsError: something is at `path`.
        ValueError: model, class names or samples don't fit, or a check failed; `path` is then absent.

    Example:
        >>> images, folder = keras.Input((8, 8, 1)), pathlib.Path(tempfile.mkdtemp())
        >>> model = keras.Model(images, heads.LinearHead(3)(keras.layers.Flatten()(images)))
        >>> export(model, folder / "1", layers.Reject(3, threshold=0.5), ["cat", "dog", "eel"])
        >>> served = tf.saved_model.load(str(folder / "1")).signatures["serving_default"]
        >>> sorted(served(images=tf.zeros((2, 8, 8, 1))))
        ['class_id', 'class_name', 'known', 'probabilities', 'score']
    """
    signatures = Signatures(model, reject, class_names)
    if samples is None:
        samples = np.random.default_rng(0).uniform(0, 255, (4, *signatures.image_shape))
    samples = np.asarray(samples, "float32")

    def verify(folder):
        check(folder)
        _compare(signatures, folder, samples)

    publish(path, lambda folder: _write(signatures, folder), verify)


def publish(path, write, verify):
    """Writes a folder beside `path`, verifies it there, and renames it: `path` is complete or absent.

    Args:
        path: folder to make.
        write: function of a folder that it makes and fills.
        verify: function of that folder that raises if it is not as it must be.

    Raises:
        FileExistsError: something is at `path`.
        Whatever `write` or `verify` raise; nothing is left behind then.

    Example:
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> publish(folder / "2", lambda new: new.mkdir(), lambda new: None)
        >>> (folder / "2").is_dir()
        True
    """
    path = pathlib.Path(path)
    if path.exists():
        raise FileExistsError(f"An export never overwrites, and {path} exists. Choose another path or remove it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        # One level down, because mkdtemp's folder is closed to other users, such as the one a model server runs as.
        write(folder / "written")
        verify(folder / "written")
        os.rename(folder / "written", path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check(path, signatures=None):
    """Raises ValueError if a SavedModel lacks a signature of `export` or would execute what a server must not.

    A server must not change variables, draw random numbers or call Python. Looked at are the operations that the
    signatures reach, through all functions; for Python calls, every function in the file.

    Args:
        path: folder of the SavedModel.
        signatures: names of the outputs by the name of their signature, each of which takes `images`; None takes those
            of `export`.

    Raises:
        FileNotFoundError: there is no SavedModel.
        ValueError: the file is damaged, lacks a signature, or holds a forbidden operation.

    Example:
        >>> check("runs/digits/saved_model/1")  # doctest: +SKIP
    """
    file = pathlib.Path(path) / "saved_model.pb"
    if not file.is_file():
        raise FileNotFoundError(f"{path} is no SavedModel: it lacks saved_model.pb")
    proto = saved_model_pb2.SavedModel()
    try:
        proto.ParseFromString(file.read_bytes())
    except Exception as error:  # the parser's own class differs between the builds of protobuf
        raise ValueError(f"{file} is damaged: {error}") from error
    problems = []
    for graph in proto.meta_graphs:
        for name, outputs in (signatures or SIGNATURES).items():
            found = graph.signature_def.get(name)
            if found is None or set(found.inputs) != {"images"} or set(found.outputs) != set(outputs):
                problems.append(f"the signature {name!r} must map `images` to {sorted(outputs)}")
        everywhere = {node.op for function in graph.graph_def.library.function for node in function.node_def}
        python = {op for op in everywhere if "PyFunc" in op}
        for op in sorted(_reached(graph) | python):
            problems += [f"{op} {why}" for start, why in _FORBIDDEN.items() if op.startswith(start)]
    if problems or not proto.meta_graphs:
        raise ValueError(f"The SavedModel {path} must not be served: {'; '.join(problems) or 'it is empty'}")


def _reached(graph):
    """The kinds of operation that the signatures execute; loading and saving, which do assign, are not among them."""
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    nodes = {node.name: node for node in graph.graph_def.node}
    outputs = [tensor.name for signature in graph.signature_def.values() for tensor in signature.outputs.values()]
    waiting = [nodes[name.split(":")[0]] for name in outputs if name]
    operations, seen = set(), set()
    while waiting:
        node = waiting.pop()
        operations.add(node.op)
        # Inputs matter in the outermost graph alone: a function runs whole, so all of its nodes are taken below.
        sources = [name.lstrip("^").split(":")[0] for name in node.input] if nodes.get(node.name) is node else []
        called = [node.op, *(name for attribute in node.attr.values() for name in _functions_of(attribute))]
        for name in sources:
            if name not in seen:
                seen.add(name)
                waiting.append(nodes[name])
        for name in called:
            if name in functions and ("function", name) not in seen:
                seen.add(("function", name))
                waiting.extend(functions[name].node_def)
    return operations


def _functions_of(attribute):
    return [attribute.func.name, *(function.name for function in attribute.list.func)]


def _write(signatures, folder):
    # One image first: what layers create in their first call must exist before they are tracked.
    signatures.answers(tf.zeros((1, *signatures.image_shape)))
    endpoints = {"serving_default": signatures.answers, "features": signatures.features}
    archive(folder, signatures, endpoints)


def archive(folder, signatures, endpoints):
    """Writes the SavedModel of a model and a threshold that have been called once.

    Args:
        folder: folder to write.
        signatures: holds `model`, `reject` and `inputs`, a list of one TensorSpec.
        endpoints: functions of that tensor by the name of their signature.

    Example:
        >>> archive(folder / "3", signatures, {"serving_default": signatures.answers})  # doctest: +SKIP
    """
    export_archive = keras.export.ExportArchive()
    export_archive.track(signatures.model)
    export_archive.track(signatures.reject)
    for name, function in endpoints.items():
        export_archive.add_endpoint(name, function, signatures.inputs)
    export_archive.add_variable_collection("threshold", [signatures.reject.threshold])
    export_archive.write_out(str(folder), verbose=False)


def tolerance(model):
    """How far, relative to 1 + its size, a served number may be from the model's own: more in half precision."""
    half = any(layer.compute_dtype in ("float16", "bfloat16") for layer in model._flatten_layers())
    return 2e-2 if half else 1e-4


def _compare(signatures, folder, samples):
    """Raises ValueError unless the SavedModel answers on `samples` as the model's own `predict` and Reject do."""
    if samples.shape[1:] != signatures.image_shape or not np.isfinite(samples).all():
        raise ValueError(
            f"`samples` must be finite images of shape (N, {signatures.image_shape}). Got: {samples.shape}"
        )
    served = tf.saved_model.load(str(folder)).signatures["serving_default"](images=tf.constant(samples))
    outputs = signatures.model.predict(samples, verbose=0)
    expected = signatures.reject({name: tf.convert_to_tensor(value) for name, value in outputs.items()})
    compare(served, expected, ("score", "probabilities"), signatures)


def compare(served, expected, names, signatures):
    """Raises ValueError unless what is served equals what is expected, and accepts alike where the score is clear.

    Args:
        served, expected: dicts of tensors; `class_id` is -1 where rejected.
        names: outputs to compare as numbers, `score` among them.
        signatures: holds `model` and `reject`.

    Example:
        >>> compare(served, expected, ("score",), signatures)  # doctest: +SKIP
    """
    allowed = tolerance(signatures.model)
    for name in names:
        got, want = np.asarray(served[name]), np.asarray(expected[name])
        gap = np.abs(got - want) / (1 + np.abs(want))
        if not (gap <= allowed).all():
            raise ValueError(
                f"The SavedModel disagrees with `predict` on the samples: `{name}` is off by up to {gap.max():.3g} "
                f"(relative to 1 + its size; allowed: {allowed}). Does a layer behave differently in training?"
            )
    threshold = float(signatures.reject.threshold.numpy())
    clear = np.abs(np.asarray(expected["score"]) - threshold) > allowed * (1 + abs(threshold))
    accepted = [np.asarray(answer["class_id"]) >= 0 for answer in (served, expected)]
    wrong = np.sum((accepted[0] != accepted[1]) & clear)
    if wrong:
        raise ValueError(f"The SavedModel accepts or rejects {wrong} of {clear.size} samples otherwise than Keras.")
