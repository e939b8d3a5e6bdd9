"""Pasting a generated crop back into the frame it was cut from, and the soft masks for that.

A mask is either the published square with soft edges, or follows the outline of the face's landmarks, so that other
people's faces are left alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.face.composition import FaceLayers, centred, compose_into
from liveportrait.face.crop import CropWindow, to_input
from liveportrait.types import Array, Image

MASK_SIDE = 256  # px of a mask: it is soft, so it can be enlarged to the crop
# In sizes of the outline: the face with some of the hairline, the head with hair and ears
FACE, HEAD = 1.12, 1.45
RAISED = 0.12  # of the face's height: a head extends farther above the outline than below it
FEATHER = 0.06  # of the face's width: standard deviation of the soft edge
SAME = 1e-3  # grey levels: allows for rounding errors, so that two equal colours blend to the same colour
_SHIFT = 4  # fractional bits of a polygon's corners

TOP, CHIN = 0, 18  # indices of outline points
EDGE = 32  # the soft edge of the published mask is this part of the crop's side: 16 px of 512


def paste_mask(size: int = 512) -> Image:
    """Mask (size,size) uint8 of a crop: floor(255 · clip(1 − d/e, 0, 1)), edge width e = size/32 px.

    d is the distance from the pixel (whole-number coordinates) to the square [e, size − e]².
    """
    edge = size / EDGE
    along = np.arange(size, dtype=np.float64)
    outside = np.maximum(np.maximum(edge - along, along - (size - edge)), 0)
    distance = np.hypot(outside[:, None], outside[None, :])
    return np.floor(255 * (1 - distance / edge).clip(0, 1)).astype(np.uint8)


class Paster:
    """Pastes into frames of one size through one window. Mask and position are computed once.

    Only the pixels in the window's bounding box are computed; all others are the frame's own.
    Nothing changes after construction, so one object may serve several threads.
    """

    def __init__(self, window: CropWindow, frame_shape: tuple[int, ...], mask: Image | None = None) -> None:
        """`frame_shape` starts with the height and width of the frames, px.

        `mask` (M,M) uint8, of any size, covers the crop; the published mask by default.
        """
        self._shape = frame_shape[:2]
        self._size = window.size
        to_frame = window.inverse().astype(np.float64)
        ends = [-1, window.size]
        corners = to_frame @ np.array([[x, y, 1] for x in ends for y in ends], np.float64).T
        bounds = np.array(self._shape[::-1])
        low = np.floor(corners.min(axis=1)).clip(0, bounds).astype(int)
        high = (np.ceil(corners.max(axis=1)) + 1).clip(0, bounds).astype(int)
        self._place = slice(low[1], high[1]), slice(low[0], high[0])
        self._extent = tuple(int(side) for side in high - low)  # width, height
        self._to_box = to_frame - np.array([[0, 0, low[0]], [0, 0, low[1]]])
        if self._visible:
            cover = paste_mask(window.size) if mask is None else mask
            mask = np.asarray(
                cv2.warpAffine(cover, self._scaled_to_box(cover.shape[0]), self._extent), np.uint8
            )
            self._cover = mask
            # The mask is full on seven eighths of a window: copying those is much faster than blending.
            self._full = (mask == 255).astype(np.uint8)
            self._edge = np.nonzero((mask > 0) & (mask < 255))
            self._weight = mask[self._edge][:, None].astype(np.float32) / 255

    @property
    def _visible(self) -> bool:
        return min(self._extent) > 0

    @property
    def covered(self) -> tuple[tuple[slice, slice], Image] | None:
        """Rows and columns of the window's bounding box in the frame, and the mask (h,w) uint8 there."""
        return (self._place, self._cover) if self._visible else None

    def paste(self, generated: Image, frame: Image) -> Image:
        """A copy of `frame` (H,W,3) with `generated` (S,S,3) in its window, both RGB uint8.

        Bilinear; mask · generated + (1 − mask) · frame, truncated.

        S need not be the window's size: the picture's pixel p then covers the window's px from p·k to (p+1)·k
        with k = size/S, so its centre lies at (p + ½)·k − ½.
        """
        result = frame.copy()
        self.paste_onto(result, generated)
        return result

    def paste_onto(self, frame: Image, generated: Image) -> None:
        """Like `paste`, but in place. The frame may be (H,W,4) RGBA: the face is then laid over it as a layer."""
        if frame.shape[:2] != self._shape:
            raise ValueError(f"This paster was made for frames of {self._shape}, not {frame.shape[:2]}.")
        if not self._visible:
            return
        to_box = self._scaled_to_box(generated.shape[0])
        self._lay(frame, np.asarray(cv2.warpAffine(generated, to_box, self._extent), np.uint8))

    def compose_onto(self, result: Image, frame: Image, layers: FaceLayers) -> None:
        """Lay a face, composed of the frame's own pixels (H,W,3), over the result, (H,W,3) or (H,W,4) RGBA.

        Where the face neither moves nor is painted, the result equals the frame bit for bit.
        """
        if not self._visible:
            return
        placed = frame[self._place].copy()
        to_box = self._to_box @ np.vstack([centred(self._size), (0, 0, 1)])
        rows, columns = self._place
        compose_into(placed, frame, layers, to_box, (columns.start, rows.start))
        self._lay(result, placed)

    def _lay(self, frame: Image, placed: Image) -> None:
        """Lay a crop `placed` (h,w,3) over its part of the frame, through the mask."""
        box = frame[self._place]
        if frame.shape[2] == 4:
            self._lay_over(box, placed)
            return
        cv2.copyTo(placed, self._full, box)
        blended = self._weight * placed[self._edge] + (1 - self._weight) * box[self._edge]
        box[self._edge] = (blended + SAME).clip(0, 255).astype(np.uint8)

    def _lay_over(self, box: Image, placed: Image) -> None:
        """The same on RGBA, alpha not premultiplied ("over" of Porter and Duff, 1984)."""
        opaque = np.concatenate([placed, np.full_like(placed[..., :1], 255)], axis=2)
        cv2.copyTo(opaque, self._full, box)
        below = box[self._edge].astype(np.float32)
        share = below[:, 3:] / 255 * (1 - self._weight)
        alpha = self._weight + share
        colour = (self._weight * placed[self._edge] + share * below[:, :3]) / alpha
        box[self._edge] = np.rint(np.concatenate([colour, alpha * 255], axis=1)).astype(np.uint8)

    def _scaled_to_box(self, size: int) -> NDArray[np.float64]:
        """Matrix from px of a picture of the crop with `size` px to px of the box."""
        ratio = self._size / size
        to_box = self._to_box.copy()
        to_box[:, 2] += to_box[:, :2].sum(axis=1) * (ratio - 1) / 2
        to_box[:, :2] *= ratio
        return to_box


