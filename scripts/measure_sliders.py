"""Measures what the sliders of `liveportrait edit` do: one JSON line per portrait, slider and strength.

    python scripts/measure_sliders.py PORTRAIT... [--sheets FOLDER] [--weights compact] [--sliders smile wink]
    python scripts/measure_sliders.py --video CLIP

Portraits are edited and measured by the face analyzer. A line gives the change of the blendshapes that the slider is
meant for (`moved`, their mean; degrees for head pose, openings for openings) and the mean change of all others
(`others`), relative to the same portrait with every slider at rest. With --video each opening is set throughout a clip:
the lines give its mean error and its jitter from frame to frame, compared with the clip's own jitter.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from liveportrait import Animator
from liveportrait.face import Face, FaceAnalyzer
from liveportrait.face.measures import head_pose, opening_ratios
from liveportrait.face.tracker import FaceTracker
from liveportrait.media import VideoReader, contact_sheet, save_image
from liveportrait.metrics import accelerations

# Slider -> indices of the blendshapes it should raise at positive and at negative values, and strengths to try.
SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]]] = {
    "smile": ((44, 45), (44, 45), (0.4, 0.8, 1.3)),
    "wink": ((9,), (), (0.4, 0.7, 1.0)),
    "eyebrow": ((3, 4, 5), (1, 2), (-1.0, 0.5, 1.0)),
    "gaze_x": ((14, 15), (13, 16), (-1.0, 0.5, 1.0)),
    "gaze_y": ((17, 18), (11, 12), (-1.0, 0.5, 1.0)),
    "pout": ((33,), (39,), (-1.0, 0.5, 1.0)),
    "purse": ((38,), (46, 47), (-1.0, 0.5, 1.0)),
    "grin": ((48, 49), (), (0.4, 0.7, 1.0)),
    "lips": ((25,), (25,), (0.3, 0.6, 1.0)),
}
ANGLES = {"pitch": (-15.0, 7.0, 15.0), "yaw": (-25.0, 12.0, 25.0), "roll": (-15.0, 7.0, 15.0)}
OPENINGS = {"eye_opening": (0.0, 0.2, 0.45), "lip_opening": (0.0, 0.2, 0.5)}
MOVES = {
    "move_x": (-0.19, 0.1, 0.19),
    "move_y": (-0.19, 0.1, 0.19),
    "move_z": (0.9, 1.1, 1.2),
    "neutral": (0.3, 0.6, 1.0),
}
NAMES = tuple(SHAPES) + tuple(ANGLES) + tuple(OPENINGS) + tuple(MOVES)


class Measurement:
    """What the face analyzer measures on a rendered portrait."""

    def __init__(self, analyzer: FaceAnalyzer, picture: np.ndarray, face: Face) -> None:
        seen = analyzer.track(picture, face)
        seen = seen and analyzer.track(picture, seen)
        if seen is None:
            raise SystemExit("the face was lost in a rendered portrait")
        self.blendshapes = analyzer.blendshapes(seen)
        pose = head_pose(seen.landmarks)
        turn = pose.rotation  # row vectors, as in networks.geometry
        self.angles = {
            "pitch": float(np.degrees(np.arctan2(turn[1, 2], turn[2, 2]))),
            "yaw": float(np.degrees(np.arcsin(-turn[0, 2]))),
            "roll": float(np.degrees(np.arctan2(turn[0, 1], turn[0, 0]))),
        }
        self.place, self.scale = pose.translation, pose.scale
        self.openings = opening_ratios(seen.landmarks)


def changes(name: str, value: float, look: Measurement, rest: Measurement) -> dict[str, float | str]:
    """The figures for one line."""
    change = look.blendshapes - rest.blendshapes
    line: dict[str, float | str] = {}
    meant: tuple[int, ...] = ()
    if name in SHAPES:
        meant = SHAPES[name][value < 0]
        line["moved"] = float(change[list(meant)].mean())
    elif name in ANGLES:
        line["moved"] = look.angles[name] - rest.angles[name]
        line["other_angles"] = float(
            np.mean([abs(look.angles[n] - rest.angles[n]) for n in ANGLES if n != name])
        )
    elif name in OPENINGS:
        line["measured"] = float(look.openings[:2].mean() if name == "eye_opening" else look.openings[2])
    elif name in ("move_x", "move_y"):
        line["moved_px"] = float((look.place - rest.place)[int(name == "move_y")])
    elif name == "move_z":
        line["moved"] = look.scale / rest.scale
    others = np.delete(np.abs(change), list(meant))
    rows = np.delete(np.arange(len(change)), list(meant))
    line["others"] = float(others.mean())
    line["most"] = f"{rows[others.argmax()]}:{others.max():.2f}"
    return line


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("portraits", type=Path, nargs="*")
    parser.add_argument("--video", type=Path)
    parser.add_argument("--sheets", type=Path)
    parser.add_argument("--weights", default="compact")
    parser.add_argument("--sliders", nargs="*", default=NAMES, choices=NAMES)
    arguments = parser.parse_args()
    animator = Animator.load(arguments.weights, threads=1)
    sheets: dict[str, list[list[np.ndarray]]] = {name: [] for name in arguments.sliders}
    for path in arguments.portraits:
        portrait = animator.open(path)
        picture = portrait.edit()
        face = animator.analyzer.detect(picture)[0]
        rest = Measurement(animator.analyzer, picture, face)
        for name in arguments.sliders:
            row = [picture]
            strengths = SHAPES[name][2] if name in SHAPES else {**ANGLES, **OPENINGS, **MOVES}[name]
            for value in strengths:
                row.append(portrait.edit(**{name: value}))
                report(
                    changes(name, value, Measurement(animator.analyzer, row[-1], face), rest),
                    path,
                    name,
                    value,
                )
            sheets[name].append([part(image, face) for image in row])
    if arguments.sheets:
        for name, rows in sheets.items():
            save_image(arguments.sheets / f"{name}.png", contact_sheet(rows), overwrite=True)
    if arguments.video:
        measure_video(animator, arguments.video)


def measure_video(animator: Animator, path: Path) -> None:
    """Set each opening throughout a clip; the first line is for the original clip."""
    portrait = animator.open(path)
    with VideoReader(path) as reader:
        own = tracked_openings(animator.analyzer, list(reader))
    report({"jitter": mean_jitter(own[:, :2]), "lip_jitter": mean_jitter(own[:, 2:])}, path, "clip", 0.0)
    for name, values in OPENINGS.items():
        columns = slice(0, 2) if name == "eye_opening" else slice(2, 3)
        for value in values:
            seen = tracked_openings(animator.analyzer, list(portrait.edit_frames(**{name: value})))[
                :, columns
            ]
            report(
                {
                    "measured": float(seen.mean()),
                    "error": float(np.abs(seen - value).mean()),
                    "spread": float(seen.std()),
                    "jitter": mean_jitter(seen),
                },
                path,
                name,
                value,
            )


def tracked_openings(analyzer: FaceAnalyzer, frames: list[np.ndarray]) -> np.ndarray:
    """Openings (N,3) of left eye, right eye and lips in the frames that show the face."""
    tracker = FaceTracker(analyzer)
    faces = [face for frame in frames if (face := tracker(frame))]
    return np.stack([opening_ratios(face.landmarks) for face in faces])


def mean_jitter(series: np.ndarray) -> float:
    """Mean size of the second difference over the frames (N,D); 0 for uniform motion."""
    return float(accelerations(series[..., None]).mean())


def report(line: dict[str, float | str], path: Path, name: str, value: float) -> None:
    """Print one line."""
    figures = {key: round(v, 4) if isinstance(v, float) else v for key, v in line.items()}
    print(json.dumps({"source": path.stem, "slider": name, "value": value} | figures), flush=True)


def part(picture: np.ndarray, face: Face) -> np.ndarray:
    """The surroundings of the face."""
    x0, y0, x1, y1 = face.box
    reach = 0.75 * max(x1 - x0, y1 - y0)
    x, y = int((x0 + x1) / 2), int((y0 + y1) / 2)
    return picture[max(int(y - reach), 0) : int(y + reach), max(int(x - reach), 0) : int(x + reach)]


if __name__ == "__main__":
    main()
