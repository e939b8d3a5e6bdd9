"""The tab of pictures with several faces: click a face, give it a driver of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from starlette.concurrency import run_in_threadpool

from liveportrait.animation.options import SourceOptions
from liveportrait.apps.page import shown
from liveportrait.apps.page.desk import Desk, Visitor
from liveportrait.apps.page.examples import example
from liveportrait.apps.page.portrait import LOOKING, QUIET
from liveportrait.apps.page.sources import Look, driver_card, look_at
from liveportrait.apps.page.tabs.animate import OWN, motions
from liveportrait.apps.page.uploads import PICTURES, TEMPLATES, VIDEOS, drop
from liveportrait.apps.page.work import Work
from liveportrait.apps.server.store import Upload
from liveportrait.errors import UserError

NAME = "faces"
STILL = "still"  # the choice of a face that stays as it is
EXAMPLE = "two astronauts"
_CLICKS = """element.addEventListener("click", event => {
  const face = event.target.closest("[data-face]");
  if (face) trigger("select", {face: Number(face.dataset.face)});
});"""


@dataclass(eq=False)
class Crowd:
    """The faces that a visitor sees, and what moves each."""

    look: Look | None = None
    drivers: dict[int, str | Upload] = field(default_factory=dict)
    """a bundled motion or a file, by the face's number from the left"""
    chosen: int = 1

    def card(self) -> str:
        """The picture with a button on each face, as HTML."""
        if self.look is None:
            return shown.empty("Choose a picture of several people.")
        names = {number: _name(driver) for number, driver in self.drivers.items()}
        return shown.faces_card(self.look.source.image, self.look.windows, names, self.chosen)


