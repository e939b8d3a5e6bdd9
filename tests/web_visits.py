"""Actions of a visitor to the serverless page, in a browser driven by playwright."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

WEB_PATIENCE = 240_000  # ms: networks are compiled, and other tests may be using the cores
ONE_THREAD = "?threads=1"  # threads wait for one another, and other tests may be using the cores
# Runs before the page's scripts: keeps the cameras' tracks, so that a test can see whether they were stopped.
KEEP_CAMERAS = """
window.cameras = [];
const asked = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wanted) => {
    const stream = await asked(wanted);
    window.cameras.push(...stream.getTracks());
    return stream;
};
"""
CAMERA_STATES = "() => window.cameras.map(({readyState}) => readyState)"  # "live" or "ended"


def mark_of(photo: Path) -> int:
    """The code of a photo in the watermark."""
    return int(hashlib.sha256(photo.read_bytes()).hexdigest()[:4], 16)


def says(page: Any, sentence: str) -> None:
    """Wait until the page shows a message."""
    page.locator("#message").filter(has_text=sentence).wait_for()


def shot(page: Any, name: str) -> None:
    """Save a screenshot if the environment names a folder for them."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def bring(page: Any, photo: Path) -> None:
    """Give the page a photo and wait for its face."""
    page.locator("#photo").set_input_files(photo)
    says(page, "Choose a motion, then animate.")


def video_of(page: Any, folder: Path) -> Path:
    """Animate, and download the result."""
    page.get_by_role("button", name="Animate").click()
    link = page.get_by_role("link", name="Download")
    link.wait_for()
    with page.expect_download() as saved:
        link.click()
    path = folder / saved.value.suggested_filename
    saved.value.save_as(path)
    return path
