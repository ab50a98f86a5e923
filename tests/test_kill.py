"""Runs that are killed go on as if nothing had happened; those that fail say what is kept and leave nothing half.

The fast part kills the training of one run and the judging of its resume. `-m slow` does all moments and tasks.
"""

import json
import pathlib
import random
import re
import signal

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("runs are TensorFlow's part", allow_module_level=True)

CONFIGS = ("digits", "camvid", "labels", "boxes")
IN_A_CHECKPOINT = {
    "before it": r"mkdir .*checkpoints/\.unfinished",
    "arrays": r"open .*arrays.npz",
    "in its place": r"remove .*checkpoints/epoch-\d+$",
    "state": r"open .*state.json",
    "rename": r"rename .*checkpoints/",
    "removal of an old one": r"remove arrays.npz",
}
AROUND = {
    "config": r"open .*config.json",
    "directory": r"rename .*\.unfinished-\d+-\w+$",
    "model": r"dataset .*BytesIO",
    "calibration": r"rename .*calibration.json",
    "predictions": r"open .*predictions.csv|rename .*oscr.png",
    "figures": r"open .*metrics.json",
    "export": r"open .*classes.json",
    "exported": r"rename .*saved_model",
    "end": r"rmdir .*checkpoints$",
}


@pytest.fixture(scope="module")
def house(request, tmp_path_factory):
    """Zygotes, and undisturbed runs by name of their config: (folder of runs, command line, `Result`)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(pathlib.Path(__file__).parent)
        import zygote
    return House(zygote, tmp_path_factory.mktemp("kill"), request)


class House:
    def __init__(self, zygote, folder, request):
        self.folder, self.request, self.whole, self.number = folder, request, {}, 0
        self.make, self.contents, self.zygotes = zygote.Zygote, zygote.contents, {}

    def zygote(self, hash_seed):
        if hash_seed not in self.zygotes:
            self.zygotes[hash_seed] = self.make(self.folder / f"zygote-{hash_seed}", hash_seed)
            self.request.addfinalizer(self.zygotes[hash_seed].close)
        return self.zygotes[hash_seed]

    def arguments(self, config):
        zips = {"camvid": "camvid_seg/camvid_256x192.zip", "labels": "coco_mini/coco_mini.zip"}
        zips["boxes"] = "bccd_det/bccd_voc.zip"
        root = f"root={self.request.getfixturevalue('shared')}/data/{zips[config]}" if config in zips else "seed=0"
        return ["--deterministic", "--config", f"crash_configs.{config}", "--set", root]

    def undisturbed(self, config, hash_seed=1):
        if config not in self.whole:
            workdir = self.folder / f"whole-{config}"
            result = self.zygote(hash_seed).run("--workdir", str(workdir), *self.arguments(config))
            assert result.code == 0, result.text
            self.whole[config] = self.contents(workdir / config), result
        return self.whole[config]

    def start(self, config, **settings):
        """A run that is to end early: its workdir and `Result`."""
        self.number += 1
        workdir = self.folder / f"{self.number}"
        return workdir, self.zygote(1).run("--workdir", str(workdir), *self.arguments(config), **settings)

    def assert_equal(self, run, wanted):
        found = self.contents(run)
        for name, value in wanted.items():
            assert found[name] == value, name

    def finish(self, config, workdir, **settings):
        """Resumes, or starts again what had no directory; the `Result`."""
        run = workdir / config
        if run.is_dir():
            return self.zygote(1).run("--resume", str(run), **settings)
        return self.zygote(1).run("--workdir", str(workdir), *self.arguments(config), **settings)


def number_of(pattern, operations, draw=min):
    return draw([number for number, name in enumerate(operations) if re.search(pattern, name)])


def assert_nothing_half_written(workdir):
    assert not [*workdir.rglob(".unfinished-*")]
    for run in workdir.iterdir():
        for path in run.rglob("*.json"):
            json.loads(path.read_text("utf-8"))
        assert all((saved / "state.json").is_file() for saved in run.glob("checkpoints/*"))


def test_a_run_killed_twice_ends_in_the_same_bits(house):
    wanted, result = house.undisturbed("digits")
    second = number_of(r"open .*checkpoints/.*epoch-000002/state.json", result.operations)
    workdir, killed = house.start("digits", end=second)
    assert killed.code == -signal.SIGKILL
    assert [*(workdir / "digits").rglob(".unfinished-*")]
    again = house.finish("digits", workdir, end=number_of(r"open .*predictions.csv", result.operations) - 60)
    assert again.code == -signal.SIGKILL
    last = house.finish("digits", workdir)
    assert last.code == 0, last.text
    house.assert_equal(workdir / "digits", wanted)


def moments(result, random_):
    """Twenty: six while a checkpoint is written, nine around the training, five anywhere, three by the clock."""
    found = {}
    for name, pattern in {**IN_A_CHECKPOINT, **AROUND}.items():
        found[name] = {"end": number_of(pattern, result.operations, random_.choice)}
    for number in (1, 2):
        found[f"anywhere {number}"] = {"end": random_.randrange(len(result.operations))}
    for number in (1, 2, 3):
        found[f"any time {number}"] = {"after": random_.uniform(0, 0.8) * result.seconds}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_killed_at_twenty_moments(house, config):
    wanted, result = house.undisturbed(config, hash_seed=2)  # sets of strings have another order there
    ends = {}
    for name, moment in moments(result, random.Random(config)).items():
        workdir, killed = house.start(config, **moment)
        assert killed.code == -signal.SIGKILL or ("after" in moment and not killed.code), (name, killed.text)
        last = house.finish(config, workdir) if killed.code else killed
        assert last.code == 0, (name, last.text)
        assert "Traceback" not in last.text, (name, last.text)
        house.assert_equal(workdir / config, wanted)
        ends[name] = last.code
    assert len(ends) == 20


STOPS = {**{f"checkpoint: {name}": pattern for name, pattern in IN_A_CHECKPOINT.items()}, **AROUND}


def assert_a_sentence(result, workdir, config):
    assert result.code == 1, result.text
    assert "Traceback" not in result.text
    assert "Exception ignored" not in result.text
    assert_nothing_half_written(workdir)
    if (workdir / config / "checkpoints").is_dir():
        assert f". Go on with: python train.py --resume {workdir / config}" in result.text
    elif (workdir / config).is_dir():
        assert f"The run is finished: {workdir / config}" in result.text
    else:
        assert re.search(r"No epoch was finished; .* is removed|No run can begin|stopped", result.text)


@pytest.mark.slow
def test_a_signal_while_a_checkpoint_is_written_keeps_the_one_before(house):
    _, result = house.undisturbed("digits")
    second = number_of(r"open .*checkpoints/.*epoch-000002/arrays", result.operations)
    workdir, stopped = house.start("digits", end=second, number=signal.SIGTERM)
    assert_a_sentence(stopped, workdir, "digits")
    assert "train.py: stopped.\nKept: 1 epoch." in stopped.text


@pytest.mark.slow
@pytest.mark.parametrize("way", ["full", "SIGINT", "SIGTERM"])
@pytest.mark.parametrize("name", STOPS)
def test_failures_end_with_a_sentence_and_lose_nothing(house, name, way):
    wanted, result = house.undisturbed("digits")
    number = number_of(STOPS[name], result.operations, random.Random(f"{name}{way}").choice)
    settings = {"full": number} if way == "full" else {"end": number, "number": signal.Signals[way]}
    workdir, failed = house.start("digits", **settings)
    if failed.code == 0:  # it had written all that it had to write
        assert way == "full"
    else:
        assert_a_sentence(failed, workdir, "digits")
        assert way != "full" or "No space left on device" in failed.text
        last = house.finish("digits", workdir)
        # A run that had ended has nothing to resume.
        assert last.code == 0 or ("is finished" in last.text and not (workdir / "digits/checkpoints").exists()), (
            last.text
        )
    house.assert_equal(workdir / "digits", wanted)