def paste_back(generated: Image, window: CropWindow, original: Image) -> Image:
    """`Paster.paste` for a single picture."""
    return Paster(window, original.shape).paste(generated, original)


def outline_mask(outline: Array, size: int, grow: float, raised: float = 0.0) -> Image:
    """Soft-edged mask (size,size) uint8 of what an outline (36,2 or more) px encloses, grown about its centre."""
    points = outline[:, :2].astype(np.float64)
    middle = points.mean(axis=0)
    lift = raised * (points[TOP] - points[CHIN])
    hull = cv2.convexHull((middle + lift + grow * (points - middle)).astype(np.float32))
    mask = np.zeros((size, size), np.uint8)
    corners = np.rint(hull[:, 0].clip(-8 * size, 8 * size) * (1 << _SHIFT)).astype(np.int32)
    cv2.fillConvexPoly(mask, corners, 255, cv2.LINE_AA, _SHIFT)
    width = float(np.ptp(points, axis=0).min())
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), max(FEATHER * width, 0.5)))


def outline_in_crop(outline: Array, window: CropWindow, size: int = MASK_SIDE) -> Array:
    """An outline (36,2 or more) in px of the frame, converted to px (36,2) of the window's crop at `size` px."""
    points = outline[:, :2] @ window.matrix[:, :2].T + window.matrix[:, 2]
    return (points + 0.5) * (size / window.size) - 0.5


def face_mask(outlines: Sequence[Array]) -> Image:
    """Mask (256,256) uint8 of a face in its crop: the union of the outlines (36,2), px of 256.

    It fades out towards the border of the crop, like the published mask.
    """
    inside = np.maximum.reduce([outline_mask(outline, MASK_SIDE, FACE) for outline in outlines])
    return np.minimum(inside, paste_mask(MASK_SIDE))


def without_other_heads(mask: Image, own: Array, others: Sequence[Array]) -> Image:
    """Cut other people's heads out of a mask (256,256) uint8, except where the face's own head overlaps them.

    Outlines (36,2) are in px of 256; only those for which `may_reach_crop` holds matter. A crop shows the neighbours
    too and would paint over them with how they looked before they moved.
    """
    kept = mask.astype(np.float32)
    mine = outline_mask(own, MASK_SIDE, HEAD, RAISED).astype(np.float32) / 255
    for other in others:
        theirs = outline_mask(other, MASK_SIDE, HEAD, RAISED).astype(np.float32) / 255
        kept *= 1 - theirs * (1 - mine)
    return np.rint(kept).astype(np.uint8)


def may_reach_crop(outline: Array) -> bool:
    """Whether a head with this outline (36,2), px of 256, may extend into the crop."""
    low, high = outline[:, :2].min(axis=0), outline[:, :2].max(axis=0)
    room = high - low
    return bool((high + room > 0).all() and (low - room < MASK_SIDE).all())


