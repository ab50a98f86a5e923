"""Configs are found by name and changed by settings."""

import pytest

from cplus1_keras import configs


def test_settings_reach_the_experiment_and_keep_their_type():
    experiment = configs.resolve("digits", ["epochs=3", "fpr=0.2", "negative_fraction=0.3", "name=mine"])
    assert (experiment.epochs, experiment.fpr, experiment.negative_fraction) == (3, 0.2, 0.3)
    assert experiment.name == "mine"
    assert configs.resolve("digits").epochs != 3


def test_a_dotted_name_and_arguments_of_the_function(monkeypatch, tmp_path):
    (tmp_path / "my_runs.py").write_text(
        "import dataclasses\nfrom cplus1_keras import configs\n"
        "def mine(width=3):\n    return dataclasses.replace(configs.resolve('digits'), name=f'mine{width}')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert configs.resolve("my_runs.mine", ["width=5"]).name == "mine5"


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("digit", [], "Did you mean 'digits'"),
        ("no_such_module.run", [], "names no function"),
        ("digits", ["epochs"], "name=value"),
        ("digits", ["epoch=3"], "Did you mean 'epochs'"),
        ("digits", ["epochs=many"], "type int"),
        ("digits", ["epochs=2.5"], "type int"),
        ("digits", ["fpr=low"], "type number"),
        ("digits", ["loss=softmax"], "not known"),
    ],
)
def test_mistakes_are_told(name, settings, told):
    with pytest.raises(ValueError, match=told):
        configs.resolve(name, settings)


def test_each_config_that_ships_is_listed_with_a_line_and_is_complete():
    listing = configs.listing()
    for name, function in configs.shipped().items():
        line = next(line for line in listing.splitlines() if line.split()[:1] == [name])
        assert len(line.split()) > 3, f"{name} needs a docstring whose first line says what it is"
        assert callable(function().run)
