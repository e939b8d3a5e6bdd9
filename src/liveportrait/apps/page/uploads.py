"""File drops. Files can only come from the visitor's machine."""

from __future__ import annotations

import gradio as gr
from gradio import processing_utils

PICTURES = [".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".gif", ".bmp", ".tif", ".tiff"]
VIDEOS = [".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg"]
TEMPLATES = [".safetensors", ".pkl"]


def drop(label: str, types: list[str], name: str, visible: bool = True) -> gr.File:
    """A file drop for these types."""
    return gr.File(
        label=label, file_types=types, visible=visible, elem_id=name, elem_classes="lp-drop", height=104
    )


def refuse_addresses() -> None:
    """Keep gradio from downloading a URL that a request names in place of a file."""

    async def refuse(url: str, cache_dir: str) -> str:
        raise gr.Error("URLs are not accepted here: choose a file.")

    processing_utils.async_ssrf_protected_download = refuse
