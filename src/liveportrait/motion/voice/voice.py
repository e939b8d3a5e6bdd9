"""`Voice`: from sound to the motion of a speaking face, offline or as a stream."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from liveportrait import weights
from liveportrait.errors import UserError
from liveportrait.face.canonical import BROW_INNER_UP, BROWS_DOWN, BROWS_OUTER_UP, EYE_BLINK, EYE_LOOK
from liveportrait.motion.voice.features import FLOOR, SOUND_RATE, STILL, CodeStream, MelStream
from liveportrait.motion.voice.free import (
    ACROSS,
    CHANNELS,
    FROWN,
    INNER_BROW,
    UP,
    FreeMotion,
    FreeNumbers,
)
from liveportrait.motion.voice.performance import Performance
from liveportrait.motion.voice.voicing import Gate
from liveportrait.networks.expression import SCORES
from liveportrait.networks.voice.speech import (
    BANDS,
    DELAY,
    OUTPUTS,
    RATE,
    SPEECH_SCORES,
    STYLES,
    SpeechNetwork,
    SpeechSizes,
)
from liveportrait.types import Array
from liveportrait.weights.store import check_state

FILE = Path(weights.__file__).parent / "voice" / "voice.safetensors"
AROUND = 2 * DELAY  # columns to each side that must be silent for the mouth to be closed with certainty
STYLE_MEAN, STYLE_DEVIATION = (-2.315, 1.45, -3.348), (0.245, 0.568, 0.313)
FADES = 0.8  # log power above `STILL` at which sound counts in full
LOUDNESS_COLUMNS = 8  # per step of the free part
_LEFT_IN, _RIGHT_IN, _LEFT_OUT, _RIGHT_OUT = EYE_LOOK[2:6]
# The scores that each of V's numbers sets: the speech network's, gaze of the left and right eye, brows and lids.
_FILLS = (
    *((score,) for score in SPEECH_SCORES),
    *((_LEFT_OUT, _RIGHT_IN), (_LEFT_IN, _RIGHT_OUT), EYE_LOOK[6:], EYE_LOOK[:2]),  # right, left, up and down
    *((BROW_INNER_UP,), BROWS_OUTER_UP, BROWS_DOWN, EYE_BLINK),
)
_PLACES = torch.tensor([score for scores in _FILLS for score in scores])
_FILLED_BY = torch.tensor([number for number, scores in enumerate(_FILLS) for _ in scores])


@dataclass(frozen=True, eq=False)
class Voice:
    """V with its weights. It has no state of its own; each stream does."""

    speech: SpeechNetwork
    gain: Tensor  # (28,) of the speech network's outputs, as minimising the mean error makes them too small
    offset: Tensor  # (28,) of the outputs at rest
    mean: Array  # (64,) usual level of each band
    deviation: Array  # (64,)
    free: FreeNumbers

    @classmethod
    @cache
    def load(cls, path: Path = FILE) -> Voice:
        """The bundled voice, or one from a file written by `liveportrait train speech`. Raises `UserError`."""
        try:
            with safe_open(path, framework="pt") as stored:
                sizes = SpeechSizes(**json.loads((stored.metadata() or {})["sizes"]))
            state = load_file(path)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise UserError(
                f"cannot read the voice {path} ({error}): give a file written by train speech"
            ) from error
        return cls.of(state, sizes, str(path))

    @classmethod
    def of(cls, state: dict[str, Tensor], sizes: SpeechSizes, place: str) -> Voice:
        """A voice from the tensors of its file. Raises `UserError` if they are not those of a voice."""
        network = SpeechNetwork(sizes)
        levels = {"gain": OUTPUTS, "offset": OUTPUTS, "mean": BANDS, "deviation": BANDS}
        free = {name: state.get(f"free.{name}", torch.zeros(0)) for name in FreeNumbers.__annotations__}
        expected = {
            **{f"speech.{key}": value for key, value in network.state_dict().items()},
            **{key: torch.zeros(size) for key, size in levels.items()},
            **{f"free.{name}": value for name, value in free.items()},
        }
        check_state(state, expected, place)
        network.load_state_dict({key: state[f"speech.{key}"].float() for key in network.state_dict()})
        gain, offset, mean, deviation = (state[key].float() for key in levels)
        numbers = FreeNumbers(**{name: value.double().numpy() for name, value in free.items()})
        network.eval().requires_grad_(False)
        return cls(network, gain, offset, mean.numpy(), deviation.numpy(), numbers)

    def save(self, path: Path, about: dict[str, Any]) -> None:
        """Write the voice, matrices in float16, with `about` as metadata."""
        state = {f"speech.{key}": value for key, value in self.speech.state_dict().items()}
        state |= {"gain": self.gain, "offset": self.offset}
        state |= {"mean": torch.from_numpy(self.mean), "deviation": torch.from_numpy(self.deviation)}
        for name in FreeNumbers.__annotations__:
            state[f"free.{name}"] = torch.from_numpy(getattr(self.free, name)).float()
        kept = {key: (v.half() if v.ndim > 1 else v.float()).contiguous() for key, v in state.items()}
        metadata = {"sizes": json.dumps(asdict(self.speech.sizes)), "about": json.dumps(about)}
        temporary = path.with_name(f".{path.name}.tmp")
        save_file(kept, temporary, metadata=metadata)
        temporary.chmod(0o644)
        temporary.replace(path)

    def stream(
        self, fps: Fraction | float = 25, seed: int = 0, style: Sequence[float] | None = None
    ) -> VoiceStream:
        """A stream of the voice for frames at rate `fps`; `style` as measured by `style_of`."""
        return VoiceStream(self, Fraction(fps).limit_denominator(1001), seed, style)

    def speak(
        self,
        sound: Array,
        fps: Fraction | float = 25,
        seed: int = 0,
        style: Sequence[float] | None = None,
    ) -> Performance:
        """All frames of a sound (n,), mono at 16 kHz in [-1, 1], the same as a stream gives."""
        stream = self.stream(fps, seed, style)
        parts = [stream.feed(sound), stream.finish()]
        return Performance(*(torch.cat(found) for found in zip(*parts, strict=True)))


class VoiceStream:
    """V on a sound that arrives in pieces. A frame is known once 187.5 ms beyond it have been heard."""

    def __init__(self, voice: Voice, fps: Fraction, seed: int, style: Sequence[float] | None) -> None:
        self._voice, self._fps = voice, fps
        numbers = torch.zeros(1, STYLES) if style is None else torch.tensor([list(style)]).float()
        if numbers.shape != (1, STYLES):
            raise UserError(f"a style is {STYLES} numbers, not {list(style or ())}")
        self._spoken = voice.speech.start(numbers)
        self._mel, self._gate = MelStream(voice.mean, voice.deviation), Gate(AROUND)
        self._codes = CodeStream()
        self._free = FreeMotion(voice.free, seed)
        self._odd = torch.zeros(0, BANDS)  # columns that have not become steps
        self._loud = torch.full((2 * AROUND,), float(np.log(FLOOR)))
        self._loudness: list[float] = []  # of the steps of the free part
        self._unsummed = torch.zeros(0)
        self._known = torch.zeros(0, OUTPUTS)
        self._first = -DELAY  # the step that `known` begins with
        self._samples, self._given = 0, 0

    def feed(self, samples: Array) -> Performance:
        """The frames that are known after hearing these samples (n,), mono at 16 kHz in [-1, 1]."""
        self._samples += len(samples)
        self._hear(samples)
        return self._frames(None)

    def finish(self) -> Performance:
        """The remaining frames that begin within the sound, as if silence followed."""
        end = -(-self._samples * self._fps.numerator // (SOUND_RATE * self._fps.denominator))
        self._hear(np.zeros(SOUND_RATE // 2, np.float32))
        return self._frames(end)

    @torch.inference_mode()
    def _hear(self, samples: Array) -> None:
        columns, loud = self._mel.feed(samples)
        self._gate.feed(samples)
        self._codes.feed(samples)
        columns = torch.cat([self._odd, columns])
        self._count_loudness(loud)
        steps = len(columns) // 2
        self._loud = torch.cat([self._loud, loud])
        self._odd = columns[2 * steps :]
        if not steps:
            return
        heard = torch.cat([columns[: 2 * steps].reshape(steps, 2 * BANDS), self._codes.steps(steps)], dim=1)
        found, self._spoken = self._voice.speech.step(heard[None], self._spoken)
        loudest = self._loud.unfold(0, 2 * AROUND + 2, 2)[:steps].amax(1)
        self._loud = self._loud[2 * steps :]
        moved = self._voice.gain * (found[0] - self._voice.offset)
        moved = moved * (((loudest - STILL) / FADES).clamp(0, 1) * self._gate.steps(steps))[:, None]
        self._known = torch.cat([self._known, moved])

    def _count_loudness(self, loud: Tensor) -> None:
        self._unsummed = torch.cat([self._unsummed, loud])
        whole = len(self._unsummed) // LOUDNESS_COLUMNS
        parts = self._unsummed[: whole * LOUDNESS_COLUMNS].view(whole, LOUDNESS_COLUMNS)
        self._unsummed = self._unsummed[whole * LOUDNESS_COLUMNS :]
        self._loudness += [loudness_of(value) for value in parts.mean(1).tolist()]

    def _frames(self, end: int | None) -> Performance:
        """The frames that are known by now, before number `end`."""
        last = self._first + len(self._known) - 1  # the last step that is known
        pictures, seconds = self._fps.numerator, self._fps.denominator
        known = last * pictures // (RATE * seconds) + 1 if last >= 0 else 0
        count = max((known if end is None else min(known, end)) - self._given, 0)
        times = np.arange(self._given, self._given + count) * seconds / pictures
        place = torch.from_numpy(times * RATE) - self._first
        whole = place.long()
        share = (place - whole).float()[:, None]
        after = (whole + 1).clamp(max=max(len(self._known) - 1, 0))
        moved = torch.lerp(self._known[whole], self._known[after], share)
        self._given += count
        keep = min(max(self._given * RATE * seconds // pictures - self._first, 0), len(self._known))
        self._known, self._first = self._known[keep:], self._first + keep
        return performance_of(moved, *self._free.frames(times, self._loudness))


def loudness_of(power: float) -> float:
    """Mean log power as the loudness that the free part takes: 0 for silence, 1 for a loud voice."""
    return min(max((power + 10.0) / 8.0, 0.0), 1.0)


def performance_of(moved: Tensor, channels: Array, closed: Array) -> Performance:
    """N frames from the speech network's outputs (N,28), the free part's channels (N,8) and lid closure (N,)."""
    count = len(moved)
    assert channels.shape == (count, CHANNELS)
    free = torch.from_numpy(channels)
    across, up = free[:, ACROSS], free[:, UP]
    looks = torch.stack([across, -across, up, -up], dim=1).clamp(min=0)
    brows, lids = free[:, INNER_BROW : FROWN + 1], torch.from_numpy(closed)[:, None]
    scores = torch.zeros(count, SCORES)
    scores[:, _PLACES] = torch.cat([moved[:, 1:], looks, brows, lids], dim=1)[:, _FILLED_BY]
    return Performance(scores, moved[:, 0].clamp(min=0), free[:, :3].clone(), torch.zeros(count, 3))


def style_of(openings: Array) -> tuple[float, float, float]:
    """The style of a speaker, from the lips' opening (n,) at 25 frames per second, as change from closed.

    Spread, mean and liveliness of the opening, each in standard deviations from the mean speaker, within ±2.
    """
    spread, mean = float(np.std(openings)), float(np.mean(openings))
    lively = float(np.abs(np.diff(openings)).mean())
    measured = np.array([np.log(spread + 0.01), 10 * mean, np.log(lively + 0.005)])
    first, second, third = ((measured - STYLE_MEAN) / STYLE_DEVIATION).clip(-2, 2).tolist()
    return first, second, third
