"""Self-reenactment (paper section 4.1): a clip's first frame, driven by the whole clip, against the clip itself.

Frames are taken as cropped faces; landmarks are detected anew on what was rendered. Two baselines stand
beside every figure: showing the source unchanged ("copy"), and warping it to the driving frame's true
landmarks ("landmark_warp"). Stitching is off: it would keep the shoulders from following the clip.
"""

from __future__ import annotations

from collections.abc import Iterable

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
    rotation_distances,
    telling_frames,
    tiles,
)
from liveportrait.evaluation.results import METHODS, Measured, Outcome, summary
from liveportrait.evaluation.tracks import Track, observe
from liveportrait.face import FaceAnalyzer
from liveportrait.metrics.perceptual import compare
from liveportrait.types import Array, Image

OPTIONS = DriveOptions(crop_driving=False, reference="first", stitching=False)


def self_reenactment(
    engine: Engine, analyzer: FaceAnalyzer, clips: Iterable[EvalClip], stride: int = 1
) -> dict[str, dict[str, float]]:
    """Figures of each method on every `stride`-th frame of clips, and their `frames`.

    docs/notes/evaluation-definitions.md defines the figures.
    """
    context = EvalContext.of(engine, analyzer)
    outcomes = []
    for clip in clips:
        chosen, burst = frame_numbers(len(clip.frames), stride)
        thinned = EvalClip(clip.key, clip.frames[chosen], clip.identity, clip.frames[burst])
        if outcome := measure_clip(context, thinned):
            outcomes.append(outcome)
    figures = {method: summary(outcomes, method, centre=None) for method in METHODS}
    frames = float(sum(outcome.frames for outcome in outcomes))
    return {
        method: {name: figure.value for name, figure in found.items()} | {"frames": frames}
        for method, found in figures.items()
    }


def measure_clip(context: EvalContext, clip: EvalClip, with_tiles: bool = False) -> Outcome | None:
    """Model and baselines on a clip, the first frame left out (it is the source).

    None where the clip has one frame only, or no face was found in the first.
    """
    truth = observe(context.analyzer, clip.frames)
    if len(clip.frames) < 2 or truth.faces[0] is None:
        return None
    with context.open(clip.frames[0]) as portrait:
        driven = compared(drive(portrait, clip.driving, OPTIONS))
    count = len(clip.frames)
    outputs = _outputs(clip.frames, driven[:count], truth, truth)
    distances, features, real = compare(
        context.features,
        {name: made[1:] if len(made) > 1 else made for name, made in outputs.items()},
        clip.frames[1:],
    )
    bursts = _bursts(context, clip, driven[count:], truth)
    tracks = _tracks(context, outputs, truth, truth)
    methods = {}
    for method, made in outputs.items():
        track = tracks[method]
        values = {name: each[1:] for name, each in _frame_values(made, clip.frames, track, truth).items()}
        methods[method] = Measured(
            values=values | {"perceptual": distances[method]},
            ratios=bursts.get(method, {}),
            clip_values={"scale_wobble": metrics.scale_wobble(track.scale, truth.scale)},
            curves={name: [(a[1:], b[1:]) for a, b in pairs] for name, pairs in curves(track, truth).items()},
            identities=(track.identity[1:], truth.identity[1:]),
            features=features[method],
        )
    drawn = {name: made for name, made in outputs.items() if name != "copy"}
    return Outcome(
        protocol="self",
        source=clip.key,
        driver=clip.key,
        is_well_exposed=metrics.is_well_exposed(clip.frames),
        frames=len(clip.frames) - 1,
        methods=methods,
        real=real,
        tiles=tiles(clip.frames[0], clip.frames, drawn, telling_frames(truth)) if with_tiles else (),
    )


def _outputs(frames: Image, driven: Image, truth: Track, driver: Track) -> dict[str, Image]:
    """The methods' pictures (T,256,256,3), by method; the copy is one picture, the clip's first."""
    source, own = frames[0], truth.landmarks[0]
    warped = [source if face is None else landmark_warp(source, own, face.landmarks) for face in driver.faces]
    return {"model": driven, "copy": frames[:1], "landmark_warp": np.stack(warped)}


def _bursts(
    context: EvalContext, clip: EvalClip, driven: Image, truth: Track
) -> dict[str, dict[str, tuple[float, float]]]:
    """The methods' jitter beside the clip's, over its consecutive frames."""
    if len(clip.burst) < 3:
        return {}
    driver = observe(context.analyzer, clip.burst, identities=False)
    outputs = _outputs(clip.frames, driven, truth, driver)
    tracks = _tracks(context, outputs, truth, driver, identities=False)
    return {method: jitter_ratios(track, driver) for method, track in tracks.items()}


def _tracks(
    context: EvalContext, outputs: dict[str, Image], still: Track, driver: Track, identities: bool = True
) -> dict[str, Track]:
    """The methods' tracks, faces looked for where the driver's are; the copy's is the source's, repeated."""
    tracks = {
        method: observe(context.analyzer, made, driver.faces, identities)
        for method, made in outputs.items()
        if method != "copy"
    }
    return tracks | {"copy": still.repeated(0, len(driver.faces))}


def _frame_values(made: Image, frames: Image, track: Track, truth: Track) -> dict[str, Array]:
    shown = made if len(made) > 1 else np.broadcast_to(made, frames.shape)
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
