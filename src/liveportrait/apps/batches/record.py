"""The record in a folder of results: a JSON line for each job begun, done or failed. The last line of a job counts.

The line "done" is written after the job's files have their names, so a result recorded as done is complete, however
the program ended. An incomplete line is ignored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from liveportrait.apps.batches.manifest import Row
from liveportrait.apps.batches.runner import Outcome
from liveportrait.errors import UserError
from liveportrait.folders import sweep_unfinished

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FILE = "batch.jsonl"


class Record:
    """The record of a folder, open for one batch at a time."""

    def __init__(self, file: IO[str], entries: dict[str, dict[str, Any]]) -> None:
        self._file, self._entries = file, entries

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Iterator[Record]:
        """Open the record, creating the folder and removing the unfinished files of a killed batch.

        Raises `UserError` if the folder cannot be written to, or another batch is writing into it.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = (folder / FILE).open("a+", encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"{folder} cannot be written to: {error.strerror}; choose another folder"
            ) from error
        with file:
            if fcntl:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise UserError(f"{folder} is in use by another batch: wait for it to end") from error
            sweep_unfinished(folder)
            file.seek(0)
            text = file.read()
            if text and not text.endswith("\n"):
                file.write("\n")
            yield cls(file, dict(_entries(text)))

    def check_names(self, rows: Sequence[Row]) -> None:
        """Raise `UserError` if a result would replace a file that no batch made."""
        for row in rows:
            for path in row.files:
                if path.exists() and row.name not in self._entries:
                    raise UserError(
                        f"{path} exists and was not made by a batch: move it away, or choose another folder"
                    )

    def is_done(self, row: Row) -> bool:
        """Whether the row's files exist, and were made for its current request."""
        entry = self._entries.get(row.name, {})
        asked = (entry.get("state"), entry.get("request")) == ("done", row.request)
        return asked and all(path.exists() for path in row.files)

    def begin(self, row: Row) -> None:
        """Record that a job is about to write its files."""
        self._write(row, "begun")

    def end(self, row: Row, outcome: Outcome) -> None:
        """Record how a job ended."""
        if outcome.reason:
            self._write(row, "failed", reason=outcome.reason)
        else:
            self._write(
                row,
                "done",
                frames=outcome.frames,
                seconds=round(outcome.seconds, 2),
                notes=outcome.notes,
                marking=outcome.marking,
            )

    def _write(self, row: Row, state: Literal["begun", "done", "failed"], **more: object) -> None:
        entry = {"name": row.name, "state": state, "request": row.request, **more}
        self._entries[row.name] = entry
        self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _entries(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            yield entry["name"], entry
        except (ValueError, KeyError, TypeError):  # cut off by a kill
            continue
