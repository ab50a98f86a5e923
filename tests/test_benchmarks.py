"""What the benchmarks conclude from seeds: intervals and marks against scipy's t-test on the paired differences."""

import importlib
import os
import pathlib
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from scipy import stats

FOLDER = pathlib.Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """`benchmark(name)` imports a script of the folder, which is no package."""
    monkeypatch.syspath_prepend(FOLDER)
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and pathlib.Path(sys.modules[name].__file__).parent == FOLDER:
            del sys.modules[name]


def test_spread_is_the_mean_with_students_interval(benchmark):
    spread = benchmark("comparison").spread
    values = [0.31, 0.36, 0.33, 0.29]
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    mean, half = (float(part) for part in spread(values, ".6f").split(" ± "))
    assert (mean, mean + half) == (pytest.approx(np.mean(values), abs=1e-6), pytest.approx(interval.high, abs=2e-6))
    assert spread([0.5]) == "0.500"
    assert (spread([0.5, None]), spread([])) == ("", "")


def test_so_many_seeds_have_the_power(benchmark):
    """Against statsmodels' textbook table: a paired t-test, power 80 %, 5 %: d = 0.5 takes 34 pairs, 0.8 takes 15."""
    comparison = benchmark("comparison")
    noise = [-1.0, 0.0, 1.0]  # of standard deviation 1
    assert [comparison.seeds_needed(noise, effect) for effect in (0.5, 0.8, -0.8)] == [34, 15, 15]
    assert comparison.seeds_needed(noise, 1e-4) == comparison.MOST
    assert comparison.seeds_needed(noise, 1e3) == 2
    generator = np.random.default_rng(0)
    drawn = generator.normal(0.8, 1.0, (4000, 15))
    assert np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(
    ("gains", "printed", "verdict"),
    [
        ([0.1, 0.11, 0.12], None, "seen"),
        ([-0.1, -0.11, -0.12], 0.05, "the opposite is seen"),
        ([0.0, 0.1, 0.05], 0.04, "not seen; about 15 seeds would show the paper’s, +0.040"),
        ([0.0, 0.1, 0.05], None, "not seen; about 10 seeds would show ours, +0.050"),
        ([0.1], None, "one seed"),
        ([], None, "not run"),
    ],
)
def test_a_claim_is_judged_by_the_interval(benchmark, gains, printed, verdict):
    assert benchmark("comparison").judge_claim(gains, printed) == verdict


def test_pairs_are_of_the_seeds_that_both_have(benchmark):
    differences = benchmark("comparison").differences
    assert differences({0: 1.0, 1: 2.0, 2: None}, {1: 0.5, 2: 1.0, 3: 0.0}) == [1.5]


@pytest.mark.parametrize("effect", [0.0, 0.01, 0.02, 0.03, 0.05, -0.05])
def test_differences_are_paired_by_seed_and_marked_where_a_t_test_would(benchmark, effect):
    paired = benchmark("paired")
    generator = np.random.default_rng(0)
    first = generator.uniform(0.3, 0.5, 4)
    second = first + effect + 0.02 * generator.normal(size=4)

    def by_seed(values, seeds):
        return {str(seed): {"miou": values[seed]} for seed in seeds}

    def percent(run):
        return 100 * run["miou"]

    # Seeds in another order, and one that the other row lacks.
    cell = paired.difference(by_seed(second, [0, 1, 2, 3]), by_seed(first, [3, 1, 0]), percent, "+.2f")
    test = stats.ttest_rel(second[[0, 1, 3]], first[[0, 1, 3]])
    assert cell.endswith("*") == (test.pvalue < 0.05)
    mean, half = map(float, re.fullmatch(r"(\S+) ± ([\d.]+)\*?", cell).groups())
    assert mean == pytest.approx(100 * np.mean((second - first)[[0, 1, 3]]), abs=0.006)
    assert mean + half == pytest.approx(100 * test.confidence_interval(0.95).high, abs=0.011)
    assert paired.difference(by_seed(second, [0]), by_seed(first, [0]), percent)[-1] != "*"


