"""From the driver's motion to the source's poses: transfer, locks, driving option, openings, stitching, multiplier."""

from __future__ import annotations

from torch import Tensor

from liveportrait import motion as motions
from liveportrait.animation.options import AnimateOptions
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.motion.animals import AnimalMotion
from liveportrait.motion.retargeting import Ratios, retarget, widen_lip_gap
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Motion, Pose


class Steering:
    """One face of a source steered by one driver.

    `source` is the face of a photo (batch 1), or None where the source moves by itself; `first` is the driver's
    reference: the motion that relative motion starts from (batch 1).
    """

    def __init__(
        self,
        engine: Engine,
        source: Motion | None,
        first: Motion,
        is_photo: bool,
        options: AnimateOptions,
        first_openings: Tensor | None = None,
        animal: AnimalMotion | None = None,
    ) -> None:
        """`is_photo` says so of the driver; `first_openings` (1,3) are the reference's, where they are known.

        `animal`: where the source is one, what expressions are scaled to.
        """
        self._engine = engine
        self._source = source
        self._first = first
        self._is_photo = is_photo
        self._options = options
        self._relative = options.motion == "relative"
        self._first_openings = first_openings if self._relative and not is_photo else None
        self._gains = animal.gains(first).to(first.expression) if animal else None
        self._groups = motions.groups_for(engine.variant)
        self.stitches = options.stitching and engine.can_stitch
        self._rebases = (
            options.motion == "absolute"
            and options.driving_option == "expression-friendly"
            and not is_photo
            and source is not None
        )
        if self._rebases and source is not None:
            self._first_pose = pose_of(self._transfer(first, source))
            self._ratio = motions.size_ratio(pose_of(source), self._first_pose)

    def poses(
        self,
        driving: Motion,
        source: Motion | None = None,
        source_openings: Tensor | None = None,
        driving_openings: Tensor | None = None,
    ) -> Pose:
        """The source's poses (B) for driving motions (B).

        `source`: its own motions (B) where it moves by itself. Openings (B or 1, 3) are those of left eye, right
        eye and lips, where somebody measured them. Raises `UserError` where they are asked for and nobody did.
        """
        source = self._source or source
        if source is None:
            raise ValueError("a source that moves by itself must be given with every call")
        home = pose_of(source)
        pose = pose_of(self._transfer(driving, source))
        if self._rebases:
            pose = motions.expression_friendly(home, pose, self._first_pose, self._ratio)
        if self._options.retarget.changes:
            pose = self._retargeted(pose, home, source_openings, driving_openings)
        if self.stitches:
            pose = self._engine.stitched(home, pose)
        return motions.amplify(home, pose, self._options.multiplier)

    def _transfer(self, driving: Motion, source: Motion) -> Motion:
        options, region, groups = self._options, self._options.region, self._groups
        if options.motion == "absolute":
            moved = motions.absolute(source, self._scaled(driving), region, groups)
        elif self._is_photo:
            moved = motions.relative_from_photo(source, self._scaled(driving), region, groups)
            if options.photo_pose and region in ("all", "pose"):
                moved = motions.take_pose(moved, driving)
        else:
            change = motions.change_since(motions.fix_canonical(driving, self._first, groups), self._first)
            moved = motions.relative(source, self._scaled(change), region, groups)
        if self._source is None and self._relative:
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

    def _retargeted(
        self, pose: Pose, home: Pose, source_openings: Tensor | None, driving_openings: Tensor | None
    ) -> Pose:
        options = self._options.retarget
        if source_openings is None:
            raise UserError(
                "openings of eyes and lips need the face of SOURCE to be found: leave out --no-crop, or the openings"
            )
        openings = Ratios(source_openings, driving_openings, self._first_openings)
        normalize = options.normalize_lips and self._relative
        pose = retarget(self._engine, pose, home, openings, options.wanted, normalize)
        return pose if options.wanted[2] is None else widen_lip_gap(pose, home, self._groups)
