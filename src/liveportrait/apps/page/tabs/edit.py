"""The Edit tab: sliders that change a portrait live, with keyframes for videos."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from starlette.concurrency import run_in_threadpool

from liveportrait.animation.edit_options import SLIDERS, EditOptions
from liveportrait.animation.options import SourceOptions
from liveportrait.animation.posers import SliderPoser
from liveportrait.apps.page import markup
from liveportrait.apps.page.context import PageContext, Visitor
from liveportrait.apps.page.examples import example
from liveportrait.apps.page.job_panel import JobPanel
from liveportrait.apps.page.keyframes import Timeline
from liveportrait.apps.page.portrait import PREVIEW_EVENT, QUIET_EVENT
from liveportrait.apps.page.sources import Preview, open_preview, open_preview_at
from liveportrait.apps.page.uploads import PICTURES, VIDEOS, drop
from liveportrait.apps.page.view import view
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
        "pout": "Pull to one side",
    },
    "Head": {
        "yaw": "Turn",
        "pitch": "Nod",
        "roll": "Tilt",
        "move_x": "Move sideways",
        "move_y": "Move up or down",
        "move_z": "Size",
    },
    "Copied expression": {"copy": "Amount"},
}
NAMES = [name for group in GROUPS.values() for name in group]
OPENINGS = ("left_eye_opening", "right_eye_opening", "lip_opening")
PREVIEW_RESOLUTION = 512  # px, maximum resolution of the crop while sliders move
EMPTY = markup.empty("Choose a portrait. It follows the sliders.")


@dataclass(eq=False)
class Editing:
    """The state of a visitor's edit."""

    preview: Preview | None = None
    rest: Mapping[str, float] = field(default_factory=lambda: resting_values(None))
    """the value at which each slider changes nothing"""
    other: Preview | None = None
    """the picture whose expression is copied"""
    timeline: Timeline = field(default_factory=Timeline)

    def changed_sliders(self, values: Sequence[float]) -> dict[str, float]:
        """The sliders that differ from their resting values."""
        found = {}
        for name, value in zip(NAMES, values, strict=True):
            step = (SLIDERS[name].high - SLIDERS[name].low) / 1000
            if abs(value - self.rest[name]) > step and (name != "copy" or self.other):
                found[name] = value
        return found


