"""Writes a SavedModel, and doubts it: what it would execute, and whether it answers as Keras predicts."""

import functools
import json
import pathlib

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from cplus1_keras.directory import unfinished
from cplus1_keras.serving.boxes import BoxSpec
from cplus1_keras.serving.gate import try_requests
from cplus1_keras.serving.origin import write_origin
from cplus1_keras.serving.pixels import PixelSpec
from cplus1_keras.serving.spec import ImageSpec, LabelSetSpec
from cplus1_keras.serving.warmup import replay_warmup, write_warmup

SPECS = {spec.output: spec for spec in (ImageSpec, PixelSpec, LabelSetSpec, BoxSpec)}


def read_spec(values):
    """The spec of plain values that its `to_dict` gave; ValueError where there is no such output."""
    settings = dict(values)
    output = settings.pop("output")
    if output not in SPECS:
        raise ValueError(f"There is no output {output!r}. Outputs: {', '.join(SPECS)}")
    return SPECS[output](**settings)


CLASSES_FILE = pathlib.PurePath("assets.extra", "classes.json")
"""Names of the classes, and what else a spec says of its answers, in the folder of the SavedModel."""

EVIDENCE_FILE = pathlib.PurePath("assets.extra", "calibration.json")
"""The record of the calibration of its threshold, there; null where there is none."""

_FORBIDDEN = {
    ("Assign", "ResourceScatter"): "changes a variable while it serves, as layers do in training mode",
    ("ResourceApply",): "trains while it serves",
    ("PyFunc", "EagerPyFunc"): "calls Python, and a model server has none",
    ("Random", "StatelessRandom"): "draws random numbers, as augmentation and dropout do in training mode",
}
"""Beginnings of the names of operations that a serving graph must not hold, and why."""

_PLAIN = ("_generic_user_object", "signature_map", *(f"trackable_{kind}_wrapper" for kind in ("dict", "list", "tuple")))
"""The kinds of Python object in a SavedModel that TensorFlow alone makes when it loads it."""


def export(predictor, path, samples=None):
    """Writes a SavedModel that takes raw images and answers as a predictor does, then checks it.

    It needs neither Keras nor this package. Each input and output has the leading axis of a batch. Its signatures:

        serving_default  `images` -> the answers of the predictor's spec
        predict_bytes    `image_bytes`, encoded images -> the same; what cannot be read is not `valid`. For images of
                         any size also `sizes`, and each is answered as if it were alone
        predict_at       `images`, `threshold` for each image, of label sets for each class -> the same
        features         `images` -> `features`, `valid`
        classify         `inputs`, tf.Examples with `image/encoded` -> `classes`, `scores`: the answer; of label sets
                         all classes, "" where one is absent. For images and label sets
        explain          `images` -> `map` (N, h, w) of the class `map_class`, `valid`. For heads that give `cams`
        palette          `images` -> `image`, the answer as a picture. For pixels
        about            `request`, any text -> `class_names`, `score`, `threshold`, `version`

    Those with encoded images are for models of 1 or 3 channels. The threshold is the one variable of the collection
    `threshold`: load the SavedModel, assign, and save it elsewhere to change it, as `retune` does. In `assets.extra`
    `classes.json` says what stands above and how images are read, `calibration.json` holds the evidence for the
    threshold, `tf_serving_warmup_requests` is what TF Serving asks before it takes requests.

    Args:
        predictor: A `Predictor`.
        path: Folder to write, which must not exist yet. TF Serving wants its last part to be a version number.
        samples: Images (N, H, W, channels), 0..255, on which the SavedModel must agree with `model.predict`. None takes
            four images of noise.

    Raises:
        FileExistsError: Something is at `path`.
        ValueError: The samples don't fit, or a check failed; `path` is then absent.

    >>> import pathlib, tempfile
    >>> images, folder = keras.Input((8, 8, 1)), pathlib.Path(tempfile.mkdtemp())
    >>> model = keras.Model(images, heads.LinearHead(3)(keras.layers.Flatten()(images)))
    >>> export(serving.Predictor(model, layers.Reject(3, threshold=0.5), ["cat", "dog", "eel"]), folder / "1")
    >>> served = tf.saved_model.load(str(folder / "1")).signatures["serving_default"]
    >>> sorted(served(images=tf.zeros((2, 8, 8, 1))))
    ['class_id', 'class_name', 'known', 'probabilities', 'score', 'valid']
    """
    samples = _samples(predictor, samples)
    path = pathlib.Path(path)
    if path.exists():
        raise FileExistsError(f"An export never overwrites, and {path} exists. Choose another path or remove it.")
    with unfinished(path) as folder:  # renamed when every check has passed: `path` is complete or absent
        _write(predictor, folder, samples[:1])
        check(folder)
        signatures = tf.saved_model.load(str(folder)).signatures
        _compare(predictor, signatures["serving_default"], samples)
        try_requests(predictor, signatures, samples)
        replay_warmup(folder, signatures)
        folder.rename(path)


