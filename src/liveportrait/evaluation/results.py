"""Names and units of the measures, the results of one clip, and figures over many clips."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from liveportrait.metrics.expressions import correlation, slope
from liveportrait.metrics.faces import centred_cosine, identity_distance
from liveportrait.metrics.perceptual import frechet_distance
from liveportrait.metrics.temporal import centred_correlation
from liveportrait.types import Array, Image

Protocol = Literal["self", "cross", "people", "control", "speech"]
PICTURE_PROTOCOLS: tuple[Protocol, ...] = ("self", "cross", "people", "control")
PROTOCOLS: tuple[Protocol, ...] = (*PICTURE_PROTOCOLS, "speech")
METHODS = ("model", "copy", "landmark_warp")
SPEECH_METHODS = ("model", "rendered", "other_sound", "labels")
Mask = NDArray[np.bool_]

Better = Literal["higher", "lower", "one", "zero"]


@dataclass(frozen=True)
class Definition:
    """A measure, as docs/notes/evaluation-definitions.md defines it.

    The version is raised whenever its numbers change meaning.
    """

    name: str
    unit: str
    better: Better
    version: int = 1

    @property
    def identifier(self) -> str:
        """Its name in the results, `name/version`."""
        return f"{self.name}/{self.version}"


DEFINITIONS = {
    definition.name: definition
    for definition in (
        Definition("landmarks", "eye-corner distances", "lower"),
        Definition("psnr", "dB", "higher"),
        Definition("ssim", "", "higher"),
        Definition("l1", "of the range", "lower"),
        Definition("perceptual", "", "lower"),
        Definition("fid", "", "lower"),
        Definition("csim_distance", "embedding", "lower"),
        Definition("csim", "cosine", "higher"),
        Definition("blendshapes", "score", "lower"),
        Definition("blendshape_change", "score", "lower"),
        Definition("head_pose", "degrees", "lower"),
        Definition("head_pose_change", "degrees", "lower"),
        Definition("gaze", "degrees", "lower"),
        Definition("gaze_change", "degrees", "lower"),
        Definition("eyes", "correlation", "higher"),
        Definition("jaw", "correlation", "higher"),
        Definition("expression_curves", "correlation", "higher"),
        Definition("expression_slope", "share of the driver's", "one"),
        Definition("expression_correlation", "correlation", "higher"),
        Definition("lip_gap_slope", "share of the driver's", "one"),
        Definition("lip_gap_correlation", "correlation", "higher"),
        Definition("head_pose_curves", "correlation", "higher"),
        Definition("sharpness", "share", "one"),
        Definition("detail", "share of the source's", "one"),
        Definition("mouth_perceptual", "", "lower"),
        Definition("mouth_sharpness", "share of the target's", "one"),
        Definition("mouth_flicker", "share of the target's", "one"),
        Definition("eye_perceptual", "", "lower"),
        Definition("eye_sharpness", "share of the target's", "one"),
        Definition("grey_mouth", "levels of 255", "lower"),
        Definition("grey_face", "levels of 255", "lower"),
        Definition("jitter", "share of the driver's", "one"),
        Definition("shape_jitter", "share of the driver's", "one"),
        Definition("scale_wobble", "percent", "lower"),
        Definition("seam_energy", "grey levels a px", "zero"),
        Definition("shoulders", "percent of the crop", "lower"),
        Definition("shoulders_stitched", "share of unstitched", "lower"),
        Definition("background", "percent of the crop", "lower"),
        Definition("eye_control", "opening", "lower"),
        Definition("lip_control", "opening", "lower"),
        Definition("eye_response", "correlation", "higher"),
        Definition("lip_response", "correlation", "higher"),
        Definition("lips", "correlation", "higher"),
        Definition("lips_as_stored", "correlation", "higher"),
        Definition("lip_speed", "share of the true one", "one"),
        Definition("pauses", "share closed", "higher"),
        Definition("short_closures", "share closed", "higher"),
        Definition("true_closures", "share of closures", "higher"),
        Definition("sync_accuracy", "share of windows", "higher"),
        Definition("sync_margin", "score", "higher"),
        Definition("sync_offset", "ms", "zero"),
        Definition("found", "share", "higher"),
    )
}


@dataclass(frozen=True, eq=False)
class Measurements:
    """The measurements of one method on one clip; every dictionary is keyed by measure."""

    values: dict[str, Array] = field(default_factory=dict)
    """one number per frame; NaN where it cannot be measured (no face)"""
    ratios: dict[str, tuple[float, float]] = field(default_factory=dict)
    """a number of the output and of its reference per clip: the figure is the ratio of their sums"""
    shares: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    """numbers of the output and of its reference per frame: the figure is the ratio of their sums"""
    burst_shares: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    """the same over the consecutive frames"""
    clip_values: dict[str, float] = field(default_factory=dict)
    """one number for the entire clip: the figure is the mean over clips"""
    clip_medians: dict[str, float] = field(default_factory=dict)
    """one number for the entire clip: the figure is the median over clips"""
    curves: dict[str, list[tuple[Array, Array]]] = field(default_factory=dict)
    """curves of the output and of the driver: the figure is their pooled correlation"""
    responses: dict[str, list[tuple[Array, Array]]] = field(default_factory=dict)
    """curves of the output and of the driver, where the driver moves: the figures are mean slope and correlation"""
    identities: tuple[Array, Array] | None = None
    """embeddings (T,128) of the output, and of the person it should show"""
    features: Array | None = None
    """(T,1280) features of the pictures"""


@dataclass(frozen=True, eq=False)
class Outcome:
    """All methods on one clip, or on one pair of source and driver."""

    protocol: Protocol
    source: str  # keys
    driver: str
    is_well_exposed: bool
    frames: int
    methods: dict[str, Measurements]
    real: Array | None = None  # (N,1280) features of the real pictures
    kind: str = ""  # of the source: photo, generated, stylized, clip, or the name of a file's folder
    groups: dict[str, Mask] = field(default_factory=dict)  # by name, which frames (T,) belong to the group
    burst_groups: dict[str, Mask] = field(default_factory=dict)  # the same for the consecutive frames
    tiles: tuple[Image, ...] = ()  # for a contact sheet
    worst: tuple[Worst, ...] = ()  # for the sheet of the worst cases


@dataclass(frozen=True, eq=False)
class Worst:
    """The worst frame of a clip by one measure."""

    measure: str
    value: float
    frame: int  # its index among the measured frames
    tiles: tuple[Image, ...]


@dataclass(frozen=True)
class Value:
    """A figure and how many frames, clips or curves it is made of."""

    value: float
    n: int


def summary(
    outcomes: Sequence[Outcome], method: str, centre: Array | None, group: str | None = None
) -> dict[str, Value]:
    """Figures of a method over outcomes of one protocol, each frame with the same weight; without NaN figures.

    `centre`: mean identity embedding (128,), or None where there are too few people for one.
    `group`: only the frames of that group, and only measures made of frames.
    """
    made_by = [outcome for outcome in outcomes if method in outcome.methods]
    if group is None:
        measured = [outcome.methods[method] for outcome in made_by]
    else:
        measured = [_restricted_to(outcome, method, group) for outcome in made_by if group in outcome.groups]
    pooled: dict[str, list[Array]] = defaultdict(list)
    for each in measured:
        for name, values in (each.values | _identity_values(each, centre)).items():
            pooled[name].append(values)
        for name, value in each.clip_values.items():
            pooled[name].append(np.array([value], np.float32))
    figures = {name: _mean(np.concatenate(parts)) for name, parts in pooled.items()}
    figures |= _medians(measured)
    figures |= _ratios(measured) | _shares(measured) | _correlations(measured) | _responses(measured)
    real = [outcome.real for outcome in outcomes if outcome.real is not None]
    made = [each.features for each in measured if each.features is not None]
    if real and made:
        figures["fid"] = Value(
            frechet_distance(np.concatenate(made), np.concatenate(real)), sum(map(len, made))
        )
    return {name: figure for name, figure in figures.items() if np.isfinite(figure.value)}


def _identity_values(measured: Measurements, centre: Array | None) -> dict[str, Array]:
    if measured.identities is None:
        return {}
    pairs = list(zip(*measured.identities, strict=True))
    values = {"csim_distance": [identity_distance(a, b) for a, b in pairs]}
    if centre is not None:
        values["csim"] = [centred_cosine(a, b, centre) for a, b in pairs]
    return {name: np.array(each, np.float32) for name, each in values.items()}


def _medians(measured: list[Measurements]) -> dict[str, Value]:
    found: dict[str, list[float]] = defaultdict(list)
    for each in measured:
        for name, value in each.clip_medians.items():
            if np.isfinite(value):
                found[name].append(value)
    return {name: Value(float(np.median(values)), len(values)) for name, values in found.items()}


def _ratios(measured: list[Measurements]) -> dict[str, Value]:
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for each in measured:
        for name, pair in each.ratios.items():
            if np.isfinite(pair).all():
                pairs[name].append(pair)
    sums = {name: np.sum(found, axis=0) for name, found in pairs.items()}
    return {
        name: Value(float(made / base), len(pairs[name])) for name, (made, base) in sums.items() if base > 0
    }


def _restricted_to(outcome: Outcome, method: str, group: str) -> Measurements:
    """A method's measurements on the frames of a group."""
    measured, rows = outcome.methods[method], outcome.groups[group]
    burst_rows = outcome.burst_groups.get(group)
    identities = measured.identities
    return Measurements(
        values={name: each[rows] for name, each in measured.values.items()},
        shares={name: (a[rows], b[rows]) for name, (a, b) in measured.shares.items()},
        burst_shares={}
        if burst_rows is None
        else {name: (a[burst_rows], b[burst_rows]) for name, (a, b) in measured.burst_shares.items()},
        identities=identities and (identities[0][rows], identities[1][rows]),
    )


