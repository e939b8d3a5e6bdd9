"""The sound of a video's clips: kept beside the labels where the lips follow it, and laid onto them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from liveportrait.data.preparation.clips import PreparedClip
from liveportrait.data.preparation.labels import Labels
from liveportrait.data.speech import FRAMES_A_SECOND, clip_of, encoded
from liveportrait.errors import UserError
from liveportrait.media.sound.speech import SPEECH_RATE, Speech, read_speech
from liveportrait.metrics.sync import MAX_SHIFT, SyncMeter, moment

FRAME = SPEECH_RATE // FRAMES_A_SECOND  # samples
AROUND = MAX_SHIFT * FRAME  # samples kept on either side of a clip until its lag is known
FOLLOWS = (
    0.15  # lead of the true moment from which lips follow: 96 % of clips of speech, 2 % with another's sound
)


def sounds_of(path: Path, spans: Sequence[tuple[int, int]]) -> list[Speech]:
    """The sound of a video in spans of samples (16 kHz), and `AROUND` on either side; empty without sound."""
    found = [np.zeros(2 * AROUND + end - start, np.float32) for start, end in spans]
    begin = 0
    with suppress(UserError):  # a video without sound, or with one that cannot be decoded
        for piece in read_speech(path):
            for (start, _), sound in zip(spans, found, strict=True):
                place = begin - start + AROUND  # of the piece in the span
                first, last = max(place, 0), min(place + len(piece), len(sound))
                if first < last:
                    sound[first:last] = piece[first - place : last - place]
            begin += len(piece)
    return found if begin else []


def kept_sound(sound: Speech, labels: Labels) -> tuple[bytes | None, dict[str, Any]]:
    """The sound of a clip as its shard holds it, None where the lips do not follow it, and what its json says of it.

    `sound` begins and ends `AROUND` samples outside of the clip, which has 25 frames a second.
    """
    meter = SyncMeter.load()
    own = clip_of("", "", sound[AROUND:], labels)
    scores = meter.scores(own.sound, own.targets)
    if not scores:
        return None, {}
    late, lead = moment(scores)
    shift = round(late * FRAME)
    about = {
        "sync": {"lag_ms": round(late * 1000 / FRAMES_A_SECOND), "lead": round(lead, 3), "corrected": True}
    }
    if lead < FOLLOWS:
        return None, about
    laid = sound[AROUND + shift : AROUND + shift + len(own.sound)]
    held = {"rate": SPEECH_RATE, "samples": len(laid), "shift_s": round(shift / SPEECH_RATE, 4)}
    return encoded(laid), about | {"sound": held}


def kept_sounds(path: Path, clips: Sequence[PreparedClip]) -> list[tuple[bytes | None, dict[str, Any]]]:
    """For each clip of a video, which has 25 frames a second, what `kept_sound` says of it."""
    spans = [(clip.start * FRAME, (clip.start + clip.frames) * FRAME) for clip in clips]
    sounds = sounds_of(path, spans)
    if not sounds:
        return [(None, {})] * len(clips)
    return [kept_sound(sound, clip.labels) for sound, clip in zip(sounds, clips, strict=True)]
