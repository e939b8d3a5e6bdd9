"""The browser's finished picture equals Python's: composited, pasted and watermarked from the same layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import torch
from animation_samples import bundled_networks
from skimage.data import astronaut
from web_browser import Modules, image_of, picture
from web_records import run

from liveportrait.animation.compositor import Compositor, RenderedFace, watermark_for
from liveportrait.animation.options import PasteOptions, SourceOptions
from liveportrait.animation.session import Session
from liveportrait.animation.source.photo import PhotoSource, open_photo
from liveportrait.engine import Engine
from liveportrait.face import default_analyzer
from liveportrait.face.composition import FaceLayers
from liveportrait.face.paste import HEAD, RAISED, Paster, outline_in_crop, outline_mask
from liveportrait.marking.payload import WORKS, Payload
from liveportrait.marking.reading import read_pictures
from liveportrait.marking.tile import square
from liveportrait.motion import bundled_templates, change_since, relative
from liveportrait.motion.groups import FACE_MESH
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Layers
from liveportrait.types import Image

ROWS = (20, 45, 70, 95)  # frames of a template in which the head has moved far
ALIKE = 60.0  # dB


class Scene(NamedTuple):
    """A photo, and the networks' layers of its face in some frames."""

    source: PhotoSource
    layers: Layers


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(Engine(bundled_networks()), default_analyzer(), batch=4)


def scene(session: Session, photo: Image) -> Scene:
    source = open_photo(session, photo, SourceOptions())
    face = source.faces[0].still
    template = bundled_templates()["look-around"]
    driving = template.motion.rows(list(ROWS))
    moved = relative(face.motion, change_since(driving, template.frame(0), FACE_MESH), "all", FACE_MESH)
    return Scene(source, session.engine.layers(face.features, pose_of(face.motion), pose_of(moved)))


@pytest.fixture(scope="module")
def large(session) -> Scene:
    """A photo of 800 px, whose face is tilted and whose crop reaches over its upper edge."""
    photo = astronaut()
    matrix = cv2.getRotationMatrix2D((224, 120), 12, 1.7)
    matrix[:, 2] += (150, 40)
    return scene(session, cv2.warpAffine(photo, matrix, (800, 711), flags=cv2.INTER_CUBIC))


@pytest.fixture(scope="module")
def small(session) -> Scene:
    return scene(session, np.ascontiguousarray(astronaut()[:300, 70:370]))


def composed(scene: Scene, mark: bool) -> tuple[list[Image], Payload | None]:
    """Python's frames, and the payload of their watermark."""
    options = PasteOptions(mark=mark)
    source = replace(scene.source, sha256="beef" + 60 * "0")
    variant = bundled_networks().variant
    watermark = watermark_for(source, variant, options, "animated")
    compositor = Compositor(source, options, variant, watermark=watermark)
    face = source.faces[0].still
    frames = [
        compositor.compose(
            source.image, [RenderedFace(0, layers, face.placements[0], face.crops[0], None)]
        ).copy()
        for layers in FaceLayers.of(scene.layers)
    ]
    return frames, watermark and watermark.payload


def in_browser(web: Modules, scene: Scene, payload: Payload | None) -> list[Image]:
    made = run(
        web,
        """const {Compositor} = await load("animation/compositor.js");
        const {Watermark} = await load("animation/watermark.js");
        const compositor = new Compositor(photo, window);
        const watermark = payload && new Watermark(payload);
        return frames.map((layers) => {
            const {width, height, data} = compositor.compose(layers, watermark);
            return {width, height, data: data.slice()};
        });""",
        photo=picture(scene.source.image),
        window=_window(scene),
        frames=[[part.numpy() for part in scene.layers.rows([row])] for row in range(len(ROWS))],
        payload=payload and vars(payload),
    )
    return [image_of(frame) for frame in made]


def psnr(image: Image, expected: Image) -> float:
    error = np.square(image.astype(np.float64) - expected).mean()
    return float(-10 * np.log10(max(error, 1e-6) / 255**2))


@pytest.mark.parametrize("size", ["large", "small"])
def test_a_face_is_composited_as_in_python(web, size, request):
    scene = request.getfixturevalue(size)
    expected, _ = composed(scene, mark=False)
    made = in_browser(web, scene, None)
    for frame, wanted in zip(made, expected, strict=True):
        assert (wanted != scene.source.image).any(axis=2).mean() > 0.01  # something moved
        assert psnr(frame, wanted) > ALIKE
        assert np.abs(frame.astype(int) - wanted).max() <= 3


def test_verify_reads_the_browsers_watermark(web, large):
    expected, payload = composed(large, mark=True)
    made = in_browser(web, large, payload)
    for frame, wanted in zip(made, expected, strict=True):
        assert psnr(frame, wanted) > ALIKE
    reading = read_pictures(made)
    assert reading and reading.payload == payload


