"""Configs are found by name, told in a list, and changed by settings that reach the experiment and its task."""

import dataclasses
import inspect
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest

from cplus1_keras import configs, scores
from cplus1_keras.configs.families import families
from cplus1_keras.configs.needs import NEEDS, path_to
from cplus1_keras.configs.settings import settable

OWN = """
import dataclasses
from cplus1_keras import configs

SIZE = 3

def mine(width=3, *, depth: int | None = None, rate=0.1, wide=False):
    return dataclasses.replace(configs.resolve("digits"), name=f"mine {width!r} {depth!r} {rate!r} {wide!r}")

def needs_more(folder):
    return dataclasses.replace(configs.resolve("digits"), name=folder)

def text():
    return "digits"
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder to stand in, with a module of a user's own."""
    (tmp_path / "my_runs.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    yield tmp_path
    sys.modules.pop("my_runs", None)


def test_settings_reach_the_experiment_and_its_task():
    settings = ["epochs=3", "fpr=0.2", "negative_fraction=0.3", "name=5", "score=energy", "learning_rate=1"]
    experiment = configs.resolve("digits", settings)
    assert (experiment.epochs, experiment.fpr, experiment.name, experiment.learning_rate) == (3, 0.2, "5", 1)
    assert experiment.task.negative_fraction == 0.3
    assert experiment.score is scores.energy
    assert configs.resolve("digits").epochs != 3
    assert configs.resolve("digits").task.negative_fraction is None


def test_tuples_booleans_and_none_are_set():
    settings = ["base=(2048,512)", "crop_size=64,96", "scales=[1,1.5]", "flip_test=True", "edge_width=None", "width=64"]
    task = configs.resolve("camvid", settings).task
    assert (task.base, task.crop_size, task.scales) == ((2048, 512), (64, 96), (1, 1.5))
    assert (task.flip_test, task.edge_width) == (True, None)
    assert configs.resolve("camvid", ["crop_size=64"]).task.crop_size == 64
    steps = configs.resolve("digits", ["epochs=None", "steps=40", "interval=10"])
    assert (steps.epochs, steps.steps) == (None, 40)


def test_all_that_is_settable_is_plain_and_named_once():
    experiment = configs.resolve("camvid")
    fields = settable(experiment)
    assert fields["score"] == ("experiment", (str,))
    assert fields["base"] == ("task", (tuple, type(None)))
    assert fields["schedule"] == ("experiment", (str, type(None)))
    assert not {"task", "data", "model", "loss", "optimizer", "class_weights"} & set(fields)
    assert {"crop_size", "flip_test", "largest", "fpr", "steps", "seed"} <= set(fields)

    @dataclasses.dataclass(frozen=True)
    class Task(type(experiment.task)):
        seed: int = 0

    with pytest.raises(ValueError, match="`seed` is a field of the Experiment and of its task"):
        settable(dataclasses.replace(experiment, task=Task()))


def test_a_function_of_ones_own_in_the_current_folder(own):
    assert configs.resolve("my_runs.mine", ["width=5", "depth=2", "rate=1", "wide=True"]).name == "mine 5 2 1 True"
    assert configs.resolve("my_runs.needs_more", ["folder=here", "epochs=2"]).epochs == 2
    assert configs.find("my_runs.text")() == "digits"


def test_a_fresh_process_finds_it_too(own):
    code = "from cplus1_keras import configs; print(configs.resolve('my_runs.mine').name)"
    path = str(inspect.getfile(configs)).split("cplus1_keras")[0]
    script = f"import sys; sys.path = [{path!r}, *[p for p in sys.path if p]]\n{textwrap.dedent(code)}"
    (own / "elsewhere.py").write_text(script)
    result = subprocess.run([sys.executable, "-P", "elsewhere.py"], cwd=own, capture_output=True, text=True)
    assert result.stdout == "mine 3 None 0.1 False\n", result.stderr


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("digit", [], "Did you mean 'digits'"),
        ("no_such_module.run", [], "names no function: No module named 'no_such_module'. Looked in"),
        ("os.path", [], "'os.path' names no function. Received: module"),
        ("os.getcwd", [], "'os.getcwd' is no config, for it returns no Experiment"),
        ("my_runs.text", [], "returns no Experiment. Received: 'digits'"),
        ("my_runs.absent", [], "names no function: module 'my_runs' has no attribute 'absent'"),
        ("my_runs.SIZE", [], "names no function. Received: int"),
        ("my_runs.needs_more", [], "needs --set folder=VALUE"),
        ("my_runs.mine", ["width=wide"], "`--set width` needs a value of type int. Received: wide"),
        ("my_runs.mine", ["depth=2.5"], "type int or None. Received: 2.5"),
        ("digits", ["epochs"], "name=value"),
        ("digits", ["epoch=3"], "`--set epoch` is not known to digits. Did you mean 'epochs'"),
        ("digits", ["epochs=many"], "type int"),
        ("digits", ["epochs=2.5"], "type int"),
        ("digits", ["epochs=True"], "type int"),
        ("digits", ["fpr=low"], "type number"),
        ("digits", ["score=probability"], "There is no score 'probability'. Scores: .*log_odds"),
        ("digits", ["loss=softmax"], "`--set loss` is a function or an object.*There are: .*epochs"),
        ("digits", ["augment=flip"], "`--set augment` is a function or an object"),
        ("camvid", ["class_weights=balanced"], "`--set class_weights` is a function or an object.*crop_size"),
        ("camvid", ["flip_test=yes"], "True or False"),
        ("camvid", ["scales=1"], r"a tuple like \(480,640\)"),
        ("camvid", ["crop_size=8"], "`crop_size` must be at least 32"),
        ("fashion", ["method=foo"], "`method` must be one of 'softmax', .*Received: method='foo'"),
        ("camvid", ["method=arcface"], "one of 'softmax', 'compactness', 'cplus1'"),
        ("camvid", ["centers=fixed"], "one of 'moving_average', 'learnable', 'shared'"),
    ],
)
def test_mistakes_are_told(own, name, settings, told):
    with pytest.raises(ValueError, match=told):
        configs.resolve(name, settings)


