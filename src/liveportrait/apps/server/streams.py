"""Live streams: a WebSocket that takes a camera's frames and gives a portrait's, and the page that shows them.

Each visitor has a thread, in which one portrait follows one camera. docs/guide/live.md describes the messages.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import APIRouter, Response, WebSocket
from fastapi.responses import FileResponse, JSONResponse

from liveportrait.apps.server.conversation import Conversation, LiveLimits, refuse
from liveportrait.apps.server.frames import NOT_ALLOWED, TRY_LATER, Refusal
from liveportrait.apps.server.gallery import Gallery
from liveportrait.errors import UserError

STATIC = Path(__file__).with_name("static")
PARTS = {path.name for path in STATIC.iterdir()}
# The page asks nobody else for anything, and nobody else may show it.
POLICY = "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; frame-ancestors 'self'"


def live_router(gallery: Gallery, limits: LiveLimits | None = None) -> APIRouter:
    """The routes of live streams: the page /live with its files, the portraits, and the WebSocket /live/stream."""
    router, limits = APIRouter(), limits or LiveLimits()
    seats = asyncio.Semaphore(limits.sessions)

    @router.get("/live", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "live.html", headers={"Content-Security-Policy": POLICY})

    @router.get("/live/static/{name}", include_in_schema=False)
    async def part(name: str) -> Response:
        return FileResponse(STATIC / name) if name in PARTS else Response(status_code=404)

    @router.get("/live/portraits", tags=["live"])
    async def portraits() -> list[str]:
        """The names of the portraits that a stream can choose."""
        return gallery.names

    @router.get("/live/portraits/{name}", tags=["live"])
    def thumbnail(name: str) -> Response:
        """A small JPEG of a portrait."""
        try:
            return Response(gallery.thumbnail(name), media_type="image/jpeg")
        except UserError as error:
            return JSONResponse({"detail": str(error)}, 404)

    @router.websocket("/live/stream")
    async def stream(socket: WebSocket) -> None:
        await socket.accept()
        try:
            _check_origin(socket)
            if seats.locked():
                raise Refusal(
                    TRY_LATER, f"all {limits.sessions} live streams are taken: try again in a minute"
                )
        except Refusal as refusal:
            return await refuse(socket, refusal)
        async with seats:
            await Conversation(socket, gallery, limits).run()

    return router


def _check_origin(socket: WebSocket) -> None:
    """Raise `Refusal` for a page of another site: browsers let it open a WebSocket to this machine."""
    origin = socket.headers.get("origin")
    if origin and urlsplit(origin).netloc != socket.headers.get("host"):
        raise Refusal(NOT_ALLOWED, f"a page of {origin} may not use this service: open the service's own")
