"""Runs the protocols over the items, one clip at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from liveportrait.errors import UserError
from liveportrait.evaluation.context import EvalContext
from liveportrait.evaluation.inputs import EvalItem, EvalSource
from liveportrait.evaluation.protocols.control import PARTS, measure_control, missing_module
from liveportrait.evaluation.protocols.cross_reenactment import measure_pair, pairings, sort_key
from liveportrait.evaluation.protocols.people import Driver, lively_clips, measure_people, portraits
from liveportrait.evaluation.protocols.self_reenactment import measure_clip
from liveportrait.evaluation.protocols.speech import SpeechData, measure_speech
from liveportrait.evaluation.results import PICTURE_PROTOCOLS, PROTOCOLS, Outcome, Protocol
from liveportrait.evaluation.tracks import find
from liveportrait.types import Array, Progress, no_progress

MIN_PEOPLE = 8  # with fewer, the mean embedding says little about people in general
MAX_PEOPLE = 64
CONTROL_SOURCES = 16
MAX_SOURCES_TRIED = 5  # a clip is skipped if none of these shows a face


@dataclass(frozen=True)
class Plan:
    """Which protocols to run, and on which frames."""

    protocols: tuple[Protocol, ...] = PICTURE_PROTOCOLS
    stride: int = 1
    """keep every n-th frame of a clip. Only these frames drive, so the larger the stride, the more the head jumps
    between frames and the less exactly it is followed"""
    seed: int = 0
    """for pairing sources with drivers"""
    portraits: int = 4
    """people: how many portraits of each kind; speech: how many clips each portrait speaks"""
    with_tiles: bool = False
    """keep pictures for contact sheets"""

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise UserError(f"stride is {self.stride}: choose 1 (every frame) or more")
        if self.portraits < 1:
            raise UserError(f"portraits is {self.portraits}: choose 1 of each kind or more")


@dataclass(frozen=True)
class Evaluation:
    """Everything that was measured."""

    outcomes: tuple[Outcome, ...]
    centre: Array | None  # mean identity embedding (128,) of `people` people
    people: int
    missing: dict[tuple[Protocol, str], str] = field(default_factory=dict)
    """by protocol and measure ("" for all of the protocol's), why it is not available"""

    @property
    def protocols(self) -> list[Protocol]:
        """The protocols with outcomes."""
        return [name for name in PROTOCOLS if self.of(name)]

    def of(self, protocol: Protocol) -> list[Outcome]:
        """The outcomes of one protocol."""
        return [outcome for outcome in self.outcomes if outcome.protocol == protocol]


def evaluate(
    context: EvalContext, items: Sequence[EvalItem], plan: Plan, progress: Progress = no_progress
) -> Evaluation:
    """Run the protocols of a plan. Raises `UserError` if none of them could measure anything."""
    outcomes: list[Outcome] = []
    missing: dict[tuple[Protocol, str], str] = {}
    for protocol in plan.protocols:
        found = list(_RUNNERS[protocol](context, items, plan, progress))
        outcomes += found
        if not found:
            missing[protocol, ""] = _missing_reason(protocol, context, items)
    if not outcomes:
        raise UserError(f"Nothing could be measured: {'; '.join(missing.values())}.")
    if any(outcome.protocol == "cross" for outcome in outcomes) and not context.engine.can_stitch:
        missing["cross", "shoulders_stitched"] = "these weights have no stitching module"
    if any(outcome.protocol == "control" for outcome in outcomes):
        for part in PARTS:
            if reason := missing_module(context.engine, part):
                missing["control", f"{part}_control"] = reason
    centre, people = mean_identity(context, items)
    return Evaluation(tuple(outcomes), centre, people, missing)


def evaluate_speech(
    context: EvalContext, data: SpeechData, plan: Plan, progress: Progress = no_progress
) -> Evaluation:
    """Run the speech protocol."""
    found = tuple(measure_speech(context, data, plan.portraits, plan.with_tiles, progress))
    missing: dict[tuple[Protocol, str], str] = {}
    if not data.portraits:
        missing["speech", "found"] = "without a portrait nothing is rendered: name a photo after the shards"
    return Evaluation(found, None, 0, missing)


def mean_identity(context: EvalContext, items: Sequence[EvalItem]) -> tuple[Array | None, int]:
    """The mean embedding (128,) of up to 64 people, one picture each, and how many they are; None for fewer than 8."""
    people: dict[str, Array] = {}
    for each in items:
        if each.identity in people or len(people) == MAX_PEOPLE:
            continue
        picture = each.clip(stride=10**9).frames[0]
        if face := find(context.analyzer, picture):
            people[each.identity] = context.analyzer.identity(picture, face.landmarks)
    if len(people) < MIN_PEOPLE:
        return None, len(people)
    return np.mean(list(people.values()), axis=0), len(people)


def _run_self(
    context: EvalContext, items: Sequence[EvalItem], plan: Plan, progress: Progress
) -> Iterator[Outcome]:
    clips = [each for each in items if each.is_video]
    for number, each in enumerate(clips):
        progress("self-reenactment, clips", number, len(clips))
        if outcome := measure_clip(context, each.clip(plan.stride), plan.with_tiles):
            yield outcome
    progress("self-reenactment, clips", len(clips), len(clips))


def _run_cross(
    context: EvalContext, items: Sequence[EvalItem], plan: Plan, progress: Progress
) -> Iterator[Outcome]:
    pairs = pairings(items, plan.seed)
    for number, (driver, sources) in enumerate(pairs):
        progress("cross-reenactment, clips", number, len(pairs))
        source = _first_with_a_face(context, sources)
        if source is None:
            continue
        if outcome := measure_pair(context, source, driver.clip(plan.stride), plan.with_tiles):
            yield outcome
    progress("cross-reenactment, clips", len(pairs), len(pairs))


def _run_people(
    context: EvalContext, items: Sequence[EvalItem], plan: Plan, progress: Progress
) -> Iterator[Outcome]:
    drivers = [found for each in lively_clips(items) if (found := Driver.of(context, each))]
    sources = list(portraits(context, items, plan.portraits, plan.seed)) if drivers else []
    for number, source in enumerate(sources):
        progress("between people, portraits", number, len(sources))
        yield from measure_people(context, source, drivers, plan.with_tiles)
    progress("between people, portraits", len(sources), len(sources))


def _run_control(
    context: EvalContext, items: Sequence[EvalItem], plan: Plan, progress: Progress
) -> Iterator[Outcome]:
    parts = [part for part in PARTS if missing_module(context.engine, part) is None]
    if not parts:
        return
    people = {each.identity: each for each in reversed(items)}  # everybody's first item
    chosen = sorted(people.values(), key=lambda each: sort_key(plan.seed, "control", each.key))
    chosen = chosen[:CONTROL_SOURCES]
    for number, each in enumerate(chosen):
        progress("control, sources", number, len(chosen))
        if outcome := measure_control(context, each.source(), parts, plan.with_tiles):
            yield outcome
    progress("control, sources", len(chosen), len(chosen))


_RUNNERS = {"self": _run_self, "cross": _run_cross, "people": _run_people, "control": _run_control}


def _first_with_a_face(context: EvalContext, sources: Sequence[EvalItem]) -> EvalSource | None:
    for each in sources[:MAX_SOURCES_TRIED]:
        still = each.source()
        if find(context.analyzer, still.face):
            return still
    return None


def _missing_reason(protocol: Protocol, context: EvalContext, items: Sequence[EvalItem]) -> str:
    """Why a protocol measured nothing."""
    if protocol == "control":
        if absent := missing_module(context.engine, "eye"):
            return absent
        return "no face was found in any of the pictures"
    if protocol == "people":
        return "the people protocol needs a clip of two frames or more and a picture of somebody else"
    if not any(each.is_video for each in items):
        return f"{protocol}-reenactment needs a clip, but the data are pictures only"
    if protocol == "cross" and len({each.identity for each in items}) < 2:
        return "cross-reenactment needs two people, but the data show only one"
    return f"{protocol}-reenactment found no clip of two frames or more that shows a face"
