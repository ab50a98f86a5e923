"""What a run tells: settings as plain values with where they come from, and its last words."""

import dataclasses
import functools
import json
import pathlib
import types

import pytest

from cplus1_keras import configs, epilogue, losses, optimizers, tasks
from cplus1_keras.provenance import describe, list_settings, provenance


@dataclasses.dataclass(frozen=True)
class Some:
    name: str
    task: tasks.Task
    loss: object
    value: object


def described(value):
    return describe(Some("run", tasks.Classification(negative_fraction=0.25), losses.CrossEntropyLoss(), value))


def test_settings_are_plain_values_with_their_origin():
    told = described(functools.partial(tasks.Task, 3, scores={1: (None, True, 0.5)}))
    origin = told.pop("provenance")
    told.pop("settings")
    assert {**origin, "date": 0} == {**provenance(), "date": 0}
    assert json.loads(json.dumps(told)) == told
    assert told == {
        "name": "run",
        "task": {"class": "Classification", **dataclasses.asdict(tasks.Classification(negative_fraction=0.25))},
        "loss": {"class": "CrossEntropyLoss", **losses.CrossEntropyLoss().get_config()},
        "value": {
            "function": "cplus1_keras.tasks.task.Task",
            "arguments": [3],
            "scores": {"1": [None, True, 0.5]},
        },
    }
    assert described([2, "a"])["value"] == [2, "a"]
    assert described(described)["value"].endswith("test_epilogue.described")
    assert described(types.SimpleNamespace(a=1))["value"] == "namespace(a=1)"


def test_what_tells_a_run_from_others():
    """All that has no default, and what everybody asks for; in numbers, or a few words."""
    task = tasks.Classification(crop=(9, 8), by_class=True, augment=lambda example, seed: example)
    loss = losses.CrossEntropyLoss() + 0.25 * losses.MagnitudeLoss(radius=3.0)
    experiment = dataclasses.replace(
        configs.resolve("digits"),
        **{"task": task, "loss": loss, "ema": 0.5, "precision": "float64", "schedule": optimizers.poly},
        **{"data": functools.partial(print, 1, end="x"), "interval": 7, "patience": None},
    )
    told = list_settings(experiment)
    wanted = {"name": "digits", "task": "Classification", "crop": "9, 8", "by_class": True, "interval": 7, "ema": 0.5}
    wanted |= {"precision": "float64", "schedule": "optimizers.poly", "data": "print(1, end=x)", "seed": 0, "fpr": 0.1}
    wanted |= {"augment": f"{__name__}.test_what_tells_a_run_from_others.<locals>.<lambda>", "confidence": 0.95}
    assert {name: told.get(name) for name in wanted} == wanted
    assert told["loss"].startswith("CrossEntropyLoss(")
    assert told["loss"].endswith(" + 0.25 · MagnitudeLoss(radius=3.0)")
    assert not {"mixup", "warmup", "coverage", "steps", "patience", "note"} & set(told)
    assert list_settings(Some("a", tasks.Task(), None, [1, None]))["value"] == "1, none"


def test_a_test_without_knowns_is_told():
    """A detector that hits no known object makes no decision about one."""
    none = {"ccr": None, "coverage": None, "fpr_negative": 0.25, "fpr_unknown": None}
    text = "The test has no known detections. Accepted are 25.0 % of the negative ones."
    assert epilogue.at_threshold(none, "detection") == text
    assert epilogue.at_threshold({"ccr": None}, "image") == "The test has no known images."


def test_near_and_far_unknowns_are_told():
    figures = {"open_set": {}, "at_threshold": {"ccr": 0.5, "coverage": 0.75}, "seconds": 1, "by_class": {}}
    figures["by_distance"] = {
        "near": {"images": 40, "accepted": 0.25, "interval": [0.125, 0.5]},
        "far": {"images": 1200, "accepted": 0.01, "interval": [0.005, 0.02]},
    }
    task = types.SimpleNamespace(tables=lambda given: [], unit="image")
    text = epilogue.epilogue(task, figures, "Accept score >= 1", pathlib.Path("runs/a"), pathlib.Path("runs/a/1"))
    near, far = "of the near unknowns: 25.00 % (12.50 to 50.00 %, 40 images)", "of the far unknowns: 1.00 % (0.50 to"
    assert f"\n\nAccepted {near}; {far} 2.00 %, 1,200 images).\n\n" in text


@pytest.mark.parametrize("own", [None, "elsewhere"])
def test_the_last_words(own):
    figures = {"open_set": {}, "at_threshold": {"ccr": 0.5, "coverage": 0.75}, "seconds": 61.6, "note": own and "Mind."}
    task = types.SimpleNamespace(tables=lambda given: [f"own table of {len(given)}"], unit="pixel")
    text = epilogue.epilogue(task, figures, "Accept score >= 1", pathlib.Path("runs/a"), pathlib.Path("runs/a/1"), own)
    parts = text.split("\n\n")
    assert parts[0] == "own table of 4"
    assert parts[2] == "Note: Mind." if own else "Note" not in text
    assert parts[1].splitlines() == ["Accept score >= 1", epilogue.at_threshold(figures["at_threshold"], "pixel")]
    assert "known pixels are answered right, 75.0 % are accepted." in parts[1]
    assert "Took 62 s" in text
    assert "tensorboard --logdir runs/a/logs" in text
    assert "saved_model_cli show --dir runs/a/1 " in text
    assert text.endswith(f"are in {own or 'runs/a'}")
