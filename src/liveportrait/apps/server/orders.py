"""Turns what callers asked for, as recorded in the table, into jobs; everything is checked before any work."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable
from pathlib import Path

from liveportrait.animation.edit_options import EditOptions
from liveportrait.animation.option_checks import option_name
from liveportrait.animation.options import AnimateOptions, PasteOptions
from liveportrait.apps.jobs import Job, SpeakJobOptions, file_options, is_word, options_from, suffix_for
from liveportrait.apps.server.settings import ALWAYS_MARKED, Limits
from liveportrait.apps.server.store import Record
from liveportrait.errors import UserError

MAX_CHARACTERS_PER_SECOND = 20  # that a speech engine reads
VOICE = re.compile(r"[\w+-]{0,40}")  # the name of a voice, never a path


def job_of(record: Record, out: Path, path_of: Callable[[str], Path], limits: Limits) -> Job:
    """The job that a record describes. `path_of` gives the file of an upload or bundled motion. Raises `UserError`."""
    values = {name.replace("-", "_"): value for name, value in record.options.items()}
    for name in file_options(record.kind):
        if name in values and not is_word(record.kind, name, values[name]):
            raise UserError(f"{option_name(name)} is a file: send it under that name, not among the options")
    for name in record.files:
        if name not in file_options(record.kind):
            raise UserError(f"{record.kind} takes no file named {option_name(name)}: leave it out")
    paths = {name: path_of(upload) for name, upload in record.files.items()}
    options = options_from(record.kind, {**record.options, **paths})
    if limits.always_mark and not getattr(options, "mark", True):
        raise UserError(ALWAYS_MARKED)
    if isinstance(options, SpeakJobOptions):
        _check_text(options, limits)
    driving = tuple(path_of(each) for each in record.driving)
    return Job(record.kind, path_of(record.source) if record.source else None, driving, out, options)


def checked_suffix(job: Job, suffix: str) -> str:
    """The suffix of a job's result: the given one, or by default that of `suffix_for`. Raises `UserError`."""
    from liveportrait.animation.inputs import TEMPLATE_SUFFIXES
    from liveportrait.animation.writer import MOVING_OUTPUTS, output_paths
    from liveportrait.media import IMAGE_OUTPUTS

    options = job.options
    alpha = isinstance(options, PasteOptions) and options.alpha
    usual = suffix_for(job.kind, job.source, job.driving, alpha)
    out = job.out.with_suffix(suffix or usual)
    if isinstance(options, AnimateOptions | EditOptions | SpeakJobOptions):
        both = (*MOVING_OUTPUTS, *IMAGE_OUTPUTS)
        kinds = IMAGE_OUTPUTS if usual in IMAGE_OUTPUTS else MOVING_OUTPUTS
        output_paths(out, options, options, both if job.kind == "animate" else kinds)
    elif out.suffix not in TEMPLATE_SUFFIXES:
        raise UserError(f"a template is written as .safetensors or .pkl, not as {out.suffix}")
    return out.suffix


def id_of(owner: str, key: str) -> str:
    """A job's id: determined by its idempotency key, or random if there is none."""
    if not key:
        return secrets.token_urlsafe(16)
    digest = hashlib.sha256(f"{owner}\n{key}".encode()).digest()
    return base64.urlsafe_b64encode(digest[:16]).decode().rstrip("=")


def _check_text(options: SpeakJobOptions, limits: Limits) -> None:
    """Raise `UserError` for a text that would take too long to read, and for something that cannot be a voice."""
    most = int(limits.max_seconds * MAX_CHARACTERS_PER_SECOND)
    if len(options.text) > most:
        raise UserError(f"the text has {len(options.text)} characters: at most {most} are accepted")
    if not VOICE.fullmatch(options.voice):
        raise UserError(f"voice is {options.voice[:40]!r}: name an espeak-ng voice, such as de or en-gb")
