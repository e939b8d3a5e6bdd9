"""Build the serverless page for the tests: once, and again only when its inputs have changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import liveportrait
from liveportrait import weights
from liveportrait.apps.web.build import build
from liveportrait.apps.web.server import WebServer
from liveportrait.engine.export import export
from liveportrait.motion import Template, read_template, write_template

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PACKAGE = Path(liveportrait.__file__).parent
LOCKED = Path(__file__).parents[1] / "web"  # package.json and its lock
FRAMES = 6  # of the bundled motions on the tests' page


def web_graphs(cache: Path) -> Path:
    """The bundled weights exported for browsers; skips the test if the exporter is missing."""
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    pytest.importorskip("onnxscript", reason="the ONNX exporter is not installed")
    made_of = [PACKAGE / name for name in ("weights/compact", "engine", "networks")]
    made = cache / f"graphs-{_digest(made_of)}"
    with _alone(made):
        if not made.is_dir():
            _forget(cache, "graphs-*")
            export(weights.load("compact", "cpu"), "web", made)
    return made


def web_packages(cache: Path) -> Path:
    """The page's runtimes from npm; skips the test if npm is missing or has no network."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    made = cache / f"packages-{_digest([LOCKED / 'package.json', LOCKED / 'package-lock.json'])}"
    with _alone(made):
        if not (made / "complete").is_file():
            _forget(cache, "packages-*")
            made.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(LOCKED / name, made)
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode:
                pytest.skip(f"npm cannot bring the page's runtimes: {done.stderr.strip()[-200:]}")
            (made / "complete").touch()
    return made / "node_modules"


def web_page(cache: Path, folder: Path) -> Path:
    """The page built into a new folder, with bundled motions of a few frames."""
    built = build(folder, web_packages(cache), web_graphs(cache))
    manifest = json.loads((built / "manifest.json").read_text())
    for name in manifest["motions"].values():
        whole = read_template(built / name)
        short = Template(
            whole.motion.rows(slice(0, FRAMES)),
            whole.fps,
            whole.layout,
            *(
                None if known is None else known[:FRAMES]
                for known in (whole.eye_ratios, whole.lip_ratios, whole.blendshapes)
            ),
        )
        write_template(built / name, short, overwrite=True)
        data = (built / name).read_bytes()
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (built / "manifest.json").write_text(json.dumps(manifest))
    return built


@contextmanager
def serving(folder: Path) -> Iterator[WebServer]:
    """Serve a folder for the duration of the block."""
    with WebServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def _digest(places: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for place in places:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _alone(made: Path) -> Iterator[None]:
    """A block that only one test process runs at a time."""
    with made.with_name(f"{made.name}.lock").open("w") as file:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _forget(cache: Path, pattern: str) -> None:
    """Remove results of earlier versions."""
    for path in cache.glob(pattern):
        if path.is_dir():
            shutil.rmtree(path)
