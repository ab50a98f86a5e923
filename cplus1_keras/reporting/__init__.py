"""Reports of runs: what their directories tell, as a page for a browser and as a table."""

from cplus1_keras.reporting.page import make_page
from cplus1_keras.reporting.runs import Run, read_run, read_runs
from cplus1_keras.reporting.tables import FORMATS, make_table

__all__ = ["FORMATS", "Run", "make_page", "make_table", "read_run", "read_runs"]
