"""Real-world videos: clocks, joins, empty frames, size changes, transparency, HDR."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from media_samples import corners, make_video, quadrants

from liveportrait.media import VideoReader

RED, GREEN, BLUE = (200, 30, 20), (20, 180, 40), (30, 50, 220)


def levels(reader: VideoReader) -> list[int]:
    """The number of each frame, read from its grey quarter."""
    return [round((corners(frame)[3].mean() - 60) / 4) for frame in reader]


def at(path: Path, ticks: Sequence[int], rate: int, **how: object) -> Path:
    """A video with frames at these ticks."""
    return make_video(path, len(ticks), times=[Fraction(tick, rate) for tick in ticks], **how)  # type: ignore[arg-type]


def skipping(path: Path, ticks: Sequence[int], length: int) -> Path:
    """An AVI of `length` frames at 25/s, all empty except at the ticks."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25, options={"qmin": "2", "qmax": "2"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for number, tick in enumerate(ticks):
            picture = av.VideoFrame.from_ndarray(quadrants(step=4 * number), format="rgb24")
            picture.pts, picture.time_base = tick, Fraction(1, 25)
            container.mux(stream.encode(picture.reformat(format="yuvj420p")))
        container.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    # Trailing empty frames appear only in the headers here: the file's, then the stream's.
    for name, offset in ((b"avih", 24), (b"strh", 40)):
        place = data.index(name) + offset
        data[place : place + 4] = length.to_bytes(4, "little")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("ticks", "length", "rate", "shown"),
    [
        (range(0, 24, 2), 23, Fraction(25, 2), list(range(12))),  # a clock twice as fast as the pictures
        ([0, 1, 2, 3, 6, 7, 8, 9], 10, Fraction(25), [0, 1, 2, 3, 3, 3, 4, 5, 6, 7]),  # a pause
        (range(8), 20, Fraction(25), [*range(8), *[7] * 12]),  # no new picture at the end
    ],
)
def test_empty_frames_of_an_avi_show_the_last_picture(
    tmp_path: Path, ticks: Sequence[int], length: int, rate: Fraction, shown: list[int]
) -> None:
    reader = VideoReader(skipping(tmp_path / "a.avi", ticks, length))
    assert (reader.info.fps, len(reader)) == (rate, len(shown))
    assert levels(reader) == shown


@pytest.mark.parametrize(("options", "base"), [({"bf": "2"}, 600), ({"bf": "2"}, 50), ({"bf": "0"}, 100)])
def test_avi_of_copied_packets(tmp_path: Path, options: dict[str, str], base: int) -> None:
    """H.264 in an AVI with a faster clock: times are decoding times, and the gaps between them are empty frames."""
    whole = make_video(tmp_path / "a.mp4", 20, rate=25, options=options)
    with av.open(str(whole)) as source, av.open(str(tmp_path / "a.avi"), "w") as copy:
        stream = source.streams.video[0]
        filtered = BitStreamFilterContext("h264_mp4toannexb", stream)
        target = copy.add_stream_from_template(stream)
        target.time_base = Fraction(1, base)
        for packet in source.demux(stream):
            for part in filtered.filter(packet) if packet.size else []:
                part.stream = target
                copy.mux(part)
    reader = VideoReader(tmp_path / "a.avi")
    assert (reader.info.fps, len(reader)) == (25, 20)
    assert levels(reader) == list(range(20))


