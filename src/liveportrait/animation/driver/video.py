"""A video as driver: followed once; where keypoints are landmarks, that has measured all of its motion.

A frame without a face repeats the last motion; frames before the first face take the reference's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from liveportrait.animation.driver.base import Driver, DrivingBatch, Play, Start, missing_reference
from liveportrait.animation.driver.reference import track_crops, track_face
from liveportrait.animation.report import gaps
from liveportrait.animation.session import Session, batches
from liveportrait.animation.source.photo import cut
from liveportrait.choices import Reference
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.face.crop import CropWindow, to_input
from liveportrait.media import FrameArrays, VideoReader
from liveportrait.motion import groups_for, motion_from_heads
from liveportrait.motion.landmarks import extract_motion
from liveportrait.networks.interface import Motion
from liveportrait.networks.variants import Variant
from liveportrait.types import Array, Image

AHEAD = 2  # batches whose motion is known before they are rendered


@dataclass(frozen=True, eq=False, kw_only=True)
class VideoDriver(Driver):
    """A video that moves faces."""

    reader: VideoReader | FrameArrays
    window: CropWindow | None  # None: its frames are crops
    found: (
        NDArray[np.bool_] | None
    )  # (N,) whether the frame shows the face; None where M alone tells what it shows
    starts: tuple[Start, ...]  # of each face that it moves
    whole: DrivingBatch | None  # all of its motion, where following the face has measured it
    cues: Array | None = None  # (N,5) what the mouth shows, see `measures.mouth_cues`

    def start(self, face: int) -> Start:
        """The reference frame; with "match", its expression is that of the frame most like the face."""
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
        last, done = self.starts[0].motion, 0
        for group in batches(frames, session.batch):
            here = range(done, done + len(group))
            with session.clock.step("crop"):
                crops = tuple(cut_driving(frame, self.window, variant) for frame in group)
            if self.whole:
                measured = self.whole.take(here)
                yield replace(measured, crops=crops)
            else:
                found = np.ones(len(group), bool) if self.found is None else self.found[done : here.stop]
                with session.clock.step("motion"):
                    motion = _see(session.engine, last, crops, found)
                last = motion.rows([-1])
                ratios, scores, cues = (
                    None if known is None else torch.from_numpy(known[done : here.stop]).to(motion.scale)
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
) -> VideoDriver:
    """Follow the face of a video, and find where motion starts for each of the faces that it moves.

    `crops`: find the face and cut it out; otherwise its frames are crops, in which a face may be found or not.
    `scores` of each face that it moves (see `SourceFace`), for the reference "match"; `pictures`: its crops will be
    shown. Raises `UserError` where it shows no face, or the reference frame does not serve.
    """
    track = track_face if crops else track_crops
    tracked = track(session, reader, reference, scores)
    variant = session.engine.variant
    if tracked is None:
        return _open_untracked(session, reader, reference, len(scores))
    window, references = tracked.window if crops else None, tracked.references
    with session.clock.step("motion"):
        head = tracked.head(references.number)
        crop = cut_driving(references.frame, window, variant)[None]
        first = extract_motion(session.engine, crop, head.keypoints, [tracked.window])
        ratios, shapes, cues = (
            torch.from_numpy(known).to(session.engine.device)
            for known in (tracked.ratios, tracked.scores, tracked.cues)
        )
        whole = None
        if groups_for(variant).keypoints_are_landmarks:
            heads, start = (each.through(tracked.window) for each in (tracked.heads, head))
            motion = motion_from_heads(first, start, heads, tracked.window.size)
            moved = _held(first, motion, tracked.found)
            whole = DrivingBatch(moved, ratios, (None,) * len(tracked.found), shapes, cues=cues)

    identity = references.identity if session.engine.can_express else None

    def start_in(number: int, motion: Motion) -> Start:
        rows = slice(number, number + 1)
        return Start(motion, ratios[rows], shapes[rows], identity)

    plain = start_in(references.number, first)
    starts = []
    for similar in references.similar:
        if similar is None:
            starts.append(plain)
            continue
        if whole:
            expression = whole.motion.expression[similar.number : similar.number + 1]
        else:
            with session.clock.step("motion"):
                seen = session.engine.extract_motion(cut_driving(similar.frame, window, variant)[None])
            expression = seen.expression
        starts.append(start_in(similar.number, first._replace(expression=expression)))
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
        reader=reader,
        window=window,
        found=tracked.found,
        starts=tuple(starts),
        whole=whole,
        cues=tracked.cues,
    )


def _open_untracked(
    session: Session, reader: VideoReader | FrameArrays, reference: Reference, faces: int
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
    crop = cut_driving(frame, None, session.engine.variant)[None]
    with session.clock.step("motion"):
        start = Start(session.engine.extract_motion(crop))
    return VideoDriver(
        name=reader.name,
        fps=reader.info.fps,
        frames=reader.info.frame_count,
        audio=reader.audio,
        reader=reader,
        window=None,
        found=None,
        starts=(start,) * faces,
        whole=None,
    )


def cut_driving(image: Image, window: CropWindow | None, variant: Variant) -> Image:
    """The crop (S,S,3) of a driving frame, or without a window the frame itself."""
    return cut(image, window, variant) if window else to_input(image, variant.input_size)


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
