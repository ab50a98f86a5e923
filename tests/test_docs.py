"""The documentation runs: the blocks of the guides, the names in the table of equations, the examples of docstrings."""

import doctest
import importlib
import inspect
import math
import pathlib
import pkgutil
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import cplus1_keras
from cplus1_keras import (
    backbones,
    bulk,
    calibration,
    configs,
    data,
    heads,
    labels,
    layers,
    losses,
    metrics,
    models,
    posthoc,
    scale,
    scores,
    serving,
)

ROOT = pathlib.Path(__file__).parent.parent
GUIDES = (
    "docs/detection.md",
    "docs/monitoring.md",
    "docs/recipes.md",
    pytest.param("docs/losses.md", marks=pytest.mark.slow),
    pytest.param("docs/multilabel.md", marks=pytest.mark.slow),
    pytest.param("docs/segmentation.md", marks=pytest.mark.slow),
    "docs/wrap.md",
    "README.md",
)
GLOBALS = {
    **{name: value for name, value in vars(labels).items() if not name.startswith("_")},
    "OpenSetModel": cplus1_keras.OpenSetModel,
    "backbones": backbones,
    "bulk": bulk,
    "calibration": calibration,
    "configs": configs,
    "cplus1_keras": cplus1_keras,
    "data": data,
    "heads": heads,
    "keras": keras,
    "losses": losses,
    "math": math,
    "metrics": metrics,
    "np": np,
    "ops": ops,
    "layers": layers,
    "models": models,
    "posthoc": posthoc,
    "scores": scores,
    "serving": serving,
    "tf": tf,
}
EQUATIONS = {
    "C1": {str(number) for number in range(1, 4)},
    "TH": {f"{chapter}.{n}" for chapter, last in ((3, 19), (4, 7), (5, 2)) for n in range(1, last + 1)},
    "CA": {str(number) for number in range(1, 8)},
    "NC": {str(number) for number in range(1, 11)},
    "HN": {str(number) for number in range(1, 13)},
}
"""The numbers of the equations that the papers print."""


def modules():
    names = [info.name for info in pkgutil.walk_packages(cplus1_keras.__path__, "cplus1_keras.")]
    return ["cplus1_keras", *names]


def run_examples(test):
    """Run a doctest; what went wrong as text, "" if nothing."""
    report = []
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(test, out=report.append)
    return "".join(report)


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_give_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    module = importlib.import_module(name)
    for test in doctest.DocTestFinder().find(module, extraglobs={**GLOBALS, **vars(module)}):
        wrong = run_examples(test)
        assert not wrong, wrong


@pytest.mark.parametrize("name", modules())
def test_what_takes_arguments_has_an_example(name):
    module = importlib.import_module(name)
    own = [
        thing
        for key, thing in vars(module).items()
        if not key.startswith("_") and getattr(thing, "__module__", None) == name
        if inspect.isfunction(thing) or inspect.isclass(thing)
    ]
    assert [thing.__name__ for thing in own if not thing.__doc__] == []
    assert [thing.__name__ for thing in own if "Args:" in thing.__doc__ and ">>>" not in thing.__doc__] == []


def blocks(name):
    """The Python blocks of a file, each with the line that it begins in."""
    text = (ROOT / name).read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, block.start()) + 2, block[1]) for block in found]


@pytest.fixture
def a_run(tmp_path, monkeypatch):
    """A working directory with a run of the digits in it, untrained, which the README loads."""
    monkeypatch.chdir(tmp_path)
    images = keras.Input((8, 8, 1))
    model = keras.Model(images, heads.LinearHead(6)(keras.layers.Flatten()(images)))
    found = calibration.threshold_at_fpr(np.arange(100.0), 0.1)
    reject = layers.Reject(6, found.threshold)
    serving.save("runs/digits", serving.Predictor(model, reject, calibration=found))


@pytest.fixture
def masks(a_run):
    """Images and their masks in that directory, which the guide to segmentation trains on."""
    generator = np.random.default_rng(0)
    for folder in ("images", "masks"):
        pathlib.Path(folder).mkdir()
    for number in range(60):
        mask = generator.choice([0, 1, 2, 3, 4, 255], (5, 6)).astype("uint8").repeat(8, 0).repeat(8, 1)
        image = np.stack([mask ^ 40] * 3, axis=-1)
        for folder, pixels in {"images": image, "masks": mask[..., None]}.items():
            tf.io.write_file(f"{folder}/{number}.png", tf.io.encode_png(pixels))


@pytest.fixture
def sets(masks):
    """A list of images with the classes that they show in that directory, for the guide to label sets."""
    generator = np.random.default_rng(0)
    lines = ["file,labels"]
    for number in range(240):
        shown = [name for name in ("cat", "car", "bus", "owl", "tree") if generator.random() < 0.2]
        pixels = generator.integers(0, 256, (8, 10, 3)).astype("uint8")
        tf.io.write_file(f"photos/{number}.png", tf.io.encode_png(pixels))
        lines.append(f"photos/{number}.png,{';'.join(shown)}")
    pathlib.Path("labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def boxes(sets):
    """Objects of these images, for the guide to detection."""
    lines = ["path,x1,y1,x2,y2,class"]
    for number in range(60):
        name = ("cat", "car", "bus", "tree", "owl")[number % 5]
        lines.append(f"photos/{number}.png,1,2,{4 + number % 6},7,{name}")
    pathlib.Path("boxes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("name", GUIDES)
def test_blocks_of_the_guides_run_in_order(name, masks, sets, boxes):
    assert blocks(name)
    namespace = {"__name__": "guide"}
    for line, source in blocks(name):
        if source.startswith(">>>"):
            wrong = run_examples(doctest.DocTestParser().get_doctest(source, namespace, name, name, line))
            assert not wrong, wrong
        else:
            exec(compile("\n" * (line - 1) + source, ROOT / name, "exec"), namespace)


def test_table_of_scales():
    text = (ROOT / "docs/losses.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|(.*)\|$", text, re.MULTILINE)
    assert len(rows) == 5
    for classes, cells in rows:
        classes = int(classes)
        margins = (None, losses.CosFace(0.35), losses.ArcFace(0.5))
        expected = [
            f"{scale.simplex_bound(classes, margin=m):.1f} to {scale.orthogonal_bound(classes, margin=m):.1f}"
            for m in margins
        ]
        for dim in (2, classes):
            expected.append(", ".join(f"{scale.largest_margin(classes, dim, k):.2f}" for k in ("cosine", "angular")))
        assert [cell.strip() for cell in cells.split("|")] == expected


def test_names_in_the_table_of_equations_exist():
    text = (ROOT / "docs/equations.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`(cplus1_keras\.[\w.]+)`", text))
    assert len(names) > 50
    for name in names:
        assert exists(name), name
    assert not exists("cplus1_keras.losses.Absent")


def exists(name):
    """Whether a dotted name leads to something, through modules and then attributes."""
    module, _, attribute = name.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), attribute)
    except ImportError:
        return False


def test_table_of_equations_is_complete():
    text = (ROOT / "docs/equations.md").read_text(encoding="utf-8").split("## What the papers print")[0]
    for paper, numbers in EQUATIONS.items():
        section = text.split(f"### [{paper}]")[1].split("### [")[0]
        assert f": {len(numbers)} equations" in section.splitlines()[0]
        rows = re.findall(r"^\| ([\d.]+) \| [^|]+ \| ([^|]+) \|$", section, re.MULTILINE)
        assert sorted(number for number, _ in rows) == sorted(numbers)
        assert all("`cplus1_keras." in name or name.startswith(("None", "a sum")) for _, name in rows)
