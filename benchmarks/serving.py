"""What serving costs: a SavedModel's answers beside the bare model called the same way, and decoding beside tf.data.

    python benchmarks/serving.py             ResNet-50 and a small net; the machine should have nothing else to do
    python benchmarks/serving.py --smoke     that it runs: seconds, and figures that mean nothing

Everything is a SavedModel that is called by its signature, in turn, and the least of the rounds counts. Targets: the
open-set decision adds at most 3 %; nearest neighbours among 50,000 kept features at most 20 % at batch 64 of ResNet-50;
decoding takes at most 1.1 times the best tf.data pipeline over the same files; 1,000 corrupt images among 10,000 change
neither the other answers nor the time by more than 5 %.
"""

import argparse
import functools
import os
import pathlib
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from cplus1_keras import heads, images, layers, posthoc, scores, serving
from cplus1_keras.provenance import as_sentence, provenance, write_json

ROOT = pathlib.Path(__file__).parent.parent
BATCHES = (1, 8, 64)


def resnet(smoke):
    """ResNet-50 without trained weights, which cost nothing in time, and its size."""
    size = 64 if smoke else 224
    return keras.applications.ResNet50(include_top=False, pooling="avg", weights=None, input_shape=(size, size, 3))


def small(smoke):
    """Three convolutions on 32 x 32 pixels."""
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    for stride in (1, 2, 2):
        x = keras.layers.Conv2D(32, 3, stride, "same", activation="relu")(x)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


def models(backbone, kept):
    """Functions that write a SavedModel: the bare model, with the decision, with neighbours among `kept` features."""
    inputs = keras.Input(backbone.input_shape[1:])
    outputs = heads.LinearHead(10)(backbone(inputs))
    model = keras.Model(inputs, outputs)

    def bare(folder):
        archive = keras.export.ExportArchive()
        archive.track(model)
        spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, "images")
        answer = lambda images: {"logits": model(images, training=False)["logits"]}  # noqa: E731
        archive.add_endpoint("serving_default", answer, [spec])
        archive.write_out(str(folder), verbose=False)

    def near(folder):
        fitted = neighbours(model, kept)
        serving.Predictor(fitted, layers.Reject(10, 0.0, scores.ModelScore("nearest"))).export(folder)

    return {"bare": bare, "decision": serving.Predictor(model, layers.Reject(10, 0.0)).export, "neighbours": near}


def neighbours(model, kept):
    """The model with a score by the nearest of `kept` features, which are random: their number is what costs."""
    score = posthoc.NearestNeighbors(kept=kept, name="nearest")
    width = model.output["features"].shape[-1]
    features = np.random.default_rng(0).normal(size=(kept, width)).astype("float32")
    labels = np.arange(kept) % 10
    score.fit([({"features": features, "logits": np.eye(10, dtype="float32")[labels]}, labels)], 10)
    return keras.Model(model.input, {**model.output, "nearest": score(model.output)})


def in_turn(calls, rounds):
    """Least seconds of each call, {name: seconds}; the first round traces and is out."""
    best = dict.fromkeys(calls, float("inf"))
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def answer_seconds(make, smoke, rounds):
    """Seconds of an answer, {batch: {what: seconds}}, and of those of encoded images."""
    backbone, found = make(smoke), {}
    with tempfile.TemporaryDirectory() as root:
        served = {}
        for name, write in models(backbone, 500 if smoke else 50_000).items():
            write(pathlib.Path(root, name, "1"))
            served[name] = tf.saved_model.load(f"{root}/{name}/1").signatures
        for batch in BATCHES:
            pixels = photos(batch, backbone.input_shape[1])
            given = tf.constant(pixels, tf.float32)
            contents = tf.constant([tf.io.encode_jpeg(image).numpy() for image in pixels])
            calls = {name: functools.partial(own["serving_default"], images=given) for name, own in served.items()}
            calls["predict_bytes"] = functools.partial(served["decision"]["predict_bytes"], image_bytes=contents)
            found[batch] = in_turn(calls, rounds)
    return found


