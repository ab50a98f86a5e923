"""What a finished run is worth under attack: pixels that change by at most epsilon, to mislead it.

    python -m cplus1_keras.robustness RUN --epsilon 0.05,0.1,0.2,0.3
    python -m cplus1_keras.robustness RUN --epsilon 0.03 --steps 40 --restarts 10 --images 500

Epsilon is on images in 0..1. Each is attacked by FGSM and by PGD with restarts, in three ways: `mistake`, knowns are to
be taken for another class; `refuse`, knowns are to be refused; `accept`, strangers are to be accepted. Writes
`robustness.json` and `robustness.png` into the run.
"""

import argparse
import os
import pathlib
import sys

import numpy as np
from absl import logging

from cplus1_keras import attacks, metrics, plots
from cplus1_keras.calibration import clopper_pearson_upper
from cplus1_keras.directory import clean, move_all, unfinished
from cplus1_keras.judge import open_run
from cplus1_keras.labels import UNKNOWN, is_known, is_negative
from cplus1_keras.metrics import ExactScores
from cplus1_keras.provenance import provenance, write_json
from cplus1_keras.signals import stop_on_signals

AIMS = {"mistake": attacks.mistake, "refuse": attacks.refuse, "accept": attacks.accept}
"""Who attacks: the first two change knowns, the last changes negatives and unknowns."""

SHARES = {
    "accuracy": ("known", "right", False),
    "ccr": ("known", "right", True),
    "coverage": ("known", "known", True),
    "fpr_negative": ("negative", "negative", True),
    "fpr_unknown": ("unknown", "unknown", True),
}
"""Share by name: of which kind of images, which of these, and whether only those that the threshold accepts."""

SAMPLES = 200
"""Replications of the bootstrap, of each row."""


def robustness(run, epsilon, steps=10, restarts=3, images=None, seed=0, data=None, config=None):
    """Attack a finished run of one class for each image, and judge what it answers.

    Args:
        run: Directory of a finished run.
        epsilon: Largest changes of a pixel on images in 0..1, each in (0, 1].
        steps, restarts, seed: Those of `attacks.pgd`.
        images: How many images of the test split, drawn by the seed; None takes all.
        data, config: As for `judge`.

    Returns:
        The rows of `robustness.json`: dicts of `method`, `aim`, `epsilon`, and of figures by name: `accuracy`, `ccr`,
        `coverage`, `fpr_negative`, `fpr_unknown` at the run's threshold with Clopper-Pearson 95 % `intervals`, and
        `open_set`. The first row is without attack.

    Raises:
        FileNotFoundError: There is no finished run.
        ValueError: The run answers with something else than a class for each image, or an epsilon is no share.

    >>> robustness("runs/digits", [0.1])[0]["accuracy"]  # doctest: +SKIP
    0.99
    """
    run = pathlib.Path(run)
    wrong = [value for value in epsilon if not 0 < value <= 1]
    if wrong or not len(epsilon):
        raise ValueError(f"`epsilon` is a share of the range of pixels, each in (0, 1]. Received: {list(epsilon)}")
    predictor, experiment, splits = open_run(run, data=data, config=config)
    _check(run, predictor)
    split = splits.test
    if images is not None and images < len(split):
        split = split.subset(np.sort(np.random.default_rng(seed).permutation(len(split))[:images]))
    batches = [(x.numpy(), y.numpy()) for x, y in experiment.task.images(predictor, split, experiment)]
    settings = {"steps": steps, "restarts": restarts, "seed": seed}
    threshold = float(predictor.reject.threshold)
    rows = _rows(experiment.task.with_calibration(predictor), threshold, batches, sorted(epsilon), settings)
    told = {"name": experiment.name, "images": len(split), "threshold": threshold, "score": experiment.score.__name__}
    clean(run, age=3600)
    with unfinished(run / "robustness") as folder:
        folder.mkdir()
        write_json(folder / "robustness.json", {**told, **settings, "rows": rows, "provenance": provenance()})
        figure = plots.robustness(rows, title=f"{experiment.name}: {len(split):,} test images")
        figure.savefig(folder / "robustness.png")
        move_all(folder, run)
    print(_table(rows), flush=True)
    blind = max((row["without_gradient"] for row in rows[1:]), default=0)
    if blind:
        print(f"Note: the gradient of {100 * blind:.1f} % of the images is 0, which no such attack can move.")
    return rows


def _check(run, predictor):
    spec = predictor.spec
    if spec.output != "image" or spec.positions:
        raise ValueError(
            f"Attacks are on models that give one class for each image. {run} answers with {spec.output!r}: no attack "
            "is written for pixels' classes, for boxes, or for sets of labels."
        )


