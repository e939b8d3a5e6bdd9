"""Tracking one face: near its last position, otherwise the largest one."""

from __future__ import annotations

import numpy as np

from liveportrait.face import Face
from liveportrait.face.analyzer import OpenVinoFaceAnalyzer
from liveportrait.face.tracker import FaceTracker

FRAME = np.zeros((90, 120, 3), np.uint8)


def face_at(x: float) -> Face:
    return Face(np.full((478, 3), x, np.float32), 1.0)


class ScriptedAnalyzer(OpenVinoFaceAnalyzer):
    """Detects the faces `detected`, tracks a face unless `lost` is set, and records its calls."""

    def __init__(self, detected: list[Face]) -> None:
        self.detected = detected
        self.lost = False
        self.asked: list[str] = []

    def detect(self, image: np.ndarray, smallest: float | None = None) -> list[Face]:
        self.asked.append(f"detect {smallest:g}")
        return self.detected

    def track(self, image: np.ndarray, previous: Face) -> Face | None:
        self.asked.append("track")
        return None if self.lost else previous


def test_a_face_is_detected_once_and_then_tracked() -> None:
    analyzer = ScriptedAnalyzer([face_at(1), face_at(2)])
    tracker = FaceTracker(analyzer, smallest=0.25)
    assert [tracker(FRAME) for _ in range(3)] == [analyzer.detected[0]] * 3
    assert analyzer.asked == ["detect 30", "track", "track"]


def test_after_a_loss_the_largest_face_is_followed() -> None:
    analyzer = ScriptedAnalyzer([face_at(1)])
    tracker = FaceTracker(analyzer)
    tracker(FRAME)
    analyzer.lost, analyzer.detected = True, []
    assert tracker(FRAME) is None
    analyzer.detected = [face_at(2)]
    assert tracker(FRAME) is analyzer.detected[0]
    assert analyzer.asked == ["detect 10", "track", "detect 10", "detect 10"]


def test_a_new_scene_or_a_reset_forgets_the_face() -> None:
    analyzer = ScriptedAnalyzer([face_at(1)])
    tracker = FaceTracker(analyzer)
    tracker(FRAME)
    tracker(FRAME, new_scene=True)
    tracker.reset()
    tracker(FRAME)
    assert "track" not in analyzer.asked


def test_follow_never_detects() -> None:
    analyzer = ScriptedAnalyzer([face_at(1)])
    known = face_at(3)
    tracker = FaceTracker(analyzer, face=known)
    assert tracker.follow(FRAME) is known
    analyzer.lost = True
    assert tracker.follow(FRAME) is None and tracker.follow(FRAME) is None
    assert analyzer.asked == ["track", "track"]


def test_a_face_that_moved_far_is_measured_again_from_where_it_was_found() -> None:
    corners = np.zeros((478, 3), np.float32)
    corners[0, :2] = 100.0  # a box of 100 px

    class Moving(ScriptedAnalyzer):
        step = 0.0

        def track(self, image: np.ndarray, previous: Face) -> Face | None:
            self.asked.append(f"from {previous.box[0]:g}")
            return Face(previous.landmarks + np.float32(self.step), 1.0)

    analyzer = Moving([Face(corners, 1.0)])
    tracker = FaceTracker(analyzer)
    tracker(FRAME)
    analyzer.step = 3.0
    tracker(FRAME)
    analyzer.step = 6.0
    face = tracker(FRAME)
    assert analyzer.asked[1:] == ["from 0", "from 3", "from 9"]
    assert face is not None and face.box[0] == 15
