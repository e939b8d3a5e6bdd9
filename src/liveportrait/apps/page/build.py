"""Builds the page, and mounts it in the application."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial

# Before gradio is imported: otherwise it contacts its own server for news, and stores runs in the browser.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_RUN_HISTORY"] = "False"

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import FileResponse, PlainTextResponse, Response

from liveportrait.apps.page.context import PageContext
from liveportrait.apps.page.portrait import QUIET_EVENT
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
    "<p>Bring a portrait to life. Your files go only to the machine that runs this page.</p></header>"
)
TABS: dict[str, Callable[[PageContext], object]] = {
    "Animate": AnimateTab,
    "Speak": SpeakTab,
    "Edit": EditTab,
    "Many faces": ManyFacesTab,
    "Animals": partial(AnimateTab, animals=True),
    "Check": CheckTab,
}
LIVE = '<iframe class="lp-live" src="live" title="The live page" allow="camera; microphone; fullscreen"></iframe>'
UPLOAD_CACHE_S = (600, 3600)  # how often unused uploads are deleted, and from what age


def build_page(context: PageContext) -> gr.Blocks:
    """The page, with a tab for each task."""
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, delete_cache=UPLOAD_CACHE_S, fill_width=True
    ) as page:
        gr.HTML(HEADER)
        with gr.Tabs(elem_classes="lp-tabs"):
            others = []
            for title, part in TABS.items():
                with gr.Tab(title) as tab:
                    part(context)
                others.append(tab)
            with gr.Tab("Live") as live:
                frame = gr.HTML(elem_id="live")

        # The live page exists only while its tab is open, so that it releases the camera afterwards.
        live.select(lambda: LIVE, None, frame, **QUIET_EVENT)
        for tab in others:
            tab.select(lambda: "", None, frame, **QUIET_EVENT)

        def leave(request: gr.Request) -> None:
            context.forget(request.session_hash)

        page.unload(leave)
    return page


def mount_page(application: FastAPI) -> None:
    """Mount the page at / of the service's application, after all its own routes, and add a route for results."""
    service: Service = application.state.service
    context = PageContext(service)
    incoming = service.settings.data / "incoming"
    shutil.rmtree(incoming, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = str(incoming)
    refuse_addresses()

    @application.get("/shown/{job}/{name}", include_in_schema=False)
    def result(job: str, name: str, compare: bool = False) -> Response:
        path = context.result(job, compare)
        return FileResponse(path) if path else PlainTextResponse("this result is no longer kept", 404)

    gr.mount_gradio_app(
        application,
        build_page(context),
        path="/",
        theme=theme(),
        css_paths=[STYLES],
        footer_links=[],
        show_error=False,
        max_file_size=service.settings.limits.max_bytes,
        ssr_mode=False,
        pwa=False,
    )
