"""Pictures of segmentation: what the model sees, what it should say, what it says, and how sure it is."""

import keras
import numpy as np
from matplotlib.patches import Patch

from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN, nearest
from cplus1_keras.palettes import palette
from cplus1_keras.plots.style import INK, as_text, canvas, grid, to_pixels

UNKNOWN_COLOUR = (255, 0, 255)  # unknown in the truth, rejected in the prediction: they should coincide
IGNORED_COLOUR = (224, 224, 224)


def panels(image, labels, answer, class_names, threshold=None, score_name="log_odds", title=None):
    """Input, truth, prediction and a map of the unknown-score, side by side.

    Truth and prediction share their colours, those of `coloured`. The prediction shows a class where the score reaches
    the threshold; of the rejected pixels those are black whose largest logit is the background's. The map is bright
    where the score is low: what the model does not know.

    Args:
        image: (H, W, 1 or 3), pixels 0..255.
        labels: Integers (H, W) in the package's convention, or None if nobody knows.
        answer: Dict of arrays (H, W), `argmax`, `known_argmax` and `score`, as `Predictor.predict` gives for an image.
        class_names: Names of the known classes.
        threshold: Accept where score >= threshold, or None: the prediction is the largest logit's class then.
        score_name: Name of the score.
        title: Text above the pictures.

    >>> classes = np.zeros((4, 6), int)
    >>> answer = {"argmax": classes, "known_argmax": classes, "score": np.zeros((4, 6))}
    >>> figure = panels(np.zeros((4, 6, 3)), np.zeros((4, 6), int), answer, ["cat"], threshold=1.0)
    >>> [axes.get_title() for axes in figure.axes[:4]]
    ['input', 'truth', 'prediction', 'unknown (low log_odds)']
    """
    image = np.asarray(image)
    given = {} if labels is None else {"labels": np.asarray(labels)}
    given |= {name: np.asarray(answer[name]) for name in ("argmax", "score", "known_argmax")}
    segments, score, known = (given[name] for name in ("argmax", "score", "known_argmax"))
    if image.ndim != 3 or any(value.shape != image.shape[:2] for value in given.values()):
        came = ", ".join(f"{name} {value.shape}" for name, value in given.items())
        raise ValueError(f"All must be of the image's size, {image.shape[:2]} of {image.shape}. Received: {came}")
    number = len(class_names)
    predicted = np.where(segments == number, NEGATIVE, segments)
    if threshold is not None:
        predicted = np.where(score >= threshold, known, np.where(predicted >= 0, UNKNOWN, NEGATIVE))
    truth = {} if labels is None else {"truth": coloured(labels, number)}
    shown = {"input": to_pixels(image), **truth, "prediction": coloured(predicted, number)}
    columns, height = len(shown) + 1, 3.0 * image.shape[0] / image.shape[1] + 0.9
    figure, [[*plain, last]] = grid(3.0 * columns, max(height, 2.0), 1, columns)
    for axes, (name, pixels) in zip(plain, shown.items(), strict=True):
        axes.imshow(pixels, interpolation="nearest")
        axes.set_title(name, fontsize=10, color=INK)
    drawn = last.imshow(score, cmap="magma_r", interpolation="nearest", **_limits(score))
    last.set_title(f"unknown (low {score_name})", fontsize=10, color=INK)
    bar = figure.colorbar(drawn, ax=last, fraction=0.046, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    if threshold is not None and drawn.norm.vmin < threshold < drawn.norm.vmax:
        bar.ax.axhline(threshold, color=INK, linewidth=1.2)
    for axes in (*plain, last):
        axes.set_axis_off()
    present = set(np.unique(predicted)) | (set() if labels is None else set(np.unique(labels)))
    handles = _legend(class_names, present)
    style = {"loc": "outside lower center", "fontsize": 8, "frameon": False}
    figure.legend(handles=handles, ncols=min(len(handles), 8), **style)
    if title:
        figure.suptitle(title, fontsize=11, color=INK)
    return as_text(figure)


def coloured(labels, num_classes):
    """Labels (...) as colours (..., 3), uint8: the background black, unknown magenta, ignored grey.

    >>> coloured([-1, 0, -2], 1).tolist()
    [[0, 0, 0], [128, 0, 0], [255, 0, 255]]
    """
    labels = np.asarray(labels)
    colours = np.concatenate([palette(num_classes), [UNKNOWN_COLOUR, IGNORED_COLOUR]]).astype("uint8")
    rows = np.where(labels == UNKNOWN, num_classes + 1, np.where(labels == IGNORE, num_classes + 2, labels + 1))
    return colours[rows]


def pixel_features(features, labels, class_names, limit=300, seed=0, title=None):
    """The features of pixels in two dimensions, coloured by label: Figure 2 of the C+1 paper.

    More than two dimensions are projected on the two principal directions, whose axes tell their share of the variance.

    Args:
        features: (N, h, w, K), of a head; or (M, K).
        labels: Integers (N, H, W), taken at the features' cells by nearest neighbour; or (M,).
        class_names: Names of the known classes.
        limit: Number of cells of each label to draw, at most; drawn by lot.
        seed: Of the lot.
        title: Text above the axes.

    >>> figure = pixel_features(np.random.default_rng(0).normal(size=(1, 4, 4, 5)), np.zeros((1, 8, 8), int), ["cat"])
    >>> figure.axes[0].get_legend().get_texts()[0].get_text()
    'cat'
    """
    features, labels = np.asarray(features), np.asarray(labels)
    if features.ndim == 4 and labels.ndim == 3 and len(features) == len(labels):
        labels = np.asarray(keras.ops.convert_to_numpy(nearest(labels, features)))
    if labels.shape != features.shape[:-1] or features.shape[-1] < 2:
        needed = "Needs features (N, h, w, K) and labels (N, H, W), or (M, K) and (M,), K at least 2"
        raise ValueError(f"{needed}. Received: {features.shape} and {labels.shape}")
    features, labels = features.reshape(-1, features.shape[-1]).astype("float64"), labels.reshape(-1)
    generator = np.random.default_rng(seed)
    values = [value for value in (*range(len(class_names)), NEGATIVE, UNKNOWN) if (labels == value).any()]
    if not values:
        raise ValueError("There is no pixel with a label to draw.")
    cells = [np.flatnonzero(labels == value) for value in values]
    chosen = [generator.choice(places, min(limit, len(places)), replace=False) for places in cells]
    points, names = plane(features[np.concatenate(chosen)])
    figure, axes = canvas(6.4, 5.0)
    colours = coloured(values, len(class_names)) / 255
    ends = np.cumsum([len(places) for places in chosen])[:-1]
    for value, colour, part in zip(values, colours, np.split(points, ends), strict=True):
        name = {NEGATIVE: "background", UNKNOWN: "unknown"}.get(value) or class_names[value]
        axes.scatter(*part.T, s=7, color=colour, label=name, alpha=0.6, linewidths=0)
    axes.set(xlabel=names[0], ylabel=names[1], title=title)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, markerscale=2.5, fontsize=8)
    return as_text(figure)


