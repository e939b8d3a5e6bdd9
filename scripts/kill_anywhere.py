"""Ends commands at random moments by signals, and tells what they leave: a line for each command and signal.

    python scripts/kill_anywhere.py [--runs animate prepare ...] [--signals SIGKILL SIGTERM ...] [--points 50]
        [--while running|writing|starting]

What carries its final name must be whole after every end. After SIGINT, SIGTERM and SIGHUP nothing else may be left,
the status must be 128 + signal (or 0 where a command ends so), and the process must be gone within two seconds. After
SIGKILL the next run starts in the folder that the killed ones have left; the last run of all is not killed, and must
end as ever: nothing hidden is left then, and what can be resumed has come to the same result. The exit status is 1
where something is not so. Runs are forked after all is imported, and moments are spread over the whole of them, or
over the time from when something is written ("writing"). With "starting" they are new processes, and the moments lie
in Python's start, in its imports and in the loading of networks, too. For Linux.
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
GIVE_UP = 2  # kills after which a service is let be
MOST_S, LATEST_S = 120.0, 2.0  # that a run may take, and its end after a signal
OVERHEAD_S = 1.0  # that seeing an end may take here
SETTLED_S = 6.0  # after which a page is there
MOVED = "animate portrait.png blink.safetensors"


def whole(path: Path) -> bool:
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
        return True  # records and tables, which are written to their end by what reads them
    return False


@dataclass(frozen=True)
class Task:
    """A command, OUT being the folder it writes into."""

    arguments: str
    names: tuple[str, ...]  # files that are there at the end
    same: tuple[str, ...] = ()  # those of them that are the same bytes whatever happened
    serves: bool = False  # it does not end by itself, and ends well on a signal


STATISTICS = ("shards/statistics.json", "shards/dropped.jsonl")
TASKS = {
    "animate": Task(f"{MOVED} -o OUT/out.mp4", ("out.mp4",)),
    "prores": Task(f"{MOVED} --codec prores -o OUT/out.mov", ("out.mov",)),
    "frames": Task(f"{MOVED} -o OUT/out", ("out/frame-000015.png",)),
    "gif": Task(f"{MOVED} -o OUT/out.gif", ("out.gif",)),
    "compare": Task(f"{MOVED} --compare -o OUT/out.mp4", ("out.mp4", "out_compare.mp4")),
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
ENDS_WELL = ("live",)  # what was recorded until then is kept


class Run:
    """One run of a task, which writes into a folder; `is_new`: a new process in place of a fork of this one."""

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
                    start_new_session=True, preexec_fn=_hear,
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
        """As shells count it; None while it runs."""
        code = self._program.poll() if self._program else self._process.exitcode
        return code if code is None or code >= 0 else 128 - code

    def ended(self, until_s: float = MOST_S, at_first_file: bool = False) -> bool:
        """Whether it ends, or a service has done what it should, before so many seconds have passed."""
        last = time.monotonic() + until_s
        while time.monotonic() < last:
            if self.status is not None or (self._task.serves and self.is_done()):
                return True
            if at_first_file and hidden(self._folder):
                return False
            time.sleep(0.01)
        return False

    def is_done(self) -> bool:
        """Whether all files are there; a page goes on."""
        return bool(self._task.names) and all((self._folder / name).exists() for name in self._task.names)

    def stop(self, number: int | None) -> tuple[int, float, float, str]:
        """Its status, s by the clock and of processor time until its end, and what it printed."""
        began, before = time.monotonic(), self._used()
        used = before
        if number is not None and self.status is None:
            os.kill(self._id, number)
        while self.status is None and time.monotonic() - began < MOST_S:
            time.sleep(0.005)
            used = max(self._used(), used)
        seconds = time.monotonic() - began
        with suppress(ProcessLookupError):
            while time.monotonic() - began < MOST_S:  # what it had started ends with it
                os.killpg(self._id, 0)
                time.sleep(0.02)
        return self.status or 0, seconds, used - before, self._errors.read_text()

    def _used(self) -> float:
        with suppress(OSError):  # another process's clock, as clock_getcpuclockid(3) makes its number
            return time.clock_gettime(~self._id << 3 | 2)
        return 0.0


def _hear() -> None:
    for name in SIGNALS[:3]:  # a shell has what it runs in the background ignore the first one
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _work(inputs: Path, errors: Path, arguments: Sequence[str], folder: Path) -> None:
    os.setsid()
    _hear()
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    os.chdir(inputs)
    with errors.open("w") as file, open(os.devnull, "w") as nowhere:
        os.dup2(file.fileno(), 2)
        os.dup2(nowhere.fileno(), 1)
    sys.exit(run_liveportrait(arguments))


def hidden(folder: Path) -> list[Path]:
    """Unfinished files and their locks, wherever they are."""
    return sorted(folder.rglob(".liveportrait-*"))


def visible(folder: Path) -> list[Path]:
    """Files under their own names."""
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return [folder / path for path in files if not any(part.startswith(".") for part in path.parts)]


def digests(task: Task, folder: Path) -> list[str]:
    """Of the files that are always the same; of a checkpoint's tensors, for it tells the time as well."""
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
    """A task stopped by a signal at so many points, in a place of its own."""

    def __init__(self, name: str, signal_name: str, when: str, inputs: Path, place: Path) -> None:
        self._task, self._number = TASKS[name], int(signal.Signals[signal_name])
        self._inputs, self._place, self._when = inputs, place, when
        ends_well = TASKS[name].serves or name in ENDS_WELL
        self._right = (128 + self._number, *((0,) if ends_well else ()))
        self.faults: list[str] = []
        self.points = self.finished = 0  # and runs that came to their end before the signal
        self.clock = self.processor = 0.0  # s of the slowest end

    def run(self, points: int, rng: np.random.Generator) -> None:
        """Stop it at so many points; what is wrong with any stands in `faults`."""
        seconds, wanted = self._complete(self._place / "undisturbed")
        folder = self._place / "0"
        folder.mkdir()
        kills = self._number == signal.SIGKILL
        while self.points < points and len(self.faults) < 5:
            at, run = rng.uniform(0, seconds), self._begin(folder)
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
            if status not in self._right:
                self.faults.append(f"{where}: status {status}, {errors.strip()[-80:]}")
            if not kills and min(clock, processor + OVERHEAD_S) > LATEST_S + OVERHEAD_S:
                self.faults.append(f"{where}: it took {clock:.1f} s to end")
            if kills and self._task.serves and self.points % GIVE_UP == 0:  # a job is not tried for ever
                self._complete(folder)
                renew(folder)
            self.clock, self.processor = max(self.clock, clock), max(self.processor, processor)
        if self._complete(folder)[1] != wanted:
            self.faults.append("what was resumed came to another result")

    def _begin(self, folder: Path) -> Run:
        return Run(self._task, self._inputs, folder, self._when == "starting")

    def _check(self, folder: Path, where: str, errors: str) -> None:
        broken = [path for path in visible(folder) if not whole(path)]
        self.faults += [f"{where}: {path.relative_to(folder)} is not whole" for path in broken]
        if "Traceback" in errors:
            self.faults.append(f"{where}: a traceback, {errors.strip().splitlines()[-1]}")
        if self._number != signal.SIGKILL and (left := hidden(folder)):
            self.faults.append(f"{where}: {left[0].relative_to(folder)} is left")

    def _complete(self, folder: Path) -> tuple[float, list[str]]:
        """Run it to its end; how long it took, and what it made."""
        folder.mkdir(exist_ok=True)
        began, run, task = time.monotonic(), self._begin(folder), self._task
        run.ended(MOST_S if task.names else SETTLED_S)
        seconds = time.monotonic() - began
        status, *_, errors = run.stop(signal.SIGTERM if task.serves else None)
        if status not in (0, 128 + signal.SIGTERM if task.serves else 0):
            self.faults.append(f"undisturbed: status {status}, {errors.strip()[-200:]}")
        self.faults += [f"undisturbed: {path.relative_to(folder)} is left" for path in hidden(folder)]
        missing = [name for name in task.names if not (folder / name).exists()]
        self.faults += [f"undisturbed: {name} is missing" for name in missing]
        return seconds, [] if missing else digests(task, folder)


def renew(folder: Path) -> None:
    """Remove a result; what is hidden stays for the next run to sweep."""
    for path in folder.iterdir():
        if not path.name.startswith("."):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def main() -> int:
    """Stop all tasks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--signals", nargs="+", choices=SIGNALS, default=["SIGKILL"])
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--while", dest="when", choices=("running", "writing", "starting"), default="running")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    import_openvino()
    head = f"{'run':10}{'signal':9}{'points':>7}{'finished':>9}{'by clock':>10}{'processor':>10}"
    print(f"{head}  what was wrong", flush=True)
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        inputs = Path(scratch) / "inputs"
        inputs.mkdir()
        process = multiprocessing.get_context("fork").Process(target=make_inputs, args=(inputs,))
        process.start()  # a process that has encoded has threads, and can no more be forked
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
