"""Transfers a driver's motion to a face as the published program does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from liveportrait import motion as motions
from liveportrait.animation.driver.base import Driver, DrivingBatch, Start
from liveportrait.animation.driver.template import TemplateDriver
from liveportrait.animation.driver.video import VideoDriver
from liveportrait.animation.option_checks import OptionGroup
from liveportrait.animation.options import RetargetOptions, TransferOptions
from liveportrait.animation.pipeline import Cue
from liveportrait.animation.posers import MotionTransfer
from liveportrait.animation.session import Session
from liveportrait.animation.source.base import FaceView, Source, SourceFace
from liveportrait.animation.source.video import VideoFace
from liveportrait.choices import Opening
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.motion.retargeting import LIPS_OPEN, OPENED, SHUT
from liveportrait.motion.smoothing import StreamSmoother
from liveportrait.networks.interface import Motion, Pose

OBSERVATION_VARIANCE = 3e-7  # of the smoothing of source videos


class PublishedTransfer(MotionTransfer):
    """Transfers one driver's motion to one face of a source, in the published program's order."""

    def __init__(
        self,
        engine: Engine,
        face: SourceFace,
        start: Start,
        is_photo: bool,
        options: TransferOptions,
        smoothed: Smoothed | None = None,
    ) -> None:
        """`smoothed`: of the face in a source video, if its driver moves."""
        super().__init__(engine, face, start, is_photo, _for_face(options, face))
        self._smoothed = smoothed
        self._eyes: Tensor | None = None  # () opening that a source video's eyes start from
        if (
            self._options.retarget.normalize_eyes
            and self._is_relative
            and not face.still
            and face.openings is not None
        ):
            first = face.openings[0, :2].mean()
            self._eyes = first if first >= SHUT else torch.full_like(first, OPENED)

    def _moved(self, view: FaceView, cue: Cue) -> Motion:
        if self._smoothed is None:
            return super()._moved(view, cue)
        known, source = self._smoothed.at(cue.times).to(view.motion.scale), view.motion
        region, groups = self._options.region, self._groups
        if not self._is_relative:
            return motions.absolute(source, known, region, groups)
        rotation = known.rotation if region in ("all", "pose") else source.rotation
        moved = source._replace(rotation=rotation, expression=known.expression)
        return motions.in_place(moved, source, region, groups)

    def _corrected(self, pose: Pose, home: Pose, source: Tensor | None, driving: DrivingBatch) -> Pose:
        """Openings start from the source's keypoints; closed lips and open eyes come after stitching."""
        options, engine = self._options.retarget, self._engine
        eyes, _, lips = options.wanted
        if options.changes and source is None:
            raise ValueError("openings are requested, but those of the face are not known")
        keypoints = pose.keypoints
        if source is not None and (eyes is not None or lips is not None):
            keypoints = home.keypoints.expand_as(keypoints) if self._is_relative else keypoints
            count = len(keypoints)
            if eyes is not None:
                ratios = _joined(source[:, :2], eyes, driving.ratios, 0, count)
                keypoints = keypoints + engine.retarget_eyes(home.keypoints, ratios)
            if lips is not None:
                ratios = _joined(source[:, 2:], lips, driving.ratios, 2, count)
                keypoints = keypoints + engine.retarget_lips(home.keypoints, ratios)
            pose = pose._replace(keypoints=keypoints)
            return engine.stitched(home, pose) if self.stitches else pose
        if self.stitches:
            pose = engine.stitched(home, pose)
        if source is not None and options.normalize_lips and self._is_relative:
            open_lips = source[:, 2:]
            closing = engine.retarget_lips(home.keypoints, torch.cat([open_lips, 0 * open_lips], dim=1))
            closing = torch.where(open_lips[..., None] >= LIPS_OPEN, closing, 0.0)
            pose = pose._replace(keypoints=pose.keypoints + closing)
        if source is not None and self._eyes is not None:
            own = source[:, :2]
            wanted = self._eyes.to(own).expand(len(own), 1)
            opening = engine.retarget_eyes(home.keypoints, torch.cat([own, wanted], dim=1))
            pose = pose._replace(keypoints=pose.keypoints + opening)
        return pose


