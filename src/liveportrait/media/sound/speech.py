"""Speech input for the voice network: the sound of a file, mono at 16 kHz, in pieces."""

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
from liveportrait.media.sound.samples import audio_frame, continuous_samples, decode_blocks

SPEECH_RATE = 16000  # samples per second
RATES = (8000, 192000)  # lowest and highest of live sound

Speech = NDArray[np.float32]  # (N,) in [-1, 1]
_FULL_SCALE = np.float32(32768)  # of int16


def read_speech(path: Path) -> Iterator[Speech]:
    """The sound of a file from its first picture or sample on, in pieces of at most a few seconds.

    Memory does not grow with its length. Raises `UserError` if the file has no sound, or none that can be decoded.
    """
    with open_media(path) as container:
        stream = audio_stream(container)
        if stream is None:
            raise UserError(f"{path} has no sound: name a file in which somebody speaks")
        if stream.codec_context is None:
            raise UserError(f"{path}: the codec of its sound is unknown here: convert it to WAV")
        count = 0
        try:
            decoded = decode_blocks(container, stream, Fraction(0))
            for samples in continuous_samples(decoded, SPEECH_RATE, 1):
                count += samples.shape[1]
                yield _sanitized(samples.mean(0))
        except (FFmpegError, ValueError, KeyError) as error:
            raise UserError(f"{path}: its sound cannot be decoded: convert it to WAV") from error
    if not count:
        raise UserError(f"{path} has no sound that can be decoded: play it to check, or convert it to WAV")


def count_speech_samples(path: Path) -> int:
    """The number of samples that `read_speech` gives. Raises `UserError` like it."""
    return sum(map(len, read_speech(path)))


class SpeechResampler:
    """Resamples mono sound that arrives in pieces to 16 kHz, with a delay of less than a millisecond."""

    def __init__(self, rate: int) -> None:
        """`rate` is in samples per second, 8000 to 192000. Raises `UserError` for any other."""
        if not (isinstance(rate, int) and RATES[0] <= rate <= RATES[1]):
            raise UserError(f"the sound's rate is {rate} Hz: choose a whole number from 8000 to 192000")
        self._rate, self._given = rate, 0
        self._resampler = None if rate == SPEECH_RATE else AudioResampler("fltp", "mono", SPEECH_RATE)

    def __call__(self, samples: Speech) -> Speech:
        """The samples at 16 kHz that are available after these samples (n,)."""
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
    return _sanitized(floats / _FULL_SCALE if is_int16 else floats)


def as_int16(samples: Speech) -> NDArray[np.int16]:
    """Samples in [-1, 1] as 16-bit PCM; int16 samples converted by `as_speech` come back unchanged."""
    return (samples * _FULL_SCALE).round().clip(-_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)


def _sanitized(samples: Speech) -> Speech:
    """Samples clipped to [-1, 1], with silence in place of NaN and infinity."""
    finite = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    return np.asarray(finite.clip(-1, 1), np.float32)


def is_sound(path: Path) -> bool:
    """Whether a file holds sound and no video. Raises `UserError` if there is no such file."""
    if picture_format(check_input(path)) is not None:
        return False
    try:
        with open_media(path) as container:
            return video_stream(container) is None and audio_stream(container) is not None
    except UserError:
        return False


def check_speech(path: Path) -> Path:
    """The path, if it names a file that may hold speech. Raises `UserError` if there is none, or it is a picture."""
    if picture_format(check_input(path)) is not None:
        raise UserError(f"{path} is a picture: name a sound file or a video in which somebody speaks")
    return path
