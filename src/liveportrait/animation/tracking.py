"""The first pass over a driving video: where its face is, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.report import FIND
from liveportrait.animation.run import Run
from liveportrait.animation.streams import read_ahead
from liveportrait.errors import UserError
from liveportrait.face import Face, FaceAnalyzer
from liveportrait.face.crop import CropWindow, driving_window
from liveportrait.face.ratios import eye_ratios, lip_ratio
from liveportrait.media import VideoReader
from liveportrait.motion import SeenKeypoints

SMALLEST_FACE = 1 / 12  # of the longer side: a smaller face has too few pixels to drive anything


@dataclass(frozen=True, eq=False)
class Tracked:
    """A driving video's face. A few numbers a frame are all that is kept."""

    window: CropWindow  # one for the whole video
    found: NDArray[np.bool_]  # (N,) whether the frame shows the face
    first_frame: NDArray[np.uint8]  # (H,W,3) the first frame that does
    ratios: NDArray[np.float32]  # (N,3) openings of left eye, right eye and lips; held where there is no face
    keypoints: SeenKeypoints  # of the frames that show the face, in order

    def gaps(self) -> tuple[tuple[int, int], ...]:
        """First and last frame of each stretch without the face."""
        edges = np.flatnonzero(np.diff(np.concatenate([[True], self.found, [True]]).astype(np.int8)))
        return tuple((int(start), int(end) - 1) for start, end in zip(edges[::2], edges[1::2], strict=True))


def find_face(analyzer: FaceAnalyzer, image: NDArray[np.uint8]) -> Face | None:
    """The largest face of a driving frame, or None."""
    faces = analyzer.detect(image, smallest=max(image.shape[:2]) * SMALLEST_FACE)
    return faces[0] if faces else None


def track_face(run: Run, reader: VideoReader) -> Tracked:
    """Follow the largest face of the first frame that has one; after a loss, the largest again.

    Raises `UserError` where no frame has a face.
    """
    found: list[bool] = []
    ratios: list[NDArray[np.float32]] = []
    keypoints: list[SeenKeypoints] = []
    first_frames: list[NDArray[np.uint8]] = []

    def landmarks() -> Iterator[NDArray[np.float32]]:
        face: Face | None = None
        with reader, read_ahead(run.clock.each("decode", reader)) as frames:
            for frame in frames:
                with run.clock.step("detect"):
                    face = face and run.analyzer.track(frame, face)
                    face = face or find_face(run.analyzer, frame)
                found.append(face is not None)
                if face is not None:
                    if not first_frames:
                        first_frames.append(frame)
                    ratios.append(np.concatenate([eye_ratios(face.landmarks), lip_ratio(face.landmarks)]))
                    keypoints.append(SeenKeypoints.of([face.landmarks]))
                    yield face.landmarks
                run.progress(FIND, len(found), reader.info.frame_count)
        if not first_frames:
            raise UserError(
                f"no face found in any of the {len(found)} frames of {reader.path}: use a video that"
                " shows one, or --no-crop-driving if its frames are cropped faces"
            )

    window = driving_window(landmarks())
    seen = np.array(found)
    rows = np.maximum(np.cumsum(seen) - 1, 0)
    return Tracked(
        window,
        seen,
        first_frames[0],
        np.stack(ratios)[rows].astype(np.float32),
        SeenKeypoints(
            np.concatenate([k.points for k in keypoints]), np.concatenate([k.rotation for k in keypoints])
        ),
    )
