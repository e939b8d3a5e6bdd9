"""The pipeline: moves, renders and pastes back the faces in every frame of a source, in order.

Whatever moves a face, be it a driver or sliders, is a `Poser`: it turns a view of the face and a cue into poses.
Drivers, sliders, live camera and evaluation all go through `render_faces`.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from liveportrait.animation.compositor import Compositor, RenderedFace, watermark_for
from liveportrait.animation.driver.base import PHOTO_FPS, DrivingBatch, Play, TimedDriver
from liveportrait.animation.options import PasteOptions
from liveportrait.animation.report import ANIMATE
from liveportrait.animation.session import Session
from liveportrait.animation.source.base import FacePlacement, FaceView, Source, SourceFace
from liveportrait.engine.guard import LEFT_OUT, OTHER_WEIGHTS, check_finite
from liveportrait.face.composition import FaceLayers
from liveportrait.face.paste import MASK_SIDE, outline_in_crop
from liveportrait.motion import move_points
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Pose
from liveportrait.types import Closeable, Image


class Cue(NamedTuple):
    """Information about b frames of the result besides the face itself."""

    times: Sequence[float]  # s since the start of the result
    driving: DrivingBatch | None = None  # of the face's driver; None without one
    frames: Sequence[int] = ()  # frame numbers


class Poser(Protocol):
    """Computes the poses of a face in some frames."""

    @property
    def moves_mouth(self) -> bool:
        """Whether the mouth follows the driver's."""
        ...

    def poses(self, view: FaceView, cue: Cue) -> Pose:
        """The poses (batch b) of a face in b frames; the view has batch b, or 1 for a still face."""
        ...


@dataclass(frozen=True, eq=False)
class DrivenFace:
    """A face of the source, and what moves it."""

    face: SourceFace
    poser: Poser
    driver: int | None = None  # the number of its driver, from 0; None without one


class _Job(NamedTuple):
    """Consecutive frames of the result, ready to be rendered."""

    start: int  # number of the first frame
    pictures: list[Image]  # (H,W,3) of the source
    driving: list[DrivingBatch]  # of each driver, at least as many frames


def render(
    session: Session,
    source: Source,
    faces: Sequence[DrivenFace],
    drivers: Sequence[TimedDriver],
    fps: Fraction,
    total: int,
    limit: int | None,
    follows_outlines: bool = False,
) -> Generator[tuple[Image, list[RenderedFace]], None, None]:
    """Every frame of a result at rate `fps` with its rendered faces; several batches are rendered in parallel.

    The result ends with the shortest input, or after `limit` frames, which is required if all inputs are photos, as
    these never end. `total` is how many frames are expected. `follows_outlines`: compute where the outlines of faces
    have moved.
    """
    done = 0
    with ExitStack() as stack:
        stack.enter_context(session.workers(math.ceil(total / session.batch)))
        pictures = stack.enter_context(source.frames(session))
        plays = [stack.enter_context(closing(driver.play(session, fps))) for driver in drivers]

        def work(job: _Job) -> tuple[list[Image], list[list[RenderedFace]]]:
            session.progress(ANIMATE, done, total)  # lets the caller stop without waiting for another batch
            return job.pictures, _render_job(session, faces, fps, job, follows_outlines)

        jobs = _jobs(pictures, plays, session.batch, limit)
        for frames, rendered in stack.enter_context(session.parallel_map(work, jobs, "to be rendered")):
            yield from zip(frames, rendered, strict=True)
            done += len(frames)
            session.progress(ANIMATE, done, total)


def _jobs(pictures: Iterator[Image], plays: Sequence[Play], size: int, limit: int | None) -> Iterator[_Job]:
    """The frames of the result in batches of at most `size`, until the first input ends."""
    start = 0
    while limit is None or start < limit:
        played = [next(play, None) for play in plays]
        driving = [batch for batch in played if batch is not None]
        if len(driving) < len(played):
            return
        count = min((len(batch) for batch in driving), default=size)
        frames = list(islice(pictures, count if limit is None else min(count, limit - start)))
        if not frames:
            return
        yield _Job(start, frames, driving)
        start += len(frames)


