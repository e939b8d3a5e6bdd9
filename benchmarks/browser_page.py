"""The serverless page over a long time: its rate, and the memory that the browser uses.

    python benchmarks/browser_page.py dist                  # a video of 2000 frames to MP4, five minutes of a camera
    python benchmarks/browser_page.py dist film --frames 500 --every 50
    python benchmarks/browser_page.py dist camera --seconds 60 --write figures.jsonl

The driver of `film` is a video, so that frames are decoded, faces tracked and frames encoded; the video and the photo
are small pictures of scikit-image's astronaut. `camera` is Chromium's fake camera, which loops the tests' video, slowed
down; the page must stop it at the end. `delay` is the median time in ms from the camera's picture to the portrait's.
Memory is in MB after a garbage collection: `page`, `face` and `render` are what scripts hold in the page and in its
workers. They include WebAssembly's memory, which never shrinks and is also listed as `wasm`. `renderer` is the page's
process and `all` the entire browser, each with its share of shared memory. Needs Linux, a built page and playwright.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from measuring import Figure, machine, table, write
from skimage.data import astronaut

from liveportrait.apps.web.server import WebServer
from liveportrait.media import VideoWriter, save_image

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from camera_film import camera_frames, write_y4m
from web_visits import CAMERA_STATES, KEEP_CAMERAS

CASES = ("film", "camera")
SIDE = 256  # px of the photo and of the driving video
RATE = 25
LOOP_FRAMES = 50  # of the driving video, which repeats them
SWAY_FRAMES = 100  # of the camera's video: the person sways so slowly that skipped frames are not a cut
TIMEOUT_MS = 900_000
COLUMNS = ("case", "at", "frames", "rate", "delay", "page", "face", "render", "wasm", "renderer", "all")
# Runs before a worker's own script: records WebAssembly's memories, so that their sizes can be read.
KEEP_MEMORIES = """
self.memories = [];
WebAssembly.Memory = new Proxy(WebAssembly.Memory, {
    construct(target, given) {
        const made = new target(...given);
        self.memories.push(made);
        return made;
    },
});
for (const name of ["instantiate", "instantiateStreaming"]) {
    const original = WebAssembly[name];
    WebAssembly[name] = async (...given) => {
        const made = await original(...given);
        const parts = Object.values((made.instance ?? made).exports);
        self.memories.push(...parts.filter((part) => part instanceof WebAssembly.Memory));
        return made;
    };
}
"""
# Without these headers of a page and its workers Chromium does not measure their memory.
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
HELD = """async () => {
    const {breakdown} = await performance.measureUserAgentSpecificMemory();
    const sizes = {page: 0, face: 0, render: 0};
    for (const {bytes, attribution} of breakdown) {
        const script = attribution[0]?.url.match(/workers.(face|render)/); // lanes count as `render`
        sizes[script?.[1] ?? "page"] += bytes;
    }
    return sizes;
}"""
SIZES = "() => [...new Set(self.memories.map(({buffer}) => buffer))].map(({byteLength}) => byteLength)"
# Ms from the camera to the screen, of every frame since they were last read.
KEEP_DELAYS = """() => {
    window.delays = [];
    const keep = () => window.delays.push(Number(document.body.dataset.delay));
    new MutationObserver(keep).observe(document.body, {attributeFilter: ["data-delay"]});
}"""
DELAYS = "() => window.delays?.splice(0) ?? []"
FRAME_COUNT = "() => +document.body.dataset.frames || 0"  # of the running animation


def film(visit: Visit, options: argparse.Namespace, folder: Path) -> list[Figure]:
    """Animates a long video to MP4."""
    page = visit.page
    driver = _driving_video(folder / "driver.mp4", options.frames)
    page.get_by_text("Own video…").click()
    page.locator("#driver").set_input_files(driver)
    begin = time.perf_counter()
    page.get_by_role("button", name="Animate").click()
    figures = visit.watched("film", range(options.every, options.frames, options.every))
    page.get_by_role("link", name="Download").wait_for()
    taken = time.perf_counter() - begin
    message = page.locator("#message").inner_text()
    print(f"{message} {options.frames / taken:.2f} frames/s as a whole")
    return [*figures, visit.figure("film, ended", options.frames, options.frames / taken)]


def camera(visit: Visit, options: argparse.Namespace, folder: Path) -> list[Figure]:
    """Follows the camera, then stops it."""
    page = visit.page
    page.get_by_text("Camera, live").click()
    page.evaluate(KEEP_DELAYS)
    page.get_by_role("button", name="Animate").click()
    page.wait_for_function(f"() => ({FRAME_COUNT})() >= 3")
    begin, figures = time.perf_counter(), []
    while time.perf_counter() - begin < options.seconds:
        figures += visit.watched("camera", [visit.count() + options.every])
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Animate").wait_for()
    print(f"cameras after Stop: {', '.join(page.evaluate(CAMERA_STATES))}")
    return [*figures, visit.figure("camera, stopped", visit.count(), 0.0)]


class Visit:
    """The page in a browser, with an open portrait."""

    def __init__(self, page: Any, photo: Path) -> None:
        self.page, self.warnings = page, list[str]()
        page.on("console", lambda message: self.warnings.append(message.text))
        self.photo = photo
        self.begun = time.perf_counter()

    def open(self, address: str) -> None:
        """Wait until the page is ready and the photo's face is found."""
        self.page.set_default_timeout(TIMEOUT_MS)
        self.page.add_init_script(KEEP_CAMERAS)
        self.page.route(address, lambda route: _isolate(route))
        self.page.route("**/workers/*.js", lambda route: _isolate(route, KEEP_MEMORIES))
        self.page.goto(address)
        self.page.locator("body[data-ready=yes]").wait_for()
        self.page.locator("#photo").set_input_files(self.photo)
        self.page.get_by_role("status").filter(has_text="Choose a motion").wait_for()
        self.begun = time.perf_counter()

    def count(self) -> int:
        """Frames so far."""
        return int(self.page.evaluate(FRAME_COUNT))

    def watched(self, case: str, marks: Sequence[int]) -> list[Figure]:
        """A figure at each of the given frame counts, with the rate since the one before."""
        figures = []
        for mark in marks:
            first, begin = self.count(), time.perf_counter()
            self.page.wait_for_function(f"() => ({FRAME_COUNT})() >= {mark}")
            rate = (self.count() - first) / (time.perf_counter() - begin)
            figures.append(self.figure(case, mark, rate))
            print(table(figures[-1:], COLUMNS).splitlines()[-1], flush=True)
        return figures

    def figure(self, case: str, frames: int, rate: float) -> Figure:
        """The figure of a case, with the memory that the browser uses now."""
        held, delays = self.page.evaluate(HELD), self.page.evaluate(DELAYS)
        processes = _browser_processes()
        sizes = [size for worker in self.page.workers for size in worker.evaluate(SIZES)]
        return {
            "case": case,
            "at": round(time.perf_counter() - self.begun),
            "frames": frames,
            "rate": round(rate, 2),
            "delay": round(median(delays)) if delays else None,
            **{name: _megabytes(size) for name, size in held.items()},
            "wasm": _megabytes(sum(sizes)),
            "renderer": _megabytes(max(size for kind, size in processes if kind == "renderer")),
            "all": _megabytes(sum(size for _, size in processes)),
            **machine(torch.device("cpu")),
        }


