"""What callers order: records of the table as jobs, checked before any work."""

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

FASTEST_READER = 20  # characters that a speech engine reads in a second
VOICE = re.compile(r"[\w+-]{0,40}")  # the name of a voice, never a path


def job_of(record: Record, out: Path, path_of: Callable[[str], Path], limits: Limits) -> Job:
    """The job that a record tells of. Raises `UserError`, in the caller's words.

    `path_of` gives the file of an upload or bundled motion.
    """
    values = {name.replace("-", "_"): value for name, value in record.options.items()}
    for name in file_options(record.kind):
        if name in values and not is_word(record.kind, name, values[name]):
            raise UserError(
                f"{option_name(name)} is a file: send it along under that name, not among the options"
            )
    for name in record.files:
        if name not in file_options(record.kind):
            raise UserError(f"there is no file {option_name(name)} of {record.kind}: leave it out")
    paths = {name: path_of(upload) for name, upload in record.files.items()}
    options = options_from(record.kind, {**record.options, **paths})
    if limits.always_mark and not getattr(options, "mark", True):
        raise UserError(ALWAYS_MARKED)
    if isinstance(options, SpeakJobOptions):
        _check_text(options, limits)
    driving = tuple(path_of(each) for each in record.driving)
    return Job(record.kind, path_of(record.source) if record.source else None, driving, out, options)


def checked_suffix(job: Job, suffix: str) -> str:
    """The suffix of a job's result; without one asked for, what `suffix_for` gives. Raises `UserError`."""
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
    """A job's id: of a key always the same, without one that of no other job."""
    if not key:
        return secrets.token_urlsafe(16)
    digest = hashlib.sha256(f"{owner}\n{key}".encode()).digest()
    return base64.urlsafe_b64encode(digest[:16]).decode().rstrip("=")


def _check_text(options: SpeakJobOptions, limits: Limits) -> None:
    """Raise `UserError` for a text that would be read for too long, and a voice that is no name of one."""
    most = int(limits.max_seconds * FASTEST_READER)
    if len(options.text) > most:
        raise UserError(f"the text has {len(options.text)} characters: at most {most} are read")
    if not VOICE.fullmatch(options.voice):
        raise UserError(f"voice is {options.voice[:40]!r}: name a voice of espeak-ng, such as de or en-gb")
