"""Whoever has the page open: a folder of their own, the portraits that they opened, the work that they asked for.

Nothing of one visitor is reachable for another: files that the browser shows have names that cannot be guessed, and
all of it goes when the tab is closed.
"""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from liveportrait.errors import UserError

if TYPE_CHECKING:
    import gradio as gr

MOST_VISITORS = 64  # beyond which the one who was away longest is forgotten


@dataclass(eq=False)
class Visitor:
    """One open tab of a browser."""

    folder: Path
    kept: dict[str, Any] = field(default_factory=dict)
    """what each part of the page keeps for this visitor, by that part's name"""
    seen: float = field(default_factory=time.monotonic)

    def new_file(self, name: str) -> Path:
        """A place for a file of that name, in a folder of its own."""
        place = self.folder / secrets.token_hex(8)
        place.mkdir(parents=True)
        return place / Path(name).name

    def drop(self, path: Path | None) -> None:
        """Remove a file that came from `new_file`, with its folder."""
        if path and path.parent.parent == self.folder:
            shutil.rmtree(path.parent, ignore_errors=True)

    def leave(self) -> None:
        """Remove all that is this visitor's."""
        for thing in self.kept.values():
            if hasattr(thing, "close"):
                thing.close()
        self.kept.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


class Visitors:
    """All visitors by the session that gradio gives each tab, and the files that their browsers may ask for."""

    def __init__(self, folder: Path) -> None:
        """`folder`: where their files lie; it is emptied."""
        self._folder = folder
        self._visitors: dict[str, Visitor] = {}
        self._shown: dict[str, Path] = {}  # by the name under which a browser may ask for it
        self._lock = threading.Lock()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def of(self, request: gr.Request) -> Visitor:
        """Whoever asks. Raises `UserError` for a request that comes from no open page."""
        session = request.session_hash
        if not session:
            raise UserError("this page was not opened in a browser: open it, and try again")
        with self._lock:
            visitor = self._visitors.pop(session, None) or Visitor(self._folder / secrets.token_hex(8))
            visitor.seen = time.monotonic()
            self._visitors[session] = visitor  # the last to be forgotten
            surplus = list(self._visitors)[:-MOST_VISITORS]
        for each in surplus:
            self.forget(each)
        return visitor

    def show(self, path: Path) -> str:
        """The address, relative to the page's, at which this file may be fetched until its visitor leaves."""
        name = f"{secrets.token_urlsafe(16)}/{path.name}"
        with self._lock:
            self._shown = {known: shown for known, shown in self._shown.items() if shown.exists()}
            self._shown[name] = path
        return f"shown/{name}"

    def shown(self, name: str) -> Path | None:
        """The file behind such an address."""
        path = self._shown.get(name)
        return path if path and path.is_file() else None

    def forget(self, session: str | None) -> None:
        """A tab was closed."""
        with self._lock:
            visitor = self._visitors.pop(session or "", None)
        if visitor:
            visitor.leave()

    def close(self) -> None:
        """Everybody leaves."""
        for session in tuple(self._visitors):
            self.forget(session)
        shutil.rmtree(self._folder, ignore_errors=True)
