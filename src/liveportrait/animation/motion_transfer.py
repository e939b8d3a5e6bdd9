"""From the driver's motion to the source's poses: transfer, locks, driving option, openings, stitching, multiplier."""

from __future__ import annotations

from torch import Tensor

from liveportrait import motion as motions
from liveportrait.animation.driver.base import Driver, Start
from liveportrait.animation.options import TransferOptions
from liveportrait.animation.pipeline import Cue
from liveportrait.animation.source.base import FaceView, SourceFace
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.motion.retargeting import Ratios, retarget, widen_lip_gap
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Motion, Pose


class MotionTransfer:
    """One face of a source that follows one driver. Nothing changes after construction."""

    def __init__(
        self, engine: Engine, face: SourceFace, start: Start, is_photo: bool, options: TransferOptions
    ) -> None:
        """`start`: what relative motion starts from; `is_photo`: whether the driver is one."""
        self._engine, self._start, self._is_photo, self._options = engine, start, is_photo, options
        self._groups = motions.groups_for(engine.variant)
        self._is_relative = options.motion == "relative"
        still = face.still.motion if face.still else None
        self._gains = face.animal.gains(start.motion).to(start.motion.expression) if face.animal else None
        self.stitches = options.stitching and engine.can_stitch
        self._is_still = still is not None
        self._first: tuple[Pose, float] | None = None  # with expression-friendly: pose and size at the start
        if (
            still
            and not self._is_relative
            and not is_photo
            and options.driving_option == "expression-friendly"
        ):
            pose = pose_of(self._transferred(start.motion, still))
            self._first = pose, motions.size_ratio(pose_of(still), pose)

    @classmethod
    def of(
        cls, engine: Engine, face: SourceFace, driver: Driver, place: int, options: TransferOptions
    ) -> MotionTransfer:
        """The transfer from a driver to the face of that place among those it moves."""
        return cls(engine, face, driver.start(place), driver.is_photo, options)

    def poses(self, view: FaceView, cue: Cue) -> Pose:
        """The source's poses (B) for the driving motions (B) of a cue.

        Raises `UserError` where openings are asked for and nobody measured them.
        """
        if cue.driving is None:
            raise ValueError("a face that follows a driver needs the driver's motion")
        home = pose_of(view.motion)
        pose = pose_of(self._transferred(cue.driving.motion, view.motion))
        if self._first:
            pose = motions.expression_friendly(home, pose, *self._first)
        if self._options.retarget.changes:
            pose = self._retargeted(pose, home, view.ratios, cue.driving.ratios)
        if self.stitches:
            pose = self._engine.stitched(home, pose)
        return motions.amplify(home, pose, self._options.multiplier)

    def _transferred(self, driving: Motion, source: Motion) -> Motion:
        options, region, groups = self._options, self._options.region, self._groups
        if options.motion == "absolute":
            moved = motions.absolute(source, self._scaled(driving), region, groups)
        elif self._is_photo:
            moved = motions.relative_from_photo(source, self._scaled(driving), region, groups)
            if options.photo_pose and region in ("all", "pose"):
                moved = motions.take_pose(moved, driving)
        else:
            start = self._start.motion
            change = motions.change_since(motions.fix_canonical(driving, start, groups), start)
            moved = motions.relative(source, self._scaled(change), region, groups)
        if self._is_relative and not self._is_still:
            moved = motions.in_place(moved, source, region, groups)
        if options.lock_scale:
            moved = motions.lock_scale(moved, source)
        if options.lock_shoulders:
            moved = motions.lock_shoulders(moved, source)
        return motions.lock_head(moved, source) if options.lock_head else moved

    def _scaled(self, motion: Motion) -> Motion:
        """The motion with its expression scaled to an animal's face."""
        if self._gains is None:
            return motion
        return motion._replace(expression=motion.expression * self._gains)

    def _retargeted(self, pose: Pose, home: Pose, source: Tensor | None, driving: Tensor | None) -> Pose:
        options = self._options.retarget
        if source is None:
            raise UserError(
                "openings of eyes and lips need the face of SOURCE to be found: leave out --no-crop, or the openings"
            )
        start = self._start.ratios if self._is_relative and not self._is_photo else None
        ratios = Ratios(source, driving, start)
        normalize = options.normalize_lips and self._is_relative
        pose = retarget(self._engine, pose, home, ratios, options.wanted, normalize)
        return pose if options.wanted[2] is None else widen_lip_gap(pose, home, self._groups)
