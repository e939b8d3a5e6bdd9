"""Control: eyes and lips asked to open so far, against how far they are open in the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.evaluation.context import EvalContext
from liveportrait.evaluation.inputs import Still
from liveportrait.evaluation.protocols.landmark_warp import landmark_warp
from liveportrait.evaluation.protocols.reenact import Shown, compared, motion_of, network_input
from liveportrait.evaluation.results import Measured, Outcome
from liveportrait.evaluation.tracks import Track, observe
from liveportrait.face import canonical as mesh
from liveportrait.metrics.images import Array, Picture
from liveportrait.motion import groups_for
from liveportrait.motion.lifting import INNER_LIPS, LEFT_EYE_MESH, OUTER_LIPS, RIGHT_EYE_MESH
from liveportrait.motion.retargeting import Ratios, retarget, widen_lip_gap
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import NUM_KEYPOINTS, Pose

REQUESTS = tuple(np.round(np.arange(0, 0.61, 0.1), 2).tolist())  # openings, height over width
Part = Literal["eye", "lip"]
PARTS: tuple[Part, ...] = ("eye", "lip")


def missing_module(engine: Engine, part: Part) -> str | None:
    """Why a part cannot be controlled with these weights; None where it can."""
    points = torch.zeros(1, NUM_KEYPOINTS, 3, device=engine.device)
    one = torch.ones(1, 1, device=engine.device)
    pose = Pose(points, torch.eye(3, device=engine.device)[None], points[:, 0], one, 0 * one)
    try:
        retarget(engine, pose, pose, Ratios(0.3 * one.expand(1, 3)), _wanted(part, (0.3,), engine))
    except UserError as error:
        return str(error)
    return None


def measure_control(
    context: EvalContext, source: Still, parts: list[Part], with_tiles: bool = False
) -> Outcome | None:
    """Requests from 0 to 0.6 on one source, by model and baselines; None where it shows no face.

    The error of eyes is the mean of both eyes'.
    """
    found = observe(context.analyzer, source.face[None], identities=False)
    face = found.faces[0]
    if face is None:
        return None
    portrait = Shown(source.face[None], (face,))
    methods: dict[str, Measured] = {}
    requests = np.array(REQUESTS, np.float32)
    row = [source.face]
    for part in parts:
        outputs = {
            "model": compared(retargeted(context, portrait, found, part)),
            "landmark_warp": np.stack([_bent(source.face, face.landmarks, part, each) for each in REQUESTS]),
        }
        tracks = {name: observe(context.analyzer, made, [face] * len(made), identities=False)
                  for name, made in outputs.items()}  # fmt: skip
        tracks["copy"] = found.repeated(0, len(REQUESTS))
        for method, track in tracks.items():
            measured = track.eyes if part == "eye" else track.lips[:, None]
            before = methods.get(method, Measured())
            methods[method] = Measured(
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


def retargeted(context: EvalContext, source: Shown, seen: Track, part: Part) -> Picture:
    """The source with a part opened as far as each of the requests, (R,S,S,3)."""
    engine = context.engine
    pose = pose_of(motion_of(context, source))
    count = len(REQUESTS)
    driving = Pose(*(each.expand(count, *each.shape[1:]) for each in pose))
    openings = torch.from_numpy(np.append(seen.eyes[0], seen.lips[0])[None]).to(engine.device)
    driving = retarget(engine, driving, pose, Ratios(openings), _wanted(part, REQUESTS, engine))
    driving = widen_lip_gap(driving, pose, groups_for(engine.variant))
    return engine.render(engine.encode_appearance(network_input(engine, source.frames)), pose, driving)


def _wanted(part: Part, requests: Sequence[float], engine: Engine) -> Tensor:
    """Openings (R,3) of left eye, right eye and lips; NaN for the part that is left alone."""
    wanted = torch.full((len(requests), 3), torch.nan, device=engine.device)
    wanted[:, slice(0, 2) if part == "eye" else slice(2, 3)] = torch.tensor(requests, device=engine.device)[
        :, None
    ]
    return wanted


def _bent(picture: Picture, landmarks: Array, part: Part, request: float) -> Picture:
    """The landmark warp's answer: each lid or lip moves along the part's short axis, most in its middle."""
    goal = landmarks.copy()
    if part == "eye":
        _open(goal, RIGHT_EYE_MESH, mesh.RIGHT_EYE_CORNERS, mesh.RIGHT_EYE_LIDS, request)
        _open(goal, LEFT_EYE_MESH, mesh.LEFT_EYE_CORNERS, mesh.LEFT_EYE_LIDS, request)
    else:
        _open(goal, INNER_LIPS + OUTER_LIPS, mesh.MOUTH_CORNERS, mesh.INNER_LIPS, request)
    return landmark_warp(picture, landmarks, goal)


def _open(
    goal: Array, ring: tuple[int, ...], corners: tuple[int, int], middle: tuple[int, int], request: float
) -> None:
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
