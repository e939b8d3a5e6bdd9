"""A job that a visitor started, followed to its end: what it says meanwhile, and the result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

from liveportrait.animation.report import ANIMATE, FIND, FOLLOW, MEASURE, Report, count, pace
from liveportrait.apps.page import shown
from liveportrait.apps.page.desk import Desk, Ticket

EVERY_S = 0.25
STEPS = {
    FOLLOW: "Following the face of the portrait",
    MEASURE: "Measuring the portrait",
    FIND: "Reading the driver's motion",
    ANIMATE: "Animating",
}


async def following(desk: Desk, ticket: Ticket) -> AsyncIterator[str]:
    """What to show of a job, again and again until it is done, failed or cancelled."""
    while not ticket.future.done():
        yield state(desk, ticket)
        await asyncio.sleep(EVERY_S)


def state(desk: Desk, ticket: Ticket) -> str:
    """How far a job is: step, frames, frames a second, time left."""
    if ticket.cancelled:
        return shown.progress("Stopping", None)
    if not ticket.started:
        before = desk.place(ticket)
        return shown.progress("Waiting", None, f"{before} before you" if before else "")
    words = STEPS.get(ticket.step, "Starting")
    if not ticket.total or not ticket.done:
        return shown.progress(words, None)
    took = max(time.monotonic() - ticket.since, 1e-3)
    details = f"{ticket.done} of {count(ticket.total)}"
    if ticket.first_done is not None and ticket.done > ticket.first_done:
        rate = (ticket.done - ticket.first_done) / took
        details += f" · {pace(rate)} · {left((ticket.total - ticket.done) / rate)} left"
    return shown.progress(words, ticket.done / ticket.total, details)


def left(seconds: float) -> str:
    """A time in words: "8 s", "2 min 5 s"."""
    whole = max(round(seconds), 0)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def result(url: str, path: Path, report: Report) -> str:
    """The result of a job, as HTML."""
    rate = f" · {pace(report.profile.rate)}" if report.frames > 1 else ""
    details = f"{count(report.frames)} in {report.elapsed:.1f} s{rate}"
    return shown.video(url, path.name, details, report.notes)
