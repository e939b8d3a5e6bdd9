"""A photo of several people on the serverless page: the visitor chooses whose face moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from skimage.data import astronaut
from web_visits import bring, says, shot

from liveportrait import Animator
from liveportrait.animation.options import SourceOptions
from liveportrait.face import default_analyzer
from liveportrait.media import load_image, save_image

LEFT, RIGHT = 220, 300  # px: sides of the two people's squares
ALIKE = 45.0  # dB of a picture against Python's
NEAR = 0.02  # of the photo's sides


@pytest.fixture(scope="module")
def couple(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The astronaut, and to her right a larger mirror image."""
    person = np.ascontiguousarray(astronaut()[:300, 70:370])
    picture = np.zeros((RIGHT, LEFT + RIGHT, 3), np.uint8)
    picture[RIGHT - LEFT :, :LEFT] = cv2.resize(person, (LEFT, LEFT), interpolation=cv2.INTER_AREA)
    picture[:, LEFT:] = person[:, ::-1]
    path = tmp_path_factory.mktemp("couple") / "couple.png"
    save_image(path, picture)
    return path


def pressed(page: Any) -> list[str | None]:
    """The state of the faces' buttons, from the left."""
    return [each.get_attribute("aria-pressed") for each in page.locator("#faces button").all()]


def smiling(page: Any, folder: Path) -> np.ndarray:
    """The photo with the chosen face smiling."""
    page.get_by_label("Smile").last.fill("0.8")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save picture").click()
    saved.value.save_as(folder / "portrait.png")
    return load_image(folder / "portrait.png")


def test_the_visitor_chooses_the_face_that_moves(open_page, couple, photo, tmp_path):
    page = open_page()
    bring(page, couple)
    says(page, "2 faces found: select the one that should move.")
    assert pressed(page) == ["false", "true"]  # the larger one
    shot(page, "web-faces")
    first = smiling(page, tmp_path)
    page.get_by_role("button", name="Face 1 of 2 from the left").focus()
    page.keyboard.press("Enter")
    says(page, "Face 1 of 2 from the left will move.")
    assert pressed(page) == ["true", "false"]
    assert float(page.get_by_label("Smile").last.input_value()) < 0.01  # at rest
    second = smiling(page, tmp_path)
    animator = Animator.load("compact", threads=1, backend="eager")
    for number, made in (("2", first), ("1", second)):
        with animator.open(couple, SourceOptions(faces=number)) as portrait:
            assert cv2.PSNR(made, portrait.edit(smile=0.8)) >= ALIKE
    assert cv2.PSNR(first, second) < ALIKE
    # Another photo replaces them; with one face there is nothing to choose.
    bring(page, photo)
    assert pressed(page) == ["true"] and not page.locator("#faces").is_visible()


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_every_button_is_over_its_face(open_page, couple, size):
    page = open_page(size=size, dark=size[0] < 500)
    bring(page, couple)
    shot(page, f"web-faces-{size[0]}")
    shown = page.locator("#canvas").bounding_box()
    image = load_image(couple)
    found = sorted(default_analyzer().detect(image), key=lambda face: face.box[0])
    buttons = page.locator("#faces button").all()
    assert len(found) == len(buttons) == 2
    for button, face in zip(buttons, found, strict=True):
        place = button.bounding_box()
        for axis, side, length in (("x", "width", image.shape[1]), ("y", "height", image.shape[0])):
            middle = (place[axis] + place[side] / 2 - shown[axis]) / shown[side]
            index = 0 if axis == "x" else 1
            assert abs(middle - (face.box[index] + face.box[index + 2]) / 2 / length) < NEAR
    page.get_by_label("Shows").select_option("face")
    page.locator("#faces").wait_for(state="hidden")
    page.get_by_label("Shows").select_option("photo")
    buttons[0].click()
    says(page, "Face 1 of 2 from the left will move.")
