"""The animator that is measured, and the networks that measure."""

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

COMPARED_SIDE = 256  # px: everything is compared at this size, as in the paper (section 4.1)


@dataclass(frozen=True, eq=False)
class EvalContext:
    """The animator that is measured, and the networks that measure what it renders."""

    animator: Animator
    analyzer: FaceAnalyzer
    features: PictureFeatures

    @classmethod
    def of(cls, engine: Engine, analyzer: FaceAnalyzer, tracks: bool = True) -> EvalContext:
        """With the bundled feature network, on the engine's device.

        `tracks`: keypoints that are landmarks lie where the analyzer finds them; otherwise where M sees them.
        """
        animator = Animator(engine, analyzer if tracks else FacelessAnalyzer(analyzer))
        return cls(animator, analyzer, PictureFeatures().to(engine.device))

    @property
    def engine(self) -> Engine:
        """The engine of the animator."""
        return self.animator.engine

    def session(self) -> Session:
        """Tools to follow a face through a file."""
        return Session(self.engine, self.analyzer, self.animator.batch)

    def open(self, crop: Image) -> Portrait:
        """The portrait of a face that is cropped already, (S,S,3)."""
        return self.animator.open(crop, SourceOptions(crop=False))


def drive(portrait: Portrait, driving: FrameArrays, options: DriveOptions) -> Image:
    """The pictures (T,S,S,3) of a portrait driven by crops (256,256,3)."""
    with portrait.drive(driving, options) as rendered:
        return np.stack(list(rendered))


def compared(pictures: Iterable[Image]) -> Image:
    """Pictures (S,S,3) at the size at which they are compared, (T,256,256,3)."""
    return np.stack([to_input(picture, COMPARED_SIDE) for picture in pictures])


class FacelessAnalyzer:
    """An analyzer that finds no face: all motion is then what M sees."""

    def __init__(self, analyzer: FaceAnalyzer) -> None:
        self._analyzer = analyzer

    def detect(self, image: Image, smallest: float | None = None) -> list[Face]:
        """No faces."""
        return []

    def smallest(self, image: Image) -> float:
        """The height in px of the smallest face that the analyzer itself would look for."""
        return self._analyzer.smallest(image)

    def within(self, image: Image, box: tuple[float, float, float, float]) -> Face | None:
        """No face."""
        return None

    def track(self, image: Image, previous: Face) -> Face | None:
        """No face."""
        return None

    def blendshapes(self, face: Face) -> Array:
        """Those of a face that was found elsewhere."""
        return self._analyzer.blendshapes(face)

    def identity(self, image: Image, landmarks: Array) -> Array:
        """That of a face that was found elsewhere."""
        return self._analyzer.identity(image, landmarks)

    @property
    def animals(self) -> AnimalDetector:
        """The detector of animals."""
        return self._analyzer.animals
