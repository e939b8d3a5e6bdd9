"""Where a portrait is chosen: a photo or video, shown with its crop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from liveportrait.animation.options import AnimateOptions
from liveportrait.apps.jobs import options_from
from liveportrait.apps.page import options
from liveportrait.apps.page.desk import Desk
from liveportrait.apps.page.examples import example
from liveportrait.apps.page.sources import Look, look_at
from liveportrait.apps.page.uploads import PICTURES, VIDEOS, drop
from liveportrait.apps.server.store import Upload
from liveportrait.errors import UserError

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
LOOKING: dict[str, Any] = {**QUIET, "concurrency_limit": 2, "concurrency_id": "look"}


@dataclass(eq=False)
class _Chosen:
    """What a visitor has chosen."""

    look: Look | None = None


class PortraitCard:
    """A drop, an example, the crop and its sliders."""

    def __init__(self, desk: Desk, name: str, animals: bool = False) -> None:
        """`name`: the tab's."""
        self._desk, self._name = desk, f"{name}-source"
        self._example = "cat" if animals else "astronaut"
        self.fixed = {"subject": "animal"} if animals else {}
        """options that the tab has chosen"""
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

    def look(self, request: gr.Request) -> Look:
        """The portrait that a visitor has chosen. Raises `UserError` before that."""
        look = self._of(request).look
        if look is None:
            raise UserError("choose a portrait first: a photo or a video")
        return look

    def _listen(self) -> None:
        crop = list(self.crop.values())
        looked = [self._drop, self._source]
        self._drop.upload(self._choose, [self._drop, *crop], looked, **LOOKING)
        self._try.click(self._choose_example, crop, looked, **LOOKING)
        for widget in crop:
            event = widget.release if isinstance(widget, gr.Slider) else widget.change
            event(self._look_again, crop, self._source, **LOOKING)

    def _of(self, request: gr.Request) -> _Chosen:
        return self._desk.visitor(request).part(self._name, _Chosen)

    def _choose(self, request: gr.Request, upload: str | None, *crop: Any) -> tuple[Any, Any]:
        return gr.update(value=None), self._looked(request, lambda: self._desk.take(upload), crop)

    def _choose_example(self, request: gr.Request, *crop: Any) -> tuple[Any, Any]:
        def kept() -> Upload:
            return self._desk.service.keep(example(self._example), f"{self._example}.png")[0]

        return gr.update(value=None), self._looked(request, kept, crop)

    def _look_again(self, request: gr.Request, *crop: Any) -> Any:
        look = self._of(request).look
        if look is None:
            return gr.skip()
        upload = look.upload
        return self._looked(request, lambda: upload, crop)

    def _looked(self, request: gr.Request, take: Callable[[], Upload], crop: Sequence[Any]) -> Any:
        """The portrait's card, or what is wrong with it."""
        chosen = self._of(request)
        try:
            upload = take()
            values = {**self.fixed, **options.changed(list(self.crop), crop)}
            animation = options_from("animate", values)
            assert isinstance(animation, AnimateOptions)
            chosen.look = look_at(self._desk.service, upload, animation)
            return gr.update(value=chosen.look.card(), visible=True)
        except Exception as error:
            return gr.update(value=self._desk.told(error), visible=True)
