"""The messages of a live stream: a JSON header followed by a picture.

A binary message is the length of the header (4 bytes, big-endian), the header (JSON, UTF-8), and the bytes of a
picture. docs/guide/live.md lists the headers' fields.
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

# WebSocket close codes (RFC 6455, 7.4.1, and its registry).
UNSUPPORTED_DATA, INVALID_DATA, POLICY_VIOLATION = 1003, 1007, 1008
MESSAGE_TOO_BIG, INTERNAL_ERROR, TRY_AGAIN_LATER = 1009, 1011, 1013

MAX_HEADER_BYTES = 64 * 1024
QUALITY = 85  # of JPEG and WebP


class Refusal(UserError):
    """An error that ends the stream: a sentence, and the close code of the WebSocket."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def pack(header: Mapping[str, object], body: bytes) -> bytes:
    """Encode a message."""
    head = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack(">I", len(head)) + head + body


def unpack(message: bytes) -> tuple[dict[str, object], bytes]:
    """The header and body of a message. Raises `Refusal` if it is malformed."""
    length = int.from_bytes(message[:4], "big")
    if len(message) < 4 or not 0 < length <= min(len(message) - 4, MAX_HEADER_BYTES):
        raise Refusal(
            INVALID_DATA,
            "a message must begin with the length of its header in 4 bytes and the header in JSON",
        )
    header = parse(message[4 : 4 + length])
    if header is None:
        raise Refusal(INVALID_DATA, "the header of a message is not a JSON object")
    return header, message[4 + length :]


def parse(text: str | bytes) -> dict[str, object] | None:
    """The JSON object in a text; None if it is not one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def decode_frame(data: bytes, name: str, max_pixels: int) -> Image:
    """Decode a camera's frame in JPEG or WebP to (H,W,3) uint8 RGB; `name` is for errors.

    Raises `Refusal` for another format, a truncated or damaged frame, and one of more than `max_pixels`, which is
    checked in the header before decoding.
    """
    if data[:3] == b"\xff\xd8\xff":
        is_complete = data.rstrip(b"\0").endswith(b"\xff\xd9")
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        is_complete = len(data) >= int.from_bytes(data[4:8], "little") + 8
    else:
        raise Refusal(UNSUPPORTED_DATA, f"{name} is neither JPEG nor WebP")
    if not is_complete:
        raise Refusal(INVALID_DATA, f"{name} is truncated")
    width, height = picture_size(data) or (0, 0)
    if width * height > max_pixels:
        raise Refusal(
            MESSAGE_TOO_BIG, f"{name} is {width}x{height} px: at most {max_pixels} pixels are accepted"
        )
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if width else None
    except cv2.error:
        picture = None
    if picture is None:
        raise Refusal(INVALID_DATA, f"{name} is damaged")
    return np.asarray(picture, np.uint8)


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Width and height (px) from a picture's header; None if Pillow does not recognise it."""
    try:
        with PIL.Image.open(io.BytesIO(data)) as picture:
            return picture.size
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        return None


def encode_frame(picture: Image, kind: str = "jpeg") -> bytes:
    """Encode a picture (H,W,3) uint8 RGB as JPEG or WebP."""
    suffix, quality = (
        (".webp", cv2.IMWRITE_WEBP_QUALITY) if kind == "webp" else (".jpg", cv2.IMWRITE_JPEG_QUALITY)
    )
    done, data = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), (quality, QUALITY))
    assert done
    return data.tobytes()
