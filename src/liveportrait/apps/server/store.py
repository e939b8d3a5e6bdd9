"""The table of jobs and uploads: what was accepted survives the process, however it ends.

SQLite with a write-ahead log, synchronised at every commit. Only one process may have it open, so that no job runs
twice.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from liveportrait.apps.jobs import JobKind
from liveportrait.errors import UserError

State = Literal["queued", "running", "done", "failed", "cancelled", "expired"]
MediaKind = Literal["picture", "video", "sound", "template", "other"]

R = TypeVar("R", "Upload", "Record")

_JSON = ("driving", "files", "options", "notes")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS uploads (
    id TEXT PRIMARY KEY, name TEXT, suffix TEXT, kind TEXT, bytes INTEGER, width INTEGER, height INTEGER,
    frames INTEGER, seconds REAL, used REAL);
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, kind TEXT, owner TEXT, source TEXT, driving TEXT,
    files TEXT, options TEXT, suffix TEXT, state TEXT, attempts INTEGER, created REAL, started REAL, ended REAL,
    error TEXT, frames INTEGER, seconds REAL, notes TEXT);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, number);
"""


class QueueFull(Exception):
    """The maximum number of jobs is waiting."""


@dataclass(frozen=True)
class Upload:
    """A file that a caller uploaded, identified by its content."""

    id: str
    """SHA-256 of its bytes, in hexadecimal"""
    name: str
    """the caller's name for it: shown, never used as a path"""
    suffix: str
    kind: MediaKind
    bytes: int
    width: int = 0
    height: int = 0
    frames: int = 1
    seconds: float = 0.0
    used: float = field(default_factory=time.time)
    """Unix time of its last use"""

    @property
    def file(self) -> str:
        """Its name in the folder of uploads."""
        return self.id + self.suffix


@dataclass(frozen=True)
class Record:
    """A job as stored. Files are upload ids; times are Unix times."""

    id: str
    kind: JobKind
    source: str | None
    driving: tuple[str, ...]
    """uploads, or names of bundled motions"""
    options: Mapping[str, object]
    suffix: str
    files: Mapping[str, str] = field(default_factory=dict)
    """option → upload, for options that name a file"""
    owner: str = ""
    state: State = "queued"
    attempts: int = 0
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    error: str = ""
    frames: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def is_finished(self) -> bool:
        """Whether the job has ended; only its result may still expire."""
        return self.state not in ("queued", "running")

    @property
    def uploads(self) -> tuple[str, ...]:
        """All uploads that it needs."""
        return tuple(filter(None, (self.source, *self.driving, *self.files.values())))


