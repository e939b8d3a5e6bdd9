"""Speech as the voice network hears it: the sound of a file, mono at 16 kHz, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from liveportrait.errors import UserError
from liveportrait.media.container import audio_stream, open_media, picture_format, video_stream
from liveportrait.media.files import check_input
from liveportrait.media.sound.samples import blocks, laid

SPEECH_RATE = 16000  # samples a second

Speech = NDArray[np.float32]  # (N,) in [-1, 1]


def read_speech(path: Path) -> Iterator[Speech]:
    """The sound of a file from its first picture or sample on, in pieces of at most some seconds.

    Memory does not grow with its length. Raises `UserError` where the file has no sound, or none that can be decoded.
    """
    with open_media(path) as container:
        stream = audio_stream(container)
        if stream is None:
            raise UserError(f"{path} has no sound: name a file in which somebody speaks")
        if stream.codec_context is None:
            raise UserError(f"{path}: the codec of its sound is unknown here: convert it to WAV")
        count = 0
        try:
            for samples in laid(blocks(container, stream, Fraction(0)), SPEECH_RATE, 1):
                count += samples.shape[1]
                yield clean(samples.mean(0))
        except (FFmpegError, ValueError, KeyError) as error:
            raise UserError(f"{path}: its sound cannot be decoded: convert it to WAV") from error
    if not count:
        raise UserError(f"{path} has no sound that can be decoded: play it to check, or convert it to WAV")


def speech_samples(path: Path) -> int:
    """How many samples `read_speech` gives. Raises `UserError` as it does."""
    return sum(map(len, read_speech(path)))


def clean(samples: Speech) -> Speech:
    """Samples in [-1, 1], where what is no number is silent."""
    finite = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    return np.asarray(finite.clip(-1, 1), np.float32)


def is_sound(path: Path) -> bool:
    """Whether a file holds sound and no moving pictures. Raises `UserError` where there is no such file."""
    if picture_format(check_input(path)) is not None:
        return False
    try:
        with open_media(path) as container:
            return video_stream(container) is None and audio_stream(container) is not None
    except UserError:
        return False


def check_speech(path: Path) -> Path:
    """The path of a file with sound. Raises `UserError` where it is none."""
    if picture_format(check_input(path)) is not None:
        raise UserError(f"{path} is a picture: name a sound file or a video in which somebody speaks")
    return path
