"""Where jobs are done: an animator, and the portrait that the last job opened, for the next one may want it too."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from liveportrait.apps.animate import LoadOptions
from liveportrait.apps.jobs import Job, Opening, opening_of, run_job
from liveportrait.errors import UserError
from liveportrait.types import Progress, no_progress

if TYPE_CHECKING:
    from liveportrait.animation.animator import Animator
    from liveportrait.animation.portrait import Portrait


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    frames: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    opened: bool = False
    """whether the source was opened for it: it may have been open"""
    reason: str = ""
    """why it failed; "" when it did not"""


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

    def do(self, job: Job, progress: Progress = no_progress) -> Outcome:
        """Do a job; what it fails of is told by the outcome. Raises `UserError` where nothing can be done at all."""
        animator = self.animator
        opening = opening_of(job)
        opened = opening is not None and opening != self._opening
        try:
            if opening and opened:
                self._let_go()
                self._portrait = animator.open(*opening, progress)
                self._opening = opening
            report = run_job(animator, job, progress, self._portrait if opening else None)
        except UserError as error:
            return Outcome(opened=opened, reason=str(error))
        except Exception as error:  # whatever one job meets, the others are done
            return Outcome(opened=opened, reason=f"{type(error).__name__}: {error}")
        return Outcome(report.frames, report.elapsed, report.notes, opened)

    def _let_go(self) -> None:
        if self._portrait:
            self._portrait.close()
        self._portrait = self._opening = None