# Colours at the seam.
SEAM_SIDE = 64  # px at which they are compared: a correction is smooth
SPREAD = 8.0  # px of 64: how far a difference at the seam reaches
COLOUR_ALIKE = 20.0  # grey levels: where crop and source differ by more, something has moved

# Detail.
BROAD = 3.0  # px of the generated picture: coarser structures are taken from it
DETAIL_ALIKE = 9.0  # grey levels by which the two may differ, at both blurs, where they show the same thing
FINE = 1.2  # px: the finer blur, whose structures the model still draws
STRAIN = 0.35  # change of the flow per px above which it is not trusted: a fold or a tear
LARGEST = 1024  # px: crops are not processed at a higher resolution


def seam_correction(generated: Image, source: Image, mask: Image) -> Array:
    """What to add to a generated crop (S,S,3) so that its colours match the source's along a mask's soft edge; float32.

    The source may have any size; the mask is (M,M) uint8. The difference of the two, weighted by how much a place
    belongs to the edge and how alike both are there, is spread over the crop by normalised convolution (Knutsson and
    Westin, 1993).
    """
    size = generated.shape[0]
    ours, theirs = (to_input(image, SEAM_SIDE).astype(np.float32) for image in (generated, source))
    cover = cv2.GaussianBlur(to_input(mask, SEAM_SIDE).astype(np.float32) / 255, (0, 0), 2.0)
    difference = theirs - ours
    unlike = np.abs(difference).max(axis=2)
    weight = (4 * cover * (1 - cover) * np.exp(-((unlike / COLOUR_ALIKE) ** 2)))[..., None]
    spread = cv2.GaussianBlur(np.concatenate([weight * difference, weight], axis=2), (0, 0), SPREAD)
    correction = spread[..., :3] / (spread[..., 3:] + 1e-3)
    return np.asarray(cv2.resize(correction, (size, size), interpolation=cv2.INTER_LINEAR))


def with_detail(generated: Image, source: Image, crop: Image) -> Image:
    """Give the generated picture (S,S,3) the detail of `crop` (C,C,3), the source's crop from its frame; (C,C,3).

    `source` (any size) is that crop as the networks saw it. Dense optical flow (Kroeger et al., "Fast Optical Flow
    using Dense Inverse Search", 2016) aligns it with the generated picture.
    """
    size, full = generated.shape[0], crop.shape[0]
    flow = _flow(generated, to_input(source, size))
    carried = _warped(crop, flow, full)
    small = to_input(carried, size).astype(np.float32)
    ours = generated.astype(np.float32)
    broad, broad_carried = (cv2.GaussianBlur(image, (0, 0), BROAD) for image in (ours, small))
    fine, fine_carried = (cv2.GaussianBlur(image, (0, 0), FINE) for image in (ours, small))
    unlike = np.maximum(np.abs(broad - broad_carried), np.abs(fine - fine_carried)).max(axis=2) / DETAIL_ALIKE
    doubt = unlike**2 + (_strain(flow) / STRAIN) ** 2
    share = cv2.GaussianBlur(np.exp(-doubt), (0, 0), BROAD / 2)[..., None]
    # share · (carried + broad − broad_carried) + (1 − share) · generated, the part without detail enlarged.
    base = share * (broad - broad_carried) + (1 - share) * ours
    both = np.concatenate([base, share], axis=2)
    both = cv2.resize(both, (full, full), interpolation=cv2.INTER_LINEAR) if full != size else both
    return np.rint(both[..., :3] + both[..., 3:] * carried).clip(0, 255).astype(np.uint8)


def _flow(generated: Image, source: Image) -> np.ndarray:
    """(S,S,2) px: generated(p) shows what source(p + flow(p)) shows."""
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (generated, source)]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(search.calc(grey[0], grey[1], np.zeros((*grey[0].shape, 2), np.float32)))


def _strain(flow: np.ndarray) -> np.ndarray:
    """(S,S) how fast the flow changes around each pixel, px per px."""
    changes = [cv2.Sobel(flow, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1))]
    return np.sqrt(sum((change**2).sum(axis=2) for change in changes))


def _warped(crop: Image, flow: np.ndarray, full: int) -> Image:
    """The crop (C,C,3) warped by a flow (S,S,2) in px at the flow's own size S."""
    ratio = full / flow.shape[0]
    enlarged = cv2.resize(flow, (full, full), interpolation=cv2.INTER_LINEAR) * np.float32(ratio)
    x, y = np.meshgrid(*2 * [np.arange(full, dtype=np.float32)])
    moved = cv2.remap(
        crop, x + enlarged[..., 0], y + enlarged[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, np.uint8)
