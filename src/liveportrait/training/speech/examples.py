"""Examples for the speech network and the sync scorer: augmented windows of clips' sound columns and targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from liveportrait.data.speech import SpeechClip
from liveportrait.motion.voice.features import band_edges, log_mel, voice_steps
from liveportrait.motion.voice.voice import style_of
from liveportrait.networks.voice.speech import BANDS, CODES
from liveportrait.networks.voice.sync import SOUND_STEPS, WINDOW
from liveportrait.training.data.batches import generator
from liveportrait.types import Array

FRAMES = 100  # per example: 4 s
PER_CLIP = 8  # windows of one clip in the scorer's batch
WINDOW_STEP = (4, 6)  # range of frames from one of them to the next (end excluded): 0.16 s and more
SPEEDS = (1.0, 0.92, 1.08)  # playback speeds, which change the pitch as well
MAX_TRACT_CHANGE = 0.12  # of the length of the vocal tract
CODE_NOISE = 0.4  # standard deviation added to codes, once per window and once per step
CODE_DROPOUT = 0.15  # share of the codes that are zero for an entire window
STYLED = 0.5  # share of examples that get their clip's own style


@dataclass(frozen=True, eq=False)
class Heard:
    """V's input and targets for a clip: steps (2 T,256) float16 and targets (T,28)."""

    steps: Tensor
    wanted: Tensor
    style: Tensor  # (3,)


def usual_levels(clips: Sequence[SpeechClip]) -> tuple[Array, Array]:
    """Mean and standard deviation (64,) of the bands over all clips."""
    columns = torch.cat([log_mel(torch.from_numpy(clip.sound)) for clip in clips])
    return columns.mean(0).numpy(), columns.std(0).numpy()


def heard_clip(clip: SpeechClip, speed: float, mean: Array, deviation: Array) -> Heard:
    """A clip played at a given speed."""
    count = int(len(clip.lips) / speed)
    sound = np.interp(
        np.arange(int(len(clip.sound) / speed)) * speed, np.arange(len(clip.sound)), clip.sound
    ).astype(np.float32)
    steps = voice_steps(sound, mean, deviation)[: 2 * count].half()
    place = np.minimum(np.arange(count) * speed, len(clip.lips) - 1)
    below, share = place.astype(int), torch.from_numpy((place % 1).astype(np.float32))[:, None]
    all_wanted = torch.from_numpy(clip.targets)
    wanted = torch.lerp(all_wanted[below], all_wanted[np.minimum(below + 1, len(clip.lips) - 1)], share)
    return Heard(steps, wanted, torch.tensor(style_of(clip.openings)))


