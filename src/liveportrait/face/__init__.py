"""Where a face is: detection, landmarks, head pose, crop window, opening ratios, paste-back."""

from liveportrait.face.analyzer import Face, FaceAnalyzer

__all__ = ["Face", "FaceAnalyzer"]
