"""Tables of runs, paired differences and the verdict, by hand."""

import csv
import json

import numpy as np
import pytest

from cplus1_keras import metrics, report
from cplus1_keras.reporting import Run, make_table, read_run, read_runs
from cplus1_keras.reporting.comparison import compare, different_settings
from cplus1_keras.reporting.differences import differences
from cplus1_keras.reporting.runs import read_curves, read_predictions
from cplus1_keras.reporting.sections import facts, name_figure, tables
from cplus1_keras.reporting.verdict import judge_many, judge_one


def a_run(name, auroc, low=None, fpr=0.1, **more):
    unknown = {
        "auroc": auroc,
        "ccr_at_fpr_0.05": auroc / 2,
        "intervals": {"auroc": [low, 1.0], "ccr_at_fpr_0.05": [0, 1]},
    }
    figures = {
        "open_set": {"unknown": unknown},
        "at_threshold": {"ccr": auroc, "fpr_unknown": fpr},
        "images": 9,
        **more,
    }
    return Run(name, name, figures, {"name": name, "seed": len(name)}, None)


RUNS = [a_run("first", 0.7, 0.6), a_run("2|nd", 0.9, None, fpr=0.2), Run("none", "none", {"open_set": {}}, {}, None)]


def test_a_table_is_sorted_by_a_figure():
    text = make_table(RUNS, "auroc").splitlines()
    assert [line.split()[0] for line in text] == ["run", "2|nd", "first", "none"]
    assert text[0].split() == ["run", "ccr", "fpr_unknown", "unknown.ccr_at_fpr_0.05", "unknown.auroc"]
    assert "0.700 [0.600, 1.000]" in text[2]
    assert "0.350 [0.000, 1.000]" in text[2]  # a name with a dot in it has its interval, too
    first = [line.split()[0] for line in make_table(RUNS, "fpr_unknown").splitlines()]
    assert first == ["run", "first", "2|nd", "none"]  # less is better
    assert [line.split()[0] for line in make_table(RUNS).splitlines()] == ["run", "first", "2|nd", "none"]


def test_formats_of_a_table():
    rows = [*csv.reader(make_table(RUNS, "auroc", "csv").splitlines())]
    assert rows[1] == ["2|nd", "0.9", "0.2", "0.45", "0.9"]
    assert rows[3] == ["none", "", "", "", ""]
    lines = make_table(RUNS, form="markdown").splitlines()
    assert lines[0].startswith("| run ")
    assert lines[3].startswith("| 2\\|nd |")
    with pytest.raises(ValueError, match="Received: form='html'"):
        make_table(RUNS, form="html")


def test_a_figure_that_is_not_there_is_told():
    with pytest.raises(ValueError, match=r"'loss' is no figure of these runs, which have: open_set.unknown.auroc, "):
        make_table(RUNS, "loss")
    several = a_run("a", 0.5, detection={"coco": {"ap": 0.1}, "unknown": {"ap": 0.2}})
    with pytest.raises(ValueError, match=r"'ap' could be any of these: detection.coco.ap, detection.unknown.ap"):
        make_table([several], "ap")
    assert make_table([several], "coco.ap").splitlines()[0].endswith("detection.coco.ap")


def test_differences_are_paired(toy, tmp_path):
    toy.make_run(tmp_path / "a", number=200)
    toy.make_run(tmp_path / "b", number=200, seed=3, gap=0.5)
    a, b = read_runs([tmp_path / "a", tmp_path / "b"])
    first, second = read_predictions(a.path), read_predictions(b.path)
    labels = first.labels
    told = differences(b, a, "unknown")
    middle, low, high = told["auroc"]
    assert middle == pytest.approx(
        metrics.auroc(labels, second.scores, "unknown") - metrics.auroc(labels, first.scores, "unknown")
    )
    assert low < middle < high < 0
    assert told["accuracy"][0] == pytest.approx(
        metrics.closed_set_accuracy(labels, second.predictions) - metrics.closed_set_accuracy(labels, first.predictions)
    )
    assert differences(a, b, "unknown")["open_auc"][0] == pytest.approx(-told["open_auc"][0])
    assert differences(a, a, "unknown")["auroc"] == [0.0, 0.0, 0.0]


