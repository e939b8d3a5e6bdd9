"""Measures a sequence of pictures: landmarks, expression, head pose, gaze, identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from liveportrait.face import Face, FaceAnalyzer
from liveportrait.face.measures import eye_ratios, head_pose, lip_ratio
from liveportrait.metrics.expressions import lip_gap
from liveportrait.metrics.faces import gaze_angles
from liveportrait.types import Array, Image

# Below this opening (face/measures.py) too little of the iris shows to measure gaze.
MIN_GAZE_OPENING = 0.15


@dataclass(frozen=True, eq=False)
class Track:
    """The measurements of T pictures. They are NaN where no face was found (`found` is False)."""

    faces: tuple[Face | None, ...]
    found: NDArray[np.bool_]  # (T,)
    landmarks: Array  # (T,478,3) px
    shapes: Array  # (T,52) blendshapes in 0..1
    rotation: Array  # (T,3,3) of the head, see face/measures.py
    scale: Array  # (T,) of the head, px per centimetre
    gaze: Array  # (T,2) degrees relative to the head
    eyes: Array  # (T,2) openings
    lips: Array  # (T,) opening
    lip_gap: Array  # (T,) cm in the head's frame
    identity: Array  # (T,128) embeddings; all NaN if they were not requested

    def repeated(self, row: int, count: int) -> Track:
        """One picture's measurements, repeated `count` times."""
        rows = np.full(count, row)
        return Track(
            tuple(self.faces[row] for _ in rows),
            *(getattr(self, name)[rows] for name in self.__dataclass_fields__ if name != "faces"),
        )


def observe(
    analyzer: FaceAnalyzer,
    pictures: Image,
    near: Sequence[Face | None] = (),
    identities: bool = True,
) -> Track:
    """Measure pictures (T,S,S,3) of one face, looking near `near` in each, or else where it was in the one before."""
    faces: list[Face | None] = []
    for number, picture in enumerate(pictures):
        hint = near[number] if near else (faces[-1] if faces else None)
        faces.append(find(analyzer, picture, hint))
    count = len(faces)
    landmarks, shapes, rotation, scale, gaze, eyes, lips, gap, identity = (
        np.full((count, *shape), np.nan, np.float32)
        for shape in ((478, 3), (52,), (3, 3), (), (2,), (2,), (), (), (128,))
    )
    for row, (face, picture) in enumerate(zip(faces, pictures, strict=True)):
        if face is None:
            continue
        pose = head_pose(face.landmarks)
        landmarks[row], rotation[row], scale[row] = face.landmarks, pose.rotation, pose.scale
        shapes[row] = analyzer.blendshapes(face)
        eyes[row], lips[row] = eye_ratios(face.landmarks), lip_ratio(face.landmarks)[0]
        gap[row] = lip_gap(face.landmarks, pose)
        if eyes[row].min() >= MIN_GAZE_OPENING:
            gaze[row] = gaze_angles(face.landmarks, pose)
        if identities:
            identity[row] = analyzer.identity(picture, face.landmarks)
    found = np.array([face is not None for face in faces])
    return Track(tuple(faces), found, landmarks, shapes, rotation, scale, gaze, eyes, lips, gap, identity)


def find(analyzer: FaceAnalyzer, picture: Image, near: Face | None = None) -> Face | None:
    """The face in a crop: tracked from `near`, then once more from where it was found, or else detected."""
    face = analyzer.track(picture, near) if near else None
    face = face and analyzer.track(picture, face)
    if face:
        return face
    faces = analyzer.detect(picture, smallest=picture.shape[0] / 4)
    return faces[0] if faces else None
