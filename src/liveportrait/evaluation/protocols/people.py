"""People (cross-reenactment, paper section 4.1): every lively driver on portraits of every kind.

A few drivers with lively faces each drive every portrait (photos, generated faces, paintings and drawings). That
gives enough pairs of each kind to measure how strongly expressions transfer. Measured is the frame that `animate`
writes by default: pasted back into the full portrait, at the portrait's own resolution.
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
from liveportrait.evaluation.protocols.cross_reenactment import failure_values, sort_key
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
from liveportrait.evaluation.results import Measurements, Outcome
from liveportrait.evaluation.tracks import Track, observe
from liveportrait.face.crop import CropWindow, crop
from liveportrait.media import FrameArrays
from liveportrait.metrics.patches import face_saturation
from liveportrait.types import Array, Image

DRIVERS = 4  # people
MAX_TURN_DEGREES = 40.0
DRIVER_FRAMES = 24  # spread evenly over a driver's clip; its consecutive frames come on top
OPTIONS = DriveOptions(crop_driving=False, mark=False)


@dataclass(frozen=True, eq=False)
class Driver:
    """A driving clip and its measurements."""

    clip: EvalClip
    track: Track
    burst: Track

    @classmethod
    def of(cls, context: EvalContext, clip: EvalClip) -> Driver | None:
        """Measure a clip. None if it has only one frame, or no face in its first frame."""
        track = observe(context.analyzer, clip.frames, identities=False)
        if len(clip.frames) < 2 or track.faces[0] is None:
            return None
        return cls(clip, track, observe(context.analyzer, clip.burst, identities=False))


def lively_clips(items: Sequence[EvalItem]) -> list[EvalClip]:
    """The driving clips: all videos given, and from shards the liveliest clip of each of the four liveliest people.

    Shards' clips that fade in are skipped, as motion starts from a first frame that hardly shows a face. So are clips
    in which the head turns more than 40 degrees from where it starts: a portrait turned that far cannot be measured.
    """
    given, chosen = [], dict[str, EvalClip]()
    clips = [each for each in items if each.is_video and each.turn <= MAX_TURN_DEGREES]
    for each in sorted(clips, key=lambda item: -item.liveliness):
        if not np.isfinite(each.liveliness):
            given.append(each.evenly(DRIVER_FRAMES))
        elif each.identity not in chosen and len(chosen) < DRIVERS:
            clip = each.evenly(DRIVER_FRAMES)
            if metrics.is_well_exposed(clip.frames):
                chosen[each.identity] = clip
    return [*given, *chosen.values()]


def portraits(
    context: EvalContext, items: Sequence[EvalItem], per_kind: int, seed: int
) -> Iterator[EvalSource]:
    """`per_kind` pictures of each kind in which `animate` finds a face, ordered by a hash of seed and picture."""
    kinds: dict[str, list[EvalItem]] = defaultdict(list)
    for each in sorted(
        (item for item in items if not item.is_video), key=lambda item: sort_key(seed, "", item.key)
    ):
        kinds[each.kind].append(each)
    for kind in sorted(kinds):
        found = 0
        for each in kinds[kind]:
            if found == per_kind:
                break
            source = each.source()
            if context.analyzer.detect(source.whole):
                found += 1
                yield source


def measure_people(
    context: EvalContext, source: EvalSource, drivers: Sequence[Driver], with_tiles: bool = False
) -> Iterator[Outcome]:
    """A portrait driven by each of the other people in turn; yields nothing if its crop shows no face."""
    still = observe(context.analyzer, source.face[None])
    if still.faces[0] is None:
        return
    with context.animator.open(source.whole) as portrait:
        for driver in drivers:
            if driver.clip.identity != source.identity:
                yield _measure_driver(context, portrait, source, still, driver, with_tiles)


def _measure_driver(
    context: EvalContext,
    portrait: Portrait,
    source: EvalSource,
    still: Track,
    driver: Driver,
    with_tiles: bool,
) -> Outcome:
    clip, count = driver.clip, len(driver.clip.frames)
    shown = telling_frames(driver.track)
    crops, frames = _render(portrait, source, clip.driving, shown)
    track = observe(context.analyzer, crops)
    detail = np.full(count, np.nan, np.float32)
    for row, frame in frames.items():
        if track.found[row]:
            places = [_in_whole(each.landmarks[at], source.window) for each, at in ((track, row), (still, 0))]
            detail[row] = detail_share(frame, places[0], source.whole, places[1])
    ratios = {}
    if len(clip.burst) > 2:
        run = observe(
            context.analyzer, _render(portrait, source, clip.burst_driving(), [])[0], identities=False
        )
        ratios = jitter_ratios(run, driver.burst)
    values = face_values(track, driver.track) | change_values(track, driver.track) | {"detail": detail}
    own = max(metrics.sharpness(source.face), 1e-9)
    values["sharpness"] = np.array([metrics.sharpness(each) / own for each in crops], np.float32)
    if face_saturation(source.face, still.landmarks[0]) < GREY:
        values |= tint(crops, track.landmarks)
    measured = Measurements(
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
        worst=worst_frames(failure_values(track, still, driver.track), source.face, drawn)
        if with_tiles
        else (),
    )


def _render(
    portrait: Portrait, source: EvalSource, driving: FrameArrays, kept: Sequence[int]
) -> tuple[Image, dict[int, Image]]:
    """The source's crop (T,256,256,3) from every frame; and, by index, the frames in `kept` at the portrait's size."""
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
    """A frame (H,W,3) resized to the photo that was reduced for it; a missing odd row or column does not count."""
    if height - frame.shape[0] <= 1 and width - frame.shape[1] <= 1:
        return frame
    return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC))


def _in_whole(landmarks: Array, window: CropWindow) -> Array:
    """Landmarks (478,3) in px of the compared crop as points (478,2) in px of the full picture."""
    inverse = window.resized(COMPARED_SIDE).inverse()
    return landmarks[:, :2] @ inverse[:, :2].T + inverse[:, 2]
