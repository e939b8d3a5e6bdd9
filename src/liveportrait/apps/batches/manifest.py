"""Manifests: CSV or JSONL files with one row per result. All rows are checked before any work.

The columns are source, driving, kind, name, and any option by its name; an empty cell or null means the default.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

from liveportrait.animation.inputs import TEMPLATE_SUFFIXES, resolve_driving
from liveportrait.animation.options import OutputOptions
from liveportrait.animation.writer import MOVING_OUTPUTS
from liveportrait.apps.jobs import Job, JobKind, JobOptions, options_from, suffix_for
from liveportrait.data.preparation.run import fingerprint
from liveportrait.errors import UserError
from liveportrait.media import IMAGE_OUTPUTS, check_alpha, check_input, media_kind
from liveportrait.media.sound.speech import check_speech, is_sound

DRIVER_SEPARATOR = ";"  # in a CSV cell
MAX_MISTAKES_SHOWN = 10
MAX_BYTES = 64 * 2**20
MAX_NAME_LENGTH = 120  # characters: file systems allow 255 bytes, and suffixes are added
KINDS: tuple[JobKind, ...] = get_args(JobKind)
FORMATS = {"template": TEMPLATE_SUFFIXES}
MEDIA = (*MOVING_OUTPUTS, *IMAGE_OUTPUTS)
# What some operating system forbids in file names; a leading dot or dash causes trouble on all of them.
FORBIDDEN_IN_NAMES = re.compile(
    r'[\x00-\x1f<>:"/\\|?*]|^[.\-\s]|[.\s]$|^(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)', re.I
)


@dataclass(frozen=True)
class Row:
    """One requested result."""

    line: int
    """of the manifest, from 1"""
    job: Job
    request: str
    """a digest of everything the result depends on: contents of files, options, weights"""

    @property
    def name(self) -> str:
        """The result's file name."""
        return self.job.out.name

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the job writes."""
        return tuple(_files(self.job.out, self.job.options))


@dataclass(frozen=True)
class _UnnamedRow:
    """A row before its result has a file name, except where the manifest gives one."""

    line: int
    kind: JobKind
    source: Path | None
    driving: tuple[Path, ...]
    options: JobOptions
    name: str

    @property
    def own_name(self) -> str:
        """A name made from those of the input files."""
        stems = [path.stem for path in (self.source, *self.driving) if path]
        return FORBIDDEN_IN_NAMES.sub("_", "-".join(stems))[:MAX_NAME_LENGTH]


def read_manifest(path: Path, folder: Path, weights: str) -> list[Row]:
    """Read and check the rows of a manifest, for results in `folder`.

    Relative paths start at the manifest's folder. A result's name is the row's own, or made from those of source and
    drivers, with a number if an earlier row has it. Raises a `UserError` that lists the invalid rows.
    """
    if check_input(path).stat().st_size > MAX_BYTES:
        raise UserError(f"{path} is larger than the limit of {MAX_BYTES} bytes for a manifest: split it")
    drafts: list[_UnnamedRow] = []
    mistakes: list[str] = []
    for line, values in _read_rows(path):
        try:
            drafts.append(_parse_row(line, values, path.parent))
        except UserError as error:
            mistakes.append(f"line {line}: {error}")
    rows: list[Row] = []
    if not mistakes:
        taken: dict[str, int] = {}  # case-folded file name → its line
        # Given names first: generated names must avoid them.
        for draft in sorted(drafts, key=lambda draft: not draft.name):
            try:
                rows.append(_named_row(draft, folder, weights, taken))
            except UserError as error:
                mistakes.append(f"line {draft.line}: {error}")
    if mistakes:
        more = (
            [f"and {len(mistakes) - MAX_MISTAKES_SHOWN} more"] if len(mistakes) > MAX_MISTAKES_SHOWN else []
        )
        raise UserError("\n  ".join([f"{path} has invalid rows:", *mistakes[:MAX_MISTAKES_SHOWN], *more]))
    if not rows:
        raise UserError(f"{path} has no rows: give it one for each result")
    return sorted(rows, key=lambda row: row.line)


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and the values given there."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            match path.suffix.lower():
                case ".csv":
                    yield from _csv_rows(csv.DictReader(file, strict=True), path)
                case ".jsonl":
                    for line, text in enumerate(file, 1):
                        if text.strip():
                            yield line, _json_row(text, f"{path}, line {line}")
                case other:
                    raise UserError(f"{path} ends in {other!r}: a manifest is .csv or .jsonl")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: save it as UTF-8") from error


def _csv_rows(table: csv.DictReader[str], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        columns = [name.strip() for name in table.fieldnames or ()]
        if len(set(columns)) < len(columns):
            raise UserError(f"{path}, line 1: two columns have the same name: rename one")
        table.fieldnames = columns
        for row in table:
            if None in row:
                raise UserError(f"{path}, line {table.line_num}: there are more cells than columns")
            given = {name: cell.strip() for name, cell in row.items() if cell and cell.strip()}
            if "driving" in given:
                several = [each.strip() for each in given["driving"].split(DRIVER_SEPARATOR)]
                given["driving"] = [each for each in several if each]  # as in JSON
            yield table.line_num, given
    except csv.Error as error:
        raise UserError(f"{path}, line {table.line_num}: {error}: check its quotes and commas") from error


def _json_row(text: str, place: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f'{place} is not a JSON object: write {{"source": ..., "driving": ...}}')
    return {name: value for name, value in values.items() if value is not None}


def _parse_row(line: int, values: Mapping[str, Any], folder: Path) -> _UnnamedRow:
    """Check a row's files and options."""
    values = dict(values)
    source = _path(values.pop("source", None), "source", folder)
    named = values.pop("driving", [])
    named = named if isinstance(named, list) else [named]
    driving = tuple(path for each in named if (path := _path(each, "driving", folder)))
    name = values.pop("name", "")
    kind = values.pop("kind", None) or _usual_kind(source, driving, "text" in values)
    if kind not in KINDS:
        raise UserError(f"kind is {kind!r}: choose one of {', '.join(KINDS)}")
    if not isinstance(name, str):
        raise UserError(f"name is {name!r}: give a text")
    if "overwrite" in values:
        raise UserError("overwrite cannot be set for a row: leave it out")
    options = replace(_with_files(options_from(kind, values), folder), overwrite=True)
    if source:
        media_kind(check_input(source))
    is_speech = kind == "speak" or (kind == "template" and any(map(is_sound, driving)))
    for path in driving if is_speech else ():
        check_speech(path)
    if driving and not is_speech:
        resolve_driving(list(driving))
    return _UnnamedRow(line, kind, source, driving, options, name.strip())


