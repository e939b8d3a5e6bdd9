"""A video as source: tracked once, measured once, then played; only a few numbers per frame are kept in between.

Crop windows glide along a slow, non-causal path through the measured positions. The movement of the faces inside them
is measured as motion. Windows and smoothing restart at cuts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.animation.options import SourceOptions
from liveportrait.animation.report import FOLLOW, MEASURE, Jitter
from liveportrait.animation.session import Session, batches
from liveportrait.animation.source.base import FaceView, Source, require_size
from liveportrait.animation.source.crop_path import CropPath
from liveportrait.animation.source.observations import FaceObservations
from liveportrait.animation.source.photo import SMALLEST_CROPPED, cut, limit_size, limited, make_view
from liveportrait.choices import Reduction
from liveportrait.errors import UserError
from liveportrait.face.choice import FaceChoice
from liveportrait.face.crop import CropWindow, crop_to, to_input, whole_window
from liveportrait.face.tracker import FaceTracker, PeopleTracker, smallest_face
from liveportrait.media import FrameArrays, VideoReader
from liveportrait.motion import (
    SeenKeypoints,
    crop_points,
    fix_canonical,
    groups_for,
    jitter,
    smooth_motion,
    usual_expression,
)
from liveportrait.motion.landmarks import extract_motion
from liveportrait.networks.interface import Motion
from liveportrait.types import Image


@dataclass(frozen=True, eq=False)
class VideoFace:
    """One person's face through a video. Rows of `motion` are the frames that show it, in order."""

    path: CropPath
    motion: Motion  # on the CPU
    rows: NDArray[np.int64]  # (N,) each frame's row of `motion`: the last one at or before it
    usual: Tensor  # (n,21,3) its expression without speech, in the rows of `motion`
    still: None = None
    animal: None = None
    is_animal: bool = False
    scores: None = None
    shape: None = None

    def shown(self, rows: range) -> list[int]:
        """The frames that show the face; all if the frames are the face."""
        if not self.path.windows:
            return list(rows)
        return [row for row in rows if self.path.seen[row] is not None]

    def view(self, session: Session, rows: Sequence[int], frames: Sequence[Image]) -> FaceView:
        """The face in these frames, given by their numbers and pictures: F runs on each."""
        seen = [self.path.seen.held(row) for row in rows] if self.path.seen.found.any() else []
        windows = [self.path.windows[row] for row in rows] if self.path.windows else []
        places, device = self.rows[list(rows)], session.engine.device
        crops = _crops(session, frames, windows, self.path.reduction)
        view = make_view(session, crops, self.motion.rows(places).to(device), seen, windows)
        return replace(view, usual=self.usual[places].to(device))

    @property
    def openings(self) -> Tensor | None:
        """The openings (n,3) in the frames that show the face, if there are any; other frames repeat the last ones."""
        return torch.from_numpy(self.path.seen.ratios) if self.path.seen.found.any() else None

    @property
    def side(self) -> float | None:
        """Side of its largest crop, px."""
        return max((window.side for window in self.path.windows), default=None)

    def crop(self, row: int, frame: Image, size: int, replicate_border: bool = False) -> Image:
        """The crop of an unchanged frame; without the face, where the crop was last."""
        windows = self.path.windows
        return crop_to(frame, windows[row], size, replicate_border) if windows else to_input(frame, size)


@dataclass(frozen=True, eq=False, kw_only=True)
class VideoSource(Source):
    """A video with the people who are animated."""

    video: SourceVideo
    faces: tuple[VideoFace, ...]

    def frames(self, session: Session) -> AbstractContextManager[Iterator[Image]]:
        """The frames from the first on."""
        return self.video.frames(session)


def open_video(session: Session, reader: VideoReader | FrameArrays, options: SourceOptions) -> VideoSource:
    """Track the chosen faces through a video and measure how they move.

    Raises `UserError` if it shows no face or not the chosen one.
    """
    video = SourceVideo(reader, options.max_size, options.reduction)
    require_size(video.name, video.shape)
    fps = reader.info.fps
    people = _track_people(session, video, options) if options.crop else _track_crops(session, video)
    paths = [CropPath.of(seen, people.cuts, options, fps) for seen in people.observations]
    measured = _measure(session, video, paths)
    smoothed = [
        smooth_motion(motion, options.smooth, fps, path.starts)
        for path, motion in zip(paths, measured, strict=True)
    ]
    jitters = []
    for number, (path, before, after) in enumerate(zip(paths, measured, smoothed, strict=True), 1):
        name = f"face {number} of {video.name}"
        if path.jitter:
            jitters.append(Jitter(f"crop of {name}", *path.jitter))
        figures = (jitter(crop_points(motion), path.starts) for motion in (before, after))
        jitters.append(Jitter(f"keypoints of {name}", *figures))
    faces = tuple(
        VideoFace(path, motion, path.rows, usual_expression(motion, fps, path.starts))
        for path, motion in zip(paths, smoothed, strict=True)
    )
    return VideoSource(
        name=video.name,
        shape=video.shape,
        video=video,
        faces=faces,
        crops=options.crop,
        found=len(faces),
        fps=fps,
        count=people.frames,
        audio=reader.audio,
        cuts=people.cuts,
        jitter=tuple(jitters),
    )


@dataclass(frozen=True, eq=False)
class _People:
    """The people of a source video."""

    frames: int
    cuts: tuple[int, ...]  # frames at which a new scene begins, except the first
    observations: list[FaceObservations]  # of each person, one per frame


