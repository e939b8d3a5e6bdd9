"""Portrait editing: a photo or a video with expression, gaze, pose and openings changed by sliders."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.compositing import Compositor, Painted
from liveportrait.animation.driver import PHOTO_FPS
from liveportrait.animation.edit_options import EditOptions, check_slider
from liveportrait.animation.editing import Editor
from liveportrait.animation.output import Finisher, picture_writer
from liveportrait.animation.production import open_source
from liveportrait.animation.report import ANIMATE, Report, count
from liveportrait.animation.run import Run
from liveportrait.animation.source import Source
from liveportrait.animation.streams import DEPTH, batches, finish_behind, side_by_side
from liveportrait.errors import UserError
from liveportrait.media import IMAGE_OUTPUTS, VIDEO_OUTPUTS, check_output, media_kind
from liveportrait.motion.keyframes import read_keyframes
from liveportrait.types import Progress, no_progress

if TYPE_CHECKING:
    from liveportrait.animation.animator import Animator

Image = NDArray[np.uint8]


def edit_portrait(
    animator: Animator,
    source: str | Path | Image,
    out: str | Path,
    options: EditOptions | None = None,
    progress: Progress = no_progress,
) -> Report:
    """Edit the faces of `source`, a photo, video or (H,W,3) uint8 RGB array; write `out`, of the same kind.

    A video keeps its frames, rate and sound; frames without a face pass through as they are. `out` appears under
    its name only when it is complete. Raises `UserError`.
    """
    options = options or EditOptions()
    run = Run(animator.engine, animator.analyzer, animator.batch, progress)
    is_video = not isinstance(source, np.ndarray) and media_kind(source) == "video"
    target = check_output(Path(out), VIDEO_OUTPUTS if is_video else IMAGE_OUTPUTS, options.overwrite)
    if options.keyframes and not is_video:
        raise UserError(f"{options.keyframes}: keyframes are for a video SOURCE, and this is a picture")
    keyframes = read_keyframes(options.keyframes, check_slider) if options.keyframes else None
    editor = Editor(run, options, keyframes)
    portrait = open_source(run, source, options.source_options())
    if len(portrait.faces) > 1 and not options.paste_back:
        raise UserError(
            f"{len(portrait.faces)} faces cannot be written as one crop: leave out --no-paste-back"
        )
    pastes = options.crop and options.paste_back
    size = run.engine.variant.output_size
    fps = portrait.fps or PHOTO_FPS
    with ExitStack() as stack:
        shape = portrait.shape if pastes else (size, size)
        write = stack.enter_context(picture_writer(target, fps, shape, portrait.audio, options.overwrite))
        compositor = Compositor(portrait.shape, portrait.is_photo, portrait.bystanders) if pastes else None
        finish = Finisher(run.clock, portrait, size, compositor, write)
        submit = stack.enter_context(finish_behind(finish, DEPTH, run.clock.gauge("to be written", DEPTH)))
        edited = stack.enter_context(closing(edited_frames(run, portrait, editor)))
        for frame, faces in edited:
            submit(frame, faces)
    return Report(
        out=target,
        frames=len(finish.unchanged),
        fps=fps,
        profile=run.clock.profile(len(finish.unchanged)),
        stitched=options.stitching and run.engine.can_stitch,
        notes=tuple(_notes(run, portrait, options, sum(finish.unchanged))),
    )


def edited_frames(
    run: Run, portrait: Source, editor: Editor
) -> Generator[tuple[Image, list[Painted]], None, None]:
    """Every frame of a source in order, with its faces edited, batches side by side; a photo is one frame."""
    total = portrait.count or 1  # a photo goes on for ever
    done = 0
    with ExitStack() as stack:
        lanes = stack.enter_context(run.engine.lanes(math.ceil(total / run.batch)))
        frames = stack.enter_context(portrait.open())
        jobs = enumerate(batches(islice(frames, total), run.batch))
        due = run.clock.gauge("to be edited", lanes.count + 1)
        paint = partial(_paint, run, portrait, editor)
        for pictures, painted in stack.enter_context(
            side_by_side(paint, jobs, lanes.count, due, lanes.enter)
        ):
            yield from zip(pictures, painted, strict=True)
            done += len(pictures)
            run.progress(ANIMATE, done, total)


def _paint(
    run: Run, portrait: Source, editor: Editor, job: tuple[int, list[Image]]
) -> tuple[list[Image], list[list[Painted]]]:
    """The frames of a batch, given with its number, and the edited faces in each."""
    number, pictures = job
    start, fps = number * run.batch, float(portrait.fps or PHOTO_FPS)
    painted: list[list[Painted]] = [[] for _ in pictures]
    for which, face in enumerate(portrait.faces):
        rows = face.shown(range(start, start + len(pictures)))
        if not rows:
            continue
        view = face.view(run, rows, [pictures[row - start] for row in rows])
        generated = editor.render(view, [row / fps for row in rows])
        for index, row in enumerate(rows):
            place = view.places[index] if view.places else None
            tile = view.tiles[index if len(view.tiles) > 1 else 0]
            painted[row - start].append(Painted(which, generated[index], place, tile, None))
    return pictures, painted


def _notes(run: Run, portrait: Source, options: EditOptions, unchanged: int) -> Iterator[str]:
    if portrait.found > len(portrait.faces):
        yield f"{portrait.found} faces found in {portrait.name}: {len(portrait.faces)} edited (see --faces)"
    if unchanged:
        yield f"no face in {count(unchanged)} of {portrait.name}: passed through as they are"
    if options.stitching and not run.engine.can_stitch:
        yield "these weights bring no stitching module: edited without stitching"
