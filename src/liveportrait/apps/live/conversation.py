"""One visitor of the live stream: messages come and go in the event loop, pictures are made in a thread."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from fastapi import WebSocket, WebSocketDisconnect

from liveportrait.apps.live.frames import NOT_ALLOWED, NOT_TAKEN, TOO_BIG, Refusal, parse, unpack
from liveportrait.apps.live.gallery import Gallery
from liveportrait.apps.live.newest import NewestFirst
from liveportrait.apps.live.options import changed_options, speech_options
from liveportrait.apps.live.speaker import Speaker
from liveportrait.apps.live.studio import Arrival, Studio, Tick, now
from liveportrait.apps.server.settings import LiveLimits
from liveportrait.errors import UserError

COMMANDS = "reset, portrait, options, format, voice, interrupt, seen, alive"
MOST_UNREAD = 100  # messages that may wait for a client to read them
ON_THE_WAY = (
    3  # pictures, those being made too, that a client has not said to have seen; the next waits for that
)
LONGEST_REASON = 120  # bytes of a closing frame's reason (RFC 6455, 5.5), the code and some room left aside


class Conversation:
    """One visitor's stream, from its first message to its last."""

    def __init__(self, socket: WebSocket, gallery: Gallery, limits: LiveLimits) -> None:
        self._socket, self._gallery, self._limits = socket, gallery, limits
        self._loop = asyncio.get_running_loop()
        self._outbox: asyncio.Queue[bytes | str | Refusal] = asyncio.Queue()
        self._sent = self._credited = 0  # pictures sent, and known to have arrived
        self._acknowledges = False  # whether the client says what it has seen
        self._speaker: Speaker | None = None  # that sound goes to
        self._ticking: asyncio.Task[None] | None = None
        self._studio = Studio(gallery, limits, self._post, lambda: self._thread.give_credit())
        studio = self._studio
        self._thread = NewestFirst[Arrival | Tick](studio.work, studio.fail, credit=ON_THE_WAY)

    async def run(self) -> None:
        """Talk until either side ends it. Then the thread has ended too."""
        sending = asyncio.create_task(self._send())
        receiving = asyncio.create_task(self._receive())
        try:
            self._say({"portraits": self._gallery.names, "options": changed_options(self._gallery.drive)})
            await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
            if receiving.done() and isinstance(error := receiving.exception(), Refusal):
                self._outbox.put_nowait(error)
                await asyncio.wait((sending,), timeout=5.0)  # a peer that reads nothing is not waited for
        finally:
            tasks = [task for task in (sending, receiving, self._ticking) if task]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(asyncio.CancelledError):  # a server that ends waits for no picture
                await asyncio.to_thread(self._end)

    async def _receive(self) -> None:
        """Take what comes, as fast as it comes: frames that are late are dropped here, not in a queue before."""
        while True:
            try:
                message = await asyncio.wait_for(self._socket.receive(), self._limits.silence)
            except TimeoutError:
                if not (self._speaker or self._thread.is_idle):
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
        """A binary message: a frame, a photo, or sound."""
        received = now()
        if len(message) > self._limits.photo_bytes:
            raise Refusal(
                TOO_BIG, f"a message has {len(message)} bytes: at most {self._limits.photo_bytes} are taken"
            )
        header, body = unpack(message)
        if "portrait" in header:
            return self._act(partial(self._studio.choose, str(header["portrait"]), body))
        if "sound" in header:
            self._saw(header.get("seen"))
            return self._hear(body)
        number = header.get("frame")
        if len(body) > self._limits.frame_bytes:
            raise Refusal(
                TOO_BIG,
                f"frame {number} has {len(body)} bytes: at most {self._limits.frame_bytes} are taken",
            )
        self._saw(header.get("seen"))
        if self._speaker:
            return self._refuse("the portrait speaks: send sound, or end it by voice: false")
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
                self._act(self._studio.reset)
            elif name == "portrait":
                self._act(partial(self._studio.choose, str(value)))
            elif name == "options":
                self._act(partial(self._studio.change, value))
            elif name == "format":
                self._studio.format = "webp" if value == "webp" else "jpeg"
            elif name == "voice":
                self._speak(value)
            elif name == "interrupt":
                if self._speaker:
                    self._speaker.interrupt()
            elif name == "seen":
                self._saw(value)
            elif name != "alive":
                self._refuse(f"there is no command {name!r}: {COMMANDS}")

    def _saw(self, number: object) -> None:
        """The client says up to which number it has pictures."""
        if isinstance(number, int):
            self._acknowledges = True
            self._credit(min(number, self._sent))

    def _speak(self, values: object) -> None:
        """Begin to speak with these options, or, with `false`, follow the camera again."""
        if self._ticking:
            self._ticking.cancel()
        self._speaker = self._ticking = None
        if values is not False:
            try:
                self._speaker = Speaker(speech_options(values if isinstance(values, dict) else {}))
            except UserError as error:
                return self._refuse(str(error))
            self._ticking = asyncio.create_task(self._tick(1 / self._speaker.options.fps))
        self._act(partial(self._studio.begin, self._speaker, values))

    async def _tick(self, period: float) -> None:
        """Ask for a picture when its time has come; one that is still waited for is left out."""
        begun, count = self._loop.time(), 0
        while True:
            self._thread.put(Tick())
            count += 1
            await asyncio.sleep(begun + count * period - self._loop.time())

    def _hear(self, samples: bytes) -> None:
        if self._speaker is None:
            return self._refuse("the portrait follows a camera: begin to speak by voice")
        try:
            self._speaker.feed(samples)
        except Refusal:
            raise
        except UserError as error:
            self._refuse(str(error))

    def _refuse(self, sentence: str) -> None:
        """Say that something is not done, and go on."""
        if self._outbox.qsize() >= MOST_UNREAD:
            raise Refusal(NOT_ALLOWED, "answers are not read: start again")
        self._say({"error": sentence})

    def _act(self, action: Callable[[], None]) -> None:
        if not self._thread.act(action):
            raise Refusal(NOT_ALLOWED, "commands come faster than they can be done: start again")

    def _credit(self, number: int) -> None:
        """Pictures up to that number have arrived."""
        if number > self._credited:
            self._thread.give_credit(number - self._credited)
            self._credited = number

    def _end(self) -> None:
        self._thread.close()
        self._studio.close()

    def _post(self, item: bytes | str | Refusal) -> None:
        with suppress(RuntimeError):  # the event loop has ended
            self._loop.call_soon_threadsafe(self._outbox.put_nowait, item)

    def _say(self, message: dict[str, object]) -> None:
        self._outbox.put_nowait(json.dumps(message))


async def refuse(socket: WebSocket, refusal: Refusal) -> None:
    """Say why, in full, and close; the closing frame has room for the beginning."""
    await socket.send_text(json.dumps({"error": str(refusal), "code": refusal.code}))
    reason = str(refusal).encode()[:LONGEST_REASON].decode(errors="ignore")
    await socket.close(refusal.code, reason)
