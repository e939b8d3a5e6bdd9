"""Stops runs by signals while they write, and tells what they leave: a line for each kind of run and signal.

    python scripts/kill_points.py [--runs video frames ...] [--signals SIGINT SIGTERM ...] [--points 10]

Points divide the time from when the first temporary file appears until the result is there, measured once beforehand.
H.264 is held back in memory for about 50 frames, and a template is written in a moment: there the points divide the
second half of the run. Time is the run's own processor time, so that a busy machine changes nothing. A run must end
with status 128 + signal, without a traceback, and leave nothing where it writes. SIGKILL cannot be handled: there a
last run, in the folder that the killed ones have left, must end as ever. The exit status is 1 where something is not
so. Runs are forked after all is imported, which takes most of a short run. For Linux.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from skimage.data import astronaut

import liveportrait.animation.animator  # noqa: F401  # for the forked processes
from liveportrait.apps.cli import main as liveportrait_main
from liveportrait.face.runtime import import_openvino
from liveportrait.media import VideoWriter, save_image
from liveportrait.motion.templates import Template, bundled_templates, write_template

SIDE, FRAMES = 256, 12  # of the video
MOVES = 16  # frames of the template that moves the portrait, which needs no face to be found
MOMENT_S = 0.2  # what is written in less is written in a moment
LAST = 0.95  # share of the time at the last point
EARLIER = 0.7  # where a run was faster than the one measured, its point comes so much earlier
HIDDEN = ".liveportrait-*"
MOVED = ("animate", "portrait.png", "blink.safetensors")
# Arguments, and the name of what is written.
RUNS: dict[str, tuple[tuple[str, ...], str]] = {
    "video": (MOVED, "out.mp4"),
    "prores": ((*MOVED, "--codec", "prores"), "out.mov"),
    "frames": (MOVED, "out"),
    "gif": (MOVED, "out.gif"),
    "compare": ((*MOVED, "--compare"), "out.mp4"),
    "edit": (("edit", "video.mp4", "--smile", "0.5"), "out.mp4"),
    "template": (("template", "video.mp4"), "out.safetensors"),
}
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL")


@dataclass(frozen=True)
class End:
    """How a run ended."""

    status: int  # as shells count it
    errors: str  # what it printed there
    left: tuple[str, ...]  # names of what is there now
    seconds: float  # of processor time since the signal
    waited: float  # s by the clock, since then


class Run:
    """One run of a kind, which writes into a folder."""

    def __init__(self, kind: str, inputs: Path, folder: Path) -> None:
        arguments, name = RUNS[kind]
        folder.mkdir(exist_ok=True)
        self._folder, self._before = folder, set(folder.iterdir())
        self._errors = inputs / "errors.txt"
        fork = multiprocessing.get_context("fork")
        work = inputs, self._errors, (*arguments, "-o", str(folder / name))
        self._process = fork.Process(target=command_line, args=work)
        self._process.start()
        self._used = 0.0

    def used(self) -> float:
        """The processor time so far, in s."""
        # The number of another process's clock, as clock_getcpuclockid(3) makes it; none once the process has ended.
        with suppress(OSError):
            self._used = time.clock_gettime(~(self._process.pid or 0) << 3 | 2)
        return self._used

    def wait(self, until: Callable[[], bool]) -> float:
        """Wait for something, or the end of the run. Returns the processor time then."""
        while self._process.is_alive() and not until():
            time.sleep(0.001)
            self.used()
        return self.used()

    def writes(self) -> bool:
        """Whether temporary files of its own are there."""
        return bool(set(self._folder.glob(HIDDEN)) - self._before)

    def end(self, number: int | None = None, at: float = 0.0) -> End:
        """How it ends, by itself or on a signal that it gets once it has used `at` s."""
        self.wait(lambda: self.used() >= at)
        began, used = time.monotonic(), self.used()
        if number is not None and self._process.pid and self._process.is_alive():
            os.kill(self._process.pid, number)
        seconds = self.wait(lambda: False) - used
        self._process.join()
        status = self._process.exitcode or 0
        left = sorted(path.name for path in set(self._folder.iterdir()) - self._before)
        return End(
            status if status >= 0 else 128 - status,
            self._errors.read_text(),
            tuple(left),
            seconds,
            time.monotonic() - began,
        )

    def forget(self) -> None:
        """Remove what it has written."""
        for path in set(self._folder.iterdir()) - self._before:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def command_line(inputs: Path, errors: Path, arguments: Sequence[str]) -> None:
    """What a forked process does: a command line, in the folder of the inputs."""
    os.chdir(inputs)
    with errors.open("w") as file, open(os.devnull, "w") as nowhere:
        os.dup2(file.fileno(), 2)
        os.dup2(nowhere.fileno(), 1)
    sys.exit(liveportrait_main(arguments))


@dataclass(frozen=True)
class Kind:
    """A kind of run, and how long it takes here."""

    name: str
    inputs: Path
    before: float  # s of processor time until it writes
    writing: float  # s of it from there on
    written: tuple[str, ...]  # names

    @classmethod
    def measured(cls, name: str, inputs: Path) -> Kind:
        """Measure one run."""
        run = Run(name, inputs, inputs / name)
        before = run.wait(run.writes)
        over = run.wait(lambda: not run.writes())
        end = run.end()
        if end.status:
            raise SystemExit(
                f"{name}: a run that nobody stopped ended with status {end.status}: {end.errors}"
            )
        return cls(name, inputs, before, over - before, end.left)

    def stopped(self, number: int, share: float, folder: Path) -> End:
        """The end of a run that gets a signal at a share of its writing, or earlier where it would be over by then."""
        while True:
            run = Run(self.name, self.inputs, folder)
            if self.writing < MOMENT_S:
                at = (self.before + self.writing) * (1 + share) / 2
            else:
                at = run.wait(run.writes) + self.writing * share
            end = run.end(number, at)
            if end.left != self.written:
                return end
            run.forget()
            share *= EARLIER


def main() -> int:
    """Stop all runs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--signals", nargs="+", choices=SIGNALS, default=list(SIGNALS))
    parser.add_argument("--points", type=int, default=10)
    options = parser.parse_args()
    failed = False
    import_openvino()
    print(
        f"{'run':10}{'signal':10}{'points':>7}{'right':>7}{'slowest':>9}{'by clock':>10}  what was wrong",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as place:
        inputs = Path(place)
        make = multiprocessing.get_context("fork").Process(target=make_inputs, args=(inputs,))
        make.start()  # a process that has encoded has threads, and can no more be forked
        make.join()
        for name in options.runs:
            kind = Kind.measured(name, inputs)
            for signal_name in options.signals:
                ends, faults = stopped_at(kind, signal_name, options.points)
                right = options.points - sum(fault.startswith("at ") for fault in faults)
                slowest = max(end.seconds for end in ends), max(end.waited for end in ends)
                line = f"{name:10}{signal_name:10}{options.points:7}{right:7}{slowest[0]:8.2f}s{slowest[1]:9.2f}s"
                print(f"{line}  {'; '.join(faults)}", flush=True)
                failed = failed or bool(faults)
    return int(failed)


def make_inputs(folder: Path) -> None:
    """A portrait of 256 px, a video and a template, into a folder."""
    portrait = np.ascontiguousarray(astronaut()[:SIDE, 96 : 96 + SIDE])
    save_image(folder / "portrait.png", portrait)
    with VideoWriter(folder / "video.mp4", Fraction(25), SIDE, SIDE) as writer:
        for number in range(FRAMES):
            writer.write(np.roll(portrait, number, 0))
    blink = bundled_templates()["blink"]
    write_template(
        folder / "blink.safetensors", Template(blink.motion.rows(range(MOVES)), blink.fps, blink.layout)
    )


def stopped_at(kind: Kind, signal_name: str, points: int) -> tuple[list[End], list[str]]:
    """How runs end that are stopped at so many points, and what is wrong with any."""
    number, kills = signal.Signals[signal_name], signal_name == "SIGKILL"
    folder = kind.inputs / f"{kind.name}-{signal_name}"
    ends, faults = [], []
    for point in range(points):
        share = LAST * (point + 0.5) / points
        end = kind.stopped(number, share, folder)
        ends.append(end)
        faults.append(fault(end, 128 + number, () if kills else end.left, f"at {share:.2f}"))
    if kills:
        end = Run(kind.name, kind.inputs, folder).end()
        faults.append(fault(end, 0, set(end.left) ^ set(kind.written), "the run after them"))
    return ends, list(filter(None, faults))


def fault(end: End, status: int, left: Iterable[str], where: str) -> str:
    """What is wrong with an end, in words; nothing if its status is this one and what is left is nothing."""
    faults = [f"status {end.status}"] * (end.status != status) + ["a traceback"] * ("Traceback" in end.errors)
    faults += left
    return f"{where}: {', '.join(faults)}" if faults else ""


if __name__ == "__main__":
    sys.exit(main())
