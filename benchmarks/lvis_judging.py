"""What judging at LVIS's size takes: 20,000 images x 300 detections of 1,203 classes, boxes and masks.

    python benchmarks/lvis_judging.py                    as LVIS is
    python benchmarks/lvis_judging.py --images 500       less of it

Made up on the way, image by image: ten objects of classes that follow Zipf's law, three detections of each, half of
them right, the others anywhere; ellipses as masks. Prints the seconds that judging takes, without making images and
codes, and the peak of this process above what it held before the first image. Nobody holds the masks: of an image six
numbers stay for each detection.
"""

import argparse
import pathlib
import resource
import time

import numpy as np

from cplus1_keras.metrics import AveragePrecision, align, encode_masks
from cplus1_keras.provenance import as_sentence, provenance, write_json

CLASSES, SIDE, OBJECTS, DETECTIONS = 1203, 160, 10, 300


def make_codes(rng, count=600):
    """Codes of so many ellipses, and the boxes around them."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    center, radius = rng.uniform(20, SIDE - 20, (count, 2)), np.exp(rng.uniform(1.5, 3.5, (count, 2)))
    x, y = (
        ((axis - c[:, None, None]) / r[:, None, None]) ** 2
        for axis, c, r in zip((columns, rows), center.T, radius.T, strict=True)
    )
    return encode_masks(x + y <= 1), np.concatenate([center - radius, center + radius], axis=1)


def make_image(rng, codes, boxes, share):
    """Indices of the shapes of an image's detections and objects, their classes, and confidences."""
    kinds = rng.choice(CLASSES, OBJECTS, p=share)
    objects = rng.integers(0, len(boxes), OBJECTS)
    found = rng.integers(0, len(boxes), DETECTIONS)
    classes = rng.choice(CLASSES, DETECTIONS, p=share)
    classes[:30], found[:30] = np.repeat(kinds, 3), np.where(rng.random(30) < 0.5, np.repeat(objects, 3), found[:30])
    return found, classes, rng.random(DETECTIONS), objects, kinds


def judge(images, masks, seed=0):
    """Seconds of all updates and of the result, each by the clock and of the processor; AP."""
    rng, taken = np.random.default_rng(seed), np.zeros(2)
    codes, boxes = make_codes(rng)
    share = 1 / np.arange(1, CLASSES + 1)
    share, areas = share / share.sum(), np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    counts = np.maximum(1, share * 10 * 100_000).astype(int)
    scores = AveragePrecision([str(k) for k in range(CLASSES)], 300, per_image=300, image_counts=counts)
    for _ in range(images):
        found, classes, confidences, objects, kinds = make_image(rng, codes, boxes, share)
        absent = rng.choice(CLASSES, 30)
        unjudged = np.setdiff1d(np.arange(CLASSES), np.concatenate([kinds, absent]))
        pair = {"boxes": (boxes[found], boxes[objects])}
        if masks:  # each image has codes of its own, as a detector gives them
            pair = {
                "masks": tuple(
                    [dict(codes[i], counts=bytes(codes[i]["counts"])) for i in own] for own in (found, objects)
                )
            }
        start = now()
        scores.update(classes, confidences, kinds, areas[objects], **pair, unjudged=unjudged)
        taken += now() - start
    start = now()
    figures = scores.result()
    return taken, now() - start, figures["ap"]


def now():
    """The clock, and the processor's."""
    return np.array([time.perf_counter(), time.process_time()])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--output", default="docs/results/lvis_judging.json", help='"" writes nothing')
    arguments = parser.parse_args()
    judge(2, True)  # what libraries take once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows, kept = [["", "update, s", "result, s", "processor, s", "peak above start, MiB"]], {}
    for masks in (False, True):
        update, result, ap = judge(arguments.images, masks)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
        name = "masks" if masks else "boxes"
        kept[name] = {"update_seconds": update[0], "result_seconds": result[0], "peak_mebibytes": peak, "ap": ap}
        kept[name]["processor_seconds"] = update[1] + result[1]
        rows.append([name, f"{update[0]:.1f}", f"{result[0]:.1f}", f"{update[1] + result[1]:.1f}", f"{peak:.0f}"])
    where = provenance()
    title = f"{arguments.images:,} images x {DETECTIONS} detections, {CLASSES:,} classes"
    text = f"{title}\n\n{align(rows)}\n\n{as_sentence(where)}\n"
    print(text)
    if arguments.output:
        write_json(arguments.output, {"images": arguments.images, **kept, "provenance": where})
        pathlib.Path(arguments.output).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