class Examples:
    """All clips at all speeds, and batches drawn from them."""

    def __init__(
        self,
        clips: Sequence[SpeechClip],
        mean: Array,
        deviation: Array,
        speeds: tuple[float, ...] = SPEEDS,
    ) -> None:
        self.clips = [[heard_clip(clip, speed, mean, deviation) for speed in speeds] for clip in clips]
        lengths = np.array([len(each[0].wanted) for each in self.clips])
        self._odds = np.sqrt(lengths) / np.sqrt(lengths).sum()
        self.deviation = torch.cat([each[0].wanted for each in self.clips]).std(0).clamp(min=0.02)

    def batches(self, seed: int, size: int, start: int = 0) -> Iterator[tuple[Tensor, ...]]:
        """Endless batches: steps (B,200,256), targets (B,100,28), styles (B,3), masks of existing frames (B,100)."""
        while True:
            drawn = [self._window(generator(seed, start, place)) for place in range(size)]
            yield tuple(torch.stack(parts) for parts in zip(*drawn, strict=True))
            start += 1

    def sync_batches(self, seed: int, size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless batches: sounds (8 B,20,128) and lips (8 B,10,28) of 8 windows of each of B = `size` clips."""
        span = PER_CLIP * WINDOW_STEP[1] + WINDOW
        while True:
            sounds, lips = [], []
            for place in range(size):
                rng = generator(seed, start, place)
                chosen = self._random_clip(rng)
                while len(chosen.wanted) < span:
                    chosen = self._random_clip(rng)
                first = int(rng.integers(len(chosen.wanted) - span + 1))
                steps = varied(chosen.steps[2 * first : 2 * (first + span)].float(), rng)[:, : 2 * BANDS]
                wanted = chosen.wanted[first : first + span] / self.deviation
                for begin in np.cumsum(rng.integers(*WINDOW_STEP, PER_CLIP)) - WINDOW_STEP[0]:
                    sounds.append(steps[2 * begin : 2 * begin + SOUND_STEPS])
                    lips.append(wanted[begin : begin + WINDOW])
            yield torch.stack(sounds), torch.stack(lips)
            start += 1

    def _random_clip(self, rng: np.random.Generator) -> Heard:
        played = self.clips[rng.choice(len(self.clips), p=self._odds)]
        return played[rng.integers(len(played))]

    def _window(self, rng: np.random.Generator) -> tuple[Tensor, ...]:
        chosen = self._random_clip(rng)
        begin = int(rng.integers(max(len(chosen.wanted) - FRAMES, 0) + 1))
        part = replace(
            chosen,
            steps=chosen.steps[2 * begin : 2 * (begin + FRAMES)].float(),
            wanted=chosen.wanted[begin : begin + FRAMES],
        )
        missing = FRAMES - len(part.wanted)
        there = torch.cat([torch.ones(len(part.wanted)), torch.zeros(missing)])
        steps = torch.nn.functional.pad(blanked(varied(part.steps, rng), rng), (0, 0, 0, 2 * missing))
        wanted = torch.nn.functional.pad(part.wanted, (0, 0, 0, missing))
        return steps, wanted, part.style * float(rng.random() < STYLED), there


def varied(steps: Tensor, rng: np.random.Generator) -> Tensor:
    """Steps (n,256) as with another vocal tract, room and microphone: equalised, louder or softer, with noise.

    Codes get noise and dropout, because V fits those of its training people better than those of strangers.
    """
    bands, codes = steps.split([2 * BANDS, CODES], dim=1)
    bands = of_tract(bands, float(rng.uniform(1 - MAX_TRACT_CHANGE, 1 + MAX_TRACT_CHANGE)))
    knots = torch.from_numpy(rng.normal(0, 0.25, BANDS // 8 + 1).astype(np.float32))
    equaliser = torch.nn.functional.interpolate(knots[None, None], size=BANDS, mode="linear")[0, 0]
    bands = (bands + equaliser.repeat(2) + float(rng.normal(0, 0.2))) * float(np.exp(rng.normal(0, 0.1)))
    if rng.random() < 0.5:
        floor = rng.uniform(-2, -0.2) + 0.3 * rng.normal(size=tuple(bands.shape))
        bands = torch.maximum(bands, torch.from_numpy(floor.astype(np.float32)))
    moved = torch.from_numpy(
        rng.normal(0, CODE_NOISE, CODES) + rng.normal(0, CODE_NOISE, tuple(codes.shape))
    ).float()
    kept = torch.from_numpy(rng.random(CODES) >= CODE_DROPOUT)
    return torch.cat([bands, (codes + moved) * kept], dim=1)


def of_tract(bands: Tensor, stretch: float) -> Tensor:
    """Columns (n,128) with frequencies multiplied by `stretch` (Jaitly and Hinton 2013)."""
    middles = band_edges()[1:-1]
    places = np.interp(middles / stretch, middles, np.arange(BANDS))
    below = np.minimum(places.astype(int), BANDS - 2)
    share = torch.from_numpy((places - below).astype(np.float32))
    columns = bands.view(-1, 2, BANDS)
    return torch.lerp(columns[..., below], columns[..., below + 1], share).reshape(bands.shape)


def blanked(steps: Tensor, rng: np.random.Generator) -> Tensor:
    """Steps with two ranges of bands and two of time masked (SpecAugment, Park et al. 2019)."""
    steps = steps.clone()
    columns = steps[:, : 2 * BANDS].unflatten(1, (2, BANDS))
    for _ in range(2):
        band, moment = rng.integers(BANDS), rng.integers(len(steps))
        columns[:, :, band : band + rng.integers(10)] = 0
        steps[moment : moment + rng.integers(10)] = 0
    return steps
