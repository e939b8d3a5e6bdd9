"""A motion template as driver."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from liveportrait.animation.driver.base import Driver, DrivingBatch, Play, Start, missing_reference
from liveportrait.animation.driver.reference import most_neutral_frame
from liveportrait.animation.session import Session
from liveportrait.choices import Reference
from liveportrait.errors import UserError
from liveportrait.motion import Template, groups_for


@dataclass(frozen=True, eq=False, kw_only=True)
class TemplateDriver(Driver):
    """A motion that was recorded; a single frame counts as a photo."""

    whole: DrivingBatch  # all frames
    reference: int  # the frame that relative motion starts from

    def start(self, face: int) -> Start:
        """The reference frame, whatever the face: a template does not tell what face it shows."""
        first = self.whole.take([self.reference])
        return Start(first.motion, first.ratios)

    def play(self, session: Session) -> Play:
        """All frames in batches."""
        yield from self.whole.slices(session.batch)


def open_template_driver(
    session: Session, template: Template, name: str, reference: Reference
) -> TemplateDriver:
    """The driver in a template. Raises `UserError` for another keypoint layout or a frame that is not there."""
    device = session.engine.device
    groups = groups_for(session.engine.variant)
    template.require_layout(groups, name)
    ratios = None
    if template.eye_ratios is not None and template.lip_ratios is not None:
        ratios = torch.cat([template.eye_ratios, template.lip_ratios], dim=1).to(device)
    count = len(template)
    if isinstance(reference, int) and reference >= count:
        raise UserError(missing_reference(reference, name, count))
    start = reference if isinstance(reference, int) else 0
    if reference == "auto":
        start = most_neutral_frame(template, groups)
    whole = DrivingBatch(template.motion.to(device), ratios, (None,) * count)
    return TemplateDriver(
        name=name,
        fps=template.fps,
        frames=count,
        is_photo=count == 1,
        has_pictures=False,
        whole=whole,
        reference=start,
    )