def test_what_can_be_set_is_told_once():
    with pytest.raises(ValueError, match="not known") as told:
        configs.resolve("camvid", ["stepps=3"])
    assert str(told.value).split("There are: ")[1].split(", ").count("steps") == 1


def test_each_config_that_ships_is_listed_and_complete():
    lines = configs.listing().splitlines()
    for name, config in configs.SHIPPED.items():
        line = next(line for line in lines if line.split()[:1] == [name])
        assert config.summary in line
        assert NEEDS[config.needs].split()[0] in configs.listing()
        assert callable(configs.resolve(name).run)
        assert configs.resolve(name).name.startswith(name)
    assert any("data_dir=, download=False, letters=, knowns=train[:4%]" in line for line in lines)
    assert "negative_fraction" in lines[-1]


@pytest.mark.parametrize("name", [name for name, config in configs.SHIPPED.items() if config.needs not in ("", "tfds")])
def test_data_that_do_not_ship_say_where_they_are_from(name):
    with pytest.raises(ValueError, match=r"not part of this package.*--set (root=FOLDER|letters=FILE): .*https?://"):
        configs.resolve(name).data(0)
    setting = "letters" if name.startswith("toy") else "root"
    with pytest.raises(FileNotFoundError, match=f"`{setting}` is /nowhere/at/all"):
        configs.resolve(name, [f"{setting}=/nowhere/at/all"]).data(0)


def test_tfds_is_told_where_and_whether_to_download(monkeypatch):
    from cplus1_keras import data

    asked = []

    def read(*arguments, **options):
        asked.append((arguments, options))
        digits = data.sources.digits()
        return digits.subset(np.arange(len(asked) - 1, len(digits), 2))

    monkeypatch.setattr(data.sources, "tfds", read)
    splits = configs.resolve("mnist_small", ["data_dir=/sets", "download=True", "knowns=train[:1%]"]).data(0)
    assert splits.num_classes == 6
    options = {"data_dir": "/sets", "download": True}
    assert asked == [(("mnist", "train[:1%]"), options), (("mnist", "test"), options)]


