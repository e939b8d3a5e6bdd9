"""Self-reenactment (paper section 4.1): a clip's first frame, driven by the entire clip, against the clip itself.

Frames are already cropped faces; landmarks are detected on the rendered pictures. Every figure comes with two
baselines: showing the source unchanged ("copy"), and warping it to the driving frame's true landmarks
("landmark_warp"). Stitching is off, because it would keep the shoulders from following the clip.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from liveportrait import metrics
from liveportrait.animation.options import DriveOptions
from liveportrait.engine import Engine
from liveportrait.evaluation.context import EvalContext, compared, drive
from liveportrait.evaluation.inputs import EvalClip, frame_numbers
from liveportrait.evaluation.protocols.shared import (
    curves,
    face_values,
    jitter_ratios,
    landmark_warp,
    mouth_groups,
    responses,
    rotation_distances,
    telling_frames,
    tiles,
    tint,
    turn_groups,
    worst_frames,
)
from liveportrait.evaluation.results import METHODS, Measurements, Outcome, summary
from liveportrait.evaluation.tracks import Track, observe
from liveportrait.face import Face, FaceAnalyzer
from liveportrait.media import FrameArrays
from liveportrait.metrics.images import luma
from liveportrait.metrics.patches import change, detail_energy, eye_patches, mouth_patch
from liveportrait.metrics.perceptual import compare, patch_distances
from liveportrait.types import Array, Image

OPTIONS = DriveOptions(crop_driving=False, framing="follow", reference="first", stitching=False, mark=False)
GREY_FRAMES = 6  # with the widest open mouths, for the test with a grey source


def self_reenactment(
    engine: Engine, analyzer: FaceAnalyzer, clips: Iterable[EvalClip], stride: int = 1
) -> dict[str, dict[str, float]]:
    """Figures of each method on every `stride`-th frame of clips; "frames" is how many frames that is.

    docs/notes/evaluation-definitions.md defines the figures.
    """
    context = EvalContext.of(engine, analyzer)
    outcomes = []
    for clip in clips:
        chosen, burst = frame_numbers(len(clip.frames), stride)
        thinned = EvalClip(clip.key, clip.frames[chosen], clip.identity, clip.frames[burst], stride)
        if outcome := measure_clip(context, thinned):
            outcomes.append(outcome)
    figures = {method: summary(outcomes, method, centre=None) for method in METHODS}
    frames = float(sum(outcome.frames for outcome in outcomes))
    return {
        method: {name: figure.value for name, figure in found.items()} | {"frames": frames}
        for method, found in figures.items()
    }


def measure_clip(context: EvalContext, clip: EvalClip, with_tiles: bool = False) -> Outcome | None:
    """Model and baselines on a clip, without the first frame (it is the source).

    None if the clip has only one frame, or if no face was found in the first.
    """
    truth = observe(context.analyzer, clip.frames)
    if len(clip.frames) < 2 or truth.faces[0] is None:
        return None
    with context.open(clip.frames[0]) as portrait:
        driven = compared(drive(portrait, clip.driving, OPTIONS))
        run = compared(drive(portrait, clip.burst_driving(after_first=True), OPTIONS))[1:]
    outputs = _outputs(clip.frames, driven, truth, truth)
    distances, features, real = compare(
        context.features,
        {name: made[1:] if len(made) > 1 else made for name, made in outputs.items()},
        clip.frames[1:],
    )
    driver = observe(context.analyzer, clip.burst, identities=False)
    ratios, flickers = _bursts(context, clip, run, truth, driver)
    grey = _grey_source_values(context, clip, truth)
    tracks = _tracks(context, outputs, truth, truth)
    methods = {}
    for method, made in outputs.items():
        track = tracks[method]
        values = {name: each[1:] for name, each in _frame_values(made, clip.frames, track, truth).items()}
        near, shares = _patch_values(context, made, clip.frames[1:], truth.faces[1:])
        values |= near | {"perceptual": distances[method]} | (grey if method == "model" else {})
        methods[method] = Measurements(
            values=values,
            ratios=ratios.get(method, {}),
            shares=shares,
            burst_shares=flickers.get(method, {}),
            clip_values={"scale_wobble": metrics.scale_wobble(track.scale, truth.scale)},
            curves={name: [(a[1:], b[1:]) for a, b in pairs] for name, pairs in curves(track, truth).items()},
            responses={
                name: [(a[1:], b[1:]) for a, b in pairs] for name, pairs in responses(track, truth).items()
            },
            identities=(track.identity[1:], truth.identity[1:]),
            features=features[method],
        )
    shown = {name: made for name, made in outputs.items() if name != "copy"}
    bad = {
        name: np.append(np.float32(np.nan), methods["model"].values[name])
        for name in ("perceptual", "mouth_perceptual")
    }
    return Outcome(
        protocol="self",
        source=clip.key,
        driver=clip.key,
        is_well_exposed=metrics.is_well_exposed(clip.frames),
        frames=len(clip.frames) - 1,
        methods=methods,
        real=real,
        kind="clip",
        groups={
            name: rows[1:]
            for name, rows in (turn_groups(truth) | mouth_groups(truth.lips[0], truth.lips)).items()
        },
        burst_groups=mouth_groups(truth.lips[0], driver.lips),
        tiles=tiles(clip.frames[0], clip.frames, shown, telling_frames(truth)) if with_tiles else (),
        worst=worst_frames(bad, clip.frames[0], [(each, truth) for each in (clip.frames, *shown.values())])
        if with_tiles
        else (),
    )


def _outputs(frames: Image, driven: Image, truth: Track, driver: Track) -> dict[str, Image]:
    """The pictures (T,256,256,3) by method; the copy is a single picture, the clip's first."""
    source, own = frames[0], truth.landmarks[0]
    warped = [source if face is None else landmark_warp(source, own, face.landmarks) for face in driver.faces]
    return {"model": driven, "copy": frames[:1], "landmark_warp": np.stack(warped)}


