"""Figures of open-set decisions: OSCR curves, histograms of scores, the unknowns that were accepted."""

import itertools

import numpy as np
from matplotlib.ticker import PercentFormatter

from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.plots.style import COLOURS, INK, PALE, ROLES, as_text, canvas, grid, to_pixels

DASHES = ("-", "--", ":", "-.")


def oscr(curves, title=None):
    """OSCR curves: correct classification rate against false positive rate, the latter on a logarithmic axis.

    A curve begins at the lowest FPR that its sample resolves. It is a staircase: its height at t is `ccr_at_fpr` of t.

    Args:
        curves: `{name: curve}`, a curve being `metrics.OSCR` or a pair (fpr, ccr) of arrays. A name may be a pair
            (method, group): methods differ by colour then, groups by dashes. Groups of one method, or alone, have the
            colours of their roles.
        title: Text above the axes.

    >>> figure = oscr({("softmax", "unknown"): (np.array([1.0, 0.1]), np.array([0.95, 0.6]))})
    >>> figure.axes[0].get_xscale()
    'log'

    Reference: thesis 2023, Figure 6.1.
    """
    if not curves:
        raise ValueError("`curves` is empty: give at least one {name: (fpr, ccr)}.")
    named = {name if isinstance(name, tuple) else (str(name), ""): points(name, c) for name, c in curves.items()}
    methods, groups = ([*dict.fromkeys(part)] for part in zip(*named, strict=True))
    figure, axes = canvas(6.4, 4.4)
    for (method, group), (fpr, ccr) in named.items():
        role = group if len(methods) == 1 and group else method
        colour = ROLES.get(role, COLOURS[methods.index(method) % len(COLOURS)])
        dash = DASHES[groups.index(group) % len(DASHES)]
        label = f"{method}, {group}" if group else method
        axes.plot(fpr, ccr, dash, color=colour, linewidth=1.8, drawstyle="steps-post", label=label)
        axes.plot(fpr[:1], ccr[:1], "o", color=colour, markersize=3.5)
    smallest = min(fpr[0] for fpr, _ in named.values())
    axes.set(xscale="log", xlim=(10.0 ** np.floor(np.log10(smallest) - 1e-9), 1), ylim=(0, 1.02))
    axes.set(xlabel="false positive rate", ylabel="correct classification rate", title=title)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(True, which="major", color=PALE)
    axes.grid(True, which="minor", axis="x", color=PALE, linewidth=0.4)
    outside = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "frameon": False} if len(named) > 4 else {}
    axes.legend(**{"loc": "best", "framealpha": 0.9, "edgecolor": PALE, **outside})
    return as_text(figure)


