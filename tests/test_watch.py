"""Logged answers beside a calibration: what is compared with what, and what is said of it."""

import csv
import json
import runpy
import sys

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.colors import to_hex
from pyarrow import parquet

from cplus1_keras import calibration, plots
from cplus1_keras.plots.style import ROLES
from cplus1_keras.watch import DRIFTS, main, read_answers, report, watch

THRESHOLD = 1.0


def draw(generator, n, strangers):
    return np.where(generator.random(n) < strangers, generator.normal(-1, 1, n), generator.normal(3, 1, n))


def write(path, scores, **columns):
    names = np.where(scores >= THRESHOLD, "cat", "unknown")
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow([*columns, "class_name", "score"])
        rows.writerows(zip(*columns.values(), names, scores, strict=True))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with the record of a run whose calibration split has 600 knowns and 200 negatives."""
    generator, folder = np.random.default_rng(0), tmp_path_factory.mktemp("run")
    labels = np.repeat([0, -1], [600, 200])
    scores = np.concatenate([draw(generator, 600, 0), draw(generator, 200, 1)]).astype("float32")
    sample = calibration.keep_scores(labels, scores)
    found = calibration.Calibration(THRESHOLD, "fpr", 0.1, 0.95, 200, 4, 0.02, 0.05, sample=sample)
    (folder / "calibration.json").write_text(json.dumps({"calibration": found.to_dict()}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def drifting(tmp_path_factory):
    """Answers of which the share of strangers rises from 25 % to 70 % at the 600th."""
    generator = np.random.default_rng(1)
    scores = np.concatenate([draw(generator, 600, 0.25), draw(generator, 400, 0.7)])
    return write(tmp_path_factory.mktemp("answers") / "answers.csv", scores), scores


def test_a_world_that_drifts_is_told_and_dated(run, drifting, tmp_path, capsys):
    picture = tmp_path / "pictures" / "drift.png"
    with pytest.raises(SystemExit) as end:
        main([str(drifting[0]), "--calibration", str(run), "--output", str(picture)])
    assert end.value.code == DRIFTS
    assert picture.read_bytes().startswith(b"\x89PNG")
    told = capsys.readouterr().out
    answers, tests = watch(drifting[0], run)
    assert report(answers, tests) in told
    for name, kind in (("scores", "lower"), ("unknown rate", "more unknown")):
        drift = tests[name].drift
        assert 550 < drift.start < 640
        assert drift.start < drift.alarm < 750
        assert f"{name}: DRIFT since answer {drift.start + 1:,}, {kind}" in told
        assert f"certain at answer {drift.alarm + 1:,}" in told
        assert f"mean since then {tests[name].values[drift.start :].mean():.3g}" in told


def test_a_world_that_does_not_drift_is_told_so(run, tmp_path, capsys):
    answers = write(tmp_path / "answers.csv", draw(np.random.default_rng(2), 800, 0.25))
    main([str(answers), "--calibration", str(run), "--output", str(tmp_path / "drift.png")])
    assert capsys.readouterr().out.count("no drift") == 2


def test_what_is_compared_with_what(run, drifting):
    path, scores = drifting
    answers, tests = watch(path, run, strangers=0.6, alpha=0.05)
    np.testing.assert_allclose(answers.scores, scores)
    assert tests["scores"].values is answers.scores
    np.testing.assert_array_equal(tests["unknown rate"].values, scores < THRESHOLD)
    sample = calibration.Calibration.from_dict(json.loads((run / "calibration.json").read_text())["calibration"]).sample
    expected = calibration.mix_scores(sample, 0.6)[0]
    np.testing.assert_array_equal(tests["scores"].reference, expected)
    np.testing.assert_array_equal(tests["unknown rate"].reference, expected < THRESHOLD)
    for test, kinds in (
        (tests["scores"], ("lower", "higher", "narrower", "wider")),
        (tests["unknown rate"], ("lower", "higher")),
    ):
        again = calibration.find_drift(test.reference, test.values, 0.025, kinds)
        np.testing.assert_array_equal(test.drift.log_evidence, again.log_evidence)
        assert test.drift.limit == again.limit


def test_the_settings_of_the_command_line_arrive(run, drifting, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("cplus1_keras.watch.watch", lambda *given, **named: seen.append((given, named)) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["a", "--calibration=b", "--strangers=0.2", "--alpha=0.3", "--time=when", "--column=rejected"])
    assert seen == [(("a", "b"), {"strangers": 0.2, "alpha": 0.3, "time": "when", "column": "rejected"})]


def test_rows_are_sorted_by_time_and_invalid_ones_left_out(tmp_path):
    scores = np.array([3.0, -1.0, 2.0, 5.0, np.nan])
    path = write(
        tmp_path / "a.csv",
        scores,
        when=["2026-11-02", "2026-11-01", "2026-11-03", "2026-11-04", "2026-11-05"],
        valid=["True", "True", "True", "False", ""],
    )
    answers = read_answers(path, time="when")
    assert answers.scores.tolist() == [-1.0, 3.0, 2.0]
    assert answers.unknown.tolist() == [1.0, 0.0, 0.0]
    assert answers.times == ["2026-11-01", "2026-11-02", "2026-11-03"]
    assert answers.invalid == 2
    assert read_answers(path).scores.tolist() == [3.0, -1.0, 2.0]


def test_a_folder_of_parquet_is_read_by_name_and_another_column_taken(tmp_path):
    for number, share in ((1, 0.5), (0, 0.25)):
        names = pa.array(["cat", "unknown", None])
        table = pa.table({"class_name": names, "rejected": pa.array([share, share, None], pa.float32())})
        parquet.write_table(table, tmp_path / f"part-{number}.parquet")
    (tmp_path / "_inputs.parquet").write_bytes(b"of the command that wrote it")
    answers = read_answers(tmp_path, column="rejected")
    assert answers.scores.tolist() == [0.25, 0.25, 0.5, 0.5]
    assert answers.unknown.tolist() == [0.0, 1.0, 0.0, 1.0]
    assert answers.invalid == 2


def test_trusted_answers_and_saved_models_are_references(run, drifting, tmp_path):
    before = write(tmp_path / "before.csv", draw(np.random.default_rng(4), 500, 0.25))
    tests = watch(drifting[0], before)[1]
    np.testing.assert_array_equal(tests["scores"].reference, read_answers(before).scores)
    assert 550 < tests["unknown rate"].drift.start < 640
    with pytest.raises(ValueError, match="leave it away"):
        watch(drifting[0], before, strangers=0.1)
    (tmp_path / "1" / "assets.extra").mkdir(parents=True)
    record = json.loads((run / "calibration.json").read_text())["calibration"]
    file = tmp_path / "1" / "assets.extra" / "calibration.json"
    file.write_text(json.dumps(record))
    np.testing.assert_array_equal(
        watch(drifting[0], tmp_path / "1")[1]["scores"].reference, watch(drifting[0], run)[1]["scores"].reference
    )
    for bad, text in (({**record, "sample": None}, "judge"), (None, "judge"), ({"rule": "fpr"}, "damaged")):
        file.write_text(json.dumps(bad))
        with pytest.raises(ValueError, match=text):
            watch(drifting[0], tmp_path / "1")


def test_what_cannot_be_watched_is_said(run, tmp_path):
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SystemExit, match=r"Nothing is watched\. .* no column 'class_name'; there are a, b"):
        main([str(tmp_path / "odd.csv"), "--calibration", str(run)])
    with pytest.raises(SystemExit, match="There are no answers at"):
        main([str(tmp_path / "none.csv"), "--calibration", str(run)])
    (tmp_path / "bad.parquet").write_bytes(b"not at all")
    with pytest.raises(SystemExit, match="no table of answers"):
        main([str(tmp_path / "bad.parquet"), "--calibration", str(run)])


def test_the_picture_shows_where_it_began_in_the_colours_of_the_roles(run, drifting):
    _, tests = watch(drifting[0], run)
    figure = plots.drift(tests, title="Week 47")
    above, middle, below = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == ["scores", "unknown rate", "evidence"]
    assert figure.get_suptitle() == "Week 47"
    for axes, name, colour in ((above, "scores", ROLES["known"]), (middle, "unknown rate", ROLES["unknown"])):
        reference, began = axes.lines
        assert to_hex(began.get_color()) == colour
        assert began.get_xdata()[0] == tests[name].drift.start + 1
        centre = np.median if name == "scores" else np.mean
        assert reference.get_ydata()[0] == pytest.approx(centre(tests[name].reference))
        curve = next(line for line in below.lines if line.get_label() == name)
        assert to_hex(curve.get_color()) == colour
        np.testing.assert_allclose(curve.get_ydata(), tests[name].drift.log_evidence / np.log(10))
    assert (
        len(
            plots.drift(
                {"scores": tests["scores"]._replace(drift=calibration.find_drift([0.0], [0.1]), values=np.array([0.1]))}
            )
            .axes[0]
            .lines
        )
        == 1
    )


def test_it_runs_as_a_module_of_the_checkout(run, drifting, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["watch", str(drifting[0]), "--calibration", str(run)])
    with pytest.raises(SystemExit):
        runpy.run_module("export.watch", run_name="__main__")
    assert (tmp_path / "drift.png").is_file()


def test_names_that_are_numbers_are_names(tmp_path):
    """A log of digits without a stranger holds nothing but numbers; the next one has "unknown"."""
    for name, answers in (("a.csv", ("3", "5")), ("b.csv", ("unknown", "4"))):
        (tmp_path / name).write_text(
            "class_name,score\n" + "".join(f"{own},2.5\n" for own in answers), encoding="utf-8"
        )
    assert read_answers(tmp_path / "a.csv").unknown.tolist() == [0, 0]
    assert read_answers(tmp_path).unknown.tolist() == [0, 0, 1, 0]
