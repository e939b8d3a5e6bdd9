"""Run the modules of the browser's page in Chromium, with numpy arrays as arguments and results.

    web.run("const {crop} = await load('face/crop.js'); return crop(photo, matrix);", photo=picture(image), ...)

Arguments and results are JSON that may contain arrays. Arrays with one axis arrive as typed arrays, others as
`{dims, data}`; typed arrays come back as numpy arrays. `networks` are Python functions that the script may await.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

import liveportrait

PAGE = Path(liveportrait.__file__).parent / "apps" / "web" / "page"
# numpy's dtype: the JavaScript array type. Pictures are clamped, as on a canvas.
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
    const mapped = async (value, change) => Object.fromEntries(
        await Promise.all(Object.entries(value).map(async ([key, part]) => [key, await change(part)])));
    const unpack = async (value) => {
        if (Array.isArray(value)) return Promise.all(value.map(unpack));
        if (value === null || typeof value !== "object") return value;
        if (!("$kind" in value)) return mapped(value, unpack);
        const data = new kinds[value.$kind](await (await fetch(value.$at)).arrayBuffer());
        return value.dims.length === 1 ? data : {dims: value.dims, data};
    };
    const pack = async (value) => {
        if (ArrayBuffer.isView(value)) {
            const body = new Blob([value]);
            const $at = await (await fetch("/bytes", {method: "POST", body})).text();
            return {$kind: value.constructor.name, $at, dims: [value.length]};
        }
        if (Array.isArray(value)) return Promise.all(value.map(pack));
        if (value === null || value === undefined) return null;
        if (typeof value === "number" && !Number.isFinite(value)) return {$number: String(value)};
        if (typeof value !== "object") return value;
        const isTensor = Array.isArray(value.dims) && ArrayBuffer.isView(value.data);
        if (isTensor) return {...await pack(value.data), dims: value.dims};
        return mapped(value, pack);
    };
    const networks = Object.fromEntries(names.map((name) => [
        name,
        async (tensors) => unpack(await askPython(name, await pack(tensors))),
    ]));
    const load = (path) => import(new URL(path, location.origin + "/").href);
    const given = await unpack(values);
    const AsyncFunction = (async () => {}).constructor;
    const body = new AsyncFunction("load", "networks", ...Object.keys(given), script);
    return pack(await body(load, networks, ...Object.values(given)));
}"""


class Bytes:
    """Arrays in transit between Python and the browser; each is fetched once."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}
        self._count = itertools.count()

    def put(self, data: bytes) -> str:
        """Store bytes and return the path where they can be fetched."""
        path = f"/bytes/{next(self._count)}"
        self._kept[path] = data
        return path

    def take(self, path: str) -> bytes:
        """Return and remove the bytes at a path."""
        return self._kept.pop(path)

    def packed(self, value: Any) -> Any:
        """A value encoded for the browser."""
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, np.ndarray):
            kind = np.dtype({"bool": "uint8", "int64": "int32"}.get(value.dtype.name, value.dtype.name))
            path = self.put(np.ascontiguousarray(value, kind).tobytes())
            return {"$kind": _KINDS[kind.name], "$at": path, "dims": list(value.shape)}
        if isinstance(value, Mapping):
            return {key: self.packed(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.packed(part) for part in value]
        return value

    def unpacked(self, value: Any) -> Any:
        """Decode a value from the browser."""
        if isinstance(value, list):
            return [self.unpacked(part) for part in value]
        if not isinstance(value, dict):
            return value
        if "$number" in value:
            return float(value["$number"].replace("Infinity", "inf"))
        if "$kind" in value:
            data = np.frombuffer(self.take(value["$at"]), _TYPES[value["$kind"]])
            return data.reshape(value["dims"])
        return {key: self.unpacked(part) for key, part in value.items()}


class Modules:
    """Runs scripts on an empty page at the origin of the page's files."""

    def __init__(self, page: Any, origin: str, arrays: Bytes) -> None:
        self._page, self._arrays = page, arrays
        self._networks: Mapping[str, Network] = {}
        page.expose_function("askPython", self._ask)
        page.goto(f"{origin}/types.js")  # a plain-text page, without scripts

    def run(self, script: str, networks: Mapping[str, Network] | None = None, **values: Any) -> Any:
        """Run the body of an async function, which can use the values by name, `load(path)` and `networks`.

        Returns its result. A network takes and returns a list of tensors `{dims, data}`.
        """
        self._networks = networks or {}
        arguments = {"script": script, "values": self._arrays.packed(values), "names": list(self._networks)}
        return self._arrays.unpacked(self._page.evaluate(_HARNESS, arguments))

    def _ask(self, name: str, tensors: Any) -> Any:
        results = self._networks[name](self._arrays.unpacked(tensors))
        return [
            {"dims": list(result.shape), "data": self._arrays.packed(result.reshape(-1))}
            for result in results
        ]


@contextmanager
def modules(browser: Any, folder: Path = PAGE) -> Iterator[Modules]:
    """The page's modules in their own window, which can load nothing else."""
    context = browser.new_context()
    try:
        with served_modules(context.new_page(), folder) as running:
            yield running
    finally:
        context.close()


@contextmanager
def served_modules(page: Any, folder: Path) -> Iterator[Modules]:
    """A folder's modules in a window."""
    arrays = Bytes()
    with served_folder(folder, arrays) as origin:
        page.route(lambda url: not url.startswith(origin), lambda route: route.abort())
        yield Modules(page, origin, arrays)


@contextmanager
def served_folder(folder: Path, arrays: Bytes | None = None) -> Iterator[str]:
    """Serve a folder in a thread, on a free local port; gives its URL."""
    handler = partial(_Files, arrays or Bytes(), directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(timeout=120)


def picture(image: np.ndarray) -> dict[str, Any]:
    """A picture (H,W,3) uint8 RGB in the modules' format."""
    height, width = image.shape[:2]
    rgba = np.full((height, width, 4), 255, np.uint8)
    rgba[..., :3] = image
    return {"width": width, "height": height, "data": rgba.reshape(-1)}


def image_of(result: Mapping[str, Any]) -> np.ndarray:
    """The picture (H,W,3) uint8 RGB in a module's result."""
    return result["data"].reshape(result["height"], result["width"], 4)[..., :3]


class _Files(SimpleHTTPRequestHandler):
    """Serves files and arrays without logging; the browser caches nothing."""

    def __init__(self, arrays: Bytes, *args: Any, **options: Any) -> None:
        self._arrays = arrays
        super().__init__(*args, **options)

    def do_GET(self) -> None:
        """Serve a file, or a stored array."""
        if self.path.startswith("/bytes/"):
            self._answer(self._arrays.take(self.path))
        else:
            super().do_GET()

    def do_POST(self) -> None:
        """Store an array; the response is its path."""
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(self._arrays.put(data).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""

    def end_headers(self) -> None:
        """Disable caching, so that edited modules are reloaded."""
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def _answer(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
