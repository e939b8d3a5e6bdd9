"""The source: frames with faces in them. A photo is a stream of one frame over and over, prepared once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from itertools import repeat
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.animation.extraction import extract_motion
from liveportrait.animation.observations import FaceObservation
from liveportrait.animation.options import AnimateOptions
from liveportrait.animation.report import Jitter
from liveportrait.animation.run import Run
from liveportrait.animation.subjects import find_subjects, outline_of
from liveportrait.errors import UserError
from liveportrait.face import Face
from liveportrait.face.animals import AnimalFace, animal_square, published_square
from liveportrait.face.choice import FaceChoice
from liveportrait.face.crop import CropWindow, Square, crop, to_input
from liveportrait.face.measures import face_scores
from liveportrait.media import load_image
from liveportrait.motion import groups_for
from liveportrait.motion.animals import AnimalMotion, animal_motion
from liveportrait.networks.interface import Features, Motion
from liveportrait.networks.variants import Variant

SMALLEST_SIDE = 32  # px, below which there is nothing to see
PHOTO_SIDE = 1280  # px, to which larger photos are reduced unless another limit is asked for

Image = NDArray[np.uint8]
Array = NDArray[np.float32]


class Place(NamedTuple):
    """Where a face is in a frame."""

    window: CropWindow
    side: float  # of the face's box, px
    outline: Array  # (36,3) px, of the face


@dataclass(frozen=True, eq=False)
class View:
    """A face in b frames as the networks know it; batch 1 where it is the same in all of them."""

    features: Features
    motion: Motion
    openings: Tensor | None  # (b,3) of left eye, right eye and lips; None where no face was looked for
    tiles: NDArray[np.uint8]  # (b,S,S,3), what F and M saw
    places: tuple[Place, ...]  # b; empty where the frame is taken as the face


class SourceFace(Protocol):
    """One face of a source, through all of its frames."""

    def shown(self, rows: range) -> list[int]:
        """Which of the frames show it."""
        ...

    def view(self, run: Run, rows: Sequence[int], frames: Sequence[Image]) -> View:
        """The face in these frames, given by their numbers and pictures."""
        ...

    def crop(self, row: int, frame: Image, size: int) -> Image:
        """The crop (size,size,3) of a frame as it is, of one without the face where the crop was last."""
        ...


@dataclass(frozen=True, eq=False)
class Source:
    """A portrait, still or moving."""

    name: str  # for messages
    shape: tuple[int, int]  # height and width of the frames, px
    open: Callable[[], AbstractContextManager[Iterator[Image]]]  # the frames (H,W,3) RGB from the first on
    faces: tuple[SourceFace, ...]  # those that are animated
    found: int  # how many there are
    fps: Fraction | None = None  # None: a photo, which lasts as long as it is wanted
    count: int | None = None  # of the frames; None for a photo
    audio: Path | None = None  # a file with sound
    bystanders: tuple[Array, ...] = ()  # rims (36,3) px of a photo's other faces
    cuts: tuple[int, ...] = ()  # frames at which a new scene begins
    jitter: tuple[Jitter, ...] = ()
    note: str = ""  # what the user should know about its faces

    @property
    def is_photo(self) -> bool:
        """Whether it stands still."""
        return self.fps is None


@dataclass(frozen=True, eq=False)
class StillFace:
    """A face of a photo."""

    still: View  # batch 1
    animal: AnimalMotion | None = None  # where it is one, and its keypoints are landmarks
    scores: Array | None = None  # what face it makes, where it is a person's

    def shown(self, rows: range) -> list[int]:
        """All: a photo does not change."""
        return list(rows)

    def view(self, run: Run, rows: Sequence[int], frames: Sequence[Image]) -> View:
        """What was prepared once."""
        return self.still

    def crop(self, row: int, frame: Image, size: int) -> Image:
        """The crop of the photo."""
        return to_input(crop(frame, self.still.places[0].window) if self.still.places else frame, size)


def open_photo(run: Run, source: Path | Image, options: AnimateOptions, choice: FaceChoice) -> Source:
    """Load a photo (or take an (H,W,3) uint8 RGB array), find its faces, cut them out, run F and M on them.

    Raises `UserError` where there is no picture, no face in it, or not the chosen one.
    """
    if isinstance(source, np.ndarray):
        name, image = "the source", source
    else:
        with run.clock.step("decode"):
            name, image = str(source), load_image(source)
    require_size(name, image.shape)
    size = (image.shape[0], image.shape[1])
    image = limit_size(image, options.max_size or PHOTO_SIDE)
    shape = (image.shape[0], image.shape[1])
    if not options.crop:
        tile = to_input(image, run.engine.variant.input_size)[None]
        return Source(
            name, shape, lambda: nullcontext(repeat(image)), (StillFace(_look(run, tile, [])),), found=0
        )
    with run.clock.step("detect"):
        found = find_subjects(run.analyzer, image, name, options, size)
    chosen = choice.of(found.faces, name)
    stills = [
        _still_animal(run, image, face, options)
        if isinstance(face, AnimalFace)
        else _still_person(run, image, face, options)
        for face in chosen
    ]
    others = tuple(outline_of(face) for face in found.faces if face not in chosen)
    return Source(
        name,
        shape,
        lambda: nullcontext(repeat(image)),
        tuple(stills),
        found=len(found.faces),
        bystanders=others,
        note=found.note,
    )


def _still_person(run: Run, image: Image, face: Face, options: AnimateOptions) -> StillFace:
    observation = FaceObservation.of(face)
    window = window_of(observation.square, options)
    tile = cut(image, window, run.engine.variant)[None]
    return StillFace(_look(run, tile, [observation], [window]), scores=face_scores(run.analyzer, face))


def _still_animal(run: Run, image: Image, face: AnimalFace, options: AnimateOptions) -> StillFace:
    """An animal's face. Its motion is that of its landmarks where keypoints are landmarks, else what M says."""
    if options.retarget.changes:
        raise UserError("openings of eyes and lips are those of people: leave them out for an animal")
    variant = run.engine.variant
    measured = groups_for(variant).keypoints_are_landmarks
    square = animal_square(face.landmarks) if measured else published_square(face.landmarks)
    window = window_of(square, options)
    tile = cut(image, window, variant)[None]
    animal = None
    with run.clock.step("motion"):
        if measured:
            matrix = window.matrix
            animal = animal_motion(face.landmarks @ matrix[:, :2].T + matrix[:, 2], window.size)
            motion = Motion(*(part.to(run.engine.device) for part in animal.motion))
        else:
            motion = run.engine.extract_motion(tile)
    with run.clock.step("render"):
        features = run.engine.encode_appearance(tile)
    place = Place(window, square.side, outline_of(face))
    return StillFace(View(features, motion, None, tile, (place,)), animal)


