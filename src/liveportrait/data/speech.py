"""Reads shards of speech: `KEY.ogg` with `KEY.npz` and `KEY.json`, sound and the labels of a face on one clock."""

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

FRAMES_A_SECOND = 25
BIT_RATE = 24_000  # a second
FARTHEST = 0.15  # s that a clip's sound may be moved by what its shard says
REST = 0.05  # quantile of a clip's openings that counts as closed
AT_REST = 0.15  # and below which a face counts as at rest
LIP_ROWS = tuple(MESH_ROWS.index(row) for row in (*INNER_LIPS, *MOUTH_CORNERS))


@dataclass(frozen=True, eq=False)
class SpeechClip:
    """One person who speaks, T frames of 25 a second."""

    key: str
    identity: str
    sound: Array  # (640 T,) mono at 16 kHz
    rotation: Array  # (T,3,3), as labels have it
    scores: Array  # (T,52) blendshapes
    lips: Array  # (T,) opening of the lips, height over width

    @property
    def openings(self) -> Array:
        """The opening (T,) of the lips, as change from closed."""
        return np.asarray(self.lips - np.quantile(self.lips, REST), np.float32)

    @property
    def changes(self) -> Array:
        """Blendshapes (T,52) as change from the face at rest: the mean of the frames whose lips are most closed."""
        still = self.lips <= np.quantile(self.lips, AT_REST)
        return np.asarray(self.scores - self.scores[still].mean(0), np.float32)

    @property
    def targets(self) -> Array:
        """What the speech network should say (T,28): the opening, then the blendshapes of `SPEECH_SCORES`."""
        return np.concatenate([self.openings[:, None], self.changes[:, list(SPEECH_SCORES)]], axis=1)


def read_clips(
    shards: Iterable[Path], one_in: int, held_out: bool, on_lips: bool = True
) -> Iterator[SpeechClip]:
    """The clips with sound of the training identities, or of the held-out ones, of which one in `one_in` is.

    `on_lips`: the sound is moved by what its shard says it still comes late (`remaining_lag`); else it stays as it is.
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
                    f"clip {key} of shard {shard} cannot be read ({error}): prepare it anew"
                ) from error


def remaining_lag(about: dict[str, Any]) -> float:
    """Seconds by which a sample's sound comes after its lips, as far as its `json` knows and has not moved it.

    Films are off by a frame or two, which is much: one frame late, sound and lips correlate a fifth less.
    """
    sync = about.get("sync", {})
    if sync.get("corrected", False):
        return 0.0
    return min(max(float(sync.get("lag_ms", 0.0)) / 1000, -FARTHEST), FARTHEST)


def moved(sound: Array, lag: float) -> Array:
    """A sound (n,) as it is `lag` seconds later, filled with silence."""
    shift = round(lag * SOUND_RATE)
    return np.pad(sound[max(shift, 0) :], (max(-shift, 0), 0))


def _clip(key: str, about: dict[str, Any], parts: dict[str, bytes], lag: float) -> SpeechClip:
    with np.load(io.BytesIO(parts["npz"]), allow_pickle=False) as labels:
        return clip_of(key, str(about["identity"]), moved(_decoded(parts["ogg"]), lag), labels)


def clip_of(key: str, identity: str, sound: Array, labels: Mapping[str, NDArray[Any]]) -> SpeechClip:
    """A clip of its sound (n,), cut off or filled with silence to fit, and its labels as shards hold them."""
    points = labels["lmk"].astype(np.float32) / 64
    rotation, scores = labels["rot"].astype(np.float32), labels["bs"].astype(np.float32) / np.float32(255)
    up, down, left, right = (points[:, row] for row in LIP_ROWS)
    width = np.maximum(np.linalg.norm(left - right, axis=1), 1e-3)
    lips = np.asarray(np.linalg.norm(up - down, axis=1) / width, np.float32)
    count = len(lips) * SOUND_RATE // FRAMES_A_SECOND
    fitted = np.pad(sound[:count], (0, max(count - len(sound), 0)))
    return SpeechClip(key, identity, fitted, rotation, scores, lips)


def encoded(sound: Array) -> bytes:
    """A sound (n,), mono at 16 kHz in [-1, 1], as Ogg Opus. The same sound gives the same bytes."""
    memory = io.BytesIO()
    with av.open(memory, "w", format="ogg", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libopus", rate=SOUND_RATE, layout="mono", options={"b": str(BIT_RATE)})
        whole = np.asarray(sound.clip(-1, 1) * 32767, np.int16)
        frame = av.AudioFrame.from_ndarray(whole[None], format="s16", layout="mono")
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
