"""The page in a browser: animating, editing, messages, visitors side by side, and a phone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from animation_samples import bundled_networks

pytest.importorskip("gradio", reason="the extra [web] is not installed")

from liveportrait.animation.animator import Animator
from liveportrait.apps.app import with_page
from liveportrait.apps.server.application import create_application
from liveportrait.apps.server.settings import Limits, ServerSettings
from liveportrait.engine import Engine
from liveportrait.motion import bundled_templates, write_template
from liveportrait.motion.templates import Template

PHONE = 390, 844


@pytest.fixture(scope="module")
def address(serve, tmp_path_factory):
    """The service with the page."""
    settings = ServerSettings(data=tmp_path_factory.mktemp("page"), limits=Limits(max_bytes=2**20))
    application = create_application(settings, Animator(Engine(bundled_networks(), threads=1)), {})
    with_page(application)
    with serve(application) as url:
        yield url


@pytest.fixture(scope="module")
def motion(tmp_path_factory) -> Path:
    """A motion template of four frames in the middle of a smile."""
    smile = bundled_templates()["smile"]
    path = tmp_path_factory.mktemp("motion") / "short.safetensors"
    write_template(path, Template(smile.motion.rows(range(20, 24)), smile.fps, smile.layout))
    return path


def shot(page, name: str) -> None:
    """Keep a screenshot where the environment names a folder for them."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def choose(page, place: str, path: Path) -> None:
    """Give a file to the drop of that name."""
    page.locator(f"#{place} input[type=file]").set_input_files(path)


def animate(page, motion: Path) -> None:
    """Animate the astronaut with a motion, until the result is there."""
    page.get_by_role("button", name="Try the astronaut").click()
    page.locator("#animate-crop .lp-crop img").wait_for()
    page.get_by_label("My own").first.check()
    choose(page, "animate-driver", motion)
    page.get_by_text("motion template, ").first.wait_for()
    page.locator("#animate-run").click()
    page.locator("#animate-result video").wait_for()


def test_a_portrait_is_animated_and_plays(page_at, address, motion):
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
    assert download.value.suggested_filename == "astronaut-short.mp4"
    shot(page, "page-animated")
    assert page_at.foreign == [] and page_at.errors == []


def move(page, slider: str, value: float) -> None:
    """Move a slider as a hand does."""
    page.locator(f"#edit-{slider} input[type=range]").evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input', {bubbles: true})); }",
        value,
    )


def picture(page, other_than: str = "") -> str:
    """The address of the edited picture, as soon as it is another one."""
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


def test_what_cannot_be_used_is_told_in_a_sentence(page_at, address, tmp_path):
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
