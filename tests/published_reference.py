"""The published program's arithmetic in NumPy, written from its description: the reference for `PublishedOptions`.

Nothing here uses the package. A motion is a dictionary of arrays of N frames: R (N,3,3), t (N,3), scale (N,1),
kp (N,21,3), exp (N,21,3); x = scale (kp R + exp) + t, row vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

Numbers = NDArray[np.float64]
Motion = dict[str, Numbers]
MLP = Sequence[tuple[Numbers, Numbers]]  # weights (out,in) and biases of each layer

LIP = [6, 12, 14, 17, 19, 20]
EYES = [11, 13, 15, 16, 18]
# Coordinates that follow in partial regions: all of some keypoints, single axes of others.
PARTIAL = [(k, axis) for k in (1, 2, 6, *range(11, 21)) for axis in range(3)]
PARTIAL += [(3, 1), (4, 1), (5, 2), (8, 2), (9, 1), (9, 2)]
PROCESS_VARIANCE, OBSERVATION_VARIANCE = 1e-5, 3e-7
LIPS_OPEN = 0.03
EYES_SHUT, EYES_DEFAULT = 0.18, 0.39


def pose_angle(logits: Numbers) -> Numbers:
    """Degrees (B,) of pose bins (B,66)."""
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    return 3 * share @ np.arange(66) - 97.5


def rotation(pitch: float, yaw: float, roll: float) -> Numbers:
    """(Rz Ry Rx)ᵀ of degrees."""
    (cx, cy, cz), (sx, sy, sz) = (f(np.radians([pitch, yaw, roll])) for f in (np.cos, np.sin))
    x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return (z @ y @ x).T


def flat(t: Numbers) -> Numbers:
    """Translations with zero depth."""
    return t * np.array([1.0, 1.0, 0.0])


def keypoints(motion: Motion) -> Numbers:
    """x (N,21,3)."""
    posed = motion["kp"] @ motion["R"] + motion["exp"]
    return motion["scale"][:, :, None] * posed + flat(motion["t"])[:, None]


def run(mlp: MLP, *inputs: Numbers) -> Numbers:
    """Linear layers with ReLU between."""
    value = np.concatenate([part.reshape(len(part), -1) for part in inputs], axis=1)
    for number, (weight, bias) in enumerate(mlp):
        value = value @ weight.T + bias
        value = value if number == len(mlp) - 1 else np.maximum(value, 0)
    return value


def stitched(mlp: MLP, source: Numbers, driving: Numbers) -> Numbers:
    """x_d plus an offset per keypoint and one common shift in x and y."""
    out = run(mlp, source, driving)
    moved = driving + out[:, :63].reshape(-1, 21, 3)
    moved[..., :2] += out[:, None, 63:]
    return moved


def smooth(series: Numbers, observation: float = OBSERVATION_VARIANCE) -> Numbers:
    """Kalman filter forwards and Rauch-Tung-Striebel smoother backwards, separately for every number of (N,...)."""
    flat_series = series.reshape(len(series), -1)
    means, variances, predictions = [], [], []
    mean, variance = flat_series[0], 1.0
    for number, row in enumerate(flat_series):
        predicted = variance if number == 0 else variance + PROCESS_VARIANCE
        gain = predicted / (predicted + observation)
        mean, variance = mean + gain * (row - mean), (1 - gain) * predicted
        means.append(mean)
        variances.append(variance)
        predictions.append(predicted)
    for i in range(len(means) - 2, -1, -1):
        means[i] = means[i] + variances[i] / predictions[i + 1] * (means[i + 1] - means[i])
    return np.stack(means).reshape(series.shape)


def mask_of(region: str, partial: bool) -> NDArray[np.bool_]:
    """Which coordinates (21,3) of the expression follow."""
    mask = np.zeros((21, 3), bool)
    if region in ("lip", "eyes"):
        mask[LIP if region == "lip" else EYES] = True
    elif region in ("all", "exp"):
        mask[:] = not partial
        for keypoint, axis in PARTIAL:
            mask[keypoint, axis] = True
    return mask


def repeated(motion: Motion, count: int) -> Motion:
    """One frame, repeated."""
    return {name: np.repeat(value[:1], count, axis=0) for name, value in motion.items()}


def transferred(
    source: Motion,
    driving: Motion,
    region: str,
    relative: bool,
    neutral: Numbers,
    source_is_video: bool,
    driving_is_image: bool,
) -> Motion:
    """The source's motion, frame by frame; source and driving images must be repeated beforehand."""
    count = len(driving["R"])
    first = {name: value[:1] for name, value in driving.items()}
    new = {name: value.copy() for name, value in source.items()}
    pose = region in ("all", "pose")
    if relative:
        turned = driving["R"] @ first["R"].transpose(0, 2, 1) @ source["R"]
        change = driving["exp"] - first["exp"]
        if driving_is_image:
            turned = source["R"]
            rest = neutral if region != "eyes" or source_is_video else 0
            change = driving["exp"] - rest
        series = source["exp"] + change
        if source_is_video and not driving_is_image:
            series, turned = smooth(series), smooth(turned)
        mask = mask_of(region, partial=source_is_video)
        new["exp"] = np.where(mask, series, source["exp"])
        if pose:
            new["R"] = turned
        if not source_is_video and not driving_is_image:
            if region == "all":
                new["scale"] = source["scale"] * driving["scale"] / first["scale"]
            if pose:
                new["t"] = source["t"] + driving["t"] - first["t"]
    else:
        moved, turned = driving["exp"], driving["R"]
        if source_is_video and not driving_is_image:
            moved, turned = smooth(moved), smooth(turned)
        new["exp"] = np.where(mask_of(region, partial=True), moved, source["exp"])
        if pose:
            new["R"], new["t"] = turned, driving["t"].copy()
    assert len(new["exp"]) == count
    return new


