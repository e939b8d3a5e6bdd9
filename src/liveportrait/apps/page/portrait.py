"""The card on which a visitor chooses a portrait: a photo or video, shown with its crop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from liveportrait.animation.options import AnimateOptions
from liveportrait.apps.jobs import options_from
from liveportrait.apps.page import options
from liveportrait.apps.page.context import PageContext
from liveportrait.apps.page.examples import example
from liveportrait.apps.page.sources import Preview, open_preview
from liveportrait.apps.page.uploads import PICTURES, VIDEOS, drop
from liveportrait.apps.server.store import Upload
from liveportrait.errors import UserError

QUIET_EVENT: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
PREVIEW_EVENT: dict[str, Any] = {**QUIET_EVENT, "concurrency_limit": 2, "concurrency_id": "preview"}


@dataclass(eq=False)
class _Choice:
    """A visitor's choices."""

    preview: Preview | None = None


class PortraitCard:
    """A file drop, a button for an example, the crop and its sliders."""

    def __init__(self, context: PageContext, name: str, animals: bool = False) -> None:
        """`name` is that of the tab."""
        self._context, self._name = context, f"{name}-source"
        self._example = "cat" if animals else "astronaut"
        self.fixed = {"subject": "animal"} if animals else {}
        """options set by the tab"""
        with gr.Column(elem_classes="lp-card"):
            gr.Markdown("### Portrait", elem_classes="lp-heading")
            types = PICTURES if animals else PICTURES + VIDEOS
            what = "Photo of a cat or dog" if animals else "Photo or video"
            self._drop = drop(what, types, self._name)
            self._try = gr.Button(f"Try the {self._example}", size="sm", elem_classes="lp-quiet")
            self._source = gr.HTML(visible=False, elem_id=f"{name}-crop")
            with gr.Accordion("Crop", open=False, elem_classes="lp-fold"):
                self.crop = options.widgets(options.CROP)
        self._listen()

    def preview(self, request: gr.Request) -> Preview:
        """The portrait that the visitor has chosen. Raises `UserError` if there is none."""
        preview = self._state(request).preview
        if preview is None:
            raise UserError("choose a portrait first: a photo or a video")
        return preview

    def _listen(self) -> None:
        crop = list(self.crop.values())
        looked = [self._drop, self._source]
        self._drop.upload(self._choose, [self._drop, *crop], looked, **PREVIEW_EVENT)
        self._try.click(self._choose_example, crop, looked, **PREVIEW_EVENT)
        for widget in crop:
            event = widget.release if isinstance(widget, gr.Slider) else widget.change
            event(self._update_preview, crop, self._source, **PREVIEW_EVENT)

    def _state(self, request: gr.Request) -> _Choice:
        return self._context.visitor(request).state(self._name, _Choice)

    def _choose(self, request: gr.Request, upload: str | None, *crop: Any) -> tuple[Any, Any]:
        return gr.update(value=None), self._preview(request, lambda: self._context.keep_upload(upload), crop)

    def _choose_example(self, request: gr.Request, *crop: Any) -> tuple[Any, Any]:
        def kept() -> Upload:
            return self._context.service.keep(example(self._example), f"{self._example}.png")[0]

        return gr.update(value=None), self._preview(request, kept, crop)

    def _update_preview(self, request: gr.Request, *crop: Any) -> Any:
        preview = self._state(request).preview
        if preview is None:
            return gr.skip()
        upload = preview.upload
        return self._preview(request, lambda: upload, crop)

    def _preview(self, request: gr.Request, take: Callable[[], Upload], crop: Sequence[Any]) -> Any:
        """The portrait's preview, or an error message."""
        chosen = self._state(request)
        try:
            upload = take()
            values = {**self.fixed, **options.changed(list(self.crop), crop)}
            animation = options_from("animate", values)
            assert isinstance(animation, AnimateOptions)
            chosen.preview = open_preview(self._context.service, upload, animation)
            return gr.update(value=chosen.preview.card(), visible=True)
        except Exception as error:
            return gr.update(value=self._context.error_card(error), visible=True)
