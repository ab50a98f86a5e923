"""Requests that a server makes to itself before it takes any other: TF Serving's warm-up."""

import pathlib

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import prediction_log_pb2

from cplus1_keras.serving.signatures import EXAMPLE_KEY

BATCH_SIZES = (1, 8, 64)
"""Numbers of images to which a server fills up its batches; those above a spec's `batch_size` are left out."""

WARMUP_FILE = pathlib.PurePath("assets.extra", "tf_serving_warmup_requests")
"""Where TF Serving looks for them in the folder of a SavedModel."""


def write_warmup(folder, spec, signatures, size):
    """Writes a request for each signature and each size of batch, which take a few hundred bytes each.

    Args:
        folder: Of the SavedModel.
        spec: Of its answers.
        signatures: Dict of `Signature`.
        size: (height, width) of the images that are asked for.
    """
    with tf.io.TFRecordWriter(str(folder / WARMUP_FILE)) as writer:
        for name, signature in signatures.items():
            # Nobody asks `about` in batches, and its answer is as long as the list of classes.
            largest = 1 if name == "about" else spec.batch_size
            for number in [number for number in BATCH_SIZES if number <= largest]:
                writer.write(_request(name, signature, number, size).SerializeToString())


def replay_warmup(folder, signatures):
    """Raises ValueError if a SavedModel fails on a request of its own warm-up: a server would not start with it.

    Args:
        folder: Of the SavedModel.
        signatures: Its functions by name.
    """
    for number, record in enumerate(tf.data.TFRecordDataset(str(folder / WARMUP_FILE)).as_numpy_iterator()):
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.HasField("classify_log"):
            request = log.classify_log.request
            rows = [example.SerializeToString() for example in request.input.example_list.examples]
            inputs = {"inputs": tf.constant(rows)}
        else:
            request = log.predict_log.request
            inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
        name = request.model_spec.signature_name
        try:
            signatures[name](**inputs)
        except (tf.errors.OpError, KeyError, TypeError, ValueError) as error:
            told = str(error).splitlines()[0]
            raise ValueError(f"The SavedModel fails on its warm-up, request {number} to {name!r}: {told}") from error


def _request(name, signature, number, size):
    log = prediction_log_pb2.PredictionLog()
    if name == "classify":
        request, example = log.classify_log.request, tf.train.Example()
        example.features.feature[EXAMPLE_KEY].bytes_list.value.append(_png(size))
        request.input.example_list.examples.extend([example] * number)
    else:
        request = log.predict_log.request
        for spec in signature.inputs:
            request.inputs[spec.name].CopyFrom(_tensor(spec, number, size))
    request.model_spec.name = "open_set"  # of the servers' own; TF Serving asks the model that it is loading
    request.model_spec.signature_name = name
    return log


def _tensor(spec, number, size):
    """One value that stands for all of a tensor's: so it is as short for 64 images as for one."""
    known = [number, *spec.shape[1:]]
    if spec.name == "images":
        known[1:3] = size
    shape = {"dim": [{"size": length} for length in known]}
    proto = tensor_pb2.TensorProto(dtype=spec.dtype.as_datatype_enum, tensor_shape=shape)
    if spec.dtype == tf.string:
        proto.string_val.append(_png(size) if spec.name == "image_bytes" else b"")
    elif spec.dtype == tf.float32:
        proto.float_val.append(127.0)
    else:
        proto.int_val.append(127)
    return proto


def _png(size):
    return tf.io.encode_png(np.full((*size, 1), 127, "uint8")).numpy()
