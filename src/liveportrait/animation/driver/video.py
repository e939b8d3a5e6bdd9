"""A video as driver: tracked once, which already measures all motion if keypoints are landmarks.

A frame without a face repeats the last motion; frames before the first face have that of the reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from liveportrait.animation.driver.base import Driver, DrivingBatch, Play, Start, missing_reference
from liveportrait.animation.driver.tracking import TrackedFace, cut_driving, track_crops, track_face
from liveportrait.animation.report import gaps
from liveportrait.animation.session import Session, batches
from liveportrait.choices import Framing, Reduction, Reference
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.face.choice import DRIVING_CROP, DRIVING_SCALE, DrivingCrop
from liveportrait.face.crop import CropWindow
from liveportrait.media import FrameArrays, VideoReader
from liveportrait.motion import groups_for, motion_from_heads
from liveportrait.motion.framing import steadied
from liveportrait.networks.interface import Motion
from liveportrait.types import Array, Image

AHEAD = 2  # batches whose motion is computed ahead of rendering


class Anchors(NamedTuple):
    """The references of the bounds on a driver's position and size."""

    references: Motion  # batch S: of each scene
    home: Motion  # batch 1: position and size that all scenes start from
    crop_scale: float = DRIVING_SCALE  # side of the crops relative to the face
    scenes: NDArray[np.int64] | None = None  # (N,) the number of each frame's scene; None: there is only one

    def steadied(self, motion: Motion, rows: slice | NDArray[np.int64]) -> Motion:
        """The motion of some frames with bounded position and size."""
        own = self.references if self.scenes is None else self.references.rows(self.scenes[rows])
        return steadied(motion, own, self.home, self.crop_scale)


@dataclass(frozen=True, eq=False, kw_only=True)
class VideoDriver(Driver):
    """A video that drives faces."""

    reader: VideoReader | FrameArrays
    windows: Sequence[CropWindow] | None  # one per frame; None: its frames are crops
    # (N,) whether the frame shows the face; None if motion comes from M alone.
    found: NDArray[np.bool_] | None
    starts: tuple[Start, ...]  # of each face that it moves
    before: Motion  # motion before the first face, batch 1
    whole: DrivingBatch | None  # its entire motion, if tracking has measured it
    anchors: Anchors | None = None  # None: position and size are not bounded
    reduction: Reduction = "area"  # of frames to crops
    cues: Array | None = None  # (N,5) what the mouth shows, see `measures.mouth_cues`

    def start(self, face: int) -> Start:
        """The reference frames; with "match", expressions are those of the frames most similar to the face."""
        return self.starts[face]

    def play(self, session: Session) -> Play:
        """All frames in batches, read and measured ahead."""
        if self.whole and not self.has_pictures:
            yield from self.whole.slices(session.batch)
            return
        with (
            closing(iter(self.reader)) as decoded,
            session.read_ahead(session.clock.each("decode", decoded), "decoded") as frames,
            session.read_ahead(self._moving(session, frames), "moved", AHEAD) as ahead,
        ):
            yield from ahead

    def _moving(self, session: Session, frames: Iterator[Image]) -> Play:
        """The frames with their motion: from `whole`, or from M."""
        variant = session.engine.variant
        last, done = self.before, 0
        for group in batches(frames, session.batch):
            here = slice(done, done + len(group))
            windows = self.windows[here] if self.windows else [None] * len(group)
            with session.clock.step("crop"):
                crops = tuple(
                    cut_driving(frame, window, variant, self.reduction)
                    for frame, window in zip(group, windows, strict=True)
                )
            if self.whole:
                measured = self.whole.take(range(done, here.stop))
                yield replace(measured, crops=crops)
            else:
                found = np.ones(len(group), bool) if self.found is None else self.found[here]
                with session.clock.step("motion"):
                    motion = _see(session.engine, last, crops, found)
                last = motion.rows([-1])
                if self.anchors:
                    motion = self.anchors.steadied(motion, here)
                ratios, scores, cues = (
                    None if known is None else torch.from_numpy(known[here]).to(motion.scale)
                    for known in (self.ratios, self.scores, self.cues)
                )
                yield DrivingBatch(motion, ratios, crops, scores, cues=cues)
            done = here.stop


