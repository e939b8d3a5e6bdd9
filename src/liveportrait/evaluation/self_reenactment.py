"""Self-reenactment (paper section 4.1): a clip's first frame, driven by the whole clip, against the clip itself.

Frames are taken as cropped faces and rendered at the model's size; landmarks are detected anew on what was
rendered. Two baselines stand beside every figure: showing the source unchanged ("copy"), and warping it to
the driving frame's true landmarks ("landmark warp").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from liveportrait.engine import Engine
from liveportrait.evaluation import metrics
from liveportrait.evaluation.landmark_warp import landmark_warp
from liveportrait.evaluation.metrics import Array, Picture
from liveportrait.face import Face, FaceAnalyzer
from liveportrait.face.blendshapes import EYE_BLINK, JAW_OPEN
from liveportrait.face.pose import head_pose
from liveportrait.motion import change_since, groups_for, relative, steady
from liveportrait.networks.geometry import pose_of

METHODS = ("model", "copy", "landmark_warp")
BATCH = 8


@dataclass(frozen=True)
class Clip:
    """A held-out clip: frames (T,256,256,3) of one cropped face."""

    key: str
    frames: Picture


@dataclass(frozen=True)
class Measurement:
    """One method on one clip."""

    method: str
    sums: dict[str, list[float]]  # per frame
    curves: dict[str, tuple[Array, Array]]  # measured on the output, measured on the driver
    frames: int
    lost: int  # frames in whose output no face was found


def render_clip(engine: Engine, frames: Picture) -> Picture:
    """The first frame driven by all of them, (T,S,S,3)."""
    groups = groups_for(engine.variant)
    source = engine.extract_motion(frames[:1])
    features, source_pose = engine.encode_appearance(frames[:1]), pose_of(source)
    rendered = []
    for start in range(0, len(frames), BATCH):
        driving = steady(engine.extract_motion(frames[start : start + BATCH]), source, groups)
        motion = relative(source, change_since(driving, source), "all", groups)
        rendered.append(engine.render(features, source_pose, pose_of(motion)))
    return np.concatenate(rendered)


def measure_clip(engine: Engine, analyzer: FaceAnalyzer, clip: Clip, stride: int) -> Iterator[Measurement]:
    """Model and baselines on every `stride`-th frame of a clip, the first left out (it is the source)."""
    chosen = clip.frames[::stride]
    truth: list[Face | None] = []
    for frame in chosen:
        truth.append(_find(analyzer, frame, truth[-1] if truth else None))
    if truth[0] is None:
        return
    rendered = render_clip(engine, chosen)
    outputs: dict[str, list[Picture]] = {
        "model": list(rendered),
        "copy": [chosen[0]] * len(chosen),
        "landmark_warp": [
            chosen[0] if face is None else landmark_warp(chosen[0], truth[0].landmarks, face.landmarks)
            for face in truth
        ],
    }
    for method, pictures in outputs.items():
        same = method == "copy"
        found = [
            truth[0] if same else _find(analyzer, picture, near)
            for picture, near in zip(pictures, truth, strict=True)
        ]
        yield _measure(method, analyzer, pictures, list(chosen), found, truth)


def _measure(
    method: str,
    analyzer: FaceAnalyzer,
    pictures: list[Picture],
    targets: list[Picture],
    found: list[Face | None],
    truth: list[Face | None],
) -> Measurement:
    values: dict[str, list[float]] = defaultdict(list)
    eyes, jaws, lost = [], [], 0
    for picture, target, face, true_face in list(zip(pictures, targets, found, truth, strict=True))[1:]:
        values["psnr"].append(metrics.psnr(picture, target))
        values["ssim"].append(metrics.ssim(picture, target))
        values["l1"].append(metrics.l1(picture, target))
        values["sharpness"].append(metrics.sharpness(picture) / metrics.sharpness(target))
        if true_face is None:
            continue
        if face is None:
            lost += 1
            continue
        values["landmarks"].append(metrics.landmark_distance(face.landmarks, true_face.landmarks))
        shapes, true_shapes = analyzer.blendshapes(face), analyzer.blendshapes(true_face)
        values["blendshapes"].append(float(np.abs(shapes - true_shapes).mean()))
        rotation, true_rotation = head_pose(face.landmarks)[0], head_pose(true_face.landmarks)[0]
        values["head_pose"].append(metrics.rotation_distance(rotation, true_rotation))
        closing = list(EYE_BLINK)
        eyes.append((shapes[closing].mean(), true_shapes[closing].mean()))
        jaws.append((shapes[JAW_OPEN], true_shapes[JAW_OPEN]))
    curves = {
        name: (np.array([a for a, _ in pairs], np.float32), np.array([b for _, b in pairs], np.float32))
        for name, pairs in (("eyes", eyes), ("jaw", jaws))
        if pairs
    }
    return Measurement(method, dict(values), curves, len(targets) - 1, lost)


def self_reenactment(
    engine: Engine, analyzer: FaceAnalyzer, clips: Iterable[Clip], stride: int = 1
) -> dict[str, dict[str, float]]:
    """Figures of each method over all clips, frames counting alike.

    psnr dB, ssim, l1 in [0, 1], sharpness as a share of the driving frames', landmarks in eye-corner distances,
    blendshapes mean absolute difference, head_pose degrees, eyes and jaw correlation of the closing and
    opening curves (each clip's mean removed), found share of frames with a face, frames their number.
    """
    gathered: dict[str, list[Measurement]] = {method: [] for method in METHODS}
    for clip in clips:
        for measurement in measure_clip(engine, analyzer, clip, stride):
            gathered[measurement.method].append(measurement)
    return {method: _summary(measurements) for method, measurements in gathered.items()}


def _summary(measurements: list[Measurement]) -> dict[str, float]:
    pooled: dict[str, list[float]] = defaultdict(list)
    for measurement in measurements:
        for name, values in measurement.sums.items():
            pooled[name] += values
    result = {name: float(np.mean(values)) for name, values in pooled.items()}
    for name in ("eyes", "jaw"):
        result[name] = metrics.centred_correlation([m.curves[name] for m in measurements if name in m.curves])
    frames = sum(m.frames for m in measurements)
    result["found"] = 1 - sum(m.lost for m in measurements) / max(frames, 1)
    result["frames"] = float(frames)
    return result


def _find(analyzer: FaceAnalyzer, picture: Picture, near: Face | None) -> Face | None:
    """The face of a crop: near another one, measured a second time from where it was found, or else detected."""
    face = analyzer.track(picture, near) if near else None
    face = face and analyzer.track(picture, face)
    if face:
        return face
    faces = analyzer.detect(picture, smallest=picture.shape[0] / 4)
    return faces[0] if faces else None
