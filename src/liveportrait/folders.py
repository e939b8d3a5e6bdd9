"""Folders of the user: the cache, and new ones for results. Every room may import this."""

from __future__ import annotations

import os
from pathlib import Path

from liveportrait.errors import UserError


def user_cache(variable: str, name: str) -> Path:
    """The folder that an environment variable names, or liveportrait/`name` in the user's cache."""
    if chosen := os.environ.get(variable):
        return Path(chosen).expanduser()
    user_cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(user_cache).expanduser() / "liveportrait" / name


def check_new_folder(path: Path | str, may_be_empty: bool = False) -> Path:
    """The path, if a folder may be made there; otherwise UserError. Nothing is touched.

    A folder that is there is never replaced, whatever is in it; with `may_be_empty` one without anything in it will do.
    """
    path = Path(path)
    if path.exists() and not (may_be_empty and path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path} exists already: name a new folder, or remove that one")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder: create it, or write {path.name} elsewhere")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path.parent} cannot be written to: choose another folder")
    return path
