"""Reading and writing pictures: orientation, transparency, depth, colour models, and bad files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from media_samples import corners, make_video, quadrants
from PIL import Image

from liveportrait.errors import UserError
from liveportrait.media import load_image, media_kind, save_image
from liveportrait.media.image import exif_orientation, upright

STORED = quadrants()
CLOCKWISE = [corners(STORED)[k].tolist() for k in range(4)]


def save(path: Path, image: Any, kind: str, **options: Any) -> Path:
    image.save(path, kind, **options)
    return path


def exif(orientation: int) -> Any:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


# Which stored quarter (clockwise from the top left: 0 1 2 3) is seen at each corner (EXIF 2.3, 4.6.4).
SEEN = {
    1: [0, 1, 2, 3], 2: [1, 0, 3, 2], 3: [2, 3, 0, 1], 4: [3, 2, 1, 0],
    5: [0, 3, 2, 1], 6: [3, 0, 1, 2], 7: [2, 1, 0, 3], 8: [1, 2, 3, 0],
}  # fmt: skip


@pytest.mark.parametrize("orientation", SEEN)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "PNG with alpha", "WEBP with alpha"])
def test_orientation_is_applied(tmp_path: Path, kind: str, orientation: int) -> None:
    name, alpha = kind.split()[0], "alpha" in kind
    image = Image.fromarray(STORED)
    if alpha:
        image.putalpha(255)
        image.putpixel((0, 0), (0, 0, 0, 0))
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(name, {})
    loaded = load_image(save(tmp_path / "a", image, name, exif=exif(orientation), **options))
    assert loaded.shape == ((64, 96, 3) if orientation < 5 else (96, 64, 3))
    expected = [CLOCKWISE[k] for k in SEEN[orientation]]
    np.testing.assert_allclose(corners(loaded), expected, atol=4)


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    rgba = np.dstack([STORED, np.full(STORED.shape[:2], 255, np.uint8)])
    rgba[:32, :48, 3] = 0
    rgba[:32, 48:, 3] = 51
    loaded = load_image(save(tmp_path / "a.png", Image.fromarray(rgba), "PNG"))
    expected = [[255] * 3, np.array(CLOCKWISE[1]) * 0.2 + 255 * 0.8, CLOCKWISE[2], CLOCKWISE[3]]
    np.testing.assert_allclose(corners(loaded), expected, atol=1)
    deep = np.dstack([STORED[..., ::-1].astype(np.uint16) * 257, rgba[..., 3].astype(np.uint16) * 257])
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    np.testing.assert_array_equal(load_image(tmp_path / "deep.png"), loaded)
    palette = Image.fromarray(STORED).convert("P", palette=Image.Palette.ADAPTIVE)
    for kind in ("PNG", "GIF"):
        path = save(tmp_path / "p", palette, kind, transparency=palette.getpixel((5, 5)))
        seen = corners(load_image(path))
        np.testing.assert_allclose(seen[:3], [[255] * 3, *CLOCKWISE[1:3]], atol=8)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_rounded(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), STORED[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(load_image(path), STORED)
    grey = np.array([[0, 128, 129, 65535]], np.uint16)
    cv2.imwrite(str(path), grey)
    assert load_image(path)[..., 1].tolist() == [[0, 0, 1, 255]]


def test_colour_models_and_formats(tmp_path: Path) -> None:
    image = Image.fromarray(STORED)
    path = tmp_path / "a"
    for kind in ("PNG", "BMP", "TIFF"):
        np.testing.assert_array_equal(load_image(save(path, image, kind)), STORED)
    np.testing.assert_array_equal(load_image(save(path, image, "WEBP", lossless=True)), STORED)
    for kind in ("JPEG", "TIFF"):
        loaded = load_image(save(path, image.convert("CMYK"), kind))
        np.testing.assert_allclose(corners(loaded), CLOCKWISE, atol=5)
    grey = image.convert("L")
    for kind in ("PNG", "TIFF", "BMP"):
        loaded = load_image(save(path, grey, kind))
        np.testing.assert_array_equal(loaded, np.dstack([np.asarray(grey)] * 3))
    assert load_image(save(path, image.convert("1"), "PNG")).shape == STORED.shape


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.gif", [STORED, 255 - STORED], rate=10, codec="gif", pixels="rgb8")
    np.testing.assert_allclose(corners(load_image(path)), CLOCKWISE, atol=45)  # 3, 3 and 2 bits per channel
    later = [Image.fromarray(255 - STORED)]
    still = save(
        tmp_path / "a.webp",
        Image.fromarray(STORED),
        "WEBP",
        save_all=True,
        append_images=later,
        lossless=True,
    )
    np.testing.assert_array_equal(load_image(still), STORED)


def test_format_follows_the_content_not_the_suffix(tmp_path: Path) -> None:
    path = save(tmp_path / "photo.mp4", Image.fromarray(STORED), "PNG")
    assert media_kind(path) == "image"
    np.testing.assert_array_equal(load_image(path), STORED)


def test_smallest_picture(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")
    assert load_image(path).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_picture_that_is_cut_off_is_refused(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / "a.pic", Image.fromarray(noise), kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(UserError, match=r"a\.pic .*(damaged|cut off)"):
        load_image(path)
    assert "OpenCV" not in capfd.readouterr().err


def test_files_that_are_not_pictures_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "a.png"
    text.write_text("no picture at all, but long enough to be looked at")
    empty = tmp_path / "empty.png"
    empty.touch()
    deep = tmp_path / "deep.tiff"
    cv2.imwrite(str(deep), np.zeros((4, 4, 3), np.float32))
    video = make_video(tmp_path / "v.mp4", 2)
    for path, said in (
        (text, "is neither a picture"),
        (empty, "is empty"),
        (deep, "float32 pixels"),
        (video, "is a video, not a picture"),
        (tmp_path, "is a folder"),
        (tmp_path / "none.jpg", "no such file"),
    ):
        with pytest.raises(UserError, match=said):
            load_image(path)


def test_damaged_exif_means_upright() -> None:
    good = exif(6).tobytes()
    assert exif_orientation(good) == 6
    for length in range(len(good)):
        assert exif_orientation(good[:length]) in (1, 6)
    assert exif_orientation(exif(77).tobytes()) == 1


def test_upright_keeps_every_pixel() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    seen = {upright(image, orientation).tobytes() for orientation in range(1, 9)}
    assert len(seen) == 8


@pytest.mark.parametrize(
    ("suffix", "error"), [(".png", 0), (".jpg", 2), (".jpeg", 2), (".webp", 4), (".PNG", 0)]
)
def test_saved_pictures_load_unchanged(tmp_path: Path, suffix: str, error: float) -> None:
    path = tmp_path / f"a{suffix}"
    save_image(path, STORED)
    assert np.abs(load_image(path).astype(int) - STORED).mean() <= error
    assert list(tmp_path.iterdir()) == [path]


def test_saving_never_overwrites_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")
    with pytest.raises(UserError, match="exists already"):
        save_image(path, STORED)
    assert path.read_bytes() == b"precious"
    save_image(path, STORED, overwrite=True)
    np.testing.assert_array_equal(load_image(path), STORED)


def test_unsupported_pictures_are_not_saved(tmp_path: Path) -> None:
    for path, said in (
        (tmp_path / "a.gif", "choose one of .jpg"),
        (tmp_path / "a", "has no suffix"),
        (tmp_path / "none" / "a.png", "no such folder"),
    ):
        with pytest.raises(UserError, match=said):
            save_image(path, STORED)
    (tmp_path / "b.png").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        save_image(tmp_path / "b.png", STORED, overwrite=True)
    with pytest.raises(UserError, match=r"use \.png"):
        save_image(tmp_path / "long.webp", np.zeros((2, 17000, 3), np.uint8))
    with pytest.raises(ValueError, match="uint8 RGB"):
        save_image(tmp_path / "c.png", STORED[..., 0])
    assert [p.name for p in tmp_path.iterdir()] == ["b.png"]
