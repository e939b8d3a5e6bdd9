"""Faces in pictures: detection, landmarks, tracking, head pose, crop window, opening ratios, paste-back."""

from liveportrait.face.analyzer import Face, FaceAnalyzer, default_analyzer

__all__ = ["Face", "FaceAnalyzer", "default_analyzer"]
