"""A video as source: followed once, measured once, then played; a few numbers a frame are kept in between.

Crop windows glide: a slow path through the measured places, found with knowledge of what comes later. The faces
move inside them, and that is measured as motion. Windows and smoothing start anew at cuts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from liveportrait.animation.extraction import extract_motion, joined
from liveportrait.animation.footage import Footage
from liveportrait.animation.observations import FaceObservations
from liveportrait.animation.options import AnimateOptions
from liveportrait.animation.report import MEASURE, Jitter
from liveportrait.animation.run import Run
from liveportrait.animation.source import Image, Source, View, cut, looked_at, require_size, window_of
from liveportrait.animation.streams import batches
from liveportrait.animation.tracking import Followed, track_people
from liveportrait.animation.windows import corners, gliding, stretches
from liveportrait.face.choice import FaceChoice
from liveportrait.face.crop import CropWindow, crop, to_input
from liveportrait.media import VideoReader
from liveportrait.motion import crop_points, fix_canonical, groups_for, jitter, smooth_motion
from liveportrait.networks.interface import Motion


@dataclass(frozen=True, eq=False)
class MovingFace:
    """One person's face through a video. Rows of `motion` are the frames that show it, in order."""

    observations: FaceObservations  # one a frame; empty where frames are the face
    windows: Sequence[CropWindow]  # one a frame, held where there is no face; empty likewise
    motion: Motion  # on the CPU
    rows: NDArray[np.int64]  # (N,) each frame's row of `motion`: the last one at or before it

    def shown(self, rows: range) -> list[int]:
        """Which of the frames show the face."""
        if not self.observations:
            return list(rows)
        return [row for row in rows if self.observations[row] is not None]

    def view(self, run: Run, rows: Sequence[int], frames: Sequence[Image]) -> View:
        """The face in these frames, given by their numbers and pictures: F runs on each."""
        seen = [observation for row in rows if self.observations and (observation := self.observations[row])]
        windows = [self.windows[row] for row in rows] if seen else []
        motion = Motion(*(part[self.rows[list(rows)]].to(run.engine.device) for part in self.motion))
        return looked_at(run, _tiles(run, frames, windows), motion, seen, windows)

    def crop(self, row: int, frame: Image, size: int) -> Image:
        """The crop of a frame as it is; without the face, where the crop was last."""
        return to_input(crop(frame, self.windows[row]) if self.windows else frame, size)


def open_video(run: Run, file: Path, options: AnimateOptions, choice: FaceChoice) -> Source:
    """Follow the chosen faces through a video and measure how they move.

    Raises `UserError` where it is no video, shows no face or not the chosen one.
    """
    footage = Footage(VideoReader(file), run.clock, options.max_size)
    require_size(footage.name, footage.shape)
    info = footage.reader.info
    followed = (
        track_people(run, footage, choice)
        if options.crop
        else Followed(info.frame_count, (), [FaceObservations()])
    )
    paths = [
        _Path.of(observations, followed.cuts, options, info.fps) for observations in followed.observations
    ]
    measured = _measure(run, footage, paths)
    smoothed = [
        smooth_motion(motion, options.smooth, info.fps, path.starts)
        for path, motion in zip(paths, measured, strict=True)
    ]
    faces = [
        MovingFace(path.observations, path.windows, motion, path.rows(len(motion.scale)))
        for path, motion in zip(paths, smoothed, strict=True)
    ]
    trembling = []
    for number, (path, before, after) in enumerate(zip(paths, measured, smoothed, strict=True), 1):
        name = f"face {number} of {footage.name}"
        if path.jitter:
            trembling.append(Jitter(f"crop of {name}", *path.jitter))
        figures = (jitter(crop_points(motion), path.starts) for motion in (before, after))
        trembling.append(Jitter(f"keypoints of {name}", *figures))
    return Source(
        footage.name,
        footage.shape,
        footage.open,
        tuple(faces),
        found=len(faces),
        fps=info.fps,
        count=len(faces[0].rows),
        audio=file if info.has_audio else None,
        cuts=followed.cuts,
        jitter=tuple(trembling),
    )


@dataclass(frozen=True, eq=False)
class _Path:
    """The way of one face's crop through the video."""

    observations: FaceObservations  # as in MovingFace
    windows: Sequence[CropWindow]
    starts: tuple[int, ...] = ()  # rows of the motion at which something new begins
    jitter: tuple[float, float] | None = None  # of the crop's corners, before and after

    @classmethod
    def of(
        cls, observations: FaceObservations, cuts: Sequence[int], options: AnimateOptions, fps: Fraction
    ) -> _Path:
        """The gliding windows of a face; none where there are no observations because frames are the face."""
        if not observations:
            return cls(observations, ())
        squares = [observation.square if observation else None for observation in observations]
        glided = gliding(squares, cuts, fps)
        found = observations.found
        starts = tuple(int(found[: part.start].sum()) for part in stretches(found, cuts))
        before = torch.from_numpy(np.stack([corners(square) for square in squares if square]))
        after = torch.from_numpy(np.stack([corners(square) for square in glided])[found])
        windows = [window_of(square, options) for square in glided]
        return cls(observations, windows, starts, (jitter(before, starts), jitter(after, starts)))

    def rows(self, shown: int) -> NDArray[np.int64]:
        """Each frame's row of a motion that has one for each of the `shown` frames that show the face."""
        if not self.observations:
            return np.arange(shown)
        return np.maximum(np.cumsum(self.observations.found) - 1, 0)


def _measure(run: Run, footage: Footage, paths: Sequence[_Path]) -> list[Motion]:
    """The motion of every face in the frames that show it, told with one identity; on the CPU."""
    parts: list[list[Motion]] = [[] for _ in paths]
    done = 0
    with footage.open() as frames:
        for group in batches(frames, run.batch):
            with run.clock.step("motion"):
                for own, path in zip(parts, paths, strict=True):
                    own += _measured(run, group, path, done)
            done += len(group)
            run.progress(MEASURE, done, footage.reader.info.frame_count)
    motions = [Motion(*(torch.cat(each) for each in zip(*own, strict=True))) for own in parts]
    groups = groups_for(run.engine.variant)
    return [
        fix_canonical(motion, motion._replace(canonical=motion.canonical.mean(0, keepdim=True)), groups)
        for motion in motions
    ]


def _measured(run: Run, frames: Sequence[Image], path: _Path, start: int) -> list[Motion]:
    """The motion in those of some consecutive frames that show the face; [] where none does."""
    seen, windows = None, []
    if path.observations:
        here = [(row, s) for row in range(len(frames)) if (s := path.observations[start + row])]
        if not here:
            return []
        frames = [frames[row] for row, _ in here]
        windows = [path.windows[start + row] for row, _ in here]
        seen = joined([observation.keypoints for _, observation in here])
    motion = extract_motion(run.engine, _tiles(run, frames, windows), seen, windows)
    return [Motion(*(part.cpu() for part in motion))]


def _tiles(run: Run, frames: Sequence[Image], windows: Sequence[CropWindow]) -> NDArray[np.uint8]:
    """The crops (b,S,S,3) of frames; the whole frames without windows."""
    variant = run.engine.variant
    if not windows:
        return np.stack([to_input(frame, variant.input_size) for frame in frames])
    return np.stack([cut(frame, window, variant) for frame, window in zip(frames, windows, strict=True)])
