"""Reading and writing pictures: single ones, numbered sequences and contact sheets.

OpenCV decodes the format that the first bytes announce, whatever the suffix; AVIF and HEIC are left to Pillow. Colours
are converted to sRGB by their profile. An animation gives its first frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType, TracebackType

import cv2
import numpy as np

from liveportrait.errors import UserError
from liveportrait.limits import check_pixels, header_size, picture_bytes
from liveportrait.media.colour import flatten
from liveportrait.media.container import PICTURES, UNREADABLE, media_kind, picture_format
from liveportrait.media.files import OutputGroup, check_input, check_output, output_folder
from liveportrait.types import Image

IMAGE_OUTPUTS = (".jpg", ".jpeg", ".png", ".webp")

_QUALITY = {
    ".jpg": (
        cv2.IMWRITE_JPEG_QUALITY, 95,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ),
    ".png": (),
    ".webp": (cv2.IMWRITE_WEBP_QUALITY, 95),
}  # fmt: skip
# Bytes found in files that may declare colours other than sRGB: a profile, code points, "Adobe RGB".
_COLOUR_MARKS = {
    "JPEG": (b"ICC_PROFILE\0", b"R03\0"),
    "PNG": (b"iCCP", b"cICP"),
    "WebP": (b"ICCP",),
    "TIFF": (b"acsp",),
}
# The chunk that declares sRGB (PNG 1.2, 4.2.2.3), to be inserted after the header. Other formats imply sRGB.
_PNG_HEADER = 33  # bytes, signature included
_PNG_SRGB = b"\0\0\0\1sRGB\0\xae\xce\x1c\xe9"
_ORIENTATION_TAG = 0x0112
# Contact sheets:
_GAP = 4  # px between cells
_CAPTION = 22  # px above a row, for its label


def load_image(path: Path | str) -> Image:
    """The picture as (H,W,3) uint8 sRGB: upright by its EXIF orientation, transparency laid on white.

    Grey, palette, CMYK and 16-bit pictures are converted; pictures of any size are returned, even 1x1. A picture that
    lacks only its end marker counts as complete. Raises UserError if the file is missing, not a picture or truncated,
    or if its pixels have another depth or are too many.
    """
    path = check_input(path)
    picture = picture_format(path)
    if picture is None:
        media_kind(path)  # if it is not a video either, this error says more
        raise UserError(f"{path} is a video, not a picture: name a picture ({PICTURES})")
    if picture in UNREADABLE:
        raise UserError(f"{path} is a {picture} picture, which cannot be read here: export it as JPEG or PNG")
    if picture in ("AVIF", "HEIC"):
        return _pillow().load_modern(path, picture)
    data = picture_bytes(path)
    # Checked before decoding: a file of a few kilobytes may expand to gigabytes of one colour.
    if size := header_size(data, picture):
        check_pixels(path, *size)
    else:
        _pillow().check_size(path, data, picture)
    is_noisy = picture == "PNG" and b"IEND" not in data  # libpng prints a warning about a missing end
    image = None if is_noisy else _decoded(data, picture)
    if image is None and (completed := _pillow().with_end_marker(data, picture)):
        image = _decoded(completed, picture)
    if image is None:
        raise UserError(f"{path} cannot be decoded: the {picture} is damaged or cut off; copy it again")
    if image.dtype != np.uint8:
        raise UserError(f"{path} has {image.dtype} pixels: save it with 8 or 16 bits per channel")
    if any(mark in data for mark in _COLOUR_MARKS.get(picture, ())):
        return _pillow().in_srgb(image, data, picture)
    return image


def picture_size(path: Path | str) -> tuple[int, int]:
    """Width and height in px from a picture's header, before it is turned upright; no pixels are decoded.

    Raises UserError if the file is missing, not a picture, or has implausibly many pixels.
    """
    path = check_input(path)
    picture = picture_format(path)
    if picture is None or picture in UNREADABLE:
        load_image(path)  # raises an error that says more
    return _pillow().size_of(path, str(picture))


def _pillow() -> ModuleType:
    """The module for what OpenCV cannot do, imported only when needed: Pillow is slow to import."""
    from liveportrait.media import pictures

    return pictures


def save_image(
    path: Path | str, image: Image, overwrite: bool = False, group: OutputGroup | None = None
) -> None:
    """Writes (H,W,3) uint8 RGB as JPEG (quality 95, full chroma), PNG or WebP (quality 95), by the suffix.

    PNG and WebP also take (H,W,4) RGBA, alpha not premultiplied. With a `group`, the file gets its final name only
    when the group is closed. Raises UserError if the suffix is another one or does not support transparency, the
    folder is missing, or the file exists and `overwrite` is not set.
    """
    path = check_output(path, IMAGE_OUTPUTS, overwrite)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4):
        raise ValueError(f"expected (H,W,3 or 4) uint8 RGB(A), got {image.shape} {image.dtype}")
    suffix = path.suffix.lower().replace(".jpeg", ".jpg")
    if image.shape[2] == 4 and suffix == ".jpg":
        raise UserError(f"{path}: a JPEG holds no transparency: use .png or .webp")
    order = cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    try:
        done, data = cv2.imencode(suffix, cv2.cvtColor(image, order), _QUALITY[suffix])
    except cv2.error:
        done = False
    if not done:
        height, width = image.shape[:2]
        raise UserError(f"{path}: a picture of {width}x{height} cannot be written as {suffix}: use .png")
    encoded = data.tobytes()
    if suffix == ".png":
        encoded = encoded[:_PNG_HEADER] + _PNG_SRGB + encoded[_PNG_HEADER:]
    with ExitStack() as stack:
        temporary = (group or stack.enter_context(OutputGroup())).add(path, overwrite)
        temporary.write_bytes(encoded)


def _decoded(data: bytes, picture: str) -> np.ndarray | None:
    """As `_decode`, but without OpenCV's messages; None for any error."""
    try:
        with _quiet_opencv():
            return _decode(np.frombuffer(data, np.uint8), picture)
    except cv2.error:
        return None


