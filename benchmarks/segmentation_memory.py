"""Peak memory of judging segmentation on 100 and on 1,000 images: `python benchmarks/segmentation_memory.py`.

Synthetic images go through a small net, with tiles, all figures and a calibration of the threshold, each number of
images in a process of its own. With 20 different sizes the peak may grow by at most 5 % from the smallest number of
images to the largest. Where all sizes differ it grows by about 5 MiB for 100 sizes, for oneDNN keeps what it compiled
for a shape; with TF_ENABLE_ONEDNN_OPTS=0 it does not grow there either.
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import time

import numpy as np


def images(count, sizes):
    """(images (1, H, W, 3), labels (1, H, W)) of this many sizes, made when asked for."""
    generator = np.random.default_rng(0)
    of = generator.integers(160, 260, (sizes, 2))
    for number in range(count):
        height, width = of[number % sizes]
        labels = generator.integers(-2, 5, (1, height // 20 + 1, width // 20 + 1)).repeat(20, 1).repeat(20, 2)
        labels = labels[:, :height, :width]
        noise = generator.normal(scale=30, size=(1, height, width, 3))
        yield np.clip(120 + 25 * labels[..., None] + noise, 0, 255).astype("float32"), labels.astype("int32")


def worker(count, sizes):
    """Judge and calibrate, and print the peak of this process in MiB and the seconds it took."""
    import keras

    from cplus1_keras import heads
    from cplus1_keras.rejection import Reject
    from cplus1_keras.serving import Segmenter
    from cplus1_keras.tasks.segmentation import segmenter
    from cplus1_keras.tasks.segmentation.calibration import threshold_at_pixel_fpr
    from cplus1_keras.tasks.segmentation.judging import judge, scored

    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(16, 5, 4, "same", activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    model = segmenter(inputs, x, heads.LinearHead(5, use_bias=True, background=True))
    found = Segmenter(model, Reject(5, 0.0), tile=224)
    start = time.perf_counter()
    judge(found, images(count, sizes), edge_width=2)
    judged = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    threshold_at_pixel_fpr(scored(found, images(count, sizes)), 0.1)
    calibrated = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{judged / 1024} {calibrated / 1024} {time.perf_counter() - start}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("docs/results/segmentation_memory.json"))
    parser.add_argument("--worker", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(*arguments.worker)
    rows = []
    for sizes in (20, max(arguments.counts)):
        for count in arguments.counts:
            command = [sys.executable, __file__, "--worker", str(count), str(sizes)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            judged, calibrated, seconds = map(float, done.stdout.split()[-3:])
            row = {"images": count, "sizes": min(sizes, count), "judged_mib": judged, "calibrated_mib": calibrated}
            rows.append({**row, "seconds": seconds})
    print("| images | sizes | peak RSS, judged (MiB) | and calibrated (MiB) | seconds |\n|---|---|---|---|---|")
    for row in rows:
        judged, calibrated = row["judged_mib"], row["calibrated_mib"]
        print(f"| {row['images']:,} | {row['sizes']:,} | {judged:.0f} | {calibrated:.0f} | {row['seconds']:.0f} |")
    growth = rows[len(arguments.counts) - 1]["judged_mib"] / rows[0]["judged_mib"]
    print(f"\nGrowth of judging, 20 sizes: {growth - 1:+.1%} ({'constant' if growth <= 1.05 else 'NOT constant'})")

    from cplus1_keras.provenance import provenance, write_json

    write_json(arguments.output, {"rows": rows, "growth": growth, "seed": 0, "provenance": provenance()})
    return growth > 1.05


if __name__ == "__main__":
    sys.exit(main())
