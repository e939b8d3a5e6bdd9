"""Speech: the lips that V predicts from sound against the speaker's own, as numbers and in rendered pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from liveportrait.animation.options import SourceOptions
from liveportrait.animation.portrait import Portrait
from liveportrait.animation.speaking.options import SpeakingOptions
from liveportrait.data.speech import FRAMES_PER_SECOND, SpeechClip, read_clips
from liveportrait.errors import UserError
from liveportrait.evaluation.context import EvalContext
from liveportrait.evaluation.inputs import SHARD_SUFFIX, expand_paths
from liveportrait.evaluation.results import Measurements, Outcome
from liveportrait.face import Face
from liveportrait.face.measures import lip_ratio
from liveportrait.metrics.sync import SyncMeter, best_offset, closures_found, margins, velocity_ratio
from liveportrait.motion.voice import Performance, Voice
from liveportrait.motion.voice.features import SOUND_RATE
from liveportrait.networks.voice.speech import SPEECH_SCORES
from liveportrait.types import Array, Progress

RENDERED_SECONDS = 6
REST_QUANTILE = 0.05  # of a portrait's openings: its closed mouth, as in the labels


@dataclass(frozen=True, eq=False)
class SpeechItem:
    """A clip of a speaker held out from training."""

    clip: SpeechClip  # with its sound shifted onto the lips, if the shard knows the lag
    stored: Array  # the sound as stored in the shard
    source: str  # the shard


@dataclass(frozen=True, eq=False)
class SpeechData:
    """The input of the protocol."""

    items: tuple[SpeechItem, ...]
    portraits: tuple[Path, ...]  # photos to render


def open_speech(data: Sequence[str], one_in: int | None) -> SpeechData:
    """Shards' clips of held-out identities, one in `one_in` (None: of everybody), and the photos among the data.

    Raises `UserError` if there is no clip with sound.
    """
    paths = list(expand_paths(data))
    shards = [path for path in paths if path.suffix.lower() == SHARD_SUFFIX]
    split = one_in or 1  # one in one: everybody is held out
    items = [
        SpeechItem(clip, stored.sound, shard.name)
        for shard in shards
        for clip, stored in zip(
            read_clips([shard], split, True), read_clips([shard], split, True, on_lips=False), strict=True
        )
    ]
    if not items:
        raise UserError(
            f"Nothing to evaluate speech on in {' '.join(data)}: name shards whose clips have sound and a held-out "
            "speaker, or give --all"
        )
    return SpeechData(tuple(items), tuple(path for path in paths if path not in shards))


def measure_speech(
    context: EvalContext, data: SpeechData, count: int, with_tiles: bool, progress: Progress
) -> Iterator[Outcome]:
    """An outcome for every clip; then each portrait speaks the beginnings of `count` clips of different people."""
    voice, meter = Voice.load(), SyncMeter.load()
    people = {item.clip.identity: item for item in reversed(data.items)}  # everybody's first clip
    shown = {item.clip.key for item in list(people.values())[:count]}
    work = "speech, clips"
    for number, item in enumerate(data.items):
        progress(work, number, len(data.items))
        other = data.items[(number + len(data.items) // 2) % len(data.items)]
        yield _measure_on_sound(voice, meter, item, other)
    progress(work, len(data.items), len(data.items))
    for path in data.portraits:
        portrait = context.animator.open(path, SourceOptions())
        for item in data.items:
            if item.clip.key in shown:
                yield _measure_rendered(context, portrait, path.name, meter, item.clip, with_tiles)


def _measure_on_sound(voice: Voice, meter: SyncMeter, item: SpeechItem, other: SpeechItem) -> Outcome:
    """Measures V's prediction against the labels, its prediction from somebody else's sound, and the labels."""
    clip = item.clip
    count = len(clip.lips)
    elsewhere = np.resize(other.clip.sound, len(clip.sound))
    signals = {
        "model": _lip_signals(voice.speak(clip.sound)),
        "other_sound": _lip_signals(voice.speak(elsewhere)),
        "labels": clip.targets,
    }
    methods = {
        name: _measure_signals(meter, clip.sound, signal[:count], None if name == "labels" else clip.openings)
        for name, signal in signals.items()
    }
    as_stored = _lip_signals(voice.speak(item.stored))[:count, 0]
    methods["model"].clip_medians["lips_as_stored"] = _correlation(as_stored, clip.openings.clip(0))
    return Outcome("speech", clip.key, clip.key, False, count, methods)


def _lip_signals(performance: Performance) -> Array:
    """V's prediction of lips, jaw and mouth (T,28), in the layout of the labels."""
    lips, scores = performance.lips[:, None], performance.scores[:, list(SPEECH_SCORES)]
    return np.asarray(torch.cat([lips, scores], dim=1).numpy(), np.float32)


