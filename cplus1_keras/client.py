"""Asks a model server for answers: TF Serving's REST or gRPC protocol, for a SavedModel that an export wrote.

    python -m export.client http://localhost:8501 FILES_OR_FOLDERS ... --output answers.csv
    python -m export.client grpc://localhost:8500 FILES_OR_FOLDERS ... --model open_set --label canary

Writes the table that `python -m cplus1_keras.predict` writes. The server decodes and resizes the images (its signature
`predict_bytes`). A request that is lost, or that a busy server refuses, is sent again; a file without an answer has a
line that says why. This file runs where there is Python alone; gRPC wants `pip install tensorflow-serving-api`.
"""

import argparse
import base64
import collections
import concurrent.futures
import contextlib
import csv
import http.client
import itertools
import json
import os
import pathlib
import random
import sys
import time
import urllib.parse

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
BUSY = {408, 429, 500, 502, 503, 504, "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "ABORTED", "UNKNOWN"}


class ServerError(RuntimeError):
    """What came instead of an answer; `passing` where it helps to ask again."""

    def __init__(self, text, passing):
        super().__init__(text)
        self.passing = passing


class Client:
    """A model on a server; ValueError where the address is none, or both a version and a label are given.

    Args:
        address: `http://HOST:PORT`, `https://HOST:PORT` or `grpc://HOST:PORT`.
        model: The name that the server has for it.
        version, label: Its number, or such as "stable"; or None. Without either the server takes the newest version.
        timeout: Seconds, > 0, that the server may stay silent; of gRPC that a request may take.
        attempts: How often a request is sent, at most.
        wait: Seconds before it is sent again: a random share of wait, 2 wait, 4 wait ..., of 10 s at most.

    >>> Client("http://localhost:8501", "digits", label="canary").path
    '/v1/models/digits/labels/canary'
    """

    def __init__(self, address, model="open_set", version=None, label=None, timeout=10.0, attempts=5, wait=0.2):
        parts = urllib.parse.urlsplit(address)
        if parts.scheme not in ("http", "https", "grpc") or not parts.netloc:
            raise ValueError(f"`address` is http://HOST:PORT, https:// or grpc://. Received: {address!r}")
        if version is not None and label is not None:
            raise ValueError(f"Give a version or a label. Received: version={version!r}, label={label!r}")
        self.model, self.version, self.label = model, version, label
        self.timeout, self.attempts, self.wait = timeout, attempts, wait
        which = f"/versions/{version}" * (version is not None) + f"/labels/{label}" * (label is not None)
        self.path = f"{parts.path.rstrip('/')}/v1/models/{model}{which}"
        self.transport = _Grpc(self, parts.netloc) if parts.scheme == "grpc" else _Rest(self, parts)
        self.close = self.transport.close

    def check(self):
        """Raises ServerError unless the server is there and knows the model."""
        self._retry(self.transport.check)

    def predict_bytes(self, contents):
        """The answers for encoded images, bytes: a list of dicts of plain values; ServerError without an answer."""
        return self._retry(self.transport.predict, list(contents))

    def _retry(self, call, *arguments):
        for attempt in itertools.count(1):
            try:
                return call(*arguments)
            except ServerError as error:
                if not error.passing or attempt >= self.attempts:
                    raise
            time.sleep(random.random() * min(10.0, self.wait * 2 ** (attempt - 1)))  # not all clients at once


class _Rest:
    """HTTP with connections that stay open: as many as there are requests at a time."""

    def __init__(self, client, parts):
        self.client, self.free, self.host = client, [], parts.netloc
        self.kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection

    def close(self):
        while self.free:
            self.free.pop().close()

    def check(self):
        self._ask("GET", self.client.path)

    def predict(self, contents):
        rows = [{"image_bytes": {"b64": base64.b64encode(each).decode()}} for each in contents]
        body = {"signature_name": "predict_bytes", "instances": rows}
        return self._ask("POST", f"{self.client.path}:predict", json.dumps(body))["predictions"]

    def _ask(self, method, path, body=None):
        try:
            connection = self.free.pop()
        except IndexError:
            connection = self.kind(self.host, timeout=self.client.timeout)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            status, text = reply.status, reply.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self.close()  # of a server that went away the other connections are stale, too
            raise ServerError(f"{self.host}: {error or type(error).__name__}", passing=True) from error
        self.free.append(connection)
        answer = {"error": text[:200].decode(errors="replace")}
        with contextlib.suppress(ValueError):
            answer = json.loads(text)
        if status != 200 or "error" in answer:
            raise ServerError(f"{self.host} says {status}: {answer.get('error')}", passing=status in BUSY | {200})
        return answer


class _Grpc:
    """gRPC by the stubs of tensorflow-serving-api."""

    def __init__(self, client, host):
        try:
            import grpc
            from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
        except ImportError as error:
            raise ImportError("grpc:// needs `pip install tensorflow-serving-api`; http:// needs nothing.") from error
        channel = grpc.insecure_channel(host, [("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0)])
        self.service = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)
        self.client, self.grpc, self.close = client, grpc, channel.close

    def check(self):
        from tensorflow_serving.apis import get_model_status_pb2

        self._ask(self.models.GetModelStatus, get_model_status_pb2.GetModelStatusRequest())

    def predict(self, contents):
        import numpy as np
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest(model_spec={"signature_name": "predict_bytes"})
        request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(contents, tf.string))
        outputs = self._ask(self.service.Predict, request).outputs
        arrays = {name: tf.make_ndarray(tensor) for name, tensor in outputs.items()}
        texts = {n: np.char.decode(x.astype("S"), "utf-8") for n, x in arrays.items() if x.dtype == object}
        columns = {name: array.tolist() for name, array in (arrays | texts).items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _ask(self, method, request):
        request.model_spec.name = self.client.model
        if self.client.version is not None:
            request.model_spec.version.value = int(self.client.version)
        if self.client.label is not None:
            request.model_spec.version_label = self.client.label
        try:
            return method(request, timeout=self.client.timeout)
        except self.grpc.RpcError as error:
            raise ServerError(f"{error.code().name}: {error.details()}", passing=error.code().name in BUSY) from error


def find_images(paths):
    """The files that paths name: themselves, and the images in folders, sorted; FileNotFoundError without any."""
    found = []
    for path in map(pathlib.Path, paths):
        inside = sorted(own for own in path.rglob("*") if own.suffix.lower() in ENDINGS) if path.is_dir() else [path]
        if not inside or not path.exists():
            raise FileNotFoundError(f"There is no image at {path}.")
        found += inside
    return found


def answer_files(client, files, concurrency=8, batch_size=1):
    """Yields (path, answer, problem) for each file in order: a dict of plain values and "", or None and a sentence.

    At most `concurrency` requests of `batch_size` images are under way; a server that batches wants 1.

    >>> next(answer_files(Client("http://localhost:1"), ["gone.png"]))
    ('gone.png', None, "[Errno 2] No such file or directory: 'gone.png'")
    """

    def ask(batch):
        try:
            answers = client.predict_bytes([pathlib.Path(path).read_bytes() for path in batch])
            return [(path, answer, "") for path, answer in zip(batch, answers, strict=True)]
        except (OSError, ServerError) as error:
            # One that cannot be read must not cost the others their answers.
            return [row for path in batch for row in ask([path])] if batch[1:] else [(batch[0], None, str(error))]

    pool, waiting, files = concurrent.futures.ThreadPoolExecutor(concurrency), collections.deque(), iter(files)
    try:
        while (batch := list(itertools.islice(files, batch_size))) or waiting:
            if batch:
                waiting.append(pool.submit(ask, batch))
            if not batch or len(waiting) >= 2 * concurrency:
                yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def read_names(path):
    """The names of the classes in a SavedModel's `classes.json`; ValueError for another file."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        return list(json.loads(pathlib.Path(path).read_bytes())["class_names"])
    raise ValueError(f"{path} names no classes. Give assets.extra/classes.json of the SavedModel that is asked.")


def tell(answer, names=None):
    """An image's answer as rows of the table that `cplus1_keras.predict` writes; without `names` classes have numbers.

    >>> tell({"present": [False, True], "none": False, "valid": True}, ["cat", "dog"])
    [{'classes': 'dog', 'none': False, 'valid': True}]
    """
    if "boxes" in answer:
        columns, number = ("x1", "y1", "x2", "y2", "class_name", "score", "confidence"), int(answer["num_detections"])
        rows = zip(answer["boxes"], *(answer[name] for name in columns[4:]), strict=True)
        return [dict(zip(columns, (*box, *row), strict=True)) for box, *row in itertools.islice(rows, number)]
    if "class_name" in answer:
        return [{name: answer[name] for name in ("class_name", "score", "valid")}]
    height, width = answer.get("sizes", (0, 0))  # of pixels there may be more, to fill up a batch
    ids = list(itertools.chain(*(row[:width] for row in answer.get("class_id", ())[:height])))
    shown = [k for k, there in enumerate(answer["present"]) if there] if "present" in answer else sorted({*ids} - {-1})
    if names is not None and not max(shown, default=-1) < len(names) == len(answer.get("present", names)):
        raise ValueError(f"The {len(names)} names of --classes are not those of the model that the server has.")
    classes = "; ".join(str(k) if names is None else names[k] for k in shown)
    if "present" in answer:
        return [{"classes": classes, "none": answer["none"], "valid": answer["valid"]}]
    return [{"rejected": ids.count(-1) / len(ids), "classes": classes}]


def to_rows(found, names=None, total=0):
    """What `answer_files` yields as rows of a table, with the columns `path`, those of `tell` and `problem`."""
    for number, (path, answer, problem) in enumerate(found, 1):
        if not problem and (answer["valid"] is False or answer.get("sizes") == [0, 0]):
            problem = "The server reads no image in it."
        yield from ({"path": path, **row, "problem": problem} for row in ([{}] if problem else tell(answer, names)))
        if number == total or sys.stderr.isatty():
            print(f"\r{number:,}/{total:,} images", end="\n" * (number == total), file=sys.stderr, flush=True)


def write_answers(rows, path):
    """Write rows as csv, whole or not at all; the files that have no answer, a list."""
    rows, early, damaged = iter(rows), [], []
    for row in rows:
        early.append(row)
        if not row["problem"]:  # this one says what the columns are
            break
    hidden = pathlib.Path(path).with_name(f".unfinished-{os.getpid()}-{pathlib.Path(path).name}")
    try:
        with open(hidden, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, early[-1] if early else ["path", "problem"], restval="")
            table.writeheader()
            for row in itertools.chain(early, rows):
                table.writerow(row)
                damaged += [str(row["path"])] * bool(row["problem"])
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)
    return damaged


def main(arguments=None):
    """Ask for the files that the command line names; also `cplus1-client`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", metavar="ADDRESS", help="http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT")
    parser.add_argument("paths", metavar="FILE_OR_FOLDER", nargs="+", help="images, or folders of them")
    parser.add_argument("--output", default="answers.csv", help="table to write, which must not exist yet")
    parser.add_argument("--classes", help="a SavedModel's assets.extra/classes.json: names for label sets and pixels")
    usual = {"model": "open_set", "timeout": 10.0, "attempts": 5, "concurrency": 8, "batch-size": 1}
    for name in ("version", "label", *usual):
        parser.add_argument(f"--{name}", type=type(usual.get(name, "")), default=usual.get(name))
    given = parser.parse_args(arguments)
    if os.path.lexists(given.output):
        parser.error(f"{given.output} exists, and no table is overwritten.")
    try:
        names = read_names(given.classes) if given.classes else None
        files = find_images(given.paths)
        client = Client(given.address, given.model, given.version, given.label, given.timeout, given.attempts)
        with contextlib.closing(client):
            client.check()
            found = answer_files(client, files, given.concurrency, given.batch_size)
            damaged = write_answers(to_rows(found, names, len(files)), given.output)
    except KeyboardInterrupt:
        sys.exit("Nothing is written: stopped.")
    except (ImportError, OSError, ServerError, ValueError) as error:
        sys.exit(f"Nothing is written. {error}")
    some = ", ".join(damaged[:5]) + ", ..." * (len(damaged) > 5)
    print(f"Wrote {given.output}." + f" {len(damaged):,} files have no answer: {some}" * bool(damaged))


if __name__ == "__main__":
    main()
