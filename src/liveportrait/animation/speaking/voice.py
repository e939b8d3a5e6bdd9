"""Prepares V for a driver: the bundled voice, in the style of a clip."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from pathlib import Path

import torch

from liveportrait.animation.driver.base import resample_frames
from liveportrait.animation.inputs import open_driver, resolve_driving
from liveportrait.animation.options import TransferOptions
from liveportrait.animation.session import Session
from liveportrait.animation.speaking.driver import VoiceStream
from liveportrait.animation.speaking.options import SpeechOptions
from liveportrait.errors import UserError
from liveportrait.motion.voice import Voice, style_of

STYLE_RATE = 25  # frames/s at which a speaking style is measured
CLOSED = 0.05  # quantile of the lips' opening that counts as closed lips


def voice_for(session: Session, options: SpeechOptions, fps: Fraction) -> VoiceStream:
    """V, ready to hear a sound from its start. Raises `UserError` if the style's clip cannot be used."""
    style = style_from(session, options.style) if options.style else None
    return Voice.load().stream(fps, options.seed, style)


def style_from(session: Session, clip: Path) -> tuple[float, float, float]:
    """How the person in a video speaks, see `style_of`. Raises `UserError` if the clip does not show lips moving."""
    (resolved,) = resolve_driving(clip)
    driver = open_driver(session, resolved, TransferOptions())
    if driver.is_photo:
        raise UserError(f"{clip} does not move: take the style from a video of somebody speaking")
    with closing(driver.play(session)) as play:
        ratios = [batch.ratios for batch in resample_frames(play, driver.fps / STYLE_RATE, session.batch)]
    known = [each[:, 2] for each in ratios if each is not None]
    if not known:
        raise UserError(f"{clip} does not say how far lips open: name a video")
    openings = torch.cat(known).cpu()
    return style_of((openings - openings.quantile(CLOSED)).clamp(min=0).numpy())