def test_the_pattern_equals_pythons(web):
    payloads = [Payload(work, 0x1234 * number, 57 * number) for number, work in enumerate(WORKS)]
    made = run(
        web,
        """const {square} = await load("animation/watermark.js");
        return payloads.map(square);""",
        payloads=[vars(payload) for payload in payloads],
    )
    for pattern, payload in zip(made, payloads, strict=True):
        np.testing.assert_allclose(pattern, square(payload).flatten(), atol=1e-4)


def test_the_mask_equals_pythons(web, large):
    window = large.source.faces[0].still.placements[0].window
    (rows, columns), cover = Paster(window, large.source.shape).covered
    made = run(
        web,
        """const {Place} = await load("face/paste.js");
        const {box, mask} = new Place(window, ...size);
        return {box, mask};""",
        window={"matrix": window.matrix.flatten(), "size": window.size},
        size=large.source.shape[::-1],
    )
    width, height = columns.stop - columns.start, rows.stop - rows.start
    assert made["box"] == {"left": columns.start, "top": rows.start, "width": width, "height": height}
    assert np.abs(made["mask"].reshape(height, width).astype(int) - cover).max() <= 1


def test_a_face_beyond_the_photo_changes_nothing(web, small):
    away = small.source.faces[0].still.placements[0].window.matrix.copy()
    away[:, 2] += 5000
    made = run(
        web,
        """const {Compositor} = await load("animation/compositor.js");
        const {Watermark} = await load("animation/watermark.js");
        const mark = new Watermark({work: "edited", source: 1, weights: 2});
        return new Compositor(photo, {matrix, size: 512}).compose(layers, mark);""",
        photo=picture(small.source.image),
        matrix=away.flatten(),
        layers=[part.numpy() for part in small.layers.rows([0])],
    )
    np.testing.assert_array_equal(image_of(made), small.source.image)


def test_unchanged_pixels_equal_the_photo_bit_for_bit(web, small):
    flow = torch.from_numpy(np.mgrid[:256, :256][::-1].transpose(1, 2, 0).copy()).float()[None]
    still = Layers(
        (flow + 0.5) / 128 - 1 + 0.03 / 128,
        torch.full((1, 1, 256, 256), 0.98),
        torch.full((1, 3, 256, 256), 0.01),
    )
    scene = Scene(small.source, Layers.cat([still] * len(ROWS)))
    for frame in in_browser(web, scene, None):
        np.testing.assert_array_equal(frame, small.source.image)


def test_the_mask_of_an_outline_equals_pythons(web, small):
    placement = small.source.faces[0].still.placements[0]
    made = run(
        web,
        """const {outlineInCrop, outlineMask} = await load("face/outlines.js");
        const seen = outlineInCrop(outline, window);
        return [outlineMask(seen, 1), outlineMask(seen, 1.45, 0.12)];""",
        outline=placement.outline.flatten(),
        window=_window(small),
    )
    outline = outline_in_crop(placement.outline, placement.window)
    for mask, wanted in zip(
        made, (outline_mask(outline, 256, 1.0), outline_mask(outline, 256, HEAD, RAISED)), strict=True
    ):
        assert 0.05 < (wanted > 128).mean() < 0.9
        assert np.abs(mask.reshape(256, 256).astype(int) - wanted).max() <= 5


def test_other_heads_are_not_covered(web, session, small):
    """One other head is next to the face, another one far away."""
    face = small.source.faces[0].still
    own = face.placements[0].outline
    others = (own + np.float32([70, 10, 0]), own + np.float32([900, 0, 0]))
    source = replace(small.source, bystanders=others)
    layers = small.layers.rows([1])
    rendered = RenderedFace(0, FaceLayers.of(layers)[0], face.placements[0], face.crops[0], None)
    compositor = Compositor(source, PasteOptions(mark=False), session.engine.variant)
    expected = compositor.compose(source.image, [rendered])
    made = run(
        web,
        """const {Compositor} = await load("animation/compositor.js");
        return new Compositor(photo, window, {own, others}).compose(layers);""",
        photo=picture(source.image),
        window=_window(small),
        own=own.flatten(),
        others=[other.flatten() for other in others],
        layers=[part.numpy() for part in layers],
    )
    assert psnr(expected, composed(small, mark=False)[0][1]) < 40  # the mask makes a difference
    assert psnr(image_of(made), expected) > 55


def test_the_crop_alone_is_composited_as_in_python(web, session, large):
    expected = Compositor(large.source, PasteOptions(mark=False, paste_back=False), session.engine.variant)
    face = large.source.faces[0].still
    rendered = RenderedFace(0, FaceLayers.of(large.layers.rows([2]))[0], None, face.crops[0], None)
    made = run(
        web,
        """const {Compositor} = await load("animation/compositor.js");
        return Compositor.ofCrop(photo, window).compose(layers);""",
        photo=picture(large.source.image),
        window=_window(large),
        layers=[part.numpy() for part in large.layers.rows([2])],
    )
    assert psnr(image_of(made), expected.compose(large.source.image, [rendered])) > ALIKE


def _window(scene: Scene) -> dict[str, Any]:
    window = scene.source.faces[0].still.placements[0].window
    return {"matrix": window.matrix.flatten(), "size": window.size}
