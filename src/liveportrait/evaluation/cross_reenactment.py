"""Cross-reenactment (paper section 4.1): one person's picture driven by another person's clip.

The source moves as `animate` moves it by default: relative to the driver's first frame, stitched where the weights
can. There is no true picture to compare with; what can be told is who it looks like, whether it moves as the
driver does, and whether what should stand still does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from liveportrait import metrics
from liveportrait.evaluation.appearance import features
from liveportrait.evaluation.clips import Clip, Footage, Still
from liveportrait.evaluation.comparing import change_values, curves, face_values, moments, tiles, trembling
from liveportrait.evaluation.driving import Shown, Start, compared, reenact
from liveportrait.evaluation.landmark_warp import landmark_warp
from liveportrait.evaluation.results import Measured, Outcome
from liveportrait.evaluation.standing import Scene
from liveportrait.evaluation.tools import Tools
from liveportrait.evaluation.tracks import Track, find, observe
from liveportrait.face import Face
from liveportrait.metrics.images import Array, Picture


class Made(NamedTuple):
    """What a method made of a source and a clip."""

    pictures: Picture  # (T,256,256,3)
    track: Track
    standing: dict[str, Array]  # numbers (T,) of what should stand still
    features: Array  # (T − 1,1280), without the first picture


def pairings(footage: Sequence[Footage], seed: int) -> list[tuple[Footage, list[Footage]]]:
    """Every clip with the sources of other people, in the order in which they should be tried.

    A hash of seed, clip and source decides, so that a pair does not depend on what else is given. About half of the
    clips are given a picture, the others the first frame of a clip, as far as there are any.
    """
    pairs = []
    for driver in (clip for clip in footage if clip.is_video):
        others = [each for each in footage if each.identity != driver.identity]
        pictures = [each for each in others if not each.is_video]
        firsts = [each for each in others if each.is_video]
        wanted = (pictures or firsts) if int(draw(seed, driver.key, ""), 16) % 2 else (firsts or pictures)
        if wanted:
            pairs.append((driver, sorted(wanted, key=lambda each: draw(seed, driver.key, each.key))))
    return pairs


def draw(seed: int, driver: str, source: str) -> str:
    """A key to sort by, random but always the same."""
    return hashlib.sha256(f"{seed}/{driver}/{source}".encode()).hexdigest()


def measure_pair(tools: Tools, source: Still, clip: Clip, with_tiles: bool = False) -> Outcome | None:
    """Model and baselines on a source and a driving clip, the clip's first frame left out (nothing has moved).

    None where the clip has one frame only, or no face was found in its first frame or in the source.
    """
    driver = observe(tools.analyzer, clip.frames, identities=False)
    face, count = find(tools.analyzer, source.face), len(clip.frames)
    if count < 2 or driver.faces[0] is None or face is None:
        return None
    portrait, played = Shown(source.face[None], (face,)), Shown(clip.frames, driver.faces)
    start = Start.of(tools, portrait, played)
    rendered = {
        "model": reenact(tools, portrait, start, played, stitching=True),
        "landmark_warp": _warped(portrait, face, driver.faces[0], driver.faces),
    }
    outputs = {name: compared(pictures) for name, pictures in rendered.items()}
    still = observe(tools.analyzer, portrait.frames, (face,))
    tracks = {name: observe(tools.analyzer, pictures) for name, pictures in outputs.items()}
    scene = Scene(source, face)
    standing = {name: scene.disturbance(rendered[name], tracks[name]) for name in outputs}
    bursts = _bursts(tools, portrait, start, still, clip.burst)
    if tools.engine.can_stitch:
        loose = reenact(tools, portrait, start, played, stitching=False)
        track = observe(tools.analyzer, compared(loose), identities=False)
        pair = standing["model"]["shoulders"], scene.disturbance(loose, track)["shoulders"]
        stitched, unstitched = (float(np.nansum(moved[1:])) for moved in pair)
        bursts.setdefault("model", {})["shoulders_stitched"] = (stitched, unstitched)
    made = {
        name: Made(pictures, tracks[name], standing[name], features(tools.features, pictures[1:]))
        for name, pictures in outputs.items()
    }
    seen = features(tools.features, portrait.frames)
    made["copy"] = Made(
        np.broadcast_to(source.face, clip.frames.shape),
        still.repeated(0, count),
        scene.undisturbed(count),
        np.repeat(seen, count - 1, axis=0),
    )
    return Outcome(
        protocol="cross",
        source=source.key,
        driver=clip.key,
        is_well_exposed=source.is_well_exposed and metrics.is_well_exposed(clip.frames),
        frames=count - 1,
        methods={
            name: _measured(source, still, driver, each, bursts.get(name, {})) for name, each in made.items()
        },
        real=np.concatenate([seen, features(tools.features, clip.frames[1:])]),
        tiles=tiles(source.face, clip.frames, outputs, moments(driver)) if with_tiles else (),
    )


def _warped(source: Shown, face: Face, first: Face, faces: Sequence[Face | None]) -> Picture:
    """The source bent by the driver's change of landmarks since its first frame, fitted to the source's eyes."""
    size = metrics.eye_distance(face.landmarks) / metrics.eye_distance(first.landmarks)
    return np.stack(
        [
            source.frames[0]
            if each is None
            else landmark_warp(
                source.frames[0], face.landmarks, face.landmarks + (each.landmarks - first.landmarks) * size
            )
            for each in faces
        ]
    )


def _bursts(
    tools: Tools, source: Shown, start: Start, still: Track, burst: Picture | None
) -> dict[str, dict[str, tuple[float, float]]]:
    """The methods' jitter beside the driver's, over consecutive frames."""
    face, first = source.faces[0], start.shown.faces[0]
    if burst is None or len(burst) < 3 or face is None or first is None:
        return {}
    driver = observe(tools.analyzer, burst, identities=False)
    played = Shown(burst, driver.faces)
    outputs = {
        "model": compared(reenact(tools, source, start, played, stitching=True)),
        "landmark_warp": _warped(source, face, first, driver.faces),
    }
    tracks = {name: observe(tools.analyzer, made, identities=False) for name, made in outputs.items()}
    tracks["copy"] = still.repeated(0, len(burst))
    return {name: trembling(track, driver) for name, track in tracks.items()}


def _measured(
    source: Still, still: Track, driver: Track, made: Made, ratios: dict[str, tuple[float, float]]
) -> Measured:
    """One method, without the first frame."""
    own = max(metrics.sharpness(source.face), 1e-9)
    sharpness = np.array([metrics.sharpness(picture) / own for picture in made.pictures], np.float32)
    values = face_values(made.track, driver) | change_values(made.track, driver) | made.standing
    return Measured(
        values={name: each[1:] for name, each in (values | {"sharpness": sharpness}).items()},
        ratios=ratios,
        clip_values={"scale_wobble": metrics.scale_wobble(made.track.scale, driver.scale)},
        curves={name: [(a[1:], b[1:]) for a, b in each] for name, each in curves(made.track, driver).items()},
        identities=(made.track.identity[1:], still.repeated(0, len(made.pictures) - 1).identity),
        features=made.features,
    )
