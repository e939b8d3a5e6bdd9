"""Composing rendered faces from the source's own pixels, at any resolution."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from liveportrait.animation.compositor import Compositor, RenderedFace
from liveportrait.animation.options import PasteOptions
from liveportrait.animation.source.base import FacePlacement
from liveportrait.animation.source.photo import PhotoSource
from liveportrait.face.composition import FaceLayers, composed
from liveportrait.face.crop import Square, crop
from liveportrait.networks.compact.layers import sample
from liveportrait.networks.geometry import pixel_grid
from liveportrait.networks.interface import Layers
from liveportrait.networks.variants import COMPACT
from liveportrait.types import Image

SIDE = 64  # cells of the layers in these tests


@pytest.fixture(scope="module")
def photo() -> Image:
    return np.ascontiguousarray(data.astronaut())


def layers(x: float = 0.0, y: float = 0.0, keep: float = 1.0, paint: float = 0.0) -> Layers:
    """The entire crop moved by (x, y) half sides, with uniform keep and paint; batch of 1."""
    flow = pixel_grid(SIDE, SIDE, torch.device("cpu"))[None] + torch.tensor([x, y])
    return Layers(flow, torch.full((1, 1, SIDE, SIDE), keep), torch.full((1, 3, SIDE, SIDE), paint))


def face(
    rendered: Layers, side: float, centre: tuple[float, float], roll: float = 0.0, number: int = 0
) -> RenderedFace:
    window = Square(np.array(centre), side, roll).window()
    outline = np.tile(np.float32([*centre, 0]), (36, 1))
    tile = np.zeros((256, 256, 3), np.uint8)
    return RenderedFace(
        number, FaceLayers.of(rendered)[0], FacePlacement(window, side / 2, outline), tile, None
    )


def pasted(photo: Image, *faces: RenderedFace, limit: int | None = None, **options: object) -> Image:
    source = PhotoSource(name="photo", shape=photo.shape[:2], image=photo, faces=())
    return Compositor(source, PasteOptions(**options), COMPACT, limit).compose(photo, faces)  # type: ignore[arg-type]


def test_unchanged_pixels_equal_the_source_bit_for_bit(photo: Image) -> None:
    nearly = layers(x=0.02 / 128, keep=0.98, paint=0.01)  # as small as the networks' values in the background
    result = pasted(photo, face(nearly, 333.3, (250.2, 211.7), roll=0.3))
    np.testing.assert_array_equal(result, photo)


def test_composing_a_crop_matches_pytorch(photo: Image) -> None:
    """Compared with PyTorch's `grid_sample`, at the networks' own size."""
    tile = cv2.GaussianBlur(photo[:256, 96:352], (0, 0), 3.0)
    wave = 0.06 * torch.sin(7 * pixel_grid(256, 256, torch.device("cpu")))[None].flip(-1)
    keep = torch.linspace(0.1, 0.9, 256).expand(1, 1, 256, 256)
    paint = (1 - keep) * torch.tensor([0.2, 0.5, 0.8]).view(1, 3, 1, 1)
    rendered = Layers(pixel_grid(256, 256, torch.device("cpu"))[None] + wave, keep, paint)
    picture = torch.from_numpy(tile).permute(2, 0, 1)[None] / 255.0
    expected = (keep * sample(picture, rendered.flow) + paint)[0].permute(1, 2, 0).numpy() * 255
    made = composed(tile, FaceLayers.of(rendered)[0])
    inner = np.s_[24:232, 24:232]
    assert np.abs(made - expected)[inner].max() < 4
    assert np.abs(made - expected)[inner].mean() < 0.4


def test_fine_structure_moves_with_the_face() -> None:
    """A pattern too fine for a picture of 256 px, moved by 9 px of the frame."""
    rng = np.random.default_rng(0)
    frame = cv2.GaussianBlur(rng.integers(0, 255, (1024, 1024, 3), np.uint8), (0, 0), 0.8)
    moved = pasted(frame, face(layers(x=9 / 512), 1024, (511.5, 511.5)))
    middle = np.s_[100:900, 100:900]
    expected = np.roll(frame, -9, axis=1)
    assert np.abs(moved[middle].astype(int) - expected[middle]).max() <= 1
    soft = pasted(frame, face(layers(x=9 / 512), 1024, (511.5, 511.5)), limit=256)
    assert soft[middle].std() < 0.5 * moved[middle].std()
    assert pasted(frame, face(layers(x=9 / 512), 1024, (511.5, 511.5)), resolution=256).std() == soft.std()


def test_two_faces_both_sample_the_original_frame(photo: Image) -> None:
    rendered = layers(y=0.1, keep=0.5, paint=0.2)
    both = [face(rendered, side, (200.0, 200.0), number=number) for number, side in enumerate((120.0, 260.0))]
    large = pasted(photo, both[1])
    together = pasted(photo, *both).astype(int)
    assert np.abs(together - large)[150:250, 150:250].max() <= 1


def test_an_alpha_layer_over_the_photo_equals_the_pasted_face(photo: Image) -> None:
    moving = face(layers(y=0.05, keep=0.7, paint=0.2), 260.0, (256.0, 240.0))
    opaque, layer = pasted(photo, moving), pasted(photo, moving, alpha=True).astype(float)
    share = layer[..., 3:] / 255
    over = share * layer[..., :3] + (1 - share) * photo
    assert np.abs(over - opaque).max() <= 2
    assert 0.3 < (layer[..., 3] > 0).mean() * photo[..., 0].size / 260**2 < 1.1


def test_a_fully_painted_face_has_the_resolution_of_the_networks() -> None:
    rendered = Layers(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 1), torch.full((1, 3, 8, 8), 0.5))
    made = FaceLayers.of(rendered)[0]
    assert made.is_painted
    assert composed(np.zeros((32, 32, 3), np.uint8), made).tolist() == np.full((8, 8, 3), 127).tolist()


def test_a_crop_that_shrinks_is_averaged() -> None:
    from liveportrait.face.crop import crop_to

    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    window = Square(np.array([511.5, 511.5]), 1024.0, 0.0).window()
    assert crop_to(stripes, window, 256).std() < 10 < crop(stripes, window.resized(1024)).std()
