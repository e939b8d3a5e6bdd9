"""The Many faces tab: click a face in a picture, and give it its own driver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from starlette.concurrency import run_in_threadpool

from liveportrait.animation.options import SourceOptions
from liveportrait.apps.page import markup
from liveportrait.apps.page.context import PageContext, Visitor
from liveportrait.apps.page.examples import example
from liveportrait.apps.page.job_panel import JobPanel
from liveportrait.apps.page.portrait import PREVIEW_EVENT, QUIET_EVENT
from liveportrait.apps.page.sources import Preview, driver_card, open_preview
from liveportrait.apps.page.tabs.animate import OWN, motions
from liveportrait.apps.page.uploads import PICTURES, TEMPLATES, VIDEOS, drop
from liveportrait.apps.server.store import Upload
from liveportrait.errors import UserError

NAME = "faces"
STILL = "still"  # the choice for a face that does not move
EXAMPLE = "two astronauts"
_CLICKS = """element.addEventListener("click", event => {
  const face = event.target.closest("[data-face]");
  if (face) trigger("select", {face: Number(face.dataset.face)});
});"""


@dataclass(eq=False)
class Assignment:
    """The faces of a visitor's picture, and the driver of each."""

    preview: Preview | None = None
    drivers: dict[int, str | Upload] = field(default_factory=dict)
    """face number, from the left → bundled motion or file"""
    chosen: int = 1

    def card(self) -> str:
        """The picture with a button on each face, as HTML."""
        if self.preview is None:
            return markup.empty("Choose a picture of several people.")
        names = {number: _name(driver) for number, driver in self.drivers.items()}
        return markup.faces_card(self.preview.source.image, self.preview.windows, names, self.chosen)


