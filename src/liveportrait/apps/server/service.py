"""Shared by all routes: one animator, the open portraits, one folder of files, one queue of jobs.

The HTTP routes, the live stream and the page are front ends of it: whatever is posted goes through `keep` and `submit`.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from liveportrait.animation.options import SourceOptions
from liveportrait.apps.batches.runner import PortraitCache
from liveportrait.apps.jobs import Job, JobKind, SpeakJobOptions, opening_of, run_job
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

MAX_OPEN_PORTRAITS = 8
_TIDY_INTERVAL_S = 60.0
Make = Callable[[Job, Progress], "Report"]
_log = logging.getLogger("liveportrait.server")


class NotReady(Exception):
    """No job can be accepted now."""


@dataclass(frozen=True)
class Status:
    """The state of a job."""

    record: Record
    before: int = 0
    """jobs ahead of it in the queue"""
    ticket: Ticket | None = None
    """its progress, while it runs"""


class Service:
    """Everything behind the routes. Its methods may be called from any thread."""

    def __init__(
        self, settings: ServerSettings, animator: Animator | None = None, make: Make | None = None
    ) -> None:
        """`make` runs the jobs; by default, this process does.

        Raises `UserError` if the folder or the tokens cannot be used.
        """
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
                f"{settings.data} cannot be used ({error.strerror}): give another folder with --data"
            ) from error
        self.metrics.waiting.set_function(lambda: self.store.count("queued"))
        self.metrics.running.set_function(lambda: self.store.count("running"))
        self._animator, self._make = animator, make or self._make_here
        self._loading = threading.Lock()
        self._why_not = "the networks are being loaded"
        self._portraits = PortraitCache(MAX_OPEN_PORTRAITS)
        self._ended = threading.Event()

    # Lifecycle

    def start(self) -> None:
        """Load the networks and start on the waiting jobs, in background threads."""
        threading.Thread(target=self._load_and_start, name="load", daemon=True).start()
        threading.Thread(target=self._tidy_loop, name="tidy", daemon=True).start()

    def end(self) -> None:
        """Accept no more jobs, and end the event streams."""
        self._why_not = "the service is shutting down"
        self._ended.set()

    def stop(self) -> None:
        """Give running jobs time to end, and release the folder. Waiting jobs stay in it."""
        self.end()
        self.workers.stop()
        self.store.close()

    @property
    def why_not_ready(self) -> str:
        """Why no job is accepted now, as a sentence; "" if jobs are."""
        return self._why_not

    @property
    def is_ending(self) -> bool:
        """Whether `end` was called."""
        return self._ended.is_set()

    def animator(self) -> Animator:
        """The animator; the first call loads it, which takes seconds. Raises `UserError`."""
        with self._loading:
            if self._animator is None:
                self._animator = self.settings.networks.load()
            return self._animator

    # Files

    def verdict(self, upload: Upload) -> Verdict:
        """What an uploaded picture or video says about how it was made. Raises `WrongType` for anything else."""
        from liveportrait.marking.verdict import verify

        if upload.kind not in ("picture", "video"):
            raise WrongType(f"{upload.name} is neither a picture nor a video")
        return verify(self.uploads.path(upload))

    def keep(self, stream: BinaryIO, name: str) -> tuple[Upload, bool]:
        """Keep a file, see `Uploads.keep`: the upload, and whether it is new."""
        upload, new = self.uploads.keep(stream, name)
        if new:
            self.metrics.uploads.inc(upload.bytes)
        return upload, new

    def path_of(self, name: str) -> Path:
        """The file of an upload, given its id, or of a bundled motion, given its name. Raises `UserError`."""
        from liveportrait.motion import bundled_files

        if upload := self.uploads.find(name):
            return self.uploads.path(upload)
        motions = bundled_files()
        if name not in motions:
            raise UserError(
                f"there is no file {name} here: post it again, or name one of the motions {', '.join(motions)}"
            )
        return motions[name]

    def portrait(
        self, source: str, options: SourceOptions | None = None, progress: Progress = no_progress
    ) -> Portrait:
        """The portrait in an upload, opened unless it still is. It is shared: do not close it. Raises `UserError`."""
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
        """Accept a job on uploads; from then on it survives the end of this process.

        `driving` may name bundled motions, `files` maps options to the uploads they name, and `suffix` is that of the
        result, by default what `suffix_for` gives. If the owner has used `key` before, the job of then is returned.
        Raises `UserError` for a job that cannot be done, `QueueFull` and `NotReady`.
        """
        if self.why_not_ready:
            raise NotReady(self.why_not_ready)
        record = Record(id_of(owner, key), kind, source, tuple(driving), options, suffix, files or {}, owner)
        with self._job(record, self.settings.data / "results" / "result") as job:
            if isinstance(job.options, SpeakJobOptions) and job.options.text and not self.settings.cluster:
                espeak()  # raises now if there is none
            record = replace(record, suffix=checked_suffix(job, suffix))
        record = self.store.add(record, self.settings.limits.queue)
        self.workers.wake()
        return record

    def known(self, owner: str, key: str) -> Status | None:
        """The state of the job with an owner's idempotency key."""
        return self.status(id_of(owner, key)) if key else None

    @property
    def is_full(self) -> bool:
        """Whether the queue is full."""
        return self.store.count("queued") >= self.settings.limits.queue

    def status(self, job: str) -> Status | None:
        """The state of a job; None if there is none with that id."""
        ticket = self.workers.ticket(job)
        record = self.store.job(job)
        if record is None:
            return None
        waits = record.state == "queued"
        return Status(record, self.store.place(job) if waits else 0, None if record.is_finished else ticket)

    def cancel(self, job: str) -> None:
        """Stop a job, or delete the result of one that is done."""
        record = self.store.job(job)
        if record and self.store.change(job, "done", state="expired"):
            self._remove(record)
        else:
            self.workers.cancel(job)

    def tidy(self) -> None:
        """Remove expired results and uploads."""
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

    def _load_and_start(self) -> None:
        try:
            self.animator()
        except Exception as error:
            expected = isinstance(error, UserError)
            self._why_not = str(error) if expected else "the networks cannot be loaded: see the service's log"
            _log.error("no job can be done: %s", error, exc_info=not expected)
            return
        if not self._ended.is_set():
            self.workers.start()
            self._why_not = ""

    def _tidy_loop(self) -> None:
        period = min(max(360 * self.settings.limits.keep_hours, 1.0), _TIDY_INTERVAL_S)
        while not self._ended.wait(period):
            try:
                self.tidy()
            except (OSError, sqlite3.Error):
                if not self.is_ending:
                    _log.exception("expired results and uploads could not be removed")

    def _perform(self, record: Record, out: Path, progress: Progress) -> Report:
        """Run the job of a record. Raises `UserError`."""
        with self._job(record, out) as job:
            return self._make(job, progress)

    def _make_here(self, job: Job, progress: Progress) -> Report:
        """Run a job in this process."""
        animator, opening = self.animator(), opening_of(job)
        portrait = self._portraits.open(animator, opening, progress) if opening else None
        return run_job(animator, job, progress, portrait)

    @contextmanager
    def _job(self, record: Record, out: Path) -> Iterator[Job]:
        """The job of a record. `UserError`s raised in the block name files as the caller does."""
        try:
            with typed_errors():
                yield job_of(record, out, self.path_of, self.settings.limits)
        except UserError as error:
            message = str(error).replace(str(out), "the result")
            for upload in filter(None, map(self.uploads.find, record.uploads)):
                message = message.replace(str(self.uploads.path(upload)), upload.name)
            raise UserError(message) from error
