"""Opens speech, from a file or as samples, as a driver."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

from liveportrait.animation.driver.base import Driver
from liveportrait.animation.inputs import open_driver, resolve_driving
from liveportrait.animation.options import TransferOptions
from liveportrait.animation.session import Session
from liveportrait.animation.speaking import voice as voices
from liveportrait.animation.speaking.driver import SpeechDriver, require_speaker
from liveportrait.animation.speaking.options import SpeechOptions
from liveportrait.errors import UserError
from liveportrait.media.sound.speech import (
    SPEECH_RATE,
    Speech,
    as_speech,
    check_speech,
    count_speech_samples,
    read_speech,
)

SpeechInput = str | Path | Speech


def open_speech_driver(
    session: Session, speech: SpeechInput, options: SpeechOptions, is_video: bool = False
) -> SpeechDriver:
    """The driver in a sound: a file, or mono samples (n,) at 16 kHz, floats in [-1, 1] or int16.

    `is_video`: it speaks in a film, whose head and eyes are left alone. Raises `UserError` where there is no sound, or
    the weights or the head's file do not serve.
    """
    require_speaker(session.engine)
    if isinstance(speech, str | Path):
        path = check_speech(Path(speech))
        name, audio, count, sound = str(path), path, count_speech_samples(path), partial(read_speech, path)
    else:
        samples = as_speech(speech)
        if not len(samples):
            raise UserError("the speech has no samples: give some mono samples at 16 kHz, or a file")
        name, audio, count, sound = "the speech", None, len(samples), partial(_pieces, samples)
    rate = Fraction(options.fps).limit_denominator(1001)
    head: Driver | None = None
    if options.head_file and not is_video:
        (resolved,) = resolve_driving(options.head_file)
        head = open_driver(session, resolved, TransferOptions())
        if head.is_photo:
            raise UserError(f"{options.head_file} does not move: name a video or motion template, or still")
    return SpeechDriver(
        name=name,
        fps=rate,
        frames=max(1, math.ceil(count * rate / SPEECH_RATE)),
        has_pictures=False,
        audio=audio,
        engine=session.engine,
        sound=sound,
        hear=partial(voices.voice_for, session, options),
        head=head,
        options=options,
        speaks_only=is_video,
        work="spoken",
    )


def _pieces(samples: Speech) -> Iterator[Speech]:
    yield samples
