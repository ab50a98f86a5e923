"""The page in a browser: its numbers follow the threshold, and are those that the package counts there."""

import json

import numpy as np
import pytest

from cplus1_keras.labels import NEGATIVE, UNKNOWN
from cplus1_keras.report import main, report

SLIDER = "[role=slider]"
FIGURES = """
const all = [...document.querySelectorAll("[data-figure]")];
return Object.fromEntries(all.map(node => [node.dataset.figure, +node.dataset.value]));
"""
CLASSES = """
const rows = [...document.querySelectorAll("#by-class [data-class]")];
return Object.fromEntries(rows.map(row => [row.dataset.class, +row.querySelector("[data-value]").dataset.value]));
"""
THRESHOLD = "return +document.querySelector('[role=slider]').getAttribute('aria-valuenow')"
TILES = """
const all = [...document.querySelectorAll(`[data-kind=${arguments[0]}] li`)];
return all.map(node => node.innerText.trim().split("\\n"));
"""
PICK = """
const pick = document.querySelector("#classes");
pick.value = arguments[0];
pick.dispatchEvent(new Event("change"));
"""
CELLS = "return [...document.querySelector('tbody').rows].map(row => [...row.cells].map(cell => cell.innerText))"


@pytest.fixture
def page(browser, run):
    browser.open(report([run[0]]))
    yield browser
    assert browser.complaints() == []


def check_numbers(browser, toy, run, least, most):
    """All numbers of the page against counting at the threshold that it says, which lies in a range."""
    _, found, (labels, predictions, scores) = run
    threshold = browser.run(THRESHOLD)
    assert least < threshold < most
    accepted, told = scores >= np.float32(threshold), browser.run(FIGURES)
    known = labels >= 0
    assert told["known"] == pytest.approx(accepted[known].mean(), abs=1e-12)
    assert told["ccr"] == pytest.approx((accepted & (labels == predictions))[known].mean(), abs=1e-12)
    for role, label in (("negative", NEGATIVE), ("unknown", UNKNOWN)):
        assert told[role] == pytest.approx(accepted[labels == label].mean(), abs=1e-12)
    assert told["bound"] == pytest.approx(found.at(threshold).bound, abs=1e-12)
    shares = [accepted[labels == label].mean() for label in (0, 1, NEGATIVE, UNKNOWN)]
    assert browser.run(CLASSES) == {
        name: pytest.approx(share, abs=1e-6) for name, share in zip(toy.NAMES, shares, strict=True)
    }
    return threshold


def test_the_threshold_is_dragged_typed_and_moved_by_keys(page, toy, run):
    chosen = check_numbers(page, toy, run, run[1].threshold - 1e-9, run[1].threshold + 1e-9)
    page.drag(SLIDER, (0, 0), (150, 0))
    dragged = check_numbers(page, toy, run, chosen, 9)
    page.keys(SLIDER, "\ue012" * 3)  # left
    moved = check_numbers(page, toy, run, -9, dragged)
    page.keys(SLIDER, "\ue00e")  # page up
    check_numbers(page, toy, run, moved, 9)
    page.run("document.querySelector('#typed').value = ''")
    page.keys("#typed", "0.5\n")
    check_numbers(page, toy, run, 0.4, 0.6)
    assert "more than the 10 % asked for" in page.run("return document.querySelector('.promise').innerText")
    page.click(".controls button")
    assert page.run(THRESHOLD) == chosen
    assert "keeps the 10 % asked for" in page.run("return document.querySelector('.promise').innerText")


def test_pictures_change_sides_with_the_threshold_and_are_filtered_by_class(page, toy, run):
    _, found, (labels, predictions, scores) = run
    strangers = page.run(TILES, "stranger")
    assert len(strangers) == ((labels < 0) & (scores >= np.float32(found.threshold))).sum() < 80
    page.keys(SLIDER, "\ue014" * 12)  # right
    threshold = np.float32(page.run(THRESHOLD))
    fewer = page.run(TILES, "stranger")
    assert len(fewer) == ((labels < 0) & (scores >= threshold)).sum() < len(strangers)
    assert len(page.run(TILES, "left")) >= len(strangers) - len(fewer)
    refused = page.run(TILES, "refused")
    newly = page.run("return document.querySelectorAll('[data-kind=refused] .moved').length")
    low = (labels >= 0) & (scores < threshold)
    assert len(refused) == low.sum()
    assert newly == (low & (scores >= np.float32(found.threshold))).sum() > 0
    wrong = (labels >= 0) & (labels != predictions) & (scores >= threshold)
    assert len(page.run(TILES, "wrong")) == wrong.sum() > 0
    page.run(PICK, toy.HOSTILE)
    own = page.run(TILES, "stranger")
    assert len(own) == ((labels == UNKNOWN) & (scores >= threshold)).sum() > 0
    assert all(text.startswith(toy.HOSTILE + " →") for text, *_ in own)
    assert page.run(TILES, "refused") == []


def test_names_of_data_sets_stay_text(page, toy, run):
    assert page.run("return document.title") == "Report of a<b>"
    assert page.run("return [...document.querySelectorAll('main script, main b:not(.share b), main u')].length") == 0
    text = page.run("return document.body.innerText")
    assert all(name in text for name in toy.NAMES)
    assert "python train.py --set gap='<b>'" in text
    new = page.run("return document.querySelector('#new-classes').innerText")
    assert new.startswith(
        "At the calibrated threshold. Classes never seen: a promise of 10 % at 95 % confidence takes 38"
    )
    assert new.endswith("20 % of it are accepted on average, 50 % of '<u>fly', the worst.")
    titles = page.run("return [...document.querySelectorAll('.tiles li')].map(n => n.title)")
    assert any("<i>toy" in title for title in titles)


def test_the_page_fits_a_phone_and_prints(page, run, tmp_path):
    page.open(report([run[0]]), width=390)
    assert page.run("return document.documentElement.scrollWidth") <= 390
    pdf = page.chrome("Page.printToPDF")["data"]
    assert len(pdf) > 10_000


def test_several_runs_are_compared(browser, toy, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    toy.make_run(tmp_path / "worse", seed=1, gap=0.5)
    main([str(run[0]), "worse", "--output", "both.html"])
    assert capsys.readouterr().out == "Report: both.html\n"
    browser.open(tmp_path / "both.html")
    verdict = browser.run("return document.querySelector('.verdict').innerText")
    assert verdict.startswith("Of 2 runs a<b> is best by OpenAUC on unknowns")
    assert "worse differs from a<b> by −0." in verdict
    assert verdict.endswith("on the same images, more than chance.")
    cells = browser.run(CELLS)
    assert [row[:2] for row in cells] == [["a<b>", "seed=0"], ["worse", "seed=1"]]
    browser.click("tbody tr:nth-child(2) th button")
    assert browser.run("return document.querySelector('#runs').value") == "worse"
    evidence = json.loads((tmp_path / "worse" / "evidence.json").read_text(encoding="utf-8"))
    assert browser.run(THRESHOLD) == evidence["thresholds"][evidence["chosen"]]
    assert browser.complaints() == []


def test_a_run_without_evidence_has_a_page(browser, run, tmp_path):
    path = tmp_path / "old"
    path.mkdir()
    (path / "metrics.json").write_bytes((run[0] / "metrics.json").read_bytes())
    browser.open(report([path]))
    assert "judge it again" in browser.run("return document.body.innerText")
    assert browser.complaints() == []
