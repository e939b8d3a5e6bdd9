"""Generated faces laid into their frames: one paster for each face, the nearer ones on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.source import Place
from liveportrait.choices import PasteMask
from liveportrait.face.crop import crop, to_input
from liveportrait.face.paste import (
    MASK_SIDE,
    Paster,
    face_mask,
    outline_in_crop,
    paste_mask,
    reaches,
    yielding,
)
from liveportrait.face.retouch import LARGEST, match_at_seam, with_detail

Image = NDArray[np.uint8]
Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Painted:
    """One face of one frame, generated."""

    face: int  # its number among the animated ones, from 0
    generated: Image  # (S,S,3)
    place: Place | None  # None where the frame was taken as the face
    tile: Image  # (S,S,3) the source as the networks saw it
    driving: Image | None  # (S,S,3) the driver as the networks saw it
    moved: Array | None = (
        None  # (36,2) px of the crop at 256 px: where the rim has moved; None where nobody asked
    )


class Compositor:
    """Lays faces into frames of one size. Where the source is still, masks and places are worked out once."""

    def __init__(
        self,
        shape: tuple[int, int],
        still: bool,
        bystanders: Sequence[Array] = (),
        alpha: bool = False,
        mask: PasteMask = "template",
        match_colour: bool = False,
        detail: bool = False,
        replicate_border: bool = False,
    ) -> None:
        """`shape` is height and width of the frames, px; `bystanders` are the outlines (36,3) px of other faces.

        With `alpha`, faces alone are composed, as RGBA. The others are as in `AnimateOptions` and `Variant`.
        """
        self._shape, self._still, self._bystanders = shape, still, tuple(bystanders)
        self._alpha, self._mask, self._match_colour, self._detail = alpha, mask, match_colour, detail
        self._replicate_border = replicate_border
        self._kept: dict[int, _Ready] = {}  # of the faces of a still source

    def compose(self, frame: Image, faces: Sequence[Painted]) -> Image:
        """A copy of the frame (H,W,3) with the faces in it, or (H,W,4) the faces alone.

        Of faces that overlap the larger one, which is nearer, lies on top. No face is painted over another's head
        unless its own is in front of that.
        """
        placed = [(face, face.place) for face in faces if face.place is not None]
        result = np.zeros((*self._shape, 4), np.uint8) if self._alpha else frame.copy() if placed else frame
        for face, place in sorted(placed, key=lambda item: item[1].side):
            others = [other.outline for _, other in placed if other is not place]
            ready = self._kept.get(face.face) or self._prepared(frame, face, place, others)
            if self._still and self._mask == "template":
                self._kept[face.face] = ready
            generated = face.generated
            if self._match_colour:
                generated = match_at_seam(generated, face.tile, ready.mask)
            if ready.crop is not None:
                generated = with_detail(generated, face.tile, ready.crop)
            ready.paster.paste_onto(result, generated)
        return result

    def _prepared(self, frame: Image, face: Painted, place: Place, others: Sequence[Array]) -> _Ready:
        own = outline_in_crop(place.outline, place.window)
        mask = paste_mask(place.window.size)
        if self._mask == "face":
            mask = face_mask([own] if face.moved is None else [own, face.moved])
        rims = [outline_in_crop(other, place.window) for other in (*others, *self._bystanders)]
        if reaching := [rim for rim in rims if reaches(rim)]:
            mask = yielding(to_input(mask, MASK_SIDE), own, reaching)
        fine = None
        if self._detail:
            size = round(min(max(place.window.side, face.generated.shape[0]), LARGEST))
            fine = crop(frame, place.window.resized(size), self._replicate_border)
        return _Ready(Paster(place.window, self._shape, mask), mask, fine)


class _Ready(NamedTuple):
    """What is needed to lay one face into frames in which it is at the same place."""

    paster: Paster
    mask: Image
    crop: Image | None  # (C,C,3) of the frame at its own resolution, where detail is wanted