def plane(features):
    """Features (M, K) as points (M, 2) and the names of their axes: as they are, or by PCA where K > 2."""
    if features.shape[-1] == 2:
        return features, ("feature 1", "feature 2")
    from sklearn.decomposition import PCA  # a second to import

    points, shares = np.zeros((len(features), 2)), np.zeros(2)
    if np.ptp(features, axis=0).any():
        analysis = PCA(min(2, *features.shape)).fit(features)
        number = analysis.n_components_
        points[:, :number], shares[:number] = analysis.transform(features), analysis.explained_variance_ratio_
    names = tuple(f"principal direction {i} ({100 * share:.0f} % of the variance)" for i, share in enumerate(shares, 1))
    return points, names


def _limits(score):
    """Ends of the scale: without the 1 % of pixels on either side, which would make the rest look alike."""
    finite = score[np.isfinite(score)]
    low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 0.0)
    return {"vmin": low, "vmax": high if high > low else low + 1}


def _legend(class_names, present):
    named = dict(enumerate(class_names))
    named |= {NEGATIVE: "background", UNKNOWN: "unknown or rejected", IGNORE: "ignored"}
    shown = [label for label in named if label in present]
    colours = zip(shown, coloured(shown, len(class_names)) / 255, strict=True)
    return [Patch(facecolor=colour, edgecolor=INK, linewidth=0.5, label=named[label]) for label, colour in colours]
