"""Broken and malicious pictures, generated on the fly."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image
from skimage.data import astronaut

Files = Iterator[tuple[str, bytes]]
FACE = np.ascontiguousarray(astronaut()[:200, 120:320])
HUGE = 100_000
CUTS = (0.05, 0.5, 0.9)


def encoded(kind: str, picture: np.ndarray = FACE, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    size = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join((chunk(b"IHDR", size), *chunks, chunk(b"IEND", b"")))


def pixels(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    line = (width * {0: 1, 2: 3, 6: 4}[colour] * depth + 7) // 8 + 1
    return chunk(b"IDAT", zlib.compress(bytes(line * height), 1))


def jpeg_of(width: int, height: int) -> bytes:
    data = bytearray(encoded("JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def exif(entries: int, offset: int, value: int = 6) -> bytes:
    return (
        b"Exif\0\0MM\0*" + struct.pack(">IH", offset, entries) + struct.pack(">HHIHH", 0x112, 3, 1, value, 0)
    )


def jpeg_with(marker: int, body: bytes) -> bytes:
    data = encoded("JPEG")
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + data[2:]


def tiff(width: int, height: int, strip: int = 8, entries: int = 8) -> bytes:
    tags = ((256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, strip),
            (278, 4, height), (279, 4, 8))  # fmt: skip
    rows = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, entries) + rows + struct.pack("<I", 8)


def moving(kind: str, count: int, side: int = 32) -> bytes:
    frames = [np.full((side, side, 3), 7 * k % 255, np.uint8) for k in range(count)]
    pictures = [Image.fromarray(frame) for frame in frames]
    return encoded(kind, frames[0], save_all=True, append_images=pictures[1:], duration=40)


def whole() -> Files:
    """A valid file of each kind, from which the others are made."""
    for kind in ("PNG", "JPEG", "WebP", "AVIF", "GIF", "BMP", "TIFF"):
        yield kind.lower(), encoded(kind)


def broken() -> Files:
    noise = np.random.default_rng(0).bytes(3000)
    for kind, data in whole():
        for cut in CUTS:
            yield f"cut-{int(cut * 100)}.{kind}", data[: int(len(data) * cut)]
        yield f"garbage-behind-magic.{kind}", data[:12] + noise
        yield (
            f"zeros-in-the-middle.{kind}",
            data[: len(data) // 3] + bytes(400) + data[len(data) // 3 + 400 :],
        )
        yield f"wrong-suffix-{kind}.mp4", data
    for kind in ("WebP", "PNG", "GIF", "AVIF"):
        data = moving(kind, 5)
        yield f"moving-cut.{kind.lower()}", data[: len(data) * 2 // 3]
    yield "empty.png", b""
    yield "one-byte.jpg", b"\xff"
    yield "nothing-but-zeros.png", bytes(5000)
    yield "noise.bmp", noise
    yield "jxl.jxl", b"\xff\x0a" + noise
    yield "heic.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + noise
    yield "postscript.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n(/etc/passwd) run showpage\n"
    yield "postscript.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n(/etc/passwd) run showpage\n"
    yield "drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    yield "drawing.svgz", b"\x1f\x8b\x08\0\0\0\0\0\0\3" + zlib.compress(b"<svg>" + b" " * 10**6, 9)[2:]


def large() -> Files:
    """Headers that declare more than the file holds, and decompression bombs."""
    yield "huge.png", png(HUGE, HUGE, chunk(b"IDAT", zlib.compress(bytes(9999))))
    yield "largest.png", png(2**31 - 1, 2**31 - 1, chunk(b"IDAT", b""))
    yield "no-size.png", png(0, 0, chunk(b"IDAT", b""))
    yield "bomb.png", png(20_000, 20_000, chunk(b"IDAT", _bomb(20_000 * 60_001)))
    yield "long-line.png", png(900_000, 2, pixels(900_000, 2))
    yield "text-bomb.png", png(8, 8, chunk(b"zTXt", b"a\0\0" + _bomb(10**8)), pixels(8, 8))
    yield "profile-bomb.png", png(8, 8, chunk(b"iCCP", b"a\0\0" + _bomb(10**8)), pixels(8, 8))
    yield "huge.jpg", jpeg_of(65535, 65535)
    yield "no-size.jpg", jpeg_of(0, 0)
    yield "flat.jpg", jpeg_of(65535, 1)
    yield "huge.bmp", struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 99, 0, 0, 54, 40, HUGE, HUGE, 1, 24, *[0] * 6)
    yield (
        "negative.bmp",
        struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 99, 0, 0, 54, 40, -9, -(2**31), 1, 24, *[0] * 6),
    )
    yield (
        "huge.gif",
        b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6) + b"," + bytes(20),
    )
    yield "huge.tiff", tiff(HUGE, HUGE)
    yield "endless-directory.tiff", tiff(8, 8)
    yield "far-strip.tiff", tiff(8, 8, strip=2**32 - 1)
    yield "many-tags.tiff", tiff(8, 8, entries=65535)
    webp = b"WEBPVP8X" + struct.pack("<IB3x", 10, 0) + b"\xff\xff\xff" * 2
    yield "huge.webp", b"RIFF" + struct.pack("<I", len(webp)) + webp
    avif = bytearray(encoded("AVIF"))
    place = avif.index(b"ispe") + 8
    avif[place : place + 8] = struct.pack(">II", HUGE, HUGE)
    yield "huge.avif", bytes(avif)


def odd() -> Files:
    """Valid but unusual files."""
    for width, height in ((1, 1), (3, 5), (16383, 2), (2, 16383)):
        yield f"size-{width}x{height}.png", png(width, height, pixels(width, height))
        yield f"size-{width}x{height}.jpg", encoded("JPEG", np.zeros((height, width, 3), np.uint8))
    yield "16-bit-alpha.png", png(64, 64, pixels(64, 64, 16, 6), depth=16, colour=6)
    yield "1-bit.png", png(64, 64, pixels(64, 64, 1, 0), depth=1, colour=0)
    yield "9-bit.png", png(64, 64, pixels(64, 64), depth=9)
    yield "grey.jpg", encoded("JPEG", FACE[..., 0])
    yield "alpha.webp", encoded("WebP", np.dstack([FACE, FACE[..., 0]]))
    for name, values in (("float", np.float32), ("double", np.float64), ("16-bit", np.uint16)):
        done, data = cv2.imencode(".tiff", np.full((32, 32), np.inf).astype(values) if name != "16-bit"
                                  else np.full((32, 32), 65535, values))  # fmt: skip
        assert done
        yield f"{name}.tiff", data.tobytes()
    for name, entries, offset in (("bomb", 65535, 8), ("loop", 1, 0), ("far", 1, 2**32 - 1)):
        yield f"exif-{name}.jpg", jpeg_with(0xE1, exif(entries, offset))
    yield "exif-orientation-99.jpg", jpeg_with(0xE1, exif(1, 8, 99))
    yield "profile-garbage.jpg", jpeg_with(0xE2, b"ICC_PROFILE\0\1\1" + bytes(range(200)))
    yield "profile-garbage.png", encoded("PNG", icc_profile=b"\0\0\0\x80" + bytes(range(124)))
    yield "profile-too-short.webp", encoded("WebP", icc_profile=b"no")
    yield "code-points.png", png(8, 8, chunk(b"cICP", b"\xff\xff\xff\xff"), pixels(8, 8))
    yield "shown-never.png", png(8, 8, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), pixels(8, 8))
    yield "moving.webp", moving("WebP", 5)
    yield "moving.png", moving("PNG", 5)


def _bomb(count: int) -> bytes:
    """Deflated zeros: one self-contained block repeated, without a checksum."""
    squeeze, part = zlib.compressobj(9), bytes(10**6)
    first, second = (squeeze.compress(part) + squeeze.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + second * (count // 10**6) + b"\x03\0"


def pictures() -> Files:
    for group in (broken, large, odd):
        yield from group()
