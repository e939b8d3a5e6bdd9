"""A photo as source: one frame, prepared once and repeated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from liveportrait.animation.options import SourceOptions
from liveportrait.animation.session import Session
from liveportrait.animation.source.base import FacePlacement, FaceView, Source, require_size
from liveportrait.animation.source.observations import FaceObservation
from liveportrait.animation.source.subjects import find_subjects, outline_of
from liveportrait.choices import Reduction
from liveportrait.face import Face
from liveportrait.face.animals import AnimalFace, animal_square, published_square
from liveportrait.face.choice import FaceChoice
from liveportrait.face.crop import CropWindow, Square, crop, crop_to, to_input, whole_window
from liveportrait.face.measures import face_scores
from liveportrait.face.tracker import largest_face
from liveportrait.media import load_image
from liveportrait.motion import groups_for
from liveportrait.motion.animals import AnimalMotion, animal_motion
from liveportrait.motion.expression import FaceShape
from liveportrait.motion.landmarks import extract_motion
from liveportrait.networks.interface import Motion
from liveportrait.networks.variants import Variant
from liveportrait.types import Array, Image

# px, to which larger photos are scaled down unless another limit is given: players support no more.
PHOTO_SIDE = 4096
SMALLEST_CROPPED = 1 / 4  # of a crop's side: the smallest face that is looked for in a crop


@dataclass(frozen=True, eq=False)
class PhotoFace:
    """A face of a photo."""

    still: FaceView  # batch 1
    animal: AnimalMotion | None = None
    is_animal: bool = False
    scores: Array | None = None
    shape: FaceShape | None = None

    def shown(self, rows: range) -> list[int]:
        """All of them: a photo does not change."""
        return list(rows)

    def view(self, session: Session, rows: Sequence[int], frames: Sequence[Image]) -> FaceView:
        """The view that was prepared once."""
        return self.still

    @property
    def openings(self) -> Tensor | None:
        """Its openings (1,3), if a person's face was found."""
        return self.still.ratios

    @property
    def side(self) -> float | None:
        """Side of its crop, px."""
        return self.still.placements[0].window.side if self.still.placements else None

    def crop(self, row: int, frame: Image, size: int, replicate_border: bool = False) -> Image:
        """The crop of the photo."""
        placed = self.still.placements
        return crop_to(frame, placed[0].window, size, replicate_border) if placed else to_input(frame, size)


@dataclass(frozen=True, eq=False, kw_only=True)
class PhotoSource(Source):
    """A photo with the faces that are animated."""

    image: Image  # (H,W,3)
    faces: tuple[PhotoFace, ...]

    def frames(self, session: Session) -> AbstractContextManager[Iterator[Image]]:
        """The photo, repeated endlessly."""
        return nullcontext(repeat(self.image))


def open_photo(session: Session, source: Path | Image, options: SourceOptions) -> PhotoSource:
    """Load a photo (or take an (H,W,3) uint8 RGB array), find its faces, crop them, and run F and M on them.

    Raises `UserError` if there is no picture, no face in it, or not the chosen one.
    """
    choice = FaceChoice.parse(options.faces)
    if isinstance(source, np.ndarray):
        name, image = "the source", source.copy()
    else:
        with session.clock.step("decode"):
            name, image = str(source), load_image(source)
    require_size(name, image.shape)
    size = (image.shape[0], image.shape[1])
    image = limit_size(image, options.max_size or PHOTO_SIDE, options.reduction)
    shape = (image.shape[0], image.shape[1])
    if not options.crop:
        face = _cropped_face(session, image, options.reduction)
        return PhotoSource(name=name, shape=shape, image=image, faces=(face,), crops=False)
    with session.clock.step("detect"):
        subjects = find_subjects(session.analyzer, image, name, options, size)
    chosen = choice.of(subjects.faces, name)
    faces = tuple(
        _animal_face(session, image, face, options)
        if isinstance(face, AnimalFace)
        else _person_face(session, image, face, options)
        for face in chosen
    )
    return PhotoSource(
        name=name,
        shape=shape,
        image=image,
        faces=faces,
        found=len(subjects.faces),
        bystanders=tuple(outline_of(face) for face in subjects.faces if face not in chosen),
        note=subjects.note,
    )


def _person_face(session: Session, image: Image, face: Face, options: SourceOptions) -> PhotoFace:
    seen = FaceObservation.of(face)
    window = window_of(seen.square, options)
    crops = cut(image, window, session.engine.variant, options.reduction)[None]
    with session.clock.step("motion"):
        motion = extract_motion(session.engine, crops, seen.keypoints, [window])
    view = make_view(session, crops, motion, [seen], [window])
    shape = _shape(session, image, face, window)
    return PhotoFace(view, scores=face_scores(session.analyzer, face), shape=shape)


