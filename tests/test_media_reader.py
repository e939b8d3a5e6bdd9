"""Reading videos: orientation, rate, colour, depth, and broken files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from media_samples import corners, grey_levels, make_video, quadrants, tone

from liveportrait.errors import UserError
from liveportrait.media import VideoReader, media_kind

RED, GREEN, BLUE = (200, 30, 20), (20, 180, 40), (30, 50, 220)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mov", "libx264"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx-vp9"),
        ("a.avi", "libx264"),
        ("b.avi", "mpeg4"),
    ],
)
def test_constant_rate_gives_each_frame_once_in_order_twice(tmp_path: Path, name: str, codec: str) -> None:
    path = make_video(tmp_path / name, 24, rate=Fraction(30000, 1001), codec=codec, options={"b": "4M"})
    with VideoReader(path) as reader:
        assert reader.info.fps == Fraction(30000, 1001)
        assert (reader.info.width, reader.info.height) == (96, 64)
        assert reader.info.frame_count == len(reader) == 24
        assert not reader.info.has_audio and not reader.info.variable_rate
        first, second = grey_levels(reader), grey_levels(reader)
    assert first == second
    np.testing.assert_allclose(first, [60 + 4 * k for k in range(24)], atol=3)
    assert media_kind(path) == "video"


def test_frames_belong_to_the_caller(tmp_path: Path) -> None:
    times = [Fraction(k, 30) for k in (0, 1, 2, 3, 9)]
    reader = VideoReader(make_video(tmp_path / "a.mp4", 5, times=times))
    frames = []
    for frame in reader:
        assert frame.flags.writeable and frame.flags.c_contiguous and frame.dtype == np.uint8
        frames.append(frame)
    before = frames[5].copy()
    frames[4][:] = 0
    assert (frames[5] == before).all()


def test_leaving_the_block_ends_running_iterations(tmp_path: Path) -> None:
    with VideoReader(make_video(tmp_path / "a.mp4", 10)) as reader:
        frames = iter(reader)
        next(frames)
    assert next(frames, None) is None


@pytest.mark.parametrize(
    ("rotation", "mirrored", "expected"),
    [
        (0, False, [RED, GREEN, BLUE]),
        (90, False, [GREEN, BLUE, None, RED]),  # counterclockwise
        (180, False, [BLUE, None, RED, GREEN]),
        (-90, False, [None, RED, GREEN, BLUE]),
        (0, True, [GREEN, RED, None, BLUE]),
        (90, True, [BLUE, GREEN, RED, None]),
    ],
)
def test_orientation_is_applied(
    tmp_path: Path, rotation: int, mirrored: bool, expected: list[tuple[int, int, int] | None]
) -> None:
    path = make_video(tmp_path / "a.mp4", 3, rotation=rotation, mirrored=mirrored)
    reader = VideoReader(path)
    frame = next(iter(reader))
    sideways = abs(rotation) == 90
    assert frame.shape == ((96, 64, 3) if sideways else (64, 96, 3))
    assert (reader.info.height, reader.info.width) == frame.shape[:2]
    for seen, wanted in zip(corners(frame), expected, strict=False):
        if wanted is not None:
            np.testing.assert_allclose(seen, wanted, atol=6)


def test_pixels_that_are_not_square_are_stretched(tmp_path: Path) -> None:
    wide = VideoReader(make_video(tmp_path / "wide.mp4", 2, aspect=Fraction(3, 2)))
    high = VideoReader(make_video(tmp_path / "high.mp4", 2, aspect=Fraction(1, 2)))
    assert next(iter(wide)).shape == (64, 144, 3)
    assert next(iter(high)).shape == (128, 96, 3)


def test_odd_size(tmp_path: Path) -> None:
    image = quadrants(45, 67)
    path = make_video(tmp_path / "a.mkv", [image] * 3, pixels="yuv444p")
    frame = next(iter(VideoReader(path)))
    assert frame.shape == image.shape
    np.testing.assert_allclose(corners(frame), corners(image), atol=6)


def test_ten_bits(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 3, pixels="yuv420p10le", codec="libx265")
    np.testing.assert_allclose(corners(next(iter(VideoReader(path))))[:3], [RED, GREEN, BLUE], atol=5)


@pytest.mark.parametrize("space", [Colorspace.ITU709, Colorspace.ITU601])
@pytest.mark.parametrize("span", [ColorRange.MPEG, ColorRange.JPEG])
def test_matrix_and_range_are_respected(tmp_path: Path, space: Colorspace, span: ColorRange) -> None:
    path = make_video(tmp_path / "a.mp4", 2, colours=(space, span), options={"crf": "4"})
    np.testing.assert_allclose(corners(next(iter(VideoReader(path))))[:3], [RED, GREEN, BLUE], atol=4)


def test_matrix_is_guessed_from_the_size(tmp_path: Path) -> None:
    large = [quadrants(720, 1280)] * 2
    colours = (Colorspace.ITU709, ColorRange.MPEG)
    path = make_video(tmp_path / "a.mp4", large, colours=colours, tagged=False)
    np.testing.assert_allclose(corners(next(iter(VideoReader(path))))[:3], [RED, GREEN, BLUE], atol=5)


def test_decoding_is_not_biased(tmp_path: Path) -> None:
    gradient = np.linspace(10, 245, 128).astype(np.uint8)
    image = np.repeat(np.repeat(gradient[None, :, None], 64, 0), 3, 2)
    path = make_video(tmp_path / "a.mp4", [image] * 2, options={"crf": "1"})
    error = next(iter(VideoReader(path))).astype(int) - image
    assert abs(error.mean()) < 0.3


def test_variable_rate_is_resampled_to_a_constant_one(tmp_path: Path) -> None:
    shown = [0, 1, 2, 3, 7, 8, 9, 10, 12, 13]  # ticks of 1/30 s; 4-6 and 11 show nothing new
    path = make_video(tmp_path / "a.mp4", 10, times=[Fraction(k, 30) for k in shown])
    reader = VideoReader(path)
    assert reader.info.variable_rate
    assert reader.info.fps == 30
    assert reader.info.frame_count == 14
    held = [max(i for i, tick in enumerate(shown) if tick <= k) for k in range(14)]
    np.testing.assert_allclose(grey_levels(reader), [60 + 4 * i for i in held], atol=3)


def test_timestamp_jitter_is_not_a_variable_rate(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    jitter = random.integers(-300, 300, 40)  # of 3000 ticks between frames
    times = [Fraction(int(k * 3000 + 300 + jitter[k]), 90000) for k in range(40)]
    reader = VideoReader(make_video(tmp_path / "a.mp4", 40, times=times))
    assert not reader.info.variable_rate
    assert reader.info.fps == 30
    assert len(list(reader)) == 40


def test_animated_gif_is_a_video_on_white(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.gif", 12, rate=10, codec="gif", pixels="rgb8")
    assert media_kind(path) == "video"
    reader = VideoReader(path)
    assert reader.info.fps == 10
    assert len(list(reader)) == 12


def test_sound_with_a_cover_picture_is_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=48000)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 96, 64, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(quadrants()).reformat(format="yuvj420p")))
        container.mux(cover.encode(None))
        container.mux(sound.encode(tone(0, 9600)))
        container.mux(sound.encode(None))
    for look in (VideoReader, media_kind):
        with pytest.raises(UserError, match="no video track"):
            look(path)


CUT = {
    "moov first": ("a.mp4", {"muxing": {"movflags": "faststart"}}),
    "fragments": ("a.mp4", {"muxing": {"movflags": "frag_keyframe+empty_moov"}, "options": {"g": "6"}}),
    "with sound": ("a.mp4", {"muxing": {"movflags": "faststart"}, "audio": "aac"}),
    "matroska": ("a.mkv", {"audio": "libopus"}),
    "webm": ("a.webm", {"codec": "libvpx-vp9"}),
    "avi": ("a.avi", {"codec": "mpeg4"}),
    "avi h264": ("a.avi", {}),
    "gif": ("a.gif", {"codec": "gif", "pixels": "rgb8", "rate": 25}),
}


@pytest.mark.parametrize("part", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("case", CUT)
def test_cut_off_video_is_refused_with_its_name_and_frame(tmp_path: Path, case: str, part: float) -> None:
    name, how = CUT[case]
    whole = make_video(tmp_path / name, [noisy(k) for k in range(40)], **how)
    assert len(list(VideoReader(whole))) == 40
    cut = tmp_path / f"cut{whole.suffix}"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * part)])
    with pytest.raises(UserError, match=r"cut\.\w+ is cut off: .* frame \d+"):
        VideoReader(cut)


def noisy(seed: int) -> np.ndarray:
    """A frame with a large packet, so that a cut falls inside the picture data."""
    noise = np.random.default_rng(seed).normal(0, 20, (64, 96, 3))
    return np.clip(quadrants() + cv2.GaussianBlur(noise, (0, 0), 1.0) * 2, 0, 255).astype(np.uint8)


def test_video_without_its_index_is_unreadable(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "a.mp4", 20)
    whole.write_bytes(whole.read_bytes()[:-800])
    with pytest.raises(UserError, match="cannot be read as a video"):
        VideoReader(whole)
    with pytest.raises(UserError, match="cannot be read as a video"):
        media_kind(whole)


def test_damage_inside_is_found_while_reading(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "a.mp4",
        [noisy(k) for k in range(40)],
        muxing={"movflags": "faststart"},
        options={"g": "10"},
    )
    data = bytearray(path.read_bytes())
    middle = len(data) * 6 // 10
    data[middle:] = bytes(len(data) - middle)  # like an interrupted download with preallocated space
    path.write_bytes(data)
    reader = VideoReader(path)
    seen = 0
    with pytest.raises(UserError, match=r"a\.mp4: frame \d+ cannot be decoded"):
        for _ in reader:
            seen += 1
    assert 0 < seen < 40


def test_video_without_frames(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", 0, audio="libopus", audio_seconds=0.5)
    with pytest.raises(UserError, match=r"a\.mkv"):
        VideoReader(path)


def test_not_a_video(tmp_path: Path) -> None:
    picture = tmp_path / "p.mp4"
    picture.write_bytes(cv2.imencode(".png", quadrants())[1].tobytes())
    with pytest.raises(UserError, match=r"p\.mp4 is a picture"):
        VideoReader(picture)
    assert media_kind(picture) == "image"
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\nother.mp4\n#EXT-X-ENDLIST\n")
    make_video(tmp_path / "other.mp4", 3)
    text = tmp_path / "notes.txt"
    text.write_text("nothing to see\n" * 20)
    for path in (playlist, text):
        with pytest.raises(UserError, match=r"cannot be read|neither"):
            media_kind(path)
        with pytest.raises(UserError, match="cannot be read as a video"):
            VideoReader(path)
    for path, said in ((tmp_path, "is a folder"), (tmp_path / "none.mp4", "no such file")):
        with pytest.raises(UserError, match=said):
            VideoReader(path)
        with pytest.raises(UserError, match=said):
            media_kind(path)


def test_hlg_is_converted_to_ordinary_brightness(tmp_path: Path) -> None:
    """A grey card with 18 % of white, which HLG stores as a signal of 0.38 (ITU-R BT.2408, table 1)."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=25, options={"x265-params": "log-level=none"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_range = 9, 1
        context.color_trc, context.color_primaries = ColorTrc.ARIB_STD_B67, ColorPrimaries.BT2020
        picture = av.VideoFrame(96, 64, "yuv420p10le")
        picture.pts = 0
        for plane, level in zip(picture.planes, (64 + round(0.38 * 876), 512, 512), strict=True):
            plane.update(np.full(plane.buffer_size // 2, level, np.uint16).tobytes())
        container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    frame = next(iter(VideoReader(path)))
    assert np.ptp(frame.mean(axis=(0, 1))) < 3
    assert 100 < frame.mean() < 120  # BT.709 stores it as 0.41, 104 of 255; unconverted it would be 97
