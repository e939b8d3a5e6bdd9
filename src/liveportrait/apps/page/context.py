"""The page's visitors: what each has open, uploaded and asked for. Files and jobs belong to the service.

No visitor can reach anything of another: choices are kept by the session that gradio gives each browser tab, and job
names cannot be guessed. When a tab is closed, its jobs are cancelled and their results deleted.
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
from liveportrait.apps.page import markup
from liveportrait.apps.server.service import NotReady, Service
from liveportrait.apps.server.store import QueueFull, Record, Upload
from liveportrait.errors import UserError

if TYPE_CHECKING:
    from liveportrait.animation.animator import Animator

OWNER = "page"  # of its jobs
MAX_VISITORS = 64  # beyond this, the least recently active one is forgotten
T = TypeVar("T")
_log = logging.getLogger("liveportrait.page")


@dataclass(eq=False)
class Visitor:
    """One open browser tab."""

    states: dict[str, Any] = field(default_factory=dict)
    """state of each part of the page for this visitor, by the part's name"""
    jobs: dict[str, str] = field(default_factory=dict)
    """the last job of each part"""

    def state(self, name: str, make: Callable[[], T]) -> T:
        """The state of a part of the page, created on first use."""
        found: T = self.states.setdefault(name, make())
        return found


class PageContext:
    """Shared by all parts of the page: the service and its visitors."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._visitors: dict[str, Visitor] = {}
        self._lock = threading.Lock()

    @property
    def animator(self) -> Animator:
        """The animator; waits until it is loaded."""
        return self.service.animator()

    def visitor(self, request: gr.Request) -> Visitor:
        """The visitor who sent a request. Raises `UserError` if it did not come from an open page."""
        session = request.session_hash
        if not session:
            raise UserError("the request did not come from an open page: open the page in a browser")
        with self._lock:
            visitor = self._visitors.pop(session, None) or Visitor()
            self._visitors[session] = visitor  # now the most recent
            surplus = list(self._visitors)[:-MAX_VISITORS]
        for each in surplus:
            self.forget(each)
        return visitor

    def forget(self, session: str | None) -> None:
        """Forget the visitor of a closed tab: cancel its jobs and delete their results."""
        with self._lock:
            visitor = self._visitors.pop(session or "", None)
        for job in visitor.jobs.values() if visitor else ():
            self.service.cancel(job)

    def keep_upload(self, upload: str | None, stays: bool = False) -> Upload:
        """Keep a file that gradio received, within the service's limits. Raises `UserError`.

        `stays`: gradio still shows the file, and deletes it itself.
        """
        if not upload or not (path := Path(upload)).is_file():
            raise UserError("the file was not uploaded: choose it again")
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
        """Submit a job in place of the part's last one, and return its id. Raises as `Service.submit`."""
        if (before := visitor.jobs.pop(part, None)) is not None:
            self.service.cancel(before)
        job = self.service.submit(kind, source, driving, options, files, owner=OWNER).id
        visitor.jobs[part] = job
        return job

    def result(self, job: str, compare: bool = False) -> Path | None:
        """The result of one of the page's jobs, or its comparison; None if it does not exist (any more)."""
        status = self.service.status(job)
        if status is None or status.record.owner != OWNER or status.record.state != "done":
            return None
        path = self.service.workers.result(status.record, compare)
        return path if path.is_file() else None

    def address(self, record: Record) -> str:
        """The URL of a job's result, relative to the page."""
        return f"shown/{record.id}/{self.name(record)}"

    def name(self, record: Record) -> str:
        """The file name of a downloaded result, such as "me-talk.mp4"."""
        parts = [record.source or "", *record.driving]
        uploads = [self.service.uploads.find(state) for state in parts]
        stems = [
            Path(upload.name).stem if upload else state for state, upload in zip(parts, uploads, strict=True)
        ]
        return (
            "-".join(stems)[:80]
            + ("-edited" if record.kind == "edit" else "")
            + ("-speaks" if record.kind == "speak" else "")
            + record.suffix
        )

    def error_card(self, error: BaseException) -> str:
        """The sentence that tells a visitor about an error, as HTML."""
        if isinstance(error, QueueFull):
            sentence = f"the queue is full: try again in {self.service.workers.retry_s} s"
        elif isinstance(error, NotReady):
            sentence = f"{error}: try again in a moment"
        elif isinstance(error, UserError):
            sentence = str(error)
        else:
            _log.error("a request of the page failed", exc_info=error)
            sentence = "something went wrong: try again, or ask whoever runs this page to check its log"
        return markup.message(sentence)
