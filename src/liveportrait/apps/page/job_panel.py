"""The panel that runs a visitor's job: buttons, progress, and the result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr
from starlette.concurrency import run_in_threadpool

from liveportrait.animation.report import ANIMATE, FIND, FOLLOW, MEASURE, count, pace
from liveportrait.apps.page import markup
from liveportrait.apps.page.context import PageContext
from liveportrait.apps.server.service import Status
from liveportrait.apps.server.store import Record

POLL_S = 0.25
STEPS = {
    FOLLOW: "Tracking the portrait's face",
    MEASURE: "Measuring the portrait",
    FIND: "Reading the driver's motion",
    ANIMATE: "Rendering",
}


class JobPanel:
    """A button that starts a job, one that cancels it, and a place for its progress and result."""

    def __init__(self, context: PageContext, name: str, label: str, hint: str) -> None:
        self._context, self.name = context, name
        with gr.Row(elem_classes="lp-actions"):
            self.start = gr.Button(label, variant="primary", elem_id=f"{name}-run")
            self._cancel = gr.Button("Cancel", visible=False, elem_id=f"{name}-cancel")
        self.place = gr.HTML(markup.empty(hint), elem_id=f"{name}-result")
        self.outputs = [self.place, self.start, self._cancel]
        self._cancel.click(
            self._stop, None, None, queue=False, show_progress="hidden", api_visibility="private"
        )

    async def follow(self, job: str) -> AsyncIterator[tuple[Any, ...]]:
        """Yield values for `outputs` until the job has ended."""
        buttons = gr.update(interactive=False), gr.update(visible=True)
        while True:
            status = await run_in_threadpool(self._context.service.status, job)
            if status is None or status.record.is_finished:
                break
            yield _progress_card(status), *buttons
            buttons = gr.skip(), gr.skip()  # a button that is redrawn loses a click in progress
            await asyncio.sleep(POLL_S)
        yield self.final_update(status.record if status else None)

    def final_update(self, record: Record | None) -> tuple[Any, ...]:
        """The values for `outputs` when a job has ended, or is gone."""
        if record is None or record.state in ("cancelled", "expired"):
            return self.idle_update(markup.message("cancelled: nothing was saved", "hint"))
        if record.state == "failed":
            return self.idle_update(markup.message(record.error))
        rate = f" · {pace(record.frames / record.seconds)}" if record.frames > 1 and record.seconds else ""
        details = f"{count(record.frames)} in {record.seconds:.1f} s{rate}"
        address, name = self._context.address(record), self._context.name(record)
        compares = bool(record.options.get("compare"))
        return self.idle_update(
            markup.result(address, name, details, record.notes, compares, record.kind == "speak")
        )

    def idle_update(self, text: str) -> tuple[Any, ...]:
        """The values for `outputs` while no job runs."""
        return text, gr.update(interactive=True), gr.update(visible=False)

    def _stop(self, request: gr.Request) -> None:
        if job := self._context.visitor(request).jobs.get(self.name):
            self._context.service.cancel(job)


def _progress_card(status: Status) -> str:
    """The progress of a job: step, frames, frames per second, time left."""
    ticket = status.ticket
    if ticket is None:
        before = status.before
        return markup.progress("Waiting", None, f"{before} ahead of you" if before else "")
    if ticket.reason == "cancelled":
        return markup.progress("Cancelling", None)
    words = STEPS.get(ticket.step, "Starting")
    if not ticket.total or not ticket.done:
        return markup.progress(words, None)
    details = f"{ticket.done} of {count(ticket.total)}"
    if rate := ticket.rate:
        details += f" · {pace(rate)} · {_duration((ticket.total - ticket.done) / rate)} left"
    return markup.progress(words, ticket.done / ticket.total, details)


def _duration(seconds: float) -> str:
    """A duration as text: "8 s", "2 min 5 s"."""
    total = max(round(seconds), 0)
    return f"{total} s" if total < 60 else f"{total // 60} min {total % 60} s"