def test_differences_need_the_same_images(toy, tmp_path):
    toy.make_run(tmp_path / "a", number=120)
    a = read_run(tmp_path / "a")
    other = tmp_path / "b"
    other.mkdir()
    (other / "metrics.json").write_bytes((a.path / "metrics.json").read_bytes())
    assert differences(read_run(other), a, "unknown") == {}
    text = (a.path / "predictions.csv").read_text(encoding="utf-8")
    (other / "predictions.csv").write_text(text.replace("toy", "other"), encoding="utf-8")
    read_predictions.cache_clear()
    assert differences(read_run(other), a, "unknown") == {}
    table, best = compare([a, read_run(other)])
    assert "is not known" in judge_many(table, best)


def test_settings_that_differ_are_told():
    runs = [
        Run(name, None, {}, {"loss": {"margin": m}, "epochs": 3, "name": name}, None)
        for name, m in (("a", 1), ("b", None))
    ]
    assert different_settings(runs) == {"a": ["loss.margin=1"], "b": ["loss.margin=None"]}
    judged = [
        Run(name, None, {"fpr": rate, "auroc": rate}, {"fpr": 0.1}, None) for name, rate in (("a", 0.1), ("b", 0.2))
    ]
    assert different_settings(judged) == {"a": ["fpr=0.1"], "b": ["fpr=0.2"]}


def test_the_verdict_tells_of_a_broken_promise():
    row = {"role": "unknown", "images": 9, "accepted": 0.5, "at_least": 0.2}
    figures = {"at_threshold": {"ccr": 0.8, "coverage": 0.9, "fpr_negative": None, "fpr_unknown": 0.3}}
    judged = figures | {"calibration": {"rule": "fpr", "target": 0.1}, "by_class": {"owl": row}}
    text = "Answers 80.0 % of the known images rightly and lets in 30.0 % of the unknowns"
    assert (
        judge_one(Run("", None, judged, {}, None)) == f"{text}; the promise of at most 10 % is clearly broken by owl."
    )
    judged["by_class"]["owl"] = {**row, "at_least": 0.1}
    kept = "no class of strangers clearly breaks the promise of at most 10 %"
    assert judge_one(Run("", None, judged, {}, {"unit": "image"})) == f"{text}; {kept}."
    figures["at_threshold"]["fpr_unknown"] = None
    wanted = "Answers 80.0 % of the known pixels rightly and accepts 90.0 % of them."
    assert judge_one(Run("", None, figures, {}, {"unit": "pixel"})) == wanted
    figures["at_threshold"] = {"ccr": None, "coverage": None}
    assert judge_one(Run("", None, figures, {}, None)) == "Meets no known image."
    figures["at_threshold"]["fpr_negative"] = 0.0004
    assert judge_one(Run("", None, figures, {}, None)) == "Meets no known image and lets in 0.04 % of the negatives."


def test_figures_and_facts(run):
    read = read_run(run[0])
    told = dict(facts(read))
    assert told["loss"] == "Loss(margin=<u>)"
    assert told["again"] == "python train.py --set gap='<b>'"
    assert (told["steps"], told["weight decay"], told["flip"], "note" in told) == ("3,000", "0.5", "False", False)
    (table,) = tables(read)
    assert table["head"] == ["", "negatives", "unknowns"]
    rows = {name: cells for name, *cells in table["rows"]}
    own = read.figures["open_set"]["unknown"]
    assert rows["AUROC"][1]["value"] == own["auroc"]
    assert rows["AUROC"][1]["sub"] == " [{:.3f}, {:.3f}]".format(*own["intervals"]["auroc"])
    assert name_figure("ccr_at_fpr_0.01") == "CCR at FPR 1 %"
    assert read_curves(read) == {}


def test_near_and_far_unknowns_have_columns_and_a_table():
    own = {"auroc": 0.75, "intervals": {"auroc": [0.5, 1.0]}}
    kinds = {"near": {"images": 4, "accepted": 0.25, "interval": [0.01, 0.75]}, "far": {"images": 2, "accepted": 0.0}}
    kinds["far"]["interval"] = [0.0, 0.5]
    figures = {"open_set": {"unknown": own, "near": own, "far": own}, "by_distance": kinds}
    figured, told = tables(Run("a", None, figures, {}, None))
    assert figured["head"] == ["", "unknowns", "near unknowns", "far unknowns"]
    assert told["head"] == ["", "near unknowns", "far unknowns"]
    assert [[cell["text"] + cell["sub"] for cell in row[1:]] for row in told["rows"]] == [
        ["0.250 [0.010, 0.750]", "0.000 [0.000, 0.500]"],
        ["4", "2"],
    ]