def finished(
    x_s: Numbers,
    x_d: Numbers,
    modules: dict[str, MLP],
    relative: bool,
    stitching: bool = True,
    multiplier: float = 1.0,
    eyes: Numbers | None = None,
    lips: Numbers | None = None,
    own: Numbers | None = None,
    normalize_lips: bool = False,
    eye_target: float | None = None,
) -> Numbers:
    """Openings, stitching and the multiplier, in the published order.

    `own` (N,3) are the source's openings; `eyes` and `lips` (N,1) the driver's, if they are to be used;
    `eye_target` the opening that a source video's eyes keep.
    """
    if eyes is not None or lips is not None:
        base = x_s if relative else x_d
        if eyes is not None:
            base = base + run(modules["eye"], x_s, own[:, :2], eyes).reshape(-1, 21, 3)
        if lips is not None:
            base = base + run(modules["lip"], x_s, own[:, 2:], lips).reshape(-1, 21, 3)
        x_d = stitched(modules["stitching"], x_s, base) if stitching else base
    else:
        x_d = stitched(modules["stitching"], x_s, x_d) if stitching else x_d
        if normalize_lips and relative:
            closing = run(modules["lip"], x_s, own[:, 2:], 0 * own[:, 2:]).reshape(-1, 21, 3)
            x_d = x_d + np.where(own[:, 2:, None] >= LIPS_OPEN, closing, 0)
        if eye_target is not None:
            target = np.full((len(x_s), 1), eye_target)
            x_d = x_d + run(modules["eye"], x_s, own[:, :2], target).reshape(-1, 21, 3)
    return x_s + (x_d - x_s) * multiplier


def kept_opening(first: Numbers) -> float:
    """The opening that a source video's eyes keep, from those of its first frame."""
    mean = float(np.mean(first[:2]))
    return EYES_DEFAULT if mean < EYES_SHUT else mean


def animal(source: Motion, driving: Motion) -> Numbers:
    """Absolute pose and expression, starting from the source and scaled by the root of the volumes' ratio."""
    x_s = keypoints(source)
    x_d = keypoints(source | {name: driving[name] for name in ("R", "exp", "t")})
    volumes = [ConvexHull(points[0]).volume for points in (x_s, x_d)]
    return x_s + np.sqrt(volumes[0]) / np.sqrt(volumes[1]) * (x_d - x_d[:1])


