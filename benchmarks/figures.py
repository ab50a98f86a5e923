"""The papers' figures from small trainings on the digits: `python benchmarks/figures.py`, some minutes on two cores.

Each training takes seconds and leaves what the figures need in `--folder`; a command that was stopped goes on there.
The pictures are put into `docs/images/figures`, and `docs/figures.md` shows them.

    python benchmarks/figures.py --epochs 1 --seeds 1 --output FOLDER    a smoke test
"""

import argparse
import functools
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from cplus1_keras import OpenSetModel, anchors, calibration, data, heads, losses, metrics, plots, scores
from cplus1_keras.monitoring import geometry

ROOT = pathlib.Path(__file__).parent.parent
KNOWN = 6
NAMES = [str(k) for k in range(KNOWN)]
SCALE, MARGIN = 12.0, 0.35
LAMBDAS = (0.01, 0.1, 1.0, 10.0)
FEW = (400, 64, 32, 16, 8, 4)  # training images of the classes where they are long-tailed


def network(head, features=16):
    """A small network on the digits; `features` None keeps the maps, for activation maps."""
    images = keras.Input((8, 8, 1))
    x = images / 16
    for filters, stride in ((16, 1), (32, 2)):
        x = keras.layers.Conv2D(filters, 3, stride, "same", activation="relu")(x)
    return OpenSetModel(
        images, head(x if features is None else keras.layers.Dense(features)(keras.layers.Flatten()(x)))
    )


TRAININGS = {
    "softmax": (functools.partial(heads.LinearHead, KNOWN), losses.CrossEntropyLoss(), 2),
    "entropic": (functools.partial(heads.LinearHead, KNOWN), losses.EntropicOpenSetLoss(), 2),
    "objectosphere": (functools.partial(heads.LinearHead, KNOWN), losses.objectosphere(10.0), 2),
    "cosine": (functools.partial(heads.CosineHead, KNOWN, SCALE), losses.CrossEntropyLoss(), 16),
    "cosface": (
        functools.partial(heads.CosineHead, KNOWN, SCALE),
        losses.CrossEntropyLoss(margin=losses.CosFace(MARGIN)),
        16,
    ),
    "anchors": (
        functools.partial(heads.EuclideanAnchorHead, 4 * anchors.circle(KNOWN), 2.0),
        losses.CrossEntropyLoss(),
        2,
    ),
    "long_tail": (functools.partial(heads.LinearHead, KNOWN), losses.CrossEntropyLoss(), 16),
    "long_tail_c2am": (
        functools.partial(heads.CosineHead, KNOWN, SCALE),
        losses.CrossEntropyLoss(margin=losses.C2AM(0.3)),
        16,
    ),
    "cam": (functools.partial(heads.CAMHead, KNOWN), losses.CrossEntropyLoss(), None),
    **{
        f"hnc_{weight:g}": (
            functools.partial(heads.CAMHead, KNOWN),
            losses.CrossEntropyLoss() + weight * losses.HNCMSELoss(top_k=2),
            None,
        )
        for weight in LAMBDAS
    },
}


def arrays(split):
    examples = list(split.dataset().as_numpy_iterator())
    return np.stack([example["image"] for example in examples]).astype("float32"), split.labels


def train(name, seed, epochs, folder):
    """What a training answers on the test images: a dict of arrays, from its file where that is there."""
    file = folder / f"{name}-{seed}-{epochs}.npz"
    if not file.is_file():
        head, loss, features = TRAININGS[name]
        splits = data.split(data.protocols.digits(), data.sources.digits(), calibration_classes=("7",), seed=seed)
        images, labels = arrays(splits.train)
        if not loss.needs_negatives:
            images, labels = images[labels >= 0], labels[labels >= 0]
        if name.startswith("long_tail"):
            kept = np.concatenate([np.flatnonzero(labels == k)[:most] for k, most in enumerate(FEW)])
            images, labels = images[kept], labels[kept]
        keras.utils.set_random_seed(seed)
        model = network(head(), features)
        model.compile(keras.optimizers.Adam(3e-3), loss)
        model.fit(images, labels, batch_size=32, epochs=epochs, verbose=0)
        found = {"counts": np.bincount(labels[labels >= 0], minlength=KNOWN)}
        rays = geometry.directions(model)
        found |= {} if rays is None else {"rays": rays[1]}
        for part, split in (("", splits.test), ("calibration_", splits.calibration)):
            images, labels = arrays(split)
            outputs = {key: np.asarray(value) for key, value in model.predict(images, verbose=0).items()}
            kept = {key: outputs[key] for key in ("logits", "features", "cams") if key in outputs}
            found |= {part + key: value for key, value in {**kept, "images": images, "labels": labels}.items()}
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file, **found)
    with np.load(file) as opened:
        return dict(opened)


def judged(found, part=""):
    """Labels, predictions and scores of what `train` gave."""
    logits = found[part + "logits"]
    return found[part + "labels"], logits.argmax(axis=-1), np.asarray(scores.log_odds({"logits": logits}, KNOWN))


