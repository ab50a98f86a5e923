"""Figures by class: angles to their centres, norms of their weights, what becomes of them at a threshold."""

import itertools

import numpy as np
from matplotlib.ticker import PercentFormatter

from cplus1_keras.labels import NEGATIVE, UNKNOWN
from cplus1_keras.plots.style import COLOURS, INK, PALE, ROLES, as_text, canvas

REJECTED = "unknown"
LARGEST = 12
"""Classes of a confusion matrix whose cells have numbers."""


def angle_distributions(labels, angles, scale=None, num_classes=None, margin=None, bins=60, title=None):
    """Histograms of angles between features and the weights of classes, with the probability that an angle stands for.

        p(θ) = e^{s cos θ} / (e^{s cos θ} + C - 1)

    if all other classes are at right angles. With a margin, the dashed curve has what the margin makes of cos θ.

    Args:
        labels: Integers (n,) in the package's convention.
        angles: (n,), radians: of knowns to their own class, of strangers to the nearest one.
        scale: s > 0, or None for no curve.
        num_classes: C.
        margin: Function from angles to what takes the place of the cosine, like `lambda x: np.cos(x) - 0.35`, or None.
        bins: Number of bins in [0, π].
        title: Text above the axes.

    >>> figure = angle_distributions([0, -1], [0.2, 1.4], scale=10.0, num_classes=2)
    >>> print(figure.axes[1].lines[0].get_ydata()[0].round(6))
    0.999955

    Reference: thesis 2023, Eq 3.10, Figures 6.6, 6.8, 6.10; Zhang et al., AdaCos, CVPR 2019.
    """
    labels, angles = np.asarray(labels), np.asarray(angles, "float64")
    if labels.shape != angles.shape or ((angles < 0) | (angles > np.pi)).any():
        raise ValueError(f"An angle in [0, π] for each label, in radians. Received: {labels.shape}, {angles.shape}")
    figure, axes = canvas(6.4, 3.8)
    edges = np.linspace(0, np.pi, bins + 1)
    for (name, colour), kind in zip(ROLES.items(), (labels >= 0, labels == NEGATIVE, labels == UNKNOWN), strict=True):
        if kind.any():
            density, _ = np.histogram(angles[kind], edges, density=True)
            axes.stairs(density, edges, fill=True, color=colour, alpha=0.22)
            axes.stairs(density, edges, color=colour, linewidth=1.6, label=name)
    axes.set(xlim=(0, np.pi), xlabel="angle in radians", ylabel="density", title=title)
    axes.set_xticks(np.pi * np.arange(5) / 4, ["0", "π/4", "π/2", "3π/4", "π"])
    if scale is not None:
        other = axes.twinx()
        theta = np.linspace(0, np.pi, 181)
        for function, dash, name in ((np.cos, "-", "probability"), (margin, "--", "with the margin")):
            if function is not None:
                p = 1 / (1 + (num_classes - 1) * np.exp(-scale * function(theta)))
                other.plot(theta, p, dash, color=INK, linewidth=1.4, label=name)
        other.set(ylim=(0, 1.02), ylabel="probability of the class")
        other.spines["top"].set_visible(False)
        other.legend(loc="center right", framealpha=0.9, edgecolor=PALE)
    axes.legend(loc="upper right", framealpha=0.9, edgecolor=PALE)
    return as_text(figure)


def weight_norms(norms, counts, title=None):
    """Norms of the weights of each class, the most frequent class first.

    Args:
        norms: `{method: (C,)}`.
        counts: Training samples of each class (C,).
        title: Text above the axes.

    >>> figure = weight_norms({"softmax": [1.0, 3.0, 2.0]}, [5, 90, 20])
    >>> print(*figure.axes[0].lines[0].get_ydata())
    3.0 2.0 1.0

    Reference: Wang et al., C2AM, CVPR 2022, Figure 1 (a).
    """
    counts = np.asarray(counts)
    order = np.argsort(-counts, kind="stable")
    figure, axes = canvas(6.4, 3.8)
    for (name, own), colour, marker in zip(
        norms.items(), itertools.cycle(COLOURS), itertools.cycle("os^D"), strict=False
    ):
        own = np.asarray(own, "float64")
        if own.shape != counts.shape:
            raise ValueError(f"{name!r} needs a norm for each of {counts.size} classes. Received: {own.shape}")
        axes.plot(np.arange(counts.size), own[order], color=colour, marker=marker, markersize=4, label=name)
    axes.set(xlabel="class by frequency, the most frequent first", ylabel="norm of its weight", title=title)
    axes.set_ylim(0, None)
    other = axes.twinx()
    other.plot(np.arange(counts.size), counts[order], ":", color=INK, linewidth=1.2)
    other.set(yscale="log", ylabel="training samples (dotted)")
    other.spines["top"].set_visible(False)
    axes.grid(True, axis="y", color=PALE)
    axes.legend(loc="best", framealpha=0.9, edgecolor=PALE)
    return as_text(figure)


