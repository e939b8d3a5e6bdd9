"""The live page in a browser: the camera next to the portrait, figures, messages, and closed tabs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from animation_samples import bundled_networks, portrait

pytest.importorskip("fastapi", reason="the extra [serve] is not installed")

from liveportrait.animation.animator import Animator
from liveportrait.apps.server.application import create_application
from liveportrait.apps.server.settings import LiveLimits, ServerSettings
from liveportrait.engine import Engine
from liveportrait.face import default_analyzer
from liveportrait.face.measures import lip_ratio
from liveportrait.media import VideoReader, save_image
from liveportrait.media.sound.speech import read_speech

PHONE = 390, 844
SAYS = "The portrait says what you say."
COVER = "document.querySelector('#camera').srcObject.getVideoTracks()[0].enabled = {}"
COUNTED = "count => +document.body.dataset.pictures >= count"
FOLLOWS, LOST = "The portrait follows you.", "No face in sight: the portrait waits."


@pytest.fixture(scope="module")
def address(serve, tmp_path_factory):
    """The application with two portraits and at most one stream."""
    animator = Animator(Engine(bundled_networks(), threads=1))
    portraits = {
        "astronaut": portrait()[:256, 20:276],
        "mirrored": np.ascontiguousarray(portrait()[:200, ::-1]),
    }
    settings = ServerSettings(data=tmp_path_factory.mktemp("service"), live=LiveLimits(sessions=1))
    application = create_application(settings, animator)
    application.state.gallery.set_portraits(portraits)
    with serve(application) as url:
        yield url + "/live"


def says(page, sentence: str) -> None:
    """Wait until the page shows a message."""
    page.get_by_role("status").filter(has_text=sentence).wait_for()


def shot(page, name: str) -> None:
    """Save a screenshot if the environment names a folder for them."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def pixels(page) -> np.ndarray:
    """The pixels (H,W,3) of the portrait's canvas."""
    data = page.evaluate(
        "async () => { const blob = await new Promise(done => portrait.toBlob(done));"
        " return [...new Uint8Array(await blob.arrayBuffer())] }"
    )
    return cv2.imdecode(np.array(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def test_the_portrait_follows_the_camera(page_at, address, tmp_path):
    page = page_at(address, accept_downloads=True)
    says(page, "Choose a portrait, then start the camera")
    page.get_by_role("button", name="mirrored").wait_for()
    shot(page, "live-before")
    page.get_by_role("button", name="Start the camera").click()
    says(page, FOLLOWS)
    page.wait_for_function(COUNTED, arg=5)
    assert float(page.locator("#rate").inner_text()) > 0
    stages = page.locator("#stages th").all_inner_texts()
    assert stages[0] == "capture, encode" and stages[-1] == "draw" and {"render", "to server"} < set(stages)
    spent = [float(each) for each in page.locator("#stages td:nth-child(2)").all_inner_texts()]
    assert min(spent) >= 0 and sum(spent) > 0
    shot(page, "live-desktop")
    # The person leaves the picture, and comes back.
    page.evaluate(COVER.format("false"))
    says(page, LOST)
    shot(page, "live-lost")
    page.evaluate(COVER.format("true"))
    says(page, FOLLOWS)
    # While recording, switch portraits by key, and upload a file that is not a photo.
    page.keyboard.press("v")
    page.keyboard.press("2")
    page.locator("[data-name=mirrored][aria-pressed=true]").wait_for()
    says(page, FOLLOWS)
    (tmp_path / "notes.txt").write_text("no picture")
    page.locator("#photo").set_input_files(tmp_path / "notes.txt")
    says(page, "notes.txt is not a photo: choose a JPEG, PNG or WebP picture.")
    page.locator("[data-name=mirrored][aria-pressed=true]").wait_for()
    shot(page, "live-refused")
    assert page.locator("#portraits button").count() == 2
    counted = int(page.evaluate("document.body.dataset.pictures"))
    page.wait_for_function(COUNTED, arg=counted + 3)
    with page.expect_download() as saved:
        page.keyboard.press("v")
    film = tmp_path / saved.value.suggested_filename
    saved.value.save_as(film)
    frames = list(VideoReader(film))
    assert len(frames) >= 2 and frames[0].shape == (256, 256, 3)
    save_image(tmp_path / "me.png", portrait()[:, 20:280])
    page.locator("#photo").set_input_files(tmp_path / "me.png")
    page.wait_for_function("() => portrait.width == 260")
    says(page, FOLLOWS)
    page.get_by_role("button", name="Reset pose").click()
    says(page, FOLLOWS)
    page.get_by_role("button", name="Stop the camera").click()
    says(page, "Stopped.")
    assert page_at.errors == [] and page_at.foreign == []


def test_the_portrait_speaks_the_microphone_s_sound(page_at, address, tmp_path):
    page = page_at(address, accept_downloads=True)
    page.get_by_role("button", name="astronaut").wait_for()
    page.get_by_role("button", name="Start the microphone").click()
    says(page, SAYS)
    page.get_by_label("Hear what the portrait says").check()
    page.keyboard.press("v")
    analyzer, openings, deadline = default_analyzer(), [], time.monotonic() + 240
    while not openings or max(openings) - min(openings) < 0.1:
        openings.append(float(lip_ratio(analyzer.detect(pixels(page))[0].landmarks)[0]))
        assert time.monotonic() < deadline, f"the lips open by {min(openings)} to {max(openings)} only"
    shot(page, "live-speaks")
    assert page.locator("#sensor").inner_text() == "microphone"
    assert 0.15 < float(page.locator("#latency").inner_text()) / 1000 < 60
    with page.expect_download() as saved:
        page.keyboard.press("v")
    film = tmp_path / saved.value.suggested_filename
    saved.value.save_as(film)
    assert np.abs(np.concatenate(list(read_speech(film)))).max() > 0.05
    # The camera takes over on the same connection, and is then stopped.
    page.get_by_role("button", name="Start the camera").click()
    says(page, FOLLOWS)
    page.get_by_role("button", name="Stop the camera").click()
    says(page, "Stopped.")
    assert page_at.errors == [] and page_at.foreign == []


def test_the_page_on_a_phone_in_dark_mode_after_another_tab_was_closed(page_at, address):
    first = page_at(address)
    first.get_by_role("button", name="Start the camera").click()
    says(first, FOLLOWS)
    second = page_at(address, PHONE, dark=True, has_touch=True, is_mobile=True)
    second.get_by_role("button", name="Start the camera").click()
    says(second, "All live streams are in use: waiting for one…")
    first.close()
    says(second, FOLLOWS)
    second.wait_for_function(COUNTED, arg=3)
    shot(second, "live-phone")
    assert second.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    assert pixels(second).std() > 20
    assert page_at.errors == [] and page_at.foreign == []
