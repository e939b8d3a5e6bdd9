"""Ends commands at random moments of their whole run, and tells what they leave: a line for each command and signal.

    python scripts/kill_anywhere.py [--runs animate prepare ...] [--signals SIGKILL SIGTERM ...] [--points 50]

What carries its final name must be whole after every end. After SIGINT and SIGTERM nothing else may be left, and the
status must be 128 + signal. After SIGKILL the next run starts in the folder that the killed ones have left; the last
run of all is not killed, and must end as ever: nothing hidden is left then, and what can be resumed has come to the
same result. The exit status is 1 where something is not so. Runs are forked after all is imported. For Linux.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
from kill_points import command_line, make_inputs
from safetensors.torch import load_file

import liveportrait.animation.animator
import liveportrait.apps.server.application
import liveportrait.data.preparation.run
import liveportrait.training.stage_one.run  # noqa: F401  # for the forked processes
from liveportrait.apps.server.settings import Limits
from liveportrait.apps.server.store import JobStore, Record
from liveportrait.apps.server.uploads import Uploads
from liveportrait.face.runtime import import_openvino
from liveportrait.media import VideoReader, load_image
from liveportrait.motion import read_template

SIGNALS = ("SIGINT", "SIGTERM", "SIGKILL")
GIVE_UP = 2  # kills after which a service is let be
MOST_S = 120.0  # that a run may take
JOBS = ("first", "second")  # of the service
TRAINING = """
bf16 = false
checkpoint_seconds = 0.0
[data]
shards = ["*.tar"]
frames_per_clip = 4
hold_out_one_in = 4
mode = "resident"
[motion]
schedule = { samples = 24, batch = 2, learning_rate = 1e-3, warmup_steps = 1 }
"""


def whole(path: Path) -> bool:
    """Whether a file can be read to its end."""
    with suppress(Exception):
        suffix = path.suffix
        if suffix == ".mp4":
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
        return True  # records and tables, which are written to their end by what reads them
    return False


@dataclass(frozen=True)
class Task:
    """A command, OUT being the folder it writes into."""

    arguments: str
    names: tuple[str, ...]  # files that are there at the end
    same: tuple[str, ...] = ()  # those of them that are the same bytes whatever happened
    serves: bool = False  # it does not end by itself


TASKS = {
    "animate": Task("animate portrait.png blink.safetensors -o OUT/out.mp4", ("out.mp4",)),
    "frames": Task("animate portrait.png blink.safetensors -o OUT/out", ("out/frame-000015.png",)),
    "edit": Task("edit portrait.png --smile 0.5 -o OUT/out.png", ("out.png",)),
    "template": Task("template video.mp4 -o OUT/out.safetensors", ("out.safetensors",), ("out.safetensors",)),
    "prepare": Task(
        "prepare portrait.png video.mp4 -o OUT/shards",
        ("shards/statistics.json", "shards/dropped.jsonl"),
        ("shards/statistics.json", "shards/dropped.jsonl"),
    ),
    "train": Task(
        "train stage-one --config training.toml --part motion --output OUT/run",
        ("run/motion.safetensors",),
        ("run/motion.safetensors",),
    ),
    "batch": Task("batch jobs.csv --out OUT/results", ("results/portrait.png", "results/second.png")),
    "serve": Task(
        "serve --port 0 --data OUT/data --end-seconds 0",
        tuple(f"data/results/{job}.png" for job in JOBS),
        serves=True,
    ),
    "app": Task("app --no-open --port 0", (), serves=True),
}


class Run:
    """One run of a task, which writes into a folder."""

    def __init__(self, task: Task, inputs: Path, folder: Path) -> None:
        self._task, self._folder, self._errors = task, folder, inputs / "errors.txt"
        if task.serves and task.names and not (folder / "data").exists():
            queue_jobs(folder / "data", inputs)
        self._process: BaseProcess = multiprocessing.get_context("fork").Process(
            target=_work,
            args=(inputs, self._errors, task.arguments.replace("OUT", str(folder)).split(), folder),
        )
        self._process.start()

    def ended(self, until_s: float = MOST_S) -> bool:
        """Whether it ends, or a service has done what it should, before so many seconds have passed."""
        last = time.monotonic() + until_s
        while time.monotonic() < last:
            if not self._process.is_alive():
                return True
            if self._task.serves and self.is_done():
                return True
            self._process.join(0.01)
        return False

    def is_done(self) -> bool:
        """Whether all files are there; the page goes on."""
        if self._task.names:
            return all((self._folder / name).exists() for name in self._task.names)
        return False

    def stop(self, number: int | None) -> tuple[int, float, float, str]:
        """Its status as shells count it, s by the clock and of processor time until its end, and what it printed."""
        process, began = self._process, time.monotonic()
        before = used = self._used()
        if number is not None and process.is_alive():
            os.kill(process.pid or 0, number)
        while process.is_alive() and time.monotonic() - began < MOST_S:
            process.join(0.005)
            used = self._used() or used
        seconds = time.monotonic() - began
        with suppress(ProcessLookupError):
            while time.monotonic() - began < MOST_S:  # what it had started ends with it
                os.killpg(process.pid or 0, 0)
                time.sleep(0.02)
        status = process.exitcode or 0
        return status if status >= 0 else 128 - status, seconds, used - before, self._errors.read_text()

    def _used(self) -> float:
        with suppress(OSError):
            return time.clock_gettime(~(self._process.pid or 0) << 3 | 2)
        return 0.0


def _work(inputs: Path, errors: Path, arguments: Sequence[str], folder: Path) -> None:
    os.setsid()
    for name in SIGNALS[:2]:  # a shell has what it runs in the background ignore the first one
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    tempfile.tempdir = str(folder)
    os.environ["TMPDIR"] = str(folder)
    command_line(inputs, errors, arguments)


def queue_jobs(data: Path, inputs: Path) -> None:
    """Give a service that has not begun its jobs."""
    data.mkdir()
    store = JobStore(data / "jobs.sqlite3")
    uploads = Uploads(data / "uploads", store, Limits())
    portrait, _ = uploads.keep(BytesIO((inputs / "portrait.png").read_bytes()), "portrait.png")
    for number, job in enumerate(JOBS):
        store.add(Record(job, "edit", portrait.id, (), {"smile": 0.3 + number / 10}, ".png"), 9)
    store.close()


def hidden(folder: Path) -> list[Path]:
    """Unfinished files and their locks, wherever they are."""
    return sorted(folder.rglob(".liveportrait-*"))


def visible(folder: Path) -> list[Path]:
    """Files under their own names."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [
        path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


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


