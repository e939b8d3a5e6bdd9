"""The work on one input, the same in this process, in a pool and on a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import torch
from av.error import FFmpegError

from liveportrait.data.preparation.options import PrepareOptions
from liveportrait.data.preparation.parts import Part, write_part
from liveportrait.data.preparation.pictures import prepare_picture
from liveportrait.data.preparation.records import Dropped
from liveportrait.data.preparation.videos import prepare_video
from liveportrait.errors import UserError
from liveportrait.face import FaceAnalyzer, default_analyzer
from liveportrait.media import media_kind


@dataclass(frozen=True)
class Job:
    """One input to prepare, and where its part goes."""

    path: str  # absolute
    key: str  # fingerprint of the content
    folder: str  # the output, absolute
    options: PrepareOptions


def make_part(job: Job) -> str:
    """Prepare one input, store its part and return its key.

    What cannot be read becomes a part without samples that says so. Raises UserError where the part cannot be
    written. Each network uses one thread, so that processes do not compete and results do not depend on cores.
    """
    with _one_thread():
        try:
            part, members = _prepared(job)
        except UserError as error:
            part, members = skipped("unreadable", str(error)), {}
        except (FFmpegError, cv2.error, ValueError, OSError, MemoryError) as error:
            part, members = skipped("failed", f"{type(error).__name__}: {error}"), {}
    write_part(Path(job.folder), job.key, part, members)
    return job.key


def skipped(reason: str, detail: str) -> Part:
    """The part of an input that gave nothing."""
    return Part("unknown", 0.0, (), (Dropped(reason, detail),))


def _prepared(job: Job) -> tuple[Part, dict[str, bytes]]:
    path = Path(job.path)
    if media_kind(path) == "image":
        return prepare_picture(path, job.key, _analyzer(), job.options)
    return prepare_video(path, job.key, _analyzer(), job.options)


@cache
def _analyzer() -> FaceAnalyzer:
    """One for all inputs of a process: its networks take a second to compile."""
    return default_analyzer(threads=1)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
