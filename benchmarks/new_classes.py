"""What a threshold promises about classes that nobody has seen, counted on real ones.

    python benchmarks/new_classes.py --data FOLDER --sets FOLDER

Two small nets, of digits and of CIFAR-10 as `benchmarks/recipes.py` trains them, meet classes that are no digits and no
animals or vehicles: letters, the characters of Omniglot, the photographs of Tiny ImageNet. Many times some of these
classes, drawn at random, calibrate, and what the threshold lets in is counted on the others: with the bound over images
(`threshold_at_fpr`), and with that over classes (the same with the classes as groups). Of Omniglot's eight alphabets,
which are too few for a promise, each is left out in turn. Writes docs/results/new_classes.json and .md.
"""

import argparse
import dataclasses
import functools
import pathlib

import keras
import numpy as np
import recipes

from cplus1_keras import calibration, configs, data, models, scores
from cplus1_keras.configs.families import families
from cplus1_keras.metrics import align
from cplus1_keras.metrics.tables import percent
from cplus1_keras.provenance import as_sentence, provenance, write_json

SPLITS = 1000
CASES = (
    # what, net, promise, classes that calibrate
    ("letters", "mnist", 0.2, (3, 19)),
    ("omniglot", "mnist", 0.1, (3, 10, 40, 120)),
    ("photographs", "cifar10", 0.1, (3, 10, 40)),
)
TITLES = {"letters": "letters", "omniglot": "Omniglot's characters", "photographs": "photographs"}


def rate(name, pictures, family):
    """Function from images to the scores of a net that knows six classes of a data set; training takes seconds."""
    problem, (images, classes) = recipes.PROBLEMS[name], pictures.read(name)
    splits = recipes.make_splits(images, classes, problem.of_each, seed=0)
    own = families(splits.num_classes, problem.net().output_shape[-1])[family]
    model = functools.partial(models.classifier, backbone=problem.net, head=own.head)
    base = dataclasses.replace(configs.resolve("digits", problem.settings), model=model, loss=own.loss)
    predictor = base.task.predictor(recipes.train(base, splits), scores.log_odds, splits)
    height, width, channels = predictor.image_shape

    def score(images):
        images = images if images.ndim == 4 else images[..., np.newaxis]
        shaped = data.preprocess(images, (height, width), channels).numpy()
        return predictor.predict(shaped)["score"]

    return score


def count(values, classes, fpr, calibrating, splits=SPLITS):
    """How well thresholds keep a rate on classes that did not calibrate.

    Returns:
        Dict by kind of bound, "images" and, where there are enough classes for it, "classes": the `mean` share of a
        class never seen that is accepted, and the share of splits that are `broken`, where it is above the rate.
    """
    names, classes = np.unique(classes, return_inverse=True)
    sizes, generator, found = np.bincount(classes), np.random.default_rng(0), {"images": []}
    if calibrating >= calibration.images_needed(fpr, single=False):
        found["classes"] = []
    for _ in range(splits):
        drawn = generator.permutation(len(names)) < calibrating
        inside = drawn[classes]
        for kind, rates in found.items():
            groups = classes[inside] if kind == "classes" else None
            threshold = calibration.threshold_at_fpr(values[inside], fpr, groups=groups).threshold
            shares = np.bincount(classes, values >= np.float32(threshold)) / sizes
            rates.append(shares[~drawn].mean())
    told = {kind: np.array(rates) for kind, rates in found.items()}
    return {kind: {"mean": float(own.mean()), "broken": float(np.mean(own > fpr))} for kind, own in told.items()}


def table(rows):
    """Markdown: a row for each number of classes that calibrate."""
    head = ["classes never seen, of", "promised", "calibrated on", "accepted, bound over images", "above the promise"]
    lines = [[*head, "accepted, bound over classes", "above the promise"]]
    for row in rows:
        cells = []
        for kind in ("images", "classes"):
            own = row["found"].get(kind)
            cells += [f"{percent(own[name])} %" for name in ("mean", "broken")] if own else ["", ""]
        numbers = [f"{100 * row['fpr']:g} %", f"{row['calibrating']} of {row['classes']} classes"]
        lines.append([TITLES[row["name"]], *numbers, *cells])
    return align(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of letters and photographs")
    parser.add_argument("--sets", help="folder of prepared data sets")
    parser.add_argument("--family", default="cos_eos", help="a name of configs.families")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("docs/results/new_classes.json"))
    arguments = parser.parse_args()
    keras.utils.disable_interactive_logging()
    pictures = recipes.Pictures(arguments.data, arguments.sets)
    nets = {name: rate(name, pictures, arguments.family) for name in ("mnist", "cifar10")}
    rows = []
    for name, net, fpr, numbers in CASES:
        images, classes = pictures.read(name)
        values, told = nets[net](images), {"name": name, "fpr": fpr, "classes": len(np.unique(classes))}
        for number in numbers:
            rows.append({**told, "calibrating": number, "found": count(values, classes, fpr, number)})
            print(rows[-1], flush=True)
    values, alphabets = nets["mnist"](pictures.read("omniglot")[0]), pictures.alphabets()
    threshold = calibration.threshold_at_fpr(values, 0.1).threshold
    sentence = str(calibration.judge_new_classes(values, alphabets, threshold, 0.1))
    origin = provenance()
    write_json(
        arguments.output, {"family": arguments.family, "rows": rows, "alphabets": sentence, "provenance": origin}
    )
    text = f"{table(rows)}\n\nOmniglot's alphabets as the classes: {sentence}\n\n{as_sentence(origin)}\n"
    arguments.output.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