def _track_people(session: Session, video: SourceVideo, options: SourceOptions) -> _People:
    """Track the chosen people through an entire video, as `PeopleTracker` does.

    Raises `UserError` if no frame shows a face, or the chosen one does not exist.
    """
    tracker = PeopleTracker(session.analyzer, FaceChoice.parse(options.faces), video.name)
    observations: list[FaceObservations] = []
    count = 0
    with video.frames(session) as frames:
        for frame in frames:
            with session.clock.step("detect"):
                faces = tracker(frame)
                newcomers = len(faces) - len(observations)
                observations += [FaceObservations.absent(count) for _ in range(newcomers)]
                for kept, face in zip(observations, faces, strict=True):
                    kept.append(face)
            count += 1
            session.progress(FOLLOW, count, video.reader.info.frame_count)
    if not observations:
        raise UserError(
            f"no face found in any of the {count} frames of {video.name}: use a video that shows one,"
            f" {smallest_face(video.shape):.0f} px high or more, or --no-crop if its frames are cropped faces"
        )
    return _People(count, tuple(tracker.cuts), observations)


def _track_crops(session: Session, video: SourceVideo) -> _People:
    """Look for the face in frames that are taken as crops. They may show something in which no face is found."""
    tracker = FaceTracker(session.analyzer, SMALLEST_CROPPED)
    size = session.engine.variant.input_size
    seen = FaceObservations()
    with video.frames(session) as frames:
        for frame in frames:
            with session.clock.step("detect"):
                seen.append(tracker(to_input(frame, size)))
            session.progress(FOLLOW, len(seen), video.reader.info.frame_count)
    return _People(len(seen), (), [seen])


def _measure(session: Session, video: SourceVideo, paths: Sequence[CropPath]) -> list[Motion]:
    """The motion of every face in the frames that show it, with one canonical face for all frames; on the CPU."""
    parts: list[list[Motion]] = [[] for _ in paths]
    done = 0
    with video.frames(session) as frames:
        for group in batches(frames, session.batch):
            with session.clock.step("motion"):
                for own, path in zip(parts, paths, strict=True):
                    own += _measured(session, group, path, done)
            done += len(group)
            session.progress(MEASURE, done, video.reader.info.frame_count)
    groups = groups_for(session.engine.variant)
    motions = [Motion.cat(own) for own in parts]
    return [
        fix_canonical(motion, motion._replace(canonical=motion.canonical.mean(0, keepdim=True)), groups)
        for motion in motions
    ]


def _measured(session: Session, frames: Sequence[Image], path: CropPath, start: int) -> list[Motion]:
    """The motion in those of some consecutive frames that show the face; [] if none does."""
    here = [(row, seen) for row in range(len(frames)) if (seen := path.seen[start + row])]
    keypoints = SeenKeypoints.joined([seen.keypoints for _, seen in here]) if here else None
    if not path.windows:
        crops = _crops(session, frames, (), path.reduction)
        whole = [whole_window(crops.shape[1]) for _ in here]
        return [extract_motion(session.engine, crops, keypoints, whole, [row for row, _ in here]).to("cpu")]
    if not here:
        return []
    windows = [path.windows[start + row] for row, _ in here]
    crops = _crops(session, [frames[row] for row, _ in here], windows, path.reduction)
    return [extract_motion(session.engine, crops, keypoints, windows).to("cpu")]


def _crops(
    session: Session, frames: Sequence[Image], windows: Sequence[CropWindow], reduction: Reduction
) -> NDArray[np.uint8]:
    """The crops (b,S,S,3) of frames; without windows, the entire frames."""
    variant = session.engine.variant
    if not windows:
        return np.stack([to_input(frame, variant.input_size, reduction) for frame in frames])
    pairs = zip(frames, windows, strict=True)
    return np.stack([cut(frame, window, variant, reduction) for frame, window in pairs])


@dataclass(frozen=True, eq=False)
class SourceVideo:
    """A video that is read several times; every pass yields the same frames."""

    reader: VideoReader | FrameArrays
    limit: int | None  # longest side, px
    reduction: Reduction = "area"

    @property
    def name(self) -> str:
        """For messages."""
        return self.reader.name

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the frames, px: the video's own unless it is larger than the limit."""
        info = self.reader.info
        longer = max(info.height, info.width)
        if self.reduction == "bilinear":  # as photos are
            height, width = limited(info.height, info.width, self.limit or longer)
            return height // 2 * 2, width // 2 * 2
        if not self.limit or longer <= self.limit:
            return info.height, info.width
        height, width = (
            max(2, round(side * self.limit / longer / 2) * 2) for side in (info.height, info.width)
        )
        return height, width

    @contextmanager
    def frames(self, session: Session) -> Iterator[Iterator[Image]]:
        """The frames (H,W,3) RGB from the first on, decoded ahead."""
        with (
            closing(iter(self.reader)) as decoded,
            session.read_ahead(session.clock.each("decode", self._sized(decoded))) as frames,
        ):
            yield frames

    def _sized(self, frames: Iterator[Image]) -> Iterator[Image]:
        height, width = self.shape
        for frame in frames:
            if self.reduction == "bilinear":
                frame = limit_size(frame, self.limit or max(frame.shape), self.reduction)
            elif frame.shape[:2] != (height, width):
                frame = np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
            yield frame
