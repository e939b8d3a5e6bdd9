"""Finds the faces of a photo: people's or, if there are none, those of cats and dogs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.options import SourceOptions
from liveportrait.errors import UserError
from liveportrait.face import Face, FaceAnalyzer
from liveportrait.face.animals import AnimalFace, animal_outline
from liveportrait.face.canonical import OVAL
from liveportrait.face.choice import parse_box
from liveportrait.types import Image

ANIMAL = 0.7  # animal score from which a face that looks like a person's counts as an animal's

Subject = Face | AnimalFace


class Subjects(NamedTuple):
    """The faces found in a picture."""

    faces: Sequence[Subject]  # largest first, all of one kind, at least one
    note: str = ""  # about them, for the user


def find_subjects(
    analyzer: FaceAnalyzer, image: Image, name: str, options: SourceOptions, size: tuple[int, int]
) -> Subjects:
    """The faces of a photo (H,W,3), or the one in the user's box; people first unless animals are requested.

    `size` is the original height and width of the photo, to which the box refers. Raises `UserError` if there is no
    face, or the box reaches outside.
    """
    if options.box:
        return _within(analyzer, image, name, options, size)
    if options.subject != "animal":
        people = analyzer.detect(image)
        if options.subject == "auto":
            people = [face for face in people if not _is_animal(analyzer, image, face)]
        if people:
            return Subjects(people)
    if options.subject != "person" and (animals := analyzer.animals.detect(image)):
        return Subjects(animals, _note(name, options))
    whose = {"auto": "", "person": "person's ", "animal": "animal's "}[options.subject]
    raise UserError(
        f"no {whose}face found in {name}: use a picture that shows one, {analyzer.smallest(image):.0f} px high or"
        " more, or say where it is with --box x,y,w,h, or --no-crop if it is a cropped face"
    )


def outline_of(face: Subject) -> NDArray[np.float32]:
    """The outline (36,3) px of a face."""
    if isinstance(face, AnimalFace):
        return animal_outline(face.landmarks)
    return face.landmarks[list(OVAL)]


def _is_animal(analyzer: FaceAnalyzer, image: Image, face: Face) -> bool:
    """Whether a face detected as a person's is really an animal's, as can happen with a dog's from the front."""
    return analyzer.animals.within(image, face.box).score >= ANIMAL


def _within(
    analyzer: FaceAnalyzer, image: Image, name: str, options: SourceOptions, size: tuple[int, int]
) -> Subjects:
    x, y, width, height = parse_box(options.box)
    high, wide = size
    if x + width > wide or y + height > high:
        raise UserError(
            f"box {options.box!r} reaches outside {name}, which is {wide}x{high} px: give x,y,w,h within it"
        )
    shrunk = max(image.shape[:2]) / max(size)
    box = (x * shrunk, y * shrunk, (x + width) * shrunk, (y + height) * shrunk)
    if options.subject != "animal":
        person = analyzer.within(image, box)
        if person and not (options.subject == "auto" and _is_animal(analyzer, image, person)):
            return Subjects([person])
        if options.subject == "person":
            raise UserError(
                f"no person's face in box {options.box!r} of {name}: draw it from forehead to chin and from ear to"
                " ear, or use --subject animal"
            )
    return Subjects([analyzer.animals.within(image, box)], _note(name, options))


def _note(name: str, options: SourceOptions) -> str:
    if options.subject == "animal":
        return ""
    where = "in the box" if options.box else f"in {name}"
    return f"no person's face found {where}: an animal's is animated (--subject animal skips the search)"
