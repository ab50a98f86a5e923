"""Tables 2-6 of the C2AM paper as data: what differs between their rows, and the figures that they print.

Figures are AP of masks / of boxes / of masks of rare / common / frequent classes, in percent.
"""

import typing


class LvisRow(typing.NamedTuple):
    """A row: a key of `families.TAILS` or "fixed", the figures, and what is not as in most rows."""

    method: str
    paper: str
    depth: int = 50
    stages: int = 1
    scale: float = 30.0
    alpha: float = 0.5
    sampling: str | None = None
    version: str = "v1"

    @property
    def summary(self):
        kind = "Cascade Mask R-CNN" if self.stages > 1 else "Mask R-CNN"
        return f"LVIS {self.version}, {kind} R-{self.depth}. {self.paper}"


_REPEAT = "repeat_factor"


def _table2(number, depth, stages, softmax, c2am):
    rows = {"softmax": f"Table 2, cross-entropy: {softmax}", "c2am": f"Table 2, C2AM: {c2am}"}
    return {f"lvis_table2_{number}_{name}": LvisRow(name, text, depth, stages) for name, text in rows.items()}


def _table6(ending, depth, version, rows):
    methods = {"rfs": ("softmax", "RFS"), "balms": ("balanced_softmax", "BALMS"), "eql": ("equalization", "EQL")}
    methods |= {"ldam": ("ldam", "LDAM"), "seesaw": ("seesaw", "Seesaw"), "c2am": ("c2am", "C2AM")}
    # Without it are those that are published so: the others are, like C2AM, trained with repeat-factor sampling.
    plain = ("ldam", "eql")
    return {
        f"lvis_table6_{ending}_{name}": LvisRow(
            methods[name][0],
            f"Table 6, {methods[name][1]}: {text}",
            depth,
            sampling=None if name in plain else _REPEAT,
            version=version,
        )
        for name, text in rows.items()
    }


LVIS_ROWS = {
    **_table2("r50", 50, 1, "20.5 / 21.4 / 1.1 / 18.6 / 31", "25.7 / 26.5 / 13 / 25.4 / 31.5"),
    **_table2("r101", 101, 1, "21.8 / 22.8 / 1.4 / 20.3 / 32.5", "27 / 28.1 / 14.1 / 26.7 / 33"),
    **_table2("cascade_r50", 50, 3, "22.7 / 25.3 / 2.8 / 21.6 / 32.7", "27.6 / 31.1 / 14.2 / 27.7 / 33.5"),
    **_table2("cascade_r101", 101, 3, "24.3 / 27 / 3.3 / 23.7 / 34.1", "29.2 / 32.6 / 16.8 / 29.1 / 34.7"),
    "lvis_table3_scale10": LvisRow("c2am", "Table 3, s = 10: 14.2 / 14.9 / 0 / 7.6 / 27.7", scale=10.0),
    "lvis_table3_scale20": LvisRow("c2am", "Table 3, s = 20: 25.4 / 26.1 / 12.5 / 25 / 31.6", scale=20.0),
    "lvis_table3_scale30": LvisRow("c2am", "Table 3, s = 30: 25.7 / 26.5 / 13 / 25.4 / 31.5"),
    "lvis_table3_scale40": LvisRow("c2am", "Table 3, s = 40: 24.8 / 25.5 / 13.2 / 23.9 / 30.8", scale=40.0),
    "lvis_table3_scale50": LvisRow("c2am", "Table 3, s = 50: 23.6 / 24.4 / 11.5 / 22.7 / 30", scale=50.0),
    "lvis_table4_alpha0": LvisRow("c2am", "Table 4, α = 0.0: 24.1 / 24.8 / 9.6 / 23.2 / 31.5", alpha=0.0),
    "lvis_table4_alpha1": LvisRow("c2am", "Table 4, α = 0.1: 24.8 / 25.5 / 11.6 / 24.2 / 31.4", alpha=0.1),
    "lvis_table4_alpha3": LvisRow("c2am", "Table 4, α = 0.3: 25.3 / 26.1 / 12.8 / 24.7 / 31.6", alpha=0.3),
    "lvis_table4_alpha5": LvisRow("c2am", "Table 4, α = 0.5: 25.7 / 26.5 / 13 / 25.4 / 31.5"),
    "lvis_table4_alpha7": LvisRow("c2am", "Table 4, α = 0.7: 25.4 / 26.4 / 13 / 24.9 / 31.5", alpha=0.7),
    "lvis_table5_none": LvisRow("cosine", "Table 5, no margin: 24.1 / 24.8 / 9.6 / 23.2 / 31.5"),
    "lvis_table5_adaptive": LvisRow("c2am", "Table 5, adaptive: 25.7 / 26.5 / 13 / 25.4 / 31.5"),
    "lvis_table5_fixed": LvisRow("fixed", "Table 5, fixed: 24.3 / 25.2 / 11.5 / 23.4 / 30.9"),
    **_table6(
        "v05",
        50,
        "v0.5",
        {
            "ldam": "24.1 / 24.5 / 14.6 / 25.3 / 26.3",
            "eql": "25.2 / 24.1 / 14.6 / 24.4 / 26.8",
            "rfs": "25.9 / 26.1 / 17.8 / 26.2 / 28.8",
            "balms": "27.0 / 27.6 / 19.6 / 28.9 / 27.5",
            "c2am": "29.7 / 29.8 / 19.3 / 31.3 / 31.8",
        },
    ),
    **_table6(
        "r50",
        50,
        "v1",
        {
            "rfs": "23.7 / 24.7 / 13.5 / 22.8 / 29.3",
            "seesaw": "26.4 / 27.4 / 19.6 / 26.1 / 29.8",
            "c2am": "27.2 / 27.9 / 16.6 / 27.2 / 31.9",
        },
    ),
    **_table6(
        "r101",
        101,
        "v1",
        {
            "rfs": "25.5 / 26.6 / 16.6 / 24.5 / 30.6",
            "seesaw": "28.1 / 28.9 / 20.0 / 28.0 / 31.9",
            "c2am": "28.6 / 29.4 / 18.1 / 28.5 / 33.2",
        },
    ),
}
"""Rows of Table 6 whose methods are not in the package (CBL, LWS, Forest R-CNN, BAGS, EQLv2, DisAlign, LOCE, FASA) are
left out; its EQL is the paper's of 2020, whose softmax here is `losses.Equalization`."""
