"""The house stays as docs/reference/architecture.md draws it: a room imports only rooms below its own."""

from __future__ import annotations

import ast
from pathlib import Path

import liveportrait

ROOMS = [
    "media",
    "networks",
    "weights",
    "face",
    "engine",
    "motion",
    "metrics",
    "animation",
    "data",
    "evaluation",
    "training",
    "apps",
]
LEVEL = {room: level for level, room in enumerate(ROOMS)}
ROOT = Path(liveportrait.__file__).parent


def imported_rooms(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "liveportrait":
            names |= {f"liveportrait.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    parts = (name.split(".") for name in names)
    return {p[1] for p in parts if p[0] == "liveportrait" and len(p) > 1 and p[1] in LEVEL}


def test_imports_run_downward() -> None:
    upward = [
        f"{path.relative_to(ROOT)} imports {room}"
        for own in ROOMS
        for path in (ROOT / own).rglob("*.py")
        for room in imported_rooms(path)
        if room != own and LEVEL[room] >= LEVEL[own]
    ]
    assert not upward, upward


def test_every_folder_of_the_package_is_a_known_room() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(ROOMS)
