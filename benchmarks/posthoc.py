"""Which score is best for which loss: the scores of the package on real images, by strangers near and far.

    python benchmarks/posthoc.py --set epochs=15                                           the digits
    python benchmarks/posthoc.py --config cifar10_small --data FOLDER --set data_dir=FOLDER
    python benchmarks/posthoc.py --config tiny_imagenet --data FOLDER

One network for each loss and seed; every score reads the same outputs. Fitted ones learn from the knowns that trained
the network, a temperature from the knowns of the calibration split. Strangers are the unknowns of the test split and,
for images in colour, 1,000 handwritten letters, as many Japanese characters and as many of Omniglot's from the folder
--data. Cells are means
over the seeds with the half-width of their 95 % interval (Student's t); + or - says that the difference to `log_odds`
on the same networks, seed by seed, has such an interval above or below 0. A score that needs a Dense layer at the end
has none with cosine heads. Results are kept run by run: what was stopped goes on.
"""

import argparse
import dataclasses
import functools
import json
import pathlib
import tempfile
import time
import zipfile

import comparison
import keras
import numpy as np
from scipy import stats

from cplus1_keras import backbones, configs, data, losses, metrics, models, posthoc, scores
from cplus1_keras.configs.families import families
from cplus1_keras.experiment import Experiment
from cplus1_keras.models.parts import take_apart
from cplus1_keras.provenance import as_sentence, provenance, write_json
from cplus1_keras.tasks import Classification

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
FAR = 1000  # images of each kind of strangers that are no part of the data set


def pooled_cnn(shape):
    """A net whose features are averages of rectified maps, as those of the ResNets that the scores were made for."""
    images = keras.Input(shape, name="images")
    maps = backbones.small_cnn(shape, filters=(32, 64, 128, 128), strides=(2, 2, 1, 2), pool=False)(images)
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(maps))


def tiny_imagenet(seed, images, protocols):
    """Protocol P3 of Tiny ImageNet: 15 classes known, 12 negative, 35 unknown; 64 x 64 pixels."""
    train, more, test = (data.sources.csv(protocols / f"p3_{part}.csv", images) for part in ("train", "val", "test"))
    return data.split(data.sources.csv_protocol(train), data.concatenate(train, more), test, seed=seed)


TINY = Experiment(
    name="tiny_imagenet",
    task=Classification(augment=data.augment.chain(data.augment.random_crop(padding=4), data.augment.random_flip())),
    data=tiny_imagenet,
    model=models.classifier,
    loss=losses.CrossEntropyLoss(),
    optimizer=keras.optimizers.Adam,
    learning_rate=2e-3,
    epochs=25,
    batch_size=32,
)


def find(config, settings, folder, images):
    """The experiment of a data set, whose loss and head are still to come, its net, and the shape of its images."""
    if config != "tiny_imagenet":
        base = configs.resolve(config, settings)
        shape = None if config == "digits" else (32, 32, 3)
        return base, functools.partial(pooled_cnn, shape) if shape else base.model.keywords["backbone"], shape
    root, shape = folder / "tiny_imagenet_openset", (64, 64, 3)
    with zipfile.ZipFile(root / "tiny_imagenet_openset.zip") as file:
        file.extractall(images)
    splits = functools.partial(tiny_imagenet, images=images, protocols=root)
    return dataclasses.replace(TINY, data=splits), functools.partial(pooled_cnn, shape), shape


def far_strangers(folder, shape):
    """Images of other kinds by name, uint8, brought to a shape; none for the digits, which letters resemble."""
    if shape is None:
        return {}
    with np.load(folder / "nist_letters" / "nist_letters_28x28.npz") as file:
        letters = file["x_train"]
    with np.load(folder / "kmnist_test" / "kmnist-test-imgs.npz") as file:
        characters = file["arr_0"]
    with np.load(folder / "omniglot_small" / "omniglot_small_28x28.npz") as file:
        alphabets = file["x"]
    found, generator = {}, np.random.default_rng(0)
    for name, images in (("letters", letters), ("kuzushiji", characters), ("omniglot", alphabets)):
        drawn = images[generator.choice(len(images), FAR, replace=False)]
        found[name] = data.preprocess(drawn[..., None], shape[:2], shape[2]).numpy()
    return found


def outputs(predictor, split):
    images = np.stack([example["image"] for example in split.dataset().as_numpy_iterator()])
    return predictor.outputs(images)


def judge(experiment, splits, far):
    """Figures of every score for one training: {score: {strangers: {figure: value}}}, and the accuracy."""
    model, *_ = comparison.train(experiment, splits)
    predictor, number = experiment.task.predictor(model, scores.log_odds, splits), splits.num_classes
    train, held, test = (outputs(predictor, part) for part in (splits.train, splits.calibration, splits.test))
    asked = {"test": test, **{name: predictor.outputs(images) for name, images in far.items()}}
    classifier = take_apart(model)[1]
    rate = {name: functools.partial(lambda own, score: score(own, number), score=scores.get(name)) for name in PLAIN}
    for name, kind in FITTED.items():
        score, known, labels = kind(), train, splits.train.labels
        if name == "temperature":
            known, labels = held, splits.calibration.labels
        try:
            score.fit([(known, labels)], number, classifier)
        except ValueError as error:
            print(f"{name}: {error}")
            continue
        rate[name] = score
    labels, predictions = splits.test.labels, np.argmax(test["logits"][:, :number], axis=-1)
    rows = {}
    for name, score in rate.items():
        values = {kind: keras.ops.convert_to_numpy(score(own)) for kind, own in asked.items()}
        rows[name] = {"unknown": figures(labels, predictions, values["test"])}
        known = labels >= 0
        for kind in far:
            every = np.concatenate([labels[known], np.full(FAR, -2)])
            both = np.concatenate([values["test"][known], values[kind]])
            rows[name][kind] = figures(every, np.append(predictions[known], np.zeros(FAR, int)), both)
    return rows, float(metrics.closed_set_accuracy(labels, predictions))


