"""The two ways to pose a face: by motion transferred from a driver, and by sliders."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from liveportrait import motion as motions
from liveportrait.animation.driver.base import Driver, DrivingBatch, Start
from liveportrait.animation.edit_options import Sliders, check_slider
from liveportrait.animation.options import SourceOptions, TransferOptions
from liveportrait.animation.pipeline import Cue
from liveportrait.animation.session import Session
from liveportrait.animation.source.base import FaceView, SourceFace
from liveportrait.animation.source.photo import open_photo
from liveportrait.engine import Engine
from liveportrait.motion import groups_for
from liveportrait.motion.editing import copy_expression, edit
from liveportrait.motion.expression import Change, OwnExpression
from liveportrait.motion.keyframes import read_keyframes
from liveportrait.motion.retargeting import Ratios, retarget, usual_eyes, widen_lip_gap
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Motion, Pose


class MotionTransfer:
    """Transfers one driver's motion to one face of a source. Immutable after construction."""

    def __init__(
        self, engine: Engine, face: SourceFace, start: Start, is_photo: bool, options: TransferOptions
    ) -> None:
        """`start`: what relative motion starts from; `is_photo`: whether the driver is a photo."""
        self._engine, self._start, self._is_photo, self._options = engine, start, is_photo, options
        groups = motions.groups_for(engine.variant)
        self._groups = groups.of_animals if face.is_animal else groups
        self._is_relative = options.motion == "relative"
        still = face.still.motion if face.still else None
        first = start.motion.rows([0])
        self._gains = face.animal.gains(first).to(first.expression) if face.animal else None
        self._own = self._own_expression(face, start)
        self.stitches = options.stitching and engine.can_stitch
        self._is_still = still is not None
        self._usual_eyes: Tensor | None = None
        if options.retarget.normalize_eyes and self._is_relative and face.openings is not None:
            self._usual_eyes = usual_eyes(face.openings).to(engine.device)
        self._first: tuple[Pose, float] | None = None  # for expression-friendly: poses and size at the start
        if (
            still
            and not self._is_relative
            and not is_photo
            and options.driving_option == "expression-friendly"
        ):
            pose = pose_of(self._transferred(start.motion, start.motion, still))
            self._first = pose, motions.size_ratio(pose_of(still), pose.rows([0]))

    @classmethod
    def of(
        cls, engine: Engine, face: SourceFace, driver: Driver, place: int, options: TransferOptions
    ) -> MotionTransfer:
        """The transfer from a driver to a face, which is number `place` among those it moves."""
        return cls(engine, face, driver.start(place), driver.is_photo, options)

    @property
    def moves_mouth(self) -> bool:
        """Whether the mouth follows the driver's."""
        return self._options.region in MOUTH_REGIONS and self._options.mouth in _FOLLOWING

    @property
    def adapts_expressions(self) -> bool:
        """Whether the driver's expressions are adapted to the face."""
        return self._own is not None

    def poses(self, view: FaceView, cue: Cue) -> Pose:
        """The source's poses (B) for the driving motions (B) of a cue.

        If openings are requested, the face's own must be known. Raises `UserError` if the driver's openings are
        requested and were not measured.
        """
        if cue.driving is None:
            raise ValueError("a face that follows a driver needs the driver's motion")
        home = pose_of(view.motion)
        pose = self._own_pose(self._own, cue.driving) if self._own else self._plain_pose(view, cue)
        if self._first:
            first, ratio = self._first
            if cue.driving.scenes is not None and first.batch > 1:
                first = first.rows(cue.driving.scenes)
            pose = motions.expression_friendly(home, pose, first, ratio)
        pose = self._corrected(pose, home, view.ratios, cue.driving)
        return motions.amplify(home, pose, self._options.multiplier)

    def _own_expression(self, face: SourceFace, start: Start) -> OwnExpression | None:
        """The adaptation of the driver's expressions to the face; None if plain differences are used."""
        options, view, shape = self._options, face.still, face.shape
        if not self._is_relative or self._is_photo or options.expression == "landmarks":
            return None
        if view is None or view.ratios is None or shape is None or shape.is_of(start.identity):
            return None
        mask = self._groups.relative_mask(options.region)
        if options.mouth in ("own", "silent"):
            mask = mask & ~self._groups.mouth_mask()
        mask = mask.to(view.motion.scale.device)
        strength = options.expression_strength
        return OwnExpression(self._engine, shape, view.motion, view.ratios[:, 2], mask, strength)

    def _own_pose(self, own: OwnExpression, driving: DrivingBatch) -> Pose:
        """Poses with expressions adapted to the face; what is added to the driver's is smoothed over time."""
        around = driving.around
        moved, change = self._changed(own, around.frames if around else driving)
        added = own.addition(change)
        if around:
            rows = torch.tensor(around.own, device=moved.scale.device)
            moved, change, added = moved.rows(rows), change.rows(rows), added.smoothed(around.weights)
        base = self._base(own.source).expression
        expression = base + (change.expression + added.expression) @ moved.rotation
        moved = self._with_mouth(moved._replace(expression=expression), own.source)
        return own.posed(pose_of(moved), change, added)

    def _changed(self, own: OwnExpression, driving: DrivingBatch) -> tuple[Motion, Change]:
        """The motion by plain differences, and the change of the face that it causes, at the requested strength."""
        start, strength = self._start.of(driving.scenes), own.strength
        moved = self._transferred(driving.motion, start.motion, own.source)
        expression = strength * (moved.expression - own.source.expression) @ moved.rotation.transpose(1, 2)
        lips = scores = None
        if driving.ratios is not None and start.ratios is not None and self.moves_mouth:
            lips = strength * (driving.ratios - start.ratios)[:, 2]
        if driving.scores is not None and start.scores is not None:
            scores = driving.scores - start.scores
        return moved, Change(expression, lips, scores)

    def _plain_pose(self, view: FaceView, cue: Cue) -> Pose:
        view = replace(view, motion=self._base(view.motion, view.usual))
        moved = self._locked(self._moved(view, cue), view.motion)
        if self._is_relative and self._options.expression_strength != 1:
            change = self._options.expression_strength * (moved.expression - view.motion.expression)
            moved = moved._replace(expression=view.motion.expression + change)
        return pose_of(self._with_mouth(moved, view.motion))

    def _base(self, source: Motion, usual: Tensor | None = None) -> Motion:
        """The motion to which the driver's change is added: the source's, possibly with its mouth (nearly) at rest."""
        if self._options.mouth == "speak":
            return motions.smiling_mouth(source, usual, self._groups)
        if self._options.mouth == "replace":
            return motions.with_mouth(source, source, True, self._groups)
        return source

    def _with_mouth(self, moved: Motion, source: Motion) -> Motion:
        """The motion with the mouth as the options ask for."""
        if self._options.mouth in _FOLLOWING:
            return moved
        return motions.with_mouth(moved, source, self._options.mouth == "silent", self._groups)

    def _moved(self, view: FaceView, cue: Cue) -> Motion:
        """The source's motion by plain differences in the frames of a cue, before locking anything."""
        if cue.driving is None:
            raise ValueError("a face that follows a driver needs the driver's motion")
        start = self._start.of(cue.driving.scenes)
        return self._followed(cue.driving.motion, start.motion, view.motion)

    def _transferred(self, driving: Motion, start: Motion, source: Motion) -> Motion:
        """The source moved by a driver's motion (batch B) since its start (batch 1 or B)."""
        return self._locked(self._followed(driving, start, source), source)

    def _followed(self, driving: Motion, start: Motion, source: Motion) -> Motion:
        options, region, groups = self._options, self._options.region, self._groups
        if options.motion == "absolute":
            moved = motions.absolute(source, self._scaled(driving), region, groups)
        elif self._is_photo:
            moved = motions.relative_from_photo(source, self._scaled(driving), region, groups, self._is_still)
            if options.photo_pose and region in ("all", "pose"):
                moved = motions.take_pose(moved, driving, groups)
        else:
            change = motions.change_since(motions.fix_canonical(driving, start, groups), start, groups)
            moved = motions.relative(source, self._scaled(change), region, groups)
        if self._is_relative and not self._is_still:
            moved = motions.in_place(moved, source, region, groups)
        return moved

    def _locked(self, moved: Motion, source: Motion) -> Motion:
        """The motion with the parts locked that the user wants to stay."""
        options = self._options
        if options.lock_scale:
            moved = motions.lock_scale(moved, source, self._groups)
        if options.lock_shoulders:
            moved = motions.lock_shoulders(moved, source, self._groups)
        return motions.lock_head(moved, source) if options.lock_head else moved

    def _scaled(self, motion: Motion) -> Motion:
        """The motion with its expression scaled to an animal's face."""
        if self._gains is None:
            return motion
        return motion._replace(expression=motion.expression * self._gains)

    def _corrected(self, pose: Pose, home: Pose, source: Tensor | None, driving: DrivingBatch) -> Pose:
        """The pose with the requested openings, then stitched; `source` are the face's own openings."""
        if self._options.needs_openings:
            pose = self._retargeted(pose, home, source, driving)
        return self._engine.stitched(home, pose) if self.stitches else pose

    def _retargeted(self, pose: Pose, home: Pose, source: Tensor | None, driving: DrivingBatch) -> Pose:
        options = self._options.retarget
        if source is None:
            raise ValueError("openings are requested, but those of the face are not known")
        is_change = self._is_relative and not self._is_photo
        start = self._start.of(driving.scenes).ratios if is_change else None
        ratios = Ratios(source, driving.ratios, start)
        left, right, lips = options.wanted
        if self._options.mouth == "silent" and lips is None:
            lips = 0.0
        normalize = options.normalize_lips and self._is_relative
        wanted = (left, right, lips)
        return retarget(self._engine, pose, home, ratios, wanted, normalize, self._usual_eyes)


