"""The keyframes of a video's sliders while a visitor is setting them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from io import BytesIO

from liveportrait.folders import temporary_folder
from liveportrait.motion.keyframes import Interpolation, Keyframe, Keyframes, write_keyframes

SAME_MOMENT_S = 0.02  # moments closer than this are the same


@dataclass(eq=False)
class Timeline:
    """Keyframes by moment (s) and slider."""

    moments: dict[float, dict[str, Keyframe]] = field(default_factory=dict)

    def set(self, moment: float, values: Mapping[str, float], interpolation: Interpolation) -> None:
        """Set the slider values at a moment, replacing those it had."""
        self.remove(moment)
        if values:
            kept = {name: Keyframe(moment, name, value, interpolation) for name, value in values.items()}
            self.moments = dict(sorted({**self.moments, moment: kept}.items()))

    def remove(self, moment: float) -> None:
        """Remove the keyframes at a moment."""
        self.moments = {
            time: kept for time, kept in self.moments.items() if abs(time - moment) > SAME_MOMENT_S
        }

    @property
    def keyframes(self) -> Keyframes:
        """All keyframes in order of time."""
        return Keyframes(tuple(frame for kept in self.moments.values() for frame in kept.values()))

    def file(self) -> BytesIO:
        """The keyframes as a JSON file, see `motion.keyframes`."""
        with temporary_folder() as folder:
            path = folder / "keyframes.json"
            write_keyframes(path, self.keyframes.frames)
            return BytesIO(path.read_bytes())

    def table(self) -> str:
        """The keyframes as an HTML table."""
        if not self.moments:
            return '<p class="lp-faded">No keyframes yet: set the sliders, then keep them at this moment.</p>'
        rows = (
            f"<tr><th>{time:.2f} s</th><td>{escape(', '.join(map(_describe, kept.values())))}</td></tr>"
            for time, kept in self.moments.items()
        )
        return f'<table class="lp-keyframes">{"".join(rows)}</table>'


def _describe(frame: Keyframe) -> str:
    return f"{frame.slider.replace('_', ' ')} {frame.value:g}"
