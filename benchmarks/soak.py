"""Short runs that end badly, again and again, until they are finished: nothing is lost, torn or told by a traceback.

    python benchmarks/soak.py --runs 200
    python benchmarks/soak.py --runs 20 --data ../shared/data      camvid and sets of labels, too

Each run is one of a few commands with settings drawn by chance. Up to three times it is killed, interrupted or meets a
full disk (a tmpfs where one can be mounted, else errors as a full disk raises them), at a file operation or a time
drawn by chance, then resumed. Demanded are: no traceback; after an end that was no kill, no half-written file, and a
sentence that says what is kept; never fewer epochs than before; in the end, all that the same command leaves when
nothing disturbs it, to the bit. The processes are forked from one that has imported all (tests/zygote.py).
"""

import argparse
import collections
import concurrent.futures
import contextlib
import pathlib
import queue
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests"))

from zygote import Zygote, contents

KEPT = re.compile(
    r"Kept: \d+ epochs?\. Go on with|No epoch was finished|No run can begin|is finished|train\.py: stopped"
)
DATA = {"camvid": "camvid_seg/camvid_256x192.zip", "labels": "coco_mini/coco_mini.zip"}


def main():
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--commands", type=int, default=6, help="how many commands the runs are drawn from")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="no run begins later")
    parser.add_argument("--data", type=pathlib.Path, help="folder with camvid_seg and coco_mini")
    given = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, small_disk(pathlib.Path(folder) / "disk") as disk:
        soak = Soak(pathlib.Path(folder), disk, given)
        print(f"Full disks are {'a tmpfs' if disk else 'simulated'}. Commands:", flush=True)
        with concurrent.futures.ThreadPoolExecutor(given.processes) as pool:
            wholes = [*pool.map(soak.undisturbed, soak.commands)]
            waiting = [pool.submit(soak.run, number, wholes) for number in range(given.runs)]
            problems = [problem for each in waiting for problem in each.result()]
        soak.close()
    print(f"\n{soak.ended} runs in {time.monotonic() - start:.0f} s. Ends on the way:")
    for name, number in sorted(soak.ends.items()):
        print(f"  {name:24} {number}")
    print("\n".join(problems) or "No half-written file, no lost training, no traceback: all ended in the same bits.")
    sys.exit(bool(problems))


@contextlib.contextmanager
def small_disk(path):
    """A disk of 16 MiB, or None where this user may not mount one."""
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", path], capture_output=True)
    try:
        yield None if mounted.returncode else path
    finally:
        if not mounted.returncode:
            subprocess.run(["umount", "-l", path], check=True)


