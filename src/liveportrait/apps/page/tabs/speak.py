"""The Speak tab: a portrait speaks a recording, or a text that this machine reads aloud."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import gradio as gr
from starlette.concurrency import run_in_threadpool

from liveportrait.apps.page import options
from liveportrait.apps.page.context import PageContext
from liveportrait.apps.page.job_panel import JobPanel
from liveportrait.apps.page.portrait import QUIET_EVENT, PortraitCard
from liveportrait.errors import UserError
from liveportrait.media.sound.text import espeak

RECORDING, TEXT = "recording", "text"
NAME = "speak"


class SpeakTab:
    """A portrait, what it says, options, a button, and the result."""

    def __init__(self, context: PageContext) -> None:
        self._context = context
        with gr.Row(elem_classes="lp-columns"):
            with gr.Column(scale=5, min_width=320):
                self._build_choices()
            with gr.Column(scale=6, min_width=320, elem_classes="lp-card lp-sticky"):
                self._panel = JobPanel(
                    context, NAME, "Speak", "Choose a portrait and what it says. The result plays here."
                )
        said = [self._kind, self._recording, self._text, self._voice]
        self._kind.change(self._choose_kind, self._kind, said[1:], **QUIET_EVENT)
        self._panel.start.click(
            self._speak,
            [*said, *self._portrait.crop.values(), *self._options.values()],
            self._panel.outputs,
            concurrency_limit=None,
            **QUIET_EVENT,
        )

    def _build_choices(self) -> None:
        self._portrait = PortraitCard(self._context, NAME)
        with gr.Column(elem_classes="lp-card"):
            gr.Markdown("### What it says", elem_classes="lp-heading")
            self._kind = gr.Radio(
                [("A recording", RECORDING), ("A text", TEXT)],
                value=RECORDING,
                show_label=False,
                label="What it says",
                elem_classes="lp-pills",
            )
            self._recording = gr.Audio(
                label="Sound file or microphone",
                sources=["upload", "microphone"],
                type="filepath",
                elem_id=f"{NAME}-recording",
            )
            self._text = gr.Textbox(
                label="Text", lines=3, visible=False, info=why_not_read() or None, elem_id=f"{NAME}-text"
            )
            self._voice = gr.Textbox(
                label="Voice",
                info="an espeak-ng voice, such as de or en-gb; leave empty for the default",
                visible=False,
            )
        with gr.Column(elem_classes="lp-card"):
            gr.Markdown("### Options", elem_classes="lp-heading")
            self._options = options.widgets(options.SPEAKING)

    def _choose_kind(self, kind: str) -> tuple[Any, ...]:
        text = gr.update(visible=kind == TEXT, interactive=not why_not_read())
        return gr.update(visible=kind == RECORDING), text, text

    async def _speak(self, request: gr.Request, *values: Any) -> AsyncIterator[tuple[Any, ...]]:
        try:
            job = await run_in_threadpool(self._submit, request, values)
            async for update in self._panel.follow(job):
                yield update
        except Exception as error:
            yield self._panel.idle_update(self._context.error_card(error))

    def _submit(self, request: gr.Request, values: Sequence[Any]) -> str:
        """Submit the job. Raises `UserError` if something is not chosen yet."""
        kind, recording, text, voice, *others = values
        source = self._portrait.preview(request).upload.id
        chosen = options.changed([*self._portrait.crop, *self._options], others)
        if kind == TEXT:
            if not text.strip():
                raise UserError("type what the portrait says first")
            speech, said = [], {"text": text, "voice": voice.strip()}
        else:
            if recording is None:
                raise UserError("choose what the portrait says first: choose or record a sound")
            speech, said = [self._context.keep_upload(recording, stays=True).id], {}
        visitor = self._context.visitor(request)
        return self._context.submit(visitor, NAME, "speak", source, speech, {**chosen, **said})


def why_not_read() -> str:
    """Why this machine cannot read a text aloud; "" if it can."""
    try:
        espeak()
    except UserError as error:
        return str(error)
    return ""
