"""All figures at once: the same as one by one, null and an empty cell where there is nothing to say."""

import json

import numpy as np
import pytest

from cplus1_keras import metrics


def data(n=200):
    generator = np.random.default_rng(0)
    labels = generator.choice([0, 1, -1, -2, -100], n)
    return labels, generator.integers(0, 2, n), generator.normal(size=n).round(1) + (labels >= 0)


def test_summary_holds_the_figures_of_the_functions():
    labels, predictions, scores = data()
    summary = metrics.summary(labels, predictions, scores, fprs=[0.1, 0.3], groups=("negative", "unknown", "both"))
    for group, figures in summary.items():
        ccr = metrics.ccr_at_fpr(labels, predictions, scores, [0.1, 0.3], group)
        assert figures == {
            "knowns": (labels >= 0).sum(),
            "members": {"negative": (labels == -1).sum(), "unknown": (labels == -2).sum()}.get(
                group, np.isin(labels, [-1, -2]).sum()
            ),
            "accuracy": metrics.closed_set_accuracy(labels, predictions),
            "ccr_at_fpr_0.1": ccr[0],
            "ccr_at_fpr_0.3": ccr[1],
            "auroc": metrics.auroc(labels, scores, group),
            "aupr_known": metrics.aupr(labels, scores, group),
            "aupr_group": metrics.aupr(labels, scores, group, positive="group"),
            "fpr95": metrics.fpr_at_tpr(labels, scores, group),
            "open_auc": metrics.open_auc(labels, predictions, scores, group),
        }


def test_unresolved_figures_are_null_and_empty():
    summary = metrics.summary([0, 1, -2, -2], [0, 1, 0, 0], [1.0, 2.0, 0.0, 1.5], fprs=[0.01], samples=40)
    read = json.loads(json.dumps(summary, allow_nan=False))
    assert read == summary
    assert read["unknown"]["ccr_at_fpr_0.01"] is None
    assert read["unknown"]["intervals"]["ccr_at_fpr_0.01"] == [None, None]
    assert read["negative"]["members"] == 0
    assert read["negative"]["accuracy"] == 1.0
    assert read["negative"]["auroc"] is None
    lines = metrics.table(summary, ["accuracy", "ccr_at_fpr_0.01", "auroc"]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["group", "accuracy", "ccr_at_fpr_0.01", "auroc"]
    assert cells[2] == ["negative", "1.000 [1.000, 1.000]", "", ""]
    assert cells[3][:3] == ["unknown", "1.000 [1.000, 1.000]", ""]
    assert len({len(line) for line in lines}) == 1


def test_intervals_are_those_of_bootstrap():
    labels, predictions, scores = data()
    kept = labels != -1
    wanted = metrics.bootstrap(
        metrics.auroc, labels[kept & (labels != -100)], scores[kept & (labels != -100)], group="unknown", samples=100
    )
    figures = metrics.summary(labels, predictions, scores, samples=100)["unknown"]
    assert figures["intervals"]["auroc"] == [wanted.low, wanted.high]


def test_unknown_figure():
    with pytest.raises(ValueError, match="No figure is called 'acc'"):
        metrics.table(metrics.summary(*data()), ["acc"])
