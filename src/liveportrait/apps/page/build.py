"""The whole page, and its place in the application."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

# Before gradio is imported: it asks a server of its own for news otherwise, and keeps runs in the browser.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_RUN_HISTORY"] = "False"

import gradio as gr
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response

from liveportrait.apps.page.animate import AnimateTab
from liveportrait.apps.page.desk import Desk
from liveportrait.apps.page.theme import STYLES, theme

if TYPE_CHECKING:
    from fastapi import FastAPI

TITLE = "liveportrait"
HEADER = (
    '<header class="lp-header"><h1>liveportrait</h1>'
    "<p>Bring a portrait to life. Everything stays on this machine.</p></header>"
)


def build_page(desk: Desk) -> gr.Blocks:
    """The page: a tab for each thing to do."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.HTML(HEADER)
        with gr.Tabs(elem_classes="lp-tabs"):
            with gr.Tab("Animate"):
                AnimateTab(desk)
            with gr.Tab("Animals"):
                AnimateTab(desk, animals=True)

        def leave(request: gr.Request) -> None:
            desk.visitors.forget(request.session_hash)

        page.unload(leave)
    return page


def mount_page(application: FastAPI, desk: Desk, max_bytes: int) -> None:
    """Put the page at / of the application, and beside it the files that visitors may see."""

    @application.get("/shown/{key}/{name}", include_in_schema=False)
    def shown(key: str, name: str) -> Response:
        path = desk.visitors.shown(f"{key}/{name}")
        if path is None:
            return PlainTextResponse("this file is not kept any more", 404)
        return FileResponse(path)

    gr.mount_gradio_app(
        application,
        build_page(desk),
        path="/",
        theme=theme(),
        css_paths=[STYLES],
        footer_links=[],
        show_error=False,
        max_file_size=max_bytes,
        ssr_mode=False,
        pwa=False,
    )
