"""Pictures of segmentation: what the model sees, what it should say, what it says, and how sure it is."""

import keras
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN, nearest
from cplus1_keras.palettes import palette
from cplus1_keras.plots.style import INK, canvas

UNKNOWN_COLOUR = (255, 0, 255)
"""Of unknown pixels in the truth, and of rejected ones in the prediction: they should coincide."""

IGNORED_COLOUR = (224, 224, 224)
"""Of pixels that count for nothing."""

LEGEND_ROWS = 8


def panels(image, labels, answer, class_names, threshold=None, score_name="log_odds", title=None):
    """Input, truth, prediction and a map of the unknown-score, side by side.

    Truth and prediction share their colours: a colour for each class, black for the background, magenta for what is
    unknown or rejected, grey for what is ignored. The prediction shows a class where the score reaches the threshold,
    as `class_id` does; of the rejected pixels those are black whose largest logit is the background's. The map is
    bright where the score is low: what the model does not know.

    Args:
        image: (H, W, 1 or 3), pixels 0..255.
        labels: Integers (H, W) in the package's convention, or None if nobody knows.
        answer: Dict of arrays (H, W), `argmax`, `known_argmax` and `score`, as `Segmenter.predict` gives them, without
            the batch axis.
        class_names: Names of the known classes.
        threshold: Accept where score >= threshold, or None: the prediction is the largest logit's class then.
        score_name: Name of the score.
        title: Text above the pictures.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for arrays that differ in size.

    Example:

    >>> classes = np.zeros((4, 6), int)
    >>> answer = {"argmax": classes, "known_argmax": classes, "score": np.zeros((4, 6))}
    >>> figure = panels(np.zeros((4, 6, 3)), np.zeros((4, 6), int), answer, ["cat"], threshold=1.0)
    >>> [axes.get_title() for axes in figure.axes[:4]]
    ['input', 'truth', 'prediction', 'unknown (low log_odds)']
    """
    image, score, segments = np.asarray(image), np.asarray(answer["score"]), np.asarray(answer["argmax"])
    known = np.asarray(answer["known_argmax"])
    given = {"labels": score if labels is None else np.asarray(labels), "argmax": segments, "score": score}
    given["known_argmax"] = known
    if image.ndim != 3 or any(value.shape != image.shape[:2] for value in given.values()):
        came = ", ".join(f"{name} {value.shape}" for name, value in given.items())
        raise ValueError(f"All must be of the image's size, {image.shape[:2]} of {image.shape}. Received: {came}")
    number = len(class_names)
    predicted = np.where(segments == number, NEGATIVE, segments)
    if threshold is not None:
        predicted = np.where(score >= threshold, known, np.where(predicted >= 0, UNKNOWN, NEGATIVE))
    shown = {"input": _grey_as_colour(image)}
    if labels is not None:
        shown["truth"] = coloured(labels, number)
    shown["prediction"] = coloured(predicted, number)
    width, height = 3.0 * (len(shown) + 1), 3.0 * image.shape[0] / image.shape[1] + 0.9
    figure = Figure(figsize=(width, max(height, 2.0)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    *plain, last = figure.subplots(1, len(shown) + 1)
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
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(handles), LEGEND_ROWS), fontsize=8, frameon=False
    )
    if title:
        figure.suptitle(title, fontsize=11, color=INK)
    return figure


def coloured(labels, num_classes):
    """Labels as a picture.

    Args:
        labels: Integers (...) in the package's convention.
        num_classes: C.

    Returns:
        (..., 3) uint8.

    Example:

    >>> coloured([-1, 0, -2], 1).tolist()
    [[0, 0, 0], [128, 0, 0], [255, 0, 255]]
    """
    labels = np.asarray(labels)
    colours = np.concatenate([palette(num_classes), [UNKNOWN_COLOUR, IGNORED_COLOUR]]).astype("uint8")
    rows = np.where(labels == UNKNOWN, num_classes + 1, np.where(labels == IGNORE, num_classes + 2, labels + 1))
    return colours[rows]


def pixel_features(features, labels, class_names, limit=300, seed=0, title=None):
    """The features of pixels in two dimensions, coloured by label: Figure 2 of the C+1 paper.

    Features of two dimensions are drawn as they are; more are projected on their two principal directions, of which the
    axes tell the share of the variance.

    Args:
        features: (N, h, w, K), of a head; or (M, K).
        labels: Integers (N, H, W), taken at the features' cells by nearest neighbour; or (M,).
        class_names: Names of the known classes.
        limit: Number of cells of each label to draw, at most; drawn by lot.
        seed: Of the lot.
        title: Text above the axes.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: for features of one dimension, as many labels as do not fit, or no label at all.

    Example:

    >>> figure = pixel_features(np.random.default_rng(0).normal(size=(1, 4, 4, 5)), np.zeros((1, 8, 8), int), ["cat"])
    >>> figure.axes[0].get_legend().get_texts()[0].get_text()
    'cat'

    Reference: C+1 paper, Figure 2.
    """
    features, labels = np.asarray(features), np.asarray(labels)
    if features.ndim == 4 and labels.ndim == 3 and len(features) == len(labels):
        labels = np.asarray(keras.ops.convert_to_numpy(nearest(labels, features)))
    if labels.shape != features.shape[:-1] or features.shape[-1] < 2:
        raise ValueError(
            "Needs features (N, h, w, K) and labels (N, H, W), or (M, K) and (M,), K at least 2. "
            f"Received: {features.shape} and {labels.shape}"
        )
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
    return figure


def plane(features):
    """Features (M, K) in two dimensions, K >= 2: as they are, or along the two directions of most variance (PCA).

    Returns:
        Pair of the points (M, 2) and the names of their axes.

    >>> points, names = plane(np.diag([4.0, 2.0, 0.0]))
    >>> points.shape, names
    ((3, 2), ('principal direction 1 (86 % of the variance)', 'principal direction 2 (14 % of the variance)'))
    """
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


def _grey_as_colour(image):
    pixels = np.clip(np.round(image), 0, 255).astype("uint8")
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels


def _limits(score):
    """Ends of the scale: without the 1 % of pixels on either side, which would make the rest look alike."""
    finite = score[np.isfinite(score)]
    low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 0.0)
    return {"vmin": low, "vmax": high if high > low else low + 1}


def _legend(class_names, present):
    named = {k: name for k, name in enumerate(class_names)} | {NEGATIVE: "background", UNKNOWN: "unknown or rejected"}
    named[IGNORE] = "ignored"
    colours = coloured([*named], len(class_names)) / 255
    drawn = zip(named.items(), colours, strict=True)
    return [
        Patch(facecolor=colour, edgecolor=INK, linewidth=0.5, label=name)
        for (label, name), colour in drawn
        if label in present
    ]
