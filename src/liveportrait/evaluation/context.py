"""What every protocol works with."""

from __future__ import annotations

from dataclasses import dataclass

from liveportrait.engine import Engine
from liveportrait.face import FaceAnalyzer
from liveportrait.metrics.perceptual import PictureFeatures


@dataclass(frozen=True, eq=False)
class EvalContext:
    """The networks that are measured, and those that measure."""

    engine: Engine
    analyzer: FaceAnalyzer
    features: PictureFeatures
    tracks: bool = True
    """whether keypoints that are landmarks lie where the analyzer found them, as in `animate`, or where M sees them"""

    @classmethod
    def of(cls, engine: Engine, analyzer: FaceAnalyzer, tracks: bool = True) -> EvalContext:
        """With the bundled feature network, on the engine's device."""
        return cls(engine, analyzer, PictureFeatures().to(engine.device), tracks)
