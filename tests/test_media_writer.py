"""Writing videos: rate, colour, sound, and files that are complete or do not appear at all."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from media_samples import corners, make_video, packets_of, quadrants

from liveportrait.animation.options import OutputOptions
from liveportrait.animation.writer import size_notes
from liveportrait.choices import VideoCodec
from liveportrait.errors import UserError
from liveportrait.media import VideoReader, VideoWriter, encoder_for

FPS = Fraction(30000, 1001)


def write(path: Path, frames: int = 10, fps: Fraction = FPS, **options: object) -> Path:
    images = [quadrants(step=4 * (k % 45)) for k in range(frames)]
    height, width = images[0].shape[:2]
    with VideoWriter(path, fps, width, height, **options) as writer:  # type: ignore[arg-type]
        for image in images:
            writer.write(image)
    return path


def spans(path: Path) -> tuple[float, float]:
    """When the pictures and the sound end, in seconds."""
    ends = {"video": 0.0, "audio": 0.0}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size and packet.pts is not None:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                ends[packet.stream.type] = max(ends[packet.stream.type], end)
    return ends["video"], ends["audio"]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".MP4"])
def test_written_frames_are_read_back(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"out{suffix}", 12)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    reader = VideoReader(path)
    assert (reader.info.fps, reader.info.frame_count, reader.info.has_audio) == (FPS, 12, False)
    for index, frame in enumerate(reader):
        np.testing.assert_allclose(corners(frame), corners(quadrants(step=4 * index)), atol=6)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert context.pix_fmt == "yuv420p"
        assert context.name in ("h264", "libvpx-vp9", "vp9")
        assert (context.colorspace, context.color_range) == (1, 1)
        if context.name == "h264":
            assert (context.color_primaries, context.color_trc) == (1, 1)


def test_colours_survive(tmp_path: Path) -> None:
    gradient = np.linspace(5, 250, 128).astype(np.uint8)
    image = np.stack(np.broadcast_arrays(gradient[None], gradient[::2, None], np.uint8(90)), axis=2)
    with VideoWriter(tmp_path / "a.mp4", Fraction(25), 128, 64) as writer:
        for _ in range(3):
            writer.write(image)
    error = next(iter(VideoReader(tmp_path / "a.mp4"))).astype(int) - image
    assert np.abs(error).mean() < 2
    assert np.abs(error.mean(axis=(0, 1))).max() < 1


@pytest.mark.parametrize(("name", "alpha"), [("a.webm", False), ("a.webm", True), ("a.mov", True)])
def test_odd_sizes_keep_their_last_row_and_column(tmp_path: Path, name: str, alpha: bool) -> None:
    image = quadrants(33, 51)
    image[:, 48:] = image[30:] = 90  # three wide: 4:2:0 stores colours for pairs of pixels
    image[:, 50] = image[32] = 230
    rgba = np.dstack([image, np.full((33, 51), 255, np.uint8)])
    with VideoWriter(tmp_path / name, Fraction(25), 51, 33, alpha=alpha) as writer:
        for _ in range(2):
            writer.write(rgba if alpha else image)
    frame = next(iter(VideoReader(tmp_path / name)))
    assert frame.shape == image.shape
    places = [4, 4, 28, 32, 12], [4, 46, 44, 12, 50]
    np.testing.assert_allclose(frame[places].astype(int), image[places], atol=20)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "auto"), ("a.mov", "prores")])
def test_odd_sizes_are_padded_by_their_edge_for_codecs_that_need_even_ones(
    tmp_path: Path, name: str, codec: VideoCodec
) -> None:
    image = quadrants(33, 51)
    with VideoWriter(tmp_path / name, Fraction(25), 51, 33, codec=codec) as writer:
        writer.write(image)
    assert encoder_for(tmp_path / name, codec).size(51, 33) == (52, 34)
    frame = next(iter(VideoReader(tmp_path / name)))
    assert frame.shape == (34, 52, 3)
    np.testing.assert_allclose(
        frame[:33, :51][[4, 4, 28], [4, 46, 46]], image[[4, 4, 28], [4, 46, 46]], atol=12
    )
    np.testing.assert_allclose(frame[:, 51].astype(int), frame[:, 50].astype(int), atol=12)


def test_smallest_frame(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", Fraction(25), 1, 1) as writer:
        writer.write(np.full((1, 1, 3), 128, np.uint8))
    assert next(iter(VideoReader(tmp_path / "a.mp4"))).shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("source", "codec", "target"),
    [
        ("in.mp4", "aac", "out.mp4"),
        ("in.mp4", "aac", "out.mkv"),
        ("in.mp4", "aac", "out.mov"),
        ("in.mkv", "libopus", "out.mp4"),
        ("in.mkv", "libopus", "out.webm"),
        ("in.mkv", "libmp3lame", "out.mp4"),
        ("in.mkv", "flac", "out.mkv"),
    ],
)
def test_sound_is_copied_bit_for_bit(tmp_path: Path, source: str, codec: str, target: str) -> None:
    given = make_video(tmp_path / source, 60, rate=FPS, audio=codec, audio_seconds=1.5)
    path = write(tmp_path / target, 60, audio_from=given)
    assert packets_of(path, "audio") == packets_of(given, "audio")
    (video_before, before), (video_after, after) = spans(given), spans(path)
    assert abs((after - video_after) - (before - video_before)) < 0.03
    assert VideoReader(path).info.has_audio


@pytest.mark.parametrize(
    ("source", "codec", "target", "expected"),
    [
        ("in.avi", "pcm_s16le", "out.mp4", "aac"),
        ("in.mkv", "flac", "out.mov", "aac"),
        ("in.mp4", "aac", "out.webm", "opus"),
    ],
)
def test_sound_is_encoded_where_it_cannot_be_copied(
    tmp_path: Path, source: str, codec: str, target: str, expected: str
) -> None:
    given = make_video(tmp_path / source, 45, audio=codec)
    path = write(tmp_path / target, 45, fps=Fraction(30), audio_from=given)
    video, audio = spans(path)
    assert audio <= video and video - audio < 0.06
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name == expected
        samples = np.concatenate([f.to_ndarray().reshape(-1) for f in container.decode(audio=0)])
    assert samples.astype(np.float64).std() > 0.1  # 8000 / 32768 / sqrt(2) = 0.17


@pytest.mark.parametrize(
    ("codec", "target"), [("aac", "out.mp4"), ("pcm_s16le", "out.mp4"), ("libopus", "out.webm")]
)
def test_sound_is_no_longer_than_the_pictures(tmp_path: Path, codec: str, target: str) -> None:
    given = make_video(tmp_path / "in.mkv", 90, audio=codec)
    path = write(tmp_path / target, 20, fps=Fraction(30), audio_from=given)
    video, audio = spans(path)
    assert audio <= video and video - audio < 0.06


def test_sound_stays_in_sync_with_the_pictures(tmp_path: Path) -> None:
    late = make_video(
        tmp_path / "in.mkv",
        30,
        audio="libopus",
        audio_seconds=2,
        times=[Fraction(k + 30, 30) for k in range(30)],
    )
    path = write(tmp_path / "out.mkv", 30, fps=Fraction(30), audio_from=late)
    kept, given = packets_of(path, "audio"), packets_of(late, "audio")
    first = given.index(kept[0])
    assert kept == given[first : first + len(kept)]
    # Packets last 20 ms, the first picture is at 1 s, and up to 0.1 s before it is kept as lead-in.
    assert 44 <= first <= 50
    assert first + len(kept) >= 98


def test_sound_only_and_no_sound(tmp_path: Path) -> None:
    silent = make_video(tmp_path / "silent.mp4", 5)
    assert not VideoReader(write(tmp_path / "a.mp4", audio_from=silent)).info.has_audio
    with pytest.raises(UserError, match="no such file"):
        write(tmp_path / "b.mp4", audio_from=tmp_path / "none.mp4")
    assert not (tmp_path / "b.mp4").exists()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, UserError])
@pytest.mark.parametrize("frames", [0, 5])
def test_no_file_is_left_after_an_error(tmp_path: Path, error: type[BaseException], frames: int) -> None:
    given = make_video(tmp_path / "in.mp4", 20, audio="aac")
    with pytest.raises(error), VideoWriter(tmp_path / "a.mp4", FPS, 96, 64, audio_from=given) as writer:
        for _ in range(frames):
            writer.write(quadrants())
        assert not (tmp_path / "a.mp4").exists()
        raise error("stop")
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_an_existing_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"precious")
    with pytest.raises(UserError, match="exists already"):
        VideoWriter(path, FPS, 96, 64)
    with pytest.raises(RuntimeError), VideoWriter(path, FPS, 96, 64, overwrite=True) as writer:
        writer.write(quadrants())
        raise RuntimeError
    assert path.read_bytes() == b"precious"
    write(path, overwrite=True)
    assert VideoReader(path).info.frame_count == 10


def test_a_file_that_appears_in_the_meantime_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with pytest.raises(UserError, match="exists already"), VideoWriter(path, FPS, 96, 64) as writer:
        writer.write(quadrants())
        path.write_bytes(b"precious")
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert path.read_bytes() == b"precious"


def test_no_frames_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no frame"), VideoWriter(tmp_path / "a.mp4", FPS, 96, 64):
        pass
    assert not list(tmp_path.iterdir())


def test_frame_of_another_size_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="frame 0: not 96x64"),
        VideoWriter(tmp_path / "a.mp4", FPS, 96, 64) as w,
    ):
        w.write(quadrants(32, 48))
    assert not list(tmp_path.iterdir())


FULL_DISK = """
import resource, signal, sys
import numpy as np
from fractions import Fraction
from liveportrait.animation.options import OutputOptions
from liveportrait.animation.writer import size_notes
from liveportrait.choices import VideoCodec
from liveportrait.errors import UserError
from liveportrait.media import VideoWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
random = np.random.default_rng(0)
try:
    with VideoWriter(sys.argv[1], Fraction(25), 256, 256) as writer:
        for _ in range(20):
            writer.write(random.integers(0, 255, (256, 256, 3), dtype=np.uint8))
