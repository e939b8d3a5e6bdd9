"""Messages of the stream of live frames: a header in JSON and a picture, in one piece.

A binary message is the length of the header (4 bytes, big end first), the header (JSON, UTF-8), and the bytes of a
picture. docs/guide/live.md lists what headers hold.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping

import cv2
import numpy as np
import PIL.Image

from liveportrait.errors import UserError
from liveportrait.types import Image

# Reasons to close a WebSocket (RFC 6455, 7.4.1, and its registry).
NOT_TAKEN, DAMAGED, NOT_ALLOWED, TOO_BIG, FAILED, TRY_LATER = 1003, 1007, 1008, 1009, 1011, 1013

LONGEST_HEADER = 64 * 1024  # bytes
QUALITY = 85  # of JPEG and WebP


class Refusal(UserError):
    """Something that ends the stream: a sentence and the code with which the WebSocket is closed."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def pack(header: Mapping[str, object], body: bytes) -> bytes:
    """A message."""
    head = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack(">I", len(head)) + head + body


def unpack(message: bytes) -> tuple[dict[str, object], bytes]:
    """Header and body of a message. Raises `Refusal` where it is none."""
    length = int.from_bytes(message[:4], "big")
    if len(message) < 4 or not 0 < length <= min(len(message) - 4, LONGEST_HEADER):
        raise Refusal(
            DAMAGED, "a message begins with the length of its header in 4 bytes and the header in JSON"
        )
    header = parse(message[4 : 4 + length])
    if header is None:
        raise Refusal(DAMAGED, "the header of a message is not a JSON object")
    return header, message[4 + length :]


def parse(text: str | bytes) -> dict[str, object] | None:
    """The JSON object in a text, None where there is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def decode_frame(data: bytes, name: str, most_pixels: int) -> Image:
    """The picture (H,W,3) uint8 RGB of a camera's frame in JPEG or WebP; `name` for errors.

    Raises `Refusal` for another kind of file, one that is cut off or damaged, and one of more pixels: these are read
    from its first bytes, before it is decoded.
    """
    if data[:3] == b"\xff\xd8\xff":
        whole = data.rstrip(b"\0").endswith(b"\xff\xd9")
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        whole = len(data) >= int.from_bytes(data[4:8], "little") + 8
    else:
        raise Refusal(NOT_TAKEN, f"{name} is neither JPEG nor WebP")
    if not whole:
        raise Refusal(DAMAGED, f"{name} is cut off")
    width, height = picture_size(data) or (0, 0)
    if width * height > most_pixels:
        raise Refusal(TOO_BIG, f"{name} is {width}x{height} px: at most {most_pixels} pixels are taken")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if width else None
    except cv2.error:
        picture = None
    if picture is None:
        raise Refusal(DAMAGED, f"{name} is damaged")
    return np.asarray(picture, np.uint8)


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a picture, px, read from its head; None where it is no picture that Pillow knows."""
    try:
        with PIL.Image.open(io.BytesIO(data)) as picture:
            return picture.size
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        return None


def encode_frame(picture: Image, kind: str = "jpeg") -> bytes:
    """A picture (H,W,3) uint8 RGB as JPEG, or WebP."""
    suffix, quality = (
        (".webp", cv2.IMWRITE_WEBP_QUALITY) if kind == "webp" else (".jpg", cv2.IMWRITE_JPEG_QUALITY)
    )
    done, data = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), (quality, QUALITY))
    assert done
    return data.tobytes()