def _bursts(
    context: EvalContext, clip: EvalClip, driven: Image, truth: Track, driver: Track
) -> tuple[dict[str, dict[str, tuple[float, float]]], dict[str, dict[str, tuple[Array, Array]]]]:
    """Each method's jitter and the clip's, over consecutive frames; and the flicker of their mouths."""
    if len(clip.burst) < 3:
        return {}, {}
    outputs = _outputs(clip.frames, driven, truth, driver)
    tracks = _tracks(context, outputs, truth, driver, identities=False)
    own = _flicker(clip.burst, driver.faces)
    flickers = {
        method: {"mouth_flicker": (_flicker(_one_per_frame(made, len(clip.burst)), driver.faces), own)}
        for method, made in outputs.items()
    }
    return {method: jitter_ratios(track, driver) for method, track in tracks.items()}, flickers


def _flicker(pictures: Image, faces: Sequence[Face | None]) -> Array:
    """Change of the mouth (T,) since the frame before, in patches that move with the head; NaN for the first."""
    found = np.full(len(pictures), np.nan, np.float32)
    places = [mouth_patch(face.landmarks) if face else None for face in faces]
    for row, (before, now) in enumerate(pairwise(places), 1):
        if before and now:
            region = before.region | now.region
            found[row] = change(before.cut(pictures[row - 1]), now.cut(pictures[row]), region)
    return found


def _patch_values(
    context: EvalContext, made: Image, frames: Image, faces: Sequence[Face | None]
) -> tuple[dict[str, Array], dict[str, tuple[Array, Array]]]:
    """Perceptual distances (T,) of mouth and eyes from the target's, and the sharpness of both."""
    shown = _one_per_frame(made, len(frames) + 1)[1:]
    values: dict[str, Array] = {}
    shares: dict[str, tuple[Array, Array]] = {}
    known = [row for row, face in enumerate(faces) if face]
    for part in ("mouth", "eye"):
        distance, own, wanted = (np.full(len(frames), np.nan, np.float32) for _ in range(3))
        cuts: list[list[Image]] = [[], []]
        for row in known:
            face = faces[row]
            assert face is not None
            places = (mouth_patch(face.landmarks),) if part == "mouth" else eye_patches(face.landmarks)
            both = [[place.cut(pictures[row]) for place in places] for pictures in (shown, frames)]
            own[row], wanted[row] = (
                np.mean([detail_energy(a, place.region) for a, place in zip(cut, places, strict=True)])
                for cut in both
            )
            for found, cut in zip(cuts, both, strict=True):
                found += cut
        if known:
            distances = patch_distances(context.features, np.stack(cuts[0]), np.stack(cuts[1]))
            distance[known] = distances.reshape(len(known), -1).mean(1)
        values[f"{part}_perceptual"], shares[f"{part}_sharpness"] = distance, (own, wanted)
    return values, shares


def _grey_source_values(context: EvalContext, clip: EvalClip, truth: Track) -> dict[str, Array]:
    """Saturation (T − 1,) of results of a grey source, on the frames with the widest mouths; NaN on all others.

    The source is the clip's first frame without colour.
    """
    count = len(clip.frames)
    rows = 1 + np.argsort(-np.nan_to_num(truth.lips[1:], nan=-1), kind="stable")[:GREY_FRAMES]
    source = np.repeat(luma(clip.frames[0])[..., None], 3, 2).astype(np.uint8)
    frames = FrameArrays(clip.frames[np.append(0, rows)], 1, clip.key)
    with context.open(source) as portrait:
        pictures = compared(drive(portrait, frames, OPTIONS))[1:]
    found = {name: np.full(count, np.nan, np.float32) for name in ("grey_mouth", "grey_face")}
    for name, values in tint(pictures, truth.landmarks[rows]).items():
        found[name][rows] = values
    return {name: values[1:] for name, values in found.items()}


def _one_per_frame(made: Image, count: int) -> Image:
    """A method's pictures (T,H,W,3); a single picture is repeated for all frames."""
    return made if len(made) > 1 else np.broadcast_to(made, (count, *made.shape[1:]))


def _tracks(
    context: EvalContext, outputs: dict[str, Image], still: Track, driver: Track, identities: bool = True
) -> dict[str, Track]:
    """A track per method, with faces looked for near the driver's; the copy's is the source's, repeated."""
    tracks = {
        method: observe(context.analyzer, made, driver.faces, identities)
        for method, made in outputs.items()
        if method != "copy"
    }
    return tracks | {"copy": still.repeated(0, len(driver.faces))}


def _frame_values(made: Image, frames: Image, track: Track, truth: Track) -> dict[str, Array]:
    shown = _one_per_frame(made, len(frames))
    values: dict[str, list[float]] = {"psnr": [], "ssim": [], "l1": [], "sharpness": [], "landmarks": []}
    for row, (picture, target) in enumerate(zip(shown, frames, strict=True)):
        values["psnr"].append(metrics.psnr(picture, target))
        values["ssim"].append(metrics.ssim(picture, target))
        values["l1"].append(metrics.l1(picture, target))
        values["sharpness"].append(metrics.sharpness(picture) / max(metrics.sharpness(target), 1e-9))
        values["landmarks"].append(metrics.landmark_distance(track.landmarks[row], truth.landmarks[row]))
    arrays = {name: np.array(each, np.float32) for name, each in values.items()}
    arrays["head_pose"] = rotation_distances(track.rotation, truth.rotation)
    arrays["gaze"] = np.linalg.norm(track.gaze - truth.gaze, axis=1)
    return arrays | face_values(track, truth)
