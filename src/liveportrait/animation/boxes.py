"""A box that the user draws around a face."""

from __future__ import annotations

import math

from liveportrait.errors import UserError

SMALLEST_BOX = 8.0  # px


def parse_box(text: str) -> tuple[float, float, float, float]:
    """x, y, width, height in px from a text such as "120,80,200,220". Raises `UserError`."""
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"box is {text!r}: give x,y,w,h in px of SOURCE, such as 120,80,200,220") from None
    if not all(math.isfinite(value) for value in (x, y, width, height)) or min(x, y) < 0:
        raise UserError(f"box is {text!r}: x and y start at 0, the upper left corner of SOURCE")
    if min(width, height) < SMALLEST_BOX:
        raise UserError(
            f"box is {text!r}, {width:g}x{height:g} px: a face of at least {SMALLEST_BOX:g} px is needed"
        )
    return x, y, width, height