def test_a_task_has_its_own_tables():
    figures = {"open_set": {}, "segmentation": {"miou": 0.5, "classes": {"sky": {"iou": 0.25, "pixels": 3}}}}
    figures |= {"task": {"class": "Segmentation", "crop_size": 3}}
    own = tables(Run("a", None, figures, {}, None))
    assert [table["title"] for table in own] == ["segmentation", "segmentation: classes"]
    assert [[cell["text"] for cell in row[1:]] for row in own[1]["rows"]] == [["0.250", "3"]]


def test_runs_of_one_name_are_told_apart_and_others_are_refused(toy, tmp_path):
    for folder in ("x", "y"):
        toy.make_run(tmp_path / folder / "digits", number=120)
    assert [own.name for own in read_runs([tmp_path / "x/digits", tmp_path / "y/digits"])] == [
        str(tmp_path / "x/digits"),
        str(tmp_path / "y/digits"),
    ]
    with pytest.raises(FileNotFoundError, match=r"is no finished run: it lacks metrics\.json"):
        read_run(tmp_path)


def test_the_command_prints_a_table_or_says_what_is_wrong(run, capsys):
    report.main(["--table", str(run[0]), "--sort", "open_auc", "--format", "csv"])
    assert capsys.readouterr().out.splitlines()[1].startswith("a<b>,")
    with pytest.raises(SystemExit, match=r"No report\. .* is no finished run"):
        report.main([str(run[0].parent)])


def test_what_fails_in_a_report_is_told_and_harms_nothing(run, monkeypatch, capsys):
    before = (run[0] / "metrics.json").read_bytes()
    monkeypatch.setattr(report.reporting, "make_page", lambda runs: 1 / 0)
    assert report.attempt("The report", report.report, [run[0]]) is None
    assert "Note: The report could not be made. ZeroDivisionError: division by zero" in capsys.readouterr().out
    assert (run[0] / "metrics.json").read_bytes() == before


def test_nothing_in_the_data_can_end_its_element(run):
    text = report.report([run[0]]).read_text(encoding="utf-8")
    data = text.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    assert "<" not in data
    assert json.loads(data)["runs"][0]["name"] == "a<b>"
    assert text.count("</script>") == 2
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_curves_are_read_from_the_logs(tmp_path):
    import keras

    logs = keras.callbacks.TensorBoard(tmp_path / "logs", write_graph=False)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    logs.set_model(model)
    for epoch, loss in enumerate((3.0, np.nan, 1.5)):
        some = {"gradient_ratio/magnitude": 0.5} if epoch == 1 else {}
        logs.on_epoch_end(epoch, {"loss": loss, "val_loss": loss + 1, **some})
    logs.on_train_end()
    read = read_curves(Run("a", tmp_path, {}, {}, None))
    assert read["loss"] == {"train": [3.0, None, 1.5], "validation": [4.0, None, 2.5]}
    assert read["gradient_ratio/magnitude"] == {"train": [None, 0.5]}  # at its own epoch


def test_a_later_judging_is_named_by_its_run(toy, tmp_path):
    toy.make_run(tmp_path / "digits", number=120)
    judged = tmp_path / "digits" / "judge"
    judged.mkdir()
    (judged / "metrics.json").write_bytes((tmp_path / "digits" / "metrics.json").read_bytes())
    read = read_run(judged)
    assert (read.name, read.evidence, read.config["repeat"]) == ("digits/judge", None, read.figures["repeat"])


def test_runs_without_a_common_figure_are_shown_all_the_same():
    runs = [Run(name, name, {"open_set": {}, "at_threshold": {"ccr": 0.5}}, {}, None) for name in "ab"]
    table, best = compare(runs)
    assert [own.name for own in best] == ["a", "b"]
    assert [row[2]["text"] for row in table["rows"]] == ["0.500", "0.500"]
    assert judge_many(table, best) == "These 2 runs share no figure to compare them by."


def test_the_best_run_is_told_with_its_difference_from_the_first():
    figures = {
        "figure": "OpenAUC, unknowns",
        "best": 0.9,
        "baseline": "a",
        "other": "b",
        "difference": [0.1, -0.01, 0.2],
    }
    text = "Of 2 runs b is best by OpenAUC on unknowns, 0.900; b differs from a by +0.100 [−0.010, +0.200]"
    text += " on the same images"
    best = [RUNS[0]._replace(name="b"), RUNS[1]]
    assert judge_many(figures, best) == f"{text}, which may be chance."
    figures["difference"] = [0.1, 0.01, 0.2]
    assert judge_many(figures, best) == f"{text}, more than chance.".replace("−0.010", "+0.010")
    figures["difference"] = [-0.2, -0.3, -0.1]
    assert judge_many(figures, best).endswith("by −0.200 [−0.300, −0.100] on the same images, more than chance.")
