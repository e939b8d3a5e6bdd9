"""The library's entry point: loads networks and face analysis once, and opens portraits with them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from liveportrait import weights
from liveportrait.animation.driver.base import Driver
from liveportrait.animation.driver.template import record_template
from liveportrait.animation.edit_options import EditOptions
from liveportrait.animation.inputs import (
    DrivingInput,
    Resolved,
    SourceInput,
    check_sound,
    is_template,
    open_driver,
    open_early,
    open_source,
    resolve_driving,
)
from liveportrait.animation.notes import report_on
from liveportrait.animation.options import AnimateOptions, SourceOptions, TransferOptions
from liveportrait.animation.portrait import Portrait
from liveportrait.animation.posers import SliderPoser
from liveportrait.animation.published.options import PublishedOptions
from liveportrait.animation.report import Report, Stretches, held_note
from liveportrait.animation.session import Session
from liveportrait.animation.speaking.opening import SpeechInput, open_speech_driver
from liveportrait.animation.speaking.options import SpeakOptions, SpeechOptions
from liveportrait.animation.writer import MOVING_OUTPUTS, is_picture, output_paths, write_rendering
from liveportrait.choices import BackendName, Framing, PrecisionChoice
from liveportrait.engine import Engine, pick_device
from liveportrait.errors import UserError
from liveportrait.face import FaceAnalyzer, default_analyzer
from liveportrait.face.choice import DRIVING_CROP, DrivingCrop
from liveportrait.folders import sha256_of
from liveportrait.marking.seal import Marker
from liveportrait.media import IMAGE_OUTPUTS, media_kind
from liveportrait.media.sound.speech import is_sound
from liveportrait.motion import Template, check_template_output, groups_for, read_template, write_template
from liveportrait.types import Progress, no_progress

# Only the decoder runs alongside tracking, and networks this small gain little from more threads.
TRACKING_THREADS = 2


class Animator:
    """Networks and face analysis, loaded once. Opens any number of portraits, which share no state.

    >>> animator = Animator.load("compact")
    >>> portrait = animator.open("me.jpg")
    >>> frames = list(portrait.drive("driving.mp4"))
    >>> animator.animate("me.jpg", "driving.mp4", "out.mp4", AnimateOptions(region="lips"))
    """

    def __init__(
        self,
        engine: Engine,
        analyzer: FaceAnalyzer | None = None,
        batch: int | None = None,
        marker: Marker | None = None,
    ) -> None:
        """`batch`: how many frames go through the networks together; None leaves it to the engine.

        `marker` signs results; by default with a certificate created for this user, without naming the weights.
        """
        self.engine = engine
        self.analyzer = analyzer or default_analyzer(min(TRACKING_THREADS, engine.threads))
        self.batch = batch or engine.batch
        self.marker = marker or Marker()

    @classmethod
    def load(
        cls,
        name_or_path: str | Path = "compact",
        device: str = "auto",
        precision: PrecisionChoice = "auto",
        threads: int | None = None,
        batch: int | None = None,
        backend: BackendName = "auto",
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> Animator:
        """An animator with the weights of this name or folder.

        `device`: "auto" (CUDA if available), "cpu", "cuda", ...; `threads`: PyTorch's CPU threads, for the entire
        process; `backend`, `precision`: what runs the networks, "auto" picks what suits the machine (see
        `engine.backend`, `engine.precision` and `engine.reason`); `certificate`, `key`: PEM files that sign results,
        see `marking.certificate.load_signer`. Raises `UserError` if weights, device or back end are missing.
        """
        networks = weights.load(name_or_path, pick_device(device))
        marker = Marker(*weights.identity(name_or_path), certificate, key)
        return cls(Engine(networks, precision, threads, backend), batch=batch, marker=marker)

    def open(
        self, source: SourceInput, options: SourceOptions | None = None, progress: Progress = no_progress
    ) -> Portrait:
        """Open a photo, a video, or pictures from Python as a portrait: find and measure its faces.

        `source` is a path, a picture (H,W,3) uint8 RGB, or pictures of one size: an array (N,H,W,3), a list, an
        iterator, or `FrameArrays` with a frame rate. Raises `UserError` if it shows no face or not the chosen one.
        """
        return self._open(self._session(progress), source, options or SourceOptions())

    def animate(
        self,
        source: SourceInput | Portrait,
        driving: DrivingInput | Sequence[DrivingInput],
        out: str | Path,
        options: AnimateOptions | None = None,
        progress: Progress = no_progress,
    ) -> Report:
        """Animate `source` with `driving`, see `open` and `Portrait.drive`, and write the frames to `out`.

        A `Portrait` as source stays open, and keeps the options that it was opened with. `out` is a video, a folder of
        PNG (no suffix), or a picture if the result has one frame. It appears under its name only when complete. Raises
        `UserError`.
        """
        options = options or AnimateOptions()
        drivers = resolve_driving(driving)  # rejects a mistyped name before the source is tracked
        return self._animated("animate", source, drivers, out, options, progress)

    def speak(
        self,
        source: SourceInput | Portrait,
        speech: SpeechInput,
        out: str | Path,
        options: SpeakOptions | None = None,
        progress: Progress = no_progress,
    ) -> Report:
        """Make `source` speak `speech`, see `open` and `Portrait.speak`, and write the frames to `out`.

        The result has the sound of `speech` if that is a file. In a video only the mouth changes; head and eyes keep
        their own motion. `out` is a video or a folder of PNG. Raises `UserError`.
        """
        options = options or SpeakOptions()
        is_video = _is_video(source)
        session = self._session(progress)
        driver = open_speech_driver(session, speech, options, is_video)
        return self._animated("speak", source, [driver], out, options.animation(is_video), progress)

    def _animated(
        self,
        kind: str,
        source: SourceInput | Portrait,
        drivers: list[Resolved],
        out: str | Path,
        options: AnimateOptions,
        progress: Progress,
    ) -> Report:
        paths = output_paths(Path(out), options, options)
        if isinstance(source, str | Path):
            media_kind(source)
        check_sound(_sound_of(source), drivers, options.audio, paths[0])
        named = [each.audio if isinstance(each, Driver) else each for each in drivers]
        driving_files = [each if isinstance(each, Path) else None for each in named]
        seal = self.marker.seal(options.mark, kind, paths[0], driving_files)
        session = self._session(progress)
        drivers = open_early(session, drivers, options)
        with self._opened(session, source, options) as portrait:
            rendering = portrait.drive_with(session, drivers, options)
            if is_picture(paths[0]) and rendering.total != 1:
                raise UserError(
                    f"{out} is a picture, and the result has {rendering.total} frames: name a video such as .mp4, or"
                    " a folder for PNG (no suffix)"
                )
            unchanged = write_rendering(rendering, paths, options, seal)
            return report_on(rendering, paths, unchanged, portrait.options, options, seal)

    def edit(
        self,
        source: SourceInput | Portrait,
        out: str | Path,
        options: EditOptions | None = None,
        progress: Progress = no_progress,
    ) -> Report:
        """Edit the faces of `source`, see `open` and `Portrait.edit`, and write a picture or video, like `source`.

        A video keeps its frames, rate and sound; frames without a face stay unchanged. A `Portrait` as source stays
        open. `out` appears under its name only when complete. Raises `UserError`.
        """
        options = options or EditOptions()
        is_video = _is_video(source)
        paths = output_paths(Path(out), options, options, MOVING_OUTPUTS if is_video else IMAGE_OUTPUTS)
        if options.keyframes and not is_video:
            raise UserError(f"{options.keyframes}: keyframes are for a video SOURCE, and this is a picture")
        check_sound(_sound_of(source), (), options.audio, paths[0])
        seal = self.marker.seal(options.mark, "edit", paths[0])
        session = self._session(progress)
        poser = SliderPoser(session, options)
        with self._opened(session, source, options) as portrait:
            rendering = portrait.edit_with(session, options, poser)
            unchanged = write_rendering(rendering, paths, options, seal)
            return report_on(rendering, paths, unchanged, portrait.options, options, seal)

    def template(
        self,
        driving: DrivingInput,
        out: str | Path,
        crop_driving: bool = True,
        overwrite: bool = False,
        progress: Progress = no_progress,
        crop: DrivingCrop = DRIVING_CROP,
        as_published: bool = False,
        framing: Framing = "steady",
        speaking: SpeechOptions | None = None,
    ) -> Report:
        """Write the motion of a driver, see `Portrait.drive`, as a motion template.

        A motion template as driver is converted to the format of `out`. `crop_driving`: find the face and crop to it as
        `crop` says; otherwise the frames are taken as crops. `as_published`: anything not square is cropped by a single
        window, whatever `crop_driving` says, and the head keeps its movement in it. `speaking`: how a sound becomes
        motion; such a template drives with `lip_opening` of "driver". `out` ends in .safetensors, or in .pkl for motion
        of the published weights. Raises `UserError`.
        """
        session = self._session(progress)
        held: Stretches = ()
        name = driving if isinstance(driving, str | Path) else "the motion"
        if isinstance(driving, str | Path) and is_template(Path(driving)):
            driving = read_template(Path(driving))
        if isinstance(driving, Template):
            template = driving
        else:
            out = check_template_output(out, groups_for(self.engine.variant).layout, overwrite)
            options = (PublishedOptions if as_published else TransferOptions)(
                crop_driving=crop_driving and not as_published,
                driving_crop_scale=crop.scale,
                driving_crop_x=crop.x,
                driving_crop_y=crop.y,
                reference="first",
                framing="follow" if as_published else framing,
            )
            driver = self._template_driver(session, driving, options, speaking)
            template, held = record_template(session, driver), driver.held
        write_template(out, template, overwrite)
        notes = [*([held_note(held)] if held else []), *self.engine.notes]
        if template.eye_ratios is None:
            notes.append(
                f"{name} does not say how far eyes and lips open: the template drives, but without"
                " --retarget openings of driver"
            )
        return Report(
            out=Path(out),
            frames=len(template),
            fps=template.fps,
            profile=session.clock.profile(len(template)),
            held=held,
            notes=tuple(notes),
        )

    def _template_driver(
        self,
        session: Session,
        driving: DrivingInput,
        options: TransferOptions,
        speaking: SpeechOptions | None,
    ) -> Driver:
        if isinstance(driving, str | Path) and is_sound(Path(driving)):
            return open_speech_driver(session, driving, speaking or SpeechOptions())
        (resolved,) = resolve_driving(driving)
        return open_driver(session, resolved, options)

    def _open(self, session: Session, source: SourceInput, options: SourceOptions) -> Portrait:
        opened = open_source(session, source, options)
        file = Path(source) if isinstance(source, str | Path) else None
        opened = replace(opened, file=file, sha256=sha256_of(file) if file else "")
        return Portrait(self.engine, self.analyzer, self.batch, opened, options)

    def _opened(
        self, session: Session, source: SourceInput | Portrait, options: SourceOptions
    ) -> AbstractContextManager[Portrait]:
        """The portrait for a `with` block; one that was already open stays open after it."""
        return nullcontext(source) if isinstance(source, Portrait) else self._open(session, source, options)

    def _session(self, progress: Progress) -> Session:
        return Session(self.engine, self.analyzer, self.batch, progress)


def _is_video(source: SourceInput | Portrait) -> bool:
    if isinstance(source, Portrait):
        return source.source.fps is not None
    if isinstance(source, str | Path):
        return media_kind(source) == "video"
    return not (isinstance(source, np.ndarray) and source.ndim != 4)


def _sound_of(source: SourceInput | Portrait) -> SourceInput | None:
    """Where the sound of a source is, if it has any."""
    return source.source.audio if isinstance(source, Portrait) else source
