"""Blood cells with a long tail, by Faster R-CNN: AP of rare, common and frequent classes, a table over paired seeds.

    python benchmarks/detection_tail.py --set root=FOLDER            half-size images
    python benchmarks/detection_tail.py --smoke --set root=FOLDER    a few steps of each, to see that it works

The config `bccd_tail`: platelets in 8 training images, white cells in 40, red ones in all. Rows with one seed share
splits, first weights and augmentation; all take as many steps. Each run also tells 95 % intervals of its groups' AP by
bootstrap over its 72 test images, which the json keeps. Results go to --folder run by run, so that a stopped comparison
goes on where it was.
"""

import functools
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import paired
from comparison import look_up, train
from long_tail import norms_of_classes

from cplus1_keras import data

ROWS = {
    "cross-entropy": ("method=softmax",),
    "cosine": ("method=cosine",),
    "C2AM": ("method=c2am",),
    "balanced softmax": ("method=balanced_softmax",),
    "repeat factors": ("method=softmax", "sampling=repeat_factor", "repeat_threshold=0.3"),
}
"""Each row's settings of the config `bccd_tail`; the first is what the others are compared with. The paper's t of 1e-3
would repeat no image of so few."""

GROUPS = ("rare", "common", "frequent")
SIZE, SMOKE = ("width=192", "steps=600"), ("width=160", "steps=5", "interval=5")


def percent(run, keys):
    """A figure of the test images in percent."""
    return 100 * look_up(run, ("detection", "coco", *keys))


def ratio_of_norms(run):
    """The norm of the rarest class's weights over that of the most frequent one's."""
    order = np.argsort(run["counts"])
    return run["norms"][order[0]] / run["norms"][order[-1]]


FIGURES = {name: functools.partial(percent, keys=(key,)) for name, key in (("AP", "ap"), ("AP50", "ap50"))}
FIGURES |= {f"AP {group}": functools.partial(percent, keys=(f"ap_{group}",)) for group in GROUPS}
FIGURES["norms, rare to frequent"] = ratio_of_norms


def judge(experiment):
    """Figures of one training on the test split, with intervals by group, norms and counts of the known classes."""
    start = time.perf_counter()
    model, splits, _ = train(experiment)
    seconds, task = time.perf_counter() - start, experiment.task.for_splits(splits)
    figures, _ = task.judge(task.predictor(model, experiment.score, splits), splits.test, experiment)
    own = {"norms": norms_of_classes(model, splits.num_classes), "counts": data.image_counts(splits.train).tolist()}
    return {"detection": figures["detection"], **own, "seconds": round(seconds, 1)}


if __name__ == "__main__":
    paired.command(__doc__, "bccd_tail", ROWS, FIGURES, judge, "detection_tail", SIZE, SMOKE)