@pytest.mark.parametrize(("name", "channels"), [("mnist_small", 1), ("cifar10_small", 3), ("toy_small", 1)])
def test_all_families_build_and_take_a_step(name, channels):
    import keras

    number = 10 if name == "toy_small" else 6
    x = np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3) if channels == 3 else (8, 28, 28, 1)).astype("float32")
    for method in families(number, 10) if name == "toy_small" else ("hnc_kd", "cplus1_learnable"):
        experiment = configs.resolve(name, [f"method={method}"])
        assert experiment.name == f"{name}_{method}"
        model = experiment.model(number)
        model.compile(keras.optimizers.SGD(1e-4), experiment.loss, run_eagerly=True)
        assert np.isfinite(model.train_on_batch(x, np.arange(8) % 6 - 1, return_dict=True)["loss"]), method


def test_the_thesiss_settings():
    for name, classes, fraction in (("toy", 10, 0.468), ("fashion", 6, None)):
        experiment = configs.resolve(name)
        assert (experiment.learning_rate, experiment.epochs, experiment.batch_size) == (1e-3, 15, 128)
        assert experiment.task.negative_fraction == fraction
        assert experiment.model(classes).get_layer("features").units == 10
    small = configs.resolve("toy_small", ["method=e_ncm"])
    assert (small.learning_rate, small.epochs, small.batch_size) == (2e-3, 6, 64)
    assert small.task.negative_fraction == 0.468


def test_a_zip_file_is_unpacked_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("train/a.txt", "a")
    folder = path_to("camvid", tmp_path / "set.zip")
    assert (folder / "train" / "a.txt").read_text() == "a"
    (folder / "mark").touch()
    assert (path_to("camvid", str(tmp_path / "set.zip")) / "mark").is_file()
    assert path_to("camvid", folder) == folder


@pytest.mark.parametrize(
    ("name", "settings", "shape", "features"),
    [
        ("cifar100", ["net=densenet", "method=hnc_mse"], (32, 32, 3), 342),
        ("cifar10_plain", ["dropout=0.25", "method=l_softmax", "width=0.5"], (32, 32, 3), 256),
        ("cifar100_plain", ["method=e_ncm"], (32, 32, 3), 512),
        ("cifar100", ["coarse=True", "net=small", "method=hnc_kd"], (32, 32, 3), 64),
        ("tiny_imagenet", ["protocol=3", "method=arc_eos"], (64, 64, 3), 15),
        ("cifar100", ["method=c_ncm"], (32, 32, 3), 100),
        ("imagenet", ["protocol=2"], (224, 224, 3), 30),
        pytest.param("imagenet", ["method=cos_eos"], (224, 224, 3), 116, marks=pytest.mark.slow),
        pytest.param("cub", ["weights=None"], (224, 224, 3), 2048, marks=pytest.mark.slow),
    ],
)
def test_nets_of_photographs(name, settings, shape, features):
    experiment = configs.resolve(name, settings)
    numbers = {"cifar10_plain": 10, "tiny_imagenet": 15, "imagenet": 30 if "protocol=2" in settings else 116}
    numbers |= {"cub": 200, "cifar100": 20 if "coarse=True" in settings else 100, "cifar100_plain": 100}
    number = numbers[name]
    model = experiment.model(number)
    assert model.input_shape[1:] == shape
    assert model.output["logits"].shape[-1] == number
    assert model.output["features"].shape[-1] == features
    assert experiment.task.crop == ((256, 224) if shape[0] == 224 else None)


def test_the_weight_of_negative_maps_is_a_setting():
    weights = [weight for weight, _ in configs.resolve("cifar100", ["method=hnc_mse", "hnc=10"]).loss.terms()]
    assert weights == [1.0, pytest.approx(0.007)]


