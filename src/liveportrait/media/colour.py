"""Converting transparent pixels and decoded video frames to plain RGB."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from liveportrait.media.gamut import Gamut, conversion_key
from liveportrait.types import Image

BACKGROUND = 255  # what transparent pixels are laid on: white

_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
# Without accurate rounding FFmpeg's packed RGB output is one level too dark; its planar output is not.
SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND


def flatten(rgba: Image) -> Image:
    """Pixels (H,W,4) uint8 RGBA, alpha not premultiplied, laid on white: (H,W,3) uint8."""
    alpha = rgba[..., 3:].astype(np.uint16)
    blended = rgba[..., :3] * alpha + BACKGROUND * (255 - alpha) + 127
    return (blended // 255).astype(np.uint8)


class FrameConverter:
    """Converts the frames of one video to RGB as they are meant to be shown, all in the same size.

    Sample aspect ratio and orientation (rotation and mirroring by the display matrix) are those of the first frame. A
    frame of another size is scaled to fit, with black bars if its shape differs. Colours follow the frame's matrix and
    range; an unspecified matrix is taken as BT.709 for pictures wider than 1024 or higher than 576 pixels, otherwise as
    BT.601, like players do. HLG, PQ and wide primaries are converted to BT.709 (see `gamut`). Transparency is laid on
    white.
    """

    def __init__(self, first: VideoFrame, aspect: float) -> None:
        """`aspect` is the width of a pixel over its height."""
        # Pixels are made square by stretching their shorter side: nothing is scaled down.
        self._stretch = max(aspect, 1.0), max(1.0 / aspect, 1.0)
        self._coded = first.width, first.height
        self._width, self._height = self._square(first)
        self._matrix = _display_matrix(first)
        self._reformatter = VideoReformatter()
        self._gamut: Gamut | None = None
        turned = _turned_sideways(self._matrix)
        self.width = self._height if turned else self._width
        self.height = self._width if turned else self._height

    def __call__(self, frame: VideoFrame) -> Image:
        """The frame as (height,width,3) uint8 RGB, in its own memory."""
        options: dict[str, Any] = {}
        if frame.colorspace == _UNSPECIFIED:
            options["src_colorspace"] = "itu709" if frame.width > 1024 or frame.height > 576 else "itu601"
        transparent = any(component.is_alpha for component in frame.format.components)
        key = conversion_key(frame.color_trc, frame.color_primaries)
        pixels = ("gbrap" if transparent else "gbrp") + ("16le" if key else "")
        width, height = self._fitted(frame)
        converted = self._reformatter.reformat(
            frame, width, height, pixels, interpolation=SCALING, threads=1, **options
        )
        if key:
            self._gamut = self._gamut or Gamut(*key)
            converted = self._gamut(converted)
        green, blue, red, *alpha = (_plane(converted, index) for index in range(len(converted.planes)))
        image = np.asarray(cv2.merge([red, green, blue, *alpha]), np.uint8)
        image = flatten(image) if transparent else image
        if (width, height) != (self._width, self._height):
            left, top = (self._width - width) // 2, (self._height - height) // 2
            bars = top, self._height - height - top, left, self._width - width - left
            image = np.asarray(cv2.copyMakeBorder(image, *bars, cv2.BORDER_CONSTANT), np.uint8)
        return _oriented(image, self._matrix)

    def _square(self, frame: VideoFrame) -> tuple[int, int]:
        """Width and height of a frame in square pixels."""
        return round(frame.width * self._stretch[0]), round(frame.height * self._stretch[1])

    def _fitted(self, frame: VideoFrame) -> tuple[int, int]:
        """Width and height of a frame within the picture."""
        if (frame.width, frame.height) == self._coded:
            return self._width, self._height
        width, height = self._square(frame)
        scale = min(self._width / width, self._height / height)
        return max(round(width * scale), 1), max(round(height * scale), 1)


def _plane(frame: VideoFrame, index: int) -> Image:
    """One plane (H,W) of a planar frame with 8 or 16 bits, as uint8 without line padding."""
    plane = frame.planes[index]
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    if frame.format.components[index].bits == 8:
        return lines[: frame.height, : frame.width]
    deep = lines.view(np.uint16)[: frame.height, : frame.width]
    return np.asarray(cv2.convertScaleAbs(deep, alpha=1 / 257), np.uint8)


def _display_matrix(frame: VideoFrame) -> NDArray[np.float64]:
    """The linear part (2,2) of the frame's display matrix, up to scale: [x' y'] = [x y] @ matrix."""
    side_data: Any = frame.side_data  # a mapping by name; its stub does not say so
    data = side_data.get("DISPLAYMATRIX")
    if data is None:
        return np.eye(2)
    return np.frombuffer(data, np.int32).reshape(3, 3)[:2, :2].astype(np.float64)


def _turned_sideways(matrix: NDArray[np.float64]) -> bool:
    return bool(abs(matrix[0, 1]) + abs(matrix[1, 0]) > abs(matrix[0, 0]) + abs(matrix[1, 1]))


def _oriented(image: Image, matrix: NDArray[np.float64]) -> Image:
    """The image, rotated and mirrored by the quarter turn and mirroring closest to the matrix."""
    if _turned_sideways(matrix):
        image = image.transpose(1, 0, 2)
        matrix = matrix[::-1]
    if matrix[0, 0] < 0:
        image = image[:, ::-1]
    if matrix[1, 1] < 0:
        image = image[::-1]
    return np.ascontiguousarray(image)
