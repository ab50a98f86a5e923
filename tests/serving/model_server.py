"""A small server of SavedModels that speaks TF Serving's REST and gRPC protocols, and fails when it is told to.

It stands in for `tensorflow_model_server`, whose package is in no registry that the project uses: URLs, JSON, protocol
buffers, error texts and codes are those of TF Serving's documentation and sources.
"""

import base64
import collections
import concurrent.futures
import contextlib
import http.server
import json
import re
import threading
import time

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

PATH = re.compile(r"/v1/models/(?P<name>[^/:]+)(/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?(:predict)?$")


class ModelServer:
    """Serves versions of a model until the `with` block ends.

    Args:
        versions: Dict from version number to folder of a SavedModel.
        name: Of the model.
        labels: Dict from label to version number.
        slow: Seconds that a request under the fault "slow" takes.

    `faults` is a queue: each request takes one of them and "503" refuses, "cut" ends the connection within the reply,
    "slow" waits, "" answers. `requests` counts what came, `most` the largest number of requests at a time.
    """

    def __init__(self, versions, name="open_set", labels=(), slow=1.0):
        self.models = {int(number): tf.saved_model.load(str(path)) for number, path in versions.items()}
        self.name, self.labels, self.slow = name, dict(labels), slow
        self.faults, self.requests, self.now, self.most = collections.deque(), 0, 0, 0
        self.lock = threading.Lock()

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"owner": self})
        self.rest = http.server.ThreadingHTTPServer(("localhost", 0), handler)
        self.rest.daemon_threads = True
        threading.Thread(target=self.rest.serve_forever, daemon=True).start()
        sizes = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
        self.grpc = grpc.server(concurrent.futures.ThreadPoolExecutor(8), options=sizes)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Prediction(self), self.grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Models(self), self.grpc)
        port = self.grpc.add_insecure_port("localhost:0")
        self.grpc.start()
        self.http, self.rpc = f"http://localhost:{self.rest.server_port}", f"grpc://localhost:{port}"
        return self

    def __exit__(self, *error):
        self.rest.shutdown()
        self.rest.server_close()
        self.grpc.stop(0).wait()

    def find(self, name, version=None, label=None):
        """The model that a request names; KeyError with TF Serving's text."""
        number = self.labels.get(label) if label else int(version) if version else max(self.models)
        if name != self.name or number not in self.models:
            raise KeyError(f"Servable not found for request: {'Specific' if version or label else 'Latest'}({name})")
        return self.models[number]

    def run(self, model, signature, inputs):
        """The outputs of a signature, arrays; ValueError with TF Serving's text where the inputs are wrong."""
        serve = model.signatures.get(signature)
        if serve is None:
            raise ValueError(f'Serving signature name: "{signature}" not found in signature def')
        wanted = serve.structured_input_signature[1]
        if set(wanted) != set(inputs):
            raise ValueError(f"input size does not match signature: {len(inputs)}!={len(wanted)}")
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            inputs = {name: tf.constant(value, wanted[name].dtype) for name, value in inputs.items()}
            return {name: value.numpy() for name, value in serve(**inputs).items()}
        finally:
            with self.lock:
                self.now -= 1

    def fault(self):
        """What the next request suffers."""
        with self.lock:
            self.requests += 1
            what = self.faults.popleft() if self.faults else ""
        if what == "slow":
            time.sleep(self.slow)
            return "503"  # nobody waits for an answer
        return what


class _Handler(http.server.BaseHTTPRequestHandler):
    """REST, with connections that stay open."""

    protocol_version = "HTTP/1.1"
    owner = None

    def do_GET(self):
        self._reply(self._status)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fault = self.owner.fault()
        if fault == "503":
            self._send(503, {"error": "the server is busy"})
        else:
            self._reply(lambda path: self._predict(path, json.loads(body)), cut=fault == "cut")

    def _status(self, path):
        self.owner.find(path["name"], path["version"], path["label"])
        status = {"error_code": "OK", "error_message": ""}
        return {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": status}]}

    def _predict(self, path, body):
        model = self.owner.find(path["name"], path["version"], path["label"])
        rows = "instances" in body
        inputs = body["instances"] if rows else body["inputs"]
        if rows and isinstance(inputs[0], dict) and "b64" not in inputs[0]:
            inputs = {name: [row[name] for row in inputs] for name in inputs[0]}
        signature = body.get("signature_name", "serving_default")
        if not isinstance(inputs, dict):  # the only input needs no name
            inputs = {next(iter(model.signatures[signature].structured_input_signature[1])): inputs}
        inputs = {name: _from_json(value) for name, value in inputs.items()}
        outputs = {name: _to_json(name, value) for name, value in self.owner.run(model, signature, inputs).items()}
        if not rows:
            return {"outputs": outputs}
        return {"predictions": [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]}

    def _reply(self, function, cut=False):
        path = PATH.match(self.path)
        try:
            if path is None:
                raise ValueError(f"Malformed request: {self.command} {self.path}")
            self._send(200, function(path), cut)
        except KeyError as error:
            self._send(404, {"error": error.args[0]})
        except (ValueError, TypeError, tf.errors.OpError) as error:
            self._send(400, {"error": str(error)})

    def _send(self, status, values, cut=False):
        body = json.dumps(values, allow_nan=False).encode()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a client that does not wait
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    def log_message(self, *arguments):
        """A test prints nothing of each request."""


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, owner):
        self.owner = owner

    def Predict(self, request, context):
        try:
            fault = self.owner.fault()
            if fault in ("503", "cut"):
                context.abort(grpc.StatusCode.UNAVAILABLE, "the server is busy")
            model = _find(self.owner, request, context)
            inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            reply = predict_pb2.PredictResponse()
            for name, value in self.owner.run(model, request.model_spec.signature_name, inputs).items():
                reply.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return reply
        except (ValueError, tf.errors.OpError) as error:
            return context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))


class _Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, owner):
        self.owner = owner

    def GetModelStatus(self, request, context):
        _find(self.owner, request, context)
        reply = get_model_status_pb2.GetModelStatusResponse()
        state = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        for number in self.owner.models:
            reply.model_version_status.add(version=number, state=state)
        return reply


def _find(owner, request, context):
    spec = request.model_spec
    version = spec.version.value if spec.HasField("version") else None
    try:
        return owner.find(spec.name, version, spec.version_label)
    except KeyError as error:
        return context.abort(grpc.StatusCode.NOT_FOUND, error.args[0])


def _from_json(value):
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return [_from_json(each) for each in value] if isinstance(value, list) else value


def _to_json(name, array):
    if array.dtype != object:
        return array.tolist()
    texts = np.vectorize(lambda text: text.decode("utf-8"), otypes=[object])(array) if array.size else array
    if name.endswith("_bytes"):
        texts = np.vectorize(lambda text: {"b64": base64.b64encode(text).decode()}, otypes=[object])(array)
    return texts.tolist()
