"""The page in a browser: animating, editing, messages, several visitors, and a phone."""

from __future__ import annotations

import os
import socket
import sys
import time
from fractions import Fraction
from pathlib import Path

import httpx
import numpy as np
import pytest
from animation_samples import bundled_networks, portrait
from speech_samples import reader

pytest.importorskip("gradio", reason="the extra [web] is not installed")

from fastapi import FastAPI

from liveportrait.animation.animator import Animator
from liveportrait.apps.app import with_page
from liveportrait.apps.server.application import create_application
from liveportrait.apps.server.settings import Limits, ServerSettings
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.marking.seal import Marker
from liveportrait.media import VideoWriter, save_image
from liveportrait.motion import bundled_templates, write_template
from liveportrait.motion.templates import Template

PHONE = 390, 844
ANSWER_S = 240.0  # for the service's answer, where other tests use the cores


@pytest.fixture(scope="module")
def address(serve, tmp_path_factory):
    """The service with the page."""
    settings = ServerSettings(data=tmp_path_factory.mktemp("page"), limits=Limits(max_bytes=2**20))
    application = create_application(settings, Animator(Engine(bundled_networks(), threads=1)))
    application.state.gallery.set_portraits({})
    with_page(application)
    with serve(application) as url:
        yield url


@pytest.fixture(scope="module")
def motion(tmp_path_factory) -> Path:
    """A motion template of four frames from the middle of a smile."""
    smile = bundled_templates()["smile"]
    path = tmp_path_factory.mktemp("motion") / "short.safetensors"
    write_template(path, Template(smile.motion.rows(range(20, 24)), smile.fps, smile.layout))
    return path


