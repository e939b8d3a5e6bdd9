"""From the driver's motion to the source's poses: transfer, driving option, stitching, multiplier."""

from __future__ import annotations

from liveportrait import motion as motions
from liveportrait.animation.options import AnimateOptions
from liveportrait.engine import Engine
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Motion, Pose


class Steering:
    """One source steered by one driver. `first` is the driver's reference: its first motion (batch 1)."""

    def __init__(
        self, engine: Engine, source: Motion, first: Motion, is_photo: bool, options: AnimateOptions
    ) -> None:
        self._engine = engine
        self._source = source
        self._source_pose = pose_of(source)
        self._first = first
        self._is_photo = is_photo
        self._options = options
        self._groups = motions.groups_for(engine.variant)
        self.stitches = options.stitching and engine.can_stitch
        self._rebases = (
            options.motion == "absolute" and options.driving_option == "expression-friendly" and not is_photo
        )
        if self._rebases:
            self._first_pose = pose_of(self._transfer(first))
            self._ratio = motions.size_ratio(self._source_pose, self._first_pose)

    def poses(self, driving: Motion) -> Pose:
        """The source's poses (B) for driving motions (B)."""
        pose = pose_of(self._transfer(driving))
        if self._rebases:
            pose = motions.expression_friendly(self._source_pose, pose, self._first_pose, self._ratio)
        if self.stitches:
            pose = pose._replace(keypoints=self._engine.stitch(self._source_pose.keypoints, pose.keypoints))
        return motions.amplify(self._source_pose, pose, self._options.multiplier)

    def _transfer(self, driving: Motion) -> Motion:
        region = self._options.region
        if self._options.motion == "absolute":
            return motions.absolute(self._source, driving, region, self._groups)
        if self._is_photo:
            return motions.relative_from_photo(self._source, driving, region, self._groups)
        change = motions.change_since(motions.steady(driving, self._first, self._groups), self._first)
        return motions.relative(self._source, change, region, self._groups)
