"""Pastes rendered faces into their frames at the frames' own resolution, nearer faces on top."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from liveportrait.animation.options import PasteOptions
from liveportrait.animation.source.base import FacePlacement, Source
from liveportrait.face.composition import FaceLayers, composed
from liveportrait.face.crop import crop_to, to_input
from liveportrait.face.paste import (
    LARGEST,
    MASK_SIDE,
    Paster,
    face_mask,
    may_reach_crop,
    outline_in_crop,
    paste_mask,
    seam_correction,
    with_detail,
    without_other_heads,
)
from liveportrait.marking.payload import Payload, Work
from liveportrait.marking.watermark import Watermark
from liveportrait.networks.variants import Variant
from liveportrait.types import Array, Image


@dataclass(frozen=True, eq=False)
class RenderedFace:
    """One face of one frame, rendered but not yet composed."""

    face: int  # its number among the animated ones, from 0
    layers: FaceLayers
    placement: FacePlacement | None  # None if the frame itself was taken as the face
    crop: Image  # (S,S,3) the source as the networks saw it
    driving: Image | None  # (S,S,3) the driver as the networks saw it
    moved: Array | None = None  # (36,2) px of the crop at 256 px: its moved outline; None if not requested

    @cached_property
    def generated(self) -> Image:
        """(S,S,3) the picture at the networks' resolution."""
        return composed(self.crop, self.layers)


class Compositor:
    """Pastes faces into the frames of one source. For a still source, masks and placements are computed once."""

    def __init__(
        self,
        source: Source,
        options: PasteOptions,
        variant: Variant,
        largest: int | None = None,
        watermark: Watermark | None = None,
    ) -> None:
        """`largest`: px, the largest side at which crops are composed if the options do not say; None: no limit.

        `watermark` is embedded in generated pixels only.
        """
        self.watermark = watermark
        self._source, self._options, self._variant = source, options, variant
        self._largest = options.resolution or largest
        self._pastes = options.paste_back and source.crops
        self._is_still = source.fps is None
        self._kept: dict[int, _Ready] = {}  # of the faces of a still source
        self._crops: dict[int, Image] = {}
        self._next = 0

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Height and width of the composed frames, px."""
        if self._pastes:
            return self._source.shape
        side = self._variant.output_size
        if self._variant.carries_source:
            own = self._source.faces[0].side or max(self._source.shape)
            side = max(side, min(round(own), self._largest or round(own)) // 2 * 2)
        return side, side

    def compose(self, frame: Image, faces: Sequence[RenderedFace], row: int | None = None) -> Image:
        """A frame (H,W,3) with its faces pasted in, or (H,W,4) the faces alone.

        `row` is its number in the source; None is the one after the last.

        Where faces overlap, the larger one, being nearer, is on top. No face is painted over another's head unless its
        own is in front. Without paste-back the first face's crop is the result: as rendered, or unchanged if the frame
        does not show the face. The input frame is not modified.
        """
        row = self._next if row is None else row
        row %= self._source.count or 1  # a live portrait plays its source in a loop
        self._next = row + 1
        if self._pastes:
            return self._pasted(frame, faces)
        if faces and faces[0].layers.is_painted:
            return self._marked(faces[0].generated.copy() if self.watermark else faces[0].generated)
        crop = self._crops.get(0)
        if crop is None:
            crop = self._source.faces[0].crop(row, frame, self.shape[0], self._variant.replicate_border)
        if self._is_still:
            self._crops[0] = crop
        return self._marked(composed(crop, faces[0].layers)) if faces else crop.copy()

    def _marked(self, crop: Image) -> Image:
        """A crop that is a frame by itself, watermarked in place."""
        if self.watermark:
            self.watermark.embed(crop)
        return crop

    def _pasted(self, frame: Image, faces: Sequence[RenderedFace]) -> Image:
        placed = [(face, face.placement) for face in faces if face.placement is not None]
        alpha = self._options.alpha
        result = np.zeros((*self._source.shape, 4), np.uint8) if alpha else frame.copy()
        covers = []
        for face, placement in sorted(placed, key=lambda item: item[1].side):
            others = [other.outline for _, other in placed if other is not placement]
            others = [] if self._options.as_published else [*others, *self._source.bystanders]
            ready = self._kept.get(face.face) or self._prepared(face, placement, others)
            if self._is_still and self._options.mask == "template":
                self._kept[face.face] = ready
            layers = face.layers
            if self._options.match_colour:
                layers = layers.coloured(seam_correction(face.generated, face.crop, ready.mask))
            self._lay(result, frame, face, placement, layers, ready.paster)
            covers.append(ready.paster.covered)
        if self.watermark:
            self.watermark.embed_all(result, [cover for cover in covers if cover])
        return result

    def _lay(
        self,
        result: Image,
        frame: Image,
        face: RenderedFace,
        placement: FacePlacement,
        layers: FaceLayers,
        paster: Paster,
    ) -> None:
        """Paste one face into the result: composed in the frame itself, or in a smaller crop of it."""
        window = placement.window
        if layers.is_painted:
            picture = layers.painted()
            if self._options.detail:
                size = max(min(round(window.side), LARGEST), picture.shape[0])
                picture = with_detail(picture, face.crop, self._crop(frame, face, placement, size))
        elif self._largest and self._largest < window.side:
            crop = self._crop(frame, face, placement, self._largest)
            picture = composed(crop, layers)
        else:
            paster.compose_onto(result, frame, layers)
            return
        paster.paste_onto(result, picture)

    def _crop(self, frame: Image, face: RenderedFace, placement: FacePlacement, size: int) -> Image:
        """The face's crop (size,size,3) of the frame."""
        if face.face in self._crops:
            return self._crops[face.face]
        crop = crop_to(frame, placement.window, size, self._variant.replicate_border)
        if self._is_still:
            self._crops[face.face] = crop
        return crop

    def _prepared(self, face: RenderedFace, placement: FacePlacement, others: Sequence[Array]) -> _Ready:
        window = placement.window
        own = outline_in_crop(placement.outline, window)
        mask = paste_mask(window.size)
        if self._options.mask == "face":
            mask = face_mask([own] if face.moved is None else [own, face.moved])
        outlines = [outline_in_crop(other, window) for other in others]
        if reaching := [outline for outline in outlines if may_reach_crop(outline)]:
            mask = without_other_heads(to_input(mask, MASK_SIDE), own, reaching)
        return _Ready(Paster(window, self._source.shape, mask), mask)


class _Ready(NamedTuple):
    """The data for pasting one face into frames in which its position is the same."""

    paster: Paster
    mask: Image


def watermark_for(source: Source, variant: Variant, options: PasteOptions, work: Work) -> Watermark | None:
    """The watermark that says what was done to which source by which weights; None if the options leave it out."""
    if not options.mark:
        return None
    return Watermark(Payload(work, int(source.sha256[:4] or "0", 16), weights_mark(variant.name)))


def weights_mark(variant: str) -> int:
    """The 8 bits that stand for the weights in the watermark, from the name of their variant."""
    return hashlib.sha256(variant.encode()).digest()[0]
