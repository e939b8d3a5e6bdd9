"""A real browser for the tests: headless Chromium, with a fake camera and microphone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from camera_film import camera_frames, write_y4m
from serving import served
from skimage.data import astronaut
from speech_samples import sound_file, syllables
from web_browser import Modules, modules
from web_dist import serving, web_page
from web_visits import ONE_THREAD, WEB_PATIENCE

from liveportrait.apps.web.server import WebServer
from liveportrait.media import save_image
from liveportrait.media.sound.speech import SPEECH_RATE

PATIENCE = 240_000  # ms, timeout of every wait: other tests may be using the cores

Serve = Callable[[Any], AbstractContextManager[str]]
Launch = Callable[..., Any]
Open = Callable[..., Any]


def chromium() -> Path | None:
    """The browser's path, if it is installed."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return Path(found) if found else None


@pytest.fixture(scope="session")
def playwright() -> Iterator[Any]:
    """Playwright, one instance per process. Skips the test if it is not installed."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def launch(playwright) -> Launch:
    """A function that launches Chromium with some switches. Skips the test if it is not installed."""
    program = chromium()
    if program is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    return lambda *switches: playwright.chromium.launch(
        executable_path=program,
        args=[*switches, "--disable-dev-shm-usage"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="session")
def browser(launch, tmp_path_factory) -> Iterator[Any]:
    """Chromium, which grants access to camera and microphone without asking."""
    folder = tmp_path_factory.mktemp("camera")
    film = write_y4m(folder / "astronaut.y4m", camera_frames())
    speech = sound_file(folder / "speech.wav", syllables(4)[:, None], SPEECH_RATE)
    launched = launch(
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
        f"--use-file-for-fake-audio-capture={speech}",
        "--disable-gpu",
    )
    yield launched
    launched.close()


class Visits:
    """Opens pages, each as a separate visitor, and watches them: `foreign` requests are blocked and recorded."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._contexts: list[Any] = []
        self.foreign: list[str] = []  # requested URLs on other machines
        self.errors: list[str] = []  # uncaught exceptions of the pages

    def __call__(
        self, url: str, size: tuple[int, int] = (1280, 800), dark: bool = False, **context: Any
    ) -> Any:
        """Open a URL in a window of this size; `context` is passed to Playwright's browser context."""
        visitor = self._browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            **context,
        )
        self._contexts.append(visitor)
        visitor.set_default_timeout(PATIENCE)
        visitor.route("**/*", self._guard)
        page = visitor.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(url)
        return page

    def _guard(self, route: Any) -> None:
        url = route.request.url
        if urlsplit(url).hostname in ("127.0.0.1", "localhost", "") or url.startswith(("data:", "blob:")):
            route.continue_()
        else:
            self.foreign.append(url)
            route.abort()

    def close(self) -> None:
        """Close all windows."""
        for visitor in self._contexts:
            visitor.close()


@pytest.fixture
def page_at(browser) -> Iterator[Visits]:
    """A function that opens a page, see `Visits`; the pages are closed after the test."""
    visits = Visits(browser)
    yield visits
    visits.close()


@pytest.fixture(scope="session")
def serve() -> Serve:
    """A context manager that serves an ASGI application and gives its URL."""
    return served


@pytest.fixture(scope="session")
def web(browser) -> Iterator[Modules]:
    """The modules of the serverless page, run in the browser, see `web_browser`."""
    with modules(browser) as running:
        yield running


@pytest.fixture(scope="session")
def built(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, with motions of a few frames."""
    return web_page(pytestconfig.cache.mkdir("web"), tmp_path_factory.mktemp("web") / "dist")


@pytest.fixture(scope="session")
def server(built: Path) -> Iterator[WebServer]:
    with serving(built) as running:
        yield running


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo with odd sides and a small, off-centre face."""
    path = tmp_path_factory.mktemp("photo") / "astronaut.png"
    save_image(path, np.ascontiguousarray(astronaut()[:401, 40:443]))
    return path


@pytest.fixture
def open_page(page_at, server) -> Iterator[Open]:
    """A function that opens the page and waits until it is ready; checks that it requests nothing from elsewhere."""

    def opened(address: str = server.address + ONE_THREAD, **settings: Any) -> Any:
        page = page_at(address, accept_downloads=True, **settings)
        page.set_default_timeout(WEB_PATIENCE)
        page.locator("body[data-ready=yes]").wait_for()
        return page

    yield opened
    assert page_at.foreign == [] and page_at.errors == []
