"""The plain style that all figures share, readable by colour-blind people and in print."""

import io

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f")
ROLES = {"known": COLOURS[0], "negative": COLOURS[1], "unknown": COLOURS[2]}
"""The colour of each role, in every figure that tells them apart."""

INK, PALE = "#333333", "#e4e4e4"


def grid(width, height, rows=1, columns=1):
    """A figure and its axes, (rows, columns)."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def canvas(width, height):
    """A figure with one axes, in this module's plain style."""
    with rc_context({"axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK}):
        figure, [[axes]] = grid(width, height)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    return figure, axes


def as_text(figure):
    """The figure, all of whose texts but those of ticks are taken as they are: a `$` in a name begins no formula."""
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
    texts = [*figure.texts, *(text for legend in legends if legend for text in legend.get_texts())]
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
    for text in texts:
        text.set_parse_math(False)
    return figure


def to_pixels(image):
    """An image 0..255 of 1 or 3 channels as uint8 colours."""
    pixels = np.clip(np.round(image), 0, 255).astype("uint8")
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels


def to_png(figure):
    """A figure as the bytes of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
