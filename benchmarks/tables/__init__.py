"""The papers' tables of image classification as data: `TABLES` by name, which `benchmarks/table.py` runs."""

from tables import families, hnc, ncm, thesis

TABLES = {**thesis.TABLES, **ncm.TABLES, **hnc.TABLES, **families.TABLES}
