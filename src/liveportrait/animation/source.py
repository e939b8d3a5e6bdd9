"""The source: a photo prepared once, ready to be driven many times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.extraction import extract_motion
from liveportrait.animation.options import AnimateOptions
from liveportrait.animation.run import Run
from liveportrait.errors import UserError
from liveportrait.face.crop import CropWindow, crop, source_window, to_input
from liveportrait.media import load_image
from liveportrait.motion import SeenKeypoints
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Features, Motion, Pose

SMALLEST_SIDE = 32  # px, below which there is nothing to see


@dataclass(frozen=True, eq=False)
class Source:
    """A portrait as the networks know it."""

    name: str  # for messages
    image: NDArray[np.uint8]  # (H,W,3) RGB, even sides: the frame that the face is pasted back into
    face: NDArray[np.uint8]  # (S,S,3) RGB, what F and M saw
    window: CropWindow | None  # where `face` lies in `image`; None when the picture was taken as it is
    features: Features
    motion: Motion  # batch 1
    pose: Pose  # batch 1
    faces: int  # how many were found; the largest is used


def prepare_source(run: Run, source: str | Path | NDArray[np.uint8], options: AnimateOptions) -> Source:
    """Load a photo (or take an (H,W,3) uint8 RGB array), find its face, cut it out, run F and M on it.

    Raises `UserError` where there is no picture, or no face in it.
    """
    if isinstance(source, np.ndarray):
        name, image = "the source", source
    else:
        with run.clock.step("decode"):
            name, image = str(source), load_image(source)
    if min(image.shape[:2]) < SMALLEST_SIDE:
        height, width = image.shape[:2]
        raise UserError(f"{name} is {width}x{height} px: use a picture of at least {SMALLEST_SIDE} px")
    image = limit_size(image, options.max_size)
    size = run.engine.variant.input_size
    window, faces = None, []
    if options.crop:
        with run.clock.step("detect"):
            faces = run.analyzer.detect(image)
        if not faces:
            raise UserError(
                f"no face found in {name}: use a picture that shows one, or --no-crop if it is a cropped face"
            )
        window = source_window(
            faces[0].landmarks, scale=options.crop_scale, x=options.crop_x, y=options.crop_y
        )
        face = to_input(crop(image, window, run.engine.variant.continues_border), size)
    else:
        face = to_input(image, size)
    with run.clock.step("motion"):
        seen = SeenKeypoints.of([faces[0].landmarks]) if faces else None
        motion = extract_motion(run.engine, face[None], seen, window)
    with run.clock.step("render"):
        features = run.engine.encode_appearance(face[None])
    return Source(name, image, face, window, features, motion, pose_of(motion), len(faces))


def limit_size(image: NDArray[np.uint8], limit: int) -> NDArray[np.uint8]:
    """The picture with its longer side reduced to at most `limit` px and both sides made even.

    Reduced by area, so that fine patterns do not flicker; an odd row or column is cut at the bottom or right.
    """
    height, width = image.shape[:2]
    longer = max(height, width)
    if longer > limit:
        height, width = (limit if side == longer else int(side * limit / longer) for side in (height, width))
        target = (max(width, 2), max(height, 2))
        image = np.asarray(cv2.resize(image, target, interpolation=cv2.INTER_AREA), np.uint8)
    return image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