def shot(page, name: str) -> None:
    """Save a screenshot if the environment names a folder for them."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def answer(url: str) -> httpx.Response:
    """What the service answers, outside the browser."""
    return httpx.get(url, timeout=ANSWER_S)


def choose(page, place: str, path: Path) -> None:
    """Upload a file to a file drop."""
    page.locator(f"#{place} input[type=file]").set_input_files(path)


def animate(page, motion: Path) -> None:
    """Animate the astronaut with a motion, and wait for the result."""
    page.get_by_role("button", name="Try the astronaut").click()
    page.locator("#animate-crop .lp-crop img").wait_for()
    page.get_by_label("My own").first.check()
    choose(page, "animate-driver", motion)
    page.get_by_text("motion template, ").first.wait_for()
    page.get_by_role("button", name="Result").first.click()
    page.get_by_label("side by side").first.check()
    page.locator("#animate-run").click()
    page.locator("#animate-result video").wait_for()


def test_a_portrait_is_animated_and_the_result_plays(page_at, address, motion):
    page = page_at(address)
    shot(page, "page-empty")
    page.locator("#animate-run").click()
    page.get_by_role("alert").filter(has_text="Choose a portrait first").wait_for()
    animate(page, motion)
    page.wait_for_function("document.querySelector('#animate-result video').currentTime > 0")
    size = page.evaluate(
        "(v => [v.videoWidth, v.videoHeight])(document.querySelector('#animate-result video'))"
    )
    assert size == [512, 512]
    assert "4 frames" in page.locator("#animate-result figcaption").inner_text()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    compared = page.get_by_role("link", name="Side by side").get_attribute("href")
    assert answer(f"{address}/{compared}").headers["content-type"] == "video/mp4"
    assert download.value.suggested_filename == "astronaut-short.mp4"
    shot(page, "page-animated")
    assert page_at.foreign == [] and page_at.errors == []


def test_a_portrait_speaks_a_file_or_a_text(page_at, address, tmp_path, monkeypatch):
    reader(tmp_path, monkeypatch)
    page = page_at(address)
    page.get_by_role("tab", name="Speak").click()
    page.locator("#speak-run").click()
    page.get_by_role("alert").filter(has_text="Choose a portrait first").wait_for()
    page.locator("button:visible", has_text="Try the astronaut").click()
    page.locator("#speak-crop .lp-crop img").wait_for()
    page.locator("#speak-run").click()
    page.get_by_role("alert").filter(has_text="Choose what the portrait says").wait_for()
    choose(page, "speak-recording", tmp_path / "hum.wav")
    page.locator("#speak-recording").get_by_role("button", name="Play", exact=True).wait_for()
    page.locator("#speak-run").click()
    film = page.locator("#speak-result video")
    film.wait_for()
    page.wait_for_function("document.querySelector('#speak-result video').currentTime > 0")
    assert film.evaluate("video => [video.videoWidth, video.muted, video.loop]") == [512, False, False]
    assert page.locator("#speak-result a").get_attribute("download") == "astronaut-hum-speaks.mp4"
    first = film.get_attribute("src")
    page.get_by_label("A text").check()
    page.locator("#speak-text textarea").fill("Hello.")
    shot(page, "page-speak")
    page.locator("#speak-run").click()
    page.wait_for_function(
        "first => document.querySelector('#speak-result video')?.getAttribute('src') !== first", arg=first
    )
    page.locator("#speak-result video").wait_for()
    assert "Hello." in (tmp_path / "asked").read_text()
    assert page_at.foreign == [] and page_at.errors == []


def test_a_portrait_speaks_a_microphone_recording(page_at, address):
    page = page_at(address)
    page.get_by_role("tab", name="Speak").click()
    page.locator("button:visible", has_text="Try the astronaut").click()
    recording = page.locator("#speak-recording")
    recording.get_by_label("Record audio").click()
    recording.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(800)
    recording.get_by_role("button", name="Stop", exact=True).click()
    recording.get_by_role("button", name="Play", exact=True).wait_for()
    page.locator("#speak-crop .lp-crop img").wait_for()
    page.locator("#speak-run").click()
    page.locator("#speak-result video").wait_for()
    length = "(video => video.duration)(document.querySelector('#speak-result video'))"
    page.wait_for_function(f"{length} > 0")
    assert 0.4 < page.evaluate(length) < 4
    assert page_at.foreign == [] and page_at.errors == []


def move(page, slider: str, value: float) -> None:
    """Move a slider as a user does."""
    page.locator(f"#edit-{slider} input[type=range]").evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input', {bubbles: true})); }",
        value,
    )


def picture(page, other_than: str = "") -> str:
    """The URL of the edited picture, once it differs from `other_than`."""
    page.wait_for_function(
        "other => { const image = document.querySelector('#edit-picture img');"
        " return !image.hidden && image.src !== other }",
        arg=other_than,
    )
    return str(page.locator("#edit-picture img").get_attribute("src"))


def test_the_picture_follows_the_sliders(page_at, address):
    page = page_at(address)
    page.get_by_role("tab", name="Edit").click()
    page.locator("button:visible", has_text="Try the astronaut").click()
    start = picture(page)
    move(page, "smile", 1)
    smiling = picture(page, start)
    assert page.locator("#edit-smile input[type=number]").input_value() == "1"
    move(page, "yaw", 20)
    turned = picture(page, smiling)
    move(page, "yaw", 0)
    assert picture(page, turned) == smiling
    for value in (-20, -10, 10, 20):
        move(page, "yaw", value)
    page.wait_for_function("turned => document.querySelector('#edit-picture img').src === turned", arg=turned)
    shot(page, "page-edited")
    page.locator("#edit-reset").click()
    assert picture(page, turned) != smiling
    assert page.locator("#edit-smile input[type=number]").input_value() == "0"
    move(page, "yaw", -10)
    page.locator("#edit-run").click()
    page.locator("#edit-result img").wait_for()
    assert page.locator("#edit-result a").get_attribute("download") == "astronaut-edited.png"
    assert page_at.foreign == [] and page_at.errors == []


def test_unusable_files_are_reported_in_one_sentence(page_at, address, tmp_path):
    words, large = tmp_path / "words.jpg", tmp_path / "large.png"
    words.write_text("no picture")
    large.write_bytes(bytes(2**20 + 1))
    page = page_at(address)
    choose(page, "animate-source", words)
    alert = page.locator("#animate-crop [role=alert]")
    alert.wait_for()
    told = alert.inner_text()
    assert told.startswith("words.jpg is neither a picture")
    shot(page, "page-refused")
    choose(page, "animate-source", large)
    page.get_by_text("exceed the maximum allowed size").first.wait_for()


def test_a_file_is_checked_for_its_mark(page_at, address, tmp_path):
    path = tmp_path / "smile.jpg"
    save_image(path, portrait())
    seal = Marker("compact").seal(True, "edit", path)
    page = page_at(address)
    page.get_by_role("tab", name="Check").click()
    choose(page, "check-source", path)
    page.get_by_text("smile.jpg: not marked as generated").wait_for()
    seal(path, path)
    choose(page, "check-source", path)
    page.get_by_text("smile.jpg: marked as generated").wait_for()
    page.get_by_text("source type: compositeWithTrainedAlgorithmicMedia").wait_for()
    shot(page, "page-check")
    assert page_at.foreign == [] and page_at.errors == []


def test_each_face_can_have_its_own_driver(page_at, address, motion):
    page = page_at(address)
    page.get_by_role("tab", name="Many faces").click()
    page.get_by_role("button", name="Try two astronauts").click()
    page.get_by_role("button", name="face 2: does not move").click()
    page.get_by_role("heading", name="What moves face 2").wait_for()
    page.locator("label:visible", has_text="My own").click()
    choose(page, "faces-driver", motion)
    page.get_by_role("button", name="face 2: short.safetensors").wait_for()
    shot(page, "page-faces")
    page.locator("#faces-run").click()
    page.locator("#faces-result video").wait_for()
    assert page_at.foreign == [] and page_at.errors == []


def test_keyframes_are_set_at_moments_of_a_video(page_at, address, tmp_path):
    film = tmp_path / "film.mp4"
    with VideoWriter(film, Fraction(5), 256, 256) as writer:
        for _ in range(4):
            writer.write(np.ascontiguousarray(portrait()[:256, 20:276]))
    page = page_at(address)
    page.get_by_role("tab", name="Edit").click()
    choose(page, "edit-source", film)
    start = picture(page)
    move(page, "smile", 1)
    picture(page, start)
    page.locator("#edit-keep").click()
    page.get_by_role("row", name="0.00 s").get_by_text("smile 1").wait_for()
    smile = "value => document.querySelector('#edit-smile input[type=number]').value === value"
    page.locator("#edit-reset").click()
    page.wait_for_function(smile, arg="0")
    moment = page.locator("#edit-moment input[type=range]")
    moment.evaluate(
        "input => { input.value = 0.6; input.dispatchEvent(new Event('input', {bubbles: true})) }"
    )
    moment.dispatch_event("pointerup")
    page.wait_for_function(smile, arg="1")  # what the keyframe says, so the moment has been reached
    page.locator("#edit-reset").click()
    page.wait_for_function(smile, arg="0")
    page.locator("#edit-keep").click()
    page.get_by_role("row", name="0.60 s").get_by_text("smile 0").wait_for()
    shot(page, "page-keyframes")
    page.locator("#edit-run").click()
    page.locator("#edit-result video").wait_for()


def test_visitors_are_isolated_from_each_other(page_at, address, motion):
    first, second = page_at(address), page_at(address)
    animate(first, motion)
    result = first.get_by_role("link", name="Download").get_attribute("href")
    second.locator("#animate-run").click()
    second.get_by_role("alert").filter(has_text="Choose a portrait first").wait_for()
    animate(second, motion)
    assert second.get_by_role("link", name="Download").get_attribute("href") != result
    assert answer(f"{address}/{result}").status_code == 200
    # A long job can be cancelled at once.
    second.get_by_label("Talk").first.check()
    second.locator("#animate-run").click()
    second.locator("#animate-result progress[value]").wait_for()
    second.locator("#animate-cancel").click()
    second.get_by_text("Cancelled: nothing was saved").wait_for()
    # A visitor's results are deleted when the tab is closed.
    first.close()
    deadline = time.monotonic() + 240
    while answer(f"{address}/{result}").status_code == 200:
        assert time.monotonic() < deadline, "the results of a closed tab are kept"
        second.wait_for_timeout(100)


def test_the_page_fits_a_phone_in_dark_mode(page_at, address):
    page = page_at(address, PHONE, dark=True)
    page.get_by_role("button", name="Try the astronaut").click()
    page.locator("#animate-crop .lp-crop img").wait_for()
    shot(page, "phone-animate")
    page.get_by_role("tab", name="Edit").click()
    page.locator("button:visible", has_text="Try the astronaut").click()
    picture(page)
    page.locator("#edit-move_z").scroll_into_view_if_needed()
    in_sight = page.locator("#edit-picture img").bounding_box()
    assert in_sight and in_sight["y"] >= 0, "the picture is not visible while its sliders are moved"
    shot(page, "phone-edit")
    for name in ("Many faces", "Animals", "Live"):
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        page.locator(".lp-tabs .overflow-menu > button").click()
        page.locator(".lp-tabs .overflow-menu").get_by_text(name).click()
        page.wait_for_timeout(500)
        shot(page, f"phone-{name}")
    page.frame_locator("iframe").get_by_role("button", name="Start the camera").wait_for()
    assert page_at.foreign == [] and page_at.errors == []


def test_urls_are_not_downloaded(address):
    config = answer(f"{address}/config").json()
    chosen = next(
        each for each in config["dependencies"] if any(target[1] == "upload" for target in each["targets"])
    )
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        foreign.settimeout(1)
        url = f"http://127.0.0.1:{foreign.getsockname()[1]}/photo.png"
        file = {"path": url, "url": url, "meta": {"_type": "gradio.FileData"}}
        data = [file, *(None for _ in chosen["inputs"][1:])]
        asked = {"data": data, "fn_index": chosen["id"], "session_hash": "stranger"}
        joined = httpx.post(f"{address}/gradio_api/queue/join", json=asked, timeout=ANSWER_S)
        assert joined.status_code == 200
        told = answer(f"{address}/gradio_api/queue/data?session_hash=stranger").text
        with pytest.raises(TimeoutError):
            foreign.accept()
    assert "URLs are not accepted here" in told


def test_without_gradio_the_page_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("liveportrait.apps.page")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"the page needs gradio, .* pip install 'liveportrait\[web\]'"):
        with_page(FastAPI())
