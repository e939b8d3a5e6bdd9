"""Slider values over time, in a file that people can read and write.

    {"keyframes": [
      {"time": 0.0, "slider": "smile", "value": 0, "interpolation": "smooth"},
      {"time": 1.5, "slider": "smile", "value": 1}
    ]}

`time` is in seconds from the start of the video. `interpolation` says how the value changes to the slider's next
keyframe: linear (the default), smooth (an S-curve) or step (constant until then). Before its first keyframe a
slider has the value of that one, after its last the value of the last. Times ascend within a slider.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from liveportrait.errors import UserError
from liveportrait.media.files import check_input, check_output, output_file

Interpolation = Literal["linear", "smooth", "step"]
MAX_BYTES = 16 * 2**20
_FIELDS = {"time", "slider", "value", "interpolation"}


@dataclass(frozen=True)
class Keyframe:
    """The value of one slider at one time."""

    time: float  # s
    slider: str
    value: float
    interpolation: Interpolation = "linear"  # from here to the slider's next keyframe


@dataclass(frozen=True)
class Keyframes:
    """Keyframes in the order given. Raises `UserError` if times do not ascend within a slider."""

    frames: tuple[Keyframe, ...]

    def __post_init__(self) -> None:
        """Check times and interpolations."""
        last: dict[str, float] = {}
        for number, frame in enumerate(self.frames, start=1):
            where = f"keyframe {number} ({frame.slider})"
            if not (math.isfinite(frame.time) and frame.time >= 0):
                raise UserError(f"{where} has the time {frame.time}: give seconds, 0 or later")
            if frame.interpolation not in get_args(Interpolation):
                raise UserError(
                    f"{where} has the interpolation {frame.interpolation!r}: choose one of"
                    f" {', '.join(get_args(Interpolation))}"
                )
            if frame.slider in last and frame.time <= last[frame.slider]:
                raise UserError(
                    f"{where} is at {frame.time:g} s, not after the one before it at {last[frame.slider]:g} s:"
                    " put each slider's keyframes in ascending order of time"
                )
            last[frame.slider] = frame.time

    def sliders(self) -> tuple[str, ...]:
        """The sliders that have keyframes."""
        return tuple(dict.fromkeys(frame.slider for frame in self.frames))

    def at(self, time: float) -> dict[str, float]:
        """The sliders' values at a time in seconds."""
        return {slider: self._value(slider, time) for slider in self.sliders()}

    def _value(self, slider: str, time: float) -> float:
        frames = [frame for frame in self.frames if frame.slider == slider]
        after = bisect_right([frame.time for frame in frames], time)
        if after == 0:
            return frames[0].value
        start = frames[after - 1]
        if after == len(frames) or start.interpolation == "step":
            return start.value
        end = frames[after]
        part = (time - start.time) / (end.time - start.time)
        if start.interpolation == "smooth":
            part = part * part * (3 - 2 * part)
        return start.value + part * (end.value - start.value)


def read_keyframes(path: str | Path, check: Callable[[str, float], None]) -> Keyframes:
    """The keyframes in a JSON file; `check` raises `UserError` for a slider or value that it does not allow.

    Raises `UserError` naming the file and the keyframe.
    """
    path = check_input(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"it is larger than {MAX_BYTES} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = content.get("keyframes") if isinstance(content, dict) else None
        if not isinstance(rows, list) or not rows:
            raise UserError('it has no list "keyframes"')
        keyframes = Keyframes(tuple(_keyframe(row, number) for number, row in enumerate(rows, start=1)))
        for number, frame in enumerate(keyframes.frames, start=1):
            try:
                check(frame.slider, frame.value)
            except UserError as error:
                raise UserError(f"keyframe {number}: {error}") from error
        return keyframes
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read the keyframes {path}: it is not valid JSON ({error})") from error
    except UserError as error:
        raise UserError(f"cannot use the keyframes {path}: {error}") from error


def write_keyframes(path: str | Path, frames: Iterable[Keyframe], overwrite: bool = False) -> None:
    """Write keyframes as JSON, one per line. Raises `UserError` if they are invalid, or the file exists."""
    path = check_output(path, (".json",), overwrite)
    rows = (
        {"time": f.time, "slider": f.slider, "value": f.value, "interpolation": f.interpolation}
        for f in Keyframes(tuple(frames)).frames
    )
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    with output_file(path, overwrite) as temporary:
        temporary.write_text(f'{{"keyframes": [\n  {lines}\n]}}\n', encoding="utf-8")


def _keyframe(row: Any, number: int) -> Keyframe:
    if not isinstance(row, dict) or not {"time", "slider", "value"} <= row.keys() or row.keys() - _FIELDS:
        raise UserError(
            f"keyframe {number} needs time, slider and value, may have interpolation, and nothing else"
        )
    numbers = [row["time"], row["value"]]
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in numbers):
        raise UserError(f"keyframe {number} has a time or value that is not a number")
    if not isinstance(row["slider"], str):
        raise UserError(f"keyframe {number} has a slider that is not a name")
    slider = row["slider"].replace("-", "_")
    try:
        time, value = map(float, numbers)
    except OverflowError:
        raise UserError(f"keyframe {number} has a time or value that is too large") from None
    return Keyframe(time, slider, value, row.get("interpolation", "linear"))
