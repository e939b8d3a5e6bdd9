"""Files that callers bring: kept by their content, checked against the limits before anything else reads them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from liveportrait.apps.server.settings import Limits
from liveportrait.apps.server.store import JobStore, Upload
from liveportrait.errors import UserError
from liveportrait.folders import sweep_unfinished, unfinished_beside

_CHUNK = 2**20
_JSON_BYTES = 2**20
_TEMPLATES = (".safetensors", ".pkl")
# Media are told by their content; the suffix helps a few demuxers, and whoever looks into the folder.
_SUFFIXES = {
    *_TEMPLATES,
    *(".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".gif", ".bmp", ".tif", ".tiff"),
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg", ".json"),
    *(".wav", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".flac"),
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
        sweep_unfinished(folder)

    def keep(self, stream: BinaryIO, name: str) -> tuple[Upload, bool]:
        """Keep what a stream holds; the upload, and whether it is new.

        `name` is the caller's, of which only a known suffix is used. Raises `TooLarge`, and `WrongType` where the
        file is no picture, video, sound, motion template or (.json) keyframes.
        """
        name = shown_name(name)
        suffix = Path(name).suffix.lower()
        suffix = suffix if suffix in _SUFFIXES else ""
        digest, size = hashlib.sha256(), 0
        with unfinished_beside(self._folder / "upload", suffix) as temporary:
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
    """What the file is. Raises `UserError` where it is nothing that is read, or beyond a limit."""
    from liveportrait.media import VideoReader, load_image, media_kind
    from liveportrait.media.sound.speech import is_sound
    from liveportrait.motion import read_template

    if upload.suffix == ".json":
        return _keyframes(path, upload)
    if upload.suffix in _TEMPLATES:
        template = read_template(path)
        seconds = float(len(template) / template.fps)
        return _lasting(replace(upload, kind="template", frames=len(template), seconds=seconds), limits)
    if is_sound(path):
        return _sound(path, upload, limits)
    moves = media_kind(path) == "video"
    # What the header says comes first: nothing too large is decoded.
    width, height = _size(path)
    if width * height > limits.max_pixels:
        told = f"{upload.name} has {width}x{height} px, more than the {limits.max_pixels} that are taken: reduce it"
        raise TooLarge(told)
    if not moves:
        height, width = load_image(path).shape[:2]
        return replace(upload, kind="picture", width=width, height=height)
    info = VideoReader(path).info
    found = replace(upload, kind="video", width=info.width, height=info.height)
    return _lasting(replace(found, frames=info.frame_count, seconds=info.duration_s), limits)


def _keyframes(path: Path, upload: Upload) -> Upload:
    if upload.bytes > _JSON_BYTES:
        raise TooLarge(f"{upload.name} has more than the {_JSON_BYTES} bytes that keyframes may have")
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{upload.name} is no JSON: {error}") from error
    return upload


def _sound(path: Path, upload: Upload, limits: Limits) -> Upload:
    """A sound, decoded as far as the limit on its length."""
    from liveportrait.media.sound.speech import SPEECH_RATE, read_speech

    seconds = 0.0
    for samples in read_speech(path):
        seconds += len(samples) / SPEECH_RATE
        if seconds > limits.max_seconds:
            raise TooLarge(f"{upload.name} lasts longer than the {limits.max_seconds:g} s taken")
    return replace(upload, kind="sound", frames=0, seconds=seconds)


def _lasting(upload: Upload, limits: Limits) -> Upload:
    """The upload, if it does not last for too long."""
    if upload.seconds > limits.max_seconds:
        raise TooLarge(
            f"{upload.name} lasts {upload.seconds:.1f} s, longer than the {limits.max_seconds:g} s taken"
        )
    if upload.frames > limits.max_frames:
        raise TooLarge(
            f"{upload.name} has {upload.frames} frames, more than the {limits.max_frames} that are taken"
        )
    return upload


def _size(path: Path) -> tuple[int, int]:
    """Width and height that a picture's or video's header gives, px."""
    from liveportrait.media import picture_size
    from liveportrait.media.container import open_media, picture_format, require_video

    if picture_format(path) not in (None, "GIF"):
        return picture_size(path)
    with open_media(path) as container:
        stream = require_video(container, path)
        return stream.width, stream.height
