"""The curves of a run under attack."""

import numpy as np

from cplus1_keras import plots


def a_row(aim, method, epsilon, value):
    shares = dict.fromkeys(("accuracy", "ccr", "coverage", "fpr_negative"), value) | {"fpr_unknown": None}
    ends = {name: [value - 0.1, value + 0.05] for name in shares}
    return {"aim": aim, "method": method, "epsilon": epsilon, **shares, "intervals": ends}


def test_curves_begin_without_attack_and_have_their_intervals():
    rows = [a_row("none", "none", 0.0, 0.8)]
    rows += [a_row("mistake", method, e, 0.8 - e) for method in ("fgsm", "pgd") for e in (0.1, 0.3)]
    rows += [a_row("accept", "pgd", 0.2, 0.9)]
    figure = plots.robustness(rows, title="a $ name")
    mistake, refuse, accept = figure.axes
    lines = {line.get_label(): line for line in mistake.lines}
    assert set(lines) == {"accuracy, fgsm", "accuracy, pgd", "ccr, fgsm", "ccr, pgd"}
    np.testing.assert_allclose(lines["ccr, pgd"].get_xydata(), [[0, 0.8], [0.1, 0.7], [0.3, 0.5]])
    assert (lines["ccr, fgsm"].get_linestyle(), lines["ccr, pgd"].get_linestyle()) == ("--", "-")
    band = mistake.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose([band[:, 1].min(), band[:, 1].max()], [0.4, 0.85])
    assert not refuse.lines
    assert [line.get_label() for line in accept.lines] == ["fpr_negative, pgd"]
    assert figure.get_suptitle() == "a $ name"