class ManyFacesTab:
    """A picture, its faces, a driver for the one that is chosen, and the result."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        with gr.Row(elem_classes="lp-columns"):
            with gr.Column(scale=6, min_width=320, elem_classes="lp-card"):
                gr.Markdown("### Faces", elem_classes="lp-heading")
                self._drop = drop("Photo or video", PICTURES + VIDEOS, "faces-source")
                self._try = gr.Button("Try two astronauts", size="sm", elem_classes="lp-quiet")
                self._faces = gr.HTML(Crowd().card(), js_on_load=_CLICKS, elem_id="faces-picture")
            with gr.Column(scale=5, min_width=320):
                with gr.Column(elem_classes="lp-card"):
                    self._heading = gr.Markdown("### What moves a face", elem_classes="lp-heading")
                    choices = [("Stays as it is", STILL), *motions()]
                    self._motion = gr.Radio(
                        choices, value=STILL, label="Motion", show_label=False, elem_classes="lp-pills"
                    )
                    types = VIDEOS + PICTURES + TEMPLATES
                    self._driver_drop = drop(
                        "Video, picture or motion template", types, "faces-driver", visible=False
                    )
                    self._driver = gr.HTML(visible=False)
                with gr.Column(elem_classes="lp-card"):
                    self._work = Work(
                        desk, NAME, "Animate", "Click a face, choose what moves it, then animate."
                    )
        self._listen()

    def _listen(self) -> None:
        shown_face = [self._faces, self._heading, self._motion, self._driver_drop, self._driver]
        self._drop.upload(self._choose, self._drop, [self._drop, *shown_face], **LOOKING)
        self._try.click(self._choose_example, None, [self._drop, *shown_face], **LOOKING)
        self._faces.select(self._turn_to, None, shown_face, **QUIET)
        moved = [self._faces, self._driver_drop, self._driver]
        self._motion.input(self._move, self._motion, moved, **QUIET)
        self._driver_drop.upload(self._bring, self._driver_drop, moved, **LOOKING)
        self._work.start.click(self._animate, None, self._work.outputs, concurrency_limit=None, **QUIET)

    def _of(self, request: gr.Request) -> tuple[Visitor, Crowd]:
        visitor = self._desk.visitor(request)
        return visitor, visitor.part(NAME, Crowd)

    def _choose(self, request: gr.Request, upload: str | None) -> list[Any]:
        return self._opened(request, lambda: self._desk.take(upload))

    def _choose_example(self, request: gr.Request) -> list[Any]:
        def kept() -> Upload:
            return self._desk.service.keep(example(EXAMPLE), f"{EXAMPLE}.png")[0]

        return self._opened(request, kept)

    def _opened(self, request: gr.Request, take: Callable[[], Upload]) -> list[Any]:
        visitor, _ = self._of(request)
        try:
            look = look_at(self._desk.service, take(), SourceOptions(faces="all"))
        except Exception as error:
            return [gr.update(value=None), self._desk.told(error), *(gr.skip() for _ in range(4))]
        crowd = visitor.kept[NAME] = Crowd(look)
        return [gr.update(value=None), *self._face(crowd)]

    def _turn_to(self, request: gr.Request, event: gr.EventData) -> list[Any]:
        _, crowd = self._of(request)
        number = int(event.face)
        if crowd.look and 1 <= number <= len(crowd.look.windows):
            crowd.chosen = number
        return self._face(crowd)

    def _face(self, crowd: Crowd) -> list[Any]:
        """The picture, and the driver of the chosen face."""
        driver = crowd.drivers.get(crowd.chosen, STILL)
        motion = driver if isinstance(driver, str) else OWN
        heading = f"### What moves face {crowd.chosen}"
        return [crowd.card(), heading, gr.update(value=motion), *self._own(driver)]

    def _own(self, driver: str | Upload) -> tuple[Any, Any]:
        """The drop of a driver, and the card of the one that is there."""
        if isinstance(driver, str):
            return gr.update(visible=driver == OWN), gr.update(visible=False)
        card = driver_card(self._desk.service, driver)
        return gr.update(value=None, visible=True), gr.update(value=card, visible=True)

    def _move(self, request: gr.Request, motion: str) -> list[Any]:
        _, crowd = self._of(request)
        crowd.drivers.pop(crowd.chosen, None)
        if motion not in (STILL, OWN):
            crowd.drivers[crowd.chosen] = motion
        return [crowd.card(), *self._own(motion)]

    def _bring(self, request: gr.Request, upload: str | None) -> list[Any]:
        _, crowd = self._of(request)
        try:
            driver = self._desk.take(upload)
            own = self._own(driver)
        except Exception as error:
            told = gr.update(value=self._desk.told(error), visible=True)
            return [gr.skip(), gr.update(value=None), told]
        crowd.drivers[crowd.chosen] = driver
        return [crowd.card(), *own]

    async def _animate(self, request: gr.Request) -> AsyncIterator[tuple[Any, ...]]:
        visitor, crowd = self._of(request)
        try:
            job = await run_in_threadpool(self._submit, visitor, crowd)
            async for state in self._work.followed(job):
                yield state
        except Exception as error:
            yield self._work.idle(self._desk.told(error))

    def _submit(self, visitor: Visitor, crowd: Crowd) -> str:
        """Ask for the work. Raises `UserError` where no face has a driver."""
        if crowd.look is None:
            raise UserError("choose a picture of several people first")
        if not crowd.drivers:
            raise UserError("no face has anything that moves it: click a face, and choose a motion")
        faces = sorted(crowd.drivers)
        ids = [_id(crowd.drivers[face]) for face in faces]
        drivers = list(dict.fromkeys(ids))
        options = {
            "faces": ",".join(map(str, faces)),
            "assign": ",".join(str(drivers.index(each) + 1) for each in ids),
        }
        return self._desk.submit(visitor, NAME, "animate", crowd.look.upload.id, drivers, options)


def _id(driver: str | Upload) -> str:
    return driver if isinstance(driver, str) else driver.id


def _name(driver: str | Upload) -> str:
    return driver.replace("-", " ") if isinstance(driver, str) else driver.name
