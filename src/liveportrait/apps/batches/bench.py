"""Where jobs are done: an animator, and the portrait that the last job opened, for the next one may want it too."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
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
    """why it failed; "" when it did not"""
    marking: str = ""
    """how the result is marked as generated, or why not"""


class Bench:
    """Does jobs one after the other."""

    def __init__(self, networks: LoadOptions, animator: Animator | None = None) -> None:
        self._networks, self._given = networks, animator
        self._opening: Opening | None = None
        self._portrait: Portrait | None = None

    @cached_property
    def animator(self) -> Animator:
        """The animator, loaded for the first job. Raises `UserError` where that cannot be."""
        return self._given or self._networks.load()

    def make(self, job: Job, progress: Progress = no_progress) -> Report:
        """Do a job, see `run_job`. Raises `UserError`."""
        opening = opening_of(job)
        with typed_errors():
            if opening and opening != self._opening:
                self._let_go()
                self._portrait = self.animator.open(*opening, progress)
                self._opening = opening
            return run_job(self.animator, job, progress, self._portrait if opening else None)

    def do(self, job: Job, progress: Progress = no_progress) -> Outcome:
        """Do a job; what it fails of is told by the outcome. Raises `UserError` where nothing can be done at all."""
        _ = self.animator
        try:
            report = self.make(job, progress)
        except UserError as error:
            return Outcome(reason=str(error))
        except Exception as error:  # whatever one job meets, the others are done
            return Outcome(reason=f"{type(error).__name__}: {error}")
        return Outcome(report.frames, report.elapsed, report.notes, marking=report.marking)

    def _let_go(self) -> None:
        if self._portrait:
            self._portrait.close()
        self._portrait = self._opening = None
