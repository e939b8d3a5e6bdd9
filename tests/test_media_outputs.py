"""Writing ProRes, transparency, GIF and folders of PNG."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from liveportrait import UserError
from liveportrait.animation.report import pace
from liveportrait.media import PictureSequence, VideoReader, VideoWriter, load_image, save_image
from liveportrait.media.gif import GifWriter

FPS = Fraction(24000, 1001)


def rgba(number: int) -> np.ndarray:
    """A smooth picture (48,64,4) with a transparent side."""
    y, x = np.mgrid[:48, :64]
    parts = [4 * x, 5 * y, 120 + 0 * x + number, np.clip(8 * (x - 16), 0, 255)]
    return np.stack(parts, axis=2).clip(0, 255).astype(np.uint8)


def write(path: Path, alpha: bool, **options: str) -> Path:
    with VideoWriter(path, FPS, 64, 48, alpha=alpha, **options) as writer:  # type: ignore[arg-type]
        for number in range(3):
            writer.write(rgba(number)[..., : 4 if alpha else 3])
    return path


def stream_of(path: Path) -> tuple[str, str, str]:
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        return context.name, context.pix_fmt, str(context.profile)


def test_prores_is_422_hq_with_ten_bits(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mov", alpha=False, codec="prores")
    assert stream_of(path) == ("prores", "yuv422p10le", "HQ")
    (first, *_) = frames = list(VideoReader(path))
    assert len(frames) == 3 and VideoReader(path).info.fps == FPS
    assert np.abs(first.astype(int) - rgba(0)[..., :3]).mean() < 3


def test_prores_4444_keeps_transparency(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mov", alpha=True)
    assert stream_of(path)[0::2] == ("prores", "4444")
    with av.open(str(path)) as container:
        decoded = next(container.decode(video=0)).to_ndarray(format="rgba")
    assert np.abs(decoded[..., 3].astype(int) - rgba(0)[..., 3]).max() <= 2


def test_webm_declares_its_transparency(tmp_path: Path) -> None:
    path = write(tmp_path / "a.webm", alpha=True)
    with av.open(str(path)) as container:
        assert container.streams.video[0].metadata.get("alpha_mode") == "1"


@pytest.mark.parametrize(
    ("name", "alpha", "codec", "message"),
    [
        ("a.mp4", True, "auto", "cannot hold transparency"),
        ("a.mp4", False, "prores", "cannot hold ProRes"),
        ("a.webm", False, "prores", "cannot hold ProRes"),
    ],
)
def test_unsupported_combinations_are_refused(
    tmp_path: Path, name: str, alpha: bool, codec: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write(tmp_path / name, alpha, codec=codec)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fps", "given", "kept", "times"),
    [
        (Fraction(25), 6, 6, [0.0, 0.04, 0.08]),
        (Fraction(30000, 1001), 31, 31, [0.0, 0.03, 0.07]),
        (Fraction(60), 12, 10, [0.0, 0.02, 0.04]),  # players show at most 50
        (Fraction(25), 1, 1, [0.0]),
    ],
)
def test_a_gif_has_accurate_colours_and_times(
    tmp_path: Path, fps: Fraction, given: int, kept: int, times: list[float]
) -> None:
    path = tmp_path / "a.gif"
    across = np.linspace(0, 255, 61).astype(np.uint8)
    down = np.linspace(0, 255, 43).astype(np.uint8)
    frame = np.stack(np.broadcast_arrays(across[None], down[:, None], np.uint8(90)), axis=-1)
    with GifWriter(path, fps, 61, 43) as writer:
        for number in range(given):
            writer.write(np.roll(frame, number, axis=1))
    assert [each.name for each in tmp_path.iterdir()] == ["a.gif"]
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        found = [float(each.pts * each.time_base) for each in frames]
        pictures = [each.to_ndarray(format="rgb24") for each in frames]
    assert len(frames) == kept and found[:3] == pytest.approx(times)
    error = cv2.blur(pictures[0].astype(np.float32), (5, 5)) - cv2.blur(frame.astype(np.float32), (5, 5))
    assert np.abs(error).mean() < 3  # dithering approximates the colours in between
    assert found[-1] == pytest.approx((kept - 1) / min(fps, 50), abs=0.01)


def test_a_gif_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"), GifWriter(tmp_path / "a.gif", Fraction(25), 8, 8) as gif:
        gif.write(np.zeros((8, 8, 3), np.uint8))
        raise RuntimeError("stop")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="no frame"), GifWriter(tmp_path / "a.gif", Fraction(25), 8, 8):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_overwriting_a_link_replaces_its_target(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "target.png", tmp_path / "link.png"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with pytest.raises(UserError, match="exists already"):
        save_image(link, rgba(0))
    save_image(link, rgba(0), overwrite=True)
    assert link.is_symlink() and target.read_bytes() != b"old" and len(list(tmp_path.rglob("*"))) == 3
    target.unlink()
    with pytest.raises(UserError, match="leads nowhere"):
        save_image(link, rgba(0), overwrite=True)


def test_slow_rates_are_given_in_seconds_per_frame() -> None:
    assert [pace(rate) for rate in (9.14, 1.0, 0.08, 0.0)] == [
        "9.1 frames/s", "1.0 frames/s", "12.5 s a frame", "0.0 frames/s",
    ]  # fmt: skip


def test_a_folder_of_png_is_exact_and_complete(tmp_path: Path) -> None:
    with PictureSequence(tmp_path / "out") as sequence:
        for number in range(3):
            sequence.write(rgba(number)[..., :3])
        assert {path.name[0] for path in tmp_path.iterdir()} == {"."}
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"frame-{number:06d}.png" for number in range(3)]
    for number, name in enumerate(names):
        np.testing.assert_array_equal(load_image(tmp_path / "out" / name), rgba(number)[..., :3])


def test_a_folder_never_appears_incomplete_nor_replaces_another(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"), PictureSequence(tmp_path / "out") as sequence:
        sequence.write(rgba(0))
        raise RuntimeError("stop")
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="exists already"), PictureSequence(tmp_path / "mine"):
        pass


def test_pictures_with_transparency(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", rgba(0))
    stored = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(cv2.cvtColor(stored, cv2.COLOR_BGRA2RGBA), rgba(0))
    with pytest.raises(UserError, match="JPEG holds no transparency"):
        save_image(tmp_path / "a.jpg", rgba(0))
