"""Report on finished runs: one page for a browser, which needs no network, or a table.

    python -m cplus1_keras.report RUN                         RUN/report.html, with a threshold that can be dragged
    python -m cplus1_keras.report RUN RUN ...                 report.html: the runs compared, the first with all others
    python -m cplus1_keras.report --table RUN RUN ...         a table of their figures
    python -m cplus1_keras.report --table RUN ... --sort auroc --format markdown

A RUN is a directory that `train.py` or `python -m cplus1_keras.judge` wrote; `train.py` makes the page of each run.
"""

import argparse
import pathlib
import sys

from cplus1_keras import reporting
from cplus1_keras.directory import unfinished

FILE = "report.html"


def report(runs, output=None):
    """Write the report of runs as one HTML file.

    Args:
        runs: Directories of finished runs; the first is what the others are compared with.
        output: Path of the file; None takes `report.html`, in the run's directory where it is one.

    Returns:
        Path of the file.

    Raises:
        FileNotFoundError: There is no finished run.
        ValueError: A file of a run is damaged.

    >>> report(["runs/digits"])  # doctest: +SKIP
    PosixPath('runs/digits/report.html')
    """
    read = reporting.read_runs(runs)
    path = pathlib.Path(output or (pathlib.Path(runs[0]) / FILE if len(runs) == 1 else FILE))
    page = reporting.make_page(read)
    with unfinished(path) as hidden:
        hidden.write_text(page, encoding="utf-8")
        hidden.replace(path)
    return path


def attempt(what, make, *given):
    """What `make(*given)` returns; if it fails None, and a line says why: no run is lost for what tells of it.

    >>> attempt("The sum", sum, [1, 2])
    3
    >>> attempt("The sum", sum, 1)
    Note: The sum could not be made. TypeError: 'int' object is not iterable
    """
    try:
        return make(*given)
    except Exception as error:
        print(f"Note: {what} could not be made. {type(error).__name__}: {error}", flush=True)
        return None


def main(arguments=None):
    """Do what the command line says; also `cplus1-report`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="directory of a finished run")
    parser.add_argument("--output", help="path of the page (default: report.html, in the run's directory if it is one)")
    parser.add_argument("--table", action="store_true", help="print a table instead")
    parser.add_argument("--sort", metavar="FIGURE", help="figure of metrics.json to sort the table by, like auroc")
    formats = reporting.FORMATS
    parser.add_argument("--format", choices=formats, default=formats[0], help="of the table (default: %(default)s)")
    given = parser.parse_args(arguments)
    try:
        if given.table:
            print(reporting.make_table(reporting.read_runs(given.runs), given.sort, given.format))
        else:
            print(f"Report: {report(given.runs, given.output)}")
    except (OSError, ValueError) as error:
        sys.exit(f"No report. {error}")


if __name__ == "__main__":
    main()
