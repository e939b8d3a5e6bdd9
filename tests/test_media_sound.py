"""Real-world sound: layouts, changing formats, restarting times, several streams, and damage.

Each input contains tones of known pitch at known times; their positions in the written file are checked.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from media_samples import quadrants
from PIL import Image

from liveportrait.animation.inputs import check_sound
from liveportrait.errors import UserError
from liveportrait.media import VideoReader, VideoWriter, plan_sound

LENGTH = 0.8  # seconds: 20 frames
OUTPUTS = (".mp4", ".mkv", ".webm", ".mov")


@dataclass(frozen=True)
class Tone:
    """A piece of sound: each channel has its own pitch (Hz), 0 for silence."""

    pitches: Sequence[int]
    layout: str = "stereo"
    rate: int = 48000
    seconds: float = LENGTH
    start: float = 0.0

    def frame(self, late: float = 0.0, form: str = "s16") -> av.AudioFrame:
        times = np.arange(round(self.seconds * self.rate)) / self.rate
        waves = np.stack([np.sin(2 * np.pi * pitch * times) for pitch in self.pitches], 1) * 8000
        packed = waves.astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=self.layout)
        frame.sample_rate, frame.time_base = self.rate, Fraction(1, self.rate)
        frame.pts = round((self.start + late) * self.rate)
        return frame


def record(
    path: Path,
    tones: Sequence[Tone],
    codec: str = "aac",
    late: float = 0.0,
    frames: int = 20,
    defaults: Sequence[bool] | None = None,
) -> Path:
    """A video of 25 frames per second with one audio stream per tone; everything starts `late` s after zero."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        tracks = [container.add_stream(codec, rate=tone.rate, layout=tone.layout) for tone in tones]
        for track, default in zip(tracks, defaults or (), strict=False):
            track.disposition = Disposition.default if default else Disposition(0)
        for index in range(frames):
            picture = av.VideoFrame.from_ndarray(quadrants(step=4 * index), format="rgb24")
            picture.pts, picture.time_base = index + round(late * 25), Fraction(1, 25)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        for track, tone in zip(tracks, tones, strict=True):
            container.mux(track.encode(tone.frame(late)))
            container.mux(track.encode(None))
    return path


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def carried(source: Path, suffix: str = ".mp4") -> Path:
    """A new video with the pictures and the sound of `source`."""
    path = source.with_name(f"carried-{source.stem}{suffix}")
    with (
        VideoReader(source) as reader,
        VideoWriter(path, reader.info.fps, 96, 64, audio_from=source) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    return path


def heard(path: Path, start: float = 0.0, end: float | None = None) -> list[dict[int, float]]:
    """For each channel between two times (s), the pitches (Hz) heard and their levels; 0.24 is full volume."""
    with av.open(str(path)) as container:
        (stream,) = container.streams.audio
        frames = [(frame.pts * frame.time_base, frame.to_ndarray()) for frame in container.decode(stream)]
        rate = stream.rate
    samples = np.concatenate([data for _, data in frames], 1)
    first = float(frames[0][0])
    span = slice(*(None if time is None else max(round((time - first) * rate), 0) for time in (start, end)))
    result = []
    for channel in samples[:, span]:
        window = np.hanning(len(channel))
        spectrum = np.abs(np.fft.rfft(channel * window)) / window.sum() * 2
        bins = {pitch: round(pitch * len(channel) / rate) for pitch in range(300, 3300, 100)}
        levels = {pitch: float(spectrum[max(at - 3, 0) : at + 4].max()) for pitch, at in bins.items()}
        result.append({pitch: round(level, 3) for pitch, level in levels.items() if level > 0.015})
    return result


def pitches(path: Path, start: float = 0.0, end: float | None = None) -> list[set[int]]:
    return [set(levels) for levels in heard(path, start, end)]


def lasts(path: Path) -> float:
    """The duration of the sound in seconds."""
    with av.open(str(path)) as container:
        return sum(frame.samples / frame.rate for frame in container.decode(audio=0))


# ---- layouts ----------------------------------------------------------------------------------------------------


def labelled(path: Path, codec: str, tones: Tone, tag: int, labels: Sequence[int] = ()) -> Path:
    """A MOV whose channel layout is given by a QuickTime tag, or by a label for each channel."""
    record(path, [tones], codec)
    movie = bytearray(path.read_bytes())
    place = movie.rindex(b"chan") - 4
    description = b"".join(struct.pack(">II12x", label, 0) for label in labels)
    atom = struct.pack(">I4sIIII", 24 + len(description), b"chan", 0, tag, 0, len(labels)) + description
    growth = len(atom) - struct.unpack_from(">I", movie, place)[0]
    # The index follows the data: the boxes around this one grow, and no offset changes.
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"sowt", b"lpcm", b"in24"):
        if (box := movie.rfind(name, 0, place)) > movie.rindex(b"mdat"):
            struct.pack_into(">I", movie, box - 4, struct.unpack_from(">I", movie, box - 4)[0] + growth)
    movie[place : place + struct.unpack_from(">I", movie, place)[0]] = atom
    path.write_bytes(movie)
    return path


