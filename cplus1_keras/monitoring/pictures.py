"""Pictures of the records of a pass, for whatever a label is of."""

import functools

import numpy as np

from cplus1_keras import metrics, plots
from cplus1_keras.labels import IGNORE


def draw(sample, curves, rays, projection, names, threshold, score_name):
    """Functions that draw a figure, by name.

    Args:
        sample: A `Sample`.
        curves: OSCR curves by group.
        rays: What `directions` gives.
        projection: A `Projection`.
        names: Names of the known classes.
        threshold: What a calibration would choose, or None.
        score_name: Name of the score.

    >>> from cplus1_keras.monitoring.sample import Sample
    >>> draw(Sample(["cat"]), {}, None, None, ["cat"], None, "log_odds")
    {}
    """
    found, made = sample.arrays(), {}
    if curves:
        made["oscr"] = lambda: plots.oscr(curves)
    if "features" in found:
        made["features"] = lambda: draw_features(found, rays, projection, names)
    if sample.mistakes:
        made["worst_mistakes"] = lambda: plots.mistakes(sample.mistakes)
    for number, record in enumerate(sample.images):
        more = record.more
        if np.ndim(record.labels) == 2 and "argmax" in more:
            answer = {"argmax": more["argmax"], "known_argmax": record.predictions, "score": record.scores}
            arguments = more["image"], record.labels, answer, names, threshold, score_name
            made[f"images/{number}"] = lambda arguments=arguments: plots.panels(*arguments)
        elif "objects" in more:
            made[f"images/{number}"] = functools.partial(draw_objects, more, threshold, names)
    shown = [record for record in sample.images if "cams" in record.more]
    if shown:
        made["activation_maps"] = lambda: draw_maps(shown, names)
    return made


def refuse(answer, threshold):
    """The answer for an image with objects, of which those with a score below a threshold are of no class."""
    if threshold is None:
        return answer
    return {**answer, "class_id": np.where(answer["score"] >= threshold, answer["class_id"], -1)}


def draw_objects(more, threshold, names):
    """The objects of an image beside what was found, with masks where there are any."""
    answer = refuse(more, threshold)
    if "masks" in more:
        answer = {**answer, "masks": metrics.decode_masks(more["masks"])}
    return plots.detections(more["image"], more["objects"], more["object_labels"], answer, names)


def draw_features(found, rays, projection, names):
    """Features in the plane by class, with what pulls them."""
    points, about = projection(found["features"]), {}
    if rays is not None and rays[1].shape[-1] == found["features"].shape[-1]:
        about = {"rays": projection(rays[1]), "rays_name": rays[0]}
    return plots.features(points, found["label"], names, **about)


def draw_maps(records, names, wrong=1):
    """Activation maps of the true classes of each image and of the strongest wrong one."""
    classes, parts = np.arange(len(names)), []
    for record in records:
        cams, labels = record.more["cams"], np.asarray(record.labels)
        if labels.ndim:
            truth = np.where(labels == classes, 1, np.where(labels == IGNORE, IGNORE, 0))
        else:
            truth = (classes == labels).astype(int)
        scores = cams[..., : len(names)].mean(axis=(0, 1))
        strongest = np.argsort(np.where(truth == 0, -scores, np.inf), kind="stable")[:wrong]
        present = (truth == 1) | (np.isin(classes, strongest) & (truth == 0))
        parts.append((record.more["image"], cams[..., : len(names)], present, scores, truth))
    images, cams, present, scores, truth = (np.stack(part) for part in zip(*parts, strict=True))
    return plots.activation_maps(images, cams, present, scores, names, truth)
