"""The frame of a template that relative motion starts from."""

from __future__ import annotations

from liveportrait.face.measures import TURN, turn_degrees
from liveportrait.motion import KeypointGroups, Template

OPEN = 0.3  # from this opening on an eye is open
BUSY = 0.05  # RMS of a template's expression that counts as much as one blendshape at full


def most_neutral_frame(template: Template, groups: KeypointGroups) -> int:
    """The most neutral frame of a template, by what it knows.

    The angle of the head over 30°, the RMS of the expression's distance from the layout's face at rest over 0.05,
    and how far the narrower eye is below an opening of 0.3, over that.
    """
    motion = template.motion
    rest = motion.expression - groups.neutral_expression()
    score = rest.square().mean((1, 2)).sqrt() / BUSY + turn_degrees(motion.rotation) / TURN
    if template.eye_ratios is not None:
        score = score + (OPEN - template.eye_ratios.amin(1)).clamp(min=0) / OPEN
    return int(score.argmin())
