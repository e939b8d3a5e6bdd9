"""Reading speech shards: `KEY.ogg` with `KEY.npz` and `KEY.json`, sound and face labels in sync."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from liveportrait.data.shards import is_held_out, read_groups
from liveportrait.errors import UserError
from liveportrait.face.canonical import INNER_LIPS, MOUTH_CORNERS
from liveportrait.motion.lifting import MESH_ROWS
from liveportrait.motion.voice.features import SOUND_RATE
from liveportrait.networks.voice.speech import SPEECH_SCORES
from liveportrait.types import Array

FRAMES_PER_SECOND = 25
BIT_RATE = 24_000  # bits per second
MAX_LAG = 0.15  # s by which a clip's sound may be shifted
REST = 0.05  # quantile of a clip's openings that counts as closed
AT_REST = 0.15  # quantile up to which a face counts as at rest
LIP_ROWS = tuple(MESH_ROWS.index(row) for row in (*INNER_LIPS, *MOUTH_CORNERS))


@dataclass(frozen=True, eq=False)
class SpeechClip:
    """One person speaking, T frames at 25 per second."""

    key: str
    identity: str
    sound: Array  # (640 T,) mono at 16 kHz
    rotation: Array  # (T,3,3), as in the labels
    scores: Array  # (T,52) blendshapes
    lips: Array  # (T,) opening of the lips, height over width

    @property
    def openings(self) -> Array:
        """The opening (T,) of the lips, relative to closed lips."""
        return np.asarray(self.lips - np.quantile(self.lips, REST), np.float32)

    @property
    def changes(self) -> Array:
        """Blendshapes (T,52) relative to the face at rest, the mean of the frames with the most closed lips."""
        still = self.lips <= np.quantile(self.lips, AT_REST)
        return np.asarray(self.scores - self.scores[still].mean(0), np.float32)

    @property
    def targets(self) -> Array:
        """The speech network's targets (T,28): the opening, then the blendshapes of `SPEECH_SCORES`."""
        return np.concatenate([self.openings[:, None], self.changes[:, list(SPEECH_SCORES)]], axis=1)


def read_clips(
    shards: Iterable[Path], one_in: int, held_out: bool, on_lips: bool = True
) -> Iterator[SpeechClip]:
    """The clips with sound, either of the training identities or of the held-out ones (one in `one_in`).

    With `on_lips` the sound is shifted by the lag that its shard states (`remaining_lag`), so that it matches the lips.
    Raises UserError for a shard that cannot be read.
    """
    for shard in shards:
        for key, parts in read_groups(shard, None):
            try:
                about = json.loads(parts.get("json", b"{}"))
                if "ogg" in parts and is_held_out(str(about["identity"]), one_in) == held_out:
                    yield _clip(key, about, parts, remaining_lag(about) if on_lips else 0.0)
            except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile, av.FFmpegError) as error:
                raise UserError(
                    f"clip {key} of shard {shard} cannot be read ({error}): prepare it again"
                ) from error


def remaining_lag(about: dict[str, Any]) -> float:
    """Seconds by which a sample's sound lags behind its lips, according to its `json`; 0 if already corrected.

    Films are off by a frame or two, which matters: at a lag of one frame, sound and lips correlate a fifth less.
    """
    sync = about.get("sync", {})
    if sync.get("corrected", False):
        return 0.0
    return min(max(float(sync.get("lag_ms", 0.0)) / 1000, -MAX_LAG), MAX_LAG)


def without_lag(sound: Array, lag: float) -> Array:
    """A sound (n,) made `lag` seconds earlier: the start is cut off, or padded with silence for a negative lag."""
    shift = round(lag * SOUND_RATE)
    return np.pad(sound[max(shift, 0) :], (max(-shift, 0), 0))


def _clip(key: str, about: dict[str, Any], parts: dict[str, bytes], lag: float) -> SpeechClip:
    with np.load(io.BytesIO(parts["npz"]), allow_pickle=False) as labels:
        return make_clip(key, str(about["identity"]), without_lag(_decoded(parts["ogg"]), lag), labels)


def make_clip(key: str, identity: str, sound: Array, labels: Mapping[str, NDArray[Any]]) -> SpeechClip:
    """A clip from a sound (n,), which is cut or padded with silence to fit, and labels as stored in shards."""
    points = labels["lmk"].astype(np.float32) / 64
    rotation, scores = labels["rot"].astype(np.float32), labels["bs"].astype(np.float32) / np.float32(255)
    up, down, left, right = (points[:, row] for row in LIP_ROWS)
    width = np.maximum(np.linalg.norm(left - right, axis=1), 1e-3)
    lips = np.asarray(np.linalg.norm(up - down, axis=1) / width, np.float32)
    count = len(lips) * SOUND_RATE // FRAMES_PER_SECOND
    fitted = np.pad(sound[:count], (0, max(count - len(sound), 0)))
    return SpeechClip(key, identity, fitted, rotation, scores, lips)


def encode_opus(sound: Array) -> bytes:
    """A sound (n,), mono at 16 kHz in [-1, 1], as Ogg Opus. The same sound always gives the same bytes."""
    memory = io.BytesIO()
    with av.open(memory, "w", format="ogg", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libopus", rate=SOUND_RATE, layout="mono", options={"b": str(BIT_RATE)})
        samples = np.asarray(sound.clip(-1, 1) * 32767, np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = SOUND_RATE
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return memory.getvalue()


def _decoded(stored: bytes) -> Array:
    with av.open(io.BytesIO(stored), "r") as container:
        resampler = av.AudioResampler("flt", "mono", SOUND_RATE)
        frames = [*container.decode(audio=0), None]
        return np.concatenate(
            [part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)]
        )
