"""Where files are dropped. They come from the visitor's machine alone."""

from __future__ import annotations

import gradio as gr
from gradio import processing_utils

PICTURES = [".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".gif", ".bmp", ".tif", ".tiff"]
VIDEOS = [".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg"]
TEMPLATES = [".safetensors", ".pkl"]


def drop(label: str, types: list[str], name: str, visible: bool = True) -> gr.File:
    """A place to drop a file of one of these types."""
    return gr.File(
        label=label, file_types=types, visible=visible, elem_id=name, elem_classes="lp-drop", height=104
    )


def refuse_addresses() -> None:
    """Keep gradio from fetching what a request names by its address instead of bringing a file."""

    async def refuse(url: str, cache_dir: str) -> str:
        raise gr.Error("Only files can be given here, no addresses.")

    processing_utils.async_ssrf_protected_download = refuse
