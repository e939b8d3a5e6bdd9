"""Progress bars on standard error, with frames per second and the time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from liveportrait.animation.report import pace

if TYPE_CHECKING:
    from liveportrait.types import Progress as Show


class FramesPerSecond(ProgressColumn):
    """The speed of the current step."""

    def render(self, task: Task) -> Text:
        """The speed of a task, empty until it is known."""
        return Text("" if task.speed is None else pace(task.speed))


class BatchBars:
    """A bar for all jobs of a batch, and one for each running job."""

    def __init__(self, bars: Progress, jobs: int, done: int) -> None:
        self._bars, self._jobs = bars, bars.add_task("jobs", total=jobs, completed=done)
        self._steps: dict[str, TaskID] = {}

    def begin(self, name: str) -> Show:
        """Add a bar for a job; returns its progress function."""
        self._steps[name] = task = self._bars.add_task(name, total=None)

        def show(step: str, done: int, total: int | None) -> None:
            self._bars.update(task, description=f"{name}: {step}", completed=done, total=total)

        return show

    def end(self, name: str) -> None:
        """Remove the bar of a job, and count it as done."""
        self._bars.remove_task(self._steps.pop(name))
        self._bars.advance(self._jobs)


@contextmanager
def batch_bars(jobs: int, done: int) -> Iterator[BatchBars]:
    """Bars for `jobs` jobs of which `done` are done; hidden if standard error is not a terminal."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield BatchBars(bars, jobs, done)


@contextmanager
def progress_bar() -> Iterator[Show]:
    """A progress function for the pipelines; hidden if standard error is not a terminal."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        FramesPerSecond(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bars:
        tasks: dict[str, TaskID] = {}

        def show(step: str, done: int, total: int | None) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield show
