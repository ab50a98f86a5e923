"""What attacks of growing strength do to a classifier."""

from matplotlib.ticker import PercentFormatter

from cplus1_keras.plots.style import COLOURS, INK, PALE, ROLES, as_text, grid

PANELS = {
    "mistake": ("knowns made to look like another class", {"accuracy": COLOURS[3], "ccr": ROLES["known"]}),
    "refuse": ("knowns made to be refused", {"coverage": ROLES["known"]}),
    "accept": (
        "strangers made to be accepted",
        {"fpr_negative": ROLES["negative"], "fpr_unknown": ROLES["unknown"]},
    ),
}
"""Title of each aim, and the figures that it is about with their colours."""

DASHES = {"fgsm": "--", "pgd": "-"}


def robustness(rows, title=None):
    """Figures against epsilon with their intervals, a panel for each aim; FGSM dashed, PGD drawn through.

    Args:
        rows: Those of `cplus1_keras.robustness.robustness`: dicts with `aim`, `method`, `epsilon`, shares by name, and
            their `intervals`; the first is without attack.
        title: Text above the panels.

    >>> share = {"coverage": 0.9, "intervals": {"coverage": [0.8, 1.0]}, "epsilon": 0.0}
    >>> figure = robustness([share, {**share, "aim": "refuse", "method": "pgd", "epsilon": 0.1}])
    >>> figure.axes[1].get_title()
    'knowns made to be refused'
    """
    plain, *attacked = rows
    figure, [places] = grid(11.5, 3.9, 1, len(PANELS))
    for axes, (aim, (name, figures)) in zip(places, PANELS.items(), strict=True):
        for method, dash in DASHES.items():
            own = [plain, *(row for row in attacked if (row["aim"], row["method"]) == (aim, method))]
            for figure_name, colour in figures.items():
                _curve(axes, own, figure_name, f"{figure_name}, {method}", colour, dash)
        axes.set(title=name, xlabel="epsilon, on images in 0..1", ylim=(-0.02, 1.02))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, color=PALE)
        if axes.lines:
            axes.legend(fontsize=8, framealpha=0.9, edgecolor=PALE)
    if title:
        figure.suptitle(title, fontsize=10, color=INK)
    return as_text(figure)


def _curve(axes, rows, figure, label, colour, dash):
    """One figure over epsilon with the band of its intervals; nothing where there are fewer than two values."""
    told = [row for row in rows if row.get(figure) is not None]
    if len(told) < 2:
        return
    epsilon, values = [row["epsilon"] for row in told], [row[figure] for row in told]
    low, high = zip(*(row["intervals"][figure] for row in told), strict=True)
    axes.plot(epsilon, values, dash, color=colour, marker="o", markersize=3, label=label)
    axes.fill_between(epsilon, low, high, color=colour, alpha=0.15, linewidth=0)
