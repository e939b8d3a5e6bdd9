"""A motion template as driver."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace

import torch

from liveportrait.animation.driver.base import Driver, DrivingBatch, Play, Start, missing_reference
from liveportrait.animation.report import ANIMATE
from liveportrait.animation.session import Session
from liveportrait.choices import Framing, Reference
from liveportrait.errors import UserError
from liveportrait.face.measures import TURN, turn_degrees
from liveportrait.motion import KeypointGroups, Template, groups_for
from liveportrait.motion.framing import steadied

OPEN = 0.3  # the opening at which an eye counts as open
VISIBLE = 0.01  # of half the crop's side: reductions by bounds up to this are not reported
_BUSY = 0.05  # RMS of an expression that counts as much as one blendshape at 1


@dataclass(frozen=True, eq=False, kw_only=True)
class TemplateDriver(Driver):
    """A recorded motion; a single frame counts as a photo."""

    whole: DrivingBatch  # all frames
    reference: int  # the frame that relative motion starts from

    def start(self, face: int) -> Start:
        """The reference frame, whatever the face: a template does not say whose face it shows."""
        first = self.whole.take([self.reference])
        return Start(first.motion, first.ratios, first.scores)

    def play(self, session: Session) -> Play:
        """All frames in batches."""
        yield from self.whole.slices(session.batch)


def open_template_driver(
    session: Session, template: Template, name: str, reference: Reference, framing: Framing = "steady"
) -> TemplateDriver:
    """Open a template as a driver; with the framing "steady" its position and size are bounded.

    Raises `UserError` for another keypoint layout or a reference frame that does not exist.
    """
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
    scores = None if template.blendshapes is None else template.blendshapes.to(device)
    motion = recorded = template.motion.to(device)
    if framing == "steady":
        first = recorded.rows([start])
        motion = steadied(recorded, first, first)
    whole = DrivingBatch(motion, ratios, (None,) * count, scores)
    return TemplateDriver(
        name=name,
        fps=template.fps,
        frames=count,
        is_photo=count == 1,
        has_pictures=False,
        is_steadied=not torch.allclose(motion.translation, recorded.translation, atol=VISIBLE, rtol=0),
        whole=whole,
        reference=start,
    )


def record_template(session: Session, driver: Driver) -> Template:
    """The entire motion of a driver as a template."""
    parts: list[DrivingBatch] = []
    done = 0
    with closing(driver.play(session)) as play:
        for batch in play:
            parts.append(replace(batch, crops=(None,) * len(batch)))
            done += len(batch)
            session.progress(ANIMATE, done, driver.frames)
    whole = DrivingBatch.cat(parts)
    motion, layout = whole.motion.to("cpu"), groups_for(session.engine.variant).layout
    if whole.ratios is None or whole.scores is None:
        return Template(motion, driver.fps, layout)
    ratios, scores = whole.ratios.cpu(), whole.scores.cpu()
    return Template(motion, driver.fps, layout, ratios[:, :2], ratios[:, 2:], scores)


def most_neutral_frame(template: Template, groups: KeypointGroups) -> int:
    """The most neutral frame of a template, judged by the data that it has.

    The score adds the angle of the head over 30°, the RMS of the expression's distance from the layout's face at rest
    over 0.05, and how far the narrower eye is below an opening of 0.3, over 0.3.
    """
    motion = template.motion
    rest = motion.expression - groups.neutral_expression()
    score = rest.square().mean((1, 2)).sqrt() / _BUSY + turn_degrees(motion.rotation) / TURN
    if template.eye_ratios is not None:
        score = score + (OPEN - template.eye_ratios.amin(1)).clamp(min=0) / OPEN
    return int(score.argmin())
