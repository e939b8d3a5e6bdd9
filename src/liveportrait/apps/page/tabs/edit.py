"""The tab of sliders: the picture follows them, and a video's are kept at moments."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from starlette.concurrency import run_in_threadpool

from liveportrait.animation.edit_options import SLIDERS, EditOptions
from liveportrait.animation.options import SourceOptions
from liveportrait.animation.posers import SliderPoser
from liveportrait.apps.page import shown
from liveportrait.apps.page.desk import Desk, Visitor
from liveportrait.apps.page.examples import example
from liveportrait.apps.page.keyframes import Timeline
from liveportrait.apps.page.portrait import LOOKING, QUIET
from liveportrait.apps.page.sources import Look, look_at, look_at_moment
from liveportrait.apps.page.uploads import PICTURES, VIDEOS, drop
from liveportrait.apps.page.view import view
from liveportrait.apps.page.work import Work
from liveportrait.apps.server.store import Upload
from liveportrait.errors import UserError

NAME = "edit"
GROUPS = {
    "Expression": {"smile": "Smile", "eyebrow": "Brows", "neutral": "Neutral"},
    "Eyes": {
        "eye_opening": "Both eyes open",
        "left_eye_opening": "Left eye open",
        "right_eye_opening": "Right eye open",
        "wink": "Wink",
        "gaze_x": "Look left or right",
        "gaze_y": "Look down or up",
    },
    "Mouth": {
        "lip_opening": "Lips open",
        "lips": "Close or open wide",
        "grin": "Grin",
        "purse": "Stretch or purse",
        "pout": "Draw to a side",
    },
    "Head": {
        "yaw": "Turn",
        "pitch": "Nod",
        "roll": "Tilt",
        "move_x": "Move sideways",
        "move_y": "Move up or down",
        "move_z": "Size",
    },
    "Copied expression": {"copy": "How much of it"},
}
NAMES = [name for group in GROUPS.values() for name in group]
OPENINGS = ("left_eye_opening", "right_eye_opening", "lip_opening")
COMPOSED = 512  # px, to which a larger crop is composed while sliders move
EMPTY = shown.empty("Choose a portrait. It follows the sliders.")


@dataclass(eq=False)
class Editing:
    """What a visitor edits."""

    look: Look | None = None
    rest: Mapping[str, float] = field(default_factory=lambda: resting(None))
    """where each slider changes nothing"""
    other: Look | None = None
    """the picture whose expression is copied"""
    timeline: Timeline = field(default_factory=Timeline)

    def moved(self, values: Sequence[float]) -> dict[str, float]:
        """The sliders that are not at rest."""
        found = {}
        for name, value in zip(NAMES, values, strict=True):
            step = (SLIDERS[name].high - SLIDERS[name].low) / 1000
            if abs(value - self.rest[name]) > step and (name != "copy" or self.other):
                found[name] = value
        return found


class EditTab:
    """A portrait that follows sliders."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        with gr.Row(elem_classes="lp-columns lp-edit"):
            with gr.Column(scale=6, min_width=320, elem_classes="lp-sticky"):
                self._build_picture()
            with gr.Column(scale=5, min_width=320):
                self._build_sliders()
        self._listen()

    def _build_picture(self) -> None:
        with gr.Column(elem_classes="lp-card lp-stage"):
            self._picture = view(EMPTY, "edit-picture")
        with gr.Column(elem_classes="lp-card"):
            self._drop = drop("Photo or video", PICTURES + VIDEOS, "edit-source")
            with gr.Row():
                self._try = gr.Button("Try the astronaut", size="sm", min_width=80, elem_classes="lp-quiet")
                self._reset = gr.Button("Reset all sliders", size="sm", min_width=80, elem_id="edit-reset")
        with gr.Column(elem_classes="lp-card"):
            self._work = Work(
                self._desk, NAME, "Save in full size", "The finished picture or video appears here."
            )

    def _build_sliders(self) -> None:
        self._sliders: dict[str, gr.Slider] = {}
        with gr.Column(elem_classes="lp-card lp-sliders"):
            for title, group in GROUPS.items():
                with gr.Accordion(title, open=title in ("Expression", "Head"), elem_classes="lp-fold"):
                    if "copy" in group:
                        self._other_drop = drop("Picture to copy from", PICTURES, "edit-other")
                        self._other = gr.HTML(visible=False)
                    for name, label in group.items():
                        low, high, rest = SLIDERS[name]
                        start = low if rest is None else rest
                        step = 0.5 if high > 10 else 0.01
                        self._sliders[name] = gr.Slider(
                            low, high, start, step=step, label=label, elem_id=f"edit-{name}", buttons=[]
                        )
        with gr.Column(elem_classes="lp-card lp-sliders", visible=False) as self._keyframes:
            gr.Markdown("### Keyframes", elem_classes="lp-heading")
            self._moment = gr.Slider(0, 1, 0, step=0.04, label="Moment, s", elem_id="edit-moment", buttons=[])
            self._way = gr.Radio(
                [("Smooth", "smooth"), ("Linear", "linear"), ("Step", "step")],
                value="smooth",
                label="On the way to the next",
                elem_classes="lp-pills",
            )
            with gr.Row():
                self._keep = gr.Button("Keep the sliders here", size="sm", elem_id="edit-keep")
                self._forget = gr.Button("Forget them here", size="sm")
            self._table = gr.HTML(elem_id="edit-keyframes")

    def _listen(self) -> None:
        sliders = [self._sliders[name] for name in NAMES]
        fresh = [self._drop, self._keyframes, self._moment, self._table, self._picture, *sliders]
        self._drop.upload(self._choose, self._drop, fresh, **LOOKING)
        self._try.click(self._choose_example, None, fresh, **LOOKING)
        draw: dict[str, Any] = {
            "fn": self._draw,
            "inputs": sliders,
            "outputs": self._picture,
            "trigger_mode": "always_last",
            "concurrency_limit": 1,
            "concurrency_id": "draw",
            **QUIET,
        }
        gr.on([slider.input for slider in sliders], **draw)
        self._reset.click(self._rest, None, sliders, **QUIET).then(**draw)
        other = [self._other_drop, self._other]
        self._other_drop.upload(self._choose_other, self._other_drop, other, **LOOKING).then(**draw)
        at = [self._moment, self._way, *sliders]
        self._moment.release(self._go, self._moment, [self._picture, *sliders], **LOOKING).then(**draw)
        self._keep.click(self._keep_moment, at, self._table, **QUIET)
        self._forget.click(self._forget_moment, self._moment, self._table, **QUIET)
        self._work.start.click(self._edit, sliders, self._work.outputs, concurrency_limit=None, **QUIET)

    def _of(self, request: gr.Request) -> tuple[Visitor, Editing]:
        visitor = self._desk.visitor(request)
        return visitor, visitor.part(NAME, Editing)

    def _choose(self, request: gr.Request, upload: str | None) -> list[Any]:
        return self._opened(request, lambda: self._desk.take(upload))

    def _choose_example(self, request: gr.Request) -> list[Any]:
        return self._opened(
            request, lambda: self._desk.service.keep(example("astronaut"), "astronaut.png")[0]
        )

    def _opened(self, request: gr.Request, take: Callable[[], Upload]) -> list[Any]:
        """Values for the drop, what is of a video, the picture and the sliders."""
        visitor, editing = self._of(request)
        unchanged = [gr.skip() for _ in NAMES]
        try:
            look = look_at(self._desk.service, take(), SourceOptions())
        except Exception as error:
            told = self._desk.told(error)
            return [gr.update(value=None), gr.skip(), gr.skip(), gr.skip(), told, *unchanged]
        editing = visitor.kept[NAME] = Editing(look, resting(look), editing.other)
        moment = gr.update(value=look.second, maximum=max(look.upload.seconds, 0.04))
        table = editing.timeline.table()
        picture = look.near(look.source.image)
        rest = [gr.update(value=editing.rest[name]) for name in NAMES]
        return [gr.update(value=None), gr.update(visible=look.is_video), moment, table, picture, *rest]

    def _choose_other(self, request: gr.Request, upload: str | None) -> tuple[Any, Any]:
        _, editing = self._of(request)
        try:
            other = look_at(self._desk.service, self._desk.take(upload), SourceOptions())
            if other.is_video:
                raise UserError(f"{other.upload.name} is a video: expressions are copied from pictures")
            editing.other = other
            card = shown.driver_card(other.thumbnail, other.upload.name, "its expression is copied")
        except Exception as error:
            card = self._desk.told(error)
        return gr.update(value=None), gr.update(value=card, visible=True)

    def _draw(self, request: gr.Request, *values: float) -> Any:
        """The portrait with the sliders as they are."""
        _, editing = self._of(request)
        if editing.look is None:
            return gr.skip()
        try:
            moved: dict[str, Any] = editing.moved(values)
            portrait = editing.look.portrait
            session, asked = portrait.session(), EditOptions(**moved, resolution=COMPOSED)
            # The other picture is measured once, not at every move.
            poser = SliderPoser(session, asked, editing.other.motion if editing.other else None)
            with portrait.edit_with(session, asked, poser) as frames:
                return editing.look.near(next(frames))
        except Exception as error:
            return self._desk.told(error)

    def _rest(self, request: gr.Request) -> list[float]:
        _, editing = self._of(request)
        return [editing.rest[name] for name in NAMES]

    def _go(self, request: gr.Request, moment: float) -> list[Any]:
        """Another moment of the video: its picture, and what the keyframes say about the sliders."""
        _, editing = self._of(request)
        unchanged = [gr.skip() for _ in NAMES]
        if editing.look is None:
            return [gr.skip(), *unchanged]
        try:
            look = look_at_moment(self._desk.service, editing.look.upload, moment)
        except Exception as error:
            return [self._desk.told(error), *unchanged]
        before = editing.rest
        editing.look, editing.rest = look, resting(look)
        if not editing.timeline.moments:
            openings = {name for name in NAMES if before[name] != editing.rest[name]}
            return [
                look.near(look.source.image),
                *(editing.rest[name] if name in openings else gr.skip() for name in NAMES),
            ]
        there = {**editing.rest, **editing.timeline.keyframes.at(moment)}
        return [look.near(look.source.image), *(there[name] for name in NAMES)]

    def _keep_moment(self, request: gr.Request, moment: float, way: Any, *values: float) -> str:
        _, editing = self._of(request)
        moved = editing.moved(values)
        known = editing.timeline.keyframes.sliders()
        given = dict(zip(NAMES, values, strict=True))
        wanted = {name: given[name] for name in NAMES if name in moved or name in known}
        editing.timeline.keep(moment, wanted, way)
        return editing.timeline.table()

    def _forget_moment(self, request: gr.Request, moment: float) -> str:
        _, editing = self._of(request)
        editing.timeline.forget(moment)
        return editing.timeline.table()

    async def _edit(self, request: gr.Request, *values: float) -> AsyncIterator[tuple[Any, ...]]:
        visitor, editing = self._of(request)
        try:
            job = await run_in_threadpool(self._submit, visitor, editing, values)
            async for state in self._work.followed(job):
                yield state
        except Exception as error:
            yield self._work.idle(self._desk.told(error))

    def _submit(self, visitor: Visitor, editing: Editing, values: Sequence[float]) -> str:
        """Ask for the picture or video in full size. Raises `UserError` where none is chosen."""
        if editing.look is None:
            raise UserError("choose a portrait first: a photo or a video")
        files = {"expression_from": editing.other.upload.id} if editing.other else {}
        if editing.look.is_video and editing.timeline.moments:
            files["keyframes"] = self._desk.service.keep(editing.timeline.file(), "keyframes.json")[0].id
        moved: dict[str, object] = dict(editing.moved(values))
        return self._desk.submit(visitor, NAME, "edit", editing.look.upload.id, (), moved, files)


def resting(look: Look | None) -> dict[str, float]:
    """Where each slider changes nothing: an opening where the face has it."""
    rest = {name: limits.low if limits.rest is None else limits.rest for name, limits in SLIDERS.items()}
    ratios = look.source.faces[0].still.ratios if look else None
    if ratios is not None:
        left, right, lips = (round(ratio, 2) for ratio in ratios[0].tolist())
        rest |= dict(
            zip(OPENINGS, (left, right, lips), strict=True), eye_opening=round((left + right) / 2, 2)
        )
    return {name: min(max(value, SLIDERS[name].low), SLIDERS[name].high) for name, value in rest.items()}
