"""Print checksums of the program's results for fixed inputs, to compare two versions of the code.

    python scripts/fingerprints.py FOLDER

Run it before and after a change that must not change pictures, and compare the lines. The inputs are made from
scikit-image's pictures and written to FOLDER each time, which takes half a minute on one core.
"""

from __future__ import annotations

import hashlib
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from safetensors.numpy import load_file
from skimage.data import astronaut, chelsea

from liveportrait import AnimateOptions, Animator, EditOptions
from liveportrait.media import VideoReader, VideoWriter, load_image, save_image
from liveportrait.motion import bundled_templates

FRAMES = 12
ANIMATIONS: dict[str, tuple[str, tuple[str, ...], dict[str, object]]] = {
    "photo, template": ("photo.png", ("talk",), {}),
    "photo, video": ("photo.png", ("driving.mp4",), {}),
    "photo, photo": ("photo.png", ("other.png",), {"photo_pose": True}),
    "absolute, smoothed": ("photo.png", ("driving.mp4",), {"motion": "absolute", "smooth": 0.5}),
    "expression-friendly": (
        "photo.png",
        ("driving.mp4",),
        {"motion": "absolute", "driving_option": "expression-friendly"},
    ),
    "lips, first, unstitched": (
        "photo.png",
        ("driving.mp4",),
        {"region": "lips", "reference": "first", "stitching": False},
    ),
    "mask, colour, detail": (
        "photo.png",
        ("driving.mp4",),
        {"mask": "face", "match_colour": True, "detail": True},
    ),
    "locks": ("photo.png", ("driving.mp4",), {"lock_scale": True, "lock_shoulders": True, "multiplier": 1.3}),
    "crop alone": ("photo.png", ("driving.mp4",), {"paste_back": False, "compare": True}),
    "video source, video": ("driving.mp4", ("other.mp4",), {}),
    "video source, smoothed": ("driving.mp4", ("talk",), {"smooth": 0.5}),
    "two faces": ("two.png", ("talk", "look-around"), {"faces": "all"}),
    "animal": ("cat.png", ("talk",), {}),
    "no crop": ("photo.png", ("driving.mp4",), {"crop": False, "crop_driving": False}),
}
EDITS: dict[str, tuple[str, dict[str, object]]] = {
    "edit": ("photo.png", {"smile": 0.6, "yaw": 10.0, "gaze_x": 0.4}),
    "edit, openings": ("photo.png", {"eye_opening": 0.2, "lip_opening": 0.3}),
    "edit, copied": ("photo.png", {"expression_from": "other.png"}),
    "edit, video": ("driving.mp4", {"smile": 0.6}),
}


def make_inputs(folder: Path, animator: Animator) -> None:
    """Write two portraits, a picture with two faces, a cat, and two videos of a moving face."""
    portrait = np.ascontiguousarray(astronaut()[:300, 70:370])
    save_image(folder / "photo.png", portrait, True)
    save_image(folder / "cat.png", chelsea(), True)
    save_image(folder / "two.png", np.hstack([portrait, portrait[:, ::-1]]), True)
    animator.edit(
        portrait,
        folder / "other.png",
        EditOptions(lips=0.7, smile=0.5, yaw=8, paste_back=True, overwrite=True, mark=False),
    )
    for name, image in (("driving.mp4", portrait), ("other.mp4", load_image(folder / "other.png"))):
        with VideoWriter(folder / name, Fraction(25), 300, 300, overwrite=True) as writer:
            for index in range(FRAMES):
                matrix = cv2.getRotationMatrix2D((150.0, 110.0), 1.5 * index, 1.0 + 0.005 * index)
                writer.write(
                    np.asarray(
                        cv2.warpAffine(image, matrix, (300, 300), borderMode=cv2.BORDER_REPLICATE), np.uint8
                    )
                )


def digest(path: Path) -> str:
    """The first half of the SHA-256 of the values in a video, a picture or a template, and the number of arrays."""
    if path.suffix == ".safetensors":
        arrays = load_file(path)
        parts = [arrays[name] for name in sorted(arrays)]
    elif path.suffix == ".png":
        parts = [load_image(path)]
    else:
        with VideoReader(path) as reader:
            parts = list(reader)
    sums = hashlib.sha256()
    for part in parts:
        sums.update(np.ascontiguousarray(part).tobytes())
    return f"{sums.hexdigest()[:32]} ({len(parts)})"


def main(folder: Path) -> None:
    """Print one line per case."""
    folder.mkdir(parents=True, exist_ok=True)
    animator = Animator.load("compact", precision="fp32", threads=1)
    make_inputs(folder, animator)
    motions = bundled_templates()
    out = folder / "out.mp4"
    for name, (source, driving, chosen) in ANIMATIONS.items():
        drivers = [motions[each] if each in motions else folder / each for each in driving]
        target = out.with_suffix(".png") if name == "photo, photo" else out
        options = AnimateOptions(overwrite=True, mark=False, **chosen)  # type: ignore[arg-type]
        report = animator.animate(folder / source, drivers, target, options)
        print(f"{name}: {' '.join(digest(path) for path in (target, report.compare) if path)}", flush=True)
    for name, (source, chosen) in EDITS.items():
        chosen = {key: folder / value if isinstance(value, str) else value for key, value in chosen.items()}
        target = out.with_suffix(".png") if source.endswith("png") else out
        animator.edit(folder / source, target, EditOptions(overwrite=True, mark=False, **chosen))  # type: ignore[arg-type]
        print(f"{name}: {digest(target)}", flush=True)
    animator.template(folder / "driving.mp4", folder / "motion.safetensors", overwrite=True)
    print(f"template: {digest(folder / 'motion.safetensors')}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
