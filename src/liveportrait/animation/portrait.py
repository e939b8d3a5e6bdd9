"""The portrait: a source opened once, then driven, edited or moved live as often as wanted."""

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
    """A photo or video whose faces were found, cut out and measured once.

    It may be driven, edited and moved live again and again, from several threads: each call has a state of its own.
    Made by `Animator.open`; `close` it, or use it in a `with` block.

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
        """The portrait moving as `driving` does: frames (H,W,3) uint8 RGB, one after the other.

        `driving` is the path of a video, photo or motion template, a `Template`, a picture (H,W,3), pictures of one
        size (an array (N,H,W,3), a list, an iterator, or `FrameArrays` with a rate of their own; otherwise theirs is
        that of a video source, or 25 frames/s), or a list of several of these that move a face each
        (`TransferOptions.assign`). The result lasts as long as the shortest of them all, photos left aside; its rate
        is that of a video source, otherwise of the first moving driver. Drivers are followed before this returns.
        Raises `UserError`.
        """
        return self.driven(self.session(progress), resolve_driving(driving), options or DriveOptions())

    def speak(
        self,
        speech: SpeechInput,
        options: SpeakingOptions | None = None,
        progress: Progress = no_progress,
    ) -> Rendering:
        """The portrait saying what is heard in `speech`: frames (H,W,3) uint8 RGB, one after the other.

        `speech` is the path of a sound or video, or samples (N,) of mono sound at 16 kHz, floats in [-1, 1]. A photo
        speaks, moves its head and blinks, at `options.fps`; in a video the lips, jaw and chin speak in place of the
        film's own, and the rest goes on as it did. The result lasts as long as the speech, or as the video where that
        is shorter. Raises `UserError`.
        """
        options = options or SpeakingOptions()
        session = self.session(progress)
        is_video = self.source.fps is not None
        driver = open_speech_driver(session, speech, options, is_video)
        return self.driven(session, [driver], options.driving(is_video))

    def driven(self, session: Session, driving: Sequence[Resolved], options: DriveOptions) -> Rendering:
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
        surrounds = any(poser.makes_own for poser in posers.values())
        timed = [TimedDriver(driver, options.smooth, surrounds) for driver in drivers]
        return Rendering(session, source, driven, timed, options)

    def _transfer(self, face: int, driver: Driver, place: int, options: DriveOptions) -> MotionTransfer:
        """The transfer from a driver to a face, the one of that place among those it moves."""
        own = self.source.faces[face]
        if options.as_published:
            return transfer(self._engine, self.source, own, driver, place, options)
        return MotionTransfer.of(self._engine, own, driver, place, options)

    def edit(self, options: Sliders | None = None, **sliders: object) -> Image:
        """The photo (H,W,3) uint8 RGB with its faces edited; `sliders` such as smile=0.5 come on top of `options`.

        The sliders are those of `EditOptions`; what `EditOptions` says of pasting is heeded too. Raises `UserError`
        for a slider that does not exist or does not take the value, and for a video: that is `edit_frames`.
        """
        if self.source.fps is not None:
            raise UserError(f"{self.source.name} is a video: edit it by edit_frames, which gives its frames")
        with self.edited(self.session(), with_sliders(options or Sliders(), sliders)) as frames:
            return next(frames)

    def edit_frames(
        self, options: Sliders | None = None, progress: Progress = no_progress, **sliders: object
    ) -> Rendering:
        """The frames of a video with its faces edited as `edit` does, each at its time; of a photo the one."""
        return self.edited(self.session(progress), with_sliders(options or Sliders(), sliders))

    def edited(self, session: Session, options: Sliders, poser: SliderPoser | None = None) -> Rendering:
        """The same within a session; `poser` where somebody made it of the options before."""
        paste = options if isinstance(options, PasteOptions) else PasteOptions()
        source = self._checked(paste)
        if options.keyframes and source.fps is None:
            raise UserError(f"{options.keyframes}: keyframes are for a video SOURCE, and this is a picture")
        poser = poser or SliderPoser(session, options)
        if poser.opens:
            require_openings(source)
        return Rendering(session, source, [DrivenFace(face, poser) for face in source.faces], [], paste)

    def live(self, options: DriveOptions | None = None, fps: float = 25.0) -> Live:
        """A function from a camera's frames to frames of the portrait, see `Live`; `fps` is the camera's rate.

        Raises `UserError`.
        """
        return self.following(self.session(), options or DriveOptions(), fps)

    def following(self, session: Session, options: DriveOptions, fps: float) -> Live:
        """The same within a session, whose clock tells where the time goes."""
        return Live(session, self._checked(options), options, fps)

    def session(self, progress: Progress = no_progress) -> Session:
        """The tools of one piece of work on this portrait."""
        return Session(self._engine, self._analyzer, self._batch, progress)

    def _checked(self, paste: PasteOptions) -> Source:
        """The source. Raises `UserError` where it cannot be pasted, or left unpasted, as asked."""
        check_conflicts(paste, self.options)
        if isinstance(paste, DriveOptions) and paste.opens:
            require_openings(self.source)
        if len(self.source.faces) > 1 and not paste.paste_back:
            raise UserError(
                f"{len(self.source.faces)} faces do not fit into one crop: leave out --no-paste-back, or choose one"
            )
        return self.source

    def close(self) -> None:
        """Let go of the source. What is being rendered goes on to its end."""
        self._source = None


def require_openings(source: Source) -> None:
    """Raise `UserError` for a face of which it is not known how far its eyes and lips open."""
    if all(face.openings is not None for face in source.faces):
        return
    if any(face.is_animal for face in source.faces):
        raise UserError("openings of eyes and lips are those of people: leave them out for an animal")
    raise UserError(
        f"openings of eyes and lips need a face, and none was found in {source.name}: leave out --no-crop, or the"
        " openings"
    )


def with_sliders(options: Sliders, sliders: dict[str, object]) -> Sliders:
    """The options with some sliders set. Raises `UserError` for one that does not exist."""
    names = [field.name for field in fields(EditOptions if isinstance(options, EditOptions) else Sliders)]
    for name in sliders:
        if name not in names:
            raise UserError(f"there is no slider {name!r}: choose one of {', '.join(names)}")
    return replace(options, **sliders)  # type: ignore[arg-type]  # the values are checked by the class
