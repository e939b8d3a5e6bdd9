"""The tabs that animate one face: of a person, and of a cat or dog."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from liveportrait.animation.options import AnimateOptions
from liveportrait.apps.jobs import Job, options_from, suffix_for
from liveportrait.apps.page import options, shown, work
from liveportrait.apps.page.desk import Cancelled, Desk, Ticket
from liveportrait.apps.page.examples import write_example
from liveportrait.apps.page.sources import Look, driver_card, look_at
from liveportrait.apps.page.telling import told
from liveportrait.apps.page.uploads import PICTURES, TEMPLATES, VIDEOS, drop, take
from liveportrait.apps.page.visitors import Visitor
from liveportrait.errors import UserError
from liveportrait.motion import bundled_files

OWN = "own"  # the choice of a driver that is not bundled
NO_PORTRAIT = shown.empty("Choose a portrait and what moves it. The result plays here.")


@dataclass(eq=False)
class Chosen:
    """What a visitor has chosen on one of these tabs."""

    look: Look | None = None
    driver: Path | None = None
    ticket: Ticket | None = None
    result: Path | None = None

    def close(self) -> None:
        """Let go of it all, and stop what runs."""
        if self.ticket:
            self.ticket.cancel()
        if self.look:
            self.look.close()


class AnimateTab:
    """A portrait, a driver, options, a button, and the result."""

    def __init__(self, desk: Desk, animals: bool = False) -> None:
        self._desk, self._animals = desk, animals
        self._name = "animals" if animals else "animate"
        self._fixed = {"subject": "animal"} if animals else {}
        with gr.Row(elem_classes="lp-columns"):
            with gr.Column(scale=5, min_width=320):
                self._build_choices()
            with gr.Column(scale=6, min_width=320, elem_classes="lp-sticky"):
                self._build_result()
        self._listen()

    def _build_choices(self) -> None:
        with gr.Column(elem_classes="lp-card"):
            gr.Markdown("### Portrait", elem_classes="lp-heading")
            types = PICTURES if self._animals else PICTURES + VIDEOS
            what = "Photo of a cat or dog" if self._animals else "Photo or video"
            self._drop = drop(what, types, f"{self._name}-source")
            with gr.Row(elem_classes="lp-examples"):
                self._example = gr.Button(
                    "Try the cat" if self._animals else "Try the astronaut", size="sm", elem_classes="lp-quiet"
                )
            self._source = gr.HTML(visible=False, elem_id=f"{self._name}-crop")
            with gr.Accordion("Crop", open=False, elem_classes="lp-fold"):
                self._crop = options.widgets(options.CROP)
        with gr.Column(elem_classes="lp-card"):
            gr.Markdown("### What moves it", elem_classes="lp-heading")
            bundled = [(name.replace("-", " ").capitalize(), name) for name in bundled_files()]
            self._motion = gr.Radio(
                [*bundled, ("My own", OWN)], value=bundled[0][1], show_label=False, elem_classes="lp-pills"
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
            left_out = ("eye_opening", "lip_opening", "normalize_lips") if self._animals else ()
            self._options = options.grouped_widgets(left_out)

    def _build_result(self) -> None:
        with gr.Column(elem_classes="lp-card"):
            with gr.Row(elem_classes="lp-actions"):
                self._run = gr.Button("Animate", variant="primary", elem_id=f"{self._name}-run")
                self._cancel = gr.Button("Cancel", visible=False, elem_id=f"{self._name}-cancel")
            self._result = gr.HTML(NO_PORTRAIT, elem_id=f"{self._name}-result")

    def _listen(self) -> None:
        crop = list(self._crop.values())
        quick = {"show_progress": "hidden", "api_visibility": "private"}
        chosen = {"outputs": [self._drop, self._source], **quick, "concurrency_limit": 2}
        self._drop.upload(self._choose, [self._drop, *crop], **chosen)
        self._example.click(self._choose_example, crop, **chosen)
        for widget in crop:
            event = widget.release if isinstance(widget, gr.Slider) else widget.change
            event(self._look_again, crop, self._source, **quick, concurrency_limit=2)
        self._motion.change(self._choose_motion, self._motion, [self._driver_drop, self._driver], **quick)
        self._driver_drop.upload(
            self._choose_driver, self._driver_drop, [self._driver_drop, self._driver], **quick
        )
        self._run.click(
            self._animate,
            [self._motion, *crop, *self._options.values()],
            [self._result, self._run, self._cancel],
            concurrency_limit=None,
            **quick,
        )
        self._cancel.click(self._stop, None, None, queue=False, **quick)

    def _of(self, request: gr.Request) -> tuple[Visitor, Chosen]:
        visitor = self._desk.visitors.of(request)
        return visitor, visitor.kept.setdefault(self._name, Chosen())

    def _choose(self, request: gr.Request, upload: str | None, *crop: Any) -> tuple[Any, Any]:
        visitor, chosen = self._of(request)
        try:
            return gr.update(value=None), self._looked(visitor, chosen, take(visitor, upload), crop)
        except Exception as error:
            return gr.update(value=None), gr.update(value=told(error, visitor), visible=True)

    def _choose_example(self, request: gr.Request, *crop: Any) -> tuple[Any, Any]:
        visitor, chosen = self._of(request)
        name = "cat" if self._animals else "astronaut"
        try:
            path = write_example(name, visitor.new_file(f"{name}.png"))
            return gr.update(value=None), self._looked(visitor, chosen, path, crop)
        except Exception as error:
            return gr.update(value=None), gr.update(value=told(error, visitor), visible=True)

    def _look_again(self, request: gr.Request, *crop: Any) -> Any:
        visitor, chosen = self._of(request)
        if chosen.look is None:
            return gr.skip()
        try:
            return self._looked(visitor, chosen, chosen.look.path, crop)
        except Exception as error:
            return gr.update(value=told(error, visitor), visible=True)

    def _looked(self, visitor: Visitor, chosen: Chosen, path: Path, crop: Sequence[Any]) -> Any:
        values = {**self._fixed, **options.changed(list(self._crop), crop)}
        animation = options_from("animate", values)
        assert isinstance(animation, AnimateOptions)
        look = look_at(self._desk.animator, path, animation)
        before, chosen.look = chosen.look, look
        if before:
            before.close()
            if before.path != path:
                visitor.drop(before.path)
        return gr.update(value=look.card(), visible=True)

    def _choose_motion(self, request: gr.Request, motion: str) -> tuple[Any, Any]:
        _, chosen = self._of(request)
        own = motion == OWN
        return gr.update(visible=own), gr.update(visible=own and chosen.driver is not None)

    def _choose_driver(self, request: gr.Request, upload: str | None) -> tuple[Any, Any]:
        visitor, chosen = self._of(request)
        try:
            path = take(visitor, upload)
            card = driver_card(path)
        except Exception as error:
            return gr.update(value=None), gr.update(value=told(error, visitor), visible=True)
        visitor.drop(chosen.driver)
        chosen.driver = path
        return gr.update(value=None), gr.update(value=card, visible=True)

    async def _animate(self, request: gr.Request, motion: str, *values: Any) -> AsyncIterator[tuple[Any, ...]]:
        visitor, chosen = self._of(request)
        idle = gr.update(interactive=True), gr.update(visible=False)
        try:
            ticket = chosen.ticket = self._desk.submit(self._job(visitor, chosen, motion, values))
            busy = gr.update(interactive=False), gr.update(visible=True)
            async for state in work.following(self._desk, ticket):
                yield state, *busy
            report = ticket.future.result()
        except Cancelled:
            yield shown.message("stopped: nothing was kept", "hint"), *idle
        except Exception as error:
            yield told(error, visitor), *idle
        else:
            visitor.drop(chosen.result)
            chosen.result = report.out
            yield work.result(self._desk.visitors.show(report.out), report.out, report), *idle

    def _job(self, visitor: Visitor, chosen: Chosen, motion: str, values: Sequence[Any]) -> Job:
        """What is to be done. Raises `UserError` where something is not chosen yet."""
        if chosen.look is None:
            raise UserError("choose a portrait first: a photo or a video")
        driver = chosen.driver if motion == OWN else bundled_files()[motion]
        if driver is None:
            raise UserError("choose what moves the portrait: a motion, or a file of your own")
        source = chosen.look.path
        changed = options.changed([*self._crop, *self._options], values)
        animation = options_from("animate", {**self._fixed, **changed})
        suffix = suffix_for("animate", source, (driver,))
        out = visitor.new_file(f"{source.stem}-{driver.stem}{suffix}")
        return Job("animate", source, (driver,), out, animation)

    def _stop(self, request: gr.Request) -> None:
        _, chosen = self._of(request)
        if chosen.ticket:
            chosen.ticket.cancel()
