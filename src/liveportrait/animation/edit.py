"""Portrait editing: a photo or a video with expression, gaze, pose and openings changed by sliders."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.edit_options import EditOptions, check_slider
from liveportrait.animation.editing import EditableFace, editable_face, edited_pose, expression_of
from liveportrait.animation.report import ANIMATE, Progress, Report, count, no_progress
from liveportrait.animation.run import Run
from liveportrait.animation.source import limit_size
from liveportrait.animation.streams import finish_behind, read_ahead
from liveportrait.animation.tracking import find_face
from liveportrait.errors import UserError
from liveportrait.face import Face
from liveportrait.face.crop import to_input
from liveportrait.face.paste import paste_back
from liveportrait.media import (
    IMAGE_OUTPUTS,
    VIDEO_OUTPUTS,
    VideoReader,
    VideoWriter,
    check_output,
    load_image,
    media_kind,
    save_image,
)  # fmt: skip
from liveportrait.motion.keyframes import Keyframes, read_keyframes
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Motion

if TYPE_CHECKING:
    from liveportrait.animation.animator import Animator

Image = NDArray[np.uint8]
NO_FACE = "no face found in {}: use a picture that shows one, or --no-crop if it is a cropped face"


def edit_portrait(
    animator: Animator,
    source: str | Path | Image,
    out: str | Path,
    options: EditOptions | None = None,
    progress: Progress = no_progress,
) -> Report:
    """Edit the largest face of `source`, a photo, video or (H,W,3) uint8 RGB array; write `out`, of the same kind.

    A video keeps its frames, rate and sound; frames without a face pass through as they are. `out` appears under
    its name only when it is complete. Raises `UserError`.
    """
    options = options or EditOptions()
    run = Run(animator.engine, animator.analyzer, 1, progress)
    is_video = not isinstance(source, np.ndarray) and media_kind(source) == "video"
    target = check_output(Path(out), VIDEO_OUTPUTS if is_video else IMAGE_OUTPUTS, options.overwrite)
    if options.keyframes and not is_video:
        raise UserError(f"{options.keyframes}: keyframes are for a video SOURCE, and this is a picture")
    keyframes = read_keyframes(options.keyframes, check_slider) if options.keyframes else None
    editor = Editor(run, options, keyframes)
    if is_video:
        return _edit_video(run, Path(str(source)), target, editor)
    return _edit_photo(run, source, target, editor)


class Editor:
    """The edit that options and keyframes ask for, face by face."""

    def __init__(self, run: Run, options: EditOptions, keyframes: Keyframes | None = None) -> None:
        self.options = options
        self._run = run
        self._keyframes = keyframes
        self._copied: Motion | None = None
        if options.expression_from is not None:
            self._copied = expression_of(run, options.expression_from)

    def at(self, time: float) -> dict[str, float]:
        """The sliders that are not at rest at a time (s); keyframes take the place of the options' own values."""
        return self.options.sliders() | (self._keyframes.at(time) if self._keyframes else {})

    def render(self, face: EditableFace, time: float = 0.0) -> Image:
        """The crop (S,S,3) of a face, edited as at that time."""
        run = self._run
        with run.clock.step("render"):
            pose = edited_pose(run, face, self.at(time), self.options, self._copied)
            return run.engine.render(face.features, pose_of(face.motion), pose)[0]


def _edit_photo(run: Run, source: str | Path | Image, target: Path, editor: Editor) -> Report:
    options = editor.options
    with run.clock.step("decode"):
        image = source if isinstance(source, np.ndarray) else load_image(source)
    name = "the source" if isinstance(source, np.ndarray) else str(source)
    image = limit_size(image, options.max_size)
    found: list[Face] = []
    if options.crop:
        with run.clock.step("detect"):
            found = run.analyzer.detect(image)
        if not found:
            raise UserError(NO_FACE.format(name))
    face = editable_face(run, image, found[0] if found else None, options)
    result = editor.render(face)
    if face.window and options.paste_back:
        with run.clock.step("paste"):
            result = paste_back(result, face.window, image)
    with run.clock.step("encode"):
        save_image(target, result, options.overwrite)
    run.progress(ANIMATE, 1, 1)
    notes = []
    if len(found) > 1:
        notes.append(f"{len(found)} faces found in {name}: the largest was edited")
    return _report(run, target, 1, Fraction(25), editor, notes)


def _edit_video(run: Run, path: Path, target: Path, editor: Editor) -> Report:
    options = editor.options
    reader = VideoReader(path)
    info, size = reader.info, run.engine.variant.output_size
    like = limit_size(np.empty((info.height, info.width, 3), np.uint8), options.max_size)
    pastes = options.crop and options.paste_back
    height, width = like.shape[:2] if pastes else (size, size)
    found: Face | None = None
    without, done = 0, 0
    writer = VideoWriter(target, info.fps, width, height, path if info.has_audio else None, options.overwrite)
    with writer, reader, read_ahead(run.clock.each("decode", reader)) as frames:

        def write(frame: Image) -> None:
            with run.clock.step("encode"):
                writer.write(frame)

        with finish_behind(write) as submit:
            for number, whole in enumerate(frames):
                frame = limit_size(whole, options.max_size)
                if options.crop:
                    with run.clock.step("detect"):
                        found = found and run.analyzer.track(frame, found)
                        found = found or find_face(run.analyzer, frame)
                if options.crop and found is None:
                    without += 1
                    submit(frame if pastes else to_input(frame, size))
                    continue
                face = editable_face(run, frame, found, options)
                result = editor.render(face, float(number / info.fps))
                if pastes and face.window:
                    with run.clock.step("paste"):
                        result = paste_back(result, face.window, frame)
                submit(result)
                done += 1
                run.progress(ANIMATE, number + 1, info.frame_count)
        if not done:
            raise UserError(NO_FACE.format(path))
    notes = [f"no face in {count(without)}: passed through as they are"] if without else []
    return _report(run, target, done + without, info.fps, editor, notes)


def _report(run: Run, out: Path, frames: int, fps: Fraction, editor: Editor, notes: list[str]) -> Report:
    stitched = editor.options.stitching and run.engine.can_stitch
    if editor.options.stitching and not stitched:
        notes.append("these weights bring no stitching module: edited without stitching")
    return Report(
        out=out,
        frames=frames,
        fps=fps,
        elapsed=run.clock.elapsed(),
        seconds=dict(run.clock.seconds),
        stitched=stitched,
        notes=tuple(notes),
    )