def crop_matrix(
    points: Numbers,
    eyes: Numbers,
    mouth: Numbers,
    dsize: int,
    scale: float,
    vx: float,
    vy: float,
    rotate: bool = True,
) -> Numbers:
    """Matrix (2,3) from px of the picture to px of the crop: the box around the points (N,2), on the face's axes.

    `eyes` and `mouth` (2,) are the centres of the eyes and of the mouth's corners.
    """
    down = mouth - eyes
    length = np.linalg.norm(down)
    down = down / length if length > 1e-3 else np.array([0.0, 1.0])
    right = np.array([down[1], -down[0]])
    angle = np.arccos(np.clip(right[0], -1, 1)) * (-1 if right[1] < 0 else 1)
    middle = points.mean(axis=0)
    own = (points - middle) @ np.stack([right, down]).T
    low, high = own.min(axis=0), own.max(axis=0)
    centre = middle + (low + high) / 2 @ np.stack([right, down])
    size = (high - low).max() * scale
    centre = centre + right * vx * size + down * vy * size
    s, angle = dsize / size, angle if rotate else 0.0
    cos, sin = s * np.cos(angle), s * np.sin(angle)
    x, y = centre
    half = dsize / 2
    return np.array([[cos, sin, half - (cos * x + sin * y)], [-sin, cos, half - (-sin * x + cos * y)]])


def box(matrix: Numbers, dsize: int) -> Numbers:
    """Left, top, right, bottom of an upright crop, px of the picture."""
    left, top = -matrix[0, 2] / matrix[0, 0], -matrix[1, 2] / matrix[1, 1]
    side = dsize / matrix[0, 0]
    return np.array([left, top, left + side, top + side])


def box_matrix(edges: Numbers, dsize: int) -> Numbers:
    """The upright crop of a box."""
    s = dsize / (edges[2] - edges[0])
    return np.array([[s, 0, -s * edges[0]], [0, s, -s * edges[1]]])


