"""`liveportrait web`: the page that needs no server, on this machine."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from liveportrait.apps.web.server import WebServer


@dataclass(frozen=True)
class Web:
    """Open the page that animates portraits in the browser itself; no picture leaves it (see
    docs/guide/browser.md)."""

    folder: Positional[Path] = Path("dist")
    """the folder that `make web` built"""
    host: str = "127.0.0.1"
    """the address to listen on: 127.0.0.1 accepts only this machine's browsers"""
    port: int = 0
    """the port to listen on; 0 picks a free one"""
    open: bool = True
    """open the page in this machine's browser; --no-open only prints its address"""

    def run(self) -> None:
        """Serve the folder until a signal ends it."""
        with WebServer(self.folder, self.host, self.port) as server:
            print(server.address, flush=True)
            if self.open:
                webbrowser.open(server.address)
            server.serve_forever()
