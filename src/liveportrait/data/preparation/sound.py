"""The sound of a video's clips: kept with the labels if the lips follow it, and shifted to match them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from liveportrait.data.preparation.clips import PreparedClip
from liveportrait.data.preparation.labels import Labels
from liveportrait.data.speech import FRAMES_PER_SECOND, encode_opus, make_clip
from liveportrait.errors import UserError
from liveportrait.media.sound.speech import SPEECH_RATE, Speech, read_speech
from liveportrait.metrics.sync import MAX_SHIFT, SyncMeter, moment

FRAME = SPEECH_RATE // FRAMES_PER_SECOND  # samples
PADDING = MAX_SHIFT * FRAME  # samples kept on either side of a clip until its lag is known
# Lead of the best offset if the lips follow: 96 % of speech clips reach it, 2 % with another sound
MIN_LEAD = 0.15


def read_spans(path: Path, spans: Sequence[tuple[int, int]]) -> list[Speech]:
    """The sound of a video in spans of samples (16 kHz), plus `PADDING` on either side; empty without sound."""
    found = [np.zeros(2 * PADDING + end - start, np.float32) for start, end in spans]
    position = 0
    with suppress(UserError):  # a video without sound, or with sound that cannot be decoded
        for piece in read_speech(path):
            for (start, _), sound in zip(spans, found, strict=True):
                place = position - start + PADDING  # of the piece in the span
                first, last = max(place, 0), min(place + len(piece), len(sound))
                if first < last:
                    sound[first:last] = piece[first - place : last - place]
            position += len(piece)
    return found if position else []


def aligned_sound(sound: Speech, labels: Labels) -> tuple[bytes | None, dict[str, Any]]:
    """The encoded sound of a clip, shifted to match the lips, or None if they do not follow it; and facts for its json.

    `sound` extends `PADDING` samples beyond the clip on either side; the clip has 25 frames per second.
    """
    meter = SyncMeter.load()
    own = make_clip("", "", sound[PADDING:], labels)
    scores = meter.scores(own.sound, own.targets)
    if not scores:
        return None, {}
    late, lead = moment(scores)
    shift = round(late * FRAME)
    about = {
        "sync": {"lag_ms": round(late * 1000 / FRAMES_PER_SECOND), "lead": round(lead, 3), "corrected": True}
    }
    if lead < MIN_LEAD:
        return None, about
    aligned = sound[PADDING + shift : PADDING + shift + len(own.sound)]
    facts = {"rate": SPEECH_RATE, "samples": len(aligned), "shift_s": round(shift / SPEECH_RATE, 4)}
    return encode_opus(aligned), about | {"sound": facts}


def aligned_sounds(path: Path, clips: Sequence[PreparedClip]) -> list[tuple[bytes | None, dict[str, Any]]]:
    """`aligned_sound` for each clip of a video; the clips have 25 frames per second."""
    spans = [(clip.start * FRAME, (clip.start + clip.frames) * FRAME) for clip in clips]
    sounds = read_spans(path, spans)
    if not sounds:
        return [(None, {})] * len(clips)
    return [aligned_sound(sound, clip.labels) for sound, clip in zip(sounds, clips, strict=True)]