@pytest.mark.parametrize("late", [0, 11, 9, 500])
def test_joined_transport_streams_keep_every_frame(tmp_path: Path, late: int) -> None:
    """Twelve and eight pictures at 25/s; the second part's times restart, overlap or jump; 12 would be continuous."""
    parts = [
        at(tmp_path / f"{number}.ts", ticks, 25)
        for number, ticks in enumerate((range(12), range(late, late + 8)))
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    reader = VideoReader(path)
    assert (reader.info.fps, len(reader)) == (25, 20)
    assert levels(reader) == [*range(12), *range(8)]


def test_joint_in_a_variable_rate(tmp_path: Path) -> None:
    """The first part shows its fourth picture for three intervals; the second part starts immediately."""
    one, two = at(tmp_path / "1.ts", [0, 1, 2, 3, 6, 7], 25), at(tmp_path / "2.ts", range(6), 25)
    path = tmp_path / "joined.ts"
    path.write_bytes(one.read_bytes() + two.read_bytes())
    reader = VideoReader(path)
    assert (reader.info.fps, reader.info.variable_rate) == (25, True)
    assert levels(reader) == [0, 1, 2, 3, 3, 3, 4, 5, *range(6)]


@pytest.mark.parametrize(
    ("ticks", "rate", "count"),
    [
        ([*range(15), *range(16, 60, 2)], 30, 59),  # a webcam in the dark
        ([*range(0, 60, 6), *range(60, 75)], 60, 75),  # a game whose frame rate rises
        ([0, 25, 50, 51, 52, 53, 54, 55, 80, 105], 25, 106),  # stills, and a moment of video
    ],
)
def test_no_frame_of_a_variable_rate_is_lost(
    tmp_path: Path, ticks: Sequence[int], rate: int, count: int
) -> None:
    reader = VideoReader(at(tmp_path / "a.mp4", ticks, rate, options={"crf": "8"}))
    assert (reader.info.fps, len(reader), reader.info.variable_rate) == (rate, count, True)
    shown = levels(reader)
    assert sorted(set(shown)) == list(range(len(ticks)))
    assert [shown[tick] for tick in ticks] == list(range(len(ticks)))


@pytest.mark.parametrize("ticks", [range(24), [3 * k for k in range(24)], [*range(23), 9000]])
def test_timestamps_that_are_too_dense_are_ignored(tmp_path: Path, ticks: Sequence[int]) -> None:
    reader = VideoReader(at(tmp_path / "a.mp4", ticks, 90000, options={"crf": "4"}))
    assert 1 <= reader.info.fps <= 120
    assert levels(reader) == list(range(24))


def test_hidden_frames_of_vp8_do_not_count(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "a.webm", 40, codec="libvpx",
        options={"auto-alt-ref": "1", "lag-in-frames": "16", "b": "1M", "arnr-maxframes": "5"},
    )  # fmt: skip
    reader = VideoReader(path)
    assert (reader.info.fps, len(reader), reader.info.variable_rate) == (30, 40, False)
    assert len(list(reader)) == 40


@pytest.mark.parametrize(
    ("size", "bars"),
    [
        ((96, 64), (26, 0)),  # turned by a quarter: 43 px of 96 remain, 64 * 64 / 96
        ((32, 48), (0, 0)),  # smaller, of the same shape
        ((64, 64), (0, 10)),  # a square in 44x64 px: 44 rows of 64
    ],
)
def test_a_size_change_halfway_keeps_the_aspect_ratio(
    tmp_path: Path, size: tuple[int, int], bars: tuple[int, int]
) -> None:
    first = (64, 96) if size != (64, 64) else (64, 44)
    for number, (height, width) in enumerate((first, size)):
        make_video(
            tmp_path / f"{number}.ts", [quadrants(height, width)] * 6, rate=25,
            times=[Fraction(6 * number + k, 25) for k in range(6)], options={"crf": "8", "bf": "0"},
        )  # fmt: skip
    path = tmp_path / "joined.ts"
    path.write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())
    *_, frame = VideoReader(path)
    assert len(_) == 11 and frame.shape == (*first, 3)
    left, top = bars
    inside = frame[top : first[0] - top, left : first[1] - left]
    np.testing.assert_allclose(corners(inside)[:3], [RED, GREEN, BLUE], atol=10)
    if left:
        assert frame[:, : left - 1].max() == frame[:, 1 - left :].max() == 0
    if top:
        assert frame[: top - 1].max() == frame[1 - top :].max() == 0


