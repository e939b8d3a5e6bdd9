"""The desk behind the page: who has it open, what they brought and asked for. Files and work are the service's.

Nothing of one visitor is reachable for another: what they chose is kept by the session that gradio gives each tab, and
jobs have names that cannot be guessed. When a tab is closed its work stops and its results go.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import gradio as gr

from liveportrait.apps.jobs import JobKind
from liveportrait.apps.page import shown
from liveportrait.apps.server.service import NotReady, Service
from liveportrait.apps.server.store import QueueFull, Record, Upload
from liveportrait.errors import UserError

if TYPE_CHECKING:
    from liveportrait.animation.animator import Animator

OWNER = "page"  # under whose name its jobs are kept
MOST_VISITORS = 64  # beyond which the one who was away longest is forgotten
T = TypeVar("T")
_log = logging.getLogger("liveportrait.page")


@dataclass(eq=False)
class Visitor:
    """One open tab of a browser."""

    kept: dict[str, Any] = field(default_factory=dict)
    """what each part of the page keeps for this visitor, by that part's name"""
    jobs: dict[str, str] = field(default_factory=dict)
    """the last job of each part"""

    def part(self, name: str, make: Callable[[], T]) -> T:
        """What a part of the page keeps, made when it is asked for first."""
        found: T = self.kept.setdefault(name, make())
        return found


class Desk:
    """What all parts of the page share."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._visitors: dict[str, Visitor] = {}
        self._lock = threading.Lock()

    @property
    def animator(self) -> Animator:
        """The animator, as soon as it is loaded."""
        return self.service.animator()

    def visitor(self, request: gr.Request) -> Visitor:
        """Whoever asks. Raises `UserError` for a request that comes from no open page."""
        session = request.session_hash
        if not session:
            raise UserError("this was not asked by an open page: open it in a browser")
        with self._lock:
            visitor = self._visitors.pop(session, None) or Visitor()
            self._visitors[session] = visitor  # now the last to be forgotten
            surplus = list(self._visitors)[:-MOST_VISITORS]
        for each in surplus:
            self.forget(each)
        return visitor

    def forget(self, session: str | None) -> None:
        """A tab was closed: its work stops, its results are removed."""
        with self._lock:
            visitor = self._visitors.pop(session or "", None)
        for job in visitor.jobs.values() if visitor else ():
            self.service.cancel(job)

    def take(self, upload: str | None, stays: bool = False) -> Upload:
        """A file that gradio received, kept within the service's limits. Raises `UserError`.

        `stays`: gradio shows it still, and removes it itself.
        """
        if not upload or not (path := Path(upload)).is_file():
            raise UserError("the file did not arrive: choose it again")
        try:
            with path.open("rb") as stream:
                return self.service.keep(stream, path.name)[0]
        finally:
            if not stays:
                path.unlink()

    def submit(
        self,
        visitor: Visitor,
        part: str,
        kind: JobKind,
        source: str,
        driving: Sequence[str],
        options: Mapping[str, object],
        files: Mapping[str, str] | None = None,
    ) -> str:
        """Accept a job, in the place of the last one of that part of the page. Its id. Raises as `Service.submit`."""
        if (before := visitor.jobs.pop(part, None)) is not None:
            self.service.cancel(before)
        job = self.service.submit(kind, source, driving, options, files, owner=OWNER).id
        visitor.jobs[part] = job
        return job

    def result(self, job: str, compare: bool = False) -> Path | None:
        """The result of a job of the page, or the comparison that it made, as long as it is kept."""
        status = self.service.status(job)
        if status is None or status.record.owner != OWNER or status.record.state != "done":
            return None
        path = self.service.workers.result(status.record, compare)
        return path if path.is_file() else None

    def address(self, record: Record) -> str:
        """Where a browser finds the result of a job, relative to the page."""
        return f"shown/{record.id}/{self.name(record)}"

    def name(self, record: Record) -> str:
        """What a result is called when it is downloaded: "me-talk.mp4"."""
        parts = [record.source or "", *record.driving]
        uploads = [self.service.uploads.find(part) for part in parts]
        stems = [
            Path(upload.name).stem if upload else part for part, upload in zip(parts, uploads, strict=True)
        ]
        return (
            "-".join(stems)[:80]
            + ("-edited" if record.kind == "edit" else "")
            + ("-speaks" if record.kind == "speak" else "")
            + record.suffix
        )

    def told(self, error: BaseException) -> str:
        """What a visitor is told when something goes wrong, as HTML: a sentence."""
        if isinstance(error, QueueFull):
            sentence = f"as many jobs wait as may: try again in {self.service.workers.retry_s} s"
        elif isinstance(error, NotReady):
            sentence = f"{error}: try again in a moment"
        elif isinstance(error, UserError):
            sentence = str(error)
        else:
            _log.error("the page could not do what it was asked", exc_info=error)
            sentence = "something went wrong here: try again, or ask who runs this page to look into its log"
        return shown.message(sentence)
