"""The papers' tables: rows that fit together, that run in a small version, go on where they stopped, and tell."""

import dataclasses
import importlib.util
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parent.parent / "benchmarks"
NAMES = ("thesis6.1", "thesis6.2", "ncm2", "ncm3", "hnc1", "hnc2", "hnc3", "hnc4", "hnc5", "hnc6", "hnc7")
sys.path.insert(0, str(FOLDER))
TABLES = importlib.import_module("tables").TABLES
sys.path.remove(str(FOLDER))


@pytest.fixture
def scripts(monkeypatch):
    """The scripts of the folder, which is no package, by name."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


def test_all_tables_are_there():
    assert set(NAMES) < set(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_rows_and_claims_fit_together(name, scripts):
    table = TABLES[name]
    names = [row.name for row in table.rows]
    assert len(set(names)) == len(names)
    assert any(row.small for row in table.rows)
    for row in table.rows:
        assert row.reference is None or row.reference in names
        assert len(row.printed) in (0, len(table.columns)) or name == "hnc5"
    for claim in table.claims:
        assert {claim.better, claim.worse} <= {*names}
        assert claim.column in table.columns
        printed = [table.printed(row, claim.column) for row in (claim.better, claim.worse)]
        if name.startswith("hnc") and None not in printed:  # a claim is the paper's own
            assert printed[0] > printed[1]
    resolved = set()
    for full in (False, True):
        for job in scripts("tables.jobs").list_jobs(name, seeds=1, full=full):
            resolved.add(job.experiment.name)
            assert job.experiment.seed == 0
    assert resolved


def test_what_the_papers_print():
    assert TABLES["thesis6.1"].printed("SFN-ArcFace", "CCR at FPR 1e-2") == 0.5522
    assert TABLES["thesis6.2"].printed("P2 Cos-OS", "CCR at FPR 1e-3") is None
    assert TABLES["thesis6.2"].printed("P3 Arc-EOS", "accuracy") == 0.7764
    assert TABLES["ncm3"].printed("CIFAR100 E-NCM p=0.25", "accuracy") == 71.89
    assert TABLES["hnc1"].printed("ResNet-110 HNC mse", "top-1") == 75.0
    assert TABLES["hnc5"].printed("HNC kd", "FGSM 0.1") == 21.8
    assert TABLES["hnc6"].printed("circular 0.4 HNC kd", "top-1") == 43.04
    assert TABLES["hnc7"].row("ResNeXt-29 16x64 HNC mse").full[:2] == ("cifar100", "net=resnext16")


def _use_few(table, jobs, monkeypatch, images=80):
    """So many images of each split, of all its classes."""
    read = jobs.splits_for

    def few(experiment):
        splits = read(experiment)
        chosen = {
            part.name: part.subset(np.unique(np.linspace(0, len(part) - 1, images).astype(int))) for part in splits
        }
        return dataclasses.replace(splits, **chosen)

    monkeypatch.setattr(table, "splits_for", few)


def test_a_small_version_runs_goes_on_and_tells(scripts, shared, tmp_path, capsys, monkeypatch):
    table, jobs = scripts("table"), scripts("tables.jobs")
    row, small = "CE", ("--set", "epochs=1", "--set", f"data_dir={shared / 'tfds'}")
    given = [
        "hnc5",
        "--seeds",
        "1",
        "--rows",
        "CE,HNC kd",
        *small,
        "--processes",
        "1",
        "--folder",
        str(tmp_path / "runs"),
    ]
    monkeypatch.setattr(scripts("tables.figures"), "PGD_IMAGES", 20)
    _use_few(table, jobs, monkeypatch)
    table.main([*given, "--output", str(tmp_path / "out")])
    told = capsys.readouterr().out
    assert "2 runs, 0 of them finished" in told
    assert "2 runs in 1 processes: about" in told
    text = (tmp_path / "out/table_hnc5.md").read_text()
    assert text in told
    found = json.loads((tmp_path / "out/table_hnc5.json").read_text())
    values = {name: found["rows"][row]["values"][name]["mean"] for name in ("top-1", "FGSM 0.3", "PGD 0.05")}
    assert all(0 <= value <= 100 for value in values.values())
    assert found["rows"]["HNC kd"]["printed"]["FGSM 0.05"] == 29.8
    assert "| HNC kd − CE" in text
    assert "one seed" in text

    def refuse(job):
        raise AssertionError(f"{job} was finished")

    monkeypatch.setattr(table, "work", refuse)
    table.main([*given, "--output", str(tmp_path / "again")])
    assert "2 runs, 2 of them finished" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"holds a run of .*Remove it"):
        table.main([*given, "--set", "learning_rate=0.5", "--output", str(tmp_path / "again")])
    with pytest.raises(ValueError, match=r"has no row .'Softmax'.. There are: CE, Center"):
        table.main(["hnc5", "--rows", "Softmax"])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each_small_version_runs(name, scripts, shared, tmp_path, monkeypatch):
    table, jobs = scripts("table"), scripts("tables.jobs")
    _use_few(table, jobs, monkeypatch, images=600)
    rows = [row.name for row in TABLES[name].rows if row.small][:2]
    places = {
        "data_dir": shared / "tfds",
        "letters": shared / "data/nist_letters/nist_letters_28x28.npz",
        "root": shared / "data/tiny_imagenet_openset/tiny_imagenet_openset.zip",
    }
    given = [text for key, value in places.items() for text in ("--set", f"{key}={value}")]
    given += ["--set", "epochs=1", "--folder", str(tmp_path / "runs"), "--output", str(tmp_path), "--processes", "1"]
    table.main([name, "--seeds", "1", "--rows", ",".join(rows), *given])
    found = json.loads((tmp_path / f"table_{name}.json").read_text())
    assert [*found["rows"]] == rows
    if name.startswith("thesis"):
        curves = found["figures"]["rows"][rows[0]]["0"]
        assert len(curves["oscr"]["unknown"]) == len(found["figures"]["fpr"])
        assert set(curves["angles"]) == {"known", "negative", "unknown"}


def test_a_run_that_was_stopped_goes_on(scripts, shared, tmp_path, monkeypatch):
    table, jobs = scripts("table"), scripts("tables.jobs")
    settings = ["epochs=2", f"data_dir={shared / 'tfds'}", "knowns=train[:1400]", "width=0.05"]
    (job,) = jobs.list_jobs("ncm2", ["MNIST E-NCM (p=0.1)"], 1, settings=settings, folder=tmp_path)
    _use_few(table, jobs, monkeypatch, images=100)
    first, begun = table.judge, []

    def stop(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(table, "judge", stop)
    with pytest.raises(KeyboardInterrupt):
        table.work(job)
    assert job.figures() is None
    monkeypatch.setattr(table, "judge", first)
    fit = table.train
    monkeypatch.setattr(table, "train", lambda *given: begun.append(fit(*given)) or begun[-1])
    assert 0 < table.work(job)["accuracy"] < 1
    assert begun[0][2] == {}  # nothing was left to train
    assert not (job.folder / "checkpoints").exists()


def test_a_loss_that_diverges_is_a_result(scripts, tmp_path, monkeypatch):
    table, jobs, report = scripts("table"), scripts("tables.jobs"), scripts("tables.report")

    def diverge(*given):
        raise FloatingPointError("the loss is NaN")

    monkeypatch.setattr(table, "train", diverge)
    monkeypatch.setattr(table, "splits_for", lambda experiment: None)
    (job,) = jobs.list_jobs("thesis6.1", ["Arc-OS"], 1, folder=tmp_path)
    assert table.work(job)["diverged"] == "the loss is NaN"
    assert "Diverged: Arc-OS, seed 0." in report.report("thesis6.1", [job], tmp_path)


def test_angles_and_curves_are_counted(scripts):
    """By hand: two classes on the axes; a known on its own axis, one half-way, a stranger opposite to the second."""
    from cplus1_keras.metrics import ExactScores

    figures = scripts("tables.figures")
    scores = ExactScores(samples=0)
    scores.update([0, 1, -2, -2], [0, 1, 0, 0], [0.9, 0.5, 0.7, 0.1])
    curve = dict(zip(figures.GRID, figures._curve(scores, "unknown"), strict=True))
    assert curve[1.0] == 1.0
    assert curve[figures.GRID[figures.GRID < 0.5][-1]] is None
    degrees = figures.measure_angles(np.array([[2.0, 0], [1, 1], [0, -3]]), np.eye(2), np.array([0, 1, -2]))
    np.testing.assert_allclose(degrees, [0, 45, 90])


CHEAP = {
    "thesis6.1": ("Cos-OS", "Arc-EOS (SFN)"),
    "ncm2": ("MNIST L-Softmax (m=4)", "CIFAR10+ E-NCM (p=0.1)"),
    "hnc1": ("ResNet-56 Center",),
}


def _step(job, batch, number):
    """A training step on noise at the row's real size."""
    import keras

    from cplus1_keras.run import build  # noqa: F401

    experiment = job.experiment
    model = experiment.model(number)
    model.compile(keras.optimizers.SGD(1e-4), experiment.loss)
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 255, (batch, *model.input_shape[1:])).astype("float32")
    labels = generator.integers(0, number, batch).astype("int32")
    if experiment.loss.needs_negatives:
        labels[-1] = -1
    loss = model.train_on_batch(images, labels, return_dict=True)["loss"]
    keras.backend.clear_session()
    return loss


