"""A photo as driver: one frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from liveportrait.animation.driver.base import PHOTO_FPS, Driver, DrivingBatch, Play, Start
from liveportrait.animation.options import TransferOptions
from liveportrait.animation.session import Session
from liveportrait.animation.source.photo import SMALLEST_CROPPED, cut
from liveportrait.errors import UserError
from liveportrait.face.crop import driving_window, to_input, whole_window
from liveportrait.face.measures import mouth_cues, opening_ratios
from liveportrait.face.tracker import SMALLEST_DRIVER, largest_face
from liveportrait.media import load_image
from liveportrait.motion import SeenKeypoints
from liveportrait.motion.landmarks import extract_motion
from liveportrait.types import Image


@dataclass(frozen=True, eq=False, kw_only=True)
class PhotoDriver(Driver):
    """A photo that drives with its expression."""

    frame: DrivingBatch  # of 1

    def start(self, face: int) -> Start:
        """The photo itself."""
        return Start(self.frame.motion, self.frame.ratios, self.frame.scores)

    def play(self, session: Session) -> Play:
        """The one frame."""
        yield self.frame


def open_photo_driver(session: Session, photo: Path | Image, options: TransferOptions) -> PhotoDriver:
    """Open a photo, a file or an (H,W,3) uint8 RGB array, as a driver. Raises `UserError` if it shows no face."""
    if isinstance(photo, np.ndarray):
        name, image = "the driving picture", photo
    else:
        with session.clock.step("decode"):
            name, image = str(photo), load_image(photo)
    engine = session.engine
    crops = options.cuts_out(image.shape[0], image.shape[1])
    if not crops:
        image = to_input(image, engine.variant.input_size, options.reduction)
    with session.clock.step("detect"):
        face = largest_face(session.analyzer, image, SMALLEST_DRIVER if crops else SMALLEST_CROPPED)
    if face is None and crops:
        raise UserError(
            f"no face found in {name}: use a photo that shows one, or --no-crop-driving if it is a cropped face"
        )
    window = (
        driving_window([face.landmarks], crop=options.driving_crop)
        if face and crops
        else whole_window(len(image))
    )
    crop = cut(image, window, engine.variant, options.reduction) if crops else image
    seen = SeenKeypoints.of([face.landmarks]) if face else None
    ratios = torch.from_numpy(opening_ratios(face.landmarks)[None]).to(engine.device) if face else None
    scores = torch.from_numpy(session.analyzer.blendshapes(face)[None]).to(engine.device) if face else None
    with session.clock.step("motion"):
        motion = extract_motion(engine, crop[None], seen, [window])
    cues = torch.from_numpy(mouth_cues(image, face.landmarks)[None]).to(engine.device) if face else None
    frame = DrivingBatch(motion, ratios, (crop,), scores, cues=cues)
    return PhotoDriver(name=name, fps=PHOTO_FPS, frames=1, is_photo=True, frame=frame)
