"""ProRes, transparency and folders of PNG."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from liveportrait import UserError
from liveportrait.media import PictureSequence, VideoReader, VideoWriter, load_image, save_image

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


def test_webm_says_that_it_is_transparent(tmp_path: Path) -> None:
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
def test_what_a_file_cannot_hold_is_refused(
    tmp_path: Path, name: str, alpha: bool, codec: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write(tmp_path / name, alpha, codec=codec)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_png_is_exact_and_complete(tmp_path: Path) -> None:
    with PictureSequence(tmp_path / "out") as sequence:
        for number in range(3):
            sequence.write(rgba(number)[..., :3])
        assert [path.name[0] for path in tmp_path.iterdir()] == ["."]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"frame-{number:06d}.png" for number in range(3)]
    for number, name in enumerate(names):
        np.testing.assert_array_equal(load_image(tmp_path / "out" / name), rgba(number)[..., :3])


def test_a_folder_never_appears_half_full_nor_replaces_another(tmp_path: Path) -> None:
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