class EditTab:
    """A portrait that follows the sliders."""

    def __init__(self, context: PageContext) -> None:
        self._context = context
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
            self._panel = JobPanel(
                self._context, NAME, "Save in full size", "The finished picture or video appears here."
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
            self._interpolation = gr.Radio(
                [("Smooth", "smooth"), ("Linear", "linear"), ("Step", "step")],
                value="smooth",
                label="Transition to the next",
                elem_classes="lp-pills",
            )
            with gr.Row():
                self._keep = gr.Button("Set a keyframe here", size="sm", elem_id="edit-keep")
                self._forget = gr.Button("Remove it", size="sm")
            self._table = gr.HTML(elem_id="edit-keyframes")

    def _listen(self) -> None:
        sliders = [self._sliders[name] for name in NAMES]
        fresh = [self._drop, self._keyframes, self._moment, self._table, self._picture, *sliders]
        self._drop.upload(self._choose, self._drop, fresh, **PREVIEW_EVENT)
        self._try.click(self._choose_example, None, fresh, **PREVIEW_EVENT)
        draw: dict[str, Any] = {
            "fn": self._draw,
            "inputs": sliders,
            "outputs": self._picture,
            "trigger_mode": "always_last",
            "concurrency_limit": 1,
            "concurrency_id": "draw",
            **QUIET_EVENT,
        }
        gr.on([slider.input for slider in sliders], **draw)
        self._reset.click(self._reset_sliders, None, sliders, **QUIET_EVENT).then(**draw)
        other = [self._other_drop, self._other]
        self._other_drop.upload(self._choose_other, self._other_drop, other, **PREVIEW_EVENT).then(**draw)
        at = [self._moment, self._interpolation, *sliders]
        self._moment.release(
            self._go_to_moment, self._moment, [self._picture, *sliders], **PREVIEW_EVENT
        ).then(**draw)
        self._keep.click(self._keep_moment, at, self._table, **QUIET_EVENT)
        self._forget.click(self._forget_moment, self._moment, self._table, **QUIET_EVENT)
        self._panel.start.click(
            self._edit, sliders, self._panel.outputs, concurrency_limit=None, **QUIET_EVENT
        )

    def _state(self, request: gr.Request) -> tuple[Visitor, Editing]:
        visitor = self._context.visitor(request)
        return visitor, visitor.state(NAME, Editing)

    def _choose(self, request: gr.Request, upload: str | None) -> list[Any]:
        return self._open(request, lambda: self._context.keep_upload(upload))

    def _choose_example(self, request: gr.Request) -> list[Any]:
        return self._open(
            request, lambda: self._context.service.keep(example("astronaut"), "astronaut.png")[0]
        )

    def _open(self, request: gr.Request, take: Callable[[], Upload]) -> list[Any]:
        """Updates for the drop, the keyframe widgets, the picture and the sliders."""
        visitor, editing = self._state(request)
        unchanged = [gr.skip() for _ in NAMES]
        try:
            preview = open_preview(self._context.service, take(), SourceOptions())
        except Exception as error:
            message = self._context.error_card(error)
            return [gr.update(value=None), gr.skip(), gr.skip(), gr.skip(), message, *unchanged]
        editing = visitor.states[NAME] = Editing(preview, resting_values(preview), editing.other)
        moment = gr.update(value=preview.second, maximum=max(preview.upload.seconds, 0.04))
        table = editing.timeline.table()
        picture = preview.close_up(preview.source.image)
        rest = [gr.update(value=editing.rest[name]) for name in NAMES]
        return [gr.update(value=None), gr.update(visible=preview.is_video), moment, table, picture, *rest]

    def _choose_other(self, request: gr.Request, upload: str | None) -> tuple[Any, Any]:
        _, editing = self._state(request)
        try:
            other = open_preview(self._context.service, self._context.keep_upload(upload), SourceOptions())
            if other.is_video:
                raise UserError(
                    f"{other.upload.name} is a video: choose a picture to copy the expression from"
                )
            editing.other = other
            card = markup.driver_card(other.thumbnail, other.upload.name, "source of the expression")
        except Exception as error:
            card = self._context.error_card(error)
        return gr.update(value=None), gr.update(value=card, visible=True)

    def _draw(self, request: gr.Request, *values: float) -> Any:
        """The portrait with the current slider values."""
        _, editing = self._state(request)
        if editing.preview is None:
            return gr.skip()
        try:
            changed_sliders: dict[str, Any] = editing.changed_sliders(values)
            portrait = editing.preview.portrait
            session, asked = portrait.session(), EditOptions(**changed_sliders, resolution=PREVIEW_RESOLUTION)
            # The other picture is measured only once.
            poser = SliderPoser(session, asked, editing.other.motion if editing.other else None)
            with portrait.edit_with(session, asked, poser) as frames:
                return editing.preview.close_up(next(frames))
        except Exception as error:
            return self._context.error_card(error)

    def _reset_sliders(self, request: gr.Request) -> list[float]:
        _, editing = self._state(request)
        return [editing.rest[name] for name in NAMES]

    def _go_to_moment(self, request: gr.Request, moment: float) -> list[Any]:
        """Go to a moment of the video: its picture, and the slider values from the keyframes."""
        _, editing = self._state(request)
        unchanged = [gr.skip() for _ in NAMES]
        if editing.preview is None:
            return [gr.skip(), *unchanged]
        try:
            preview = open_preview_at(self._context.service, editing.preview.upload, moment)
        except Exception as error:
            return [self._context.error_card(error), *unchanged]
        before = editing.rest
        editing.preview, editing.rest = preview, resting_values(preview)
        if not editing.timeline.moments:
            openings = {name for name in NAMES if before[name] != editing.rest[name]}
            return [
                preview.close_up(preview.source.image),
                *(editing.rest[name] if name in openings else gr.skip() for name in NAMES),
            ]
        there = {**editing.rest, **editing.timeline.keyframes.at(moment)}
        return [preview.close_up(preview.source.image), *(there[name] for name in NAMES)]

    def _keep_moment(self, request: gr.Request, moment: float, interpolation: Any, *values: float) -> str:
        _, editing = self._state(request)
        changed_sliders = editing.changed_sliders(values)
        known = editing.timeline.keyframes.sliders()
        given = dict(zip(NAMES, values, strict=True))
        wanted = {name: given[name] for name in NAMES if name in changed_sliders or name in known}
        editing.timeline.set(moment, wanted, interpolation)
        return editing.timeline.table()

    def _forget_moment(self, request: gr.Request, moment: float) -> str:
        _, editing = self._state(request)
        editing.timeline.remove(moment)
        return editing.timeline.table()

    async def _edit(self, request: gr.Request, *values: float) -> AsyncIterator[tuple[Any, ...]]:
        visitor, editing = self._state(request)
        try:
            job = await run_in_threadpool(self._submit, visitor, editing, values)
            async for state in self._panel.follow(job):
                yield state
        except Exception as error:
            yield self._panel.idle_update(self._context.error_card(error))

    def _submit(self, visitor: Visitor, editing: Editing, values: Sequence[float]) -> str:
        """Submit the job for the full-size picture or video. Raises `UserError` if no portrait is chosen."""
        if editing.preview is None:
            raise UserError("choose a portrait first: a photo or a video")
        files = {"expression_from": editing.other.upload.id} if editing.other else {}
        if editing.preview.is_video and editing.timeline.moments:
            files["keyframes"] = self._context.service.keep(editing.timeline.file(), "keyframes.json")[0].id
        changed_sliders: dict[str, object] = dict(editing.changed_sliders(values))
        return self._context.submit(
            visitor, NAME, "edit", editing.preview.upload.id, (), changed_sliders, files
        )


def resting_values(preview: Preview | None) -> dict[str, float]:
    """The value at which each slider changes nothing; for an opening, the face's own."""
    rest = {name: limits.low if limits.rest is None else limits.rest for name, limits in SLIDERS.items()}
    ratios = preview.source.faces[0].still.ratios if preview else None
    if ratios is not None:
        left, right, lips = (round(ratio, 2) for ratio in ratios[0].tolist())
        rest |= dict(
            zip(OPENINGS, (left, right, lips), strict=True), eye_opening=round((left + right) / 2, 2)
        )
    return {name: min(max(value, SLIDERS[name].low), SLIDERS[name].high) for name, value in rest.items()}