def _shares(measured: list[Measurements]) -> dict[str, Value]:
    pairs: dict[str, list[tuple[Array, Array]]] = defaultdict(list)
    for each in measured:
        for name, pair in (each.shares | each.burst_shares).items():
            pairs[name].append(_both_finite(pair))
    figures = {}
    for name, found in pairs.items():
        made, base = (
            float(sum(part.sum(dtype=np.float64) for part in parts)) for parts in zip(*found, strict=True)
        )
        if base > 0:
            figures[name] = Value(made / base, sum(len(own) for own, _ in found))
    return figures


def _responses(measured: list[Measurements]) -> dict[str, Value]:
    curves: dict[str, list[tuple[Array, Array]]] = defaultdict(list)
    for each in measured:
        for name, found in each.responses.items():
            curves[name] += [pair for pair in map(_both_finite, found) if len(pair[0]) > 2]
    figures = {}
    for name, found in curves.items():
        for kind, measure in (("slope", slope), ("correlation", correlation)):
            figures[f"{name}_{kind}"] = _mean(np.array([measure(a, b) for a, b in found], np.float32))
    return figures


def _correlations(measured: list[Measurements]) -> dict[str, Value]:
    series: dict[str, list[tuple[Array, Array]]] = defaultdict(list)
    clips: dict[str, int] = defaultdict(int)
    for each in measured:
        for name, curves in each.curves.items():
            kept = [pair for pair in map(_both_finite, curves) if len(pair[0]) > 1]
            series[name] += kept
            clips[name] += bool(kept)
    return {
        name: Value(centred_correlation(found), clips[name])
        for name, found in series.items()
        if any(b.std() > 0 for _, b in found)
    }


def _both_finite(pair: tuple[Array, Array]) -> tuple[Array, Array]:
    known = np.isfinite(pair[0]) & np.isfinite(pair[1])
    return pair[0][known], pair[1][known]


def _mean(values: Array) -> Value:
    known = values[np.isfinite(values)]
    return Value(float(known.mean(dtype=np.float64)) if known.size else float("nan"), known.size)
