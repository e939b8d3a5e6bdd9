"""Runs jobs with an animator, and keeps portraits open that the next job may want again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from liveportrait.apps.animate import LoadOptions
from liveportrait.apps.jobs import Job, Opening, opening_of, run_job
from liveportrait.errors import UserError, typed_errors
from liveportrait.types import Progress, no_progress

if TYPE_CHECKING:
    from liveportrait.animation.animator import Animator
    from liveportrait.animation.portrait import Portrait
    from liveportrait.animation.report import Report


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    frames: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    reason: str = ""
    """why it failed; "" if it did not"""
    marking: str = ""
    """how the result is marked as generated, or why not"""


class JobRunner:
    """Runs one job at a time, and keeps the portrait of the last one open."""

    def __init__(self, networks: LoadOptions, animator: Animator | None = None) -> None:
        self._networks, self._given = networks, animator
        self._opening: Opening | None = None
        self._portrait: Portrait | None = None

    @cached_property
    def animator(self) -> Animator:
        """The animator, loaded on first use. Raises `UserError` if that fails."""
        return self._given or self._networks.load()

    def run(self, job: Job, progress: Progress = no_progress) -> Report:
        """Run a job, see `run_job`. Raises `UserError`."""
        opening = opening_of(job)
        with typed_errors():
            if opening and opening != self._opening:
                self._close_portrait()
                self._portrait = self.animator.open(*opening, progress)
                self._opening = opening
            return run_job(self.animator, job, progress, self._portrait if opening else None)

    def attempt(self, job: Job, progress: Progress = no_progress) -> Outcome:
        """Run a job; a failure is reported in the outcome. Raises `UserError` if no job at all can run."""
        _ = self.animator
        try:
            report = self.run(job, progress)
        except UserError as error:
            return Outcome(reason=str(error))
        except Exception as error:  # one failing job must not stop the others
            return Outcome(reason=f"{type(error).__name__}: {error}")
        return Outcome(report.frames, report.elapsed, report.notes, marking=report.marking)

    def _close_portrait(self) -> None:
        if self._portrait:
            self._portrait.close()
        self._portrait = self._opening = None


class PortraitCache:
    """The portraits used last, by file and options. They are shared between threads, so it never closes one."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._portraits: OrderedDict[Opening, Portrait] = OrderedDict()

    def open(self, animator: Animator, opening: Opening, progress: Progress) -> Portrait:
        """The portrait, opened unless it still is. Raises `UserError`."""
        with self._lock:
            if opening in self._portraits:
                self._portraits.move_to_end(opening)
                return self._portraits[opening]
        portrait = animator.open(*opening, progress)
        with self._lock:
            portrait = self._portraits.setdefault(opening, portrait)
            self._portraits.move_to_end(opening)
            while len(self._portraits) > self._capacity:
                self._portraits.popitem(last=False)
        return portrait

    def forget(self, path: Path) -> None:
        """Drop the portraits of a file that is gone."""
        with self._lock:
            for opening in [opening for opening in self._portraits if opening[0] == path]:
                del self._portraits[opening]
