"""What runs are worth, in a sentence."""

from cplus1_keras.calibration.evidence import percent as rate


def judge_one(run):
    """A run's figures at its threshold, and whether its promise holds.

    >>> judge_one(read_run("runs/digits"))  # doctest: +SKIP
    'Answers 87.5 % of the known images rightly and lets in 8.3 % of the negatives and 2.5 % of the unknowns; ...'
    """
    own, unit = run.figures["at_threshold"], (run.evidence or {}).get("unit", "image")
    rates = [(name, own.get(f"fpr_{name}")) for name in ("negative", "unknown")]
    none = own["ccr"] is None
    text = f"Meets no known {unit}" if none else f"Answers {percent(own['ccr'])} of the known {unit}s rightly"
    accepted = [f"{percent(rate)} of the {name}s" for name, rate in rates if rate is not None]
    if accepted:
        text += f" and lets in {' and '.join(accepted)}"
    elif not none:
        text += f" and accepts {percent(own['coverage'])} of them"
    return f"{text}{_promise(run.figures)}."


def _promise(figures):
    """Whether the promise of the calibration is kept by the classes of the test, as the end of a sentence."""
    found = figures.get("calibration") or {}
    if found.get("rule") != "fpr" or "by_class" not in figures:
        return ""
    asked = rate(found["target"])
    broken = [name for name, row in figures["by_class"].items() if row["at_least"] > found["target"]]
    if not broken:
        return f"; no class of strangers clearly breaks the promise of at most {asked}"
    names = ", ".join(broken[:3]) + (f" and {len(broken) - 3} more" if len(broken) > 3 else "")
    return f"; the promise of at most {asked} is clearly broken by {names}"


def judge_many(comparison, best):
    """Which run is best by the figure they were compared by, and whether that could be chance."""
    value, difference = comparison["best"], comparison["difference"]
    if value is None:
        return f"These {len(best)} runs share no figure to compare them by."
    text = f"Of {len(best)} runs {best[0].name} is best by {comparison['figure'].replace(', ', ' on ')}, {value:.3f}"
    first, other = comparison["baseline"], comparison["other"]
    pair = f"{other} differs from {first}"
    if difference is None or None in difference:
        return f"{text}; whether {pair} by more than chance is not known."
    middle, low, high = difference
    sure = "more than chance" if low > 0 or high < 0 else "which may be chance"
    numbers = f"{middle:+.3f} [{low:+.3f}, {high:+.3f}]".replace("-", "−")
    return f"{text}; {pair} by {numbers} on the same images, {sure}."


def percent(share):
    """A share in percent, as the page shows it."""
    return f"{100 * share:.{2 if 0 < share < 0.00995 else 1}f} %"
