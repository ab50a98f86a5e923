"""The papers' tables as Markdown and JSON: our figures beside the printed ones, paired differences, claims."""

import numpy as np
from comparison import differences, interval, judge_claim, look_up, spread

from cplus1_keras.metrics import align
from cplus1_keras.provenance import as_sentence, write_json
from tables import TABLES
from tables.figures import BINS, GRID

SMALL = "Small version: other data, net and training than the paper's, whose figures are in brackets."
NOTE = (
    "± is the half-width of the 95 % interval over {seeds} seeds of training (Student's t), on one test set; with so "
    "many intervals some leave out 0 by chance. The numbers of seeds are for a power of 80 %, guessed from the spread "
    "of few."
)


def collect(table, jobs):
    """{row: {column: {seed: value}}}; None where a run does not tell it."""
    factor, results = 100 if table.percent else 1, {}
    for job in jobs:
        figures = job.figures()
        if figures is not None:
            for column, keys in table.columns.items():
                value = look_up(figures, keys)
                own = results.setdefault(job.row, {}).setdefault(column, {})
                own[job.seed] = None if np.isnan(value) else factor * value
    return results


def show(table, results):
    """Markdown of figures, of paired differences, and of claims."""
    form = ".2f" if table.percent else ".3f"
    names = [row.name for row in table.rows if row.name in results]
    columns = [c for c in table.columns if any(v is not None for n in names for v in results[n][c].values())]

    def cell(row, column):
        printed = table.printed(row, column)
        ours = spread([*results[row][column].values()], form)
        return ours if printed is None else f"{ours} ({printed:{form}})"

    parts = [[["", *columns], *([name, *(cell(name, column) for column in columns)] for name in names)]]
    pairs = [(name, table.row(name).reference) for name in names if table.row(name).reference in results]
    if pairs:
        rows = [[f"{a} − {b}", *(spread(_gains(results, a, b, c), "+" + form) for c in columns)] for a, b in pairs]
        parts.append([["difference, paired by seed", *columns], *rows])
    claims = [claim for claim in table.claims if {claim.better, claim.worse} <= {*names} and claim.column in columns]
    if claims:
        parts.append([["claim", "in", "paper", "ours", "verdict"], *(_judge(table, results, c, form) for c in claims)])
    return "\n\n".join(align(rows) for rows in parts)


def _gains(results, first, second, column):
    return differences(results[first][column], results[second][column])


def _judge(table, results, claim, form):
    """A row of the table of claims."""
    printed = [table.printed(name, claim.column) for name in (claim.better, claim.worse)]
    effect = None if None in printed else printed[0] - printed[1]
    gains = _gains(results, claim.better, claim.worse, claim.column)
    told = "" if effect is None else f"{effect:+{form}}"
    verdict = judge_claim(gains, effect, form)
    return [f"{claim.better} > {claim.worse}", claim.column, told, spread(gains, f"+{form}"), verdict]


def report(name, jobs, output, full=False):
    """Write `table_NAME.json` and `.md` into a folder; returns the text."""
    table = TABLES[name]
    results, done = collect(table, jobs), {job: job.figures() for job in jobs}
    done = {job: figures for job, figures in done.items() if figures is not None}
    if not done:
        return "No run is finished."
    seeds = len({job.seed for job in done})
    printed = any(row.printed for row in table.rows)
    note = (SMALL + " " if printed and not full else "") + NOTE.format(seeds=seeds)
    diverged = [f"{job.row}, seed {job.seed}" for job, figures in done.items() if "diverged" in figures]
    note += f" Diverged: {'; '.join(diverged)}." if diverged else ""
    seconds = sum(figures["seconds"] for figures in done.values())
    last = max((figures["provenance"] for figures in done.values()), key=lambda own: own["date"])
    note += f" {len(done)} runs, {seconds / 60:.0f} minutes in all. Last run: {as_sentence(last)}"
    text = f"{show(table, results)}\n\n{note}\n"
    path = output / f"table_{name}{'_full' if full else ''}.json"
    rows = {
        row: {"printed": dict(zip(table.columns, table.row(row).printed, strict=False)), "values": _plain(own)}
        for row, own in results.items()
    }
    settings = {job.row: [job.config, *job.settings] for job in done}
    told = {"title": table.title, "full": full, "settings": settings, "rows": rows, "note": note}
    if table.curves:
        told["figures"] = {"fpr": [round(float(x), 6) for x in GRID], "degrees": BINS.tolist(), "rows": _curves(done)}
    output.mkdir(parents=True, exist_ok=True)
    write_json(path, {**told, "provenance": last})
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    return f"{table.title}\n\n{text}"


def _plain(columns):
    """Values by seed, with their interval, for JSON."""
    told = {}
    for column, by_seed in columns.items():
        values = [value for value in by_seed.values() if value is not None]
        mean, half = interval(values) if values else (None, float("nan"))
        told[column] = {"by_seed": by_seed, "mean": mean, "half": None if np.isnan(half) else half}
    return told


def _curves(done):
    """Data of the figures, run by run: CCR at each FPR, and how many images are at which angle."""
    found = {}
    for job, figures in done.items():
        found.setdefault(job.row, {})[job.seed] = {key: figures[key] for key in ("oscr", "angles") if key in figures}
    return found
