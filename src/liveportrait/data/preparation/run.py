"""Preparation from beginning to end: find inputs, do what is not done yet, assemble."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from liveportrait.data.preparation import report
from liveportrait.data.preparation.assembly import select, write_shards
from liveportrait.data.preparation.cluster_run import run_on_cluster
from liveportrait.data.preparation.encoding import json_bytes
from liveportrait.data.preparation.inputs import Input, find_inputs, fingerprint
from liveportrait.data.preparation.options import PrepareOptions
from liveportrait.data.preparation.parts import FOLDER, has_part, sweep
from liveportrait.data.preparation.pool import run_in_pool
from liveportrait.data.preparation.records import Dropped
from liveportrait.data.preparation.work import Job
from liveportrait.errors import UserError
from liveportrait.media import output_file

VERSION = 1  # of the parts: another one is not resumed
MARK, STATISTICS, DROPPED, SHEET = "prepare.json", "statistics.json", "dropped.jsonl", "contact-sheet.png"

Progress = Callable[[str, int, int | None], None]  # step, done, total


@dataclass(frozen=True)
class Prepared:
    """What a preparation gave."""

    shards: tuple[Path, ...]
    statistics: dict[str, Any]  # as in statistics.json

    def summary(self) -> str:
        """A few lines for people: what is kept, and what was dropped and why."""
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
    progress: Progress | None = None,
) -> Prepared:
    """Make training shards of videos and pictures: files, folders, or .txt lists of them.

    `out` then holds shards, statistics.json, dropped.jsonl and contact-sheet.png, and parts/, by which an interrupted
    run goes on where it was: started again, it does only the inputs that are not finished, and its result is, byte
    for byte, that of an uninterrupted one. `workers` processes are used; with `ray`, a Ray cluster at that address
    ("auto", or "local" for this machine) instead. Raises UserError where no input or no usable face is found, and
    where `out` holds something else or was begun with other options.
    """
    options = options or PrepareOptions()
    if workers < 1:
        raise UserError(f"{workers} workers cannot do anything: give 1 or more")
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
        if progress is not None:
            progress("prepare", done, len(keyed))
    return _assemble(out, keyed, dropped, options)


def _finished(jobs: list[Job], workers: int, ray: str | None) -> Iterator[str]:
    if not jobs:
        return iter(())
    return run_in_pool(jobs, workers) if ray is None else run_on_cluster(jobs, ray)


def _identify(inputs: Iterable[Input]) -> tuple[dict[str, Input], list[tuple[str, Dropped]]]:
    """Inputs by the fingerprint of their content, and those that cannot be opened or say the same as another."""
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
    """Make the output folder, or check that it is one of ours with the same options."""
    mark = out / MARK
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: name a folder for the shards")
    if mark.exists():
        _check_mark(mark, options)
    elif out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} holds other files: name a new or empty folder for the shards")
    else:
        try:
            (out / FOLDER).mkdir(parents=True, exist_ok=True)
            with output_file(mark) as temporary:
                temporary.write_bytes(json_bytes({"version": VERSION, "options": asdict(options)}))
        except OSError as error:
            raise UserError(f"{out} cannot be made: {error.strerror}") from error
    sweep(out)


def _check_mark(mark: Path, options: PrepareOptions) -> None:
    try:
        stored = json.loads(mark.read_bytes())
        version, chosen = stored["version"], dict(stored["options"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{mark} is damaged ({error}): name another folder for the shards") from error
    if version != VERSION:
        raise UserError(f"{mark.parent} was begun by another version of this program: name another folder")
    if changed := options.differences(chosen):
        raise UserError(
            f"{mark.parent} was begun with other options ({'; '.join(changed)}): use the same, or another folder"
        )


def _within(path: Path, folder: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))
