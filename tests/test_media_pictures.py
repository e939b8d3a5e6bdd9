"""Real-world pictures: colour profiles, high bit depths, modern formats, missing ends, animations."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from media_samples import corners, grey_levels, quadrants
from PIL import Image, ImageCms

from liveportrait.errors import UserError
from liveportrait.media import VideoReader, load_image, media_kind, save_image
from liveportrait.media.container import picture_format

STORED = quadrants() // 2 + 70  # muted colours, which 8 bits represent well even in much wider colour spaces
CLOCKWISE = corners(STORED)
D50 = (0.9642, 1.0, 0.8249)

# Display colour spaces: their primaries in XYZ (D50), their gamma, and the matrix from linear sRGB.
P3 = (
    ((0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1572, 0.0666, 0.7841)),
    2.2,
    ((0.8225, 0.1775, 0.0), (0.0332, 0.9668, 0.0), (0.0171, 0.0724, 0.9105)),
)
ADOBE = (
    ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)),
    563 / 256,
    ((0.7152, 0.2848, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0412, 0.9588)),
)
PROPHOTO = (
    ((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249)),
    1.8,
    ((0.5293, 0.3301, 0.1406), (0.0984, 0.8735, 0.0281), (0.0169, 0.1177, 0.8654)),
)
Space = tuple[tuple[tuple[float, ...], ...], float, tuple[tuple[float, ...], ...]]


def linear(image: np.ndarray) -> np.ndarray:
    """Linear light, in [0, 1], of 8-bit sRGB values."""
    value = image / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def encoded(space: Space, levels: int = 255) -> np.ndarray:
    """The sample in another colour space, uint8 or uint16."""
    _, gamma, from_srgb = space
    value = (linear(STORED) @ np.array(from_srgb).T) ** (1 / gamma) * levels
    return value.round().astype(np.uint8 if levels == 255 else np.uint16)


def profile(kind: bytes, gamma: float, colours: tuple[tuple[float, ...], ...] = ()) -> bytes:
    """An ICC profile, version 2, of a display, with `kind` "RGB " or "GRAY"."""

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 2) + b"d\0" + bytes(78), b"wtpt": xyz(D50)}
    if kind == b"GRAY":
        tags[b"kTRC"] = curve
    for letter, colour in zip((b"r", b"g", b"b"), colours, strict=False):
        tags |= {letter + b"XYZ": xyz(colour), letter + b"TRC": curve}
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        table += name + struct.pack(">II", start + len(body), len(value))
        body += value
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"none", 0x02100000, b"mntr", kind, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + b"".join(struct.pack(">i", round(v * 65536)) for v in D50)
    return head.ljust(128, b"\0") + table + body


def icc(space: Space) -> bytes:
    return profile(b"RGB ", space[1], space[0])


@pytest.mark.parametrize("space", [P3, ADOBE, PROPHOTO], ids=["P3", "Adobe RGB", "ProPhoto"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_profile_is_applied(tmp_path: Path, kind: str, space: Space) -> None:
    path = tmp_path / "a"
    Image.fromarray(encoded(space)).save(path, kind, quality=95, icc_profile=icc(space))
    np.testing.assert_allclose(
        corners(load_image(path)), CLOCKWISE, atol=8 if kind in ("AVIF", "WEBP") else 4
    )
    Image.fromarray(encoded(space)).save(path, kind, quality=95)
    assert np.abs(corners(load_image(path)) - CLOCKWISE).max() > 12


def test_deep_picture_with_profile_is_written_as_srgb(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), encoded(PROPHOTO, 65535)[..., ::-1])
    data = path.read_bytes()
    path.write_bytes(data[:33] + chunk(b"iCCP", b"p\0\0" + zlib.compress(icc(PROPHOTO))) + data[33:])
    loaded = load_image(path)
    np.testing.assert_allclose(corners(loaded), CLOCKWISE, atol=4)
    save_image(tmp_path / "b.png", loaded)
    with Image.open(tmp_path / "b.png") as written:
        assert written.info["srgb"] == 0 and "icc_profile" not in written.info
    np.testing.assert_array_equal(load_image(tmp_path / "b.png"), loaded)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def test_profile_of_grey(tmp_path: Path) -> None:
    """50 % light is 188 in sRGB; with gamma 1.8 it is stored as 173."""
    path = tmp_path / "a"
    for kind in ("PNG", "JPEG", "TIFF"):
        grey = Image.fromarray(np.full((32, 32), 173, np.uint8))
        grey.save(path, kind, icc_profile=profile(b"GRAY", 1.8))
        np.testing.assert_allclose(load_image(path), 188, atol=1)


def ink_profile() -> bytes:
    """A CMYK ICC profile whose lightness depends on K alone, from paper to black; other inks change nothing."""
    identity = b"".join(struct.pack(">i", 65536 * (k % 4 == 0)) for k in range(9))
    corners_of_inks = b"".join(bytes((0 if k % 2 else 255, 128, 128)) for k in range(16))  # K runs fastest
    ramp = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + ramp * 4 + corners_of_inks + ramp * 3
    head = struct.pack(">I4sI4s4s4s", 144 + len(table), b"none", 0x02100000, b"prtr", b"CMYK", b"Lab ")
    head += bytes(12) + b"acsp" + bytes(28) + b"".join(struct.pack(">i", round(v * 65536)) for v in D50)
    return head.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_profile(tmp_path: Path, kind: str) -> None:
    """50 % black ink is L* 49.8, which is 118 in sRGB; without the profile it would be 127."""
    path = tmp_path / "a"
    half = Image.new("CMYK", (32, 32), (0, 0, 0, 128))
    half.save(path, kind, quality=95, icc_profile=ink_profile())
    np.testing.assert_allclose(load_image(path), 118, atol=2)
    half.save(path, kind, quality=95)
    np.testing.assert_allclose(load_image(path), 127, atol=2)


def test_profiles_without_effect(tmp_path: Path) -> None:
    """sRGB's own profile, a damaged one, and one for another colour model."""
    path = tmp_path / "a.png"
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for data in (srgb, icc(P3)[:200], b"no profile", profile(b"GRAY", 1.8)):
        Image.fromarray(STORED).save(path, icc_profile=data)
        np.testing.assert_array_equal(load_image(path), STORED)


