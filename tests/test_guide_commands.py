"""Every command in the README and the guides is run verbatim, in a scratch folder with the files it names.

New commands need no change here: the photos, videos, sounds and tables that they name are generated. Commands that
cannot run here (because they need a camera, a network, Docker) are listed in NOT_HERE with the reason.
"""

from __future__ import annotations

import itertools
import json
import os
import pickle
import re
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from animation_samples import driving_frames, people, portrait, write_sound, write_video
from skimage.data import chelsea
from speech_samples import reader
from test_marking_credentials import own_certificate

from liveportrait.apps import demo
from liveportrait.apps.animate import LoadOptions
from liveportrait.apps.cli import main
from liveportrait.media import save_image
from liveportrait.motion import Template, bundled_templates

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs/guide").glob("*.md"))]
BLOCK = re.compile(r"^( *)```(?:sh|bash)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)

NOT_HERE = {  # patterns of commands, and why they are not run
    r"^git clone|^cd |^pip install|^python3 -m venv|bin/activate": "needs a network; CI itself begins with it",
    r"^jupyter": "tests/test_notebook.py runs the notebook",
    r"^docker": "needs Docker; tests/test_docker.py reads its files",
    r"--camera|--virtual-camera": "needs a camera; tests/test_live_camera.py has one of its own",
    r"--ray auto": "needs a cluster; tests/test_cluster.py has one of its own",
    r"--weights base-": "needs the published weights, which are fetched",
    r"weights fetch": "needs a network",
    r"^make web|^liveportrait web": "needs npm and a network; tests/browser/test_web_page.py builds and opens the page",
    r"train animal-detector": "needs data and hours; tests/test_training_animals.py trains a little",
}
REPLACED = {  # so that tests neither expose this machine nor use a port that is taken
    "--host 0.0.0.0": "--host 127.0.0.1",
    "--port 8000": "",
    "/shared/service": "service",
}
ENDS_WITH = {  # commands with an exit status other than 0
    "liveportrait verify out.mp4 photo.jpg": 1,  # the photo is not marked
}
load_once = cache(LoadOptions.load)  # the same weights for all commands
SERVERS = ("app", "serve", "live")
OUTPUTS = ("-o", "--output", "--record")
KEYFRAMES = {
    "keyframes": [{"time": 0.0, "slider": "smile", "value": 0}, {"time": 0.1, "slider": "smile", "value": 1}]
}


def commands(text: str) -> Iterator[str]:
    """The commands in a page's shell blocks, one by one, without comments."""
    for _, body in BLOCK.findall(text):
        for line in body.replace("\\\n", " ").splitlines():
            for command in re.sub(r"(^|\s)#.*$", "", line).split(" && "):
                if command.strip():
                    yield re.sub(r"\s+", " ", command.strip())


def reason_not_to_run(command: str) -> str:
    return next((reason for pattern, reason in NOT_HERE.items() if re.search(pattern, command)), "")


# ---- files that commands use -----------------------------------------------------------------------------------------


def row_of_faces(count: int) -> np.ndarray:
    """Faces of several people side by side; of four, two are alike."""
    return np.concatenate([*people(), portrait()][:count], 1)


def published_template(path: Path) -> None:
    frame = {
        "scale": np.full((1, 1), 1.5, np.float32),
        "R_d": np.eye(3, dtype=np.float32)[None],
        "exp": np.zeros((1, 21, 3), np.float32),
        "t": np.zeros((1, 3), np.float32),
    }
    ratios = [np.full((1, 2), 0.3, np.float32)] * 3
    path.write_bytes(pickle.dumps({"n_frames": 3, "motion": [frame] * 3, "c_d_eyes_lst": ratios}))


def film(path: Path, frames: list[np.ndarray]) -> None:
    sound = write_sound(path.with_name("sound-of-a-film.wav"), 0.2)
    write_video(path, frames, sound)


MAKERS: dict[str, Callable[[Path], object]] = {  # by name, then by suffix
    "cat.jpg": lambda path: save_image(path, np.pad(chelsea(), ((50, 100), (50, 100), (0, 0)), "edge")),
    "group.jpg": lambda path: save_image(path, row_of_faces(4)),
    "group.mp4": lambda path: film(path, [row_of_faces(3)] * 2),
    "keys.json": lambda path: path.write_text(json.dumps(KEYFRAMES)),
    "studio.pem": lambda path: own_certificate(path.parent),  # with studio.key
    ".jpg": lambda path: save_image(path, portrait()),
    ".png": lambda path: save_image(path, portrait()),
    ".mp4": lambda path: film(path, driving_frames(2)),
    ".wav": lambda path: write_sound(path, 0.2),
    ".csv": lambda path: path.write_text("source,driving,smile\nme.jpg,driving.mp4,\nme.jpg,,0.5\n"),
    ".pkl": published_template,
}


def prepare(arguments: list[str], folder: Path) -> None:
    """Create the files that a command reads, and remove the one that it will write."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        path = folder / argument
        if before in OUTPUTS:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        elif argument in MAKERS:  # other pages may have written a result of that name
            path.unlink(missing_ok=True)
            MAKERS[argument](path)
        elif not path.exists() and path.suffix in MAKERS and path.parent.is_dir():
            MAKERS[path.suffix](path)
            if path.suffix == ".csv":
                prepare(["me.jpg", "driving.mp4"], folder)


# ---- running them ----------------------------------------------------------------------------------------------------


class Session:
    """A user who types the commands of a page, one after another."""

    def __init__(self, page: Path, folder: Path, done: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.page, self.folder, self.done = page, folder, done
        self.known: dict[str, str] = {}
        self.while_served: list[str] = []
        self.served: list[str] = []
        (folder / ".curlrc").write_text("silent\nfail-with-body\nmax-time = 240\n")
        monkeypatch.chdir(folder)
        monkeypatch.setenv("CURL_HOME", str(folder))
        monkeypatch.setattr("webbrowser.open", lambda address: True)
        monkeypatch.setattr(LoadOptions, "load", load_once)
        uvicorn = pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")
        run = uvicorn.Server.run

        def run_for_a_while(server, sockets):
            thread = threading.Thread(target=run, args=(server, sockets), daemon=True)
            thread.start()
            while not server.started and thread.is_alive():
                time.sleep(0.02)
            try:
                host, port = sockets[0].getsockname()[:2]
                self.served.append(f"http://{host}:{port}")
                for command in ["curl -o page http://127.0.0.1:8000/healthz", *self.while_served]:
                    self.shell(command)
            finally:
                server.should_exit = True
                thread.join(120)

        monkeypatch.setattr(uvicorn.Server, "run", run_for_a_while)

    def type(self, lines: list[str]) -> None:
        """Run commands; `curl` commands that follow a server command run while it serves."""
        while lines:
            command, *lines = lines
            if reason_not_to_run(command) or command in self.done:
                continue
            self.done.add(command)
            for old, new in REPLACED.items():
                command = command.replace(old, new)
            if not command.startswith("liveportrait "):
                self.shell(command)
                continue
            arguments = shlex.split(command)[1:]
            if arguments[0] in SERVERS:
                count = next((n for n, line in enumerate(lines) if not line.startswith("curl ")), len(lines))
                self.while_served, lines = lines[:count], lines[count:]
                arguments += ["--port", "0"]
            self.liveportrait(command, arguments)

    def liveportrait(self, command: str, arguments: list[str]) -> None:
        prepare(arguments, self.folder)
        status = main(arguments)
        wanted = next((status for begin, status in ENDS_WITH.items() if command.startswith(begin)), 0)
        assert status == wanted, self.advice(command, f"ended with status {status}")
        for option, name in itertools.pairwise(arguments):
            if option in OUTPUTS:
                assert Path(name).exists(), self.advice(command, f"did not write {name}")
        if arguments[0] in SERVERS:
            assert self.served, self.advice(command, "never served")

    def shell(self, command: str) -> None:
        """Run a system command; a page's ID and JOB stand for the first ones that the service returned."""
        for program in ("curl", "openssl"):
            if re.search(rf"\b{program} ", command) and not shutil.which(program):
                pytest.skip(f"{program} is not installed")
        named = command
        for name, value in self.known.items():
            named = re.sub(rf"\b{name}\b", value, named)
        if self.served:
            named = named.replace("http://127.0.0.1:8000", self.served[-1])
        prepare(re.findall(r"@([\w.]+)", named), self.folder)
        done = subprocess.run(
            ["bash", "-ec", named], capture_output=True, text=True, timeout=300, env=os.environ
        )
        assert done.returncode == 0, self.advice(
            command, f"status {done.returncode}: {done.stdout}{done.stderr}"
        )
        if done.stdout.startswith("{") and "DELETE" not in command:
            answer = json.loads(done.stdout)
            self.known.setdefault("ID" if "/sources" in command else "JOB", answer.get("id", ""))

    def advice(self, command: str, what: str) -> str:
        return (
            f"\n{self.page.relative_to(ROOT)} says:  {command}\nand that {what}. Mend the command, or the program. "
            "Files of other kinds that it reads are made by MAKERS of this test; what cannot run here is named, with "
            "the reason, in NOT_HERE; ENDS_WITH names commands that shall end with another status than 0."
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scratch folder of all pages."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def done() -> set[str]:
    """The commands that have run: a command on several pages is run once."""
    return set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_runs(page, folder, done, monkeypatch):
    lines = list(commands(page.read_text(encoding="utf-8")))
    if not any(not reason_not_to_run(line) for line in lines):
        pytest.skip("the page has no command that runs here")
    name, whole = next(iter(bundled_templates().items()))
    short = Template(whole.motion.rows([0, 1]), whole.fps, whole.layout)
    monkeypatch.setattr("liveportrait.motion.bundled_templates", lambda: {name: short})
    monkeypatch.setattr(demo, "sample_portrait", portrait)
    if not shutil.which("espeak-ng"):
        reader(folder, monkeypatch)
    Session(page, folder, done, monkeypatch).type(lines)


def test_commands_are_extracted_as_typed():
    text = "```sh\na b  # why\ncd x && c \\\n    --d '#1'\n# only words\n```\n```python\nno\n```\n"
    assert list(commands(text)) == ["a b", "cd x", "c --d '#1'"]
    found = [line for page in PAGES for line in commands(page.read_text(encoding="utf-8"))]
    assert len(found) > 55
    assert sum(not reason_not_to_run(line) for line in found) > 35


def test_every_excuse_matches_a_command():
    found = [line for page in PAGES for line in commands(page.read_text(encoding="utf-8"))]
    needless = [
        pattern
        for pattern in NOT_HERE
        if pattern != r"weights fetch" and not any(re.search(pattern, line) for line in found)
    ]
    assert not needless
