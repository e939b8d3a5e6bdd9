"""ComfyUI widgets made from the program's own options, so that names and defaults are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from liveportrait.animation.edit_options import SLIDERS

UNCHANGED = -1.0  # the value of an opening that is not set

Widget = tuple[Any, dict[str, Any]]


def option_widgets(
    options: type, names: Mapping[str, tuple[float, float]], words: Sequence[str]
) -> dict[str, Widget]:
    """Widgets for options: `names` are numbers with their ranges, `words` choices, texts and switches."""
    hints = get_type_hints(options)
    defaults = {each.name: each.default for each in fields(options)}
    found: dict[str, Widget] = {}
    for name, (low, high) in names.items():
        found[name] = "FLOAT", {"default": defaults[name], "min": low, "max": high, "step": 0.01}
    for name in words:
        if get_origin(hints[name]) is Literal:
            found[name] = list(get_args(hints[name])), {"default": defaults[name]}
        else:
            found[name] = "BOOLEAN" if hints[name] is bool else "STRING", {"default": defaults[name]}
    return found


def slider_widgets() -> dict[str, Widget]:
    """A widget for each slider."""
    found: dict[str, Widget] = {}
    for name, (low, high, rest) in SLIDERS.items():
        if rest is None:
            found[name] = (
                "FLOAT",
                {
                    "default": UNCHANGED,
                    "min": UNCHANGED,
                    "max": high,
                    "step": 0.01,
                    "tooltip": "below 0: unchanged",
                },
            )
        else:
            found[name] = "FLOAT", {"default": rest, "min": low, "max": high, "step": 0.01}
    del found["copy"]  # belongs to an expression taken from a picture
    return found


def slider_values(values: Mapping[str, float]) -> dict[str, float | None]:
    """The sliders' values; None for openings below 0."""
    return {
        name: None if SLIDERS[name].rest is None and value < 0 else value for name, value in values.items()
    }
