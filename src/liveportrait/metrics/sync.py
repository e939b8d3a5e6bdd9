"""Do lips follow a voice? Measures of two curves, and of the sync scorer's scores."""

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
FARTHEST = 15  # frames to each side that a clip's offset is looked for in
CLOSED = 0.25  # share of a clip's usual widest opening (95 % quantile) below which lips count as closed
NEAR = 2  # frames by which a closure may come early or late
LONG = 8  # frames: a closure so long is a pause, a shorter one a plosive or the like


class Sync(NamedTuple):
    """What the scorer says of clips."""

    told: float  # share of windows where the true moment scores higher than one 0.2 s off
    margin: float  # mean of how much higher
    offset: float  # frames, median over clips: where the mean score is highest
    within: float  # share of clips whose offset is one frame or none


@dataclass(frozen=True, eq=False)
class SyncMeter:
    """The sync scorer with what it has to know of sounds and lips."""

    scorer: SyncScorer
    mean: Array  # (64,) usual level of each band
    deviation: Array  # (64,)
    lips: Tensor  # (28,) deviations of the speech network's outputs among people

    @classmethod
    @cache
    def load(cls, path: Path = FILE) -> SyncMeter:
        """The bundled one, or that of a file written by `liveportrait train speech`. Raises `UserError`."""
        try:
            state = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"cannot read the sync scorer {path} ({error}): give one that train speech wrote"
            ) from error
        scorer = SyncScorer()
        own = {f"scorer.{key}": value for key, value in scorer.state_dict().items()}
        levels = {"mean": torch.zeros(BANDS), "deviation": torch.zeros(BANDS), "lips": torch.zeros(OUTPUTS)}
        check_state(state, own | levels, str(path))
        scorer.load_state_dict({key: state[f"scorer.{key}"].float() for key in scorer.state_dict()})
        scorer.eval().requires_grad_(False)
        return cls(scorer, state["mean"].numpy(), state["deviation"].numpy(), state["lips"])

    def save(self, path: Path) -> None:
        """Write it, matrices in float16."""
        state = {f"scorer.{key}": value for key, value in self.scorer.state_dict().items()}
        kept = {key: (value.half() if value.ndim > 1 else value.float()) for key, value in state.items()}
        levels = {"mean": torch.from_numpy(self.mean), "deviation": torch.from_numpy(self.deviation)}
        with output_file(path, overwrite=True) as temporary:
            save_file({**kept, **levels, "lips": self.lips}, temporary)
            temporary.chmod(0o644)

    def scores(self, sound: Array, lips: Array) -> dict[int, Tensor]:
        """By frames that lips are taken from later: scores (n,) of a sound (N,) with lips (T,28) as V gives them.

        Empty where the clip is too short to be judged.
        """
        steps = heard_steps(sound, self.mean, self.deviation)
        return shifted_scores(self.scorer, steps, torch.from_numpy(np.asarray(lips, np.float32)) / self.lips)


def shifted_scores(scorer: SyncScorer, steps: Tensor, lips: Tensor) -> dict[int, Tensor]:
    """The same for steps (2 T,128) and lips (T,28) in units of their deviation.

    Empty for a clip that is too short.
    """
    begins = range(FARTHEST, min(len(lips), len(steps) // 2) - WINDOW - FARTHEST, 2)
    if len(begins) < 2:
        return {}
    with torch.no_grad():
        sounds = torch.stack([steps[2 * begin : 2 * begin + SOUND_STEPS] for begin in begins])
        heard, seen = scorer.codes(sounds, lips.unfold(0, WINDOW, 1).transpose(1, 2))
    rows = torch.tensor(begins)
    return {shift: (heard * seen[rows + shift]).sum(1) for shift in range(-FARTHEST, FARTHEST + 1)}


def margins(scores: dict[int, Tensor]) -> Tensor:
    """By how much (2 n,) the true moment scores higher than those 0.2 s earlier and later."""
    return torch.cat([scores[0] - scores[shift] for shift in (-SHIFT, SHIFT)])


def best_offset(scores: dict[int, Tensor]) -> int:
    """Frames by which lips lie later where they score highest on average."""
    return max(scores, key=lambda shift: float(scores[shift].mean()))


class Moment(NamedTuple):
    """When lips and sound of a clip belong together."""

    late: float  # frames by which the sound comes after its lips
    lead: float  # by how much that moment scores higher than every one farther than 0.2 s from it


def moment(scores: dict[int, Tensor]) -> Moment:
    """The moment of the highest mean score, to a part of a frame by the parabola through it and its neighbours."""
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
    """Of clips as steps (2 T,128) and lips (T,28) in units of their deviation. Short clips do not count."""
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
    """Mean speed of a curve (T,) over the true one's."""
    return float(np.abs(np.diff(found)).mean() / max(np.abs(np.diff(true)).mean(), 1e-6))


def closures_found(found: Array, true: Array) -> tuple[list[bool], list[bool]]:
    """For each time that true lips (T,) close: whether the found ones do, within two frames.

    First the closures of pauses, then the short ones, those of plosives. Lips that are open at most a quarter of the
    clip's 95 % quantile are closed.
    """
    limit, found_limit = (CLOSED * max(float(np.quantile(curve, 0.95)), 1e-3) for curve in (true, found))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], true <= limit, [0]]).astype(int)))
    pauses: list[bool] = []
    plosives: list[bool] = []
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        is_found = bool((found[max(begin - NEAR, 0) : end + NEAR] <= found_limit).any())
        (pauses if end - begin >= LONG else plosives).append(is_found)
    return pauses, plosives
