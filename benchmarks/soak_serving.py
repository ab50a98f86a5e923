"""100,000 requests, 1 % of their images hostile, to a SavedModel: every answer is checked, memory must stay flat.

    python benchmarks/soak_serving.py
    python benchmarks/soak_serving.py --smoke                       a few hundred requests
    python benchmarks/soak_serving.py --way grpc --requests 20000

Real digits, as PNG files, of which a small network knows six classes; a request holds 1 to 8 of them. Hostile are files
that are empty, cut, no image, of 16 bits or with a palette, and a real PNG of 20,000 x 20,000 pixels in 0.4 MB. All
are asked for by `predict_bytes`: in this process, and over gRPC and HTTP by `cplus1_keras.client` from the server of
tests/serving. An answer is wrong where it differs from what the same file gets alone, or from what the predictor says
of the digit's pixels. Memory is that of this process, which is client and server, after a tenth of the requests and at
the end.
"""

import argparse
import concurrent.futures
import io
import itertools
import pathlib
import random
import struct
import sys
import tempfile
import time
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "serving"))

import keras
import numpy as np
from PIL import Image

import cplus1_keras
from cplus1_keras import data, serving
from cplus1_keras.client import Client
from cplus1_keras.progress import follow

HOSTILE = 0.01
GROWTH = 50  # MB that memory may grow by between a tenth of the requests and the end


def main():
    """Do what the command line says; the exit status is 1 where an answer is wrong or memory grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--way", choices=("process", "grpc", "http", "all"), default="all")
    parser.add_argument("--concurrency", type=int, default=8, help="requests at a time over gRPC and HTTP")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    number = 300 if given.smoke else given.requests
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "1"
        pool = build(path)
        ways = ("process", "grpc", "http") if given.way == "all" else (given.way,)
        failed = [way for way in ways if not soak(way, path, pool, number, given.concurrency)]
    sys.exit(f"Not passed: {', '.join(failed)}" if failed else 0)


def build(path):
    """Exports a network of digits; the files of good and of hostile images, each with the answer that it must get."""
    digits = data.sources.digits()
    images, labels = digits.array.astype("uint8"), np.where(np.asarray(digits.labels) < 6, digits.labels, -1)
    keras.utils.set_random_seed(0)
    given = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(16, 3, activation="relu")(given / 255)
    model = keras.Model(given, keras.layers.Dense(6)(keras.layers.Flatten()(x)))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images[:900][labels[:900] >= 0], labels[:900][labels[:900] >= 0], epochs=5, verbose=0)
    predictor = cplus1_keras.wrap(model, [*"012345"], (images[900:1300], labels[900:1300]))
    predictor.export(path)
    good = [encode(Image.fromarray(image[..., 0])) for image in images[1300:]]
    served, answers = serving.SavedModel(path), predictor.predict(images[1300:])
    alone = served.predict_bytes(good)
    if not (alone["class_id"] == answers["class_id"]).all():
        raise RuntimeError("The SavedModel answers otherwise for files than the predictor for their pixels.")
    rough = hostile(good[0])
    files = [*good, *rough]
    expected = [(str(n), float(s)) for n, s in zip(alone["class_name"], alone["score"], strict=True)]
    answers = [served.predict_bytes([file]) for file in rough]
    expected += [(str(answer["class_name"][0]), float(answer["score"][0])) for answer in answers]
    refused = [bool(answer["valid"][0]) for answer in answers]
    print(f"{len(good)} digits; of {len(rough)} hostile files {refused.count(False)} are refused as no images.")
    return files, expected, len(good)


def encode(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def hostile(good):
    """Files that a server should survive."""
    deep = Image.fromarray((np.arange(64, dtype="uint16") * 1000).reshape(8, 8))
    colours = Image.fromarray(np.arange(192, dtype="uint8").reshape(8, 8, 3)).quantize(16)
    return [
        b"",
        b"no image",
        good[:40],
        good[:-20],
        good[:30] + bytes(30) + good[60:],
        *map(encode, (deep, colours)),
        bomb(),
    ]


def bomb(side=20_000):
    """A sound PNG, grey, whose pixels take 400 MB and as RGB 1.2 GB."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    squeeze = zlib.compressobj(9)
    body = b"".join(squeeze.compress(bytes(side + 1)) for _ in range(side)) + squeeze.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def requests(pool, number):
    """Yields for each request the places of its images in the pool; the same ones each time."""
    chance, (files, _, good) = random.Random(0), pool
    for _ in range(number):
        rows = range(chance.randint(1, 8))
        yield [
            chance.randrange(good, len(files)) if chance.random() < HOSTILE else chance.randrange(good) for _ in rows
        ]


def soak(way, path, pool, number, concurrency):
    """Sends all requests; whether every answer was right and memory stayed flat."""
    _, expected, good = pool
    wrong = images = rough = 0
    begin, start = None, time.monotonic()
    for done, (places, answers) in enumerate(follow(ask(way, path, pool, number, concurrency), number, "requests"), 1):
        for place, (name, score) in zip(places, answers, strict=True):
            want, wanted = expected[place]
            wrong += name != want or abs(score - wanted) > 1e-3 * (1 + abs(wanted))
        images, rough = images + len(places), rough + sum(place >= good for place in places)
        if done == -(-number // 10):
            begin = memory()
    end, seconds = memory(), time.monotonic() - start
    flat = end - begin <= GROWTH
    print(
        f"{way}: {number:,} requests, {images:,} images, {rough:,} of them hostile, {wrong:,} wrong answers; memory "
        f"{begin:,.0f} MB after a tenth, {end:,.0f} MB at the end; {number / seconds:,.0f} requests/s."
    )
    return not wrong and flat


def ask(way, path, pool, number, concurrency):
    """Yields the places of each request with (name, score) of its images."""
    files = pool[0]
    if way == "process":
        served = serving.SavedModel(path)
        for places in requests(pool, number):
            answer = served.predict_bytes([files[place] for place in places])
            yield places, list(zip(answer["class_name"].tolist(), answer["score"].tolist(), strict=True))
        return
    import model_server

    with model_server.ModelServer({1: path}) as server, concurrent.futures.ThreadPoolExecutor(concurrency) as threads:
        client = Client(server.http if way == "http" else server.rpc, timeout=60)
        given = requests(pool, number)
        while part := list(itertools.islice(given, 50 * concurrency)):
            asked = threads.map(lambda places: client.predict_bytes([files[place] for place in places]), part)
            for places, answers in zip(part, asked, strict=True):
                yield places, [(answer["class_name"], answer["score"]) for answer in answers]
        client.close()


def memory():
    """Resident memory of this process in MB."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
