"""Counts of what a set of shards holds, gathered sample by sample."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liveportrait.data.preparation.parts import SampleRecord

ANGLE_EDGES = np.arange(-90, 91, 10)  # degrees
SHAPE_EDGES = np.linspace(0, 1, 11)
QUALITY_EDGES = np.linspace(0, 1, 11)


class Statistics:
    """Histograms in fixed bins, so that they take no memory and do not depend on order."""

    def __init__(self, fps: int) -> None:
        self._fps = fps
        self._kinds: Counter[str] = Counter()
        self._domains: Counter[str] = Counter()
        self._frames = 0
        self._seconds_of: defaultdict[str, float] = defaultdict(float)
        self._angles = {name: np.zeros(len(ANGLE_EDGES) - 1, np.int64) for name in ("yaw", "pitch", "roll")}
        self._shapes = np.zeros((52, len(SHAPE_EDGES) - 1), np.int64)
        self._quality = np.zeros(len(QUALITY_EDGES) - 1, np.int64)

    def add(self, sample: SampleRecord, identity: str, labels: bytes | None) -> None:
        """Count a sample; `labels` is its .npz."""
        self._kinds["clips" if sample.is_video else "pictures"] += 1
        self._domains[str(sample.about["domain"])] += 1
        self._seconds_of[identity] += sample.frames / self._fps if sample.is_video else 0.0
        self._frames += sample.frames
        self._quality += np.histogram(sample.score, QUALITY_EDGES)[0]
        if labels is None:
            self._kinds["unlabelled"] += 1
            return
        with np.load(io.BytesIO(labels), allow_pickle=False) as stored:
            rotation = stored["rot"].astype(np.float64).reshape(-1, 3, 3)
            shapes = stored["bs"].astype(np.float64).reshape(-1, 52) / 255
        for name, degrees in angles(rotation).items():
            self._angles[name] += np.histogram(degrees.clip(-90, 90), ANGLE_EDGES)[0]
        for number in range(shapes.shape[1]):
            self._shapes[number] += np.histogram(shapes[:, number], SHAPE_EDGES)[0]

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        lengths = sorted(self._seconds_of.values())
        return {
            "samples": self._kinds["clips"] + self._kinds["pictures"],
            "clips": self._kinds["clips"],
            "pictures": self._kinds["pictures"],
            "unlabelled": self._kinds["unlabelled"],
            "domains": dict(sorted(self._domains.items())),
            "frames": self._frames,
            "seconds": round(sum(lengths), 3),
            "identities": len(lengths),
            "seconds_of_an_identity": {
                "median": round(float(np.median(lengths)), 3) if lengths else 0.0,
                "longest": round(lengths[-1], 3) if lengths else 0.0,
            },
            "quality": _histogram(QUALITY_EDGES, self._quality),
            "degrees": {name: _histogram(ANGLE_EDGES, counts) for name, counts in self._angles.items()},
            "blendshapes": {
                "edges": SHAPE_EDGES.round(1).tolist(),
                "frames": {str(number): counts.tolist() for number, counts in enumerate(self._shapes)},
            },
        }


def angles(rotation: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Degrees (T,) of label rotations (T,3,3): yaw to the picture's right, pitch up, roll anticlockwise."""
    forward, up = rotation[:, :, 2], rotation[:, :, 1]
    return {
        "yaw": np.degrees(np.arctan2(forward[:, 0], forward[:, 2])),
        "pitch": np.degrees(np.arcsin(forward[:, 1].clip(-1, 1))),
        "roll": np.degrees(np.arctan2(-up[:, 0], up[:, 1])),
    }


def _histogram(edges: NDArray[Any], counts: NDArray[np.int64]) -> dict[str, Any]:
    return {"edges": edges.round(1).tolist(), "frames": counts.tolist()}
