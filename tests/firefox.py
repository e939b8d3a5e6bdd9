"""Headless Firefox, driven by WebDriver BiDi, which it supports itself: no driver is needed."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 240.0  # s to wait for an answer: networks are compiled, and other tests may be using the cores
START = 240.0  # s to wait until it listens
# No connections of its own, and downloads go where the tests look for them.
SETTINGS: dict[str, bool | int | str] = {
    "app.normandy.enabled": False,
    "app.update.auto": False,
    "browser.download.folderList": 2,
    "browser.region.network.url": "",
    "browser.safebrowsing.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "media.gmp-manager.updateEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "",
    "toolkit.telemetry.server": "",
}


def firefox() -> str | None:
    """The path of the browser, if it is installed."""
    return shutil.which("firefox-esr") or shutil.which("firefox")


class Firefox:
    """One tab of a running Firefox."""

    def __init__(self, socket: Any, downloads: Path) -> None:
        self._socket, self.downloads = socket, downloads
        self._numbers = itertools.count()
        self.call("session.new", capabilities={})
        self._tab = self.call("browsingContext.create", type="tab")["context"]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command; raises RuntimeError with Firefox's message."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE))
            if answer.get("id") != number:
                continue  # an event
            if answer["type"] == "error":
                raise RuntimeError(f"{method}: {answer['message']}")
            return answer["result"]

    def open(self, address: str) -> None:
        """Go to a page."""
        self.call("browsingContext.navigate", context=self._tab, url=address, wait="complete")

    def run(self, script: str) -> Any:
        """The value of an expression on the page: a string, number or boolean."""
        answer = self.call(
            "script.evaluate", expression=script, target={"context": self._tab}, awaitPromise=True
        )
        if answer["type"] == "exception":
            raise RuntimeError(answer["exceptionDetails"]["text"])
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > end:
                raise TimeoutError(f"{condition}: the page says {self.run('document.body.innerText')!r}")
            time.sleep(0.1)

    def choose(self, selector: str, path: Path) -> None:
        """Choose a file in an input."""
        found = self.call(
            "browsingContext.locateNodes", context=self._tab, locator={"type": "css", "value": selector}
        )
        element = {"sharedId": found["nodes"][0]["sharedId"]}
        self.call("input.setFiles", context=self._tab, element=element, files=[str(path)])

    def download(self, selector: str) -> Path:
        """The file that a link downloads."""
        before = set(self.downloads.iterdir())
        self.run(f"document.querySelector({json.dumps(selector)}).click()")
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            fresh = set(self.downloads.iterdir()) - before
            if fresh and all(path.suffix != ".part" and path.stat().st_size for path in fresh):
                return fresh.pop()
            time.sleep(0.1)
        raise TimeoutError(f"nothing came of {selector}")


@contextmanager
def running(program: str, folder: Path) -> Iterator[Firefox]:
    """Firefox with its own profile in an empty folder, for the duration of the block."""
    from websockets.sync.client import connect

    profile, downloads = folder / "profile", folder / "downloads"
    profile.mkdir()
    downloads.mkdir()
    settings = {**SETTINGS, "browser.download.dir": str(downloads)}
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in settings.items()]
    (profile / "user.js").write_text("".join(lines))
    command = [
        program,
        "--headless",
        "--no-remote",
        "--profile",
        str(profile),
        "--remote-debugging-port",
        "0",
    ]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    alarm = threading.Timer(START, started.kill)
    alarm.start()
    try:
        assert started.stderr
        said = next((found for line in started.stderr if (found := re.search(r"ws://\S+", line))), None)
        alarm.cancel()
        if said is None:
            raise RuntimeError("Firefox did not start")
        threading.Thread(target=started.stderr.read, daemon=True).start()  # so that it can go on talking
        with connect(f"{said[0]}/session", max_size=None) as socket:
            yield Firefox(socket, downloads)
    finally:
        alarm.cancel()
        started.terminate()
        started.wait(timeout=120)