def warped(image: Numbers, inverse: Numbers, width: int, height: int) -> Numbers:
    """A picture (H,W,C) sampled bilinearly at `inverse` (2,3) of each pixel; zero outside."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    u = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]
    v = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]
    padded = np.pad(image.astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    u, v = (u + 1).clip(0, padded.shape[1] - 1.001), (v + 1).clip(0, padded.shape[0] - 1.001)
    left, top = np.floor(u).astype(int), np.floor(v).astype(int)
    across, along = (u - left)[..., None], (v - top)[..., None]
    rows = [
        padded[top + step, left] * (1 - across) + padded[top + step, left + 1] * across for step in (0, 1)
    ]
    return rows[0] * (1 - along) + rows[1] * along


def inverted(matrix: Numbers) -> Numbers:
    """The inverse (2,3) of a matrix (2,3)."""
    return np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]


def resized(image: Numbers, width: int, height: int) -> Numbers:
    """Bilinear at the centre of each pixel; the border is repeated."""
    sx, sy = image.shape[1] / width, image.shape[0] / height
    x = ((np.arange(width) + 0.5) * sx - 0.5).clip(0, image.shape[1] - 1)
    y = ((np.arange(height) + 0.5) * sy - 0.5).clip(0, image.shape[0] - 1)
    left, top = (
        np.minimum(np.floor(each), limit).astype(int)
        for each, limit in ((x, image.shape[1] - 2), (y, image.shape[0] - 2))
    )
    across, along = (x - left)[None, :, None], (y - top)[:, None, None]
    values = image.astype(np.float64)
    rows = [
        values[top + step][:, left] * (1 - across) + values[top + step][:, left + 1] * across
        for step in (0, 1)
    ]
    return rows[0] * (1 - along) + rows[1] * along


def averaged(image: Numbers, side: int) -> Numbers:
    """A square picture reduced by area averaging to a side that divides its own."""
    step = len(image) // side
    return image.astype(np.float64).reshape(side, step, side, step, 3).mean(axis=(1, 3))


def limited(height: int, width: int, limit: int = 1280, division: int = 2) -> tuple[int, int]:
    """Height and width of a source after reduction and cropping."""
    longer = max(height, width)
    if longer > limit:
        height, width = (limit if side == longer else int(side * limit / longer) for side in (height, width))
    return tuple(side // division * division or side for side in (height, width))  # type: ignore[return-value]


def mask() -> NDArray[np.uint8]:
    """The paste-back mask (512,512)."""
    y, x = np.mgrid[:512, :512]
    outside = [np.maximum(np.maximum(16 - each, each - 496), 0) for each in (x, y)]
    return np.floor(255 * np.clip(1 - np.hypot(*outside) / 16, 0, 1)).astype(np.uint8)


def pasted(generated: Numbers, original: Numbers, to_original: Numbers) -> NDArray[np.uint8]:
    """A generated crop (512,512,3) in the picture (H,W,3); `to_original` (2,3) takes px of the crop to the picture."""
    height, width = original.shape[:2]
    inverse = inverted(to_original)
    cover = np.rint(warped(mask()[..., None], inverse, width, height)) / 255
    shown = np.rint(warped(generated, inverse, width, height))
    return (cover * shown + (1 - cover) * original).clip(0, 255).astype(np.uint8)


def opening(height: Numbers, width: Numbers) -> float:
    """Height over width of an eye or the lips, each given by two points (2,2)."""
    return float(np.linalg.norm(height[0] - height[1]) / (np.linalg.norm(width[0] - width[1]) + 1e-6))


def sound(source: bool, driving: bool, priority: str) -> str | None:
    """Whose sound the result has, given who has any."""
    if not source and not driving:
        return None
    return "driving" if (driving and priority == "driving") or not source else "source"


Slider = Callable[[float], dict[tuple[int, str], float]]

SLIDERS: dict[str, Slider] = {
    "smile": lambda v: {
        (20, "y"): -0.01 * v, (14, "y"): -0.02 * v, (17, "y"): 0.0065 * v, (17, "z"): 0.003 * v,
        (13, "y"): -0.00275 * v, (16, "y"): -0.00275 * v, (3, "y"): -0.0035 * v, (7, "y"): -0.0035 * v,
    },
    "wink": lambda v: {
        (11, "y"): 0.001 * v, (13, "y"): -0.0003 * v, (17, "x"): 0.0003 * v, (17, "y"): 0.0003 * v,
        (3, "y"): -0.0003 * v,
    },
    "eyebrow": lambda v: (
        {(1, "y"): 0.001 * v, (2, "y"): -0.001 * v}
        if v > 0
        else {(1, "x"): -0.001 * v, (2, "x"): 0.001 * v, (1, "y"): 0.0003 * v, (2, "y"): -0.0003 * v}
    ),
    "gaze_x": lambda v: (
        {(11, "x"): 0.0007 * v, (15, "x"): 0.001 * v} if v > 0 else {(11, "x"): 0.001 * v, (15, "x"): 0.0007 * v}
    ),
    "gaze_y": lambda v: {
        (11, "y"): -0.001 * v + 0.001 * v / 2, (15, "y"): -0.001 * v + 0.001 * v / 2,
        (13, "y"): -0.0003 * v / 2, (16, "y"): -0.0003 * v / 2,
    },
    "pout": lambda v: {(19, "x"): v},
    "purse": lambda v: {(14, "y"): 0.001 * v, (3, "y"): -0.0005 * v, (7, "y"): -0.0005 * v, (17, "z"): -0.0005 * v},
    "grin": lambda v: {(20, "z"): -0.001 * v, (20, "y"): -0.001 * v, (14, "y"): -0.001 * v},
    "lips": lambda v: {(19, "y"): 0.001 * v, (19, "z"): 0.0001 * v, (17, "y"): -0.0001 * v},
    "move_x": lambda v: {(5, "x"): -v},
    "move_y": lambda v: {(5, "y"): v},
}  # fmt: skip
# The published sliders' limits, in their own units.
SLIDER_ENDS = {
    "smile": (-0.3, 1.3), "wink": (0, 39), "eyebrow": (-30, 30), "gaze_x": (-30, 30), "gaze_y": (-63, 63),
    "pout": (-0.09, 0.09), "purse": (-20, 15), "grin": (0, 15), "lips": (-90, 120), "move_x": (-0.19, 0.19),
    "move_y": (-0.19, 0.19),
}  # fmt: skip
