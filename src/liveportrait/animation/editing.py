"""One face in one picture, ready to be edited, and the edit itself: what photos and videos have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from liveportrait.animation.edit_options import EditOptions
from liveportrait.animation.extraction import extract_motion
from liveportrait.animation.run import Run
from liveportrait.errors import UserError
from liveportrait.face import Face
from liveportrait.face.crop import CropWindow, crop, source_window, to_input
from liveportrait.face.ratios import eye_ratios, lip_ratio
from liveportrait.media import load_image
from liveportrait.motion import SeenKeypoints, groups_for
from liveportrait.motion.editing import copy_expression, edit
from liveportrait.motion.retargeting import Openings, retarget
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Features, Motion, Pose

Image = NDArray[np.uint8]
_OPENINGS = ("left_eye_opening", "right_eye_opening", "lip_opening")


@dataclass(frozen=True, eq=False)
class EditableFace:
    """A face as the networks know it."""

    tile: Image  # (S,S,3) RGB, what F and M saw
    window: CropWindow | None  # where it lies in the picture; None when that was taken as it is
    features: Features
    motion: Motion  # batch 1
    openings: torch.Tensor | None  # (1,3) of left eye, right eye and lips; None where no landmarks were found


def editable_face(run: Run, image: Image, face: Face | None, options: EditOptions) -> EditableFace:
    """Cut a face out of a picture (H,W,3), or take all of it where `face` is None; run F and M on it."""
    variant = run.engine.variant
    window = None
    if face is not None:
        window = source_window(face.landmarks, scale=options.crop_scale, x=options.crop_x, y=options.crop_y)
    tile = crop(image, window, variant.continues_border) if window else image
    tile = to_input(tile, variant.input_size)
    with run.clock.step("motion"):
        seen = SeenKeypoints.of([face.landmarks]) if face else None
        motion = extract_motion(run.engine, tile[None], seen, [window] if window else None)
        features = run.engine.encode_appearance(tile[None])
    return EditableFace(tile, window, features, motion, _openings(run, tile, face))


def expression_of(run: Run, path: Path) -> Motion:
    """The motion of the largest face in a picture, for `copy_expression`. Raises `UserError` where there is none."""
    image = load_image(path)
    with run.clock.step("detect"):
        faces = run.analyzer.detect(image)
    if not faces:
        raise UserError(f"no face found in {path}: take the expression from a picture that shows one")
    return editable_face(run, image, faces[0], EditOptions()).motion


def edited_pose(
    run: Run, face: EditableFace, sliders: Mapping[str, float], options: EditOptions, copied: Motion | None
) -> Pose:
    """The pose of a face with sliders at values (see `EditOptions.sliders`), stitched where the weights can.

    `copied` is the motion whose expression the face takes, if any. Raises `UserError` where an opening is asked for
    and the picture's own is not known.
    """
    engine, groups = run.engine, groups_for(run.engine.variant)
    source = pose_of(face.motion)
    motion = face.motion
    if copied is not None:
        motion = copy_expression(motion, copied, sliders.get("copy", options.copy), groups)
    values = {name: motion.scale.new_tensor([value]) for name, value in sliders.items()}
    pose = pose_of(edit(motion, values, groups))
    left, right, lips = (sliders.get(name) for name in _OPENINGS)
    both = sliders.get("eye_opening")
    wanted = (both if left is None else left, both if right is None else right, lips)
    if any(opening is not None for opening in wanted):
        if face.openings is None:
            raise UserError(
                "how far the eyes and lips are open cannot be measured, since no face was found in the crop:"
                " edit without openings, or use a picture whose face is seen more clearly"
            )
        pose = retarget(engine, pose, source, Openings(face.openings.to(engine.device)), wanted)
    if options.stitching and engine.can_stitch:
        pose = pose._replace(keypoints=engine.stitch(source.keypoints, pose.keypoints))
    return pose


def _openings(run: Run, tile: Image, face: Face | None) -> torch.Tensor | None:
    if face is None:
        found = run.analyzer.detect(tile, smallest=tile.shape[0] / 4)
        if not found:
            return None
        face = found[0]
    ratios = np.concatenate([eye_ratios(face.landmarks), lip_ratio(face.landmarks)])
    return torch.from_numpy(ratios)[None]
