"""The video that the camera of tests and benchmarks shows."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from skimage.data import astronaut

CAMERA_SIZE = 640, 480
CAMERA_RATE = 20  # frames a second


def camera_frames(count: int = 30) -> list[np.ndarray]:
    """The astronaut in front of a camera (480,640,3): she sways, nods and comes closer, then returns to the start."""
    picture = np.ascontiguousarray(astronaut()[:320, 40:440])
    width, height = CAMERA_SIZE
    frames = []
    for angle in np.linspace(0, 2 * np.pi, count, endpoint=False):
        matrix = cv2.getRotationMatrix2D((184.0, 110.0), 6 * np.sin(angle), 1.6 + 0.1 * np.sin(angle))
        matrix[:, 2] += width / 2 - 184 + 12 * np.sin(angle), height / 2 - 110 + 8 * np.sin(2 * angle)
        frames.append(cv2.warpAffine(picture, matrix, CAMERA_SIZE, borderMode=cv2.BORDER_REPLICATE))
    return frames


def write_y4m(path: Path, frames: list[np.ndarray], rate: int = CAMERA_RATE) -> Path:
    """Write frames (H,W,3) uint8 RGB as YUV4MPEG2, which Chromium plays in a loop as its camera."""
    height, width = frames[0].shape[:2]
    with path.open("wb") as film:
        film.write(f"YUV4MPEG2 W{width} H{height} F{rate}:1 Ip A1:1 C420jpeg\n".encode())
        for frame in frames:
            film.write(b"FRAME\n" + cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).tobytes())
    return path
