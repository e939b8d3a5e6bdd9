"""The ASGI application: what is started with it, which routes it has, and what its errors look like."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse

from liveportrait.apps.server.service import Service
from liveportrait.apps.server.settings import ServerSettings
from liveportrait.errors import UserError

if TYPE_CHECKING:
    from liveportrait.animation.animator import Animator

_log = logging.getLogger("liveportrait.server")


def create_application(settings: ServerSettings, animator: Animator | None = None) -> FastAPI:
    """The application with these settings; without an animator it loads its own while it starts.

    `application.state.service` is the `Service` that its routes share. Nothing runs before the application is started.
    """
    service = Service(settings, animator)

    @asynccontextmanager
    async def lifespan(application: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=_load, args=(service,), name="load", daemon=True).start()
        yield

    application = FastAPI(
        title="liveportrait",
        summary="Animate portraits: post a source, post a job, follow it, fetch the result.",
        lifespan=lifespan,
    )
    application.state.service = service
    application.add_exception_handler(UserError, _user_error)
    application.add_exception_handler(RequestValidationError, _invalid)
    application.add_exception_handler(Exception, _unexpected)

    @application.get("/healthz", tags=["state"], response_class=PlainTextResponse)
    async def healthz() -> str:
        """Whether the process answers."""
        return "ok"

    @application.get("/readyz", tags=["state"])
    async def readyz() -> JSONResponse:
        """Whether jobs are taken: status 503 with the reason while they are not."""
        if service.is_loaded:
            return JSONResponse({"ready": True})
        return JSONResponse({"detail": "the networks are being loaded"}, 503)

    # Routers are included here.
    return application


def _load(service: Service) -> None:
    with suppress(UserError):  # whoever needs the animator is told
        service.animator()


async def _user_error(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 422)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """The first thing that is wrong with a request, as a sentence."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return JSONResponse({"detail": f"{place}: {first['msg']}"}, 422)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JSONResponse({"detail": "something went wrong here: the service's log says what"}, 500)
