"""Landmarks and head pose compared with labels from MediaPipe's own runtime, where that data is available."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from liveportrait.face import default_analyzer
from liveportrait.face.measures import head_pose

SHARD = Path(__file__).resolve().parents[1] / "data" / "image" / "photo-01.tar"
PICTURES = 12
# The rows of the labels: 16 contour points of each eye, 20 of the outer lips, both irises.
ROWS = np.r_[36:68, 68:88, 108:110]
LANDMARKS = [
    33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7,
    362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382,
    61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146,
    468, 473,
]  # fmt: skip

pytestmark = pytest.mark.skipif(not SHARD.exists(), reason=f"the labelled pictures {SHARD.name} are not here")


def labelled() -> list[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]]:
    """Pictures 256×256 RGB, landmarks (54,2) px, rotations (3,3) in MediaPipe's axes."""
    files: dict[str, dict[str, bytes]] = {}
    with tarfile.open(SHARD) as tar:
        for member in tar:
            name, kind = member.name.rsplit(".", 1)
            stream = tar.extractfile(member)
            if stream is not None:
                files.setdefault(name, {})[kind] = stream.read()
            if len(files) > PICTURES:
                break
    found = []
    for parts in list(files.values())[:PICTURES]:
        labels = np.load(io.BytesIO(parts["npz"]), allow_pickle=False)
        picture = cv2.imdecode(np.frombuffer(parts["jpg"], np.uint8), cv2.IMREAD_COLOR)
        rgb = np.ascontiguousarray(picture[:, :, ::-1])
        found.append((rgb, labels["lmk"][ROWS].astype(np.float32) / 64, labels["rot"].astype(np.float32)))
    return found


def test_agrees_with_the_labels() -> None:
    analyzer = default_analyzer()
    mirror = np.diag([1.0, -1.0, -1.0])
    errors, angles = [], []
    for picture, landmarks, rotation in labelled():
        face = analyzer.detect(picture, smallest=80)[0]
        errors.append(np.linalg.norm(face.landmarks[LANDMARKS, :2] - landmarks, axis=1).mean())
        expected = (mirror @ rotation @ mirror).T
        cosine = (np.trace(head_pose(face.landmarks).rotation.T @ expected) - 1) / 2
        angles.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    assert np.mean(errors) < 1.0, "px at 256"
    assert np.mean(angles) < 5.0, "degrees; the labels' camera is a perspective one"
