"""Pixels with transparency, and decoded video frames, as plain RGB."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc, Interpolation, VideoReformatter
from numpy.typing import NDArray

from liveportrait.types import Image

BACKGROUND = 255  # what transparent pixels are laid on: white

_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
_HDR = {ColorTrc.SMPTE2084.value, ColorTrc.ARIB_STD_B67.value}
# Without accurate rounding FFmpeg's packed RGB output is one level too dark; its planar output is not.
SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND


def flatten(rgba: Image) -> Image:
    """Pixels (H,W,4) uint8 RGBA, alpha not premultiplied, laid on white: (H,W,3) uint8."""
    alpha = rgba[..., 3:].astype(np.uint16)
    blended = rgba[..., :3] * alpha + BACKGROUND * (255 - alpha) + 127
    return (blended // 255).astype(np.uint8)


class FrameConverter:
    """Turns the frames of one video into RGB as they are meant to be seen, each of the same size.

    Sample aspect ratio and orientation (rotation and mirroring by the display matrix) are those of the first
    frame. Colours follow the frame's matrix and range; where the matrix is not said it is BT.709 for pictures
    wider than 1024 or higher than 576 pixels, BT.601 otherwise, as players assume. HLG and PQ pictures are
    mapped to BT.709. Transparency is laid on white.
    """

    def __init__(self, first: VideoFrame, aspect: float) -> None:
        """`aspect` is the width of a pixel over its height."""
        # The longer side of a pixel sets the new size: nothing is scaled down.
        self._width = round(first.width * max(aspect, 1.0))
        self._height = round(first.height * max(1.0 / aspect, 1.0))
        self._matrix = _display_matrix(first)
        self._reformatter = VideoReformatter()
        turned = _turned_sideways(self._matrix)
        self.width = self._height if turned else self._width
        self.height = self._width if turned else self._height

    def __call__(self, frame: VideoFrame) -> Image:
        """The frame as (height,width,3) uint8 RGB, in memory of its own."""
        options: dict[str, Any] = {}
        if frame.colorspace == _UNSPECIFIED:
            options["src_colorspace"] = "itu709" if frame.width > 1024 or frame.height > 576 else "itu601"
        if frame.color_trc in _HDR:
            options |= {"dst_color_trc": ColorTrc.BT709, "dst_color_primaries": ColorPrimaries.BT709}
        transparent = any(component.is_alpha for component in frame.format.components)
        converted = self._reformatter.reformat(
            frame, self._width, self._height, "gbrap" if transparent else "gbrp",
            interpolation=SCALING, threads=1, **options,
        )  # fmt: skip
        green, blue, red, *alpha = (_plane(converted, index) for index in range(len(converted.planes)))
        image = np.asarray(cv2.merge([red, green, blue, *alpha]), np.uint8)
        return _oriented(flatten(image) if transparent else image, self._matrix)


def _plane(frame: VideoFrame, index: int) -> Image:
    """One plane (H,W) uint8 of a planar frame, without the padding of its lines."""
    plane = frame.planes[index]
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return lines[: frame.height, : frame.width]


def _display_matrix(frame: VideoFrame) -> NDArray[np.float64]:
    """The linear part (2,2) of the frame's display matrix: [x' y'] = [x y] @ matrix, up to its scale."""
    side_data: Any = frame.side_data  # a mapping by name, which its stub does not say
    data = side_data.get("DISPLAYMATRIX")
    if data is None:
        return np.eye(2)
    return np.frombuffer(data, np.int32).reshape(3, 3)[:2, :2].astype(np.float64)


def _turned_sideways(matrix: NDArray[np.float64]) -> bool:
    return bool(abs(matrix[0, 1]) + abs(matrix[1, 0]) > abs(matrix[0, 0]) + abs(matrix[1, 1]))


def _oriented(image: Image, matrix: NDArray[np.float64]) -> Image:
    """The image turned by the quarter turn and mirroring nearest to the matrix."""
    if _turned_sideways(matrix):
        image = image.transpose(1, 0, 2)
        matrix = matrix[::-1]
    if matrix[0, 0] < 0:
        image = image[:, ::-1]
    if matrix[1, 1] < 0:
        image = image[::-1]
    return np.ascontiguousarray(image)
