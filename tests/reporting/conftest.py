"""A browser without a screen, by the W3C protocol of chromedriver; and runs to report on."""

import base64
import csv
import dataclasses
import functools
import json
import shutil
import socket
import subprocess
import time
import types
import urllib.request

import numpy as np
import pytest

from cplus1_keras import calibration, data, metrics
from cplus1_keras.calibration.evidence import NewClasses
from cplus1_keras.labels import NEGATIVE
from cplus1_keras.provenance import provenance, write_json
from cplus1_keras.tasks import Classification, Record

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The W3C's key of an element in JSON."""


class Browser:
    """A session of Chromium."""

    def __init__(self, profile):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL)
        self.url, self.session = f"http://127.0.0.1:{port}", ""
        for _ in range(100):
            try:
                if self.call("GET", "/status")["ready"]:
                    break
            except OSError:
                time.sleep(0.1)
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"], "binary": shutil.which("chromium")}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
        self.session = f"/session/{self.call('POST', '/session', {'capabilities': wanted})['sessionId']}"

    def call(self, method, path, body=None):
        """What chromedriver answers."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from error

    def post(self, path, **body):
        return self.call("POST", self.session + path, body)

    def open(self, path, width=1000, height=900):
        """Open a file in a window of this size."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.chrome("Emulation.setDeviceMetricsOverride", **metrics)
        self.post("/url", url=path.resolve().as_uri())

    def chrome(self, command, **parameters):
        """A command of Chrome's own protocol."""
        return self.post("/goog/cdp/execute", cmd=command, params=parameters)

    def run(self, script, *arguments):
        """What the body of a JavaScript function returns."""
        return self.post("/execute/sync", script=script, args=[*arguments])

    def find(self, css):
        """An element, for `post(f"/element/{id}/...")` and in arguments of `run`."""
        return self.post("/element", using="css selector", value=css)

    def click(self, css):
        self.post(f"/element/{self.find(css)[ELEMENT]}/click")

    def keys(self, css, text):
        self.post(f"/element/{self.find(css)[ELEMENT]}/value", text=text)

    def drag(self, css, start, end):
        """Press at one place of an element, in pixels from its middle, and let go at another."""
        element = self.find(css)
        moves = [
            {"type": "pointerMove", "duration": 0, "origin": element, "x": start[0], "y": start[1]},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerMove", "duration": 50, "origin": element, "x": end[0], "y": end[1]},
            {"type": "pointerUp", "button": 0},
        ]
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": moves}
        self.post("/actions", actions=[mouse])

    def complaints(self):
        """Messages of the console that are no information."""
        return [entry for entry in self.post("/se/log", type="browser") if entry["level"] in ("SEVERE", "WARNING")]

    def photograph(self, path):
        """The whole page as a PNG file."""
        picture = self.chrome("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def close(self):
        try:
            self.call("DELETE", self.session)
        finally:
            self.driver.terminate()
            self.driver.wait()


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs Chromium: apt-get install chromium chromium-driver")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


HOSTILE = "<script>document.title = 'broken'</script>"
"""Name of an unknown class, and part of the names of files."""

NAMES = ("cat", "</script><b>dog", "owl", HOSTILE)


@dataclasses.dataclass(frozen=True)
class Given(Classification):
    """A task whose scores are drawn, not those of a model: knowns are above strangers by `gap`."""

    gap: float = 2.0

    scores = functools.partial(metrics.ExactScores, samples=40)

    def records(self, predictor, split, experiment):
        rng = np.random.default_rng(experiment.seed)
        scores = (rng.normal(size=len(split)) + self.gap * (split.labels >= 0)).astype("float32")
        rows = zip(split.labels, rng.choice(2, len(split), p=(0.9, 0.1)), scores, split.groups, strict=True)
        for label, other, score, group in rows:
            yield Record(np.array(label), np.array(abs(max(label, 0) - other)), score, group)


def make_run(path, number=600, seed=0, gap=2.0):
    """The directory of a run as `run.finish` leaves it, of images without a model, with the records of its test split.

    Returns:
        Pair of the calibration and labels, predictions and scores (N,).
    """
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, number)
    images = np.tile(labels[:, None, None] * 60, (1, 5, 7))
    train, test = (data.sources.arrays(images[:n], labels[:n], NAMES, name="<i>toy") for n in (40, number))
    protocol = data.Protocol(known=NAMES[:2], negative=NAMES[2:3], unknown=NAMES[3:])
    split = data.split(protocol, train, test, seed=0).test
    task, experiment = Given(gap=gap), types.SimpleNamespace(seed=seed)
    records = [*task.records(None, split, experiment)]
    negatives = np.array([r.scores for r in records if r.labels == NEGATIVE])[:200]
    found = calibration.threshold_at_fpr(negatives, 0.1, score="log_odds")
    new = NewClasses(3, 38, 0.1, 0.95, left_out=0.2, worst="<u>fly", worst_rate=0.5)
    found = dataclasses.replace(found, new_classes=new)
    predictor = types.SimpleNamespace(class_names=NAMES[:2])
    evidence = task.evidence(predictor, split, found)
    figures, judged = task.judge(predictor, split, experiment, found, evidence.update)
    path.mkdir(parents=True)
    evidence.write(path, split)
    settings = {"name": path.name, "epochs": 3, "seed": seed, "batch_size": 8, "provenance": provenance()}
    settings |= {"loss": {"class": "Loss", "margin": "<u>"}, "repeat": "python train.py --set gap='<b>'"}
    plain = {"loss": "Loss(margin=<u>)", "steps": 3000, "weight_decay": 0.5, "note": "Mind.", "flip": False}
    settings["settings"] = plain
    write_json(path / "config.json", settings)
    write_json(path / "metrics.json", {**settings, **figures, "calibration": found.to_dict(), "seconds": 1.5})
    with open(path / "predictions.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["example", "true_class", "label", "prediction", "score", "answer"])
        for index, record in enumerate(records):
            numbers = int(record.labels), int(record.predictions), repr(float(record.scores))
            writer.writerow([split.describe(index), split.class_name(index), *numbers, ""])
    return found, judged.arrays


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run's directory, and what `make_run` tells of it."""
    path = tmp_path_factory.mktemp("runs") / "a<b>"
    return path, *make_run(path)


@pytest.fixture(scope="session")
def toy():
    """`make_run`, and the names of its classes."""
    return types.SimpleNamespace(make_run=make_run, NAMES=NAMES, HOSTILE=HOSTILE)
