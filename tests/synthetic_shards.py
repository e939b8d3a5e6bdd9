"""Synthetic shards: the canonical mesh, rotated, moved and drawn, with exact labels."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import av
import cv2
import numpy as np

from liveportrait.data.preparation.parts import add_member
from liveportrait.face.canonical import canonical_face
from liveportrait.motion.lifting import AXES, MESH_ROWS

SIDE = 256

TRAINING = """
bf16 = false
checkpoint_seconds = 0.0
[data]
shards = ["*.tar"]
frames_per_clip = 4
hold_out_one_in = 4
mode = "resident"
[motion]
schedule = {{ samples = {samples}, batch = 2, learning_rate = 1e-3, warmup_steps = 1 }}
"""


def turn(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """A rotation (3,3) for column vectors, angles in radians."""
    cy, sy, cp, sp, cr, sr = (
        np.cos(yaw),
        np.sin(yaw),
        np.cos(pitch),
        np.sin(pitch),
        np.cos(roll),
        np.sin(roll),
    )
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (about_z @ about_y @ about_x).astype(np.float32)


def project(rotation: np.ndarray, size: float, shift: np.ndarray) -> np.ndarray:
    """The 111 landmarks (111,2) px of the canonical face, `size` px per unit of the mesh."""
    mesh = canonical_face().vertices @ AXES
    irises = [mesh[[159, 145]].mean(0), mesh[[386, 374]].mean(0)]
    points = np.stack([irises[0] if r == 468 else irises[1] if r == 473 else mesh[r] for r in MESH_ROWS])
    return ((points @ rotation.T @ AXES)[:, :2] * size + SIDE / 2 + shift).astype(np.float32)


def draw(landmarks: np.ndarray, tone: int) -> np.ndarray:
    """A cartoon of the landmarks: enough structure for gradients, but no real person."""
    yy, xx = np.mgrid[:SIDE, :SIDE]
    picture = np.stack([xx // 2, yy // 2, np.full_like(xx, 90)], -1).astype(np.uint8)
    outline = cv2.convexHull(np.round(landmarks).astype(np.int32))
    cv2.fillPoly(picture, [outline], (tone, 170, 150))
    for rows, colour in (
        (slice(36, 52), (250, 250, 250)),
        (slice(52, 68), (250, 250, 250)),
        (slice(68, 88), (190, 40, 60)),
    ):
        cv2.fillPoly(picture, [np.round(landmarks[rows]).astype(np.int32)], colour)
    for row in (108, 109):
        cv2.circle(picture, tuple(int(v) for v in np.round(landmarks[row])), 3, (20, 20, 20), -1)
    return picture


def make_shard(path: Path, clips: int, pictures: int, frames: int = 12, seed: int = 0) -> None:
    """Write a tar with `clips` videos and `pictures` stills, one identity each."""
    rng = np.random.default_rng(seed)
    with tarfile.open(path, "w") as tar:
        for number in range(clips + pictures):
            is_video = number < clips
            count = frames if is_video else 1
            size, tone = rng.uniform(7, 9), int(rng.integers(120, 255))
            angles = rng.uniform(-0.25, 0.25, (count, 3))
            rotations = np.stack([turn(*a) for a in angles])
            landmarks = np.stack([project(r, size, rng.uniform(-12, 12, 2)) for r in rotations])
            shapes = rng.integers(0, 120, (count, 52)).astype(np.uint8)
            images = np.stack([draw(points, tone) for points in landmarks])
            labels = {
                "rot": rotations.astype(np.float16),
                "bs": shapes,
                "lmk": np.clip(np.round(landmarks * 64), 0, 65535).astype(np.uint16),
            }
            if is_video:
                labels["meas"] = np.ones(count, bool)
            else:
                labels = {name: value[0] for name, value in labels.items()}
            stored = io.BytesIO()
            np.savez(stored, **labels)
            media = _video(images) if is_video else cv2.imencode(".jpg", images[0][:, :, ::-1])[1].tobytes()
            key = f"{seed}-{number:03d}"
            add_member(tar, f"{key}.{'mp4' if is_video else 'jpg'}", media)
            add_member(tar, f"{key}.npz", stored.getvalue())
            add_member(tar, f"{key}.json", json.dumps({"identity": key}).encode())


def _video(images: np.ndarray) -> bytes:
    stored = io.BytesIO()
    with av.open(stored, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "16"})
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return stored.getvalue()
