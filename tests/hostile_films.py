"""Broken and malicious videos, sounds and playlists, generated on the fly."""

# ruff: noqa: E501 (tables)
from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from hostile_pictures import CUTS, FACE, Files
from media_samples import make_video, tone

TICKS = Fraction(1, 1000)


def written(folder: Path, name: str, make: Callable[[Path], object]) -> bytes:
    """The bytes that `make` writes to a file, which is then removed."""
    path = folder / f"base-{name}"
    make(path)
    data = path.read_bytes()
    path.unlink()
    return data


def timed(path: Path, ticks: Sequence[int], frames: Sequence[np.ndarray] = (), codec: str = "mjpeg") -> None:
    """A video with packets at these times, ms, in this order; all are key frames."""
    ascending = sorted(set(ticks)) == list(ticks)
    with av.open(str(path), "w", options={"fflags": "-autobsf"}) as out:
        stream = out.add_stream(codec, rate=25, options={"strict": "-1"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        stream.time_base = TICKS
        for number, tick in enumerate(ticks):
            picture = (
                frames[number % len(frames)]
                if len(frames)
                else np.full((64, 96, 3), 9 * number % 250, np.uint8)
            )
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            for packet in stream.encode(frame):
                packet.stream, packet.time_base = stream, TICKS
                packet.pts, packet.dts = tick, tick if ascending else number
                out.mux_one(packet)


def sound_only(path: Path) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=48000)
        out.mux(stream.encode(tone(0, 4800)))
        out.mux(stream.encode(None))


def patched(data: bytes, box: bytes, offset: int, value: bytes, last: bool = False) -> bytes:
    """The file with a value `offset` bytes behind the name of a box."""
    place = (data.rindex if last else data.index)(box) + offset
    return data[:place] + value + data[place + len(value) :]


def containers(folder: Path) -> Iterator[tuple[str, bytes]]:
    codecs = {"mp4": "libx264", "mov": "libx264", "mkv": "libx264", "avi": "mjpeg", "ts": "libx264",
              "webm": "libvpx", "gif": "gif"}  # fmt: skip
    shapes = {"avi": "yuvj420p", "gif": "rgb8"}
    for kind, codec in codecs.items():
        pixels = shapes.get(kind, "yuv420p")
        yield (
            kind,
            written(
                folder, f"good.{kind}", lambda path, c=codec, p=pixels: make_video(path, 8, codec=c, pixels=p)
            ),
        )


def broken(folder: Path) -> Files:
    noise = np.random.default_rng(1).bytes(4000)
    for kind, data in containers(folder):
        for cut in CUTS:
            yield f"cut-{int(cut * 100)}.{kind}", data[: int(len(data) * cut)]
        yield f"garbage-behind-magic.{kind}", data[:64] + noise
        yield (
            f"garbage-in-the-middle.{kind}",
            data[: len(data) // 2] + noise[:300] + data[len(data) // 2 + 300 :],
        )
        yield f"wrong-suffix-{kind}.png", data
        yield f"wrong-suffix-{kind}.safetensors", data


def boxes(folder: Path) -> Files:
    """MP4 files with wrong boxes (ISO 14496-12)."""
    good = written(folder, "boxes.mp4", lambda path: make_video(path, 8))
    much = struct.pack(">I", 2**31 - 1)
    yield (
        "huge.mp4",
        patched(patched(good, b"avc1", 28, struct.pack(">HH", 65535, 65535)), b"tkhd", 80, b"\xff" * 8),
    )
    yield "lasts-for-ever.mp4", patched(patched(good, b"mvhd", 20, much), b"mdhd", 20, much)
    yield "no-time-scale.mp4", patched(good, b"mdhd", 16, bytes(4))
    yield "many-samples.mp4", patched(good, b"stsz", 12, much)
    yield "frames-of-years.mp4", patched(good, b"stts", 12, struct.pack(">I", 2**31 - 1))
    yield "no-frames-a-second.mp4", patched(good, b"stts", 12, bytes(4))
    yield "far-data.mp4", patched(good, b"stco", 12, b"\xff" * 4)
    yield "box-of-everything.mp4", patched(good, b"moov", -4, b"\xff" * 4)
    yield "box-of-nothing.mp4", patched(good, b"trak", -4, struct.pack(">I", 1))
    yield "turned-wildly.mp4", patched(good, b"tkhd", 44, b"\x7f" * 36)
    yield "no-matrix.mp4", patched(good, b"tkhd", 44, bytes(36))
    yield (
        "nested.mp4",
        good[:32] + b"".join(struct.pack(">I4s", 80000 - 8 * k, b"moov") for k in range(10000)),
    )
    secret = b"alis" + struct.pack(">II", 0, 0)
    for name, target in (
        ("file", b"url \0\0\0\0file:///etc/passwd\0"),
        ("address", b"url \0\0\0\0http://127.0.0.1:9/x\0"),
    ):
        place = good.index(b"url ") - 4
        entry = struct.pack(">I", len(target) + 4) + target
        yield f"data-elsewhere-{name}.mov", good[:place] + entry[:12] + good[place + 12 :] + entry
    yield "data-elsewhere-alias.mov", patched(good, b"url ", 0, secret[:8])
    stretched = written(folder, "wide.mp4", lambda path: make_video(path, 4, aspect=Fraction(9999, 1)))
    yield "wide-pixels.mp4", stretched


def times(folder: Path) -> Files:
    for name, ticks in {
        "variable": [0, 40, 50, 300, 310], "backwards": [400, 300, 200, 100, 5], "equal": [40] * 5,
        "negative": [-90000, -80000, -79960], "after-years": [0, 40, 10**11], "from-the-far": [10**12, 10**12 + 40],
    }.items():  # fmt: skip
        yield f"times-{name}.mkv", written(folder, f"{name}.mkv", lambda path, t=ticks: timed(path, t))
        if min(ticks) >= 0:
            yield (
                f"times-{name}.nut",
                written(folder, f"{name}.nut", lambda path, t=ticks: timed(path, sorted(set(t)))),
            )
    for rate in (Fraction(1, 1000), Fraction(1000, 1), Fraction(30000, 1001)):
        name = f"rate-{rate.numerator}-{rate.denominator}.mp4"
        yield name, written(folder, name, lambda path, r=rate: make_video(path, 3, rate=r))


def odd(folder: Path) -> Files:
    yield "one-frame.mp4", written(folder, "one.mp4", lambda path: make_video(path, 1))
    yield (
        "no-frames.mp4",
        written(folder, "none.mp4", lambda path: make_video(path, 0, audio="aac", audio_seconds=0.2)),
    )
    for suffix in ("mp4", "mkv", "m4a", "png", "safetensors"):
        yield f"sound-only.{suffix}", written(folder, "sound.mp4", sound_only)
    yield "turned.mp4", written(folder, "turned.mp4", lambda path: make_video(path, 3, rotation=90))
    yield "10-bit.mkv", written(folder, "ten.mkv", lambda path: make_video(path, 3, pixels="yuv420p10le"))
    yield (
        "12-bit.mkv",
        written(folder, "twelve.mkv", lambda path: make_video(path, 3, codec="ffv1", pixels="yuv420p12le")),
    )
    yield (
        "16-bit-alpha.mkv",
        written(folder, "rgba.mkv", lambda path: make_video(path, 3, codec="ffv1", pixels="gbrap16le")),
    )
    yield (
        "tiny.mkv",
        written(folder, "tiny.mkv", lambda path: make_video(path, [np.zeros((2, 2, 3), np.uint8)] * 3)),
    )
    parts = [
        written(
            folder, f"{n}.ts", lambda path, h=h, w=w: make_video(path, [np.zeros((h, w, 3), np.uint8)] * 4)
        )
        for n, h, w in ((1, 64, 96), (2, 96, 64))
    ]
    yield "size-changes.ts", b"".join(parts)
    yield "many-tiny-frames.mp4", written(folder, "many.mp4", lambda path: endless(path, 100_000))
    yield "face.mp4", written(folder, "face.mp4", lambda path: make_video(path, [FACE] * 3))


def endless(path: Path, frames: int) -> None:
    """A video of 16x16 px, 1.8 MB for 100,000 frames: one packet repeated."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=1000)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 90, np.uint8), format="rgb24")
        frame.pts = 0
        data = b"".join(bytes(packet) for packet in (*stream.encode(frame), *stream.encode(None)))
        for tick in range(frames):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, TICKS, True
            packet.pts, packet.dts, packet.duration = tick, tick, 1
            out.mux_one(packet)


def accompanied(path: Path, film: Path, words: Path | None = None, font: str = "", data: str = "") -> None:
    """A video with subtitles, an attached font of that name, or a data stream first."""
    with av.open(str(path), "w") as out, av.open(str(film)) as base:
        others = out.add_data_stream(data) if data else None
        video = out.add_stream_from_template(base.streams.video[0])
        if font:
            out.add_attachment(font, "application/x-truetype-font", b"\0\1\0\0" + bytes(5000))
        if words:
            with av.open(str(words)) as text:
                stream = out.add_stream_from_template(text.streams.subtitles[0])
                for packet in text.demux(0):
                    if packet.dts is not None:
                        packet.stream = stream
                        out.mux_one(packet)
        for packet in base.demux(0):
            if packet.dts is None:
                continue
            if others:
                other = av.Packet(b"\xff" * 50)
                other.stream, other.time_base = others, packet.time_base
                other.pts = other.dts = packet.dts
                out.mux_one(other)
            packet.stream = video
            out.mux_one(packet)


def sides(folder: Path) -> Files:
    """Files that are neither picture nor sound."""
    film, words = make_video(folder / "film.mp4", 4), folder / "words.srt"
    words.write_bytes(b"1\n00:00:00,000 --> 00:00:09,000\n<font face='$(touch x)'>{\\p9}hello</font>\n")
    for name, beside in {
        "subtitles.mkv": {"words": words}, "font.mkv": {"font": "font.ttf"}, "font-outside.mkv": {"font": "../../x"},
        "font-shell.mkv": {"font": "$(touch x);\n"}, "data.ts": {"data": "klv"}, "all.mkv": {"words": words, "font": "f"},
    }.items():  # fmt: skip
        yield name, written(folder, name, lambda path, b=beside: accompanied(path, film, **b))
    good = written(folder, "sides.mkv", lambda path: accompanied(path, film, words, "font.ttf"))
    yield "font-without-end.mkv", good.replace(b"\0\1\0\0" + bytes(60), b"\xff" * 64)
    yield "sides-cut.mkv", good[: len(good) // 2]
    film.unlink()
    words.unlink()


def lists(secret: Path, port: int) -> Files:
    """Files that refer to others: a video that must not be read, and an address that must not be contacted."""
    address, file = f"http://127.0.0.1:{port}", secret.as_uri()
    for place, name in (
        (address + "/x.ts", "address"),
        (file, "file"),
        (str(secret), "path"),
        (secret.name, "beside"),
    ):
        hls = f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10.0,\n{place}\n#EXT-X-ENDLIST\n".encode()
        for suffix in ("m3u8", "mp4", "png", "ts"):
            yield f"playlist-{name}.{suffix}", hls
        yield f"concat-{name}.mp4", f"ffconcat version 1.0\nfile '{place}'\n".encode()
        dash = f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet><BaseURL>{place}'
        yield f"dash-{name}.mpd", f"{dash}</BaseURL></AdaptationSet></Period></MPD>".encode()
        yield f"asx-{name}.asx", f'<asx version="3.0"><entry><ref href="{place}"/></entry></asx>'.encode()
    sdp = f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    yield "session.sdp", sdp.encode()
    yield "session.mp4", sdp.encode()
    yield "stream.rtsp", f"rtsp://127.0.0.1:{port}/x".encode()
    yield "graph.mp4", b"movie=/etc/passwd[out0]"
    yield "words.srt", b"1\n00:00:00,000 --> 00:00:09,000\n<b>hello</b>\n"
    yield (
        "words.ass",
        b"[Script Info]\nScriptType: v4.00+\n[Events]\nDialogue: 0,0:00:00.00,0:00:09.00,,,0,0,0,,x\n",
    )
    yield "words.vtt", b"WEBVTT\n\n00:00.000 --> 00:09.000\nhello\n"
    yield "terminal.txt", b"\x1b[31mhello\x1b[0m\n" * 500
    yield "raw.yuv", bytes(9000)


def films(folder: Path) -> Files:
    for group in (broken, boxes, times, odd, sides):
        yield from group(folder)
