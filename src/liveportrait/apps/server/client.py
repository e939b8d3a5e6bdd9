"""A client of the service in one file, which needs nothing but httpx: copy it to wherever it is called from.

>>> with Client("http://127.0.0.1:8000") as client:
...     job = client.submit("animate", source=Path("me.jpg"), driving=["smile"], options={"lock-head": True})
...     client.wait(job, progress=lambda status: print(status.step, status.done, status.total))
...     client.fetch(job, Path("smile.mp4"))
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import httpx

from liveportrait.folders import unfinished_beside

JobKind = Literal["animate", "edit", "template"]
File = str | Path  # a path is posted; a text is the id of a file that was, or the name of a bundled motion

_CHUNK = 2**20
_TRY_AGAIN_S = 1.0
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10  # RFC 6455, 5.2
_ACCEPT = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


class ServiceError(Exception):
    """The service refuses, or the job failed: its sentence, and the HTTP status (0 where there is none)."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class JobStatus:
    """A job as it stands; times are Unix times."""

    id: str
    kind: JobKind
    state: Literal["queued", "running", "done", "failed", "cancelled", "expired"]
    before: int = 0
    step: str = ""
    done: int = 0
    total: int | None = None
    frames_per_second: float | None = None
    seconds_left: float | None = None
    frames: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    error: str = ""

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state not in ("queued", "running")


class Client:
    """A connection to a service. It may be used from several threads."""

    def __init__(self, url: str = "http://127.0.0.1:8000", token: str = "", timeout: float = 60.0) -> None:
        """`timeout`: seconds without a sign of the service after which a call gives up."""
        self._url, self._token = url.rstrip("/"), token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=self._url, headers=headers, timeout=timeout)

    def post_source(self, path: Path) -> str:
        """The id of a file, which is posted where the service does not have it."""
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
            if self._http.get(f"/v1/sources/{digest.hexdigest()}").status_code == 200:
                return digest.hexdigest()
            file.seek(0)
            return str(self._json("POST", "/v1/sources", files={"file": (path.name, file)})["id"])

    def verify(self, path: Path) -> dict[str, Any]:
        """What a picture or video says of how it was made: `marked`, `credentials`. Raises `ServiceError`."""
        with path.open("rb") as file:
            return self._json("POST", "/v1/verify", files={"file": (path.name, file)})

    def submit(
        self,
        kind: JobKind,
        source: File | None = None,
        driving: Sequence[File] = (),
        options: Mapping[str, object] | None = None,
        files: Mapping[str, File] | None = None,
        format: str = "",
        patience: float = 0.0,
    ) -> str:
        """Post a job, and return its id.

        `options` are named as on the command line, `files` are those that options name, and `format` is the result's
        suffix. While the queue is full, or the service away, it is tried again for `patience` seconds; the job is
        done once all the same. Raises `ServiceError`.
        """
        asked = {
            "kind": kind,
            "source": None if source is None else self._posted(source),
            "driving": [self._posted(each) for each in driving],
            "options": dict(options or {}),
            "files": {name: self._posted(each) for name, each in (files or {}).items()},
            "format": format,
        }
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        last = time.monotonic() + patience
        while True:
            pause = _TRY_AGAIN_S
            try:
                answer = self._http.post("/v1/jobs", json=asked, headers=headers)
                pause = float(answer.headers.get("Retry-After", pause))
                if answer.status_code not in (429, 503) or time.monotonic() + pause > last:
                    return str(_content(answer)["id"])
            except httpx.TransportError as error:
                if time.monotonic() + pause > last:
                    raise ServiceError(f"{self._url} does not answer: {error}") from error
            time.sleep(pause)

    def status(self, job: str) -> JobStatus:
        """How a job stands. Raises `ServiceError`."""
        return _status(self._json("GET", f"/v1/jobs/{job}"))

    def follow(self, job: str, patience: float = 60.0) -> Iterator[JobStatus]:
        """The job at every change, until it has ended. A service that is away for `patience` seconds is waited for."""
        last = time.monotonic() + patience
        while True:
            with suppress(httpx.TransportError), self._http.stream("GET", f"/v1/jobs/{job}/events") as events:
                if events.is_error:
                    events.read()
                    _content(events)
                for line in events.iter_lines():
                    if line.startswith("data: "):
                        last = time.monotonic() + patience
                        yield (status := _status(json.loads(line.removeprefix("data: "))))
                        if status.is_finished:
                            return
            if time.monotonic() > last:
                raise ServiceError(f"{self._url} does not answer")
            time.sleep(_TRY_AGAIN_S)

    def wait(self, job: str, progress: Callable[[JobStatus], None] = lambda status: None) -> JobStatus:
        """Wait for the end of a job. Raises `ServiceError` where it comes to no result."""
        for status in self.follow(job):
            progress(status)
        if status.state != "done":
            raise ServiceError(status.error or f"the job was {status.state}")
        return status

    def fetch(self, job: str, out: Path, compare: bool = False) -> Path:
        """Write the result of a job that is done, or the comparison that it was asked for. Raises `ServiceError`."""
        place = f"/v1/jobs/{job}/result"
        with self._http.stream("GET", place, params={"compare": compare}) as answer:
            if answer.is_error:
                answer.read()
                _content(answer)
            with unfinished_beside(out) as partial:
                with partial.open("xb") as file:
                    for chunk in answer.iter_bytes(_CHUNK):
                        file.write(chunk)
                partial.replace(out)
        return out

    def cancel(self, job: str) -> JobStatus:
        """Stop a job, or have the result of one that is done forgotten. Raises `ServiceError`."""
        return _status(self._json("DELETE", f"/v1/jobs/{job}"))

    def stream(self, portrait: File | None = None, options: Mapping[str, object] | None = None) -> Stream:
        """A live stream: a photo, or one of the service's portraits by its name, follows the frames of a camera.

        Raises `ServiceError`.
        """
        return Stream(self._url, self._token, portrait, options or {})

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _posted(self, file: File) -> str:
        return self.post_source(file) if isinstance(file, Path) else file

    def _json(self, method: str, place: str, **sent: Any) -> dict[str, Any]:
        return _content(self._http.request(method, place, **sent))


