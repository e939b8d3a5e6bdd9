"""The animator under evaluation, and the networks that measure its pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from liveportrait.animation.animator import Animator
from liveportrait.animation.options import DriveOptions, SourceOptions
from liveportrait.animation.portrait import Portrait
from liveportrait.animation.session import Session
from liveportrait.engine import Engine
from liveportrait.face import Face, FaceAnalyzer
from liveportrait.face.animals import AnimalDetector
from liveportrait.face.crop import to_input
from liveportrait.media import FrameArrays
from liveportrait.metrics.perceptual import PictureFeatures
from liveportrait.types import Array, Image

COMPARED_SIDE = 256  # px: the size at which pictures are compared, as in the paper (section 4.1)


@dataclass(frozen=True, eq=False)
class EvalContext:
    """The animator under evaluation, and the networks that measure what it renders."""

    animator: Animator
    analyzer: FaceAnalyzer
    features: PictureFeatures

    @classmethod
    def of(cls, engine: Engine, analyzer: FaceAnalyzer, tracks: bool = True) -> EvalContext:
        """With the bundled feature network, on the engine's device.

        `tracks`: take keypoints that are landmarks from the analyzer; otherwise all motion comes from M.
        """
        animator = Animator(engine, analyzer if tracks else FacelessAnalyzer(analyzer))
        return cls(animator, analyzer, PictureFeatures().to(engine.device))

    @property
    def engine(self) -> Engine:
        """The animator's engine."""
        return self.animator.engine

    def session(self) -> Session:
        """A session that follows a face through a file."""
        return Session(self.engine, self.analyzer, self.animator.batch)

    def open(self, crop: Image) -> Portrait:
        """A portrait of a face that is already cropped, (S,S,3)."""
        return self.animator.open(crop, SourceOptions(crop=False))


def drive(portrait: Portrait, driving: FrameArrays, options: DriveOptions) -> Image:
    """Pictures (T,S,S,3) of a portrait driven by crops (256,256,3)."""
    with portrait.drive(driving, options) as rendered:
        return np.stack(list(rendered))


def compared(pictures: Iterable[Image]) -> Image:
    """Pictures (S,S,3) resized for comparison, (T,256,256,3)."""
    return np.stack([to_input(picture, COMPARED_SIDE) for picture in pictures])


class FacelessAnalyzer:
    """An analyzer that finds no face, so that all motion comes from M."""

    def __init__(self, analyzer: FaceAnalyzer) -> None:
        self._analyzer = analyzer

    def detect(self, image: Image, smallest: float | None = None) -> list[Face]:
        """No faces."""
        return []

    def smallest(self, image: Image) -> float:
        """The height in px of the smallest face that the wrapped analyzer would look for."""
        return self._analyzer.smallest(image)

    def within(self, image: Image, box: tuple[float, float, float, float]) -> Face | None:
        """No face."""
        return None

    def track(self, image: Image, previous: Face) -> Face | None:
        """No face."""
        return None

    def blendshapes(self, face: Face) -> Array:
        """The blendshapes of a face that was found by other means."""
        return self._analyzer.blendshapes(face)

    def identity(self, image: Image, landmarks: Array) -> Array:
        """The identity embedding of a face that was found by other means."""
        return self._analyzer.identity(image, landmarks)

    @property
    def animals(self) -> AnimalDetector:
        """The detector of animals."""
        return self._analyzer.animals