def _isolate(route: Any, more: str = "") -> None:
    answer = route.fetch()
    route.fulfill(response=answer, headers={**answer.headers, **ISOLATED}, body=answer.text() + more)


def _megabytes(size: int) -> float:
    return round(size / 1e6, 1)


def _browser_processes() -> list[tuple[str, int]]:
    """Kind and memory (bytes) of the browser processes that descend from this process."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rsplit(")", 1)[1].split()[1])
    found = []
    for pid in parents:
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        with suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_text()
            if above == os.getpid() and "chrom" in line.split("\0")[0]:
                held = re.search(
                    r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE
                )
                kind = re.search(r"--type=([\w-]+)", line)
                found.append((kind[1] if kind else "browser", 1024 * int(held[1]) if held else 0))
    return found


def _driving_video(path: Path, count: int) -> Path:
    frames = camera_frames(LOOP_FRAMES)
    small = [cv2.resize(frame[:, 80:560], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in frames]
    with VideoWriter(path, Fraction(RATE), SIDE, SIDE) as writer:
        for index in range(count):
            writer.write(small[index % len(small)])
    return path


@contextmanager
def opened(options: argparse.Namespace, folder: Path) -> Iterator[Visit]:
    """The page in Chromium, with the astronaut as portrait."""
    from playwright.sync_api import sync_playwright

    seen = write_y4m(folder / "camera.y4m", camera_frames(SWAY_FRAMES), RATE)
    photo = cv2.resize(
        np.ascontiguousarray(astronaut()[:300, 70:370]), (SIDE, SIDE), interpolation=cv2.INTER_AREA
    )
    save_image(folder / "photo.png", photo)
    with WebServer(options.folder) as server, sync_playwright() as play:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = play.chromium.launch(
            executable_path=options.chromium,
            args=[
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-video-capture={seen}",
                "--enable-blink-features=ForceEagerMeasureMemory",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ],
        )
        visit = Visit(browser.new_page(), folder / "photo.png")
        visit.open(f"{server.address}?runtime=wasm&threads={options.threads}")
        yield visit
        browser.close()
        server.shutdown()
    for warning in sorted(set(visit.warnings)):
        print(f"the browser says: {warning}")


def main() -> None:
    """Take the figures, print them, and write them with `--write`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where `make web` built the page")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)}; all by default")
    parser.add_argument("--frames", type=int, default=2000, help="frames of the video")
    parser.add_argument("--seconds", type=float, default=300.0, help="seconds of camera use")
    parser.add_argument("--every", type=int, default=100, help="frames between figures")
    parser.add_argument("--threads", type=int, default=1, help="WebAssembly threads")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--write", type=Path, help="a file of JSON lines to write")
    options = parser.parse_args()
    taken = {"film": film, "camera": camera}
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(unknown)}")
    figures = []
    print(table([], COLUMNS))
    for case in options.cases or CASES:
        with tempfile.TemporaryDirectory() as folder, opened(options, Path(folder)) as visit:
            figures += taken[case](visit, options, Path(folder))
    print(table(figures, COLUMNS))
    if options.write:
        write(figures, options.write)


if __name__ == "__main__":
    main()