_FOLLOWING = ("follow", "replace", "speak")  # mouth modes in which the mouth follows the driver's
MOUTH_REGIONS = ("all", "expression", "lips")  # regions that include the mouth
OPENINGS = ("eye_opening", "left_eye_opening", "right_eye_opening", "lip_opening")  # sliders


class SliderPoser:
    """Poses a face by sliders and keyframes. Immutable after construction."""

    moves_mouth = False  # there is no driver

    def __init__(self, session: Session, sliders: Sliders, copied: Motion | None = None) -> None:
        """`copied`: the motion (batch 1) to copy the expression from, if it was measured before.

        Raises `UserError` for invalid keyframes, or if there is no face in the picture to copy the expression from.
        """
        self._engine: Engine = session.engine
        self._sliders = sliders
        self._keyframes = read_keyframes(sliders.keyframes, check_slider) if sliders.keyframes else None
        self._copied = copied
        if copied is None and sliders.expression_from is not None:
            portrait = open_photo(session, sliders.expression_from, SourceOptions())
            self._copied = portrait.faces[0].still.motion

    @property
    def sets_openings(self) -> bool:
        """Whether the opening of eyes or lips is set at any time."""
        names = set(self._sliders.moved()).union(self._keyframes.sliders() if self._keyframes else ())
        return any(name in OPENINGS for name in names)

    def at(self, time: float) -> dict[str, float]:
        """The sliders that are not at rest at a time (s); keyframes override the options' own values."""
        own = self._sliders.moved()
        if self._copied is not None:
            own.setdefault("copy", self._sliders.copy)
        return own | (self._keyframes.at(time) if self._keyframes else {})

    def poses(self, view: FaceView, cue: Cue) -> Pose:
        """The poses (batch b) of a face in b frames, edited as of their times, and stitched if the weights can.

        If an opening is requested, the face's own must be known.
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
                raise ValueError("openings are requested, but those of the face are not known")
            pose = retarget(engine, pose, source, Ratios(view.ratios), wanted)
        if "lips" in values and "lip_opening" not in values:
            pose = widen_lip_gap(pose, source, groups)
        if self._sliders.stitching and engine.can_stitch:
            pose = engine.stitched(source, pose)
        return pose


def _wanted_openings(values: dict[str, Tensor], count: int) -> Tensor:
    """The requested openings (count,3); NaN for sliders that are not set."""
    nothing = torch.full((count,), torch.nan)
    both = values.get("eye_opening", nothing)
    columns = [
        values.get("left_eye_opening", both),
        values.get("right_eye_opening", both),
        values.get("lip_opening", nothing),
    ]
    return torch.stack([column.cpu() for column in columns], dim=1)