def check(path):
    """Raises ValueError if a SavedModel is damaged, lacks a signature, needs Keras or does what a server must not.

    A server must not change variables, draw random numbers or call Python. Looked at are the operations that the
    signatures reach; for Python calls, every function in the file. Loaded without
    Keras it can be where all objects in it are of TensorFlow's own kinds; that is read, and not tried in a process.

    Args:
        path: Folder of the SavedModel. What it should answer stands in its `assets.extra/classes.json`; without that
            file, images.

    >>> import tempfile
    >>> check(tempfile.mkdtemp())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileNotFoundError: ... is no SavedModel: it lacks saved_model.pb
    """
    file = pathlib.Path(path) / "saved_model.pb"
    if not file.is_file():
        raise FileNotFoundError(f"{path} is no SavedModel: it lacks saved_model.pb")
    try:
        proto = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except Exception as error:  # the parser's own class differs between the builds of protobuf
        raise ValueError(f"{file} is damaged: {error}") from error
    problems = []
    for graph in proto.meta_graphs:
        for name, (inputs, outputs) in _signatures(path).items():
            found = graph.signature_def.get(name)
            if found is None or set(found.inputs) != set(inputs) or set(found.outputs) != set(outputs):
                needs = f"must map {' and '.join(f'`{item}`' for item in inputs)} to {sorted(outputs)}"
                problems.append(f"the signature {name!r} {needs}")
        problems += [f"the object {name!r} needs the library that wrote it" for name in sorted(_foreign(graph))]
        for op in sorted(_operations(graph)):
            problems += [f"{op} {why}" for starts, why in _FORBIDDEN.items() if op.startswith(starts)]
    if problems or not proto.meta_graphs:
        raise ValueError(f"The SavedModel {path} must not be served: {'; '.join(problems) or 'it is empty'}")


def plain_threshold(threshold):
    """A threshold, an array of shape () or (C,), as plain values that any reader of JSON takes: infinity is a text."""
    values = [value if np.isfinite(value) else str(value) for value in threshold.ravel().tolist()]
    return values if threshold.ndim else values[0]


def _foreign(graph):
    """The kinds of object in a graph's tree of objects that TensorFlow alone cannot make, or not fill."""
    nodes = graph.object_graph_def.nodes
    kinds = {node.user_object.identifier for node in nodes if node.HasField("user_object")}
    names = {name for node in nodes for name in (node.registered_name, node.registered_saver) if name}
    return {*kinds.difference(_PLAIN), *(name for name in names if not name.startswith("tf."))}


def _operations(graph):
    """The kinds of operation that a graph's signatures execute, and all that call Python; loading and saving apart."""
    functions = {function.signature.name: function.node_def for function in graph.graph_def.library.function}
    nodes = {node.name: node for node in graph.graph_def.node}
    found = {node.op for body in functions.values() for node in body if "PyFunc" in node.op}
    outputs = {tensor.name.split(":")[0] for value in graph.signature_def.values() for tensor in value.outputs.values()}
    waiting = [(nodes.pop(name), True) for name in outputs if name]
    while waiting:
        node, outermost = waiting.pop()
        found.add(node.op)
        called = [node.op, *(name.name for value in node.attr.values() for name in (value.func, *value.list.func))]
        waiting += [(inner, False) for name in called for inner in functions.pop(name, ())]
        # Inputs matter in the outermost graph alone: a function runs whole, so all of its nodes are taken.
        sources = [name.lstrip("^").split(":")[0] for name in node.input] if outermost else []
        waiting += [(nodes.pop(name), True) for name in sources if name in nodes]
    return found


