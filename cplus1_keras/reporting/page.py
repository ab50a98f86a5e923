"""One HTML file that tells what runs are worth: it needs no network, and all its texts are data, never markup."""

import base64
import importlib.resources
import io
import json

from PIL import Image

from cplus1_keras.calibration.evidence import NewClasses, check_fields
from cplus1_keras.plots.style import COLOURS, ROLES
from cplus1_keras.reporting.comparison import compare
from cplus1_keras.reporting.sections import curves, facts, tables
from cplus1_keras.reporting.verdict import judge_many, judge_one

PICTURES = 3
"""Up to so many runs a page shows the figures that they have as files."""

PROMISE = ("rule", "target", "confidence", "bound", "score", "event")
"""What the page tells of a calibration."""

THUMBNAILS = 8
"""So many runs, the best, have thumbnails."""

LARGEST, WIDEST = 150_000, 1400
"""A figure of more bytes becomes a JPEG, of so many pixels at most."""


def make_page(runs):
    """The text of the HTML file.

    Args:
        runs: `Run`s, one or more; the first is what the others are compared with.

    >>> make_page([read_run("runs/digits")])  # doctest: +SKIP
    """
    comparison, best = compare(runs) if len(runs) > 1 else (None, [*runs])
    told = []
    for run in runs:
        evidence = dict(run.evidence) if run.evidence else None
        if evidence and run not in best[:THUMBNAILS]:
            evidence["examples"] = []
            evidence.pop("thumbnails", None)
        parts = {"name": run.name, "verdict": judge_one(run), "facts": facts(run), "tables": tables(run)}
        found = run.figures.get("calibration") or {}
        promise = {name: found[name] for name in PROMISE if name in found} | {"classes": "classes" in found}
        if found.get("new_classes"):
            promise["new_classes"] = str(NewClasses(**check_fields(NewClasses, found["new_classes"])))
        parts |= {"promise": promise, "evidence": evidence, "curves": curves(run)}
        told.append({**parts, "pictures": _pictures(run) if len(runs) <= PICTURES else []})
    title = f"Report of {runs[0].name}" if len(runs) == 1 else f"{len(runs)} runs compared"
    verdict = told[0]["verdict"] if len(runs) == 1 else judge_many(comparison, best)
    page = {"title": title, "verdict": verdict, "comparison": comparison, "runs": told, "colours": COLOURS}
    return _fill(page)


def _fill(page):
    """The template with its style, its program and its data."""
    folder = importlib.resources.files("cplus1_keras.reporting")
    read = {kind: (folder / f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")}
    roles = "".join(f"--{role}:{colour};" for role, colour in ROLES.items())
    # No "<" is left that could end the element: the browser's parser does not look inside JSON.
    data = json.dumps(page, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    parts = {"css": read["css"].replace("/* roles */", roles), "js": read["js"], "data": data.replace("<", "\\u003c")}
    text = read["html"]
    for name in ("css", "js", "data"):  # the data last: what looks like a place in it stays as it is
        text = text.replace("{{" + name + "}}", parts[name])
    return text


def _pictures(run):
    """Names, sizes and data URLs of the figures that a run has as files, those that can be read."""
    files = [*sorted(run.path.glob("*.png")), *sorted((run.path / "pictures").glob("*.png"))]
    found = []
    for file in files:
        content = file.read_bytes()
        try:
            with Image.open(io.BytesIO(content)) as image:
                picture, kind = image.convert("RGB"), "png"
        except OSError:
            continue
        if len(content) > LARGEST:
            picture.thumbnail((WIDEST, 4 * WIDEST))
            buffer = io.BytesIO()
            picture.save(buffer, "jpeg", quality=85)
            content, kind = buffer.getvalue(), "jpeg"
        url = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        size = dict(zip(("width", "height"), picture.size, strict=True))
        found.append({"name": str(file.relative_to(run.path)), "url": url, **size})
    return found
