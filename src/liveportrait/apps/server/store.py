"""The table of jobs and uploads: what was accepted survives whatever ends the process.

SQLite with a write-ahead log, synchronised at every commit. One process holds it; a second one is refused, so that no
job runs twice.
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
    """As many jobs wait as may."""


@dataclass(frozen=True)
class Upload:
    """A file that a caller brought, by its content."""

    id: str
    """SHA-256 of its bytes, in hexadecimal"""
    name: str
    """what the caller calls it: shown, never used as a path"""
    suffix: str
    kind: MediaKind
    bytes: int
    width: int = 0
    height: int = 0
    frames: int = 1
    seconds: float = 0.0
    used: float = field(default_factory=time.time)
    """Unix time when it was last wanted"""

    @property
    def file(self) -> str:
        """Its name in the folder of uploads."""
        return self.id + self.suffix


@dataclass(frozen=True)
class Record:
    """A job as it is kept. Files are uploads' ids; times are Unix times."""

    id: str
    kind: JobKind
    source: str | None
    driving: tuple[str, ...]
    """uploads, or names of bundled motions"""
    options: Mapping[str, object]
    suffix: str
    files: Mapping[str, str] = field(default_factory=dict)
    """uploads that options name, by the option"""
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
        """Whether nothing more will happen to it, except that its result expires."""
        return self.state not in ("queued", "running")

    @property
    def uploads(self) -> tuple[str, ...]:
        """All uploads that it needs."""
        return tuple(filter(None, (self.source, *self.driving, *self.files.values())))


class JobStore:
    """Jobs and uploads in a file. Every method is one transaction, and may be called from any thread."""

    def __init__(self, path: Path) -> None:
        """Raises `UserError` where another process holds the file, or it is no such file."""
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
                    f"{path.parent} is held by another service: end it, or name another folder by --data"
                ) from error
            raise UserError(f"{path} is no table of jobs ({error}): name another folder by --data") from error

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    # Uploads

    def add_upload(self, upload: Upload) -> None:
        """Keep what is known of an upload; one that is there is marked as used."""
        with self._transaction():
            self._insert("uploads", upload, "OR REPLACE")

    def upload(self, upload: str) -> Upload | None:
        """An upload by its id, marked as used; None where there is none."""
        with self._transaction():
            self._run("UPDATE uploads SET used = ? WHERE id = ?", time.time(), upload)
            return self._one(Upload, "SELECT * FROM uploads WHERE id = ?", upload)

    def take_unused(self, before: float) -> list[Upload]:
        """Forget the uploads that were not used since a time and that no unfinished job needs; which they were."""
        with self._transaction():
            old = self._all(Upload, "SELECT * FROM uploads WHERE used < ?", before)
            jobs = self._all(Record, "SELECT * FROM jobs WHERE state IN ('queued', 'running')")
            needed = {each for job in jobs for each in job.uploads}
            unused = [upload for upload in old if upload.id not in needed]
            for upload in unused:
                self._run("DELETE FROM uploads WHERE id = ?", upload.id)
            return unused

    # Jobs

    def add(self, record: Record, most: int) -> Record:
        """Accept a job, or give the one of its id that is there. Raises `QueueFull` where `most` wait already."""
        with self._transaction():
            if known := self.job(record.id):
                return known
            if self.count("queued") >= most:
                raise QueueFull
            self._insert("jobs", record)
            return record

    def job(self, job: str) -> Record | None:
        """A job by its id."""
        with self._lock:
            return self._one(Record, "SELECT * FROM jobs WHERE id = ?", job)

    def jobs(self, state: State) -> list[Record]:
        """All jobs in a state, in the order of their arrival."""
        with self._lock:
            return self._all(Record, "SELECT * FROM jobs WHERE state = ? ORDER BY number", state)

    def count(self, state: State) -> int:
        """How many jobs are in a state."""
        with self._lock:
            return int(self._run("SELECT COUNT(*) FROM jobs WHERE state = ?", state).fetchone()[0])

    def place(self, job: str) -> int:
        """How many jobs wait before this one."""
        query = "SELECT COUNT(*) FROM jobs WHERE state = 'queued' AND number < (SELECT number FROM jobs WHERE id = ?)"
        with self._lock:
            return int(self._run(query, job).fetchone()[0])

    def claim(self) -> Record | None:
        """The job that waited longest, now running for one time more; None where none waits."""
        with self._transaction():
            query = "SELECT * FROM jobs WHERE state = 'queued' ORDER BY number LIMIT 1"
            if (found := self._one(Record, query)) is None:
                return None
            changes = {"state": "running", "attempts": found.attempts + 1, "started": time.time()}
            self.change(found.id, "queued", **changes)
            return self.job(found.id)

    def change(self, job: str, before: State, **columns: object) -> bool:
        """Change a job that is in the state `before`; whether it was."""
        values = [json.dumps(value) if name in _JSON else value for name, value in columns.items()]
        names = ", ".join(f"{name} = ?" for name in columns)
        with self._lock:
            return (
                self._run(
                    f"UPDATE jobs SET {names} WHERE id = ? AND state = ?", *values, job, before
                ).rowcount
                > 0
            )

    def end(self, job: str, before: State, after: State, error: str = "") -> bool:
        """End a job that is in a state; whether it was."""
        return self.change(job, before, state=after, error=error, ended=time.time())

    def expire(self, before: float) -> list[Record]:
        """The jobs that ended before a time, their results now expired; what expired as long ago is forgotten."""
        with self._transaction():
            age = time.time() - before
            self._run("DELETE FROM jobs WHERE state = 'expired' AND ended < ?", before - age)
            ended = "state IN ('done', 'failed', 'cancelled') AND ended < ?"
            old = self._all(Record, f"SELECT * FROM jobs WHERE {ended}", before)
            self._run(f"UPDATE jobs SET state = 'expired' WHERE {ended}", before)
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

    def _run(self, query: str, *values: object) -> sqlite3.Cursor:
        return self._connection.execute(query, values)

    def _insert(self, table: str, row: Upload | Record, otherwise: str = "") -> None:
        columns = {each.name: getattr(row, each.name) for each in fields(row)}
        values = [json.dumps(value) if name in _JSON else value for name, value in columns.items()]
        places = ", ".join("?" * len(columns))
        self._run(f"INSERT {otherwise} INTO {table} ({', '.join(columns)}) VALUES ({places})", *values)

    def _one(self, cls: type[R], query: str, *values: object) -> R | None:
        row = self._run(query, *values).fetchone()
        return None if row is None else _made(cls, row)

    def _all(self, cls: type[R], query: str, *values: object) -> list[R]:
        return [_made(cls, row) for row in self._run(query, *values)]


def _made(cls: type[R], row: sqlite3.Row) -> R:
    values: dict[str, Any] = {}
    for each in fields(cls):
        value = row[each.name]
        value = json.loads(value) if each.name in _JSON else value
        values[each.name] = tuple(value) if isinstance(value, list) else value
    return cls(**values)