def _signatures(path):
    """Names of inputs and outputs by signature, as a SavedModel says that it has them."""
    file = pathlib.Path(path) / CLASSES_FILE
    if not file.is_file():
        return {"serving_default": (["images"], ImageSpec.answers)}
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        # Exports of earlier versions say what kind of answer they give and no more.
        default = {"serving_default": (["images"], SPECS[told["output"]].answers)}
        return default | {name: (own["inputs"], own["outputs"]) for name, own in told.get("signatures", {}).items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is damaged: {type(error).__name__}: {error}") from error


def _samples(predictor, samples):
    spec, shape = predictor.spec, predictor.image_shape
    if samples is None:
        # Odd sizes where any will do, so that no stride divides them.
        usual = [min(most, odd) for most, odd in zip(spec.max_size or (65, 97), (65, 97), strict=True)]
        size = [other if known is None else known for known, other in zip(shape[:2], usual, strict=True)]
        samples = np.random.default_rng(0).uniform(0, 255, (4, *size, shape[2]))
    samples = np.asarray(samples)
    fits = [want in (None, have) for have, want in zip(samples.shape[1:], shape, strict=False)]
    if samples.ndim != 4 or not len(samples) or not all(fits) or not np.isfinite(samples).all():
        raise ValueError(f"`samples` must be finite images of shape (N, {shape}). Received: {samples.shape}")
    return samples.astype(spec.dtype)


def _write(predictor, folder, sample):
    predictor.predict(sample)  # what layers create in their first call must exist before they are tracked
    spec = predictor.spec
    signatures = spec.signatures(predictor)
    archive = keras.export.ExportArchive()
    archive.track(predictor.network)
    archive.track(predictor.reject)
    for name, signature in signatures.items():
        archive.add_endpoint(name, signature.__call__, list(signature.inputs))
    archive.add_variable_collection("threshold", predictor.reject.weights)
    archive.write_out(str(folder), verbose=False)
    classes = {**spec.describe(predictor), "threshold": plain_threshold(predictor.reject.weights[0].numpy())}
    classes["signatures"] = {
        name: {"inputs": [value.name for value in signature.inputs], "outputs": list(signature.outputs)}
        for name, signature in signatures.items()
    }
    (folder / CLASSES_FILE).parent.mkdir(exist_ok=True)
    evidence = predictor.calibration and predictor.calibration.to_dict()
    for name, values in {CLASSES_FILE: classes, EVIDENCE_FILE: evidence}.items():
        (folder / name).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    write_warmup(folder, spec, signatures, sample.shape[1:3])
    write_origin(folder)


def _compare(predictor, serve, samples):
    """Raises ValueError unless the SavedModel answers on `samples` as the model's own `predict` and threshold do."""
    served = serve(images=tf.constant(samples))
    run = functools.partial(predictor.network.predict, verbose=0)
    spec = predictor.spec
    outputs = spec.outputs(run, samples.astype("float32"), predictor.num_classes)
    outputs = {name: tf.convert_to_tensor(value) for name, value in outputs.items()}
    expected = {**outputs, **predictor.reject(outputs)}
    served, expected = spec.align(*({n: np.asarray(x) for n, x in each.items()} for each in (served, expected)))
    half = any(layer.compute_dtype in ("float16", "bfloat16") for layer in predictor.network._flatten_layers())
    allowed = 2e-2 if half else 1e-4
    for name in [name for name in spec.compared if name in served]:
        got, want = served[name], expected[name]
        gap = np.abs(got - want) / (1 + np.abs(want))
        if not (gap <= allowed).all():
            raise ValueError(
                f"The SavedModel disagrees with `predict` on the samples: `{name}` is off by up to {gap.max():.3g} "
                f"(relative to 1 + its size; allowed: {allowed}). Does a layer behave differently in training?"
            )
    threshold = predictor.reject.weights[0].numpy()
    far = np.where(np.isfinite(threshold), allowed * (1 + np.abs(threshold)), 0)
    sure = np.abs(expected["score"] - threshold) > far
    decision = "present" if "present" in served else "class_id"
    if decision == "class_id" and predictor.num_classes > 1:  # a tie of two classes is nobody's fault
        logits = np.sort(expected["logits"][..., : predictor.num_classes], axis=-1)
        sure &= logits[..., -1] - logits[..., -2] > allowed * (1 + np.abs(logits[..., -1]))
    wrong = np.sum((served[decision] != expected[decision]) & sure)
    if wrong:
        raise ValueError(f"The SavedModel decides {wrong} of {sure.size} times otherwise than Keras.")