def test_adobe_rgb_declared_in_exif_only(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0xA001: 0xFFFF, 0xA005: {1: "R03", 2: b"0100"}})
    path = tmp_path / "a.jpg"
    Image.fromarray(encoded(ADOBE)).save(path, quality=95, exif=exif)
    np.testing.assert_allclose(corners(load_image(path)), CLOCKWISE, atol=5)


def test_code_points_of_png_and_avif(tmp_path: Path) -> None:
    """Primaries 12 are P3, transfer function 13 is sRGB and 18 is HLG, whose grey card (0.38) becomes 109."""
    value = linear(STORED) @ np.array(P3[2]).T
    p3 = (255 * np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055)).round()
    path = tmp_path / "a.png"
    for codes, pixels, expected in (
        ((12, 13, 0, 1), p3.astype(np.uint8), CLOCKWISE),
        ((9, 18, 0, 1), np.full((64, 96, 3), 97, np.uint8), 109),
    ):
        Image.fromarray(pixels).save(path)
        data = path.read_bytes()
        path.write_bytes(data[:33] + chunk(b"cICP", bytes(codes)) + data[33:])
        np.testing.assert_allclose(corners(load_image(path)), np.broadcast_to(expected, (4, 3)), atol=3)
    avif = io.BytesIO()
    Image.fromarray(p3.astype(np.uint8)).save(avif, "AVIF", quality=95)
    place = avif.getvalue().index(b"colrnclx") + 8
    path.write_bytes(avif.getvalue()[:place] + b"\0\x0c" + avif.getvalue()[place + 2 :])
    np.testing.assert_allclose(corners(load_image(path)), CLOCKWISE, atol=8)


