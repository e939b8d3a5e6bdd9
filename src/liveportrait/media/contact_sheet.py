"""Many frames on one page, to be looked at together."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

_GAP = 4  # px between cells
_CAPTION = 22  # px above a row, for its label


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]], labels: Sequence[str] = (), cell: int = 256
) -> np.ndarray:
    """One (H,W,3) uint8 RGB picture with the frames (h,w,3) uint8 RGB of each row side by side, on white.

    Each frame is scaled to fit a square of `cell` px, its proportions kept; rows may differ in length.
    `labels`, one a row, stand above their rows (ASCII: others are shown as question marks).
    """
    if not rows or not any(len(row) for row in rows):
        raise ValueError("a contact sheet needs at least one frame")
    if labels and len(labels) != len(rows):
        raise ValueError(f"{len(labels)} labels for {len(rows)} rows")
    head = _CAPTION if labels else 0
    pitch = cell + _GAP
    columns = max(len(row) for row in rows)
    sheet = np.full((len(rows) * (pitch + head) + _GAP, columns * pitch + _GAP, 3), 255, np.uint8)
    for index, row in enumerate(rows):
        top = _GAP + index * (pitch + head)
        if labels:
            cv2.putText(
                sheet, labels[index], (_GAP, top + _CAPTION - 7),
                cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA,
            )  # fmt: skip
        for column, frame in enumerate(row):
            small = _fit(frame, cell)
            y = top + head + (cell - small.shape[0]) // 2
            x = _GAP + column * pitch + (cell - small.shape[1]) // 2
            sheet[y : y + small.shape[0], x : x + small.shape[1]] = small
    return sheet


def _fit(frame: np.ndarray, cell: int) -> np.ndarray:
    """The frame scaled so that its longer side is `cell` px."""
    height, width = frame.shape[:2]
    ratio = cell / max(height, width)
    size = (max(round(width * ratio), 1), max(round(height * ratio), 1))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR)