def open_video_driver(
    session: Session,
    reader: VideoReader | FrameArrays,
    crops: bool,
    reference: Reference,
    scores: Sequence[Array | None],
    pictures: bool = False,
    framing: Framing = "steady",
    reduction: Reduction = "area",
    crop: DrivingCrop = DRIVING_CROP,
) -> VideoDriver:
    """Track the face of a video, and find where motion starts for each of the faces that it moves.

    `crops`: find the face and crop to it; otherwise its frames are crops, in which a face may be found or not.
    `scores` of each face that it moves (see `SourceFace`), for the reference "match"; `pictures`: its crops will be
    shown. Raises `UserError` if it shows no face, or the reference frame cannot be used.
    """
    track = track_face if crops else track_crops
    tracked = track(session, reader, reference, scores, framing, reduction, crop)
    if tracked is None:
        return _open_untracked(session, reader, reference, len(scores), framing, reduction)
    home = tracked.scenes[tracked.home].motion
    anchors = None
    if framing == "steady":
        references = Motion.cat([scene.motion for scene in tracked.scenes])
        anchors = Anchors(references, home, crop.scale, tracked.numbers)
    whole = None
    if groups_for(session.engine.variant).keypoints_are_landmarks:
        with session.clock.step("motion"):
            whole = _measured(tracked, home, anchors)
    return VideoDriver(
        name=reader.name,
        fps=reader.info.fps,
        frames=len(tracked.found),
        has_pictures=whole is None or pictures,
        ratios=tracked.ratios,
        scores=tracked.scores,
        audio=reader.audio,
        cuts=tracked.cuts,
        held=gaps(tracked.found),
        is_steadied=tracked.is_steadied,
        reader=reader,
        windows=tracked.windows if crops else None,
        found=tracked.found,
        starts=tuple(_start(tracked, place, home, whole) for place in range(len(scores))),
        before=home,
        whole=whole,
        anchors=anchors,
        reduction=reduction,
        cues=tracked.cues,
    )


def _measured(tracked: TrackedFace, home: Motion, anchors: Anchors | None) -> DrivingBatch:
    """The entire motion of a driver whose keypoints are landmarks, as measured by tracking."""
    device = home.scale.device
    shown = np.flatnonzero(tracked.found)
    parts = []
    for scene in tracked.scenes:
        frames = shown[scene.rows]
        through = tracked.heads[scene.rows].through([tracked.windows[frame] for frame in frames])
        start = tracked.head(scene.reference).through(tracked.windows[scene.reference])
        parts.append(motion_from_heads(scene.motion, start, through, tracked.windows[scene.reference].size))
    moved = Motion.cat(parts)
    if anchors:
        moved = anchors.steadied(moved, shown)
    ratios, scores, cues = (
        torch.from_numpy(known).to(device) for known in (tracked.ratios, tracked.scores, tracked.cues)
    )
    motion = _held(home, moved, tracked.found)
    return DrivingBatch(motion, ratios, (None,) * len(tracked.found), scores, cues=cues)


def _start(tracked: TrackedFace, place: int, home: Motion, whole: DrivingBatch | None) -> Start:
    """The start, in each scene, of the face that is number `place` among those moved.

    Head pose, position and size start from the driver's reference in all scenes.
    """
    motions, numbers = [], []
    for scene in tracked.scenes:
        similar = scene.similar[place]
        number, expression = scene.reference, scene.motion.expression
        if similar:
            number, seen = similar
            if seen is not None:
                expression = seen[None]
            elif whole:
                expression = whole.motion.expression[number : number + 1]
        motions.append(home._replace(canonical=scene.motion.canonical, expression=expression))
        numbers.append(number)
    ratios, scores = (
        torch.from_numpy(known[numbers]).to(home.scale.device) for known in (tracked.ratios, tracked.scores)
    )
    return Start(Motion.cat(motions), ratios, scores, tracked.identity)


def _open_untracked(
    session: Session,
    reader: VideoReader | FrameArrays,
    reference: Reference,
    faces: int,
    framing: Framing,
    reduction: Reduction,
) -> VideoDriver:
    """A video of crops in which no face was found: motion comes from M alone."""
    if reference == "auto":
        raise UserError(
            f"the most neutral frame is chosen by its face, and no face was found in {reader.name}:"
            " leave out --reference auto"
        )
    wanted = reference if isinstance(reference, int) else 0
    with closing(iter(reader)) as frames:
        frame = next(islice(frames, wanted, None), None)
    if frame is None:
        raise UserError(missing_reference(reference, reader.name, reader.info.frame_count))
    crop = cut_driving(frame, None, session.engine.variant, reduction)[None]
    with session.clock.step("motion"):
        motion = session.engine.extract_motion(crop)
    return VideoDriver(
        name=reader.name,
        fps=reader.info.fps,
        frames=reader.info.frame_count,
        audio=reader.audio,
        reader=reader,
        windows=None,
        found=None,
        starts=(Start(motion),) * faces,
        before=motion,
        whole=None,
        anchors=Anchors(motion, motion) if framing == "steady" else None,
        reduction=reduction,
    )


def _see(engine: Engine, last: Motion, crops: Sequence[Image], found: NDArray[np.bool_]) -> Motion:
    """M's motion of the crops; for one without the face, the motion before it, or `last` if there is none."""
    if not found.any():
        return last.expand(len(crops))
    seen = np.stack([crop for crop, is_found in zip(crops, found, strict=True) if is_found])
    return _held(last, engine.extract_motion(seen), found)


def _held(last: Motion, motion: Motion, found: NDArray[np.bool_]) -> Motion:
    """Motion of all frames from that of the `found` ones; others repeat the one before, or `last` at the start."""
    if found.all():
        return motion
    rows = torch.from_numpy(np.cumsum(found)).to(motion.scale.device)
    return Motion.cat([last, motion]).rows(rows)
