"""What was kept and what was dropped: a line for each piece, a table, and a page of pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from liveportrait.data.preparation.encoding import json_bytes
from liveportrait.data.preparation.records import Dropped
from liveportrait.data.shards import read_entries
from liveportrait.media import contact_sheet, output_file, save_image

SHEET_COLUMNS, SHEET_ROWS, SHEET_CELL = 12, 8, 128

Lines = Sequence[tuple[str, Dropped]]  # name of the input, and what was dropped of it


def write_dropped(path: Path, dropped: Lines) -> None:
    """A JSON object a line: input, reason, detail, start_s, end_s (null where the whole input is meant)."""
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
    """`totals` as text, a reason a line."""
    if not by_reason:
        return "dropped: nothing"
    lines = [f"{'dropped':20}  {'pieces':>6}  {'seconds':>9}"]
    for reason, row in by_reason.items():
        lines.append(f"{reason:20}  {row['pieces']:6.0f}  {row['seconds']:9.1f}")
    return "\n".join(lines)


def write_sheet(path: Path, shards: Iterable[Path], samples: int) -> None:
    """A contact sheet of up to 96 samples, evenly spread over the shards: the middle frame of each."""
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