class Reply(NamedTuple):
    """A picture of a live stream."""

    picture: bytes
    """JPEG"""
    header: Mapping[str, Any]
    """`frame`, `face` (whether the camera showed one), `stages` (ms) and more"""


class Stream:
    """A live stream: a frame of the camera in, a picture of the portrait out. It belongs to one thread.

    >>> with client.stream(Path("me.jpg")) as stream:
    ...     for frame in camera:  # bytes of a JPEG or WebP
    ...         show(stream(frame).picture)
    """

    def __init__(self, url: str, token: str, portrait: File | None, options: Mapping[str, object]) -> None:
        self._frame = 0
        self._socket = _WebSocket(f"{url}/v1/live/stream", token)
        self.portraits: list[str] = self._answer()["portraits"]
        """the names of the service's own portraits"""
        if isinstance(portrait, Path):
            self._socket.send(_BINARY, _packed({"portrait": portrait.name}, portrait.read_bytes()))
            self._answer()
        elif portrait is not None:
            self._command({"portrait": portrait})
        if options:
            self._command({"options": dict(options)})

    def __call__(self, frame: bytes) -> Reply:
        """The portrait's picture for a frame, the bytes of a JPEG or WebP. Raises `ServiceError`."""
        self._frame += 1
        self._socket.send(_BINARY, _packed({"frame": self._frame}, frame))
        kind, message = self._socket.receive()
        if kind == _TEXT:
            raise _refusal(json.loads(message))
        length = int.from_bytes(message[:4], "big")
        return Reply(message[4 + length :], json.loads(message[4 : 4 + length]))

    def reset(self) -> None:
        """Motion starts from the next frame: look straight ahead."""
        self._socket.send(_TEXT, b'{"reset": true}')

    def close(self) -> None:
        """End the stream."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _command(self, command: Mapping[str, object]) -> None:
        self._socket.send(_TEXT, json.dumps(command).encode())
        self._answer()

    def _answer(self) -> dict[str, Any]:
        _, message = self._socket.receive()
        answer: dict[str, Any] = json.loads(message)
        if "error" in answer:
            self.close()
            raise _refusal(answer)
        return answer


class _WebSocket:
    """As much of RFC 6455 as a stream needs."""

    def __init__(self, url: str, token: str) -> None:
        place = httpx.URL(url)
        secure = place.scheme == "https"
        plain = socket.create_connection((place.host, place.port or (443 if secure else 80)), timeout=60)
        context = ssl.create_default_context() if secure else None
        self._socket = context.wrap_socket(plain, server_hostname=place.host) if context else plain
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")
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
            raise ServiceError(f"{url} gives no stream: status {status}", status)

    def send(self, kind: int, data: bytes) -> None:
        """Send a message in one masked frame."""
        size = len(data)
        head = bytes([0x80 | kind])
        if size < 126:
            head += bytes([0x80 | size])
        else:
            head += struct.pack(">BH", 0xFE, size) if size < 2**16 else struct.pack(">BQ", 0xFF, size)
        mask = secrets.token_bytes(4)
        whole = int.from_bytes((mask * (size // 4 + 1))[:size], "big") ^ int.from_bytes(data, "big")
        self._socket.sendall(head + mask + whole.to_bytes(size, "big"))

    def receive(self) -> tuple[int, bytes]:
        """The next message and its kind, text or binary. Raises `ServiceError` where the stream ends."""
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


def _status(content: Mapping[str, Any]) -> JobStatus:
    known = {each.name for each in fields(JobStatus)}
    values = {name: value for name, value in content.items() if name in known}
    return JobStatus(**{**values, "notes": tuple(content.get("notes", ()))})


def _content(answer: httpx.Response) -> dict[str, Any]:
    """What an answer holds. Raises `ServiceError` where it is a refusal."""
    try:
        content = answer.json()
    except ValueError:
        content = {"detail": answer.text[:200] or f"{answer.url} answers with status {answer.status_code}"}
    if answer.is_error:
        raise ServiceError(str(content.get("detail", content)), answer.status_code)
    return dict(content)
