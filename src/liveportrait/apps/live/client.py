"""A client for the live stream: a camera's frames or a voice in, pictures out. Needs httpx, but no neural networks."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import socket
import ssl
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx

from liveportrait.types import Closeable

File = str | Path  # a path is uploaded; a string is the id of an upload, or the name of a bundled motion

_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10  # RFC 6455, 5.2
_ACCEPT = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


class ServiceError(Exception):
    """The service refused a request, or a job failed: its message, and the HTTP status (0 if there is none)."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


class Reply(NamedTuple):
    """A picture from a live stream."""

    picture: bytes
    """JPEG"""
    header: Mapping[str, Any]
    """`frame`, `face` (whether the camera showed one), `stages` (ms) and others"""


class Utterance(NamedTuple):
    """A picture of a portrait that speaks."""

    picture: bytes
    """JPEG"""
    sound: bytes
    """to play from when the picture is shown: 16-bit mono at 16 kHz, little-endian"""
    header: Mapping[str, Any]
    """`reply`, `waiting` (s of sound not spoken yet), `skipped`, `stages` (ms) and others"""


class _Stream(Closeable):
    """A live stream with a chosen portrait. Use it from one thread."""

    def __init__(self, url: str, token: str, portrait: File | None) -> None:
        self._socket = _WebSocket(f"{url}/v1/live/stream", token)
        self.portraits: list[str] = self._answer()["portraits"]
        """the names of the service's own portraits"""
        if isinstance(portrait, Path):
            self._socket.send(_BINARY, _packed({"portrait": portrait.name}, portrait.read_bytes()))
            self._answer()
        elif portrait is not None:
            self._command({"portrait": portrait})

    def close(self) -> None:
        """Close the stream."""
        self._socket.close()

    def _say(self, command: Mapping[str, object]) -> None:
        self._socket.send(_TEXT, json.dumps(command).encode())

    def _command(self, command: Mapping[str, object]) -> None:
        self._say(command)
        self._answer()

    def _answer(self) -> dict[str, Any]:
        _, message = self._socket.receive()
        answer: dict[str, Any] = json.loads(message)
        if "error" in answer:
            self.close()
            raise _refusal(answer)
        return answer

    def _reply(self) -> Reply:
        kind, message = self._socket.receive()
        if kind == _TEXT:
            raise _refusal(json.loads(message))
        length = int.from_bytes(message[:4], "big")
        return Reply(message[4 + length :], json.loads(message[4 : 4 + length]))


class Stream(_Stream):
    """A live stream: a frame of the camera in, a picture of the portrait out.

    >>> with client.stream(Path("me.jpg")) as stream:
    ...     for frame in camera:  # bytes of a JPEG or WebP
    ...         show(stream(frame).picture)
    """

    def __init__(self, url: str, token: str, portrait: File | None, options: Mapping[str, object]) -> None:
        super().__init__(url, token, portrait)
        self._frame = 0
        if options:
            self._command({"options": dict(options)})

    def __call__(self, frame: bytes) -> Reply:
        """The portrait's picture for a frame, the bytes of a JPEG or WebP. Raises `ServiceError`."""
        self._frame += 1
        self._socket.send(_BINARY, _packed({"frame": self._frame}, frame))
        return self._reply()

    def reset(self) -> None:
        """Restart motion from the next frame, which should look straight ahead."""
        self._say({"reset": True})


class VoiceStream(_Stream):
    """A live stream: sound in; out, an endless sequence of pictures of the portrait speaking it, each with its sound.

    `feed` and `interrupt` may be called from a different thread than the one that iterates.

    >>> with client.voice("astronaut") as stream:
    ...     stream.feed(samples)  # 16-bit mono at 16 kHz, little-endian
    ...     for picture, sound, header in stream:
    ...         show(picture, sound)
    """

    def __init__(self, url: str, token: str, portrait: File | None, speech: Mapping[str, object]) -> None:
        super().__init__(url, token, portrait)
        self._sent = 0
        self._command({"voice": dict(speech)})

    def feed(self, samples: bytes) -> None:
        """Queue sound to be spoken: 16-bit mono at 16 kHz, little-endian."""
        self._sent += 1
        self._socket.send(_BINARY, _packed({"sound": self._sent}, samples))

    def interrupt(self) -> None:
        """Drop the sound not spoken yet."""
        self._say({"interrupt": True})

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Utterance:
        """Wait for the next picture and its sound. Raises `ServiceError`."""
        body, header = self._reply()
        self._say({"seen": header["reply"]})
        return Utterance(body[: header["picture"]], body[header["picture"] :], header)


class _WebSocket:
    """The part of RFC 6455 that a stream needs."""

    def __init__(self, url: str, token: str) -> None:
        place = httpx.URL(url)
        secure = place.scheme == "https"
        plain = socket.create_connection((place.host, place.port or (443 if secure else 80)), timeout=60)
        context = ssl.create_default_context() if secure else None
        self._socket = context.wrap_socket(plain, server_hostname=place.host) if context else plain
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")
        self._sending = threading.Lock()
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        lines = [
            f"GET {place.raw_path.decode()} HTTP/1.1",
            f"Host: {place.netloc.decode()}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            *([f"Authorization: Bearer {token}"] if token else []),
        ]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        status = int(self._file.readline().split()[1:2][0] or 0)
        head = self._file.readline()
        accepted = b""
        while head.strip():
            name, _, value = head.partition(b":")
            accepted = value.strip() if name.lower() == b"sec-websocket-accept" else accepted
            head = self._file.readline()
        digest = hashlib.sha1(f"{key}{_ACCEPT}".encode(), usedforsecurity=False).digest()
        if status != 101 or accepted != base64.b64encode(digest):
            self._socket.close()
            raise ServiceError(f"{url} refused the stream with status {status}", status)

    def send(self, kind: int, data: bytes) -> None:
        """Send a message in one masked frame."""
        size = len(data)
        head = bytes([0x80 | kind])
        if size < 126:
            head += bytes([0x80 | size])
        else:
            head += struct.pack(">BH", 0xFE, size) if size < 2**16 else struct.pack(">BQ", 0xFF, size)
        mask = secrets.token_bytes(4)
        masked = int.from_bytes((mask * (size // 4 + 1))[:size], "big") ^ int.from_bytes(data, "big")
        with self._sending:
            self._socket.sendall(head + mask + masked.to_bytes(size, "big"))

    def receive(self) -> tuple[int, bytes]:
        """The next message and its opcode, text or binary. Raises `ServiceError` if the stream ends."""
        kind, message = 0, b""
        while True:
            first, size = self._read(2)
            if size > 125:
                size = int.from_bytes(self._read(2 if size == 126 else 8), "big")
            data = self._read(size)
            code = first & 0xF
            if code == _CLOSE:
                raise ServiceError(data[2:].decode(errors="replace") or "the stream has ended")
            if code == _PING:
                self.send(_PONG, data)
            elif code != _PONG:
                kind, message = kind or code, message + data
                if first & 0x80:
                    return kind, message

    def close(self) -> None:
        with suppress(OSError):
            self.send(_CLOSE, struct.pack(">H", 1000))
        self._file.close()
        self._socket.close()

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise ServiceError("the stream has ended")
        return data


def _packed(header: Mapping[str, object], body: bytes) -> bytes:
    head = json.dumps(header).encode()
    return struct.pack(">I", len(head)) + head + body


def _refusal(answer: Mapping[str, Any]) -> ServiceError:
    return ServiceError(str(answer.get("error", answer)))
