"""The plain style that all figures share, readable by colour-blind people and in print."""

import io

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f")
INK, PALE = "#333333", "#e4e4e4"


def canvas(width, height):
    """A figure with one axes, in this module's plain style."""
    with rc_context({"axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK}):
        figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    return figure, axes


def to_png(figure):
    """A figure as the bytes of a PNG file.

    >>> to_png(canvas(1, 1)[0])[1:4]
    b'PNG'
    """
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
