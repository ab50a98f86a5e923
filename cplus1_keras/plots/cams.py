"""Which class where: class activation maps over their images, as a matplotlib `Figure`."""

import numpy as np

from cplus1_keras.labels import IGNORE
from cplus1_keras.plots.style import COLOURS, INK, as_text, grid, to_pixels

FALSE, RIGHT = COLOURS[1:3]


def activation_maps(images, cams, present, scores, class_names, multi_hot=None, columns=4, title=None):
    """A row for each image: the image, then the maps of the classes that were found, the surest first.

    A map is shown where it speaks for its class, M > 0, in one range of colours per image. With the truth, classes that
    were rightly found are green, false ones orange, and the image's own title names those that were missed.

    Args:
        images: Array (N, height, width, 1 or 3), pixels 0..255.
        cams: M, array (N, h, w, C).
        present: Booleans (N, C): the classes that were found.
        scores: Array (N, C).
        class_names: C names.
        multi_hot: Truth (N, C) of 1, 0 and IGNORE, or None.
        columns: Maps in a row at most.
        title: Text above the figure.

    Reference: Zhou et al., "Learning deep features for discriminative localization", CVPR 2016, Figure 2.

    >>> found = np.array([[True, False]])
    >>> figure = activation_maps(np.zeros((1, 8, 8, 3)), np.ones((1, 2, 2, 2)), found, np.ones((1, 2)), ["cat", "dog"])
    >>> [axes.get_title() for axes in figure.axes[:2]]
    ['', 'cat 1.0']
    """
    present, scores = np.asarray(present, bool), np.asarray(scores)
    shape = (len(images), len(class_names))
    if not shape[0] or {len(cams)} != {shape[0]} or {present.shape, scores.shape} != {shape}:
        raise ValueError(
            f"`cams`, `present` and `scores` must be of {shape[0]} images, one or more, and {shape[1]} classes. "
            f"Received shapes {np.shape(cams)}, {present.shape}, {scores.shape}"
        )
    columns = min(columns, max(present.sum(axis=1).max(), 1))
    figure, rows = grid(2.0 * (columns + 1), 2.0 * len(images) + 0.5, len(images), columns + 1)
    for i, row in enumerate(rows):
        truth = np.full(len(class_names), IGNORE) if multi_hot is None else np.asarray(multi_hot[i])
        chosen = [c for c in np.argsort(-scores[i], kind="stable") if present[i, c]]
        _draw_image(row, images[i], [class_names[c] for c in np.flatnonzero((truth == 1) & ~present[i])], bool(chosen))
        for axes, c in zip(row[1:], chosen, strict=False):
            colour = {1: RIGHT, 0: FALSE}.get(int(truth[c]), INK)
            _caption(axes, f"{class_names[c]} {scores[i, c]:.1f}", colour)
            _draw_map(axes, images[i], cams[i][..., c], cams[i][..., chosen].max())
    figure.suptitle(title, fontsize=10, color=INK)
    return as_text(figure)


def _draw_image(row, image, missed, found):
    for axes in row:
        axes.set_axis_off()
    row[0].imshow(to_pixels(image))
    lines = ["none of these"] * (not found) + ["missed: " + ", ".join(missed)] * bool(missed)
    _caption(row[0], "\n".join(lines))


def _draw_map(axes, image, cam, highest):
    height, width = image.shape[:2]
    grey = np.asarray(image, "float32").mean(axis=-1) / 255
    axes.imshow(grey, cmap="gray", vmin=0, vmax=1)
    strength = np.clip(np.asarray(cam, "float32") / max(float(highest), 1e-6), 0, 1)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(strength, cmap="inferno", vmin=0, vmax=1, alpha=0.6, extent=extent, interpolation="bilinear")


def _caption(axes, text, colour=INK):
    axes.set_title(text, fontsize=8, color=colour)
