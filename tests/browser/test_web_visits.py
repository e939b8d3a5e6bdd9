"""Visits to the serverless page: photos from all inputs, other video formats, a tab closed too early."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from animation_samples import portrait
from av.video.reformatter import ColorRange, Colorspace
from media_samples import make_video
from web_browser import Modules, image_of, modules
from web_dist import FRAMES
from web_visits import CAMERA_STATES, KEEP_CAMERAS, ONE_THREAD, WEB_PATIENCE, bring, says, video_of

from liveportrait.marking.film import watermarks
from liveportrait.marking.reading import read_picture
from liveportrait.media import VideoReader, save_image

COPY = """async (bytes) => {
    const file = new Blob([Uint8Array.from(bytes)], {type: "image/png"});
    await navigator.clipboard.write([new ClipboardItem({"image/png": file})]);
}"""
DROP = """(bytes) => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([Uint8Array.from(bytes)], "dropped.png", {type: "image/png"}));
    const given = {bubbles: true, cancelable: true, dataTransfer};
    document.querySelector("#frame").dispatchEvent(new DragEvent("dragover", given));
    document.querySelector("#frame").dispatchEvent(new DragEvent("drop", given));
}"""
UNPLUG = "() => window.cameras.at(-1).dispatchEvent(new Event('ended'))"
KEPT_FILES = """async () => {
    const names = [];
    for await (const name of (await navigator.storage.getDirectory()).keys()) names.push(name);
    return names;
}"""
# Leaves as soon as the first frame is reported: a short video is done in a second.
LEAVE = """() => {
    const message = document.querySelector("#message");
    const watch = () => message.textContent.startsWith("Frame") && (observer.disconnect(), location.reload());
    const observer = new MutationObserver(watch);
    observer.observe(message, {childList: true, characterData: true, subtree: true});
}"""
FIRST_FRAME = """
const {setConstants} = await load("constants.js");
const {VideoInput} = await load("media/input.js");
setConstants({photo});
const video = await VideoInput.open(new File([film], "film.mp4"));
try {
    for await (const picture of video.frames()) return picture;
} finally {
    video.close();
}
"""


@pytest.fixture(scope="module")
def page(browser, server) -> Iterator[Any]:
    """The page, for all tests of this file: each brings its own photo."""
    visitor = browser.new_context(permissions=["camera", "clipboard-read", "clipboard-write"])
    visitor.set_default_timeout(WEB_PATIENCE)
    opened, errors = visitor.new_page(), []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.add_init_script(KEEP_CAMERAS)
    opened.goto(server.address + ONE_THREAD)
    opened.locator("body[data-ready=yes]").wait_for()
    yield opened
    visitor.close()
    assert errors == []


@pytest.fixture(scope="module")
def running(browser, built) -> Iterator[Modules]:
    with modules(browser, built) as loaded:
        yield loaded


def saved(path: Path, image: np.ndarray) -> Path:
    """Save a picture and return its path."""
    save_image(path, image)
    return path


def shown(page: Any, width: int, height: int) -> None:
    """Wait for a portrait of a size."""
    page.locator(f"canvas[aria-label='The portrait, {width} by {height} pixels']").wait_for()


def test_photos_are_pasted_dropped_and_taken_by_the_camera(page, tmp_path):
    pictures = [portrait()[:, 10:], portrait()[:, 20:]]
    pasted, dropped = (saved(tmp_path / f"{n}.png", each).read_bytes() for n, each in enumerate(pictures))
    page.evaluate(COPY, list(pasted))
    page.keyboard.press("Control+v")
    shown(page, 290, 300)
    page.evaluate(DROP, list(dropped))
    shown(page, 280, 300)
    page.get_by_role("button", name="Take a photo").click()
    page.get_by_role("button", name="Cancel").click()
    assert page.locator("#canvas").is_visible() and not page.locator("#viewfinder").is_visible()
    page.get_by_role("button", name="Take a photo").click()
    page.wait_for_function("() => document.querySelector('#viewfinder').videoWidth > 0")
    assert page.evaluate(CAMERA_STATES) == ["ended", "live"]
    page.get_by_role("button", name="Take it").click()
    shown(page, 640, 480)
    assert set(page.evaluate(CAMERA_STATES)) == {"ended"} and not page.locator("#viewfinder").is_visible()


def test_a_camera_is_released_when_stopped_and_its_loss_is_reported(page, tmp_path):
    bring(page, saved(tmp_path / "photo.png", portrait()))
    page.get_by_text("Camera, live").click()
    for ends in ("() => document.querySelector('#cancel').click()", UNPLUG):
        page.get_by_role("button", name="Animate").click()
        says(page, "The portrait follows:")
        page.evaluate(ends)
        page.get_by_role("button", name="Animate").wait_for()
    says(page, "The camera was disconnected: is it still plugged in?")
    assert set(page.evaluate(CAMERA_STATES)) == {"ended"}


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_the_face_alone_is_watermarked_from_the_first_frame_on(page, kind, tmp_path):
    bring(
        page,
        saved(tmp_path / "small.png", cv2.resize(portrait(), (256, 256), interpolation=cv2.INTER_AREA)),
    )
    page.get_by_text("Talk", exact=True).click()
    page.get_by_label("Shows").select_option("face")
    page.get_by_label("File").select_option(kind)
    path = video_of(page, tmp_path)
    frames = list(VideoReader(path))
    assert path.suffix == f".{kind}" and len(frames) == FRAMES and frames[0].shape == (256, 256, 3)
    first = read_picture(frames[0])
    assert first and first.payload and first.payload.work == "animated"
    assert [mark.payload and mark.payload.work for mark in watermarks(path)] == ["animated"]


def test_an_undecodable_video_is_reported(page, tmp_path):
    bring(page, saved(tmp_path / "photo.png", portrait()))
    page.get_by_text("Own video…").click()
    page.locator("#driver").set_input_files(make_video(tmp_path / "old.mp4", 3, codec="mpeg4"))
    page.get_by_role("button", name="Animate").click()
    says(page, "This browser cannot decode old.mp4")
    assert page.get_by_role("button", name="Animate").is_enabled()


def test_closing_a_busy_tab_asks_first_and_leaves_no_files(page, tmp_path):
    bring(page, saved(tmp_path / "photo.png", portrait()))
    page.get_by_text("Smile").first.click()
    asked: list[str] = []
    for stays in (True, False):
        page.once("dialog", lambda dialog, stays=stays: answered(dialog, stays, asked))
        page.evaluate(LEAVE)
        with nullcontext() if stays else page.expect_navigation():
            page.get_by_role("button", name="Animate").click()
        if stays:
            page.get_by_role("link", name="Download").wait_for()
    page.locator("body[data-ready=yes]").wait_for()
    assert asked == ["beforeunload"] * 2
    assert page.evaluate(KEPT_FILES) == []


def answered(dialog: Any, stays: bool, asked: list[str]) -> None:
    """Answer the browser's question whether to leave."""
    asked.append(dialog.type)
    dialog.dismiss() if stays else dialog.accept()


@pytest.mark.parametrize(
    ("pixels", "colours", "rotation"),
    [
        ("yuv420p", (Colorspace.ITU709, ColorRange.MPEG), 0),
        ("yuvj420p", (Colorspace.ITU601, ColorRange.JPEG), 0),
        ("yuv420p", (Colorspace.ITU709, ColorRange.JPEG), 90),
        ("yuv420p", (Colorspace.ITU601, ColorRange.MPEG), 180),
    ],
)
def test_video_frames_have_pythons_colours_and_orientation(running, pixels, colours, rotation, tmp_path):
    path = make_video(tmp_path / "film.mp4", 3, pixels=pixels, colours=colours, rotation=rotation)
    film = np.frombuffer(path.read_bytes(), np.uint8)
    ours = image_of(running.run(FIRST_FRAME, film=film, photo={"smallest": 32}))
    theirs = next(iter(VideoReader(path)))
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).mean() < 4  # Chromium's blue of BT.709 is a little weak
