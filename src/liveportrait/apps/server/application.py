"""The ASGI application: what is started with it, which routes it has, and what its errors look like."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from liveportrait.apps.live.gallery import Gallery
from liveportrait.apps.server import routes
from liveportrait.apps.server.access import BodyRefused, Gate
from liveportrait.apps.server.service import Make, NotReady, Service
from liveportrait.apps.server.settings import ServerSettings
from liveportrait.apps.server.store import QueueFull
from liveportrait.apps.server.streams import live_router
from liveportrait.apps.server.uploads import TooLarge, WrongType
from liveportrait.errors import DiskFull, OutOfMemory, UserError, user_error

if TYPE_CHECKING:
    from liveportrait.animation.animator import Animator


def create_application(
    settings: ServerSettings, animator: Animator | None = None, make: Make | None = None
) -> FastAPI:
    """The application with these settings; without an animator it loads its own while it starts.

    `make`: what does the jobs, by default this process. `application.state.service` is the `Service` that its routes
    share, `application.state.gallery` the `Gallery` of live portraits. Nothing runs before the application is started.
    """
    service = Service(settings, animator, make)
    gallery = Gallery(service.animator)

    @asynccontextmanager
    async def lifespan(application: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await run_in_threadpool(service.stop)
            gallery.close()

    application = FastAPI(
        title="liveportrait",
        summary="Animate portraits: post a source, post a job, follow it, fetch the result.",
        version=version("liveportrait"),
        lifespan=lifespan,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    application.state.service, application.state.gallery = service, gallery
    application.add_middleware(Gate, settings=settings, tokens=service.tokens, metrics=service.metrics)
    for kind, answer in _ANSWERS.items():
        application.add_exception_handler(kind, answer)

    @application.get("/healthz", tags=["state"], response_class=PlainTextResponse)
    async def healthz() -> str:
        """Whether the process answers."""
        return "ok"

    @application.get("/readyz", tags=["state"])
    async def readyz() -> JSONResponse:
        """Whether jobs are taken: status 503 with the reason while they are not."""
        if why_not := service.why_not_ready:
            return JSONResponse({"detail": why_not}, 503)
        return JSONResponse({"ready": True})

    @application.get("/metrics", tags=["state"], response_class=PlainTextResponse)
    def metrics() -> Response:
        """Queue, latency, frames and refusals, for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    application.include_router(routes.router)
    live = replace(settings.live, always_mark=settings.limits.always_mark)
    application.include_router(live_router(gallery, live))
    return application


async def _user_error(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 422)


async def _too_large(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 413)


async def _body_refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BodyRefused)
    return JSONResponse({"detail": str(error)}, error.status)


async def _hung_up(request: Request, error: Exception) -> JSONResponse:
    """Nobody hears this answer."""
    return JSONResponse({"detail": "the request ended before its end"}, 400)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    """What a route refuses in its own words, and what has no route."""
    assert isinstance(error, HTTPException)
    told = str(error.detail)
    if told == HTTPStatus(error.status_code).phrase:
        told = f"{request.method} {request.url.path}: {told.lower()}; /openapi.json lists what there is"
    return JSONResponse({"detail": told}, error.status_code, error.headers)


async def _wrong_type(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 415)


async def _queue_full(request: Request, error: Exception) -> JSONResponse:
    seconds = request.app.state.service.workers.retry_s
    told = f"as many jobs wait as may: try again in {seconds} s"
    return JSONResponse({"detail": told}, 429, {"Retry-After": str(seconds)})


async def _not_ready(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"{error}: try again later"}, 503, {"Retry-After": "5"})


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """The first thing that is wrong with a request, as a sentence."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return JSONResponse({"detail": f"{place or 'the body'}: {first['msg']}"}, 422)


async def _lacking(request: Request, error: Exception) -> JSONResponse:
    """The service itself is short of something."""
    if isinstance(error, DiskFull):
        return JSONResponse({"detail": "the service's disk is full: try again later"}, 507)
    return JSONResponse({"detail": "the service has too little memory: try again later"}, 503)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    """What nobody foresaw; the server logs it."""
    told = user_error(error)
    if isinstance(told, DiskFull | OutOfMemory):
        return await _lacking(request, told)
    return JSONResponse({"detail": "something went wrong here: the service's log says what"}, 500)


_ANSWERS: dict[type[Exception], Callable[[Request, Exception], Awaitable[JSONResponse]]] = {
    UserError: _user_error,
    DiskFull: _lacking,
    OutOfMemory: _lacking,
    TooLarge: _too_large,
    WrongType: _wrong_type,
    BodyRefused: _body_refused,
    ClientDisconnect: _hung_up,
    HTTPException: _refused,
    QueueFull: _queue_full,
    NotReady: _not_ready,
    RequestValidationError: _invalid,
    Exception: _unexpected,
}
