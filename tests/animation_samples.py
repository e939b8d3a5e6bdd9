"""Small inputs for the pipeline's tests: a portrait, driving videos, sound, and networks."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage.data import astronaut

from liveportrait import weights
from liveportrait.face import FaceAnalyzer
from liveportrait.media import VideoWriter
from liveportrait.motion import SeenKeypoints
from liveportrait.networks import Networks, build
from liveportrait.networks.variants import COMPACT

FPS = Fraction(30000, 1001)


def portrait() -> np.ndarray:
    """The face of scikit-image's astronaut with some room around it, (300,300,3)."""
    return np.ascontiguousarray(astronaut()[:300, 70:370])


def driving_frames(count: int, faceless: Sequence[int] = ()) -> list[np.ndarray]:
    """The portrait, turning and moving a little from frame to frame; grey in the frames `faceless`."""
    image, frames = portrait(), []
    for index in range(count):
        matrix = cv2.getRotationMatrix2D((150.0, 110.0), 2.0 * index, 1.0)
        matrix[:, 2] += index
        moved = cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
        frames.append(np.full_like(image, 128) if index in faceless else moved)
    return frames


def reshaped(bulge: float) -> np.ndarray:
    """The portrait with the middle of the face enlarged (below 0: shrunk), so that it is another person."""
    image = portrait()
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    across, down = x - 154, y - 110
    pull = 1 - bulge * np.exp(-((across**2 + down**2) / 70**2))
    place = (154 + across * pull).astype(np.float32), (110 + down * pull).astype(np.float32)
    return cv2.remap(image, *place, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def people() -> list[np.ndarray]:
    """Three portraits (300,300,3) that face recognition considers three people."""
    return [reshaped(0.35), reshaped(-0.5), 255 - portrait()]


def source_frames(count: int, cut: int, faceless: Sequence[int] = ()) -> list[np.ndarray]:
    """The portrait by a hand-held camera (200,260,3); from frame `cut` on its mirror image, closer."""
    rng = np.random.default_rng(0)
    frames = []
    for index in range(count):
        image, zoom = (portrait(), 0.6) if index < cut else (portrait()[:, ::-1], 0.8)
        matrix = cv2.getRotationMatrix2D((150.0, 150.0), 0.5 * index + rng.normal(0, 0.3), zoom)
        matrix[:, 2] += np.array([-20, -50]) + index + rng.normal(0, 1.0, 2)
        moved = cv2.warpAffine(image, matrix, (260, 200), borderMode=cv2.BORDER_REFLECT)
        frames.append(np.full_like(moved, 128) if index in faceless else moved)
    return frames


def tracked_keypoints(analyzer: FaceAnalyzer, picture: np.ndarray) -> np.ndarray:
    """The keypoints (21,2) that landmarks of a square picture give, from -1 to 1 across it."""
    points = SeenKeypoints.of([analyzer.detect(picture)[0].landmarks]).points[0]
    return (2 * points + 1) / len(picture) - 1


def write_video(path: Path, frames: Sequence[np.ndarray], sound: Path | None = None) -> Path:
    """Write the frames as a video at 30000/1001 frames per second."""
    height, width = frames[0].shape[:2]
    with VideoWriter(path, FPS, width, height, audio_from=sound) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def write_sound(path: Path, seconds: float = 1.0) -> Path:
    """Write a tone as a WAV file."""
    rate = 16000
    tone = 8000 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(tone.astype("<i2").tobytes())
    return path


def bundled_networks(retargeting: bool = False) -> Networks:
    """The bundled compact networks, with untrained small networks if requested."""
    networks = weights.load("compact")
    if retargeting:
        torch.manual_seed(0)
        fresh = build(COMPACT, retargeting=True)
        networks.stitching = fresh.stitching
        networks.eye_retargeting, networks.lip_retargeting = fresh.eye_retargeting, fresh.lip_retargeting
    return networks