def _decode(data: np.ndarray, picture: str) -> np.ndarray | None:
    """RGB pixels of an encoded picture, uint8 unless its depth is neither 8 nor 16 bits; None if it is damaged."""
    if picture != "JPEG":
        # With IMREAD_COLOR OpenCV applies the orientation but drops the transparency, with IMREAD_UNCHANGED the other
        # way round.
        unchanged, kinds, blobs = cv2.imdecodeWithMetadata(data, flags=cv2.IMREAD_UNCHANGED)
        if unchanged is None:
            return None
        if unchanged.ndim == 3 and unchanged.shape[2] == 4:
            exif = dict(zip(np.ravel(kinds).tolist(), blobs, strict=False)).get(cv2.IMAGE_METADATA_EXIF)
            orientation = 1 if exif is None else exif_orientation(np.asarray(exif).tobytes())
            rgba = cv2.cvtColor(_to_8_bits(unchanged), cv2.COLOR_BGRA2RGBA)
            return upright(
                flatten(np.asarray(rgba, np.uint8)) if rgba.dtype == np.uint8 else rgba, orientation
            )
    # Not IMREAD_COLOR_RGB: for 16-bit TIFF it returns BGR anyway.
    image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    return None if image is None else _to_8_bits(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Silences OpenCV's warnings: our own error message says it in one sentence."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _to_8_bits(image: np.ndarray) -> np.ndarray:
    """16-bit values rounded to 8 bits; other depths unchanged."""
    if image.dtype != np.uint16:
        return image
    return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def exif_orientation(exif: bytes) -> int:
    """The orientation, 1 to 8, in a block of EXIF data; 1 if there is none (EXIF 2.3, 4.6.4)."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, start)
        for index in range(entries):
            tag, _, _, value = struct.unpack_from(order + "HHIH", exif, start + 2 + 12 * index)
            if tag == _ORIENTATION_TAG:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """The image (H,W,C) turned upright, given its EXIF orientation."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    # After any transpose: which orientations are mirrored left to right, then which top to bottom.
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


class PictureSequence:
    """Writes (H,W,3) uint8 RGB or (H,W,4) RGBA frames as frame-000000.png, frame-000001.png, ... into a new folder.

    A context manager: the folder appears under its name on a clean exit, and not at all after an exception.
    """

    def __init__(self, path: Path | str, group: OutputGroup | None = None) -> None:
        """Entering raises UserError if the path exists already.

        With a `group`, the folder gets its final name only when the group is closed.
        """
        self.path = Path(path)
        self._group = group
        self.frame_count = 0  # frames written so far

    def __enter__(self) -> PictureSequence:
        with ExitStack() as stack:
            self._folder = (self._group or stack).enter_context(output_folder(self.path))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, frame: Image) -> None:
        """Appends one frame. Raises UserError if it cannot be written, as on a full disk."""
        try:
            save_image(self._folder / f"frame-{self.frame_count:06d}.png", frame)
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}") from error
        self.frame_count += 1


def contact_sheet(rows: Sequence[Sequence[Image]], labels: Sequence[str] = (), cell: int = 256) -> Image:
    """One (H,W,3) uint8 RGB picture with the frames (h,w,3) uint8 RGB of each row side by side, on white.

    Each frame is scaled to fit a square of `cell` px, keeping its aspect ratio; rows may differ in length.
    `labels`, one per row, appear above their rows (characters beyond ASCII become question marks).
    """
    if not rows or not any(len(row) for row in rows):
        raise ValueError("a contact sheet needs at least one frame")
    if labels and len(labels) != len(rows):
        raise ValueError(f"{len(labels)} labels for {len(rows)} rows")
    head = _CAPTION if labels else 0
    pitch = cell + _GAP
    columns = max(len(row) for row in rows)
    sheet = np.full((len(rows) * (pitch + head) + _GAP, columns * pitch + _GAP, 3), 255, np.uint8)
    for index, row in enumerate(rows):
        top = _GAP + index * (pitch + head)
        if labels:
            cv2.putText(
                sheet, labels[index], (_GAP, top + _CAPTION - 7),
                cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA,
            )  # fmt: skip
        for column, frame in enumerate(row):
            small = _fit(frame, cell)
            y = top + head + (cell - small.shape[0]) // 2
            x = _GAP + column * pitch + (cell - small.shape[1]) // 2
            sheet[y : y + small.shape[0], x : x + small.shape[1]] = small
    return sheet


def _fit(frame: Image, cell: int) -> Image:
    """The frame scaled so that its longer side is `cell` px."""
    height, width = frame.shape[:2]
    ratio = cell / max(height, width)
    size = (max(round(width * ratio), 1), max(round(height * ratio), 1))
    interpolation = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame, size, interpolation=interpolation), np.uint8)
