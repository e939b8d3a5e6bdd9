"""Dependencies: locks match the pins, licences are allowed, nothing phones home."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from animation_samples import driving_frames, portrait, write_video

from liveportrait.media import save_image
from liveportrait.processes import cluster

ROOT = Path(__file__).parents[1]
AGAIN = "run python scripts/make_lock.py"
LOCKS = sorted((ROOT / "locks").glob("*.txt"))


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Package and version of every line NAME==VERSION."""
    found = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;\\]+)", text, re.MULTILINE)
    return {plain(name): version for name, version in found}


def wanted(extra: str, project: dict) -> set[str]:
    """The packages required with an extra, including those of the extras that it contains."""
    names, extras, seen = set(), [extra], set()
    lines = list(project["dependencies"])
    while extras:
        if (current := extras.pop()) not in seen:
            seen.add(current)
            lines += project["optional-dependencies"][current]
            for line in project["optional-dependencies"][current]:
                if inner := re.match(r"liveportrait\[([\w,-]+)\]", line):
                    extras += inner[1].split(",")
    for line in lines:
        names.add(plain(re.match(r"[\w.-]+", line)[0]))
    return names - {"liveportrait", "torch"}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_locks_contain_the_dependencies_in_tested_versions(lock):
    text = lock.read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked, tested = pins(text), pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert not wanted(lock.stem, project) - locked.keys(), AGAIN
    assert {
        name: version for name, version in locked.items() if tested.get(name, version) != version
    } == {}, AGAIN
    assert "://" not in text and "index" not in text, "a lock names no registry"
    assert "torch" not in locked
    for entry in re.split(r"\n(?=[\w.-]+(?:\[[\w,-]+\])?==)", text)[1:]:
        assert "--hash=sha256:" in entry, f"{entry.splitlines()[0]} has no hash: {AGAIN}"


def licences():
    spec = importlib.util.spec_from_file_location("licences", ROOT / "scripts/list_licences.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_installed_packages_have_allowed_licences():
    script = licences()
    packages = script.required_packages(["web"])
    assert {"torch", "numpy", "av", "gradio", "fastapi"} <= packages.keys() and len(packages) > 50
    assert script.offending(packages) == {}


def test_forbidden_licences_are_detected():
    said = {
        "a": "AGPL-3.0",
        "b": "GPL-3.0-or-later",
        "c": "not stated",
        "d": "CC-BY-NC-4.0",
        "e": "MIT",
        "f": "BSD License",
    }
    assert licences().offending(said).keys() == {"a", "b", "c", "d"}


CALLS_HOME = """
import os, socket, sys, tempfile, threading, time
away = []
def watched(event, arguments):
    if event == "socket.connect" and arguments[0].family != getattr(socket, "AF_UNIX", None):
        host = str(arguments[1][0])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = (arguments[0] or b"") if isinstance(arguments[0], bytes) else str(arguments[0] or "")
        host = host.decode() if isinstance(host, bytes) else host
    else:
        return
    if host not in ("127.0.0.1", "::1", "localhost", "0.0.0.0", ""):
        away.append(host)
        raise OSError(f"a connection to {host} is refused")
sys.addaudithook(watched)
try:
    socket.create_connection(("192.0.2.1", 9), timeout=1)
except OSError:
    pass
assert away == ["192.0.2.1"], "the watch is blind"
away.clear()
from liveportrait.apps.cli import main
import uvicorn, webbrowser
run = uvicorn.Server.run
def briefly(server, sockets):
    import urllib.request
    thread = threading.Thread(target=run, args=(server, sockets), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    urllib.request.urlopen("http://127.0.0.1:%d/" % sockets[0].getsockname()[1], timeout=60).read()
    server.should_exit = True
    thread.join(30)
uvicorn.Server.run = briefly
import liveportrait.motion as motion
whole = next(iter(motion.bundled_templates().values()))
short = motion.Template(whole.motion.rows([0, 1]), whole.fps, whole.layout)
motion.bundled_templates = lambda: {"short": short}
assert main(["demo", "-o", "made"]) == 0
assert main(["animate", "me.png", "driving.mp4", "-o", "out.mp4"]) == 0
assert main(["app", "--port", "0", "--no-open"]) == 0
time.sleep(1)  # threads that report would have begun
print("away:", sorted(set(away)))
"""


def test_the_program_makes_no_connections(tmp_path):
    """Run the demo, a video and the page with all connections refused except to localhost."""
    save_image(tmp_path / "me.png", portrait())
    write_video(tmp_path / "driving.mp4", driving_frames(2))
    done = subprocess.run([sys.executable, "-c", CALLS_HOME], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "away: []"


def test_a_local_cluster_sends_no_statistics(monkeypatch):
    monkeypatch.setitem(os.environ, "RAY_USAGE_STATS_ENABLED", "1")
    del os.environ["RAY_USAGE_STATS_ENABLED"]
    said = []
    ray = SimpleNamespace(
        init=lambda **_: said.append(os.environ["RAY_USAGE_STATS_ENABLED"]), shutdown=lambda: None
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    with cluster("local", "batch"):
        assert said == ["0"]
