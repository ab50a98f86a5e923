"""How long a report takes to open in headless Chromium: of 50,000 predictions, and of 50 runs.

    python benchmarks/report.py

Prints, for each page, its size, the seconds to write it, the median milliseconds from asking for it to its last number,
and those from a key on the slider to the new numbers. Needs Chromium, like `tests/reporting`.
"""

import argparse
import importlib.util
import pathlib
import statistics
import tempfile
import time

from cplus1_keras.metrics import align
from cplus1_keras.report import report

HELPERS = pathlib.Path(__file__).parent.parent / "tests" / "reporting" / "conftest.py"
LOADED = "return performance.timing.loadEventEnd - performance.timing.navigationStart"
MOVE = """
const start = performance.now(), slider = document.querySelector("[role=slider]");
const key = name => slider.dispatchEvent(new KeyboardEvent("keydown", {key: name}));
for (let i = 0; i < 20; i++) key(i % 4 ? "ArrowRight" : "ArrowLeft");
document.body.offsetHeight;
return (performance.now() - start) / 20;
"""


def measure(browser, name, runs, path, rounds):
    """A row of the table: a page of runs is written and opened so many times."""
    start = time.perf_counter()
    report(runs, path)
    seconds, opened, moved = time.perf_counter() - start, [], []
    for _ in range(rounds):
        browser.open(path)
        while (taken := browser.run(LOADED)) <= 0:
            time.sleep(0.02)
        opened.append(taken)
        moved.append(browser.run(MOVE))
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    return [name, size, f"{seconds:.1f} s", f"{statistics.median(opened):.0f} ms", f"{statistics.median(moved):.0f} ms"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    spec = importlib.util.spec_from_file_location("helpers", HELPERS)
    helpers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(helpers)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        helpers.make_run(folder / "large", number=50_000)
        for number in range(50):
            helpers.make_run(folder / f"run-{number}", number=600, seed=number)
        browser, rows = helpers.Browser(folder / "profile"), [["page", "size", "written in", "opens in", "moves in"]]
        try:
            rows.append(measure(browser, "50,000 predictions", [folder / "large"], folder / "one.html", given.rounds))
            runs = [folder / f"run-{number}" for number in range(50)]
            rows.append(measure(browser, "50 runs", runs, folder / "many.html", given.rounds))
        finally:
            browser.close()
    print(align(rows))


if __name__ == "__main__":
    main()
