"""Which recipe to use: families of losses and scores on strangers near and far, and on knowns that are spoilt.

    python benchmarks/recipes.py --data FOLDER --sets FOLDER          five data sets, five seeds
    python benchmarks/recipes.py --data FOLDER --sets FOLDER --name digits --seeds 2
    python benchmarks/recipes.py --smoke                              a minute: no files, no results kept

Of ten classes 0 to 5 are known, 6 trains as negative, 7 calibrates and never trains, 8 and 9 are strangers near by;
far ones are other scripts, clothes, photographs and noise; the knowns of the test are blurred, noisy, pale and turned.
One network for each family and seed; every score reads its outputs. --data holds the folders nist_letters, kmnist_test,
omniglot_small and tiny_imagenet_openset, --sets prepared data sets of TFDS. Results are kept run by run, so that what
was stopped goes on; `docs/results/recipes_NAME.md` has the tables of a data set, `recipes.md` those of all.
"""

import argparse
import dataclasses
import functools
import io
import json
import pathlib
import tempfile
import time
import zipfile
from collections.abc import Callable

import comparison
import keras
import numpy as np
from PIL import Image
from posthoc import FITTED, PLAIN, pooled_cnn, sign
from scipy import ndimage

from cplus1_keras import backbones, calibration, configs, data, metrics, models, scores
from cplus1_keras.configs.families import families
from cplus1_keras.metrics import align
from cplus1_keras.models.parts import take_apart
from cplus1_keras.provenance import read_json
from cplus1_keras.run import build

FAMILIES = (
    "softmax",
    "entropic",
    "objectosphere",
    "background",
    "cos_os",
    "norm_eos",
    "cos_eos",
    "arc_eos",
    "e_ncm",
)
SCORES = (*PLAIN, *(name for name in FITTED if not name.startswith(("react", "ash"))))
BASE = "objectosphere"
"""What the tables compare with: the default before this comparison was made."""

FAR = 500  # images of each kind of far strangers
FPR = 0.1
OWN_CLASSES = (
    ("goose", "black stork", "king penguin", "albatross")
    + ("Chihuahua", "Yorkshire terrier", "golden retriever", "Labrador retriever", "German shepherd")
    + ("standard poodle", "cougar", "lion", "gazelle", "bighorn", "bison", "ox", "Arabian camel")
    + ("beach wagon", "convertible", "go-kart", "limousine", "moving van", "police van", "sports car")
    + ("gondola", "lifeboat", "projectile")
)
"""Classes of Tiny ImageNet that show, or nearly show, what CIFAR-10 has."""

