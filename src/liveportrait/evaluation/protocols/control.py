"""Control: the requested opening of eyes and lips against the opening measured in the result."""

from __future__ import annotations

from typing import Literal

import numpy as np

from liveportrait.animation.edit_options import EditOptions
from liveportrait.engine import Engine
from liveportrait.evaluation.context import EvalContext, compared
from liveportrait.evaluation.inputs import EvalSource
from liveportrait.evaluation.protocols.shared import landmark_warp
from liveportrait.evaluation.results import Measurements, Outcome
from liveportrait.evaluation.tracks import observe
from liveportrait.face import canonical as mesh
from liveportrait.motion import groups_for
from liveportrait.motion.lifting import INNER_LIPS_MESH, LEFT_EYE_MESH, OUTER_LIPS_MESH, RIGHT_EYE_MESH
from liveportrait.types import Array, Image

REQUESTS = tuple(np.round(np.arange(0, 0.61, 0.1), 2).tolist())  # openings, height over width
UNMARKED = EditOptions(mark=False)
Part = Literal["eye", "lip"]
PARTS: tuple[Part, ...] = ("eye", "lip")


def missing_module(engine: Engine, part: Part) -> str | None:
    """Why a part cannot be controlled with these weights; None if it can.

    Openings need no module if keypoints are landmarks.
    """
    has_module = engine.can_retarget_eyes if part == "eye" else engine.can_retarget_lips
    if has_module or groups_for(engine.variant).keypoints_are_landmarks:
        return None
    return f"these weights have no {part} retargeting module"


def measure_control(
    context: EvalContext, source: EvalSource, parts: list[Part], with_tiles: bool = False
) -> Outcome | None:
    """Openings from 0 to 0.6 requested of one source, by model and baselines; None if it shows no face.

    The error of the eyes is the mean over both.
    """
    found = observe(context.analyzer, source.face[None], identities=False)
    face = found.faces[0]
    if face is None:
        return None
    portrait = context.open(source.face)
    methods: dict[str, Measurements] = {}
    requests = np.array(REQUESTS, np.float32)
    row = [source.face]
    for part in parts:
        outputs = {
            "model": compared(portrait.edit(UNMARKED, **{f"{part}_opening": each}) for each in REQUESTS),
            "landmark_warp": np.stack(
                [_warp_to_opening(source.face, face.landmarks, part, each) for each in REQUESTS]
            ),
        }
        near = [face] * len(REQUESTS)
        tracks = {
            name: observe(context.analyzer, made, near, identities=False) for name, made in outputs.items()
        }
        tracks["copy"] = found.repeated(0, len(REQUESTS))
        for method, track in tracks.items():
            measured = track.eyes if part == "eye" else track.lips[:, None]
            before = methods.get(method, Measurements())
            methods[method] = Measurements(
                values=before.values | {f"{part}_control": np.abs(measured - requests[:, None]).mean(1)},
                curves=before.curves | {f"{part}_response": [(measured.mean(1), requests)]},
            )
        row += list(outputs["model"])
    return Outcome(
        protocol="control",
        source=source.key,
        driver="",
        is_well_exposed=source.is_well_exposed,
        frames=len(REQUESTS) * len(parts),
        methods=methods,
        tiles=tuple(row) if with_tiles else (),
    )


def _warp_to_opening(picture: Image, landmarks: Array, part: Part, request: float) -> Image:
    """The landmark warp's result: each lid or lip moves along the part's short axis, farthest in the middle."""
    goal = landmarks.copy()
    if part == "eye":
        _set_opening(goal, RIGHT_EYE_MESH, mesh.RIGHT_EYE_CORNERS, mesh.RIGHT_EYE_LIDS, request)
        _set_opening(goal, LEFT_EYE_MESH, mesh.LEFT_EYE_CORNERS, mesh.LEFT_EYE_LIDS, request)
    else:
        _set_opening(goal, INNER_LIPS_MESH + OUTER_LIPS_MESH, mesh.MOUTH_CORNERS, mesh.INNER_LIPS, request)
    return landmark_warp(picture, landmarks, goal)


def _set_opening(
    goal: Array, ring: tuple[int, ...], corners: tuple[int, int], middle: tuple[int, int], request: float
) -> None:
    """Move the landmarks of a ring, in place, so that its opening becomes `request` (height over width)."""
    ends = goal[list(corners), :2].copy()
    upper, lower = goal[list(middle), :2].copy()
    along = ends[1] - ends[0]
    width = float(np.linalg.norm(along))
    along /= width
    across = np.array([-along[1], along[0]], np.float32)
    growth = (request - float(np.linalg.norm(upper - lower)) / width) * width / 2
    own = goal[list(ring), :2] - ends.mean(0)
    place = np.clip(own @ along / (width / 2), -1, 1)
    side = np.sign(own @ across - float(((upper + lower) / 2 - ends.mean(0)) @ across))
    goal[list(ring), :2] += (growth * (1 - place**2) * side)[:, None] * across
