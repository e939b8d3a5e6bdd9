"""The last pass: every frame of the source with its faces moved by their drivers, rendered and written in order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from liveportrait.animation.compositing import Painted
from liveportrait.animation.cues import Cues
from liveportrait.animation.driver import DrivingBatch, Play
from liveportrait.animation.report import ANIMATE
from liveportrait.animation.run import Run
from liveportrait.animation.source import Place, Source, SourceFace, View
from liveportrait.animation.steering import Steering
from liveportrait.animation.streams import side_by_side
from liveportrait.face.paste import MASK_SIDE, outline_in_crop
from liveportrait.motion import move_points
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Pose

Image = NDArray[np.uint8]
Finish = Callable[[Image, Sequence[Painted]], None]


@dataclass(frozen=True, eq=False)
class Role:
    """A face of the source, and what moves it."""

    face: SourceFace
    driver: int  # its number, from 0
    steering: Steering


class _Job(NamedTuple):
    """Some consecutive frames of the result, ready to be rendered."""

    start: int  # the number of the first
    pictures: list[Image]  # (H,W,3) of the source
    cues: list[DrivingBatch]  # of each driver, at least as many frames


def render(
    run: Run,
    source: Source,
    roles: Sequence[Role],
    cues: Sequence[Cues],
    fps: Fraction,
    total: int,
    limit: int | None,
    finish: Finish,
    follows_rims: bool = False,
) -> int:
    """Call finish(frame, its faces) for frame after frame of a result of that rate; their number.

    The result ends with whatever ends first, or after `limit` frames, which must be given where there are only
    photos: these never end. `total` is how many frames are expected. `follows_rims`: work out where the outlines of
    faces have moved. Several batches are rendered side by side.
    """
    done = 0
    with ExitStack() as stack:
        lanes = stack.enter_context(run.engine.lanes(math.ceil(total / run.batch)))
        frames = stack.enter_context(source.open())
        plays = [stack.enter_context(closing(cue.play(fps, run.batch, lanes.enter))) for cue in cues]
        jobs = _jobs(frames, plays, limit)
        paint = partial(_paint_all, run, roles, follows_rims)
        due = run.clock.gauge("to be rendered", lanes.count + 1)
        for pictures, painted in stack.enter_context(
            side_by_side(paint, jobs, lanes.count, due, lanes.enter)
        ):
            for picture, faces in zip(pictures, painted, strict=True):
                finish(picture, faces)
            done += len(pictures)
            run.progress(ANIMATE, done, total)
    return done


def _jobs(frames: Iterator[Image], plays: Sequence[Play], limit: int | None) -> Iterator[_Job]:
    """The frames of the result in batches, until something ends."""
    start = 0
    while limit is None or start < limit:
        heard = [next(play, None) for play in plays]
        batches = [batch for batch in heard if batch is not None]
        if len(batches) < len(heard):
            return
        count = min(len(batch) for batch in batches)
        pictures = list(islice(frames, count if limit is None else min(count, limit - start)))
        if not pictures:
            return
        yield _Job(start, pictures, batches)
        start += len(pictures)


def _paint_all(
    run: Run, roles: Sequence[Role], follows_rims: bool, job: _Job
) -> tuple[list[Image], list[list[Painted]]]:
    """The frames of a job, and the faces in each."""
    painted: list[list[Painted]] = [[] for _ in job.pictures]
    for number, role in enumerate(roles):
        rows = role.face.shown(range(job.start, job.start + len(job.pictures)))
        if not rows:
            continue
        here = [row - job.start for row in rows]
        cue = job.cues[role.driver]
        cue = cue if here == list(range(len(cue))) else cue.take(here)
        view = role.face.view(run, rows, [job.pictures[index] for index in here])
        for index, face in zip(here, _paint(run, number, role, view, cue, follows_rims), strict=True):
            painted[index].append(face)
    return job.pictures, painted


def _paint(
    run: Run, number: int, role: Role, view: View, cue: DrivingBatch, follows_rims: bool
) -> list[Painted]:
    """One face in the frames of a batch."""
    with run.clock.step("render"):
        home = pose_of(view.motion)
        poses = role.steering.poses(cue.motion, view.motion, view.openings, cue.openings)
        faces = run.engine.render(view.features, home, poses)
    painted = []
    for row, (generated, driving) in enumerate(zip(faces, cue.tiles, strict=True)):
        own = row if len(view.tiles) > 1 else 0  # a still face looks the same in all frames
        place = view.places[own] if view.places else None
        moved = None
        if follows_rims and place:
            pair = (
                Pose(*(part[index : index + 1] for part in pose))
                for pose, index in ((home, own), (poses, row))
            )
            moved = moved_rim(place, *pair)
        painted.append(Painted(number, generated, place, view.tiles[own], driving, moved))
    return painted


def moved_rim(place: Place, home: Pose, pose: Pose) -> NDArray[np.float32]:
    """The outline (36,2) of a face that has gone from one pose to another (batch 1), px of its crop at 256 px."""
    flat = outline_in_crop(place.outline, place.window, MASK_SIDE)
    depth = place.outline[:, 2:] * np.float32(MASK_SIDE / place.window.side)
    centred = np.concatenate([flat - (MASK_SIDE - 1) / 2, depth], axis=1) * np.float32(2 / MASK_SIDE)
    points = torch.from_numpy(centred).to(home.keypoints)
    moved = move_points(points, home, pose)[0, :, :2].cpu().numpy()
    return np.asarray(moved * (MASK_SIDE / 2) + (MASK_SIDE - 1) / 2, np.float32)