class Soak:
    """Commands, processes, and what happened."""

    def __init__(self, folder, disk, given):
        self.folder, self.disk, self.given, self.ended = folder, disk, given, 0
        self.late = time.monotonic() + 60 * given.minutes
        self.ends, self.zygotes, self.disks = collections.Counter(), queue.Queue(), queue.Queue()
        self.disks.put(disk)  # one run at a time fills it
        for number in range(given.processes):
            self.zygotes.put(Zygote(folder / f"zygote-{number}", hash_seed=number))
        self.commands = [self.draw(random.Random(f"{given.seed} {number}"), number) for number in range(given.commands)]

    def draw(self, chance, number):
        """A command line: a small config, with settings drawn by chance."""
        config = "digits" if self.given.data is None or number % 3 == 0 else ("camvid", "labels")[number % 3 - 1]
        settings = [f"seed={chance.randrange(100)}", f"batch_size={chance.choice((2, 3, 4))}"]
        if config == "digits":
            settings = [settings[0], f"batch_size={chance.choice((32, 64))}", f"epochs={chance.choice((2, 3, 4))}"]
            settings.append(f"negative_fraction={chance.choice((None, 0.2, 0.4))}")
        else:
            settings.append(f"root={self.given.data / DATA[config]}")
        settings.append(f"patience={chance.choice((None, 1, 2))}")
        sets = [part for setting in settings for part in ("--set", setting)]
        return config, ["--deterministic", "--config", f"crash_configs.{config}", *sets]

    def process(self, *arguments, **settings):
        zygote = self.zygotes.get()
        try:
            return zygote.run(*arguments, **settings)
        finally:
            self.zygotes.put(zygote)

    def undisturbed(self, command):
        """What a command leaves and how it ends, if nothing disturbs it."""
        config, arguments = command
        workdir = self.folder / f"whole-{self.commands.index(command)}"
        result = self.process("--workdir", str(workdir), *arguments)
        print(f"  {' '.join(arguments)}: {result.seconds:.0f} s", flush=True)
        if result.code:
            raise RuntimeError(result.text)
        return contents(workdir / config), result

    def run(self, number, wholes):
        """One run, disturbed up to three times; sentences about what is wrong."""
        if time.monotonic() > self.late:
            return []
        chance = random.Random(f"{self.given.seed} run {number}")
        which = chance.randrange(len(self.commands))
        (config, arguments), (wanted, whole) = self.commands[which], wholes[which]
        full = chance.random() < 0.35
        disk = self.disks.get() if full else None
        workdir = (disk or self.folder) / f"run-{number}"
        try:
            problems = self.disturb(chance, workdir, config, arguments, whole, full, disk)
            found = contents(workdir / config) if not problems else wanted
            problems += [f"{name} differs" for name in wanted if found[name] != wanted[name]]
        except Exception as error:  # whatever is wrong with a run must not end the others
            problems = [f"{type(error).__name__}: {error}"]
        finally:
            shutil.rmtree(workdir, ignore_errors=True)
            if full:
                self.disks.put(disk)
        self.ended += 1
        told = [f"run {number}, {' '.join(arguments)}: {problem}" for problem in problems]
        print("\n".join(["", *told, ""]) if told else ".", end="", flush=True)
        return told

    def disturb(self, chance, workdir, config, arguments, whole, full, disk):
        """Starts and resumes a run until it is finished."""
        problems, run, epochs = [], workdir / config, 0
        for attempt in range(4):
            way, settings = self.end(chance, whole, full, disk) if attempt < 3 else ("undisturbed", {})
            again = ["--resume", str(run)] if run.is_dir() else ["--workdir", str(workdir), *arguments]
            result = self.process(*again, **settings)
            if disk:
                (disk / "filler").unlink(missing_ok=True)
            if not result.code or "is finished" in result.text:
                self.ends["finished"] += 1
                return problems
            self.ends[way] += 1
            if attempt == 3:
                return [*problems, f"cannot be resumed: {result.text[-2000:]}"]
            problems += [f"{way}: {what}" for what in self.wrong(result, workdir)]
            kept = max((int(path.name[6:]) for path in run.glob("checkpoints/epoch-*")), default=0)
            if kept < epochs:
                problems.append(f"{way}: {epochs} epochs became {kept}")
            epochs = kept
        return problems

    def end(self, chance, whole, full, disk):
        """A way to end a run, and what `Zygote.run` takes for it."""
        number = chance.randrange(len(whole.operations))
        if full and chance.random() < 0.8:
            return "full disk", {"full": number, "filler": disk and disk / "filler"}
        signals = [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
        way = {"number": chance.choice(signals)}
        by_clock = chance.random() < 0.4
        way |= {"after": chance.uniform(0, whole.seconds)} if by_clock else {"end": number}
        return f"{way['number'].name} {'by the clock' if by_clock else 'at an operation'}", way

    def wrong(self, result, workdir):
        """What an end left or said that it should not."""
        if result.code == -signal.SIGKILL or (result.code < 0 and not result.text):  # before main began
            return
        if result.code != 1:
            yield f"exit status {result.code}: {result.text[-2000:]}"
        elif "Traceback" in result.text or "Exception ignored" in result.text:
            yield f"a traceback: {result.text[-4000:]}"
        elif not KEPT.search(result.text):
            yield f"no sentence: {result.text[-500:]}"
        half = [str(path) for path in workdir.rglob(".unfinished-*")] if workdir.is_dir() else []
        if half:
            yield f"half-written: {half}"

    def close(self):
        while not self.zygotes.empty():
            self.zygotes.get().close()


if __name__ == "__main__":
    main()