SIX = (400, 600, 800, 1000, 1200, 0)
FILM = 122 << 16 | 6  # MPEG 5.1 B: L R Ls Rs C LFE
BY_LABELS = 0
L, R, C, LFE, LS, RS = 1, 2, 3, 4, 5, 6
LAYOUTS = {
    "film order": (FILM, (), [{400, 800, 1200}, {600, 1000, 1200}]),
    "effects first": (BY_LABELS, (LFE, C, LS, RS, L, R), [{600, 800, 1200}, {600, 1000}]),
    "discrete": (BY_LABELS, [1 << 16 | index for index in range(6)], [{400, 800, 1200}, {600, 1000}]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_film_editors(tmp_path: Path, name: str) -> None:
    tag, labels, expected = LAYOUTS[name]
    source = labelled(tmp_path / "film.mov", "pcm_s16le", Tone(SIX, "5.1"), tag, labels)
    suffixes = (".mp4", ".mov")
    # In a separate process: such layouts can make PyAV crash the interpreter.
    command = (
        "import sys, pathlib, test_media_sound as t\n"
        "for suffix in sys.argv[2:]: print(t.carried(pathlib.Path(sys.argv[1]), suffix))"
    )
    done = subprocess.run(
        [sys.executable, "-c", command, str(source), *suffixes],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    results = [Path(line) for line in done.stdout.splitlines()]
    assert [result.suffix for result in results] == list(suffixes)
    for result in results:
        assert pitches(result, 0.1, 0.7) == expected
        assert lasts(result) == pytest.approx(LENGTH, abs=0.03)


# ---- formats that change midway ----------------------------------------------------------------------------------

CHANGES = {
    "stereo, then mono": (Tone((400, 600)), Tone((800,), "mono"), {800}, {800}),
    "mono, then stereo": (Tone((800,), "mono"), Tone((400, 600)), {400}, {600}),
    "another rate": (Tone((400, 600)), Tone((800, 1000), rate=44100), {800}, {1000}),
    "another rate and mono": (Tone((400, 600), rate=32000), Tone((900,), "mono"), {900}, {900}),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("codec", ["mp2", "aac"])
@pytest.mark.parametrize("overlapping", [True, False])
def test_channels_and_rates_may_change(tmp_path: Path, name: str, codec: str, overlapping: bool) -> None:
    first, second, left, right = CHANGES[name]
    # Zero is where encoded sound begins, a little before the pictures: in a second recording that begins as late
    # as the first one lasts, times fall back.
    late = 0.0 if overlapping else 1.0
    begins = LENGTH if overlapping else LENGTH + 0.2
    parts = (
        record(tmp_path / "1.ts", [first], codec, late),
        record(tmp_path / "2.ts", [second], codec, late + begins),
    )
    result = carried(joined(tmp_path / "both.ts", *parts))
    assert VideoReader(result).info.frame_count == (40 if overlapping else 45)
    began = [set(first.pitches)] * 2 if len(first.pitches) == 1 else [{pitch} for pitch in first.pitches]
    assert pitches(result, 0.1, 0.7) == began
    assert pitches(result, begins + 0.1, begins + 0.7) == [left, right]
    if not overlapping:
        assert pitches(result, LENGTH + 0.06, LENGTH + 0.14) == [set(), set()]
    assert lasts(result) == pytest.approx(begins + LENGTH, abs=0.05)


# ---- times that restart, jump, or overlap ------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", OUTPUTS)
@pytest.mark.parametrize("second_late", [0.0, 0.4, 3600.0])
def test_joined_recordings_stay_in_sync(tmp_path: Path, suffix: str, second_late: float) -> None:
    parts = [
        record(tmp_path / "1.ts", [Tone((400, 400))]),
        record(tmp_path / "2.ts", [Tone((800, 800))], late=second_late),
        record(tmp_path / "3.ts", [Tone((1200, 1200))]),
    ]
    result = carried(joined(tmp_path / "all.ts", *parts), suffix)
    assert VideoReader(result).info.frame_count == 60
    for index, pitch in enumerate((400, 800, 1200)):
        assert pitches(result, index * LENGTH + 0.06, (index + 1) * LENGTH - 0.06) == [{pitch}] * 2
    assert lasts(result) == pytest.approx(3 * LENGTH, abs=0.03)


def test_a_recording_without_sound_in_between(tmp_path: Path) -> None:
    silent = record(tmp_path / "2.ts", [])
    loud = record(tmp_path / "1.ts", [Tone((400, 400))])
    result = carried(joined(tmp_path / "all.ts", loud, silent, loud))
    assert VideoReader(result).info.frame_count == 60
    assert pitches(result, 0.1, LENGTH - 0.1) == [{400}] * 2
    assert pitches(result, LENGTH + 0.1, 2 * LENGTH - 0.1) == [set()] * 2
    assert pitches(result, 2 * LENGTH + 0.1, 3 * LENGTH - 0.1) == [{400}] * 2


def test_sound_that_ends_early_and_sound_that_begins_late(tmp_path: Path) -> None:
    parts = [
        record(tmp_path / "1.ts", [Tone((400, 400), seconds=0.4)]),
        record(tmp_path / "2.ts", [Tone((800, 800), seconds=0.4, start=0.4)]),
    ]
    result = carried(joined(tmp_path / "both.ts", *parts))
    assert pitches(result, 0.05, 0.35) == [{400}] * 2
    assert pitches(result, 0.45, 1.15) == [set()] * 2
    assert pitches(result, 1.25, 1.55) == [{800}] * 2


# ---- several streams ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "defaults", "expected"),
    [
        ("in.mkv", (False, True), 800),
        ("in.mp4", (False, True), 800),
        ("in.mkv", (True, False), 400),
        ("in.mkv", (False, False), 400),
        ("in.mkv", (True, True), 400),
    ],
)
def test_the_default_sound_stream_is_used(
    tmp_path: Path, name: str, defaults: Sequence[bool], expected: int
) -> None:
    source = record(tmp_path / name, [Tone((400, 400)), Tone((800, 800))], defaults=defaults)
    assert pitches(carried(source), 0.1, 0.7) == [{expected}] * 2


def test_the_default_video_stream_is_used(tmp_path: Path) -> None:
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for index, stream in enumerate(streams):
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            stream.disposition = Disposition.default if index else Disposition(0)
        for index, stream in enumerate(streams):
            for _ in range(10):
                picture = np.full((64, 96, 3), 50 + 150 * index, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
    with VideoReader(path) as reader:
        assert next(iter(reader)).mean() == pytest.approx(200, abs=5)


# ---- what cannot be carried over----------------------------------------------------------------------------------


def unknown_sound(path: Path) -> Path:
    record(path, [Tone((400, 400))], "mp2")
    path.write_bytes(path.read_bytes().replace(b"A_MPEG/L2", b"A_MPEG/L9"))
    return path


def test_the_sound_is_checked_before_any_work(tmp_path: Path) -> None:
    loud, broken = record(tmp_path / "loud.mkv", [Tone((400, 400))]), unknown_sound(tmp_path / "broken.mkv")
    out = tmp_path / "out.mp4"
    with pytest.raises(UserError, match=r"broken\.mkv.*--audio none"):
        check_sound(loud, [broken], "driving", out)
    with pytest.raises(UserError, match=r"broken\.mkv.*--audio none"):
        check_sound(broken, [loud], "source", out)
    check_sound(loud, [broken], "source", out)
    check_sound(loud, [broken], "none", out)
    check_sound(loud, [broken], "driving", tmp_path / "frames")


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "AVIF", "GIF"])
def test_animated_pictures_have_no_sound(tmp_path: Path, kind: str) -> None:
    first, second = (Image.fromarray(quadrants(step=step)) for step in (0, 40))
    first.save(tmp_path / "moving", kind, save_all=True, append_images=[second], duration=80)
    check_sound(tmp_path / "moving", [tmp_path / "moving"], "driving", tmp_path / "out.mp4")
    assert VideoReader(carried(tmp_path / "moving")).info.frame_count == 2


def test_sound_that_cannot_be_decoded_is_reported_beforehand(tmp_path: Path) -> None:
    source = unknown_sound(tmp_path / "in.mkv")
    with pytest.raises(UserError, match=r"sound.*--audio none"):
        plan_sound(source, ".mp4")
    out = tmp_path / "out.mp4"
    with pytest.raises(UserError, match="--audio none"), VideoWriter(out, Fraction(25), 96, 64, source):
        pytest.fail("the writer was opened")
    assert not out.exists()


def test_damaged_packets_become_silence_and_the_rest_is_kept(tmp_path: Path) -> None:
    source = record(tmp_path / "in.mkv", [Tone((400, 400))], "flac")
    with av.open(str(source)) as container:
        places = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    damaged = source.read_bytes()
    for packet in places[3:5]:
        damaged = damaged.replace(packet, b"\x55" * len(packet))
    source.write_bytes(damaged)
    result = carried(source, ".webm")
    assert VideoReader(result).info.frame_count == 20
    lost_from, lost_to = 3 * 4608 / 48000, 5 * 4608 / 48000
    assert pitches(result, 0.03, lost_from - 0.03) == [{400}] * 2
    assert pitches(result, lost_from + 0.03, lost_to - 0.03) == [set()] * 2
    assert pitches(result, lost_to + 0.03, 0.75) == [{400}] * 2
