"""One visitor of the live stream: messages come and go in the event loop, pictures are made in a thread."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING

from fastapi import WebSocket, WebSocketDisconnect

from liveportrait.animation.options import AnimateOptions, DriveOptions, RetargetOptions
from liveportrait.apps.jobs import options_from
from liveportrait.apps.live.follower import Follower
from liveportrait.apps.live.frames import (
    FAILED,
    NOT_ALLOWED,
    NOT_TAKEN,
    TOO_BIG,
    Refusal,
    decode_frame,
    encode_frame,
    pack,
    parse,
    picture_size,
    unpack,
)
from liveportrait.apps.live.gallery import Gallery
from liveportrait.apps.live.newest import NewestFirst
from liveportrait.apps.server.settings import ALWAYS_MARKED, LiveLimits
from liveportrait.errors import UserError

if TYPE_CHECKING:
    from liveportrait.animation.portrait import Portrait

_log = logging.getLogger("liveportrait.server")

MOST_UNREAD = 100  # messages that may wait for a client to read them
ON_THE_WAY = 2  # pictures that a client has not said to have seen; the next is rendered when it has
LONGEST_REASON = 120  # bytes of a closing frame's reason (RFC 6455, 5.5), the code and some room left aside


@dataclass(frozen=True)
class Arrival:
    """A camera's frame as it came."""

    number: object  # the client's, given back
    data: bytes
    time: float  # ms


class Conversation:
    """One visitor's stream, from its first message to its last."""

    def __init__(self, socket: WebSocket, gallery: Gallery, limits: LiveLimits) -> None:
        self._socket, self._gallery, self._limits = socket, gallery, limits
        self._loop = asyncio.get_running_loop()
        self._outbox: asyncio.Queue[bytes | str | Refusal] = asyncio.Queue()
        self._follower: Follower | None = None
        self._options = gallery.drive
        self._own: dict[str, Portrait] = {}  # photos that the visitor sent
        self._replies = self._sent = self._credited = 0  # pictures made, sent, and known to have arrived
        self._acknowledges = False  # whether the client says what it has seen
        self._format = "jpeg"
        self._thread = NewestFirst(self._show, self._fail, credit=ON_THE_WAY)

    async def run(self) -> None:
        """Talk until either side ends it. Then the thread has ended too."""
        sending = asyncio.create_task(self._send())
        receiving = asyncio.create_task(self._receive())
        try:
            self._say({"portraits": self._gallery.names, "options": changed_options(self._options)})
            await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
            if receiving.done() and isinstance(error := receiving.exception(), Refusal):
                self._outbox.put_nowait(error)
                await asyncio.wait((sending,), timeout=5.0)  # a peer that reads nothing is not waited for
        finally:
            for task in (sending, receiving):
                task.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)
            with suppress(asyncio.CancelledError):  # a server that ends waits for no picture
                await asyncio.to_thread(self._end)

    async def _receive(self) -> None:
        """Take what comes, as fast as it comes: frames that are late are dropped here, not in a queue before."""
        while True:
            try:
                message = await asyncio.wait_for(self._socket.receive(), self._limits.silence)
            except TimeoutError:
                if not self._thread.is_idle:
                    continue  # whoever waits for a picture has nothing to say
                raise Refusal(
                    NOT_ALLOWED, f"nothing came for {self._limits.silence:g} s: start again"
                ) from None
            if message["type"] == "websocket.disconnect":
                return
            if (data := message.get("bytes")) is not None:
                self._take(data)
            else:
                self._obey(message.get("text") or "")

    async def _send(self) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):  # the other side has gone
            while True:
                item = await self._outbox.get()
                if isinstance(item, Refusal):
                    return await refuse(self._socket, item)
                if isinstance(item, str):
                    await self._socket.send_text(item)
                    continue
                await self._socket.send_bytes(item)
                self._sent += 1
                if not self._acknowledges:
                    self._credit(self._sent)

    def _take(self, message: bytes) -> None:
        """A binary message: a frame, or a photo."""
        received = _now()
        if len(message) > self._limits.photo_bytes:
            raise Refusal(
                TOO_BIG, f"a message has {len(message)} bytes: at most {self._limits.photo_bytes} are taken"
            )
        header, body = unpack(message)
        if "portrait" in header:
            return self._act(partial(self._choose, str(header["portrait"]), body))
        number = header.get("frame")
        if len(body) > self._limits.frame_bytes:
            raise Refusal(
                TOO_BIG,
                f"frame {number} has {len(body)} bytes: at most {self._limits.frame_bytes} are taken",
            )
        if isinstance(seen := header.get("seen"), int):
            self._acknowledges = True
            self._credit(min(seen, self._sent))
        self._thread.put(Arrival(number, body, received))

    def _obey(self, text: str) -> None:
        """A text message: a command."""
        command = parse(text)
        if command is None:
            raise Refusal(
                NOT_TAKEN, "text came where a frame (binary) or a command (a JSON object) is expected"
            )
        for name, value in command.items():
            if name == "reset":
                self._act(self._reset)
            elif name == "portrait":
                self._act(partial(self._choose, str(value)))
            elif name == "options":
                self._act(partial(self._change, value))
            elif name == "format":
                self._format = "webp" if value == "webp" else "jpeg"
            elif name != "alive":
                if self._outbox.qsize() >= MOST_UNREAD:
                    raise Refusal(NOT_ALLOWED, "answers are not read: start again")
                self._say({"error": f"there is no command {name!r}: reset, portrait, options, format, alive"})

    def _act(self, action: Callable[[], None]) -> None:
        if not self._thread.act(action):
            raise Refusal(NOT_ALLOWED, "commands come faster than they can be done: start again")

    def _credit(self, number: int) -> None:
        """Pictures up to that number have arrived."""
        if number > self._credited:
            self._thread.give_credit(number - self._credited)
            self._credited = number

    # What follows runs in the thread.

    def _show(self, arrival: Arrival, skipped: int) -> None:
        follower = self._follower = self._follower or self._started()
        began = _now()
        frame = decode_frame(arrival.data, f"frame {arrival.number}", self._limits.frame_pixels)
        decoded = _now()
        picture = follower(frame)
        rendered = _now()
        body = encode_frame(picture, self._format)
        sent = _now()
        self._replies += 1
        stages = {
            "wait": began - arrival.time,
            "decode": decoded - began,
            **{name: 1000 * spent.busy for name, spent in follower.stages.items() if spent.busy},
            "encode": sent - rendered,
        }
        header = {
            "frame": arrival.number,
            "reply": self._replies,
            "face": follower.face_found,
            "started": follower.has_started,
            "skipped": skipped,
            "received": round(arrival.time, 2),
            "sent": round(sent, 2),
            "stages": {name: round(spent, 2) for name, spent in stages.items()},
        }
        self._post(pack(header, body))

    def _started(self) -> Follower:
        """What follows the camera when nothing was chosen: the first portrait."""
        names = self._gallery.names
        if not names:
            raise UserError("there is no portrait yet: send a photo")
        return Follower(self._gallery.portrait(names[0]), self._options)

    def _reset(self) -> None:
        if self._follower:
            self._follower.reset()

    def _choose(self, name: str, photo: bytes | None = None) -> None:
        """Go on with the portrait of a name, or with a photo that gets it."""
        try:
            portrait = self._named(name) if photo is None else self._opened(name, photo)
            if self._follower:
                self._follower.switch(portrait)
            else:
                self._follower = Follower(portrait, self._options)
        except UserError as error:
            self._tell({"error": str(error), "portrait": name})
        else:
            self._tell({"portrait": name})

    def _named(self, name: str) -> Portrait:
        return self._own.get(name) or self._gallery.portrait(name)

    def _opened(self, name: str, photo: bytes) -> Portrait:
        size, most = picture_size(photo), self._limits.photo_pixels
        if size and size[0] * size[1] > most:
            raise UserError(f"{name} is {size[0]}x{size[1]} px: at most {most} pixels are taken")
        portrait = self._gallery.open_photo(photo, name)
        self._own.pop(name, None)
        self._own[name] = portrait
        if len(self._own) > self._limits.photos:
            del self._own[next(iter(self._own))]
        return portrait

    def _change(self, values: object) -> None:
        if not isinstance(values, dict):
            raise UserError(f"options are {values!r}: give an object of names and values")
        options = live_options(values)
        if self._limits.always_mark and not options.mark:
            raise UserError(ALWAYS_MARKED)
        if self._follower:
            self._follower.change(options)
        self._options = options
        self._tell({"options": values})

    def _fail(self, error: Exception) -> None:
        """Something was raised in the thread: what the visitor can mend is told, and the stream goes on."""
        if isinstance(error, Refusal):
            self._post(error)
        elif isinstance(error, UserError):
            self._tell({"error": str(error)})
        else:
            _log.error("a live stream failed", exc_info=error)
            self._post(Refusal(FAILED, "something went wrong here: the service's log says what"))

    def _tell(self, message: dict[str, object]) -> None:
        self._post(json.dumps(message))

    def _post(self, item: bytes | str | Refusal) -> None:
        with suppress(RuntimeError):  # the event loop has ended
            self._loop.call_soon_threadsafe(self._outbox.put_nowait, item)

    def _say(self, message: dict[str, object]) -> None:
        self._outbox.put_nowait(json.dumps(message))

    def _end(self) -> None:
        self._thread.close()
        if self._follower:
            self._follower.close()
        for portrait in self._own.values():
            portrait.close()


