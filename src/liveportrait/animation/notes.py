"""The report and the notes for the user about a result that has been written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.edit_options import EditOptions
from liveportrait.animation.option_checks import no_effect_notes
from liveportrait.animation.options import AnimateOptions, SourceOptions
from liveportrait.animation.pipeline import Rendering
from liveportrait.animation.report import Report, count, framing_note, gaps, held_note, stretches_note
from liveportrait.animation.writer import size_notes
from liveportrait.marking.seal import Seal


def report_on(
    rendering: Rendering,
    paths: Sequence[Path],
    unchanged: NDArray[np.bool_],
    opened: SourceOptions,
    options: AnimateOptions | EditOptions,
    seal: Seal,
) -> Report:
    """The report on a rendering that was written to `paths` and marked by `seal`.

    `unchanged` (N,): which frames went through as they were; `opened`: the options that the source was opened with.
    """
    notes = [*_notes(rendering, unchanged, opened, options), *size_notes(rendering, paths[0], options)]
    if isinstance(options, AnimateOptions):
        notes += [*_framing_notes(rendering, options), *_photo_notes(rendering, options)]
    moving = [driver.jitter() for driver in rendering.drivers]
    return Report(
        out=paths[0],
        frames=len(unchanged),
        fps=rendering.fps,
        profile=rendering.session.clock.profile(len(unchanged)),
        compare=paths[1] if len(paths) > 1 else None,
        held=rendering.drivers[0].driver.held if rendering.drivers else (),
        passed=gaps(~unchanged),
        cuts=rendering.source.cuts,
        jitter=(*rendering.source.jitter, *(figure for figure in moving if figure.before > 0)),
        stitched=options.stitching and rendering.session.engine.can_stitch,
        notes=(*notes, *seal.notes),
        marking=seal.summary,
    )


def _notes(
    rendering: Rendering,
    unchanged: NDArray[np.bool_],
    opened: SourceOptions,
    options: AnimateOptions | EditOptions,
) -> Iterator[str]:
    source, stitching = rendering.source, options.stitching
    done = "animated" if isinstance(options, AnimateOptions) else "edited"
    if source.note:
        yield source.note
    if opened.faces == "largest" and source.found > 1:
        yield f"{source.found} faces found in {source.name}: the largest was {done}"
    if passed := gaps(~unchanged):
        yield f"no chosen face in {stretches_note(passed, 'SOURCE')}: unchanged in the result"
    for each in rendering.drivers:
        if each.driver.held:
            yield held_note(each.driver.held)
    lengths = rendering.lengths
    if source.count and lengths and source.count != min(lengths):
        yield (
            f"SOURCE has {count(source.count)}, and DRIVING lasts for {min(lengths)} of them at its rate: the result"
            f" has {len(unchanged)}"
        )
    carries_source = rendering.session.engine.variant.carries_source
    photo_drives = any(each.driver.is_photo for each in rendering.drivers)
    yield from no_effect_notes(options, carries_source, photo_drives, source.fps is not None)
    yield from rendering.session.engine.notes
    if stitching and not rendering.session.engine.can_stitch:
        yield f"these weights have no stitching module: {done} without stitching"


def _framing_notes(rendering: Rendering, options: AnimateOptions) -> Iterator[str]:
    """Notes on how the drivers' camera movement was handled."""
    moves_head = options.region in ("all", "pose") and not options.lock_head and not rendering.source.fps
    for driver in (each.driver for each in rendering.drivers if options.framing == "steady"):
        is_moved = driver.is_steadied and moves_head
        if is_moved or driver.cuts:
            yield framing_note(driver.name, is_moved, driver.cuts)


def _photo_notes(rendering: Rendering, options: AnimateOptions) -> Iterator[str]:
    """Whether the head pose of a driving photo was left out."""
    moves_head = options.motion == "relative" and options.region in ("all", "pose")
    is_photo = any(each.driver.is_photo for each in rendering.drivers)
    if moves_head and is_photo and not options.photo_pose:
        yield "a driving photo gives its expression only: use --photo-pose to take its head pose too"
