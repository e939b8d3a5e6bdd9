"""Kill commands at random moments and check the files that they leave: prints one line per command and signal.

    python scripts/kill_anywhere.py [--runs animate prepare ...] [--signals SIGKILL SIGTERM ...] [--points 50]
        [--while running|writing|starting]

Every file with its final name must be complete after every kill. After SIGINT, SIGTERM and SIGHUP nothing else may be
left, the exit status must be 128 + signal (or 0 for commands that handle it), and the process must be gone within two
seconds. After SIGKILL the next run starts in the folder that the killed ones have left; the very last run is not killed
and must end normally: no hidden files are left then, and what can be resumed has the same result. The exit status is 1
if any of this fails. Runs are forked after all imports, and the moments are spread over their entire duration, or over
the time after something is first written ("writing"). With "starting" they are new processes, and the moments include
Python's start, its imports and the loading of networks. Linux only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kill_inputs import JOBS, make_inputs, queue_jobs
from safetensors.torch import load_file

import liveportrait.animation.animator
import liveportrait.apps.server.application
import liveportrait.data.preparation.run
import liveportrait.training.stage_one.run  # noqa: F401  # for the forked processes
from liveportrait.__main__ import run as run_liveportrait
from liveportrait.face.runtime import import_openvino
from liveportrait.media import VideoReader, load_image
from liveportrait.motion.templates import read_template

SOURCES = Path(__file__).parents[1] / "src"
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL")
MAX_KILLS = 2  # of a service before it is allowed to finish, since it retries a job only a few times
MAX_RUN_S, MAX_STOP_S = 120.0, 2.0  # for a run, and for its end after a signal
OVERHEAD_S = 1.0  # by which the end may be noticed late
PAGE_START_S = 6.0  # after which a page is ready
ANIMATE = "animate portrait.png blink.safetensors"


def is_complete(path: Path) -> bool:
    """Whether a file can be read to its end."""
    with suppress(Exception):
        suffix = path.suffix
        if suffix in (".mp4", ".mov", ".gif"):
            with VideoReader(path) as reader:
                return sum(1 for _ in reader) == reader.info.frame_count
        if suffix in (".png", ".jpg"):
            return load_image(path).size > 0
        if suffix == ".json":
            return bool(json.loads(path.read_text()))
        if suffix == ".tar":
            with tarfile.open(path) as tar:
                return len(tar.getmembers()) > 0
        if suffix == ".safetensors" and "out" in path.name:
            return len(read_template(path)) > 0
        if suffix == ".safetensors":
            return len(load_file(path)) > 0
        return True  # records and tables: their readers repair an incomplete end
    return False


@dataclass(frozen=True)
class Task:
    """A command to kill; OUT stands for the folder it writes into."""

    arguments: str
    names: tuple[str, ...]  # files that exist at the end
    same: tuple[str, ...] = ()  # those with the same bytes however often it was killed
    serves: bool = False  # runs until it is stopped, and exits with 0 on a signal


STATISTICS = ("shards/statistics.json", "shards/dropped.jsonl")
TASKS = {
    "animate": Task(f"{ANIMATE} -o OUT/out.mp4", ("out.mp4",)),
    "prores": Task(f"{ANIMATE} --codec prores -o OUT/out.mov", ("out.mov",)),
    "frames": Task(f"{ANIMATE} -o OUT/out", ("out/frame-000015.png",)),
    "gif": Task(f"{ANIMATE} -o OUT/out.gif", ("out.gif",)),
    "compare": Task(f"{ANIMATE} --compare -o OUT/out.mp4", ("out.mp4", "out_compare.mp4")),
    "edit": Task("edit portrait.png --smile 0.5 -o OUT/out.png", ("out.png",)),
    "film": Task("edit video.mp4 --smile 0.5 -o OUT/out.mp4", ("out.mp4",)),
    "template": Task("template video.mp4 -o OUT/out.safetensors", ("out.safetensors",), ("out.safetensors",)),
    "prepare": Task("prepare portrait.png video.mp4 -o OUT/shards", STATISTICS, STATISTICS),
    "train": Task(
        "train stage-one --config training.toml --part motion --output OUT/run",
        ("run/motion.safetensors",),
        ("run/motion.safetensors",),
    ),
    "batch": Task("batch jobs.csv --out OUT/results", ("results/portrait.png", "results/second.png")),
    "serve": Task(
        "serve --port 0 --data OUT/data", tuple(f"data/results/{job}.png" for job in JOBS), serves=True
    ),
    "app": Task("app --no-open --port 0", (), serves=True),
    "live": Task("live portrait.png --camera video.mp4 --no-window --record OUT/out.mp4", ("out.mp4",)),
    "page": Task("live portrait.png --no-open", (), serves=True),
}
ENDS_WELL = ("live",)  # exits with 0 on a signal: the recording so far is kept


class Run:
    """One run of a task, which writes into a folder; `is_new`: in a new process instead of a fork of this one."""

    def __init__(self, task: Task, inputs: Path, folder: Path, is_new: bool) -> None:
        self._task, self._folder, self._errors = task, folder, inputs / "errors.txt"
        if task.serves and task.names and not (folder / "data").exists():
            queue_jobs(folder / "data", inputs)
        arguments = task.arguments.replace("OUT", str(folder)).split()
        with self._errors.open("w") as errors:
            if is_new:
                places = {"TMPDIR": str(folder), "PYTHONPATH": str(SOURCES)}
                self._program: subprocess.Popen[bytes] | None = subprocess.Popen(
                    [sys.executable, "-m", "liveportrait", *arguments],
                    cwd=inputs, env=os.environ | places, stdout=subprocess.DEVNULL, stderr=errors,
                    start_new_session=True, preexec_fn=_reset_signals,
                )  # fmt: skip
                self._id = self._program.pid
                return
        self._program = None
        work = inputs, self._errors, arguments, folder
        self._process = multiprocessing.get_context("fork").Process(target=_work, args=work)
        self._process.start()
        self._id = self._process.pid or 0

    @property
    def status(self) -> int | None:
        """The exit status as in a shell; None while it runs."""
        code = self._program.poll() if self._program else self._process.exitcode
        return code if code is None or code >= 0 else 128 - code

    def ended(self, until_s: float = MAX_RUN_S, at_first_file: bool = False) -> bool:
        """Wait until it ends, or a service has finished its work; False if that takes more than `until_s` seconds.

        With `at_first_file` it also returns False as soon as the run writes something.
        """
        last = time.monotonic() + until_s
        while time.monotonic() < last:
            if self.status is not None or (self._task.serves and self.is_done()):
                return True
            if at_first_file and hidden(self._folder):
                return False
            time.sleep(0.01)
        return False

    def is_done(self) -> bool:
        """Whether all expected files exist; False for a page, which has none."""
        return bool(self._task.names) and all((self._folder / name).exists() for name in self._task.names)

    def stop(self, number: int | None) -> tuple[int, float, float, str]:
        """Send a signal and wait for the end; status, wall and CPU seconds until then, and stderr."""
        started, before = time.monotonic(), self._used()
        used = before
        if number is not None and self.status is None:
            os.kill(self._id, number)
        while self.status is None and time.monotonic() - started < MAX_RUN_S:
            time.sleep(0.005)
            used = max(self._used(), used)
        seconds = time.monotonic() - started
        with suppress(ProcessLookupError):
            while time.monotonic() - started < MAX_RUN_S:  # until its child processes have ended too
                os.killpg(self._id, 0)
                time.sleep(0.02)
        return self.status or 0, seconds, used - before, self._errors.read_text()

    def _used(self) -> float:
        with suppress(OSError):  # another process's clock id, computed as by clock_getcpuclockid(3)
            return time.clock_gettime(~self._id << 3 | 2)
        return 0.0


def _reset_signals() -> None:
    for name in SIGNALS[:3]:  # a shell makes its background jobs ignore SIGINT
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _work(inputs: Path, errors: Path, arguments: Sequence[str], folder: Path) -> None:
    os.setsid()
    _reset_signals()
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    os.chdir(inputs)
    with errors.open("w") as file, open(os.devnull, "w") as nowhere:
        os.dup2(file.fileno(), 2)
        os.dup2(nowhere.fileno(), 1)
    sys.exit(run_liveportrait(arguments))


def hidden(folder: Path) -> list[Path]:
    """Unfinished files and their locks, in all subfolders."""
    return sorted(folder.rglob(".liveportrait-*"))


def visible(folder: Path) -> list[Path]:
    """Files with their final names."""
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return [folder / path for path in files if not any(part.startswith(".") for part in path.parts)]


def digests(task: Task, folder: Path) -> list[str]:
    """SHA-256 of the files that are always the same; for a checkpoint, which contains times, of its tensors only."""
    found = []
    for name in task.same:
        digest = hashlib.sha256()
        if name.startswith("run/"):
            for key, value in sorted(load_file(folder / name).items()):
                digest.update(key.encode() + value.numpy().tobytes())
        else:
            digest.update((folder / name).read_bytes())
        found.append(digest.hexdigest())
    return found


class Trial:
    """A task stopped by a signal at a number of points, in its own folder."""

    def __init__(self, name: str, signal_name: str, when: str, inputs: Path, place: Path) -> None:
        self._task, self._number = TASKS[name], int(signal.Signals[signal_name])
        self._inputs, self._place, self._when = inputs, place, when
        ends_well = TASKS[name].serves or name in ENDS_WELL
        self._expected = (128 + self._number, *((0,) if ends_well else ()))
        self.faults: list[str] = []
        self.points = self.finished = 0  # kills, and runs that finished before the signal
        self.clock = self.processor = 0.0  # seconds of the slowest stop

    def run(self, points: int, rng: np.random.Generator) -> None:
        """Stop it at `points` points; problems are collected in `faults`."""
        seconds, wanted = self._complete(self._place / "undisturbed")
        folder = self._place / "0"
        folder.mkdir()
        kills = self._number == signal.SIGKILL
        while self.points < points and len(self.faults) < 5:
            at, run = rng.uniform(0, seconds), self._start(folder)
            if self._when == "writing":
                ended = run.ended(at_first_file=True) or run.ended(rng.uniform(0, 0.3 * seconds))
            else:
                ended = run.ended(at)
            status, clock, processor, errors = run.stop(self._number)
            where = f"at {at:.2f} s of {seconds:.2f}"
            self._check(folder, where, errors)
            if ended or run.is_done():
                self.finished += 1
                renew(folder)
                continue
            self.points += 1
            if status not in self._expected:
                self.faults.append(f"{where}: status {status}, {errors.strip()[-80:]}")
            if not kills and min(clock, processor + OVERHEAD_S) > MAX_STOP_S + OVERHEAD_S:
                self.faults.append(f"{where}: it took {clock:.1f} s to end")
            if kills and self._task.serves and self.points % MAX_KILLS == 0:
                self._complete(folder)
                renew(folder)
            self.clock, self.processor = max(self.clock, clock), max(self.processor, processor)
        if self._complete(folder)[1] != wanted:
            self.faults.append("the resumed run has another result")

    def _start(self, folder: Path) -> Run:
        return Run(self._task, self._inputs, folder, self._when == "starting")

    def _check(self, folder: Path, where: str, errors: str) -> None:
        broken = [path for path in visible(folder) if not is_complete(path)]
        self.faults += [f"{where}: {path.relative_to(folder)} is incomplete" for path in broken]
        if "Traceback" in errors:
            self.faults.append(f"{where}: a traceback, {errors.strip().splitlines()[-1]}")
        if self._number != signal.SIGKILL and (left := hidden(folder)):
            self.faults.append(f"{where}: {left[0].relative_to(folder)} is left")

    def _complete(self, folder: Path) -> tuple[float, list[str]]:
        """Run it to its end; returns how long it took, and the digests of its results."""
        folder.mkdir(exist_ok=True)
        started, run, task = time.monotonic(), self._start(folder), self._task
        run.ended(MAX_RUN_S if task.names else PAGE_START_S)
        seconds = time.monotonic() - started
        status, *_, errors = run.stop(signal.SIGTERM if task.serves else None)
        if status not in (0, 128 + signal.SIGTERM if task.serves else 0):
            self.faults.append(f"undisturbed: status {status}, {errors.strip()[-200:]}")
        self.faults += [f"undisturbed: {path.relative_to(folder)} is left" for path in hidden(folder)]
        missing = [name for name in task.names if not (folder / name).exists()]
        self.faults += [f"undisturbed: {name} is missing" for name in missing]
        return seconds, [] if missing else digests(task, folder)


def renew(folder: Path) -> None:
    """Remove the results; hidden files stay for the next run to sweep."""
    for path in folder.iterdir():
        if not path.name.startswith("."):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def main() -> int:
    """Run all trials and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--signals", nargs="+", choices=SIGNALS, default=["SIGKILL"])
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--while", dest="when", choices=("running", "writing", "starting"), default="running")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    import_openvino()
    head = f"{'run':10}{'signal':9}{'points':>7}{'finished':>9}{'wall':>10}{'processor':>10}"
    print(f"{head}  problems", flush=True)
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        inputs = Path(scratch) / "inputs"
        inputs.mkdir()
        process = multiprocessing.get_context("fork").Process(target=make_inputs, args=(inputs,))
        process.start()  # a process that has encoded video has threads and can no longer be forked
        process.join()
        for name in options.runs:
            for signal_name in options.signals:
                place = Path(scratch) / f"{name}-{signal_name}"
                place.mkdir()
                trial = Trial(name, signal_name, options.when, inputs, place)
                trial.run(
                    options.points, np.random.default_rng([options.seed, *f"{name}{signal_name}".encode()])
                )
                figures = f"{trial.points:7}{trial.finished:9}{trial.clock:9.2f}s{trial.processor:9.2f}s"
                print(f"{name:10}{signal_name:9}{figures}  {'; '.join(trial.faults)}", flush=True)
                failed = failed or bool(trial.faults)
                shutil.rmtree(place)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