def curves(run, seeds):
    names = ("softmax", "entropic", "objectosphere")
    own = {name: [metrics.oscr(*judged(run(name, seed)), "unknown") for seed in range(seeds)] for name in names}
    return plots.oscr_bands(own, title=f"Unknown digits, {seeds} seeds")


def angles(name, run, seeds):
    found = run(name, 0)
    labels, features, rays = found["labels"], found["features"], found["rays"]
    every = np.stack([geometry.angles(features, rays, np.full(len(labels), k)) for k in range(KNOWN)], axis=-1)
    own = np.take_along_axis(every, np.maximum(labels, 0)[:, None], axis=-1)[:, 0]
    shown = np.radians(np.where(labels >= 0, own, every.min(axis=-1)))
    margin = (lambda x: np.cos(x) - MARGIN) if name == "cosface" else None
    title = f"CosFace, margin {MARGIN}" if margin else "No margin"
    return plots.angle_distributions(labels, shown, SCALE, KNOWN, margin, title=title)


def deep_features(name, circle, run, seeds):
    found = run(name, 0)
    kind = "anchors" if name == "anchors" else "weights"
    title = f"{name}{', on the circle' if circle else ''}"
    return plots.features(found["features"], found["labels"], NAMES, found["rays"], kind, circle, title)


def norms(run, seeds):
    own = {name: run(name, 0) for name in ("long_tail", "long_tail_c2am")}
    lengths = {title: np.linalg.norm(own[name]["rays"], axis=1) for name, title in LONG.items()}
    return plots.weight_norms(lengths, own["long_tail"]["counts"], title="Long-tailed digits")


LONG = {"long_tail": "softmax", "long_tail_c2am": "C2AM"}


def maps(name, run, seeds):
    found = run(name, 0)
    chosen = [np.flatnonzero(found["labels"] == k)[0] for k in (2, 3, 5)]
    logits, truth = found["logits"][chosen], np.eye(KNOWN, dtype=int)[found["labels"][chosen]]
    wrong = np.argsort(np.where(truth == 1, -np.inf, logits), axis=-1)[:, -2:]
    present = (truth == 1) | (np.arange(KNOWN)[None, :, None] == wrong[:, None]).any(axis=-1)
    title = "Cross-entropy alone" if name == "cam" else f"With HNC, λ = {name.removeprefix('hnc_')}"
    return plots.activation_maps(
        found["images"][chosen], found["cams"][chosen], present, logits, NAMES, truth, title=title
    )


def lambdas(run, seeds):
    def top(name):
        return [metrics.closed_set_accuracy(*judged(run(name, seed))[:2]) for seed in range(seeds)]

    own = np.transpose([top(f"hnc_{weight:g}") for weight in LAMBDAS])
    return plots.against(LAMBDAS, {"HNC": own}, "λ", "top-1", float(np.mean(top("cam"))), title=f"{seeds} seeds")


def threshold(found):
    labels, _, own = judged(found, "calibration_")
    return calibration.threshold_at_fpr(own[labels == -1], 0.1).threshold


def histogram(run, seeds):
    found = run("objectosphere", 0)
    labels, _, own = judged(found)
    return plots.histogram(labels, own, threshold(found), score_name="log_odds", title="Objectosphere")


def reliability(run, seeds):
    labels, predictions, own = judged(run("softmax", 0))
    known = labels >= 0
    return plots.reliability(1 / (1 + np.exp(-own[known])), (predictions == labels)[known], title="Softmax, knowns")


def confusion(run, seeds):
    found = run("objectosphere", 0)
    return plots.confusion(*judged(found), threshold(found), NAMES, title="Objectosphere, in %")


def acceptance(run, seeds):
    found = run("objectosphere", 0)
    labels, _, own = judged(found)
    accepted = own >= threshold(found)
    kinds = {**{name: ("known", k) for k, name in enumerate(NAMES)}, "6, 7": ("negative", -1), "8, 9": ("unknown", -2)}
    rows = {
        name: (role, int(accepted[labels == k].sum()), int((labels == k).sum())) for name, (role, k) in kinds.items()
    }
    return plots.acceptance(rows, target=0.1, title="Objectosphere, at the calibrated threshold")


FIGURES = {
    "oscr_bands": curves,
    "angles": functools.partial(angles, "cosine"),
    "angles_margin": functools.partial(angles, "cosface"),
    "features": functools.partial(deep_features, "entropic", False),
    "features_circle": functools.partial(deep_features, "entropic", True),
    "anchors": functools.partial(deep_features, "anchors", False),
    "weight_norms": norms,
    "maps": functools.partial(maps, "cam"),
    "maps_hnc": functools.partial(maps, "hnc_1"),
    "lambdas": lambdas,
    "scores": histogram,
    "reliability": reliability,
    "confusion": confusion,
    "acceptance": acceptance,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "runs" / "figures")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs" / "images" / "figures")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--figures", nargs="+", choices=FIGURES, default=[*FIGURES])
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    run = functools.partial(train, epochs=options.epochs, folder=options.folder)
    for name in options.figures:
        FIGURES[name](run, options.seeds).savefig(
            options.output / f"{name}.png", dpi=52 if name.startswith("maps") else 80
        )
        print(options.output / f"{name}.png", flush=True)


if __name__ == "__main__":
    main()