def photos(number, size):
    """Smooth random images, which compress as photographs do; uint8 (number, size, size, 3)."""
    noise = np.random.default_rng(0).uniform(0, 255, (number, max(size // 16, 2), max(size // 16, 2), 3))
    return np.clip(tf.image.resize(noise, (size, size), "bicubic"), 0, 255).astype("uint8")


def decoding_seconds(smoke, rounds):
    """Seconds of decoding 500 x 375 JPEGs to 224 x 224: the plain pipeline, ours, and ours with a tenth corrupt."""
    number = 50 if smoke else 10_000
    pixels = photos(16, 500)[:, :375]
    good = [tf.io.encode_jpeg(image).numpy() for image in pixels]
    contents = [good[k % len(good)] for k in range(number)]
    corrupt = [raw[: len(raw) // 2 if k % 20 else 40] if k % 10 == 0 else raw for k, raw in enumerate(contents)]

    def plain(raw):
        image = tf.io.decode_jpeg(raw, channels=3, dct_method="INTEGER_ACCURATE")
        return tf.image.resize(image, (224, 224), antialias=True)

    @tf.function
    def pipeline(rows):
        data = tf.data.Dataset.from_tensor_slices(rows).map(plain, tf.data.AUTOTUNE)
        return data.batch(tf.size(rows, tf.int64)).get_single_element()

    ours = tf.function(lambda rows: images.decode_batch(rows, (224, 224), 3))
    parts = [[tf.constant(rows[i : i + 64]) for i in range(0, number, 64)] for rows in (contents, corrupt)]
    ways = {"tf.data": (pipeline, parts[0]), "ours": (ours, parts[0]), "a tenth corrupt": (ours, parts[1])}
    seconds = in_turn({name: functools.partial(_each, *way) for name, way in ways.items()}, rounds)
    first, second = (np.concatenate([ours(part)[:, 0, 0, 0] for part in own]) for own in parts)
    if not np.array_equal(first[np.isfinite(second)], second[np.isfinite(second)]) or np.isnan(first).any():
        raise ValueError("A corrupt image changed another one.")
    return {**seconds, "images": number, "refused": int(np.isnan(second).sum())}


def _each(call, parts):
    """Call for each part and keep nothing, as memory for 10,000 images would be what is measured."""
    for part in parts:
        call(part)


def table(found):
    """Markdown: seconds of the bare model, and what the others take of it."""
    rows = ["| model | batch | bare, ms | decision | neighbours | predict_bytes | images/s |", "|---|" + "---|" * 6]
    for name, batches in found["answers"].items():
        for batch, seconds in batches.items():
            others = " | ".join(f"{seconds[key] / seconds['bare']:.3f}" for key in list(seconds)[1:])
            rate = batch / seconds["predict_bytes"]
            rows.append(f"| {name} | {batch} | {1000 * seconds['bare']:.2f} | {others} | {rate:.0f} |")
    decoding = found["decoding"]
    rows += ["", "| decoding | seconds | ratio to tf.data |", "|---|---|---|"]
    rows += [f"| {k} | {decoding[k]:.2f} | {decoding[k] / decoding['tf.data']:.3f} |" for k in list(decoding)[:3]]
    told = f"{decoding['images']:,} JPEGs of 500 x 375 to 224 x 224; {decoding['refused']:,} corrupt ones are refused"
    return "\n".join([*rows, "", f"{told}, and the others come out as before."])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="small, once, and nothing is written")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs/results/serving.json")
    arguments = parser.parse_args()
    smoke, rounds, where = arguments.smoke, 1 if arguments.smoke else arguments.rounds, provenance()
    nets = {"small net": small} if smoke else {"small net": small, "ResNet-50": resnet}
    found = {"answers": {name: answer_seconds(make, smoke, rounds) for name, make in nets.items()}}
    found["decoding"] = decoding_seconds(smoke, rounds)
    text = f"{table(found)}\n\n{as_sentence(where)}"
    if not smoke:
        write_json(arguments.output, {**found, "provenance": where})
        arguments.output.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
