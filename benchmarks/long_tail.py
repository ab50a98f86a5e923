"""MNIST with three rare digits, the example of the C2AM paper's section 3.3: a table over paired seeds, and norms.

    python benchmarks/long_tail.py --set data_dir=FOLDER            about ten minutes
    python benchmarks/long_tail.py --smoke --set data_dir=FOLDER    a few steps of each, to see that it works

Of 7, 8 and 9 a hundred images train, of each other digit thousands. Rows with one seed share splits and first weights
of the net; all take as many steps. The picture draws the norms of the classes' weights by frequency, as Figure 1 of the
paper does. Results go to --folder run by run, so that a stopped comparison goes on where it was.
"""

import time

import keras
import numpy as np
import paired
from comparison import train

from cplus1_keras import data, plots
from cplus1_keras.configs.tails import RARE

ROWS = {
    "cross-entropy": ("method=softmax",),
    "cosine": ("method=cosine",),
    "C2AM": ("method=c2am",),
    "balanced softmax": ("method=balanced_softmax",),
    "LDAM": ("method=ldam",),
    "equalization": ("method=equalization",),
    "seesaw": ("method=seesaw",),
    "repeat factors": ("method=softmax", "sampling=repeat_factor", "repeat_threshold=0.1"),
    "class-aware sampling": ("method=softmax", "sampling=class_aware"),
}
"""Each row's settings of the config `mnist_tail`; the first is what the others are compared with. The paper's t of 1e-3
would repeat no digit."""

SMOKE = ("knowns=train[:3%]", "steps=5", "interval=5", "few=10")

FIGURES = {
    "accuracy": lambda run: 100 * np.mean(list(run["recall"].values())),
    "0 to 6": lambda run: 100 * np.mean([value for name, value in run["recall"].items() if name not in RARE]),
    "7, 8, 9": lambda run: 100 * np.mean([run["recall"][name] for name in RARE]),
    "norms, rare to frequent": lambda run: ratio_of_norms(run),
}
"""Of the 10,000 test images: mean over the classes of the share that is right, of all, the frequent and the rare
digits; the mean norm of a rare digit's weights over that of a frequent one's."""


def ratio_of_norms(run):
    """Mean norm of the rare classes' weights over that of the others."""
    rare = [name in RARE for name in run["recall"]]
    norms = np.array(run["norms"])
    return norms[rare].mean() / norms[np.logical_not(rare)].mean()


def judge(experiment):
    """Recall of each class, norms of the weights, and training images of each class, of one training."""
    start = time.perf_counter()
    model, splits, _ = train(experiment)
    seconds = time.perf_counter() - start
    logits = model.predict(data.evaluation(splits.test, 250), verbose=0)["logits"]
    right = logits.argmax(axis=1) == splits.test.labels
    recall = {name: float(right[splits.test.labels == k].mean()) for k, name in enumerate(splits.class_names)}
    norms = norms_of_classes(model, splits.num_classes)
    counts = data.image_counts(splits.train)
    return {"recall": recall, "norms": norms, "counts": counts.tolist(), "seconds": round(seconds, 1)}


def norms_of_classes(model, num_classes):
    """Norms of the weights of the known classes in the head that classifies, the last of several."""
    heads = (layer for layer in model._flatten_layers() if getattr(layer, "num_classes", None) == num_classes)
    *_, kernel = (head.kernel for head in heads if hasattr(head, "kernel"))
    return np.linalg.norm(keras.ops.convert_to_numpy(kernel), axis=0)[:num_classes].tolist()


def draw(results, path):
    """Norms by frequency of the rows with a classifier of their own, mean over the seeds."""
    counts = next(iter(next(iter(results.values())).values()))["counts"]
    norms = {row: np.mean([run["norms"] for run in runs.values()], axis=0) for row, runs in results.items()}
    shown = {
        row: own / own.max()
        for row, own in norms.items()
        if row in ("cross-entropy", "cosine", "C2AM", "balanced softmax")
    }
    plots.weight_norms(shown, counts, "MNIST with rare 7, 8 and 9: norms over the largest").savefig(path)


if __name__ == "__main__":
    results, path = paired.command(__doc__, "mnist_tail", ROWS, FIGURES, judge, "long_tail_mnist", (), SMOKE)
    draw(results, path.with_suffix(".png"))
