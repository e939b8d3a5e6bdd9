"""Cross-reenactment (paper section 4.1): one person's picture driven by another person's clip.

The source moves as `animate` moves it by default: relative to the driver's first frame, and stitched if the weights
can. There is no ground truth to compare with. What can be measured is whom the result looks like, whether it moves
as the driver does, and whether everything that should stand still does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from liveportrait import metrics
from liveportrait.animation.options import DriveOptions
from liveportrait.evaluation.context import EvalContext, compared, drive
from liveportrait.evaluation.inputs import EvalClip, EvalItem, EvalSource
from liveportrait.evaluation.protocols.shared import (
    GREY,
    change_values,
    curves,
    face_values,
    jitter_ratios,
    landmark_warp,
    responses,
    telling_frames,
    tiles,
    tint,
    turn_groups,
    worst_frames,
)
from liveportrait.evaluation.results import Measurements, Outcome
from liveportrait.evaluation.tracks import Track, find, observe
from liveportrait.face import Face
from liveportrait.face.paste import Paster
from liveportrait.metrics import Seam, background_region, displacement, shoulder_region
from liveportrait.metrics.patches import face_saturation
from liveportrait.metrics.perceptual import features
from liveportrait.types import Array, Image

OPTIONS = DriveOptions(crop_driving=False, mark=False)
UNSTITCHED = DriveOptions(crop_driving=False, stitching=False, mark=False)


class MethodOutput(NamedTuple):
    """The pictures that a method made from a source and a clip, with their measurements."""

    pictures: Image  # (T,256,256,3)
    track: Track
    stillness: dict[str, Array]  # measures (T,) of what should stand still
    features: Array  # (T − 1,1280), without the first picture


def pairings(items: Sequence[EvalItem], seed: int) -> list[tuple[EvalItem, list[EvalItem]]]:
    """Every clip with the sources of other people, in the order in which to try them.

    The order is by a hash of seed, clip and source, so that a pair does not depend on the other data. About half of
    the clips get a picture, the others the first frame of a clip, if there are any.
    """
    pairs = []
    for driver in (clip for clip in items if clip.is_video):
        others = [each for each in items if each.identity != driver.identity]
        pictures = [each for each in others if not each.is_video]
        firsts = [each for each in others if each.is_video]
        wanted = (pictures or firsts) if int(sort_key(seed, driver.key, ""), 16) % 2 else (firsts or pictures)
        if wanted:
            pairs.append((driver, sorted(wanted, key=lambda each: sort_key(seed, driver.key, each.key))))
    return pairs


def sort_key(seed: int, driver: str, source: str) -> str:
    """A pseudorandom key to sort by, the same on every run."""
    return hashlib.sha256(f"{seed}/{driver}/{source}".encode()).hexdigest()


def measure_pair(
    context: EvalContext, source: EvalSource, clip: EvalClip, with_tiles: bool = False
) -> Outcome | None:
    """Model and baselines on a source and a driving clip, without its first frame (nothing has moved yet).

    None if the clip has only one frame, or if no face was found in its first frame or in the source.
    """
    driver = observe(context.analyzer, clip.frames, identities=False)
    face, count = find(context.analyzer, source.face), len(clip.frames)
    if count < 2 or driver.faces[0] is None or face is None:
        return None
    with context.open(source.face) as portrait:
        driven = drive(portrait, clip.driving, OPTIONS)
        run = drive(portrait, clip.burst_driving(), OPTIONS) if len(clip.burst) else clip.burst
        loose = drive(portrait, clip.driving, UNSTITCHED) if context.engine.can_stitch else None
    rendered = {
        "model": driven,
        "landmark_warp": _landmark_warps(source, face, driver.faces[0], driver.faces),
    }
    outputs = {name: compared(pictures) for name, pictures in rendered.items()}
    still = observe(context.analyzer, source.face[None], (face,))
    tracks = {name: observe(context.analyzer, pictures) for name, pictures in outputs.items()}
    stillness = Stillness(source, face)
    disturbed = {name: stillness.disturbance(rendered[name], tracks[name]) for name in outputs}
    bursts = _bursts(context, source, face, clip, run, still, driver)
    if loose is not None:
        track = observe(context.analyzer, compared(loose), identities=False)
        pair = disturbed["model"]["shoulders"], stillness.disturbance(loose, track)["shoulders"]
        stitched, unstitched = (float(np.nansum(moved[1:])) for moved in pair)
        bursts.setdefault("model", {})["shoulders_stitched"] = (stitched, unstitched)
    made = {
        name: MethodOutput(pictures, tracks[name], disturbed[name], features(context.features, pictures[1:]))
        for name, pictures in outputs.items()
    }
    seen = features(context.features, source.face[None])
    made["copy"] = MethodOutput(
        np.broadcast_to(source.face, clip.frames.shape),
        still.repeated(0, count),
        stillness.undisturbed(count),
        np.repeat(seen, count - 1, axis=0),
    )
    drawn = [(clip.frames, driver), *((outputs[name], tracks[name]) for name in outputs)]
    return Outcome(
        protocol="cross",
        source=source.key,
        driver=clip.key,
        is_well_exposed=source.is_well_exposed and metrics.is_well_exposed(clip.frames),
        frames=count - 1,
        methods={
            name: _measure_method(source, still, driver, each, bursts.get(name, {}))
            for name, each in made.items()
        },
        real=np.concatenate([seen, features(context.features, clip.frames[1:])]),
        kind=source.kind,
        groups={
            name: rows[1:] for name, rows in turn_groups(tracks["model"], first=still.rotation[0]).items()
        },
        tiles=tiles(source.face, clip.frames, outputs, telling_frames(driver)) if with_tiles else (),
        worst=worst_frames(failure_values(tracks["model"], still, driver), source.face, drawn)
        if with_tiles
        else (),
    )


def failure_values(track: Track, still: Track, driver: Track) -> dict[str, Array]:
    """Per frame (T,), to find the worst: distance from the source's identity, and error of the lips' change in cm."""
    gap = np.abs((track.lip_gap - track.lip_gap[0]) - (driver.lip_gap - driver.lip_gap[0]))
    return {"csim_distance": np.linalg.norm(track.identity - still.identity[0], axis=1), "lip_gap": gap}


def _landmark_warps(source: EvalSource, face: Face, first: Face, faces: Sequence[Face | None]) -> Image:
    """The source warped by the driver's change of landmarks since its first frame, scaled by eye distance."""
    size = metrics.eye_distance(face.landmarks) / metrics.eye_distance(first.landmarks)
    return np.stack(
        [
            source.face
            if each is None
            else landmark_warp(
                source.face, face.landmarks, face.landmarks + (each.landmarks - first.landmarks) * size
            )
            for each in faces
        ]
    )