def test_the_anchor_losss_training():
    """Section 4.2: batches of 256, weight decay 5e-4, a rate of 0.1 that falls, about 90 epochs."""
    experiment = configs.resolve("mnist_plain", ["dropout=0.25"])
    assert (experiment.batch_size, experiment.epochs, experiment.learning_rate) == (256, 90, 0.1)
    assert (experiment.optimizer(0.1).l2, experiment.optimizer(0.1).momentum) == (5e-4, 0.9)
    assert [layer.rate for layer in experiment.model(10).layers if "dropout" in layer.name] == [0.25, 0.25]
    assert experiment.task.augment is None


def test_tiny_imagenet_is_cut_to_its_classes(shared):
    import collections

    root = shared / "data/tiny_imagenet_openset/tiny_imagenet_openset.zip"
    for number, (known, negative, unknown) in {1: (6, 12, 40), 3: (15, 12, 35)}.items():
        splits = configs.resolve("tiny_imagenet", [f"protocol={number}", f"root={root}"]).data(0)
        assert (splits.num_classes, len(splits.protocol.negative), len(splits.protocol.unknown)) == (
            known,
            negative,
            unknown,
        )
        counts = collections.Counter(np.sign(splits.test.labels + 1) - (splits.test.labels == -2))
        assert counts == {1: 50 * known, 0: 50 * negative, -2: 50 * unknown}
        assert len(splits.train) == 84 * (known + negative)  # of 120 images, a fifth watches and a tenth calibrates
    with pytest.raises(ValueError, match="a single known class"):
        configs.resolve("tiny_imagenet", ["protocol=2"])


def test_imagenet_comes_from_a_folder_or_from_tfds(monkeypatch, tmp_path):
    from cplus1_keras import data
    from cplus1_keras.configs import photos

    asked = []
    monkeypatch.setattr(data.sources, "tfds", lambda *given, **more: asked.append((given, more)))
    photos.imagenet_sources(data_dir="/sets")
    assert asked == [(("imagenet2012", part), {"data_dir": "/sets"}) for part in ("train", "validation")]
    monkeypatch.setattr(data.sources, "ilsvrc", lambda root, part: (root, part))
    assert photos.imagenet_sources(str(tmp_path)) == [(tmp_path, "train"), (tmp_path, "val")]


def test_the_superclasses_of_cifar100(shared):
    settings = ["coarse=True", f"data_dir={shared / 'tfds'}"]
    splits = configs.resolve("cifar100", settings).data(0)
    assert (splits.num_classes, len(splits.train), len(splits.test)) == (20, 6800, 2000)
    assert "aquatic_mammals" in splits.class_names


def test_the_recipes_of_photographs():
    """HNC, section 4.1: 164 epochs from 0.1, a tenth of it from epoch 84 and 122 on; crops and flips for "+"."""
    import tensorflow as tf

    from cplus1_keras import data

    plus, plain = configs.resolve("cifar10"), configs.resolve("cifar10", ["shifted=False"])
    assert (plus.epochs, plus.batch_size, plus.learning_rate) == (164, 128, 0.1)
    rate = plus.schedule(0.1, 164 * 351)
    rates = [float(rate(epoch * 351 + 1)) for epoch in (0, 83, 84, 121, 122, 163)]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-5)
    assert plain.task.augment is None
    example = {"image": tf.reshape(tf.range(1, 32 * 32 * 3 + 1, dtype=tf.float32), (32, 32, 3))}
    seen = np.stack([plus.task.augment(example, seed=[0, number])["image"] for number in range(40)])
    assert seen.shape == (40, 32, 32, 3)
    assert len({image.tobytes() for image in seen}) > 30
    assert (seen == 0).any(axis=(1, 2, 3)).mean() > 0.8  # black from beyond the edge
    protocol = data.protocols.closed("cifar100")
    assert (protocol.num_classes, protocol.has_negatives) == (100, False)
    assert configs.resolve("imagenet").optimizer(0.1).momentum == 0.9
