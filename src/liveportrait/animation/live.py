"""A portrait driven by a camera: one frame in, one frame out, without looking ahead."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from fractions import Fraction

import torch

from liveportrait.animation.driver.base import DrivingBatch, Start, Surroundings
from liveportrait.animation.driver.framing import LiveWindow
from liveportrait.animation.driver.tracking import cut_driving
from liveportrait.animation.options import DriveOptions
from liveportrait.animation.posers import MotionTransfer
from liveportrait.animation.session import Session
from liveportrait.animation.source.base import Source
from liveportrait.animation.source.photo import SMALLEST_CROPPED
from liveportrait.animation.speaking import voice as voices
from liveportrait.animation.speaking.driver import require_speaker, require_speaking_face
from liveportrait.animation.speaking.live import LiveVoice
from liveportrait.animation.speaking.options import SpeechOptions
from liveportrait.animation.speaking.stage import LiveStage
from liveportrait.errors import UserError
from liveportrait.face import Face
from liveportrait.face.crop import CropWindow, driving_square, driving_window, to_input, whole_window
from liveportrait.face.measures import mouth_cues, opening_ratios
from liveportrait.face.scenes import SceneTracker
from liveportrait.face.tracker import SMALLEST_DRIVER
from liveportrait.media import check_picture
from liveportrait.media.sound.speech import SPEECH_RATE
from liveportrait.motion import MotionSmoother, SeenHeads, groups_for, motion_from_heads
from liveportrait.motion.expression import REACH
from liveportrait.motion.framing import steadied
from liveportrait.motion.landmarks import extract_motion
from liveportrait.networks.interface import Motion
from liveportrait.types import Closeable, Image


@dataclass(frozen=True, eq=False)
class _Reference:
    """The frame that motion starts from in a scene, and what is derived from it."""

    window: CropWindow
    gliding: LiveWindow | None  # of later frames; None: the window does not move
    motion: Motion  # batch 1
    home: Motion  # batch 1: of the first scene; head pose, position and size start from it
    head: SeenHeads  # in its window
    transfers: tuple[MotionTransfer, ...]  # one per face of the source
    smoother: MotionSmoother


class Live(Closeable):
    """Gives a frame of the portrait for each camera frame. Use it from one thread only.

    Motion starts from the first frame that shows a face, or the first one after `reset`: look straight ahead then. The
    largest face drives all faces of the portrait. While it is out of sight, `face_found` is False and the portrait
    keeps its last pose. When the scene changes or the face jumps, position, size and expression start again. A video as
    source advances with every frame, and loops.

    >>> with portrait.live() as live:
    ...     for frame in camera:
    ...         show(live(frame))
    """

    face_found: bool
    """whether the last frame showed a face"""

    def __init__(self, session: Session, source: Source, options: DriveOptions, fps: float = 25.0) -> None:
        """`fps`: the camera's rate, used for smoothing. Raises `UserError` for any reference but "match" or "first"."""
        if options.reference not in ("match", "first"):
            raise UserError(
                f"reference is {options.reference!r}: live motion starts from the first frame, or the first one after"
                " reset; leave it out"
            )
        if not (math.isfinite(fps) and fps > 0):
            raise UserError(f"the camera's rate is {fps} frames/s: give a positive one")
        self._session, self._source, self._options = session, source, options
        self._fps = Fraction(fps).limit_denominator(1000)
        smallest = SMALLEST_DRIVER if options.crop_driving else SMALLEST_CROPPED
        self._tracker = SceneTracker(session.analyzer, smallest)
        self._stage = LiveStage(session, source, options, self._fps)
        self._reference: _Reference | None = None
        self._last: DrivingBatch | None = None
        # One frame each, without crops.
        self._past: deque[DrivingBatch] = deque(maxlen=math.ceil(REACH * fps))
        self._shape: tuple[int, ...] | None = None  # of camera frames since the reference
        self.face_found = False
        self._is_closed = False

    def __call__(self, frame: Image) -> Image:
        """The portrait's next frame (H,W,3) for a camera frame (H,W,3) uint8 RGB; with `alpha` (H,W,4).

        Until a face is found it is the unchanged source. Raises `UserError` for an invalid frame, or one whose size
        differs from those before it.
        """
        return self._stage.show(*self._driven(frame))

    def begin(self, frame: Image) -> Future[Image]:
        """Take a camera frame and render the portrait's frame, as a call does, in another thread.

        Up to `at_once` frames are rendered in parallel.
        """
        return self._stage.ahead(*self._driven(frame))

    @property
    def at_once(self) -> int:
        """How many frames are rendered in parallel."""
        return self._stage.at_once

    def _driven(self, frame: Image) -> tuple[Sequence[MotionTransfer], DrivingBatch | None]:
        """The driving motion of the portrait's faces after a camera frame."""
        if self._is_closed:
            raise UserError("this live portrait is closed: ask the portrait for another one")
        check_picture(frame, "the camera's frame")
        if self._shape and frame.shape != self._shape:
            now, then = (f"{shape[1]}x{shape[0]}" for shape in (frame.shape, self._shape))
            raise UserError(
                f"the camera's frame is {now} px, and those before it were {then}: keep one size, or reset"
            )
        shape = frame.shape
        if not self._options.crop_driving:
            frame = to_input(frame, self._session.engine.variant.input_size)
        with self._session.clock.step("detect"):
            face = self._tracker(frame)
        self.face_found = face is not None
        if face:
            batch = self._measured(frame, face)
            around = Surroundings.of(self._past, batch, (), self._fps)
            self._last, self._shape = replace(batch, around=around), shape
            self._past.append(replace(batch, crops=(None,)))
        return (self._reference.transfers, self._last) if self._reference else ((), None)

    def voice(self, options: SpeechOptions | None = None, rate: int = SPEECH_RATE) -> LiveVoice:
        """Drive by a voice instead of a camera: sound in, frames with their sound out, see `LiveVoice`.

        `rate`: samples per second of the sound, 8000 to 192000. Raises `UserError`.
        """
        options = options or SpeechOptions()
        require_speaker(self._session.engine)
        require_speaking_face(self._source)
        if options.head_file:
            raise UserError(f"head is {options.head}: live, choose still or gentle")
        hear = voices.voice_for(self._session, options, Fraction(options.fps).limit_denominator(1001))
        return LiveVoice(self._session, self._source, self._options, options, hear, rate)

    def reset(self) -> None:
        """Start again: motion starts from the next frame that shows a face."""
        self._reference = self._last = self._shape = None
        self._past.clear()
        self._tracker.reset()
        self.face_found = False

    def close(self) -> None:
        """Stop. A video source is no longer read, and no more frames are accepted."""
        self._is_closed = True
        self._stage.close()

    def _measured(self, frame: Image, face: Face) -> DrivingBatch:
        """The motion of a frame with a face."""
        engine = self._session.engine
        ratios, scores, cues = (
            torch.from_numpy(measured[None]).to(engine.device)
            for measured in (
                opening_ratios(face.landmarks),
                self._session.analyzer.blendshapes(face),
                mouth_cues(frame, face.landmarks),
            )
        )
        head = SeenHeads.of([face.landmarks])
        steady = self._options.framing == "steady"
        with self._session.clock.step("motion"):
            reference = self._reference
            if reference is None or (steady and self._tracker.starts_over):
                self._past.clear()
                reference = self._begin(frame, face, head, ratios, scores)
            self._reference = reference
            window = reference.gliding(head) if reference.gliding else reference.window
            if groups_for(engine.variant).keypoints_are_landmarks:
                seen = head.through(window)
                motion = motion_from_heads(reference.motion, reference.head, seen, window.size)
            else:
                motion = engine.extract_motion(self._cut(frame, window)[None])
            if steady:
                motion = steadied(motion, reference.motion, reference.home, self._options.driving_crop_scale)
            motion = reference.smoother.push(motion)
        return DrivingBatch(motion, ratios, (None,), scores, cues=cues)

    def _begin(
        self, frame: Image, face: Face, head: SeenHeads, ratios: torch.Tensor, scores: torch.Tensor
    ) -> _Reference:
        """Make a frame the one that motion starts from; head pose continues from the previous reference."""
        engine, options, analyzer = self._session.engine, self._options, self._session.analyzer
        window, gliding = whole_window(len(frame)), None
        if options.crop_driving:
            window = driving_window([face.landmarks], crop=options.driving_crop)
            if options.framing == "steady":
                gliding = LiveWindow(head, driving_square(face.landmarks, options.driving_crop), self._fps)
        motion = extract_motion(engine, self._cut(frame, window)[None], head.keypoints, [window])
        home = self._reference.home if self._reference else motion
        identity = analyzer.identity(frame, face.landmarks) if engine.can_express else None
        begun = home._replace(canonical=motion.canonical, expression=motion.expression)
        start = Start(begun, ratios, scores, identity)
        transfers = tuple(MotionTransfer(engine, own, start, False, options) for own in self._source.faces)
        smoother = MotionSmoother(options.smooth, self._fps, live=True)
        return _Reference(window, gliding, motion, home, head.through(window), transfers, smoother)

    def _cut(self, frame: Image, window: CropWindow) -> Image:
        return cut_driving(
            frame, window if self._options.crop_driving else None, self._session.engine.variant
        )