@pytest.mark.parametrize("depth", [8, 10, 12])
def test_depths_of_avif(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "a.avif"
    pixels = STORED[..., ::-1].astype(np.uint16 if depth > 8 else np.uint8) << (depth - 8)
    if not cv2.imwrite(str(path), pixels, [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 95]):
        pytest.skip("this OpenCV writes no AVIF")
    assert media_kind(path) == "image"
    np.testing.assert_allclose(corners(load_image(path)), CLOCKWISE, atol=6)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_avif_is_turned_upright_and_laid_on_white(tmp_path: Path, orientation: int) -> None:
    picture, exif = Image.fromarray(STORED), Image.Exif()
    picture.putalpha(Image.fromarray(np.full((64, 96), 51, np.uint8)))
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.avif", quality=95, exif=exif)
    loaded = load_image(tmp_path / "a.avif")
    seen = {1: [0, 1, 2, 3], 3: [2, 3, 0, 1], 6: [3, 0, 1, 2]}[orientation]
    np.testing.assert_allclose(corners(loaded), CLOCKWISE[seen] * 0.2 + 255 * 0.8, atol=5)


def test_a_phones_heic_is_read(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = heif.from_bytes("RGB", (96, 64), encoded(P3).tobytes())
    stored.save(tmp_path / "a.heic", quality=95, icc_profile=icc(P3), exif=exif.tobytes())
    loaded = load_image(tmp_path / "a.heic")
    assert loaded.shape == (96, 64, 3)
    np.testing.assert_allclose(corners(loaded), CLOCKWISE[[3, 0, 1, 2]], atol=8)


def test_a_missing_heic_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "a.jpg"
    path.write_bytes(struct.pack(">I", 24) + b"ftypheix" + bytes(12) + b"x" * 64)
    with pytest.raises(UserError, match=r"a\.jpg is a HEIC .*liveportrait\[heif\].*export it as JPEG or PNG"):
        load_image(path)


@pytest.mark.parametrize(
    ("first", "others", "expected"),
    [
        (b"avif", b"mif1miaf", "AVIF"),
        (b"mif1", b"mif1avif", "AVIF"),
        (b"avis", b"msf1iso8", "AVIF"),
        (b"mif1", b"heicmif1", "HEIC"),
        (b"heix", b"mif1heix", "HEIC"),
        (b"msf1", b"hevcmsf1", "HEIC"),
        (b"crx ", b"crx isom", "camera's raw"),
        (b"isom", b"iso2avc1", None),
        (b"qt  ", b"qt  mif1", None),
    ],
)
def test_brands_are_distinguished(tmp_path: Path, first: bytes, others: bytes, expected: str | None) -> None:
    path = tmp_path / "a"
    path.write_bytes(struct.pack(">I", 16 + len(others)) + b"ftyp" + first + bytes(4) + others + b"avif" * 4)
    assert picture_format(path) == expected


def test_unreadable_formats_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\x0a" + bytes(64))
    with pytest.raises(UserError, match="is a JPEG XL picture, which cannot be read here"):
        load_image(path)
    path.write_bytes(struct.pack(">I", 20) + b"ftypavif" + bytes(8) + b"x" * 64)
    with pytest.raises(UserError, match="the AVIF is damaged"):
        load_image(path)


def noisy_jpeg(**options: bool) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (240, 160, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 2)).save(data, "JPEG", quality=90, **options)
    return data.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("end", [b"", b"\xff", bytes(500)])
def test_jpeg_without_its_end_marker(tmp_path: Path, progressive: bool, end: bytes) -> None:
    path = tmp_path / "a.jpg"
    whole = noisy_jpeg(progressive=progressive)
    path.write_bytes(whole)
    expected = load_image(path)
    path.write_bytes(whole[:-2] + end)
    np.testing.assert_array_equal(load_image(path), expected)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("end", [b"", bytes(500)])
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_jpeg_with_more_missing_is_refused(
    tmp_path: Path, progressive: bool, end: bytes, part: float
) -> None:
    path = tmp_path / "a.jpg"
    whole = noisy_jpeg(progressive=progressive)
    path.write_bytes(whole[: int(len(whole) * part)] + end)
    if progressive or not end:
        with pytest.raises(UserError, match="damaged or cut off"):
            load_image(path)


def test_png_without_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(STORED).save(path)
    whole = path.read_bytes()
    for lost in (12, 8, 1):
        path.write_bytes(whole[:-lost])
        np.testing.assert_array_equal(load_image(path), STORED)


def frames(count: int = 6) -> list[Image.Image]:
    return [Image.fromarray(quadrants(step=20 * k)) for k in range(count)]


def save_animation(path: Path, kind: str, milliseconds: int | list[int], **options: object) -> Path:
    first, *others = frames()
    lossless = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "AVIF" else {}
    first.save(path, kind, save_all=True, append_images=others, duration=milliseconds, **lossless, **options)
    return path


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "AVIF", "GIF"])
def test_animated_picture_is_a_video(tmp_path: Path, kind: str) -> None:
    path = save_animation(tmp_path / "a.jpg", kind, 80)
    assert media_kind(path) == "video"
    with VideoReader(path) as reader:
        assert (reader.info.fps, reader.info.frame_count) == (12.5, 6)
        assert (reader.info.width, reader.info.height, reader.audio) == (96, 64, None)
        for _ in range(2):
            np.testing.assert_allclose(grey_levels(reader), [60 + 20 * k for k in range(6)], atol=6)
    np.testing.assert_allclose(corners(load_image(path)), corners(quadrants()), atol=10)


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "AVIF", "GIF"])
def test_frames_of_an_animation_keep_their_durations(tmp_path: Path, kind: str) -> None:
    path = save_animation(tmp_path / "a", kind, [100, 100, 300, 100, 100, 400])
    reader = VideoReader(path)
    assert (reader.info.fps, reader.info.frame_count) == (10, 11)
    shown = [0, 1, 2, 2, 2, 3, 4, 5, 5, 5, 5]
    np.testing.assert_allclose(grey_levels(reader), [60 + 20 * k for k in shown], atol=6)


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "GIF"])
def test_duration_of_the_last_frame_is_bounded(tmp_path: Path, kind: str) -> None:
    path = save_animation(tmp_path / "a", kind, [100, 100, 100, 100, 100, 60_000])
    assert VideoReader(path).info.frame_count == 5 + 100  # of 0.1 s: 10 s


