"""Cross-reenactment (paper section 4.1): one person's picture driven by another person's clip.

The source moves as `animate` moves it by default: relative to the driver's first frame, stitched where the weights
can. There is no true picture to compare with; what can be told is who it looks like, whether it moves as the
driver does, and whether what should stand still does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from liveportrait.evaluation import metrics
from liveportrait.evaluation.appearance import features
from liveportrait.evaluation.clips import Clip, Footage, Still
from liveportrait.evaluation.comparing import change_values, curves, face_values, moments, tiles, trembling
from liveportrait.evaluation.driving import Shown, compared, reenact
from liveportrait.evaluation.landmark_warp import landmark_warp
from liveportrait.evaluation.pictures import Array, Picture
from liveportrait.evaluation.results import Measured, Outcome
from liveportrait.evaluation.seams import Seam
from liveportrait.evaluation.tools import Tools
from liveportrait.evaluation.tracks import Track, find, observe
from liveportrait.face import Face
from liveportrait.face.paste import Paster

STANDING = ("shoulders", "background", "seam_energy")  # measures that a still picture has none of


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
    face = find(tools.analyzer, source.face)
    if len(clip.frames) < 2 or driver.faces[0] is None or face is None:
        return None
    portrait, played = Shown(source.face[None], (face,)), Shown(clip.frames, driver.faces)
    still = observe(tools.analyzer, portrait.frames, (face,))
    rendered = reenact(tools.engine, portrait, played.first, played, stitching=True)
    outputs = {
        "model": compared(rendered),
        "copy": portrait.frames,
        "landmark_warp": _warped(portrait, face, driver.faces[0], driver.faces),
    }
    pasted = {"model": rendered, "landmark_warp": outputs["landmark_warp"]}
    bursts = _bursts(tools, portrait, played.first, still, clip.burst)
    seam, paster = Seam(source.whole, source.window), Paster(source.window, source.whole.shape)
    methods = {}
    for method, made in outputs.items():
        if method == "copy":
            track = still.repeated(0, len(clip.frames))
            standing = {name: np.zeros(len(clip.frames), np.float32) for name in STANDING}
        else:
            track = observe(tools.analyzer, made)
            standing = _standing(source.face, face, made, track)
            energy = [seam.energy(paster.paste(picture, source.whole)) for picture in pasted[method]]
            standing["seam_energy"] = np.array(energy, np.float32)
        values = face_values(track, driver) | change_values(track, driver) | standing
        own = metrics.sharpness(source.face)
        values["sharpness"] = np.array(
            [metrics.sharpness(picture) / max(own, 1e-9) for picture in _each(made, len(clip.frames))],
            np.float32,
        )
        ratios = bursts.get(method, {})
        if method == "model" and tools.engine.can_stitch:
            loose = compared(reenact(tools.engine, portrait, played.first, played, stitching=False))
            moved = _standing(source.face, face, loose, observe(tools.analyzer, loose, identities=False))
            ratios = ratios | {
                "shoulders_stitched": (
                    float(np.nansum(standing["shoulders"][1:])),
                    float(np.nansum(moved["shoulders"][1:])),
                )
            }
        methods[method] = Measured(
            values={name: each[1:] for name, each in values.items()},
            ratios=ratios,
            clip_values={"scale_wobble": metrics.scale_wobble(track.scale, driver.scale)},
            curves={
                name: [(a[1:], b[1:]) for a, b in pairs] for name, pairs in curves(track, driver).items()
            },
            identities=(track.identity[1:], still.repeated(0, len(clip.frames) - 1).identity),
            features=_repeated_features(features(tools.features, made), len(clip.frames))[1:],
        )
    drawn = {name: made for name, made in outputs.items() if name != "copy"}
    return Outcome(
        protocol="cross",
        source=source.key,
        driver=clip.key,
        is_well_exposed=source.is_well_exposed and metrics.is_well_exposed(clip.frames),
        frames=len(clip.frames) - 1,
        methods=methods,
        real=features(tools.features, np.concatenate([portrait.frames, clip.frames[1:]])),
        tiles=tiles(source.face, clip.frames, drawn, moments(driver)) if with_tiles else (),
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
    tools: Tools, source: Shown, first: Shown, still: Track, burst: Picture | None
) -> dict[str, dict[str, tuple[float, float]]]:
    """The methods' jitter beside the driver's, over consecutive frames."""
    face, start = source.faces[0], first.faces[0]
    if burst is None or len(burst) < 3 or face is None or start is None:
        return {}
    driver = observe(tools.analyzer, burst, identities=False)
    played = Shown(burst, driver.faces)
    outputs = {
        "model": compared(reenact(tools.engine, source, first, played, stitching=True)),
        "landmark_warp": _warped(source, face, start, driver.faces),
    }
    tracks = {name: observe(tools.analyzer, made, identities=False) for name, made in outputs.items()}
    tracks["copy"] = still.repeated(0, len(burst))
    return {name: trembling(track, driver) for name, track in tracks.items()}


def _standing(source: Picture, face: Face, made: Picture, track: Track) -> dict[str, Array]:
    """How far shoulders and background moved from the source, per frame."""
    moved: dict[str, list[float]] = {"shoulders": [], "background": []}
    for picture, own in zip(made, track.faces, strict=True):
        seen = [face.landmarks] if own is None else [face.landmarks, own.landmarks]
        for name, region in (
            ("shoulders", metrics.shoulder_region),
            ("background", metrics.background_region),
        ):
            moved[name].append(metrics.displacement(source, picture, region(len(source), seen)))
    return {name: np.array(each, np.float32) for name, each in moved.items()}


def _each(made: Picture, count: int) -> Picture:
    return made if len(made) == count else np.broadcast_to(made, (count, *made.shape[1:]))


def _repeated_features(found: Array, count: int) -> Array:
    return found if len(found) == count else np.repeat(found, count, axis=0)
