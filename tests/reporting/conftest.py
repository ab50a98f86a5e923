"""A browser without a screen, by the W3C protocol of chromedriver; and runs to report on."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.request

import pytest

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