def reliability(confidences, right, bins=10, title=None):
    """Reliability diagram: how often answers of a confidence are right, and the expected calibration error.

        ECE = sum_b n_b / n |mean of right - mean confidence|

    Args:
        confidences: (n,) in [0, 1].
        right: Booleans (n,).
        bins: Number of bins of equal width.
        title: Text above the axes; the error is told beneath it.

    >>> figure = reliability([0.9, 0.9, 0.6], [True, False, True])
    >>> figure.axes[0].get_title()
    'expected calibration error 0.400'

    Reference: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, Eq 3.
    """
    confidences, right = np.asarray(confidences, "float64"), np.asarray(right, "float64")
    if confidences.shape != right.shape or not confidences.size or ((confidences < 0) | (confidences > 1)).any():
        raise ValueError(f"Confidences in [0, 1], each right or not. Received: {confidences.shape}, {right.shape}")
    places = np.minimum((confidences * bins).astype(int), bins - 1)
    counts = np.bincount(places, minlength=bins)
    sums = (np.bincount(places, own, bins) for own in (right, confidences))
    accuracy, mean = (own / np.maximum(counts, 1) for own in sums)
    error = float((counts * np.abs(accuracy - mean)).sum() / counts.sum())
    figure, axes = canvas(4.6, 4.4)
    there, middle = counts > 0, (np.arange(bins) + 0.5) / bins
    axes.bar(middle[there], accuracy[there], width=0.92 / bins, color=COLOURS[0], alpha=0.75, label="right")
    axes.plot(mean[there], accuracy[there], "o", color=INK, markersize=4, label="at the mean confidence")
    axes.plot([0, 1], [0, 1], "--", color=INK, linewidth=1.0)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="share that is right")
    axes.set_title("\n".join(filter(None, (title, f"expected calibration error {error:.3f}"))), fontsize=10)
    axes.legend(loc="upper left", framealpha=0.9, edgecolor=PALE)
    return as_text(figure)


def confusion(labels, predictions, scores, threshold, class_names, title=None):
    """Confusion matrix with a column for what is refused: the share of each true class that gets each answer.

    Args:
        labels: Integers (n,) in the package's convention.
        predictions: Classes (n,), before any rejection.
        scores: (n,), accepted where score >= threshold.
        threshold: A number.
        class_names: Names of the C known classes.
        title: Text above the matrix.

    >>> figure = confusion([0, 0, -2], [0, 0, 0], [3.0, 1.0, 2.5], 2.0, ["cat"])
    >>> figure.axes[0].images[0].get_array().tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    labels, predictions, scores = np.asarray(labels), np.asarray(predictions), np.asarray(scores)
    number = len(class_names)
    answers = np.where(scores >= threshold, predictions, number)
    kinds = [*range(number), NEGATIVE, UNKNOWN]
    rows = {
        kind: np.bincount(answers[labels == kind], minlength=number + 1) for kind in kinds if (labels == kind).any()
    }
    shares = np.array([row / row.sum() for row in rows.values()])
    names = {**dict(enumerate(class_names)), NEGATIVE: "negative", UNKNOWN: "unknown"}
    figure, axes = canvas(1.8 + 0.42 * (number + 1), 1.4 + 0.36 * len(rows))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(number + 1), [*class_names, REJECTED], rotation=60, ha="right", fontsize=8, parse_math=False)
    axes.set_yticks(range(len(rows)), [names[kind] for kind in rows], fontsize=8, parse_math=False)
    axes.set(xlabel="answer", ylabel="truth", title=title)
    if number <= LARGEST:
        for (i, k), share in np.ndenumerate(shares):
            if share:
                ink = "white" if share > 0.6 else INK
                axes.text(k, i, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=ink)
    return as_text(figure)


def acceptance(classes, target=None, title=None):
    """How much of each class is accepted at a threshold, as bars: knowns, negatives and unknowns, each by name.

    Args:
        classes: `{name: (role, accepted, number)}`, the role one of "known", "negative", "unknown".
        target: False positive rate that was asked for, a line, or None.
        title: Text above the axes.

    >>> figure = acceptance({"cat": ("known", 9, 10), "owl": ("unknown", 1, 4)})
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['9 of 10', '1 of 4']
    """
    figure, axes = canvas(6.4, 1.2 + 0.26 * len(classes))
    for role, colour in ROLES.items():
        own = [(place, name) for place, name in enumerate(classes) if classes[name][0] == role]
        if own:
            shares = [classes[name][1] / classes[name][2] for _, name in own]
            axes.barh([place for place, _ in own], shares, color=colour, height=0.72, label=role)
    for place, (_, accepted, number) in enumerate(classes.values()):
        where = {"ha": "left", "va": "center", "fontsize": 7, "color": INK}
        axes.text(accepted / number + 0.01, place, f"{accepted:,} of {number:,}", **where)
    if target is not None:
        axes.axvline(target, color=INK, linestyle="--", linewidth=1.2, label=f"asked: {100 * target:g} %")
    axes.set_yticks(range(len(classes)), [*classes], fontsize=8, parse_math=False)
    axes.set(xlim=(0, 1.12), xlabel="accepted", title=title)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.invert_yaxis()
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    return as_text(figure)
