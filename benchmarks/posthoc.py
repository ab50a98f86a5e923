"""Which score is best for which loss: the scores of the package on the digits, by the unknowns of the test split.

    python benchmarks/posthoc.py --seeds 5

One network for each loss and seed; every score reads the same outputs. Fitted ones learn from the knowns that trained
the network, a temperature from the knowns of the calibration split. Cells are means over the seeds with the half-width
of their 95 % interval (Student's t); a score that needs a Dense layer at the end has none with cosine heads.
"""

import argparse
import dataclasses
import functools
import pathlib

import comparison
import keras
import numpy as np

from cplus1_keras import configs, metrics, models, posthoc, scores
from cplus1_keras.configs.families import families
from cplus1_keras.models.parts import take_apart
from cplus1_keras.provenance import as_sentence, provenance, write_json

LOSSES = ("softmax", "entropic", "objectosphere", "cosface", "arcface")
FITTED = {
    "temperature": posthoc.Temperature,
    "gen": posthoc.GEN,
    "class_means": posthoc.ClassMeans,
    "mahalanobis": posthoc.Mahalanobis,
    "relative_mahalanobis": posthoc.RelativeMahalanobis,
    "nearest_neighbors": posthoc.NearestNeighbors,
    "openmax": posthoc.OpenMax,
    "vim": posthoc.ViM,
    "react": posthoc.ReAct,
    "ash_p": posthoc.ASHPrune,
    "ash_b": posthoc.ASHBinarize,
    "ash_s": posthoc.ASHScale,
}
PLAIN = ("max_probability", "log_odds", "max_logit", "probability_times_magnitude", "energy")
FIGURES = {"auroc": "AUROC", "ccr": "CCR at FPR 10 %"}


def outputs(predictor, split):
    images = np.stack([example["image"] for example in split.dataset().as_numpy_iterator()])
    return predictor.outputs(images)


def judge(experiment, splits):
    """Figures of every score for one training: {score: {figure: value}}."""
    model, *_ = comparison.train(experiment, splits)
    predictor, number = experiment.task.predictor(model, scores.log_odds, splits), splits.num_classes
    train, held, test = (outputs(predictor, part) for part in (splits.train, splits.calibration, splits.test))
    classifier = take_apart(model)[1]
    found = {name: scores.get(name)(test, number) for name in PLAIN}
    for name, kind in FITTED.items():
        score, known, labels = kind(), train, splits.train.labels
        if name == "temperature":
            known, labels = held, splits.calibration.labels
        try:
            score.fit([(known, labels)], number, classifier)
        except ValueError as error:
            print(f"{name}: {error}")
            continue
        found[name] = score(test)
    labels, predictions = splits.test.labels, np.argmax(test["logits"][:, :number], axis=-1)
    rows = {}
    for name, values in found.items():
        values = keras.ops.convert_to_numpy(values)
        ccr = metrics.ccr_at_fpr(labels, predictions, values, 0.1, "unknown")
        rows[name] = {"auroc": float(metrics.auroc(labels, values, "unknown")), "ccr": float(ccr)}
    return rows


def table(results, figure):
    """Markdown: a row for each score, a column for each loss; the best of a column is bold."""
    names = [name for name in (*PLAIN, *FITTED) if any(name in runs[0] for runs in results.values())]
    values = {
        (name, loss): [run[name][figure] for run in runs if name in run]
        for loss, runs in results.items()
        for name in names
    }
    lines = [f"| score, {FIGURES[figure]} | " + " | ".join(results) + " |", "|---" * (len(results) + 1) + "|"]
    best = {loss: max(np.mean(values[name, loss] or [0]) for name in names) for loss in results}
    for name in names:
        cells = []
        for loss in results:
            own = values[name, loss]
            text = comparison.spread(own) if own else ""
            cells.append(f"**{text}**" if own and np.mean(own) == best[loss] else text)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--losses", default=",".join(LOSSES))
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="NAME=VALUE")
    parser.add_argument("--output", default="docs/results/posthoc.json")
    arguments = parser.parse_args()
    keras.utils.disable_interactive_logging()
    results = {loss: [] for loss in arguments.losses.split(",")}
    for seed in range(arguments.seeds):
        base = dataclasses.replace(configs.resolve("digits", arguments.settings), seed=seed)
        splits, net = base.data(seed), base.model.keywords["backbone"]
        for loss, runs in results.items():
            family = families(splits.num_classes, 32)[loss]
            model = functools.partial(models.classifier, backbone=net, head=family.head)
            runs.append(judge(dataclasses.replace(base, model=model, loss=family.loss), splits))
            print(seed, loss, {name: round(row["auroc"], 3) for name, row in runs[-1].items()}, flush=True)
    output, origin = pathlib.Path(arguments.output), provenance()
    write_json(output, {"settings": arguments.settings, "results": results, **origin})
    text = "\n\n".join(table(results, figure) for figure in FIGURES)
    output.with_suffix(".md").write_text(f"{text}\n\n{as_sentence(origin)}\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
