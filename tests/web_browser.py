"""The modules of the browser's page run in Chromium, with numpy arrays as their arguments and results.

    web.run("const {crop} = await load('face/crop.js'); return crop(photo, matrix);", photo=picture(image), ...)

Arguments and results are JSON with arrays in it: an array arrives as a typed array where it has one axis, else as
`{dims, data}`, and typed arrays come back as numpy's. `networks` are functions of Python's that the script may await.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

import liveportrait

PAGE = Path(liveportrait.__file__).parent / "apps" / "web" / "page"
# Python's type of an array: JavaScript's name for it. Pictures are clamped, as a canvas has them.
_KINDS = {
    "uint8": "Uint8ClampedArray",
    "int32": "Int32Array",
    "float32": "Float32Array",
    "float64": "Float64Array",
}
_TYPES = {kind: name for name, kind in _KINDS.items()} | {"Uint8Array": "uint8"}

Network = Callable[[list[np.ndarray]], Sequence[np.ndarray]]

_HARNESS = """async ({script, values, names}) => {
    const kinds = {Uint8ClampedArray, Uint8Array, Int32Array, Float32Array, Float64Array};
    const unpack = (value) => {
        if (Array.isArray(value)) return value.map(unpack);
        if (value === null || typeof value !== "object") return value;
        if (!("$kind" in value)) {
            return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, unpack(part)]));
        }
        const data = new kinds[value.$kind](Uint8Array.fromBase64(value.$bytes).buffer);
        return value.dims.length === 1 ? data : {dims: value.dims, data};
    };
    const pack = (value) => {
        if (ArrayBuffer.isView(value)) {
            const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
            return {$kind: value.constructor.name, $bytes: bytes.toBase64(), dims: [value.length]};
        }
        if (Array.isArray(value)) return value.map(pack);
        if (value === null || value === undefined) return null;
        if (typeof value === "number" && !Number.isFinite(value)) return {$number: String(value)};
        if (typeof value !== "object") return value;
        const isTensor = Array.isArray(value.dims) && ArrayBuffer.isView(value.data);
        if (isTensor) return {...pack(value.data), dims: value.dims};
        return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, pack(part)]));
    };
    const networks = Object.fromEntries(names.map((name) => [
        name,
        async (tensors) => unpack(await askPython(name, pack(tensors))),
    ]));
    const load = (path) => import(new URL(path, location.origin + "/").href);
    const given = unpack(values);
    const AsyncFunction = (async () => {}).constructor;
    const body = new AsyncFunction("load", "networks", ...Object.keys(given), script);
    return pack(await body(load, networks, ...Object.values(given)));
}"""


class Modules:
    """Runs scripts on an empty page at the origin of the page's files."""

    def __init__(self, page: Any, origin: str) -> None:
        self._page = page
        self._networks: Mapping[str, Network] = {}
        page.expose_function("askPython", self._ask)
        page.goto(f"{origin}/types.js")  # shown as text: a page without scripts

    def run(self, script: str, networks: Mapping[str, Network] | None = None, **values: Any) -> Any:
        """What the body of an async function returns; it sees the values by name, `load(path)` and `networks`.

        A network takes a list of tensors `{dims, data}` and gives such a list.
        """
        self._networks = networks or {}
        arguments = {"script": script, "values": _packed(values), "names": list(self._networks)}
        return _unpacked(self._page.evaluate(_HARNESS, arguments))

    def _ask(self, name: str, tensors: Any) -> Any:
        results = self._networks[name](_unpacked(tensors))
        return [{"dims": list(result.shape), "data": _packed(result.reshape(-1))} for result in results]


@contextmanager
def modules(browser: Any, folder: Path = PAGE) -> Iterator[Modules]:
    """The page's modules in a window of their own, which can reach nothing but them."""
    context = browser.new_context()
    try:
        with served_folder(folder) as origin:
            context.route("**/*", lambda route: _own(route, origin))
            yield Modules(context.new_page(), origin)
    finally:
        context.close()


@contextmanager
def served_folder(folder: Path) -> Iterator[str]:
    """The address at which a folder's files are served by a thread, on a free port of this machine alone."""
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(timeout=20)


def picture(image: np.ndarray) -> dict[str, Any]:
    """A picture (H,W,3) uint8 RGB as the modules take it."""
    height, width = image.shape[:2]
    rgba = np.full((height, width, 4), 255, np.uint8)
    rgba[..., :3] = image
    return {"width": width, "height": height, "data": rgba.reshape(-1)}


def image_of(result: Mapping[str, Any]) -> np.ndarray:
    """The picture (H,W,3) uint8 RGB that a module gave."""
    return result["data"].reshape(result["height"], result["width"], 4)[..., :3]


class _Quiet(SimpleHTTPRequestHandler):
    """Serves files without a word; nothing is kept by the browser."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def end_headers(self) -> None:
        """The headers of each answer: an edited module is read anew."""
        self.send_header("Cache-Control", "no-store")
        super().end_headers()


def _own(route: Any, origin: str) -> None:
    if f"{urlsplit(route.request.url).scheme}://{urlsplit(route.request.url).netloc}" == origin:
        route.continue_()
    else:
        route.abort()


def _packed(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        kind = np.dtype({"bool": "uint8", "int64": "int32"}.get(value.dtype.name, value.dtype.name))
        data = np.ascontiguousarray(value, kind).tobytes()
        return {
            "$kind": _KINDS[kind.name],
            "$bytes": base64.b64encode(data).decode(),
            "dims": list(value.shape),
        }
    if isinstance(value, Mapping):
        return {key: _packed(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(part) for part in value]
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(part) for part in value]
    if not isinstance(value, dict):
        return value
    if "$number" in value:
        return float(value["$number"].replace("Infinity", "inf"))
    if "$kind" in value:
        data = np.frombuffer(base64.b64decode(value["$bytes"]), _TYPES[value["$kind"]])
        return data.reshape(value["dims"])
    return {key: _unpacked(part) for key, part in value.items()}