def _cropped_face(session: Session, image: Image, reduction: Reduction) -> PhotoFace:
    """The face of a photo that is taken as a crop. It may show something in which no face is found."""
    size = session.engine.variant.input_size
    tile = to_input(image, size, reduction)
    with session.clock.step("detect"):
        face = largest_face(session.analyzer, tile, SMALLEST_CROPPED)
    seen = FaceObservation.of(face) if face else None
    windows = [whole_window(size)] if seen else []
    with session.clock.step("motion"):
        motion = extract_motion(session.engine, tile[None], seen.keypoints if seen else None, windows)
    view = make_view(session, tile[None], motion, [seen] if seen else [], ())
    if face is None:
        return PhotoFace(view)
    shape = _shape(session, tile, face, windows[0])
    return PhotoFace(view, scores=face_scores(session.analyzer, face), shape=shape)


def _shape(session: Session, image: Image, face: Face, window: CropWindow) -> FaceShape | None:
    """The shape to which expressions are adapted, if the weights support it."""
    if not session.engine.can_express:
        return None
    with session.clock.step("detect"):
        scores = session.analyzer.blendshapes(face)
        identity = session.analyzer.identity(image, face.landmarks)
    return FaceShape.of(face, scores, identity, window, session.engine.device)


def _animal_face(session: Session, image: Image, face: AnimalFace, options: SourceOptions) -> PhotoFace:
    """An animal's face. Its motion comes from its landmarks if keypoints are landmarks, otherwise from M."""
    engine = session.engine
    measured = groups_for(engine.variant).keypoints_are_landmarks
    square = animal_square(face.landmarks) if measured else published_square(face.landmarks)
    window = window_of(square, options)
    crops = cut(image, window, engine.variant, options.reduction)[None]
    animal = None
    with session.clock.step("motion"):
        if measured:
            matrix = window.matrix
            animal = animal_motion(face.landmarks @ matrix[:, :2].T + matrix[:, 2], window.size)
            motion = animal.motion.to(engine.device)
        else:
            motion = engine.extract_motion(crops)
    with session.clock.step("render"):
        features = engine.encode_appearance(crops)
    placement = FacePlacement(window, square.side, outline_of(face))
    return PhotoFace(FaceView(features, motion, None, crops, (placement,)), animal, is_animal=True)


def make_view(
    session: Session,
    crops: Image,
    motion: Motion,
    seen: Sequence[FaceObservation],
    windows: Sequence[CropWindow],
) -> FaceView:
    """The view of crops (b,S,S,3) whose motion is known.

    `seen`: of each frame, or empty; `windows`: empty if the frames are the faces.
    """
    with session.clock.step("render"):
        features = session.engine.encode_appearance(crops)
    placements = [
        FacePlacement(window, own.square.side, own.outline)
        for window, own in zip(windows, seen if windows else (), strict=True)
    ]
    ratios = None
    if seen:
        ratios = torch.from_numpy(np.stack([own.ratios for own in seen])).to(session.engine.device)
    return FaceView(features, motion, ratios, crops, tuple(placements))


def window_of(square: Square, options: SourceOptions) -> CropWindow:
    """The crop around a face's box that the options ask for."""
    return square.framed(options.crop_scale, options.crop_x, options.crop_y).window()


def cut(image: Image, window: CropWindow, variant: Variant, reduction: Reduction = "area") -> Image:
    """The crop (S,S,3) for the networks. With either reduction the last step averages, from up to twice that side."""
    fine = max(1, int(window.side / window.size)) if reduction == "area" else 1
    return to_input(
        crop(image, window.resized(window.size * fine), variant.replicate_border), variant.input_size
    )


def limited(height: int, width: int, limit: int) -> tuple[int, int]:
    """Height and width, px, scaled so that the longer one is at most `limit`."""
    longer = max(height, width)
    if longer <= limit:
        return height, width
    height, width = (limit if side == longer else int(side * limit / longer) for side in (height, width))
    return height, width


def limit_size(image: Image, limit: int, reduction: Reduction = "area") -> Image:
    """The picture with its longer side scaled down to at most `limit` px and both sides made even.

    Area averaging keeps fine patterns from flickering; an odd row or column is cut off at the bottom or right.
    """
    height, width = limited(image.shape[0], image.shape[1], limit)
    if (height, width) != image.shape[:2]:
        target = (max(width, 2), max(height, 2))
        interpolation = cv2.INTER_AREA if reduction == "area" else cv2.INTER_LINEAR
        image = np.asarray(cv2.resize(image, target, interpolation=interpolation), np.uint8)
    return image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
