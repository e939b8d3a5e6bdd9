"""What visitors choose, and what they see of it before anything runs: the crop of a portrait, a driver's beginning."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, TypeVar

from liveportrait.animation.options import SourceOptions
from liveportrait.animation.source.photo import PhotoSource
from liveportrait.apps.page import shown
from liveportrait.errors import UserError
from liveportrait.face.crop import CropWindow
from liveportrait.media import VideoReader, load_image
from liveportrait.networks.interface import Motion
from liveportrait.types import Image

if TYPE_CHECKING:
    from liveportrait.animation.portrait import Portrait
    from liveportrait.apps.server.service import Service
    from liveportrait.apps.server.store import Upload

PREVIEW = 1600  # px, to which a portrait that is only looked at is reduced
NEAR = 1.5  # how much of a picture is shown near a face, in sides of its crop
T = TypeVar("T")

LOOKS_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)  # seconds of a video at which a face is looked for
SMALL = 256  # px, of a driver's picture


@dataclass(frozen=True, eq=False)
class Look:
    """A portrait opened small, to be looked at and tried on: a photo, or one frame of a video."""

    upload: Upload
    portrait: Portrait
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
    def motion(self) -> Motion:
        """Of its first face, batch 1."""
        return self.source.faces[0].still.motion

    @property
    def is_video(self) -> bool:
        """Whether the picture is one frame of many."""
        return self.upload.kind == "video"

    @property
    def note(self) -> str:
        """What to know about it, in a few words."""
        source, parts = self.source, []
        if self.is_video:
            parts.append(f"video, {self.upload.seconds:.1f} s")
        if source.found > len(source.faces):
            parts.append(f"{source.found} faces, the largest moves")
        if any(face.animal for face in source.faces):
            parts.append("an animal's face")
        return " · ".join(parts) or "photo"

    @property
    def thumbnail(self) -> Image:
        """What the first crop shows of the picture; where it reaches beyond, nothing is made up."""
        image = self.source.image
        if not self.windows:
            return image
        points = shown.corners(self.windows[0]).round().astype(int)
        (left, top), (right, bottom) = points.min(axis=0).clip(0), points.max(axis=0)
        return image[top : bottom + 1, left : right + 1]

    def near(self, image: Image) -> str:
        """The square of a picture like this one around its first face, as the address of a JPEG."""
        if not self.windows:
            return shown.picture_url(image, shown.NEAR_SIDE)
        side = min(int(NEAR * self.windows[0].side), *image.shape[:2])
        x, y = shown.corners(self.windows[0]).mean(axis=0) - side / 2
        left = min(max(int(x), 0), image.shape[1] - side)
        top = min(max(int(y), 0), image.shape[0] - side)
        return shown.picture_url(image[top : top + side, left : left + side], shown.NEAR_SIDE)

    def card(self) -> str:
        """The picture with its crop marked, as HTML."""
        return shown.crop_card(self.source.image, self.windows, self.thumbnail, self.upload.name, self.note)


def look_at(service: Service, upload: Upload, options: SourceOptions) -> Look:
    """A photo, or the first frame of a video in which a face is found. Raises `UserError` where there is none."""
    small = SourceOptions(**{each.name: getattr(options, each.name) for each in fields(SourceOptions)})
    small = replace(small, max_size=min(options.max_size or PREVIEW, PREVIEW))
    if upload.kind == "picture":
        return Look(upload, _named(upload, lambda: service.portrait(upload.id, small)))
    if upload.kind != "video":
        raise UserError(f"{upload.name} shows no face: choose a photo or a video")
    if options.box or options.subject == "animal":
        raise UserError(f"{upload.name} is a video: animals and boxes move in photos only")
    with VideoReader(service.uploads.path(upload)) as reader:
        for second, frame in frames_at(reader, LOOKS_S):
            try:
                return Look(upload, service.animator().open(frame, small), second)
            except UserError:
                continue
    raise UserError(
        f"no face found in the first {LOOKS_S[-1]:g} s of {upload.name}: cut it to where a face is seen"
    )


def look_at_moment(service: Service, upload: Upload, second: float) -> Look:
    """The frame of a video at a moment, s. Raises `UserError` where it shows no face."""
    with VideoReader(service.uploads.path(upload)) as reader:
        ((at, frame),) = frames_at(reader, (second,))
    try:
        return Look(upload, service.animator().open(frame, SourceOptions(max_size=PREVIEW)), at)
    except UserError as error:
        raise UserError(f"no face is found at {second:.2f} s: the video stays as it is there") from error


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


def driver_card(service: Service, upload: Upload) -> str:
    """What a driver is, as HTML."""
    path, lasts = service.uploads.path(upload), f"{upload.seconds:.1f} s"
    if upload.kind == "template":
        return shown.driver_card(None, upload.name, f"motion template, {lasts}")
    if upload.kind == "picture":
        return shown.driver_card(load_image(path), upload.name, "picture: gives its expression")
    if upload.kind != "video":
        raise UserError(f"{upload.name} moves nothing: choose a video, a picture or a motion template")
    with VideoReader(path) as reader:
        _, first = next(frames_at(reader, (0.0,)))
    return shown.driver_card(first, upload.name, f"video, {lasts}")


def _named(upload: Upload, work: Callable[[], T]) -> T:
    """The result of some work, whose `UserError`s name the file as the visitor does."""
    try:
        return work()
    except UserError as error:
        raise UserError(re.sub(rf"\S*{upload.id}\S*?(?=[:,\s])", upload.name, str(error))) from error
