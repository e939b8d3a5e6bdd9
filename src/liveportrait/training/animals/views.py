"""Training pictures for the animal network: labelled crops pasted into scenes, and scenes without an animal.

No view keeps a crop's own framing: each crop is turned, scaled, moved, mirrored and blended softly into another
picture, so that nothing but the face reveals where the face is. The backgrounds are pictures of people, because a
person must not count as an animal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.networks.animal import LANDMARKS, MIRRORED, SIDE

Image = NDArray[np.uint8]
Array = NDArray[np.float32]

EMPTY_SHARE = 0.3  # share of views without an animal
# Share of the others framed like the detector's second pass: upright, centred, at one size
CLOSE_SHARE = 0.45
CLOSE_SIZE = 0.34
SIZES = (0.07, 0.44)  # of faces, half side of the view = 1
BAR_SHARE = 0.3  # share of views with black bars, as around a picture that is not square


@dataclass(frozen=True, eq=False)
class Labelled:
    """A crop and its nine landmarks."""

    picture: Image  # (256,256,3) RGB
    points: Array  # (9,2) px


@dataclass(frozen=True, eq=False)
class View:
    """One training picture."""

    picture: Image  # (SIDE,SIDE,3) RGB
    points: Array  # (9,2) in [-1, 1] or a little outside; zeros if there is no animal
    is_there: bool


def draw_view(crops: Sequence[Labelled], backgrounds: Sequence[Image], rng: np.random.Generator) -> View:
    """A random view."""
    scene = _background(backgrounds, rng)
    points = np.zeros((LANDMARKS, 2), np.float32)
    is_there = rng.random() >= EMPTY_SHARE
    if is_there:
        crop = crops[int(rng.integers(len(crops)))]
        matrix = _random_placement(crop.points, rng)
        scene = _paste(scene, crop.picture, matrix, rng)
        points = (crop.points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
    if rng.random() < BAR_SHARE:
        scene = _add_bars(scene, points.mean(0) if is_there else None, rng)
    if rng.random() < 0.5:
        scene = scene[:, ::-1]
        points = points[list(MIRRORED)] * np.array([-1, 1], np.float32) + np.array([SIDE - 1, 0], np.float32)
    points = (points + np.float32(0.5)) * np.float32(2 / SIDE) - 1
    return View(_recolour(scene, rng), points if is_there else np.zeros_like(points), is_there)


def _random_placement(points: Array, rng: np.random.Generator) -> NDArray[np.float64]:
    """A similarity (2,3) from px of the crop to px of the view."""
    centre = points.mean(0)
    size = float(np.sqrt(((points - centre) ** 2).sum(1).mean()))
    if rng.random() < CLOSE_SHARE:
        wanted = CLOSE_SIZE * float(np.exp(rng.normal(0, 0.12)))
        place, turn = rng.normal(0, 0.1, 2), rng.normal(0, 8)
    else:
        wanted = float(np.exp(rng.uniform(*np.log(SIZES))))
        reach = max(0.15, 1 - 1.6 * wanted)
        place, turn = rng.uniform(-reach, reach, 2), rng.normal(0, 22)
    zoom = wanted * SIDE / 2 / size
    cos, sin = zoom * np.cos(np.deg2rad(turn)), zoom * np.sin(np.deg2rad(turn))
    linear = np.array([[cos, -sin], [sin, cos]])
    target = (place + 1) / 2 * SIDE
    return np.concatenate([linear, (target - linear @ centre)[:, None]], axis=1)


def _paste(scene: Image, crop: Image, matrix: NDArray[np.float64], rng: np.random.Generator) -> Image:
    """The crop pasted over the scene with soft edges."""
    shrinks = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if shrinks < 0.7:
        crop = np.asarray(cv2.GaussianBlur(crop, (0, 0), 0.4 / shrinks), np.uint8)
    warped = cv2.warpAffine(crop, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    inner = int(rng.uniform(6, 40))
    mask = np.zeros(crop.shape[:2], np.float32)
    mask[inner:-inner, inner:-inner] = 1
    soft = cv2.GaussianBlur(mask, (0, 0), inner / 2.5)
    alpha = cv2.warpAffine(soft, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)[..., None]
    return np.asarray(scene + (warped.astype(np.float32) - scene) * alpha, np.float32).astype(np.uint8)


def _background(pictures: Sequence[Image], rng: np.random.Generator) -> Image:
    """A part of a random picture at a random size, sometimes blurred; or a gradient."""
    if rng.random() < 0.08:
        corners = rng.integers(0, 256, (2, 2, 3)).astype(np.uint8)
        return np.asarray(cv2.resize(corners, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR))
    picture = pictures[int(rng.integers(len(pictures)))]
    zoom = float(np.exp(rng.uniform(np.log(0.5), np.log(2.5)))) * SIDE / len(picture)
    matrix = np.array([[zoom, 0, SIDE / 2], [0, zoom, SIDE / 2]])
    matrix[:, 2] -= zoom * rng.uniform(0.2, 0.8, 2) * len(picture)
    scene = cv2.warpAffine(picture, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)
    if rng.random() < 0.25:
        scene = cv2.GaussianBlur(scene, (0, 0), rng.uniform(1, 8))
    return np.asarray(scene)


def _add_bars(scene: Image, centre: Array | None, rng: np.random.Generator) -> Image:
    """The scene with two opposite sides black; unchanged if that would hide the face's centre."""
    width = int(rng.uniform(0.02, 0.3) * SIDE)
    axis = int(rng.integers(2))
    if centre is not None and not width + 8 < centre[axis] < SIDE - width - 8:
        return scene
    barred = scene.copy()
    turned = barred if axis == 1 else barred.swapaxes(0, 1)
    turned[:width], turned[SIDE - width :] = 0, 0
    return barred


def _recolour(scene: Image, rng: np.random.Generator) -> Image:
    """The scene with another exposure, contrast and white balance; sometimes grey, soft or noisy."""
    light = scene.astype(np.float64) * rng.uniform(0.7, 1.3) * rng.uniform(0.9, 1.1, 3)
    light = (light - 128) * rng.uniform(0.8, 1.2) + 128 + rng.uniform(-15, 15)
    if rng.random() < 0.15:
        light = light.mean(-1, keepdims=True).repeat(3, -1)
    if rng.random() < 0.2:
        light = np.asarray(cv2.GaussianBlur(light, (0, 0), rng.uniform(0.5, 1.2)), np.float64)
    if rng.random() < 0.3:
        light = light + rng.normal(0, rng.uniform(2, 10), light.shape)
    return light.clip(0, 255).astype(np.uint8)
