"""The tab that tells what a file says of how it was made."""

from __future__ import annotations

from html import escape

import gradio as gr

from liveportrait.apps.page import shown
from liveportrait.apps.page.desk import Desk
from liveportrait.apps.page.portrait import LOOKING
from liveportrait.apps.page.uploads import PICTURES, VIDEOS, drop
from liveportrait.marking.verdict import Verdict


class CheckTab:
    """A place to drop a file, and what is found in it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        with gr.Row(elem_classes="lp-columns"):
            with gr.Column(scale=5, min_width=320, elem_classes="lp-card"):
                gr.Markdown("### A picture or video", elem_classes="lp-heading")
                dropped = drop("Picture or video", PICTURES + VIDEOS, "check-source")
            with gr.Column(scale=6, min_width=320, elem_classes="lp-card"):
                gr.Markdown("### What it says of how it was made", elem_classes="lp-heading")
                place = gr.HTML(
                    shown.empty("Drop a file of anybody's: whether it says that it is generated."),
                    elem_id="check-result",
                )
        dropped.upload(self._check, dropped, [dropped, place], **LOOKING)

    def _check(self, file: str) -> tuple[None, str]:
        try:
            upload = self._desk.take(file)
            return None, verdict_card(self._desk.service.verdict(upload), upload.name)
        except Exception as error:
            return None, self._desk.told(error)


def verdict_card(verdict: Verdict, name: str) -> str:
    """What a file says of itself, as HTML."""
    first, *others = verdict.lines(name)
    said = "".join(f"<li>{escape(line.strip())}</li>" for line in others)
    return f'{shown.message(first, "hint")}<ul class="lp-said">{said}</ul>'