@dataclass
class Row:
    """What came of a command and a signal."""

    points: int = 0
    finished: int = 0  # runs that came to their end before the signal
    clock: float = 0.0  # s of the slowest end
    processor: float = 0.0


def try_signal(
    task: Task, number: int, points: int, inputs: Path, place: Path, rng: np.random.Generator
) -> tuple[Row, list[str]]:
    """Stop a task at so many points; what is wrong with any."""
    row, faults = Row(), []
    kills = number == signal.SIGKILL
    first = place / "undisturbed"
    seconds, wanted = complete(task, inputs, first, faults)
    folder = place / "0"
    folder.mkdir()
    while row.points < points and len(faults) < 5:
        at = rng.uniform(0, seconds)
        run = Run(task, inputs, folder)
        finished = run.ended(at)
        status, clock, processor, errors = run.stop(number)
        where = f"at {at:.2f} s of {seconds:.2f}"
        faults += [
            f"{where}: {path.relative_to(folder)} is not whole" for path in visible(folder) if not whole(path)
        ]
        if "Traceback" in errors:
            faults.append(f"{where}: a traceback, {errors.strip().splitlines()[-1]}")
        if not kills and (left := hidden(folder)):
            faults.append(f"{where}: {left[0].relative_to(folder)} is left")
        if finished or (task.names and all((folder / name).exists() for name in task.names)):
            row.finished += 1
            renew(folder)
            continue
        row.points += 1
        if kills and task.serves and row.points % GIVE_UP == 0:  # a job is not tried for ever
            complete(task, inputs, folder, faults)
            renew(folder)
        if status != 128 + number and not (task.serves and status == 0):
            faults.append(f"{where}: status {status}, {errors.strip()[-80:]}")
        row.clock, row.processor = max(row.clock, clock), max(row.processor, processor)
    _, found = complete(task, inputs, folder, faults)
    if found != wanted:
        faults.append("what was resumed came to another result")
    return row, faults


def complete(task: Task, inputs: Path, folder: Path, faults: list[str]) -> tuple[float, list[str]]:
    """Run a task to its end; how long it took, and what it made."""
    folder.mkdir(exist_ok=True)
    began = time.monotonic()
    run = Run(task, inputs, folder)
    run.ended(MOST_S if task.names else 6.0)
    seconds = time.monotonic() - began
    status, *_, errors = run.stop(signal.SIGTERM if task.serves else None)
    if status not in (0, 128 + signal.SIGTERM if task.serves else 0):
        faults.append(f"undisturbed: status {status}, {errors.strip()[-200:]}")
    faults += [f"undisturbed: {path.relative_to(folder)} is left" for path in hidden(folder)]
    missing = [name for name in task.names if not (folder / name).exists()]
    faults += [f"undisturbed: {name} is missing" for name in missing]
    return seconds, [] if missing else digests(task, folder)


def renew(folder: Path) -> None:
    """Remove a result; what is hidden stays for the next run to sweep."""
    for path in folder.iterdir():
        if path.is_dir() and not path.name.startswith("."):
            shutil.rmtree(path)
        elif not path.name.startswith("."):
            path.unlink()


def main() -> int:
    """Stop all tasks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--signals", nargs="+", choices=SIGNALS, default=["SIGKILL"])
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    import_openvino()
    print(
        f"{'run':10}{'signal':9}{'points':>7}{'finished':>9}{'by clock':>10}{'processor':>10}  what was wrong",
        flush=True,
    )
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        inputs = Path(scratch) / "inputs"
        inputs.mkdir()
        process = multiprocessing.get_context("fork").Process(target=_make, args=(inputs,))
        process.start()  # a process that has encoded has threads, and can no more be forked
        process.join()
        for name in options.runs:
            for signal_name in options.signals:
                place = Path(scratch) / f"{name}-{signal_name}"
                place.mkdir()
                number = int(signal.Signals[signal_name])
                rng = np.random.default_rng([options.seed, number, *name.encode()])
                row, faults = try_signal(TASKS[name], number, options.points, inputs, place, rng)
                figures = f"{row.points:7}{row.finished:9}{row.clock:9.2f}s{row.processor:9.2f}s"
                print(f"{name:10}{signal_name:9}{figures}  {'; '.join(faults)}", flush=True)
                failed = failed or bool(faults)
                shutil.rmtree(place)
    return int(failed)


def _make(folder: Path) -> None:
    make_inputs(folder)
    (folder / "jobs.csv").write_text(
        "source,smile,name\nportrait.png,0.3,portrait\nportrait.png,0.4,second\n"
    )
    (folder / "training.toml").write_text(TRAINING)
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from synthetic_shards import make_shard

    make_shard(folder / "a.tar", clips=4, pictures=4)


if __name__ == "__main__":
    sys.exit(main())
