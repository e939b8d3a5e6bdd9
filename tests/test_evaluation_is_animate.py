"""The pictures that `evaluate` measures are byte for byte those that `animate` writes for the same crops."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from animation_samples import bundled_networks, driving_frames, portrait

from liveportrait import AnimateOptions, Animator, EditOptions
from liveportrait.engine import Engine
from liveportrait.evaluation.context import EvalContext
from liveportrait.evaluation.inputs import EvalClip, EvalSource, mirrored
from liveportrait.evaluation.protocols.control import REQUESTS, measure_control
from liveportrait.evaluation.protocols.cross_reenactment import measure_pair
from liveportrait.evaluation.protocols.self_reenactment import measure_clip
from liveportrait.evaluation.protocols.shared import telling_frames
from liveportrait.evaluation.tracks import observe
from liveportrait.face import default_analyzer
from liveportrait.face.crop import to_input
from liveportrait.media import load_image


@cache
def context() -> EvalContext:
    return EvalContext.of(Engine(bundled_networks(retargeting=True)), default_analyzer())


@cache
def clip() -> EvalClip:
    frames = np.stack([to_input(frame) for frame in driving_frames(8)])
    return EvalClip("clip", frames[::2], "somebody", frames[2:6])


@cache
def source() -> EvalSource:
    face = to_input(portrait())
    return EvalSource("portrait", "portrait", face, *mirrored(face), is_well_exposed=True)


def measured(tiles: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """The model's pictures in a row of tiles: the source, then three times driver, model and landmark warp."""
    return [tiles[column] for column in (2, 5, 8)]


@pytest.mark.parametrize("protocol", ["self", "cross"])
def test_reenactment_measures_what_animate_writes(protocol: str, tmp_path: Path) -> None:
    if protocol == "self":
        outcome = measure_clip(context(), clip(), with_tiles=True)
        face, options = clip().frames[0], {"reference": "first", "stitching": False, "framing": "follow"}
    else:
        outcome = measure_pair(context(), source(), clip(), with_tiles=True)
        face, options = source().face, {}
    assert outcome is not None
    animator = Animator(context().engine, default_analyzer())
    report = animator.animate(
        face,
        clip().frames,
        tmp_path / "frames",
        AnimateOptions(crop=False, crop_driving=False, paste_back=False, mark=False, **options),
    )
    assert report.frames == len(clip().frames)
    written = [load_image(path) for path in sorted((tmp_path / "frames").iterdir())]
    rows = telling_frames(observe(context().analyzer, clip().frames))
    assert len(set(rows)) > 1
    for row, picture in zip(rows, measured(outcome.tiles), strict=True):
        assert np.array_equal(picture, written[row])


def test_self_reenactment_follows_a_head_that_crosses_the_picture() -> None:
    face = to_input(portrait())
    frames = np.stack([np.roll(face, 16 * step, axis=1) for step in range(4)])  # px; the face is 100 px wide
    outcome = measure_clip(context(), EvalClip("walk", frames, "somebody", frames[:2]))
    assert outcome is not None
    assert outcome.methods["model"].values["landmarks"].max() < 0.05  # eye-corner distances
    assert outcome.methods["copy"].values["landmarks"].max() > 0.4


def test_control_measures_what_edit_writes(tmp_path: Path) -> None:
    outcome = measure_control(context(), source(), ["eye", "lip"], with_tiles=True)
    assert outcome is not None
    animator = Animator(context().engine, default_analyzer())
    for part, first in (("eye", 1), ("lip", 1 + len(REQUESTS))):
        for number in (0, len(REQUESTS) - 1):
            out = tmp_path / f"{part}{number}.png"
            sliders = {f"{part}_opening": REQUESTS[number]}
            animator.edit(source().face, out, EditOptions(crop=False, mark=False, **sliders))
            assert np.array_equal(load_image(out), outcome.tiles[first + number])
