"""The entire preparation: find inputs, process those that are not done yet, assemble the shards."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from liveportrait.data.preparation import report
from liveportrait.data.preparation.assembly import select, write_shards
from liveportrait.data.preparation.jobs import Job, run_in_pool, run_on_cluster
from liveportrait.data.preparation.options import PrepareOptions
from liveportrait.data.preparation.parts import FOLDER, Dropped, has_part, json_bytes, sweep
from liveportrait.errors import UserError
from liveportrait.media import output_file
from liveportrait.types import Progress, no_progress

VERSION = 2  # of the parts: a run of another version cannot be resumed
MARK, STATISTICS, DROPPED, SHEET = "prepare.json", "statistics.json", "dropped.jsonl", "contact-sheet.png"

LIST_SUFFIX = ".txt"
SAMPLED_BYTES = 1 << 20


@dataclass(frozen=True)
class Input:
    """One file to prepare."""

    path: Path
    name: str  # for reports: relative to the folder that the user named


def find_inputs(named: Iterable[Path]) -> list[Input]:
    """The files that the user's paths stand for, each once, in order of their paths.

    A folder stands for every file in it and its subfolders except hidden ones; a .txt file for the paths in it, one per
    line (relative to the list's folder; empty lines and lines starting with # are ignored). Raises UserError if a path
    does not exist, or a folder or list contains no file.
    """
    found: dict[Path, Input] = {}
    for path in named:
        for entry in _expanded(path):
            found.setdefault(Path(os.path.abspath(entry.path)), entry)
    return [found[path] for path in sorted(found)]


def fingerprint(path: Path) -> str:
    """16 hex digits that identify a file's content: SHA-256 of its size and of the first, middle and last MiB.

    Raises OSError if the file cannot be read.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for start in sorted({0, max(size // 2 - SAMPLED_BYTES // 2, 0), max(size - SAMPLED_BYTES, 0)}):
            file.seek(start)
            digest.update(file.read(SAMPLED_BYTES))
    return digest.hexdigest()[:16]


def _expanded(path: Path) -> Iterator[Input]:
    if path.is_dir():
        yield from _list_folder(path)
    elif not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path")
    elif path.suffix.lower() == LIST_SUFFIX:
        yield from _read_list(path)
    else:
        yield Input(path, path.name)


def _list_folder(folder: Path) -> Iterator[Input]:
    count = 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                count += 1
                file = Path(place, name)
                yield Input(file, str(file.relative_to(folder)))
    if not count:
        raise UserError(f"{folder} is an empty folder: name one with videos or pictures")


def _read_list(path: Path) -> Iterator[Input]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read as a list of paths ({error}): save it as UTF-8 text"
        ) from error
    entries = [line for line in lines if line and not line.startswith("#")]
    if not entries:
        raise UserError(f"{path} lists no paths: write one video or picture per line")
    # A listed file that is missing is dropped and reported like any other that cannot be read.
    for line in entries:
        entry = path.parent / line
        if entry.is_dir():
            yield from _list_folder(entry)
        else:
            yield Input(entry, line)


@dataclass(frozen=True)
class Prepared:
    """The result of a preparation."""

    shards: tuple[Path, ...]
    statistics: dict[str, Any]  # as in statistics.json

    def summary(self) -> str:
        """A few lines of text: what was kept, and what was dropped and why."""
        s = self.statistics
        kept = (
            f"{s['inputs']} inputs, {s['input_seconds']:.1f} s of video -> {len(self.shards)} shards: "
            f"{s['clips']} clips ({s['seconds']:.1f} s), {s['pictures']} pictures, {s['identities']} identities"
        )
        return f"{kept}\n{report.table(s['dropped'])}"


def prepare(
    named: Sequence[Path],
    out: Path,
    options: PrepareOptions | None = None,
    workers: int = 1,
    ray: str | None = None,
    progress: Progress = no_progress,
) -> Prepared:
    """Make training shards from videos and pictures: files, folders, or .txt lists of them.

    `out` gets shards, statistics.json, dropped.jsonl and contact-sheet.png, and parts/, from which an interrupted run
    is resumed: it then processes only the remaining inputs, and the result is byte for byte that of an uninterrupted
    run. It uses `workers` processes, or with `ray` a Ray cluster at that address ("auto", or "local" for this machine).
    Raises UserError if no input or no usable face is found, or if `out` contains something else or was started with
    other options.
    """
    options = options or PrepareOptions()
    if workers < 1:
        raise UserError(f"the number of workers is {workers}: give 1 or more")
    if not named:
        raise UserError("Nothing to prepare: name videos, pictures, folders or lists of them")
    inputs = [entry for entry in find_inputs(named) if not _within(entry.path, out)]
    if not inputs:
        raise UserError(f"Nothing to prepare: all inputs lie in the output folder {out}; name another one")
    _open_output(out, options)
    keyed, dropped = _identify(inputs)
    jobs = [
        Job(os.path.abspath(entry.path), key, os.path.abspath(out), options)
        for key, entry in keyed.items()
        if not has_part(out, key)
    ]
    done = len(keyed) - len(jobs)
    for _ in _finished(jobs, workers, ray):
        done += 1
        progress("prepare", done, len(keyed))
    return _assemble(out, keyed, dropped, options)


def _finished(jobs: list[Job], workers: int, ray: str | None) -> Iterator[str]:
    if not jobs:
        return iter(())
    return run_in_pool(jobs, workers) if ray is None else run_on_cluster(jobs, ray)


def _identify(inputs: Iterable[Input]) -> tuple[dict[str, Input], list[tuple[str, Dropped]]]:
    """Inputs by the fingerprint of their content, and those that cannot be opened or are copies of another."""
    keyed: dict[str, Input] = {}
    dropped = []
    for entry in inputs:
        try:
            key = fingerprint(entry.path)
        except OSError as error:
            dropped.append((entry.name, Dropped("unreadable", f"{entry.path}: {error.strerror}")))
            continue
        if key in keyed:
            dropped.append((entry.name, Dropped("duplicate", f"the same file as {keyed[key].name}")))
        else:
            keyed[key] = entry
    return keyed, dropped


def _assemble(
    out: Path, keyed: dict[str, Input], dropped: list[tuple[str, Dropped]], options: PrepareOptions
) -> Prepared:
    names = {key: entry.name for key, entry in keyed.items()}
    selection = select(out, list(keyed), options)
    lines = [*dropped, *((names[key], item) for key, item in selection.dropped)]
    lines.sort(key=lambda line: (line[0], line[1].start_s or 0.0, line[1].end_s or 0.0, line[1].reason))
    report.write_dropped(out / DROPPED, lines)
    shards, counted = write_shards(out, selection.chosen, names, options)
    statistics = {
        "inputs": len(keyed) + len(dropped),
        "input_seconds": round(selection.video_seconds, 3),
        **counted.to_json(),
        "dropped": report.totals(lines),
        "shards": [{"name": path.name, "bytes": path.stat().st_size} for path in shards],
    }
    with output_file(out / STATISTICS, overwrite=True) as temporary:
        temporary.write_text(json.dumps(statistics, indent=1) + "\n", encoding="utf-8")
    if not shards:
        reasons = ", ".join(f"{reason} {row['pieces']:.0f}" for reason, row in statistics["dropped"].items())
        raise UserError(
            f"No face in {len(keyed) + len(dropped)} inputs can be used ({reasons}): see {out / DROPPED}"
        )
    report.write_sheet(out / SHEET, shards, len(selection.chosen))
    return Prepared(tuple(shards), statistics)


def _open_output(out: Path, options: PrepareOptions) -> None:
    """Create the output folder, or check that it is one of ours with the same options."""
    mark = out / MARK
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: name a folder for the shards")
    sweep(out)
    if mark.exists():
        _check_mark(mark, options)
    elif out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} contains other files: name a new or empty folder for the shards")
    else:
        try:
            out.mkdir(parents=True, exist_ok=True)
            with output_file(mark) as temporary:
                temporary.write_bytes(json_bytes({"version": VERSION, "options": asdict(options)}))
        except OSError as error:
            raise UserError(f"{out} cannot be created: {error.strerror}") from error
    (out / FOLDER).mkdir(exist_ok=True)


def _check_mark(mark: Path, options: PrepareOptions) -> None:
    try:
        stored = json.loads(mark.read_bytes())
        version, chosen = stored["version"], dict(stored["options"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{mark} is damaged ({error}): name another folder for the shards") from error
    if version != VERSION:
        raise UserError(f"{mark.parent} was started by another version of this program: name another folder")
    if changed := options.differences(chosen):
        raise UserError(
            f"{mark.parent} was started with other options ({'; '.join(changed)}): use the same, or another folder"
        )


def _within(path: Path, folder: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))
