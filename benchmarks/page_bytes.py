"""What a visitor of the serverless page downloads until the first frame of a bundled motion, by runtime and browser.

    python benchmarks/page_bytes.py dist
    python benchmarks/page_bytes.py dist wasm firefox --coding br

`wasm`, `jspi` and `asyncify` are Chromium with ONNX Runtime's three builds. The last two are stopped once the networks
are loaded, since WebGPU in software takes minutes per frame: only the motion is missing, less than 0.1 MB. `firefox`
runs on WebAssembly. The server compresses as hosts do and counts the bytes of the bodies it sends, in MB.
Needs a built page, playwright, and `websockets` for Firefox.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Figure, table
from skimage.data import astronaut

from liveportrait.apps.web.server import TYPES
from liveportrait.media import save_image

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from firefox import firefox, running

CASES = ("wasm", "jspi", "asyncify", "firefox")
CODINGS = ("gzip", "br")
COMPRESSED = (".html", ".css", ".js", ".json", ".wasm", ".txt")
KINDS = {"graphs": "weights", "vendor": "libraries", "motions": "motions"}  # by folder
COLUMNS = ("case", "coding", "weights", "libraries", "scripts", "motions", "all")
SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
WITHOUT_JSPI = b"\ndelete WebAssembly.Suspending;\n"  # at the end of a worker's script
TIMEOUT_MS = 600_000


class Host(ThreadingHTTPServer):
    """Serves a folder as a compressing host does, and counts the bytes of the bodies by kind."""

    daemon_threads = True

    def __init__(self, folder: Path, coding: str, has_jspi: bool) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
        self.coding, self.sent, self.has_jspi = coding, Counter[str](), has_jspi
        self.address = f"http://127.0.0.1:{self.server_port}/"

    def figure(self, case: str) -> Figure:
        """What was sent so far, in MB."""
        sizes = {kind: round(size / 1e6, 2) for kind, size in self.sent.items()}
        return {"case": case, "coding": self.coding, **sizes, "all": round(self.sent.total() / 1e6, 2)}


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = TYPES
    server: Host

    def send_head(self) -> Any:
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file() or "If-Modified-Since" in self.headers:
            return super().send_head()
        coding = self.server.coding if path.suffix in COMPRESSED else ""
        more = WITHOUT_JSPI if path.parent.name == "workers" and not self.server.has_jspi else b""
        body = _coded(path, coding, more)
        self.server.sent[KINDS.get(path.parent.name, "scripts")] += len(body)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
        self.send_header("Cache-Control", "max-age=31536000" if "sha256=" in self.path else "no-cache")
        if coding:
            self.send_header("Content-Encoding", coding)
        self.end_headers()
        return BytesIO(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@cache
def _coded(path: Path, coding: str, more: bytes) -> bytes:
    data = path.read_bytes() + more
    if coding == "br":
        import brotli

        return bytes(brotli.compress(data, quality=5))  # what hosts spend on files they compress themselves
    return gzip.compress(data, 6) if coding else data


@contextmanager
def hosted(folder: Path, coding: str, has_jspi: bool) -> Iterator[Host]:
    """A host of the folder, for browsers with or without JSPI."""
    with Host(folder, coding, has_jspi) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        yield host
        host.shutdown()


def in_chromium(case: str, address: str, photo: Path, program: str) -> None:
    """Animate in Chromium until the first frame is shown, or load the networks for WebGPU."""
    from playwright.sync_api import sync_playwright

    kind = "wasm" if case == "wasm" else "webgpu"
    switches = SOFTWARE_GPU if kind == "webgpu" else ()
    # With a profile, as visitors have it: without one Chromium keeps no large files, and would load some twice.
    with sync_playwright() as play, tempfile.TemporaryDirectory() as profile:
        browser = play.chromium.launch_persistent_context(profile, executable_path=program, args=switches)
        page = browser.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.goto(f"{address}?runtime={kind}")
        page.locator("body[data-ready=yes]").wait_for()
        if kind == "wasm":
            page.locator("#photo").set_input_files(photo)
            page.get_by_role("status").filter(has_text="Choose a motion").wait_for()
            page.get_by_role("button", name="Animate").click()
            page.locator("body[data-frames]").wait_for()
        browser.close()


def in_firefox(address: str, photo: Path) -> None:
    """Animate in Firefox until the first frame is shown."""
    program = firefox()
    if program is None:
        raise SystemExit("Firefox is not installed")
    with tempfile.TemporaryDirectory() as folder, running(program, Path(folder)) as page:
        page.open(address)
        page.wait("document.body.dataset.ready")
        page.choose("#photo", photo)
        page.wait("document.querySelector('#message').textContent.startsWith('Choose a motion')")
        page.run("document.querySelector('#animate').click()")
        page.wait("document.body.dataset.frames")


def main() -> None:
    """Visit the page in each case and print what was sent."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where `make web` built the page")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)}; all by default")
    parser.add_argument("--coding", choices=CODINGS, default="gzip", help="br needs the package brotli")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(unknown)}")
    figures = []
    for case in options.cases or CASES:
        hosting = hosted(options.folder, options.coding, has_jspi=case != "asyncify")
        with tempfile.TemporaryDirectory() as folder, hosting as host:
            photo = Path(folder) / "photo.png"
            save_image(photo, np.ascontiguousarray(astronaut()[:300, 70:370]))
            if case == "firefox":
                in_firefox(host.address, photo)
            else:
                in_chromium(case, host.address, photo, options.chromium)
            figures.append(host.figure(case))
            print(table(figures[-1:], COLUMNS).splitlines()[-1], flush=True)
    print(table(figures, COLUMNS))


if __name__ == "__main__":
    main()