@pytest.mark.parametrize("codec", ["libvpx-vp9", "libvpx"])
def test_transparent_webm_is_laid_on_white(tmp_path: Path, codec: str) -> None:
    """Transparent, 20 % opaque (51 of 255) and opaque, as in a picture."""
    rgba = np.dstack([quadrants(), np.full((64, 96), 255, np.uint8)])
    rgba[:32, :48, 3], rgba[:32, 48:, 3] = 0, 51
    path = tmp_path / "a.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"auto-alt-ref": "0", "crf": "10", "b": "2M"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuva420p"
        for number in range(4):
            picture = av.VideoFrame.from_ndarray(rgba, format="rgba")
            picture.pts = number
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    frames = list(VideoReader(path))
    assert len(frames) == 4
    faint = np.array(GREEN) * 0.2 + 255 * 0.8
    for frame in frames:
        np.testing.assert_allclose(corners(frame)[:3], [[255] * 3, faint, BLUE], atol=8)


def flat(path: Path, code: tuple[int, int, int], transfer: int, primaries: int, matrix: int) -> Path:
    """A video of one colour, given by its 10-bit code values Y, Cb, Cr in limited range."""
    with av.open(str(path), "w") as container:
        options = {"x265-params": "log-level=none:lossless=1"}
        stream = container.add_stream("libx265", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, 1
        context.color_trc, context.color_primaries = transfer, primaries
        for number in range(3):
            picture = av.VideoFrame(96, 64, "yuv420p10le")
            picture.pts = number
            for plane, level in zip(picture.planes, code, strict=True):
                plane.update(np.full(plane.buffer_size // 2, level, np.uint16).tobytes())
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def grey(signal: float) -> tuple[int, int, int]:
    return 64 + round(876 * signal), 512, 512


@pytest.mark.parametrize(
    ("transfer", "signal", "expected"),
    [
        (18, 0.38, 109),  # HLG, a grey card of 26 cd/m2 (BT.2408, table 1): (26 / 203) ^ (1 / 2.4) of 255
        (16, 0.38, 108),  # the same in PQ
        (18, 0.75, 255),  # white of 203 cd/m2
        (16, 0.58, 255),
        (16, 0.9, 255),  # a light of 3900 cd/m2 is white, too
        (16, 0.0, 0),
    ],
)
def test_hdr_levels(tmp_path: Path, transfer: int, signal: float, expected: int) -> None:
    for frame in VideoReader(flat(tmp_path / "a.mkv", grey(signal), transfer, 9, 9)):
        np.testing.assert_allclose(frame, expected, atol=3)


def test_wide_primaries_of_ordinary_video(tmp_path: Path) -> None:
    """A muted red, (200, 100, 80) in BT.709, converted to P3 and BT.2020 by their matrices of linear light."""
    light = (np.array([200, 100, 80]) / 255) ** 2.4
    to_p3 = np.array([[0.8225, 0.1775, 0.0], [0.0332, 0.9668, 0.0], [0.0171, 0.0724, 0.9105]])
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    for primaries, matrix, weights, to in (
        (12, 1, (0.2126, 0.0722), to_p3),
        (9, 9, (0.2627, 0.0593), to_2020),
    ):
        red, green, blue = (to @ light) ** (1 / 2.4)
        luma = weights[0] * red + weights[1] * blue + (1 - sum(weights)) * green
        chroma = (blue - luma) / (2 - 2 * weights[1]), (red - luma) / (2 - 2 * weights[0])
        code = 64 + round(876 * luma), *(512 + round(896 * value) for value in chroma)
        path = flat(tmp_path / f"{primaries}.mkv", code, 1, primaries, matrix)
        frame = next(iter(VideoReader(path)))
        np.testing.assert_allclose(frame[32, 48].astype(int), [200, 100, 80], atol=3)
