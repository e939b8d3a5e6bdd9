"""Metrics of lip sync: from opening curves of the lips, and from the sync scorer's scores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from liveportrait import weights
from liveportrait.errors import UserError
from liveportrait.media import output_file
from liveportrait.motion.voice.features import heard_steps
from liveportrait.networks.voice.speech import BANDS, OUTPUTS
from liveportrait.networks.voice.sync import SOUND_STEPS, WINDOW, SyncScorer
from liveportrait.types import Array
from liveportrait.weights.store import check_state

FILE = Path(weights.__file__).parent / "voice" / "scorer.safetensors"
SHIFT = 5  # frames: 0.2 s
MAX_SHIFT = 15  # frames to each side in which a clip's offset is searched
CLOSED = 0.25  # share of a clip's 95 % quantile of opening below which lips count as closed
NEAR = 2  # frames by which a closure may be early or late
LONG = 8  # frames: a closure this long is a pause, a shorter one a plosive or similar


class Sync(NamedTuple):
    """The scorer's figures for a set of clips."""

    accuracy: float  # share of windows in which the true offset scores higher than one 0.2 s off
    margin: float  # by how much, on average
    offset: float  # frames, median over clips, at which the mean score is highest
    within: float  # share of clips whose offset is at most one frame


@dataclass(frozen=True, eq=False)
class SyncMeter:
    """The sync scorer with the statistics of sounds and lips that it needs."""

    scorer: SyncScorer
    mean: Array  # (64,) mean level of each band
    deviation: Array  # (64,) standard deviation of each band's level
    lips: Tensor  # (28,) standard deviations of the speech network's outputs over people

    @classmethod
    @cache
    def load(cls, path: Path = FILE) -> SyncMeter:
        """The bundled scorer, or one from a file written by `liveportrait train speech`. Raises `UserError`."""
        try:
            state = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"cannot read the sync scorer {path} ({error}): give a file written by train speech"
            ) from error
        scorer = SyncScorer()
        own = {f"scorer.{key}": value for key, value in scorer.state_dict().items()}
        levels = {"mean": torch.zeros(BANDS), "deviation": torch.zeros(BANDS), "lips": torch.zeros(OUTPUTS)}
        check_state(state, own | levels, str(path))
        scorer.load_state_dict({key: state[f"scorer.{key}"].float() for key in scorer.state_dict()})
        scorer.eval().requires_grad_(False)
        return cls(scorer, state["mean"].numpy(), state["deviation"].numpy(), state["lips"])

    def save(self, path: Path) -> None:
        """Write the scorer to a file, matrices in float16."""
        state = {f"scorer.{key}": value for key, value in self.scorer.state_dict().items()}
        kept = {key: (value.half() if value.ndim > 1 else value.float()) for key, value in state.items()}
        levels = {"mean": torch.from_numpy(self.mean), "deviation": torch.from_numpy(self.deviation)}
        with output_file(path, overwrite=True) as temporary:
            save_file({**kept, **levels, "lips": self.lips}, temporary)
            temporary.chmod(0o644)

    def scores(self, sound: Array, lips: Array) -> dict[int, Tensor]:
        """Scores (n,) of a sound (N,) with lips (T,28), as V gives them, by the frames by which the lips are shifted.

        Empty if the clip is too short.
        """
        steps = heard_steps(sound, self.mean, self.deviation)
        return shifted_scores(self.scorer, steps, torch.from_numpy(np.asarray(lips, np.float32)) / self.lips)


def shifted_scores(scorer: SyncScorer, steps: Tensor, lips: Tensor) -> dict[int, Tensor]:
    """`SyncMeter.scores` for steps (2 T,128) and lips (T,28) in units of their standard deviation.

    Empty if the clip is too short.
    """
    starts = range(MAX_SHIFT, min(len(lips), len(steps) // 2) - WINDOW - MAX_SHIFT, 2)
    if len(starts) < 2:
        return {}
    with torch.no_grad():
        sounds = torch.stack([steps[2 * start : 2 * start + SOUND_STEPS] for start in starts])
        heard, seen = scorer.codes(sounds, lips.unfold(0, WINDOW, 1).transpose(1, 2))
    rows = torch.tensor(starts)
    return {shift: (heard * seen[rows + shift]).sum(1) for shift in range(-MAX_SHIFT, MAX_SHIFT + 1)}


def margins(scores: dict[int, Tensor]) -> Tensor:
    """How much higher (2 n,) the true offset scores than those 0.2 s earlier and later."""
    return torch.cat([scores[0] - scores[shift] for shift in (-SHIFT, SHIFT)])


def best_offset(scores: dict[int, Tensor]) -> int:
    """The number of frames by which the lips are late at the highest mean score."""
    return max(scores, key=lambda shift: float(scores[shift].mean()))


class Moment(NamedTuple):
    """The offset at which sound and lips of a clip match."""

    late: float  # frames by which the sound comes after its lips
    lead: float  # how much higher that offset scores than all those more than 0.2 s away from it


def moment(scores: dict[int, Tensor]) -> Moment:
    """The offset with the highest mean score, refined to sub-frame accuracy by a parabola through three scores."""
    shifts = sorted(scores)
    curve = np.array([float(scores[shift].mean()) for shift in shifts])
    best = int(curve.argmax())
    lead = curve[best] - curve[np.abs(np.arange(len(curve)) - best) > SHIFT].max()
    part = 0.0
    if 0 < best < len(curve) - 1:
        before, peak, after = curve[best - 1 : best + 2]
        part = (before - after) / (2 * min(before - 2 * peak + after, -1e-9))
    return Moment(-(shifts[best] + float(np.clip(part, -0.5, 0.5))), float(lead))


def sync(scorer: SyncScorer, clips: Iterable[tuple[Tensor, Tensor]]) -> Sync:
    """Figures for clips of steps (2 T,128) and lips (T,28) in units of their deviation. Short clips are skipped."""
    judged = [scores for clip in clips if (scores := shifted_scores(scorer, *clip))]
    if not judged:
        return Sync(0.0, 0.0, 0.0, 0.0)
    margin = torch.cat([margins(scores) for scores in judged])
    offsets = np.array([best_offset(scores) for scores in judged])
    return Sync(
        float((margin > 0).float().mean()),
        float(margin.mean()),
        float(np.median(offsets)),
        float((np.abs(offsets) <= 1).mean()),
    )


def velocity_ratio(found: Array, true: Array) -> float:
    """Mean speed of a curve (T,), divided by the true curve's."""
    return float(np.abs(np.diff(found)).mean() / max(np.abs(np.diff(true)).mean(), 1e-6))


def closures_found(found: Array, true: Array) -> tuple[list[bool], list[bool]]:
    """For each closure of the true lips (T,), whether the found lips close too, within two frames.

    First those of pauses, then the short ones of plosives. Lips count as closed if their opening is at most a quarter
    of the clip's 95 % quantile.
    """
    limit, found_limit = (CLOSED * max(float(np.quantile(curve, 0.95)), 1e-3) for curve in (true, found))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], true <= limit, [0]]).astype(int)))
    pauses: list[bool] = []
    plosives: list[bool] = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        is_found = bool((found[max(start - NEAR, 0) : end + NEAR] <= found_limit).any())
        (pauses if end - start >= LONG else plosives).append(is_found)
    return pauses, plosives
