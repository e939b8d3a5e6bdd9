"""Make the bundled motion templates (talk, smile, look around and blink) from curves, without a recording.

    python scripts/make_templates.py runs/stage-one/corpus/train src/liveportrait/motion/templates

How keypoints follow an expression is regressed on the training corpus (blendshape scores to keypoint offsets);
the curves over time are defined here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from liveportrait.face.canonical import EYE_BLINK, JAW_OPEN
from liveportrait.motion import FACE_MESH, Template, write_template
from liveportrait.motion.framing import neck_in_head
from liveportrait.motion.lifting import expression_effect
from liveportrait.networks.geometry import rotation_matrix
from liveportrait.networks.interface import Motion
from liveportrait.training.data.corpus import Corpus, load_corpus

FPS = Fraction(25)
# Indices into MediaPipe's 52 blendshapes.
LOOK_IN_LEFT, LOOK_IN_RIGHT, LOOK_OUT_LEFT, LOOK_OUT_RIGHT = 13, 14, 15, 16
BROW_UP = (3, 4, 5)
CHEEK_SQUINT = (7, 8)
FUNNEL, PUCKER = 32, 38
SMILE, STRETCH, UPPER_LIP_UP, LOWER_LIP_DOWN = (44, 45), (46, 47), (48, 49), (34, 35)


def bump(time: np.ndarray, centre: float, rise: float, hold: float) -> np.ndarray:
    """From 0 to 1 and back: a cosine of `rise` seconds on either side of `hold` seconds."""
    away = np.clip((np.abs(time - centre) - hold / 2) / rise, 0, 1)
    return 0.5 + 0.5 * np.cos(np.pi * away)


def blink(time: np.ndarray, shapes: np.ndarray, angles: np.ndarray) -> None:
    """Two blinks, the second one slower, with a slight nod."""
    closed = bump(time, 0.55, 0.12, 0.05) + bump(time, 1.45, 0.16, 0.16)
    shapes[:, EYE_BLINK] = closed[:, None]
    angles[:, 0] = 1.0 * closed


def smile(time: np.ndarray, shapes: np.ndarray, angles: np.ndarray) -> None:
    """A smile that grows, stays and fades, with the head leaning."""
    amount = bump(time, 1.5, 0.8, 0.9)
    shapes[:, SMILE] = 1.0 * amount[:, None]
    shapes[:, CHEEK_SQUINT] = 0.35 * amount[:, None]
    shapes[:, BROW_UP] = 0.2 * amount[:, None]
    angles[:, 2] = 4.0 * amount
    angles[:, 1] = 3.0 * amount


def talk(time: np.ndarray, shapes: np.ndarray, angles: np.ndarray) -> None:
    """About four syllables per second, alternating rounded and wide vowels, a nodding head and one blink."""
    envelope = np.clip(bump(time, 1.95, 0.35, 3.0), 0, 1)
    stress = 0.6 + 0.4 * np.sin(2 * np.pi * 0.8 * time + 0.7)
    syllable = np.clip(np.sin(2 * np.pi * 3.6 * time + 1.2 * np.sin(2 * np.pi * 0.9 * time)), -0.25, 1)
    opening = envelope * stress * np.maximum(syllable, 0)
    vowel = np.sin(2 * np.pi * 1.3 * time + 2.0)
    shapes[:, JAW_OPEN] = 0.9 * opening
    shapes[:, LOWER_LIP_DOWN] = 0.35 * opening[:, None]
    shapes[:, UPPER_LIP_UP] = 0.15 * opening[:, None]
    shapes[:, PUCKER] = 0.7 * envelope * np.maximum(vowel, 0)
    shapes[:, FUNNEL] = 0.35 * envelope * np.maximum(vowel, 0)
    shapes[:, STRETCH] = 0.25 * envelope[:, None] * np.maximum(-vowel, 0)[:, None]
    shapes[:, EYE_BLINK] = bump(time, 2.3, 0.12, 0.05)[:, None]
    shapes[:, BROW_UP] = 0.3 * bump(time, 1.2, 0.4, 0.2)[:, None]
    angles[:, 0] = envelope * 2.5 * np.sin(2 * np.pi * 0.8 * time)
    angles[:, 1] = envelope * 3.0 * np.sin(2 * np.pi * 0.45 * time)


def look_around(time: np.ndarray, shapes: np.ndarray, angles: np.ndarray) -> None:
    """A look left, right and up, with the eyes leading the head."""
    duration = time[-1]
    phase = 2 * np.pi * time / duration
    fade = np.clip(bump(time, duration / 2, 0.4, duration - 0.8), 0, 1)
    angles[:, 1] = fade * 17 * np.sin(phase)
    angles[:, 0] = fade * 7 * np.sin(2 * phase + 0.4)
    angles[:, 2] = -fade * 4 * np.sin(phase + 0.6)  # leaning in the direction of the turn
    gaze = fade * np.sin(phase + 0.35)
    shapes[:, LOOK_OUT_RIGHT] = shapes[:, LOOK_IN_LEFT] = 0.5 * np.maximum(gaze, 0)
    shapes[:, LOOK_IN_RIGHT] = shapes[:, LOOK_OUT_LEFT] = 0.5 * np.maximum(-gaze, 0)
    shapes[:, EYE_BLINK] = bump(time, duration / 2, 0.12, 0.05)[:, None]


SCENES: dict[str, tuple[float, Callable[[np.ndarray, np.ndarray, np.ndarray], None]]] = {
    "blink": (2.0, blink),
    "talk": (4.0, talk),
    "smile": (3.0, smile),
    "look-around": (4.0, look_around),
}


def compose(corpus: Corpus, effect: np.ndarray, seconds: float, scene: Callable[..., None]) -> Template:
    """The template of a scene: pitch, yaw, roll in degrees and blendshapes over time."""
    frames = round(seconds * FPS)
    time = np.arange(frames) / float(FPS)
    shapes, angles = np.zeros((frames, 52), np.float32), np.zeros((frames, 3), np.float32)
    scene(time, shapes, angles)
    rotation = rotation_matrix(*torch.from_numpy(angles).unbind(1))
    canonical = corpus.motion.canonical.mean(0, keepdim=True).expand(frames, -1, -1)
    local = torch.from_numpy((shapes @ effect).reshape(frames, 21, 3))
    scale = torch.full((frames, 1), float(np.median(corpus.motion.scale.numpy())))
    neck = torch.tensor(neck_in_head()).expand(frames, 1, 3)
    translation = (scale[:, :, None] * (neck - neck @ rotation))[:, 0]  # the head turns about the neck
    translation[:, 2] = 0
    return Template(Motion(rotation, translation, scale, canonical, local @ rotation), FPS, FACE_MESH.layout)


def main() -> None:
    """Write every scene."""
    corpus, folder = load_corpus(Path(sys.argv[1])), Path(sys.argv[2])
    motion = corpus.motion
    local = (motion.canonical + motion.expression @ motion.rotation.transpose(1, 2)).numpy()
    frontal = torch.linalg.det(motion.rotation[:, :2, :2]).abs().numpy()
    effect = expression_effect(local, corpus.blendshapes, corpus.clip, frontal)
    for name, (seconds, scene) in SCENES.items():
        write_template(
            folder / f"{name}.safetensors", compose(corpus, effect, seconds, scene), overwrite=True
        )


if __name__ == "__main__":
    main()