def live_options(values: dict[str, object]) -> DriveOptions:
    """The options of `Portrait.live` with these values, by the command line's names. Raises `UserError`."""
    options = options_from("animate", values)
    assert isinstance(options, AnimateOptions)
    names = {field.name for field in fields(DriveOptions)}
    for field in fields(AnimateOptions):
        if field.name not in names and getattr(options, field.name) != field.default:
            raise UserError(f"{field.name} is chosen before a portrait moves: leave it out of live options")
    return DriveOptions(**{name: getattr(options, name) for name in names})


def changed_options(options: DriveOptions) -> dict[str, object]:
    """The options that are not at their defaults, by name, as `live_options` reads them."""
    groups = (options, DriveOptions()), (options.retarget, RetargetOptions())
    changed = {
        field.name: getattr(group, field.name)
        for group, plain in groups
        for field in fields(plain)
        if getattr(group, field.name) != getattr(plain, field.name)
    }
    changed.pop("retarget", None)
    return changed


async def refuse(socket: WebSocket, refusal: Refusal) -> None:
    """Say why, in full, and close; the closing frame has room for the beginning."""
    await socket.send_text(json.dumps({"error": str(refusal), "code": refusal.code}))
    reason = str(refusal).encode()[:LONGEST_REASON].decode(errors="ignore")
    await socket.close(refusal.code, reason)


def _now() -> float:
    """The time by the server's own clock, ms."""
    return 1000 * time.perf_counter()
