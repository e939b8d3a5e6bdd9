"""Serves a built page: the files of one folder, with headers that let it load and ask nothing but its own origin."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from liveportrait.errors import UserError

MANIFEST = "manifest.json"  # of every folder that was built
# The page may load from and connect to its own origin only. It says so itself too, for other hosts.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; style-src 'self';"
    " img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
KEPT = "public, max-age=31536000, immutable"  # a file requested by its checksum: it never changes
REVALIDATED = "no-cache"  # everything else: the browser asks whether it changed
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


class WebServer(ThreadingHTTPServer):
    """Serves the files of a folder, each request on its own thread; the folder is only read."""

    daemon_threads = True

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        """`port` 0 takes a free one. Raises `UserError` if the folder holds no built page or the address is taken."""
        if not (folder / MANIFEST).is_file():
            raise UserError(
                f"{folder}: no page was built there: run `make web`, or name the folder that holds a built page"
            )
        handler = partial(_Handler, folder=folder.resolve())
        try:
            super().__init__((host, port), handler)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"cannot listen on {host}:{port}: {error}: choose another --host or --port"
            ) from error

    @property
    def address(self) -> str:
        """The URL for browsers."""
        host, port = self.server_address[:2]
        shown = "127.0.0.1" if host == "0.0.0.0" else str(host)
        return f"http://{shown}:{port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: a browser that disconnects is no error."""


class _Handler(SimpleHTTPRequestHandler):
    """GET and HEAD of files; no listings, nothing outside the folder, nothing hidden."""

    extensions_map = TYPES
    server_version, sys_version = "liveportrait", ""
    protocol_version = "HTTP/1.1"

    def __init__(self, *args: Any, folder: Path) -> None:
        self._folder = folder
        super().__init__(*args, directory=str(folder))

    def send_head(self) -> Any:
        """As in the base class, but only for files inside the folder."""
        if self._file() is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        return super().send_head()

    def translate_path(self, path: str) -> str:
        """The file that a path names; a missing one if there is nothing to serve."""
        return str(self._file() or self._folder / ".none")

    def _file(self) -> Path | None:
        path = unquote(urlsplit(self.path).path)
        parts = path.removeprefix("/").split("/")
        if parts[-1] == "":
            parts[-1] = "index.html"
        if "\0" in path or any(part.startswith(".") or "\\" in part for part in parts):
            return None
        file = self._folder.joinpath(*parts).resolve()
        return file if file.is_file() and file.is_relative_to(self._folder) else None

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        by_checksum = urlsplit(self.path).query.startswith("sha256=") and self._file() is not None
        self.send_header("Cache-Control", KEPT if by_checksum else REVALIDATED)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing, for privacy."""
