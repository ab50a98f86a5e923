"""The figures of one training for the papers' tables: closed set, open set, under attack, and data of curves."""

import numpy as np

from cplus1_keras import attacks
from cplus1_keras.labels import is_known
from cplus1_keras.metrics import ExactScores, counting
from cplus1_keras.monitoring.geometry import directions
from cplus1_keras.serving import guards

FPRS = (0.001, 0.01, 0.1)
PGD_IMAGES = 500
GRID = np.logspace(-4, 0, 41)
BINS = np.linspace(0, 180, 61)


def judge(model, experiment, splits, table):
    """`accuracy`, `unknown` and `negative`, `fpr_unknown`, and what the table asks for beside them."""
    task = experiment.task
    every = task.predictor(model, experiment.score, splits)
    scores = ExactScores(task.calibrate(every, splits.calibration, experiment).threshold, samples=0)
    for record in task.records(every, splits.test, experiment):
        scores.update(record.labels, record.predictions, record.scores)
    labels, predictions, _ = scores.arrays
    known = labels >= 0
    figures = {"accuracy": float(np.mean(predictions[known] == labels[known])), **scores.summary(FPRS)}
    if "unknown" in scores.groups:
        figures["fpr_unknown"] = scores.at_threshold()["fpr_unknown"]
    if table.curves:
        figures |= {"oscr": {group: _curve(scores, group) for group in scores.groups}}
        figures |= {"angles": _angles(model, every, experiment, splits)}
    if table.epsilon:
        figures |= _attack(every, experiment, splits, table)
    return figures


def _curve(scores, group):
    """CCR at each FPR of `GRID`, None where no threshold reaches it."""
    found = counting.ccr_at_fpr(scores.curve(group), GRID)
    return [None if np.isnan(value) else round(float(value), 4) for value in found]


def _angles(model, predictor, experiment, splits):
    """Images in each of `BINS` of degrees: of knowns to their own class, of others to the nearest."""
    found = directions(model)
    if found is None:
        return {}
    counts = {}
    for images, labels in experiment.task.images(predictor, splits.test, experiment):
        labels = labels.numpy()
        features = guards.infer(predictor.network, images)["features"].numpy()
        own = measure_angles(features, found[1], labels)
        for name, chosen in (("known", labels >= 0), ("negative", labels == -1), ("unknown", labels == -2)):
            counts[name] = counts.get(name, 0) + np.histogram(own[chosen], BINS)[0]
    return {name: values.tolist() for name, values in counts.items() if values.any()}


def measure_angles(features, rays, labels):
    """Degrees between features (n, K) and the rays (C, K): of knowns their own class's, of others the nearest."""
    features, rays = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (features, rays))
    degrees = np.degrees(np.arccos(np.clip(features @ rays.T, -1, 1)))
    return np.where(labels >= 0, degrees[np.arange(len(labels)), np.maximum(labels, 0)], degrees.min(axis=1))


def _attack(predictor, experiment, splits, table):
    """Accuracy under attack, by method and epsilon on images in 0..1; PGD on the first `PGD_IMAGES` images."""
    objective, right = attacks.mistake(predictor), {}
    methods = {"fgsm": (attacks.fgsm, table.epsilon, np.inf), "pgd": (attacks.pgd, table.pgd, PGD_IMAGES)}
    for name, (attack, epsilons, limit) in methods.items():
        seen = 0
        for images, labels in experiment.task.images(predictor, splits.test, experiment):
            if seen >= limit:
                break
            images, labels = images.numpy(), labels.numpy()
            images, labels = images[is_known(labels)], labels[is_known(labels)]
            seen += len(labels)
            for epsilon in epsilons:
                found = predictor.predict(attack(objective, images, labels, 255 * epsilon))["class_id"]
                right.setdefault(name, {}).setdefault(f"{epsilon:g}", []).extend((found == labels).tolist())
    return {name: {key: float(np.mean(values)) for key, values in own.items()} for name, own in right.items()}
