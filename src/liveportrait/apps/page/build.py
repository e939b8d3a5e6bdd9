"""The whole page, and its place in the application."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial

# Before gradio is imported: it asks a server of its own for news otherwise, and keeps runs in the browser.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_RUN_HISTORY"] = "False"

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import FileResponse, PlainTextResponse, Response

from liveportrait.apps.page.desk import Desk
from liveportrait.apps.page.portrait import QUIET
from liveportrait.apps.page.tabs.animate import AnimateTab
from liveportrait.apps.page.tabs.check import CheckTab
from liveportrait.apps.page.tabs.edit import EditTab
from liveportrait.apps.page.tabs.many_faces import ManyFacesTab
from liveportrait.apps.page.tabs.speak import SpeakTab
from liveportrait.apps.page.theme import STYLES, theme
from liveportrait.apps.page.uploads import refuse_addresses
from liveportrait.apps.server.service import Service

TITLE = "liveportrait"
HEADER = (
    '<header class="lp-header"><h1>liveportrait</h1>'
    "<p>Bring a portrait to life. What you choose stays with whoever runs this page.</p></header>"
)
PARTS: dict[str, Callable[[Desk], object]] = {
    "Animate": AnimateTab,
    "Speak": SpeakTab,
    "Edit": EditTab,
    "Many faces": ManyFacesTab,
    "Animals": partial(AnimateTab, animals=True),
    "Check": CheckTab,
}
LIVE = '<iframe class="lp-live" src="live" title="The live page" allow="camera; microphone; fullscreen"></iframe>'
TIDY_S = (600, 3600)  # how often, and from which age on, uploads that nobody used are removed


def build_page(desk: Desk) -> gr.Blocks:
    """The page: a tab for each thing to do."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=TIDY_S, fill_width=True) as page:
        gr.HTML(HEADER)
        with gr.Tabs(elem_classes="lp-tabs"):
            others = []
            for title, part in PARTS.items():
                with gr.Tab(title) as tab:
                    part(desk)
                others.append(tab)
            with gr.Tab("Live") as live:
                frame = gr.HTML(elem_id="live")

        # The camera's page is there while its tab is open, and lets go of the camera after that.
        live.select(lambda: LIVE, None, frame, **QUIET)
        for tab in others:
            tab.select(lambda: "", None, frame, **QUIET)

        def leave(request: gr.Request) -> None:
            desk.forget(request.session_hash)

        page.unload(leave)
    return page


def mount_page(application: FastAPI) -> None:
    """Put the page at / of the service's application, after all its own routes, and its results beside it."""
    service: Service = application.state.service
    desk = Desk(service)
    incoming = service.settings.data / "incoming"
    shutil.rmtree(incoming, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = str(incoming)
    refuse_addresses()

    @application.get("/shown/{job}/{name}", include_in_schema=False)
    def result(job: str, name: str, compare: bool = False) -> Response:
        path = desk.result(job, compare)
        return FileResponse(path) if path else PlainTextResponse("this result is not kept any more", 404)

    gr.mount_gradio_app(
        application,
        build_page(desk),
        path="/",
        theme=theme(),
        css_paths=[STYLES],
        footer_links=[],
        show_error=False,
        max_file_size=service.settings.limits.max_bytes,
        ssr_mode=False,
        pwa=False,
    )
