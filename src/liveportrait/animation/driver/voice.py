"""V at work for a driver."""

from __future__ import annotations

import importlib.util
from fractions import Fraction
from typing import Any

from liveportrait.animation.driver.speech import VoiceStream
from liveportrait.animation.session import Session
from liveportrait.animation.speech_options import SpeechOptions
from liveportrait.errors import UserError


def voice_for(session: Session, options: SpeechOptions, fps: Fraction) -> VoiceStream:
    """V, ready to hear a sound from its beginning."""
    if importlib.util.find_spec("liveportrait.motion.voice") is None:
        raise UserError(
            "the network that hears a voice is missing: take a version of the program that brings it"
        )
    module: Any = importlib.import_module("liveportrait.motion.voice")
    return module.Voice.load().stream(fps, options.seed, options.style)
