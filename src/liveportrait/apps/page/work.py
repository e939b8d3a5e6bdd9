"""A job of a visitor, followed to its end: what it says meanwhile, and the result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr
from starlette.concurrency import run_in_threadpool

from liveportrait.animation.report import ANIMATE, FIND, FOLLOW, MEASURE, count, pace
from liveportrait.apps.page import shown
from liveportrait.apps.page.desk import Desk
from liveportrait.apps.server.service import Status
from liveportrait.apps.server.store import Record

EVERY_S = 0.25
STEPS = {
    FOLLOW: "Following the face of the portrait",
    MEASURE: "Measuring the portrait",
    FIND: "Reading the driver's motion",
    ANIMATE: "Rendering",
}


class Work:
    """A button that starts a job, one that cancels it, and the place where its progress and its result are shown."""

    def __init__(self, desk: Desk, name: str, label: str, hint: str) -> None:
        self._desk, self.name = desk, name
        with gr.Row(elem_classes="lp-actions"):
            self.start = gr.Button(label, variant="primary", elem_id=f"{name}-run")
            self._cancel = gr.Button("Cancel", visible=False, elem_id=f"{name}-cancel")
        self.place = gr.HTML(shown.empty(hint), elem_id=f"{name}-result")
        self.outputs = [self.place, self.start, self._cancel]
        self._cancel.click(
            self._stop, None, None, queue=False, show_progress="hidden", api_visibility="private"
        )

    async def followed(self, job: str) -> AsyncIterator[tuple[Any, ...]]:
        """Values for `outputs`, again and again until the job has ended."""
        buttons = gr.update(interactive=False), gr.update(visible=True)
        while True:
            status = await run_in_threadpool(self._desk.service.status, job)
            if status is None or status.record.is_finished:
                break
            yield _state(status), *buttons
            buttons = gr.skip(), gr.skip()  # a button that is drawn anew loses the click that is on it
            await asyncio.sleep(EVERY_S)
        yield self.ended(status.record if status else None)

    def ended(self, record: Record | None) -> tuple[Any, ...]:
        """Values for `outputs` of a job that has ended, or is gone."""
        if record is None or record.state in ("cancelled", "expired"):
            return self.idle(shown.message("stopped: nothing was kept", "hint"))
        if record.state == "failed":
            return self.idle(shown.message(record.error))
        rate = f" · {pace(record.frames / record.seconds)}" if record.frames > 1 and record.seconds else ""
        details = f"{count(record.frames)} in {record.seconds:.1f} s{rate}"
        address, name = self._desk.address(record), self._desk.name(record)
        compares = bool(record.options.get("compare"))
        return self.idle(shown.result(address, name, details, record.notes, compares, record.kind == "speak"))

    def idle(self, text: str) -> tuple[Any, ...]:
        """Values for `outputs` while nothing runs."""
        return text, gr.update(interactive=True), gr.update(visible=False)

    def _stop(self, request: gr.Request) -> None:
        if job := self._desk.visitor(request).jobs.get(self.name):
            self._desk.service.cancel(job)


def _state(status: Status) -> str:
    """How far a job is: step, frames, frames a second, time left."""
    ticket = status.ticket
    if ticket is None:
        before = status.before
        return shown.progress("Waiting", None, f"{before} before you" if before else "")
    if ticket.reason == "cancelled":
        return shown.progress("Stopping", None)
    words = STEPS.get(ticket.step, "Starting")
    if not ticket.total or not ticket.done:
        return shown.progress(words, None)
    details = f"{ticket.done} of {count(ticket.total)}"
    if rate := ticket.rate:
        details += f" · {pace(rate)} · {_left((ticket.total - ticket.done) / rate)} left"
    return shown.progress(words, ticket.done / ticket.total, details)


def _left(seconds: float) -> str:
    """A time in words: "8 s", "2 min 5 s"."""
    whole = max(round(seconds), 0)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"
