"""What the routes share: one animator, the portraits that are open, one folder of files, one queue of jobs.

The HTTP routes, the live loop and the page are all fronts of this: what they post goes through `keep` and `submit`.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from liveportrait.animation.options import SourceOptions
from liveportrait.apps.jobs import Job, JobKind, Opening, SpeakJobOptions, opening_of, run_job
from liveportrait.apps.server.access import Tokens
from liveportrait.apps.server.metrics import Metrics
from liveportrait.apps.server.orders import checked_suffix, id_of, job_of
from liveportrait.apps.server.settings import ServerSettings
from liveportrait.apps.server.store import JobStore, Record, Upload
from liveportrait.apps.server.uploads import Uploads, WrongType
from liveportrait.apps.server.workers import Ticket, Workers
from liveportrait.errors import UserError, typed_errors
from liveportrait.media.sound.text import espeak
from liveportrait.types import Progress, no_progress

if TYPE_CHECKING:
    from liveportrait.animation.animator import Animator
    from liveportrait.animation.portrait import Portrait
    from liveportrait.animation.report import Report
    from liveportrait.marking.verdict import Verdict

MOST_PORTRAITS = 8  # that stay open, the last used ones
_TIDY_S = 60.0
Make = Callable[[Job, Progress], "Report"]
_log = logging.getLogger("liveportrait.server")


class NotReady(Exception):
    """No job can be taken now."""


@dataclass(frozen=True)
class Status:
    """A job as it stands."""

    record: Record
    before: int = 0
    """jobs that wait before it"""
    ticket: Ticket | None = None
    """how far it is, while it is at work"""


class Service:
    """Everything behind the routes. Its methods may be called from any thread."""

    def __init__(
        self, settings: ServerSettings, animator: Animator | None = None, make: Make | None = None
    ) -> None:
        """`make` does the jobs, by default this process. Raises `UserError` where folder or tokens cannot be used."""
        self.settings = settings
        self.metrics = Metrics()
        self.tokens = Tokens.read(settings.tokens) if settings.tokens else Tokens()
        try:
            settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.store = JobStore(settings.data / "jobs.sqlite3")
            self.uploads = Uploads(settings.data / "uploads", self.store, settings.limits)
            results = settings.data / "results"
            self.workers = Workers(settings, self.store, results, self._perform, self.metrics)
        except OSError as error:
            raise UserError(
                f"{settings.data} cannot be used ({error.strerror}): name another folder by --data"
            ) from error
        self.metrics.waiting.set_function(lambda: self.store.count("queued"))
        self.metrics.running.set_function(lambda: self.store.count("running"))
        self._animator, self._make = animator, make or self._make_here
        self._loading = threading.Lock()
        self._why_not = "the networks are being loaded"
        self._portraits = _Portraits()
        self._ended = threading.Event()

    # From start to end

    def start(self) -> None:
        """Load the networks, take up the jobs that wait, and go on in threads of its own."""
        threading.Thread(target=self._begin, name="begin", daemon=True).start()
        threading.Thread(target=self._tidy_on, name="tidy", daemon=True).start()

    def end(self) -> None:
        """Take nothing more, and tell those who follow jobs."""
        self._why_not = "the service is ending"
        self._ended.set()

    def stop(self) -> None:
        """Give running jobs time to end, and let go of the folder. Waiting jobs stay there."""
        self.end()
        self.workers.stop()
        self.store.close()

    @property
    def why_not_ready(self) -> str:
        """Why no job is taken now, as a sentence; "" where they are."""
        return self._why_not

    @property
    def is_ending(self) -> bool:
        """Whether it was told to end."""
        return self._ended.is_set()

    def animator(self) -> Animator:
        """The animator; the first call loads it, which takes seconds. Raises `UserError`."""
        with self._loading:
            if self._animator is None:
                self._animator = self.settings.networks.load()
            return self._animator

    # Files

    def verdict(self, upload: Upload) -> Verdict:
        """What a picture or video that is kept says of how it was made. Raises `WrongType` for anything else."""
        from liveportrait.marking.verdict import verify

        if upload.kind not in ("picture", "video"):
            raise WrongType(f"{upload.name} is neither a picture nor a video")
        return verify(self.uploads.path(upload))

    def keep(self, stream: BinaryIO, name: str) -> tuple[Upload, bool]:
        """Keep a file that somebody brought, see `Uploads.keep`: the upload, and whether it is new."""
        upload, new = self.uploads.keep(stream, name)
        if new:
            self.metrics.uploads.inc(upload.bytes)
        return upload, new

    def path_of(self, name: str) -> Path:
        """The file of an upload, by its id, or of a bundled motion, by its name. Raises `UserError`."""
        from liveportrait.motion import bundled_files

        if upload := self.uploads.find(name):
            return self.uploads.path(upload)
        motions = bundled_files()
        if name not in motions:
            raise UserError(
                f"{name} is no file that is kept here: post it again, or name a motion of {', '.join(motions)}"
            )
        return motions[name]

    def portrait(
        self, source: str, options: SourceOptions | None = None, progress: Progress = no_progress
    ) -> Portrait:
        """The portrait in an upload; one that was opened in the same way lately is open still. Raises `UserError`.

        It is shared: do not close it.
        """
        opening = self.path_of(source), options or SourceOptions()
        return self._portraits.open(self.animator(), opening, progress)

    # Jobs

    def submit(
        self,
        kind: JobKind,
        source: str | None,
        driving: Sequence[str],
        options: Mapping[str, object],
        files: Mapping[str, str] | None = None,
        suffix: str = "",
        owner: str = "",
        key: str = "",
    ) -> Record:
        """Accept a job of uploads, which survives the end of this process from now on.

        `driving` may name bundled motions, `files` are uploads that options name, and `suffix` is that of the result:
        by default what `suffix_for` gives. A job that its owner gave the same `key` before is not accepted again.
        Raises `UserError` for what cannot be done, `QueueFull` and `NotReady`.
        """
        if self.why_not_ready:
            raise NotReady(self.why_not_ready)
        record = Record(id_of(owner, key), kind, source, tuple(driving), options, suffix, files or {}, owner)
        out = self.settings.data / "results" / "result"
        with self._callers_words(record, out):
            job = self._job_of(record, out)
            if isinstance(job.options, SpeakJobOptions) and job.options.text and not self.settings.cluster:
                espeak()  # a missing one is told now
            record = replace(record, suffix=checked_suffix(job, suffix))
        record = self.store.add(record, self.settings.limits.queue)
        self.workers.wake()
        return record

    def known(self, owner: str, key: str) -> Status | None:
        """The job that its owner gave a key, as it stands."""
        return self.status(id_of(owner, key)) if key else None

    @property
    def is_full(self) -> bool:
        """Whether a job would be refused now."""
        return self.store.count("queued") >= self.settings.limits.queue

    def status(self, job: str) -> Status | None:
        """A job as it stands; None where there is none of that id."""
        ticket = self.workers.ticket(job)
        record = self.store.job(job)
        if record is None:
            return None
        waits = record.state == "queued"
        return Status(record, self.store.place(job) if waits else 0, None if record.is_finished else ticket)

    def cancel(self, job: str) -> None:
        """Stop a job, or forget the result of one that is done."""
        record = self.store.job(job)
        if record and self.store.change(job, "done", state="expired"):
            self._remove(record)
        else:
            self.workers.cancel(job)

    def tidy(self) -> None:
        """Remove results and uploads that were kept for long enough."""
        before = time.time() - 3600 * self.settings.limits.keep_hours
        for record in self.store.expire(before):
            self._remove(record)
        for upload in self.store.take_unused(before):
            path = self.uploads.path(upload)
            self._portraits.forget(path)
            path.unlink(missing_ok=True)

    def _remove(self, record: Record) -> None:
        for compare in (False, True):
            self.workers.result(record, compare).unlink(missing_ok=True)

    def _begin(self) -> None:
        try:
            self.animator()
        except Exception as error:
            told = isinstance(error, UserError)
            self._why_not = (
                str(error) if told else "the networks cannot be loaded: the service's log says why"
            )
            _log.error("no job can be done: %s", error, exc_info=not told)
            return
        if not self._ended.is_set():
            self.workers.start()
            self._why_not = ""

    def _tidy_on(self) -> None:
        period = min(max(360 * self.settings.limits.keep_hours, 1.0), _TIDY_S)
        while not self._ended.wait(period):
            try:
                self.tidy()
            except (OSError, sqlite3.Error):
                if not self.is_ending:
                    _log.exception("what has expired could not be removed")

    def _job_of(self, record: Record, out: Path) -> Job:
        """The job that a record tells of. Raises `UserError`, in the caller's words."""
        return job_of(record, out, self.path_of, self.settings.limits)

    def _perform(self, record: Record, out: Path, progress: Progress) -> Report:
        """Do a job. Raises `UserError`."""
        with self._callers_words(record, out):
            return self._make(self._job_of(record, out), progress)

    def _make_here(self, job: Job, progress: Progress) -> Report:
        """Do a job in this process."""
        animator, opening = self.animator(), opening_of(job)
        portrait = self._portraits.open(animator, opening, progress) if opening else None
        return run_job(animator, job, progress, portrait)

    @contextmanager
    def _callers_words(self, record: Record, out: Path) -> Iterator[None]:
        """A block whose `UserError`s name files as the caller does."""
        try:
            with typed_errors():
                yield
        except UserError as error:
            told = str(error).replace(str(out), "the result")
            for upload in filter(None, map(self.uploads.find, record.uploads)):
                told = told.replace(str(self.uploads.path(upload)), upload.name)
            raise UserError(told) from error


class _Portraits:
    """The portraits that were used last, by file and by how they were opened."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[Opening, Portrait] = OrderedDict()

    def open(self, animator: Animator, opening: Opening, progress: Progress) -> Portrait:
        """The portrait, opened if it is not."""
        with self._lock:
            if opening in self._open:
                self._open.move_to_end(opening)
                return self._open[opening]
        portrait = animator.open(*opening, progress)
        with self._lock:
            portrait = self._open.setdefault(opening, portrait)
            self._open.move_to_end(opening)
            while len(self._open) > MOST_PORTRAITS:
                self._open.popitem(last=False)
        return portrait

    def forget(self, path: Path) -> None:
        """A file is gone."""
        with self._lock:
            for opening in [opening for opening in self._open if opening[0] == path]:
                del self._open[opening]