class Smoothed:
    """The motion of a face in a source video, smoothed over all of its frames."""

    def __init__(
        self, driver: Motion, start: Motion, face: VideoFace, fps: Fraction, is_relative: bool
    ) -> None:
        """`driver` and the face frame by frame at the source's rate `fps`; the shorter one determines the length.

        `start` is the driver's reference, one or one per frame.

        Relative motion smooths R_i R_rᵀ R_source and δ_source + δ_i − δ_r, absolute motion the driver's R_i and δ_i,
        each number independently, so that the results are not exactly rotations.
        """
        count = min(driver.batch, len(face.rows))
        motion = driver.rows(slice(count)).to("cpu")
        if is_relative:
            source, start = face.motion.rows(face.rows[:count]), start.expand(driver.batch).to("cpu")
            start = start.rows(slice(count))
            rotation = motion.rotation @ start.rotation.transpose(1, 2) @ source.rotation
            expression = source.expression + motion.expression - start.expression
            motion = motion._replace(rotation=rotation, expression=expression)
        self._fps = fps
        self._motion = motion._replace(
            rotation=_smooth(motion.rotation), expression=_smooth(motion.expression)
        )

    def at(self, times: Sequence[float]) -> Motion:
        """The motion in the frames at these times, s."""
        return self._motion.rows([round(time * self._fps) for time in times])


def transfer(
    engine: Engine, source: Source, face: SourceFace, driver: Driver, place: int, options: TransferOptions
) -> PublishedTransfer:
    """The transfer from a driver, see `frame_by_frame`, to a face, which is number `place` among those it moves."""
    start, smoothed = driver.start(place), None
    if isinstance(face, VideoFace) and source.fps and not driver.is_photo:
        motion = known_motion(driver)
        scenes = np.searchsorted(np.array(driver.cuts), np.arange(motion.batch), side="right")
        first = start.of(torch.from_numpy(scenes)).motion
        smoothed = Smoothed(motion, first, face, source.fps, options.motion == "relative")
    return PublishedTransfer(engine, face, start, driver.is_photo, options, smoothed)


def require_layout(engine: Engine, options: OptionGroup) -> None:
    """Raise `UserError` if the published program's ways are requested with weights of another layout."""
    if options.as_published and motions.groups_for(engine.variant) != motions.PUBLISHED:
        raise UserError(
            "--as-published does what the published program does with its own weights, and these have other keypoints:"
            " add --weights base-human, or leave it out"
        )


def frame_by_frame(session: Session, driver: Driver, fps: Fraction, pictures: bool) -> Driver:
    """The driver for a source video at rate `fps`: matched frame by frame, whatever its own rate, and read in advance.

    `pictures`: its crops will be shown.
    """
    if isinstance(driver, VideoDriver) and driver.whole is None:
        parts = [replace(batch, crops=(None,) * len(batch)) for batch in driver.play(session)]
        driver = replace(driver, whole=DrivingBatch.cat(parts), has_pictures=pictures)
    return driver if driver.is_photo else replace(driver, fps=fps)


def known_motion(driver: Driver) -> Motion:
    """The entire motion of a driver that `frame_by_frame` returned."""
    if not isinstance(driver, VideoDriver | TemplateDriver) or driver.whole is None:
        raise TypeError(f"{driver.name} has not been played")
    return driver.whole.motion


def _for_face(options: TransferOptions, face: SourceFace) -> TransferOptions:
    """Animals use absolute motion, starting from where they are. For people the driving option has no effect."""
    if face.is_animal:
        return replace(options, motion="absolute", region="all", retarget=RetargetOptions())
    return replace(options, driving_option="pose-friendly")


def _joined(own: Tensor, wanted: Opening, driving: Tensor | None, column: int, count: int) -> Tensor:
    """The source's ratios (1 or B,·) with the target ratio appended, (B,·+1)."""
    own = own.expand(count, -1)
    if wanted is None or wanted == "driver":
        if driving is None:
            raise ValueError("the driver's openings are requested, but not known")
        return torch.cat([own, driving[:, column : column + 1]], dim=1)
    return torch.cat([own, own.new_full((count, 1), wanted)], dim=1)


def _smooth(series: Tensor) -> Tensor:
    """A series (N,...) smoothed over all of its rows."""
    smoother = StreamSmoother(OBSERVATION_VARIANCE, lag=len(series))
    rows = series.flatten(1).double()
    return torch.cat([smoother.push(rows), smoother.flush()]).reshape(series.shape).to(series)