def accepted_unknowns(images, predicted, true, scores, threshold=None, limit=40, title=None):
    """Contact sheet of unknowns that were accepted, each with the class that swallowed it, the surest first.

    Args:
        images: Array (n, height, width, 1 or 3), pixels 0..255, of the accepted unknowns.
        predicted: Names (n,) of the classes that they were taken for.
        true: Names (n,) of what they are.
        scores: Scores (n,).
        threshold: The threshold that they passed; named in the title.
        limit: How many to show at most.
        title: Text above the sheet, in place of the one that counts them.

    >>> figure = accepted_unknowns(np.zeros((2, 8, 8, 1)), ["3", "5"], ["8", "9"], [1.5, 2.5])
    >>> figure.axes[0].get_title()
    '9 → 5\\n2.50'
    """
    images, scores = np.asarray(images), np.asarray(scores, "float64")
    lengths = [len(images), len(predicted), len(true), len(scores)]
    if len(set(lengths)) > 1 or (len(images) and (images.ndim != 4 or images.shape[-1] not in (1, 3))):
        raise ValueError(
            "`images` must be (n, height, width, 1 or 3), with n names and scores. Received: images of shape "
            f"{images.shape}, {lengths[1]} predicted, {lengths[2]} true, {lengths[3]} scores"
        )
    passed = "" if threshold is None else f" at threshold {threshold:.3g}"
    if not len(images):
        figure, axes = canvas(6.4, 1.6)
        axes.axis("off")
        note = title or f"No unknown was accepted{passed}."
        axes.text(0.5, 0.5, note, ha="center", va="center", fontsize=12, color=INK)
        return as_text(figure)
    order = np.argsort(-scores, kind="stable")[:limit]
    columns = min(8, len(order))
    rows = -(-len(order) // columns)
    figure, places = grid(max(1.25 * columns, 5.0), 1.6 * rows + 0.7, rows, columns)
    for axes, i in itertools.zip_longest(places.ravel(), order):
        axes.set_axis_off()
        if i is not None:
            axes.imshow(to_pixels(images[i]))
            axes.set_title(f"{swallowed(true[i], predicted[i])}\n{scores[i]:.2f}", fontsize=8, color=INK)
    shown = f", the {len(order)} surest of them" if len(order) < len(images) else ""
    count = f"{len(images):,} unknown{'s' if len(images) > 1 else ''} accepted{passed}{shown}"
    figure.suptitle(title or f"{count}\ntrue class → taken for, score", fontsize=10, color=INK)
    return as_text(figure)


def histogram(labels, scores, threshold=None, bins=60, score_name="score", title=None):
    """Histogram of the scores of knowns, negatives and unknowns, each of area 1, with the threshold as a line.

    Args:
        labels: Integers (N,) in the package's convention.
        scores: Scores (N,); infinite ones are left out.
        threshold: Where inputs begin to be accepted. The legend then tells the share of each kind that is.
        bins: Number of bins.
        score_name: Label of the axis.
        title: Text above the axes.

    >>> figure = histogram([0, 1, -2], [3.0, 4.0, 1.0], threshold=2.0)
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['known: 100.0 % accepted', 'unknown: 0.0 % accepted', 'threshold 2']

    Reference: thesis 2023, Figure 6.2.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, "float64")
    finite = np.isfinite(scores)
    if labels.shape != scores.shape or not finite.any():
        raise ValueError(f"One finite score at least, and one for each label. Received: {labels.shape}, {scores.shape}")
    figure, axes = canvas(6.4, 3.8)
    kinds = zip(ROLES, (labels >= 0, labels == NEGATIVE, labels == UNKNOWN), strict=True)
    edges = np.histogram_bin_edges(scores[finite & (labels != IGNORE)], bins)
    for name, kind in kinds:
        colour = ROLES[name]
        if not (kind & finite).any():
            continue
        if threshold is not None:
            name += f": {100 * np.mean(scores[kind] >= threshold):.1f} % accepted"
        density, _ = np.histogram(scores[kind & finite], edges, density=True)
        axes.stairs(density, edges, fill=True, color=colour, alpha=0.22)
        axes.stairs(density, edges, color=colour, linewidth=1.6, label=name)
    if threshold is not None:
        axes.axvline(threshold, color=INK, linestyle="--", linewidth=1.2, label=f"threshold {threshold:.3g}")
    axes.set(xlabel=score_name, ylabel="density", title=title)
    axes.set_ylim(0, 1.35 * axes.get_ylim()[1])  # room for the legend
    axes.grid(True, axis="y", color=PALE)
    axes.legend(framealpha=0.9, edgecolor=PALE, ncols=2, loc="upper center")
    return as_text(figure)


def points(name, curve):
    """A curve's rates by ascending FPR, beginning at the lowest positive one."""
    fpr, ccr = (curve.fpr, curve.ccr) if hasattr(curve, "fpr") else curve
    fpr, ccr = np.asarray(fpr, "float64"), np.asarray(ccr, "float64")
    if fpr.ndim != 1 or fpr.shape != ccr.shape or not (fpr > 0).any():
        raise ValueError(f"{name!r} needs as many rates CCR as FPR, one above 0. Received: {fpr.shape}, {ccr.shape}")
    order = np.argsort(fpr, kind="stable")
    order = order[fpr[order] > 0]
    return fpr[order], ccr[order]


def swallowed(true, predicted, length=16):
    """Both class names, short enough to fit above a thumbnail, on two lines where they are long."""
    names = map(str, (true, predicted))
    true, predicted = (name if len(name) <= length else name[: length - 1] + "…" for name in names)
    return f"{true} → {predicted}" if len(true) + len(predicted) < length else f"{true}\n→ {predicted}"
