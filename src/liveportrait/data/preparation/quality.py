"""Quality of faces as training data: measures of a frame, a score for a clip, and reasons to drop either.

The score takes the place of the paper's video quality network (KVQ), which was trained on people's opinions; here it is
the geometric mean of four measures that can be checked by eye.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.data.preparation.options import PrepareOptions
from liveportrait.face import Face
from liveportrait.metrics import accelerations
from liveportrait.motion.lifting import MESH_ROWS, RIGID_MESH
from liveportrait.types import Array

CHIP = 112  # px: about the size of the face in a 256 px crop
FULL_SIZE = 116.0  # px, height of the landmark box from which a 256 px crop is not enlarged
SHARP = 0.1  # sharpness of an ordinary well-focused face: half the faces of a varied corpus are sharper
BLURRED = 0.01  # sharpness of faces blurred by 2.5 px
BLACK, WHITE = 8, 247  # brightness at which detail is lost
LOST_SHARE = 0.3  # share of such pixels at which the exposure score becomes 0
GOOD_CONTRAST = 35.0
# Contrast relative to the clip's median: below the first value it is a fade, from the second on it is normal again.
FADED, FULL = 0.8, 0.97
CALM = 0.005  # jitter of a clearly visible face
REPEATED = 0.15  # mean difference of brightness, of 255, below which a frame repeats the one before

Reason = tuple[str, str]  # reason and detail, see `Dropped`


class FaceMeasures(NamedTuple):
    """Measures of one face in one frame, with its landmark box scaled to 112 px."""

    sharpness: float  # variance of the Laplacian over the variance of brightness
    brightness: float  # mean, of 255
    contrast: float  # standard deviation of brightness
    lost: float  # share of pixels that are black or white


@dataclass(frozen=True)
class Quality:
    """Quality of one clip or picture; each score from 0 to 1."""

    sharpness: float  # 0 at 0.01, 1 at 0.1, on a logarithmic scale
    size: float  # height of the landmark box over 116 px
    exposure: float  # contrast over 35, reduced for black and white pixels
    visibility: float  # presence score from 0.5 to 1, reduced for jitter of the landmarks

    @property
    def score(self) -> float:
        """The geometric mean of the four."""
        product = self.sharpness * self.size * self.exposure * self.visibility
        return float(product**0.25)

    def to_json(self) -> dict[str, float]:
        """The four scores and their mean, rounded."""
        return {name: round(value, 4) for name, value in {**asdict(self), "score": self.score}.items()}


def measure_face(image: NDArray[np.uint8], face: Face) -> FaceMeasures:
    """Measures of a face in a frame (H,W,3) uint8 RGB."""
    return measure_region(image, face.box)


def measure_region(image: NDArray[np.uint8], box: tuple[float, float, float, float]) -> FaceMeasures:
    """Measures of a box x0, y0, x1, y1 px, clipped to the picture."""
    x0, y0, x1, y1 = box
    bounds = np.array(image.shape[1::-1])
    low = np.clip(np.floor([x0, y0]).astype(int), 0, bounds - 1)
    high = np.maximum(np.clip(np.ceil([x1, y1]).astype(int), 1, bounds), low + 1)
    part = image[low[1] : high[1], low[0] : high[0]]
    shrink = CHIP / max(part.shape[:2])
    size = tuple(max(round(side * shrink), 3) for side in part.shape[1::-1])
    interpolation = cv2.INTER_AREA if shrink < 1 else cv2.INTER_LINEAR
    grey = cv2.cvtColor(cv2.resize(part, size, interpolation=interpolation), cv2.COLOR_RGB2GRAY)
    light = grey.astype(np.float32)
    detail = cv2.Laplacian(light, cv2.CV_32F).var()
    return FaceMeasures(
        float(detail / (light.var() + 1)),
        float(light.mean()),
        float(light.std()),
        float(((grey < BLACK) | (grey > WHITE)).mean()),
    )


def quality(
    measures: list[FaceMeasures], heights: NDArray[np.float32], scores: NDArray[np.float32], jitter: float
) -> Quality:
    """Quality of T frames of a face: box heights (T,) px, presence scores (T,) 0..1, jitter from `jitter`."""
    typical = FaceMeasures(*np.median(np.array(measures), axis=0).tolist())
    seen = np.clip((scores.mean() - 0.5) / 0.5, 0, 1) * min(1.0, CALM / max(jitter, CALM)) ** 0.5
    return _combined(typical, float(np.median(heights)), float(seen))


def picture_quality(measures: FaceMeasures, side: int) -> Quality:
    """Quality of a square picture of `side` px without landmarks, assuming that a face fills half of it."""
    return _combined(measures, side / 2, visibility=1.0)


def _combined(measures: FaceMeasures, height: float, visibility: float) -> Quality:
    sharp = np.log(max(measures.sharpness, 1e-9) / BLURRED) / np.log(SHARP / BLURRED)
    exposure = np.clip(measures.contrast / GOOD_CONTRAST, 0, 1) * np.clip(
        1 - measures.lost / LOST_SHARE, 0, 1
    )
    return Quality(
        sharpness=float(np.clip(sharp, 0, 1)),
        size=float(np.clip(height / FULL_SIZE, 0, 1)),
        exposure=float(exposure),
        visibility=visibility,
    )


def faded_ends(contrast: NDArray[np.float32]) -> tuple[int, int]:
    """First frame, and frame after the last, of the part of a clip (T,) without fades.

    A fade to or from one colour scales contrast down. If the contrast at an end is below FADED of the clip's median,
    that end is cut off up to where the contrast is back at FULL or stops rising.
    """
    level = contrast / max(float(np.median(contrast)), 1e-6)
    return _faded(level), len(level) - _faded(level[::-1])


def _faded(level: NDArray[np.float32]) -> int:
    """The number of frames at the start that belong to a fade-in."""
    if not len(level) or level[0] >= FADED:
        return 0
    end = int(np.argmax(level >= FADED)) if (level >= FADED).any() else len(level)
    while end < len(level) and level[end] < FULL and level[end] > level[end - 1]:
        end += 1
    return end


def face_size(landmarks: Array) -> float:
    """Mean longer side of the box of landmarks (T,P,2 or more), px."""
    return float(np.ptp(landmarks[..., :2], axis=1).max(axis=1).mean())


def jitter(landmarks: Array) -> float:
    """Median acceleration of the centre of the rigid landmarks of (T,478,3), in face sizes per frame squared."""
    if len(landmarks) < 3:
        return 0.0
    middle = landmarks[:, list(RIGID_MESH), :2].mean(axis=1, keepdims=True)
    return float(np.median(accelerations(middle)) / face_size(landmarks))


def shape_motion(landmarks: Array) -> float:
    """RMS deviation of the 111 landmarks of (T,478,3) from their mean shape, in face sizes.

    Position, size and roll of each frame are removed first (similarity Procrustes, three rounds), so a camera that
    moves over a photograph gives zero.
    """
    points = landmarks[:, list(MESH_ROWS), :2].astype(np.float64)
    centred = points - points.mean(axis=1, keepdims=True)
    shapes = centred[..., 0] + 1j * centred[..., 1]
    aligned, mean = shapes, shapes[0]
    for _ in range(3):
        turn = (shapes.conj() * mean).sum(axis=1) / (np.abs(shapes) ** 2).sum(axis=1)
        aligned = shapes * turn[:, None]
        mean = aligned.mean(axis=0)
    extent = max(np.ptp(mean.real), np.ptp(mean.imag))
    return float(np.sqrt((np.abs(aligned - mean) ** 2).mean()) / extent)


def exposure_reason(seen: FaceMeasures, options: PrepareOptions) -> Reason | None:
    """Why a face is too badly lit, or None."""
    if seen.brightness < options.darkest:
        return "dark", f"brightness {seen.brightness:.0f} of 255"
    if seen.brightness > options.brightest:
        return "washed out", f"brightness {seen.brightness:.0f} of 255"
    if seen.contrast < options.min_contrast:
        return "flat", f"contrast {seen.contrast:.0f} of 255"
    return None


def appearance_reason(
    sharpness: float, heights: NDArray[np.float32], scores: NDArray[np.float32], options: PrepareOptions
) -> Reason | None:
    """Why T frames show a face too poorly, or None: box heights (T,) px, presence scores (T,) 0..1."""
    if (height := float(np.median(heights))) < options.min_face:
        return "small face", f"{height:.0f} px high"
    if (presence := float(scores.mean())) < options.min_presence:
        return "covered", f"presence score {presence:.2f}"
    if sharpness < options.min_sharpness:
        return "blurred", f"sharpness {sharpness:.3f}"
    return None


def movement_reason(landmarks: Array, differences: list[float], options: PrepareOptions) -> Reason | None:
    """Why a clip with landmarks (T,478,3) moves too little or too wildly, or None.

    `differences` (T,) are the brightness differences between each frame and the one before.
    """
    repeated = float(np.mean([value < REPEATED for value in differences]))
    if (motion := shape_motion(landmarks)) < options.min_motion:
        return "static", f"shape deviation {motion:.4f}"
    if repeated > options.max_repeated:
        return "repeated frames", f"{repeated:.0%} of the frames"
    if (trembling := jitter(landmarks)) > options.max_jitter:
        return "unstable", f"jitter {trembling:.3f}"
    return None


def quality_reason(found: Quality, options: PrepareOptions) -> Reason | None:
    """Why a score is too low, or None."""
    if found.score >= options.min_quality:
        return None
    return "low quality", (
        f"score {found.score:.2f}: sharpness {found.sharpness:.2f}, size {found.size:.2f}, "
        f"exposure {found.exposure:.2f}, visibility {found.visibility:.2f}"
    )
