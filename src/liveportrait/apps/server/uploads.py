"""Files that callers bring: kept by their content, checked against the limits before anything else reads them."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import BinaryIO

from liveportrait.apps.server.settings import Limits
from liveportrait.apps.server.store import JobStore, Upload
from liveportrait.errors import UserError
from liveportrait.folders import unfinished

_CHUNK = 2**20
_TEMPLATES = (".safetensors", ".pkl")
# Media are told by their content; the suffix helps a few demuxers, and whoever looks into the folder.
_SUFFIXES = {
    *_TEMPLATES,
    *(".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".gif", ".bmp", ".tif", ".tiff"),
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg", ".json"),
}


class TooLarge(UserError):
    """A file is beyond a limit of the service."""


class WrongType(UserError):
    """A file is nothing that the program reads."""


class Uploads:
    """The folder of uploads. A file that is there already is not kept twice."""

    def __init__(self, folder: Path, store: JobStore, limits: Limits) -> None:
        """What a killed process left half written is removed."""
        self._folder, self._store, self._limits = folder, store, limits
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(".*"):
            path.unlink()

    def keep(self, stream: BinaryIO, name: str) -> tuple[Upload, bool]:
        """Keep what a stream holds; the upload, and whether it is new.

        `name` is the caller's, of which only a known suffix is used. Raises `TooLarge`, and `WrongType` where the
        file is no picture, video, motion template or (.json) keyframes.
        """
        name = shown_name(name)
        suffix = Path(name).suffix.lower()
        suffix = suffix if suffix in _SUFFIXES else ""
        digest, size = hashlib.sha256(), 0
        with unfinished(self._folder / f".{secrets.token_hex(8)}{suffix}") as temporary:
            with temporary.open("xb") as file:
                while chunk := stream.read(_CHUNK):
                    size += len(chunk)
                    if size > self._limits.max_bytes:
                        raise TooLarge(
                            f"{name} has more than the {self._limits.max_bytes} bytes that are taken"
                        )
                    digest.update(chunk)
                    file.write(chunk)
            if known := self.find(digest.hexdigest()):
                return known, False
            upload = self._checked(temporary, Upload(digest.hexdigest(), name, suffix, "other", size))
            temporary.replace(self._folder / upload.file)
        self._store.add_upload(upload)
        return upload, True

    def find(self, upload: str) -> Upload | None:
        """An upload by its id, which from now on counts as used."""
        found = self._store.upload(upload)
        return found if found and (self._folder / found.file).is_file() else None

    def path(self, upload: Upload) -> Path:
        """Where it lies."""
        return self._folder / upload.file

    def _checked(self, path: Path, upload: Upload) -> Upload:
        """What the file is, if it is within the limits. Messages name the file as the caller does."""
        try:
            return _look(path, upload, self._limits)
        except UserError as error:
            told = str(error).replace(str(path), upload.name)
            raise (type(error) if isinstance(error, TooLarge) else WrongType)(told) from error


def shown_name(name: str) -> str:
    """A caller's name for a file, as messages show it: the last part of a path, printable and short."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    printable = "".join(letter for letter in last if letter.isprintable())
    return printable[-100:].strip(". ") or "file"


def _look(path: Path, upload: Upload, limits: Limits) -> Upload:
    from dataclasses import replace

    from liveportrait.media import VideoReader, media_kind, picture_size
    from liveportrait.motion import read_template

    if upload.suffix == ".json":
        return upload
    if upload.suffix in _TEMPLATES:
        template = read_template(path)
        found = replace(
            upload, kind="template", frames=len(template), seconds=float(len(template) / template.fps)
        )
    elif media_kind(path) == "image":
        width, height = picture_size(path)
        found = replace(upload, kind="picture", width=width, height=height)
    else:
        info = VideoReader(path).info
        found = replace(
            upload,
            kind="video",
            width=info.width,
            height=info.height,
            frames=info.frame_count,
            seconds=info.duration_s,
        )
    if found.width * found.height > limits.max_pixels:
        size = f"{found.width}x{found.height}"
        raise TooLarge(
            f"{found.name} has {size} px, more than the {limits.max_pixels} that are taken: reduce it"
        )
    if found.seconds > limits.max_seconds:
        raise TooLarge(
            f"{found.name} lasts {found.seconds:.1f} s, longer than the {limits.max_seconds:g} s taken"
        )
    if found.frames > limits.max_frames:
        raise TooLarge(
            f"{found.name} has {found.frames} frames, more than the {limits.max_frames} that are taken"
        )
    return found
