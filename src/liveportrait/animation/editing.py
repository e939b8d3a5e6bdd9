"""The edit itself: sliders turned into the poses of a face, frame by frame, and rendered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.animation.edit_options import EditOptions
from liveportrait.animation.options import AnimateOptions
from liveportrait.animation.run import Run
from liveportrait.animation.source import View, open_photo
from liveportrait.errors import UserError
from liveportrait.face.choice import FaceChoice
from liveportrait.motion import groups_for
from liveportrait.motion.editing import copy_expression, edit
from liveportrait.motion.keyframes import Keyframes
from liveportrait.motion.retargeting import Ratios, retarget, widen_lip_gap
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Motion, Pose

OPENING_LIPS = {"lips", "lip_opening"}  # sliders


class Editor:
    """What options and keyframes ask for. Nothing changes after construction.

    Raises `UserError` where the picture to take the expression from shows no face.
    """

    def __init__(self, run: Run, options: EditOptions, keyframes: Keyframes | None = None) -> None:
        self._run = run
        self._options = options
        self._keyframes = keyframes
        self._copied: Motion | None = None
        if options.expression_from is not None:
            choice = FaceChoice.parse("largest")
            portrait = open_photo(run, options.expression_from, AnimateOptions(), choice)
            self._copied = portrait.faces[0].view(run, [0], []).motion

    def at(self, time: float) -> dict[str, float]:
        """The sliders that are not at rest at a time (s); keyframes take the place of the options' own values."""
        own = self._options.sliders()
        if self._copied is not None:
            own.setdefault("copy", self._options.copy)
        return own | (self._keyframes.at(time) if self._keyframes else {})

    def render(self, view: View, times: Sequence[float]) -> NDArray[np.uint8]:
        """The crops (b,S,S,3) of a face in b frames, edited as at their times (s)."""
        with self._run.clock.step("render"):
            poses = self.poses(view, times)
            return self._run.engine.render(view.features, pose_of(view.motion), poses)

    def poses(self, view: View, times: Sequence[float]) -> Pose:
        """The poses (batch b) of a face in b frames, edited as at their times (s), stitched where the weights can.

        Raises `UserError` where an opening is asked for and the face's own is not known.
        """
        engine, groups = self._run.engine, groups_for(self._run.engine.variant)
        motion = Motion(*(part.expand(len(times), *part.shape[1:]) for part in view.motion))
        sliders = [self.at(time) for time in times]
        values = {name: motion.scale.new_tensor([s[name] for s in sliders]) for name in sliders[0]}
        source = pose_of(motion)
        if self._copied is not None:
            motion = copy_expression(motion, self._copied, values["copy"], groups)
        pose = pose_of(edit(motion, values, groups))
        wanted = _wanted_openings(values, len(times)).to(motion.scale)
        if not wanted.isnan().all():
            if view.openings is None:
                raise UserError(
                    "openings of eyes and lips need the face of SOURCE to be found: leave out --no-crop, or the"
                    " openings"
                )
            pose = retarget(engine, pose, source, Ratios(view.openings), wanted)
        if values.keys() & OPENING_LIPS:
            pose = widen_lip_gap(pose, source, groups)
        if self._options.stitching and engine.can_stitch:
            pose = engine.stitched(source, pose)
        return pose


def _wanted_openings(values: dict[str, Tensor], count: int) -> Tensor:
    """The openings (count,3) asked for; NaN where there is no such slider."""
    nothing = torch.full((count,), torch.nan)
    both = values.get("eye_opening", nothing)
    columns = [
        values.get("left_eye_opening", both),
        values.get("right_eye_opening", both),
        values.get("lip_opening", nothing),
    ]
    return torch.stack([column.cpu() for column in columns], dim=1)
