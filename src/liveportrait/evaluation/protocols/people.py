"""Between people (paper section 4.1, cross-reenactment): lively drivers, each on portraits of every kind.

A few drivers whose faces do much, and portraits of every kind (photos, generated faces, paintings and drawings), all
with all: enough pairs of each kind to tell how strongly expressions arrive. What is measured is the frame that
`animate` writes by default, pasted back into the whole portrait, at the portrait's own resolution.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from liveportrait import metrics
from liveportrait.animation.options import DriveOptions
from liveportrait.animation.portrait import Portrait
from liveportrait.evaluation.context import COMPARED_SIDE, EvalContext, compared
from liveportrait.evaluation.inputs import EvalClip, EvalItem, EvalSource
from liveportrait.evaluation.protocols.cross_reenactment import draw, failures
from liveportrait.evaluation.protocols.shared import (
    GREY,
    change_values,
    curves,
    detail_share,
    face_values,
    jitter_ratios,
    responses,
    telling_frames,
    tiles,
    tint,
    turn_groups,
    worst_frames,
)
from liveportrait.evaluation.results import Measured, Outcome
from liveportrait.evaluation.tracks import Track, observe
from liveportrait.face.crop import CropWindow, crop
from liveportrait.media import FrameArrays
from liveportrait.metrics.patches import face_saturation
from liveportrait.types import Array, Image

DRIVERS = 4  # people
FARTHEST_TURN = 40.0  # degrees
FRAMES = 24  # of a driver, spread evenly over the clip; then its consecutive ones
OPTIONS = DriveOptions(crop_driving=False, mark=False)


@dataclass(frozen=True, eq=False)
class Driver:
    """A clip that was measured."""

    clip: EvalClip
    track: Track
    burst: Track

    @classmethod
    def of(cls, context: EvalContext, clip: EvalClip) -> Driver | None:
        """None where the clip has one frame only, or shows no face in its first frame."""
        track = observe(context.analyzer, clip.frames, identities=False)
        if len(clip.frames) < 2 or track.faces[0] is None:
            return None
        return cls(clip, track, observe(context.analyzer, clip.burst, identities=False))


def lively_clips(items: Sequence[EvalItem]) -> list[EvalClip]:
    """The clips that drive: every video given; of shards the liveliest clip of each of the four liveliest people.

    Clips of shards that fade in are passed over (motion starts from a first frame that hardly shows a face), and those
    that turn farther than 40 degrees from where they start: of a portrait so far away nothing can be read any more.
    """
    given, chosen = [], dict[str, EvalClip]()
    clips = [each for each in items if each.is_video and each.turn <= FARTHEST_TURN]
    for each in sorted(clips, key=lambda item: -item.liveliness):
        if not np.isfinite(each.liveliness):
            given.append(each.evenly(FRAMES))
        elif each.identity not in chosen and len(chosen) < DRIVERS:
            clip = each.evenly(FRAMES)
            if metrics.is_well_exposed(clip.frames):
                chosen[each.identity] = clip
    return [*given, *chosen.values()]


def portraits(
    context: EvalContext, items: Sequence[EvalItem], a_kind: int, seed: int
) -> Iterator[EvalSource]:
    """So many pictures of each kind, drawn by a hash of seed and picture, in which `animate` finds a face."""
    kinds: dict[str, list[EvalItem]] = defaultdict(list)
    for each in sorted(
        (item for item in items if not item.is_video), key=lambda item: draw(seed, "", item.key)
    ):
        kinds[each.kind].append(each)
    for kind in sorted(kinds):
        found = 0
        for each in kinds[kind]:
            if found == a_kind:
                break
            source = each.source()
            if context.analyzer.detect(source.whole):
                found += 1
                yield source


def measure_people(
    context: EvalContext, source: EvalSource, drivers: Sequence[Driver], with_tiles: bool = False
) -> Iterator[Outcome]:
    """A portrait driven by other people, one after the other; nothing where its crop shows no face."""
    still = observe(context.analyzer, source.face[None])
    if still.faces[0] is None:
        return
    with context.animator.open(source.whole) as portrait:
        for driver in drivers:
            if driver.clip.identity != source.identity:
                yield _measured(context, portrait, source, still, driver, with_tiles)


def _measured(
    context: EvalContext,
    portrait: Portrait,
    source: EvalSource,
    still: Track,
    driver: Driver,
    with_tiles: bool,
) -> Outcome:
    clip, count = driver.clip, len(driver.clip.frames)
    shown = telling_frames(driver.track)
    crops, frames = _driven(portrait, source, clip.driving, shown)
    track = observe(context.analyzer, crops)
    detail = np.full(count, np.nan, np.float32)
    for row, frame in frames.items():
        if track.found[row]:
            places = [_in_whole(each.landmarks[at], source.window) for each, at in ((track, row), (still, 0))]
            detail[row] = detail_share(frame, places[0], source.whole, places[1])
    ratios = {}
    if len(clip.burst) > 2:
        run = observe(
            context.analyzer, _driven(portrait, source, clip.burst_driving(), [])[0], identities=False
        )
        ratios = jitter_ratios(run, driver.burst)
    values = face_values(track, driver.track) | change_values(track, driver.track) | {"detail": detail}
    own = max(metrics.sharpness(source.face), 1e-9)
    values["sharpness"] = np.array([metrics.sharpness(each) / own for each in crops], np.float32)
    if face_saturation(source.face, still.landmarks[0]) < GREY:
        values |= tint(crops, track.landmarks)
    measured = Measured(
        values={name: each[1:] for name, each in values.items()},
        ratios=ratios,
        clip_values={"scale_wobble": metrics.scale_wobble(track.scale, driver.track.scale)},
        curves={
            name: [(a[1:], b[1:]) for a, b in each] for name, each in curves(track, driver.track).items()
        },
        responses={
            name: [(a[1:], b[1:]) for a, b in each] for name, each in responses(track, driver.track).items()
        },
        identities=(track.identity[1:], still.repeated(0, count - 1).identity),
    )
    drawn = [(clip.frames, driver.track), (crops, track)]
    return Outcome(
        protocol="people",
        source=source.key,
        driver=clip.key,
        is_well_exposed=source.is_well_exposed and metrics.is_well_exposed(clip.frames),
        frames=count - 1,
        methods={"model": measured},
        kind=source.kind,
        groups={name: rows[1:] for name, rows in turn_groups(track, first=still.rotation[0]).items()},
        tiles=tiles(source.face, clip.frames, {"model": crops}, shown) if with_tiles else (),
        worst=worst_frames(failures(track, still, driver.track), source.face, drawn) if with_tiles else (),
    )


def _driven(
    portrait: Portrait, source: EvalSource, driving: FrameArrays, kept: Sequence[int]
) -> tuple[Image, dict[int, Image]]:
    """The source's crop (T,256,256,3) out of every frame, and some of the frames at the size of the whole picture."""
    crops: list[Image] = []
    frames: dict[int, Image] = {}
    with portrait.drive(driving, OPTIONS) as rendered:
        for number, frame in enumerate(rendered):
            full = _enlarged(frame, *source.whole.shape[:2])
            crops.append(crop(full, source.window, replicate_border=True))
            if number in kept:
                frames[number] = full
    return compared(crops), frames


def _enlarged(frame: Image, height: int, width: int) -> Image:
    """A frame (H,W,3) at the size of the photo that was reduced for it; but for an odd row or column, cut off."""
    if height - frame.shape[0] <= 1 and width - frame.shape[1] <= 1:
        return frame
    return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC))


def _in_whole(landmarks: Array, window: CropWindow) -> Array:
    """Landmarks (478,3) px of the compared crop as px of the whole picture."""
    inverse = window.resized(COMPARED_SIDE).inverse()
    return landmarks[:, :2] @ inverse[:, :2].T + inverse[:, 2]
