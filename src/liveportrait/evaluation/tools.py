"""What every protocol works with."""

from __future__ import annotations

from dataclasses import dataclass

from liveportrait.engine import Engine
from liveportrait.evaluation.perceptual import PictureFeatures
from liveportrait.face import FaceAnalyzer


@dataclass(frozen=True, eq=False)
class Tools:
    """The networks that are measured, and those that measure."""

    engine: Engine
    analyzer: FaceAnalyzer
    features: PictureFeatures

    @classmethod
    def of(cls, engine: Engine, analyzer: FaceAnalyzer) -> Tools:
        """With the bundled feature network, on the engine's device."""
        return cls(engine, analyzer, PictureFeatures().to(engine.device))