class ManyFacesTab:
    """A picture, its faces, the driver of the selected face, and the result."""

    def __init__(self, context: PageContext) -> None:
        self._context = context
        with gr.Row(elem_classes="lp-columns"):
            with gr.Column(scale=6, min_width=320, elem_classes="lp-card"):
                gr.Markdown("### Faces", elem_classes="lp-heading")
                self._drop = drop("Photo or video", PICTURES + VIDEOS, "faces-source")
                self._try = gr.Button("Try two astronauts", size="sm", elem_classes="lp-quiet")
                self._faces = gr.HTML(Assignment().card(), js_on_load=_CLICKS, elem_id="faces-picture")
            with gr.Column(scale=5, min_width=320):
                with gr.Column(elem_classes="lp-card"):
                    self._heading = gr.Markdown("### What moves a face", elem_classes="lp-heading")
                    choices = [("Does not move", STILL), *motions()]
                    self._motion = gr.Radio(
                        choices, value=STILL, label="Motion", show_label=False, elem_classes="lp-pills"
                    )
                    types = VIDEOS + PICTURES + TEMPLATES
                    self._driver_drop = drop(
                        "Video, picture or motion template", types, "faces-driver", visible=False
                    )
                    self._driver = gr.HTML(visible=False)
                with gr.Column(elem_classes="lp-card"):
                    self._panel = JobPanel(
                        context, NAME, "Animate", "Click a face, choose what moves it, then animate."
                    )
        self._listen()

    def _listen(self) -> None:
        shown_face = [self._faces, self._heading, self._motion, self._driver_drop, self._driver]
        self._drop.upload(self._choose, self._drop, [self._drop, *shown_face], **PREVIEW_EVENT)
        self._try.click(self._choose_example, None, [self._drop, *shown_face], **PREVIEW_EVENT)
        self._faces.select(self._select_face, None, shown_face, **QUIET_EVENT)
        moved = [self._faces, self._driver_drop, self._driver]
        self._motion.input(self._choose_motion, self._motion, moved, **QUIET_EVENT)
        self._driver_drop.upload(self._upload_driver, self._driver_drop, moved, **PREVIEW_EVENT)
        self._panel.start.click(
            self._animate, None, self._panel.outputs, concurrency_limit=None, **QUIET_EVENT
        )

    def _state(self, request: gr.Request) -> tuple[Visitor, Assignment]:
        visitor = self._context.visitor(request)
        return visitor, visitor.state(NAME, Assignment)

    def _choose(self, request: gr.Request, upload: str | None) -> list[Any]:
        return self._open(request, lambda: self._context.keep_upload(upload))

    def _choose_example(self, request: gr.Request) -> list[Any]:
        def kept() -> Upload:
            return self._context.service.keep(example(EXAMPLE), f"{EXAMPLE}.png")[0]

        return self._open(request, kept)

    def _open(self, request: gr.Request, take: Callable[[], Upload]) -> list[Any]:
        visitor, _ = self._state(request)
        try:
            preview = open_preview(self._context.service, take(), SourceOptions(faces="all"))
        except Exception as error:
            return [gr.update(value=None), self._context.error_card(error), *(gr.skip() for _ in range(4))]
        assignment = visitor.states[NAME] = Assignment(preview)
        return [gr.update(value=None), *self._face_updates(assignment)]

    def _select_face(self, request: gr.Request, event: gr.EventData) -> list[Any]:
        _, assignment = self._state(request)
        number = int(event.face)
        if assignment.preview and 1 <= number <= len(assignment.preview.windows):
            assignment.chosen = number
        return self._face_updates(assignment)

    def _face_updates(self, assignment: Assignment) -> list[Any]:
        """Updates for the picture and the driver of the selected face."""
        driver = assignment.drivers.get(assignment.chosen, STILL)
        motion = driver if isinstance(driver, str) else OWN
        heading = f"### What moves face {assignment.chosen}"
        return [assignment.card(), heading, gr.update(value=motion), *self._driver_updates(driver)]

    def _driver_updates(self, driver: str | Upload) -> tuple[Any, Any]:
        """Updates for the driver's file drop and its card."""
        if isinstance(driver, str):
            return gr.update(visible=driver == OWN), gr.update(visible=False)
        card = driver_card(self._context.service, driver)
        return gr.update(value=None, visible=True), gr.update(value=card, visible=True)

    def _choose_motion(self, request: gr.Request, motion: str) -> list[Any]:
        _, assignment = self._state(request)
        assignment.drivers.pop(assignment.chosen, None)
        if motion not in (STILL, OWN):
            assignment.drivers[assignment.chosen] = motion
        return [assignment.card(), *self._driver_updates(motion)]

    def _upload_driver(self, request: gr.Request, upload: str | None) -> list[Any]:
        _, assignment = self._state(request)
        try:
            driver = self._context.keep_upload(upload)
            own = self._driver_updates(driver)
        except Exception as error:
            error_update = gr.update(value=self._context.error_card(error), visible=True)
            return [gr.skip(), gr.update(value=None), error_update]
        assignment.drivers[assignment.chosen] = driver
        return [assignment.card(), *own]

    async def _animate(self, request: gr.Request) -> AsyncIterator[tuple[Any, ...]]:
        visitor, assignment = self._state(request)
        try:
            job = await run_in_threadpool(self._submit, visitor, assignment)
            async for state in self._panel.follow(job):
                yield state
        except Exception as error:
            yield self._panel.idle_update(self._context.error_card(error))

    def _submit(self, visitor: Visitor, assignment: Assignment) -> str:
        """Submit the job. Raises `UserError` if no face has a driver."""
        if assignment.preview is None:
            raise UserError("choose a picture of several people first")
        if not assignment.drivers:
            raise UserError("no face has a driver: click a face, and choose a motion")
        faces = sorted(assignment.drivers)
        ids = [_id(assignment.drivers[face]) for face in faces]
        drivers = list(dict.fromkeys(ids))
        options = {
            "faces": ",".join(map(str, faces)),
            "assign": ",".join(str(drivers.index(each) + 1) for each in ids),
        }
        return self._context.submit(visitor, NAME, "animate", assignment.preview.upload.id, drivers, options)


def _id(driver: str | Upload) -> str:
    return driver if isinstance(driver, str) else driver.id


def _name(driver: str | Upload) -> str:
    return driver.replace("-", " ") if isinstance(driver, str) else driver.name