def _bursts(
    context: EvalContext,
    source: EvalSource,
    face: Face,
    clip: EvalClip,
    driven: Image,
    still: Track,
    driver: Track,
) -> dict[str, dict[str, tuple[float, float]]]:
    """Each method's jitter and the driver's, over consecutive frames."""
    first = driver.faces[0]
    if len(clip.burst) < 3 or first is None:
        return {}
    burst = observe(context.analyzer, clip.burst, identities=False)
    outputs = {"model": compared(driven), "landmark_warp": _landmark_warps(source, face, first, burst.faces)}
    tracks = {name: observe(context.analyzer, made, identities=False) for name, made in outputs.items()}
    tracks["copy"] = still.repeated(0, len(clip.burst))
    return {name: jitter_ratios(track, burst) for name, track in tracks.items()}


def _measure_method(
    source: EvalSource,
    still: Track,
    driver: Track,
    made: MethodOutput,
    ratios: dict[str, tuple[float, float]],
) -> Measurements:
    """The measurements of one method, without the first frame."""
    own = max(metrics.sharpness(source.face), 1e-9)
    sharpness = np.array([metrics.sharpness(picture) / own for picture in made.pictures], np.float32)
    values = face_values(made.track, driver) | change_values(made.track, driver) | made.stillness
    if face_saturation(source.face, still.landmarks[0]) < GREY:
        values |= tint(made.pictures, made.track.landmarks)
    return Measurements(
        values={name: each[1:] for name, each in (values | {"sharpness": sharpness}).items()},
        ratios=ratios,
        clip_values={"scale_wobble": metrics.scale_wobble(made.track.scale, driver.scale)},
        curves={name: [(a[1:], b[1:]) for a, b in each] for name, each in curves(made.track, driver).items()},
        responses={
            name: [(a[1:], b[1:]) for a, b in each] for name, each in responses(made.track, driver).items()
        },
        identities=(made.track.identity[1:], still.repeated(0, len(made.pictures) - 1).identity),
        features=made.features,
    )


class Stillness:
    """Measures of what should stand still while a source moves: shoulders, background, the pasted crop's border."""

    def __init__(self, source: EvalSource, face: Face) -> None:
        self._source, self._face = source, face
        self._seam = Seam(source.whole, source.window)
        self._paster = Paster(source.window, source.whole.shape)

    def disturbance(self, rendered: Image, track: Track) -> dict[str, Array]:
        """Displacements and seam energy (T,) of pictures (T,S,S,3) with their track."""
        seams = [self._seam.energy(self._paster.paste(picture, self._source.whole)) for picture in rendered]
        pictures, size = compared(rendered), len(self._source.face)
        shoulders: list[float] = []
        background: list[float] = []
        for picture, own in zip(pictures, track.faces, strict=True):
            faces = [self._face.landmarks] if own is None else [self._face.landmarks, own.landmarks]
            for found, region in ((shoulders, shoulder_region), (background, background_region)):
                found.append(displacement(self._source.face, picture, region(size, faces)))
        values = {"shoulders": shoulders, "background": background, "seam_energy": seams}
        return {name: np.array(each, np.float32) for name, each in values.items()}

    @staticmethod
    def undisturbed(count: int) -> dict[str, Array]:
        """The same measures of `count` copies of the source, in which nothing moves."""
        return {name: np.zeros(count, np.float32) for name in ("shoulders", "background", "seam_energy")}
