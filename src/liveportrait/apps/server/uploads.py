"""Files that callers upload: stored by their content, and checked against the limits before anything reads them."""

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
# Media are recognised by their content; the suffix helps a few demuxers, and people who look into the folder.
_SUFFIXES = {
    *_TEMPLATES,
    *(".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".gif", ".bmp", ".tif", ".tiff"),
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg", ".json"),
    *(".wav", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".flac"),
}


class TooLarge(UserError):
    """A file exceeds a limit of the service."""


class WrongType(UserError):
    """A file is of a type that the program does not read."""


class Uploads:
    """The folder of uploads. Identical files are kept once."""

    def __init__(self, folder: Path, store: JobStore, limits: Limits) -> None:
        """Remove the unfinished files of a killed process."""
        self._folder, self._store, self._limits = folder, store, limits
        folder.mkdir(parents=True, exist_ok=True)
        sweep_unfinished(folder)

    def keep(self, stream: BinaryIO, name: str) -> tuple[Upload, bool]:
        """Keep the contents of a stream; the upload, and whether it is new.

        `name` is the caller's; only a known suffix of it is used. Raises `TooLarge`, and `WrongType` if the file is
        not a picture, video, sound, motion template or (.json) keyframes.
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
                        raise TooLarge(f"{name} is larger than the limit of {self._limits.max_bytes} bytes")
                    digest.update(chunk)
                    file.write(chunk)
            if known := self.find(digest.hexdigest()):
                return known, False
            upload = self._checked(temporary, Upload(digest.hexdigest(), name, suffix, "other", size))
            temporary.replace(self._folder / upload.file)
        self._store.add_upload(upload)
        return upload, True

    def find(self, upload: str) -> Upload | None:
        """The upload with an id, now marked as used."""
        found = self._store.upload(upload)
        return found if found and (self._folder / found.file).is_file() else None

    def path(self, upload: Upload) -> Path:
        """The path of an upload."""
        return self._folder / upload.file

    def _checked(self, path: Path, upload: Upload) -> Upload:
        """The upload with its kind and size, if within the limits. Errors use the caller's name for it."""
        try:
            return _inspect(path, upload, self._limits)
        except UserError as error:
            message = str(error).replace(str(path), upload.name)
            raise (type(error) if isinstance(error, TooLarge) else WrongType)(message) from error


def shown_name(name: str) -> str:
    """A caller's name for a file, as messages show it: the last part of a path, printable and short."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    printable = "".join(letter for letter in last if letter.isprintable())
    return printable[-100:].strip(". ") or "file"


def _inspect(path: Path, upload: Upload, limits: Limits) -> Upload:
    """Fill in the kind and size. Raises `UserError` if the file cannot be read or exceeds a limit."""
    from liveportrait.media import VideoReader, load_image, media_kind
    from liveportrait.media.sound.speech import is_sound
    from liveportrait.motion import read_template

    if upload.suffix == ".json":
        return _check_keyframes(path, upload)
    if upload.suffix in _TEMPLATES:
        template = read_template(path)
        seconds = float(len(template) / template.fps)
        return _check_duration(
            replace(upload, kind="template", frames=len(template), seconds=seconds), limits
        )
    if is_sound(path):
        return _inspect_sound(path, upload, limits)
    moves = media_kind(path) == "video"
    # The header is checked first, so that nothing too large is decoded.
    width, height = _size(path)
    if width * height > limits.max_pixels:
        raise TooLarge(
            f"{upload.name} has {width}x{height} px, over the limit of {limits.max_pixels} pixels: reduce it"
        )
    if not moves:
        height, width = load_image(path).shape[:2]
        return replace(upload, kind="picture", width=width, height=height)
    info = VideoReader(path).info
    found = replace(upload, kind="video", width=info.width, height=info.height)
    return _check_duration(replace(found, frames=info.frame_count, seconds=info.duration_s), limits)


def _check_keyframes(path: Path, upload: Upload) -> Upload:
    if upload.bytes > _JSON_BYTES:
        raise TooLarge(f"{upload.name} is larger than the limit of {_JSON_BYTES} bytes for keyframes")
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{upload.name} is not JSON: {error}") from error
    return upload


def _inspect_sound(path: Path, upload: Upload, limits: Limits) -> Upload:
    """The upload with a sound's duration; decodes no further than the limit."""
    from liveportrait.media.sound.speech import SPEECH_RATE, read_speech

    seconds = 0.0
    for samples in read_speech(path):
        seconds += len(samples) / SPEECH_RATE
        if seconds > limits.max_seconds:
            raise TooLarge(f"{upload.name} lasts longer than the limit of {limits.max_seconds:g} s")
    return replace(upload, kind="sound", frames=0, seconds=seconds)


def _check_duration(upload: Upload, limits: Limits) -> Upload:
    """The upload; raises `TooLarge` if it lasts too long."""
    if upload.seconds > limits.max_seconds:
        raise TooLarge(
            f"{upload.name} lasts {upload.seconds:.1f} s, over the limit of {limits.max_seconds:g} s"
        )
    if upload.frames > limits.max_frames:
        raise TooLarge(f"{upload.name} has {upload.frames} frames, over the limit of {limits.max_frames}")
    return upload


def _size(path: Path) -> tuple[int, int]:
    """Width and height (px) according to the header of a picture or video."""
    from liveportrait.media import picture_size
    from liveportrait.media.container import open_media, picture_format, require_video

    if picture_format(path) not in (None, "GIF"):
        return picture_size(path)
    with open_media(path) as container:
        stream = require_video(container, path)
        return stream.width, stream.height
