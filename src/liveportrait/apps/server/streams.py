"""Live streams: a WebSocket that receives a camera's frames and sends a portrait's, and the page that shows them.

Each visitor has a thread in which one portrait follows one camera. docs/guide/live.md describes the messages.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import APIRouter, Response, WebSocket
from fastapi.responses import FileResponse, JSONResponse

from liveportrait.apps.live.conversation import Conversation, refuse
from liveportrait.apps.live.frames import TRY_AGAIN_LATER, Refusal
from liveportrait.apps.live.gallery import Gallery
from liveportrait.apps.server.settings import LiveLimits
from liveportrait.apps.server.views import refusals
from liveportrait.errors import UserError

STATIC = Path(__file__).with_name("static")
STATIC_FILES = {path.name for path in STATIC.iterdir()}
# The page loads nothing from other sites, and no other site may embed it.
PAGE_POLICY = "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; frame-ancestors 'self'"


def live_router(gallery: Gallery, limits: LiveLimits) -> APIRouter:
    """The routes of live streams: the page /live and its files, the portraits, and the WebSocket /v1/live/stream."""
    router = APIRouter()
    slots = asyncio.Semaphore(limits.sessions)

    @router.get("/live", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "live.html", headers={"Content-Security-Policy": PAGE_POLICY})

    @router.get("/live/static/{name}", include_in_schema=False)
    async def part(name: str) -> Response:
        return FileResponse(STATIC / name) if name in STATIC_FILES else Response(status_code=404)

    @router.get("/v1/live/portraits", tags=["live"])
    async def portraits() -> list[str]:
        """The names of the portraits that a stream can choose."""
        return gallery.names

    @router.get(
        "/v1/live/portraits/{name}",
        tags=["live"],
        response_class=Response,
        responses=refusals(404) | {200: {"content": {"image/jpeg": {}}}},
    )
    def thumbnail(name: str) -> Response:
        """A small JPEG of a portrait."""
        try:
            return Response(gallery.thumbnail(name), media_type="image/jpeg")
        except UserError as error:
            return JSONResponse({"detail": str(error)}, 404)

    @router.websocket("/v1/live/stream")
    async def stream(socket: WebSocket) -> None:
        # A browser that offers a subprotocol, here its token, requires the server to select one.
        await socket.accept(next(iter(socket.scope["subprotocols"]), None))
        if slots.locked():
            sentence = f"all {limits.sessions} live streams are in use: try again in a minute"
            return await refuse(socket, Refusal(TRY_AGAIN_LATER, sentence))
        async with slots:
            await Conversation(socket, gallery, limits).run()

    return router