FIGURES = {
    "accuracy": "accuracy",
    "near_auroc": "AUROC near",
    "far_auroc": "AUROC far",
    "worst_auroc": "AUROC of the worst far kind",
    "near_ccr": "CCR near",
    "far_ccr": "CCR far",
    "near_in": "near let in",
    "far_in": "far let in",
    "right": "knowns right",
    "spoilt_right": "spoilt right",
    "spoilt_wrong": "spoilt wrong",
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is foreign to a data set of ten classes, and how a small net learns it."""

    far: tuple
    net: Callable
    settings: tuple = ("epochs=8", "batch_size=64")
    of_each: int = 800
    """Images of each class, for training, calibration and test together."""


GREY = functools.partial(backbones.small_cnn, (28, 28, 1), features=32, filters=(16, 32, 64))
PROBLEMS = {
    "digits": Problem(("letters", "kmnist", "omniglot", "fashion_mnist", "photographs", "noise"), None, ()),
    "mnist": Problem(("letters", "kmnist", "omniglot", "fashion_mnist", "photographs", "noise"), GREY),
    "kmnist": Problem(("mnist", "letters", "omniglot", "fashion_mnist", "photographs", "noise"), GREY),
    "fashion_mnist": Problem(("mnist", "kmnist", "letters", "omniglot", "photographs", "noise"), GREY),
    "cifar10": Problem(
        ("mnist", "letters", "kmnist", "photographs", "noise"),
        functools.partial(pooled_cnn, (32, 32, 3)),
        ("epochs=12", "batch_size=64"),
        of_each=900,
    ),
}


class Pictures:
    """Images by name, each kind read once."""

    def __init__(self, folder, sets):
        self.folder, self.sets = folder, sets

    @functools.cache  # noqa: B019 - one object for the whole program
    def read(self, name):
        """Images (N, H, W) or (N, H, W, 3) and their classes."""
        if name == "noise":
            return np.random.default_rng(1).integers(0, 256, (FAR, 32, 32, 3)).astype("uint8"), None
        if name in ("letters", "kmnist", "omniglot", "photographs"):
            return getattr(self, f"_{name}")()
        if name == "digits":
            source = data.sources.digits()
        else:
            source = data.sources.tfds(name, "train[:9000]", data_dir=self.sets)
        return source.array, source.labels

    def _letters(self):
        with np.load(self.folder / "nist_letters" / "nist_letters_28x28.npz") as file:
            kept = ~np.isin(file["y_train"], [1 + "abcdefghijklmnopqrstuvwxyz".index(own) for own in "gilo"])
            return file["x_train"][kept], file["y_train"][kept]  # these four look like digits

    def _kmnist(self):
        own = [self.folder / "kmnist_test" / f"kmnist-test-{part}.npz" for part in ("imgs", "labels")]
        with np.load(own[0]) as images, np.load(own[1]) as labels:
            return images["arr_0"], labels["arr_0"].astype(int)

    def _omniglot(self):
        with np.load(self.folder / "omniglot_small" / "omniglot_small_28x28.npz") as file:
            return file["x"], file["y"]

    def alphabets(self):
        """The alphabet of each of Omniglot's images."""
        with np.load(self.folder / "omniglot_small" / "omniglot_small_28x28.npz") as file:
            return file["alphabets"][file["y_alphabet"]]

    def _photographs(self):
        root = self.folder / "tiny_imagenet_openset"
        names = json.loads((root / "class_names.json").read_text(encoding="utf-8"))
        chosen, images, classes = sorted(key for key, name in names.items() if name not in OWN_CLASSES), [], []
        with zipfile.ZipFile(root / "tiny_imagenet_openset.zip") as file:
            for path in sorted(file.namelist()):
                part, _, own = path.rpartition("/")[0].partition("/")
                if part == "val" and own in chosen:
                    with Image.open(io.BytesIO(file.read(path))) as image:
                        images.append(np.asarray(image.convert("RGB")))
                    classes.append(chosen.index(own))
        return np.stack(images), np.array(classes)

    def like(self, name, shape):
        """`FAR` images of a kind, brought to a shape."""
        images, _ = self.read(name)
        chosen = np.random.default_rng(0).choice(len(images), min(FAR, len(images)), replace=False)
        images = images[chosen] if images.ndim == 4 else images[chosen][..., np.newaxis]
        return data.preprocess(images, shape[:2], shape[2]).numpy()


def spoil(images):
    """Knowns that are hard to read, by the name of what was done to them: (N, H, W, channels), 0..255, each."""
    images, side = np.asarray(images, "float32"), images.shape[1]
    noise = np.random.default_rng(2).normal(0, 40, images.shape)
    own = {
        "blurred": ndimage.gaussian_filter(images, (0, side / 28, side / 28, 0)),
        "noisy": images + noise,
        "pale": 0.3 * images,
        "turned": ndimage.rotate(images, 25, axes=(1, 2), reshape=False, order=1),
    }
    return {name: np.clip(changed, 0, 255).astype("float32") for name, changed in own.items()}


def make_splits(images, classes, of_each, seed):
    """So many images of each class, drawn and split by the seed; the classes play the parts of the digits'."""
    generator = np.random.default_rng(seed)
    chosen = [generator.permutation(np.flatnonzero(classes == own))[:of_each] for own in range(10)]
    chosen = np.sort(np.concatenate(chosen))
    images = images if images.ndim == 4 else images[..., np.newaxis]
    source = data.sources.arrays(images[chosen], classes[chosen], list("0123456789"), name="ten")
    return data.split(data.protocols.digits(), source, calibration_classes=("7",), seed=seed)


def train(experiment, splits):
    """The model of an experiment, without the records of a run."""
    keras.utils.set_random_seed(experiment.seed)
    model, (epochs, steps) = build(experiment, splits), experiment.length(splits)
    batches = experiment.task.training(model, splits.train, experiment)
    model.fit(batches, epochs=epochs, steps_per_epoch=steps, verbose=0, shuffle=False)
    return model


def fit_scores(model, splits, trained, held):
    """Functions from outputs to scores by name, those that this model allows."""
    number, classifier = splits.num_classes, take_apart(model)[1]
    rate = {name: functools.partial(lambda own, score: score(own, number), score=scores.get(name)) for name in PLAIN}
    for name in SCORES[len(PLAIN) :]:
        score, given = FITTED[name](), (trained, splits.train.labels)
        if name == "temperature":
            given = held, splits.calibration.labels
        try:
            score.fit([given], number, classifier)
        except ValueError:
            continue  # it needs a Dense layer that makes the logits
        rate[name] = score
    return rate


def judge(experiment, splits, far):
    """Figures of one training: those of each score, of each far kind by `log_odds`, and the accuracy."""
    start = time.perf_counter()
    model = train(experiment, splits)
    number, labels = splits.num_classes, splits.test.labels
    predictor = experiment.task.predictor(model, scores.log_odds, splits)
    own = [predictor.outputs(part.source.array) for part in (splits.train, splits.calibration, splits.test)]
    trained, held, test = own
    images = splits.test.source.array[labels >= 0]
    asked = {name: predictor.outputs(own) for name, own in {**far, **spoil(images)}.items()}
    right = {
        name: np.argmax(own["logits"][:, :number], -1) == labels[labels >= 0]
        for name, own in {"test": {"logits": test["logits"][labels >= 0]}, **asked}.items()
        if name not in far
    }
    rows, kinds = {}, {}
    for name, score in fit_scores(model, splits, trained, held).items():
        values = {kind: np.asarray(score(own)) for kind, own in {"held": held, "test": test, **asked}.items()}
        rows[name], told = figures(values, splits, right, far)
        kinds = told if name == "log_odds" else kinds
    spoilt = {name: float(np.mean(own)) for name, own in right.items()}
    taken = {"seconds": round(time.perf_counter() - start, 1)}
    return {"accuracy": spoilt.pop("test"), "spoilt": spoilt, "scores": rows, "far": kinds, **taken}


def figures(values, splits, right, far):
    """Figures of one score, and of each far kind AUROC, CCR at FPR 10 % and the share that the threshold lets in."""
    labels, known = splits.test.labels, values["test"][splits.test.labels >= 0]
    threshold = calibration.threshold_at_fpr(values["held"][splits.calibration.labels == -1], FPR).threshold
    near = values["test"][labels == -2]

    def tell(strangers):
        both = np.concatenate([known, strangers])
        marks = np.concatenate([np.where(right["test"], 0, 1), np.full(len(strangers), -2)])  # predictions are 0
        ccr = metrics.ccr_at_fpr(marks, np.zeros(len(marks), int), both, FPR, "unknown")
        if np.isnan(ccr):  # more strangers than that share the highest score: only what is above it is told from them
            ccr = np.mean(right["test"] & (known > strangers.max()))
        return metrics.auroc(marks, both, "unknown"), ccr, np.mean(strangers >= threshold)

    kinds = {kind: tell(values[kind]) for kind in far}
    spoilt = {kind: values[kind] >= threshold for kind in right if kind != "test"}
    told = [*kinds.values()]
    found = dict(zip(("near_auroc", "near_ccr", "near_in"), tell(near), strict=True))
    found |= dict(zip(("far_auroc", "far_ccr", "far_in"), np.mean(told, axis=0), strict=True))
    found["worst_auroc"] = min(own[0] for own in told)
    found["right"] = np.mean((known >= threshold) & right["test"])
    found["spoilt_right"] = np.mean([np.mean(own & right[kind]) for kind, own in spoilt.items()])
    found["spoilt_wrong"] = np.mean([np.mean(own & ~right[kind]) for kind, own in spoilt.items()])
    kinds = {kind: [round(float(value), 4) for value in own] for kind, own in kinds.items()}
    return {name: round(float(value), 4) for name, value in found.items()}, kinds


def compare(name, pictures, families_asked, seeds, output):
    """Results of a data set: those that `output` holds, and those that it lacks."""
    problem, splits, (images, classes) = PROBLEMS[name], {}, pictures.read(name)
    base = configs.resolve("digits", problem.settings)
    net = problem.net or base.model.keywords["backbone"]
    shape = net().input_shape[1:]
    far = {kind: pictures.like(kind, shape) for kind in problem.far}

    def one(family, seed):
        if seed not in splits:  # the same for each family
            splits.clear()
            splits[seed] = make_splits(images, classes, problem.of_each, seed)
        own = families(splits[seed].num_classes, net().output_shape[-1])[family]
        model = functools.partial(models.classifier, backbone=net, head=own.head)
        return judge(dataclasses.replace(base, seed=seed, model=model, loss=own.loss), splits[seed], far)

    def tell(told):
        return "  ".join(f"{key} {value:.3f}" for key, value in told["scores"]["log_odds"].items())

    settings = {"data": name, "settings": list(problem.settings), "of_each": problem.of_each, "far": list(problem.far)}
    return comparison.resume(output, settings, families_asked, seeds, one, tell)


def read(output, families_asked):
    """The results that a file holds, of the seeds that all of these families have."""
    found = read_json(output)["results"]
    seeds = sorted(set.intersection(*({*found.get(family, {})} for family in families_asked)), key=int)
    return {family: {seed: found[family][seed] for seed in seeds} for family in families_asked}


def look_up(run, figure, score="log_odds"):
    """A figure of a run, NaN where the score does not fit the head."""
    return run["accuracy"] if figure == "accuracy" else run["scores"].get(score, {}).get(figure, np.nan)


def cell(values, base):
    """Mean with its interval, and whether the difference to another row, seed by seed, has one beside 0."""
    if np.isnan(values).any():
        return ""
    return comparison.spread(values) + sign([one - other for one, other in zip(values, base, strict=True)])


def against(values, base):
    """The mean, and the mean difference to another row, data set by data set, with its interval."""
    if np.isnan(values).any():
        return ""
    differences = [one - other for one, other in zip(values, base, strict=True)]
    told = f" ({comparison.spread(differences, '+.3f')}{sign(differences)})" if np.any(differences) else ""
    return f"{np.mean(values):.3f}{told}"


def tell_one(results, kinds):
    """Tables of a data set: families by `log_odds`, each far kind, and scores by family."""
    runs = {family: [*by_seed.values()] for family, by_seed in results.items()}

    def values(family, figure, score="log_odds"):
        return [look_up(run, figure, score) for run in runs[family]]

    rows = [[f, *(cell(values(f, figure), values(BASE, figure)) for figure in FIGURES)] for f in runs]
    parts = [
        f"{len(runs[BASE])} seeds. By `log_odds`; marks are differences to {BASE}.",
        align([["family", *FIGURES.values()], *rows]),
    ]
    rows = [[f, *(comparison.spread([run["far"][kind][0] for run in runs[f]]) for kind in kinds)] for f in runs]
    parts += ["AUROC of each far kind, by `log_odds`.", align([["family", *kinds], *rows])]
    for figure in ("near_auroc", "far_auroc"):
        rows = []
        for score in SCORES:
            own = [cell(values(f, figure, score), values(f, figure)) for f in runs]
            rows.append([score, *own])
        parts += [f"{FIGURES[figure]}; marks are differences to `log_odds`.", align([["score", *runs], *rows])]
    return "\n\n".join(parts)


def tell_all(results):
    """Tables over data sets: means of their means over seeds, and differences with intervals over the data sets."""
    found = {name: {f: [*own.values()] for f, own in families.items()} for name, families in results.items()}

    def means(family, figure, score="log_odds"):
        return [np.mean([look_up(run, figure, score) for run in own[family]]) for own in found.values()]

    names = [*next(iter(found.values()))]
    seeds = ", ".join(f"{name} {len(own[BASE])}" for name, own in found.items())
    rows = [[f, *(against(means(f, figure), means(BASE, figure)) for figure in FIGURES)] for f in names]
    parts = [
        f"Seeds: {seeds}. By `log_odds`; in brackets differences to {BASE}, data set by data set.",
        align([["family", *FIGURES.values()], *rows]),
    ]
    for figure in ("near_auroc", "far_auroc"):
        rows = [[s, *(against(means(f, figure, s), means(f, figure)) for f in names)] for s in SCORES]
        parts += [f"{FIGURES[figure]}; in brackets differences to `log_odds`.", align([["score", *names], *rows])]
    return "\n\n".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path(), help="folder of letters and photographs")
    parser.add_argument("--sets", help="folder of prepared data sets")
    parser.add_argument("--name", action="append", choices=[*PROBLEMS], help="a data set instead of all")
    parser.add_argument("--families", default=",".join(FAMILIES), help="names of configs.families")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tell", action="store_true", help="train nothing: tables of the seeds that all families have")
    parser.add_argument("--smoke", action="store_true", help="two families, an epoch, noise alone as far strangers")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("docs/results"), help="folder of results")
    arguments = parser.parse_args()
    keras.utils.disable_interactive_logging()
    names, asked, folder = arguments.name or [*PROBLEMS], arguments.families.split(","), arguments.output
    if arguments.smoke:
        PROBLEMS["digits"] = dataclasses.replace(PROBLEMS["digits"], far=("noise",), settings=("epochs=1",))
        names, asked, folder = ["digits"], [BASE, "cos_eos"], pathlib.Path(tempfile.mkdtemp())
    pictures, results = Pictures(arguments.data, arguments.sets), {}
    for name in names:
        output = folder / f"recipes_{name}.json"
        if not arguments.tell:
            compare(name, pictures, asked, 1 if arguments.smoke else arguments.seeds, output)
        results[name] = read(output, asked)
        text = tell_one(results[name], PROBLEMS[name].far)
        output.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    text = tell_all(results)
    if len(results) > 1:
        (folder / "recipes.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
