"""One visitor's live stream: messages are handled in the event loop, pictures are rendered in a thread."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from fastapi import WebSocket, WebSocketDisconnect

from liveportrait.apps.live.frames import (
    MESSAGE_TOO_BIG,
    POLICY_VIOLATION,
    UNSUPPORTED_DATA,
    Refusal,
    parse,
    unpack,
)
from liveportrait.apps.live.gallery import Gallery
from liveportrait.apps.live.newest import NewestFirst
from liveportrait.apps.live.options import changed_options, speech_options
from liveportrait.apps.live.speaker import Speaker
from liveportrait.apps.live.studio import Arrival, Studio, Tick, now
from liveportrait.apps.server.settings import LiveLimits
from liveportrait.errors import UserError

COMMANDS = "reset, portrait, options, format, voice, interrupt, seen, alive"
MAX_UNREAD_MESSAGES = 100  # waiting for the client to read them
MAX_PICTURES_IN_FLIGHT = 3  # being rendered, or not yet acknowledged by the client
MAX_REASON_BYTES = 120  # of a close frame's reason: RFC 6455, 5.5, allows 125 with the code


class Conversation:
    """One visitor's stream, from its first message to its last."""

    def __init__(self, socket: WebSocket, gallery: Gallery, limits: LiveLimits) -> None:
        self._socket, self._gallery, self._limits = socket, gallery, limits
        self._loop = asyncio.get_running_loop()
        self._outbox: asyncio.Queue[bytes | str | Refusal] = asyncio.Queue()
        self._sent = self._acknowledged = 0  # pictures
        self._acknowledges = False  # whether the client acknowledges pictures
        self._speaker: Speaker | None = None  # receives the client's sound
        self._ticker: asyncio.Task[None] | None = None
        self._studio = Studio(gallery, limits, self._post, lambda: self._thread.give_credit())
        studio = self._studio
        self._thread = NewestFirst[Arrival | Tick](studio.work, studio.fail, credit=MAX_PICTURES_IN_FLIGHT)

    async def run(self) -> None:
        """Serve the stream until either side ends it, and its thread has ended."""
        sending = asyncio.create_task(self._send())
        receiving = asyncio.create_task(self._receive())
        try:
            self._send_json(
                {"portraits": self._gallery.names, "options": changed_options(self._gallery.drive)}
            )
            await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
            if receiving.done() and isinstance(error := receiving.exception(), Refusal):
                self._outbox.put_nowait(error)
                await asyncio.wait((sending,), timeout=5.0)  # the client may not be reading
        finally:
            tasks = [task for task in (sending, receiving, self._ticker) if task]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(asyncio.CancelledError):  # at shutdown, do not wait for a picture
                await asyncio.to_thread(self._end)

    async def _receive(self) -> None:
        """Receive messages as fast as they arrive, so that late frames are dropped here and not queued upstream."""
        while True:
            try:
                message = await asyncio.wait_for(self._socket.receive(), self._limits.silence)
            except TimeoutError:
                if not (self._speaker or self._thread.is_idle):
                    continue  # a client that waits for a picture may be silent
                raise Refusal(
                    POLICY_VIOLATION, f"nothing arrived for {self._limits.silence:g} s: start again"
                ) from None
            if message["type"] == "websocket.disconnect":
                return
            if (data := message.get("bytes")) is not None:
                self._take_binary(data)
            else:
                self._run_command(message.get("text") or "")

    async def _send(self) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):  # the client has gone
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

    def _take_binary(self, message: bytes) -> None:
        """Handle a binary message: a frame, a photo, or sound."""
        received = now()
        if len(message) > self._limits.photo_bytes:
            raise Refusal(
                MESSAGE_TOO_BIG,
                f"a message has {len(message)} bytes: at most {self._limits.photo_bytes} are accepted",
            )
        header, body = unpack(message)
        if "portrait" in header:
            return self._enqueue(partial(self._studio.choose, str(header["portrait"]), body))
        if "sound" in header:
            self._acknowledge(header.get("seen"))
            return self._feed_sound(body)
        number = header.get("frame")
        if len(body) > self._limits.frame_bytes:
            raise Refusal(
                MESSAGE_TOO_BIG,
                f"frame {number} has {len(body)} bytes: at most {self._limits.frame_bytes} are accepted",
            )
        self._acknowledge(header.get("seen"))
        if self._speaker:
            return self._report_error("the portrait is speaking: send sound, or stop it with voice: false")
        self._thread.put(Arrival(number, body, received))

    def _run_command(self, text: str) -> None:
        """Handle a text message: a command."""
        command = parse(text)
        if command is None:
            raise Refusal(
                UNSUPPORTED_DATA, "a text message must be a command (a JSON object); frames are binary"
            )
        for name, value in command.items():
            if name == "reset":
                self._enqueue(self._studio.reset)
            elif name == "portrait":
                self._enqueue(partial(self._studio.choose, str(value)))
            elif name == "options":
                self._enqueue(partial(self._studio.change, value))
            elif name == "format":
                self._studio.format = "webp" if value == "webp" else "jpeg"
            elif name == "voice":
                self._speak(value)
            elif name == "interrupt":
                if self._speaker:
                    self._speaker.interrupt()
            elif name == "seen":
                self._acknowledge(value)
            elif name != "alive":
                self._report_error(f"there is no command {name!r}: choose from {COMMANDS}")

    def _acknowledge(self, number: object) -> None:
        """Handle the number of the last picture that the client has shown."""
        if isinstance(number, int):
            self._acknowledges = True
            self._credit(min(number, self._sent))

    def _speak(self, values: object) -> None:
        """Start speaking with these options or, with `false`, follow the camera again."""
        if self._ticker:
            self._ticker.cancel()
        self._speaker = self._ticker = None
        if values is not False:
            try:
                self._speaker = Speaker(speech_options(values if isinstance(values, dict) else {}))
            except UserError as error:
                return self._report_error(str(error))
            self._ticker = asyncio.create_task(self._tick(1 / self._speaker.options.fps))
        self._enqueue(partial(self._studio.begin, self._speaker, values))

    async def _tick(self, period: float) -> None:
        """Ask for a picture in every period; one that is still waiting is skipped."""
        started, count = self._loop.time(), 0
        while True:
            self._thread.put(Tick())
            count += 1
            await asyncio.sleep(started + count * period - self._loop.time())

    def _feed_sound(self, samples: bytes) -> None:
        if self._speaker is None:
            return self._report_error("the portrait is following a camera: send voice to make it speak")
        try:
            self._speaker.feed(samples)
        except Refusal:
            raise
        except UserError as error:
            self._report_error(str(error))

    def _report_error(self, sentence: str) -> None:
        """Report an error without ending the stream."""
        if self._outbox.qsize() >= MAX_UNREAD_MESSAGES:
            raise Refusal(POLICY_VIOLATION, "too many unread messages: read them, and start again")
        self._send_json({"error": sentence})

    def _enqueue(self, action: Callable[[], None]) -> None:
        if not self._thread.enqueue(action):
            raise Refusal(POLICY_VIOLATION, "commands arrive faster than they can be run: start again")

    def _credit(self, number: int) -> None:
        """Note that pictures up to this number have arrived."""
        if number > self._acknowledged:
            self._thread.give_credit(number - self._acknowledged)
            self._acknowledged = number

    def _end(self) -> None:
        self._thread.close()
        self._studio.close()

    def _post(self, item: bytes | str | Refusal) -> None:
        with suppress(RuntimeError):  # the event loop has ended
            self._loop.call_soon_threadsafe(self._outbox.put_nowait, item)

    def _send_json(self, message: dict[str, object]) -> None:
        self._outbox.put_nowait(json.dumps(message))


async def refuse(socket: WebSocket, refusal: Refusal) -> None:
    """Send the full reason, and close; the close frame has room only for its beginning."""
    await socket.send_text(json.dumps({"error": str(refusal), "code": refusal.code}))
    reason = str(refusal).encode()[:MAX_REASON_BYTES].decode(errors="ignore")
    await socket.close(refusal.code, reason)
