"""Tables: null and an empty cell where there is nothing to say."""

import json

import pytest

from cplus1_keras import metrics


def summary(samples=40):
    scores = metrics.ExactScores(samples=samples)
    scores.update([0, 1, -2, -2], [0, 1, 0, 0], [1.0, 2.0, 0.0, 1.5])
    return scores.summary(fprs=[0.01], groups=["negative", "unknown"])


def cells(text):
    lines = text.splitlines()
    assert len({len(line) for line in lines}) == 1
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_unresolved_figures_are_null_and_empty():
    found = summary()
    read = json.loads(json.dumps(found, allow_nan=False))
    assert read == found
    assert read["unknown"]["ccr_at_fpr_0.01"] is None
    assert read["unknown"]["intervals"]["ccr_at_fpr_0.01"] == [None, None]
    assert read["negative"]["members"] == 0
    assert read["negative"]["accuracy"] == 1.0
    assert read["negative"]["auroc"] is None
    rows = cells(metrics.table(found, ["accuracy", "ccr_at_fpr_0.01", "auroc"]))
    assert rows[0] == ["group", "accuracy", "ccr_at_fpr_0.01", "auroc"]
    assert rows[2] == ["negative", "1.000 [1.000, 1.000]", "", ""]
    assert rows[3][:3] == ["unknown", "1.000 [1.000, 1.000]", ""]


def test_all_figures_without_intervals_or_errors():
    rows = cells(metrics.table(summary(), intervals=False))
    assert rows[0][:4] == ["group", "knowns", "members", "accuracy"]
    assert rows[3][:4] == ["unknown", "2", "2", "1.000"]
    assert "intervals" not in rows[0]


def test_unknown_figure():
    with pytest.raises(ValueError, match="No figure is called 'acc'"):
        metrics.table(summary(0), ["acc"])