def figures(labels, predictions, values):
    ccr = metrics.ccr_at_fpr(labels, predictions, values, 0.1, "unknown")
    return {"auroc": float(metrics.auroc(labels, values, "unknown")), "ccr": float(ccr)}


def table(results, figure, kind="unknown"):
    """Markdown: a row for each score, a column for each loss; the best mean of a column is bold."""
    runs = {loss: [run["scores"] for run in by_seed.values()] for loss, by_seed in results.items()}
    names = [name for name in (*PLAIN, *FITTED) if any(name in run for own in runs.values() for run in own)]
    values = {(n, loss): [run[n][kind][figure] for run in own if n in run] for loss, own in runs.items() for n in names}
    lines = [f"| score, {FIGURES[figure]} | " + " | ".join(results) + " |", "|---" * (len(results) + 1) + "|"]
    best = {loss: max(np.mean(values[name, loss] or [0]) for name in names) for loss in results}
    for name in names:
        cells = []
        for loss in results:
            own, base = values[name, loss], values["log_odds", loss]
            text = comparison.spread(own) if own else ""
            if own and name != "log_odds":
                text += sign([one - other for one, other in zip(own, base, strict=True)])
            cells.append(f"**{text}**" if own and np.mean(own) == best[loss] else text)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def sign(differences):
    """ " +" or " -" where the 95 % interval of the mean difference (Student's t) lies above or below 0, else ""."""
    if len(differences) < 2 or np.ptp(differences) == 0:
        return ""
    low, high = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    return " +" if low > 0 else " -" if high < 0 else ""


def compare(arguments, images):
    """Run what the results do not hold yet, and return them all: {loss: {seed: run}}."""
    output, named = arguments.output, arguments.losses.split(",")
    asked = {"config": arguments.config, "settings": arguments.settings}
    record = {**asked, "results": {}}
    if output.is_file():
        record = json.loads(output.read_text(encoding="utf-8"))
        if {name: record[name] for name in asked} != asked:
            raise SystemExit(
                f"{output} holds other settings, {record['settings']}. Remove it or name another --output."
            )
    for loss in named:
        record["results"].setdefault(loss, {})
    base, net, shape = find(arguments.config, arguments.settings, arguments.data, images)
    far = far_strangers(arguments.data, shape)
    for seed in range(arguments.seeds):
        splits = None
        for loss in named:
            if str(seed) in record["results"][loss]:
                continue
            splits = splits or base.data(seed)
            family = families(splits.num_classes, 32 if shape is None else 128)[loss]
            model = functools.partial(models.classifier, backbone=net, head=family.head)
            experiment = dataclasses.replace(base, seed=seed, model=model, loss=family.loss)
            start, cpu = time.perf_counter(), time.process_time()
            rows, accuracy = judge(experiment, splits, far)
            taken = {
                "seconds": round(time.perf_counter() - start, 1),
                "cpu_seconds": round(time.process_time() - cpu, 1),
            }
            done = {"scores": rows, "accuracy": accuracy, **taken, "provenance": provenance()}
            record["results"][loss][str(seed)] = done
            write_json(output, record)
            told = {name: [round(row[kind]["auroc"], 3) for kind in row] for name, row in rows.items()}
            print(seed, loss, round(accuracy, 3), taken, told, flush=True)
            keras.backend.clear_session()
    results = {loss: record["results"][loss] for loss in named}
    done = [run["scores"]["log_odds"] for by_seed in results.values() for run in by_seed.values()]
    return results, [kind for kind in far if all(kind in run for run in done)]  # runs of before have fewer kinds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=("digits", "cifar10_small", "tiny_imagenet"), default="digits")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path(), help="folder of letters and Tiny ImageNet")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--losses", default=",".join(LOSSES))
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="NAME=VALUE")
    parser.add_argument("--output", type=pathlib.Path, help="default: docs/results/posthoc_CONFIG.json")
    arguments = parser.parse_args()
    arguments.output = arguments.output or pathlib.Path(f"docs/results/posthoc_{arguments.config}.json")
    keras.utils.disable_interactive_logging()
    with tempfile.TemporaryDirectory() as images:
        results, far = compare(arguments, pathlib.Path(images))
    parts = [table(results, figure) for figure in FIGURES] if not far else [table(results, "auroc")]
    parts += [f"Strangers: {kind}.\n\n{table(results, 'auroc', kind)}" for kind in far]
    last = [*[*results.values()][-1].values()][-1]["provenance"]
    arguments.output.with_suffix(".md").write_text("\n\n".join([*parts, as_sentence(last)]) + "\n", encoding="utf-8")
    print(*parts, sep="\n\n")


if __name__ == "__main__":
    main()