def test_tables_compare_with_their_first_row(benchmark):
    segmentation = benchmark("segmentation")
    figures = {"segmentation": {"miou": 0.5, "macc": 0.5, "aacc": 0.5}, "open_set": {}}
    better = {**figures, "segmentation": {"miou": 0.75, "macc": 0.5, "aacc": 0.5}, "gradient_ratio/compactness": 0.25}
    text = segmentation.tables(
        {"softmax": {"0": figures}, "compactness": {"0": better}, "background 1": {"0": figures}}
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    found = {row[0]: row[1] for row in rows}
    assert found["minus 0, paired by seed"] == "mIoU"
    assert (found["+ L_compact"], found["1"]) == ("+25.00", "-25.00")  # to softmax, and to weight 0
    assert ["compactness", "0.25"] in rows


def test_detection_compares_with_its_first_row(benchmark):
    detection = benchmark("detection")

    def runs(*values):
        rows = {
            str(seed): {"detection": {"coco": {"ap": ap}, "open": {"a_ose": n}}} for seed, (ap, n) in enumerate(values)
        }
        return rows

    first, second = runs((0.4, 9), (0.5, 7), (0.45, 8)), runs((0.42, 9), (0.53, 5), (0.46, 9))
    text = detection.tables({"sigmoid focal": first, "C+1 softmax": second})
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    found, place = {row[0]: row for row in rows[:4]}, [*detection.FIGURES].index("A-OSE") + 1
    assert float(found["sigmoid focal"][1].split(" ")[0]) == 45.0
    assert float(found["C+1 softmax"][place].split(" ")[0]) == 7.7
    assert rows[4][0] == "minus sigmoid focal, paired by seed"
    gains = np.array([2.0, 3.0, 1.0])
    half = stats.t.ppf(0.975, 2) * gains.std(ddof=1) / 3**0.5
    assert rows[-1][1] == f"+2.0 ± {half:.1f}" + ("*" if half < 2 else "")
    is_certain = benchmark("paired").is_certain
    assert is_certain([1.0, 1.1, 0.9])
    assert not is_certain([1.0])
    assert np.isnan(detection.figure({}, "AP"))


def test_a_comparison_goes_on_where_it_was(benchmark, tmp_path, capsys):
    comparison, asked = benchmark("comparison"), []

    def run(row, seed):
        asked.append((row, seed))
        return {"seconds": 1.5, "figure": 10 * seed}

    def resume(rows, seeds, **settings):
        settings = {"settings": ["width=9"], **settings}
        return comparison.resume(tmp_path / "found.json", settings, rows, seeds, run, lambda own: f"{own['figure']} %")

    first = resume(["a"], 2)
    assert asked == [("a", 0), ("a", 1)]
    assert capsys.readouterr().out.splitlines()[1] == "a, seed 1: 10 %  (1.5 s)"
    asked.clear()
    both = resume(["b", "a"], 3)
    assert asked == [("b", 0), ("b", 1), ("b", 2), ("a", 2)]
    assert both["a"]["1"] == first["a"]["1"]
    assert both["a"]["1"]["provenance"]
    with pytest.raises(SystemExit, match=r"holds other settings.*width=9"):
        resume(["a"], 3, settings=["width=8"])
    assert np.isnan(comparison.look_up({"a": {"b": None}}, ("a", "b")))
    assert np.isnan(comparison.look_up({"a": None}, ("a", "b")))
    assert comparison.look_up({"a": {"b": 3}}, ("a", "b")) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("detection_step", r"\| C\+1, shared .*\| target .*1\.05 .*1\.05"),
        ("nms", r"1,203 classes, sparse .*\| target .* 1\.00"),
        (
            "roi_align",
            r"\| forward and backward .*\| target .* 1\.00 .*: ours \de-0[5-7] and crop and resize \de-0[4-7]",
        ),
        ("box_head", r"\| box head .* 1\.15 .*\| training step .* 1\.03"),
        ("detection_input", r"input alone .*step alone .*both .*waiting for input: .*at most 5\.0%"),
        ("detection_judging", r"400 detections, s .* 3\.00 .*peak, judging 4 images with 400 detections.*1\.050"),
    ],
)
def test_the_figures_of_detection_are_told_with_their_targets(script, told):
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
    command = [sys.executable, str(FOLDER / f"{script}.py"), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER.parent, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(told, done.stdout, re.DOTALL), done.stdout


def test_scores_are_compared_with_log_odds_on_the_same_networks(benchmark):
    posthoc = benchmark("posthoc")
    base, gain = np.array([0.5, 0.6, 0.55]), np.array([0.04, 0.05, 0.03])
    rows = {"log_odds": base, "gen": base + gain, "openmax": base - gain, "max_logit": base + [0.2, -0.3, 0.1]}

    def run(seed):
        return {"scores": {name: {"far": {"auroc": float(values[seed])}} for name, values in rows.items()}}

    text = posthoc.table({"softmax": {str(seed): run(seed) for seed in range(3)}}, "auroc", "far")
    cells = dict([cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines())
    half = stats.t.ppf(0.975, 2) * base.std(ddof=1) / 3**0.5
    assert cells["log_odds"] == f"0.550 ± {half:.3f}"
    assert cells["gen"].startswith("**0.590 ± ")
    assert cells["gen"].endswith(" +**")
    assert cells["openmax"].endswith(" -")
    assert cells["max_logit"][-1].isdigit()


def test_recipes_are_judged_by_hand(benchmark):
    """Four knowns, one taken for another class; the highest score of 29 calibrating negatives is 5: accept above it."""
    recipes = benchmark("recipes")
    labels = np.array([0, 1, 2, 2, -1, -2, -2, -2, -2])
    values = {"test": np.array([9.0, 8.0, 7.0, 1.0, 99.0, 8.5, 6.0, 0.0, 0.5]), "held": np.append(np.zeros(28), 5.0)}
    values["held"] = np.append(values["held"], 100.0)  # of a known
    values |= {"letters": np.array([0.0, 10.0]), "noise": np.array([0.0, 2.0]), "blurred": np.array([9.0, 6, 0, 0])}
    parts = {"test": types.SimpleNamespace(labels=labels)}
    parts["calibration"] = types.SimpleNamespace(labels=np.append(np.full(29, -1), 3))
    right = {"test": np.array([1, 1, 0, 1], bool), "blurred": np.array([1, 0, 1, 1], bool)}
    told, kinds = recipes.figures(values, types.SimpleNamespace(**parts), right, ("letters", "noise"))
    assert kinds["letters"][::2] == [0.5, 0.5]  # each known is above one of two
    assert kinds["noise"][::2] == [0.875, 0.0]
    wanted = {
        "near_auroc": (4 + 3 + 3 + 2) / 16,
        "near_in": 0.5,
        "far_auroc": 0.6875,
        "worst_auroc": 0.5,
        "far_in": 0.25,
    }
    wanted |= {"right": 0.5, "spoilt_right": 0.25, "spoilt_wrong": 0.25}
    assert {name: told[name] for name in wanted} == pytest.approx(wanted, abs=1e-4)
    alike = recipes.figures({**values, "noise": np.zeros(20)}, types.SimpleNamespace(**parts), right, ("noise",))[1]
    assert alike == {"noise": [1.0, 0.75, 0.0]}


def test_knowns_are_spoilt_as_they_say(benchmark):
    images = np.zeros((2, 28, 28, 1), "uint8")
    images[:, 4:8, 12:16] = 200
    found = benchmark("recipes").spoil(images)
    assert found["pale"].max() == pytest.approx(60)
    assert found["blurred"].sum() == pytest.approx(images.sum(), rel=1e-3)
    assert found["blurred"].max() < 200
    assert found["noisy"][0, 20:].std() == pytest.approx(40 * np.sqrt(0.5 - 0.5 / np.pi), rel=0.1)  # cut off at 0
    rows, columns = (np.average(np.indices((28, 28))[k], weights=found["turned"][0, ..., 0]) for k in (0, 1))
    angle = np.rad2deg(np.arctan2(columns - 13.5, 13.5 - rows))
    assert abs(angle) == pytest.approx(25, abs=1.5)


def test_new_classes_are_counted_on_those_that_did_not_calibrate(benchmark):
    """Of 60 classes six are wholly accepted from 1 on: images promise too much, classes do not."""
    count = benchmark("new_classes").count
    classes, spread = np.repeat(np.arange(60), 20), np.tile(np.linspace(0, 1, 20), 60)
    found = count(np.where(classes < 6, 10.0, 0.0) + spread, classes, 0.1, 40, splits=40)
    # The 10 % of images are those of the six: as many as have calibrated are allowed or not.
    assert found["classes"]["broken"] == 0 < found["images"]["mean"]
    assert [*count(spread, classes, 0.1, 20, splits=5)] == ["images"]
    exact = count(np.float64(classes == 0), classes, 0.1, 59, splits=30)["images"]["mean"]
    assert exact in (0.0, pytest.approx(round(30 * exact) / 30))


@pytest.mark.slow
def test_recipes_compare_families_and_scores(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
    command = [sys.executable, str(FOLDER / "recipes.py"), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\| cos_eos .*\| nearest_neighbors", done.stdout, re.DOTALL), done.stdout


def test_throughput_is_by_the_median_round(benchmark):
    text = benchmark("scoring").table({"bare model": [1.0, 2.0, 9.0], "score": [2.5, 2.5, 1.0]}, 100)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert rows[2:] == [["bare model", "50.0", "1.000"], ["score", "40.0", "0.800"]]


def test_delays_are_counted_from_the_drift(benchmark, monkeypatch):
    drift = benchmark("drift")
    found = [drift.find_drift([0.0], []), drift.find_drift([0.0], [])]
    object.__setattr__(found[0], "alarm", 104)
    object.__setattr__(found[0], "start", 98)
    monkeypatch.setattr(drift, "find_drift", lambda *given, seed: found[seed])
    waits, errors = drift.delays(drift.normal(0, 1), drift.share(0.5), (), 100, 2)
    assert waits.tolist() == [5, np.inf]
    assert errors[0] == -2
