"""Rendered faces laid into their frames: one paster for each face, the nearer ones on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from liveportrait.animation.options import PasteOptions
from liveportrait.animation.source.base import FacePlacement, Source
from liveportrait.face.crop import crop, to_input
from liveportrait.face.paste import (
    LARGEST,
    MASK_SIDE,
    Paster,
    face_mask,
    match_at_seam,
    outline_in_crop,
    paste_mask,
    reaches,
    with_detail,
    yielding,
)
from liveportrait.networks.variants import Variant
from liveportrait.types import Array, Image


@dataclass(frozen=True, eq=False)
class RenderedFace:
    """One face of one frame, rendered."""

    face: int  # its number among the animated ones, from 0
    generated: Image  # (S,S,3)
    placement: FacePlacement | None  # None where the frame was taken as the face
    crop: Image  # (S,S,3) the source as the networks saw it
    driving: Image | None  # (S,S,3) the driver as the networks saw it
    moved: Array | None = None  # (36,2) px of the crop at 256 px: its outline, moved; None where nobody asked


class Compositor:
    """Lays faces into the frames of one source. Where it is still, masks and places are worked out once."""

    def __init__(self, source: Source, options: PasteOptions, variant: Variant) -> None:
        self._source, self._options = source, options
        self._size, self._replicate_border = variant.output_size, variant.replicate_border
        self._pastes = options.paste_back and source.crops
        self._is_still = source.fps is None
        self._kept: dict[int, _Ready] = {}  # of the faces of a still source
        self._done = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the composed frames, px."""
        return self._source.shape if self._pastes else (self._size, self._size)

    def compose(self, frame: Image, faces: Sequence[RenderedFace]) -> Image:
        """The next frame (H,W,3) with its faces in it, or (H,W,4) the faces alone; frames come in order.

        Of faces that overlap the larger one, which is nearer, lies on top. No face is painted over another's head
        unless its own is in front of that. Where nothing is pasted, the first face's crop is the frame: as it was
        rendered, or as it is where the frame does not show the face. The frame that came in stays as it is.
        """
        row = self._done % (self._source.count or 1)  # a live portrait plays its source again and again
        self._done += 1
        if self._pastes:
            return self._pasted(frame, faces)
        if faces:
            return faces[0].generated
        return np.array(self._source.faces[0].crop(row, frame, self._size))

    def _pasted(self, frame: Image, faces: Sequence[RenderedFace]) -> Image:
        placed = [(face, face.placement) for face in faces if face.placement is not None]
        alpha = self._options.alpha
        result = np.zeros((*self._source.shape, 4), np.uint8) if alpha else frame.copy()
        for face, placement in sorted(placed, key=lambda item: item[1].side):
            others = [other.outline for _, other in placed if other is not placement]
            ready = self._kept.get(face.face) or self._prepared(frame, face, placement, others)
            if self._is_still and self._options.mask == "template":
                self._kept[face.face] = ready
            generated = face.generated
            if self._options.match_colour:
                generated = match_at_seam(generated, face.crop, ready.mask)
            if ready.crop is not None:
                generated = with_detail(generated, face.crop, ready.crop)
            ready.paster.paste_onto(result, generated)
        return result

    def _prepared(
        self, frame: Image, face: RenderedFace, placement: FacePlacement, others: Sequence[Array]
    ) -> _Ready:
        window = placement.window
        own = outline_in_crop(placement.outline, window)
        mask = paste_mask(window.size)
        if self._options.mask == "face":
            mask = face_mask([own] if face.moved is None else [own, face.moved])
        outlines = [outline_in_crop(other, window) for other in (*others, *self._source.bystanders)]
        if reaching := [outline for outline in outlines if reaches(outline)]:
            mask = yielding(to_input(mask, MASK_SIDE), own, reaching)
        fine = None
        if self._options.detail:
            size = round(min(max(window.side, face.generated.shape[0]), LARGEST))
            fine = crop(frame, window.resized(size), self._replicate_border)
        return _Ready(Paster(window, self._source.shape, mask), mask, fine)


class _Ready(NamedTuple):
    """Everything that lays one face into frames in which it is at the same place."""

    paster: Paster
    mask: Image
    crop: Image | None  # (C,C,3) of the frame at its own resolution, where detail is wanted
