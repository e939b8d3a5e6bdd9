"""The motion templates that come with the package, made for the compact weights."""

from __future__ import annotations

from pathlib import Path

from liveportrait.errors import UserError
from liveportrait.motion.template import Template
from liveportrait.motion.template_files import read_template

FOLDER = Path(__file__).parent / "templates"
_ORDER = ("talk", "smile", "look-around", "blink")


def bundled_templates() -> dict[str, Template]:
    """All bundled templates by name, in the order in which the demonstration plays them.

    Raises `UserError` where there are none.
    """
    files = {path.stem: path for path in sorted(FOLDER.glob("*.safetensors"))}
    if not files:
        raise UserError(f"the bundled motion templates are missing from {FOLDER}: install the program again")
    names = [*(name for name in _ORDER if name in files), *(name for name in files if name not in _ORDER)]
    return {name: read_template(files[name]) for name in names}
