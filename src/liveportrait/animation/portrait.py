"""The portrait: a source opened once, then driven, edited or moved live any number of times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from liveportrait.animation.driver.base import Driver, TimedDriver
from liveportrait.animation.edit_options import EditOptions, Sliders
from liveportrait.animation.inputs import (
    DrivingInput,
    Resolved,
    assign_drivers,
    open_driver,
    resolve_driving,
)
from liveportrait.animation.live import Live
from liveportrait.animation.option_checks import check_conflicts
from liveportrait.animation.options import (
    DriveOptions,
    OutputOptions,
    PasteOptions,
    SourceOptions,
)
from liveportrait.animation.pipeline import DrivenFace, Rendering
from liveportrait.animation.posers import MotionTransfer, SliderPoser
from liveportrait.animation.published.transfer import frame_by_frame, transfer
from liveportrait.animation.session import Session
from liveportrait.animation.source.base import Source
from liveportrait.animation.speaking.driver import SpeechDriver, require_speaking_face
from liveportrait.animation.speaking.opening import SpeechInput, open_speech_driver
from liveportrait.animation.speaking.options import SpeakingOptions
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.face import FaceAnalyzer
from liveportrait.media import FrameArrays
from liveportrait.types import Closeable, Image, Progress, no_progress


class Portrait(Closeable):
    """A photo or video whose faces were found, cropped and measured once.

    It can be driven, edited and moved live any number of times, from several threads: each call has its own state.
    Created by `Animator.open`; `close` it, or use it in a `with` block.

    >>> portrait = animator.open("me.jpg")
    >>> for frame in portrait.drive("driving.mp4"):
    ...     show(frame)
    >>> still = portrait.edit(smile=0.5, yaw=10)
    """

    def __init__(
        self, engine: Engine, analyzer: FaceAnalyzer, batch: int, source: Source, options: SourceOptions
    ) -> None:
        self._engine, self._analyzer, self._batch = engine, analyzer, batch
        self._source: Source | None = source
        self.options = options

    @property
    def source(self) -> Source:
        """What was opened. Raises `UserError` once the portrait is closed."""
        if self._source is None:
            raise UserError("this portrait is closed: open it again")
        return self._source

    def drive(
        self,
        driving: DrivingInput | Sequence[DrivingInput],
        options: DriveOptions | None = None,
        progress: Progress = no_progress,
    ) -> Rendering:
        """Animate the portrait with `driving`: frames (H,W,3) uint8 RGB, one after the other.

        `driving` is the path of a video, photo or motion template, a `Template`, a picture (H,W,3), pictures of one
        size (an array (N,H,W,3), a list, an iterator, or `FrameArrays` with their own rate; without one they have that
        of a video source, or 25 frames/s), or a list of several of these that drive one face each
        (`TransferOptions.assign`). The result is as long as the shortest of them, not counting photos; it has the rate
        of a video source, otherwise of the first moving driver. Drivers are tracked before this returns. Raises
        `UserError`.
        """
        return self.drive_with(self.session(progress), resolve_driving(driving), options or DriveOptions())

    def speak(
        self,
        speech: SpeechInput,
        options: SpeakingOptions | None = None,
        progress: Progress = no_progress,
    ) -> Rendering:
        """Make the portrait speak `speech`: frames (H,W,3) uint8 RGB, one after the other.

        `speech` is the path of a sound or video, or mono samples (N,) at 16 kHz, floats in [-1, 1]. A photo speaks,
        moves its head and blinks, at `options.fps`; in a video lips, jaw and chin follow the speech instead of their
        own motion, and the rest stays as it is. The result is as long as the speech, or as the video if that is
        shorter. Raises `UserError`.
        """
        options = options or SpeakingOptions()
        session = self.session(progress)
        is_video = self.source.fps is not None
        driver = open_speech_driver(session, speech, options, is_video)
        return self.drive_with(session, [driver], options.driving(is_video))

    def drive_with(self, session: Session, driving: Sequence[Resolved], options: DriveOptions) -> Rendering:
        """The same for drivers as `resolve_driving` gives them, within a session."""
        if any(isinstance(each, SpeechDriver) for each in driving):
            require_speaking_face(self.source)
        source = self._checked(options)
        inputs = [
            each.at(source.fps) if isinstance(each, FrameArrays | SpeechDriver) and source.fps else each
            for each in driving
        ]
        numbers = assign_drivers(len(source.faces), len(inputs), options.assign)
        moved: list[list[int]] = [[] for _ in inputs]  # the faces that each driver moves
        for face, number in enumerate(numbers):
            moved[number].append(face)
        shown = isinstance(options, OutputOptions) and options.compare
        drivers = [
            open_driver(session, each, options, [source.faces[face].scores for face in faces], shown)
            for each, faces in zip(inputs, moved, strict=True)
        ]
        if options.as_published and source.fps:
            drivers = [frame_by_frame(session, driver, source.fps, shown) for driver in drivers]
        posers = {
            face: self._transfer(face, driver, place, options)
            for driver, faces in zip(drivers, moved, strict=True)
            for place, face in enumerate(faces)
        }
        driven = [
            DrivenFace(face, posers[index], number)
            for index, (face, number) in enumerate(zip(source.faces, numbers, strict=True))
        ]
        needs_surroundings = any(poser.adapts_expressions for poser in posers.values())
        timed = [TimedDriver(driver, options.smooth, needs_surroundings) for driver in drivers]
        return Rendering(session, source, driven, timed, options)

    def _transfer(self, face: int, driver: Driver, place: int, options: DriveOptions) -> MotionTransfer:
        """The transfer from a driver to a face, which is number `place` among those it moves."""
        own = self.source.faces[face]
        if options.as_published:
            return transfer(self._engine, self.source, own, driver, place, options)
        return MotionTransfer.of(self._engine, own, driver, place, options)

    def edit(self, options: Sliders | None = None, **sliders: object) -> Image:
        """The photo (H,W,3) uint8 RGB with its faces edited; `sliders` such as smile=0.5 come on top of `options`.

        The sliders are those of `EditOptions`, whose paste options apply too. Raises `UserError` for an unknown slider
        or a value out of range, and for a video: use `edit_frames` for that.
        """
        if self.source.fps is not None:
            raise UserError(f"{self.source.name} is a video: use edit_frames, which gives its frames")
        with self.edit_with(self.session(), with_sliders(options or Sliders(), sliders)) as frames:
            return next(frames)

    def edit_frames(
        self, options: Sliders | None = None, progress: Progress = no_progress, **sliders: object
    ) -> Rendering:
        """The frames of a video with its faces edited as by `edit`, keyframes included; for a photo, its one frame."""
        return self.edit_with(self.session(progress), with_sliders(options or Sliders(), sliders))

    def edit_with(self, session: Session, options: Sliders, poser: SliderPoser | None = None) -> Rendering:
        """The same within a session; `poser` if it was already made from the options."""
        paste = options if isinstance(options, PasteOptions) else PasteOptions()
        source = self._checked(paste)
        if options.keyframes and source.fps is None:
            raise UserError(f"{options.keyframes}: keyframes are for a video SOURCE, and this is a picture")
        poser = poser or SliderPoser(session, options)
        if poser.sets_openings:
            require_openings(source)
        return Rendering(session, source, [DrivenFace(face, poser) for face in source.faces], [], paste)

    def live(self, options: DriveOptions | None = None, fps: float = 25.0) -> Live:
        """A function from camera frames to frames of the portrait, see `Live`; `fps` is the camera's rate.

        Raises `UserError`.
        """
        return self.live_with(self.session(), options or DriveOptions(), fps)

    def live_with(self, session: Session, options: DriveOptions, fps: float) -> Live:
        """The same within a session, which measures the time of each stage."""
        return Live(session, self._checked(options), options, fps)

    def session(self, progress: Progress = no_progress) -> Session:
        """The tools of one piece of work on this portrait."""
        return Session(self._engine, self._analyzer, self._batch, progress)

    def _checked(self, paste: PasteOptions) -> Source:
        """The source. Raises `UserError` if it cannot be pasted, or left unpasted, as the options ask."""
        check_conflicts(paste, self.options)
        if isinstance(paste, DriveOptions) and paste.needs_openings:
            require_openings(self.source)
        if len(self.source.faces) > 1 and not paste.paste_back:
            raise UserError(
                f"{len(self.source.faces)} faces do not fit into one crop: leave out --no-paste-back, or choose one"
            )
        return self.source

    def close(self) -> None:
        """Release the source. Renderings in progress continue to their end."""
        self._source = None


def require_openings(source: Source) -> None:
    """Raise `UserError` for a face whose eye and lip openings are not known."""
    if all(face.openings is not None for face in source.faces):
        return
    if any(face.is_animal for face in source.faces):
        raise UserError("openings of eyes and lips are for people: leave them out for an animal")
    raise UserError(
        f"openings of eyes and lips need a face, and none was found in {source.name}: leave out --no-crop, or the"
        " openings"
    )


def with_sliders(options: Sliders, sliders: dict[str, object]) -> Sliders:
    """The options with some sliders set. Raises `UserError` for an unknown slider."""
    names = [field.name for field in fields(EditOptions if isinstance(options, EditOptions) else Sliders)]
    for name in sliders:
        if name not in names:
            raise UserError(f"there is no slider {name!r}: choose one of {', '.join(names)}")
    return replace(options, **sliders)  # type: ignore[arg-type]  # the values are checked by the class
