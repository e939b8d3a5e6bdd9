"""The Animate and Animals tabs: one face of a person, or of a cat or dog."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from starlette.concurrency import run_in_threadpool

from liveportrait.apps.page import options
from liveportrait.apps.page.context import PageContext, Visitor
from liveportrait.apps.page.job_panel import JobPanel
from liveportrait.apps.page.portrait import PREVIEW_EVENT, QUIET_EVENT, PortraitCard
from liveportrait.apps.page.sources import driver_card
from liveportrait.apps.page.uploads import PICTURES, TEMPLATES, VIDEOS, drop
from liveportrait.apps.server.store import Upload
from liveportrait.errors import UserError
from liveportrait.motion import bundled_files

OWN = "own"  # the choice for an uploaded driver


def motions() -> list[tuple[str, str]]:
    """The choices of a driver: the bundled motions, and an uploaded file."""
    return [*((name.replace("-", " ").capitalize(), name) for name in bundled_files()), ("My own", OWN)]


@dataclass(eq=False)
class Choice:
    """A visitor's choices on one of these tabs."""

    driver: Upload | None = None


class AnimateTab:
    """A portrait, a driver, options, a button, and the result."""

    def __init__(self, context: PageContext, animals: bool = False) -> None:
        self._context, self._animals = context, animals
        self._name = "animals" if animals else "animate"
        with gr.Row(elem_classes="lp-columns"):
            with gr.Column(scale=5, min_width=320):
                self._build_choices()
            with gr.Column(scale=6, min_width=320, elem_classes="lp-card lp-sticky"):
                self._panel = JobPanel(
                    context,
                    self._name,
                    "Animate",
                    "Choose a portrait and what moves it. The result plays here.",
                )
        self._listen()

    def _build_choices(self) -> None:
        self._portrait = PortraitCard(self._context, self._name, self._animals)
        with gr.Column(elem_classes="lp-card"):
            gr.Markdown("### What moves it", elem_classes="lp-heading")
            choices = motions()
            self._motion = gr.Radio(
                choices, value=choices[0][1], show_label=False, label="Motion", elem_classes="lp-pills"
            )
            self._driver_drop = drop(
                "Video, picture or motion template",
                VIDEOS + PICTURES + TEMPLATES,
                f"{self._name}-driver",
                visible=False,
            )
            self._driver = gr.HTML(visible=False)
        with gr.Column(elem_classes="lp-card"):
            gr.Markdown("### Options", elem_classes="lp-heading")
            left_out = options.HUMAN_ONLY if self._animals else ()
            self._options = options.grouped_widgets(left_out)

    def _listen(self) -> None:
        driver = [self._driver_drop, self._driver]
        self._motion.change(self._choose_motion, self._motion, driver, **QUIET_EVENT)
        self._driver_drop.upload(self._choose_driver, self._driver_drop, driver, **PREVIEW_EVENT)
        self._panel.start.click(
            self._animate,
            [self._motion, *self._portrait.crop.values(), *self._options.values()],
            self._panel.outputs,
            concurrency_limit=None,
            **QUIET_EVENT,
        )

    def _state(self, request: gr.Request) -> tuple[Visitor, Choice]:
        visitor = self._context.visitor(request)
        return visitor, visitor.state(self._name, Choice)

    def _choose_motion(self, request: gr.Request, motion: str) -> tuple[Any, Any]:
        _, chosen = self._state(request)
        own = motion == OWN
        return gr.update(visible=own), gr.update(visible=own and chosen.driver is not None)

    def _choose_driver(self, request: gr.Request, upload: str | None) -> tuple[Any, Any]:
        _, chosen = self._state(request)
        try:
            driver = self._context.keep_upload(upload)
            card = driver_card(self._context.service, driver)
            chosen.driver = driver
        except Exception as error:
            card = self._context.error_card(error)
        return gr.update(value=None), gr.update(value=card, visible=True)

    async def _animate(
        self, request: gr.Request, motion: str, *values: Any
    ) -> AsyncIterator[tuple[Any, ...]]:
        try:
            job = await run_in_threadpool(self._submit, request, motion, values)
            async for update in self._panel.follow(job):
                yield update
        except Exception as error:
            yield self._panel.idle_update(self._context.error_card(error))

    def _submit(self, request: gr.Request, motion: str, values: Sequence[Any]) -> str:
        """Submit the job. Raises `UserError` if something is not chosen yet."""
        visitor, chosen = self._state(request)
        source = self._portrait.preview(request).upload.id
        if motion == OWN and chosen.driver is None:
            raise UserError("choose what moves the portrait: a motion, or your own file")
        driver = chosen.driver.id if motion == OWN and chosen.driver else motion
        changed = {**self._portrait.fixed, **options.changed([*self._portrait.crop, *self._options], values)}
        return self._context.submit(visitor, self._name, "animate", source, [driver], changed)
