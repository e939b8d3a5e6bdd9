"""Files on their way in: from the visitor's machine alone, within the limits, and moved to the visitor's own folder."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from liveportrait.animation.inputs import is_template
from liveportrait.errors import UserError
from liveportrait.media import media_kind

if TYPE_CHECKING:
    from liveportrait.apps.page.visitors import Visitor

PICTURES = [".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".gif", ".bmp", ".tiff"]
VIDEOS = [".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"]
TEMPLATES = [".safetensors", ".pkl"]


class Drop(gr.File):
    """A place to drop one file. A file's address is never followed: gradio would fetch what it names."""

    is_template = True  # in gradio's words: looks and behaves like its parent

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """Gradio's own, of files alone."""
        if re.match(r"\s*\w+://", str(url_or_file_path or "")):
            raise gr.Error("Only files can be given here, no addresses.")
        return await super().async_move_resource_to_block_cache(url_or_file_path)


def drop(label: str, types: list[str], name: str, visible: bool = True) -> Drop:
    """A place to drop a file of one of these types."""
    return Drop(label=label, file_types=types, visible=visible, elem_id=name, elem_classes="lp-drop", height=104)


def take(visitor: Visitor, upload: str | None) -> Path:
    """The upload, moved from gradio's folder into the visitor's. Raises `UserError` where it is empty or missing."""
    if not upload or not (path := Path(upload)).is_file():
        raise UserError("the file did not arrive: choose it again")
    if not path.stat().st_size:
        raise UserError(f"{path.name} is empty: choose another file")
    place = visitor.new_file(path.name)
    shutil.move(path, place)
    return place