def _render_job(
    session: Session, faces: Sequence[DrivenFace], fps: Fraction, job: _Job, follows_outlines: bool
) -> list[list[RenderedFace]]:
    """The rendered faces in each frame of a job."""
    rendered: list[list[RenderedFace]] = [[] for _ in job.pictures]
    for number, driven in enumerate(faces):
        rows = driven.face.shown(range(job.start, job.start + len(job.pictures)))
        if not rows:
            continue
        here = [row - job.start for row in rows]
        driving = None
        if driven.driver is not None:
            driving = job.driving[driven.driver]
            driving = driving if here == list(range(len(driving))) else driving.take(here)
        view = driven.face.view(session, rows, [job.pictures[index] for index in here])
        cue = Cue([row / float(fps) for row in rows], driving, rows)
        made = render_faces(session, number, driven.poser, view, cue, follows_outlines)
        for index, face in zip(here, made, strict=True):
            rendered[index].append(face)
    return rendered


def render_faces(
    session: Session, number: int, poser: Poser, view: FaceView, cue: Cue, follows_outlines: bool = False
) -> list[RenderedFace]:
    """Render one face, of this number, in the frames of a batch."""
    with session.clock.step("render"):
        home = pose_of(view.motion)
        poses = poser.poses(view, cue)
        frames = cue.frames or range(poses.batch)
        check_finite("the pose of the source", frames, (home.keypoints, poses.keypoints), LEFT_OUT)
        cues = cue.driving.cues if cue.driving and poser.moves_mouth else None
        rendered_layers = session.engine.layers(view.features, home, poses, cues)
        check_finite("the rendered face", frames, rendered_layers, OTHER_WEIGHTS)
        layers = FaceLayers.of(rendered_layers)
    rendered = []
    for row, own_layers in enumerate(layers):
        own = row if len(view.crops) > 1 else 0  # a still face looks the same in all frames
        placement = view.placements[own] if view.placements else None
        moved = None
        if follows_outlines and placement:
            moved = moved_outline(placement, home.rows([own]), poses.rows([row]))
        driving = cue.driving.crops[row] if cue.driving else None
        rendered.append(RenderedFace(number, own_layers, placement, view.crops[own], driving, moved))
    return rendered


def moved_outline(placement: FacePlacement, home: Pose, pose: Pose) -> NDArray[np.float32]:
    """The outline (36,2) of a face moved from `home` to `pose` (batch 1), px of its crop at 256 px."""
    flat = outline_in_crop(placement.outline, placement.window, MASK_SIDE)
    depth = placement.outline[:, 2:] * np.float32(MASK_SIDE / placement.window.side)
    centred = np.concatenate([flat - (MASK_SIDE - 1) / 2, depth], axis=1) * np.float32(2 / MASK_SIDE)
    points = torch.from_numpy(centred).to(home.keypoints)
    moved = move_points(points, home, pose)[0, :, :2].cpu().numpy()
    return np.asarray(moved * (MASK_SIDE / 2) + (MASK_SIDE - 1) / 2, np.float32)


class Rendering(Closeable):
    """Iterates over the frames (H,W,3) uint8 RGB of one result, rendered on demand; with `alpha` (H,W,4).

    Memory does not grow with their number. Stopping early, by `close` or the end of a `with` block, ends its threads.
    Use it from one thread only.
    """

    def __init__(
        self,
        session: Session,
        source: Source,
        faces: Sequence[DrivenFace],
        drivers: Sequence[TimedDriver],
        paste: PasteOptions,
    ) -> None:
        """Without a moving source or driver the result is one frame."""
        self.session, self.source, self.drivers, self.paste = session, source, drivers, paste
        moving = [each.driver for each in drivers if not each.driver.is_photo]
        self.fps = source.fps or next((each.fps for each in moving), PHOTO_FPS)
        self.lengths = [math.ceil(each.frames * self.fps / each.fps) for each in moving]
        """how many frames of the result each moving driver lasts for"""
        self.total = min([*self.lengths, *([source.count] if source.count else [])], default=1)
        """how many frames there will be if the files state their lengths correctly"""
        watermark = watermark_for(
            source, session.engine.variant, paste, drivers[0].driver.work if drivers else "edited"
        )
        self.compositor = Compositor(source, paste, session.engine.variant, watermark=watermark)
        is_still = not self.lengths and source.count is None
        self._rendered = render(
            session,
            source,
            faces,
            drivers,
            self.fps,
            self.total,
            1 if is_still else None,
            paste.mask == "face",
        )

    def __iter__(self) -> Iterator[Image]:
        return self

    def __next__(self) -> Image:
        frame, faces = next(self._rendered)
        with self.session.clock.step("paste"):
            return self.compositor.compose(frame, faces)

    def uncomposed(self) -> Iterator[tuple[Image, list[RenderedFace]]]:
        """The frames of the source with their rendered faces, which `compositor` has yet to paste."""
        return self._rendered

    def close(self) -> None:
        """Stop rendering."""
        self._rendered.close()
