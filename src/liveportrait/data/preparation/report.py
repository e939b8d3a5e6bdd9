"""Reports on what was kept and dropped: histograms, a line per dropped piece, a table, a contact sheet."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liveportrait.data.preparation.parts import Dropped, SampleRecord, json_bytes
from liveportrait.data.shards import read_entries
from liveportrait.media import contact_sheet, output_file, save_image

ANGLE_EDGES = np.arange(-90, 91, 10)  # degrees
SHAPE_EDGES = np.linspace(0, 1, 11)
QUALITY_EDGES = np.linspace(0, 1, 11)


class Statistics:
    """Histograms in fixed bins, which need little memory and do not depend on order."""

    def __init__(self, fps: int) -> None:
        self._fps = fps
        self._kinds: Counter[str] = Counter()
        self._domains: Counter[str] = Counter()
        self._frames = 0
        self._speech = 0.0  # s
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
        self._speech += sample.frames / self._fps if "sound" in sample.about else 0.0
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
        """All statistics as JSON values."""
        lengths = sorted(self._seconds_of.values())
        return {
            "samples": self._kinds["clips"] + self._kinds["pictures"],
            "clips": self._kinds["clips"],
            "pictures": self._kinds["pictures"],
            "unlabelled": self._kinds["unlabelled"],
            "domains": dict(sorted(self._domains.items())),
            "frames": self._frames,
            "seconds": round(sum(lengths), 3),
            "seconds_of_speech": round(self._speech, 3),
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
    """Angles (T,) in degrees of label rotations (T,3,3): yaw to the picture's right, pitch up, roll anticlockwise."""
    forward, up = rotation[:, :, 2], rotation[:, :, 1]
    return {
        "yaw": np.degrees(np.arctan2(forward[:, 0], forward[:, 2])),
        "pitch": np.degrees(np.arcsin(forward[:, 1].clip(-1, 1))),
        "roll": np.degrees(np.arctan2(-up[:, 0], up[:, 1])),
    }


def _histogram(edges: NDArray[Any], counts: NDArray[np.int64]) -> dict[str, Any]:
    return {"edges": edges.round(1).tolist(), "frames": counts.tolist()}


SHEET_COLUMNS, SHEET_ROWS, SHEET_CELL = 12, 8, 128

Lines = Sequence[tuple[str, Dropped]]  # name of the input, and what was dropped from it


def write_dropped(path: Path, dropped: Lines) -> None:
    """Write one JSON object per line: input, reason, detail, start_s, end_s (both null for the entire input)."""
    with output_file(path, overwrite=True) as temporary:
        temporary.write_bytes(
            b"".join(json_bytes({"input": name, **asdict(item)}) + b"\n" for name, item in dropped)
        )


def totals(dropped: Lines) -> dict[str, dict[str, float]]:
    """Pieces and seconds by reason, most pieces first."""
    found: dict[str, dict[str, float]] = {}
    for _, item in dropped:
        row = found.setdefault(item.reason, {"pieces": 0, "seconds": 0.0})
        row["pieces"] += 1
        if item.start_s is not None and item.end_s is not None:
            row["seconds"] = round(row["seconds"] + item.end_s - item.start_s, 3)
    return dict(sorted(found.items(), key=lambda pair: (-pair[1]["pieces"], pair[0])))


def table(by_reason: dict[str, dict[str, float]]) -> str:
    """`totals` as text, one reason per line."""
    if not by_reason:
        return "dropped: nothing"
    lines = [f"{'dropped':20}  {'pieces':>6}  {'seconds':>9}"]
    for reason, row in by_reason.items():
        lines.append(f"{reason:20}  {row['pieces']:6.0f}  {row['seconds']:9.1f}")
    return "\n".join(lines)


def write_sheet(path: Path, shards: Iterable[Path], samples: int) -> None:
    """Write a contact sheet with the middle frames of up to 96 samples, evenly spread over the shards."""
    wanted = set(
        np.linspace(0, samples - 1, min(samples, SHEET_COLUMNS * SHEET_ROWS)).round().astype(int).tolist()
    )
    cells = []
    number = 0
    for shard in shards:
        for entry in read_entries(shard):
            if number in wanted:
                frames = entry.frames()
                cells.append(frames[len(frames) // 2])
            number += 1
    rows = [cells[start : start + SHEET_COLUMNS] for start in range(0, len(cells), SHEET_COLUMNS)]
    save_image(path, contact_sheet(rows, cell=SHEET_CELL), overwrite=True)
