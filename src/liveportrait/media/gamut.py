"""Converting colours to sRGB and BT.709: from HLG, PQ and wide primaries, and from ICC profiles.

Video is converted by a three-dimensional lookup table in FFmpeg's `lut3d`. HDR white, 203 cd/m2 (ITU-R BT.2408),
becomes white; anything brighter or more saturated than BT.709 can represent is clipped.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from liveportrait.folders import temporary_folder
from liveportrait.types import Image

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Array = NDArray[np.float64]

# Code points of ITU-T H.273. Transfer functions:
GAMMA_22, SRGB, PQ, HLG = 4, 13, 16, 18
# Primaries: x and y of red, green and blue, all with D65 white. The different white of DCI (11) is treated as white.
BT709, BT2020, P3_DCI, P3_D65 = 1, 9, 11, 12
ADOBE_RGB = -1  # has no code point
_PRIMARIES: Mapping[int, tuple[float, ...]] = {
    BT709: (0.640, 0.330, 0.300, 0.600, 0.150, 0.060),
    BT2020: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    P3_DCI: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    P3_D65: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    ADOBE_RGB: (0.640, 0.330, 0.210, 0.710, 0.150, 0.060),
}
_D65 = (0.3127, 0.3290)
_WHITE = 203.0  # cd/m2, BT.2408
_HLG_PEAK = 1000.0  # cd/m2, for which HLG's system gamma is 1.2 (BT.2100)
_GAMMA = 2.4  # of a BT.709 display (BT.1886)
_STEPS = 33  # of the table, along each axis
_STRIP = 64  # rows of a picture that are converted at once

_MAX_SRGB_ERROR = 2  # of 255: a profile that changes colours by no more counts as sRGB (profiles are rounded)


class Gamut:
    """Converts video frames from a transfer function and primaries to BT.709; rebuilt whenever their size changes."""

    def __init__(self, transfer: int, primaries: int) -> None:
        """Both as returned by `conversion_key`."""
        self._key = transfer, primaries
        self._opened: tuple[int, int, str] | None = None
        self._graph = Graph()

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """Convert a frame of a planar RGB format with 16 bits per channel, full range."""
        kind = frame.width, frame.height, frame.format.name
        if kind != self._opened:
            self._graph, self._opened = _graph(kind, _table(*self._key)), kind
        self._graph.push(frame)
        converted = self._graph.pull()
        assert isinstance(converted, VideoFrame)
        return converted


def conversion_key(transfer: int, primaries: int) -> tuple[int, int] | None:
    """The transfer function and primaries to convert from, given a signal's code points; None if none is needed.

    HLG and PQ without primaries are taken as BT.2020.
    """
    if transfer in (HLG, PQ):
        return transfer, primaries if primaries in _PRIMARIES else BT2020
    if primaries in _PRIMARIES and primaries != BT709:
        return (transfer if transfer in (GAMMA_22, SRGB) else BT709), primaries
    return None


def _graph(kind: tuple[int, int, str], table: str) -> Graph:
    graph = Graph()
    graph.threads = 1
    width, height, pixels = kind
    with temporary_folder() as folder:
        path = folder / "table.cube"
        path.write_text(table)
        source = graph.add_buffer(
            width=width, height=height, format=VideoFormat(pixels), time_base=Fraction(1, 1000)
        )
        lookup, sink = graph.add("lut3d", file=str(path)), graph.add("buffersink")
        source.link_to(lookup)
        lookup.link_to(sink)
        graph.configure()
    return graph


@lru_cache(maxsize=8)
def _table(transfer: int, primaries: int) -> str:
    """The table as the text of a .cube file. Values beyond [0, 1] are kept so that slopes are right at the edge."""
    axis = np.linspace(0.0, 1.0, _STEPS)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    signal = np.stack([red, green, blue], axis=-1).reshape(-1, 3)
    rows = _converted(signal, transfer, primaries).tolist()
    return "\n".join((f"LUT_3D_SIZE {_STEPS}", *("{:.5f} {:.5f} {:.5f}".format(*row) for row in rows)))


def _converted(signal: Array, transfer: int, primaries: int) -> Array:
    """Convert a signal (N,3) in [0, 1] to BT.709: below 0 or above 1 where its colour is out of gamut."""
    to_bt709 = np.linalg.inv(_to_xyz(BT709)) @ _to_xyz(primaries)
    light = _light(signal, transfer, _to_xyz(primaries)[1]) @ to_bt709.T
    return np.asarray(np.sign(light) * _encoded(np.abs(light), transfer))


def _to_xyz(primaries: int) -> Array:
    """The matrix (3,3) from linear RGB to XYZ, with Y = 1 for white."""
    x, y = np.array(_PRIMARIES[primaries]).reshape(3, 2).T
    columns = np.stack([x / y, np.ones(3), (1 - x - y) / y])
    white = np.array([_D65[0] / _D65[1], 1.0, (1 - sum(_D65)) / _D65[1]])
    return np.asarray(columns * np.linalg.solve(columns, white))


def _light(signal: Array, transfer: int, luminance: Array) -> Array:
    """Display light, 1 for white, of a signal (N,3) in [0, 1]; `luminance` (3,) are the weights of R, G and B."""
    if transfer == HLG:  # BT.2100, table 5
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        return np.asarray(_HLG_PEAK / _WHITE * scene * (scene @ luminance)[:, None] ** 0.2)
    if transfer == PQ:  # BT.2100, table 4
        root = signal ** (4096 / (2523 * 128))
        light = (root - 3424 / 4096).clip(0) / (2413 / 128 - 2392 / 128 * root)
        return np.asarray(10000 / _WHITE * light ** (16384 / 2610))
    if transfer == SRGB:  # IEC 61966-2-1
        return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    return np.asarray(signal ** (563 / 256 if transfer == GAMMA_22 else _GAMMA))


def _encoded(light: Array, transfer: int) -> Array:
    """The signal for display light: sRGB for pictures, otherwise BT.709."""
    if transfer in (SRGB, GAMMA_22):
        return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(light ** (1 / _GAMMA))


def signal_to_srgb(image: Image, transfer: int, primaries: int) -> Image:
    """Convert a picture (H,W,3) uint8, described by its code points, to sRGB."""
    key = conversion_key(transfer, primaries)
    if key is None:
        return image
    converted = np.empty_like(image)
    for row in range(0, len(image), _STRIP):  # in strips: floats take eight times the memory
        strip = image[row : row + _STRIP]
        values = _converted(strip.reshape(-1, 3) / 255, *key)
        converted[row : row + _STRIP] = (values.clip(0, 1) * 255 + 0.5).reshape(strip.shape)
    return converted


def profile_to_srgb(picture: Picture, profile: bytes) -> Picture:
    """Convert a picture of mode RGB, L or CMYK to sRGB by its ICC profile.

    If the profile is sRGB, is damaged or belongs to another colour model, the picture's own RGB is returned.
    """
    from PIL import ImageCms

    kind = {"RGB": b"RGB ", "L": b"GRAY", "CMYK": b"CMYK"}.get(picture.mode)
    if profile[16:20] != kind:
        return picture.convert("RGB")
    try:
        convert = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"),
            picture.mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )  # fmt: skip
        if picture.mode == "RGB" and _changes_little(convert):
            return picture
        converted = convert.apply(picture)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture.convert("RGB")
    return converted


def _changes_little(convert: object) -> bool:
    """Whether an RGB transform leaves 9x9x9 sampled colours almost unchanged."""
    from PIL import Image as Pillow

    axis = np.linspace(0, 255, 9).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(27, 27, 3)
    changed = np.asarray(convert.apply(Pillow.fromarray(colours)))  # type: ignore[attr-defined]
    return bool(np.abs(changed.astype(int) - colours).max() <= _MAX_SRGB_ERROR)