def _number(job):
    """Classes of the data of a row."""
    from cplus1_keras import data

    config, settings = job.config, dict(text.split("=", 1) for text in job.settings)
    if config == "imagenet":
        return data.protocols.imagenet(int(settings["protocol"])).num_classes
    numbers = {"ilsvrc": 1000, "cub": 200, "fashion": 6, "mnist_small": 6, "cifar10_small": 6}
    return numbers.get(config, 100 if config.startswith("cifar100") else 10)


@pytest.mark.parametrize(("name", "row"), [(name, row) for name, rows in CHEAP.items() for row in rows])
def test_a_row_takes_a_step_at_its_real_size(name, row, scripts):
    (job,) = scripts("tables.jobs").list_jobs(name, [row], 1, full=True)
    assert np.isfinite(_step(job, 2, _number(job)))


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_each_row_takes_a_step_at_its_real_size(name, scripts):
    for job in scripts("tables.jobs").list_jobs(
        name, seeds=1, full=True, settings=["weights=None"] if name == "hnc3" else []
    ):
        assert np.isfinite(_step(job, 2, _number(job))), job.row


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs jax")
def test_the_gpu_script_runs_at_tiny_sizes(tmp_path):
    subprocess.run(["sh", FOLDER / "gpu.sh", "--smoke", "--output", tmp_path], check=True, capture_output=True)
    told = json.loads((tmp_path / "gpu.json").read_text())
    assert all(told[part] for part in ("losses", "steps", "table"))
