"""A video as driver: followed once; where keypoints are landmarks, that has measured all of its motion.

A frame without a face repeats the last motion; frames before the first face take the reference's.
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

AHEAD = 2  # batches whose motion is known before they are rendered


class Anchors(NamedTuple):
    """What place and size of a driver are bounded about."""

    references: Motion  # batch S: of each scene
    home: Motion  # batch 1: where all of them start
    crop_scale: float = DRIVING_SCALE  # the crops' side over the face's
    scenes: NDArray[np.int64] | None = None  # (N,) the number of each frame's scene; None: there is one

    def steadied(self, motion: Motion, rows: slice | NDArray[np.int64]) -> Motion:
        """The motion of some frames."""
        own = self.references if self.scenes is None else self.references.rows(self.scenes[rows])
        return steadied(motion, own, self.home, self.crop_scale)


@dataclass(frozen=True, eq=False, kw_only=True)
class VideoDriver(Driver):
    """A video that moves faces."""

    reader: VideoReader | FrameArrays
    windows: Sequence[CropWindow] | None  # one a frame; None: its frames are crops
    # (N,) whether the frame shows the face; None where M alone tells what it shows.
    found: NDArray[np.bool_] | None
    starts: tuple[Start, ...]  # of each face that it moves
    before: Motion  # what M sees before the first face, batch 1
    whole: DrivingBatch | None  # all of its motion, where following the face has measured it
    anchors: Anchors | None = None  # None: place and size are not bounded
    reduction: Reduction = "area"  # of frames to crops
    cues: Array | None = None  # (N,5) what the mouth shows, see `measures.mouth_cues`

    def start(self, face: int) -> Start:
        """The reference frames; with "match", expressions are those of the frames most like the face."""
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
        """The frames with their motion: that of `whole`, or what M sees."""
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
    """Follow the face of a video, and find where motion starts for each of the faces that it moves.

    `crops`: find the face and cut it out; otherwise its frames are crops, in which a face may be found or not.
    `scores` of each face that it moves (see `SourceFace`), for the reference "match"; `pictures`: its crops will be
    shown. Raises `UserError` where it shows no face, or the reference frame does not serve.
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
    """All motion of a driver whose keypoints are landmarks: following its face has measured it."""
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
    """The start of the face of that place among those that are moved, in each scene.

    Place and size start where the driver's reference has them, and head poses in all scenes from that one.
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
    """A video of crops in which no face was found: M alone tells what they show."""
    if reference == "auto":
        raise UserError(
            f"the most neutral frame is found by its face, and {reader.name} shows none that can be found:"
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
    """What M sees of the crops; where one does not show the face, the motion before it, and `last` before all."""
    if not found.any():
        return last.expand(len(crops))
    seen = np.stack([crop for crop, is_found in zip(crops, found, strict=True) if is_found])
    return _held(last, engine.extract_motion(seen), found)


def _held(last: Motion, motion: Motion, found: NDArray[np.bool_]) -> Motion:
    """Motions of all frames from those that are `found`; where none is, the one before, and `last` before all."""
    if found.all():
        return motion
    rows = torch.from_numpy(np.cumsum(found)).to(motion.scale.device)
    return Motion.cat([last, motion]).rows(rows)