def test_transparent_animation_on_white_with_its_profile(tmp_path: Path) -> None:
    """Transparent pixels are white; frames with a duration of zero last 0.1 s, as in browsers."""
    pictures = []
    for step in range(3):
        picture = Image.fromarray(encoded(P3))
        alpha = np.full((64, 96), 255, np.uint8)
        alpha[:32, :48] = 0
        alpha[0, 0] = step
        picture.putalpha(Image.fromarray(alpha))
        pictures.append(picture)
    path = tmp_path / "a"
    for kind, lossless in (("WEBP", {"lossless": True}), ("PNG", {})):
        pictures[0].save(
            path, kind, save_all=True, append_images=pictures[1:], duration=0, icc_profile=icc(P3), **lossless
        )
        with VideoReader(path) as reader:
            assert (reader.info.fps, len(reader)) == (10, 3)
            for frame in reader:
                np.testing.assert_allclose(corners(frame), [[255] * 3, *CLOCKWISE[1:]], atol=4)


def test_default_image_of_an_animated_png_is_not_shown(tmp_path: Path) -> None:
    front, path = Image.fromarray(255 - STORED), tmp_path / "a.png"
    front.save(path, save_all=True, append_images=frames(3), duration=40, default_image=True)
    np.testing.assert_allclose(grey_levels(VideoReader(path)), [60, 80, 100], atol=1)
    front.save(path, save_all=True, append_images=frames(1), duration=40, default_image=True)
    assert media_kind(path) == "image"


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "AVIF"])
def test_animation_that_is_cut_off_is_refused(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), dtype=np.uint8)
    first, *others = map(Image.fromarray, noise)
    path = tmp_path / "a"
    first.save(path, kind, save_all=True, append_images=others, duration=80)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(UserError, match=r"damaged or cut off|is a picture"):
        list(VideoReader(path))


@pytest.mark.parametrize(("width", "height"), [(40000, 30000), (1100000, 4)])
def test_too_many_pixels_are_not_reported_as_damage(tmp_path, capfd, width, height):
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", size), chunk(b"IDAT", zlib.compress(b"\0" * 9999)), chunk(b"IEND", b""))
    path = tmp_path / "large.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(UserError, match=f"too many pixels, {width}x{height}: scale it down"):
        load_image(path)
    assert capfd.readouterr().err == ""
