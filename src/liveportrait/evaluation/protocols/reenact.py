"""How the evaluation drives a source: as `animate` does by default, on faces that are already cropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from liveportrait.animation.driver.base import DrivingBatch
from liveportrait.animation.driver.base import Start as DrivingStart
from liveportrait.animation.motion_transfer import MotionTransfer
from liveportrait.animation.options import AnimateOptions
from liveportrait.animation.pipeline import Cue
from liveportrait.animation.source.base import FaceView
from liveportrait.animation.source.photo import PhotoFace
from liveportrait.engine import Engine
from liveportrait.evaluation.context import EvalContext
from liveportrait.face import Face
from liveportrait.face.crop import to_input
from liveportrait.face.measures import Look, face_scores, most_similar_frame
from liveportrait.metrics.images import Picture
from liveportrait.motion import SeenHeads, SeenKeypoints, groups_for, motion_from_heads, snap_to_landmarks
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Motion, Pose

BATCH = 8
COMPARED_SIDE = 256  # px: everything is compared at this size, as in the paper (section 4.1)


@dataclass(frozen=True, eq=False)
class Shown:
    """Crops, and the face that was found in each."""

    frames: Picture  # (T,256,256,3)
    faces: Sequence[Face | None]

    @property
    def first(self) -> Shown:
        """The first frame alone."""
        return Shown(self.frames[:1], self.faces[:1])


def motion_of(context: EvalContext, shown: Shown) -> Motion:
    """The motion (batch T) of crops, sources' and drivers' alike: the one place where it is obtained.

    As in `animate`, keypoints that are landmarks lie where the face was found; where none was, or without
    `context.tracks`, M decides.
    """
    engine = context.engine
    frames = network_input(engine, shown.frames)
    parts = [engine.extract_motion(frames[start : start + BATCH]) for start in range(0, len(frames), BATCH)]
    motion = Motion(*(torch.cat(each) for each in zip(*parts, strict=True)))
    found = [row for row, face in enumerate(shown.faces) if face is not None]
    if not found or not context.tracks or not groups_for(engine.variant).keypoints_are_landmarks:
        return motion
    seen = SeenKeypoints.of([face.landmarks for face in shown.faces if face is not None])
    rows = torch.tensor(found, device=engine.device)
    tracked = snap_to_landmarks(Motion(*(part[rows] for part in motion)), seen, shown.frames.shape[1])
    return Motion(*(whole.index_copy(0, rows, part) for whole, part in zip(motion, tracked, strict=True)))


def followed(context: EvalContext, reference: Motion, first: Shown, driver: Shown) -> Motion:
    """The motion (batch T) of a driver that moves from `first`, which has the motion `reference`, as in `animate`.

    Where keypoints are landmarks the tracker measures it, and a frame without a face repeats the one before.
    """
    if (
        not context.tracks
        or not groups_for(context.engine.variant).keypoints_are_landmarks
        or first.faces[0] is None
    ):
        return motion_of(context, driver)
    start = SeenHeads.of([first.faces[0].landmarks])
    found = [face.landmarks for face in driver.faces if face is not None]
    motion = motion_from_heads(
        reference, start, SeenHeads.of(found) if found else start[:0], driver.frames.shape[1]
    )
    rows = torch.tensor([face is not None for face in driver.faces], device=context.engine.device).cumsum(0)
    return Motion(*(torch.cat(parts)[rows] for parts in zip(reference, motion, strict=True)))


@dataclass(frozen=True, eq=False)
class Start:
    """What relative motion starts from: the driver's first frame, and an expression of the driver's."""

    shown: Shown  # that frame
    motion: Motion  # of it
    expression: Tensor  # (1,21,3)

    @classmethod
    def of(cls, context: EvalContext, source: Shown, driver: Shown) -> Start:
        """For a driver (T frames) whose first frame shows its face, as `animate` chooses it."""
        first = driver.first
        motion = motion_of(context, first)
        looks = [
            Look(row, face_scores(context.analyzer, face))
            for row, face in enumerate(driver.faces)
            if face is not None
        ]
        face = source.faces[0]
        row = most_similar_frame(looks, None if face is None else face_scores(context.analyzer, face))
        return cls(first, motion, followed(context, motion, first, driver).expression[row : row + 1])


def reenact(context: EvalContext, source: Shown, start: Start, driver: Shown, stitching: bool) -> Picture:
    """A source (one frame) driven by a driver relative to its start: pictures (T,S,S,3).

    `stitching` takes effect where the weights bring that module.
    """
    engine = context.engine
    motion, reference = motion_of(context, source), start.motion._replace(expression=start.expression)
    driving = followed(context, start.motion, start.shown, driver)
    features, source_pose = engine.encode_appearance(network_input(engine, source.frames)), pose_of(motion)
    options = AnimateOptions(stitching=stitching)
    view = FaceView(features, motion, None, network_input(engine, source.frames), ())
    transfer = MotionTransfer(engine, PhotoFace(view), DrivingStart(reference), False, options)
    cue = Cue([], DrivingBatch(driving, None, (None,) * driving.batch))
    poses = transfer.poses(view, cue)
    rendered = [
        engine.render(features, source_pose, Pose(*(part[start : start + BATCH] for part in poses)))
        for start in range(0, len(driver.frames), BATCH)
    ]
    return np.concatenate(rendered)


def compared(pictures: Picture) -> Picture:
    """Pictures (T,S,S,3) at the size at which they are compared, (T,256,256,3)."""
    return np.stack([to_input(picture, COMPARED_SIDE) for picture in pictures])


def network_input(engine: Engine, pictures: Picture) -> Picture:
    """Pictures (T,S,S,3) at the size that the networks take."""
    return np.stack([to_input(picture, engine.variant.input_size) for picture in pictures])
