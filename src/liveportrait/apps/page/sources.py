"""Previews of what visitors choose, before anything runs: the crop of a portrait, the first frame of a driver."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, TypeVar

from liveportrait.animation.options import SourceOptions
from liveportrait.animation.source.photo import PhotoSource
from liveportrait.apps.page import markup
from liveportrait.errors import UserError
from liveportrait.face.crop import CropWindow
from liveportrait.media import VideoReader, load_image
from liveportrait.networks.interface import Motion
from liveportrait.types import Image

if TYPE_CHECKING:
    from liveportrait.animation.portrait import Portrait
    from liveportrait.apps.server.service import Service
    from liveportrait.apps.server.store import Upload

PREVIEW_SIDE = 1600  # px, the maximum side of a preview
CLOSE_UP = 1.5  # side of a close-up, in sides of the face's crop
T = TypeVar("T")

SEARCH_TIMES_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)  # moments of a video at which to look for a face


@dataclass(frozen=True, eq=False)
class Preview:
    """A portrait opened at a reduced size: a photo, or one frame of a video."""

    upload: Upload
    portrait: Portrait
    second: float = 0.0  # time of the frame in the video

    @property
    def source(self) -> PhotoSource:
        """The source of the portrait."""
        assert isinstance(self.portrait.source, PhotoSource)
        return self.portrait.source

    @property
    def windows(self) -> list[CropWindow]:
        """The crops of its faces, in px of the reduced picture; empty if the whole picture is the face."""
        return [face.still.placements[0].window for face in self.source.faces if face.still.placements]

    @property
    def motion(self) -> Motion:
        """The motion of its first face, batch 1."""
        return self.source.faces[0].still.motion

    @property
    def is_video(self) -> bool:
        """Whether it is a frame of a video."""
        return self.upload.kind == "video"

    @property
    def note(self) -> str:
        """A short description."""
        source, parts = self.source, []
        if self.is_video:
            parts.append(f"video, {self.upload.seconds:.1f} s")
        if source.found > len(source.faces):
            parts.append(f"{source.found} faces, only the largest moves")
        if any(face.animal for face in source.faces):
            parts.append("an animal's face")
        return " · ".join(parts) or "photo"

    @property
    def thumbnail(self) -> Image:
        """The picture within the first crop, without the part of the crop beyond the picture."""
        image = self.source.image
        if not self.windows:
            return image
        points = markup.corners(self.windows[0]).round().astype(int)
        (left, top), (right, bottom) = points.min(axis=0).clip(0), points.max(axis=0)
        return image[top : bottom + 1, left : right + 1]

    def close_up(self, image: Image) -> str:
        """A square around the first face, cut from a picture of the same size, as the data URL of a JPEG."""
        if not self.windows:
            return markup.picture_url(image, markup.CLOSE_UP_SIDE)
        side = min(int(CLOSE_UP * self.windows[0].side), *image.shape[:2])
        x, y = markup.corners(self.windows[0]).mean(axis=0) - side / 2
        left = min(max(int(x), 0), image.shape[1] - side)
        top = min(max(int(y), 0), image.shape[0] - side)
        return markup.picture_url(image[top : top + side, left : left + side], markup.CLOSE_UP_SIDE)

    def card(self) -> str:
        """The picture with its crop marked, as HTML."""
        return markup.crop_card(self.source.image, self.windows, self.thumbnail, self.upload.name, self.note)


def open_preview(service: Service, upload: Upload, options: SourceOptions) -> Preview:
    """Open a photo, or the first frame of a video with a face. Raises `UserError` if there is no face."""
    small = SourceOptions(**{each.name: getattr(options, each.name) for each in fields(SourceOptions)})
    small = replace(small, max_size=min(options.max_size or PREVIEW_SIDE, PREVIEW_SIDE))
    if upload.kind == "picture":
        return Preview(upload, _named(upload, lambda: service.portrait(upload.id, small)))
    if upload.kind != "video":
        raise UserError(f"{upload.name} is not a picture or video: choose a photo or a video")
    if options.box or options.subject == "animal":
        raise UserError(f"{upload.name} is a video: for animals and for a given box, choose a photo")
    with VideoReader(service.uploads.path(upload)) as reader:
        for second, frame in frames_at(reader, SEARCH_TIMES_S):
            try:
                return Preview(upload, service.animator().open(frame, small), second)
            except UserError:
                continue
    raise UserError(
        f"no face found in the first {SEARCH_TIMES_S[-1]:g} s of {upload.name}: trim it so that it starts with one"
    )


def open_preview_at(service: Service, upload: Upload, second: float) -> Preview:
    """Open the frame of a video at `second`. Raises `UserError` if it shows no face."""
    with VideoReader(service.uploads.path(upload)) as reader:
        ((at, frame),) = frames_at(reader, (second,))
    try:
        return Preview(upload, service.animator().open(frame, SourceOptions(max_size=PREVIEW_SIDE)), at)
    except UserError as error:
        raise UserError(f"no face found at {second:.2f} s: choose another moment") from error


def frames_at(reader: VideoReader, seconds: tuple[float, ...]) -> Iterator[tuple[float, Image]]:
    """Yield the time and frame of a video at each of some times (s), in order; skips times after its end."""
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
    """A description of a driver, as HTML."""
    path, lasts = service.uploads.path(upload), f"{upload.seconds:.1f} s"
    if upload.kind == "template":
        return markup.driver_card(None, upload.name, f"motion template, {lasts}")
    if upload.kind == "picture":
        return markup.driver_card(load_image(path), upload.name, "picture, whose expression is used")
    if upload.kind != "video":
        raise UserError(f"{upload.name} cannot be a driver: choose a video, a picture or a motion template")
    with VideoReader(path) as reader:
        _, first = next(frames_at(reader, (0.0,)))
    return markup.driver_card(first, upload.name, f"video, {lasts}")


def _named(upload: Upload, work: Callable[[], T]) -> T:
    """Call `work`; its `UserError`s then use the visitor's name for the file."""
    try:
        return work()
    except UserError as error:
        raise UserError(re.sub(rf"\S*{upload.id}\S*?(?=[:,\s])", upload.name, str(error))) from error
