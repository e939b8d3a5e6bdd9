"""The ASGI application: what it starts, its routes, and its error responses."""

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
    """The application with these settings; without an animator, it loads its own at startup.

    `make` runs the jobs; by default, this process does. `application.state.service` is the `Service` that the routes
    share, `application.state.gallery` the `Gallery` of live portraits. Nothing runs before the application starts.
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
        # FastAPI's documentation pages load scripts from other sites.
        docs_url=None,
        redoc_url=None,
    )
    application.state.service, application.state.gallery = service, gallery
    application.add_middleware(Gate, settings=settings, tokens=service.tokens, metrics=service.metrics)
    for kind, answer in _ERROR_HANDLERS.items():
        application.add_exception_handler(kind, answer)

    @application.get("/healthz", tags=["state"], response_class=PlainTextResponse)
    async def healthz() -> str:
        """Whether the process responds."""
        return "ok"

    @application.get("/readyz", tags=["state"])
    async def readyz() -> JSONResponse:
        """Whether jobs are accepted: status 503 with the reason while they are not."""
        if why_not := service.why_not_ready:
            return JSONResponse({"detail": why_not}, 503)
        return JSONResponse({"ready": True})

    @application.get("/metrics", tags=["state"], response_class=PlainTextResponse)
    def metrics() -> Response:
        """Queue length, latency, frames and refusals, for Prometheus."""
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


async def _client_disconnected(request: Request, error: Exception) -> JSONResponse:
    """Nobody receives this response."""
    return JSONResponse({"detail": "the request ended before its end"}, 400)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    """A refusal by a route, or a path without one."""
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if message == HTTPStatus(error.status_code).phrase:
        message = f"{request.method} {request.url.path}: {message.lower()}; /openapi.json lists the routes"
    return JSONResponse({"detail": message}, error.status_code, error.headers)


async def _wrong_type(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 415)


async def _queue_full(request: Request, error: Exception) -> JSONResponse:
    seconds = request.app.state.service.workers.retry_s
    message = f"the queue is full: try again in {seconds} s"
    return JSONResponse({"detail": message}, 429, {"Retry-After": str(seconds)})


async def _not_ready(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"{error}: try again later"}, 503, {"Retry-After": "5"})


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """The first validation error of a request, as a sentence."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return JSONResponse({"detail": f"{place or 'the body'}: {first['msg']}"}, 422)


async def _out_of_resources(request: Request, error: Exception) -> JSONResponse:
    """The service has run out of disk or memory."""
    if isinstance(error, DiskFull):
        return JSONResponse({"detail": "the service's disk is full: try again later"}, 507)
    return JSONResponse({"detail": "the service has too little memory: try again later"}, 503)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    """An unexpected error; the server logs it."""
    message = user_error(error)
    if isinstance(message, DiskFull | OutOfMemory):
        return await _out_of_resources(request, message)
    return JSONResponse({"detail": "something went wrong: see the service's log"}, 500)


_ERROR_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Awaitable[JSONResponse]]] = {
    UserError: _user_error,
    DiskFull: _out_of_resources,
    OutOfMemory: _out_of_resources,
    TooLarge: _too_large,
    WrongType: _wrong_type,
    BodyRefused: _body_refused,
    ClientDisconnect: _client_disconnected,
    HTTPException: _http_error,
    QueueFull: _queue_full,
    NotReady: _not_ready,
    RequestValidationError: _invalid,
    Exception: _unexpected,
}