def _look(
    run: Run,
    tiles: NDArray[np.uint8],
    observations: Sequence[FaceObservation],
    windows: Sequence[CropWindow] = (),
) -> View:
    with run.clock.step("motion"):
        motion = extract_motion(
            run.engine, tiles, observations[0].keypoints if observations else None, windows
        )
    return looked_at(run, tiles, motion, observations, windows)


def looked_at(
    run: Run,
    tiles: NDArray[np.uint8],
    motion: Motion,
    observations: Sequence[FaceObservation],
    windows: Sequence[CropWindow],
) -> View:
    """The view of crops (b,S,S,3) whose motion is known; no observations and windows where frames are the faces."""
    with run.clock.step("render"):
        features = run.engine.encode_appearance(tiles)
    places = [Place(w, s.square.side, s.outline) for w, s in zip(windows, observations, strict=True)]
    openings = np.stack([observation.openings for observation in observations]) if observations else None
    measured = None if openings is None else torch.from_numpy(openings).to(run.engine.device)
    return View(features, motion, measured, tiles, tuple(places))


def window_of(square: Square, options: AnimateOptions) -> CropWindow:
    """The crop around a face's box that the user wants."""
    return square.framed(options.crop_scale, options.crop_x, options.crop_y).window()


def cut(image: Image, window: CropWindow, variant: Variant) -> Image:
    """The crop (S,S,3) as the networks take it."""
    return to_input(crop(image, window, variant.replicate_border), variant.input_size)


def require_size(name: str, shape: Sequence[int]) -> None:
    """Raise `UserError` for a picture too small to show anything."""
    if min(shape[:2]) < SMALLEST_SIDE:
        raise UserError(f"{name} is {shape[1]}x{shape[0]} px: use a picture of at least {SMALLEST_SIDE} px")


def limit_size(image: Image, limit: int) -> Image:
    """The picture with its longer side reduced to at most `limit` px and both sides made even.

    Reduced by area, so that fine patterns do not flicker; an odd row or column is cut at the bottom or right.
    """
    height, width = image.shape[:2]
    longer = max(height, width)
    if longer > limit:
        height, width = (limit if side == longer else int(side * limit / longer) for side in (height, width))
        target = (max(width, 2), max(height, 2))
        image = np.asarray(cv2.resize(image, target, interpolation=cv2.INTER_AREA), np.uint8)
    return image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
