"""Where features lie: in the plane, as they are or on the circle, with what pulls them."""

import numpy as np

from cplus1_keras.labels import NEGATIVE, UNKNOWN
from cplus1_keras.plots.style import COLOURS, INK, as_text, canvas

STRANGERS = {NEGATIVE: ("negative", "#b0b0b0", "x"), UNKNOWN: ("unknown", "#333333", "+")}


def features(points, labels, class_names, rays=None, rays_name="weights", circle=False, title=None):
    """Features in the plane, coloured by class, with the weights, centres or anchors of the classes as rays.

    The rays tell directions and proportions: the longest one is as long as long features are. Negatives are grey
    crosses, unknowns black.

    Args:
        points: (n, 2).
        labels: Integers (n,) in the package's convention; ignored ones are not drawn.
        class_names: Names of the C known classes.
        rays: (C, 2) or None.
        rays_name: What the rays are.
        circle: Whether each feature is divided by its length: what a cosine sees.
        title: Text above the axes.

    >>> figure = features(np.array([[1.0, 0.0], [0.0, 2.0]]), [0, -1], ["cat"], circle=True)
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['cat', 'negative']

    Reference: thesis 2023, Figures 3.2 to 4.2; Anchor-based NCM (2018), Figure 2.
    """
    points, labels = np.asarray(points, "float64"), np.asarray(labels)
    if points.shape != (len(labels), 2) or not len(labels):
        raise ValueError(
            f"Needs one point (x, y) at least, and a label for each. Received: {points.shape}, {labels.shape}"
        )
    lengths = np.linalg.norm(points, axis=1)
    points = points / np.maximum(lengths, 1e-12)[:, None] if circle else points
    figure, axes = canvas(5.6, 4.4)
    for label in [*range(len(class_names)), NEGATIVE, UNKNOWN]:
        own = points[labels == label]
        if not len(own):
            continue
        name, colour, marker = STRANGERS.get(label) or (class_names[label], COLOURS[label % len(COLOURS)], None)
        marker = marker or "o^sDvP*"[label // len(COLOURS) % 7]
        width = 0.8 if label < 0 else 0
        axes.scatter(*own.T, s=12, color=colour, marker=marker, label=name, alpha=0.7, linewidths=width)
    if rays is not None:
        reach = 1.0 if circle else np.quantile(lengths[labels >= 0] if (labels >= 0).any() else lengths, 0.95)
        _draw_rays(axes, np.asarray(rays, "float64"), reach, rays_name)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_title(title)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, markerscale=1.8, fontsize=8)
    return as_text(figure)


def _draw_rays(axes, rays, reach, name):
    lengths = np.linalg.norm(rays, axis=1).max()
    for label, (x, y) in enumerate(rays * reach / max(lengths, 1e-12)):
        colour = COLOURS[label % len(COLOURS)]
        axes.plot([0, x], [0, y], color=INK, linewidth=2.4, zorder=3, label=name if label == 0 else None)
        axes.plot([0, x], [0, y], color=colour, linewidth=1.4, zorder=4)