def _measure_rendered(
    context: EvalContext, portrait: Portrait, name: str, meter: SyncMeter, clip: SpeechClip, with_tiles: bool
) -> Outcome:
    """A portrait speaks the beginning of a clip; the openings are measured in its pictures."""
    count = min(len(clip.lips), RENDERED_SECONDS * FRAMES_PER_SECOND)
    sound = clip.sound[: count * SOUND_RATE // FRAMES_PER_SECOND]
    openings, scores, tiles = [], [], []
    with portrait.speak(sound, SpeakingOptions(fps=FRAMES_PER_SECOND, mark=False)) as frames:
        face: Face | None = None
        for number, frame in enumerate(frames):
            tracked = context.analyzer.track(frame, face) if face else None
            face = tracked or next(iter(context.analyzer.detect(frame)), None)
            openings.append(np.nan if face is None else float(lip_ratio(face.landmarks)[0]))
            scores.append(np.full(52, np.nan) if face is None else context.analyzer.blendshapes(face))
            if with_tiles and number in np.linspace(0, count - 1, 6).astype(int):
                tiles.append(frame)
    lips, shapes = np.array(openings, np.float32), np.stack(scores).astype(np.float32)
    seen = np.isfinite(lips)
    values = {"found": seen.astype(np.float32)}
    if seen.mean() < 0.5:
        return Outcome("speech", name, clip.key, False, count, {"rendered": Measurements(values=values)})
    moments = np.arange(len(lips))
    lips = np.interp(moments, moments[seen], lips[seen]).astype(np.float32)
    shapes = shapes[np.maximum.accumulate(np.where(seen, moments, np.argmax(seen)))]
    signal = np.concatenate(
        [(lips - np.quantile(lips, REST_QUANTILE))[:, None], shapes[:, list(SPEECH_SCORES)]],
        axis=1,
        dtype=np.float32,
    )
    measured = _measure_signals(meter, sound, signal, clip.openings[:count])
    measured.values.update(values)
    return Outcome("speech", name, clip.key, False, count, {"rendered": measured}, tiles=tuple(tiles))


def _measure_signals(meter: SyncMeter, sound: Array, signal: Array, openings: Array | None) -> Measurements:
    """Signals (T,28) against true openings (T,), and their sync with the sound by the scorer."""
    values: dict[str, Array] = {}
    medians: dict[str, float] = {}
    if openings is not None:
        found, true = signal[:, 0], openings[: len(signal)].clip(0)
        medians["lips"] = _correlation(found, true)
        medians["lip_speed"] = velocity_ratio(found, true)
        pauses, short = closures_found(found, true)
        values = {"pauses": np.array(pauses, np.float32), "short_closures": np.array(short, np.float32)}
        long, short = closures_found(true, found)
        values["true_closures"] = np.array([*long, *short], np.float32)
    if scores := meter.scores(sound, signal):
        margin = margins(scores).numpy()
        values |= {"sync_accuracy": (margin > 0).astype(np.float32), "sync_margin": margin}
        medians["sync_offset"] = best_offset(scores) * 1000 / FRAMES_PER_SECOND
    return Measurements(values=values, clip_medians=medians)


def _correlation(found: Array, true: Array) -> float:
    return float(np.corrcoef(found, true)[0, 1]) if found.std() > 0 and true.std() > 0 else float("nan")
