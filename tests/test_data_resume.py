"""A preparation that is killed, crashes or runs on a cluster gives the result of an uninterrupted run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from left_behind import leave_behind
from prepare_samples import QUICK, scene, write_talking

from liveportrait.data.preparation import run as run_module
from liveportrait.data.preparation.jobs import Job, make_part, run_in_pool, run_on_cluster
from liveportrait.data.preparation.options import PrepareOptions
from liveportrait.data.preparation.parts import FOLDER, read_part
from liveportrait.data.preparation.run import prepare
from liveportrait.errors import UserError
from liveportrait.media import save_image

VIDEOS = 4


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    for seed in range(VIDEOS):
        write_talking(folder / f"{seed}.mp4", 12, seed)
    save_image(folder / "face.png", scene(smile=-15))
    (folder / "broken.mp4").write_bytes(b"\0" * 500)
    return folder


@pytest.fixture(scope="module")
def undisturbed(raw: Path) -> dict[str, bytes]:
    out = raw.parent / "undisturbed"
    prepare([raw], out, QUICK)
    return contents(out)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(process: int) -> bool:
    """Whether a process is running; a zombie counts as dead."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes through /proc")
def test_a_killed_run_resumes_and_gives_the_same_bytes(
    raw: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(QUICK).items()]
    command = [
        sys.executable,
        "-m",
        "liveportrait",
        "prepare",
        str(raw),
        "-o",
        str(out),
        "--workers",
        "2",
        *flags,
    ]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(list((out / FOLDER).glob("*.json"))) >= 2 or running.poll() is not None)
        assert running.poll() is None, "it ended before it could be killed"
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    finally:
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    assert children
    wait_for(lambda: not any(alive(int(child)) for child in children))
    # Every file with its final name is complete; nothing else of the result is there yet.
    finished = {
        path: data for path, data in contents(out).items() if path.startswith(FOLDER) and "/." not in path
    }
    assert all(undisturbed[path] == data for path, data in finished.items())
    assert not list(out.glob("shard-*"))
    leave_behind(out / FOLDER, ".tar")

    done: list[int] = []
    prepare([raw], out, QUICK, progress=lambda step, count, total: done.append(count))
    complete = sum(path.endswith(".json") for path in finished)
    assert done == list(range(complete + 1, VIDEOS + 3))
    assert contents(out) == undisturbed


def test_a_second_run_repeats_nothing(
    raw: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, data in undisturbed.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    monkeypatch.setattr(run_module, "run_in_pool", lambda *_: pytest.fail("work was done again"))
    prepare([raw], tmp_path, QUICK)
    assert contents(tmp_path) == undisturbed


def die_on_the_first_video(job: Job) -> str:
    """Work that kills its process at one input, like a broken decoder."""
    if job.path.endswith("0.mp4"):
        os.kill(os.getpid(), signal.SIGKILL)
    return write_nothing(job)


def write_nothing(job: Job) -> str:
    Path(job.folder, FOLDER, f"{job.key}.done").write_text(str(os.getpid()))
    return job.key


def test_an_input_that_kills_its_process_is_dropped_without_losing_others(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    jobs = [Job(f"/nowhere/{number}.mp4", f"key{number}", str(tmp_path), QUICK) for number in range(7)]
    keys = list(run_in_pool(jobs, 2, die_on_the_first_video))
    assert sorted(keys) == [job.key for job in jobs]
    (dropped,) = read_part(tmp_path, "key0").dropped
    assert dropped.reason == "crashed"
    done = list((tmp_path / FOLDER).glob("*.done"))
    assert {path.stem for path in done} == {f"key{number}" for number in range(1, 7)}
    assert str(os.getpid()) not in {path.read_text() for path in done}


class FakeRay(types.ModuleType):
    """The parts of Ray Data that are used; rows contain plain values only, as its serialisation requires."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.calls: list[str] = []
        self.data = types.ModuleType("ray.data")
        self.data.DataContext = types.SimpleNamespace(get_current=types.SimpleNamespace)  # type: ignore[attr-defined]
        self.data.from_items = self.from_items  # type: ignore[attr-defined]

    def init(self, address: str | None, **_: object) -> None:
        if address == "nowhere:1":
            raise ConnectionError("nobody answers")
        self.calls.append("init")

    def shutdown(self) -> None:
        self.calls.append("shutdown")

    def from_items(self, items: list[dict], override_num_blocks: int) -> FakeRay:
        assert override_num_blocks == len(items)
        self.rows = items
        return self

    def map(self, work: Callable[[dict], dict], num_cpus: int) -> FakeRay:
        self.results = [work(row) for row in reversed(self.rows)]
        return self

    def iter_rows(self) -> list[dict]:
        return self.results


def test_on_a_cluster_the_result_is_the_same(
    raw: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setitem(sys.modules, "ray.data", fake.data)
    prepare([raw], tmp_path / "out", QUICK, ray="local")
    assert contents(tmp_path / "out") == undisturbed
    assert fake.calls == ["init", "shutdown"]
    with pytest.raises(UserError, match="nowhere:1"):
        prepare([raw], tmp_path / "elsewhere", QUICK, ray="nowhere:1")


def test_a_missing_ray_is_reported_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    jobs = [Job("/nowhere/a.mp4", "a", str(tmp_path), PrepareOptions())]
    with pytest.raises(UserError, match=r"pip install 'liveportrait\[cluster\]'"):
        list(run_on_cluster(jobs, "auto"))


def test_a_part_that_cannot_be_written_stops_the_run(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        make_part(Job(str(raw / "face.png"), "key", str(tmp_path / "gone"), QUICK))