except UserError as error:
    print(error)
"""


def test_full_disk_is_reported_in_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "a.mp4")], capture_output=True, text=True, check=True
    )
    assert "a.mp4 cannot be written: File too large" in done.stdout
    assert not list(tmp_path.iterdir())


COPY = """
import sys
from pathlib import Path
from types import SimpleNamespace
from liveportrait.media import VideoReader, VideoWriter, encoder_for
with VideoReader(sys.argv[1]) as reader:
    info = reader.info
    with VideoWriter(sys.argv[2], info.fps, info.width, info.height, audio_from=reader.path) as writer:
        for frame in reader:
            writer.write(frame)
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    peaks = []
    for frames in (200, 2000):
        given = make_video(
            tmp_path / f"{frames}.mkv", frames, audio="libopus", options={"preset": "ultrafast"}
        )
        command = [sys.executable, "-c", COPY, str(given), str(tmp_path / f"{frames}.mp4")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(float(done.stdout))
    short, long = peaks
    assert long < short * 1.05, f"peak memory {short:.0f} MiB for 200 frames, {long:.0f} MiB for 2000"


def test_a_video_larger_than_its_frames_is_noted(tmp_path: Path) -> None:
    rendering = SimpleNamespace(
        compositor=SimpleNamespace(shape=(33, 50)), paste=SimpleNamespace(alpha=False)
    )
    for name, noted in (("a.mp4", True), ("a.webm", False), ("frames", False), ("a.png", False)):
        notes = size_notes(rendering, tmp_path / name, OutputOptions())  # type: ignore[arg-type]
        assert ["is 50x34 px" in note for note in notes] == [True] * noted
