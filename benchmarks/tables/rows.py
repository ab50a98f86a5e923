"""What a table is made of."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """A row: configs with their settings at the paper's size and at one for a CPU, and what the paper prints."""

    name: str
    full: tuple  # name of a config, then settings NAME=VALUE
    small: tuple
    printed: tuple = ()  # a number for each column of the table, None where the paper has none
    reference: str | None = None  # the row that its paired differences are from


@dataclasses.dataclass(frozen=True)
class Claim:
    """That one row is better than another, in a column."""

    better: str
    worse: str
    column: str


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows that share columns; `columns` says where in the figures of a run each is."""

    title: str
    columns: dict
    rows: tuple
    claims: tuple = ()
    percent: bool = False
    epsilon: tuple = ()  # largest changes of pixels 0..1 under FGSM
    pgd: tuple = ()  # and under PGD, in the small version
    curves: bool = False  # whether the data of OSCR curves and of angles are kept

    def printed(self, name, column):
        """What the paper prints, or None."""
        row = self.row(name)
        return dict(zip(self.columns, row.printed, strict=False)).get(column)

    def row(self, name):
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)