def _rows(predictor, threshold, batches, epsilon, settings):
    """The row without attack, and one for each method, aim and epsilon; the predictor accepts everything."""
    plain = [predictor.predict(images) for images, _ in batches]
    rows = [{"method": "none", "aim": "none", "epsilon": 0.0, **_figures(threshold, batches, plain)}]
    objectives = {name: make(predictor) for name, make in AIMS.items()}
    for aim, objective in objectives.items():
        chosen = [_chosen(labels, aim) for _, labels in batches]
        if not any(inside.any() for inside in chosen):
            continue
        blind = _without_gradient(objective, batches, chosen)
        for method, change in (("fgsm", attacks.fgsm), ("pgd", attacks.pgd)):
            more = settings if method == "pgd" else {}
            for value in epsilon:
                attacked = [
                    _attack(predictor, change, objective, *given, 255 * value, more)
                    for given in zip(batches, plain, chosen, strict=True)
                ]
                figures = _figures(threshold, batches, attacked)
                rows.append({"method": method, "aim": aim, "epsilon": value, "without_gradient": blind, **figures})
    return rows


def _chosen(labels, aim):
    """Which images an aim changes."""
    return is_known(labels) if aim != "accept" else is_negative(labels) | (labels == UNKNOWN)


def _attack(predictor, change, objective, batch, answer, inside, radius, settings):
    """The answers for a batch, whose images `inside` are changed."""
    images, labels = batch
    if not inside.any():
        return answer
    found = predictor.predict(change(objective, images[inside], labels[inside], radius, **settings))
    merged = {name: answer[name].copy() for name in ("class_id", "score")}
    for name, values in merged.items():
        values[inside] = found[name]
    return merged


def _without_gradient(objective, batches, chosen):
    """Share of the images whose gradient is 0 everywhere, before any change."""
    still, number = 0, 0
    for (images, labels), inside in zip(batches, chosen, strict=True):
        if inside.any():
            slope = attacks.gradient(objective, images[inside], labels[inside]).numpy()
            still += int(np.count_nonzero(~slope.any(axis=(1, 2, 3))))
            number += len(slope)
    return still / number


def _figures(threshold, batches, answers):
    """All figures of answers: shares at the threshold with exact intervals, and those of `metrics.ExactScores`."""
    scores = ExactScores(threshold, samples=SAMPLES)
    for (_, labels), answer in zip(batches, answers, strict=True):
        scores.update(labels, answer["class_id"], answer["score"])
    figures, ends = {}, {}
    for name, (of, which, accepted) in SHARES.items():
        count, total = (scores.accepted if accepted else scores.totals)[which], scores.totals[of]
        figures[name], ends[name] = (count / total, _interval(count, total)) if total else (None, None)
    return {**figures, "intervals": ends, "open_set": scores.summary()}


def _interval(count, total, confidence=0.95):
    """The two-sided Clopper-Pearson interval of a share."""
    level = (1 + confidence) / 2
    low, high = (float(clopper_pearson_upper(k, total, level)) for k in (total - count, count))
    return [1 - low, high]


def _table(rows):
    """The figures that each attack is about, as Markdown."""
    lines = [["aim", "method", "epsilon", *SHARES, "AUROC unknown"]]
    for row in rows:
        auroc = row["open_set"].get("unknown", {}).get("auroc")
        shares = (metrics.cell(row[name], row["intervals"][name]) for name in SHARES)
        lines.append([row["aim"], row["method"], f"{row['epsilon']:g}", *shares, metrics.cell(auroc)])
    return metrics.align(lines)


def main(arguments=None):
    """Do what the command line says; also `cplus1-robustness`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="directory that train.py wrote")
    parser.add_argument("--epsilon", default="0.05,0.1,0.2,0.3", help="largest changes, on images in 0..1")
    parser.add_argument("--steps", type=int, default=10, help="of PGD from each start")
    parser.add_argument("--restarts", type=int, default=3, help="starts of PGD")
    parser.add_argument("--images", type=int, help="how many test images (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", help="dotted name of a function from a seed to data.Splits (default: the run's own)")
    parser.add_argument("--config", help="config of the run, where its config.json does not tell")
    given = vars(parser.parse_args(arguments))
    logging.set_verbosity(logging.WARNING)
    stop_on_signals()
    sys.path.insert(0, os.getcwd())  # where data of one's own may lie
    try:
        robustness(given.pop("run"), [float(text) for text in given.pop("epsilon").split(",")], **given)
    except KeyboardInterrupt:
        sys.exit("Not attacked: stopped.")
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"Not attacked. {error}")


if __name__ == "__main__":
    main()