class JobStore:
    """Jobs and uploads in an SQLite file. Each method is one transaction, and may be called from any thread."""

    def __init__(self, path: Path) -> None:
        """Raise `UserError` if another process has the file open, or it is not a job table."""
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, timeout=1, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        try:
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            if "locked" in str(error):
                raise UserError(
                    f"{path.parent} is in use by another service: stop it, or give another folder with --data"
                ) from error
            raise UserError(
                f"{path} is not a job table ({error}): give another folder with --data"
            ) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    # Uploads

    def add_upload(self, upload: Upload) -> None:
        """Record an upload, or update the one with its id."""
        with self._transaction():
            self._insert("uploads", upload, "OR REPLACE")

    def upload(self, upload: str) -> Upload | None:
        """The upload with an id, now marked as used; None if there is none."""
        with self._transaction():
            self._execute("UPDATE uploads SET used = ? WHERE id = ?", time.time(), upload)
            return self._fetch_one(Upload, "SELECT * FROM uploads WHERE id = ?", upload)

    def take_unused(self, before: float) -> list[Upload]:
        """Remove and return the uploads not used since `before` (Unix time) that no unfinished job needs."""
        with self._transaction():
            old = self._fetch_all(Upload, "SELECT * FROM uploads WHERE used < ?", before)
            jobs = self._fetch_all(Record, "SELECT * FROM jobs WHERE state IN ('queued', 'running')")
            needed = {each for job in jobs for each in job.uploads}
            unused = [upload for upload in old if upload.id not in needed]
            for upload in unused:
                self._execute("DELETE FROM uploads WHERE id = ?", upload.id)
            return unused

    # Jobs

    def add(self, record: Record, limit: int) -> Record:
        """Accept a job, or return the existing one with its id. Raises `QueueFull` if `limit` are already waiting."""
        with self._transaction():
            if known := self.job(record.id):
                return known
            if self.count("queued") >= limit:
                raise QueueFull
            self._insert("jobs", record)
            return record

    def job(self, job: str) -> Record | None:
        """The job with an id."""
        with self._lock:
            return self._fetch_one(Record, "SELECT * FROM jobs WHERE id = ?", job)

    def jobs(self, state: State) -> list[Record]:
        """All jobs in a state, in order of arrival."""
        with self._lock:
            return self._fetch_all(Record, "SELECT * FROM jobs WHERE state = ? ORDER BY number", state)

    def count(self, state: State) -> int:
        """How many jobs are in a state."""
        with self._lock:
            return int(self._execute("SELECT COUNT(*) FROM jobs WHERE state = ?", state).fetchone()[0])

    def place(self, job: str) -> int:
        """How many jobs are ahead of this one in the queue."""
        query = "SELECT COUNT(*) FROM jobs WHERE state = 'queued' AND number < (SELECT number FROM jobs WHERE id = ?)"
        with self._lock:
            return int(self._execute(query, job).fetchone()[0])

    def claim(self) -> Record | None:
        """Mark the job that has waited longest as running, count the attempt, and return it; None if none waits."""
        with self._transaction():
            query = "SELECT * FROM jobs WHERE state = 'queued' ORDER BY number LIMIT 1"
            if (found := self._fetch_one(Record, query)) is None:
                return None
            changes = {"state": "running", "attempts": found.attempts + 1, "started": time.time()}
            self.change(found.id, "queued", **changes)
            return self.job(found.id)

    def change(self, job: str, before: State, **columns: object) -> bool:
        """Change a job if it is in the state `before`; returns whether it was."""
        values = [json.dumps(value) if name in _JSON else value for name, value in columns.items()]
        names = ", ".join(f"{name} = ?" for name in columns)
        with self._lock:
            query = f"UPDATE jobs SET {names} WHERE id = ? AND state = ?"
            return self._execute(query, *values, job, before).rowcount > 0

    def end(self, job: str, before: State, after: State, error: str = "") -> bool:
        """End a job if it is in the state `before`; returns whether it was."""
        return self.change(job, before, state=after, error=error, ended=time.time())

    def expire(self, before: float) -> list[Record]:
        """Mark jobs that ended before `before` (Unix time) as expired and return them; delete those twice as old."""
        with self._transaction():
            age = time.time() - before
            self._execute("DELETE FROM jobs WHERE state = 'expired' AND ended < ?", before - age)
            ended = "state IN ('done', 'failed', 'cancelled') AND ended < ?"
            old = self._fetch_all(Record, f"SELECT * FROM jobs WHERE {ended}", before)
            self._execute(f"UPDATE jobs SET state = 'expired' WHERE {ended}", before)
            return old

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _execute(self, query: str, *values: object) -> sqlite3.Cursor:
        return self._connection.execute(query, values)

    def _insert(self, table: str, row: Upload | Record, otherwise: str = "") -> None:
        columns = {each.name: getattr(row, each.name) for each in fields(row)}
        values = [json.dumps(value) if name in _JSON else value for name, value in columns.items()]
        places = ", ".join("?" * len(columns))
        self._execute(f"INSERT {otherwise} INTO {table} ({', '.join(columns)}) VALUES ({places})", *values)

    def _fetch_one(self, cls: type[R], query: str, *values: object) -> R | None:
        row = self._execute(query, *values).fetchone()
        return None if row is None else _from_row(cls, row)

    def _fetch_all(self, cls: type[R], query: str, *values: object) -> list[R]:
        return [_from_row(cls, row) for row in self._execute(query, *values)]


def _from_row(cls: type[R], row: sqlite3.Row) -> R:
    values: dict[str, Any] = {}
    for each in fields(cls):
        value = row[each.name]
        value = json.loads(value) if each.name in _JSON else value
        values[each.name] = tuple(value) if isinstance(value, list) else value
    return cls(**values)
