"""Speech as the voice network hears it: the sound of a file, mono at 16 kHz, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from av import AudioResampler
from av.error import FFmpegError
from numpy.typing import ArrayLike, NDArray

from liveportrait.errors import UserError
from liveportrait.media.container import audio_stream, open_media, picture_format, video_stream
from liveportrait.media.files import check_input
from liveportrait.media.sound.samples import audio_frame, blocks, laid

SPEECH_RATE = 16000  # samples a second
RATES = (8000, 192000)  # of live sound

Speech = NDArray[np.float32]  # (N,) in [-1, 1]
_FULL_SCALE = np.float32(32768)  # of int16


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


class AtSpeechRate:
    """Brings a mono sound that comes in pieces to 16 kHz. What it gives is less than a millisecond late."""

    def __init__(self, rate: int) -> None:
        """`rate`: samples a second, 8000 to 192000. Raises `UserError` for another one."""
        if not (isinstance(rate, int) and RATES[0] <= rate <= RATES[1]):
            raise UserError(f"the sound's rate is {rate} Hz: choose a whole number from 8000 to 192000")
        self._rate, self._given = rate, 0
        self._resampler = None if rate == SPEECH_RATE else AudioResampler("fltp", "mono", SPEECH_RATE)

    def __call__(self, samples: Speech) -> Speech:
        """What is known at 16 kHz once these samples (n,) are."""
        if self._resampler is None or not len(samples):
            return samples
        frame = audio_frame(samples[None], self._rate, self._given)
        self._given += len(samples)
        found = [np.asarray(each.to_ndarray(), np.float32)[0] for each in self._resampler.resample(frame)]
        return np.concatenate(found) if found else np.zeros(0, np.float32)


def as_speech(samples: ArrayLike, rate: int = SPEECH_RATE) -> Speech:
    """Mono samples (n,) as float32: floats in [-1, 1] or int16. Raises `UserError` for anything else."""
    array = np.asarray(samples)
    is_int16 = array.dtype.kind == "i" and array.dtype.itemsize == 2
    if array.ndim != 1 or not (is_int16 or array.dtype.kind == "f"):
        raise UserError(
            f"the sound is {array.dtype} {array.shape}: give mono samples (n,) at {rate} Hz,"
            " floats in [-1, 1] or int16"
        )
    floats = array.astype(np.float32)
    return clean(floats / _FULL_SCALE if is_int16 else floats)


def as_int16(samples: Speech) -> NDArray[np.int16]:
    """Samples in [-1, 1] as 16-bit PCM. What `as_speech` made of int16 comes back unchanged."""
    return (samples * _FULL_SCALE).round().clip(-_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)


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
