"""Speech: a voice's lips against those of the one who spoke, as numbers and as they are read from pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from liveportrait.animation.options import SourceOptions
from liveportrait.animation.portrait import Portrait
from liveportrait.animation.speaking.options import SpeakingOptions
from liveportrait.data.speech import FRAMES_A_SECOND, SpeechClip, read_clips
from liveportrait.errors import UserError
from liveportrait.evaluation.context import EvalContext
from liveportrait.evaluation.inputs import SHARD_SUFFIX, paths_of
from liveportrait.evaluation.results import Measured, Outcome
from liveportrait.face import Face
from liveportrait.face.measures import lip_ratio
from liveportrait.metrics.sync import SyncMeter, best_offset, closures_found, margins, velocity_ratio
from liveportrait.motion.voice import Performance, Voice
from liveportrait.motion.voice.features import SOUND_RATE
from liveportrait.networks.voice.speech import SPEECH_SCORES
from liveportrait.types import Array, Progress

RENDERED_SECONDS = 6
REST = 0.05  # quantile of a portrait's openings that is its closed mouth, as in labels
PAUSES, SHORT = "pauses", "short_closures"


@dataclass(frozen=True, eq=False)
class SpeechItem:
    """Somebody who speaks, held out from training."""

    clip: SpeechClip  # its sound moved onto the lips, as far as the shard knows how late it is
    stored: Array  # the sound as it lies in the shard
    source: str  # the shard


@dataclass(frozen=True, eq=False)
class SpeechData:
    """What the protocol measures on."""

    items: tuple[SpeechItem, ...]
    portraits: tuple[Path, ...]  # photos to render


def open_speech(data: Sequence[str], one_in: int | None) -> SpeechData:
    """Clips of shards, of the held-out identities or with None of all, and the photos among the data.

    Raises `UserError` where there is no clip with sound.
    """
    paths = list(paths_of(data))
    shards = [path for path in paths if path.suffix.lower() == SHARD_SUFFIX]
    split = one_in or 1  # of one in one everybody is held out
    items = [
        SpeechItem(clip, stored.sound, shard.name)
        for shard in shards
        for clip, stored in zip(
            read_clips([shard], split, True), read_clips([shard], split, True, on_lips=False), strict=True
        )
    ]
    if not items:
        raise UserError(
            f"Nothing to evaluate speech on in {' '.join(data)}: name shards whose clips have sound and somebody "
            "held out among them, or --all"
        )
    return SpeechData(tuple(items), tuple(path for path in paths if path not in shards))


def measure_speech(
    context: EvalContext, data: SpeechData, count: int, with_tiles: bool, progress: Progress
) -> Iterator[Outcome]:
    """An outcome for every clip; on each portrait the beginnings of `count` clips, one a person, are rendered."""
    voice, meter = Voice.load(), SyncMeter.load()
    people = {item.clip.identity: item for item in reversed(data.items)}  # of each the first
    shown = {item.clip.key for item in list(people.values())[:count]}
    work = "speech, clips"
    for number, item in enumerate(data.items):
        progress(work, number, len(data.items))
        other = data.items[(number + len(data.items) // 2) % len(data.items)]
        yield _on_sound(voice, meter, item, other)
    progress(work, len(data.items), len(data.items))
    for path in data.portraits:
        portrait = context.animator.open(path, SourceOptions())
        for item in data.items:
            if item.clip.key in shown:
                yield _rendered(context, portrait, path.name, meter, item.clip, with_tiles)


def _on_sound(voice: Voice, meter: SyncMeter, item: SpeechItem, other: SpeechItem) -> Outcome:
    """V's numbers against the labels; what it says to somebody else's sound; and the labels against the sound."""
    clip = item.clip
    count = len(clip.lips)
    elsewhere = np.resize(other.clip.sound, len(clip.sound))
    answers = {
        "model": _answer(voice.speak(clip.sound)),
        "other_sound": _answer(voice.speak(elsewhere)),
        "labels": clip.targets,
    }
    methods = {
        name: _measured(meter, clip.sound, answer[:count], None if name == "labels" else clip.openings)
        for name, answer in answers.items()
    }
    as_stored = _answer(voice.speak(item.stored))[:count, 0]
    methods["model"].clip_medians["lips_as_stored"] = _correlation(as_stored, clip.openings.clip(0))
    return Outcome("speech", clip.key, clip.key, False, count, methods)


def _answer(performance: Performance) -> Array:
    """What V says of lips, jaw and mouth (T,28), as labels have it."""
    lips, scores = performance.lips[:, None], performance.scores[:, list(SPEECH_SCORES)]
    return np.asarray(torch.cat([lips, scores], dim=1).numpy(), np.float32)


def _rendered(
    context: EvalContext, portrait: Portrait, name: str, meter: SyncMeter, clip: SpeechClip, with_tiles: bool
) -> Outcome:
    """A portrait says the beginning of a clip; the openings are read from its pictures."""
    count = min(len(clip.lips), RENDERED_SECONDS * FRAMES_A_SECOND)
    sound = clip.sound[: count * SOUND_RATE // FRAMES_A_SECOND]
    openings, scores, tiles = [], [], []
    with portrait.speak(sound, SpeakingOptions(fps=FRAMES_A_SECOND, mark=False)) as frames:
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
        return Outcome("speech", name, clip.key, False, count, {"rendered": Measured(values=values)})
    moments = np.arange(len(lips))
    lips = np.interp(moments, moments[seen], lips[seen]).astype(np.float32)
    shapes = shapes[np.maximum.accumulate(np.where(seen, moments, np.argmax(seen)))]
    answer = np.concatenate(
        [(lips - np.quantile(lips, REST))[:, None], shapes[:, list(SPEECH_SCORES)]], axis=1, dtype=np.float32
    )
    measured = _measured(meter, sound, answer, clip.openings[:count])
    measured.values.update(values)
    return Outcome("speech", name, clip.key, False, count, {"rendered": measured}, tiles=tuple(tiles))


def _measured(meter: SyncMeter, sound: Array, answer: Array, openings: Array | None) -> Measured:
    """Answers (T,28) against true openings (T,), and the scorer's opinion of answers and sound."""
    values: dict[str, Array] = {}
    medians: dict[str, float] = {}
    if openings is not None:
        found, true = answer[:, 0], openings[: len(answer)].clip(0)
        medians["lips"] = _correlation(found, true)
        medians["lip_speed"] = velocity_ratio(found, true)
        parts = [np.array(part, np.float32) for part in closures_found(found, true)]
        values = dict(zip((PAUSES, SHORT), parts, strict=True))
        long, short = closures_found(true, found)
        values["true_closures"] = np.array([*long, *short], np.float32)
    if scores := meter.scores(sound, answer):
        margin = margins(scores).numpy()
        values |= {"sync_told": (margin > 0).astype(np.float32), "sync_margin": margin}
        medians["sync_offset"] = best_offset(scores) * 1000 / FRAMES_A_SECOND
    return Measured(values=values, clip_medians=medians)


def _correlation(found: Array, true: Array) -> float:
    return float(np.corrcoef(found, true)[0, 1]) if found.std() > 0 and true.std() > 0 else float("nan")
