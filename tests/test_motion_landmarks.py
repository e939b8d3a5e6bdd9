"""Motion adjusted to tracked landmarks."""

from __future__ import annotations

import numpy as np
import torch

from liveportrait.face.canonical import canonical_face
from liveportrait.face.crop import CropWindow
from liveportrait.motion import SeenHeads, SeenKeypoints, motion_from_heads, snap_to_landmarks
from liveportrait.motion.lifting import RIGID_MESH
from liveportrait.networks import keypoints
from liveportrait.networks.geometry import rotation_matrix, transform_keypoints
from liveportrait.networks.interface import Motion


def face(yaw: float, roll: float) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks (478,3) of the mean face, 10 px per centimetre, centred in 400 px, and its rotation."""
    degrees = (torch.tensor([value]) for value in (0.0, yaw, roll))
    rotation = rotation_matrix(*degrees)[0].numpy()
    mesh = canonical_face().vertices
    mesh = np.concatenate([mesh, np.repeat(mesh[[159, 386]], 5, axis=0)])  # irises
    return (10 * mesh @ rotation + 200).astype(np.float32), rotation


def some_motion() -> Motion:
    generator = torch.Generator().manual_seed(0)
    return Motion(
        torch.eye(3)[None],
        torch.tensor([[0.1, -0.2, 0.0]]),
        torch.tensor([[1.3]]),
        torch.randn(1, 21, 3, generator=generator) * 0.2,
        torch.randn(1, 21, 3, generator=generator) * 0.02,
    )


def test_keypoints_move_to_where_they_were_measured() -> None:
    landmarks, rotation = face(25, 10)
    before = some_motion()
    after = snap_to_landmarks(before, SeenKeypoints.of([landmarks]), 400)
    wanted = landmarks[list(keypoints.MESH), :2] / 200 - 1
    np.testing.assert_allclose(transform_keypoints(after)[0, :, :2], wanted, atol=1e-5)
    np.testing.assert_allclose(after.rotation[0], rotation, atol=1e-4)
    assert torch.equal(after.expression[..., 2], before.expression[..., 2])
    for name in ("translation", "scale", "canonical"):
        assert torch.equal(getattr(after, name), getattr(before, name))


def test_a_rotated_window_rotates_points_and_head_alike() -> None:
    landmarks, _ = face(25, 10)
    angle, zoom = np.radians(10), 1.5
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = np.concatenate([zoom * turn, [[30.0], [-20.0]]], axis=1).astype(np.float32)
    window = CropWindow(matrix, 512)
    moved = landmarks * np.float32(zoom)
    moved[:, :2] = landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    through, direct = SeenKeypoints.of([landmarks]).through(window), SeenKeypoints.of([moved])
    np.testing.assert_allclose(through.points, direct.points, atol=1e-2)
    np.testing.assert_allclose(through.rotation, direct.rotation, atol=1e-4)


def test_motion_follows_the_tracked_heads() -> None:
    start = some_motion()
    (first, _), (turned, rotation) = face(0, 0), face(25, 10)
    later = (turned - 200) * np.float32(1.2) + np.float32([230, 190, 0])
    seen = SeenHeads.of([first, later])
    motion = motion_from_heads(start, seen[:1], seen, 400)
    np.testing.assert_allclose(motion.scale[:, 0], [1.3, 1.3 * 1.2], rtol=1e-4)
    np.testing.assert_allclose(motion.rotation[1], rotation, atol=1e-4)
    middle = canonical_face().vertices[list(RIGID_MESH)].mean(0)
    moved = np.array([230, 190]) + (12 * middle @ rotation)[:2] - (10 * middle[:2] + 200)
    np.testing.assert_allclose((motion.translation - start.translation)[1, :2], moved / 200, atol=1e-4)
    assert torch.equal(motion.canonical, start.canonical.expand(2, -1, -1))
    wanted = np.stack([first, later])[:, list(keypoints.MESH), :2] / 200 - 1
    np.testing.assert_allclose(transform_keypoints(motion)[..., :2], wanted, atol=1e-5)
    # Depth rotates with the head, which faced the camera at first.
    depth = (start.expression @ motion.rotation)[..., 2]
    torch.testing.assert_close(motion.expression[..., 2], depth, atol=1e-5, rtol=0)


def test_windows_transform_heads_like_points() -> None:
    landmarks, _ = face(25, 0)
    window = CropWindow(np.array([[2.0, 0, -10], [0, 2, 30]], np.float32), 512)
    through = SeenHeads.of([landmarks]).through(window)
    direct = SeenHeads.of([landmarks * np.float32(2) + np.float32([-10, 30, 0])])
    np.testing.assert_allclose(through.scale, direct.scale, rtol=1e-4)
    np.testing.assert_allclose(through.centre, direct.centre, atol=1e-2)
    both = SeenHeads.joined([through, direct])
    assert len(both.scale) == 2 and both[1:].centre.shape == (1, 2)
