"""The Check tab: what a file says about how it was made."""

from __future__ import annotations

from html import escape

import gradio as gr

from liveportrait.apps.page import markup
from liveportrait.apps.page.context import PageContext
from liveportrait.apps.page.portrait import PREVIEW_EVENT
from liveportrait.apps.page.uploads import PICTURES, VIDEOS, drop
from liveportrait.marking.verdict import Verdict


class CheckTab:
    """A file drop, and what was found in the file."""

    def __init__(self, context: PageContext) -> None:
        self._context = context
        with gr.Row(elem_classes="lp-columns"):
            with gr.Column(scale=5, min_width=320, elem_classes="lp-card"):
                gr.Markdown("### A picture or video", elem_classes="lp-heading")
                dropped = drop("Picture or video", PICTURES + VIDEOS, "check-source")
            with gr.Column(scale=6, min_width=320, elem_classes="lp-card"):
                gr.Markdown("### What it says about how it was made", elem_classes="lp-heading")
                place = gr.HTML(
                    markup.empty("Drop any picture or video to see whether it is marked as generated."),
                    elem_id="check-result",
                )
        dropped.upload(self._check, dropped, [dropped, place], **PREVIEW_EVENT)

    def _check(self, file: str) -> tuple[None, str]:
        try:
            upload = self._context.keep_upload(file)
            return None, verdict_card(self._context.service.verdict(upload), upload.name)
        except Exception as error:
            return None, self._context.error_card(error)


def verdict_card(verdict: Verdict, name: str) -> str:
    """A file's marks, as HTML."""
    first, *others = verdict.lines(name)
    said = "".join(f"<li>{escape(line.strip())}</li>" for line in others)
    return f'{markup.message(first, "hint")}<ul class="lp-said">{said}</ul>'
