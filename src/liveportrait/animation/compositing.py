"""Generated faces laid into their frames: one paster for each face, the nearer ones on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.source import Place
from liveportrait.face.masks import SIDE, rim_in_crop, yielding
from liveportrait.face.paste import Paster, paste_mask

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


class Compositor:
    """Lays faces into frames of one size. Where the source is still, masks and places are worked out once."""

    def __init__(
        self, shape: tuple[int, int], still: bool, bystanders: Sequence[Array] = (), alpha: bool = False
    ) -> None:
        """`shape` is height and width of the frames, px; `bystanders` are the rims (36,3) px of other faces.

        With `alpha`, faces alone are composed, as RGBA.
        """
        self._alpha = alpha
        self._shape = shape
        self._still = still
        self._bystanders = tuple(bystanders)
        self._pasters: dict[int, Paster] = {}

    def compose(self, frame: Image, faces: Sequence[Painted]) -> Image:
        """A copy of the frame (H,W,3) with the faces in it, or (H,W,4) the faces alone.

        Of faces that overlap the larger one, which is nearer, lies on top. No face is painted over another's head
        unless its own is in front of that.
        """
        placed = [(face, face.place) for face in faces if face.place is not None]
        result = np.zeros((*self._shape, 4), np.uint8) if self._alpha else frame.copy() if placed else frame
        for face, place in sorted(placed, key=lambda item: item[1].side):
            if self._still and face.face in self._pasters:
                paster = self._pasters[face.face]
            else:
                others = [other.rim for _, other in placed if other is not place]
                paster = self._paster(place, [*others, *self._bystanders])
                self._pasters[face.face] = paster
            paster.paste_onto(result, face.generated)
        return result

    def _paster(self, place: Place, others: Sequence[Array]) -> Paster:
        mask = None
        if others:
            rims = [rim_in_crop(other, place.window) for other in others]
            mask = yielding(paste_mask(SIDE), rim_in_crop(place.rim, place.window), rims)
        return Paster(place.window, self._shape, mask)
