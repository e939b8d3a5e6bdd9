"""Reads shards of speech: `KEY.ogg` with `KEY.npz` and `KEY.json`, sound and the labels of a face on one clock."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from liveportrait.data.shards import is_held_out
from liveportrait.errors import UserError
from liveportrait.face.canonical import INNER_LIPS, MOUTH_CORNERS
from liveportrait.motion.lifting import MESH_ROWS
from liveportrait.motion.voice.features import SOUND_RATE
from liveportrait.types import Array

FRAMES_A_SECOND = 25
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


def read_clips(shards: Iterable[Path], one_in: int, held_out: bool) -> Iterator[SpeechClip]:
    """The clips of the training identities, or of the held-out ones, of which one in `one_in` is.

    Raises UserError for a shard that cannot be read.
    """
    for shard in shards:
        parts: dict[str, bytes] = {}
        try:
            with tarfile.open(shard) as tar:
                for member in tar:
                    key, _, suffix = member.name.rpartition(".")
                    handle = tar.extractfile(member)
                    parts[suffix] = b"" if handle is None else handle.read()
                    if suffix == "ogg":  # the last one of a clip
                        about = json.loads(parts["json"])
                        if is_held_out(str(about["identity"]), one_in) == held_out:
                            yield _clip(key, about, parts)
                        parts = {}
        except (tarfile.TarError, OSError, KeyError, ValueError, av.FFmpegError) as error:
            raise UserError(f"shard {shard} cannot be read ({error}): prepare it anew") from error


def _clip(key: str, about: dict[str, Any], parts: dict[str, bytes]) -> SpeechClip:
    with np.load(io.BytesIO(parts["npz"]), allow_pickle=False) as labels:
        points = labels["lmk"].astype(np.float32) / 64
        rotation, scores = labels["rot"].astype(np.float32), labels["bs"].astype(np.float32) / np.float32(255)
    up, down, left, right = (points[:, row] for row in LIP_ROWS)
    width = np.maximum(np.linalg.norm(left - right, axis=1), 1e-3)
    lips = np.asarray(np.linalg.norm(up - down, axis=1) / width, np.float32)
    count = len(lips) * SOUND_RATE // FRAMES_A_SECOND
    sound = _decoded(parts["ogg"])[:count]
    sound = np.pad(sound, (0, count - len(sound)))
    return SpeechClip(key, str(about["identity"]), sound, rotation, scores, lips)


def _decoded(stored: bytes) -> Array:
    with av.open(io.BytesIO(stored), "r") as container:
        resampler = av.AudioResampler("flt", "mono", SOUND_RATE)
        frames = [*container.decode(audio=0), None]
        return np.concatenate(
            [part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)]
        )