def _usual_kind(source: Path | None, driving: tuple[Path, ...], has_text: bool) -> JobKind:
    """The kind of job if a row does not give one. Raises `UserError` if a file is missing."""
    if not source:
        return "template"
    if has_text or (driving and is_sound(driving[0])):
        return "speak"
    return "animate" if driving else "edit"


def _with_files(options: JobOptions, folder: Path) -> JobOptions:
    """The options, with paths resolved and checked."""
    given = {each.name: getattr(options, each.name) for each in fields(options)}
    files = {name: check_input(folder / value) for name, value in given.items() if isinstance(value, Path)}
    return replace(options, **files)  # type: ignore[arg-type]  # a field of the same type


def _path(value: object, column: str, folder: Path) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{column} is {value!r}: give the path of a file")
    return folder / value


def _named_row(draft: _UnnamedRow, folder: Path, weights: str, taken: dict[str, int]) -> Row:
    """The row, with unique names for its files."""
    name, options = draft.name, draft.options
    if name and FORBIDDEN_IN_NAMES.search(name):
        raise UserError(f"name is {name!r}: give a plain file name, without a folder")
    if len(name) > MAX_NAME_LENGTH:
        raise UserError(f"name has {len(name)} characters: at most {MAX_NAME_LENGTH} are accepted")
    alpha = getattr(options, "alpha", False)
    suffix = Path(name).suffix
    if suffix.lower() not in FORMATS.get(draft.kind, MEDIA):
        suffix = suffix_for(draft.kind, draft.source, draft.driving, alpha)
    stem = name.removesuffix(suffix) or draft.own_name
    number, out = 1, folder / f"{stem}{suffix}"
    while clash := next((file for file in _files(out, options) if file.name.casefold() in taken), None):
        if name:
            raise UserError(
                f"{clash.name} is already the result of line {taken[clash.name.casefold()]}: choose another name"
            )
        number += 1
        out = folder / f"{stem}-{number}{suffix}"
    if alpha:
        check_alpha(out)
    taken |= {file.name.casefold(): draft.line for file in _files(out, options)}
    job = Job(draft.kind, draft.source, draft.driving, out, options)
    return Row(draft.line, job, _request(job, weights))


def _files(out: Path, options: JobOptions) -> Iterator[Path]:
    yield out
    if isinstance(options, OutputOptions) and options.compare:
        yield out.with_name(f"{out.stem}_compare{out.suffix}")


def _request(job: Job, weights: str) -> str:
    settings = {
        name: _fingerprint(value) if isinstance(value, Path) else value
        for name, value in asdict(job.options).items()
    }
    asked = {
        "kind": job.kind,
        "source": job.source and _fingerprint(job.source),
        "driving": [_fingerprint(path) for path in job.driving],
        "options": settings,
        "weights": weights,
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def _fingerprint(path: Path) -> str:
    state = path.stat()
    return _cached_fingerprint(path, state.st_mtime_ns, state.st_size)


@cache
def _cached_fingerprint(path: Path, changed: int, size: int) -> str:
    """A file's fingerprint, computed once per version: many rows may name the same file."""
    return fingerprint(path)
