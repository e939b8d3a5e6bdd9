"""What visitors choose, and what they see of it before anything runs: the crop of a portrait, a driver's beginning."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from liveportrait.animation.inputs import is_template
from liveportrait.animation.options import SourceOptions
from liveportrait.animation.source.photo import PhotoSource
from liveportrait.apps.page import shown
from liveportrait.errors import UserError
from liveportrait.face.crop import CropWindow
from liveportrait.media import VideoReader, load_image, media_kind
from liveportrait.motion import read_template
from liveportrait.types import Image

if TYPE_CHECKING:
    from liveportrait.animation.animator import Animator
    from liveportrait.animation.portrait import Portrait

PREVIEW = 960  # px, to which a portrait that is only looked at is reduced
LOOKS_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)  # seconds of a video at which a face is looked for
SMALL = 256  # px, of a driver's picture


@dataclass(frozen=True, eq=False)
class Look:
    """A portrait opened small, to be looked at and tried on: a photo, or one frame of a video."""

    path: Path
    portrait: Portrait
    seconds: float = 0.0  # of the video; 0 for a photo
    second: float = 0.0  # of the frame in it

    @property
    def source(self) -> PhotoSource:
        """What was opened."""
        assert isinstance(self.portrait.source, PhotoSource)
        return self.portrait.source

    @property
    def windows(self) -> list[CropWindow]:
        """The crops of its faces, px of the small picture; none where the picture is taken as the face."""
        return [face.still.placements[0].window for face in self.source.faces if face.still.placements]

    @property
    def note(self) -> str:
        """What to know about it, in a few words."""
        source, parts = self.source, []
        if self.seconds:
            parts.append(f"video, {self.seconds:.1f} s")
        if source.found > len(source.faces):
            parts.append(f"{source.found} faces, the largest moves")
        if any(face.animal for face in source.faces):
            parts.append("an animal's face")
        return " · ".join(parts) or "photo"

    def card(self) -> str:
        """The picture with its crop marked, as HTML."""
        return shown.crop_card(
            self.source.image, self.windows, self.source.faces[0].still.crops[0], self.path.name, self.note
        )

    def close(self) -> None:
        """Let go of it."""
        self.portrait.close()


def look_at(animator: Animator, path: Path, options: SourceOptions) -> Look:
    """A photo, or the first frame of a video in which a face is found. Raises `UserError` where there is none."""
    small = replace(options, max_size=min(options.max_size or PREVIEW, PREVIEW))
    if media_kind(path) == "image":
        return Look(path, animator.open(path, small))
    if options.box or options.subject == "animal":
        raise UserError(f"{path.name} is a video: animals and boxes move in photos only")
    with VideoReader(path) as reader:
        seconds = reader.info.duration_s
        for second, frame in frames_at(reader, LOOKS_S):
            try:
                return Look(path, animator.open(frame, small), seconds, second)
            except UserError:
                continue
    raise UserError(
        f"no face found in the first {LOOKS_S[-1]:g} s of {path.name}: cut it to where a face is seen"
    )


def frames_at(reader: VideoReader, seconds: tuple[float, ...]) -> Iterator[tuple[float, Image]]:
    """The frames of a video at some seconds, in order; those after its end are left out."""
    wanted = iter(seconds)
    second = next(wanted, None)
    with closing(iter(reader)) as frames:
        for number, frame in enumerate(frames):
            time = number / float(reader.info.fps)
            if second is None:
                return
            if time >= second or number == reader.info.frame_count - 1:
                yield time, frame
                while second is not None and second <= time:
                    second = next(wanted, None)


def driver_card(path: Path) -> str:
    """What a driver is, as HTML. Raises `UserError` where it is none."""
    if is_template(path):
        template = read_template(path)
        note = f"motion template, {len(template) / float(template.fps):.1f} s"
        return shown.driver_card(None, path.name, note)
    if media_kind(path) == "image":
        return shown.driver_card(load_image(path), path.name, "picture: gives its expression")
    with VideoReader(path) as reader:
        _, first = next(frames_at(reader, (0.0,)))
        sound = ", with sound" if reader.info.has_audio else ""
        return shown.driver_card(first, path.name, f"video, {reader.info.duration_s:.1f} s{sound}")
