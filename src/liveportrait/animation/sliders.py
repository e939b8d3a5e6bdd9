"""Sliders as the poser of a face."""

from __future__ import annotations

import torch
from torch import Tensor

from liveportrait.animation.edit_options import Sliders, check_slider
from liveportrait.animation.options import SourceOptions
from liveportrait.animation.pipeline import Cue
from liveportrait.animation.session import Session
from liveportrait.animation.source.base import FaceView
from liveportrait.animation.source.photo import open_photo
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.motion import groups_for
from liveportrait.motion.editing import copy_expression, edit
from liveportrait.motion.keyframes import read_keyframes
from liveportrait.motion.retargeting import Ratios, retarget, widen_lip_gap
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Motion, Pose

OPENING_LIPS = {"lips", "lip_opening"}  # sliders


class SliderPoser:
    """Poses a face as sliders and keyframes ask for. Nothing changes after construction."""

    def __init__(self, session: Session, sliders: Sliders) -> None:
        """Raises `UserError` where the keyframes, or the picture to take the expression from, do not serve."""
        self._engine: Engine = session.engine
        self._sliders = sliders
        self._keyframes = read_keyframes(sliders.keyframes, check_slider) if sliders.keyframes else None
        self._copied: Motion | None = None
        if sliders.expression_from is not None:
            portrait = open_photo(session, sliders.expression_from, SourceOptions())
            self._copied = portrait.faces[0].still.motion

    def at(self, time: float) -> dict[str, float]:
        """The sliders that are not at rest at a time (s); keyframes take the place of the options' own values."""
        own = self._sliders.moved()
        if self._copied is not None:
            own.setdefault("copy", self._sliders.copy)
        return own | (self._keyframes.at(time) if self._keyframes else {})

    def poses(self, view: FaceView, cue: Cue) -> Pose:
        """The poses (batch b) of a face in b frames, edited as at their times, stitched where the weights can.

        Raises `UserError` where an opening is asked for and the face's own is not known.
        """
        engine, groups = self._engine, groups_for(self._engine.variant)
        motion = view.motion.expand(len(cue.times))
        sliders = [self.at(time) for time in cue.times]
        values = {name: motion.scale.new_tensor([each[name] for each in sliders]) for name in sliders[0]}
        source = pose_of(motion)
        if self._copied is not None:
            motion = copy_expression(motion, self._copied, values["copy"], groups)
        pose = pose_of(edit(motion, values, groups))
        wanted = _wanted_openings(values, len(cue.times)).to(motion.scale)
        if not wanted.isnan().all():
            if view.ratios is None:
                raise UserError(
                    "openings of eyes and lips need the face of SOURCE to be found: leave out --no-crop, or the"
                    " openings"
                )
            pose = retarget(engine, pose, source, Ratios(view.ratios), wanted)
        if values.keys() & OPENING_LIPS:
            pose = widen_lip_gap(pose, source, groups)
        if self._sliders.stitching and engine.can_stitch:
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
